/* The task from files: prompts, examples and ranked groups in any layout of
 * store/data.h.
 *
 * Files are read once into memory, the tokenizer is trained on the training
 * side's texts (or opened), then everything is encoded. A prompt that several
 * records have is one prompt; an example that comes twice is one example. Best
 * completions of ranked groups are examples too. Records longer than
 * task.max_tokens and groups of prompts beyond task.train are left out and
 * counted, which the stages print. */
#include "reward/task_internal.h"

#include "core/base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A record with its texts in the arena. */
struct kept {
	struct data_record r;
	const char **text; /* [r.count] */
	uint8_t *rank;
	double *margin;
};

struct table {
	uint64_t *hash; /* 0: free */
	uint32_t *index;
	size_t room, used;
};

struct files {
	struct task *t;
	const struct config *c;
	struct kept *kept;
	size_t count, room;
	struct table prompts[2], examples;
	int64_t max_tokens;
	uint32_t answered;
};

/* ---- reading ---- */

static int keep(void *ctx, const struct data_record *r, struct err *e)
{
	struct files *f = ctx;
	struct arena *a = f->t->arena;
	(void)e;
	if (f->count == f->room) {
		f->room = f->room ? 2 * f->room : 1024;
		f->kept = realloc(f->kept, f->room * sizeof *f->kept);
		CHECK(f->kept, "out of memory for %zu records", f->room);
	}
	struct kept *k = &f->kept[f->count++];
	*k = (struct kept){.r = *r, .text = arena_must(a, r->count + 1u, sizeof *k->text)};
	k->r.prompt = arena_strdup(a, r->prompt);
	k->r.answer = r->answer ? arena_strdup(a, r->answer) : NULL;
	k->r.key = NULL;
	for (uint32_t i = 0; i < r->count; i++) k->text[i] = arena_strdup(a, r->completion[i]);
	if (r->kind != DATA_GROUP) return 0;
	k->rank = arena_must(a, r->count, sizeof *k->rank);
	memcpy(k->rank, r->rank, r->count);
	if (!r->has_margins) return 0;
	k->margin = arena_must(a, r->count, sizeof *k->margin);
	memcpy(k->margin, r->margin, r->count * sizeof *k->margin);
	return 0;
}

static int read_all(struct files *f, struct data_report *report, struct err *e)
{
	const struct config_task *c = &f->c->task;
	struct data_files train = {0}, heldout = {0}, more = {0};
	struct data_report other;
	int rc = 0;
	TRY(data_files_open(&train, c->prompts, e));
	TRY(data_files_open(&heldout, c->heldout_files, e));
	TRY(data_files_open(&more, c->completions, e));
	struct data_options o = {.format = c->format, .columns = c->columns, .train = (const char *const *)train.path, .train_count = train.count,
				 .heldout = (const char *const *)heldout.path, .heldout_count = heldout.count, .share = c->heldout_share, .seed = (uint64_t)c->seed,
				 .bad_limit = c->max_bad, .on_record = keep, .ctx = f};
	TRY(data_read(&o, report, e));
	if (f->count == 0) TRY(err_set(e, ERR_FORMAT, "%s: no record in format %s", c->prompts, c->format));
	if (more.count == 0) goto out;
	/* further examples: their prompts are not the task's */
	size_t before = f->count;
	o = (struct data_options){.format = "tenfold", .train = (const char *const *)more.path, .train_count = more.count, .bad_limit = c->max_bad, .on_record = keep, .ctx = f};
	TRY(data_read(&o, &other, e));
	for (size_t i = before; i < f->count; i++) {
		struct kept *k = &f->kept[i];
		if (k->r.kind != DATA_EXAMPLE) TRY(err_set(e, ERR_FORMAT, "%s:%llu: task.completions takes lines with the texts \"prompt\" and \"completion\" only", c->completions,
							    (unsigned long long)k->r.line));
		k->r.kind = DATA_TEXT; /* an example alone */
	}
	if (f->count == before) rc = err_set(e, ERR_FORMAT, "%s has no example", c->completions);
out:
	data_files_close(&train);
	data_files_close(&heldout);
	data_files_close(&more);
	return rc;
}

/* Without a rule of its own the split is: the last task.heldout prompts, at most half of them. */
static void split_last(struct files *f)
{
	size_t n = 0, at = 0;
	if (f->c->task.heldout_share > 0 || f->c->task.heldout_files[0]) return;
	for (size_t i = 0; i < f->count; i++) n += f->kept[i].r.kind != DATA_TEXT;
	size_t held = (size_t)f->c->task.heldout < n / 2 ? (size_t)f->c->task.heldout : n / 10;
	for (size_t i = 0; i < f->count; i++)
		if (f->kept[i].r.kind != DATA_TEXT) f->kept[i].r.side = at++ >= n - held ? DATA_HELDOUT : DATA_TRAIN;
}

static int open_tokenizer(struct files *f, struct err *e)
{
	size_t n = 0;
	for (size_t i = 0; i < f->count; i++) n += 1 + f->kept[i].r.count;
	struct tokenizer_text *texts = calloc(n, sizeof *texts);
	CHECK(texts, "out of memory for the training texts");
	n = 0;
	for (size_t i = 0; i < f->count; i++) {
		const struct kept *k = &f->kept[i];
		if (k->r.side == DATA_HELDOUT) continue;
		if (k->r.prompt[0]) texts[n++] = (struct tokenizer_text){k->r.prompt, strlen(k->r.prompt)};
		for (uint32_t c = 0; c < k->r.count; c++) texts[n++] = (struct tokenizer_text){k->text[c], strlen(k->text[c])};
	}
	int rc = task_tokenizer(f->t, f->c, texts, n, e);
	free(texts);
	return rc;
}

/* ---- what is there already ---- */

static void table_open(struct table *t, size_t n)
{
	t->room = 16;
	while (t->room < 2 * n + 2) t->room *= 2;
	t->hash = calloc(t->room, sizeof *t->hash);
	t->index = calloc(t->room, sizeof *t->index);
	CHECK(t->hash && t->index, "out of memory for a table of %zu texts", n);
}

/* The place of that hash: the stored index when it was there, else `next`, which is noted unless it is UINT32_MAX. */
static uint32_t table_put(struct table *t, uint64_t hash, uint32_t next)
{
	if (hash == 0) hash = 1;
	size_t i = hash & (t->room - 1);
	while (t->hash[i] && t->hash[i] != hash) i = (i + 1) & (t->room - 1);
	if (t->hash[i]) return t->index[i];
	if (next != UINT32_MAX) t->hash[i] = hash, t->index[i] = next;
	return next;
}

static uint64_t pair_hash(const char *a, const char *b)
{
	return hash_u64(a, strlen(a)) * 0x9E3779B97F4A7C15u ^ hash_u64(b, strlen(b));
}

/* ---- filling ---- */

static int length_of(struct files *f, const char *text, int64_t *n, struct err *e)
{
	*n = tokenizer_encode(f->t->tokenizer, text, strlen(text), NULL, 0, e);
	return *n < 0 ? (int)*n : 0;
}

static int prompt_length(struct files *f, const char *text, int64_t *n, struct err *e)
{
	struct arena *a = arena_open(0);
	int32_t *tokens;
	uint32_t count = 0;
	int rc = task_encode_prompt(f->t, a, text, &tokens, &count, e);
	*n = count;
	arena_close(a);
	return rc;
}

/* 1 when the record fits task.max_tokens, 0 when it does not. */
static int fits(struct files *f, const struct kept *k, struct err *e)
{
	int64_t prompt, most = k->r.kind == DATA_TEXT ? 0 : f->c->rollout.max_new_tokens, n;
	int rc = prompt_length(f, k->r.prompt, &prompt, e);
	for (uint32_t i = 0; rc == 0 && i < k->r.count; i++) {
		rc = length_of(f, k->text[i], &n, e);
		if (n + 1 > most) most = n + 1;
	}
	return rc < 0 ? rc : prompt + most <= f->max_tokens;
}

static int add_prompt(struct files *f, const struct kept *k, uint32_t *index, struct err *e)
{
	struct task *t = f->t;
	enum task_split split = k->r.side == DATA_HELDOUT ? TASK_HELDOUT : TASK_TRAIN;
	uint32_t next = t->prompts[split];
	int full = split == TASK_TRAIN && t->groups[TASK_TRAIN] == 0 && f->c->task.train > 0 && next >= (uint64_t)f->c->task.train;
	*index = table_put(&f->prompts[split], hash_u64(k->r.prompt, strlen(k->r.prompt)), full ? UINT32_MAX : next);
	if (*index != next) return 0;
	const char *extra = k->r.answer ? arena_printf(t->arena, "{\"answer\":\"%s\"}", k->r.answer) : NULL;
	int rc = task_put_prompt(t, split, next, k->r.prompt, extra, e);
	if (rc < 0) return rc;
	t->prompt[split][next].answer = k->r.answer;
	f->answered += k->r.answer != NULL;
	t->prompts[split]++;
	return 0;
}

/* Held-out examples are the references; a text (or a further example) has no prompt among the task's. */
static int add_example(struct files *f, const struct kept *k, const char *completion, struct err *e)
{
	struct task *t = f->t;
	int held = k->r.side == DATA_HELDOUT;
	uint32_t next = t->examples + t->references;
	if (table_put(&f->examples, pair_hash(k->r.prompt, completion), next) != next) return 0;
	const char *prompt = k->r.prompt[0] ? k->r.prompt : tokenizer_token(t->tokenizer, t->end_token);
	int rc = task_put_example(t, held ? &t->reference[t->references] : &t->example[t->examples], prompt, completion, e);
	if (rc == 0 && held) t->references++;
	else if (rc == 0) t->examples++;
	return rc;
}

static void add_group(struct files *f, const struct kept *k, uint32_t prompt)
{
	struct task *t = f->t;
	enum task_split split = k->r.side == DATA_HELDOUT ? TASK_HELDOUT : TASK_TRAIN;
	struct task_group *g = &t->group[split][t->groups[split]++];
	uint32_t n = k->r.count, order[GROUP_MAX];
	uint64_t hash[GROUP_MAX];
	/* by hash, so that the place of a completion says nothing of its rank */
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = i;
		hash[i] = hash_u64(k->text[i], strlen(k->text[i]));
		for (; at > 0 && hash[order[at - 1]] > hash[i]; at--) order[at] = order[at - 1];
		order[at] = i;
	}
	const char **text = arena_must(t->arena, n, sizeof *text);
	uint8_t *rank = arena_must(t->arena, n, sizeof *rank);
	for (uint32_t i = 0; i < n; i++) text[i] = k->text[order[i]], rank[i] = k->rank[order[i]];
	*g = (struct task_group){.prompt = prompt, .size = n, .text = text, .rank = rank, .margin = k->margin};
}

static int add_record(struct files *f, const struct kept *k, struct err *e)
{
	uint32_t prompt = UINT32_MAX;
	int rc = fits(f, k, e);
	if (rc < 0) return rc;
	if (rc == 0) {
		f->t->too_long++;
		return 0;
	}
	rc = 0;
	if (k->r.kind != DATA_TEXT) TRY(add_prompt(f, k, &prompt, e));
	if (k->r.kind != DATA_TEXT && prompt == UINT32_MAX) f->t->beyond++;
	if (k->r.kind == DATA_EXAMPLE || k->r.kind == DATA_TEXT) TRY(add_example(f, k, k->text[0], e));
	if (k->r.kind != DATA_GROUP || prompt == UINT32_MAX) goto out;
	for (uint32_t i = 0; i < k->r.count; i++)
		if (k->rank[i] == 1) TRY(add_example(f, k, k->text[i], e));
	add_group(f, k, prompt);
out:
	return rc;
}

static int fill(struct files *f, struct err *e)
{
	struct task *t = f->t;
	size_t n[2] = {1, 1}, groups[2] = {1, 1}, examples = 1;
	int rc = 0;
	for (size_t i = 0; i < f->count; i++) {
		const struct kept *k = &f->kept[i];
		n[k->r.side]++;
		groups[k->r.side] += k->r.kind == DATA_GROUP;
		examples += k->r.count;
	}
	table_open(&f->examples, examples);
	t->example = arena_must(t->arena, examples, sizeof *t->example);
	t->reference = arena_must(t->arena, examples, sizeof *t->reference);
	for (int s = 0; s < 2; s++) {
		table_open(&f->prompts[s], n[s]);
		t->prompt[s] = arena_must(t->arena, n[s], sizeof **t->prompt);
		t->group[s] = arena_must(t->arena, groups[s], sizeof **t->group);
	}
	for (size_t i = 0; i < f->count; i++) TRY(add_record(f, &f->kept[i], e));
	if (t->references == 0 && t->examples >= 20) { /* one in twenty is kept for the held-out loss */
		t->references = t->examples / 20;
		t->examples -= t->references;
		t->reference = t->example + t->examples;
	}
	t->answers = t->prompts[0] > 0 && f->answered == t->prompts[0] + t->prompts[1];
	if (t->prompts[TASK_TRAIN] == 0 && t->examples == 0)
		rc = err_set(e, ERR_RANGE, "%s: nothing to train on: all %zu records are longer than %lld tokens (task.max_tokens) or held out", f->c->task.prompts, f->count,
			     (long long)f->max_tokens);
out:
	return rc;
}

int task_files_open(struct task *t, const struct config *c, struct err *e)
{
	struct files f = {.t = t, .c = c, .max_tokens = c->task.max_tokens > 0 ? c->task.max_tokens : c->model.max_positions};
	struct data_report *report = arena_must(t->arena, 1, sizeof *report);
	int rc = 0;
	TRY(read_all(&f, report, e));
	t->data = report;
	split_last(&f);
	TRY(open_tokenizer(&f, e));
	TRY(fill(&f, e));
out:
	for (int s = 0; s < 2; s++) {
		free(f.prompts[s].hash);
		free(f.prompts[s].index);
	}
	free(f.examples.hash);
	free(f.examples.index);
	free(f.kept);
	return rc;
}

/* ---- groups ---- */

static void ranking_of(const struct task_group *x, struct store_comparison *c)
{
	*c = (struct store_comparison){.source = "stored", .has_margins = x->margin != NULL};
	for (uint32_t rank = 1; rank <= x->size; rank++)
		for (uint32_t i = 0; i < x->size; i++)
			if (x->rank[i] == rank) {
				c->order[c->count] = (uint8_t)i;
				c->rank[c->count++] = (uint8_t)rank;
			}
	for (uint32_t k = 0; x->margin && k + 1 < c->count; k++) c->margin[k] = x->margin[k];
}

int task_group_get(const struct task *t, enum task_split split, uint32_t i, struct arena *a, struct group *g, struct store_comparison *c, struct err *e)
{
	CHECK(i < t->groups[split], "group %u of %u", i, t->groups[split]);
	const struct task_group *x = &t->group[split][i];
	const struct task_prompt *p = &t->prompt[split][x->prompt];
	int32_t *part[GROUP_MAX];
	uint32_t total = p->count;
	int rc = 0;
	*g = (struct group){.prompt = task_prompt_number(t, split, x->prompt), .size = x->size, .prompt_tokens = p->count, .prompt_text = p->text};
	for (uint32_t k = 0; k < x->size; k++) {
		TRY(task_encode(t, a, x->text[k], &part[k], &g->length[k], e));
		part[k][g->length[k]++] = t->end_token;
		g->text[k] = x->text[k];
		total += g->length[k];
	}
	int32_t *tokens = arena_must(a, total, sizeof *tokens), *at = tokens + p->count;
	float *logprobs = arena_must(a, total, sizeof *logprobs);
	memcpy(tokens, p->tokens, p->count * sizeof *tokens);
	for (uint32_t k = 0; k < x->size; at += g->length[k++]) memcpy(at, part[k], g->length[k] * sizeof *at);
	for (uint32_t k = 0; k < total; k++) logprobs[k] = NAN;
	g->tokens = tokens;
	g->logprobs = logprobs;
	ranking_of(x, c);
out:
	return rc;
}

void task_files_digest(const struct task *t, struct hash_stream *h)
{
	for (int s = 0; s < 2; s++)
		for (uint32_t i = 0; i < t->groups[s]; i++) {
			const struct task_group *g = &t->group[s][i];
			hash_stream_add(h, &g->prompt, sizeof g->prompt);
			hash_stream_add(h, g->rank, g->size);
			for (uint32_t k = 0; k < g->size; k++) hash_stream_add(h, g->text[k], strlen(g->text[k]) + 1);
		}
	for (int s = 0; s < 2 && t->answers; s++)
		for (uint32_t i = 0; i < t->prompts[s]; i++) hash_stream_add(h, t->prompt[s][i].answer, strlen(t->prompt[s][i].answer) + 1);
}
