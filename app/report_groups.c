/* The part of the report that reads groups: from each stage with groups, the
 * best and the worst ones of its first and its last step, with all candidates
 * and scores, and how often each expert was chosen in steps spread over the
 * stage. "Best" is the mean reward of the group's candidates. */
#include "app/report_parts.h"
#include "core/base/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 3, LOAD_STEPS = 48, SLOTS_MAX = 4096, EXPERTS_MAX = 4096 };

struct pick {
	double mean;
	uint32_t slot;
	json_t *group;
};

struct groups {
	const char *stage;
	struct pick *picks;
	size_t count;
	/* counts of the step that is being read, [layers, experts] */
	json_int_t *load;
	uint32_t layers, experts;
	struct err *e;
};

static const char *const finishes[] = {"end", "stop", "length"};

static json_t *candidate_json(const struct group *g, uint32_t i)
{
	json_t *scores = json_array();
	for (uint32_t t = 0; t < g->terms; t++) json_array_append_new(scores, report_number((double)g->scores[t * g->size + i]));
	return json_pack("{s:i,s:o,s:o,s:i,s:s,s:o}", "candidate", (int)i, "text", report_text(g->text[i]), "reward",
		report_number(g->reward ? (double)g->reward[i] : NAN), "tokens", (int)g->length[i], "finish", finishes[g->finish[i] % 3], "scores",
		scores);
}

static int on_group(void *ctx, const struct group *g)
{
	struct groups *a = ctx;
	if (a->count == SLOTS_MAX || !g->reward) return 0;
	double sum = 0;
	json_t *terms = json_array(), *candidates = json_array();
	for (uint32_t t = 0; t < g->terms; t++) json_array_append_new(terms, report_text(g->term_name[t]));
	for (uint32_t i = 0; i < g->size; i++) {
		sum += (double)g->reward[i];
		json_array_append_new(candidates, candidate_json(g, i));
	}
	struct pick *p = &a->picks[a->count];
	p->mean = sum / g->size;
	p->slot = g->slot;
	p->group = json_pack("{s:s,s:I,s:i,s:i,s:o,s:o,s:s,s:o,s:o}", "stage", a->stage, "step", (json_int_t)g->step, "slot", (int)g->slot,
		"prompt_index", (int)g->prompt, "prompt", report_text(g->prompt_text), "mean", report_number(p->mean), "scorer", g->scorer_version,
		"terms", terms, "candidates", candidates);
	if (!p->group) return report_memory(a->e);
	a->count++;
	return 0;
}

static int by_mean(const void *x, const void *y)
{
	const struct pick *a = x, *b = y;
	double p = isfinite(a->mean) ? a->mean : -INFINITY, q = isfinite(b->mean) ? b->mean : -INFINITY;
	if (p != q) return p < q ? 1 : -1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static int load_step_groups(struct store *s, const char *stage, uint64_t step, json_t *out, struct err *e)
{
	struct groups a = {.stage = stage, .e = e, .picks = calloc(SLOTS_MAX, sizeof(struct pick))};
	if (!a.picks) return report_memory(e);
	int rc = store_each_group(s, stage, step, on_group, &a, e);
	qsort(a.picks, a.count, sizeof a.picks[0], by_mean);
	for (size_t i = 0; i < a.count; i++) {
		int best = i < SHOWN, worst = i + SHOWN >= a.count;
		if (rc == 0 && (best || worst)) {
			json_object_set_new(a.picks[i].group, "why", json_string(best ? "best" : "worst"));
			if (json_array_append(out, a.picks[i].group)) rc = report_memory(e);
		}
		json_decref(a.picks[i].group);
	}
	free(a.picks);
	return rc;
}

static int on_load(void *ctx, const struct group *g)
{
	struct groups *a = ctx;
	if (!g->experts || g->moe_layers == 0) return 0;
	size_t n = group_response_tokens(g);
	for (size_t r = 0; r < n; r++)
		for (uint32_t l = 0; l < g->moe_layers && l < a->layers; l++)
			for (uint32_t k = 0; k < g->experts_per_token; k++) {
				uint32_t x = g->experts[(r * g->moe_layers + l) * g->experts_per_token + k];
				if (x < a->experts) a->load[l * a->experts + x]++;
			}
	return 0;
}

/* The number of layers with experts and one more than the highest expert chosen, in one step. */
static int on_shape(void *ctx, const struct group *g)
{
	struct groups *a = ctx;
	if (!g->experts) return 0;
	if (g->moe_layers > a->layers) a->layers = g->moe_layers;
	size_t n = (size_t)group_response_tokens(g) * g->moe_layers * g->experts_per_token;
	for (size_t i = 0; i < n; i++)
		if (g->experts[i] >= a->experts) a->experts = g->experts[i] + 1u;
	return 0;
}

static int load_one(struct store *s, const struct groups *shape, uint64_t step, json_t *steps, json_t *counts, struct err *e)
{
	struct groups a = *shape;
	a.load = calloc((size_t)a.layers * a.experts, sizeof a.load[0]);
	if (!a.load) return report_memory(e);
	int rc = store_each_group(s, a.stage, step, on_load, &a, e);
	json_t *layers = json_array();
	for (uint32_t l = 0; l < a.layers; l++) {
		json_t *row = json_array();
		for (uint32_t x = 0; x < a.experts; x++) json_array_append_new(row, json_integer(a.load[l * a.experts + x]));
		json_array_append_new(layers, row);
	}
	json_array_append_new(steps, json_integer((json_int_t)step));
	if (json_array_append_new(counts, layers)) rc = report_memory(e);
	free(a.load);
	return rc;
}

/* `experts` of the configuration (0: unknown) keeps experts visible that no token chose. */
static int load_experts(struct store *s, const char *stage, const uint64_t *step, size_t n, uint32_t experts, json_t *out, struct err *e)
{
	struct groups shape = {.stage = stage, .experts = experts, .e = e};
	int rc = store_each_group(s, stage, step[n - 1], on_shape, &shape, e);
	if (rc < 0 || shape.layers == 0 || shape.experts > EXPERTS_MAX) return rc;
	json_t *steps = json_array(), *counts = json_array();
	size_t take = n < LOAD_STEPS ? n : LOAD_STEPS;
	for (size_t i = 0; i < take && rc == 0; i++) rc = load_one(s, &shape, step[take > 1 ? i * (n - 1) / (take - 1) : 0], steps, counts, e);
	json_t *load = json_pack("{s:s,s:i,s:i,s:o,s:o}", "stage", stage, "layers", (int)shape.layers, "experts", (int)shape.experts, "steps",
		steps, "counts", counts);
	if (json_array_append_new(out, load) && rc == 0) rc = report_memory(e);
	return rc;
}

struct steps {
	uint64_t *step;
	size_t count, room;
	struct err *e;
};

static int on_step(void *ctx, const struct store_step *r)
{
	struct steps *a = ctx;
	if (a->count == a->room) {
		size_t room = a->room ? 2 * a->room : 256;
		uint64_t *grown = realloc(a->step, room * sizeof a->step[0]);
		if (!grown) return report_memory(a->e);
		a->step = grown;
		a->room = room;
	}
	a->step[a->count++] = r->step;
	return 0;
}

struct names {
	char stage[32][STORE_STAGE];
	int count;
};

static int on_stage(void *ctx, const struct store_stage *r)
{
	struct names *n = ctx;
	if (r->last_step >= 0 && n->count < 32) snprintf(n->stage[n->count++], STORE_STAGE, "%s", r->stage);
	return 0;
}

/* The configuration as used; 0: it cannot be read. */
static int configured(json_t *run, struct config *c)
{
	static const char *const name = "stored configuration";
	const char *text = json_string_value(json_object_get(run, "config"));
	config_defaults(c);
	return text && *text && config_read_text(c, text, strlen(text), name, NULL) >= 0;
}

int report_load_groups(struct store *s, json_t *run, struct err *e)
{
	struct names names = {0};
	json_t *groups = json_object_get(run, "groups"), *loads = json_object_get(run, "loads");
	struct config c;
	int known = configured(run, &c);
	uint32_t experts = known && !*c.model.init ? (uint32_t)c.model.experts : 0;
	if (known && *c.task.content_warning) json_object_set_new(run, "warning", report_text(c.task.content_warning));
	int rc = store_each_stage(s, on_stage, &names, e);
	for (int i = 0; i < names.count && rc == 0; i++) {
		const char *stage = names.stage[i];
		struct steps steps = {.e = e};
		rc = store_each_step(s, stage, on_step, &steps, e);
		if (rc == 0 && steps.count) {
			rc = load_step_groups(s, stage, steps.step[0], groups, e);
			if (rc == 0 && steps.count > 1) rc = load_step_groups(s, stage, steps.step[steps.count - 1], groups, e);
			if (rc == 0) rc = load_experts(s, stage, steps.step, steps.count, experts, loads, e);
		}
		free(steps.step);
	}
	return rc;
}
