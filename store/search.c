/* Finding groups again: the outline of a step, and words in prompts and
 * completions.
 *
 * There is no index of words: it would double the file, and the learner would pay
 * for it at each step. A search reads the texts from the newest row backwards, a
 * window of rows at a time, and stops when it has enough or its time is over; it
 * says where, so that the next one goes on there. So a page of results costs what
 * it shows, however long the run is, and no reading lasts so long that the WAL
 * could not be folded back meanwhile. */
#include "store/internal.h"

#include "core/base/fs.h"

#include <sqlite3.h>
#include <stdlib.h>

enum { WINDOW = 4096, TEXT_LIMIT = 1000 }; /* rows; bytes looked for */

static double real_or_nan(sqlite3_stmt *q, int c)
{
	return sqlite3_column_type(q, c) == SQLITE_NULL ? NAN : sqlite3_column_double(q, c);
}

static const char *text_or_empty(sqlite3_stmt *q, int c)
{
	const char *t = (const char *)sqlite3_column_text(q, c);
	return t ? t : "";
}

int store_each_outline(struct store *s, const char *stage, uint64_t step, int (*fn)(void *ctx, const struct store_outline *r), void *ctx,
                       struct err *e)
{
	static const char sql[] = "SELECT g.slot, g.prompt, g.size, p.text, g.scorer_version, avg(c.reward), min(c.reward), max(c.reward), avg(c.token_count) "
				  "FROM groups g JOIN prompts p ON p.prompt=g.prompt JOIN candidates c ON c.stage=g.stage AND c.step=g.step AND c.slot=g.slot "
				  "WHERE g.stage=?1 AND g.step=?2 GROUP BY g.slot ORDER BY g.slot";
	sqlite3_stmt *q;
	int got, rc = store_sql_prepare(s, &q, sql, e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)step);
	while (rc == 0 && (got = sqlite3_step(q)) != SQLITE_DONE) {
		if (got != SQLITE_ROW) {
			rc = store_sql_error(s, got, e, "table groups");
			break;
		}
		struct store_outline r = { (uint32_t)sqlite3_column_int64(q, 0), (uint32_t)sqlite3_column_int64(q, 1), (uint32_t)sqlite3_column_int64(q, 2),
			                   text_or_empty(q, 3), text_or_empty(q, 4), real_or_nan(q, 5), real_or_nan(q, 6), real_or_nan(q, 7), real_or_nan(q, 8) };
		rc = fn(ctx, &r);
	}
	sqlite3_finalize(q);
	return rc;
}

/* ?1 pattern, ?2 stage or NULL, ?3 rows from here, ?4 to before here, ?5 hits. */
#define WHERE_ROWS(t, text) " WHERE " t ".rowid >= ?3 AND " t ".rowid < ?4 AND (?2 IS NULL OR " t ".stage=?2) AND " text " LIKE ?1 ESCAPE '\\' ORDER BY " t ".rowid DESC LIMIT ?5"

static const char *const search_sql[2] = {
	"SELECT c.rowid, c.stage, c.step, c.slot, c.candidate, c.reward, p.text, c.text FROM candidates c CROSS JOIN groups g "
	"ON g.stage=c.stage AND g.step=c.step AND g.slot=c.slot CROSS JOIN prompts p ON p.prompt=g.prompt" WHERE_ROWS("c", "c.text"),
	"SELECT g.rowid, g.stage, g.step, g.slot, -1, (SELECT avg(c.reward) FROM candidates c WHERE c.stage=g.stage AND c.step=g.step AND c.slot=g.slot), p.text, '' "
	"FROM groups g CROSS JOIN prompts p ON p.prompt=g.prompt" WHERE_ROWS("g", "p.text"),
};
static const char *const newest_sql[2] = { "SELECT max(rowid) FROM candidates", "SELECT max(rowid) FROM groups" };

/* %text%, with what LIKE would read otherwise escaped. */
static char *pattern_of(const char *text)
{
	char *out = malloc(2 * strlen(text) + 3), *p = out;
	if (!out) return NULL;
	*p++ = '%';
	for (; *text; text++) {
		if (strchr("%_\\", *text)) *p++ = '\\';
		*p++ = *text;
	}
	*p++ = '%';
	*p = 0;
	return out;
}

struct search {
	struct store *s;
	sqlite3_stmt *q;
	int (*fn)(void *ctx, const struct store_hit *r);
	void *ctx;
	uint32_t left;
	int64_t at; /* rows from here on have been looked at */
	struct err *e;
};

static int search_window(struct search *a)
{
	int64_t from = a->at > WINDOW ? a->at - WINDOW : 0;
	int got, rc = 0;
	sqlite3_reset(a->q);
	sqlite3_bind_int64(a->q, 3, from);
	sqlite3_bind_int64(a->q, 4, a->at);
	sqlite3_bind_int64(a->q, 5, a->left);
	while (rc == 0 && (got = sqlite3_step(a->q)) != SQLITE_DONE) {
		if (got != SQLITE_ROW) return store_sql_error(a->s, got, a->e, "cannot search");
		struct store_hit r = { text_or_empty(a->q, 1), (uint64_t)sqlite3_column_int64(a->q, 2), (uint32_t)sqlite3_column_int64(a->q, 3),
			               sqlite3_column_int(a->q, 4), real_or_nan(a->q, 5), text_or_empty(a->q, 6), text_or_empty(a->q, 7) };
		rc = a->fn(a->ctx, &r);
		a->at = sqlite3_column_int64(a->q, 0);
		a->left--;
	}
	if (rc == 0 && a->left) a->at = from;
	return rc;
}

int store_each_hit(struct store *s, const struct store_search *q, int (*fn)(void *ctx, const struct store_hit *r), void *ctx, int64_t *next,
                   struct err *e)
{
	struct search a = { .s = s, .fn = fn, .ctx = ctx, .left = q->limit, .at = q->before, .e = e };
	const int what = q->prompts != 0;
	const double until = fs_now() + q->seconds;
	char *pattern = NULL;
	int rc;
	*next = 0;
	if (!*q->text || strlen(q->text) > TEXT_LIMIT) return err_set(e, ERR_RANGE, "1 to %d bytes to look for are needed", TEXT_LIMIT);
	if (a.at <= 0) {
		TRY(store_sql_int(s, newest_sql[what], &a.at, e));
		a.at++; /* 0 when the table is empty */
	}
	TRY(store_sql_prepare(s, &a.q, search_sql[what], e));
	pattern = pattern_of(q->text);
	if (!pattern) {
		rc = err_set(e, ERR_MEMORY, "no memory to search");
		goto out;
	}
	sqlite3_bind_text(a.q, 1, pattern, -1, SQLITE_STATIC);
	if (q->stage) sqlite3_bind_text(a.q, 2, q->stage, -1, SQLITE_STATIC);
	do {
		TRY(search_window(&a));
	} while (a.left && a.at > 0 && fs_now() < until);
	*next = a.at;
out:
	sqlite3_finalize(a.q);
	free(pattern);
	return rc;
}
