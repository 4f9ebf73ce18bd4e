/* The loop's state, shared with its files part (loop_files.c). Internal to ppo/. */
#ifndef TENFOLD_PPO_LOOP_INTERNAL_H
#define TENFOLD_PPO_LOOP_INTERNAL_H

#include "ppo/loop.h"

struct loop {
	const struct loop_options *o;
	struct arena *arena;       /* of the running step */
	uint32_t *order;           /* permutation of the prompts in order_epoch */
	int64_t order_epoch;
	struct ppo_prompt *items;  /* [prompts] */
	struct group *groups;      /* [prompts] */
	int64_t opened;            /* steps opened so far */
	int64_t published, oldest; /* newest and oldest version on disk */
};

/* Writes the policy as weights/<version>-<hash>.safetensors and tells the server; versions no step needs any more go. */
int loop_publish(struct loop *, int64_t version, struct err *);
/* Loads a published version into m. */
int loop_load_version(struct loop *, struct model *m, int64_t version, struct err *);
/* A checkpoint of the state after learner->step steps. */
int loop_save(struct loop *, struct err *);
/* Takes up the newest checkpoint, if there is one. */
int loop_restore(struct loop *, struct err *);

#endif
