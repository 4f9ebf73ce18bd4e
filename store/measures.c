/* Writing what stands beside or after a step: metrics, events, checkpoints,
 * evaluations. Each call is its own transaction (or part of the open step's).
 *
 * Metrics and events whose name starts with timing/ or perf/ depend on the
 * clock: they are stored, never compared. All other metrics of a step are put in
 * one call, so that a replay can tell a missing name from one yet to come. */
#include "store/internal.h"

#include "core/base/fault.h"

#include <sqlite3.h>

static int is_timed(const char *name)
{
	return !strncmp(name, "timing/", 7) || !strncmp(name, "perf/", 5);
}

/* ---- metrics ---- */

/* Replay: every exact name that is stored must be among those put. */
static int metrics_none_missing(struct store *s, uint64_t step, const char *const *names, size_t n, struct err *e)
{
	sqlite3_stmt *q;
	char sql[STORE_SQL];
	store_table_scan_sql(&store_tables[TABLE_METRICS], sql);
	char *order = strstr(sql, " ORDER BY");
	CHECK(order, "unexpected statement: %s", sql);
	memcpy(order, " AND step=?2", 13);
	int got, rc = store_sql_prepare(s, &q, sql, e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, s->stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)step);
	while (rc == 0 && (got = sqlite3_step(q)) != SQLITE_DONE) {
		const char *name = got == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 2) : NULL;
		size_t i = 0;
		while (name && i < n && strcmp(names[i], name)) i++;
		if (!name) rc = store_sql_error(s, got, e, "table metrics");
		else if (i == n)
			rc = err_set(e, ERR_MISMATCH, "%s: the replay differs from the record in table metrics, stage %s, step %llu, name %s: the replay "
			             "has no such row", s->path, s->stage, (unsigned long long)step, name);
	}
	sqlite3_finalize(q);
	return rc;
}

static int put_metric(struct store *s, uint64_t step, const char *name, double value, enum put_mode mode, struct err *e)
{
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_text(name), cell_real(value) };
	return store_row_put(s, TABLE_METRICS, cells, mode, e);
}

int store_put_metrics(struct store *s, uint64_t step, const char *const *names, const double *values, size_t n, struct err *e)
{
	int64_t stored;
	int rc;
	TRY(store_no_step_check(s, "metrics", e));
	TRY(store_range_check(step, "step", e));
	TRY(store_sql_run(s, "BEGIN IMMEDIATE", e));
	rc = store_stage_ensure(s, e);
	if (rc == 0) rc = store_count_rows(s, "SELECT count(*) FROM metrics WHERE stage=?1 AND step=?2", step, &stored, e);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (!stored || !is_timed(names[i])) rc = put_metric(s, step, names[i], values[i], stored ? PUT_COMPARE : PUT_INSERT, e);
	if (rc == 0) rc = stored ? metrics_none_missing(s, step, names, n, e) : put_metric(s, step, "timing/wall", store_wall_time(), PUT_INSERT, e);
	if (rc == 0) rc = FAULT_ERROR("store.before_metrics_commit", "a step's metrics are put, before COMMIT", e);
	rc = store_transaction_end(s, rc, e);
	FAULT_POINT("store.after_metrics_commit", "a step's metrics are committed");
out:
	return rc;
}

/* ---- what the reference says ---- */

int store_put_references(struct store *s, uint64_t step, const struct store_reference *r, size_t n, struct err *e)
{
	int rc;
	TRY(store_no_step_check(s, "log-probabilities under the reference", e));
	TRY(store_range_check(step, "step", e));
	TRY(store_sql_run(s, "BEGIN IMMEDIATE", e));
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_int(r[i].slot), cell_blob(r[i].logprobs, r[i].count * sizeof *r[i].logprobs) };
		rc = store_row_put(s, TABLE_REFERENCES, cells, PUT_EITHER, e);
	}
	if (rc == 0) rc = FAULT_ERROR("store.before_references_commit", "what the reference says of a step is put, before COMMIT", e);
	rc = store_transaction_end(s, rc, e);
	FAULT_POINT("store.after_references_commit", "what the reference says of a step is committed");
out:
	return rc;
}

/* ---- events, checkpoints, evaluations ---- */

int store_put_event(struct store *s, uint64_t step, const char *kind, int64_t subject, const char *body, struct err *e)
{
	int rc = store_writer_check(s, e);
	if (rc == 0) rc = store_range_check(step, "step", e);
	if (rc < 0) return rc;
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_text(kind), cell_int(subject), cell_text(body),
		                cell_real(store_wall_time()) };
	return store_put_alone(s, TABLE_EVENTS, cells, is_timed(kind) ? PUT_INSERT : PUT_EITHER, e);
}

int store_put_checkpoint(struct store *s, uint64_t step, uint64_t version, const char *path, const char *hash, struct err *e)
{
	int rc = store_writer_check(s, e);
	if (rc == 0) rc = store_range_check(step, "step", e);
	if (rc == 0) rc = store_range_check(version, "checkpoint version", e);
	if (rc < 0) return rc;
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_int((int64_t)version), cell_text(path), cell_text(hash),
		                cell_real(store_wall_time()) };
	return store_put_alone(s, TABLE_CHECKPOINTS, cells, PUT_EITHER, e);
}

int store_put_eval(struct store *s, uint64_t step, const char *name, double value, uint64_t n, double low, double high, struct err *e)
{
	int rc = store_writer_check(s, e);
	if (rc == 0) rc = store_range_check(step, "step", e);
	if (rc == 0) rc = store_range_check(n, "number of items", e);
	if (rc < 0) return rc;
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_text(name), cell_int((int64_t)n), cell_real(value),
		                cell_real(low), cell_real(high), cell_real(store_wall_time()) };
	return store_put_alone(s, TABLE_EVALUATIONS, cells, PUT_EITHER, e);
}
