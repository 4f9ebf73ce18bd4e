/* The router: scores, choice of K experts, their weights, and the gradient; the
 * rules are those of cpu/kernels/router.c. Half a warp has a row: softmax,
 * choice, ordering and weights in one kernel, the scores in shared memory. */
#include "core/tensor/cuda/kernels/kernels.h"

enum { THREADS = 128, ROWS = THREADS / 16, CHOSEN_MAX = 64, EXPERTS_MAX = 1024 };

struct router_launch {
	struct router_args a;
};

/* Scores p of row x, and its log-sum-exp. */
DEVICE void router_scores(const struct router_args *a, const float *x, float *p, int64_t t, int lane, int live)
{
	int experts = (int)a->logits.cols;
	float max = -INFINITY, sum = 0;
	for (int e = lane; live && e < experts; e += 16) max = d_max(max, x[e]);
	max = lanes_max(max, 16);
	for (int e = lane; live && e < experts; e += 16) {
		p[e] = d_exp(x[e] - max);
		sum += p[e];
	}
	sum = lanes_sum(sum);
	if (live && lane == 0 && a->lse) a->lse[t] = max + d_log(sum);
	for (int e = lane; live && e < experts; e += 16) p[e] = a->kind == ROUTER_SIGMOID ? d_sigmoid(x[e]) : p[e] / sum;
}

/* The highest score above -inf, ties to the lower index; experts when there is none. */
DEVICE int router_best(const float *score, int experts, int lane, int live)
{
	float best = -INFINITY;
	int at = experts;
	for (int e = lane; live && e < experts; e += 16)
		if (score[e] > best) best = score[e], at = e;
	for (int s = 8; s > 0; s /= 2) {
		float other = shuffle_xor(best, s);
		int index = d_bits_of(shuffle_xor(d_float_of(at), s));
		if (other > best || (other == best && index < at)) best = other, at = index;
	}
	return at;
}

/* Puts the k-th choice in its place: by weight descending, then index. */
DEVICE void router_insert(const float *p, int best, int k, int32_t *expert, float *weight)
{
	int at = k;
	while (at > 0 && (p[best] > weight[at - 1] || (p[best] == weight[at - 1] && best < expert[at - 1]))) {
		expert[at] = expert[at - 1];
		weight[at] = weight[at - 1];
		at--;
	}
	expert[at] = best;
	weight[at] = p[best];
}

DEVICE void router_weights(const struct router_args *a, float *weight)
{
	float sum = 0;
	for (int k = 0; k < a->chosen; k++) sum += weight[k];
	for (int k = 0; k < a->chosen; k++) weight[k] = a->normalize ? weight[k] / (sum + 1e-20f) * a->scale : weight[k] * a->scale;
}

KERNEL(router_rows, struct router_launch, THREADS)
{
	const struct router_args *a = &arg.a;
	SHARED_DYNAMIC(float, scores); /* [ROWS, E] */
	int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / 16;
	int experts = (int)a->logits.cols, lane = threadIdx.x % 16, live = t < a->logits.rows;
	float *score = scores + (int)threadIdx.x / 16 * experts, *p = a->probs + t * experts, *weight = a->weight + t * a->chosen;
	int32_t *expert = a->expert + t * a->chosen;
	router_scores(a, (const float *)a->logits.data + t * experts, p, t, lane, live);
	for (int e = lane; live && e < experts; e += 16) score[e] = a->bias ? p[e] + a->bias[e] : p[e];
	for (int k = 0; k < a->chosen; k++) {
		warp_sync();
		int best = router_best(score, experts, lane, live);
		warp_sync();
		if (!live || lane) continue;
		for (int e = 0; best == experts; e++) { /* nothing but -inf and NaN is left: the lowest not yet chosen */
			int used = 0;
			for (int i = 0; i < k; i++) used |= expert[i] == e;
			if (!used) best = e;
		}
		score[best] = -INFINITY;
		router_insert(p, best, k, expert, weight);
	}
	if (live && lane == 0) router_weights(a, weight);
}

CUDA_API void K(router_forward)(struct backend *b, const struct router_args *a)
{
	CHECK(a->chosen >= 1 && a->chosen <= CHOSEN_MAX && a->chosen <= a->logits.cols && a->logits.cols <= EXPERTS_MAX, "router: %d of %lld experts", a->chosen,
	      (long long)a->logits.cols);
	struct router_launch l = {*a};
	LAUNCH_SHARED(b, router_rows, cuda_blocks(a->logits.rows, ROWS), 1, 1, THREADS, (size_t)(ROWS * a->logits.cols) * sizeof(float), l);
}

/* Gradient by the scores of the chosen, added to dp: through the normalisation w_k = s p_k / Σ p. */
DEVICE void router_dscores(const struct router_args *a, int64_t t, const float *p, float *dp)
{
	const int32_t *expert = a->expert + t * a->chosen;
	const float *dw = a->dweight + t * a->chosen;
	float sum = 0, mean = 0;
	if (!a->normalize) {
		for (int k = 0; k < a->chosen; k++) dp[expert[k]] += dw[k] * a->scale;
		return;
	}
	for (int k = 0; k < a->chosen; k++) sum += p[expert[k]];
	sum += 1e-20f;
	for (int k = 0; k < a->chosen; k++) mean += dw[k] * (p[expert[k]] / sum);
	for (int k = 0; k < a->chosen; k++) dp[expert[k]] += a->scale * (dw[k] - mean) / sum;
}

KERNEL(router_gradients, struct router_launch, THREADS)
{
	const struct router_args *a = &arg.a;
	SHARED_DYNAMIC(float, gradients); /* [ROWS, E] */
	int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / 16;
	int experts = (int)a->logits.cols, lane = threadIdx.x % 16, live = t < a->logits.rows;
	float *dp = gradients + (int)threadIdx.x / 16 * experts, *dx = (float *)a->dlogits.data + t * experts, mean = 0;
	const float *x = (const float *)a->logits.data + t * experts, *p = a->probs + t * experts;
	for (int e = lane; live && e < experts; e += 16) dp[e] = a->dprob_balance ? a->dprob_balance[e] : 0.0f;
	warp_sync();
	if (live && lane == 0) router_dscores(a, t, p, dp);
	warp_sync();
	for (int e = lane; live && e < experts; e += 16) mean = d_fma(dp[e], p[e], mean);
	mean = lanes_sum(mean);
	float z = live && a->z_scale != 0 ? a->z_scale * 2.0f * a->lse[t] : 0;
	for (int e = lane; live && e < experts; e += 16) {
		float d = a->kind == ROUTER_SIGMOID ? dp[e] * p[e] * (1.0f - p[e]) : p[e] * (dp[e] - mean);
		if (z != 0) d = d_fma(z, d_exp(x[e] - a->lse[t]), d);
		dx[e] = d;
	}
}

CUDA_API void K(router_backward)(struct backend *b, const struct router_args *a)
{
	CHECK(a->logits.cols <= EXPERTS_MAX, "router: %lld experts", (long long)a->logits.cols);
	struct router_launch l = {*a};
	LAUNCH_SHARED(b, router_gradients, cuda_blocks(a->logits.rows, ROWS), 1, 1, THREADS, (size_t)(ROWS * a->logits.cols) * sizeof(float), l);
}
