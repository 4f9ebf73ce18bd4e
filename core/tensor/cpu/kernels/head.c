/* The vocabulary: log-probability and entropy of given tokens, their gradient,
 * and sampling. All three see a row of logits through the same function, so the
 * sampler's log-probability and the learner's are one computation.
 *
 * The distribution is softmax(logits / temperature), restricted to the top-k /
 * top-p set when asked (and renormalised there); the set is treated as constant
 * by the gradient. Ties at the edge of the set go to the lower token. */
#include "core/tensor/cpu/kernels/gemm.h"
#include "core/tensor/cpu/kernels/kernels.h"

#include <stdlib.h>

struct row_stats {
	float max, sum, lse; /* sum of exp(x - max) over the kept set */
	float weighted;      /* sum of exp(x - max)·(x - max): small terms, so that the entropy does not cancel */
};

static struct row_stats row_reduce(const float *x, int64_t vocab)
{
	struct row_stats r;
	v16 m = v_set(-INFINITY), total = v_zero(), weighted = v_zero();
	for (int64_t i = 0; i < vocab; i += 16) {
		int n = vocab - i < 16 ? (int)(vocab - i) : 16;
		m = v_max(m, v_fill_tail(v_load_n(x + i, n), n, -INFINITY));
	}
	r.max = v_hmax(m);
	for (int64_t i = 0; i < vocab; i += 16) {
		int n = vocab - i < 16 ? (int)(vocab - i) : 16;
		v16 v = v_sub(v_load_n(x + i, n), v_set(r.max)), e = v_fill_tail(v_exp(v), n, 0.0f);
		total = v_add(total, e);
		/* a removed token has x = -inf and e = 0: its product counts as 0 */
		weighted = v_fma(e, v_max(v_set(-1e30f), v), weighted);
	}
	r.sum = v_hsum(total);
	r.weighted = v_hsum(weighted);
	r.lse = r.max + s_log(r.sum);
	return r;
}

struct ranked {
	float x;
	int32_t token;
};

static int ranked_compare(const void *a, const void *b)
{
	const struct ranked *p = a, *q = b;
	if (p->x != q->x) return p->x > q->x ? -1 : 1;
	return p->token < q->token ? -1 : p->token > q->token;
}

/* x := x / temperature, and -inf outside the top-k / top-p set. `room` is scratch of vocab items. */
static void row_shape(float *x, int64_t vocab, float temperature, int top_k, float top_p, struct ranked *room)
{
	v16 t = v_set(temperature);
	for (int64_t i = 0; i < vocab; i += 16) {
		int n = vocab - i < 16 ? (int)(vocab - i) : 16;
		v_store_n(x + i, v_div(v_load_n(x + i, n), t), n);
	}
	if ((top_k <= 0 || top_k >= vocab) && top_p >= 1.0f) return;
	for (int64_t i = 0; i < vocab; i++) room[i] = (struct ranked){x[i], (int32_t)i};
	qsort(room, (size_t)vocab, sizeof *room, ranked_compare);
	int64_t keep = top_k > 0 && top_k < vocab ? top_k : vocab;
	if (top_p < 1.0f) {
		float sum = 0, seen = 0;
		for (int64_t i = 0; i < keep; i++) sum += s_exp(room[i].x - room[0].x);
		int64_t i = 0;
		while (i < keep && seen < top_p * sum) seen += s_exp(room[i++].x - room[0].x);
		keep = i;
	}
	for (int64_t i = keep; i < vocab; i++) x[room[i].token] = -INFINITY;
}

static int truncates(int top_k, float top_p)
{
	return top_k > 0 || top_p < 1.0f;
}

struct head {
	struct backend *b;
	const struct head_args *a;
	int64_t first; /* row of the chunk */
	float *logits; /* [chunk, V] */
	int backward;
};

static void head_row(const struct head *h, int64_t i, struct ranked *room)
{
	const struct head_args *a = h->a;
	int64_t t = h->first + i, vocab = a->w.rows;
	float *x = h->logits + i * vocab;
	if (a->target[t] < 0) {
		if (h->backward) {
			memset(x, 0, (size_t)vocab * sizeof *x);
		} else {
			a->logprob[t] = 0;
			a->entropy[t] = 0;
		}
		return;
	}
	if (a->forbidden && a->forbidden[t] >= 0) x[a->forbidden[t]] = -INFINITY;
	row_shape(x, vocab, a->temperature, a->top_k, a->top_p, room);
	struct row_stats r = row_reduce(x, vocab);
	float entropy = s_log(r.sum) - r.weighted / r.sum;
	if (!h->backward) {
		a->logprob[t] = x[a->target[t]] - r.lse;
		a->entropy[t] = entropy;
		return;
	}
	/* d logp / dx_i = [i = target] − p_i;  dH / dx_i = −p_i (log p_i + H) */
	float dl = a->dlogprob[t], dh = a->dentropy ? a->dentropy[t] : 0.0f, xt = x[a->target[t]];
	v16 inv_t = v_set(1.0f / a->temperature);
	for (int64_t c = 0; c < vocab; c += 16) {
		int n = vocab - c < 16 ? (int)(vocab - c) : 16;
		v16 lp = v_max(v_set(-1e30f), v_sub(v_load_n(x + c, n), v_set(r.lse))), p = v_exp(lp);
		v16 g = v_fma(v_set(-dh), v_mul(p, v_add(lp, v_set(entropy))), v_mul(v_set(-dl), p));
		v_store_n(x + c, v_mul(g, inv_t), n);
	}
	if (xt > -INFINITY) x[a->target[t]] += dl / a->temperature;
}

static void head_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	const struct head *h = ctx;
	struct ranked *room = NULL;
	if (truncates(h->a->top_k, h->a->top_p)) room = cpu_scratch(cpu_of(h->b), thread, (size_t)h->a->w.rows * sizeof *room);
	for (int64_t i = first; i < last; i++) head_row(h, i, room);
}

static void head_chunks(struct backend *base, const struct head_args *a, int backward)
{
	struct cpu_backend *b = cpu_of(base);
	int64_t vocab = a->w.rows, width = a->w.cols;
	CHECK(a->x.cols == width && a->work_rows > 0 && a->temperature > 0, "head: x of %lld, w of %lld, %lld rows of work", (long long)a->x.cols,
	      (long long)width, (long long)a->work_rows);
	struct head h = {base, a, 0, a->work, backward};
	for (h.first = 0; h.first < a->x.rows; h.first += a->work_rows) {
		int64_t n = a->x.rows - h.first < a->work_rows ? a->x.rows - h.first : a->work_rows;
		const float *x = (const float *)a->x.data + h.first * width;
		struct gemm g = {.m = n, .n = vocab, .k = width, .a = x, .a_row = width, .c = a->work, .c_row = vocab};
		gemm_weight(b, &g, a->w, 1, 0);
		K(gemm_run)(b, &g);
		cpu_for(base, n, 16, head_rows, &h);
		if (!backward) continue;
		if (a->dx.data) {
			struct gemm gx = {.m = n, .n = width, .k = vocab, .a = a->work, .a_row = vocab, .c = (float *)a->dx.data + h.first * width,
					  .c_row = width, .add = 1};
			gemm_weight(b, &gx, a->w, 1, 1);
			K(gemm_run)(b, &gx);
		}
		if (a->dw.data) {
			struct gemm gw = {.m = vocab, .n = width, .k = n, .a = a->work, .a_step = vocab, .b = x, .b_panel = PANEL,
					  .b_row = width, .c = a->dw.data, .c_row = width, .add = 1, .round = b->bf16};
			K(gemm_run)(b, &gw);
		}
	}
}

void K(head_forward)(struct backend *b, const struct head_args *a)
{
	head_chunks(b, a, 0);
}

void K(head_backward)(struct backend *b, const struct head_args *a)
{
	head_chunks(b, a, 1);
}

struct sampler {
	struct backend *b;
	const struct sample_args *a;
};

static void sample_row(const struct sample_args *a, int64_t i, struct ranked *room)
{
	int64_t vocab = a->logits.cols;
	float *x = (float *)a->logits.data + i * vocab;
	int greedy = a->temperature <= 0;
	if (a->forbidden && a->forbidden[i] >= 0) x[a->forbidden[i]] = -INFINITY;
	row_shape(x, vocab, greedy ? 1.0f : a->temperature, greedy ? 0 : a->top_k, greedy ? 1.0f : a->top_p, room);
	struct row_stats r = row_reduce(x, vocab);
	int64_t pick = 0;
	if (greedy) {
		for (int64_t v = 1; v < vocab; v++)
			if (x[v] > x[pick]) pick = v;
	} else {
		/* inverse of the cumulative sum, in token order; the last kept token when rounding leaves a gap */
		float goal = a->uniform[i] * r.sum, seen = 0;
		for (int64_t v = 0; v < vocab; v += 16) {
			float e[16];
			int n = vocab - v < 16 ? (int)(vocab - v) : 16;
			v_store(e, v_fill_tail(v_exp(v_sub(v_load_n(x + v, n), v_set(r.max))), n, 0.0f));
			int l = 0;
			for (; l < n; l++) {
				if (e[l] > 0) pick = v + l;
				seen += e[l];
				if (seen > goal) break;
			}
			if (l < n) break;
		}
	}
	a->token[i] = (int32_t)pick;
	a->logprob[i] = x[pick] - r.lse;
}

static void sample_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	const struct sampler *s = ctx;
	struct ranked *room = NULL;
	if (truncates(s->a->top_k, s->a->top_p)) room = cpu_scratch(cpu_of(s->b), thread, (size_t)s->a->logits.cols * sizeof *room);
	for (int64_t i = first; i < last; i++) sample_row(s->a, i, room);
}

void K(sample)(struct backend *b, const struct sample_args *a)
{
	struct sampler s = {b, a};
	cpu_for(b, a->logits.rows, 8, sample_rows, &s);
}
