/* The choice of the next comparison; see pick.h.
 *
 * What a person was asked is read off their answers alone. Quads come first, in
 * a fixed order. The duels are places, each uniform or by information by a coin
 * that depends on the seed; the uniform pairs are drawn for all places in
 * advance, distinct, and the picks by information leave them out, so a duel
 * answered about such a pair is that uniform pick, and any other is one by
 * information. */
#include "app/web/pick.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "reward/posterior.h"

#include <math.h>
#include <string.h>

enum { QUAD = 4, PAIRS_MAX = GROUP_MAX * (GROUP_MAX - 1) / 2 };
/* c of RNG_PICK_DRAW; layouts and pairs take an index added. */
enum { DRAW_COIN = 0, DRAW_LINK = 64, DRAW_LAYOUT = 128, DRAW_PAIR = 256 };
enum { DESIGN_COIN = 0, DESIGN_WHICH = 1 };

struct pick_options pick_options_default(void)
{
	return (struct pick_options){.uniform = 0.25, .other_design = 0.1, .stop_gain = 0.15, .short_words = 40, .long_words = 250};
}

const char *pick_design_name(enum pick_design d)
{
	return d == PICK_QUADS ? "quads" : d == PICK_DUELS ? "duels" : d == PICK_ORDER ? "order" : "none";
}

const char *pick_arm_name(enum pick_arm a)
{
	return a == PICK_UNIFORM ? "uniform" : a == PICK_GAIN ? "gain" : "none";
}

enum pick_design pick_design_of(const struct pick_options *o, uint32_t item, uint32_t candidates, uint32_t words)
{
	struct rng_key key = {o->seed, RNG_PICK_DESIGN};
	enum pick_design others[3], usual = words > o->long_words ? PICK_DUELS : PICK_QUADS;
	int order = candidates <= PICK_ORDER_MAX;
	uint32_t n = 0;
	if (candidates == 2) return PICK_DUELS;
	if (order && words <= o->short_words) usual = PICK_ORDER;
	if (rng_uniform(key, item, 0, DESIGN_COIN) >= (float)o->other_design) return usual;
	for (enum pick_design d = PICK_QUADS; d <= PICK_ORDER; d++)
		if (d != usual && (d != PICK_ORDER || order)) others[n++] = d;
	return others[rng_below(key, item, 0, DESIGN_WHICH, n)];
}

/* ---- what is asked of this person here at most ---- */

struct plan {
	const struct pick_options *o;
	const struct pick_task *t;
	uint32_t n, quads, quad, duels, pairs; /* quad: candidates of one */
	uint32_t cover[GROUP_MAX];             /* candidates in the order in which the quads take them */
	uint8_t uniform[PAIRS_MAX];            /* [duels] */
	uint16_t pair[PAIRS_MAX];              /* [duels] of the uniform places: a·GROUP_MAX + b, a < b */
};

static uint64_t person_place(const struct plan *p, uint32_t place)
{
	return (uint64_t)p->t->person << 32 | place;
}

static uint32_t draw(const struct plan *p, uint32_t place, uint32_t what, uint32_t below)
{
	return rng_below((struct rng_key){p->o->seed, RNG_PICK_DRAW}, p->t->item, person_place(p, place), what, below);
}

/* Pair number k of the n(n−1)/2, as a·GROUP_MAX + b. */
static uint16_t pair_number(uint32_t n, uint32_t k)
{
	uint32_t a = 0;
	while (k >= n - 1 - a) k -= n - 1 - a++;
	return (uint16_t)(a * GROUP_MAX + a + 1 + k);
}

static int pair_planned(const struct plan *p, uint16_t pair, uint32_t before)
{
	for (uint32_t d = 0; d < before; d++)
		if (p->uniform[d] && p->pair[d] == pair) return 1;
	return 0;
}

static void plan_duels(struct plan *p)
{
	for (uint32_t d = 0; d < p->duels; d++) {
		uint32_t place = p->quads + d, tries = DRAW_PAIR;
		float coin = rng_uniform((struct rng_key){p->o->seed, RNG_PICK_DRAW}, p->t->item, person_place(p, place), DRAW_COIN);
		p->uniform[d] = coin < (float)p->o->uniform;
		if (!p->uniform[d]) continue;
		do p->pair[d] = pair_number(p->n, draw(p, place, tries++, p->pairs));
		while (pair_planned(p, p->pair[d], d));
	}
}

static void count_questions(const struct pick_options *o, enum pick_design design, uint32_t n, uint32_t *quads, uint32_t *duels)
{
	uint32_t pairs = n * (n - 1) / 2;
	*quads = design == PICK_QUADS && n > 2 ? o->quads ? o->quads : (n + 1) / 3 : 0; /* ceil((n−1)/3) */
	if (design == PICK_QUADS) *duels = o->duels ? o->duels : 2 * (n + 2) / 5;
	else *duels = o->duels_alone ? o->duels_alone : (3 * n + 1) / 2;
	if (*duels > pairs) *duels = pairs;
}

uint32_t pick_most(const struct pick_options *o, uint32_t item, uint32_t candidates, uint32_t words)
{
	enum pick_design design = pick_design_of(o, item, candidates, words);
	uint32_t quads, duels;
	if (design == PICK_ORDER) return 1;
	count_questions(o, design, candidates, &quads, &duels);
	return quads + duels;
}

static void plan_make(struct plan *p, const struct pick_options *o, const struct pick_task *t, enum pick_design design)
{
	uint32_t n = t->candidates;
	memset(p, 0, sizeof *p);
	p->o = o;
	p->t = t;
	p->n = n;
	p->pairs = n * (n - 1) / 2;
	if (design == PICK_ORDER) return;
	p->quad = n < QUAD ? n : QUAD;
	count_questions(o, design, n, &p->quads, &p->duels);
	rng_permutation((struct rng_key){o->seed, RNG_PICK}, t->item, t->person, n, p->cover);
	plan_duels(p);
}

/* ---- questions ---- */

static void lay_out(struct pick *out, const struct plan *p)
{
	for (uint32_t i = out->count; i > 1; i--) {
		uint32_t k = draw(p, out->place, DRAW_LAYOUT + i, i);
		uint8_t c = out->shown[i - 1];
		out->shown[i - 1] = out->shown[k];
		out->shown[k] = c;
	}
}

static int is_shown(const struct pick *out, uint32_t candidate)
{
	for (uint32_t k = 0; k < out->count; k++)
		if (out->shown[k] == candidate) return 1;
	return 0;
}

static double subsets(uint32_t n, uint32_t k)
{
	double c = 1;
	for (uint32_t i = 0; i < k; i++) c = c * (n - i) / (i + 1);
	return c;
}

/* Quad q takes three candidates that no quad had (the first four) and fills up with ones drawn from the earlier: so every
 * quad but the first shares at least one with those before it, and the scores of all candidates can be compared. */
static void ask_quad(struct pick *out, const struct plan *p, uint32_t q)
{
	uint32_t begin = q == 0 ? 0 : p->quad + (q - 1) * (p->quad - 1), fresh = q == 0 ? p->quad : p->quad - 1, link = DRAW_LINK;
	out->kind = JUDGEMENT_BEST_WORST;
	out->arm = PICK_UNIFORM;
	for (uint32_t i = begin; i < begin + fresh && i < p->n; i++) out->shown[out->count++] = (uint8_t)p->cover[i];
	uint32_t earlier = begin < p->n ? begin : p->n;
	while (out->count < p->quad) {
		uint32_t c = p->cover[draw(p, q, link++, earlier)];
		if (!is_shown(out, c)) out->shown[out->count++] = (uint8_t)c;
	}
	out->probability = 1 / subsets(p->n, p->quad);
}

static void ask_duel(struct pick *out, uint16_t pair, enum pick_arm arm, double probability, double gain)
{
	out->kind = JUDGEMENT_DUEL;
	out->arm = arm;
	out->count = 2;
	out->shown[0] = (uint8_t)(pair / GROUP_MAX);
	out->shown[1] = (uint8_t)(pair % GROUP_MAX);
	out->probability = probability;
	out->gain = gain;
}

static int same_pair(const struct judgement *j, uint16_t pair)
{
	uint32_t a = pair / GROUP_MAX, b = pair % GROUP_MAX;
	return (j->shown[0] == a && j->shown[1] == b) || (j->shown[0] == b && j->shown[1] == a);
}

/* Whether the person answered a duel about this pair. */
static int was_asked(const struct pick_task *t, uint16_t pair)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->answers[i].person == t->person && t->answers[i].kind == JUDGEMENT_DUEL && same_pair(&t->answers[i], pair)) return 1;
	return 0;
}

struct best_pair {
	uint16_t pair;
	uint32_t equals; /* pairs with the same gain */
	double gain;
};

/* The pair with the largest gain that is neither asked nor planned; of equal ones the first by the person's permutation. */
static struct best_pair most_informative(const struct plan *p, const struct posterior *post)
{
	const struct pick_task *t = p->t;
	struct judgement_scale scale = t->scale ? *t->scale : judgement_scale_default();
	double beta = t->beta ? fmax(0.1, t->beta[t->person]) : 1;
	struct best_pair best = {.gain = -1};
	for (uint32_t i = 0; i < p->n; i++)
		for (uint32_t k = i + 1; k < p->n; k++) {
			uint32_t a = p->cover[i], b = p->cover[k];
			uint16_t pair = (uint16_t)(a < b ? a * GROUP_MAX + b : b * GROUP_MAX + a);
			if (pair_planned(p, pair, p->duels) || was_asked(t, pair)) continue;
			double gain = posterior_gain(post, &scale, beta, a < b ? a : b, a < b ? b : a);
			if (gain > best.gain) best = (struct best_pair){pair, 0, gain};
			best.equals += gain == best.gain;
		}
	return best;
}

static struct posterior posterior_now(const struct pick_task *t)
{
	struct posterior_model m = posterior_model_default();
	struct posterior post;
	if (t->scale) m.scale = *t->scale;
	m.beta = t->beta;
	m.weight = t->weight;
	posterior_fit(&post, &m, t->answers, t->count, t->candidates);
	return post;
}

/* Chance of a set at a duel's place: by the uniform draw, and, of the most informative, by the coin's other side. */
static double chance(const struct plan *p, const struct best_pair *best, int is_best)
{
	double gain = best->gain >= p->o->stop_gain && is_best ? (1 - p->o->uniform) / best->equals : 0;
	return p->o->uniform / p->pairs + gain;
}

static void ask_next_duel(struct pick *out, const struct plan *p, uint32_t answered)
{
	struct posterior post = posterior_now(p->t);
	struct best_pair best = most_informative(p, &post);
	struct judgement_scale scale = p->t->scale ? *p->t->scale : judgement_scale_default();
	uint32_t by_gain = answered;
	for (uint32_t d = 0; d < p->duels; d++)
		if (p->uniform[d] && was_asked(p->t, p->pair[d])) by_gain -= by_gain > 0;
	for (uint32_t d = 0; d < p->duels; d++) {
		if (p->uniform[d]) {
			if (was_asked(p->t, p->pair[d])) continue;
			double gain = posterior_gain(&post, &scale, 1, p->pair[d] / GROUP_MAX, p->pair[d] % GROUP_MAX);
			ask_duel(out, p->pair[d], PICK_UNIFORM, chance(p, &best, 0), gain);
			return;
		}
		if (by_gain > 0) by_gain--;
		else if (best.gain >= p->o->stop_gain) {
			ask_duel(out, best.pair, PICK_GAIN, chance(p, &best, 1), best.gain);
			return;
		}
	}
	out->done = 1;
}

void pick_next(struct pick *out, const struct pick_options *o, const struct pick_task *t)
{
	struct plan p;
	uint32_t quads = 0, duels = 0, orders = 0;
	CHECK(t->candidates >= 2 && t->candidates <= GROUP_MAX, "a prompt of %u candidates", t->candidates);
	memset(out, 0, sizeof *out);
	out->design = pick_design_of(o, t->item, t->candidates, t->words);
	plan_make(&p, o, t, out->design);
	for (size_t i = 0; i < t->count; i++) {
		if (t->answers[i].person != t->person) continue;
		quads += t->answers[i].kind == JUDGEMENT_BEST_WORST;
		duels += t->answers[i].kind == JUDGEMENT_DUEL;
		orders += t->answers[i].kind == JUDGEMENT_ORDER;
	}
	out->place = quads + duels + orders;
	out->most = out->design == PICK_ORDER ? 1 : p.quads + p.duels;
	if (out->design == PICK_ORDER) {
		out->done = orders > 0;
		out->kind = JUDGEMENT_ORDER;
		out->arm = PICK_UNIFORM;
		out->probability = 1;
		for (uint32_t i = 0; !out->done && i < p.n; i++) out->shown[out->count++] = (uint8_t)i;
	} else if (quads < p.quads) ask_quad(out, &p, quads);
	else ask_next_duel(out, &p, duels);
	lay_out(out, &p);
}
