/* The stages of a run, as functions. Each opens its own session, so that a stage
 * can be run by hand, alone, or as part of a run. */
#ifndef TENFOLD_APP_STAGES_H
#define TENFOLD_APP_STAGES_H

#include "app/session.h"

struct stage_options {
	const char *config;
	const struct option_list *sets;
	const char *folder;
	int resume;
};

/* Training on plain text; leaves models/pretrain. */
int stage_pretrain(const struct stage_options *, struct err *);
/* Supervised training; leaves models/sft. */
int stage_sft(const struct stage_options *, struct err *);
/* Ranked groups for a reward model, sampled and judged, or from the task's files (collect.judge). */
int stage_collect(const struct stage_options *, struct err *);
/* Fits a reward model to the collected groups; leaves models/reward. */
int stage_fit(const struct stage_options *, struct err *);
/* The learner of the stage ppo; leaves models/ppo. Workers and services are other processes. */
int stage_learner(const struct stage_options *, struct err *);
/* Pass rates of the start and of the end, best of n from the start. */
int stage_eval(const struct stage_options *, struct err *);

#endif
