/* The loop's state, shared with its files part (loop_files.c). Internal to ppo/. */
#ifndef TENFOLD_PPO_LOOP_INTERNAL_H
#define TENFOLD_PPO_LOOP_INTERNAL_H

#include "ppo/loop.h"

/* A prompt that was set aside: in this slot of this step, after those before it in the list. */
struct loop_aside {
	int64_t step;
	uint32_t slot, prompt;
};

struct loop {
	const struct loop_options *o;
	struct arena *arena;       /* of the running step */
	uint32_t *order;           /* permutation of the prompts in order_epoch */
	int64_t order_epoch;
	struct ppo_prompt *items;  /* [prompts] */
	struct group *groups;      /* [prompts] */
	struct loop_aside *aside;  /* [asides], as read from the record and as it happens */
	int64_t asides, aside_room;
	int64_t recorded;          /* last step in the record, -1: none */
	int64_t opened;            /* steps opened so far */
	int64_t published, oldest; /* newest and oldest version on disk */
	int64_t saved;             /* step of the newest checkpoint, -1: none */
};

/* Opens a step with its prompts, unless it is open or there is no such step. */
int loop_open_step(struct loop *, int64_t step, struct err *);
/* Gives other prompts to the slots of an open step whose prompts were set aside. */
int loop_refill(struct loop *, int64_t step, struct err *);
/* Rows of what was set aside and refilled in a step, inside its transaction; reading them back. */
int loop_put_aside(struct loop *, int64_t step, struct err *);
int loop_read_aside(struct loop *, struct err *);

/* Writes the policy as weights/<version>-<hash>.safetensors and tells the server; versions no step needs any more go. */
int loop_publish(struct loop *, int64_t version, struct err *);
/* Loads a published version into m. */
int loop_load_version(struct loop *, struct model *m, int64_t version, struct err *);
/* A checkpoint of the state after learner->step steps. */
int loop_save(struct loop *, struct err *);
/* Takes up the newest checkpoint, if there is one. */
int loop_restore(struct loop *, struct err *);

#endif
