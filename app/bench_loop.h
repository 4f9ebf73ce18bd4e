/* The parts of a PPO iteration timed in this process: generator and learner on
 * the same weights, the verifier called directly, nothing sent and nothing
 * stored. Models are random: completions run to their limit, the longest case.
 *
 * Each part comes with the limit of limits.h for exactly the groups it worked on. */
#ifndef TENFOLD_APP_BENCH_LOOP_H
#define TENFOLD_APP_BENCH_LOOP_H

#include "app/bench.h"
#include "app/limits.h"
#include "core/base/config.h"

struct bench_part {
	struct bench_time time;
	double tokens;  /* generated, or rows run through a model; 0: neither */
	double limit;   /* seconds; 0: none */
	double flop;    /* 0 where only bytes count */
};

struct bench_iteration {
	int64_t groups, completions;
	double prompt_tokens, response_tokens, rows; /* of the step: T is rows */
	struct bench_part generate, reward, score, update, all; /* update: AdamW included */
	struct limits limits;
	struct limits_model policy;
};

struct bench_loop;
/* The configuration's model and PPO settings on the stack task's prompts; at most `groups` of them at a time. */
int bench_loop_open(struct bench_loop **out, const struct config *c, struct backend *b, const struct bench_peak *peak, int64_t groups, struct err *e);
void bench_loop_close(struct bench_loop *l);
/* groups·completions completions in flight at once. */
int bench_generate(struct bench_loop *l, int groups, int completions, int times, struct bench_part *out, struct err *e);
/* One forward with log-probabilities over this many groups of ten, in the configuration's micro-batches. */
int bench_score(struct bench_loop *l, int groups, int times, struct bench_part *out, struct err *e);
int bench_iterate(struct bench_loop *l, int times, struct bench_iteration *out, struct err *e);

#endif
