/* Reading: rows handed to a function one by one, straight from SQLite's memory.
 *
 * Every reading is one statement in one snapshot: a writer may commit meanwhile
 * without being seen or being held up. Statements are prepared per reading (it
 * is not the hot path) and always finalised, so a reader never keeps the WAL
 * from being folded back longer than one reading lasts. What is read may have
 * been made by anyone: sizes in a group's blobs are checked before use. */
#include "store/internal.h"

#include "core/base/arena.h"

#include <sqlite3.h>

/* The caller's function, in the field of its row type. */
struct visitor {
	int (*stage)(void *, const struct store_stage *);
	int (*run)(void *, const struct store_run *);
	int (*prompt)(void *, const struct store_prompt *);
	int (*step)(void *, const struct store_step *);
	int (*metric)(void *, const struct store_metric *);
	int (*event)(void *, const struct store_event *);
	int (*checkpoint)(void *, const struct store_checkpoint *);
	int (*eval)(void *, const struct store_eval *);
	void *ctx;
};

struct reading {
	const char *sql;
	const char *stage; /* ?1 */
	int64_t from;      /* ?2 */
	const char *glob;  /* ?3 */
	int (*visit)(sqlite3_stmt *q, const struct visitor *v);
};

static const char *column_text(sqlite3_stmt *q, int c)
{
	const char *t = (const char *)sqlite3_column_text(q, c);
	return t ? t : "";
}

static double column_double(sqlite3_stmt *q, int c)
{
	return sqlite3_column_type(q, c) == SQLITE_NULL ? NAN : sqlite3_column_double(q, c);
}

static uint64_t column_u64(sqlite3_stmt *q, int c)
{
	return (uint64_t)sqlite3_column_int64(q, c);
}

static int each_row(struct store *s, const struct reading *r, const struct visitor *v, struct err *e)
{
	sqlite3_stmt *q;
	int got, rc = store_sql_prepare(s, &q, r->sql, e);
	if (rc < 0) return rc;
	int parameters = sqlite3_bind_parameter_count(q);
	if (parameters >= 1 && r->stage) sqlite3_bind_text(q, 1, r->stage, -1, SQLITE_STATIC);
	if (parameters >= 2) sqlite3_bind_int64(q, 2, r->from);
	if (parameters >= 3 && r->glob) sqlite3_bind_text(q, 3, r->glob, -1, SQLITE_STATIC);
	while (rc == 0 && (got = sqlite3_step(q)) != SQLITE_DONE) rc = got == SQLITE_ROW ? r->visit(q, v) : store_sql_error(s, got, e, "cannot read");
	sqlite3_finalize(q);
	return rc;
}

/* Every table with a stage is read through the stages, in their order. */
#define OF_STAGES(table) " FROM stages o CROSS JOIN " table " t ON t.stage=o.stage WHERE (?1 IS NULL OR o.stage=?1)"

/* ---- run, stages, prompts ---- */

static int visit_stage(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_stage r = { column_text(q, 0), sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 2) };
	return v->stage(v->ctx, &r);
}

int store_each_stage(struct store *s, int (*fn)(void *ctx, const struct store_stage *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT stage, ifnull((SELECT max(step) FROM steps t WHERE t.stage=o.stage), -1), "
		                          "ifnull((SELECT max(step) FROM metrics t WHERE t.stage=o.stage), -1) FROM stages o ORDER BY ordinal",
		                   .visit = visit_stage };
	return each_row(s, &r, &(struct visitor){ .stage = fn, .ctx = ctx }, e);
}

static int visit_run(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_run r = { .id = column_text(q, 0), .name = column_text(q, 1), .seed = sqlite3_column_int64(q, 2), .fingerprint = column_text(q, 3),
		               .program = column_text(q, 4), .config = column_text(q, 5), .time = column_double(q, 6) };
	int rc = v->run(v->ctx, &r);
	return rc ? rc : 1;
}

int store_get_run(struct store *s, int (*fn)(void *ctx, const struct store_run *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT id, name, seed, fingerprint, program, config, time FROM runs", .visit = visit_run };
	int rc = each_row(s, &r, &(struct visitor){ .run = fn, .ctx = ctx }, e);
	if (rc == 0) return err_set(e, ERR_NOT_FOUND, "%s: table runs is empty: no run has begun here", s->path);
	return rc == 1 ? 0 : rc;
}

static int visit_prompt(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_prompt r = { (uint32_t)sqlite3_column_int64(q, 0), column_text(q, 1), (const char *)sqlite3_column_text(q, 2) };
	return v->prompt(v->ctx, &r);
}

int store_each_prompt(struct store *s, int (*fn)(void *ctx, const struct store_prompt *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT prompt, text, extra FROM prompts ORDER BY prompt", .visit = visit_prompt };
	return each_row(s, &r, &(struct visitor){ .prompt = fn, .ctx = ctx }, e);
}

/* ---- steps, metrics ---- */

static int visit_step(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_step r = { column_text(q, 0), column_u64(q, 1), column_u64(q, 2), column_double(q, 3) };
	return v->step(v->ctx, &r);
}

int store_each_step(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_step *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT t.stage, t.step, t.policy_version, t.time" OF_STAGES("steps") " ORDER BY o.ordinal, t.step",
		                   .stage = stage, .visit = visit_step };
	return each_row(s, &r, &(struct visitor){ .step = fn, .ctx = ctx }, e);
}

static int keep_last_step(void *ctx, const struct store_step *r)
{
	*(int64_t *)ctx = (int64_t)r->step;
	return 0;
}

int store_last_step(struct store *s, const char *stage, int64_t *step, struct err *e)
{
	const struct reading r = { .sql = "SELECT stage, step, policy_version, time FROM steps WHERE stage=?1 ORDER BY step DESC LIMIT 1",
		                   .stage = stage, .visit = visit_step };
	*step = -1;
	return each_row(s, &r, &(struct visitor){ .step = keep_last_step, .ctx = step }, e);
}

static int visit_metric(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_metric r = { column_text(q, 0), column_u64(q, 1), column_text(q, 2), column_double(q, 3) };
	return v->metric(v->ctx, &r);
}

int store_each_metric(struct store *s, const char *stage, const char *glob, int (*fn)(void *ctx, const struct store_metric *r), void *ctx,
                      struct err *e)
{
	const struct reading r = { .sql = "SELECT t.stage, t.step, t.name, t.value" OF_STAGES("metrics")
		                          " AND t.step >= ?2 AND (?3 IS NULL OR t.name GLOB ?3) ORDER BY o.ordinal, t.name, t.step",
		                   .stage = stage, .glob = glob, .visit = visit_metric };
	return each_row(s, &r, &(struct visitor){ .metric = fn, .ctx = ctx }, e);
}

int store_each_step_metric(struct store *s, const char *stage, uint64_t from, int (*fn)(void *ctx, const struct store_metric *r), void *ctx,
                           struct err *e)
{
	const struct reading r = { .sql = "SELECT t.stage, t.step, t.name, t.value" OF_STAGES("metrics")
		                          " AND t.step >= ?2 ORDER BY o.ordinal, t.step, t.name",
		                   .stage = stage, .from = (int64_t)from, .visit = visit_metric };
	return each_row(s, &r, &(struct visitor){ .metric = fn, .ctx = ctx }, e);
}

/* ---- events, checkpoints, evaluations ---- */

static int visit_event(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_event r = { column_text(q, 0), column_u64(q, 1), column_text(q, 2), sqlite3_column_int64(q, 3), column_text(q, 4),
		                 column_double(q, 5) };
	return v->event(v->ctx, &r);
}

int store_each_event(struct store *s, const char *stage, uint64_t from, int (*fn)(void *ctx, const struct store_event *r), void *ctx,
                     struct err *e)
{
	const struct reading r = { .sql = "SELECT stage, step, kind, subject, body, time FROM events WHERE (?1 IS NULL OR stage=?1) AND step >= ?2 "
		                          "ORDER BY event",
		                   .stage = stage, .from = (int64_t)from, .visit = visit_event };
	return each_row(s, &r, &(struct visitor){ .event = fn, .ctx = ctx }, e);
}

static int visit_checkpoint(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_checkpoint r = { column_text(q, 0), column_u64(q, 1), column_u64(q, 2), column_text(q, 3), column_text(q, 4), column_double(q, 5) };
	return v->checkpoint(v->ctx, &r);
}

int store_each_checkpoint(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_checkpoint *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT t.stage, t.step, t.version, t.path, t.hash, t.time" OF_STAGES("checkpoints")
		                          " ORDER BY o.ordinal, t.step",
		                   .stage = stage, .visit = visit_checkpoint };
	return each_row(s, &r, &(struct visitor){ .checkpoint = fn, .ctx = ctx }, e);
}

static int visit_eval(sqlite3_stmt *q, const struct visitor *v)
{
	struct store_eval r = { .stage = column_text(q, 0), .step = column_u64(q, 1), .n = column_u64(q, 3), .name = column_text(q, 2),
		                .value = column_double(q, 4), .low = column_double(q, 5), .high = column_double(q, 6), .time = column_double(q, 7) };
	return v->eval(v->ctx, &r);
}

int store_each_eval(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_eval *r), void *ctx, struct err *e)
{
	const struct reading r = { .sql = "SELECT t.stage, t.step, t.name, t.n, t.value, t.low, t.high, t.time" OF_STAGES("evaluations")
		                          " ORDER BY o.ordinal, t.name, t.step, t.n",
		                   .stage = stage, .visit = visit_eval };
	return each_row(s, &r, &(struct visitor){ .eval = fn, .ctx = ctx }, e);
}

/* ---- any reading statement ---- */

int store_query(struct store *s, const char *sql, int (*fn)(void *ctx, int columns, const char *const *names, const char *const *values),
                void *ctx, struct err *e)
{
	enum { COLUMNS = 64 };
	const char *names[COLUMNS], *values[COLUMNS], *tail;
	sqlite3_stmt *q;
	int got, rc = sqlite3_prepare_v2(s->db, sql, -1, &q, &tail);
	if (rc != SQLITE_OK) return store_sql_error(s, rc, e, sql);
	int n = sqlite3_column_count(q);
	rc = 0;
	while (*tail && strchr(" \t\r\n;", *tail)) tail++;
	if (n == 0 || *tail || !sqlite3_stmt_readonly(q)) rc = err_set(e, ERR_RANGE, "one statement that only reads is needed: %.200s", sql);
	else if (n > COLUMNS) rc = err_set(e, ERR_RANGE, "%d columns: at most %d are possible: %.200s", n, COLUMNS, sql);
	for (int c = 0; rc == 0 && c < n; c++) names[c] = sqlite3_column_name(q, c);
	while (rc == 0 && (got = sqlite3_step(q)) != SQLITE_DONE) {
		for (int c = 0; got == SQLITE_ROW && c < n; c++) values[c] = (const char *)sqlite3_column_text(q, c);
		rc = got == SQLITE_ROW ? fn(ctx, n, names, values) : store_sql_error(s, got, e, sql);
	}
	sqlite3_finalize(q);
	return rc;
}
