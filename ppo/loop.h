/* The stage ppo as one process sees it: the learner's loop over steps, between
 * the workers (server.h), the record (store) and the arithmetic (learner.h).
 *
 * Weights version v is what v updates have made; step k samples from version
 * max(0, k − lag). A step's groups are committed before its update, its metrics
 * after it. A step done again after a crash is compared with what is stored.
 *
 * Checkpoints hold everything a step depends on, the published weights of the
 * last `lag` versions included, so a run continues to the same bits. */
#ifndef TENFOLD_PPO_LOOP_H
#define TENFOLD_PPO_LOOP_H

#include "ppo/learner.h"
#include "ppo/server.h"
#include "store/store.h"

#include <stdatomic.h>

struct loop_prompt {
	const char *text;
	const int32_t *tokens;
	uint32_t count;
};

/* What happened in a step, for whoever shows it. */
struct loop_report {
	int64_t step, steps; /* done, all */
	const struct metrics *metrics;
	double seconds, tokens_per_second;
	double heldout;      /* what `measure` gave; NaN when it was not its turn */
};

struct loop_options {
	const struct config *config;
	const char *folder;               /* of the run */
	struct store *store;              /* stage ppo */
	struct ppo_server *server;
	struct learner *learner;
	const struct loop_prompt *prompts; /* training prompts */
	uint32_t prompt_count;
	const atomic_int *stop;
	/* Before a step's prompts are given out, step after step; after a resumption first for the step it goes on with. NULL: nothing. */
	int (*open)(void *arg, int64_t step, struct err *e);
	/* Held-out measure at step `step` (0: before the first update), every ppo.eval_every steps and at the end; stores its
	 * evaluations itself. NULL: none. */
	int (*measure)(void *arg, int64_t step, double *value, struct err *e);
	void (*report)(void *arg, const struct loop_report *r);
	void (*waiting)(void *arg, int64_t step, uint32_t done, uint32_t total); /* about once a second; may be NULL */
	void *arg;
};

/* Runs the steps that are left: from the newest checkpoint when there is one. ERR_STOPPED after a clean stop, with a
 * checkpoint; ERR_MISMATCH when a replayed row or a log-probability differs. */
int loop_run(const struct loop_options *, struct err *);

#endif
