/* The labelling page's side: what is next, an answer, taking back, history. A
 * person can name only campaigns they are members of and questions they were
 * asked; every other number is "not found". What is sent of a candidate before
 * the answer is its text alone. */
#include "app/web/flow.h"
#include "app/web/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a question as the page gets it ---- */

struct drawing {
	const struct labels_ask *a;
	json_t *shown, *to;
	uint32_t long_words;
};

static int draw_item(void *ctx, const struct labels_item *it)
{
	struct drawing *d = ctx;
	for (uint32_t i = 0; i < d->a->count; i++) json_array_append_new(d->shown, json_string(it->candidate[d->a->shown[i]].text));
	json_object_set_new(d->to, "prompt", json_string(it->prompt));
	json_object_set_new(d->to, "format", json_string(it->format));
	json_object_set_new(d->to, "language", json_string(it->language));
	json_object_set_new(d->to, "difference", json_boolean(d->a->kind == LABELS_DUEL && it->words > d->long_words));
	return 0;
}

static const char *kind_name(enum labels_kind k) { return k == LABELS_DUEL ? "duel" : k == LABELS_ORDER ? "order" : "best_worst"; }

static int ask_json(struct labels *l, const struct flow_campaign *c, const struct labels_ask *a, json_t **out, struct err *e)
{
	const struct campaign_criterion *q = &c->options.criterion[a->criterion < c->options.criteria ? a->criterion : 0];
	json_t *j = json_pack("{s:I,s:I,s:s,s:I,s:s,s:s,s:I,s:o}", "ask", (json_int_t)a->ask, "item", (json_int_t)a->item, "kind", kind_name(a->kind), "criterion",
		(json_int_t)a->criterion, "criterion_name", q->name, "question", q->question, "event", (json_int_t)a->event, "shown", json_array());
	if (!j) return err_set(e, ERR_MEMORY, "no memory for a question");
	struct drawing d = {a, json_object_get(j, "shown"), j, c->options.pick.long_words};
	int rc = labels_item_get(l, a->item, draw_item, &d, e);
	if (rc < 0) json_decref(j);
	else *out = j;
	return rc;
}

/* Counts for the progress bar: the person's answers, and prompts finished. */
static int progress_json(struct labels *l, int64_t campaign, int64_t person, json_t *to, struct err *e)
{
	int64_t labels = 0, prompts = 0;
	int rc = labels_progress(l, campaign, person, &labels, &prompts, e);
	if (rc < 0) return rc;
	json_object_set_new(to, "labels", json_integer(labels));
	json_object_set_new(to, "prompts", json_integer(prompts));
	return 0;
}

static int guidelines_json(struct labels *l, const struct flow_campaign *c, int version, json_t *to, struct err *e)
{
	char *text = NULL;
	int got = 0;
	double time;
	int rc = labels_guidelines_get(l, c->campaign, version, &text, &got, &time, e);
	if (rc < 0) return rc;
	json_object_set_new(to, "version", json_integer(got));
	json_object_set_new(to, "text", json_string(text));
	json_object_set_new(to, "time", json_real(time));
	json_object_set_new(to, "warning", json_string(c->options.warning));
	free(text);
	return 0;
}

/* The campaign and the person of a request; the lock is taken when it succeeds. */
static int enter(struct web *w, const struct http_request *q, struct flow_campaign *c, int64_t *person, struct labels_member *m, struct err *e)
{
	int64_t campaign;
	int rc = web_number(q->param[0], &campaign, e);
	if (rc == 0) rc = web_person(w, q, person, e);
	if (rc < 0) return rc;
	web_lock(w);
	rc = labels_member_get(w->labels, campaign, *person, m, e);
	if (rc == 0) rc = err_set(e, ERR_NOT_FOUND, "there is no campaign %lld for you", (long long)campaign);
	c->trust = w->trust;
	if (rc > 0) rc = flow_campaign_load(w->labels, campaign, c, e);
	if (rc < 0) web_unlock(w);
	return rc;
}

static int next_json(struct web *w, const struct flow_campaign *c, int64_t person, json_t *j, struct err *e)
{
	struct flow f;
	struct labels_person p;
	json_t *ask = NULL;
	int rc;
	TRY(labels_person_get(w->labels, person, &p, e));
	if (!strcmp(p.state, "paused")) {
		json_object_set_new(j, "state", json_string("paused"));
		return 0;
	}
	TRY(flow_next(w->labels, c, person, &f, e));
	json_object_set_new(j, "state", json_string(flow_state_name(f.state)));
	TRY(progress_json(w->labels, c->campaign, person, j, e));
	if (f.state == FLOW_GUIDELINES) TRY(guidelines_json(w->labels, c, 0, j, e));
	if (f.state != FLOW_ASK) goto out;
	TRY(ask_json(w->labels, c, &f.ask, &ask, e));
	json_object_set_new(j, "ask", ask);
	json_object_set_new(j, "answered", json_integer(f.answered));
	json_object_set_new(j, "most", json_integer(f.most));
	json_object_set_new(j, "qualification", json_boolean(!strcmp(f.assigned, "qualification")));
	json_object_set_new(j, "guidelines", json_integer(c->guidelines));
out:
	return rc;
}

static int on_next(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct flow_campaign c;
	struct labels_member m;
	int64_t person;
	int rc = enter(w, q, &c, &person, &m, e);
	if (rc < 0) return rc;
	json_t *j = json_object();
	rc = next_json(w, &c, person, j, e);
	web_unlock(w);
	if (rc < 0) json_decref(j);
	else http_reply_json(r, 200, j);
	return rc;
}

/* ---- answers ---- */

/* Ranks of the JSON list; ERR_RANGE. */
static int read_ranks(const json_t *list, uint8_t rank[GROUP_MAX], struct err *e)
{
	size_t n = json_array_size(list);
	if (n > GROUP_MAX) return err_set(e, ERR_RANGE, "more ranks than a group has candidates");
	for (size_t i = 0; i < n; i++) {
		json_int_t v = json_integer_value(json_array_get(list, i));
		if (v < 0 || v > GROUP_MAX) return err_set(e, ERR_RANGE, "rank %lld", (long long)v);
		rank[i] = (uint8_t)v;
	}
	return 0;
}

static int read_answer(const json_t *j, struct labels_answer *a, struct err *e)
{
	const char *outcome = json_string_value(json_object_get(j, "outcome"));
	*a = (struct labels_answer){.key = json_string_value(json_object_get(j, "key")), .outcome = outcome ? labels_outcome_find(outcome) : 0,
		.strength = (int)json_integer_value(json_object_get(j, "strength")), .visible_ms = json_integer_value(json_object_get(j, "visible_ms")),
		.guidelines = (int)json_integer_value(json_object_get(j, "guidelines")), .page = json_string_value(json_object_get(j, "page")),
		.reason = json_string_value(json_object_get(j, "reason")), .correction = json_string_value(json_object_get(j, "correction"))};
	if (!a->key) return err_set(e, ERR_FORMAT, "key is missing");
	if (!a->outcome) return err_set(e, ERR_RANGE, "outcome must be ranked, tie, all_bad, skip, cannot_rank or flag");
	if (a->outcome == LABELS_FLAG && !(a->reason && *a->reason)) return err_set(e, ERR_RANGE, "a flag needs a reason");
	return read_ranks(json_object_get(j, "ranks"), a->rank, e);
}

struct revealing {
	const struct labels_ask *a;
	json_t *to;
	int qualification;
};

/* What may be seen after the answer: results of tests; in the qualification round, which was expected. */
static int reveal_item(void *ctx, const struct labels_item *it)
{
	struct revealing *v = ctx;
	json_t *tests = json_array();
	int any = 0;
	for (uint32_t i = 0; i < v->a->count; i++) {
		const char *test = it->candidate[v->a->shown[i]].test;
		any |= test != NULL;
		json_array_append_new(tests, test ? json_string(test) : json_null());
		if (v->qualification && v->a->shown[i] == it->expected_best) json_object_set_new(v->to, "expected_best", json_integer(i));
		if (v->qualification && v->a->shown[i] == it->expected_worst) json_object_set_new(v->to, "expected_worst", json_integer(i));
	}
	if (any) json_object_set_new(v->to, "tests", tests);
	else json_decref(tests);
	return 0;
}

static int answer_locked(struct web *w, const struct labels_answer *a, json_t *to, struct err *e)
{
	struct labels_ask ask;
	struct labels_assignment s;
	int64_t event;
	int rc;
	TRY(labels_answer_put(w->labels, a, &event, e));
	TRY(labels_ask_get(w->labels, a->ask, &ask, e));
	TRY(labels_assignment_get(w->labels, ask.assignment, &s, e));
	json_object_set_new(to, "event", json_integer(event));
	struct revealing v = {&ask, to, !strcmp(s.kind, "qualification")};
	rc = labels_item_get(w->labels, ask.item, reveal_item, &v, e);
out:
	return rc;
}

static int on_answer(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct labels_answer a;
	struct labels_person p;
	json_t *j = NULL, *to = NULL;
	int64_t ask, person;
	int rc;
	TRY(web_number(q->param[0], &ask, e));
	TRY(web_person(w, q, &person, e));
	TRY(http_request_json(q, &j, e));
	TRY(read_answer(j, &a, e));
	a.ask = ask;
	a.person = person;
	to = json_object();
	web_lock(w);
	rc = labels_person_get(w->labels, person, &p, e);
	if (rc == 0 && !strcmp(p.state, "paused")) rc = err_set(e, ERR_STATE, "you are paused: ask the owner");
	if (rc == 0) rc = answer_locked(w, &a, to, e);
	web_unlock(w);
	if (rc < 0) goto out;
	http_publish(w->http, "owner", "label", "{}");
	http_reply_json(r, 200, to);
	to = NULL;
	rc = 0;
out:
	json_decref(to);
	json_decref(j);
	return rc;
}

static int on_undo(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	json_t *j = NULL;
	int64_t event, person, undo = 0;
	int rc;
	TRY(web_number(q->param[0], &event, e));
	TRY(web_person(w, q, &person, e));
	TRY(http_request_json(q, &j, e));
	const char *key = json_string_value(json_object_get(j, "key"));
	if (!key) {
		rc = err_set(e, ERR_FORMAT, "key is missing");
		goto out;
	}
	web_lock(w);
	rc = flow_undo(w->labels, key, person, event, &undo, e);
	web_unlock(w);
	if (rc < 0) goto out;
	http_publish(w->http, "owner", "label", "{}");
	http_reply_json(r, 200, json_pack("{s:I}", "event", (json_int_t)undo));
out:
	json_decref(j);
	return rc;
}

/* ---- history, guidelines, membership ---- */

static int add_history(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	json_array_append_new(ctx, json_pack("{s:I,s:I,s:s,s:s,s:f,s:s}", "event", (json_int_t)atoll(values[0]), "ask", (json_int_t)atoll(values[1]), "outcome",
		values[2], "kind", kind_name((enum labels_kind)atoi(values[3])), "time", atof(values[4]), "prompt", values[5]));
	return 0;
}

static int on_history(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct flow_campaign c;
	struct labels_member m;
	int64_t person;
	char sql[600];
	int rc = enter(w, q, &c, &person, &m, e);
	if (rc < 0) return rc;
	json_t *list = json_array();
	snprintf(sql, sizeof sql,
		"SELECT e.event, e.ask, e.outcome, a.kind, e.time, substr(i.prompt, 1, 80) FROM events e JOIN asks a ON a.ask = e.ask JOIN assignments s"
		" ON s.assignment = a.assignment JOIN items i ON i.item = s.item WHERE e.person = %lld AND i.campaign = %lld AND e.kind = 'label'"
		" AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event) ORDER BY e.event DESC LIMIT 100",
		(long long)person, (long long)c.campaign);
	rc = labels_query(w->labels, sql, add_history, list, e);
	web_unlock(w);
	if (rc < 0) json_decref(list);
	else http_reply_json(r, 200, json_pack("{s:o}", "labels", list));
	return rc;
}

static int on_guidelines(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct flow_campaign c;
	struct labels_member m;
	int64_t person;
	const char *version = http_request_query(q, "version");
	int rc = enter(w, q, &c, &person, &m, e);
	if (rc < 0) return rc;
	json_t *j = json_object();
	rc = guidelines_json(w->labels, &c, version ? atoi(version) : 0, j, e);
	json_object_set_new(j, "accepted", json_integer(m.guidelines));
	web_unlock(w);
	if (rc < 0) json_decref(j);
	else http_reply_json(r, 200, j);
	return rc;
}

/* {"accept": version} takes the guidelines, {"opt_out": true} leaves, {"opt_out": false} comes back, {"languages": "en,de"}. */
static int on_member(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct flow_campaign c;
	struct labels_member m;
	int64_t person;
	json_t *j = NULL;
	int rc = http_request_json(q, &j, e);
	if (rc < 0) return rc;
	rc = enter(w, q, &c, &person, &m, e);
	if (rc < 0) {
		json_decref(j);
		return rc;
	}
	json_t *accept = json_object_get(j, "accept"), *out = json_object_get(j, "opt_out");
	const char *languages = json_string_value(json_object_get(j, "languages"));
	if (accept && json_integer_value(accept) == c.guidelines) m.guidelines = c.guidelines;
	else if (accept) rc = err_set(e, ERR_STATE, "the guidelines have changed meanwhile: read version %d", c.guidelines);
	if (accept && !strcmp(m.state, "invited")) strcpy(m.state, "working");
	if (json_is_true(out) && strcmp(m.state, "failed")) strcpy(m.state, "opted_out");
	if (json_is_false(out) && !strcmp(m.state, "opted_out")) strcpy(m.state, "working");
	if (languages) snprintf(m.languages, sizeof m.languages, "%s", languages);
	if (rc == 0) rc = labels_member_put(w->labels, &m, e);
	web_unlock(w);
	json_decref(j);
	if (rc == 0) http_reply_json(r, 200, json_pack("{s:s}", "state", m.state));
	return rc;
}

const struct http_route web_label_routes[] = {
	{"GET", "/api/campaigns/{}/next", WEB_PERSON, 0, on_next, 0},
	{"POST", "/api/asks/{}/answer", WEB_PERSON, 0, on_answer, 0},
	{"POST", "/api/events/{}/undo", WEB_PERSON, 0, on_undo, 4096},
	{"GET", "/api/campaigns/{}/history", WEB_PERSON, 0, on_history, 0},
	{"GET", "/api/campaigns/{}/guidelines", WEB_PERSON, 0, on_guidelines, 0},
	{"POST", "/api/campaigns/{}/member", WEB_PERSON, 0, on_member, 4096},
	{NULL, NULL, 0, 0, NULL, 0},
};
