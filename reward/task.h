/* A task: what a run is about. Prompts to train on and held-out ones, examples
 * for supervised training, the tokenizer, and a verifier where answers can be
 * checked.
 *
 * task.name chooses: `stack` (programs in the stack language, all made from the
 * configuration), or `prompts` (JSONL files of one's own; no verifier, so
 * rewards come from a command, a service or a learned model). Everything follows
 * from the configuration alone, so every role on any machine has the same task. */
#ifndef TENFOLD_REWARD_TASK_H
#define TENFOLD_REWARD_TASK_H

#include "core/base/arena.h"
#include "core/base/config.h"
#include "policy/sft.h"
#include "policy/tokenizer.h"
#include "reward/scorer.h"
#include "reward/stack_task.h"

enum task_split { TASK_TRAIN, TASK_HELDOUT };

struct task_prompt {
	const char *text;
	const int32_t *tokens; /* [count] */
	uint32_t count;
	const char *extra; /* JSON of what the task knows of it; NULL: nothing */
};

struct task {
	struct arena *arena;
	struct tokenizer *tokenizer;
	int32_t end_token;
	struct task_prompt *prompt[2]; /* by split */
	uint32_t prompts[2];
	uint32_t longest_prompt;       /* tokens */
	struct sft_example *example;   /* supervised training set */
	uint32_t examples;
	struct sft_example *reference; /* held-out prompts with right answers, for the held-out loss */
	uint32_t references;
	struct stack_task_set *stack;  /* of the task `stack`, else NULL */
	char digest[HASH_HEX];         /* of prompts, examples and tokenizer */
};

/* tokenizer.path "" trains one on the task's training text (prompts and answers). */
int task_open(struct task **out, const struct config *c, struct err *e);
void task_close(struct task *t);
/* 1 when completions can be checked (task_reward, task_passes). */
int task_verifiable(const struct task *t);
/* Share of hidden tests passed, in [0,1]; and all of them. */
float task_reward(const struct task *t, enum task_split split, uint32_t prompt, const char *completion);
int task_passes(const struct task *t, enum task_split split, uint32_t prompt, const char *completion);
/* The scorer of the term `verifier`, for training prompts; it refuses a group whose prompt text is not the task's. */
int task_scorer_open(struct scorer **out, const struct task *t, struct err *e);

#endif
