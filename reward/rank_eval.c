/* Evaluation of scores on ranked groups; see rank_eval.h. */
#include "reward/rank_eval.h"

#include "reward/rank_loss.h"

#include <math.h>
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

static void intervals(struct rank_eval *o, double sum_cc, double sum_cn, double sum_nn, int64_t clusters)
{
	double n = (double)o->pairs, p = o->accuracy, centre = (p + Z95 * Z95 / (2 * n)) / (1 + Z95 * Z95 / n);
	double half = Z95 / (1 + Z95 * Z95 / n) * sqrt(p * (1 - p) / n + Z95 * Z95 / (4 * n * n));
	o->low = centre - half;
	o->high = centre + half;
	double k = (double)clusters, square = fmax(0, sum_cc - 2 * p * sum_cn + p * p * sum_nn);
	half = clusters > 1 ? Z95 * sqrt(k / (k - 1) * square) / n : 1;
	o->group_low = fmax(0, p - half);
	o->group_high = fmin(1, p + half);
}

void rank_eval(struct rank_eval *o, const struct ranked_group *g, uint32_t n, const double *score, double logit)
{
	memset(o, 0, sizeof *o);
	double most = largest_strength(g, n), cc = 0, cn = 0, nn = 0;
	for (uint32_t i = 0; i < n; score += g[i++].group.size) {
		const struct store_comparison *r = &g[i].ranking;
		double right = o->accuracy, pairs = (double)o->pairs;
		for (uint32_t k = 0; k + 1 < r->count; k++)
			for (uint32_t l = k + 1; l < r->count; l++)
				if (r->rank[k] != r->rank[l]) add_pair(o, &g[i], score, logit, k, l, most);
		right = o->accuracy - right;
		pairs = (double)o->pairs - pairs;
		o->groups++;
		o->tied_groups += pairs == 0;
		cc += right * right, cn += right * pairs, nn += pairs * pairs;
	}
	if (o->pairs == 0) return;
	o->accuracy /= (double)o->pairs;
	o->shorter /= (double)o->pairs;
	o->longer = 1 - o->shorter;
	o->brier /= (double)o->pairs;
	for (int i = 0; i < RANK_BINS; i++)
		if (o->bin[i].n) o->bin[i].predicted /= (double)o->bin[i].n, o->bin[i].observed /= (double)o->bin[i].n;
	for (int i = 0; i < RANK_MARGINS; i++) {
		o->margin[i].low = most * i / RANK_MARGINS;
		o->margin[i].high = most * (i + 1) / RANK_MARGINS;
		if (o->margin[i].n) o->margin[i].accuracy /= (double)o->margin[i].n;
	}
	intervals(o, cc, cn, nn, o->groups - o->tied_groups);
}
