/* Answers: one event each, recognised by its key when it comes again. */
#include "core/base/fault.h"
#include "store/labels_internal.h"

#include <stdlib.h>

static const char *const outcomes[] = {"", "ranked", "tie", "all_bad", "skip", "cannot_rank", "flag"};
enum { OUTCOMES = sizeof outcomes / sizeof outcomes[0] };

const char *labels_outcome_name(enum labels_outcome o)
{
	CHECK(o >= LABELS_RANKED && (int)o < OUTCOMES, "outcome %d", o);
	return outcomes[o];
}

enum labels_outcome labels_outcome_find(const char *name)
{
	for (int o = LABELS_RANKED; o < OUTCOMES; o++)
		if (!strcmp(outcomes[o], name)) return (enum labels_outcome)o;
	return 0;
}

static int bad_ranks(struct err *e, const char *why) { return err_set(e, ERR_RANGE, "the ranks do not fit: %s", why); }

static int ranks_check(const struct labels_answer *a, const struct labels_ask *k, struct err *e)
{
	uint32_t times[GROUP_MAX + 1] = {0};
	for (uint32_t i = 0; i < k->count; i++) {
		if (a->rank[i] > k->count) return bad_ranks(e, "a rank is beyond the number shown");
		times[a->rank[i]]++;
	}
	for (uint32_t i = k->count; i < GROUP_MAX; i++)
		if (a->rank[i]) return bad_ranks(e, "more ranks than candidates shown");
	if (a->strength < 0 || a->strength > 3 || (a->strength && (k->kind != LABELS_DUEL || a->outcome != LABELS_RANKED)))
		return err_set(e, ERR_RANGE, "a strength is 1 to 3, and belongs to a duel with a winner");
	if (a->outcome == LABELS_TIE) return times[1] == k->count ? 0 : bad_ranks(e, "a tie is 1 for all");
	if (a->outcome != LABELS_RANKED) return times[0] == k->count ? 0 : bad_ranks(e, "only a ranking or a tie has ranks");
	if (times[0]) return bad_ranks(e, "a candidate is not ranked");
	if (times[1] == k->count) return bad_ranks(e, "all equal is a tie");
	if (k->kind == LABELS_DUEL) return times[1] == 1 && times[2] == 1 ? 0 : bad_ranks(e, "a duel has one 1 and one 2");
	if (k->kind == LABELS_BEST_WORST)
		return times[1] == 1 && times[3] == 1 && times[2] == k->count - 2 ? 0 : bad_ranks(e, "best and worst are one 1, one 3, the rest 2");
	for (uint32_t r = 1, next = 1; r <= k->count; r++) {
		if (!times[r]) continue;
		if (r != next) return bad_ranks(e, "an order is 1, 2, 2, 4: each rank is one more than the number of those before");
		next = r + times[r];
	}
	return 0;
}

/* 1: the key is there, with the same answer (*event); 0: it is not. */
static int key_find(struct labels *l, const struct labels_answer *a, const char *ranks, int64_t *event, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT event, kind, person, ask, outcome, ranks, strength FROM events WHERE key = ?1", "t", a->key);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) {
		*event = sqlite3_column_int64(q, 0);
		if (strcmp(labels_text(q, 1), "label") || sqlite3_column_int64(q, 2) != a->person || sqlite3_column_int64(q, 3) != a->ask ||
			strcmp(labels_text(q, 4), labels_outcome_name(a->outcome)) || strcmp(labels_text(q, 5), ranks ? ranks : "") ||
			sqlite3_column_int(q, 6) != a->strength)
			rc = err_set(e, ERR_MISMATCH, "this key was used for another answer: the first one stays");
	}
	labels_finish(l, q);
	return rc;
}

static int notes_put(struct labels *l, int64_t event, const char *reason, const char *correction, struct err *e)
{
	sqlite3_stmt *q;
	int rc;
	if (!(reason && *reason) && !(correction && *correction)) return 0;
	TRY(labels_text_check(reason ? reason : "", "the reason", e));
	TRY(labels_text_check(correction ? correction : "", "the correction", e));
	TRY(labels_sql(l, &q, e, "INSERT INTO notes VALUES(?1, ?2, ?3)", "itt", event, reason, correction));
	rc = labels_done(l, q, NULL, e);
out:
	return rc;
}

static int answer_insert(struct labels *l, const struct labels_answer *a, const char *ranks, int64_t *event, struct err *e)
{
	sqlite3_stmt *q;
	int outer = !sqlite3_get_autocommit(l->base.db); /* an import puts many in one transaction */
	int rc = outer ? 0 : labels_begin(l, e);
	if (rc < 0) return rc;
	rc = labels_sql(l, &q, e,
		"INSERT INTO events(key, kind, person, ask, outcome, ranks, strength, visible_ms, guidelines, page, time)"
		" VALUES(?1, 'label', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
		"tiittiiitr", a->key, a->person, a->ask, labels_outcome_name(a->outcome), ranks, (int64_t)a->strength, a->visible_ms, (int64_t)a->guidelines,
		a->page ? a->page : "", a->time > 0 ? a->time : store_wall_time());
	if (rc == 0) rc = labels_done(l, q, NULL, e);
	if (rc == 0) {
		*event = sqlite3_last_insert_rowid(l->base.db);
		rc = notes_put(l, *event, a->reason, a->correction, e);
	}
	FAULT_POINT("labels.before_commit", "a label is inserted, its transaction open");
	if (!outer) rc = labels_end(l, rc, e);
	FAULT_POINT("labels.after_commit", "a label is committed, nobody was told");
	return rc;
}

int labels_answer_put(struct labels *l, const struct labels_answer *a, int64_t *event, struct err *e)
{
	struct labels_ask k;
	char list[LABELS_LIST];
	const char *ranks = a->outcome == LABELS_RANKED || a->outcome == LABELS_TIE ? list : NULL;
	size_t n = strlen(a->key);
	if (n < 8 || n >= LABELS_KEY) return err_set(e, ERR_RANGE, "a key has 8 to %d characters", LABELS_KEY - 1);
	if (a->outcome < LABELS_RANKED || (int)a->outcome >= OUTCOMES) return err_set(e, ERR_RANGE, "there is no such outcome");
	if (a->visible_ms < 0) return err_set(e, ERR_RANGE, "the visible time is negative");
	int rc = labels_ask_get(l, a->ask, &k, e);
	if (rc < 0) return rc;
	if (rc == 0 || k.person != a->person) return err_set(e, ERR_NOT_FOUND, "nothing of that number was asked of this person");
	rc = ranks_check(a, &k, e);
	if (rc < 0) return rc;
	labels_list_write(a->rank, k.count, list, sizeof list);
	rc = key_find(l, a, ranks, event, e);
	if (rc) return rc < 0 ? rc : 0;
	if (k.event) return err_set(e, ERR_STATE, "this was answered already; take that answer back to give another");
	return answer_insert(l, a, ranks, event, e);
}

int labels_undo(struct labels *l, const char *key, int64_t person, int64_t event, int64_t *undo, struct err *e)
{
	sqlite3_stmt *q;
	int64_t mine = 0, undone = 0;
	size_t n = strlen(key);
	if (n < 8 || n >= LABELS_KEY) return err_set(e, ERR_RANGE, "a key has 8 to %d characters", LABELS_KEY - 1);
	int rc = labels_sql(l, &q, e,
		"SELECT e.event, u.event, u.key FROM events e LEFT JOIN events u ON u.undoes = e.event WHERE e.event = ?1 AND e.person = ?2 AND e.kind = 'label'", "ii",
		event, person);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) {
		mine = sqlite3_column_int64(q, 0);
		undone = sqlite3_column_int64(q, 1);
		if (undone && !strcmp(labels_text(q, 2), key)) *undo = undone, mine = -1;
	}
	labels_finish(l, q);
	if (rc < 0 || mine < 0) return rc < 0 ? rc : 0; /* the same request again */
	if (!mine) return err_set(e, ERR_NOT_FOUND, "this person has no label %lld", (long long)event);
	if (undone) return err_set(e, ERR_STATE, "that label is taken back already");
	rc = labels_sql(l, &q, e, "INSERT INTO events(key, kind, person, undoes, strength, visible_ms, guidelines, page, time) VALUES(?1, 'undo', ?2, ?3, 0, 0, 0, '', ?4)",
		"tiir", key, person, event, store_wall_time());
	if (rc == 0) rc = labels_done(l, q, NULL, e);
	if (rc < 0) return rc;
	*undo = sqlite3_last_insert_rowid(l->base.db);
	FAULT_POINT("labels.within_undo", "a label is taken back, its prompt is not open again, the transaction open");
	return 0;
}

int labels_notes_get(struct labels *l, int64_t event, char **reason, char **correction, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT reason, correction FROM notes WHERE event = ?1", "i", event);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc >= 0) {
		*reason = strdup(rc > 0 ? labels_text(q, 0) : "");
		*correction = strdup(rc > 0 ? labels_text(q, 1) : "");
		rc = *reason && *correction ? 0 : err_set(e, ERR_MEMORY, "no memory for notes");
	}
	labels_finish(l, q);
	return rc;
}
