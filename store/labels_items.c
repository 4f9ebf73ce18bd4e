/* Campaigns, their guidelines, and the items that are compared. */
#include "core/base/fault.h"
#include "store/labels_internal.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>

int labels_campaign_find(struct labels *l, const char *name, int64_t *campaign, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT campaign FROM campaigns WHERE name = ?1", "t", name);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	*campaign = rc > 0 ? sqlite3_column_int64(q, 0) : -1;
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

static int guidelines_insert(struct labels *l, int64_t campaign, const char *text, int *version, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_text_check(text, "the guidelines", e);
	if (rc < 0) return rc;
	rc = labels_sql(l, &q, e,
		"INSERT INTO guidelines SELECT ?1, 1 + coalesce(max(version), 0), ?2, ?3 FROM guidelines WHERE campaign = ?1 RETURNING version", "itr",
		campaign, text, store_wall_time());
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0 && version) *version = sqlite3_column_int(q, 0);
	if (rc < 0) {
		labels_finish(l, q);
		return rc;
	}
	return labels_done(l, q, NULL, e);
}

int labels_campaign_put(struct labels *l, const char *name, const char *options, const char *guidelines, int64_t *campaign, struct err *e)
{
	int64_t there;
	int rc = labels_campaign_find(l, name, &there, e);
	if (rc < 0) return rc;
	if (there >= 0) return err_set(e, ERR_STATE, "there is a campaign '%s' already in %s", name, l->base.path);
	if (!*name || strlen(name) >= LABELS_NAME) return err_set(e, ERR_RANGE, "a campaign's name has 1 to %d bytes", LABELS_NAME - 1);
	sqlite3_stmt *q;
	TRY(labels_sql(l, &q, e, "INSERT INTO campaigns(name, state, options, time) VALUES(?1, 'open', ?2, ?3)", "ttr", name, options, store_wall_time()));
	TRY(labels_done(l, q, NULL, e));
	*campaign = sqlite3_last_insert_rowid(l->base.db);
	rc = guidelines_insert(l, *campaign, guidelines, NULL, e);
out:
	return rc;
}

int labels_campaign_state(struct labels *l, int64_t campaign, const char *state, struct err *e)
{
	sqlite3_stmt *q;
	int changed = 0, rc;
	if (strcmp(state, "open") && strcmp(state, "paused") && strcmp(state, "closed"))
		return err_set(e, ERR_RANGE, "a campaign is open, paused or closed, not '%.40s'", state);
	TRY(labels_sql(l, &q, e, "UPDATE campaigns SET state = ?2 WHERE campaign = ?1", "it", campaign, state));
	TRY(labels_done(l, q, &changed, e));
	if (!changed) rc = err_set(e, ERR_NOT_FOUND, "there is no campaign %lld", (long long)campaign);
	else rc = labels_journal(l, "campaign", campaign, state, e);
out:
	return rc;
}

int labels_campaign_stop(struct labels *l, int64_t campaign, struct err *e)
{
	int rc = labels_begin(l, e);
	if (rc < 0) return rc;
	rc = labels_campaign_state(l, campaign, "closed", e);
	FAULT_POINT("labels.within_stopping", "the stop rule has closed a campaign, its note is not written, the transaction open");
	if (rc == 0) rc = labels_journal(l, "stop_rule", campaign, "", e);
	return labels_end(l, rc, e);
}

int labels_campaign_was_stopped(struct labels *l, int64_t campaign, int *was, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT 1 FROM journal WHERE what = 'stop_rule' AND subject = ?1", "i", campaign);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	*was = rc > 0;
	labels_finish(l, q);
	return rc < 0 ? rc : 0;
}

int labels_each_campaign(struct labels *l, int (*fn)(void *ctx, const struct labels_campaign *c), void *ctx, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e,
		"SELECT campaign, name, state, options, (SELECT max(version) FROM guidelines g WHERE g.campaign = c.campaign), time FROM campaigns c ORDER BY campaign", "");
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0) {
		struct labels_campaign c = {sqlite3_column_int64(q, 0), labels_text(q, 1), labels_text(q, 2), labels_text(q, 3), sqlite3_column_int(q, 4),
			sqlite3_column_double(q, 5)};
		if ((rc = fn(ctx, &c))) break;
	}
	labels_finish(l, q);
	return rc;
}

int labels_guidelines_put(struct labels *l, int64_t campaign, const char *text, int *version, struct err *e)
{
	return guidelines_insert(l, campaign, text, version, e);
}

int labels_guidelines_get(struct labels *l, int64_t campaign, int version, char **text, int *got, double *time, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, "SELECT version, text, time FROM guidelines WHERE campaign = ?1 AND (?2 = 0 OR version = ?2) ORDER BY version DESC LIMIT 1",
		"ii", campaign, (int64_t)version);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc == 0) rc = err_set(e, ERR_NOT_FOUND, "there are no guidelines of version %d", version);
	if (rc > 0) {
		*got = sqlite3_column_int(q, 0);
		*time = sqlite3_column_double(q, 2);
		*text = strdup(labels_text(q, 1));
		rc = *text ? 0 : err_set(e, ERR_MEMORY, "no memory for guidelines");
	}
	labels_finish(l, q);
	return rc;
}

/* ---- items ---- */

static uint32_t count_words(const char *text)
{
	uint32_t n = 0;
	for (int in = 0; *text; text++) {
		int space = isspace((unsigned char)*text) != 0;
		n += in && space;
		in = !space;
		if (!text[1]) n += (uint32_t)in;
	}
	return n;
}

static int candidate_insert(struct labels *l, int64_t item, uint32_t k, const struct labels_candidate *c, struct err *e)
{
	sqlite3_stmt *q;
	char hash[HASH_HEX];
	int rc = labels_text_check(c->text, "a candidate", e);
	if (rc < 0) return rc;
	hash_bytes(c->text, strlen(c->text), hash);
	rc = labels_sql(l, &q, e, "INSERT INTO candidates VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)", "iittttt", item, (int64_t)k, c->text, hash,
		c->source ? c->source : "", c->test, c->extra);
	return rc < 0 ? rc : labels_done(l, q, NULL, e);
}

static int expected_check(const struct labels_item *it, uint32_t size, const char *role, struct err *e)
{
	int best = it->expected_best, worst = it->expected_worst;
	if (!strcmp(role, "task")) return 0;
	if (best < 0 || worst < 0 || best >= (int)size || worst >= (int)size || best == worst)
		return err_set(e, ERR_RANGE, "a %s item names two different candidates, best and worst, below %u; it has %d and %d", role, size, best, worst);
	return 0;
}

int labels_item_put(struct labels *l, struct labels_item *it, uint32_t size, struct err *e)
{
	const char *role = it->role ? it->role : "task";
	char hash[HASH_HEX], expected[64];
	sqlite3_stmt *q;
	int rc;
	if (size < 2 || size > GROUP_MAX) return err_set(e, ERR_RANGE, "an item has 2 to %d candidates, not %u", GROUP_MAX, size);
	TRY(labels_text_check(it->prompt, "a prompt", e));
	TRY(expected_check(it, size, role, e));
	it->words = 0;
	for (uint32_t k = 0; k < size; k++) {
		uint32_t words = count_words(it->candidate[k].text);
		if (words > it->words) it->words = words;
	}
	hash_bytes(it->prompt, strlen(it->prompt), hash);
	snprintf(expected, sizeof expected, "{\"best\":%d,\"worst\":%d}", it->expected_best, it->expected_worst);
	TRY(labels_sql(l, &q, e,
		"INSERT INTO items(campaign, number, role, format, language, prompt, hash, size, words, expected, extra)"
		" SELECT ?1, 1 + coalesce(max(number), -1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM items WHERE campaign = ?1 RETURNING item, number",
		"itttttiitt", it->campaign, role, it->format ? it->format : "text", it->language ? it->language : "", it->prompt, hash, (int64_t)size,
		(int64_t)it->words, strcmp(role, "task") ? expected : NULL, it->extra));
	rc = labels_step(l, q, e);
	if (rc > 0) {
		it->item = sqlite3_column_int64(q, 0);
		it->number = (uint32_t)sqlite3_column_int64(q, 1);
		it->size = size;
	}
	if (rc < 0) {
		labels_finish(l, q);
		goto out;
	}
	TRY(labels_done(l, q, NULL, e));
	labels_turns_forget(l);
	for (uint32_t k = 0; k < size; k++) TRY(candidate_insert(l, it->item, k, &it->candidate[k], e));
out:
	return rc < 0 ? rc : 0;
}

static void read_expected(const char *json, struct labels_item *it)
{
	it->expected_best = it->expected_worst = -1;
	json_t *j = json ? json_loads(json, 0, NULL) : NULL;
	json_t *best = json_object_get(j, "best"), *worst = json_object_get(j, "worst");
	if (best && worst) {
		it->expected_best = (int)json_integer_value(best);
		it->expected_worst = (int)json_integer_value(worst);
	}
	json_decref(j);
}

/* fn for one row of items; the candidates' statement stays open while it runs, so that its texts live. */
static int item_give(struct labels *l, sqlite3_stmt *q, int (*fn)(void *ctx, const struct labels_item *it), void *ctx, struct err *e)
{
	struct labels_item it = {.item = sqlite3_column_int64(q, 0), .campaign = sqlite3_column_int64(q, 1), .number = (uint32_t)sqlite3_column_int64(q, 2),
		.role = labels_text(q, 3), .format = labels_text(q, 4), .language = labels_text(q, 5), .prompt = labels_text(q, 6), .hash = labels_text(q, 7),
		.size = (uint32_t)sqlite3_column_int64(q, 8), .words = (uint32_t)sqlite3_column_int64(q, 9), .extra = labels_text_or_null(q, 11)};
	char *kept[GROUP_MAX][5] = {{0}};
	sqlite3_stmt *c;
	read_expected(labels_text_or_null(q, 10), &it);
	int rc = labels_sql(l, &c, e, "SELECT text, hash, source, test, extra FROM candidates WHERE item = ?1 ORDER BY candidate", "i", it.item);
	if (rc < 0) return rc;
	uint32_t n = 0;
	while ((rc = labels_step(l, c, e)) > 0 && n < it.size && n < GROUP_MAX) {
		for (int k = 0; k < 5; k++) {
			const char *text = labels_text_or_null(c, k);
			if (text && !(kept[n][k] = strdup(text))) rc = err_set(e, ERR_MEMORY, "no memory for an item");
		}
		if (rc < 0) break;
		it.candidate[n] = (struct labels_candidate){.text = kept[n][0], .hash = kept[n][1], .source = kept[n][2], .test = kept[n][3], .extra = kept[n][4]};
		n++;
	}
	labels_finish(l, c);
	if (rc == 0 && n != it.size) rc = err_set(e, ERR_FORMAT, "%s: item %lld lacks candidates", l->base.path, (long long)it.item);
	if (rc >= 0) rc = fn(ctx, &it);
	for (uint32_t i = 0; i < GROUP_MAX; i++)
		for (int k = 0; k < 5; k++) free(kept[i][k]);
	return rc;
}

#define ITEM_COLUMNS "SELECT item, campaign, number, role, format, language, prompt, hash, size, words, expected, extra FROM items "

int labels_item_get(struct labels *l, int64_t item, int (*fn)(void *ctx, const struct labels_item *it), void *ctx, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, ITEM_COLUMNS "WHERE item = ?1", "i", item);
	if (rc < 0) return rc;
	rc = labels_step(l, q, e);
	if (rc > 0) rc = item_give(l, q, fn, ctx, e);
	else if (rc == 0) rc = err_set(e, ERR_NOT_FOUND, "there is no item %lld", (long long)item);
	labels_finish(l, q);
	return rc;
}

int labels_each_item(struct labels *l, int64_t campaign, int (*fn)(void *ctx, const struct labels_item *it), void *ctx, struct err *e)
{
	sqlite3_stmt *q;
	int rc = labels_sql(l, &q, e, ITEM_COLUMNS "WHERE ?1 = 0 OR campaign = ?1 ORDER BY campaign, number", "i", campaign);
	if (rc < 0) return rc;
	while ((rc = labels_step(l, q, e)) > 0)
		if ((rc = item_give(l, q, fn, ctx, e))) break;
	labels_finish(l, q);
	return rc;
}

static int hash_texts(void *ctx, const struct labels_item *it)
{
	struct labels_hashed *h = ctx;
	h->size = it->size;
	/* of the texts, not of the hash columns: who changes a text by hand need not change those */
	hash_bytes(it->prompt, strlen(it->prompt), h->hash[0]);
	for (uint32_t i = 0; i < it->size; i++) hash_bytes(it->candidate[i].text, strlen(it->candidate[i].text), h->hash[1 + i]);
	return 0;
}

int labels_hash_item(struct labels *l, int64_t item, struct labels_hashed *h, struct err *e)
{
	h->item = item;
	return labels_item_get(l, item, hash_texts, h, e);
}

int labels_hashes_write(const struct labels_hashed *h, const uint8_t *shown, uint32_t count, char out[LABELS_HASHES], struct err *e)
{
	size_t at = (size_t)sprintf(out, "[\"%s\"", h->hash[0]);
	for (uint32_t i = 0; i < count; i++) {
		if (shown[i] >= h->size) return err_set(e, ERR_RANGE, "a candidate that is shown is not one of the item's");
		at += (size_t)sprintf(out + at, ",\"%s\"", h->hash[1 + shown[i]]);
	}
	strcpy(out + at, "]");
	return 0;
}
