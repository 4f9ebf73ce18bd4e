/* labels.db: opening, transactions, and the small helpers of the other files.
 * Opening is open.c's, with synchronous=FULL: a label that was acknowledged is on
 * the disk. secure_delete overwrites what an erased person wrote. */
#include "core/base/text.h"
#include "store/labels_internal.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

extern const unsigned char store_labels_sql[]; /* NUL-terminated; made from labels.sql */

/* 2: indexes, so that nothing that is done for one answer looks at all of them. */
static const struct migration migrations[] = {
	{1, "CREATE INDEX items_role ON items (campaign, role, number);"
	    "CREATE INDEX assignments_kind ON assignments (person, kind);"
	    "CREATE INDEX assignments_open ON assignments (person, assignment) WHERE done IS NULL;"
	    "CREATE INDEX events_exclude ON events (person, event) WHERE kind = 'exclude';"
	    "CREATE INDEX events_include ON events (person, event) WHERE kind = 'include'"},
	{0, NULL},
};
static const struct store_kind kind = {0x546e4c62 /* "TnLb" */, 2, 2, "tenfold web", (const char *)store_labels_sql, "FULL", migrations};

int labels_open(struct labels **out, const char *path, int writer, struct err *e)
{
	*out = NULL;
	struct labels *l = calloc(1, sizeof *l);
	if (!l || !(l->base.path = strdup(path))) {
		free(l);
		return err_set(e, ERR_MEMORY, "no memory to open %s", path);
	}
	l->base.kind = &kind;
	l->base.lock_fd = -1;
	l->base.writer = writer;
	int rc = writer ? store_file_write(&l->base, e) : store_file_read(&l->base, e);
	if (rc == 0 && writer) rc = store_sql_run(&l->base, "PRAGMA secure_delete=1", e);
	/* the log of a process that was killed may have what it was to forget (labels_person_erase) */
	if (rc == 0 && writer) rc = store_sql_run(&l->base, "PRAGMA wal_checkpoint(TRUNCATE)", e);
	if (rc < 0) {
		labels_close(l);
		return rc;
	}
	*out = l;
	return 0;
}

void labels_close(struct labels *l)
{
	if (!l) return;
	labels_state_free(l);
	for (int i = 0; i < LABELS_STATEMENTS; i++) sqlite3_finalize(l->statement[i].q);
	store_file_close(&l->base);
	free(l);
}

int labels_begin(struct labels *l, struct err *e)
{
	if (!l->base.writer) return err_set(e, ERR_STATE, "%s is open for reading only", l->base.path);
	return store_sql_run(&l->base, "BEGIN IMMEDIATE", e);
}

int labels_end(struct labels *l, int rc, struct err *e)
{
	if (rc >= 0) {
		int committed = store_sql_run(&l->base, "COMMIT", e);
		if (committed == 0) return rc;
		rc = committed;
	}
	if (!sqlite3_get_autocommit(l->base.db)) sqlite3_exec(l->base.db, "ROLLBACK", NULL, NULL, NULL);
	labels_turns_unsettle(l);
	return rc;
}

/* A prepared statement of that text (by its address) that is not in use; one is made where there is none. */
static int statement_take(struct labels *l, sqlite3_stmt **q, const char *sql, struct err *e)
{
	struct labels_statement *room = NULL;
	for (struct labels_statement *s = l->statement; s < l->statement + LABELS_STATEMENTS; s++) {
		if (!s->q && !room) room = s;
		if (s->sql != sql || s->busy || !s->q) continue;
		s->busy = 1;
		*q = s->q;
		return 0;
	}
	*q = NULL;
	int rc = store_sql_prepare(&l->base, q, sql, e);
	if (rc == 0 && room) *room = (struct labels_statement){sql, *q, 1};
	return rc;
}

void labels_finish(struct labels *l, sqlite3_stmt *q)
{
	for (struct labels_statement *s = l->statement; q && s < l->statement + LABELS_STATEMENTS; s++) {
		if (s->q != q) continue;
		sqlite3_reset(q);
		sqlite3_clear_bindings(q);
		s->busy = 0;
		return;
	}
	sqlite3_finalize(q);
}

int labels_sql(struct labels *l, sqlite3_stmt **q, struct err *e, const char *sql, const char *types, ...)
{
	int rc = statement_take(l, q, sql, e);
	if (rc < 0) return rc;
	va_list ap;
	va_start(ap, types);
	int bound = SQLITE_OK;
	for (int at = 1; *types && bound == SQLITE_OK; types++, at++) {
		const void *p;
		switch (*types) {
		case 'i': bound = sqlite3_bind_int64(*q, at, va_arg(ap, int64_t)); break;
		case 'r': bound = sqlite3_bind_double(*q, at, va_arg(ap, double)); break;
		case 't': bound = sqlite3_bind_text(*q, at, va_arg(ap, const char *), -1, SQLITE_TRANSIENT); break;
		case 'b':
			p = va_arg(ap, const void *);
			bound = sqlite3_bind_blob(*q, at, p, (int)va_arg(ap, size_t), SQLITE_TRANSIENT);
			break;
		default: CHECK(0, "type letter %c", *types);
		}
	}
	va_end(ap);
	if (bound == SQLITE_OK) return 0;
	rc = store_sql_error(&l->base, bound, e, sql);
	labels_finish(l, *q);
	*q = NULL;
	return rc;
}

int labels_step(struct labels *l, sqlite3_stmt *q, struct err *e)
{
	int got = sqlite3_step(q);
	if (got == SQLITE_ROW) return 1;
	return got == SQLITE_DONE ? 0 : store_sql_error(&l->base, got, e, sqlite3_sql(q));
}

int labels_done(struct labels *l, sqlite3_stmt *q, int *changed, struct err *e)
{
	int rc;
	while ((rc = labels_step(l, q, e)) > 0)
		;
	labels_finish(l, q);
	if (changed) *changed = sqlite3_changes(l->base.db);
	return rc;
}

void labels_copy(char *out, size_t bytes, const char *text) { text_clean(text, strlen(text), out, bytes); }

void labels_list_write(const uint8_t *v, uint32_t n, char *out, size_t bytes)
{
	size_t at = 0;
	CHECK(bytes >= (size_t)n * 4 + 3, "room for %u numbers", n);
	out[at++] = '[';
	for (uint32_t i = 0; i < n; i++) at += (size_t)snprintf(out + at, bytes - at, "%s%u", i ? "," : "", v[i]);
	strcpy(out + at, "]");
}

int labels_list_read(const char *text, uint8_t v[GROUP_MAX])
{
	int n = 0;
	if (*text++ != '[') return -1;
	while (*text && *text != ']') {
		char *end;
		long x = strtol(text, &end, 10);
		if (end == text || x < 0 || x > 255 || n == GROUP_MAX) return -1;
		v[n++] = (uint8_t)x;
		text = end + (*end == ',');
	}
	return n;
}

int labels_text_check(const char *text, const char *what, struct err *e)
{
	size_t n = strlen(text);
	if (n > LABELS_TEXT_MAX) return err_set(e, ERR_RANGE, "%s has %zu bytes; %d is the limit", what, n, LABELS_TEXT_MAX);
	json_t *valid = json_stringn(text, n);
	if (!valid) return err_set(e, ERR_FORMAT, "%s is not valid UTF-8", what);
	json_decref(valid);
	return 0;
}

int labels_journal(struct labels *l, const char *what, int64_t subject, const char *detail, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "INSERT INTO journal(what, subject, detail, time) VALUES(?1, ?2, ?3, ?4)", "titr", what, subject, detail, store_wall_time());
	return rc < 0 ? rc : labels_done(l, q, NULL, e);
}

int labels_query(struct labels *l, const char *sql, int (*fn)(void *ctx, int columns, const char *const *names, const char *const *values), void *ctx,
                 struct err *e)
{
	return store_query(&l->base, sql, fn, ctx, e);
}

int labels_count(struct labels *l, const char *sql, int64_t *n, struct err *e)
{
	int rc = store_sql_int(&l->base, sql, n, e);
	if (rc == 0 && *n < 0) *n = 0;
	return rc;
}
