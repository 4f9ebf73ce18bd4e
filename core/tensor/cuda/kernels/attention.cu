/* Attention over pages of 64 positions (Dao et al., 2205.14135, in fixed order);
 * the arithmetic is cpu/kernels/attention.c's.
 *
 * A warp has one query head of one row: for a page each lane has two keys (keys
 * are stored transposed, so that the lanes read side by side), then the lanes
 * share out the value's elements. A block's warps have consecutive rows of one
 * head, which mostly look at the same page of their prompt: it comes from memory
 * once. Nothing depends on which other queries exist. */
#include "core/tensor/cuda/kernels/attention.h"

enum { THREADS = 128, WARPS = THREADS / 32, VALUES = HEAD_MAX / 32 };

struct attention_launch {
	struct attention_args a;
};

/* What a warp shares: its query and the page's weights. */
struct query_shared {
	float q[HEAD_MAX], p[KV_PAGE];
};

/* The scores of this lane's keys, lane and lane + 32, against one page, which begins at number k0; -inf beyond the query's
 * position. */
DEVICE struct two page_scores(const struct query_shared *s, const void *pages, int64_t k0, const int half, int dk, float scale, int valid, int lane)
{
	struct two r = {0, 0};
	for (int d = 0; d < dk; d++) {
		r.a = d_fma(s->q[d], page_at(pages, k0 + d * KV_PAGE + lane, half), r.a);
		r.b = d_fma(s->q[d], page_at(pages, k0 + d * KV_PAGE + lane + 32, half), r.b);
	}
	r.a = lane < valid ? r.a * scale : -INFINITY;
	r.b = lane + 32 < valid ? r.b * scale : -INFINITY;
	return r;
}

/* Sum of the page's weights: lane l of sixteen adds keys l, l+16, l+32, l+48 in that order, then the tree. */
DEVICE float page_sum(struct two p, int lane)
{
	float second = shuffle(p.a, (lane & 15) + 16), fourth = shuffle(p.b, (lane & 15) + 16);
	float first = shuffle(p.a, lane & 15), third = shuffle(p.b, lane & 15);
	return lanes_sum(first + second + third + fourth);
}

DEVICE void attention_row(const struct attention_args *a, struct query_shared *shared, const int half)
{
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, h = (int)blockIdx.y, j = h / (a->heads / a->kv_heads);
	int64_t t = (int64_t)blockIdx.x * WARPS + warp;
	if (t >= a->q.rows) return;
	struct query_shared *s = &shared[warp];
	const float *q = (const float *)a->q.data + t * a->q.cols + (int64_t)h * a->dk;
	for (int d = lane; d < a->dk; d += 32) s->q[d] = q[d];
	warp_sync();
	int pos = a->row_pos[t], last = pos / KV_PAGE;
	float acc[VALUES], max = -INFINITY, sum = 0;
	UNROLL
	for (int c = 0; c < VALUES; c++) acc[c] = 0;
	for (int b = 0; b <= last; b++) {
		if (!attention_visits(a, t, j, b)) continue;
		int64_t page = a->tables[(int64_t)a->row_seq[t] * a->table_stride + b], at = page * a->kv_heads + j;
		int valid = pos - b * KV_PAGE + 1 < KV_PAGE ? pos - b * KV_PAGE + 1 : KV_PAGE;
		struct two p = page_scores(s, a->k_pages, at * a->dk * KV_PAGE, half, a->dk, a->scale, valid, lane);
		float page_max = lanes_max(d_max(p.a, p.b), 32), high = max > page_max ? max : page_max, fade = d_exp(max - high);
		p.a = lane < valid ? d_exp(p.a - high) : 0;
		p.b = lane + 32 < valid ? d_exp(p.b - high) : 0;
		sum = d_fma(sum, fade, page_sum(p, lane));
		max = high;
		s->p[lane] = p.a;
		s->p[lane + 32] = p.b;
		warp_sync();
		int64_t v0 = at * KV_PAGE * a->dv;
		UNROLL
		for (int c = 0; c < VALUES; c++) {
			int d = c * 32 + lane;
			if (c * 32 >= a->dv) break;
			acc[c] *= fade;
			for (int k = 0; d < a->dv && k < valid; k++) acc[c] = d_fma(s->p[k], page_at(a->v_pages, v0 + k * a->dv + d, half), acc[c]);
		}
		warp_sync();
	}
	float *out = (float *)a->out.data + t * a->out.cols + (int64_t)h * a->dv;
	UNROLL
	for (int c = 0; c < VALUES; c++)
		if (c * 32 + lane < a->dv) out[c * 32 + lane] = acc[c] / sum;
	if (a->lse && lane == 0) a->lse[t * a->heads + h] = max + d_log(sum);
}

KERNEL(attention_rows, struct attention_launch, THREADS)
{
	SHARED struct query_shared shared[WARPS];
	attention_row(&arg.a, shared, 0);
}

KERNEL(attention_rows_bf16, struct attention_launch, THREADS)
{
	SHARED struct query_shared shared[WARPS];
	attention_row(&arg.a, shared, 1);
}

CUDA_API void K(attention_forward)(struct backend *b, const struct attention_args *a)
{
	attention_check(a);
	struct attention_launch l = {*a};
	if (a->pages == DTYPE_BF16) LAUNCH(b, attention_rows_bf16, cuda_blocks(a->q.rows, WARPS), a->heads, 1, THREADS, l);
	else LAUNCH(b, attention_rows, cuda_blocks(a->q.rows, WARPS), a->heads, 1, THREADS, l);
}
