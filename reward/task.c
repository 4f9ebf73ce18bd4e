/* Tasks; see task.h. */
#include "reward/task.h"

#include "core/base/fs.h"
#include "core/base/hash.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char END[] = "<|endoftext|>";

/* Tokens of text, in the task's arena, followed by `more` free places. */
static int encode(struct task *t, const char *text, int more, int32_t **tokens, uint32_t *count, struct err *e)
{
	size_t bytes = strlen(text);
	int64_t n = tokenizer_encode(t->tokenizer, text, bytes, NULL, 0, e);
	if (n < 0) return (int)n;
	*tokens = arena_must(t->arena, (size_t)n + (size_t)more + 1, sizeof **tokens);
	*count = (uint32_t)n;
	n = tokenizer_encode(t->tokenizer, text, bytes, *tokens, (size_t)n, e);
	return n < 0 ? (int)n : 0;
}

static int put_prompt(struct task *t, enum task_split split, uint32_t i, const char *text, const char *extra, struct err *e)
{
	struct task_prompt *p = &t->prompt[split][i];
	int32_t *tokens = NULL;
	int rc = encode(t, text, 0, &tokens, &p->count, e);
	if (rc < 0) return rc;
	if (p->count == 0) return err_set(e, ERR_RANGE, "prompt %u of the task is empty", i);
	p->text = text;
	p->tokens = tokens;
	p->extra = extra;
	if (p->count > t->longest_prompt) t->longest_prompt = p->count;
	return 0;
}

static int put_example(struct task *t, struct sft_example *x, const char *prompt, const char *completion, struct err *e)
{
	int32_t *p = NULL, *c = NULL;
	uint32_t np = 0, nc = 0;
	int rc = 0;
	TRY(encode(t, prompt, 0, &p, &np, e));
	TRY(encode(t, completion, 0, &c, &nc, e));
	int32_t *all = arena_must(t->arena, np + nc + 1, sizeof *all);
	memcpy(all, p, np * sizeof *p);
	memcpy(all + np, c, nc * sizeof *c);
	all[np + nc] = t->end_token;
	*x = (struct sft_example){all, np, nc + 1};
out:
	return rc;
}

/* A tokenizer from its path, or trained on these texts. */
static int tokenizer_get(struct task *t, const struct config *c, const struct tokenizer_text *texts, size_t n, struct err *e)
{
	const char *specials[] = {END};
	int rc = c->tokenizer.path[0] ? tokenizer_open(&t->tokenizer, c->tokenizer.path, e)
				      : tokenizer_train(&t->tokenizer, texts, n, (int32_t)c->tokenizer.vocab_size, specials, 1, e);
	if (rc < 0) return rc;
	t->end_token = tokenizer_id(t->tokenizer, END);
	if (t->end_token < 0) return err_set(e, ERR_RANGE, "tokenizer.path %s has no token %s to end a completion with", c->tokenizer.path, END);
	return 0;
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
			TRY(put_prompt(t, (enum task_split)split, i, s->prompt, extra, e));
		}
	}
	t->examples = stack_task_set_examples(t->stack);
	t->example = arena_must(t->arena, t->examples + 1, sizeof *t->example);
	for (uint32_t i = 0; i < t->examples; i++) {
		const struct stack_example *x = stack_task_set_example(t->stack, i);
		TRY(put_example(t, &t->example[i], x->prompt, x->completion, e));
	}
	t->references = t->prompts[TASK_HELDOUT];
	t->reference = arena_must(t->arena, t->references + 1, sizeof *t->reference);
	for (uint32_t i = 0; i < t->references; i++) {
		const struct stack_task *s = stack_task_set_get(t->stack, STACK_HELDOUT, i);
		TRY(put_example(t, &t->reference[i], s->prompt, s->program, e));
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
	rc = tokenizer_get(t, c, texts, 2 * (size_t)n, e);
	free(texts);
	return rc < 0 ? rc : stack_fill(t, e);
}

/* ---- prompts from files ---- */

struct pair {
	const char *prompt, *completion;
};

/* Lines of a JSONL file with text members `prompt` and, when asked for, `completion`. */
static int read_pairs(struct task *t, const char *path, int with_completion, struct pair **out, uint32_t *count, struct err *e)
{
	char *data = NULL;
	size_t bytes, line = 0, room = 0;
	*count = 0;
	*out = NULL;
	int rc = fs_read(path, (size_t)1 << 31, &data, &bytes, e);
	if (rc < 0) return rc;
	for (char *at = data, *end; at < data + bytes; at = end + 1) {
		end = memchr(at, '\n', (size_t)(data + bytes - at));
		if (!end) end = data + bytes;
		line++;
		if (end == at) continue;
		json_error_t je;
		json_t *j = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, &je);
		const char *p = json_string_value(json_object_get(j, "prompt")), *c = json_string_value(json_object_get(j, "completion"));
		if (!p || !p[0] || (with_completion && !c)) {
			rc = err_set(e, ERR_FORMAT, "%s:%zu: %s", path, line, !j ? je.text : with_completion ? "each line needs the texts \"prompt\" and \"completion\"" : "each line needs a text \"prompt\"");
			json_decref(j);
			break;
		}
		if (*count == room) {
			room = room ? room * 2 : 1024;
			*out = realloc(*out, room * sizeof **out);
			CHECK(*out, "out of memory for the lines of %s", path);
		}
		(*out)[(*count)++] = (struct pair){arena_strdup(t->arena, p), with_completion ? arena_strdup(t->arena, c) : NULL};
		json_decref(j);
	}
	free(data);
	if (rc == 0 && *count == 0) rc = err_set(e, ERR_FORMAT, "%s has no line", path);
	return rc;
}

/* The last task.heldout prompts are held out; the others, at most task.train, are trained on. */
static int prompts_fill(struct task *t, const struct config *c, const struct pair *p, uint32_t n, const struct pair *x, uint32_t nx, struct err *e)
{
	int rc = 0;
	uint32_t held = (uint32_t)c->task.heldout < n / 2 ? (uint32_t)c->task.heldout : n / 10, train = n - held;
	if (c->task.train > 0 && train > (uint32_t)c->task.train) train = (uint32_t)c->task.train;
	t->prompts[TASK_TRAIN] = train;
	t->prompts[TASK_HELDOUT] = held;
	for (int s = 0; s < 2; s++) {
		t->prompt[s] = arena_must(t->arena, t->prompts[s] + 1, sizeof **t->prompt);
		for (uint32_t i = 0; i < t->prompts[s]; i++) TRY(put_prompt(t, (enum task_split)s, i, p[s ? n - held + i : i].prompt, NULL, e));
	}
	t->references = nx >= 20 ? nx / 20 : 0; /* one in twenty is kept for the held-out loss */
	t->examples = nx - t->references;
	t->example = arena_must(t->arena, nx + 1, sizeof *t->example);
	t->reference = t->example + t->examples;
	for (uint32_t i = 0; i < nx; i++) TRY(put_example(t, &t->example[i], x[i].prompt, x[i].completion, e));
out:
	return rc;
}

static int prompts_open(struct task *t, const struct config *c, struct err *e)
{
	struct pair *p = NULL, *x = NULL;
	struct tokenizer_text *texts = NULL;
	uint32_t n = 0, nx = 0;
	int rc = 0;
	TRY(read_pairs(t, c->task.prompts, 0, &p, &n, e));
	if (c->task.completions[0]) TRY(read_pairs(t, c->task.completions, 1, &x, &nx, e));
	texts = calloc((size_t)n + 2 * (size_t)nx, sizeof *texts);
	CHECK(texts, "out of memory for the training texts");
	for (uint32_t i = 0; i < n; i++) texts[i] = (struct tokenizer_text){p[i].prompt, strlen(p[i].prompt)};
	for (uint32_t i = 0; i < nx; i++) {
		texts[n + 2 * i] = (struct tokenizer_text){x[i].prompt, strlen(x[i].prompt)};
		texts[n + 2 * i + 1] = (struct tokenizer_text){x[i].completion, strlen(x[i].completion)};
	}
	TRY(tokenizer_get(t, c, texts, (size_t)n + 2 * (size_t)nx, e));
	TRY(prompts_fill(t, c, p, n, x, nx, e));
out:
	free(texts);
	free(p);
	free(x);
	return rc;
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
	hash_stream_finish(h, t->digest);
}

int task_open(struct task **out, const struct config *c, struct err *e)
{
	*out = NULL;
	struct task *t = calloc(1, sizeof *t);
	CHECK(t, "out of memory for a task");
	t->arena = arena_open(0);
	int rc = strcmp(c->task.name, "prompts") == 0 ? prompts_open(t, c, e) : stack_open(t, c, e);
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
	tokenizer_close(t->tokenizer);
	stack_task_set_close(t->stack);
	arena_close(t->arena);
	free(t);
}

int task_verifiable(const struct task *t)
{
	return t->stack != NULL;
}

static const struct stack_task *stack_of(const struct task *t, enum task_split split, uint32_t prompt)
{
	CHECK(t->stack && prompt < t->prompts[split], "prompt %u of %u cannot be verified", prompt, t->prompts[split]);
	return stack_task_set_get(t->stack, split == TASK_HELDOUT ? STACK_HELDOUT : STACK_TRAIN, prompt);
}

float task_reward(const struct task *t, enum task_split split, uint32_t prompt, const char *completion)
{
	return stack_verify(stack_of(t, split, prompt), completion);
}

int task_passes(const struct task *t, enum task_split split, uint32_t prompt, const char *completion)
{
	return stack_passes(stack_of(t, split, prompt), completion);
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
	if (!task_verifiable(t)) return err_set(e, ERR_RANGE, "reward.terms names the verifier, but task.name prompts has none: use the term command");
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
