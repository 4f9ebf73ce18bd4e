/* Ranking losses; see rank_loss.h. Sums run in the order of the ranking, so
 * naming the candidates otherwise changes no bit; reordering those that tie
 * changes rounding only. */
#include "reward/rank_loss.h"

#include <math.h>
#include <string.h>

int rank_loss_kind_parse(enum rank_loss_kind *kind, const char *name, struct err *e)
{
	static const char *const names[] = {"pairs", "plackett_luce", "best_of"};
	for (int i = 0; i < 3; i++)
		if (!strcmp(name, names[i])) {
			*kind = (enum rank_loss_kind)i;
			return 0;
		}
	return err_set(e, ERR_RANGE, "there is no ranking loss '%s'; there are pairs, plackett_luce and best_of", name);
}

double rank_strength(const struct store_comparison *c, uint32_t k, uint32_t l)
{
	double sum = 0;
	if (c->rank[k] == c->rank[l]) return 0;
	if (!c->has_margins) return NAN;
	for (uint32_t i = k; i < l; i++) sum += c->margin[i];
	return sum;
}

/* log(1 + exp(x)) and its derivative, without overflow. */
static double softplus(double x)
{
	return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double logistic(double x)
{
	return x > 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double pairs(const struct rank_loss_options *o, const struct store_comparison *c, const double *score, double *dscore)
{
	double loss = 0, count = (double)c->count * (double)(c->count - 1) / 2;
	for (uint32_t k = 0; k + 1 < c->count; k++)
		for (uint32_t l = k + 1; l < c->count; l++) {
			int tie = c->rank[k] == c->rank[l];
			double t = tie ? 0.5 : 1 - o->label_smoothing, m = tie || o->margin == 0 ? 0 : o->margin * rank_strength(c, k, l);
			double x = score[c->order[k]] - score[c->order[l]] - (isnan(m) ? 0 : m);
			loss += t * softplus(-x) + (1 - t) * softplus(x);
			double d = (logistic(x) - t) / count; /* d/dx of the line above is σ(x) − t */
			dscore[c->order[k]] += d;
			dscore[c->order[l]] -= d;
		}
	return loss / count;
}

static double log_add(double a, double b)
{
	double top = fmax(a, b);
	return isinf(top) ? top : top + log(exp(a - top) + exp(b - top));
}

/* From the last tied block to the first; rest = log Z of what is ranked after the block. In logarithms throughout: a
 * candidate far below the others would have no weight beside them, yet has all of it when it is what is left. */
static double plackett_luce(const struct store_comparison *c, const double *score, double *dscore)
{
	double loss = 0, rest = -INFINITY, scale = 1 / (double)(c->count - 1);
	for (uint32_t end = c->count, begin; end > 0; end = begin) {
		double tied = -INFINITY;
		for (begin = end; begin > 0 && c->rank[begin - 1] == c->rank[end - 1]; begin--) tied = log_add(tied, score[c->order[begin - 1]]);
		uint32_t b = end - begin;
		for (uint32_t j = 0; j < b; j++) {
			double left = 1 - (double)j / b, z = log_add(rest, log(left) + tied);
			loss += z;
			for (uint32_t k = begin; k < c->count; k++) dscore[c->order[k]] += scale * exp(score[c->order[k]] - z) * (k < end ? left : 1);
		}
		for (uint32_t k = begin; k < end; k++) {
			loss -= score[c->order[k]];
			dscore[c->order[k]] -= scale;
		}
		rest = log_add(rest, tied);
	}
	return loss * scale;
}

static double best_of(const struct rank_loss_options *o, const struct store_comparison *c, const double *score, double *dscore, double top)
{
	double z = 0, loss = 0, best = 0;
	for (uint32_t k = 0; k < c->count; k++) {
		z += exp(score[c->order[k]] - top);
		best += c->rank[k] == c->rank[0];
	}
	for (uint32_t k = 0; k < c->count; k++) {
		double target = (c->rank[k] == c->rank[0] ? (1 - o->label_smoothing) / best : 0) + o->label_smoothing / c->count;
		double x = score[c->order[k]] - top;
		loss -= target * (x - log(z));
		dscore[c->order[k]] += exp(x) / z - target;
	}
	return loss;
}

double rank_loss(const struct rank_loss_options *o, const struct store_comparison *c, const double *score, double *dscore, uint32_t n)
{
	CHECK(c->count >= 2 && c->count <= n && n <= GROUP_MAX, "a ranking of %u in a group of %u", c->count, n);
	double top = -INFINITY;
	for (uint32_t k = 0; k < c->count; k++) {
		CHECK(c->order[k] < n, "candidate %u in a group of %u", c->order[k], n);
		top = fmax(top, score[c->order[k]]);
	}
	for (uint32_t i = 0; i < n; i++) dscore[i] = 0;
	switch (o->kind) {
	case RANK_PLACKETT_LUCE: return plackett_luce(c, score, dscore);
	case RANK_BEST_OF: return best_of(o, c, score, dscore, top);
	default: return pairs(o, c, score, dscore);
	}
}
