/* Attention over pages of 64 positions (Dao et al., 2205.14135, in fixed order).
 *
 * A query visits its pages in position order; a page's 64 scores advance in
 * lanes (keys are stored transposed), each score is one chain over the head
 * size, the weighted values one chain over the keys. The running maximum and
 * sum are rescaled page by page. Nothing depends on which other queries exist,
 * so decoding one token, scoring and training give the same bits.
 *
 * Several query rows that look at the same page share its loads: that is a tile
 * of registers and changes no order. */
#include "core/tensor/cpu/kernels/kernels.h"
#include "core/tensor/cpu/kernels/pages.h"

enum { TILE = 4, HEAD_MAX = 512 };

struct query {
	const float *q;
	float *acc; /* [Dv, and 32 more] */
	float max, sum;
	int32_t pos;
};

/* scores[r][0..64) of n <= TILE queries against one page; lanes past a query's position are -inf later. */
INLINE void page_scores(const int n, const struct query *const *query, const float *kp, int dk, int vectors, float scale, float (*scores)[KV_PAGE])
{
	for (int c = 0; c < vectors; c++) {
		v16 s[TILE];
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) s[r] = v_zero();
		for (int d = 0; d < dk; d++) {
			v16 k = v_load(kp + d * KV_PAGE + c * 16);
#pragma GCC unroll 4
			for (int r = 0; r < n; r++) s[r] = v_fma(v_set(query[r]->q[d]), k, s[r]);
		}
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) v_store(scores[r] + c * 16, v_mul(s[r], v_set(scale)));
	}
}

/* One query takes in one page's scores: they become softmax weights, and what was gathered before fades. */
INLINE void page_weigh(struct query *q, float *s, int valid, int dv)
{
	int vectors = (valid + 15) / 16;
	v16 m = v_set(-INFINITY);
	for (int c = 0; c < vectors; c++) m = v_max(m, v_fill_tail(v_load(s + c * 16), valid - c * 16 < 16 ? valid - c * 16 : 16, -INFINITY));
	float page_max = v_hmax(m), max = q->max > page_max ? q->max : page_max;
	float fade = s_exp(q->max - max);
	v16 total = v_zero();
	for (int c = 0; c < vectors; c++) {
		v16 p = v_exp(v_sub(v_load(s + c * 16), v_set(max)));
		p = v_fill_tail(p, valid - c * 16 < 16 ? valid - c * 16 : 16, 0.0f);
		v_store(s + c * 16, p);
		total = v_add(total, p);
	}
	q->sum = __builtin_fmaf(q->sum, fade, v_hsum(total));
	q->max = max;
	for (int d = 0; d < dv; d += 16) v_store(q->acc + d, v_mul(v_load(q->acc + d), v_set(fade)));
}

/* acc[d, d+32) of n queries += Σ_j p_j v_j over keys [from, to) in order. */
INLINE void page_values(const int n, struct query *const *q, float (*p)[KV_PAGE], int from, int to, const float *vp, int dv)
{
	for (int d = 0; d < dv; d += 32) {
		const int n0 = dv - d < 16 ? dv - d : 16, n1 = dv - d < 32 ? dv - d - n0 : 16;
		v16 s0[TILE], s1[TILE];
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) s0[r] = v_load(q[r]->acc + d), s1[r] = v_load(q[r]->acc + d + 16);
		for (int j = from; j < to; j++) {
			const float *v = vp + (int64_t)j * dv + d;
			v16 v0 = v_load_n(v, n0), v1 = v_load_n(v + 16, n1);
#pragma GCC unroll 4
			for (int r = 0; r < n; r++) {
				v16 w = v_set(p[r][j]);
				s0[r] = v_fma(w, v0, s0[r]);
				s1[r] = v_fma(w, v1, s1[r]);
			}
		}
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) v_store(q[r]->acc + d, s0[r]), v_store(q[r]->acc + d + 16, s1[r]);
	}
}

/* n queries against one page: together up to the last key that all of them see, then one by one. */
INLINE void page_attend(const int n, struct query *const *q, const float *kp, const float *vp, int first, const struct attention_args *a)
{
	float scores[TILE][KV_PAGE];
	int valid[TILE], longest = 0, shortest = KV_PAGE;
	for (int r = 0; r < n; r++) {
		valid[r] = q[r]->pos - first + 1 < KV_PAGE ? q[r]->pos - first + 1 : KV_PAGE;
		longest = valid[r] > longest ? valid[r] : longest;
		shortest = valid[r] < shortest ? valid[r] : shortest;
	}
	page_scores(n, (const struct query *const *)q, kp, a->dk, (longest + 15) / 16, a->scale, scores);
	for (int r = 0; r < n; r++) page_weigh(q[r], scores[r], valid[r], a->dv);
	page_values(n, q, scores, 0, shortest, vp, a->dv);
	for (int r = 0; r < n; r++)
		if (valid[r] > shortest) page_values(1, q + r, scores + r, shortest, valid[r], vp, a->dv);
}

static void attend_page(struct query *const *q, int n, const float *kp, const float *vp, int first, const struct attention_args *a)
{
	switch (n) {
	case 1: page_attend(1, q, kp, vp, first, a); break;
	case 2: page_attend(2, q, kp, vp, first, a); break;
	case 3: page_attend(3, q, kp, vp, first, a); break;
	default: page_attend(4, q, kp, vp, first, a); break;
	}
}

static int visits(const struct attention_args *a, int64_t t, int kv_head, int block)
{
	if (a->row_pos[t] < block * KV_PAGE) return 0;
	return !a->blocks || block == a->row_pos[t] / KV_PAGE || a->blocks[(t * a->kv_heads + kv_head) * a->table_stride + block];
}

/* room: for one page in f32, where pages are not; else NULL. */
static void attend_tile(const struct attention_args *a, int64_t first, int rows, int h, float *room)
{
	int j = h / (a->heads / a->kv_heads);
	float acc[TILE][HEAD_MAX + 32];
	struct query query[TILE];
	int last_block = 0;
	for (int r = 0; r < rows; r++) {
		int64_t t = first + r;
		memset(acc[r], 0, (size_t)(a->dv + 32) * sizeof(float)); /* whole vectors, so that tails need no masks */
		query[r] = (struct query){(const float *)a->q.data + t * a->q.cols + (int64_t)h * a->dk, acc[r], -INFINITY, 0.0f, a->row_pos[t]};
		if (a->row_pos[t] / KV_PAGE > last_block) last_block = a->row_pos[t] / KV_PAGE;
	}
	for (int b = 0; b <= last_block; b++) {
		for (int r = 0; r < rows;) {
			if (!visits(a, first + r, j, b)) {
				r++;
				continue;
			}
			struct query *run[TILE];
			int n = 0;
			int64_t page = a->tables[(int64_t)a->row_seq[first + r] * a->table_stride + b];
			while (r < rows && visits(a, first + r, j, b) &&
			       a->tables[(int64_t)a->row_seq[first + r] * a->table_stride + b] == page)
				run[n++] = &query[r++];
			int64_t at = (page * a->kv_heads + j) * KV_PAGE;
			attend_page(run, n, page_widened(a->k_pages, a->pages, at * a->dk, KV_PAGE * a->dk, room),
				    page_widened(a->v_pages, a->pages, at * a->dv, KV_PAGE * a->dv, room ? room + KV_PAGE * a->dk : NULL), b * KV_PAGE, a);
		}
	}
	for (int r = 0; r < rows; r++) {
		float *out = (float *)a->out.data + (first + r) * a->out.cols + (int64_t)h * a->dv;
		v16 sum = v_set(query[r].sum);
		for (int d = 0; d < a->dv; d += 16) {
			int n = a->dv - d < 16 ? a->dv - d : 16;
			v_store_n(out + d, v_div(v_load_n(acc[r] + d, n), sum), n);
		}
		if (a->lse) a->lse[(first + r) * a->heads + h] = query[r].max + s_log(query[r].sum);
	}
}

struct attention_job {
	struct cpu_backend *b;
	const struct attention_args *a;
};

static void attend_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	const struct attention_job *job = ctx;
	const struct attention_args *a = job->a;
	float *room = a->pages == DTYPE_F32 ? NULL : cpu_scratch(job->b, thread, (size_t)(KV_PAGE * (a->dk + a->dv)) * sizeof *room);
	for (int64_t t = first; t < last; t += TILE)
		for (int h = 0; h < a->heads; h++) attend_tile(a, t, last - t < TILE ? (int)(last - t) : TILE, h, room);
}

void K(attention_forward)(struct backend *b, const struct attention_args *a)
{
	CHECK(a->dv <= HEAD_MAX && a->heads % a->kv_heads == 0, "attention: %d heads on %d, value size %d", a->heads, a->kv_heads, a->dv);
	struct attention_job job = {cpu_of(b), a};
	cpu_for(b, a->q.rows, 16, attend_range, &job);
}
