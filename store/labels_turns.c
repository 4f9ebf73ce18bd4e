/* What a writing handle remembers, so that the next question costs about the same
 * however many items and answers there are: for each campaign the items of role
 * task in the order of their numbers with a mark each (nobody took it; somebody
 * did; all who were needed have finished it), and for each person how many answers
 * were counted up to which event.
 *
 * Only the file decides. A mark says where looking is in vain: a fresh item has no
 * assignment, a settled one needs nobody. What could make a settled item wanted
 * again (an assignment opened again, a person excluded, a transaction rolled back)
 * takes the mark off; new items make the list anew. There is one writer, so nobody
 * else changes the file meanwhile. */
#include "store/labels_internal.h"

#include <stdlib.h>

enum turn_state { FRESH, TAKEN, SETTLED };

struct turn {
	int64_t item;
	uint32_t number;
	uint8_t state;
	const char *language; /* shared with the one before where it is equal */
};

struct labels_turns {
	struct labels_turns *next;
	int64_t campaign;
	size_t count, room;
	struct turn *turn; /* [count] numbers and items rise */
};

struct labels_counts {
	struct labels_counts *next;
	int64_t campaign, person, through, labels;
};

static void list_free(struct labels_turns *t)
{
	for (size_t i = 0; i < t->count; i++)
		if (i == 0 || t->turn[i].language != t->turn[i - 1].language) free((char *)t->turn[i].language);
	free(t->turn);
	free(t);
}

void labels_turns_forget(struct labels *l)
{
	while (l->turns) {
		struct labels_turns *t = l->turns;
		l->turns = t->next;
		list_free(t);
	}
}

void labels_state_free(struct labels *l)
{
	labels_turns_forget(l);
	while (l->counts) {
		struct labels_counts *c = l->counts;
		l->counts = c->next;
		free(c);
	}
}

static int by_item(const void *x, const void *y)
{
	const struct turn *a = x, *b = y;
	return (a->item > b->item) - (a->item < b->item);
}

void labels_turns_touch(struct labels *l, int64_t item)
{
	for (struct labels_turns *t = l->turns; t; t = t->next) {
		struct turn *at = bsearch(&(struct turn){.item = item}, t->turn, t->count, sizeof *t->turn, by_item);
		if (at) at->state = TAKEN;
	}
}

void labels_turns_unsettle(struct labels *l)
{
	for (struct labels_turns *t = l->turns; t; t = t->next)
		for (size_t i = 0; i < t->count; i++)
			if (t->turn[i].state == SETTLED) t->turn[i].state = TAKEN;
}

static int list_add(struct labels_turns *t, sqlite3_stmt *q, struct err *e)
{
	const char *language = labels_text(q, 2);
	if (t->count == t->room) {
		size_t room = 2 * t->room + 64;
		struct turn *more = realloc(t->turn, room * sizeof *more);
		if (!more) return err_set(e, ERR_MEMORY, "no memory for the items of a campaign");
		t->turn = more;
		t->room = room;
	}
	int same = t->count && !strcmp(t->turn[t->count - 1].language, language);
	language = same ? t->turn[t->count - 1].language : strdup(language);
	if (!language) return err_set(e, ERR_MEMORY, "no memory for the items of a campaign");
	t->turn[t->count++] = (struct turn){sqlite3_column_int64(q, 0), (uint32_t)sqlite3_column_int64(q, 1), sqlite3_column_int(q, 3) ? TAKEN : FRESH, language};
	return 0;
}

static int list_get(struct labels *l, int64_t campaign, struct labels_turns **out, struct err *e)
{
	sqlite3_stmt *q;
	for (*out = l->turns; *out; *out = (*out)->next)
		if ((*out)->campaign == campaign) return 0;
	int rc = labels_sql(l, &q, e,
		"SELECT i.item, i.number, i.language, EXISTS (SELECT 1 FROM assignments s WHERE s.item = i.item) FROM items i"
		" WHERE i.campaign = ?1 AND i.role = 'task' ORDER BY i.number", "i", campaign);
	if (rc < 0) return rc;
	struct labels_turns *t = calloc(1, sizeof *t);
	if (!t) rc = err_set(e, ERR_MEMORY, "no memory for the items of a campaign");
	while (rc >= 0 && (rc = labels_step(l, q, e)) > 0) rc = list_add(t, q, e);
	labels_finish(l, q);
	if (rc < 0) {
		if (t) list_free(t);
		return rc;
	}
	t->campaign = campaign;
	t->next = l->turns;
	*out = l->turns = t;
	return 0;
}

static int language_in(const char *languages, const char *language)
{
	if (!*languages || !*language) return 1;
	size_t n = strlen(language);
	for (const char *p = languages; *p;) {
		p += strspn(p, ", ");
		size_t k = strcspn(p, ", ");
		if (k == n && !strncmp(p, language, n)) return 1;
		p += k;
	}
	return 0;
}

int labels_next_known(struct labels *l, int64_t campaign, int64_t person, const char *role, const char *languages, int64_t *item, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e,
		"SELECT i.item, i.language FROM items i WHERE i.campaign = ?1 AND i.role = ?3"
		" AND NOT EXISTS (SELECT 1 FROM assignments s WHERE s.item = i.item AND s.person = ?2) ORDER BY i.number", "iit", campaign, person, role);
	*item = 0;
	if (rc < 0) return rc;
	while (!*item && (rc = labels_step(l, q, e)) > 0)
		if (language_in(languages, labels_text(q, 1))) *item = sqlite3_column_int64(q, 0);
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

/* Of one item: whether the person has it; by how many it is finished; by how many it is finished or being worked on: taken or
 * answered after ?3. */
static const char standing_sql[] =
	"SELECT coalesce(max(s.person = ?2), 0),"
	" count(*) FILTER (WHERE s.kind = 'task' AND s.done IS NOT NULL AND s.person NOT IN (SELECT person FROM excluded)),"
	" count(*) FILTER (WHERE s.kind = 'task' AND s.person NOT IN (SELECT person FROM excluded) AND (s.done IS NOT NULL OR s.time > ?3"
	" OR EXISTS (SELECT 1 FROM asks a JOIN events v ON v.ask = a.ask WHERE a.assignment = s.assignment AND v.time > ?3)))"
	" FROM assignments s WHERE s.item = ?1";

int labels_next_item(struct labels *l, int64_t campaign, int64_t person, const char *languages, double lease, uint32_t (*needs)(void *ctx, uint32_t number),
                     void *ctx, int64_t *item, struct err *e)
{
	struct labels_turns *t;
	int64_t begun = 0, fresh = 0;
	sqlite3_stmt *q;
	int rc = list_get(l, campaign, &t, e);
	if (rc == 0) rc = labels_sql(l, &q, e, standing_sql, "iir", (int64_t)0, person, store_wall_time() - lease);
	if (rc < 0) return rc;
	for (size_t i = 0; i < t->count && !begun; i++) {
		struct turn *at = &t->turn[i];
		if (at->state == SETTLED || !language_in(languages, at->language)) continue;
		if (at->state == FRESH) {
			if (!fresh) fresh = at->item;
			continue;
		}
		sqlite3_reset(q);
		sqlite3_bind_int64(q, 1, at->item);
		if ((rc = labels_step(l, q, e)) < 0) break;
		int64_t wanted = (int64_t)needs(ctx, at->number), taken = sqlite3_column_int64(q, 2);
		if (sqlite3_column_int64(q, 1) >= wanted) at->state = SETTLED;
		else if (sqlite3_column_int64(q, 0) || taken >= wanted) continue;
		else if (taken > 0) begun = at->item;
		else if (!fresh) fresh = at->item;
	}
	labels_finish(l, q);
	*item = begun ? begun : fresh;
	return rc < 0 ? rc : 0;
}

/* ---- what a person has done ---- */

static struct labels_counts *counts_get(struct labels *l, int64_t campaign, int64_t person)
{
	struct labels_counts *c = l->counts;
	while (c && (c->campaign != campaign || c->person != person)) c = c->next;
	if (c || !(c = calloc(1, sizeof *c))) return c;
	c->campaign = campaign;
	c->person = person;
	c->next = l->counts;
	return l->counts = c;
}

/* Answers of a person so far: those events only that came since it was asked last. */
static int count_answers(struct labels *l, int64_t campaign, int64_t person, int64_t *labels, struct err *e)
{
	struct labels_counts *c = counts_get(l, campaign, person);
	sqlite3_stmt *q;
	if (!c) return err_set(e, ERR_MEMORY, "no memory for a person's counts");
	CHECK(sqlite3_get_autocommit(l->base.db), "counting within a transaction, which may be rolled back");
	int rc = labels_sql(l, &q, e,
		"SELECT max(e.event), total(iif(e.kind = 'label', 1, -1)) FROM events e CROSS JOIN asks a"
		" ON a.ask = coalesce(e.ask, (SELECT v.ask FROM events v WHERE v.event = e.undoes)) CROSS JOIN assignments s ON s.assignment = a.assignment"
		" CROSS JOIN items i ON i.item = s.item WHERE e.person = ?2 AND e.event > ?3 AND e.kind IN ('label', 'undo') AND i.campaign = ?1", "iii", campaign, person,
		c->through);
	if (rc < 0) return rc;
	if ((rc = labels_step(l, q, e)) > 0 && sqlite3_column_type(q, 0) != SQLITE_NULL) {
		c->through = sqlite3_column_int64(q, 0);
		c->labels += (int64_t)sqlite3_column_double(q, 1);
	}
	labels_finish(l, q);
	*labels = c->labels;
	return rc < 0 ? rc : 0;
}

int labels_progress(struct labels *l, int64_t campaign, int64_t person, int64_t *labels, int64_t *prompts, struct err *e)
{
	sqlite3_stmt *q;
	int rc = count_answers(l, campaign, person, labels, e);
	if (rc == 0)
		rc = labels_sql(l, &q, e, "SELECT " LABELS_PLACES("?1", "?2") " - (SELECT count(*) FROM assignments s CROSS JOIN items i ON i.item = s.item"
			" WHERE s.person = ?2 AND s.done IS NULL AND i.campaign = ?1)", "ii", campaign, person);
	if (rc < 0) return rc;
	if ((rc = labels_step(l, q, e)) > 0) *prompts = sqlite3_column_int64(q, 0);
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

int labels_campaign_answers(struct labels *l, int64_t campaign, int64_t *labels, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT person FROM people WHERE person NOT IN (SELECT person FROM excluded)", "");
	*labels = 0;
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) {
		int64_t n = 0;
		if ((rc = count_answers(l, campaign, sqlite3_column_int64(q, 0), &n, e)) < 0) break;
		*labels += n;
	}
	labels_finish(l, q);
	return rc;
}
