/* Our own layout, one JSON object a line, written by data_write and read here to
 * the same record:
 *
 *   {"prompt": "…"}                                     a prompt
 *   {"prompt": "…", "completion": "…"}                  an example
 *   {"prompt": "…", "completions": ["…", …], "ranks": [1, 2, …], "margins": [0.5, …]}
 *   {"text": "…"}
 *
 * ranks: by completion, 1 is best, equal numbers tie and the next ones are left
 * out (1, 2, 2, 4), 0 is not ranked; margins: how much better each is than the
 * next, in the order of the ranking, null where unknown. Everywhere may stand
 * "answer", the number that a right completion ends with, and "key": records of
 * one key are on one side of a split. */
#include "store/data_internal.h"

#include "core/base/text.h"

#include <math.h>
#include <string.h>

/* What the ranks lack to be a ranking; NULL: nothing. */
static const char *ranks_fault(const uint8_t *rank, uint32_t n, uint32_t *ranked)
{
	uint32_t times[GROUP_MAX + 1] = {0};
	for (uint32_t i = 0; i < n; i++) times[rank[i]]++;
	*ranked = n - times[0];
	for (uint32_t k = 1, next = 1; k <= n; k++) {
		if (times[k] && k != next) return "\"ranks\" do not count as 1, 2, 2, 4 do";
		if (times[k]) next += times[k];
	}
	return *ranked < 2 ? "fewer than two completions are ranked" : NULL;
}

static const char *read_ranks(struct data_record *x, const json_t *ranks, uint32_t *ranked)
{
	if (json_array_size(ranks) != x->count) return "\"ranks\" is not a list with a number for each completion";
	for (uint32_t i = 0; i < x->count; i++) {
		const json_t *v = json_array_get(ranks, i);
		json_int_t k = json_integer_value(v);
		if (!json_is_integer(v) || k < 0 || k > (json_int_t)x->count) return "a rank is not a number from 0 to the number of completions";
		x->rank[i] = (uint8_t)k;
	}
	return ranks_fault(x->rank, x->count, ranked);
}

static const char *read_margins(struct data_record *x, const json_t *margins, uint32_t ranked)
{
	if (!margins) return NULL;
	if (json_array_size(margins) != ranked - 1) return "\"margins\" is not a list with one number less than there are ranks";
	for (uint32_t i = 0; i + 1 < ranked; i++) {
		const json_t *v = json_array_get(margins, i);
		if (!json_is_number(v) && !json_is_null(v)) return "a margin is neither a number nor null";
		x->margin[i] = json_is_null(v) ? NAN : json_number_value(v);
		if (x->margin[i] < 0) return "a margin is below 0";
	}
	x->has_margins = 1;
	return NULL;
}

static int take_group(struct data_reader *r, const json_t *j, struct data_record *x, const json_t *list)
{
	uint32_t ranked = 0;
	size_t n = json_array_size(list);
	if (n < 2 || n > GROUP_MAX) return data_bad(r, "\"completions\" is not a list of 2 to 64 texts", NULL);
	x->kind = DATA_GROUP;
	x->count = (uint32_t)n;
	for (size_t i = 0; i < n; i++) {
		x->completion[i] = json_string_value(json_array_get(list, i));
		if (!x->completion[i]) return data_bad(r, "\"completions\" is not a list of 2 to 64 texts", NULL);
	}
	const char *fault = read_ranks(x, json_object_get(j, "ranks"), &ranked);
	if (!fault) fault = read_margins(x, json_object_get(j, "margins"), ranked);
	return fault ? data_bad(r, fault, NULL) : data_emit(r, x);
}

static int take(struct data_reader *r, const json_t *j)
{
	const char *text = json_is_string(j) ? NULL : data_member(j, "text");
	const json_t *completions = json_object_get(j, "completions"), *completion = json_object_get(j, "completion");
	struct data_record x = {.kind = DATA_PROMPT, .prompt = json_is_string(j) ? json_string_value(j) : data_member(j, "prompt"),
				.answer = data_member(j, "answer"), .key = data_member(j, "key")};
	if (text && !x.prompt) {
		x = (struct data_record){.kind = DATA_TEXT, .prompt = "", .count = 1, .completion = {text}, .key = x.key};
		return data_emit(r, &x);
	}
	if (!x.prompt || !x.prompt[0]) return data_bad(r, "it has no text \"prompt\"", NULL);
	if (completions) return take_group(r, j, &x, completions);
	if (completion) {
		x.kind = DATA_EXAMPLE;
		x.count = 1;
		x.completion[0] = json_string_value(completion);
		if (!x.completion[0]) return data_bad(r, "\"completion\" is not a text", NULL);
	}
	return data_emit(r, &x);
}

const struct data_format data_format_tenfold = {{"tenfold", "our own layout: {\"prompt\"}, with \"completion\" or \"completions\" and \"ranks\", or {\"text\"}"},
						.take_json = take};

/* ---- writing ---- */

static int put(json_t *j, const char *name, json_t *value)
{
	return json_object_set_new(j, name, value);
}

static int put_group(json_t *j, const struct data_record *x)
{
	json_t *texts = json_array(), *ranks = json_array();
	uint32_t ranked = 0;
	int bad = 0;
	for (uint32_t i = 0; i < x->count; i++) {
		bad |= json_array_append_new(texts, json_string(x->completion[i]));
		bad |= json_array_append_new(ranks, json_integer(x->rank[i]));
		ranked += x->rank[i] > 0;
	}
	bad |= put(j, "completions", texts) | put(j, "ranks", ranks);
	if (!x->has_margins) return bad;
	json_t *margins = json_array();
	for (uint32_t i = 0; i + 1 < ranked; i++) bad |= json_array_append_new(margins, isfinite(x->margin[i]) ? json_real(x->margin[i]) : json_null());
	return bad | put(j, "margins", margins);
}

int data_write(FILE *f, const struct data_record *x, struct err *e)
{
	json_t *j = json_object();
	int bad = 0;
	if (x->kind == DATA_TEXT) bad |= put(j, "text", json_string(x->completion[0]));
	else bad |= put(j, "prompt", json_string(x->prompt));
	if (x->kind == DATA_EXAMPLE) bad |= put(j, "completion", json_string(x->completion[0]));
	if (x->kind == DATA_GROUP) bad |= put_group(j, x);
	if (x->answer) bad |= put(j, "answer", json_string(x->answer));
	if (x->key) bad |= put(j, "key", json_string(x->key));
	char *line = bad ? NULL : json_dumps(j, JSON_PRESERVE_ORDER);
	json_decref(j);
	if (!line) return err_set(e, ERR_MEMORY, "no memory for a line of the data set");
	int failed = fputs(line, f) < 0 || fputc('\n', f) < 0;
	free(line);
	return failed ? err_set(e, ERR_IO, "cannot write the data set: disk full?") : 0;
}
