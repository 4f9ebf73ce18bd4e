/* The task "stack": English descriptions of small integer functions, to be
 * written as programs of the stack language (stack_lang.h) that pass hidden
 * tests.
 *
 * A set is a pure function of the task's configuration. Levels: 1 arithmetic;
 * 2 all operations; 3 a conditional; 4 a bounded loop, often with a conditional.
 * A task is kept only when its tests tell it apart: leaving out any clause, any
 * single misreading and an input alone each fail at least one test; both arms of
 * each conditional are exercised; the outputs vary.
 *
 * Train and held-out tasks differ in *structure*: the program with inputs and
 * literals abstracted ("x x + n *"). A fixed hash of the structure, the same for
 * every seed, decides the side: about one structure in five is held out.
 *
 * The supervised examples come from the training tasks and are wrong in part
 * (task.wrong). Nine tenths of that are systematic: 55 % of the descriptions are
 * written in a loose style, whose phrasings ("subtract b from a", "unless …",
 * "3 times over: …") are each misread in one fixed plausible way. The chance of
 * a misreading is the same at every such place and is solved for, so that the
 * share of wrong examples is the one asked for; it never exceeds 0.85, so the
 * right reading stays in the data. The last tenth, and what is missing at the
 * bound, is noise: one word changed or dropped. With task.wrong = 0 all are
 * right. At 0.4 three of four such places are misread: a greedy learner copies the
 * misreadings and fails on nearly all the 42 % of tasks that have one (several of
 * them in half of those), while sampling finds the right reading of each now and
 * then. Below about 0.3 the right reading is the majority. */
#ifndef TENFOLD_REWARD_STACK_TASK_H
#define TENFOLD_REWARD_STACK_TASK_H

#include "core/base/config.h"
#include "core/base/err.h"
#include "core/base/hash.h"
#include "reward/stack_lang.h"

enum stack_split { STACK_TRAIN, STACK_HELDOUT };

struct stack_case {
	int32_t in[STACK_INPUTS]; /* a, b, c */
	int32_t out;
};

struct stack_task {
	int level;             /* 1..4 */
	int loose;             /* written in the loose style */
	const char *prompt;    /* the description; ends in '\n', after which the program starts */
	const char *program;   /* the reference */
	const char *structure; /* what decides the split */
	uint32_t cases;
	const struct stack_case *tests; /* [cases] */
};

struct stack_example {
	const char *prompt, *completion; /* without the end token */
	uint32_t task;                   /* index among the training tasks */
	int wrong;                       /* fails at least one of that task's tests */
	int misread;                     /* places read wrongly */
};

struct stack_task_set;

/* Makes the set of cfg->seed: cfg->train and cfg->heldout tasks with distinct programs and prompts, cfg->supervised
 * examples. ERR_RANGE when the levels asked for (1..4) do not hold that many tasks. */
int stack_task_set_open(struct stack_task_set **out, const struct config_task *cfg, struct err *e);
void stack_task_set_close(struct stack_task_set *s);
uint32_t stack_task_set_count(const struct stack_task_set *s, enum stack_split split);
const struct stack_task *stack_task_set_get(const struct stack_task_set *s, enum stack_split split, uint32_t i);
uint32_t stack_task_set_examples(const struct stack_task_set *s);
const struct stack_example *stack_task_set_example(const struct stack_task_set *s, uint32_t i);
/* Hash of every task, test and example. */
void stack_task_set_digest(const struct stack_task_set *s, char hex[HASH_HEX]);

/* Share of the hidden tests that a completion passes, in [0,1]; 0 when it does not compile. */
float stack_verify(const struct stack_task *t, const char *program);
/* 1 when it passes all of them. */
int stack_passes(const struct stack_task *t, const char *program);

/* How near the held-out tasks are to the training ones: edit distances in words (insert, delete, replace). */
enum { STACK_NEAR_BINS = 16 };
struct stack_nearness {
	uint32_t program[STACK_NEAR_BINS]; /* held-out programs by distance to the nearest training program; the last bin: or more */
	double program_mean, prompt_mean;
	double copy_pass;   /* copy baseline: passes of the program that belongs to the nearest training prompt (the first of several) */
	double copy_reward; /* its mean share of tests */
};
void stack_task_set_nearness(const struct stack_task_set *s, struct stack_nearness *out);

#endif
