/* The simulated crowd and the designs; see simulate.h. Uses of RNG_CROWD, by a:
 * prompt; b: SCORES, or person·2^32 + place; c: index. */
#include "app/web/simulate.h"

#include "core/base/rng.h"

#include <math.h>
#include <string.h>

enum { ANSWERS_MAX = 128 };
static const uint64_t SCORES = UINT64_MAX, DRAWS = UINT64_MAX - 1;

static double uniform(uint64_t seed, uint32_t item, uint64_t b, uint32_t c)
{
	return ((double)rng_u32((struct rng_key){seed, RNG_CROWD}, item, b, c) + 0.5) * 0x1p-32;
}

void simulate_scores(uint64_t seed, uint32_t item, uint32_t n, double *score)
{
	for (uint32_t i = 0; i < n; i++) score[i] = rng_normal((struct rng_key){seed, RNG_CROWD}, item, SCORES, i);
}

/* Index of the chosen among those not yet chosen: softmax by Gumbel noise; c0: first index of the random numbers. */
static uint32_t choose(const struct judgement *j, uint64_t seed, uint64_t b, uint32_t c0, double beta, const double *score, uint64_t gone)
{
	double most = -INFINITY;
	uint32_t best = 0;
	for (uint32_t k = 0; k < j->count; k++) {
		double x = beta * score[j->shown[k]] - log(-log(uniform(seed, j->item, b, c0 + k)));
		if (!(gone >> k & 1) && x > most) most = x, best = k;
	}
	return best;
}

static void answer_duel(struct judgement *j, double x, const struct judgement_scale *scale)
{
	double t = scale ? scale->threshold[0] : 0;
	j->rank[0] = (uint8_t)(x > t || fabs(x) <= t ? 1 : 2);
	j->rank[1] = (uint8_t)(x > t ? 2 : 1);
	j->strength = 0;
	for (uint8_t k = 0; scale && fabs(x) > t && k < JUDGEMENT_STRENGTHS; k++)
		if (fabs(x) > scale->threshold[k]) j->strength = (uint8_t)(k + 1);
}

void simulate_answer(struct judgement *j, uint64_t seed, uint32_t place, double beta, const double *score, const struct judgement_scale *scale)
{
	uint64_t b = (uint64_t)j->person << 32 | place, gone = 0;
	memset(j->rank, 0, sizeof j->rank);
	if (j->kind == JUDGEMENT_DUEL) {
		double u = uniform(seed, j->item, b, 0);
		answer_duel(j, beta * (score[j->shown[0]] - score[j->shown[1]]) + log(u / (1 - u)), scale);
	} else if (j->kind == JUDGEMENT_BEST_WORST) {
		uint32_t best = choose(j, seed, b, 0, beta, score, 0), worst = choose(j, seed, b, GROUP_MAX, -beta, score, (uint64_t)1 << best);
		for (uint32_t k = 0; k < j->count; k++) j->rank[k] = k == best ? 1 : k == worst ? 3 : 2;
	} else {
		for (uint32_t r = 0; r < j->count; r++) {
			uint32_t k = choose(j, seed, b, r * GROUP_MAX, beta, score, gone);
			gone |= (uint64_t)1 << k;
			j->rank[k] = (uint8_t)(r + 1);
		}
	}
}

/* E[p² + (1−p)²] with p = σ(β·Δ), Δ ~ N(0, 2), over a fixed sample. */
static double agreement_at(double beta)
{
	double sum = 0;
	for (uint32_t i = 0; i < 20000; i++) {
		double p = 1 / (1 + exp(-beta * M_SQRT2 * rng_normal((struct rng_key){1, RNG_CROWD}, i, DRAWS, 0)));
		sum += p * p + (1 - p) * (1 - p);
	}
	return sum / 20000;
}

double simulate_beta(double agreement)
{
	double low = 0, high = 20;
	for (int i = 0; i < 40; i++) {
		double mid = (low + high) / 2;
		if (agreement_at(mid) < agreement) low = mid;
		else high = mid;
	}
	return (low + high) / 2;
}

/* ---- designs ---- */

static const struct simulate_design DESIGNS[] = {
	{.name = "best and worst of 10 once", .best_worst = 10},
	{.name = "full order", .order = 1, .order_noise = 1},
	{.name = "full order, 1.5 times the noise", .order = 1, .order_noise = 1.5},
	{.name = "full order, twice the noise", .order = 1, .order_noise = 2},
	{.name = "20 random duels", .random = 20},
	{.name = "15 duels by information", .gain = 15},
	{.name = "20 duels by information", .gain = 20},
	{.name = "3 quads", .quads = 3},
	{.name = "5 quads", .quads = 5},
	{.name = "6 quads", .quads = 6},
	{.name = "8 quads", .quads = 8},
	{.name = "3 quads + 4 random duels", .quads = 3, .random = 4},
	{.name = "3 quads + 4 duels by information", .quads = 3, .gain = 4},
	{.name = "3 quads + 4 duels, as asked by default", .mixed = 1},
};

const struct simulate_design *simulate_designs(uint32_t *count)
{
	*count = sizeof DESIGNS / sizeof DESIGNS[0];
	return DESIGNS;
}

struct sitting {
	const struct simulate_design *d;
	const struct simulate_seconds *s;
	uint64_t seed;
	uint32_t item, n, count;
	double beta, seconds;
	double score[GROUP_MAX];
	uint64_t seen;
	struct judgement answer[ANSWERS_MAX];
};

static void take(struct sitting *t, const struct judgement *asked, double beta)
{
	struct judgement *j = &t->answer[t->count];
	CHECK(t->count < ANSWERS_MAX, "a design of more than %d questions", ANSWERS_MAX);
	*j = *asked;
	j->item = t->item;
	simulate_answer(j, t->seed, t->count++, beta, t->score, NULL);
	for (uint32_t k = 0; k < j->count; k++) {
		t->seconds += t->seen >> j->shown[k] & 1 ? t->s->again : t->s->first;
		t->seen |= (uint64_t)1 << j->shown[k];
	}
	t->seconds += t->s->decision;
}

/* All at once: read once, gone over once more for an order, each place of which is a decision. */
static void take_all(struct sitting *t)
{
	struct judgement j = {.kind = t->d->order ? JUDGEMENT_ORDER : JUDGEMENT_BEST_WORST, .count = t->n};
	for (uint32_t i = 0; i < t->n; i++) j.shown[i] = (uint8_t)i;
	take(t, &j, t->d->order ? t->beta / t->d->order_noise : t->beta);
	if (t->d->order) t->seconds += t->n * t->s->again + (t->n - 1) * t->s->decision;
}

static void take_picks(struct sitting *t)
{
	struct pick_options o = pick_options_default();
	struct judgement_scale scale = {{1e-3, 0.9, 1.8}}; /* these people never tie */
	double beta = 1;
	o.seed = t->seed;
	o.other_design = 0;
	o.short_words = 0;
	if (!t->d->mixed) {
		o.quads = t->d->quads;
		o.uniform = t->d->random ? 1 : 0;
		o.duels = o.duels_alone = t->d->random + t->d->gain;
		o.stop_gain = 0;
		if (t->d->quads == 0) o.long_words = 0;
	}
	struct pick_task task = {.item = t->item, .candidates = t->n, .words = 100, .answers = t->answer, .beta = &beta, .scale = &scale};
	for (;;) {
		struct pick p;
		struct judgement j = {0};
		task.count = t->count;
		pick_next(&p, &o, &task);
		if (p.done || (t->d->quads && !t->d->random && !t->d->gain && p.kind == JUDGEMENT_DUEL)) return;
		j.kind = p.kind;
		j.count = p.count;
		memcpy(j.shown, p.shown, sizeof j.shown);
		take(t, &j, t->beta);
	}
}

/* Right pairs and top of a sitting by the posterior's means; what the posterior expected of itself. */
static void judge(const struct sitting *t, double *right, double *top, double *expected, double *expected_top)
{
	struct posterior_model m = posterior_model_default();
	struct posterior p;
	double chance[GROUP_MAX];
	uint32_t best = 0, found = 0;
	m.sd = t->beta; /* a score of 1 is beta on the scale of the answers */
	m.scale.threshold[0] = 1e-3;
	posterior_fit(&p, &m, t->answer, t->count, t->n);
	posterior_top(&p, t->item, chance);
	*right = *expected = 0;
	for (uint32_t a = 0; a < t->n; a++) {
		if (t->score[a] > t->score[best]) best = a;
		if (p.mean[a] > p.mean[found]) found = a;
		for (uint32_t b = a + 1; b < t->n; b++) {
			double above = posterior_above(&p, a, b);
			*right += p.mean[a] == p.mean[b] ? 0.5 : (p.mean[a] > p.mean[b]) == (t->score[a] > t->score[b]);
			*expected += fmax(above, 1 - above);
		}
	}
	*top = best == found;
	*expected_top = chance[found];
	*right /= t->n * (t->n - 1) / 2.0;
	*expected /= t->n * (t->n - 1) / 2.0;
}

void simulate_run(struct simulate_result *out, const struct simulate_design *d, uint64_t seed, uint32_t prompts, uint32_t n, double beta,
		  const struct simulate_seconds *s)
{
	double right2 = 0;
	memset(out, 0, sizeof *out);
	for (uint32_t i = 0; i < prompts; i++) {
		struct sitting t = {.d = d, .s = s, .seed = seed, .item = i, .n = n, .beta = beta};
		double right, top, expected, expected_top;
		simulate_scores(seed, i, n, t.score);
		if (d->order || d->best_worst) take_all(&t);
		else take_picks(&t);
		judge(&t, &right, &top, &expected, &expected_top);
		out->seconds += t.seconds / prompts;
		out->questions += (double)t.count / prompts;
		out->accuracy += right / prompts;
		right2 += right * right / prompts;
		out->top += top / prompts;
		out->expected += expected / prompts;
		out->expected_top += expected_top / prompts;
	}
	out->accuracy_error = sqrt(fmax(0, right2 - out->accuracy * out->accuracy) / prompts);
	out->top_error = sqrt(out->top * (1 - out->top) / prompts);
}
