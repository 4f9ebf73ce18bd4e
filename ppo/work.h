/* What the learner's parts share: activations, batches, host arrays. Internal to ppo/. */
#ifndef TENFOLD_PPO_WORK_H
#define TENFOLD_PPO_WORK_H

#include "ppo/learner.h"

struct learner_work {
	struct activations *policy, *critic; /* kept for the backward */
	struct activations *reference;
	struct activations *behaviour;       /* with lag only */
	struct batch batch;
	int64_t *map;       /* [outs] entry of the step's arrays for each out of the batch */
	float *logprob, *entropy, *value;    /* [outs] */
	float *dlogprob, *dentropy, *dvalue; /* [outs] */
	int64_t room;
	int64_t *counts;    /* [moe layers, E] experts chosen in the step, fixed before the backward */
	float *balance;     /* [moe layers, E] */
	int after;          /* score_at: eos_plus_one */
};

/* Lays out groups index[0..n) of the step as w->batch and the map of its outs; uploads it. */
void work_batch(struct learner *, const uint32_t *index, int64_t n);
/* The critic's values at the outs of the batch, after the policy's forward on it. */
void work_values(struct learner *, float *value);

#endif
