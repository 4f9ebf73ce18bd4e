/* The tables that are compared, described once, and the row operations that the
 * description drives.
 *
 * Each column says how it is stored and whether it is exact: compared when the
 * row is put again (COL_REPLAY), and part of digest and difference (COL_DIGEST).
 * What depends on the clock is neither. The statements are made from the same
 * description, so writer, digest and difference cannot disagree about columns.
 *
 * Blobs are compared as bytes; their element type is only known so that a
 * message can say which element differs and how. Integers and floats in them
 * are little-endian, which this file requires of the machine. */
#include "store/internal.h"

#include <sqlite3.h>
#include <stdio.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blobs are written as they lie in memory");

#define KEY(n, k) { n, k, COL_KEY | COL_DIGEST }
#define EXACT(n, k) { n, k, COL_EXACT }
#define REPLAYED(n, k) { n, k, COL_REPLAY }
#define KEPT(n, k) { n, k, 0 }
#define STAGE_STEP KEY("stage", CELL_TEXT), KEY("step", CELL_INT)

const struct table store_tables[TABLE_COUNT] = {
	[TABLE_RUNS] = { "runs", 8, 1, 0, NULL, 0,
		{ KEY("run", CELL_INT), REPLAYED("id", CELL_TEXT), KEPT("name", CELL_TEXT), REPLAYED("seed", CELL_INT),
		  REPLAYED("fingerprint", CELL_TEXT), KEPT("program", CELL_TEXT), KEPT("config", CELL_TEXT), KEPT("time", CELL_REAL) } },
	[TABLE_PROMPTS] = { "prompts", 4, 1, 0, NULL, 1,
		{ KEY("prompt", CELL_INT), EXACT("text", CELL_TEXT), EXACT("hash", CELL_TEXT), EXACT("extra", CELL_TEXT) } },
	[TABLE_STEPS] = { "steps", 4, 2, 1, NULL, 1, { STAGE_STEP, EXACT("policy_version", CELL_INT), KEPT("time", CELL_REAL) } },
	[TABLE_GROUPS] = { "groups", 11, 3, 1, NULL, 1,
		{ STAGE_STEP, KEY("slot", CELL_INT), EXACT("prompt", CELL_INT), EXACT("policy_version", CELL_INT), EXACT("size", CELL_INT),
		  EXACT("prompt_tokens", CELL_I32), EXACT("moe_layers", CELL_INT), EXACT("experts_per_token", CELL_INT),
		  EXACT("terms", CELL_INT), EXACT("scorer_version", CELL_TEXT) } },
	[TABLE_CANDIDATES] = { "candidates", 11, 4, 1, NULL, 1,
		{ STAGE_STEP, KEY("slot", CELL_INT), KEY("candidate", CELL_INT), EXACT("token_count", CELL_INT), EXACT("finish", CELL_INT),
		  EXACT("tokens", CELL_I32), EXACT("logprobs", CELL_F32), EXACT("experts", CELL_U16), EXACT("text", CELL_TEXT),
		  EXACT("reward", CELL_REAL) } },
	[TABLE_SCORES] = { "scores", 6, 5, 1, NULL, 1,
		{ STAGE_STEP, KEY("slot", CELL_INT), KEY("candidate", CELL_INT), KEY("term", CELL_TEXT), EXACT("value", CELL_REAL) } },
	[TABLE_COMPARISONS] = { "comparisons", 8, 5, 1, NULL, 1,
		{ STAGE_STEP, KEY("slot", CELL_INT), KEY("source", CELL_TEXT), KEY("scorer_version", CELL_TEXT), EXACT("ranking", CELL_TEXT),
		  EXACT("ranks", CELL_TEXT), EXACT("margins", CELL_TEXT) } },
	[TABLE_REFERENCES] = { "reference_logprobs", 4, 3, 1, NULL, 0, { STAGE_STEP, KEY("slot", CELL_INT), REPLAYED("logprobs", CELL_F32) } },
	[TABLE_METRICS] = { "metrics", 4, 3, 1, "name NOT GLOB 'timing/*' AND name NOT GLOB 'perf/*'", 1,
		{ STAGE_STEP, KEY("name", CELL_TEXT), EXACT("value", CELL_REAL) } },
	[TABLE_EVENTS] = { "events", 6, 4, 1, "kind NOT GLOB 'timing/*' AND kind NOT GLOB 'perf/*'", 1,
		{ STAGE_STEP, KEY("kind", CELL_TEXT), KEY("subject", CELL_INT), EXACT("body", CELL_TEXT), KEPT("time", CELL_REAL) } },
	[TABLE_CHECKPOINTS] = { "checkpoints", 6, 2, 1, NULL, 1,
		{ STAGE_STEP, EXACT("version", CELL_INT), REPLAYED("path", CELL_TEXT), EXACT("hash", CELL_TEXT), KEPT("time", CELL_REAL) } },
	[TABLE_EVALUATIONS] = { "evaluations", 8, 4, 1, NULL, 1,
		{ STAGE_STEP, KEY("name", CELL_TEXT), KEY("n", CELL_INT), EXACT("value", CELL_REAL), EXACT("low", CELL_REAL),
		  EXACT("high", CELL_REAL), KEPT("time", CELL_REAL) } },
};

/* ---- statements ---- */

static void sql_add(char sql[STORE_SQL], const char *text)
{
	size_t at = strlen(sql), n = strlen(text);
	CHECK(at + n < STORE_SQL, "statement too long after %.40s", sql);
	memcpy(sql + at, text, n + 1);
}

void store_table_insert_sql(const struct table *t, char sql[STORE_SQL])
{
	sql[0] = 0;
	sql_add(sql, "INSERT INTO ");
	sql_add(sql, t->name);
	for (int c = 0; c < t->columns; c++) {
		sql_add(sql, c ? "," : "(");
		sql_add(sql, t->column[c].name);
	}
	sql_add(sql, ") VALUES");
	for (int c = 0; c < t->columns; c++) sql_add(sql, c ? ",?" : "(?");
	sql_add(sql, ")");
}

void store_table_select_sql(const struct table *t, char sql[STORE_SQL])
{
	sql[0] = 0;
	for (int c = 0; c < t->columns; c++) {
		sql_add(sql, c ? "," : "SELECT ");
		sql_add(sql, t->column[c].name);
	}
	sql_add(sql, " FROM ");
	sql_add(sql, t->name);
	for (int c = 0; c < t->keys; c++) {
		sql_add(sql, c ? " AND " : " WHERE ");
		sql_add(sql, t->column[c].name);
		sql_add(sql, "=?");
	}
	if (t->exact) {
		sql_add(sql, " AND ");
		sql_add(sql, t->exact);
	}
}

void store_table_scan_sql(const struct table *t, char sql[STORE_SQL])
{
	sql[0] = 0;
	const char *glue = "SELECT ";
	for (int c = 0; c < t->columns; c++) {
		if (!(t->column[c].flags & COL_DIGEST)) continue;
		sql_add(sql, glue);
		sql_add(sql, t->column[c].name);
		glue = ",";
	}
	sql_add(sql, " FROM ");
	sql_add(sql, t->name);
	if (t->staged) sql_add(sql, " WHERE stage=?1");
	if (t->exact) {
		sql_add(sql, " AND ");
		sql_add(sql, t->exact);
	}
	for (int c = t->staged; c < t->keys; c++) {
		sql_add(sql, c > t->staged ? "," : " ORDER BY ");
		sql_add(sql, t->column[c].name);
	}
}

/* ---- cells ---- */

struct cell store_cell_read(struct sqlite3_stmt *q, int column, enum cell_kind kind)
{
	struct cell c = { .null = sqlite3_column_type(q, column) == SQLITE_NULL };
	if (c.null) return c;
	if (kind == CELL_INT) c.i = sqlite3_column_int64(q, column);
	else if (kind == CELL_REAL) c.d = sqlite3_column_double(q, column);
	else {
		c.p = kind == CELL_TEXT ? (const void *)sqlite3_column_text(q, column) : sqlite3_column_blob(q, column);
		c.n = (size_t)sqlite3_column_bytes(q, column);
	}
	return c;
}

int store_cell_bind(struct sqlite3_stmt *q, int at, enum cell_kind kind, const struct cell *c)
{
	if (c->null) return sqlite3_bind_null(q, at);
	switch (kind) {
	case CELL_INT: return sqlite3_bind_int64(q, at, c->i);
	case CELL_REAL: return sqlite3_bind_double(q, at, c->d);
	case CELL_TEXT: return sqlite3_bind_text64(q, at, c->p, c->n, SQLITE_STATIC, SQLITE_UTF8);
	default: return c->n ? sqlite3_bind_blob64(q, at, c->p, c->n, SQLITE_STATIC) : sqlite3_bind_zeroblob(q, at, 0);
	}
}

static size_t cell_element_bytes(enum cell_kind kind)
{
	return kind == CELL_U16 ? 2 : kind == CELL_TEXT ? 1 : 4;
}

int store_cell_equal(enum cell_kind kind, const struct cell *a, const struct cell *b, long *element)
{
	*element = -1;
	if (a->null || b->null) return a->null && b->null;
	if (kind == CELL_INT) return a->i == b->i;
	if (kind == CELL_REAL) return memcmp(&a->d, &b->d, sizeof a->d) == 0;
	if (a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0)) return 1;
	if (kind == CELL_TEXT) return 0;
	size_t n = a->n < b->n ? a->n : b->n, k = 0;
	while (k < n && ((const unsigned char *)a->p)[k] == ((const unsigned char *)b->p)[k]) k++;
	*element = (long)(k / cell_element_bytes(kind));
	return 0;
}

/* Text in quotes, at most `room` bytes, control characters as dots. */
static void text_format(const struct cell *c, char *out, size_t size)
{
	size_t room = size - 8, n = c->n < room ? c->n : room, at = 0;
	const unsigned char *p = c->p;
	out[at++] = '"';
	for (size_t i = 0; i < n; i++) out[at++] = p[i] < 32 || p[i] == 127 ? '.' : (char)p[i];
	memcpy(out + at, n < c->n ? "\"..." : "\"", n < c->n ? 5 : 2);
}

void store_cell_format(enum cell_kind kind, const struct cell *c, long element, char *out, size_t size)
{
	size_t unit = cell_element_bytes(kind), at = element < 0 ? 0 : (size_t)element * unit;
	if (c->null) snprintf(out, size, "%s", kind == CELL_REAL ? "NaN" : "nothing");
	else if (kind == CELL_INT) snprintf(out, size, "%lld", (long long)c->i);
	else if (kind == CELL_REAL) snprintf(out, size, "%.17g (%a)", c->d, c->d);
	else if (kind == CELL_TEXT) text_format(c, out, size);
	else if (at + unit > c->n) snprintf(out, size, "%zu elements", c->n / unit);
	else if (kind == CELL_U16) {
		uint16_t v;
		memcpy(&v, (const char *)c->p + at, sizeof v);
		snprintf(out, size, "%u", v);
	} else if (kind == CELL_I32) {
		int32_t v;
		memcpy(&v, (const char *)c->p + at, sizeof v);
		snprintf(out, size, "%d", v);
	} else {
		float v;
		memcpy(&v, (const char *)c->p + at, sizeof v);
		snprintf(out, size, "%.9g (%a)", (double)v, (double)v);
	}
}

void store_row_format(const struct table *t, const struct cell *key, char *out, size_t size)
{
	size_t at = 0;
	out[0] = 0;
	for (int c = t->staged; c < t->keys && at < size; c++) {
		int n;
		const char *glue = c > t->staged ? ", " : "", *name = t->column[c].name;
		if (t->column[c].kind == CELL_INT) n = snprintf(out + at, size - at, "%s%s %lld", glue, name, (long long)key[c].i);
		else n = snprintf(out + at, size - at, "%s%s %.*s", glue, name, (int)(key[c].n < 60 ? key[c].n : 60), (const char *)key[c].p);
		at += n < 0 ? 0 : (size_t)n;
	}
}

/* ---- rows ---- */

static int row_mismatch(struct store *s, const struct table *t, const struct cell *cells, const char *what, struct err *e)
{
	char row[160];
	store_row_format(t, cells, row, sizeof row);
	return err_set(e, ERR_MISMATCH,
	               "%s: the replay differs from the record in table %s, %s%s%s%s: %s; resume with the program, configuration and "
	               "machine that wrote it, or start a new run folder",
	               s->path, t->name, t->staged ? "stage " : "", t->staged ? (const char *)cells[0].p : "", t->staged ? ", " : "", row, what);
}

/* The row that the statement stands on against the cells. */
static int row_compare(struct store *s, const struct table *t, struct sqlite3_stmt *q, const struct cell *cells, struct err *e)
{
	for (int c = t->keys; c < t->columns; c++) {
		const struct column *col = &t->column[c];
		if (!(col->flags & COL_REPLAY)) continue;
		struct cell stored = store_cell_read(q, c, col->kind);
		long element;
		if (store_cell_equal(col->kind, &stored, &cells[c], &element)) continue;
		char a[96], b[96], place[32] = "", what[320];
		store_cell_format(col->kind, &stored, element, a, sizeof a);
		store_cell_format(col->kind, &cells[c], element, b, sizeof b);
		if (element >= 0) snprintf(place, sizeof place, "[%ld]", element);
		snprintf(what, sizeof what, "column %s%s was %s, now %s", col->name, place, a, b);
		return row_mismatch(s, t, cells, what, e);
	}
	return 0;
}

static int row_insert(struct store *s, enum table_id id, const struct cell *cells, struct err *e)
{
	const struct table *t = &store_tables[id];
	struct sqlite3_stmt *q = s->insert[id];
	int rc = SQLITE_OK;
	for (int c = 0; c < t->columns && rc == SQLITE_OK; c++) rc = store_cell_bind(q, c + 1, t->column[c].kind, &cells[c]);
	if (rc == SQLITE_OK) rc = sqlite3_step(q);
	if (rc == SQLITE_DONE) {
		sqlite3_reset(q);
		return 0;
	}
	char row[160];
	store_row_format(t, cells, row, sizeof row);
	rc = store_sql_error(s, rc, e, "cannot write");
	sqlite3_reset(q);
	if (e) err_prefix(e, "table %s, %s", t->name, row);
	return rc;
}

int store_row_put(struct store *s, enum table_id id, const struct cell *cells, enum put_mode mode, struct err *e)
{
	if (mode == PUT_INSERT) return row_insert(s, id, cells, e);
	const struct table *t = &store_tables[id];
	struct sqlite3_stmt *q = s->select[id];
	int rc = SQLITE_OK;
	for (int c = 0; c < t->keys && rc == SQLITE_OK; c++) rc = store_cell_bind(q, c + 1, t->column[c].kind, &cells[c]);
	if (rc == SQLITE_OK) rc = sqlite3_step(q);
	if (rc == SQLITE_ROW) rc = row_compare(s, t, q, cells, e);
	else if (rc != SQLITE_DONE) rc = store_sql_error(s, rc, e, "cannot read");
	else if (mode == PUT_COMPARE) rc = row_mismatch(s, t, cells, "the record has no such row", e);
	else {
		sqlite3_reset(q);
		return row_insert(s, id, cells, e);
	}
	sqlite3_reset(q);
	return rc;
}
