/* Writing: transactions, the run, its prompts, the frame of a step. The rows in
 * it are in groups.c, what follows it in measures.c.
 *
 * A step is one transaction, committed before the optimiser moves, so that the
 * record is never behind the weights. A step that is stored already is compared
 * instead: the mode is chosen once, at step_begin, from the step's row, and no
 * row is inserted while comparing; at commit the number of groups must agree too
 * (candidates and scores are counted by columns of their group; comparisons may
 * have been added since). */
#include "store/internal.h"

#include "core/base/fault.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdio.h>

int store_range_check(uint64_t v, const char *what, struct err *e)
{
	return v > INT64_MAX ? err_set(e, ERR_RANGE, "%s %llu is beyond what the record can hold", what, (unsigned long long)v) : 0;
}

int store_writer_check(struct store *s, struct err *e)
{
	return s->writer ? 0 : err_set(e, ERR_STATE, "%s was opened read-only", s->path);
}

/* ---- stages and transactions ---- */

int store_set_stage(struct store *s, const char *stage, struct err *e)
{
	size_t n = strlen(stage), k = 0;
	while (k < n && (islower((unsigned char)stage[k]) || isdigit((unsigned char)stage[k]) || strchr("_-", stage[k]))) k++;
	if (n == 0 || n >= STORE_STAGE || k < n)
		return err_set(e, ERR_RANGE, "stage \"%.40s\": a name of 1 to %d of a-z, 0-9, _ and - is needed", stage, STORE_STAGE - 1);
	if (s->in_step) return err_set(e, ERR_STATE, "%s: the stage cannot change inside step %llu", s->path, (unsigned long long)s->step);
	memcpy(s->stage, stage, n + 1);
	s->stage_known = 0;
	return 0;
}

/* The stage's row, at the first row of the stage: so stages are numbered in the order in which they begin. */
int store_stage_ensure(struct store *s, struct err *e)
{
	sqlite3_stmt *q;
	if (s->stage_known) return 0;
	int rc = store_sql_prepare(s, &q, "INSERT INTO stages SELECT ?1, (SELECT count(*) FROM stages) "
	                            "WHERE NOT EXISTS (SELECT 1 FROM stages WHERE stage=?1)", e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, s->stage, -1, SQLITE_STATIC);
	int got = sqlite3_step(q);
	if (got != SQLITE_DONE) rc = store_sql_error(s, got, e, "table stages");
	sqlite3_finalize(q);
	if (rc == 0) s->stage_known = 1;
	return rc;
}

void store_transaction_abort(struct store *s)
{
	if (!sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	s->in_step = 0;
	s->stage_known = 0;
}

/* Ends a transaction begun by the caller: commits, or rolls back when rc is an error. */
int store_transaction_end(struct store *s, int rc, struct err *e)
{
	if (rc == 0) rc = store_sql_run(s, "COMMIT", e);
	if (rc < 0) store_transaction_abort(s);
	return rc;
}

/* One row of what stands alone: in the open step's transaction when there is one, else in its own. */
int store_put_alone(struct store *s, enum table_id id, const struct cell *cells, enum put_mode mode, struct err *e)
{
	int rc = 0, own = !s->in_step;
	if (own) rc = store_sql_run(s, "BEGIN IMMEDIATE", e);
	if (rc < 0) return rc;
	rc = store_stage_ensure(s, e);
	if (rc == 0) rc = store_row_put(s, id, cells, mode, e);
	if (!own) {
		if (rc < 0) store_transaction_abort(s);
		return rc;
	}
	FAULT_POINT("store.before_row_commit", "an event, a checkpoint or an evaluation is put, before COMMIT");
	rc = store_transaction_end(s, rc, e);
	FAULT_POINT("store.after_row_commit", "an event, a checkpoint or an evaluation is committed");
	return rc;
}

int store_no_step_check(struct store *s, const char *what, struct err *e)
{
	int rc = store_writer_check(s, e);
	if (rc == 0 && s->in_step)
		rc = err_set(e, ERR_STATE, "%s: %s cannot be put inside step %llu", s->path, what, (unsigned long long)s->step);
	return rc;
}

/* A count over (stage, step): SQL with ?1 and ?2. */
int store_count_rows(struct store *s, const char *sql, uint64_t step, int64_t *n, struct err *e)
{
	sqlite3_stmt *q;
	int rc = store_sql_prepare(s, &q, sql, e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, s->stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)step);
	int got = sqlite3_step(q);
	*n = got == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
	if (got != SQLITE_ROW) rc = store_sql_error(s, got, e, sql);
	sqlite3_finalize(q);
	return rc;
}

/* ---- run and prompts ---- */

int store_put_run(struct store *s, const struct store_run *r, struct err *e)
{
	int rc = store_no_step_check(s, "the run", e);
	if (rc < 0) return rc;
	struct cell cells[] = { cell_int(1), cell_text(r->id), cell_text(r->name), cell_int(r->seed), cell_text(r->fingerprint),
		                cell_text(r->program), cell_text(r->config), cell_real(store_wall_time()) };
	return store_row_put(s, TABLE_RUNS, cells, PUT_EITHER, e);
}

int store_put_prompts(struct store *s, const struct store_prompt *p, size_t n, struct err *e)
{
	int64_t stored;
	int rc = store_no_step_check(s, "prompts", e);
	if (rc == 0) rc = store_sql_int(s, "SELECT count(*) FROM prompts", &stored, e);
	if (rc < 0) return rc;
	if (stored && (uint64_t)stored != n)
		return err_set(e, ERR_MISMATCH, "%s: table prompts has %lld prompts, now there are %zu: the data set has changed since the run began; "
		               "restore it or start a new run folder", s->path, (long long)stored, n);
	rc = store_sql_run(s, "BEGIN IMMEDIATE", e);
	if (rc < 0) return rc;
	for (size_t i = 0; i < n && rc == 0; i++) {
		char hash[HASH_HEX];
		hash_bytes(p[i].text, strlen(p[i].text), hash);
		struct cell cells[] = { cell_int(p[i].prompt), cell_text(p[i].text), cell_text(hash), cell_text(p[i].extra) };
		rc = store_row_put(s, TABLE_PROMPTS, cells, stored ? PUT_COMPARE : PUT_INSERT, e);
	}
	FAULT_POINT("store.before_prompts_commit", "the run's prompts are put, before COMMIT");
	return store_transaction_end(s, rc, e);
}

/* ---- steps ---- */

enum put_mode store_step_mode(const struct store *s)
{
	return s->replay ? PUT_COMPARE : PUT_INSERT;
}

int store_step_begin(struct store *s, uint64_t step, uint64_t policy_version, struct err *e)
{
	int64_t stored;
	int rc;
	TRY(store_no_step_check(s, "another step", e));
	TRY(store_range_check(step, "step", e));
	TRY(store_range_check(policy_version, "policy version", e));
	TRY(store_sql_run(s, "BEGIN IMMEDIATE", e));
	s->in_step = 1;
	TRY(store_stage_ensure(s, e));
	TRY(store_count_rows(s, "SELECT count(*) FROM steps WHERE stage=?1 AND step=?2", step, &stored, e));
	s->replay = stored > 0;
	s->step = step;
	s->last_slot = -1;
	s->groups = 0;
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_int((int64_t)policy_version), cell_real(store_wall_time()) };
	rc = store_row_put(s, TABLE_STEPS, cells, store_step_mode(s), e);
out:
	if (rc < 0 && s->in_step) store_transaction_abort(s);
	return rc;
}

int store_step_is_replay(const struct store *s)
{
	return s->in_step && s->replay;
}

void store_step_abort(struct store *s)
{
	if (s->in_step) store_transaction_abort(s);
}

int store_step_commit(struct store *s, struct err *e)
{
	if (!s->in_step) return err_set(e, ERR_STATE, "%s: no step is open", s->path);
	int rc = 0;
	if (s->replay) {
		int64_t stored;
		TRY(store_count_rows(s, "SELECT count(*) FROM groups WHERE stage=?1 AND step=?2", s->step, &stored, e));
		if (stored != s->groups)
			rc = err_set(e, ERR_MISMATCH, "%s: the replay differs from the record in table groups, stage %s, step %llu: %lld groups were "
			             "stored, now %lld", s->path, s->stage, (unsigned long long)s->step, (long long)stored, (long long)s->groups);
	}
	if (rc == 0) rc = FAULT_ERROR("store.before_step_commit", "all groups of a step are put, before COMMIT", e);
out:
	rc = store_transaction_end(s, rc, e);
	s->in_step = 0;
	FAULT_POINT("store.after_step_commit", "a step's groups are committed, nothing is learned from them");
	return rc;
}
