/* A campaign with people among whom some answer the opposite; see simulate.h. */
#include "app/web/simulate.h"

#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10 };
static const double KNOWN_BETA = 4; /* of a known answer */

struct campaign {
	const struct simulate_campaign *c;
	uint64_t seed;
	struct judgement *answer; /* [room] */
	struct crowd_item *item;  /* [room] */
	size_t count;
	uint32_t items;
	uint32_t *labels;         /* [people] given */
};

static double coin(const struct campaign *g, uint32_t item, uint32_t c)
{
	return rng_uniform((struct rng_key){g->seed, RNG_CROWD}, item, UINT64_MAX - 2, c);
}

/* Everything that the person is asked about the prompt being filled, until their labels are spent. */
static void sit(struct campaign *g, uint32_t person, uint32_t number, const double *score)
{
	const struct simulate_campaign *c = g->c;
	struct crowd_item *it = &g->item[g->items];
	struct pick_options o = pick_options_default();
	struct judgement_scale scale = judgement_scale_default();
	double beta = person < c->people - c->adversaries ? c->beta : c->adversary;
	o.seed = g->seed;
	o.other_design = 0;
	for (uint32_t place = 0; g->labels[person] < c->labels; place++) {
		struct pick_task t = {.item = number, .person = person, .candidates = N, .words = 100, .answers = g->answer + it->begin, .count = it->count};
		struct pick p;
		pick_next(&p, &o, &t);
		if (p.done) return;
		struct judgement *j = &g->answer[g->count++];
		*j = (struct judgement){.item = number, .person = person, .kind = p.kind, .count = p.count};
		memcpy(j->shown, p.shown, sizeof j->shown);
		simulate_answer(j, g->seed, place, beta, score, &scale);
		it->count++;
		g->labels[person]++;
	}
}

/* The best and the worst as the owner knows them: answers of a person `people`, who is trusted. */
static void put_known(struct campaign *g, const double *score)
{
	struct judgement *j = &g->answer[g->count++];
	uint32_t best = 0, worst = 0;
	*j = (struct judgement){.person = g->c->people, .kind = JUDGEMENT_BEST_WORST, .count = N};
	for (uint32_t i = 0; i < N; i++) {
		j->shown[i] = (uint8_t)i;
		if (score[i] > score[best]) best = i;
		if (score[i] < score[worst]) worst = i;
	}
	for (uint32_t i = 0; i < N; i++) j->rank[i] = i == best ? 1 : i == worst ? 3 : 2;
	g->item[g->items].count++;
}

/* A prompt for one person, or, shared or known, for all who have labels left. Returns 0 when nobody has. */
static int prompt(struct campaign *g, uint32_t number)
{
	const struct simulate_campaign *c = g->c;
	int known = number < c->qualification || coin(g, number, 0) < c->gold, shared = known || coin(g, number, 1) < c->overlap;
	uint32_t least = 0;
	double score[N];
	for (uint32_t p = 0; p < c->people; p++)
		if (g->labels[p] < g->labels[least]) least = p;
	if (g->labels[least] >= c->labels) return 0;
	simulate_scores(g->seed, number, N, score);
	g->item[g->items] = (struct crowd_item){.candidates = N, .begin = g->count};
	for (uint32_t p = 0; p < c->people; p++)
		if (shared || p == least) sit(g, p, number, score);
	if (known) put_known(g, score);
	g->items++;
	return 1;
}

static void count_flags(struct simulate_flags *out, const struct crowd *fit, const struct simulate_campaign *c)
{
	uint32_t wrong = 0;
	for (uint32_t p = 0; p < c->people; p++) {
		const struct crowd_person *who = &fit->person[p];
		if (p < c->people - c->adversaries) {
			out->honest++;
			wrong += who->flagged != 0;
			out->weight_honest += fit->weight[p];
		} else {
			out->adversaries++;
			out->flagged += who->flagged != 0;
			out->weight_adversary += fit->weight[p];
		}
	}
	out->seeds++;
	out->false_flags += wrong;
	out->false_seeds += wrong > 0;
}

int simulate_adversary(struct simulate_flags *out, const struct simulate_campaign *c, uint64_t seed, uint32_t seeds, struct err *e)
{
	size_t room = (size_t)(c->people + 1) * c->labels + 64;
	struct campaign g = {.c = c};
	double *known = calloc((size_t)c->people + 1, sizeof *known);
	int rc = 0;
	memset(out, 0, sizeof *out);
	g.answer = calloc(room, sizeof *g.answer);
	g.item = calloc(room, sizeof *g.item);
	g.labels = calloc((size_t)c->people + 1, sizeof *g.labels);
	if (!known || !g.answer || !g.item || !g.labels) TRY(err_set(e, ERR_MEMORY, "no memory for a campaign of %u people", c->people));
	known[c->people] = KNOWN_BETA;
	for (uint32_t k = 0; k < seeds; k++) {
		struct crowd fit;
		g.seed = seed + k;
		g.count = 0;
		g.items = 0;
		memset(g.labels, 0, c->people * sizeof *g.labels);
		while (prompt(&g, g.items)) continue;
		struct crowd_data d = {.judgement = g.answer, .item = g.item, .items = g.items, .people = c->people + 1, .known = known};
		TRY(crowd_fit(&fit, &d, e));
		count_flags(out, &fit, c);
		crowd_free(&fit);
	}
	if (out->honest) out->weight_honest /= out->honest;
	if (out->adversaries) out->weight_adversary /= out->adversaries;
out:
	free(known);
	free(g.answer);
	free(g.item);
	free(g.labels);
	return rc;
}
