/* Reads a run for the report; see report.h for the form. Numbers that are not
 * finite become null; text is cut to what a page can show and cleaned to UTF-8.
 * How much is taken is bounded: groups from the first and the last step, expert
 * counts from a few dozen steps, the last EVENTS events. */
#include "app/report.h"
#include "app/report_parts.h"
#include "app/run_folder.h"
#include "core/base/fs.h"
#include "core/base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 300, TEXT_LIMIT = 4000, CONFIG_LIMIT = 100000, SUMMARY_LIMIT = 1 << 20 };

json_t *report_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

json_t *report_text_to(const char *text, size_t limit)
{
	size_t n = text ? strlen(text) : 0;
	char *out = malloc(limit + 8);
	if (!out) return NULL;
	size_t taken = text_clean(text ? text : "", n, out, limit);
	if (taken < n) strcat(out, "…");
	json_t *j = json_string(out);
	free(out);
	return j;
}

json_t *report_text(const char *text)
{
	return report_text_to(text, TEXT_LIMIT);
}

int report_memory(struct err *e)
{
	return err_set(e, ERR_MEMORY, "no memory for the report");
}

struct load {
	json_t *run, *stages, *stage, *curve;
	char stage_name[STORE_STAGE], metric_name[STORE_NAME];
	struct err *e;
};

static int on_run(void *ctx, const struct store_run *r)
{
	struct load *l = ctx;
	json_object_set_new(l->run, "run", report_text(r->name));
	json_object_set_new(l->run, "id", report_text(r->id));
	json_object_set_new(l->run, "seed", json_integer(r->seed));
	json_object_set_new(l->run, "fingerprint", report_text(r->fingerprint));
	json_object_set_new(l->run, "program", report_text(r->program));
	json_object_set_new(l->run, "time", report_number(r->time));
	json_object_set_new(l->run, "config", report_text_to(r->config, CONFIG_LIMIT));
	return 0;
}

/* Rows come by stage, name, step: a new stage or name opens a new object or curve. */
static int on_metric(void *ctx, const struct store_metric *m)
{
	struct load *l = ctx;
	if (!l->stage || strcmp(l->stage_name, m->stage)) {
		snprintf(l->stage_name, sizeof l->stage_name, "%s", m->stage);
		l->stage = json_pack("{s:o,s:{}}", "stage", report_text(m->stage), "metrics");
		if (json_array_append_new(l->stages, l->stage)) return report_memory(l->e);
		l->curve = NULL;
	}
	if (!l->curve || strcmp(l->metric_name, m->name)) {
		snprintf(l->metric_name, sizeof l->metric_name, "%s", m->name);
		l->curve = json_pack("[[],[]]");
		if (json_object_set_new(json_object_get(l->stage, "metrics"), m->name, l->curve)) return report_memory(l->e);
	}
	if (json_array_append_new(json_array_get(l->curve, 0), json_integer((json_int_t)m->step))) return report_memory(l->e);
	return json_array_append_new(json_array_get(l->curve, 1), report_number(m->value)) ? report_memory(l->e) : 0;
}

static int on_eval(void *ctx, const struct store_eval *v)
{
	struct load *l = ctx;
	json_t *j = json_pack("{s:o,s:I,s:o,s:I,s:o,s:o,s:o}", "stage", report_text(v->stage), "step", (json_int_t)v->step, "name",
		report_text(v->name), "n", (json_int_t)v->n, "value", report_number(v->value), "low", report_number(v->low), "high",
		report_number(v->high));
	return json_array_append_new(json_object_get(l->run, "evals"), j) ? report_memory(l->e) : 0;
}

static int on_event(void *ctx, const struct store_event *v)
{
	struct load *l = ctx;
	json_t *list = json_object_get(l->run, "events");
	json_t *j = json_pack("{s:o,s:I,s:o,s:I,s:o}", "stage", report_text(v->stage), "step", (json_int_t)v->step, "kind",
		report_text(v->kind), "subject", (json_int_t)v->subject, "body", report_text(v->body));
	if (json_array_append_new(list, j)) return report_memory(l->e);
	if (json_array_size(list) > EVENTS) json_array_remove(list, 0);
	json_t *total = json_object_get(l->run, "events_total");
	json_integer_set(total, json_integer_value(total) + 1);
	return 0;
}

static int on_checkpoint(void *ctx, const struct store_checkpoint *c)
{
	struct load *l = ctx;
	json_t *j = json_pack("{s:o,s:I,s:I,s:o,s:o}", "stage", report_text(c->stage), "step", (json_int_t)c->step, "version",
		(json_int_t)c->version, "path", report_text(c->path), "hash", report_text(c->hash));
	return json_array_append_new(json_object_get(l->run, "checkpoints"), j) ? report_memory(l->e) : 0;
}

/* summary.json is written at the end of a run: none is fine, and one that is no JSON is said in its place. */
static int load_summary(const struct run_folder *r, json_t *run, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	size_t bytes = 0;
	int rc = run_folder_path(r, "summary.json", path, e);
	if (rc < 0) return rc;
	if (!fs_exists(path)) return 0;
	rc = fs_read(path, SUMMARY_LIMIT, &text, &bytes, e);
	if (rc < 0) return rc;
	json_error_t why;
	json_t *summary = json_loadb(text, bytes, 0, &why);
	free(text);
	if (!summary) summary = json_pack("{s:o}", "summary.json is not readable", report_text(why.text));
	return json_object_set_new(run, "summary", summary) ? report_memory(e) : 0;
}

/* Everything that is in the database. */
static int load_records(struct run_folder *r, json_t *run, struct err *e)
{
	struct load l = {.run = run, .stages = json_object_get(run, "stages"), .e = e};
	int rc = store_get_run(r->store, on_run, &l, e);
	if (rc == ERR_NOT_FOUND) rc = 0;
	TRY(rc);
	TRY(store_each_metric(r->store, NULL, NULL, on_metric, &l, e));
	TRY(store_each_eval(r->store, NULL, on_eval, &l, e));
	TRY(store_each_event(r->store, NULL, 0, on_event, &l, e));
	TRY(store_each_checkpoint(r->store, NULL, on_checkpoint, &l, e));
	TRY(report_load_groups(r->store, run, e));
out:
	return rc;
}

int report_load(const char *argument, json_t **out, struct err *e)
{
	struct run_folder r = {0};
	json_t *run = NULL;
	int rc = 0;
	TRY(run_folder_open(&r, argument, e));
	run = json_pack("{s:s,s:s,s:n,s:[],s:[],s:[],s:i,s:[],s:[],s:[]}", "name", r.name, "config", "", "summary", "stages", "evals", "events",
		"events_total", 0, "checkpoints", "groups", "loads");
	if (!run) {
		rc = report_memory(e);
		goto out;
	}
	TRY(load_summary(&r, run, e));
	TRY(load_records(&r, run, e));
	*out = run;
	run = NULL;
out:
	json_decref(run);
	run_folder_close(&r);
	return rc;
}
