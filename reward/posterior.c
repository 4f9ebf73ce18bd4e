/* Newton's method to the maximum, Cholesky there; see posterior.h. A step that
 * does not rise is halved: far from the maximum the logits are flat. */
#include "reward/posterior.h"

#include "core/base/err.h"
#include "core/base/rng.h"

#include <math.h>
#include <string.h>

enum { NEWTON_MAX = 60, HALVINGS = 30, DRAWS = 2048 };

/* Gauss–Hermite, 11 points for the weight exp(−x²/2)/√(2π); the other half by symmetry (Abramowitz & Stegun 25.4.46, rescaled). */
static const double NODE[6] = {0, 0.928868997381063940, 1.876035020154846, 2.865123160643645, 3.936166607129977, 5.188001224374871};
static const double NODE_WEIGHT[6] = {0.369408369408369408, 0.242240299873970, 0.0661387460710576, 0.00672028523553731, 0.000195671930271223,
				      8.12184979021500e-07};

struct posterior_model posterior_model_default(void)
{
	return (struct posterior_model){.sd = 1.5, .scale = judgement_scale_default()};
}

/* Lower triangle of a becomes its Cholesky factor; returns the log of the determinant. a = precision + I/sd² is positive definite. */
static double cholesky(double *a, uint32_t n)
{
	double logdet = 0;
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k <= i; k++) {
			double x = a[i * n + k];
			for (uint32_t l = 0; l < k; l++) x -= a[i * n + l] * a[k * n + l];
			if (k < i) a[i * n + k] = x / a[k * n + k];
			else {
				CHECK(x > 0, "the precision of a posterior is not positive definite");
				a[i * n + i] = sqrt(x);
				logdet += log(x);
			}
		}
	}
	return logdet;
}

static void solve(const double *l, uint32_t n, double *x)
{
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < i; k++) x[i] -= l[i * n + k] * x[k];
		x[i] /= l[i * n + i];
	}
	for (uint32_t i = n; i-- > 0;) {
		for (uint32_t k = i + 1; k < n; k++) x[i] -= l[k * n + i] * x[k];
		x[i] /= l[i * n + i];
	}
}

/* Log of the joint at score; with gradient and precision (minus the Hessian) where they are given. */
static double joint(const struct posterior_model *m, const struct judgement *j, size_t count, uint32_t n, const double *score, double *gradient,
		    double *precision)
{
	double sum = 0, prior = 1 / (m->sd * m->sd);
	if (gradient) memset(gradient, 0, n * sizeof *gradient);
	if (precision) memset(precision, 0, (size_t)n * n * sizeof *precision);
	for (size_t i = 0; i < count; i++) {
		double weight = m->weight ? m->weight[j[i].person] : 1;
		if (weight > 0) sum += judgement_loglik(&j[i], &m->scale, m->beta ? m->beta[j[i].person] : 1, weight, score, n, gradient, precision);
	}
	for (uint32_t i = 0; precision && i < n * n; i++) precision[i] = -precision[i];
	for (uint32_t i = 0; i < n; i++) {
		sum -= 0.5 * prior * score[i] * score[i];
		if (gradient) gradient[i] -= prior * score[i];
		if (precision) precision[i * n + i] += prior;
	}
	return sum;
}

/* To the maximum from p->mean; factor [n, n] becomes the precision's Cholesky factor there. */
static void maximise(struct posterior *p, const struct posterior_model *m, const struct judgement *j, size_t count, double *factor)
{
	uint32_t n = p->n;
	double step[GROUP_MAX], next[GROUP_MAX], gradient[GROUP_MAX], at = joint(m, j, count, n, p->mean, step, factor), logdet;
	for (p->iterations = 0;; p->iterations++) {
		double gradient2 = 0;
		for (uint32_t i = 0; i < n; i++) gradient2 += step[i] * step[i];
		logdet = cholesky(factor, n);
		if (gradient2 < 1e-14 || p->iterations == NEWTON_MAX) break;
		solve(factor, n, step);
		double scale = 1, there = at;
		int rose = 0;
		for (int h = 0; h < HALVINGS && !rose; h++, scale /= 2) {
			for (uint32_t i = 0; i < n; i++) next[i] = p->mean[i] + scale * step[i];
			there = joint(m, j, count, n, next, gradient, factor);
			rose = there > at;
		}
		if (!rose) { /* as high as double can tell */
			joint(m, j, count, n, p->mean, gradient, factor);
			logdet = cholesky(factor, n);
			break;
		}
		memcpy(p->mean, next, n * sizeof *next);
		memcpy(step, gradient, n * sizeof *gradient);
		at = there;
	}
	p->evidence = at - n * log(m->sd) - 0.5 * logdet;
}

void posterior_evidence(struct posterior *out, const struct posterior_model *m, const struct judgement *j, size_t count, uint32_t n)
{
	double factor[GROUP_MAX * GROUP_MAX];
	CHECK(n >= 1 && n <= GROUP_MAX && m->sd > 0, "a posterior over %u candidates with a prior of %g", n, m->sd);
	if (out->n != n) memset(out->mean, 0, sizeof out->mean);
	out->n = n;
	maximise(out, m, j, count, factor);
}

void posterior_fit(struct posterior *out, const struct posterior_model *m, const struct judgement *j, size_t count, uint32_t n)
{
	double factor[GROUP_MAX * GROUP_MAX], column[GROUP_MAX];
	CHECK(n >= 1 && n <= GROUP_MAX && m->sd > 0, "a posterior over %u candidates with a prior of %g", n, m->sd);
	memset(out->mean, 0, sizeof out->mean);
	out->n = n;
	maximise(out, m, j, count, factor);
	for (uint32_t i = 0; i < n; i++) {
		memset(column, 0, sizeof column);
		column[i] = 1;
		solve(factor, n, column);
		for (uint32_t k = 0; k < n; k++) out->covariance[k * n + i] = column[k];
	}
}

void posterior_difference(const struct posterior *p, uint32_t a, uint32_t b, double *mean, double *variance)
{
	const double *c = p->covariance;
	uint32_t n = p->n;
	*mean = p->mean[a] - p->mean[b];
	*variance = fmax(0, c[a * n + a] + c[b * n + b] - c[a * n + b] - c[b * n + a]);
}

double posterior_above(const struct posterior *p, uint32_t a, uint32_t b)
{
	double mean, variance;
	posterior_difference(p, a, b, &mean, &variance);
	return 0.5 * erfc(-mean / sqrt(2 * variance));
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

double posterior_prefers(const struct posterior *p, uint32_t a, uint32_t b)
{
	double mean, variance, sum = 0;
	posterior_difference(p, a, b, &mean, &variance);
	for (int k = -5; k <= 5; k++) sum += NODE_WEIGHT[k < 0 ? -k : k] * sigmoid(mean + sqrt(variance) * (k < 0 ? -NODE[-k] : NODE[k]));
	return sum;
}

void posterior_order(const struct posterior *p, uint8_t *order)
{
	for (uint32_t i = 0; i < p->n; i++) {
		uint32_t k = i;
		for (; k > 0 && p->mean[order[k - 1]] < p->mean[i]; k--) order[k] = order[k - 1];
		order[k] = (uint8_t)i;
	}
}

void posterior_top(const struct posterior *p, uint64_t seed, double *top)
{
	double factor[GROUP_MAX * GROUP_MAX], z[GROUP_MAX];
	uint32_t n = p->n;
	memcpy(factor, p->covariance, (size_t)n * n * sizeof *factor);
	cholesky(factor, n);
	memset(top, 0, n * sizeof *top);
	for (uint32_t d = 0; d < DRAWS; d += 2) {
		for (uint32_t i = 0; i < n; i++) z[i] = rng_normal((struct rng_key){seed, RNG_POSTERIOR}, d, i, 0);
		for (int sign = -1; sign <= 1; sign += 2) {
			double most = -INFINITY;
			uint32_t best = 0;
			for (uint32_t i = 0; i < n; i++) {
				double x = p->mean[i];
				for (uint32_t k = 0; k <= i; k++) x += sign * factor[i * n + k] * z[k];
				if (x > most) most = x, best = i;
			}
			top[best] += 1.0 / DRAWS;
		}
	}
}

static double entropy(double first, double tie, double second)
{
	const double p[3] = {first, tie, second};
	double h = 0;
	for (int i = 0; i < 3; i++)
		if (p[i] > 0) h -= p[i] * log(p[i]);
	return h;
}

double posterior_gain(const struct posterior *p, const struct judgement_scale *scale, double beta, uint32_t a, uint32_t b)
{
	double mean, variance, first = 0, second = 0, inner = 0, t = scale->threshold[0];
	posterior_difference(p, a, b, &mean, &variance);
	for (int k = -5; k <= 5; k++) {
		double w = NODE_WEIGHT[k < 0 ? -k : k], x = beta * (mean + sqrt(variance) * (k < 0 ? -NODE[-k] : NODE[k]));
		double f = sigmoid(x - t), s = sigmoid(-x - t);
		first += w * f;
		second += w * s;
		inner += w * entropy(f, 1 - f - s, s);
	}
	return fmax(0, entropy(first, 1 - first - second, second) - inner);
}
