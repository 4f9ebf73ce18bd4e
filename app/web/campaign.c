/* Options of a campaign: one table of keys drives reading, writing and checking. */
#include "app/web/campaign.h"

#include "core/base/rng.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct key {
	const char *name;
	char kind; /* u uint32_t, U uint64_t, I int64_t, d double */
	size_t at;
	double low, high;
} keys[] = {
	{"seed", 'U', offsetof(struct campaign_options, pick.seed), 0, 9e15},
	{"quads", 'u', offsetof(struct campaign_options, pick.quads), 0, 1000},
	{"duels", 'u', offsetof(struct campaign_options, pick.duels), 0, 1000},
	{"duels_alone", 'u', offsetof(struct campaign_options, pick.duels_alone), 0, 10000},
	{"uniform", 'd', offsetof(struct campaign_options, pick.uniform), 0.2, 1},
	{"other_design", 'd', offsetof(struct campaign_options, pick.other_design), 0, 1},
	{"stop_gain", 'd', offsetof(struct campaign_options, pick.stop_gain), 0, 10},
	{"short_words", 'u', offsetof(struct campaign_options, pick.short_words), 0, 100000},
	{"long_words", 'u', offsetof(struct campaign_options, pick.long_words), 0, 10000000},
	{"labels_each", 'u', offsetof(struct campaign_options, labels_each), 1, 1000},
	{"overlap", 'd', offsetof(struct campaign_options, overlap), 0, 1},
	{"overlap_labels", 'u', offsetof(struct campaign_options, overlap_labels), 1, 1000},
	{"gold", 'd', offsetof(struct campaign_options, gold), 0, 0.5},
	{"repeats", 'd', offsetof(struct campaign_options, repeats), 0, 0.5},
	{"qualification", 'u', offsetof(struct campaign_options, qualification), 0, 1000},
	{"pass", 'd', offsetof(struct campaign_options, pass), 0, 1},
	{"lease_seconds", 'd', offsetof(struct campaign_options, lease_seconds), 1, 1e7},
	{"max_labels", 'I', offsetof(struct campaign_options, max_labels), 0, 9e15},
	{"stop", 'u', offsetof(struct campaign_options, stop), 0, 1},
	{"accuracy", 'd', offsetof(struct campaign_options, accuracy), 0.5, 1},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

void campaign_defaults(struct campaign_options *o)
{
	*o = (struct campaign_options){.pick = pick_options_default(), .criteria = 1, .labels_each = 1, .overlap = 0.2, .overlap_labels = 3, .gold = 0.05,
		.repeats = 0.03, .pass = 0.75, .lease_seconds = 1800, .accuracy = 0.75};
	strcpy(o->criterion[0].name, "overall");
	strcpy(o->criterion[0].question, "Which answer is better?");
}

static int read_key(struct campaign_options *o, const struct key *k, const json_t *v, struct err *e)
{
	double x = json_number_value(v);
	if (!json_is_number(v) || (k->kind != 'd' && !json_is_integer(v))) return err_set(e, ERR_FORMAT, "%s must be a %snumber", k->name, k->kind == 'd' ? "" : "whole ");
	if (x < k->low || x > k->high) return err_set(e, ERR_RANGE, "%s is %g; it must be from %g to %g", k->name, x, k->low, k->high);
	char *to = (char *)o + k->at;
	switch (k->kind) {
	case 'u': *(uint32_t *)to = (uint32_t)json_integer_value(v); break;
	case 'U': *(uint64_t *)to = (uint64_t)json_integer_value(v); break;
	case 'I': *(int64_t *)to = json_integer_value(v); break;
	default: *(double *)to = x;
	}
	return 0;
}

static int read_criteria(struct campaign_options *o, const json_t *list, struct err *e)
{
	size_t n = json_array_size(list);
	if (n < 1 || n > CAMPAIGN_CRITERIA) return err_set(e, ERR_RANGE, "criteria are a list of 1 to %d", CAMPAIGN_CRITERIA);
	for (size_t i = 0; i < n; i++) {
		const json_t *c = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(c, "name")), *question = json_string_value(json_object_get(c, "question"));
		if (!name || !question || !*name || strlen(name) >= LABELS_NAME || strlen(question) >= CAMPAIGN_QUESTION)
			return err_set(e, ERR_FORMAT, "criterion %zu needs a name and a question (of less than %d bytes)", i, CAMPAIGN_QUESTION);
		strcpy(o->criterion[i].name, name);
		strcpy(o->criterion[i].question, question);
	}
	o->criteria = (uint32_t)n;
	return 0;
}

int campaign_read_json(struct campaign_options *o, const json_t *j, struct err *e)
{
	const char *name;
	json_t *v;
	int rc = 0;
	campaign_defaults(o);
	if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "the options of a campaign are not a JSON object");
	json_object_foreach((json_t *)j, name, v) {
		int k = 0;
		while (k < KEYS && strcmp(keys[k].name, name)) k++;
		if (k < KEYS) rc = read_key(o, &keys[k], v, e);
		else if (!strcmp(name, "criteria")) rc = read_criteria(o, v, e);
		else if (!strcmp(name, "warning") && json_is_string(v) && json_string_length(v) < sizeof o->warning) strcpy(o->warning, json_string_value(v));
		else rc = err_set(e, ERR_FORMAT, "a campaign has no option '%.60s' of that kind", name);
		if (rc < 0) return rc;
	}
	return 0;
}

int campaign_read(struct campaign_options *o, const char *json, struct err *e)
{
	json_error_t why;
	json_t *j = json_loads(json, 0, &why);
	if (!j) return err_set(e, ERR_FORMAT, "the options of a campaign are not JSON: %s", why.text);
	int rc = campaign_read_json(o, j, e);
	json_decref(j);
	return rc;
}

json_t *campaign_write(const struct campaign_options *o)
{
	json_t *j = json_object(), *list = json_array();
	for (int k = 0; k < KEYS; k++) {
		const char *from = (const char *)o + keys[k].at;
		switch (keys[k].kind) {
		case 'u': json_object_set_new(j, keys[k].name, json_integer(*(const uint32_t *)from)); break;
		case 'U': json_object_set_new(j, keys[k].name, json_integer((json_int_t) * (const uint64_t *)from)); break;
		case 'I': json_object_set_new(j, keys[k].name, json_integer(*(const int64_t *)from)); break;
		default: json_object_set_new(j, keys[k].name, json_real(*(const double *)from));
		}
	}
	for (uint32_t i = 0; i < o->criteria; i++)
		json_array_append_new(list, json_pack("{s:s,s:s}", "name", o->criterion[i].name, "question", o->criterion[i].question));
	json_object_set_new(j, "criteria", list);
	json_object_set_new(j, "warning", json_string(o->warning));
	return j;
}

uint32_t campaign_needs(void *options, uint32_t number)
{
	const struct campaign_options *o = options;
	struct rng_key key = {o->pick.seed, RNG_CAMPAIGN};
	return rng_uniform(key, 0, number, 0) < (float)o->overlap && o->overlap_labels > o->labels_each ? o->overlap_labels : o->labels_each;
}

struct estimating {
	const struct campaign_options *o;
	struct campaign_estimate *x;
	double accuracy;
};

/* Seconds and questions of one person with one prompt, and the simulated accuracy of its design (ten candidates). */
static int estimate_item(void *ctx, const struct labels_item *it)
{
	enum { READ = 25, LOOK = 7, DECIDE = 4 };
	struct estimating *s = ctx;
	if (strcmp(it->role, "task")) return 0;
	uint32_t n = it->size, needs = campaign_needs((void *)s->o, it->number), asked, looks;
	const struct pick_options *p = &s->o->pick;
	enum pick_design d = pick_design_of(p, it->number, n, it->words);
	double accuracy;
	if (d == PICK_ORDER) {
		asked = 1;
		looks = n;
		accuracy = 0.744;
	} else if (d == PICK_DUELS) {
		asked = p->duels_alone ? p->duels_alone : (3 * n + 1) / 2;
		looks = 2 * asked;
		accuracy = 0.783;
	} else {
		uint32_t quads = p->quads ? p->quads : (n + 1) / 3, duels = p->duels ? p->duels : 2 * (n + 2) / 5;
		asked = quads + duels;
		looks = 4 * quads + 2 * duels;
		accuracy = 0.776;
	}
	if (asked > n * (n - 1) / 2) asked = n * (n - 1) / 2;
	looks = looks > n ? looks - n : 0;
	asked *= s->o->criteria;
	s->x->items++;
	s->x->people_items += needs;
	s->x->questions += (int64_t)asked * needs;
	s->x->hours += needs * (READ * (double)n + LOOK * (double)looks + DECIDE * (double)asked) / 3600;
	s->accuracy += accuracy;
	return 0;
}

int campaign_estimate(struct labels *l, int64_t campaign, const struct campaign_options *o, struct campaign_estimate *x, struct err *e)
{
	*x = (struct campaign_estimate){0};
	struct estimating s = {o, x, 0};
	int rc = labels_each_item(l, campaign, estimate_item, &s, e);
	x->accuracy = x->items ? s.accuracy / (double)x->items : (double)NAN;
	return rc;
}
