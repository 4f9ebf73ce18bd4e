/* Signing in. A link holds its token behind '#', which browsers keep to themselves:
 * it is in no log and no Referer. The page posts it. Who guesses is answered with
 * 429 after ten tries in a minute from one address; a token has 256 bits anyway. */
#include "app/web/flow.h"
#include "app/web/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Counts a failure, or asks (add 0) whether there were too many. Under the lock. */
static int tries(struct web *w, const char *client, int add)
{
	int64_t minute = time(NULL) / 60;
	struct web_tries *oldest = &w->tries[0];
	for (int i = 0; i < WEB_LIMIT_SLOTS; i++) {
		struct web_tries *t = &w->tries[i];
		if (t->minute == minute && !strcmp(t->client, client)) return (t->count += add) >= WEB_LIMIT_TRIES;
		if (t->minute < oldest->minute) oldest = t;
	}
	if (!add) return 0;
	/* more addresses than places: the table is full of this minute's, so all wait */
	if (oldest->minute == minute) return 1;
	snprintf(oldest->client, sizeof oldest->client, "%s", client);
	oldest->minute = minute;
	oldest->count = add;
	return 0;
}

/* The subject of the token, in *subject; 0 when it is good. Under the lock. */
static int token_check(struct web *w, const char *token, char subject[HTTP_SUBJECT])
{
	struct labels_person p;
	struct err e;
	if (*w->login && !strcmp(token, w->login)) {
		w->login[0] = 0;
		strcpy(subject, "owner");
		return 0;
	}
	if (labels_person_by_token(w->labels, token, &p, &e) < 0) return -1;
	snprintf(subject, HTTP_SUBJECT, "person:%lld:%lld", (long long)p.person, (long long)p.generation);
	return 0;
}

static int on_login(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	char subject[HTTP_SUBJECT], csrf[HTTP_CSRF];
	int rc = http_request_json(q, &j, e);
	if (rc < 0) return rc;
	const char *token = json_string_value(json_object_get(j, "token"));
	web_lock(w);
	int many = tries(w, q->client, 0);
	int good = !many && token && token_check(w, token, subject) == 0;
	if (!good && !many) tries(w, q->client, 1);
	web_unlock(w);
	json_decref(j);
	if (many) return http_reply_error(r, 429, "too many tries; wait a minute");
	if (!good) return http_reply_error(r, 403, "this link does not work (any more); ask for a new one");
	http_reply_login(r, subject, csrf);
	http_reply_json(r, 200, json_pack("{s:s,s:s}", "csrf", csrf, "role", strcmp(subject, "owner") ? "person" : "owner"));
	return 0;
}

static int on_logout(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	(void)q;
	(void)e;
	http_reply_logout(r);
	http_reply_json(r, 200, json_object());
	return 0;
}

static int subject_person(const char *subject, int64_t *person, int64_t *generation)
{
	long long p, g;
	if (sscanf(subject, "person:%lld:%lld", &p, &g) != 2) return -1;
	*person = p;
	*generation = g;
	return 0;
}

enum http_authority web_authorize(void *ctx, const struct http_route *route, const struct http_request *q)
{
	struct web *w = ctx;
	struct labels_person p;
	struct err e;
	int64_t person, generation;
	if (!strcmp(q->subject, "owner")) return HTTP_ALLOWED;
	if (subject_person(q->subject, &person, &generation) < 0) return HTTP_ENDED;
	web_lock(w);
	int rc = labels_person_get(w->labels, person, &p, &e);
	web_unlock(w);
	if (rc < 0 || p.generation != generation || (strcmp(p.state, "active") && strcmp(p.state, "paused"))) return HTTP_ENDED;
	return route->access == WEB_OWNER ? HTTP_FORBIDDEN : HTTP_ALLOWED;
}

int web_person(struct web *w, const struct http_request *q, int64_t *person, struct err *e)
{
	int64_t generation;
	if (!strcmp(q->subject, "owner")) {
		*person = w->owner;
		return 0;
	}
	return subject_person(q->subject, person, &generation) < 0 ? err_set(e, ERR_NOT_FOUND, "nobody is signed in") : 0;
}

struct listing {
	struct web *w;
	int64_t person;
	json_t *list;
	struct err *e;
};

static int list_campaign(void *ctx, const struct labels_campaign *c)
{
	struct listing *s = ctx;
	struct labels_member m;
	int rc = labels_member_get(s->w->labels, c->campaign, s->person, &m, s->e);
	if (rc <= 0) return rc;
	json_array_append_new(s->list, json_pack("{s:I,s:s,s:s,s:s}", "campaign", (json_int_t)c->campaign, "name", c->name, "state", c->state, "member", m.state));
	return 0;
}

static int on_session(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct listing s = {.w = w, .e = e};
	struct labels_person p = {0};
	/* a session that does not count any more is none */
	if (!*q->subject || web_authorize(w, &(struct http_route){.access = WEB_PERSON}, q)) {
		http_reply_json(r, 200, json_pack("{s:s}", "role", "none"));
		return 0;
	}
	int rc = web_person(w, q, &s.person, e);
	if (rc < 0) return rc;
	s.list = json_array();
	web_lock(w);
	rc = labels_person_get(w->labels, s.person, &p, e);
	if (rc == 0) rc = labels_each_campaign(w->labels, list_campaign, &s, e);
	web_unlock(w);
	if (rc < 0) {
		json_decref(s.list);
		return rc;
	}
	http_reply_json(r, 200, json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "role", s.person == w->owner ? "owner" : "person", "name", p.name, "state", p.state, "csrf",
		q->csrf, "page", WEB_PAGE_VERSION, "campaigns", s.list));
	return 0;
}

const struct http_route web_login_routes[] = {
	{"POST", "/api/login", WEB_ANYONE, HTTP_NO_CSRF, on_login, 4096},
	{"POST", "/api/logout", WEB_PERSON, 0, on_logout, 4096},
	{"GET", "/api/session", WEB_ANYONE, 0, on_session, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
