/* The router: scores, choice of K experts, their weights, and the gradient.
 *
 * Choice is by score (plus a bias that serves the choice alone, DeepSeek-V3
 * style); ties go to the lower expert. The chosen are then ordered by weight,
 * ties by index, so that combining has one order. Load balance (Shazeer et al.;
 * Switch, 2101.03961) enters as one gradient per expert for every row's
 * probability, fixed before the backward; z-loss (ST-MoE, 2202.08906) as lse². */
#include "core/tensor/cpu/kernels/kernels.h"

enum { CHOSEN_MAX = 64 };

static void router_scores(const struct router_args *a, const float *x, float *p, float *lse, int64_t experts)
{
	v16 m = v_set(-INFINITY);
	for (int64_t i = 0; i < experts; i += 16) {
		int n = experts - i < 16 ? (int)(experts - i) : 16;
		m = v_max(m, v_fill_tail(v_load_n(x + i, n), n, -INFINITY));
	}
	float max = v_hmax(m);
	v16 total = v_zero();
	for (int64_t i = 0; i < experts; i += 16) {
		int n = experts - i < 16 ? (int)(experts - i) : 16;
		v16 e = v_fill_tail(v_exp(v_sub(v_load_n(x + i, n), v_set(max))), n, 0.0f);
		v_store_n(p + i, e, n);
		total = v_add(total, e);
	}
	float sum = v_hsum(total);
	*lse = max + s_log(sum);
	for (int64_t i = 0; i < experts; i += 16) {
		int n = experts - i < 16 ? (int)(experts - i) : 16;
		v16 s = a->kind == ROUTER_SIGMOID ? v_sigmoid(v_load_n(x + i, n)) : v_div(v_load_n(p + i, n), v_set(sum));
		v_store_n(p + i, s, n);
	}
}

enum { EXPERTS_MAX = 1024 };

/* The highest score, ties to the lower index; score[] is padded with -inf to whole vectors. */
static int32_t router_best(const float *score, int64_t experts)
{
	v16 m = v_load(score);
	for (int64_t i = 16; i < experts; i += 16) m = v_max(m, v_load(score + i));
	float best = v_hmax(m);
	for (int64_t i = 0; best > -INFINITY && i < experts; i += 16) {
		uint32_t at = v_equal(v_load(score + i), best);
		if (at) return (int32_t)i + __builtin_ctz(at);
	}
	return -1;
}

static void router_choose(const struct router_args *a, const float *p, int64_t experts, int32_t *expert, float *weight)
{
	float score[EXPERTS_MAX];
	for (int64_t e = 0; e < experts; e++) score[e] = a->bias ? p[e] + a->bias[e] : p[e];
	for (int64_t e = experts; e % 16; e++) score[e] = -INFINITY;
	for (int k = 0; k < a->chosen; k++) {
		int32_t best = router_best(score, experts);
		for (int32_t e = 0; best < 0; e++) { /* nothing but -inf and NaN is left: the lowest not yet chosen */
			int used = 0;
			for (int i = 0; i < k; i++) used |= expert[i] == e;
			if (!used) best = e;
		}
		score[best] = -INFINITY;
		/* insert by weight descending, then index */
		int at = k;
		while (at > 0 && (p[best] > weight[at - 1] || (p[best] == weight[at - 1] && best < expert[at - 1]))) {
			expert[at] = expert[at - 1];
			weight[at] = weight[at - 1];
			at--;
		}
		expert[at] = best;
		weight[at] = p[best];
	}
	float sum = 0;
	for (int k = 0; k < a->chosen; k++) sum += weight[k];
	for (int k = 0; k < a->chosen; k++) weight[k] = a->normalize ? weight[k] / (sum + 1e-20f) * a->scale : weight[k] * a->scale;
}

static void router_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct router_args *a = ctx;
	int64_t experts = a->logits.cols;
	for (int64_t t = first; t < last; t++) {
		float lse;
		router_scores(a, (const float *)a->logits.data + t * experts, a->probs + t * experts, &lse, experts);
		if (a->lse) a->lse[t] = lse;
		router_choose(a, a->probs + t * experts, experts, a->expert + t * a->chosen, a->weight + t * a->chosen);
	}
}

void K(router_forward)(struct backend *b, const struct router_args *a)
{
	CHECK(a->chosen >= 1 && a->chosen <= CHOSEN_MAX && a->chosen <= a->logits.cols && a->logits.cols <= EXPERTS_MAX, "router: %d of %lld experts", a->chosen,
	      (long long)a->logits.cols);
	cpu_for(b, a->logits.rows, 32, router_rows, a);
}

/* Gradient by the scores of the chosen: through the normalisation w_k = s p_k / Σ p. */
static void router_dscores(const struct router_args *a, int64_t t, const float *p, float *dp)
{
	const int32_t *expert = a->expert + t * a->chosen;
	const float *dw = a->dweight + t * a->chosen;
	if (!a->normalize) {
		for (int k = 0; k < a->chosen; k++) dp[expert[k]] += dw[k] * a->scale;
		return;
	}
	float sum = 0, mean = 0;
	for (int k = 0; k < a->chosen; k++) sum += p[expert[k]];
	sum += 1e-20f;
	for (int k = 0; k < a->chosen; k++) mean += dw[k] * (p[expert[k]] / sum);
	for (int k = 0; k < a->chosen; k++) dp[expert[k]] += a->scale * (dw[k] - mean) / sum;
}

/* dlogits of one row from the gradient by its scores, dp; z: factor of the z-loss's softmax. */
static void router_row_gradient(const struct router_args *a, const float *x, const float *p, const float *dp, float lse, float z, float *dx, int64_t experts)
{
	v16 mean = v_zero();
	for (int64_t e = 0; e < experts; e += 16) {
		int n = experts - e < 16 ? (int)(experts - e) : 16;
		mean = v_fma(v_load_n(dp + e, n), v_load_n(p + e, n), mean);
	}
	v16 total = v_set(v_hsum(mean)), one = v_set(1.0f);
	for (int64_t e = 0; e < experts; e += 16) {
		int n = experts - e < 16 ? (int)(experts - e) : 16;
		v16 pe = v_load_n(p + e, n), de = v_load_n(dp + e, n);
		v16 d = a->kind == ROUTER_SIGMOID ? v_mul(v_mul(de, pe), v_sub(one, pe)) : v_mul(pe, v_sub(de, total));
		if (z != 0) d = v_fma(v_set(z), v_exp(v_sub(v_load_n(x + e, n), v_set(lse))), d);
		v_store_n(dx + e, d, n);
	}
}

static void router_backward_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct router_args *a = ctx;
	int64_t experts = a->logits.cols;
	float dp[EXPERTS_MAX];
	for (int64_t t = first; t < last; t++) {
		const float *x = (const float *)a->logits.data + t * experts, *p = a->probs + t * experts;
		for (int64_t e = 0; e < experts; e++) dp[e] = a->dprob_balance ? a->dprob_balance[e] : 0.0f;
		router_dscores(a, t, p, dp);
		float z = a->z_scale != 0 ? a->z_scale * 2.0f * a->lse[t] : 0;
		router_row_gradient(a, x, p, dp, z != 0 ? a->lse[t] : 0, z, (float *)a->dlogits.data + t * experts, experts);
	}
}

void K(router_backward)(struct backend *b, const struct router_args *a)
{
	cpu_for(b, a->logits.rows, 32, router_backward_rows, a);
}
