/* Who is given which item, and what was laid out for them. */
#include "core/base/fault.h"
#include "store/labels_internal.h"

int labels_assign(struct labels *l, int64_t item, int64_t person, const char *kind, int64_t *assignment, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e,
		"INSERT INTO assignments(item, person, kind, place, time) SELECT ?1, ?2, ?3, " LABELS_PLACES("(SELECT campaign FROM items WHERE item = ?1)", "?2") ", ?4",
		"iitr", item, person, kind, store_wall_time());
	if (rc == 0) rc = labels_done(l, q, NULL, e);
	if (rc < 0) return rc;
	*assignment = sqlite3_last_insert_rowid(l->base.db);
	labels_turns_touch(l, item);
	return 0;
}

int labels_assignment_done(struct labels *l, int64_t assignment, int done, struct err *e)
{
	sqlite3_stmt *q;
	int rc = done ? labels_sql(l, &q, e, "UPDATE assignments SET done = ?2 WHERE assignment = ?1 AND done IS NULL", "ir", assignment, store_wall_time())
		      : labels_sql(l, &q, e, "UPDATE assignments SET done = NULL WHERE assignment = ?1 AND done IS NOT NULL RETURNING item", "i", assignment);
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) labels_turns_touch(l, sqlite3_column_int64(q, 0)); /* wanted again */
	labels_finish(l, q);
	return rc;
}

static int assignment_give(struct labels *l, sqlite3_stmt *q, struct labels_assignment *a, struct err *e)
{
	int rc = labels_step(l, q, e);
	if (rc > 0) {
		a->assignment = sqlite3_column_int64(q, 0);
		a->item = sqlite3_column_int64(q, 1);
		a->person = sqlite3_column_int64(q, 2);
		labels_copy(a->kind, sizeof a->kind, labels_text(q, 3));
		a->place = (uint32_t)sqlite3_column_int64(q, 4);
		a->time = sqlite3_column_double(q, 5);
		a->done = sqlite3_column_double(q, 6);
	}
	labels_finish(l, q);
	return rc;
}

int labels_assignment_get(struct labels *l, int64_t assignment, struct labels_assignment *a, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT assignment, item, person, kind, place, time, done FROM assignments WHERE assignment = ?1", "i", assignment);
	return rc < 0 ? rc : assignment_give(l, q, a, e);
}

int labels_assignment_open(struct labels *l, int64_t campaign, int64_t person, struct labels_assignment *a, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e,
		"SELECT s.assignment, s.item, s.person, s.kind, s.place, s.time, s.done FROM assignments s CROSS JOIN items i ON i.item = s.item"
		" WHERE s.person = ?2 AND i.campaign = ?1 AND s.done IS NULL ORDER BY s.assignment LIMIT 1",
		"ii", campaign, person);
	return rc < 0 ? rc : assignment_give(l, q, a, e);
}

int labels_assignment_count(struct labels *l, int64_t campaign, int64_t person, const char *kind, int64_t *n, struct err *e)
{
	sqlite3_stmt *q;
	int rc = kind ? labels_sql(l, &q, e,
			       "SELECT count(*) FROM assignments s CROSS JOIN items i ON i.item = s.item WHERE s.person = ?2 AND s.kind = ?3 AND i.campaign = ?1", "iit", campaign,
			       person, kind)
		      : labels_sql(l, &q, e, "SELECT " LABELS_PLACES("?1", "?2"), "ii", campaign, person);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) *n = sqlite3_column_int64(q, 0);
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

/* ---- asks ---- */

int labels_ask_put(struct labels *l, struct labels_ask *a, struct err *e)
{
	char shown[LABELS_LIST], hashes[LABELS_HASHES];
	struct labels_hashed h;
	sqlite3_stmt *q;
	int rc;
	TRY(labels_hash_item(l, a->item, &h, e));
	TRY(labels_hashes_write(&h, a->shown, a->count, hashes, e));
	labels_list_write(a->shown, a->count, shown, sizeof shown);
	a->time = store_wall_time();
	a->event = 0;
	TRY(labels_sql(l, &q, e,
		"INSERT INTO asks(assignment, criterion, place, kind, design, arm, probability, shown, hashes, repeats, time)"
		" VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, nullif(?10, 0), ?11)",
		"iiiittrttir", a->assignment, (int64_t)a->criterion, (int64_t)a->place, (int64_t)a->kind, a->design, a->arm, a->probability, shown, hashes,
		a->repeats, a->time));
	TRY(labels_done(l, q, NULL, e));
	a->ask = sqlite3_last_insert_rowid(l->base.db);
	FAULT_POINT("labels.within_asking", "a question is laid out, its transaction open");
out:
	return rc;
}

#define ASK_COLUMNS                                                                                                                                            \
	"SELECT a.ask, a.assignment, s.item, s.person, a.criterion, a.place, a.kind, a.design, a.arm, a.probability, a.shown, a.repeats, a.time,"              \
	" (SELECT v.event FROM events v WHERE v.ask = a.ask AND v.kind = 'label' AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = v.event)) AS answer" \
	" FROM asks a JOIN assignments s ON s.assignment = a.assignment "

static int ask_read(struct labels *l, sqlite3_stmt *q, struct labels_ask *a, struct err *e)
{
	*a = (struct labels_ask){.ask = sqlite3_column_int64(q, 0), .assignment = sqlite3_column_int64(q, 1), .item = sqlite3_column_int64(q, 2),
		.person = sqlite3_column_int64(q, 3), .criterion = (uint32_t)sqlite3_column_int64(q, 4), .place = (uint32_t)sqlite3_column_int64(q, 5),
		.kind = (enum labels_kind)sqlite3_column_int(q, 6), .probability = sqlite3_column_double(q, 9), .repeats = sqlite3_column_int64(q, 11),
		.time = sqlite3_column_double(q, 12), .event = sqlite3_column_int64(q, 13)};
	labels_copy(a->design, sizeof a->design, labels_text(q, 7));
	labels_copy(a->arm, sizeof a->arm, labels_text(q, 8));
	int n = labels_list_read(labels_text(q, 10), a->shown);
	if (n < 2) return err_set(e, ERR_FORMAT, "%s: ask %lld has no list of candidates", l->base.path, (long long)a->ask);
	a->count = (uint32_t)n;
	return 0;
}

/* The first row of the query, which is finished. */
static int ask_give(struct labels *l, sqlite3_stmt *q, struct labels_ask *a, struct err *e)
{
	int rc = labels_step(l, q, e);
	if (rc > 0 && ask_read(l, q, a, e) < 0) rc = ERR_FORMAT;
	labels_finish(l, q);
	return rc;
}

int labels_ask_get(struct labels *l, int64_t ask, struct labels_ask *a, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, ASK_COLUMNS "WHERE a.ask = ?1", "i", ask);
	return rc < 0 ? rc : ask_give(l, q, a, e);
}

int labels_ask_open(struct labels *l, int64_t assignment, struct labels_ask *a, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT * FROM (" ASK_COLUMNS "WHERE a.assignment = ?1) WHERE answer IS NULL ORDER BY place, criterion LIMIT 1", "i", assignment);
	return rc < 0 ? rc : ask_give(l, q, a, e);
}

int labels_each_ask(struct labels *l, int64_t assignment, int (*fn)(void *ctx, const struct labels_ask *a), void *ctx, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, ASK_COLUMNS "WHERE a.assignment = ?1 ORDER BY a.place, a.criterion", "i", assignment);
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) {
		struct labels_ask a;
		rc = ask_read(l, q, &a, e);
		if (rc == 0) rc = fn(ctx, &a);
		if (rc) break;
	}
	labels_finish(l, q);
	return rc;
}

int labels_ask_to_repeat(struct labels *l, int64_t campaign, int64_t person, int back, uint32_t r, struct labels_ask *a, struct err *e)
{
#define REPEATABLE                                                                                                                                              \
	"WHERE s.person = ?2 AND s.kind = 'task' AND a.kind <> 3 AND a.criterion = 0 AND (SELECT campaign FROM items i WHERE i.item = s.item) = ?1"             \
	" AND NOT EXISTS (SELECT 1 FROM assignments t WHERE t.item = s.item AND t.person = ?2 AND t.kind = 'repeat')"                                          \
	" AND a.time < (SELECT v.time FROM events v WHERE v.person = ?2 AND v.kind = 'label' ORDER BY v.event DESC LIMIT 1 OFFSET ?3 - 1)"                       \
	" AND EXISTS (SELECT 1 FROM events v WHERE v.ask = a.ask AND v.outcome = 'ranked' AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = v.event))"
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT count(*) FROM asks a JOIN assignments s ON s.assignment = a.assignment " REPEATABLE, "iii", campaign, person,
		(int64_t)back);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	uint64_t n = rc > 0 ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
	labels_finish(l, q);
	if (rc < 0 || n == 0) return rc < 0 ? rc : 0;
	rc = labels_sql(l, &q, e, ASK_COLUMNS REPEATABLE " ORDER BY a.ask LIMIT 1 OFFSET ?4", "iiii", campaign, person, (int64_t)back, (int64_t)(r * n >> 32));
	return rc < 0 ? rc : ask_give(l, q, a, e);
#undef REPEATABLE
}
