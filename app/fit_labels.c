/* Labels for the fit; see fit_labels.h. */
#include "app/fit_labels.h"

#include "core/base/rng.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the record ---- */

struct wanted {
	uint64_t step;
	const char *kind;
	int64_t subject;
	struct labels_used *used;
	struct err *e;
};

static int take_event(void *ctx, const struct store_event *v)
{
	struct wanted *w = ctx;
	json_int_t event = 0;
	const char *digest = NULL, *version = "";
	if (v->step != w->step || v->subject != w->subject || strcmp(v->kind, w->kind)) return 0;
	json_t *j = json_loads(v->body, 0, NULL);
	int bad = !j || json_unpack(j, "{s:I,s:s,s?s}", "event", &event, "digest", &digest, "model", &version) || event < 1 || strlen(digest) >= HASH_HEX ||
		  strlen(version) >= GROUP_VERSION;
	if (!bad) {
		w->used->event = event;
		strcpy(w->used->digest, digest);
		strcpy(w->used->version, version);
	}
	json_decref(j);
	return bad ? err_set(w->e, ERR_FORMAT, "the record's event %s of step %llu does not say which labels were used", v->kind, (unsigned long long)v->step) : 1;
}

int labels_used_get(struct session *s, const char *stage, uint64_t step, const char *kind, int64_t subject, struct labels_used *u, struct err *e)
{
	struct wanted w = {step, kind, subject, u, e};
	memset(u, 0, sizeof *u);
	int rc = store_each_event(s->store, stage, step, take_event, &w, e);
	return rc < 0 ? rc : 0;
}

int labels_used_put(struct session *s, uint64_t step, const char *kind, int64_t subject, const struct labels_used *u, struct err *e)
{
	char body[256];
	int n = snprintf(body, sizeof body, "{\"event\":%lld,\"digest\":\"%s\"", (long long)u->event, u->digest);
	snprintf(body + n, sizeof body - (size_t)n, u->version[0] ? ",\"model\":\"%s\"}" : "}", u->version);
	return store_put_event(s->store, step, kind, subject, body, e);
}

/* ---- reading ---- */

int fit_labels_read(struct label_set *set, struct session *s, const struct reward_model *m, const struct labels_used *used, struct arena *arena,
		    struct err *e)
{
	const struct config_fit *c = &s->config.fit;
	struct labels *file = NULL;
	struct label_set_options o = {.campaign = c->campaign, .criterion = (uint32_t)c->criterion, .through = used->event ? used->event : c->labels_event,
				      .task = s->task, .max_tokens = m->member[0].model->shape.max_positions};
	int rc = 0;
	memset(set, 0, sizeof *set);
	TRY(labels_open(&file, c->labels, 0, e));
	TRY(label_set_read(set, file, &o, arena, e));
	if (used->event && strcmp(used->digest, set->digest)) {
		label_set_free(set);
		TRY(err_set(e, ERR_MISMATCH, "%s: its labels up to event %lld are not those that this run used (digest %s, now %s): another file, or a changed one",
			    c->labels, (long long)used->event, used->digest, set->digest));
	}
out:
	labels_close(file);
	return rc;
}

enum fit_side fit_side_of(const struct session *s, uint32_t prompt)
{
	double u = (double)rng_uniform((struct rng_key){(uint64_t)s->config.run.seed, RNG_SPLIT}, 0, prompt, 0);
	const struct config_fit *c = &s->config.fit;
	return u < c->heldout ? HELD_OUT : u < c->heldout + c->selection ? SELECTING : FITTED;
}

/* ---- measuring ---- */

void fit_labels_measure(struct fit_labels_report *r, const struct label_set *set, struct reward_model *m, const struct ranked_group *heldout, uint32_t n)
{
	size_t total = 0;
	const struct group **groups = calloc((size_t)n + 1, sizeof *groups);
	for (uint32_t i = 0; groups && i < n; i++) {
		groups[i] = &heldout[i].group;
		total += heldout[i].group.size;
	}
	double *score = calloc(total + 1, sizeof *score);
	CHECK(groups && score, "out of memory for %zu scores", total);
	reward_model_scores(m, groups, n, score, NULL);
	r->uniform = label_set_accuracy(set, heldout, n, score, LABEL_UNIFORM);
	r->gain = label_set_accuracy(set, heldout, n, score, LABEL_GAIN);
	r->quads = label_set_accuracy(set, heldout, n, score, LABEL_QUADS);
	free(score);
	free(groups);
}

int fit_labels_put(struct session *s, uint64_t step, const struct fit_labels_report *r, struct err *e)
{
	const struct label_accuracy *const a[] = {&r->uniform, &r->gain, &r->quads};
	static const char *const names[] = {"reward_label_accuracy_uniform", "reward_label_accuracy_gain", "reward_label_accuracy_quads"};
	for (int i = 0; i < 3; i++) {
		if (a[i]->pairs == 0) continue;
		int rc = store_put_eval(s->store, step, names[i], a[i]->value, (uint64_t)a[i]->pairs, a[i]->low, a[i]->high, e);
		if (rc < 0) return rc;
	}
	return 0;
}

void fit_labels_text(const struct fit_labels_report *r, char *out, size_t bytes)
{
	const struct label_accuracy *const a[] = {&r->uniform, &r->gain, &r->quads};
	static const char *const names[] = {"uniform duels", "duels by information", "quads"};
	size_t n = 0;
	snprintf(out, bytes, "none");
	for (int i = 0; i < 3; i++)
		if (a[i]->pairs && n < bytes)
			n += (size_t)snprintf(out + n, bytes - n, "%s%s %.1f %% [%.1f, %.1f] of %lld", n ? ", " : "", names[i], 100 * a[i]->value, 100 * a[i]->low,
					      100 * a[i]->high, (long long)a[i]->pairs);
}

static json_t *accuracy_json(const struct label_accuracy *a)
{
	if (a->pairs == 0) return json_pack("{s:I,s:I}", "pairs", (json_int_t)0, "prompts", (json_int_t)0);
	return json_pack("{s:f,s:f,s:f,s:I,s:I}", "accuracy", a->value, "low", a->low, "high", a->high, "pairs", (json_int_t)a->pairs, "prompts", (json_int_t)a->prompts);
}

json_t *fit_labels_json(const struct label_set *set, const struct fit_labels_report *r)
{
	json_t *people = json_array();
	for (uint32_t p = 0; p < set->people; p++) {
		const struct crowd_person *w = &set->crowd.person[p];
		json_array_append_new(people, json_pack("{s:I,s:i,s:f,s:f,s:b}", "person", (json_int_t)set->person_id[p], "answers", (int)w->answers, "weight", w->honest,
							"temperature", w->beta, "flagged", w->flagged));
	}
	return json_pack("{s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "event", (json_int_t)set->event, "digest", set->digest, "labels",
			 (json_int_t)set->labels, "prompts", (json_int_t)set->groups, "unranked", (json_int_t)set->unranked, "text_changed",
			 (json_int_t)set->changed, "untrusted_prompts", (json_int_t)set->untrusted, "too_long_prompts", (json_int_t)set->too_long, "uniform",
			 accuracy_json(&r->uniform), "gain", accuracy_json(&r->gain), "quads", accuracy_json(&r->quads), "people", people);
}
