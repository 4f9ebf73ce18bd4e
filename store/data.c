/* The reading of data sets, whatever their format; see data.h. Every record
 * passes data_emit, every one that cannot be used data_bad: there is no third
 * way out of a file. */
#include "store/data_internal.h"

#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct data_format *const formats[] = {&data_format_hh,     &data_format_trl,      &data_format_prompts, &data_format_alpaca,
						    &data_format_sharegpt, &data_format_gsm8k,  &data_format_csv,     &data_format_tsv,
						    &data_format_text,   &data_format_tenfold,  &data_format_export};

enum { FORMATS = sizeof formats / sizeof *formats };

const struct data_format_info *data_format_info(size_t i)
{
	return i < FORMATS ? &formats[i]->info : NULL;
}

/* ---- what formats call ---- */

static uint64_t mix(uint64_t h, uint64_t x)
{
	return (h ^ x) * 0x9E3779B97F4A7C15u + (h >> 29);
}

static uint64_t text_hash(const char *s)
{
	return hash_u64(s, strlen(s));
}

static enum data_side side_of(const struct data_reader *r, const struct data_record *x)
{
	if (r->o->share <= 0) return r->side;
	uint64_t key = text_hash(x->key ? x->key : x->kind == DATA_TEXT ? x->completion[0] : x->prompt);
	return (double)rng_uniform((struct rng_key){r->o->seed, RNG_DATA}, 0, key, 0) < r->o->share ? DATA_HELDOUT : DATA_TRAIN;
}

int data_emit(struct data_reader *r, struct data_record *x)
{
	struct data_place place = {r->file, r->line < UINT32_MAX ? (uint32_t)r->line : UINT32_MAX};
	x->file = r->files[r->file];
	x->line = r->line;
	x->side = side_of(r, x);
	uint64_t whole = mix(text_hash(x->prompt), x->kind);
	if (x->kind != DATA_TEXT) data_seen_add(r->seen_prompts, text_hash(x->prompt), x->side, place);
	for (uint32_t i = 0; i < x->count; i++) {
		uint64_t h = text_hash(x->completion[i]);
		whole = mix(mix(whole, h), x->rank[i]);
		if (x->completion[i][0]) data_seen_add(r->seen_completions, h, x->side, place);
	}
	r->report->duplicates += data_seen_add(r->seen_records, whole, x->side, place) > 0;
	struct data_count *c = &r->report->side[x->side];
	c->records[x->kind]++;
	c->completions += x->count;
	return r->o->on_record ? r->o->on_record(r->o->ctx, x, r->e) : 0;
}

int data_bad(struct data_reader *r, const char *what, const char *detail)
{
	struct data_report *p = r->report;
	char reason[200];
	snprintf(reason, sizeof reason, "%s%s%s", what, detail ? ": " : "", detail ? detail : "");
	int k = 0;
	while (k < DATA_REASONS - 1 && p->reason[k].what && strcmp(p->reason[k].what, what)) k++;
	if (!p->reason[k].what) p->reason[k].what = what;
	p->reason[k].count++;
	if (p->bad < DATA_SHOWN) snprintf(p->bad_shown[p->bad], DATA_PLACE, "%s:%" PRIu64 ": %s", r->files[r->file], r->line, reason);
	p->bad++;
	int rc = r->o->on_bad ? r->o->on_bad(r->o->ctx, r->files[r->file], r->line, reason, r->e) : 0;
	if (rc == 0 && r->o->bad_limit >= 0 && p->bad > (uint64_t)r->o->bad_limit)
		rc = err_set(r->e, ERR_FORMAT, "%s:%" PRIu64 ": %s (that is bad record %" PRIu64 "; %lld are allowed)", r->files[r->file], r->line, reason, p->bad,
			     (long long)r->o->bad_limit);
	return rc;
}

int data_text_ok(struct data_reader *r, const char *text, size_t bytes, int *rc)
{
	char detail[64];
	const char *nul = memchr(text, 0, bytes);
	size_t at = text_malformed(text, bytes);
	if (!nul && at == bytes) return 1;
	snprintf(detail, sizeof detail, nul ? "byte %zu is NUL" : "byte %zu is not part of a character", 1 + (nul ? (size_t)(nul - text) : at));
	*rc = data_bad(r, "it is not UTF-8 text", detail);
	return 0;
}

const char *data_member(const json_t *j, const char *name)
{
	return json_string_value(json_object_get(j, name));
}

/* ---- the loop ---- */

static int take_item(struct data_reader *r, const struct data_item *item)
{
	int rc = 0;
	r->line = item->line;
	if (item->too_long) return data_bad(r, "it is longer than 16 MiB", NULL);
	if (!data_text_ok(r, item->text, item->bytes, &rc)) return rc;
	if (r->format->take_line) return r->format->take_line(r, item->text);
	json_error_t why;
	json_t *j = json_loadb(item->text, item->bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	rc = j ? r->format->take_json(r, j) : data_bad(r, "it is not JSON", why.text);
	json_decref(j);
	return rc;
}

static int read_items(struct data_reader *r, struct data_source *s)
{
	struct data_item item;
	int rc = 0, json = r->format->take_json != NULL;
	while (rc == 0 && (json ? data_source_next_value(s, &item) : data_source_next_line(s, &item))) {
		arena_reset(r->arena);
		rc = take_item(r, &item);
	}
	return rc;
}

/* A list of prompts is JSON or, by its name, text. */
static const struct data_format *format_of(const struct data_format *f, const char *path)
{
	size_t n = strlen(path);
	int text = (n >= 4 && !strcmp(path + n - 4, ".txt")) || (n >= 7 && !strcmp(path + n - 7, ".txt.gz"));
	return f == &data_format_prompts && !text ? &data_format_tenfold : f;
}

static int read_one(struct data_reader *r, const char *path)
{
	struct data_source *s = NULL;
	const struct data_format *named = r->format;
	int rc = 0;
	TRY(data_source_open(&s, path, r->e));
	r->format = format_of(named, path);
	TRY(r->format->read_file ? r->format->read_file(r, s) : read_items(r, s));
	TRY(data_source_check(s, r->e));
out:
	r->format = named;
	data_source_close(s);
	return rc;
}

static void fill_report(const struct data_reader *r)
{
	struct data_report *p = r->report;
	struct data_leak leak[DATA_SHOWN];
	uint64_t unused;
	data_seen_count(r->seen_prompts, &p->prompts, &p->prompts_repeated, &p->leaked_prompts);
	data_seen_count(r->seen_completions, &unused, &unused, &p->leaked_completions);
	data_seen_count(r->seen_records, &unused, &unused, &p->leaked_records);
	const char *what = p->leaked_prompts ? "prompt" : "completion";
	size_t n = data_seen_leaks(p->leaked_prompts ? r->seen_prompts : r->seen_completions, leak, DATA_SHOWN);
	for (size_t i = 0; i < n; i++)
		snprintf(p->leak_shown[i], DATA_PLACE, "%.110s:%u (held out) has a %s of %.110s:%u", r->files[leak[i].heldout.file], leak[i].heldout.line, what,
			 r->files[leak[i].train.file], leak[i].train.line);
}

static int find_format(const struct data_format **out, const char *name, struct err *e)
{
	char list[256] = "";
	for (int i = 0; i < FORMATS; i++) {
		if (!strcmp(formats[i]->info.name, name)) {
			*out = formats[i];
			return 0;
		}
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", formats[i]->info.name);
	}
	return err_set(e, ERR_FORMAT, "there is no data format '%s'; there are %s", name, list);
}

int data_read(const struct data_options *o, struct data_report *report, struct err *e)
{
	struct data_reader r = {.o = o, .report = report, .e = e};
	size_t n = o->train_count + o->heldout_count;
	int rc = 0;
	memset(report, 0, sizeof *report);
	TRY(find_format(&r.format, o->format, e));
	if (o->share > 0 && o->heldout_count) TRY(err_set(e, ERR_RANGE, "held-out files and a held-out share exclude each other"));
	const char **files = calloc(n + 1, sizeof *files);
	CHECK(files, "out of memory for %zu file names", n);
	for (size_t i = 0; i < n; i++) files[i] = i < o->train_count ? o->train[i] : o->heldout[i - o->train_count];
	r.files = files;
	r.arena = arena_open(0);
	r.seen_prompts = data_seen_open();
	r.seen_completions = data_seen_open();
	r.seen_records = data_seen_open();
	for (r.file = 0; r.file < n && rc == 0; r.file++) {
		r.side = r.file < o->train_count ? DATA_TRAIN : DATA_HELDOUT;
		rc = read_one(&r, files[r.file]);
	}
	fill_report(&r);
	data_seen_close(r.seen_prompts);
	data_seen_close(r.seen_completions);
	data_seen_close(r.seen_records);
	arena_close(r.arena);
	free(files);
out:
	return rc;
}
