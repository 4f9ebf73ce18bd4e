/* `tenfold label export`: labels in the forms that other programs read.
 *
 * jsonl loses nothing. label-studio and argilla hold the same object beside what
 * those programs show, so that it comes back whole; csv, hh and trl are pairs: each
 * answer gives the pairs that it decides (a quad five of six, not those between). */
#include "app/label.h"
#include "app/options.h"
#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>

struct exporting {
	struct labels *l;
	FILE *out;
	const char *format;
	json_t *people;
	int64_t labels, lines, items;
	struct err *e;
};

static void write_line(struct exporting *x, json_t *j)
{
	if (json_dumpf(j, x->out, JSON_COMPACT) == 0) fputc('\n', x->out);
	x->lines++;
	json_decref(j);
}

static const char *text_of(const json_t *record, size_t candidate)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(record, "candidates"), candidate), "text"));
}

/* A conversation as the dialogue of hh-rlhf; malloc'ed. */
static char *dialogue(const json_t *prompt)
{
	char *text = NULL;
	size_t bytes = 0, i;
	json_t *turn;
	if (json_is_string(prompt)) return strdup(json_string_value(prompt));
	FILE *f = open_memstream(&text, &bytes);
	if (!f) return NULL;
	json_array_foreach((json_t *)prompt, i, turn)
	{
		const char *role = json_string_value(json_object_get(turn, "role"));
		fprintf(f, "\n\n%s: %s", role && !strcmp(role, "assistant") ? "Assistant" : role && !strcmp(role, "user") ? "Human" : role ? role : "",
			json_string_value(json_object_get(turn, "content")));
	}
	fclose(f);
	return text;
}

/* The turn "\n\nHuman:", "\n\nAssistant:" or "\n\nSystem:" that begins here: its role, and where its text does; NULL: none. */
static const char *opening(const char *at, const char **text)
{
	static const char *const turns[][2] = {{"\n\nHuman:", "user"}, {"\n\nAssistant:", "assistant"}, {"\n\nSystem:", "system"}};
	for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
		if (!strncmp(at, turns[i][0], strlen(turns[i][0]))) return *text = at + strlen(turns[i][0]), turns[i][1];
	return NULL;
}

/* A dialogue of hh-rlhf as messages, which the reading of such messages makes the same text of (store/data_dialogue.c); an open
 * "\n\nAssistant:" at the end is none. NULL: it is no dialogue. */
static json_t *messages(const char *dialogue)
{
	json_t *list = json_array();
	const char *at, *next, *ignored, *role = opening(dialogue, &at);
	while (role && *at == ' ' && at[1]) {
		for (next = ++at; *next && !opening(next, &ignored);) next++;
		if (json_array_append_new(list, json_pack("{s:s,s:s%}", "role", role, "content", at, (size_t)(next - at)))) break;
		if (!*next) return list;
		role = opening(next, &at);
		if (!*at && !strcmp(role, "assistant")) return list;
	}
	json_decref(list);
	return NULL;
}

/* The answer to a dialogue that ends in "\n\nAssistant:", with further turns where it has them; to anything else, one message.
 * An answer of one blank is an empty one. */
static json_t *answer(const char *prompt, const char *text)
{
	size_t n = strlen(prompt), open = strlen("\n\nAssistant:");
	char *whole = NULL;
	json_t *list = NULL;
	if (n > open && !strcmp(prompt + n - open, "\n\nAssistant:")) {
		if (!strcmp(text, " ")) text++;
		else if (asprintf(&whole, "\n\nAssistant:%s", text) >= 0) list = messages(whole);
	}
	free(whole);
	return list ? list : json_pack("[{s:s,s:s}]", "role", "assistant", "content", text);
}

static void csv_cell(FILE *f, const char *text)
{
	fputc('"', f);
	if (*text && strchr("=+-@\t\r'", *text)) fputc('\'', f);
	for (; *text; text++) fprintf(f, *text == '"' ? "\"\"" : "%c", *text);
	fputc('"', f);
}

static void write_csv(struct exporting *x, const char *prompt, const char *a, const char *b, int tie, const json_t *label)
{
	const char *texts[] = {prompt, a, b};
	for (int i = 0; i < 3; i++) {
		csv_cell(x->out, texts[i]);
		fputc(',', x->out);
	}
	fprintf(x->out, "%s,%lld,%lld,", tie ? "tie" : "a", (long long)json_integer_value(json_object_get(label, "strength")),
		(long long)json_integer_value(json_object_get(label, "criterion")));
	csv_cell(x->out, json_string_value(json_object_get(label, "person")));
	fputs("\r\n", x->out);
	x->lines++;
}

static void write_pair(struct exporting *x, const json_t *record, const char *prompt, size_t better, size_t worse, int tie, const json_t *label)
{
	const char *a = text_of(record, better), *b = text_of(record, worse);
	const json_t *turns = json_object_get(record, "prompt");
	char *whole[2] = {NULL, NULL};
	if (!strcmp(x->format, "csv")) {
		write_csv(x, prompt, a, b, tie, label);
	} else if (tie) {
		return; /* these forms have no ties */
	} else if (!strcmp(x->format, "trl")) {
		write_line(x, json_pack("{s:s,s:s,s:s}", "prompt", prompt, "chosen", a, "rejected", b));
	} else if (!strcmp(x->format, "trl-chat")) {
		json_t *p = json_is_array(turns) ? json_copy((json_t *)turns) : messages(prompt);
		if (!p) p = json_pack("[{s:s,s:s}]", "role", "user", "content", prompt);
		write_line(x, json_pack("{s:o,s:o,s:o}", "prompt", p, "chosen", answer(prompt, a), "rejected", answer(prompt, b)));
	} else {
		int is = !strncmp(prompt, "\n\nHuman: ", 9), begun = is && strlen(prompt) > 12 && !strcmp(prompt + strlen(prompt) - 12, "\n\nAssistant:");
		const char *sides[] = {a, b};
		int ok = 1;
		for (int i = 0; i < 2; i++)
			ok &= asprintf(&whole[i], "%s%s%s%s%s", is ? "" : "\n\nHuman: ", prompt, begun ? "" : "\n\nAssistant:", *sides[i] == ' ' || begun ? "" : " ", sides[i]) >= 0;
		if (ok) write_line(x, json_pack("{s:s,s:s}", "chosen", whole[0], "rejected", whole[1]));
		free(whole[0]);
		free(whole[1]);
	}
}

static void write_pairs(struct exporting *x, const json_t *record)
{
	size_t k;
	json_t *label;
	char *prompt = dialogue(json_object_get(record, "prompt"));
	json_array_foreach(json_object_get(record, "labels"), k, label)
	{
		const json_t *shown = json_object_get(label, "shown"), *ranks = json_object_get(label, "ranks");
		int best_worst = json_integer_value(json_object_get(label, "kind")) == LABELS_BEST_WORST;
		size_t n = json_array_size(ranks);
		for (size_t i = 0; prompt && i < n; i++) {
			for (size_t j = i + 1; j < n; j++) {
				json_int_t a = json_integer_value(json_array_get(ranks, i)), b = json_integer_value(json_array_get(ranks, j));
				if (best_worst && a == 2 && b == 2) continue;
				size_t p = (size_t)json_integer_value(json_array_get(shown, i)), q = (size_t)json_integer_value(json_array_get(shown, j));
				write_pair(x, record, prompt, a <= b ? p : q, a <= b ? q : p, a == b, label);
			}
		}
	}
	free(prompt);
}

/* ---- Label Studio and Argilla ---- */

/* Candidates of a label, best first; those of equal rank in the order shown. */
static size_t best_first(const json_t *label, size_t order[GROUP_MAX])
{
	const json_t *shown = json_object_get(label, "shown"), *ranks = json_object_get(label, "ranks");
	size_t n = json_array_size(ranks), at = 0;
	for (json_int_t r = 1; r <= GROUP_MAX; r++)
		for (size_t i = 0; i < n; i++)
			if (json_integer_value(json_array_get(ranks, i)) == r) order[at++] = (size_t)json_integer_value(json_array_get(shown, i));
	return at;
}

static json_t *studio(struct exporting *x, json_t *record)
{
	char *prompt = dialogue(json_object_get(record, "prompt")), id[16];
	json_t *items = json_array(), *annotations = json_array(), *label;
	size_t k, order[GROUP_MAX], n = json_array_size(json_object_get(record, "candidates"));
	for (size_t i = 0; i < n; i++) {
		snprintf(id, sizeof id, "%zu", i);
		json_array_append_new(items, json_pack("{s:s,s:s,s:s}", "id", id, "title", "", "body", text_of(record, i)));
	}
	json_array_foreach(json_object_get(record, "labels"), k, label)
	{
		json_t *rank = json_array();
		size_t count = best_first(label, order);
		for (size_t i = 0; i < count; i++) json_array_append_new(rank, json_sprintf("%zu", order[i]));
		json_array_append_new(annotations, json_pack("{s:o,s:{s:s},s:[{s:s,s:s,s:s,s:{s:o}}]}", "was_cancelled", json_boolean(count == 0), "completed_by", "email",
			json_string_value(json_object_get(label, "person")), "result", "from_name", "rank", "to_name", "items", "type", "ranker", "value", "ranker", rank));
	}
	json_t *j = json_pack("{s:I,s:{s:s,s:o},s:{s:O},s:o}", "id", (json_int_t)++x->items, "data", "prompt", prompt ? prompt : "", "items", items, "meta", "tenfold",
		record, "annotations", annotations);
	free(prompt);
	return j;
}

static json_t *argilla(struct exporting *x, json_t *record)
{
	char *prompt = dialogue(json_object_get(record, "prompt")), name[32];
	json_t *fields = json_pack("{s:s}", "prompt", prompt ? prompt : ""), *responses = json_array(), *label;
	size_t k, n = json_array_size(json_object_get(record, "candidates"));
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof name, "response-%zu", i + 1);
		json_object_set_new(fields, name, json_string(text_of(record, i)));
	}
	json_array_foreach(json_object_get(record, "labels"), k, label)
	{
		const json_t *shown = json_object_get(label, "shown"), *ranks = json_object_get(label, "ranks");
		json_t *value = json_array();
		for (size_t i = 0; i < json_array_size(ranks); i++)
			json_array_append_new(value, json_pack("{s:o,s:I}", "value", json_sprintf("response-%lld", (long long)json_integer_value(json_array_get(shown, i)) + 1),
				"rank", json_integer_value(json_array_get(ranks, i))));
		json_array_append_new(responses, json_pack("{s:s,s:s,s:o}", "user_id", json_string_value(json_object_get(label, "person")), "status",
			json_array_size(value) ? "submitted" : "discarded", "value", value));
	}
	free(prompt);
	return json_pack("{s:o,s:o,s:{s:o},s:{s:O}}", "id", json_sprintf("%lld", (long long)++x->items), "fields", fields, "responses", "ranking", responses, "metadata",
		"tenfold", record);
}

static int write_item(void *ctx, const struct labels_item *it)
{
	struct exporting *x = ctx;
	json_t *record = NULL;
	int64_t labels;
	int rc = label_record(x->l, it->item, x->people, &record, &labels, x->e);
	if (rc < 0) return rc;
	x->labels += labels;
	int studio_form = !strcmp(x->format, "label-studio"), argilla_form = !strcmp(x->format, "argilla");
	if (!strcmp(x->format, "jsonl")) write_line(x, json_incref(record));
	else if (studio_form || argilla_form) {
		fputs(x->items ? ",\n" : "[\n", x->out);
		json_t *j = studio_form ? studio(x, record) : argilla(x, record);
		json_dumpf(j, x->out, JSON_COMPACT);
		x->lines++;
		json_decref(j);
	} else write_pairs(x, record);
	json_decref(record);
	return 0;
}

static int write_all(struct exporting *x, int64_t campaign)
{
	if (!strcmp(x->format, "csv")) fputs("prompt,a,b,label,strength,criterion,person\r\n", x->out);
	int rc = labels_each_item(x->l, campaign, write_item, x, x->e);
	if (!strcmp(x->format, "label-studio") || !strcmp(x->format, "argilla")) fputs(x->items ? "\n]\n" : "[]\n", x->out);
	return rc;
}

int label_export(int argc, char **argv, struct err *e)
{
	static const char *const formats[] = {"jsonl", "csv", "hh", "trl", "trl-chat", "label-studio", "argilla", "hours"};
	struct option_list rest;
	const char *name = NULL, *format = "jsonl", *out = NULL;
	char *text = NULL;
	size_t bytes = 0;
	int64_t campaign = 0;
	struct exporting x = {.e = e};
	const struct option table[] = {
		{"name", OPTION_TEXT, &name, "NAME", "Campaign; default: all."},
		{"format", OPTION_TEXT, &format, "FORMAT", "jsonl (loses nothing), csv, hh, trl, trl-chat, label-studio, argilla; hours: CSV of people."},
		{"out", OPTION_TEXT, &out, "FILE", "File to write; default: standard output."},
	};
	const struct options_use use = {.line = "label export DIR [--name NAME] [--format FORMAT] [--out FILE]",
		.about = "Writes the labels that count. Works while the server runs.", .table = table, .count = 3, .at_least = 1, .at_most = 1};
	int rc = options_parse(&use, argc, argv, &rest, e), known = 0;
	if (rc) return rc < 0 ? rc : 0;
	for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) known |= !strcmp(formats[i], format);
	if (!known) return err_set(e, ERR_RANGE, "--format takes jsonl, csv, hh, trl, trl-chat, label-studio, argilla or hours, not '%.40s'", format);
	TRY(label_open(&x.l, rest.item[0], 0, e));
	if (name) TRY(labels_campaign_find(x.l, name, &campaign, e));
	if (campaign < 0) {
		rc = err_set(e, ERR_NOT_FOUND, "there is no campaign '%s' in %s", name, rest.item[0]);
		goto out;
	}
	x.format = format;
	x.people = json_object();
	x.out = open_memstream(&text, &bytes);
	if (!x.out) {
		rc = err_set(e, ERR_MEMORY, "no memory for the export");
		goto out;
	}
	rc = !strcmp(format, "hours") ? labels_export_hours(x.l, campaign, x.out, e) : write_all(&x, campaign);
	if (fclose(x.out) != 0 && rc == 0) rc = err_set(e, ERR_MEMORY, "no memory for the export");
	if (rc < 0) goto out;
	if (out) TRY(fs_write_atomic(out, text, bytes, e));
	else if (fwrite(text, 1, bytes, stdout) != bytes) rc = err_set(e, ERR_IO, "cannot write to the standard output");
	fprintf(stderr, "%lld labels, %lld lines\n", (long long)x.labels, (long long)x.lines);
out:
	free(text);
	json_decref(x.people);
	labels_close(x.l);
	return rc;
}
