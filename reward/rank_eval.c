/* Evaluation of scores on ranked groups; see rank_eval.h. */
#include "reward/rank_eval.h"

#include "reward/rank_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double Z95 = 1.959963984540054;

/* 1, ½ or 0: whether a is above b. */
static double above(double a, double b)
{
	return a > b ? 1 : a == b ? 0.5 : 0;
}

static double largest_strength(const struct ranked_group *g, uint32_t n)
{
	double most = 0;
	for (uint32_t i = 0; i < n; i++) {
		double x = rank_strength(&g[i].ranking, 0, g[i].ranking.count - 1);
		if (x > most) most = x;
	}
	return most;
}

/* Sums over one pair, k before l in the ranking. */
static void add_pair(struct rank_eval *o, const struct ranked_group *g, const double *score, double logit, uint32_t k, uint32_t l, double most)
{
	uint32_t better = g->ranking.order[k], worse = g->ranking.order[l], first = better < worse ? better : worse;
	double right = above(score[better], score[worse]);
	o->pairs++;
	o->accuracy += right;
	o->shorter += above(g->group.length[worse], g->group.length[better]);
	/* the pair's first candidate by number: its winning is not settled by how the pair was picked */
	double p = 1 / (1 + exp(-logit * (score[first] - score[first == better ? worse : better]))), won = first == better;
	int bin = (int)(p * RANK_BINS);
	if (bin >= RANK_BINS) bin = RANK_BINS - 1;
	o->bin[bin].n++;
	o->bin[bin].predicted += p;
	o->bin[bin].observed += won;
	o->brier += (p - won) * (p - won);
	double strength = rank_strength(&g->ranking, k, l);
	if (isnan(strength) || !(most > 0)) return;
	int q = (int)ceil(strength / most * RANK_MARGINS) - 1;
	q = q < 0 ? 0 : q >= RANK_MARGINS ? RANK_MARGINS - 1 : q;
	o->margin[q].n++;
	o->margin[q].accuracy += right;
}

/* Sums over the pairs of one prompt. */
struct cluster {
	uint32_t prompt;
	double pairs, right, shorter;
};

static int by_prompt(const void *a, const void *b)
{
	const struct cluster *x = a, *y = b;
	return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

/* Clusters of the same prompt become one; those without pairs go. Sums of wholes and halves: exact in any order. */
static int64_t merge(struct cluster *c, int64_t n)
{
	int64_t to = 0;
	qsort(c, (size_t)n, sizeof *c, by_prompt);
	for (int64_t i = 0; i < n; i++) {
		if (c[i].pairs == 0) continue;
		if (to && c[to - 1].prompt == c[i].prompt) c[to - 1].pairs += c[i].pairs, c[to - 1].right += c[i].right, c[to - 1].shorter += c[i].shorter;
		else c[to++] = c[i];
	}
	return to;
}

/* Half the width of the ratio estimator's 95 % interval for p = Σ part / Σ pairs over k clusters, part = right·a + shorter·b + pairs·d
 * (Cochran 1977, section 6.4). */
static double half_width(const struct cluster *c, int64_t k, double p, double a, double b, double d)
{
	double square = 0, pairs = 0;
	for (int64_t i = 0; i < k; i++) {
		double off = c[i].right * a + c[i].shorter * b + c[i].pairs * (d - p);
		square += off * off;
		pairs += c[i].pairs;
	}
	return k > 1 ? Z95 * sqrt((double)k / (double)(k - 1) * square) / pairs : 1;
}

static void intervals(struct rank_eval *o, const struct cluster *c, int64_t k)
{
	double n = (double)o->pairs, p = o->accuracy, centre = (p + Z95 * Z95 / (2 * n)) / (1 + Z95 * Z95 / n);
	double half = Z95 / (1 + Z95 * Z95 / n) * sqrt(p * (1 - p) / n + Z95 * Z95 / (4 * n * n));
	o->low = centre - half;
	o->high = centre + half;
	half = half_width(c, k, p, 1, 0, 0);
	o->prompts = k;
	o->group_low = fmax(0, p - half);
	o->group_high = fmin(1, p + half);
	int longer = o->longer > o->shorter; /* "the longer wins" is 1 less "the shorter wins" */
	double over = p - (longer ? o->longer : o->shorter);
	half = longer ? half_width(c, k, over, 1, 1, -1) : half_width(c, k, over, 1, -1, 0);
	o->over_low = over - half;
	o->over_high = over + half;
}

void rank_eval(struct rank_eval *o, const struct ranked_group *g, uint32_t n, const double *score, double logit)
{
	memset(o, 0, sizeof *o);
	double most = largest_strength(g, n);
	struct cluster *cluster = calloc((size_t)n + 1, sizeof *cluster);
	CHECK(cluster, "out of memory to evaluate %u groups", n);
	for (uint32_t i = 0; i < n; score += g[i++].group.size) {
		const struct store_comparison *r = &g[i].ranking;
		double right = o->accuracy, shorter = o->shorter, pairs = (double)o->pairs;
		for (uint32_t k = 0; k + 1 < r->count; k++)
			for (uint32_t l = k + 1; l < r->count; l++)
				if (r->rank[k] != r->rank[l]) add_pair(o, &g[i], score, logit, k, l, most);
		cluster[i] = (struct cluster){g[i].group.prompt, (double)o->pairs - pairs, o->accuracy - right, o->shorter - shorter};
		o->groups++;
		o->tied_groups += cluster[i].pairs == 0;
	}
	if (o->pairs == 0) goto out;
	o->accuracy /= (double)o->pairs;
	o->shorter /= (double)o->pairs;
	o->longer = 1 - o->shorter;
	o->brier /= (double)o->pairs;
	for (int i = 0; i < RANK_BINS; i++) {
		if (!o->bin[i].n) continue;
		o->bin[i].predicted /= (double)o->bin[i].n, o->bin[i].observed /= (double)o->bin[i].n;
		o->calibration += fabs(o->bin[i].predicted - o->bin[i].observed) * (double)o->bin[i].n / (double)o->pairs;
	}
	for (int i = 0; i < RANK_MARGINS; i++) {
		o->margin[i].low = most * i / RANK_MARGINS;
		o->margin[i].high = most * (i + 1) / RANK_MARGINS;
		if (o->margin[i].n) o->margin[i].accuracy /= (double)o->margin[i].n;
	}
	intervals(o, cluster, merge(cluster, n));
out:
	free(cluster);
}
