/* Texts of a pretraining; see corpus.h. All tokens are kept in memory, 4 bytes
 * each, and the texts until they are tokenised. */
#include "app/corpus.h"

#include "core/base/arena.h"
#include "core/base/log.h"
#include "store/data.h"

#include <stdlib.h>
#include <string.h>

struct texts {
	struct tokenizer_text *text;
	size_t n, room;
};

struct source {
	char name[256];
	struct texts texts[2];     /* by enum data_side */
	int32_t *tokens[2];
	uint64_t *end[2];
	struct sft_example *heldout;
	uint32_t heldouts;
};

struct corpus {
	struct arena *arena;       /* texts, until they are tokenised */
	struct tokenizer *tokenizer;
	int32_t end_token;
	struct source source[MIXTURE_SOURCES_MAX];
	struct mixture_source mixture[MIXTURE_SOURCES_MAX];
	int n;
	int64_t bad;
};

/* ---- reading ---- */

struct reading {
	struct corpus *k;
	struct source *to;
};

static int take(void *ctx, const struct data_record *r, struct err *e)
{
	struct reading *g = ctx;
	if (r->kind != DATA_TEXT) return err_set(e, ERR_FORMAT, "%s:%llu: has no \"text\"; pretraining reads {\"text\": …}", r->file, (unsigned long long)r->line);
	struct texts *t = &g->to->texts[r->side];
	if (t->n == t->room) {
		t->room = t->room ? 2 * t->room : 1024;
		t->text = realloc(t->text, t->room * sizeof *t->text);
		CHECK(t->text, "out of memory for %zu documents", t->n);
	}
	t->text[t->n++] = (struct tokenizer_text){arena_strdup(g->k->arena, r->completion[0]), strlen(r->completion[0])};
	return 0;
}

static int has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && !strcmp(s + n - m, suffix);
}

static int read_source(struct corpus *k, struct source *to, const char *path, const struct config *c, struct err *e)
{
	struct data_files files = {0};
	struct data_report report;
	struct reading g = {k, to};
	int rc = data_files_open(&files, path, e);
	if (rc < 0) return err_prefix(e, "pretrain.sources");
	struct data_options o = {.format = has_suffix(path, ".jsonl") || has_suffix(path, ".jsonl.gz") ? "tenfold" : "text",
				 .train = (const char *const *)files.path, .train_count = files.count, .share = c->pretrain.heldout,
				 .seed = (uint64_t)c->run.seed, .bad_limit = -1, .on_record = take, .ctx = &g};
	rc = data_read(&o, &report, e);
	for (int i = 0; rc >= 0 && i < DATA_SHOWN && report.bad_shown[i][0]; i++) log_warn("bad document, left out: %s", report.bad_shown[i]);
	if (rc >= 0 && report.bad) log_warn("%s: %llu documents are bad and left out", path, (unsigned long long)report.bad);
	if (rc >= 0 && !to->texts[DATA_TRAIN].n) rc = err_set(e, ERR_FORMAT, "pretrain.sources: %s has no document", path);
	data_files_close(&files);
	return rc;
}

/* "path:weight, path:weight"; a path may hold colons, the weight stands behind the last one. */
static int read_sources(struct corpus *k, const struct config *c, struct err *e)
{
	char list[CONFIG_STRING], *rest = NULL;
	memcpy(list, c->pretrain.sources, sizeof list);
	for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		while (*item == ' ') item++;
		size_t len = strlen(item);
		while (len && item[len - 1] == ' ') item[--len] = 0;
		if (!len) continue;
		if (k->n == MIXTURE_SOURCES_MAX) return err_set(e, ERR_RANGE, "pretrain.sources names more than %d", MIXTURE_SOURCES_MAX);
		char *colon = strrchr(item, ':'), *end = NULL;
		double weight = colon && colon[1] ? strtod(colon + 1, &end) : 1;
		if (end && !*end) *colon = 0;
		else weight = 1;
		struct source *to = &k->source[k->n];
		snprintf(to->name, sizeof to->name, "%s", item);
		k->mixture[k->n++] = (struct mixture_source){.name = to->name, .weight = weight};
		int rc = read_source(k, to, item, c, e);
		if (rc < 0) return rc;
	}
	return k->n ? 0 : err_set(e, ERR_RANGE, "pretrain.sources is empty: name texts, as \"path:weight, path:weight\"");
}

/* ---- tokens ---- */

static int make_tokenizer(struct corpus *k, const struct config *c, struct err *e)
{
	static const char END[] = "<|endoftext|>";
	const char *const specials[] = {END};
	int rc;
	if (c->tokenizer.path[0]) {
		rc = tokenizer_open(&k->tokenizer, c->tokenizer.path, e);
	} else {
		size_t n = 0;
		for (int i = 0; i < k->n; i++) n += k->source[i].texts[DATA_TRAIN].n;
		struct tokenizer_text *all = malloc(n * sizeof *all), *at = all;
		CHECK(all, "out of memory for %zu documents", n);
		for (int i = 0; i < k->n; i++) {
			const struct texts *t = &k->source[i].texts[DATA_TRAIN];
			memcpy(at, t->text, t->n * sizeof *at);
			at += t->n;
		}
		rc = tokenizer_train(&k->tokenizer, all, n, (int32_t)c->tokenizer.vocab_size, specials, 1, e);
		free(all);
	}
	if (rc < 0) return rc;
	k->end_token = tokenizer_eos(k->tokenizer) >= 0 ? tokenizer_eos(k->tokenizer) : tokenizer_id(k->tokenizer, END);
	if (k->end_token < 0) return err_set(e, ERR_RANGE, "tokenizer.path %s has neither an eos_token nor %s to end a document with", c->tokenizer.path, END);
	return 0;
}

static int tokenize(struct corpus *k, struct source *s, int side, struct err *e)
{
	const struct texts *t = &s->texts[side];
	const int32_t *before, *behind;
	size_t n_before, n_behind;
	uint64_t used = 0, room = 0;
	tokenizer_wrap(k->tokenizer, &before, &n_before, &behind, &n_behind);
	s->end[side] = malloc((t->n + 1) * sizeof *s->end[side]);
	CHECK(s->end[side], "out of memory for %zu documents", t->n);
	for (size_t d = 0; d < t->n; d++) {
		size_t need = n_before + t->text[d].bytes + 1;
		if (room - used < need) {
			room = 2 * room + need;
			s->tokens[side] = realloc(s->tokens[side], room * sizeof **s->tokens);
			CHECK(s->tokens[side], "out of memory for %llu tokens", (unsigned long long)room);
		}
		int32_t *to = s->tokens[side] + used;
		if (n_before) memcpy(to, before, n_before * sizeof *to);
		int64_t n = tokenizer_encode(k->tokenizer, t->text[d].data, t->text[d].bytes, to + n_before, need - n_before - 1, e);
		if (n >= (int64_t)(need - n_before)) n = err_set(e, ERR_RANGE, "a text of %zu bytes has more tokens than bytes", t->text[d].bytes);
		if (n < 0) {
			err_prefix(e, "%s, document %zu", s->name, d + 1);
			return (int)n;
		}
		to[n_before + (size_t)n] = k->end_token;
		used += n_before + (size_t)n + 1;
		s->end[side][d] = used;
	}
	return 0;
}

static void cut_heldout(struct corpus *k, struct source *s, const struct config *c)
{
	uint64_t have = s->texts[DATA_HELDOUT].n ? s->end[DATA_HELDOUT][s->texts[DATA_HELDOUT].n - 1] : 0, length = (uint64_t)c->pretrain.sequence;
	uint64_t most = (uint64_t)(c->pretrain.eval_sequences + k->n - 1) / (uint64_t)k->n, n = have ? (have - 1) / length : 0;
	if (have > 1 && n == 0) n = 1, length = have - 1;
	if (n > most) n = most;
	s->heldout = malloc((n + 1) * sizeof *s->heldout);
	CHECK(s->heldout, "out of memory for held-out sequences");
	for (uint64_t i = 0; i < n; i++) s->heldout[i] = (struct sft_example){s->tokens[DATA_HELDOUT] + i * length, 1, (uint32_t)length};
	s->heldouts = (uint32_t)n;
}

int corpus_open(struct corpus **out, const struct config *c, struct err *e)
{
	int rc = 0;
	*out = NULL;
	struct corpus *k = calloc(1, sizeof *k);
	CHECK(k, "out of memory for the texts");
	k->arena = arena_open(0);
	TRY(read_sources(k, c, e));
	TRY(make_tokenizer(k, c, e));
	for (int i = 0; i < k->n; i++) {
		struct source *s = &k->source[i];
		TRY(tokenize(k, s, DATA_TRAIN, e));
		TRY(tokenize(k, s, DATA_HELDOUT, e));
		cut_heldout(k, s, c);
		k->mixture[i].tokens = s->tokens[DATA_TRAIN];
		k->mixture[i].end = s->end[DATA_TRAIN];
		k->mixture[i].documents = (uint32_t)s->texts[DATA_TRAIN].n;
	}
	arena_close(k->arena);
	k->arena = NULL;
	*out = k;
	return 0;
out:
	corpus_close(k);
	return rc;
}

void corpus_close(struct corpus *k)
{
	if (!k) return;
	for (int i = 0; i < k->n; i++) {
		for (int side = 0; side < 2; side++) {
			free(k->source[i].texts[side].text);
			free(k->source[i].tokens[side]);
			free(k->source[i].end[side]);
		}
		free(k->source[i].heldout);
	}
	tokenizer_close(k->tokenizer);
	arena_close(k->arena);
	free(k);
}

struct tokenizer *corpus_tokenizer(struct corpus *k)
{
	return k->tokenizer;
}

const struct mixture_source *corpus_sources(const struct corpus *k, int *n)
{
	*n = k->n;
	return k->mixture;
}

const struct sft_example *corpus_heldout(const struct corpus *k, int source, uint32_t *count)
{
	*count = k->source[source].heldouts;
	return k->source[source].heldout;
}
