/* Which runs there are, and how each is getting on; see dash.h. */
#include "app/web/dash.h"

#include "app/report.h"
#include "app/report_parts.h"
#include "app/run_config.h"
#include "core/base/config.h"
#include "core/base/fs.h"
#include "core/base/lock.h"
#include "core/base/text.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { DEPTH = 2, BETWEEN_SECONDS = 5, LOG_TAIL = 4096, LOG_LINES = 20, SUMMARY_LIMIT = 1 << 20 };

/* ---- folders ---- */

struct finding {
	char (*id)[DASH_ID];
	int count;
};

static int is_run(const char *dir, const char *id)
{
	char path[PATH_MAX];
	return snprintf(path, sizeof path, "%s/%s/run.db", dir, id) < PATH_MAX && fs_exists(path);
}

static void find_below(struct finding *f, const char *dir, const char *prefix, int depth)
{
	char path[PATH_MAX], id[DASH_ID];
	struct dirent *entry;
	if (snprintf(path, sizeof path, "%s/%s", dir, prefix) >= PATH_MAX) return;
	DIR *d = opendir(path);
	if (!d) return;
	while ((entry = readdir(d)) && f->count < DASH_RUNS_MAX) {
		const char *name = entry->d_name;
		size_t n = strlen(name);
		if (*name == '.' || text_malformed(name, n) < n || (entry->d_type != DT_DIR && entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)) continue;
		if (snprintf(id, sizeof id, "%s%s%s", prefix, *prefix ? "/" : "", name) >= DASH_ID) continue;
		if (is_run(dir, id)) strcpy(f->id[f->count++], id);
		else if (depth > 1) find_below(f, dir, id, depth - 1);
	}
	closedir(d);
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

int dash_each_run(const char *dir, int (*fn)(void *ctx, const char *id, const char *folder), void *ctx, struct err *e)
{
	struct finding f = {.id = malloc(DASH_RUNS_MAX * sizeof *f.id)};
	char folder[PATH_MAX];
	int rc = 0;
	if (!f.id) return err_set(e, ERR_MEMORY, "no memory for the list of runs");
	if (is_run(dir, ".")) strcpy(f.id[f.count++], ".");
	find_below(&f, dir, "", DEPTH);
	qsort(f.id, (size_t)f.count, sizeof *f.id, by_name);
	for (int i = 0; i < f.count && rc == 0; i++)
		if (snprintf(folder, sizeof folder, "%s/%s", dir, f.id[i]) < PATH_MAX) rc = fn(ctx, f.id[i], folder);
	free(f.id);
	return rc;
}

struct opening {
	const char *id;
	struct run_folder *r;
	struct err *e;
};

static int open_that(void *ctx, const char *id, const char *folder)
{
	struct opening *o = ctx;
	if (strcmp(id, o->id)) return 0;
	int rc = run_folder_open(o->r, folder, o->e);
	return rc < 0 ? rc : 1;
}

/* Only an id of the list opens anything, so there is no path to climb out of. */
int dash_open(struct web *w, const struct http_request *q, struct run_folder *r, struct err *e)
{
	struct opening o = {http_request_query(q, "run"), r, e};
	*r = (struct run_folder){0};
	if (!o.id) return err_set(e, ERR_RANGE, "which run? ?run= is missing");
	int rc = dash_each_run(w->dir, open_that, &o, e);
	if (rc == 0) return err_set(e, ERR_NOT_FOUND, "there is no run '%.100s'", o.id);
	return rc < 0 ? rc : 0;
}

int dash_number(const struct http_request *q, const char *name, int64_t otherwise, int64_t *n, struct err *e)
{
	const char *text = http_request_query(q, name);
	*n = otherwise;
	return text ? web_number(text, n, e) : 0;
}

const char *dash_stage(const struct http_request *q)
{
	const char *stage = http_request_query(q, "stage");
	return stage ? stage : "ppo";
}

/* ---- state ---- */

static json_t *read_summary(const char *folder)
{
	char path[PATH_MAX], *text = NULL;
	size_t bytes;
	struct err e;
	json_t *j = NULL;
	if (snprintf(path, sizeof path, "%s/summary.json", folder) >= PATH_MAX || fs_read(path, SUMMARY_LIMIT, &text, &bytes, &e) < 0) return json_object();
	j = json_loadb(text, bytes, 0, NULL);
	free(text);
	return json_is_object(j) ? j : (json_decref(j), json_object());
}

/* `tenfold run` writes the digest last; stages by hand leave their parts. */
static int is_finished(const json_t *summary, const struct config *c)
{
	char stages[CONFIG_STRING], *at = stages, *stage;
	int any = 0;
	if (json_is_string(json_object_get(summary, "digest"))) return 1;
	snprintf(stages, sizeof stages, "%s", c->run.stages);
	while ((stage = strsep(&at, ", "))) {
		if (!*stage) continue;
		if (!json_is_object(json_object_get(summary, stage))) return 0;
		any = 1;
	}
	return any;
}

/* The last of the log's last lines that is an error, into why; 0: none is. */
static int last_error(const char *folder, char *why, size_t bytes)
{
	char path[PATH_MAX], text[LOG_TAIL + 1], date[32], level[8], role[64];
	int found = 0, lines = 0, at;
	if (snprintf(path, sizeof path, "%s/log", folder) >= PATH_MAX) return 0;
	FILE *f = fopen(path, "r");
	if (!f) return 0;
	if (fseek(f, -LOG_TAIL, SEEK_END) != 0) rewind(f);
	size_t n = fread(text, 1, LOG_TAIL, f);
	fclose(f);
	while (n && text[n - 1] == '\n') n--;
	text[n] = 0;
	for (char *line = text + n; line > text && lines < LOG_LINES && !found; lines++) {
		while (line > text && line[-1] != '\n') line--;
		if (sscanf(line, "%31s %7s %63s %n", date, level, role, &at) == 3 && !strcmp(level, "error")) {
			text_clean(line + at, strlen(line + at), why, bytes);
			found = 1;
		}
		if (line > text) *--line = 0;
	}
	return found;
}

/* A lock whose owner has died still has the owner's name in it (lock.h: it is emptied when it is given back). */
static int lock_left(const char *folder)
{
	char path[PATH_MAX];
	struct stat st;
	return snprintf(path, sizeof path, "%s/lock", folder) < PATH_MAX && stat(path, &st) == 0 && st.st_size > 0;
}

static double changed_at(const char *folder)
{
	static const char *const names[] = {"run.db", "run.db-wal", "summary.json", "log"};
	char path[PATH_MAX];
	struct stat st;
	double last = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) < PATH_MAX && stat(path, &st) == 0) last = fmax(last, (double)st.st_mtim.tv_sec);
	return last;
}

static void put_state(json_t *run, const char *folder, const json_t *summary, const struct config *c)
{
	struct lock_owner owner = {0};
	struct err e;
	char why[512] = "";
	const char *state = "stopped";
	double changed = changed_at(folder);
	if (lock_query(folder, &owner, &e) == 1) state = "running";
	else if (is_finished(summary, c)) state = "finished";
	else if (last_error(folder, why, sizeof why)) state = "failed";
	else if (lock_left(folder)) {
		state = "failed";
		snprintf(why, sizeof why, "its process ended without a word: killed, or the machine went down");
	} else if (difftime(time(NULL), (time_t)changed) < BETWEEN_SECONDS) state = "between";
	json_object_set_new(run, "state", json_string(state));
	json_object_set_new(run, "why", report_text(why));
	json_object_set_new(run, "role", report_text(owner.role));
	json_object_set_new(run, "changed", json_real(changed));
}

/* ---- one row of the list ---- */

/* Runs that differ in the seed and in who computes are one experiment. */
static void put_group(json_t *run, const struct config *c)
{
	struct hash_stream *h = hash_stream_open();
	char value[CONFIG_STRING], hex[HASH_HEX];
	size_t n;
	const struct config_key *k = config_keys(&n);
	for (size_t i = 0; i < n; i++) {
		if (run_config_arrangement(k[i].name) || !strcmp(k[i].name, "run.seed")) continue;
		config_value(c, &k[i], value, sizeof value);
		hash_stream_add(h, value, strlen(value) + 1);
	}
	hash_stream_finish(h, hex);
	json_object_set_new(run, "group", json_string(hex));
}

struct row {
	json_t *run, *stages;
	char stage[STORE_STAGE];
	int64_t last;
	struct config *config;
	int known; /* the configuration could be read */
};

static int on_run(void *ctx, const struct store_run *r)
{
	struct row *a = ctx;
	struct err e;
	config_defaults(a->config);
	a->known = config_read_text(a->config, r->config, strlen(r->config), "stored configuration", &e) >= 0;
	json_object_set_new(a->run, "id", report_text(r->id));
	json_object_set_new(a->run, "seed", json_integer(r->seed));
	json_object_set_new(a->run, "time", report_number(r->time));
	if (*r->name) json_object_set_new(a->run, "name", report_text(r->name));
	return 0;
}

static int on_stage(void *ctx, const struct store_stage *r)
{
	struct row *a = ctx;
	json_array_append_new(a->stages, json_pack("{s:o,s:I,s:I}", "stage", report_text(r->stage), "last_step", (json_int_t)r->last_step, "last_metric",
		(json_int_t)r->last_metric));
	int64_t last = r->last_metric > r->last_step ? r->last_metric : r->last_step;
	if (last < 0 && !strcmp(r->stage, "eval")) return 0;
	snprintf(a->stage, sizeof a->stage, "%s", r->stage);
	a->last = last;
	return 0;
}

static int64_t steps_of(const char *stage, const struct config *c)
{
	return !strcmp(stage, "ppo") ? c->ppo.steps : !strcmp(stage, "sft") ? c->sft.steps : !strcmp(stage, "pretrain") ? c->pretrain.steps : 0;
}

static int take_number(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	if (values[0]) *(double *)ctx = atof(values[0]);
	return 0;
}

static int put_figure(json_t *run, struct store *s, const char *name, const char *sql, struct err *e)
{
	double v = NAN;
	int rc = store_query(s, sql, take_number, &v, e);
	if (rc == 0) json_object_set_new(run, name, report_number(v));
	return rc;
}

static int fill(json_t *run, struct run_folder *r, struct config *c, struct err *e)
{
	struct row a = {.run = run, .stages = json_object_get(run, "stages"), .last = -1, .config = c};
	json_t *summary = read_summary(r->folder);
	int rc = store_get_run(r->store, on_run, &a, e);
	if (rc == ERR_NOT_FOUND) rc = 0;
	TRY(rc);
	TRY(store_each_stage(r->store, on_stage, &a, e));
	TRY(put_figure(run, r->store, "reward", "SELECT value FROM metrics WHERE stage='ppo' AND name='" REPORT_REWARD "' ORDER BY step DESC LIMIT 1", e));
	TRY(put_figure(run, r->store, "pass_rate", "SELECT value FROM evaluations WHERE name='" REPORT_PASS_RATE "' ORDER BY time DESC LIMIT 1", e));
	put_state(run, r->folder, summary, c);
	json_object_set_new(run, "stage", report_text(a.stage));
	json_object_set_new(run, "step", json_integer(a.last + 1));
	json_object_set_new(run, "steps", json_integer(a.known ? steps_of(a.stage, c) : 0));
	if (a.known) put_group(run, c);
	if (a.known && *c->task.content_warning) json_object_set_new(run, "warning", report_text(c->task.content_warning));
	if (a.known && *c->fit.labels) json_object_set_new(run, "campaign", report_text(c->fit.campaign));
	json_t *digest = json_object_get(summary, "digest"), *labels = json_object_get(summary, "labels");
	if (digest) json_object_set(run, "digest", digest);
	if (labels) json_object_set(run, "labels", labels);
out:
	json_decref(summary);
	return rc;
}

int dash_run_json(const char *id, const char *folder, json_t **out, struct err *e)
{
	struct run_folder r = {0};
	struct config *c = malloc(sizeof *c);
	json_t *run = NULL;
	int rc = 0;
	if (!c) return report_memory(e);
	config_defaults(c);
	TRY(run_folder_open(&r, folder, e));
	run = json_pack("{s:s,s:s,s:s,s:[]}", "run", id, "name", r.name, "group", id, "stages");
	TRY(run ? 0 : report_memory(e));
	TRY(fill(run, &r, c, e));
	*out = run;
	run = NULL;
out:
	json_decref(run);
	run_folder_close(&r);
	free(c);
	return rc;
}

/* ---- watching ---- */

struct stamp {
	char id[DASH_ID];
	int64_t mark;
};

struct dash_watch {
	struct stamp old[DASH_RUNS_MAX], now[DASH_RUNS_MAX];
	int count, counting;
};

struct dash_watch *dash_watch_open(void) { return calloc(1, sizeof(struct dash_watch)); }

void dash_watch_close(struct dash_watch *d) { free(d); }

/* A number that changes with the files and with who has the folder. */
static int64_t mark_of(const char *folder)
{
	static const char *const names[] = {"run.db", "run.db-wal", "summary.json"};
	char path[PATH_MAX];
	struct stat st;
	struct lock_owner owner;
	struct err e;
	uint64_t mark = 17;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= PATH_MAX || stat(path, &st) != 0) st = (struct stat){0};
		mark = mark * 1000003 + (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec + (uint64_t)st.st_size;
	}
	return (int64_t)(mark * 2 + (lock_query(folder, &owner, &e) == 1));
}

static int look_at(void *ctx, const char *id, const char *folder)
{
	struct dash_watch *d = ctx;
	struct stamp *s = &d->now[d->counting++];
	strcpy(s->id, id);
	s->mark = mark_of(folder);
	return 0;
}

/* Both lists are in alphabetical order. */
void dash_watch_look(struct dash_watch *d, struct web *w)
{
	struct err e;
	d->counting = 0;
	if (dash_each_run(w->dir, look_at, d, &e) < 0) return;
	for (int i = 0, k = 0; i < d->counting; i++) {
		while (k < d->count && strcmp(d->old[k].id, d->now[i].id) < 0) k++;
		if (k < d->count && !strcmp(d->old[k].id, d->now[i].id) && d->old[k].mark == d->now[i].mark) continue;
		json_t *j = json_pack("{s:s}", "run", d->now[i].id);
		char *text = json_dumps(j, JSON_COMPACT);
		if (text) http_publish(w->http, "owner", "run", text);
		free(text);
		json_decref(j);
	}
	memcpy(d->old, d->now, sizeof d->old[0] * (size_t)d->counting);
	d->count = d->counting;
}
