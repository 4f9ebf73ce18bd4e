/* Supervised training: cross entropy on packed examples, on completions or on
 * all tokens. */
#ifndef TENFOLD_POLICY_SFT_H
#define TENFOLD_POLICY_SFT_H

#include "core/base/config.h"
#include "policy/optimizer.h"

#include <stdatomic.h>

struct sft_example {
	const int32_t *tokens; /* prompt, then completion with its end token */
	uint32_t prompt, completion; /* tokens of each */
};

/* Examples that are made on demand: example i (from 0) is the i-th ever trained on, the same whenever it is asked for.
 * x->tokens need to live until the next call only. */
struct sft_source {
	void (*example)(void *arg, int64_t i, struct sft_example *x);
	void *arg;
	int64_t longest; /* tokens */
};

struct sft_report {
	int64_t step, steps;
	double loss;     /* mean cross entropy a target token, nats */
	double grad_norm, lr, tokens_per_second;
	double load_max; /* largest expert load, in multiples of the mean */
	const char *skipped; /* what was not finite, so that the update was left out; NULL: nothing */
};

enum { SFT_SKIPS = 3 }; /* updates in a row that could not be made: the end */

/* State that outlives a step, for resuming. */
struct sft_state {
	int64_t step;     /* steps done */
	int64_t *counts;  /* [moe layers, E] expert counts of the last step: the balance loss of the next */
	int64_t skipped;  /* updates in a row that were left out */
};

struct sft;
int sft_open(struct sft **out, struct model *, const struct config_sft *, uint64_t seed, const struct sft_example *, uint32_t n, struct err *);
/* The same with examples from a source, in its order. */
int sft_open_source(struct sft **out, struct model *, const struct config_sft *, const struct sft_source *, struct err *);
void sft_close(struct sft *);
struct optimizer *sft_optimizer(struct sft *);
struct sft_state *sft_state(struct sft *);
/* One optimiser step. An update with a loss or a gradient that is not finite is left out (report->skipped); ERR_RANGE when
 * that happened SFT_SKIPS times in a row. */
int sft_step(struct sft *, struct sft_report *, struct err *);
/* Mean cross entropy over completion tokens of other examples, nats. */
double sft_loss(struct sft *, const struct sft_example *, uint32_t n);

#endif
