/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A number is a pure function of (seed, purpose, a, b, c): no state is carried,
 * so its value does not depend on who draws it, when, or in which order. The
 * purpose keeps streams of different uses apart; a, b, c are step, prompt,
 * candidate, position or an index, as the caller documents. */
#ifndef TENFOLD_BASE_RNG_H
#define TENFOLD_BASE_RNG_H

#include <stdint.h>

enum rng_purpose {
	RNG_INIT = 1,     /* a: parameter index, b: element */
	RNG_SAMPLE = 2,   /* a: step, b: slot·64 + candidate, c: position */
	RNG_PROMPTS = 3,  /* a: epoch, b: index: order of prompts */
	RNG_SHUFFLE = 4,  /* a: step, b: epoch, c: index: minibatches */
	RNG_SFT = 5,      /* a: epoch, b: index: order of examples */
	RNG_TASK = 6,     /* the task generator */
	RNG_EVAL = 7,     /* sampling during evaluation */
	RNG_DROPOUT = 8,  /* a: matrix, b: sequence·2^20 + position, c: columns by four (core/tensor/ops.h) */
	RNG_CONTROL = 9,  /* shuffled rewards of the control run: a: step, b: prompt, c: index */
	RNG_HEAD = 10,    /* scalar heads */
	RNG_TEST = 11,
	RNG_COLLECT = 12, /* sampling of the stage collect: as RNG_SAMPLE */
	RNG_COLLECT_PROMPTS = 13, /* a: epoch, b: index: its order of prompts */
	RNG_FIT = 14,     /* a: epoch, b: member: order of groups of a reward model */
	RNG_SPLIT = 15,   /* b: prompt: whether its groups are held out of the fit */
	RNG_REFILL = 30,  /* a: step, b: slot, c: attempt: prompts in place of those that were set aside */
	RNG_POSTERIOR = 40,  /* a: draw, b: candidate: who is the best by the labels */
	RNG_PICK = 41,       /* a: prompt, b: person, c: index: the order in which quads cover the candidates */
	RNG_PICK_DRAW = 42,  /* a: prompt, b: person·2^32 + place, c: what: coin, pair, layout of a question */
	RNG_PICK_DESIGN = 43, /* a: prompt, c: what: design of a prompt */
	RNG_BOOTSTRAP = 44,  /* a: resample, b: index */
	RNG_CROWD = 45,      /* a simulated crowd, as app/web/simulate.c says */
	RNG_MIXTURE = 48,    /* b: sequence: which source it comes from */
	RNG_DOCUMENTS = 49,  /* a: epoch, b: source: order of its documents */
	RNG_DATA = 50,       /* b: hash of a record's key: whether it is held out of a data set */
	RNG_LORA = 53,       /* a: matrix, b: element, c: which of the models on one base */
	RNG_CAMPAIGN = 51,   /* a: what (app/web/flow.h), b: prompt, or person·2^32 + place: overlap, gold items, repeats */
};

struct rng_key {
	uint64_t seed;
	uint32_t purpose;
};

/* Four independent 32-bit words. */
static inline void rng_block(struct rng_key key, uint32_t a, uint64_t b, uint32_t c, uint32_t out[4])
{
	uint32_t x0 = c, x1 = a, x2 = (uint32_t)b, x3 = (uint32_t)(b >> 32);
	uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32) ^ (key.purpose * 0x9E3779B1u);
	for (int i = 0; i < 10; i++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
		uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
		x1 = (uint32_t)p1;
		x3 = (uint32_t)p0;
		x0 = y0;
		x2 = y2;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

static inline uint32_t rng_u32(struct rng_key key, uint32_t a, uint64_t b, uint32_t c)
{
	uint32_t o[4];
	rng_block(key, a, b, c, o);
	return o[0];
}

/* Uniform in [0, 1) with 24 bits: exact in f32. */
static inline float rng_uniform(struct rng_key key, uint32_t a, uint64_t b, uint32_t c)
{
	return (float)(rng_u32(key, a, b, c) >> 8) * 0x1p-24f;
}

/* Uniform in [0, n), n >= 1, by 64-bit multiplication (bias below n/2^64). */
static inline uint32_t rng_below(struct rng_key key, uint32_t a, uint64_t b, uint32_t c, uint32_t n)
{
	uint32_t o[4];
	rng_block(key, a, b, c, o);
	uint64_t r = (uint64_t)o[0] << 32 | o[1];
	return (uint32_t)(((unsigned __int128)r * n) >> 64);
}

/* Standard normal, Box–Muller in double (init only: not in the step loop). */
double rng_normal(struct rng_key key, uint32_t a, uint64_t b, uint32_t c);
/* Fisher–Yates: order[0..n) becomes a permutation of 0..n-1 that depends on (key, a, b) alone. */
void rng_permutation(struct rng_key key, uint32_t a, uint32_t b, uint32_t n, uint32_t *order);

#endif
