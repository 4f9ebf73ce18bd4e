/* labels.db: one answer one event, taken back by another; what counts, as of any
 * event; people; and the faults 41 to 46 and 50 of a label store. */
#include "tests/labels_kit.h"

#include <sqlite3.h>
#include <signal.h>
#include <sys/wait.h>

static void test_once(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t event = 0, again = 0, ask = labels_kit_duel(k, 0, 0, 0, 3, 7);
	kit_ok(labels_kit_answer(k, "key-00001", ask, 0, 1, &event, &e), &e);
	kit_ok(labels_kit_answer(k, "key-00001", ask, 0, 1, &again, &e), &e); /* a repeated request */
	assert_int_equal(event, again);
	assert_int_equal(labels_kit_answer(k, "key-00001", ask, 0, 0, &again, &e), ERR_MISMATCH);
	assert_int_equal(labels_kit_answer(k, "key-00002", ask, 0, 1, &again, &e), ERR_STATE); /* a second tab */
	assert_int_equal(labels_kit_answer(k, "key-00003", ask, 1, 1, &again, &e), ERR_NOT_FOUND); /* somebody else's */
	assert_int_equal(labels_kit_answer(k, "key-00004", ask + 1, 0, 1, &again, &e), ERR_NOT_FOUND);
	assert_int_equal(labels_kit_answer(k, "short", ask, 0, 1, &again, &e), ERR_RANGE);
	struct labels_kit_count c = {0};
	kit_ok(labels_each_label(k->l, &(struct labels_query){.campaign = k->campaign}, labels_kit_count_one, &c, NULL, &e), &e);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.last.event, event);
	assert_int_equal(c.last.count, 2);
	assert_int_equal(c.last.shown[0], 3);
	assert_int_equal(c.last.rank[1], 2);
	assert_int_equal(c.last.strength, 2);
	assert_int_equal(c.last.size, 10);
	assert_true(c.last.probability == 0.5);
	char *reason, *correction;
	kit_ok(labels_notes_get(k->l, event, &reason, &correction, &e), &e);
	assert_string_equal(reason, "because Ann said so");
	assert_string_equal(correction, "");
	free(reason);
	free(correction);
}

static void expect_ranks(struct labels_kit *k, int64_t ask, enum labels_outcome o, const char *ranks, int strength, int ok)
{
	struct labels_answer a = {.key = "key-ranks", .ask = ask, .person = k->person[0], .outcome = o, .strength = strength};
	struct err e = {0};
	int64_t event;
	for (uint32_t i = 0; ranks[i]; i++) a.rank[i] = (uint8_t)(ranks[i] - '0');
	int rc = labels_answer_put(k->l, &a, &event, &e);
	if (rc != (ok ? 0 : ERR_RANGE)) fail_msg("outcome %d, ranks %s: %d (%s)", o, ranks, rc, e.msg);
	if (ok) kit_ok(labels_undo(k->l, "key-undo-", a.person, event, &event, &e), &e);
}

static void test_ranks(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t duel = labels_kit_duel(k, 0, 0, 0, 3, 7);
	static const struct {
		enum labels_outcome o;
		const char *ranks;
	} bad[] = {{LABELS_RANKED, "11"}, {LABELS_RANKED, "13"}, {LABELS_RANKED, "1"}, {LABELS_RANKED, "123"}, {LABELS_RANKED, "01"}, {LABELS_TIE, "12"},
		{LABELS_SKIP, "12"}, {LABELS_ALL_BAD, "11"}, {LABELS_RANKED, "19"}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect_ranks(k, duel, bad[i].o, bad[i].ranks, 0, 0);
	expect_ranks(k, duel, LABELS_TIE, "11", 1, 0);
	expect_ranks(k, duel, LABELS_RANKED, "12", 4, 0);
	expect_ranks(k, duel, LABELS_TIE, "11", 0, 1);
	struct labels_assignment s;
	assert_int_equal(labels_assignment_open(k->l, k->campaign, k->person[0], &s, &e), 1);
	struct labels_ask quad = {.assignment = s.assignment, .item = s.item, .place = 1, .kind = LABELS_BEST_WORST, .design = "quads", .arm = "uniform",
		.probability = 1, .count = 4, .shown = {1, 2, 3, 9}};
	kit_ok(labels_ask_put(k->l, &quad, &e), &e);
	for (const char *const *r = (const char *const[]){"1223", "3122", "1234", "1222", "1133", "2222", NULL}; *r; r++) {
		struct labels_answer a = {.key = *r[0] == '1' ? "key-quad-1" : "key-quad-2", .ask = quad.ask, .person = k->person[0], .outcome = LABELS_RANKED};
		int64_t event;
		for (int i = 0; i < 4; i++) a.rank[i] = (uint8_t)((*r)[i] - '0');
		int ok = !strcmp(*r, "1223") || !strcmp(*r, "3122"), rc = labels_answer_put(k->l, &a, &event, &e);
		assert_int_equal(rc, ok ? 0 : ERR_RANGE);
		if (ok) kit_ok(labels_undo(k->l, *r[0] == '1' ? "undo-quad-1" : "undo-quad-2", a.person, event, &event, &e), &e);
	}
	struct labels_ask order = {.assignment = s.assignment, .item = s.item, .place = 2, .kind = LABELS_ORDER, .design = "order", .arm = "uniform",
		.probability = 1, .count = 4, .shown = {1, 2, 3, 99}};
	assert_int_equal(labels_ask_put(k->l, &order, &e), ERR_RANGE); /* a candidate outside the group */
	order.shown[3] = 4;
	kit_ok(labels_ask_put(k->l, &order, &e), &e);
	struct labels_answer a = {.key = "key-order", .ask = order.ask, .person = k->person[0], .outcome = LABELS_RANKED, .rank = {2, 1, 2, 3}};
	int64_t event;
	assert_int_equal(labels_answer_put(k->l, &a, &event, &e), ERR_RANGE);
	a.rank[3] = 4;
	kit_ok(labels_answer_put(k->l, &a, &event, &e), &e);
}

/* faults.md 45: excluded next time; but a reader that goes by an earlier event gets what it got then. */
static void test_through(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t e1, e2, undo, last;
	char early[HASH_HEX], late[HASH_HEX], again[HASH_HEX];
	kit_ok(labels_kit_answer(k, "key-00001", labels_kit_duel(k, 0, 0, 0, 3, 7), 0, 1, &e1, &e), &e);
	kit_ok(labels_kit_answer(k, "key-00002", labels_kit_duel(k, 0, 0, 1, 1, 2), 0, 1, &e2, &e), &e);
	kit_ok(labels_last_event(k->l, &last, &e), &e);
	assert_int_equal(last, e2);
	kit_ok(labels_digest(k->l, last, early, &e), &e);
	kit_ok(labels_undo(k->l, "undo-00001", k->person[0], e1, &undo, &e), &e);
	kit_ok(labels_undo(k->l, "undo-00001", k->person[0], e1, &undo, &e), &e);
	assert_int_equal(labels_undo(k->l, "undo-00002", k->person[0], e1, &undo, &e), ERR_STATE);
	assert_int_equal(labels_undo(k->l, "undo-00003", k->person[1], e2, &undo, &e), ERR_NOT_FOUND);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 1);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.through = last}, NULL), 2);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.through = e1}, NULL), 1);
	kit_ok(labels_person_exclude(k->l, k->person[0], 1, &e), &e);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 0);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.excluded_too = 1}, NULL), 1);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.through = last}, NULL), 2);
	kit_ok(labels_person_exclude(k->l, k->person[0], 0, &e), &e);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.campaign = k->campaign, .item = k->item[0]}, NULL), 1);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.item = k->item[1]}, NULL), 0);
	kit_ok(labels_digest(k->l, last, again, &e), &e);
	kit_ok(labels_digest(k->l, 0, late, &e), &e);
	assert_string_equal(early, again);
	assert_string_not_equal(early, late);
	/* answered anew: the same ask, another event */
	struct labels_ask a;
	struct labels_assignment s;
	assert_int_equal(labels_assignment_open(k->l, k->campaign, k->person[0], &s, &e), 1);
	assert_int_equal(labels_ask_open(k->l, s.assignment, &a, &e), 1);
	assert_int_equal(a.place, 0);
	kit_ok(labels_kit_answer(k, "key-00003", a.ask, 0, 0, &e1, &e), &e);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 2);
	assert_int_equal(labels_ask_open(k->l, s.assignment, &a, &e), 0);
}

static void sql_by_hand(const char *path, const char *sql, int wanted)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	if (rc != wanted) fail_msg("%s: %d (%s)", sql, rc, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* faults.md 46, and the immutability that stands before it */
static void test_text_changed(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t event, changed;
	kit_ok(labels_kit_answer(k, "key-00001", labels_kit_duel(k, 0, 0, 0, 3, 7), 0, 1, &event, &e), &e);
	kit_ok(labels_kit_answer(k, "key-00002", labels_kit_duel(k, 0, 0, 1, 1, 2), 0, 1, &event, &e), &e);
	for (const char *const *sql = (const char *const[]){"UPDATE events SET strength = 1", "DELETE FROM events", "UPDATE candidates SET text = 'x'",
		     "DELETE FROM items", "UPDATE items SET prompt = 'x'", "DELETE FROM asks", "UPDATE guidelines SET text = 'x'", "UPDATE assignments SET person = 2", NULL};
		*sql; sql++)
		sql_by_hand(k->path, *sql, SQLITE_CONSTRAINT);
	sql_by_hand(k->path, "DROP TRIGGER candidates_no_update; UPDATE candidates SET text = 'other' WHERE item = 1 AND candidate = 7", SQLITE_OK);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, &changed), 1);
	assert_int_equal(changed, 1);
}

static void test_people(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	struct labels_person p;
	char token[LABELS_TOKEN];
	kit_ok(labels_person_by_token(k->l, k->token[0], &p, &e), &e);
	assert_int_equal(p.person, k->person[0]);
	assert_string_equal(p.name, "Ann");
	assert_int_equal(labels_person_by_token(k->l, "", &p, &e), ERR_NOT_FOUND);
	assert_int_equal(labels_person_by_token(k->l, "guess", &p, &e), ERR_NOT_FOUND);
	kit_ok(labels_person_state(k->l, k->person[0], "paused", &e), &e);
	kit_ok(labels_person_by_token(k->l, k->token[0], &p, &e), &e);
	kit_ok(labels_person_state(k->l, k->person[0], "revoked", &e), &e);
	assert_int_equal(labels_person_by_token(k->l, k->token[0], &p, &e), ERR_NOT_FOUND);
	assert_int_equal(labels_person_state(k->l, k->person[0], "active", &e), ERR_STATE);
	kit_ok(labels_person_get(k->l, k->person[0], &p, &e), &e);
	assert_int_equal(p.generation, 2);
	kit_ok(labels_person_renew(k->l, k->person[0], token, &e), &e);
	assert_string_not_equal(token, k->token[0]);
	assert_int_equal(labels_person_by_token(k->l, k->token[0], &p, &e), ERR_NOT_FOUND);
	kit_ok(labels_person_by_token(k->l, token, &p, &e), &e);
	assert_int_equal(p.generation, 3);
	/* only the hash is in the file */
	for (const char *const *end = (const char *const[]){"", "-wal", NULL}; *end; end++) {
		char name[128], *data;
		size_t bytes;
		snprintf(name, sizeof name, "%s%s", k->path, *end);
		kit_ok(fs_read(name, 1 << 26, &data, &bytes, &e), &e);
		assert_null(memmem(data, bytes, token, strlen(token)));
		assert_null(memmem(data, bytes, k->token[1], strlen(k->token[1])));
		free(data);
	}
	struct labels_member m = {k->campaign, k->person[0], "working", 1, "en,de"}, got;
	assert_int_equal(labels_member_get(k->l, k->campaign, k->person[0], &got, &e), 0);
	kit_ok(labels_member_put(k->l, &m, &e), &e);
	assert_int_equal(labels_member_get(k->l, k->campaign, k->person[0], &got, &e), 1);
	assert_string_equal(got.languages, "en,de");
}

static void test_erase(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t event;
	struct labels_person p;
	kit_ok(labels_kit_answer(k, "key-00001", labels_kit_duel(k, 0, 1, 0, 3, 7), 1, 1, &event, &e), &e);
	kit_ok(labels_person_erase(k->l, k->person[1], &e), &e);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 1); /* the label stays */
	assert_int_equal(labels_person_by_token(k->l, k->token[1], &p, &e), ERR_NOT_FOUND);
	kit_ok(labels_person_get(k->l, k->person[1], &p, &e), &e);
	assert_string_equal(p.name, "");
	assert_int_equal(labels_person_erase(k->l, k->person[1], &e), ERR_NOT_FOUND);
	kit_ok(labels_person_erase(k->l, k->person[2], &e), &e); /* the other of that name */
	for (const char *const *end = (const char *const[]){"", "-wal", NULL}; *end; end++) {
		char name[128], *data;
		size_t bytes;
		snprintf(name, sizeof name, "%s%s", k->path, *end);
		kit_ok(fs_read(name, 1 << 26, &data, &bytes, &e), &e);
		assert_null(memmem(data, bytes, "Björn", 6));
		assert_null(memmem(data, bytes, "because Ann", 11));
		free(data);
	}
}

static uint32_t needs_two(void *ctx, uint32_t number)
{
	(void)ctx;
	return number < 2 ? 2 : 1;
}

static int64_t next(struct labels_kit *k, int person, const char *role)
{
	struct err e = {0};
	int64_t item, s;
	if (!strcmp(role, "task")) kit_ok(labels_next_item(k->l, k->campaign, k->person[person], "", 1800, needs_two, NULL, &item, &e), &e);
	else kit_ok(labels_next_known(k->l, k->campaign, k->person[person], role, "", &item, &e), &e);
	if (item) kit_ok(labels_assign(k->l, item, k->person[person], role, &s, &e), &e);
	return item;
}

static void test_assigning(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	assert_int_equal(next(k, 0, "task"), k->item[0]);
	assert_int_equal(next(k, 1, "task"), k->item[0]); /* begun first, as it needs two */
	assert_int_equal(next(k, 2, "task"), k->item[1]); /* two have the first */
	assert_int_equal(next(k, 0, "task"), k->item[1]);
	assert_int_equal(next(k, 0, "task"), k->item[2]);
	assert_int_equal(next(k, 1, "task"), k->item[3]);
	assert_int_equal(next(k, 1, "task"), k->item[4]);
	assert_int_equal(next(k, 2, "task"), 0);
	assert_int_equal(next(k, 2, "gold"), k->item[5]);
	struct labels_assignment s;
	assert_int_equal(labels_assignment_open(k->l, k->campaign, k->person[0], &s, &e), 1);
	assert_int_equal(s.item, k->item[0]);
	kit_ok(labels_assignment_done(k->l, s.assignment, 1, &e), &e);
	assert_int_equal(labels_assignment_open(k->l, k->campaign, k->person[0], &s, &e), 1);
	assert_int_equal(s.item, k->item[1]);
	assert_int_equal(s.place, 1);
	/* one who took an item long ago and did nothing does not hold it */
	int64_t item;
	kit_ok(labels_next_item(k->l, k->campaign, k->person[2], "", -10, needs_two, NULL, &item, &e), &e);
	assert_int_equal(item, k->item[0]); /* finished by one, needs two */
}

static int64_t wanted(struct labels_kit *k, int person)
{
	struct err e = {0};
	int64_t item;
	/* a lease of less than nothing: only what is finished counts */
	kit_ok(labels_next_item(k->l, k->campaign, k->person[person], "", -10, needs_two, NULL, &item, &e), &e);
	return item;
}

/* An item that all have finished who were needed is looked at no more, until something makes it wanted again. */
static void test_settled(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t s[2];
	for (int p = 0; p < 2; p++) {
		kit_ok(labels_assign(k->l, k->item[0], k->person[p], "task", &s[p], &e), &e);
		assert_int_equal(wanted(k, 2), k->item[0]);
		kit_ok(labels_begin(k->l, &e), &e);
		kit_ok(labels_assignment_done(k->l, s[p], 1, &e), &e);
		assert_int_equal(wanted(k, 2), k->item[p]); /* seen within the transaction: two have done the first */
		assert_int_equal(labels_end(k->l, ERR_STATE, &e), ERR_STATE);
		assert_int_equal(wanted(k, 2), k->item[0]); /* rolled back */
		kit_ok(labels_assignment_done(k->l, s[p], 1, &e), &e);
	}
	assert_int_equal(wanted(k, 2), k->item[1]);
	kit_ok(labels_assignment_done(k->l, s[0], 0, &e), &e); /* an answer was taken back */
	assert_int_equal(wanted(k, 2), k->item[0]);
	kit_ok(labels_assignment_done(k->l, s[0], 1, &e), &e);
	assert_int_equal(wanted(k, 2), k->item[1]);
	kit_ok(labels_person_exclude(k->l, k->person[0], 1, &e), &e);
	assert_int_equal(wanted(k, 2), k->item[0]);
	kit_ok(labels_person_exclude(k->l, k->person[0], 0, &e), &e);
	assert_int_equal(wanted(k, 2), k->item[1]);
	labels_kit_item(k, 6, "task", 10);
	for (int i = 1; i <= 6; i++) {
		int64_t one;
		if (i == 5) continue; /* gold */
		assert_int_equal(wanted(k, 2), k->item[i]);
		kit_ok(labels_assign(k->l, k->item[i], k->person[2], "task", &one, &e), &e);
		kit_ok(labels_assignment_done(k->l, one, 1, &e), &e);
	}
	assert_int_equal(wanted(k, 2), 0);
	assert_int_equal(wanted(k, 1), k->item[1]); /* the only other that needs two */
}

/* What is counted event by event is what the view says. */
static void test_progress(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t event[6], undo, n, prompts;
	for (int i = 0; i < 6; i++) {
		char key[32];
		snprintf(key, sizeof key, "key-%05d", i);
		kit_ok(labels_kit_answer(k, key, labels_kit_duel(k, 0, i & 1, (uint32_t)i, 3, 7), i & 1, 1, &event[i], &e), &e);
		kit_ok(labels_progress(k->l, k->campaign, k->person[0], &n, &prompts, &e), &e);
		assert_int_equal(n, i / 2 + 1);
		assert_int_equal(prompts, 0);
	}
	kit_ok(labels_campaign_answers(k->l, k->campaign, &n, &e), &e);
	assert_int_equal(n, 6);
	kit_ok(labels_undo(k->l, "undo-0001", k->person[0], event[2], &undo, &e), &e);
	kit_ok(labels_progress(k->l, k->campaign, k->person[0], &n, &prompts, &e), &e);
	assert_int_equal(n, 2);
	kit_ok(labels_person_exclude(k->l, k->person[1], 1, &e), &e);
	kit_ok(labels_campaign_answers(k->l, k->campaign, &n, &e), &e);
	assert_int_equal(n, 2);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 2);
	kit_ok(labels_person_exclude(k->l, k->person[1], 0, &e), &e);
	kit_ok(labels_campaign_answers(k->l, k->campaign, &n, &e), &e);
	assert_int_equal(n, 5);
	/* the ways to the same rows */
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 5);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.person = k->person[1]}, NULL), 3);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.person = k->person[1], .assigned = "task"}, NULL), 3);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.person = k->person[1], .assigned = "gold"}, NULL), 0);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.item = k->item[0]}, NULL), 5);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.item = k->item[0], .person = k->person[0]}, NULL), 2);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){.campaign = k->campaign + 1}, NULL), 0);
}

/* faults.md 44: a file of version 1, which lacks the later indexes. */
static void test_migrated(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int64_t event, n;
	char backup[128];
	kit_ok(labels_kit_answer(k, "key-00001", labels_kit_duel(k, 0, 0, 0, 3, 7), 0, 1, &event, &e), &e);
	labels_close(k->l);
	k->l = NULL;
	sql_by_hand(k->path, "DROP INDEX items_role; DROP INDEX assignments_kind; DROP INDEX assignments_open; DROP INDEX events_exclude;"
			     "DROP INDEX events_include; PRAGMA user_version = 1", SQLITE_OK);
	assert_int_equal(labels_open(&k->l, k->path, 0, &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "older"));
	kit_ok(labels_open(&k->l, k->path, 1, &e), &e);
	kit_ok(labels_count(k->l, "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name IN ('items_role', 'assignments_kind', 'assignments_open',"
				  " 'events_exclude', 'events_include')", &n, &e), &e);
	assert_int_equal(n, 5);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), 1);
	snprintf(backup, sizeof backup, "%s.backup-v1", k->path);
	assert_true(fs_exists(backup));
}

/* faults.md 43, 44 */
static void test_files(void **state)
{
	struct labels_kit *k = *state;
	struct labels *second = NULL;
	struct err e = {0};
	assert_int_equal(labels_open(&second, k->path, 1, &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "one writer"));
	kit_ok(labels_open(&second, k->path, 0, &e), &e);
	assert_int_equal(labels_begin(second, &e), ERR_STATE);
	int64_t event, ask = labels_kit_duel(k, 0, 0, 0, 3, 7);
	assert_true(labels_kit_answer(k, "key-00001", ask, 0, 1, &event, &e) == 0);
	assert_int_equal(labels_kit_count_of(second, (struct labels_query){0}, NULL), 1); /* reads while another writes */
	labels_close(second);
	char other[128];
	snprintf(other, sizeof other, "%s/run.db", k->dir);
	struct store *s = kit_open(other, 1);
	store_close(s);
	assert_int_equal(labels_open(&second, other, 1, &e), ERR_FORMAT);
	assert_int_equal(store_open(&s, k->path, &(struct store_options){0}, &e), ERR_FORMAT);
	snprintf(other, sizeof other, "%s/none.db", k->dir);
	assert_int_equal(labels_open(&second, other, 0, &e), ERR_NOT_FOUND);
	labels_close(k->l);
	k->l = NULL;
	sql_by_hand(k->path, "PRAGMA user_version = 99", SQLITE_OK);
	assert_int_equal(labels_open(&second, k->path, 1, &e), ERR_STATE);
	assert_int_equal(labels_open(&second, k->path, 0, &e), ERR_STATE);
}

/* faults.md 41: whatever was acknowledged is there after a kill. Power loss: test_labels_power.c. */
static void test_killed(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	int pipe_of[2];
	labels_close(k->l);
	k->l = NULL;
	assert_int_equal(pipe(pipe_of), 0);
	pid_t child = fork();
	if (child == 0) {
		struct labels_kit mine = *k;
		int64_t event;
		if (labels_open(&mine.l, mine.path, 1, &e) < 0) _exit(1);
		for (uint32_t i = 0;; i++) {
			char key[32];
			snprintf(key, sizeof key, "key-%06u", i);
			if (labels_kit_answer(&mine, key, labels_kit_duel(&mine, 0, 0, i, 3, 7), 0, 1, &event, &e) < 0) _exit(2);
			if (write(pipe_of[1], &i, sizeof i) != sizeof i) _exit(3);
		}
	}
	uint32_t i = 0, acknowledged = 0;
	while (read(pipe_of[0], &i, sizeof i) == sizeof i && i < 40)
		;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(pipe_of[1]);
	acknowledged = i;
	while (read(pipe_of[0], &i, sizeof i) == sizeof i) acknowledged = i;
	close(pipe_of[0]);
	kit_ok(labels_open(&k->l, k->path, 1, &e), &e);
	int n = labels_kit_count_of(k->l, (struct labels_query){0}, NULL);
	assert_true(n == (int)acknowledged + 1 || n == (int)acknowledged + 2);
	/* the client whose answer did not come repeats it */
	struct labels_kit_count c = {0};
	kit_ok(labels_each_label(k->l, &(struct labels_query){0}, labels_kit_count_one, &c, NULL, &e), &e);
	char key[32];
	int64_t event;
	snprintf(key, sizeof key, "key-%06d", n - 1);
	kit_ok(labels_kit_answer(k, key, c.last.ask, 0, 1, &event, &e), &e);
	assert_int_equal(event, c.last.event);
	assert_int_equal(labels_kit_count_of(k->l, (struct labels_query){0}, NULL), n);
}

int main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, labels_kit_setup, labels_kit_teardown)
	const struct CMUnitTest tests[] = {WITH(test_once), WITH(test_ranks), WITH(test_through), WITH(test_text_changed), WITH(test_people), WITH(test_erase),
		WITH(test_assigning), WITH(test_settled), WITH(test_progress), WITH(test_migrated), WITH(test_files), WITH(test_killed)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
