/* Reading comparisons back: rows of the JSON arrays joined by place, so that
 * SQLite parses what it has stored. */
#include "store/internal.h"

#include <sqlite3.h>

static const char SQL[] =
	"SELECT c.slot, c.source, c.scorer_version, a.key, a.value, json_extract(c.ranks, '$[' || a.key || ']'), c.margins IS NOT NULL, "
	"json_extract(c.margins, '$[' || a.key || ']') FROM comparisons c, json_each(c.ranking) a "
	"WHERE c.stage = ?1 AND c.step = ?2 AND (?3 IS NULL OR c.source = ?3) ORDER BY c.slot, c.source, c.scorer_version, a.key";

struct reading {
	struct store_comparison c;
	char source[STORE_NAME], version[STORE_NAME];
	uint32_t slot;
};

static int give(struct reading *r, int (*fn)(void *ctx, uint32_t slot, const struct store_comparison *c), void *ctx)
{
	if (r->c.count == 0) return 0;
	r->c.source = r->source;
	r->c.scorer_version = r->version;
	return fn(ctx, r->slot, &r->c);
}

/* The row's place in its comparison; key 0 opens one. */
static int take(struct reading *r, sqlite3_stmt *q, const struct store *s, struct err *e)
{
	int64_t key = sqlite3_column_int64(q, 3), who = sqlite3_column_int64(q, 4), rank = sqlite3_column_int64(q, 5);
	if (key == 0) {
		memset(r, 0, sizeof *r);
		r->slot = (uint32_t)sqlite3_column_int64(q, 0);
		snprintf(r->source, sizeof r->source, "%s", (const char *)sqlite3_column_text(q, 1));
		snprintf(r->version, sizeof r->version, "%s", (const char *)sqlite3_column_text(q, 2));
		r->c.has_margins = sqlite3_column_int(q, 6);
	}
	if (key != r->c.count || key >= GROUP_MAX || who < 0 || who >= GROUP_MAX || rank < 1 || rank > GROUP_MAX)
		return err_set(e, ERR_FORMAT, "%s: table comparisons: slot %u: place %lld of the ranking is not a candidate with a rank", s->path, r->slot, (long long)key);
	r->c.order[key] = (uint8_t)who;
	r->c.rank[key] = (uint8_t)rank;
	r->c.margin[key] = sqlite3_column_type(q, 7) == SQLITE_NULL ? NAN : sqlite3_column_double(q, 7);
	r->c.count++;
	return 0;
}

int store_each_comparison(struct store *s, const char *stage, uint64_t step, const char *source,
                          int (*fn)(void *ctx, uint32_t slot, const struct store_comparison *c), void *ctx, struct err *e)
{
	struct reading r = { .slot = 0 };
	sqlite3_stmt *q = NULL;
	int rc, got;
	TRY(store_sql_prepare(s, &q, SQL, e));
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)step);
	if (source) sqlite3_bind_text(q, 3, source, -1, SQLITE_STATIC);
	while ((got = sqlite3_step(q)) == SQLITE_ROW) {
		if (sqlite3_column_int64(q, 3) == 0 && (rc = give(&r, fn, ctx)) != 0) goto out;
		TRY(take(&r, q, s, e));
	}
	if (got != SQLITE_DONE) TRY(store_sql_error(s, got, e, "table comparisons"));
	rc = give(&r, fn, ctx);
out:
	sqlite3_finalize(q);
	return rc;
}
