/* A task: what a run is about. Prompts to train on and held-out ones, examples
 * for supervised training, the tokenizer, and a verifier where answers can be
 * checked.
 *
 * task.name chooses: `stack` (programs in the stack language, all made from the
 * configuration), or `prompts` (files of one's own in any layout of store/data.h:
 * prompts, examples, ranked groups; a verifier where every prompt has a number for
 * an answer). Everything follows from the configuration and its files alone, so
 * every role on any machine has the same task. */
#ifndef TENFOLD_REWARD_TASK_H
#define TENFOLD_REWARD_TASK_H

#include "core/base/arena.h"
#include "core/base/config.h"
#include "policy/chat.h"
#include "policy/sft.h"
#include "reward/scorer.h"
#include "reward/stack_task.h"
#include "store/data.h"
#include "store/store.h"

enum task_split { TASK_TRAIN, TASK_HELDOUT };

struct task_prompt {
	const char *text;
	const int32_t *tokens; /* [count] */
	uint32_t count;
	const char *extra; /* JSON of what the task knows of it; NULL: nothing */
	const char *answer; /* number that a right completion ends with; NULL: none */
};

/* A ranked group from a file. Its completions are in an order that does not tell the ranking (by their hash). */
struct task_group {
	uint32_t prompt;         /* among the prompts of its side */
	uint32_t size;
	const char **text;       /* [size] */
	const uint8_t *rank;     /* [size]: 1 is best, equal ones tie; 0: not ranked */
	const double *margin;    /* [ranked-1] in the order of rank; NULL: none */
};

struct task {
	struct arena *arena;
	struct tokenizer *tokenizer;
	struct chat *chat;             /* of task.chat; NULL: prompts stand as they are */
	int32_t end_token;             /* the tokenizer's eos_token, or <|endoftext|> */
	struct task_prompt *prompt[2]; /* by split */
	uint32_t prompts[2];
	uint32_t longest_prompt;       /* tokens */
	struct sft_example *example;   /* supervised training set */
	uint32_t examples;
	struct sft_example *reference; /* held-out prompts with right answers, for the held-out loss */
	uint32_t references;
	struct task_group *group[2];   /* by split; from files */
	uint32_t groups[2];
	struct stack_task_set *stack;  /* of the task `stack`, else NULL */
	int answers;                   /* every prompt has an answer */
	const struct data_report *data; /* what the reading of the files found; NULL: no files */
	uint32_t too_long, beyond;     /* records left out: by task.max_tokens, by task.train */
	char digest[HASH_HEX];         /* of prompts, examples and tokenizer */
};

/* tokenizer.path "" trains one on the task's training text (prompts and answers). */
int task_open(struct task **out, const struct config *c, struct err *e);
void task_close(struct task *t);
/* Tokens of a prompt as the model is to see it: by the chat template of task.chat if there is one, behind the special
 * tokens that the tokenizer puts in front of a text. */
int task_encode_prompt(const struct task *t, struct arena *a, const char *text, int32_t **tokens, uint32_t *count, struct err *e);
/* 1 when completions can be checked (task_reward, task_passes). */
int task_verifiable(const struct task *t);
/* Share of hidden tests passed, in [0,1]; and all of them. */
float task_reward(const struct task *t, enum task_split split, uint32_t prompt, const char *completion);
int task_passes(const struct task *t, enum task_split split, uint32_t prompt, const char *completion);
/* Group i of a side as the stage collect records it, with its ranking: tokens encoded, every completion ended by the end
 * token, log-probabilities NaN (nobody sampled it here), prompts numbered as in task_prompt_number. step and slot are the
 * caller's. Lives in the arena. */
int task_group_get(const struct task *t, enum task_split split, uint32_t i, struct arena *a, struct group *g, struct store_comparison *c, struct err *e);
/* Number of a prompt in the run's prompt set: training prompts first, then (where there are ranked groups) the held-out. */
static inline uint32_t task_prompt_number(const struct task *t, enum task_split split, uint32_t prompt)
{
	return prompt + (split == TASK_HELDOUT ? t->prompts[TASK_TRAIN] : 0);
}
/* The scorer of the term `verifier`, for training prompts; it refuses a group whose prompt text is not the task's. */
int task_scorer_open(struct scorer **out, const struct task *t, struct err *e);

#endif
