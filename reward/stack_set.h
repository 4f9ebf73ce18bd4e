/* Private to the stack task: the set behind stack_task.h, shared by the files that fill it. */
#ifndef TENFOLD_REWARD_STACK_SET_H
#define TENFOLD_REWARD_STACK_SET_H

#include "core/base/arena.h"
#include "reward/stack_plan.h"
#include "reward/stack_task.h"

/* Streams of RNG_TASK: the `a` of a draw. */
enum { STREAM_TRAIN, STREAM_HELDOUT, STREAM_EXAMPLES };

struct stack_task_set {
	struct arena *arena;
	uint64_t seed;
	uint32_t count[2]; /* by enum stack_split */
	struct stack_task *task[2];
	struct plan *plan; /* of the training tasks, for their misreadings */
	uint32_t examples;
	struct stack_example *example;
};

/* Fills s->example with n examples, a share `wrong` of them wrong. */
void stack_examples_make(struct stack_task_set *s, uint32_t n, double wrong);

#endif
