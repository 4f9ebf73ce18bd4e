/* Naive references of the row-wise operations, in double: as close to the
 * formulas as C allows, no blocking, no lanes, no reuse. Attention has its own
 * file. Backward functions add into gradients, as the operations do. */
#ifndef TENFOLD_TESTS_OPS_REFERENCE_H
#define TENFOLD_TESTS_OPS_REFERENCE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define REF_UNUSED __attribute__((unused))

/* y[T, out] += x[T, in] w[out, in]ᵀ */
static REF_UNUSED void ref_linear(const double *x, const double *w, double *y, int64_t t, int64_t in, int64_t out)
{
	for (int64_t i = 0; i < t; i++)
		for (int64_t o = 0; o < out; o++)
			for (int64_t k = 0; k < in; k++) y[i * out + o] += x[i * in + k] * w[o * in + k];
}

static REF_UNUSED void ref_linear_backward(const double *x, const double *w, const double *dy, double *dx, double *dw, int64_t t, int64_t in, int64_t out)
{
	for (int64_t i = 0; i < t; i++)
		for (int64_t o = 0; o < out; o++)
			for (int64_t k = 0; k < in; k++) {
				if (dx) dx[i * in + k] += dy[i * out + o] * w[o * in + k];
				if (dw) dw[o * in + k] += dy[i * out + o] * x[i * in + k];
			}
}

static REF_UNUSED void ref_norm(const double *x, const double *w, double eps, double *y, int64_t t, int64_t c)
{
	for (int64_t i = 0; i < t; i++) {
		double s = 0;
		for (int64_t j = 0; j < c; j++) s += x[i * c + j] * x[i * c + j];
		double r = 1.0 / sqrt(s / (double)c + eps);
		for (int64_t j = 0; j < c; j++) y[i * c + j] = w[j] * x[i * c + j] * r;
	}
}

static REF_UNUSED void ref_norm_backward(const double *x, const double *w, double eps, const double *dy, double *dx, double *dw, int64_t t, int64_t c)
{
	for (int64_t i = 0; i < t; i++) {
		double s = 0, dot = 0;
		for (int64_t j = 0; j < c; j++) s += x[i * c + j] * x[i * c + j];
		double r = 1.0 / sqrt(s / (double)c + eps);
		for (int64_t j = 0; j < c; j++) dot += w[j] * dy[i * c + j] * x[i * c + j];
		for (int64_t j = 0; j < c; j++) {
			dx[i * c + j] += r * w[j] * dy[i * c + j] - x[i * c + j] * r * r * r * dot / (double)c;
			dw[j] += dy[i * c + j] * x[i * c + j] * r;
		}
	}
}

static REF_UNUSED void ref_layer_norm(const double *x, const double *w, const double *bias, double eps, double *y, int64_t t, int64_t c)
{
	for (int64_t i = 0; i < t; i++) {
		double m = 0, s = 0;
		for (int64_t j = 0; j < c; j++) m += x[i * c + j] / (double)c;
		for (int64_t j = 0; j < c; j++) s += (x[i * c + j] - m) * (x[i * c + j] - m);
		double r = 1.0 / sqrt(s / (double)c + eps);
		for (int64_t j = 0; j < c; j++) y[i * c + j] = w[j] * (x[i * c + j] - m) * r + bias[j];
	}
}

static REF_UNUSED void ref_layer_norm_backward(const double *x, const double *w, double eps, const double *dy, double *dx, double *dw, double *db, int64_t t,
					       int64_t c)
{
	for (int64_t i = 0; i < t; i++) {
		double m = 0, s = 0, sum = 0, dot = 0;
		for (int64_t j = 0; j < c; j++) m += x[i * c + j] / (double)c;
		for (int64_t j = 0; j < c; j++) s += (x[i * c + j] - m) * (x[i * c + j] - m);
		double r = 1.0 / sqrt(s / (double)c + eps);
		for (int64_t j = 0; j < c; j++) {
			sum += w[j] * dy[i * c + j] / (double)c;
			dot += w[j] * dy[i * c + j] * (x[i * c + j] - m) * r / (double)c;
		}
		for (int64_t j = 0; j < c; j++) {
			double hat = (x[i * c + j] - m) * r;
			dx[i * c + j] += r * (w[j] * dy[i * c + j] - sum - hat * dot);
			dw[j] += dy[i * c + j] * hat;
			db[j] += dy[i * c + j];
		}
	}
}

static REF_UNUSED double ref_gelu(double x, int exact)
{
	if (exact) return 0.5 * x * (1 + erf(x / sqrt(2)));
	return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static REF_UNUSED double ref_sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

static REF_UNUSED double ref_silu_slope(double x)
{
	double s = ref_sigmoid(x);
	return s + x * s * (1 - s);
}

/* Router of one row: scores p[E], choice and weights of K. `choose` 0 keeps the given choice (for differences). */
struct ref_router {
	int sigmoid, normalize, chosen;
	int64_t experts;
	double scale;
	const double *bias;
};

static REF_UNUSED double ref_lse(const double *x, int64_t n)
{
	double m = -INFINITY, s = 0;
	for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
	for (int64_t i = 0; i < n; i++) s += exp(x[i] - m);
	return m + log(s);
}

static REF_UNUSED void ref_router_row(const struct ref_router *r, const double *x, double *p, int32_t *expert, double *weight, int choose)
{
	double lse = ref_lse(x, r->experts), sum = 0;
	for (int64_t e = 0; e < r->experts; e++) p[e] = r->sigmoid ? ref_sigmoid(x[e]) : exp(x[e] - lse);
	for (int k = 0; choose && k < r->chosen; k++) {
		int32_t best = -1;
		for (int32_t e = 0; e < r->experts; e++) {
			int used = 0;
			for (int q = 0; q < k; q++) used |= expert[q] == e;
			if (used) continue;
			if (best < 0 || p[e] + (r->bias ? r->bias[e] : 0) > p[best] + (r->bias ? r->bias[best] : 0)) best = e;
		}
		expert[k] = best;
	}
	for (int i = 0; choose && i < r->chosen; i++) /* by weight, then index */
		for (int j = i + 1; j < r->chosen; j++)
			if (p[expert[j]] > p[expert[i]] || (p[expert[j]] == p[expert[i]] && expert[j] < expert[i])) {
				int32_t s = expert[i];
				expert[i] = expert[j];
				expert[j] = s;
			}
	for (int k = 0; k < r->chosen; k++) sum += p[expert[k]];
	for (int k = 0; k < r->chosen; k++) weight[k] = p[expert[k]] * r->scale / (r->normalize ? sum : 1.0);
}

/* One expert's output for one row: down · (silu(gate x) ⊙ up x), weighted into out. g, u: [I] kept. */
static REF_UNUSED void ref_expert(const double *x, const double *gate, const double *up, const double *down, double weight, double *out, double *g, double *u,
				  int64_t c, int64_t in)
{
	for (int64_t i = 0; i < in; i++) g[i] = u[i] = 0;
	ref_linear(x, gate, g, 1, c, in);
	ref_linear(x, up, u, 1, c, in);
	for (int64_t o = 0; o < c; o++)
		for (int64_t i = 0; i < in; i++) out[o] += weight * down[o * in + i] * g[i] * ref_sigmoid(g[i]) * u[i];
}

static REF_UNUSED void ref_expert_backward(const double *x, const double *gate, const double *up, const double *down, double weight, const double *dout,
					   const double *g, const double *u, double *dx, double *dgate, double *dup, double *ddown, double *dweight,
					   int64_t c, int64_t in)
{
	*dweight = 0;
	for (int64_t i = 0; i < in; i++) {
		double a = g[i] * ref_sigmoid(g[i]) * u[i], da = 0;
		for (int64_t o = 0; o < c; o++) {
			da += dout[o] * down[o * in + i];
			ddown[o * in + i] += weight * dout[o] * a;
		}
		*dweight += da * a;
		double dg = weight * da * u[i] * ref_silu_slope(g[i]), du = weight * da * g[i] * ref_sigmoid(g[i]);
		for (int64_t k = 0; k < c; k++) {
			dx[k] += dg * gate[i * c + k] + du * up[i * c + k];
			dgate[i * c + k] += dg * x[k];
			dup[i * c + k] += du * x[k];
		}
	}
}

/* keep[V]: the set of the top-k / top-p choice of logits x / temperature, forbidden (or -1) left out. */
static REF_UNUSED void ref_kept(const double *x, int64_t vocab, int64_t forbidden, int top_k, double top_p, double temperature, uint8_t *keep)
{
	double total = 0, seen = 0;
	uint8_t *ranked = calloc(1, (size_t)vocab);
	int64_t limit = top_k > 0 && top_k < vocab ? top_k : vocab;
	for (int pass = 0; pass < 2; pass++) {
		for (int64_t i = 0; i < vocab; i++) ranked[i] = 0, keep[i] = 0;
		for (int64_t n = 0; n < limit; n++) {
			int64_t best = -1;
			for (int64_t i = 0; i < vocab; i++)
				if (!ranked[i] && i != forbidden && (best < 0 || x[i] > x[best])) best = i;
			if (best < 0) break;
			ranked[best] = 1;
			double e = exp(x[best] / temperature);
			if (pass == 0) total += e;
			else if (seen < top_p * total) keep[best] = 1, seen += e;
		}
	}
	free(ranked);
}

/* log-probability of target and entropy of softmax(x / temperature) over keep. */
static REF_UNUSED void ref_head_row(const double *x, const uint8_t *keep, int64_t vocab, double temperature, int64_t target, double *logprob, double *entropy)
{
	double m = -INFINITY, s = 0;
	for (int64_t i = 0; i < vocab; i++)
		if (keep[i] && x[i] / temperature > m) m = x[i] / temperature;
	for (int64_t i = 0; i < vocab; i++) s += keep[i] ? exp(x[i] / temperature - m) : 0;
	double lse = m + log(s);
	*logprob = x[target] / temperature - lse;
	*entropy = 0;
	for (int64_t i = 0; i < vocab; i++)
		if (keep[i]) *entropy -= exp(x[i] / temperature - lse) * (x[i] / temperature - lse);
}

#endif
