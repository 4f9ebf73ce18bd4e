/* What the tests of the store share: a temporary folder, and a small run (three
 * supervised steps, four PPO steps of three groups of ten) made from counters,
 * so that putting it twice puts the same bits. `salt` changes one log-probability
 * of step 2, slot 1, candidate 7 and nothing else. */
#ifndef TENFOLD_TESTS_STORE_KIT_H
#define TENFOLD_TESTS_STORE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/rng.h"
#include "store/store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIT_STEPS = 4, KIT_GROUPS = 3, KIT_G = 10, KIT_P = 5, KIT_LAYERS = 2, KIT_K = 3, KIT_TOKENS = 128 };

static const char *const kit_prompts[] = { "add a and b", "say \"no\",\nplease", "=cmd|' /C calc'!A0" };

struct kit_group {
	struct group g;
	int32_t tokens[KIT_TOKENS];
	float logprobs[KIT_TOKENS], scores[2 * KIT_G], reward[KIT_G];
	uint16_t experts[KIT_TOKENS * KIT_LAYERS * KIT_K];
	char text[KIT_G][32];
};

static inline void kit_group(struct kit_group *k, uint64_t step, uint32_t slot, int salt)
{
	struct rng_key key = { 7, RNG_TEST };
	struct group *g = &k->g;
	*g = (struct group){ .step = step, .slot = slot, .prompt = slot, .policy_version = step, .size = KIT_G, .prompt_tokens = KIT_P,
		             .tokens = k->tokens, .logprobs = k->logprobs, .moe_layers = KIT_LAYERS, .experts_per_token = KIT_K,
		             .experts = k->experts, .prompt_text = kit_prompts[slot], .terms = 2, .term_name = { "model", "verifier" },
		             .scores = k->scores, .reward = k->reward, .scorer_version = "kit-1" };
	uint32_t n = 0;
	for (uint32_t i = 0; i < KIT_G; i++) {
		g->length[i] = i == 3 ? 0 : 1 + rng_below(key, (uint32_t)step, slot, i, 6); /* candidate 3 is empty */
		g->finish[i] = (uint8_t)(i % 3);
		snprintf(k->text[i], sizeof k->text[i], "%u %s %u", (unsigned)step, i == 4 ? "\xff<b>" : "push", i);
		g->text[i] = k->text[i];
		k->scores[i] = rng_uniform(key, (uint32_t)step, slot, 100 + i);
		k->scores[KIT_G + i] = (float)rng_below(key, (uint32_t)step, slot, 200 + i, 4) / 3; /* with ties */
		k->reward[i] = k->scores[KIT_G + i];
		n += g->length[i];
	}
	for (uint32_t j = 0; j < KIT_P + n; j++) k->tokens[j] = (int32_t)rng_below(key, (uint32_t)step, slot, 300 + j, 50000);
	for (uint32_t j = 0; j < n; j++) k->logprobs[j] = -8 * rng_uniform(key, (uint32_t)step, slot, 500 + j);
	for (uint32_t j = 0; j < n * KIT_LAYERS * KIT_K; j++) k->experts[j] = (uint16_t)rng_below(key, (uint32_t)step, slot, 700 + j, 64);
	if (salt && step == 2 && slot == 1) {
		uint32_t at = 0;
		for (uint32_t i = 0; i < 7; i++) at += g->length[i];
		k->logprobs[at] = nextafterf(k->logprobs[at], 1);
	}
}

/* Half of each log-probability; how many. */
static inline size_t kit_reference(const struct kit_group *k, float ref[KIT_TOKENS])
{
	size_t n = group_response_tokens(&k->g);
	for (size_t i = 0; i < n; i++) ref[i] = k->logprobs[i] / 2;
	return n;
}

static inline int kit_step(struct store *s, uint64_t step, int salt, struct err *e)
{
	const char *names[] = { "objective/kl", "policy/entropy", "loss/nan", "perf/tokens_per_second", "loss/zero" };
	double values[] = { 0.1 * (double)step, 1.0 / (3 + (double)step), NAN, fs_now(), -0.0 };
	struct store_comparison judge = { .source = "judge", .scorer_version = "j1", .count = 3, .order = { 9, 0, 4 }, .rank = { 1, 1, 3 } };
	struct kit_group k;
	int rc;
	TRY(store_step_begin(s, step, step, e));
	for (uint32_t slot = 0; slot < KIT_GROUPS; slot++) {
		kit_group(&k, step, slot, salt);
		TRY(store_put_group(s, &k.g, e));
	}
	TRY(store_put_comparison(s, step, 0, &judge, e));
	TRY(store_step_commit(s, e));
	for (uint32_t slot = 0; slot < KIT_GROUPS; slot++) {
		float ref[KIT_TOKENS];
		kit_group(&k, step, slot, 0);
		TRY(store_put_references(s, step, &(struct store_reference){ slot, ref, kit_reference(&k, ref) }, 1, e));
	}
	TRY(store_put_metrics(s, step, names, values, 5, e));
	TRY(store_put_event(s, step, "stale_group", 1, "{\"dropped\": 1}", e));
	TRY(store_put_event(s, step, "timing/worker_joined", 0, "w1", e));
	TRY(store_put_checkpoint(s, step, step + 1, "checkpoints/x", "00ff", e));
	rc = store_put_eval(s, step, "pass_rate", 0.5 + 0.1 * (double)step, 1000, 0.4, NAN, e);
out:
	return rc;
}

static inline int kit_fill(struct store *s, int steps, int salt, struct err *e)
{
	struct store_run run = { "r1", "kit", 17, "fp", "0.1.0", "run:\n  seed: 17\n", 0 };
	struct store_prompt prompts[KIT_GROUPS];
	const char *name = "sft/loss";
	int rc;
	for (uint32_t i = 0; i < KIT_GROUPS; i++) prompts[i] = (struct store_prompt){ i, kit_prompts[i], i ? NULL : "{\"level\": 1}" };
	TRY(store_put_run(s, &run, e));
	TRY(store_put_prompts(s, prompts, KIT_GROUPS, e));
	TRY(store_set_stage(s, "sft", e));
	for (uint64_t k = 0; k < 3; k++) TRY(store_put_metrics(s, k, &name, &(double){ 3.0 / (double)(k + 1) }, 1, e));
	TRY(store_set_stage(s, "ppo", e));
	for (int k = 0; k < steps; k++) TRY(kit_step(s, (uint64_t)k, salt, e));
out:
	return rc;
}

/* ---- files ---- */

struct kit {
	char dir[64], path[96];
};

static inline int kit_setup(void **state)
{
	struct kit *k = calloc(1, sizeof *k);
	strcpy(k->dir, "/tmp/tenfold-store-XXXXXX");
	if (!mkdtemp(k->dir)) return -1;
	snprintf(k->path, sizeof k->path, "%s/run.db", k->dir);
	*state = k;
	return 0;
}

static inline int kit_teardown(void **state)
{
	struct kit *k = *state;
	int rc = fs_remove_tree(k->dir, NULL);
	free(k);
	return rc;
}

static inline void kit_ok(int rc, const struct err *e)
{
	if (rc < 0) print_error("%d: %s\n", rc, e->msg);
	assert_true(rc >= 0);
}

static inline struct store *kit_open(const char *path, int writer)
{
	struct store *s = NULL;
	struct err e;
	kit_ok(store_open(&s, path, &(struct store_options){ .writer = writer }, &e), &e);
	return s;
}

/* A filled database, closed. */
static inline void kit_make(const char *path, int steps, int salt)
{
	struct err e;
	struct store *s = kit_open(path, 1);
	kit_ok(kit_fill(s, steps, salt, &e), &e);
	store_close(s);
}

static inline void kit_copy(const char *from, const char *to)
{
	char *data;
	size_t bytes;
	struct err e;
	kit_ok(fs_read(from, 1u << 30, &data, &bytes, &e), &e);
	kit_ok(fs_write_atomic(to, data, bytes, &e), &e);
	free(data);
}

static inline int kit_first_value(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)names;
	(void)columns;
	snprintf(ctx, 4096, "%s", values[0] ? values[0] : "NULL");
	return 1;
}

/* The first value of a query as text. */
static inline void kit_value(struct store *s, const char *sql, char out[4096])
{
	struct err e;
	out[0] = 0;
	kit_ok(store_query(s, sql, kit_first_value, out, &e), &e);
}

#endif
