/* The physical limit of one PPO iteration: how long it would take if nothing but
 * arithmetic and memory cost time, each at what this machine was measured to do.
 * Measured time stands below it; their quotient is η. docs/benchmarks.md has the
 * formulas.
 *
 * Counted strictly, so that η is never flattered: rows are counted as the
 * program runs them (a prompt once for its whole group, a completion without its
 * last token, which predicts nothing); tables that are only looked up do no
 * arithmetic; the vocabulary is paid for at predicting rows only; attention is
 * counted over the visible keys. Decoding may read the weights once a step for
 * all completions still running, however few fit the program's batch. */
#ifndef TENFOLD_APP_LIMITS_H
#define TENFOLD_APP_LIMITS_H

#include "core/base/group.h"
#include "policy/model.h"

struct limits_machine {
	double flops; /* F: FLOP/s, f32, all threads that compute */
	double bytes; /* BW: bytes/s of memory */
};

/* What a model costs, from its parameter table. */
struct limits_model {
	double trunk;        /* parameters that one row multiplies with, the heads not counted */
	double head;         /* of the vocabulary's head, at predicting rows only */
	double total;        /* all of them: what the optimiser touches */
	double dense, expert; /* parameters of all layers read by every step of decoding; of one expert of one layer */
	double moe_layers, experts, chosen;
	double bytes, key_bytes; /* of one parameter as decoding reads it; of a number in the cache */
	double layers, attention, kv; /* attention: heads·(d_qk + d_v)/2; kv: floats that one position keeps in one layer */
};

/* What a step worked on. */
struct limits_work {
	double groups, prompt_rows, rows; /* rows: T, prompt rows included */
	double outs;                      /* predicted tokens */
	double visible, prompt_visible;   /* keys seen, summed over rows */
	double decode_seconds;            /* the sum over decoding steps, which needs the machine */
};

struct limits {
	double generate, score, update, optimise, sync; /* seconds */
	double flop;                                    /* of all of it */
};

void limits_model(struct limits_model *out, const struct model *m);
void limits_work(struct limits_work *out, const struct limits_machine *f, const struct limits_model *m, const struct group *groups, int64_t n);

struct limits_models {
	const struct limits_model *policy, *reference, *critic; /* critic NULL: none of its own */
};
/* epochs E, minibatches M of an iteration. */
void limits_step(struct limits *out, const struct limits_machine *f, const struct limits_models *m, const struct limits_work *w, int64_t epochs,
		 int64_t minibatches);
double limits_seconds(const struct limits *l);
/* FLOP of one forward over the work: rows, outs, attention. */
double limits_forward_flop(const struct limits_model *m, const struct limits_work *w);

/* η over the steps of a run: limits and measured seconds, summed. The machine is measured at the first step. */
struct learner;
struct limits_eta {
	struct limits_machine machine;
	struct limits_model policy, reference, critic;
	double limit, measured;
};
/* After a step whose groups are still there; the seconds are those of learner->metrics (timing/…). */
void limits_eta_add(struct limits_eta *eta, const struct learner *l);
/* NaN before the first step. */
double limits_eta(const struct limits_eta *eta);

#endif
