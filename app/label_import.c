/* `tenfold label import`: a campaign with labels from a file. jsonl, label-studio
 * and argilla that `label export` wrote come back whole; of others the rankings are
 * read. hh, trl and csv go through the readers of store/data.h. */
#include "app/label.h"
#include "app/options.h"
#include "app/web/campaign.h"
#include "core/base/fs.h"
#include "store/data.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT_MIB = 1024 };

struct importing {
	struct labels *l;
	int64_t campaign, items, labels;
	json_t *people;
	const char *path;
	int table; /* csv */
};

static int put(struct importing *m, json_t *record, const char *where, struct err *e)
{
	int rc = label_record_put(m->l, m->campaign, record, m->people, where, &m->labels, e);
	m->items += rc == 0;
	return rc;
}

/* One ranking as a label of ours; ranks: by candidate, 1 the best. */
static json_t *ranking(const char *person, json_t *ranks)
{
	json_t *shown = json_array();
	size_t n = json_array_size(ranks);
	int tie = n > 0;
	for (size_t i = 0; i < n; i++) {
		json_array_append_new(shown, json_integer((json_int_t)i));
		tie &= json_integer_value(json_array_get(ranks, i)) == 1;
	}
	return json_pack("{s:s,s:i,s:o,s:s,s:o,s:s}", "person", person, "kind", n == 2 ? LABELS_DUEL : LABELS_ORDER, "shown", shown, "outcome", tie ? "tie" : "ranked", "ranks",
		ranks, "design", "imported");
}

/* ---- files of pairs ---- */

/* Without the apostrophe that keeps a spreadsheet from running a cell as a formula. */
static const char *cell(const struct importing *m, const char *text)
{
	return m->table && text[0] == '\'' && text[1] && strchr("=+-@\t\r'", text[1]) ? text + 1 : text;
}

/* A number of a label as a table has it; left as it is where it has none. */
static int number(const char *text, const char *what, const char *where, json_int_t *out, struct err *e)
{
	char *end = NULL;
	if (!text || !text[0]) return 0;
	*out = strtol(text, &end, 10);
	return *end || *out < 0 || *out > 1000 ? err_set(e, ERR_FORMAT, "%s: the %s is '%.40s', not a whole number from 0 to 1000; --columns leaves it out", where, what, text) : 0;
}

static int take_record(void *ctx, const struct data_record *r, struct err *e)
{
	struct importing *m = ctx;
	char where[PATH_MAX + 40];
	json_int_t strength = 0, criterion = 0;
	int ranked = 1;
	if (r->kind != DATA_GROUP) return 0;
	snprintf(where, sizeof where, "%s line %llu", r->file, (unsigned long long)r->line);
	int rc = number(r->strength, "strength", where, &strength, e);
	if (rc == 0) rc = number(r->criterion, "criterion", where, &criterion, e);
	if (rc < 0) return rc;
	json_t *candidates = json_array(), *ranks = json_array();
	for (uint32_t i = 0; i < r->count; i++) {
		json_array_append_new(candidates, json_string(cell(m, r->completion[i])));
		json_array_append_new(ranks, json_integer(r->rank[i]));
		ranked &= r->rank[i] > 0;
	}
	json_t *labels = json_array();
	if (ranked) {
		json_t *label = ranking(r->person && r->person[0] ? cell(m, r->person) : "imported", ranks);
		json_object_set_new(label, "strength", json_integer(strength));
		json_object_set_new(label, "criterion", json_integer(criterion));
		json_array_append_new(labels, label);
	} else json_decref(ranks);
	json_t *record = json_pack("{s:s,s:o,s:o}", "prompt", cell(m, r->prompt), "candidates", candidates, "labels", labels);
	rc = record ? put(m, record, where, e) : err_set(e, ERR_FORMAT, "%s: not valid text", where);
	json_decref(record);
	return rc;
}

static int read_pairs(struct importing *m, const char *format, const char *columns, struct err *e)
{
	struct data_report *report = calloc(1, sizeof *report);
	struct data_options o = {.format = format, .columns = columns, .train = &m->path, .train_count = 1, .bad_limit = 0, .on_record = take_record, .ctx = m};
	m->table = !strcmp(format, "csv");
	int rc = report ? data_read(&o, report, e) : err_set(e, ERR_MEMORY, "no memory to read %s", m->path);
	free(report);
	return rc;
}

/* ---- Label Studio, Argilla ---- */

/* Ranks by candidate from a list of ids ("0", "1" …), best first; NULL when it is not one of all candidates. */
static json_t *ranks_of_order(const json_t *order, const json_t *items)
{
	size_t n = json_array_size(items), i, k;
	json_t *ranks = json_array(), *item;
	json_array_foreach((json_t *)items, i, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));
		for (k = 0; k < n; k++)
			if (id && json_is_string(json_array_get(order, k)) && !strcmp(json_string_value(json_array_get(order, k)), id)) break;
		if (k < n) json_array_append_new(ranks, json_integer((json_int_t)k + 1));
	}
	if (json_array_size(ranks) == n && n > 1) return ranks;
	json_decref(ranks);
	return NULL;
}

/* Pairwise ("selected": left or right) or ranker. */
static json_t *from_studio(const json_t *task)
{
	const json_t *data = json_object_get(task, "data"), *items = json_object_get(data, "items");
	const char *prompt = json_string_value(json_object_get(data, "prompt"));
	json_t *candidates = json_array(), *labels = json_array(), *a;
	size_t i;
	if (items)
		for (i = 0; i < json_array_size(items); i++) json_array_append(candidates, json_object_get(json_array_get(items, i), "body"));
	else {
		json_array_append(candidates, json_object_get(data, "answer1"));
		json_array_append(candidates, json_object_get(data, "answer2"));
	}
	json_array_foreach(json_object_get(task, "annotations"), i, a)
	{
		const json_t *value = json_object_get(json_array_get(json_object_get(a, "result"), 0), "value"), *order = json_object_get(value, "ranker");
		const char *selected = json_string_value(json_object_get(value, "selected"));
		json_t *ranks = order ? ranks_of_order(json_is_array(order) ? order : json_object_get(order, "rank"), items) : NULL;
		char person[32];
		const json_t *by = json_object_get(a, "completed_by");
		snprintf(person, sizeof person, "%lld", (long long)json_integer_value(json_is_object(by) ? json_object_get(by, "id") : by));
		if (selected) ranks = !strcmp(selected, "left") ? json_pack("[i,i]", 1, 2) : json_pack("[i,i]", 2, 1);
		if (ranks) json_array_append_new(labels, ranking(person, ranks));
	}
	return json_pack("{s:s,s:o,s:o}", "prompt", prompt ? prompt : "", "candidates", candidates, "labels", labels);
}

/* fields "prompt" (or "instruction") and the responses; rankings of {"value", "rank"}. */
static json_t *from_argilla(const json_t *record)
{
	json_t *fields = json_object_get(record, "fields"), *candidates = json_array(), *names = json_array(), *labels = json_array(), *v, *r;
	const char *name, *question;
	json_t *prompt = json_object_get(fields, "prompt"), *list;
	size_t i, k;
	if (!prompt) prompt = json_object_get(fields, "instruction");
	json_object_foreach(fields, name, v)
	{
		if (v == prompt || !json_is_string(v)) continue;
		json_array_append(candidates, v);
		json_array_append_new(names, json_string(name));
	}
	json_object_foreach(json_object_get(record, "responses"), question, list)
	{
		json_array_foreach(list, i, r)
		{
			json_t *value = json_object_get(r, "value"), *ranks = json_array();
			const char *person = json_string_value(json_object_get(r, "user_id"));
			for (k = 0; k < json_array_size(names); k++)
				for (size_t j = 0; j < json_array_size(value); j++) {
					json_t *one = json_array_get(value, j);
					if (json_equal(json_object_get(one, "value"), json_array_get(names, k))) json_array_append(ranks, json_object_get(one, "rank"));
				}
			if (json_array_size(ranks) == json_array_size(names)) json_array_append_new(labels, ranking(person ? person : "unknown", ranks));
			else json_decref(ranks);
		}
	}
	json_decref(names);
	return json_pack("{s:O,s:o,s:o}", "prompt", prompt ? prompt : json_null(), "candidates", candidates, "labels", labels);
}

static int read_list(struct importing *m, const char *format, struct err *e)
{
	json_error_t why;
	size_t i;
	json_t *list = json_load_file(m->path, JSON_ALLOW_NUL, &why), *one;
	int rc = 0, studio = !strcmp(format, "label-studio");
	if (!list || !json_is_array(list)) rc = err_set(e, ERR_FORMAT, "%s is not a JSON list: %s", m->path, list ? "it begins otherwise" : why.text);
	if (rc == 0)
		json_array_foreach(list, i, one)
		{
			char where[PATH_MAX + 40];
			json_t *whole = json_object_get(json_object_get(one, studio ? "meta" : "metadata"), "tenfold");
			json_t *record = whole ? json_incref(whole) : studio ? from_studio(one) : from_argilla(one);
			snprintf(where, sizeof where, "%s record %zu", m->path, i + 1);
			rc = record ? put(m, record, where, e) : err_set(e, ERR_FORMAT, "%s: it has no prompt and candidates", where);
			json_decref(record);
			if (rc < 0) break;
		}
	json_decref(list);
	return rc;
}

static int read_lines(struct importing *m, struct err *e)
{
	char *data = NULL, where[PATH_MAX + 40];
	size_t bytes = 0;
	int64_t line = 0;
	int rc = fs_read(m->path, (size_t)FILE_LIMIT_MIB << 20, &data, &bytes, e);
	for (char *at = data; rc == 0 && at < data + bytes;) {
		size_t k = strcspn(at, "\n");
		json_error_t why;
		snprintf(where, sizeof where, "%s line %lld", m->path, (long long)++line);
		if (strspn(at, " \t\r") < k) {
			json_t *j = json_loadb(at, k, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
			rc = j ? put(m, j, where, e) : err_set(e, ERR_FORMAT, "%s: %s", where, why.text);
			json_decref(j);
		}
		at += k + 1;
	}
	free(data);
	return rc;
}

static int read_file(struct importing *m, const char *format, const char *columns, struct err *e)
{
	if (!strcmp(format, "jsonl")) return read_lines(m, e);
	if (!strcmp(format, "label-studio") || !strcmp(format, "argilla")) return read_list(m, format, e);
	if (!strcmp(format, "hh") || !strcmp(format, "trl") || !strcmp(format, "csv")) return read_pairs(m, format, columns, e);
	return err_set(e, ERR_RANGE, "--format takes jsonl, csv, hh, trl, label-studio or argilla, not '%.40s'", format);
}

int label_import(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	const char *name = NULL, *format = "jsonl", *columns = NULL;
	struct campaign_options defaults;
	struct importing m = {0};
	char *options = NULL;
	const struct option table[] = {
		{"from", OPTION_TEXT, &m.path, "FILE", "The file."},
		{"name", OPTION_TEXT, &name, "NAME", "Name of the new campaign."},
		{"format", OPTION_TEXT, &format, "FORMAT", "jsonl, csv, hh, trl (plain or conversational), label-studio, argilla."},
		{"columns", OPTION_TEXT, &columns, "ROLE=COLUMN,…", "Of csv, as in docs/data.md; default: from the header."},
	};
	const struct options_use use = {.line = "label import DIR --name NAME --from FILE [--format FORMAT]",
		.about = "Makes a paused campaign of prompts, candidates and labels of another program. All or nothing.", .table = table, .count = 4, .at_least = 1, .at_most = 1};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!name || !m.path) return err_set(e, ERR_FORMAT, "--name and --from are needed");
	campaign_defaults(&defaults);
	json_t *j = campaign_write(&defaults);
	options = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	m.people = json_object();
	TRY(label_open(&m.l, rest.item[0], 1, e));
	TRY(labels_begin(m.l, e));
	rc = labels_campaign_put(m.l, name, options, "Imported.", &m.campaign, e);
	if (rc == 0) rc = labels_campaign_state(m.l, m.campaign, "paused", e);
	if (rc == 0) rc = read_file(&m, format, columns, e);
	if (rc == 0 && m.items == 0) rc = err_set(e, ERR_RANGE, "%s has nothing to import", m.path);
	rc = labels_end(m.l, rc, e);
	if (rc == 0) printf("campaign %lld '%s': %lld prompts, %lld labels\n", (long long)m.campaign, name, (long long)m.items, (long long)m.labels);
out:
	free(options);
	json_decref(m.people);
	labels_close(m.l);
	return rc;
}
