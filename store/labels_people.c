/* People, their invitations and memberships. A token has 256 random bits, so a
 * plain hash of it (BLAKE2b) is enough: there is nothing to guess by trying
 * words. Excluding is an event, because what counted when must stay answerable;
 * erasing deletes what leads to the person, and nothing that was compared. */
#include "core/base/fault.h"
#include "store/labels_internal.h"

#include <sodium.h>

enum { HASH_BYTES = 32, RAW_BYTES = 32 };

static void token_hash(const char *token, unsigned char out[HASH_BYTES])
{
	crypto_generichash(out, HASH_BYTES, (const unsigned char *)token, strlen(token), NULL, 0);
}

static void token_make(char token[LABELS_TOKEN], unsigned char hash[HASH_BYTES])
{
	unsigned char raw[RAW_BYTES];
	CHECK(sodium_init() >= 0, "libsodium does not start");
	randombytes_buf(raw, sizeof raw);
	sodium_bin2base64(token, LABELS_TOKEN, raw, sizeof raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	token_hash(token, hash);
}

int labels_person_put(struct labels *l, const char *name, char token[LABELS_TOKEN], int64_t *person, struct err *e)
{
	unsigned char hash[HASH_BYTES];
	sqlite3_stmt *q;
	int rc;
	if (!*name || strlen(name) >= LABELS_NAME) return err_set(e, ERR_RANGE, "a name has 1 to %d bytes", LABELS_NAME - 1);
	if (token) token_make(token, hash);
	TRY(labels_sql(l, &q, e, "INSERT INTO people(name, token, state, generation, time) VALUES(?1, ?2, ?3, 1, ?4)", "tbtr", name, token ? hash : NULL,
		(size_t)HASH_BYTES, token ? "active" : "imported", store_wall_time()));
	TRY(labels_done(l, q, NULL, e));
	FAULT_POINT("labels.within_inviting", "a person is inserted, the transaction open");
	*person = sqlite3_last_insert_rowid(l->base.db);
out:
	return rc;
}

static int not_there(int64_t person, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "there is no person %lld, or the person was erased", (long long)person);
}

int labels_person_renew(struct labels *l, int64_t person, char token[LABELS_TOKEN], struct err *e)
{
	unsigned char hash[HASH_BYTES];
	sqlite3_stmt *q;
	int changed = 0, rc;
	token_make(token, hash);
	TRY(labels_sql(l, &q, e,
		"UPDATE people SET token = ?2, generation = generation + 1, state = 'active' WHERE person = ?1 AND state NOT IN ('erased', 'imported')", "ib",
		person, hash, (size_t)HASH_BYTES));
	TRY(labels_done(l, q, &changed, e));
	rc = changed ? labels_journal(l, "renew", person, "", e) : not_there(person, e);
out:
	return rc;
}

static void person_read(sqlite3_stmt *q, struct labels_person *p)
{
	p->person = sqlite3_column_int64(q, 0);
	labels_copy(p->name, sizeof p->name, labels_text(q, 1));
	labels_copy(p->state, sizeof p->state, labels_text(q, 2));
	p->generation = sqlite3_column_int64(q, 3);
	p->time = sqlite3_column_double(q, 4);
	p->excluded = sqlite3_column_int(q, 5);
}

#define PERSON_COLUMNS "SELECT person, name, state, generation, time, person IN (SELECT person FROM excluded) FROM people "

int labels_person_by_token(struct labels *l, const char *token, struct labels_person *p, struct err *e)
{
	unsigned char hash[HASH_BYTES];
	sqlite3_stmt *q;
	token_hash(token, hash);
	int rc = labels_sql(l, &q, e, PERSON_COLUMNS "WHERE token = ?1 AND state IN ('active', 'paused')", "b", hash, (size_t)HASH_BYTES);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) person_read(q, p);
	else if (rc == 0) rc = err_set(e, ERR_NOT_FOUND, "this link does not work (any more); ask for a new one");
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

int labels_person_get(struct labels *l, int64_t person, struct labels_person *p, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, PERSON_COLUMNS "WHERE person = ?1", "i", person);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) person_read(q, p);
	else if (rc == 0) rc = not_there(person, e);
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

int labels_each_person(struct labels *l, int (*fn)(void *ctx, const struct labels_person *p), void *ctx, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, PERSON_COLUMNS "ORDER BY person", "");
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) {
		struct labels_person p;
		person_read(q, &p);
		if ((rc = fn(ctx, &p))) break;
	}
	labels_finish(l, q);
	return rc;
}

int labels_person_state(struct labels *l, int64_t person, const char *state, struct err *e)
{
	sqlite3_stmt *q;
	int changed = 0, rc;
	if (strcmp(state, "active") && strcmp(state, "paused") && strcmp(state, "revoked"))
		return err_set(e, ERR_RANGE, "a person is active, paused or revoked, not '%.40s'", state);
	TRY(labels_sql(l, &q, e,
		"UPDATE people SET state = ?2, token = iif(?2 = 'revoked', NULL, token), generation = generation + (?2 = 'revoked')"
		" WHERE person = ?1 AND (state IN ('active', 'paused') OR (state = 'revoked' AND ?2 = 'revoked'))",
		"it", person, state));
	TRY(labels_done(l, q, &changed, e));
	if (changed) rc = labels_journal(l, "person", person, state, e);
	else rc = err_set(e, ERR_STATE, "person %lld cannot become %s: a revoked one needs a new invitation", (long long)person, state);
out:
	return rc;
}

int labels_person_exclude(struct labels *l, int64_t person, int excluded, struct err *e)
{
	struct labels_person p;
	char key[64];
	sqlite3_stmt *q;
	int rc;
	TRY(labels_person_get(l, person, &p, e));
	if (p.excluded == !!excluded) return 0;
	snprintf(key, sizeof key, "exclude-%lld-%.6f", (long long)person, store_wall_time());
	TRY(labels_sql(l, &q, e, "INSERT INTO events(key, kind, person, strength, visible_ms, guidelines, page, time) VALUES(?1, ?2, ?3, 0, 0, 0, '', ?4)", "ttir",
		key, excluded ? "exclude" : "include", person, store_wall_time()));
	rc = labels_done(l, q, NULL, e);
	labels_turns_unsettle(l);
out:
	return rc;
}

int labels_person_erase(struct labels *l, int64_t person, struct err *e)
{
	static const char *const steps[] = {
		"UPDATE people SET name = '', token = NULL, state = 'erased', generation = generation + 1 WHERE person = ?1 AND state <> 'erased'",
		"UPDATE members SET languages = '' WHERE person = ?1",
		"DELETE FROM notes WHERE event IN (SELECT event FROM events WHERE person = ?1)",
	};
	int changed = 0, rc = labels_begin(l, e);
	if (rc < 0) return rc;
	for (size_t i = 0; i < sizeof steps / sizeof steps[0] && rc >= 0; i++) {
		sqlite3_stmt *q;
		int n = 0;
		rc = labels_sql(l, &q, e, steps[i], "i", person);
		if (rc == 0) rc = labels_done(l, q, &n, e);
		if (i == 0) changed = n;
	}
	if (rc == 0 && !changed) rc = not_there(person, e);
	if (rc == 0) rc = labels_journal(l, "erase", person, "", e);
	FAULT_POINT("labels.within_erase", "a person's name and words are erased, the transaction open");
	rc = labels_end(l, rc, e);
	FAULT_POINT("labels.before_checkpoint", "a person is erased, the log beside the file still has the words");
	/* the log beside the file still has the old pages: into the file with it, and empty it */
	if (rc == 0) rc = store_sql_run(&l->base, "PRAGMA wal_checkpoint(TRUNCATE)", e);
	return rc;
}

int labels_member_put(struct labels *l, const struct labels_member *m, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "INSERT OR REPLACE INTO members VALUES(?1, ?2, ?3, ?4, ?5)", "iitit", m->campaign, m->person, m->state,
		(int64_t)m->guidelines, m->languages);
	return rc < 0 ? rc : labels_done(l, q, NULL, e);
}

int labels_member_get(struct labels *l, int64_t campaign, int64_t person, struct labels_member *m, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT state, guidelines, languages FROM members WHERE campaign = ?1 AND person = ?2", "ii", campaign, person);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) {
		m->campaign = campaign;
		m->person = person;
		labels_copy(m->state, sizeof m->state, labels_text(q, 0));
		m->guidelines = sqlite3_column_int(q, 1);
		labels_copy(m->languages, sizeof m->languages, labels_text(q, 2));
	}
	labels_finish(l, q);
	return rc;
}

int labels_export_hours(struct labels *l, int64_t campaign, FILE *out, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e,
		"SELECT p.person, p.name, p.state, p.person IN (SELECT person FROM excluded),"
		" count(e.event) FILTER (WHERE NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event)),"
		" count(e.event) FILTER (WHERE EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event)),"
		" count(e.event) FILTER (WHERE e.outcome IN ('skip', 'cannot_rank')), count(e.event) FILTER (WHERE e.outcome = 'flag'),"
		" total(e.visible_ms) / 3600000.0, coalesce(datetime(min(e.time), 'unixepoch'), ''), coalesce(datetime(max(e.time), 'unixepoch'), '')"
		" FROM people p LEFT JOIN (SELECT e.* FROM events e JOIN asks a ON a.ask = e.ask JOIN assignments s ON s.assignment = a.assignment"
		" JOIN items i ON i.item = s.item WHERE e.kind = 'label' AND (?1 = 0 OR i.campaign = ?1)) e ON e.person = p.person"
		" GROUP BY p.person ORDER BY p.person",
		"i", campaign);
	if (rc < 0) return rc;
	fputs("person,name,state,excluded,labels,undone,skipped,flagged,hours,first,last\n", out);
	while ((rc = labels_step(l, q, e)) > 0) {
		const char *name = labels_text(q, 1);
		fprintf(out, "%lld,\"%s", (long long)sqlite3_column_int64(q, 0), strchr("=+-@\t\r", *name) && *name ? "'" : "");
		for (; *name; name++) fprintf(out, *name == '"' ? "\"\"" : "%c", *name);
		fprintf(out, "\",%s", labels_text(q, 2));
		for (int c = 3; c < 8; c++) fprintf(out, ",%lld", (long long)sqlite3_column_int64(q, c));
		fprintf(out, ",%.4f,%s,%s\n", sqlite3_column_double(q, 8), labels_text(q, 9), labels_text(q, 10));
	}
	labels_finish(l, q);
	return rc;
}
