/* Reports of data sets; see data_report.h. */
#include "app/data_report.h"

#include <jansson.h>

static const char *const kinds[DATA_KINDS] = {"prompts", "examples", "groups", "texts"};

static unsigned long long u(uint64_t v)
{
	return (unsigned long long)v;
}

static void print_side(FILE *f, const char *prefix, const char *name, const struct data_count *c)
{
	uint64_t all = 0;
	for (int k = 0; k < DATA_KINDS; k++) all += c->records[k];
	fprintf(f, "%s%s: %llu records", prefix, name, u(all));
	for (int k = 0; k < DATA_KINDS; k++)
		if (c->records[k]) fprintf(f, ", %llu %s", u(c->records[k]), kinds[k]);
	fprintf(f, "; %llu completions or texts\n", u(c->completions));
}

static void print_shown(FILE *f, const char *prefix, const char shown[DATA_SHOWN][DATA_PLACE], uint64_t count)
{
	for (uint64_t i = 0; i < DATA_SHOWN && i < count; i++) fprintf(f, "%s  %s\n", prefix, shown[i]);
	if (count > DATA_SHOWN) fprintf(f, "%s  …\n", prefix);
}

void data_report_print(FILE *f, const char *prefix, const struct data_report *r)
{
	print_side(f, prefix, "train", &r->side[DATA_TRAIN]);
	print_side(f, prefix, "held out", &r->side[DATA_HELDOUT]);
	fprintf(f, "%s%llu bad records\n", prefix, u(r->bad));
	for (int i = 0; i < DATA_REASONS && r->reason[i].what; i++) fprintf(f, "%s  %llu: %s\n", prefix, u(r->reason[i].count), r->reason[i].what);
	print_shown(f, prefix, r->bad_shown, r->bad);
	fprintf(f, "%s%llu duplicates; %llu different prompts, %llu of them in several records\n", prefix, u(r->duplicates), u(r->prompts), u(r->prompts_repeated));
	fprintf(f, "%son both sides: %llu prompts, %llu completions, %llu whole records\n", prefix, u(r->leaked_prompts), u(r->leaked_completions),
		u(r->leaked_records));
	print_shown(f, prefix, r->leak_shown, r->leaked_prompts ? r->leaked_prompts : r->leaked_completions);
	if (r->notes) fprintf(f, "%s%llu groups part before the last answer: their completions hold further turns\n", prefix, u(r->notes));
}

static json_t *shown_json(const char shown[DATA_SHOWN][DATA_PLACE], uint64_t count)
{
	json_t *list = json_array();
	for (uint64_t i = 0; i < DATA_SHOWN && i < count; i++) json_array_append_new(list, json_string(shown[i]));
	return list;
}

static json_t *side_json(const struct data_count *c)
{
	json_t *j = json_object();
	for (int k = 0; k < DATA_KINDS; k++) json_object_set_new(j, kinds[k], json_integer((json_int_t)c->records[k]));
	json_object_set_new(j, "completions", json_integer((json_int_t)c->completions));
	return j;
}

struct json_t *data_report_json(const struct data_report *r)
{
	json_t *reasons = json_object();
	for (int i = 0; i < DATA_REASONS && r->reason[i].what; i++) json_object_set_new(reasons, r->reason[i].what, json_integer((json_int_t)r->reason[i].count));
	return json_pack("{s:o,s:o,s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:I}", "train", side_json(&r->side[DATA_TRAIN]), "heldout",
			 side_json(&r->side[DATA_HELDOUT]), "bad", (json_int_t)r->bad, "bad_reasons", reasons, "bad_shown", shown_json(r->bad_shown, r->bad), "duplicates",
			 (json_int_t)r->duplicates, "prompts", (json_int_t)r->prompts, "prompts_repeated", (json_int_t)r->prompts_repeated, "leaked_prompts",
			 (json_int_t)r->leaked_prompts, "leaked_completions", (json_int_t)r->leaked_completions, "leaked_records", (json_int_t)r->leaked_records,
			 "leaks_shown", shown_json(r->leak_shown, r->leaked_prompts ? r->leaked_prompts : r->leaked_completions), "further_turns", (json_int_t)r->notes);
}
