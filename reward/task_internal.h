/* What the tasks share; see task.c and task_files.c. */
#ifndef TENFOLD_REWARD_TASK_INTERNAL_H
#define TENFOLD_REWARD_TASK_INTERNAL_H

#include "reward/task.h"

/* Tokens of text in the arena, with one free place behind them. */
int task_encode(const struct task *t, struct arena *a, const char *text, int32_t **tokens, uint32_t *count, struct err *e);
/* Prompt i of a side, whose array has room for it. */
int task_put_prompt(struct task *t, enum task_split split, uint32_t i, const char *text, const char *extra, struct err *e);
/* An example with the end token behind its completion. */
int task_put_example(struct task *t, struct sft_example *x, const char *prompt, const char *completion, struct err *e);
/* The tokenizer from its path, or trained on these texts. */
int task_tokenizer(struct task *t, const struct config *c, const struct tokenizer_text *texts, size_t n, struct err *e);
/* The task from files. */
int task_files_open(struct task *t, const struct config *c, struct err *e);
/* Adds the ranked groups and answers. */
void task_files_digest(const struct task *t, struct hash_stream *h);

#endif
