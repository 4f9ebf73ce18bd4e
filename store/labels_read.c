/* Reading what counts. `through` cuts the file at an event, and everything that
 * decides (undone, excluded) is an event, so the same number gives the same labels
 * for ever; the texts are compared with the hashes of what the person saw. */
#include "store/labels_internal.h"

#include <stdlib.h>

int labels_last_event(struct labels *l, int64_t *event, struct err *e)
{
	int rc = store_sql_int(&l->base, "SELECT max(event) FROM events", event, e);
	if (rc == 0 && *event < 0) *event = 0;
	return rc;
}

#define COUNTING_COLUMNS                                                                                                                                  \
	"SELECT e.event, i.campaign, i.item, e.person, a.ask, s.assignment, i.number, i.size, i.role, s.kind, a.criterion, a.place, a.kind, a.design, a.arm,"  \
	" a.probability, e.outcome, a.shown, e.ranks, e.strength, e.visible_ms, a.repeats, coalesce(json_extract(i.expected, '$.best'), -1),"             \
	" coalesce(json_extract(i.expected, '$.worst'), -1), e.time, a.hashes, e.guidelines, e.page FROM "
#define COUNTING_LAST(kind) "(SELECT max(x.event) FROM events x WHERE x.person = e.person AND x.kind = '" kind "' AND x.event <= ?1)"
#define COUNTING_IF                                                                                                                                       \
	" AND e.kind = 'label' AND e.event <= ?1 AND (?2 = 0 OR i.campaign = ?2) AND (?3 = 0 OR i.item = ?3) AND (?4 = 0 OR e.person = ?4)"               \
	" AND (?6 IS NULL OR s.kind = ?6) AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event AND u.event <= ?1)"                             \
	" AND (?5 OR NOT coalesce(" COUNTING_LAST("exclude") " > coalesce(" COUNTING_LAST("include") ", 0), 0)) ORDER BY e.event"

/* The same rows by the shortest way: CROSS JOIN keeps the order of the tables. */
static const char *counting_sql(const struct labels_query *o)
{
	if (o->item)
		return COUNTING_COLUMNS "items i CROSS JOIN assignments s ON s.item = i.item CROSS JOIN asks a ON a.assignment = s.assignment"
					" CROSS JOIN events e ON e.ask = a.ask WHERE i.item = ?3" COUNTING_IF;
	if (o->person && o->assigned)
		return COUNTING_COLUMNS "assignments s CROSS JOIN items i ON i.item = s.item CROSS JOIN asks a ON a.assignment = s.assignment"
					" CROSS JOIN events e ON e.ask = a.ask WHERE s.person = ?4 AND s.kind = ?6" COUNTING_IF;
	if (o->person)
		return COUNTING_COLUMNS "events e CROSS JOIN asks a ON a.ask = e.ask CROSS JOIN assignments s ON s.assignment = a.assignment"
					" CROSS JOIN items i ON i.item = s.item WHERE e.person = ?4" COUNTING_IF;
	return COUNTING_COLUMNS "events e CROSS JOIN asks a ON a.ask = e.ask CROSS JOIN assignments s ON s.assignment = a.assignment"
				" CROSS JOIN items i ON i.item = s.item WHERE 1" COUNTING_IF;
}

static int label_read(struct labels *l, sqlite3_stmt *q, struct labels_label *r, struct err *e)
{
	*r = (struct labels_label){.event = sqlite3_column_int64(q, 0), .campaign = sqlite3_column_int64(q, 1), .item = sqlite3_column_int64(q, 2),
		.person = sqlite3_column_int64(q, 3), .ask = sqlite3_column_int64(q, 4), .assignment = sqlite3_column_int64(q, 5),
		.number = (uint32_t)sqlite3_column_int64(q, 6), .size = (uint32_t)sqlite3_column_int64(q, 7), .role = labels_text(q, 8),
		.assigned = labels_text(q, 9), .criterion = (uint32_t)sqlite3_column_int64(q, 10), .place = (uint32_t)sqlite3_column_int64(q, 11),
		.kind = (enum labels_kind)sqlite3_column_int(q, 12), .design = labels_text(q, 13), .arm = labels_text(q, 14),
		.probability = sqlite3_column_double(q, 15), .outcome = labels_outcome_find(labels_text(q, 16)), .strength = sqlite3_column_int(q, 19),
		.visible_ms = sqlite3_column_int64(q, 20), .repeats = sqlite3_column_int64(q, 21), .expected_best = sqlite3_column_int(q, 22),
		.expected_worst = sqlite3_column_int(q, 23), .time = sqlite3_column_double(q, 24), .guidelines = sqlite3_column_int(q, 26), .page = labels_text(q, 27)};
	int n = labels_list_read(labels_text(q, 17), r->shown);
	int m = sqlite3_column_type(q, 18) == SQLITE_NULL ? n : labels_list_read(labels_text(q, 18), r->rank);
	if (n < 2 || m != n || !r->outcome) return err_set(e, ERR_FORMAT, "%s: event %lld does not fit what was asked", l->base.path, (long long)r->event);
	r->count = (uint32_t)n;
	return 0;
}

/* Items whose texts were hashed in this reading: open addressing, at most half full. */
struct hashed_items {
	struct labels_hashed **slot;
	size_t room, count;
};

static struct labels_hashed **find_slot(const struct hashed_items *t, int64_t item)
{
	size_t i = (size_t)((uint64_t)item * 0x9E3779B97F4A7C15u) & (t->room - 1);
	while (t->slot[i] && t->slot[i]->item != item) i = (i + 1) & (t->room - 1);
	return &t->slot[i];
}

static int grow(struct hashed_items *t, struct err *e)
{
	struct hashed_items wide = {.room = t->room ? 2 * t->room : 64, .count = t->count};
	if (2 * (t->count + 1) <= t->room) return 0;
	if (!(wide.slot = calloc(wide.room, sizeof *wide.slot))) return err_set(e, ERR_MEMORY, "no memory for hashes");
	for (size_t i = 0; i < t->room; i++)
		if (t->slot[i]) *find_slot(&wide, t->slot[i]->item) = t->slot[i];
	free(t->slot);
	*t = wide;
	return 0;
}

static int hashed_item(struct labels *l, struct hashed_items *t, int64_t item, const struct labels_hashed **out, struct err *e)
{
	int rc = grow(t, e);
	if (rc < 0) return rc;
	struct labels_hashed **slot = find_slot(t, item);
	if (!*slot) {
		struct labels_hashed *h = malloc(sizeof *h);
		if (!h) return err_set(e, ERR_MEMORY, "no memory for hashes");
		if ((rc = labels_hash_item(l, item, h, e)) < 0) {
			free(h);
			return rc;
		}
		*slot = h;
		t->count++;
	}
	*out = *slot;
	return 0;
}

int labels_each_label(struct labels *l, const struct labels_query *o, int (*fn)(void *ctx, const struct labels_label *r), void *ctx, int64_t *changed,
                      struct err *e)
{
	sqlite3_stmt *q;
	struct hashed_items items = {0};
	char now[LABELS_HASHES];
	int64_t left = 0, through = o->through;
	int rc = through ? 0 : labels_last_event(l, &through, e);
	if (rc < 0) return rc;
	rc = labels_sql(l, &q, e, counting_sql(o), "iiiiit", through, o->campaign, o->item, o->person, (int64_t)o->excluded_too, o->assigned);
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) {
		struct labels_label r;
		const struct labels_hashed *h = NULL;
		if ((rc = label_read(l, q, &r, e)) < 0) break;
		if ((rc = hashed_item(l, &items, r.item, &h, e)) < 0) break;
		if ((rc = labels_hashes_write(h, r.shown, r.count, now, e)) < 0) break;
		int same = !strcmp(now, labels_text(q, 25));
		left += !same;
		if (same && (rc = fn(ctx, &r))) break;
	}
	labels_finish(l, q);
	for (size_t i = 0; i < items.room; i++) free(items.slot[i]);
	free(items.slot);
	if (changed) *changed = left;
	return rc;
}

static void add_columns(struct hash_stream *s, sqlite3_stmt *q)
{
	for (int c = 0; c < sqlite3_column_count(q); c++) {
		const char *text = labels_text_or_null(q, c);
		if (text) hash_stream_add(s, text, strlen(text));
		hash_stream_add(s, text ? "\t" : "\n", 1);
	}
}

int labels_digest(struct labels *l, int64_t through, char hex[HASH_HEX], struct err *e)
{
	static const char *const parts[] = {
		"SELECT event, key, kind, person, ask, undoes, outcome, ranks, strength FROM events WHERE event <= ?1 ORDER BY event",
		"SELECT ask, assignment, criterion, place, kind, design, arm, probability, shown, hashes, repeats FROM asks WHERE ask IN"
		" (SELECT ask FROM events WHERE event <= ?1) ORDER BY ask",
	};
	int rc = through ? 0 : labels_last_event(l, &through, e);
	struct hash_stream *s = hash_stream_open();
	for (size_t i = 0; i < sizeof parts / sizeof parts[0] && rc >= 0; i++) {
		sqlite3_stmt *q;
		rc = labels_sql(l, &q, e, parts[i], "i", through);
		if (rc < 0) break;
		while ((rc = labels_step(l, q, e)) > 0) add_columns(s, q);
		labels_finish(l, q);
	}
	hash_stream_finish(s, hex);
	return rc < 0 ? rc : 0;
}
