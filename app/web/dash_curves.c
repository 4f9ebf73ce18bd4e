/* The dashboard's list and curves: what a page draws, from the step on that it does
 * not have yet. */
#include "app/web/dash.h"

#include "app/report_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOAD_COLUMNS = 240, EXPERTS_MAX = 4096 };

/* ---- the list ---- */

struct listing {
	json_t *list;
	const char *only; /* NULL: all */
};

static int add_run(void *ctx, const char *id, const char *folder)
{
	struct listing *a = ctx;
	struct err e = {0};
	json_t *run = NULL;
	if (a->only && strcmp(a->only, id)) return 0;
	/* one that cannot be read is said in its place: it does not hide the others */
	if (dash_run_json(id, folder, &run, &e) < 0) run = json_pack("{s:s,s:s,s:s,s:s,s:o,s:[]}", "run", id, "name", id, "group", id, "state", "unreadable", "why", report_text(e.msg), "stages");
	json_array_append_new(a->list, run);
	return 0;
}

/* ?run=: that one alone. */
static int on_runs(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct listing a = {json_array(), http_request_query(q, "run")};
	int rc = dash_each_run(w->dir, add_run, &a, e);
	if (rc < 0) json_decref(a.list);
	else http_reply_json(r, 200, json_pack("{s:o}", "runs", a.list));
	return rc;
}

/* ---- curves ---- */

struct curves {
	json_t *metrics, *evals;
	const char *names; /* ",a,b,"; NULL: all but the load of each expert */
	const char *stage;
	int64_t last;
	struct err *e;
};

static int wanted(const struct curves *a, const char *name)
{
	char key[STORE_NAME + 3];
	unsigned layer, expert;
	if (!a->names) return sscanf(name, "load/%u/%u", &layer, &expert) != 2;
	snprintf(key, sizeof key, ",%s,", name);
	return strstr(a->names, key) != NULL;
}

/* By step, name: so the last step may be seen in part only when it is being read, never in the file (one transaction). */
static int on_metric(void *ctx, const struct store_metric *m)
{
	struct curves *a = ctx;
	a->last = (int64_t)m->step;
	if (!wanted(a, m->name)) return 0;
	json_t *curve = json_object_get(a->metrics, m->name);
	if (!curve) {
		curve = json_pack("[[],[]]");
		if (json_object_set_new(a->metrics, m->name, curve)) return report_memory(a->e);
	}
	json_array_append_new(json_array_get(curve, 0), json_integer((json_int_t)m->step));
	return json_array_append_new(json_array_get(curve, 1), report_number(m->value)) ? report_memory(a->e) : 0;
}

static int on_eval(void *ctx, const struct store_eval *v)
{
	struct curves *a = ctx;
	json_t *j = json_pack("{s:o,s:I,s:o,s:I,s:o,s:o,s:o}", "stage", report_text(v->stage), "step", (json_int_t)v->step, "name", report_text(v->name), "n",
		(json_int_t)v->n, "value", report_number(v->value), "low", report_number(v->low), "high", report_number(v->high));
	return json_array_append_new(a->evals, j) ? report_memory(a->e) : 0;
}

static int on_id(void *ctx, const struct store_run *r)
{
	*(json_t **)ctx = report_text(r->id);
	return 0;
}

/* ?run, stage, from, names=a,b: {id, next, metrics: {name: [[step…], [value…]]}, evals: […]}; next: the `from` of the next
 * request; id changes when another run has taken the folder. */
static int on_curves(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct run_folder run = {0};
	struct curves a = {.metrics = json_object(), .evals = json_array(), .stage = dash_stage(q), .e = e};
	const char *names = http_request_query(q, "names");
	char list[4096];
	json_t *id = NULL;
	int64_t from;
	int rc;
	if (names && snprintf(list, sizeof list, ",%s,", names) >= (int)sizeof list) TRY(err_set(e, ERR_RANGE, "too many names"));
	a.names = names ? list : NULL;
	TRY(dash_number(q, "from", 0, &from, e));
	a.last = from - 1;
	TRY(dash_open(w, q, &run, e));
	rc = store_get_run(run.store, on_id, &id, e);
	if (rc == ERR_NOT_FOUND) rc = 0, id = json_string("");
	TRY(rc);
	TRY(store_each_step_metric(run.store, a.stage, (uint64_t)from, on_metric, &a, e));
	TRY(store_each_eval(run.store, NULL, on_eval, &a, e));
	http_reply_json(r, 200, json_pack("{s:O,s:I,s:O,s:O}", "id", id, "next", (json_int_t)a.last + 1, "metrics", a.metrics, "evals", a.evals));
out:
	json_decref(id);
	json_decref(a.metrics);
	json_decref(a.evals);
	run_folder_close(&run);
	return rc;
}

/* ---- the load of experts ---- */

struct load {
	json_t *steps, *rows;
	const char *stage;
	int64_t last, step, layer; /* newest step with metrics; the one that is read */
	long layers;
	int begun;                 /* it has a value of that layer */
	struct err *e;
};

static int find_last(void *ctx, const struct store_stage *r)
{
	struct load *a = ctx;
	if (!strcmp(r->stage, a->stage)) a->last = r->last_metric;
	return 0;
}

/* By step: what comes after the step ends the reading. */
static int on_load(void *ctx, const struct store_metric *m)
{
	struct load *a = ctx;
	unsigned layer, expert;
	if ((int64_t)m->step != a->step) return 1;
	if (sscanf(m->name, "load/%u/%u", &layer, &expert) != 2 || layer >= EXPERTS_MAX || expert >= EXPERTS_MAX) return 0;
	if ((long)layer >= a->layers) a->layers = (long)layer + 1;
	if ((int64_t)layer != a->layer) return 0;
	if (!a->begun) json_array_append_new(a->steps, json_integer((json_int_t)a->step));
	a->begun = 1;
	while (json_array_size(a->rows) <= expert)
		if (json_array_append_new(a->rows, json_array())) return report_memory(a->e);
	return json_array_append_new(json_array_get(a->rows, expert), report_number(m->value)) ? report_memory(a->e) : 0;
}

/* Of long runs every so many steps, the newest always: a picture has no more columns, and the rest is not even read. */
static int read_loads(struct store *s, struct load *a)
{
	int64_t stride = a->last / LOAD_COLUMNS + 1;
	for (a->step = a->last % stride; a->step <= a->last; a->step += stride) {
		a->begun = 0;
		int rc = store_each_step_metric(s, a->stage, (uint64_t)a->step, on_load, a, a->e);
		if (rc < 0) return rc;
	}
	return 0;
}

/* ?run, stage, layer: {layers, steps, rows: [experts][steps]}, relative to an even share. No rows: none is recorded. */
static int on_experts(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct run_folder run = {0};
	struct load a = {.steps = json_array(), .rows = json_array(), .stage = dash_stage(q), .last = -1, .e = e};
	int rc;
	TRY(dash_number(q, "layer", 0, &a.layer, e));
	TRY(dash_open(w, q, &run, e));
	TRY(store_each_stage(run.store, find_last, &a, e));
	TRY(read_loads(run.store, &a));
	http_reply_json(r, 200, json_pack("{s:i,s:O,s:O}", "layers", (int)a.layers, "steps", a.steps, "rows", a.rows));
out:
	json_decref(a.steps);
	json_decref(a.rows);
	run_folder_close(&run);
	return rc;
}

const struct http_route web_curve_routes[] = {
	{"GET", "/api/runs", WEB_OWNER, 0, on_runs, 0},
	{"GET", "/api/runs/curves", WEB_OWNER, 0, on_curves, 0},
	{"GET", "/api/runs/experts", WEB_OWNER, 0, on_experts, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
