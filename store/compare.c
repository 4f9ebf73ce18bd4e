/* Equal or not: the digest of one database, the first difference of two.
 *
 * Both walk the same rows in the same order (the scan statements of tables.c):
 * prompts, then stage after stage in the order in which they began, each table
 * by its key. The digest hashes every value with its type and length before it,
 * so that moving a byte from one column to the next changes it. The difference
 * walks two databases side by side and keeps the one with the lowest step, so
 * what it names is where the runs parted, not what followed from that. Whatever
 * depends on the clock, on paths or on the shape of the run (workers, threads:
 * table runs) is in neither. */
#include "store/internal.h"

#include <sqlite3.h>
#include <stdio.h>

enum { STAGES_MAX = 64 };

struct stage_list {
	int n;
	char name[STAGES_MAX][STORE_STAGE];
};

static int stage_add(void *ctx, const struct store_stage *r)
{
	struct stage_list *l = ctx;
	if (l->n == STAGES_MAX || strlen(r->stage) >= STORE_STAGE) return ERR_RANGE;
	strcpy(l->name[l->n++], r->stage);
	return 0;
}

static int stages_read(struct store *s, struct stage_list *l, struct err *e)
{
	l->n = 0;
	int rc = store_each_stage(s, stage_add, l, e);
	return rc == ERR_RANGE ? err_set(e, rc, "%s: more than %d stages, or one with a name too long", s->path, STAGES_MAX) : rc;
}

static int scan_open(struct store *s, const struct table *t, const char *stage, sqlite3_stmt **q, struct err *e)
{
	char sql[STORE_SQL];
	store_table_scan_sql(t, sql);
	int rc = store_sql_prepare(s, q, sql, e);
	if (rc == 0 && t->staged) sqlite3_bind_text(*q, 1, stage, -1, SQLITE_STATIC);
	return rc;
}

/* ---- digest ---- */

static void digest_cell(struct hash_stream *h, enum cell_kind kind, const struct cell *c)
{
	unsigned char tag = c->null ? 0xff : (unsigned char)kind;
	hash_stream_add(h, &tag, 1);
	if (c->null) return;
	if (kind == CELL_INT) hash_stream_add(h, &c->i, sizeof c->i);
	else if (kind == CELL_REAL) hash_stream_add(h, &c->d, sizeof c->d);
	else {
		uint64_t n = c->n;
		hash_stream_add(h, &n, sizeof n);
		if (n) hash_stream_add(h, c->p, c->n);
	}
}

static int digest_table(struct store *s, struct hash_stream *h, const struct table *t, const char *stage, struct err *e)
{
	sqlite3_stmt *q;
	int got, rc = scan_open(s, t, stage, &q, e);
	if (rc < 0) return rc;
	struct cell name = cell_text(t->name);
	digest_cell(h, CELL_TEXT, &name);
	while ((got = sqlite3_step(q)) == SQLITE_ROW)
		for (int c = 0, k = 0; c < t->columns; c++) {
			if (!(t->column[c].flags & COL_DIGEST)) continue;
			struct cell v = store_cell_read(q, k++, t->column[c].kind);
			digest_cell(h, t->column[c].kind, &v);
		}
	if (got != SQLITE_DONE) rc = store_sql_error(s, got, e, t->name);
	sqlite3_finalize(q);
	return rc;
}

int store_digest(struct store *s, char hex[HASH_HEX], struct err *e)
{
	struct stage_list stages;
	struct hash_stream *h = hash_stream_open();
	int rc;
	TRY(stages_read(s, &stages, e));
	TRY(digest_table(s, h, &store_tables[TABLE_PROMPTS], NULL, e));
	for (int i = 0; i < stages.n; i++)
		for (int t = 0; t < TABLE_COUNT; t++)
			if (store_tables[t].hashed && store_tables[t].staged) TRY(digest_table(s, h, &store_tables[t], stages.name[i], e));
out:
	hash_stream_finish(h, hex);
	if (rc < 0) hex[0] = 0;
	return rc;
}

/* ---- difference ---- */

/* One database's scan of a table: the current row's cells. */
struct side {
	struct store *s;
	sqlite3_stmt *q;
	int row; /* 0: at the end */
	struct cell cell[STORE_COLUMNS];
};

static int side_next(struct side *x, const struct table *t, struct err *e)
{
	int got = sqlite3_step(x->q);
	x->row = got == SQLITE_ROW;
	if (got != SQLITE_ROW) return got == SQLITE_DONE ? 0 : store_sql_error(x->s, got, e, t->name);
	for (int c = 0, k = 0; c < t->columns; c++)
		if (t->column[c].flags & COL_DIGEST) x->cell[c] = store_cell_read(x->q, k++, t->column[c].kind);
	return 0;
}

static int key_order(const struct table *t, const struct cell *a, const struct cell *b)
{
	for (int c = t->staged; c < t->keys; c++) {
		if (t->column[c].kind == CELL_INT) {
			if (a[c].i != b[c].i) return a[c].i < b[c].i ? -1 : 1;
			continue;
		}
		size_t n = a[c].n < b[c].n ? a[c].n : b[c].n;
		int order = n ? memcmp(a[c].p, b[c].p, n) : 0;
		if (order) return order;
		if (a[c].n != b[c].n) return a[c].n < b[c].n ? -1 : 1;
	}
	return 0;
}

/* Fills *d when the rows that the two stand on differ. */
static void rows_differ(const struct table *t, struct side *a, struct side *b, struct store_difference *d)
{
	int order = !a->row ? 1 : !b->row ? -1 : key_order(t, a->cell, b->cell);
	const struct cell *key = order <= 0 ? a->cell : b->cell;
	int col = t->keys;
	long element = -1;
	if (order == 0) {
		while (col < t->columns && (!(t->column[col].flags & COL_DIGEST) ||
		                            store_cell_equal(t->column[col].kind, &a->cell[col], &b->cell[col], &element)))
			col++;
		if (col == t->columns) return;
	}
	*d = (struct store_difference){ .found = 1, .step = t->staged ? key[1].i : -1 };
	snprintf(d->table, sizeof d->table, "%s", t->name);
	store_row_format(t, key, d->row, sizeof d->row);
	if (order) {
		snprintf(d->a, sizeof d->a, "%s", order < 0 ? "row present" : "no such row");
		snprintf(d->b, sizeof d->b, "%s", order > 0 ? "row present" : "no such row");
		return;
	}
	if (element >= 0) snprintf(d->column, sizeof d->column, "%s[%ld]", t->column[col].name, element);
	else snprintf(d->column, sizeof d->column, "%s", t->column[col].name);
	store_cell_format(t->column[col].kind, &a->cell[col], element, d->a, sizeof d->a);
	store_cell_format(t->column[col].kind, &b->cell[col], element, d->b, sizeof d->b);
}

/* The first difference in one table; beyond `limit` steps there is no need to look. */
static int diff_table(struct store *sa, struct store *sb, const struct table *t, const char *stage, int64_t limit, struct store_difference *d,
                      struct err *e)
{
	struct side a = { .s = sa }, b = { .s = sb };
	int rc;
	d->found = 0;
	TRY(scan_open(sa, t, stage, &a.q, e));
	TRY(scan_open(sb, t, stage, &b.q, e));
	for (;;) {
		TRY(side_next(&a, t, e));
		TRY(side_next(&b, t, e));
		if (!a.row && !b.row) break;
		rows_differ(t, &a, &b, d);
		if (d->found || (t->staged && a.cell[1].i > limit)) break;
	}
out:
	sqlite3_finalize(a.q);
	sqlite3_finalize(b.q);
	return rc;
}

static int last_step_before(struct store *s, const char *stage, int64_t step, int64_t *last, struct err *e)
{
	sqlite3_stmt *q;
	int rc = store_sql_prepare(s, &q, "SELECT max(step) FROM (SELECT max(step) AS step FROM steps WHERE stage=?1 AND step<?2 UNION ALL "
	                            "SELECT max(step) FROM metrics WHERE stage=?1 AND step<?2)", e);
	*last = -1;
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, step);
	int got = sqlite3_step(q);
	if (got == SQLITE_ROW && sqlite3_column_type(q, 0) != SQLITE_NULL) *last = sqlite3_column_int64(q, 0);
	if (got != SQLITE_ROW) rc = store_sql_error(s, got, e, "cannot read");
	sqlite3_finalize(q);
	return rc;
}

static int diff_stage(struct store *a, struct store *b, const char *stage, struct store_difference *d, struct err *e)
{
	struct store_difference here;
	int64_t limit = INT64_MAX;
	int rc = 0;
	for (int t = 0; t < TABLE_COUNT; t++) {
		if (!store_tables[t].hashed || !store_tables[t].staged) continue;
		TRY(diff_table(a, b, &store_tables[t], stage, limit, &here, e));
		if (!here.found || here.step >= limit) continue;
		*d = here;
		limit = here.step;
	}
	snprintf(d->stage, sizeof d->stage, "%s", stage);
	TRY(last_step_before(a, stage, limit, &d->same_through, e));
out:
	return rc;
}

int store_diff(struct store *a, struct store *b, struct store_difference *d, struct err *e)
{
	struct stage_list la, lb;
	int rc;
	*d = (struct store_difference){ .step = -1, .same_through = -1 };
	TRY(stages_read(a, &la, e));
	TRY(stages_read(b, &lb, e));
	TRY(diff_table(a, b, &store_tables[TABLE_PROMPTS], NULL, INT64_MAX, d, e));
	d->same_through = -1;
	for (int i = 0; !d->found && (i < la.n || i < lb.n); i++) {
		const char *sa = i < la.n ? la.name[i] : "no such row", *sb = i < lb.n ? lb.name[i] : "no such row";
		if (i < la.n && i < lb.n && !strcmp(sa, sb)) {
			TRY(diff_stage(a, b, sa, d, e));
			continue;
		}
		*d = (struct store_difference){ .found = 1, .step = -1, .same_through = -1, .table = "stages", .column = "stage" };
		snprintf(d->row, sizeof d->row, "ordinal %d", i);
		snprintf(d->a, sizeof d->a, "%s", sa);
		snprintf(d->b, sizeof d->b, "%s", sb);
	}
out:
	return rc;
}
