/* Fitting a reward model to ranked groups: every member on its own, by the
 * ranking losses of rank_loss.h.
 *
 * A group is one element of the loss and one forward pass (its completions share
 * the prompt). Groups come in a seeded order, another for each epoch and member;
 * a step's gradient is summed over fixed blocks in order, as everywhere, so the
 * result does not depend on threads. The scores are normalised before (the loss
 * starts from scores of standard deviation 1) and after.
 *
 * With selection groups the mean loss of these is measured every
 * fit.select_every steps and after the last one, and the member keeps the weights
 * of the step at which it was lowest, the earlier one where equal: a reward model
 * that has overfitted is what PPO exploits first. */
#ifndef TENFOLD_REWARD_REWARD_FIT_H
#define TENFOLD_REWARD_REWARD_FIT_H

#include "core/base/config.h"
#include "reward/rank_eval.h"
#include "reward/reward_model.h"

#include <stdatomic.h>

struct reward_fit_report {
	uint32_t member;
	int64_t step, steps; /* over all members, from 1 */
	double loss;         /* mean over the step's groups */
	double grad_norm, lr;
	double selection_loss, selection_accuracy; /* of the selection groups after this step; NaN: not measured */
	const char *skipped; /* what was not finite, so that the update was left out; NULL: nothing */
};

enum { REWARD_FIT_SKIPS = 3 }; /* updates in a row that could not be made: the end */

struct reward_fit_options {
	const struct config_fit *fit;
	const struct ranked_group *selection; /* [selections], apart from those fitted and those of the evaluation; 0: the last step is kept */
	uint32_t selections;
	uint64_t seed;
	atomic_int *stop; /* may be NULL */
	/* after every step; a negative result ends the fit with it. May be NULL. */
	int (*report)(void *arg, const struct reward_fit_report *r, struct err *e);
	void *arg;
};

/* Optimiser steps over all members for n groups. */
int64_t reward_fit_steps(const struct config_fit *c, uint32_t n);
/* ERR_STOPPED; ERR_RANGE when a loss or a gradient was not finite REWARD_FIT_SKIPS times in a row (such updates are left
 * out), or when weights are not finite at the end. */
int reward_fit(struct reward_model *m, const struct ranked_group *g, uint32_t n, const struct reward_fit_options *o, struct err *e);
/* The model's scores of the groups against their rankings. */
void reward_fit_evaluate(struct reward_model *m, const struct ranked_group *g, uint32_t n, struct rank_eval *out);

#endif
