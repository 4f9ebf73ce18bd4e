/* An item and its labels as one JSON object, and back. Everything that counts is in
 * it: texts, what was shown in which order, why, how likely, the answer, its time;
 * not who: people are p1, p2, … */
#include "app/label.h"

#include <stdlib.h>
#include <string.h>

struct recording {
	struct labels *l;
	json_t *people, *list, *events; /* events: of `list`, ask → index, for repeats */
	struct err *e;
};

static json_t *numbers(const uint8_t *v, uint32_t n)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_integer(v[i]));
	return list;
}

static const char *person_name(json_t *people, int64_t person)
{
	char key[32], name[32];
	snprintf(key, sizeof key, "%lld", (long long)person);
	if (!json_object_get(people, key)) {
		snprintf(name, sizeof name, "p%zu", json_object_size(people) + 1);
		json_object_set_new(people, key, json_string(name));
	}
	return json_string_value(json_object_get(people, key));
}

static int record_label(void *ctx, const struct labels_label *r)
{
	struct recording *s = ctx;
	char *reason = NULL, *correction = NULL, key[32];
	int rc = labels_notes_get(s->l, r->event, &reason, &correction, s->e);
	if (rc < 0) return rc;
	json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:i,s:s,s:s,s:f,s:o,s:s,s:i,s:I,s:i,s:s,s:f}", "person", person_name(s->people, r->person), "assigned", r->assigned,
		"criterion", (json_int_t)r->criterion, "place", (json_int_t)r->place, "kind", (int)r->kind, "design", r->design, "arm", r->arm, "probability",
		r->probability, "shown", numbers(r->shown, r->count), "outcome", labels_outcome_name(r->outcome), "strength", r->strength, "visible_ms",
		(json_int_t)r->visible_ms, "guidelines", r->guidelines, "page", r->page, "time", r->time);
	if (j && (r->outcome == LABELS_RANKED || r->outcome == LABELS_TIE)) json_object_set_new(j, "ranks", numbers(r->rank, r->count));
	if (j && *reason) json_object_set_new(j, "reason", json_string(reason));
	if (j && *correction) json_object_set_new(j, "correction", json_string(correction));
	free(reason);
	free(correction);
	if (!j) return err_set(s->e, ERR_MEMORY, "no memory for a label");
	snprintf(key, sizeof key, "%lld", (long long)r->repeats);
	json_t *original = json_object_get(s->events, key);
	if (original) json_object_set(j, "repeats", original);
	snprintf(key, sizeof key, "%lld", (long long)r->ask);
	json_object_set_new(s->events, key, json_integer((json_int_t)json_array_size(s->list)));
	json_array_append_new(s->list, j);
	return 0;
}

static json_t *loads_or_empty(const char *text)
{
	json_t *j = text ? json_loads(text, 0, NULL) : NULL;
	return j ? j : json_object();
}

static int record_item(void *ctx, const struct labels_item *it)
{
	json_t *j = loads_or_empty(it->extra), *list = json_array();
	json_object_set_new(j, "prompt", strcmp(it->format, "chat") ? json_string(it->prompt) : json_loads(it->prompt, 0, NULL));
	for (uint32_t i = 0; i < it->size; i++) {
		const struct labels_candidate *c = &it->candidate[i];
		json_t *o = loads_or_empty(c->extra);
		json_object_set_new(o, "text", json_string(c->text));
		if (*c->source) json_object_set_new(o, "source", json_string(c->source));
		if (c->test) json_object_set_new(o, "test", json_string(c->test));
		json_array_append_new(list, o);
	}
	json_object_set_new(j, "candidates", list);
	if (strcmp(it->role, "task")) json_object_set_new(j, "role", json_string(it->role));
	if (*it->language) json_object_set_new(j, "language", json_string(it->language));
	if (it->expected_best >= 0) json_object_set_new(j, "best", json_integer(it->expected_best));
	if (it->expected_worst >= 0) json_object_set_new(j, "worst", json_integer(it->expected_worst));
	*(json_t **)ctx = j;
	return 0;
}

int label_record(struct labels *l, int64_t item, json_t *people, json_t **record, int64_t *labels, struct err *e)
{
	struct recording s = {l, people, json_array(), json_object(), e};
	json_t *j = NULL;
	int rc = labels_item_get(l, item, record_item, &j, e);
	if (rc == 0) rc = labels_each_label(l, &(struct labels_query){.item = item}, record_label, &s, NULL, e);
	json_decref(s.events);
	*labels = (int64_t)json_array_size(s.list);
	if (rc == 0) {
		json_object_set_new(j, "labels", s.list);
		*record = j;
		return 0;
	}
	json_decref(s.list);
	json_decref(j);
	return rc;
}

/* ---- back ---- */

struct putting {
	struct labels *l;
	int64_t item;
	uint32_t size;
	json_t *people, *assignments;
	const char *where;
};

static int missing(const struct putting *s, struct err *e, const char *what) { return err_set(e, ERR_FORMAT, "%s: a label's \"%s\" is missing or wrong", s->where, what); }

static int read_list(const json_t *list, uint8_t v[GROUP_MAX], uint32_t *n)
{
	size_t k = json_array_size(list);
	if (k > GROUP_MAX) return -1;
	for (size_t i = 0; i < k; i++) {
		json_int_t x = json_integer_value(json_array_get(list, i));
		if (x < 0 || x > 255) return -1;
		v[i] = (uint8_t)x;
	}
	*n = (uint32_t)k;
	return 0;
}

/* The person of that name, made when it is new. */
static int find_person(struct putting *s, const char *name, int64_t *person, struct err *e)
{
	char full[LABELS_NAME];
	json_t *there = json_object_get(s->people, name);
	*person = json_integer_value(there);
	if (there) return 0;
	snprintf(full, sizeof full, "imported %.100s", name);
	int rc = labels_person_put(s->l, full, NULL, person, e);
	if (rc == 0) json_object_set_new(s->people, name, json_integer(*person));
	return rc;
}

static int find_assignment(struct putting *s, int64_t person, const char *kind, int64_t *assignment, struct err *e)
{
	char key[64];
	snprintf(key, sizeof key, "%lld %.20s", (long long)person, kind);
	json_t *there = json_object_get(s->assignments, key);
	*assignment = json_integer_value(there);
	if (there) return 0;
	int rc = labels_assign(s->l, s->item, person, kind, assignment, e);
	if (rc == 0) rc = labels_assignment_done(s->l, *assignment, 1, e);
	if (rc == 0) json_object_set_new(s->assignments, key, json_integer(*assignment));
	return rc;
}

static int put_label(struct putting *s, const json_t *j, const json_t *asks, int64_t *ask, struct err *e)
{
	struct labels_ask a = {.item = s->item};
	struct labels_answer x = {.strength = (int)json_integer_value(json_object_get(j, "strength")), .visible_ms = json_integer_value(json_object_get(j, "visible_ms")),
		.guidelines = (int)json_integer_value(json_object_get(j, "guidelines")), .page = json_string_value(json_object_get(j, "page")),
		.reason = json_string_value(json_object_get(j, "reason")), .correction = json_string_value(json_object_get(j, "correction")),
		.time = json_number_value(json_object_get(j, "time"))};
	const char *person = json_string_value(json_object_get(j, "person")), *assigned = json_string_value(json_object_get(j, "assigned"));
	const char *outcome = json_string_value(json_object_get(j, "outcome")), *design = json_string_value(json_object_get(j, "design"));
	const char *arm = json_string_value(json_object_get(j, "arm"));
	const json_t *repeats = json_object_get(j, "repeats");
	char key[80];
	int64_t event;
	uint32_t n;
	int rc;
	if (!person) return missing(s, e, "person");
	if (!outcome || !(x.outcome = labels_outcome_find(outcome))) return missing(s, e, "outcome");
	if (read_list(json_object_get(j, "shown"), a.shown, &a.count) < 0 || a.count < 2) return missing(s, e, "shown");
	if (read_list(json_object_get(j, "ranks"), x.rank, &n) < 0) return missing(s, e, "ranks");
	a.kind = (enum labels_kind)json_integer_value(json_object_get(j, "kind"));
	a.criterion = (uint32_t)json_integer_value(json_object_get(j, "criterion"));
	a.place = (uint32_t)json_integer_value(json_object_get(j, "place"));
	a.probability = json_number_value(json_object_get(j, "probability"));
	snprintf(a.design, sizeof a.design, "%s", design ? design : "imported");
	snprintf(a.arm, sizeof a.arm, "%s", arm ? arm : "imported");
	if (repeats) a.repeats = json_integer_value(json_array_get(asks, (size_t)json_integer_value(repeats)));
	TRY(find_person(s, person, &x.person, e));
	TRY(find_assignment(s, x.person, assigned ? assigned : "task", &a.assignment, e));
	a.person = x.person;
	TRY(labels_ask_put(s->l, &a, e));
	snprintf(key, sizeof key, "import-%lld", (long long)a.ask);
	x.key = key;
	x.ask = *ask = a.ask;
	rc = labels_answer_put(s->l, &x, &event, e);
out:
	if (rc < 0) err_prefix(e, "%s", s->where);
	return rc;
}

int label_record_put(struct labels *l, int64_t campaign, json_t *record, json_t *people, const char *where, int64_t *labels, struct err *e)
{
	struct putting s = {.l = l, .people = people, .assignments = json_object(), .where = where};
	json_t *list = json_object_get(record, "labels"), *asks = json_array();
	int rc = label_item_from_json(l, campaign, record, "", where, &s.item, &s.size, e);
	for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
		int64_t ask = 0;
		rc = put_label(&s, json_array_get(list, i), asks, &ask, e);
		json_array_append_new(asks, json_integer(ask));
		*labels += rc == 0;
	}
	json_decref(asks);
	json_decref(s.assignments);
	return rc;
}
