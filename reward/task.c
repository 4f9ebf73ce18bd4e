/* Tasks; see task.h. The one from files is in task_files.c. */
#include "reward/task_internal.h"

#include "core/base/fs.h"
#include "core/base/hash.h"
#include "policy/model_folder.h"
#include "reward/verify_number.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char END[] = "<|endoftext|>";

int task_encode(const struct task *t, struct arena *a, const char *text, int32_t **tokens, uint32_t *count, struct err *e)
{
	size_t bytes = strlen(text);
	int64_t n = tokenizer_encode(t->tokenizer, text, bytes, NULL, 0, e);
	if (n < 0) return (int)n;
	*tokens = arena_must(a, (size_t)n + 1, sizeof **tokens);
	*count = (uint32_t)n;
	n = tokenizer_encode(t->tokenizer, text, bytes, *tokens, (size_t)n, e);
	return n < 0 ? (int)n : 0;
}

/* The prompt as a conversation's first turn, malloc'ed. */
static int converse(const struct task *t, const char *text, char **out, size_t *bytes, struct err *e)
{
	json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", text);
	if (!messages) return err_set(e, ERR_FORMAT, "a prompt is not UTF-8: %.60s", text);
	int rc = chat_render(t->chat, messages, NULL, 1, out, bytes, e);
	json_decref(messages);
	return rc;
}

int task_encode_prompt(const struct task *t, struct arena *a, const char *text, int32_t **tokens, uint32_t *count, struct err *e)
{
	const int32_t *before, *behind;
	size_t n_before, n_behind, bytes = strlen(text);
	char *turn = NULL;
	int rc = t->chat ? converse(t, text, &turn, &bytes, e) : 0;
	if (rc < 0) return rc;
	if (turn) text = turn;
	tokenizer_wrap(t->tokenizer, &before, &n_before, &behind, &n_behind);
	int64_t n = tokenizer_encode(t->tokenizer, text, bytes, NULL, 0, e);
	if (n >= 0) {
		int32_t *all = arena_must(a, n_before + (size_t)n + 1, sizeof *all), *own = all + n_before;
		n = tokenizer_encode(t->tokenizer, text, bytes, own, (size_t)n, e);
		/* A chat template puts them there itself. */
		int there = n_before && (size_t)n >= n_before && !memcmp(own, before, n_before * sizeof *own);
		if (n_before) memcpy(all, before, n_before * sizeof *all);
		*tokens = there ? own : all;
		*count = (uint32_t)n + (there ? 0 : (uint32_t)n_before);
	}
	free(turn);
	return n < 0 ? (int)n : 0;
}

int task_put_prompt(struct task *t, enum task_split split, uint32_t i, const char *text, const char *extra, struct err *e)
{
	struct task_prompt *p = &t->prompt[split][i];
	int32_t *tokens = NULL;
	int rc = task_encode_prompt(t, t->arena, text, &tokens, &p->count, e);
	if (rc < 0) return rc;
	if (p->count == 0) return err_set(e, ERR_RANGE, "prompt %u of the task is empty", i);
	p->text = text;
	p->tokens = tokens;
	p->extra = extra;
	if (p->count > t->longest_prompt) t->longest_prompt = p->count;
	return 0;
}

int task_put_example(struct task *t, struct sft_example *x, const char *prompt, const char *completion, struct err *e)
{
	int32_t *p = NULL, *c = NULL;
	uint32_t np = 0, nc = 0;
	int rc = 0;
	TRY(task_encode_prompt(t, t->arena, prompt, &p, &np, e));
	TRY(task_encode(t, t->arena, completion, &c, &nc, e));
	int32_t *all = arena_must(t->arena, np + nc + 1, sizeof *all);
	memcpy(all, p, np * sizeof *p);
	memcpy(all + np, c, nc * sizeof *c);
	all[np + nc] = t->end_token;
	*x = (struct sft_example){all, np, nc + 1};
out:
	return rc;
}

/* The token that ends a completion: the tokenizer's own, the usual one, or what the start model's config.json names. */
static int end_token_get(struct task *t, const struct config *c, struct err *e)
{
	struct shape s;
	t->end_token = tokenizer_eos(t->tokenizer);
	if (t->end_token < 0) t->end_token = tokenizer_id(t->tokenizer, END);
	if (t->end_token < 0 && c->model.init[0]) {
		int rc = model_folder_shape(c->model.init, &s, e);
		if (rc < 0) return rc;
		t->end_token = (int32_t)s.eos;
	}
	if (t->end_token >= 0) return 0;
	return err_set(e, ERR_RANGE, "the tokenizer names no token to end a completion with: eos_token in tokenizer_config.json, eos_token_id in the model's "
		       "config.json, or a token %s", END);
}

/* 1 when the folder has a tokenizer's files. */
static int has_tokenizer(const char *folder)
{
	static const char *const names[] = {"tokenizer.json", "vocab.json"};
	char path[PATH_MAX];
	for (int i = 0; i < 2 && folder[0]; i++)
		if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) < PATH_MAX && fs_exists(path)) return 1;
	return 0;
}

int task_tokenizer(struct task *t, const struct config *c, const struct tokenizer_text *texts, size_t n, struct err *e)
{
	const char *specials[] = {END};
	char base[PATH_MAX] = "";
	int rc = c->model.init[0] ? model_folder_base(c->model.init, base, sizeof base, e) : 0; /* adapters may be saved without a tokenizer */
	if (rc < 0) return rc;
	const char *path = c->tokenizer.path[0] ? c->tokenizer.path : has_tokenizer(c->model.init) ? c->model.init : has_tokenizer(base) ? base : NULL;
	rc = path ? tokenizer_open(&t->tokenizer, path, e)
		      : tokenizer_train(&t->tokenizer, texts, n, (int32_t)c->tokenizer.vocab_size, specials, 1, e);
	if (rc == 0) rc = end_token_get(t, c, e);
	if (rc < 0 || !strcmp(c->task.chat, "none")) return rc;
	rc = chat_open(&t->chat, t->tokenizer, strcmp(c->task.chat, "own") ? c->task.chat : NULL, e);
	return rc < 0 ? err_prefix(e, "task.chat") : 0;
}

static int stack_fill(struct task *t, struct err *e)
{
	int rc = 0;
	for (int split = 0; split < 2; split++) {
		uint32_t n = t->prompts[split] = stack_task_set_count(t->stack, split ? STACK_HELDOUT : STACK_TRAIN);
		t->prompt[split] = arena_must(t->arena, n + 1, sizeof **t->prompt);
		for (uint32_t i = 0; i < n; i++) {
			const struct stack_task *s = stack_task_set_get(t->stack, split ? STACK_HELDOUT : STACK_TRAIN, i);
			const char *extra = arena_printf(t->arena, "{\"level\":%d,\"program\":\"%s\"}", s->level, s->program);
			TRY(task_put_prompt(t, (enum task_split)split, i, s->prompt, extra, e));
		}
	}
	t->examples = stack_task_set_examples(t->stack);
	t->example = arena_must(t->arena, t->examples + 1, sizeof *t->example);
	for (uint32_t i = 0; i < t->examples; i++) {
		const struct stack_example *x = stack_task_set_example(t->stack, i);
		TRY(task_put_example(t, &t->example[i], x->prompt, x->completion, e));
	}
	t->references = t->prompts[TASK_HELDOUT];
	t->reference = arena_must(t->arena, t->references + 1, sizeof *t->reference);
	for (uint32_t i = 0; i < t->references; i++) {
		const struct stack_task *s = stack_task_set_get(t->stack, STACK_HELDOUT, i);
		TRY(task_put_example(t, &t->reference[i], s->prompt, s->program, e));
	}
out:
	return rc;
}

static int stack_open(struct task *t, const struct config *c, struct err *e)
{
	int rc = stack_task_set_open(&t->stack, &c->task, e);
	if (rc < 0) return rc;
	uint32_t n = stack_task_set_count(t->stack, STACK_TRAIN);
	struct tokenizer_text *texts = calloc(2 * (size_t)n, sizeof *texts);
	CHECK(texts, "out of memory for %u training texts", n);
	for (uint32_t i = 0; i < n; i++) {
		const struct stack_task *s = stack_task_set_get(t->stack, STACK_TRAIN, i);
		texts[2 * i] = (struct tokenizer_text){s->prompt, strlen(s->prompt)};
		texts[2 * i + 1] = (struct tokenizer_text){s->program, strlen(s->program)};
	}
	rc = task_tokenizer(t, c, texts, 2 * (size_t)n, e);
	free(texts);
	return rc < 0 ? rc : stack_fill(t, e);
}

static void digest(struct task *t)
{
	struct hash_stream *h = hash_stream_open();
	char hex[HASH_HEX];
	tokenizer_digest(t->tokenizer, hex);
	hash_stream_add(h, hex, sizeof hex);
	for (int s = 0; s < 2; s++)
		for (uint32_t i = 0; i < t->prompts[s]; i++) hash_stream_add(h, t->prompt[s][i].text, strlen(t->prompt[s][i].text) + 1);
	for (uint32_t i = 0; i < t->examples; i++)
		hash_stream_add(h, t->example[i].tokens, (t->example[i].prompt + t->example[i].completion) * sizeof(int32_t));
	/* Where prompts are not plain text: their tokens, too. */
	const int32_t *before, *behind;
	size_t n_before, n_behind;
	tokenizer_wrap(t->tokenizer, &before, &n_before, &behind, &n_behind);
	for (int s = 0; s < 2 && (t->chat || n_before); s++)
		for (uint32_t i = 0; i < t->prompts[s]; i++) hash_stream_add(h, t->prompt[s][i].tokens, t->prompt[s][i].count * sizeof(int32_t));
	task_files_digest(t, h);
	hash_stream_finish(h, t->digest);
}

int task_open(struct task **out, const struct config *c, struct err *e)
{
	*out = NULL;
	struct task *t = calloc(1, sizeof *t);
	CHECK(t, "out of memory for a task");
	t->arena = arena_open(0);
	int rc = strcmp(c->task.name, "prompts") == 0 ? task_files_open(t, c, e) : stack_open(t, c, e);
	if (rc < 0) {
		task_close(t);
		return rc;
	}
	digest(t);
	*out = t;
	return 0;
}

void task_close(struct task *t)
{
	if (!t) return;
	chat_close(t->chat);
	tokenizer_close(t->tokenizer);
	stack_task_set_close(t->stack);
	arena_close(t->arena);
	free(t);
}

int task_verifiable(const struct task *t)
{
	return t->stack != NULL || t->answers;
}

static const struct stack_task *stack_of(const struct task *t, enum task_split split, uint32_t prompt)
{
	return stack_task_set_get(t->stack, split == TASK_HELDOUT ? STACK_HELDOUT : STACK_TRAIN, prompt);
}

float task_reward(const struct task *t, enum task_split split, uint32_t prompt, const char *completion)
{
	CHECK(task_verifiable(t) && prompt < t->prompts[split], "prompt %u of %u cannot be verified", prompt, t->prompts[split]);
	return t->stack ? stack_verify(stack_of(t, split, prompt), completion) : verify_number(completion, t->prompt[split][prompt].answer) ? 1.0f : 0.0f;
}

int task_passes(const struct task *t, enum task_split split, uint32_t prompt, const char *completion)
{
	CHECK(task_verifiable(t) && prompt < t->prompts[split], "prompt %u of %u cannot be verified", prompt, t->prompts[split]);
	return t->stack ? stack_passes(stack_of(t, split, prompt), completion) : verify_number(completion, t->prompt[split][prompt].answer);
}

static int verifier_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	const struct task *t = self;
	for (uint32_t i = 0; i < n; i++) {
		const struct group *g = groups[i];
		if (g->prompt >= t->prompts[TASK_TRAIN] || strcmp(g->prompt_text, t->prompt[TASK_TRAIN][g->prompt].text))
			return err_set(e, ERR_MISMATCH, "prompt %u is not the one this verifier's task has there; the roles have different task settings", g->prompt);
		for (uint32_t c = 0; c < g->size; c++) *out++ = task_reward(t, TASK_TRAIN, g->prompt, g->text[c]);
	}
	return 0;
}

static void verifier_close(struct scorer *s)
{
	free(s);
}

int task_scorer_open(struct scorer **out, const struct task *t, struct err *e)
{
	*out = NULL;
	if (!task_verifiable(t)) return err_set(e, ERR_RANGE, "there is no verifier: not every prompt of the task's files has an answer; use the term (or the judge) command, or a learned model");
	struct scorer *s = calloc(1, sizeof *s);
	CHECK(s, "out of memory for a scorer");
	s->self = (void *)(uintptr_t)t;
	s->terms = 1;
	memcpy(s->name, "verifier", 9);
	memcpy(s->term_name[0], "verifier", 9);
	memcpy(s->version, t->digest, HASH_HEX);
	s->score = verifier_score;
	s->close = verifier_close;
	*out = s;
	return 0;
}
