/* The owner's side: campaigns, people, what people disagree about. */
#include "app/web/flow.h"
#include "app/web/web.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *real_or_null(double x) { return isfinite(x) ? json_real(x) : json_null(); }

/* ---- campaigns ---- */

struct campaign_list {
	struct web *w;
	json_t *list;
	struct err *e;
};

static int add_campaign(void *ctx, const struct labels_campaign *c)
{
	struct campaign_list *s = ctx;
	struct campaign_options o;
	const struct standing *x;
	int64_t labels = 0;
	int rc;
	TRY(campaign_read(&o, c->options, s->e));
	TRY(standing_get(s->w->standing, s->w->reader, c->campaign, &o, &x, s->e));
	TRY(labels_campaign_answers(s->w->reader, c->campaign, &labels, s->e));
	const struct campaign_estimate *before = &x->before;
	const struct estimate *now = &x->now;
	json_array_append_new(s->list, json_pack("{s:I,s:s,s:s,s:i,s:I,s:I,s:o,s:o,s:{s:I,s:f,s:o}}", "campaign", (json_int_t)c->campaign, "name", c->name, "state",
		c->state, "guidelines", c->guidelines, "items", (json_int_t)before->items, "labels", (json_int_t)labels, "accuracy",
		real_or_null(now->labelled ? now->accuracy : (double)NAN), "missing", real_or_null(now->missing), "estimate", "questions",
		(json_int_t)before->questions, "hours", before->hours, "accuracy", real_or_null(before->accuracy)));
out:
	return rc;
}

static int on_campaigns(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct campaign_list s = {w, json_array(), e};
	(void)q;
	web_read_lock(w);
	int rc = labels_each_campaign(w->reader, add_campaign, &s, e);
	web_read_unlock(w);
	if (rc < 0) json_decref(s.list);
	else http_reply_json(r, 200, json_pack("{s:o}", "campaigns", s.list));
	return rc;
}

static int on_state(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	int64_t campaign;
	int rc;
	TRY(web_number(q->param[0], &campaign, e));
	TRY(http_request_json(q, &j, e));
	const char *state = json_string_value(json_object_get(j, "state"));
	web_lock(w);
	rc = labels_campaign_state(w->labels, campaign, state ? state : "", e);
	web_unlock(w);
	if (rc == 0) http_reply_json(r, 200, json_object());
out:
	json_decref(j);
	return rc;
}

static int on_guidelines_get(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	int64_t campaign;
	char *text = NULL;
	int version = 0, rc;
	double time;
	TRY(web_number(q->param[0], &campaign, e));
	web_read_lock(w);
	rc = labels_guidelines_get(w->reader, campaign, 0, &text, &version, &time, e);
	web_read_unlock(w);
	if (rc == 0) http_reply_json(r, 200, json_pack("{s:i,s:s,s:f}", "version", version, "text", text, "time", time));
	free(text);
out:
	return rc;
}

static int on_guidelines_put(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	int64_t campaign;
	int version = 0, rc;
	TRY(web_number(q->param[0], &campaign, e));
	TRY(http_request_json(q, &j, e));
	const char *text = json_string_value(json_object_get(j, "text"));
	if (!text || !*text) {
		rc = err_set(e, ERR_RANGE, "guidelines are not empty");
		goto out;
	}
	web_lock(w);
	rc = labels_guidelines_put(w->labels, campaign, text, &version, e);
	web_unlock(w);
	if (rc == 0) http_reply_json(r, 200, json_pack("{s:i}", "version", version));
out:
	json_decref(j);
	return rc;
}

/* ---- people ---- */

struct people_list {
	struct web *w;
	json_t *list, *given; /* given: person to {labels, ms} */
	struct err *e;
};

static int add_given(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	json_object_set_new(ctx, values[0], json_pack("{s:I,s:f}", "labels", (json_int_t)atoll(values[1]), "ms", atof(values[2])));
	return 0;
}

static int add_person(void *ctx, const struct labels_person *p)
{
	struct people_list *s = ctx;
	char key[24];
	int64_t n;
	double gold;
	struct trust_person t = trust_of(s->w->trust, p->person);
	int rc = flow_expected_share(s->w->reader, 0, p->person, "gold", &n, &gold, s->e);
	if (rc < 0) return rc;
	snprintf(key, sizeof key, "%lld", (long long)p->person);
	const json_t *given = json_object_get(s->given, key);
	json_array_append_new(s->list, json_pack("{s:I,s:s,s:s,s:b,s:I,s:f,s:o,s:o,s:b}", "person", (json_int_t)p->person, "name", p->name, "state", p->state, "excluded",
		p->excluded, "labels", json_integer_value(json_object_get(given, "labels")), "hours", json_real_value(json_object_get(given, "ms")) / 3.6e6, "gold",
		real_or_null(gold), "weight", t.known ? json_real(t.weight) : json_null(), "flagged", t.flagged));
	return 0;
}

static int on_people(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct people_list s = {w, json_array(), json_object(), e};
	(void)q;
	web_read_lock(w);
	/* an undo is by the person whose label it takes back */
	int rc = labels_query(w->reader,
		"SELECT person, count(*) FILTER (WHERE kind = 'label') - count(*) FILTER (WHERE kind = 'undo'), total(visible_ms) FROM events GROUP BY person",
		add_given, s.given, e);
	if (rc == 0) rc = labels_each_person(w->reader, add_person, &s, e);
	web_read_unlock(w);
	json_decref(s.given);
	if (rc < 0) json_decref(s.list);
	else http_reply_json(r, 200, json_pack("{s:o}", "people", s.list));
	return rc;
}

static int invite(struct web *w, const json_t *j, char token[LABELS_TOKEN], struct err *e)
{
	const char *name = json_string_value(json_object_get(j, "name")), *languages = json_string_value(json_object_get(j, "languages"));
	const json_t *campaigns = json_object_get(j, "campaigns");
	int64_t person;
	int rc = labels_begin(w->labels, e);
	if (rc < 0) return rc;
	rc = labels_person_put(w->labels, name ? name : "", token, &person, e);
	for (size_t i = 0; i < json_array_size(campaigns) && rc >= 0; i++) {
		struct labels_member m = {json_integer_value(json_array_get(campaigns, i)), person, "invited", 0, ""};
		snprintf(m.languages, sizeof m.languages, "%s", languages ? languages : "");
		rc = labels_member_put(w->labels, &m, e);
	}
	return labels_end(w->labels, rc < 0 ? rc : 0, e);
}

static int link_json(struct web *w, const char *name, const char *token, struct http_response *r)
{
	char url[700];
	snprintf(url, sizeof url, "%s/#login=%s", http_url(w->http), token);
	http_reply_json(r, 200, json_pack("{s:s,s:s}", "name", name, "url", url));
	return 0;
}

static int on_invite(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	char token[LABELS_TOKEN];
	int rc = http_request_json(q, &j, e);
	if (rc < 0) return rc;
	web_lock(w);
	rc = invite(w, j, token, e);
	web_unlock(w);
	if (rc == 0) link_json(w, json_string_value(json_object_get(j, "name")), token, r);
	json_decref(j);
	return rc;
}

static int person_act(struct web *w, int64_t person, const char *action, char token[LABELS_TOKEN], struct err *e)
{
	if (!strcmp(action, "pause")) return labels_person_state(w->labels, person, "paused", e);
	if (!strcmp(action, "resume")) return labels_person_state(w->labels, person, "active", e);
	if (!strcmp(action, "revoke")) return labels_person_state(w->labels, person, "revoked", e);
	if (!strcmp(action, "exclude")) return labels_person_exclude(w->labels, person, 1, e);
	if (!strcmp(action, "include")) return labels_person_exclude(w->labels, person, 0, e);
	if (!strcmp(action, "erase")) return labels_person_erase(w->labels, person, e);
	if (!strcmp(action, "renew")) return labels_person_renew(w->labels, person, token, e);
	return err_set(e, ERR_NOT_FOUND, "people cannot be made to '%.40s'", action);
}

static int on_person(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	char token[LABELS_TOKEN] = "";
	struct labels_person p;
	int64_t person;
	int rc = web_number(q->param[0], &person, e);
	if (rc < 0) return rc;
	web_lock(w);
	rc = person == w->owner ? err_set(e, ERR_STATE, "that is you") : person_act(w, person, q->param[1], token, e);
	if (rc == 0) rc = labels_person_get(w->labels, person, &p, e);
	web_unlock(w);
	if (rc < 0) return rc;
	if (*token) return link_json(w, p.name, token, r);
	http_reply_json(r, 200, json_object());
	return 0;
}

static int on_hours(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	char *text = NULL;
	size_t bytes = 0;
	(void)q;
	FILE *f = open_memstream(&text, &bytes);
	if (!f) return err_set(e, ERR_MEMORY, "no memory for the hours");
	web_read_lock(w);
	int rc = labels_export_hours(w->reader, 0, f, e);
	web_read_unlock(w);
	if (fclose(f) != 0 && rc == 0) rc = err_set(e, ERR_MEMORY, "no memory for the hours");
	if (rc == 0) {
		http_reply(r, 200, "text/csv; charset=utf-8", text, bytes);
		http_reply_header(r, "Content-Disposition", "attachment; filename=\"hours.csv\"");
	}
	free(text);
	return rc;
}

/* ---- disagreements ---- */

static int add_dispute(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	json_array_append_new(ctx, json_pack("{s:I,s:I,s:I,s:I,s:I,s:s}", "item", (json_int_t)atoll(values[0]), "a", (json_int_t)atoll(values[1]), "b",
		(json_int_t)atoll(values[2]), "first", (json_int_t)atoll(values[3]), "second", (json_int_t)atoll(values[4]), "prompt", values[5]));
	return 0;
}

/* Pairs of a prompt that different people put the other way round, those with the most votes on the weaker side first; what
 * was settled is left out. */
static int on_disagreements(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	char sql[1600];
	int64_t campaign;
	int rc = web_number(q->param[0], &campaign, e);
	if (rc < 0) return rc;
	snprintf(sql, sizeof sql,
		"WITH pair AS (SELECT l.item, l.person, x.value AS a, y.value AS b, json_extract(l.ranks, '$[' || x.key || ']') AS ra,"
		" json_extract(l.ranks, '$[' || y.key || ']') AS rb FROM labels l, json_each(l.shown) x, json_each(l.shown) y"
		" WHERE l.campaign = %lld AND l.role = 'task' AND l.assigned = 'task' AND l.criterion = 0 AND l.outcome = 'ranked' AND x.value < y.value),"
		" vote AS (SELECT item, a, b, count(DISTINCT iif(ra < rb, person, NULL)) AS first, count(DISTINCT iif(ra > rb, person, NULL)) AS second"
		" FROM pair WHERE ra <> rb GROUP BY item, a, b)"
		" SELECT v.item, v.a, v.b, v.first, v.second, substr(i.prompt, 1, 120) FROM vote v JOIN items i ON i.item = v.item WHERE first > 0 AND second > 0"
		" AND NOT EXISTS (SELECT 1 FROM asks k JOIN assignments s ON s.assignment = k.assignment WHERE s.item = v.item AND s.kind = 'adjudication'"
		" AND k.shown IN ('[' || v.a || ',' || v.b || ']', '[' || v.b || ',' || v.a || ']')) ORDER BY min(first, second) DESC, v.item, v.a, v.b LIMIT 100",
		(long long)campaign);
	json_t *list = json_array();
	web_read_lock(w);
	rc = labels_query(w->reader, sql, add_dispute, list, e);
	web_read_unlock(w);
	if (rc < 0) json_decref(list);
	else http_reply_json(r, 200, json_pack("{s:o}", "pairs", list));
	return rc;
}

/* {"item", "a", "b"}: the owner is asked that duel. */
static int on_adjudicate(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	struct flow_campaign c;
	int64_t campaign;
	int rc;
	TRY(web_number(q->param[0], &campaign, e));
	TRY(http_request_json(q, &j, e));
	web_lock(w);
	rc = flow_campaign_load(w->labels, campaign, &c, e);
	if (rc == 0) rc = labels_member_put(w->labels, &(struct labels_member){campaign, w->owner, "working", c.guidelines, ""}, e);
	if (rc == 0)
		rc = flow_adjudicate(w->labels, json_integer_value(json_object_get(j, "item")), w->owner, (int)json_integer_value(json_object_get(j, "a")),
			(int)json_integer_value(json_object_get(j, "b")), e);
	web_unlock(w);
	if (rc == 0) http_reply_json(r, 200, json_object());
out:
	json_decref(j);
	return rc;
}

static int on_events(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	(void)q;
	(void)e;
	http_reply_events(r, "owner");
	return 0;
}

const struct http_route web_owner_routes[] = {
	{"GET", "/api/owner/campaigns", WEB_OWNER, 0, on_campaigns, 0},
	{"POST", "/api/owner/campaigns/{}/state", WEB_OWNER, 0, on_state, 0},
	{"GET", "/api/owner/campaigns/{}/guidelines", WEB_OWNER, 0, on_guidelines_get, 0},
	{"POST", "/api/owner/campaigns/{}/guidelines", WEB_OWNER, 0, on_guidelines_put, 0},
	{"GET", "/api/owner/campaigns/{}/disagreements", WEB_OWNER, 0, on_disagreements, 0},
	{"POST", "/api/owner/campaigns/{}/adjudicate", WEB_OWNER, 0, on_adjudicate, 0},
	{"GET", "/api/owner/people", WEB_OWNER, 0, on_people, 0},
	{"POST", "/api/owner/people", WEB_OWNER, 0, on_invite, 0},
	{"POST", "/api/owner/people/{}/{}", WEB_OWNER, 0, on_person, 0},
	{"GET", "/api/owner/hours.csv", WEB_OWNER, 0, on_hours, 0},
	{"GET", "/api/owner/events", WEB_OWNER, 0, on_events, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
