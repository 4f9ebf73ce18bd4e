/* Gradient of attention, page by page.
 *
 * A task is one key/value head of one set of rows (a group: rows that share
 * pages). Within it pages are visited in position order and, for a page, the
 * query rows in packed order: so dK and dV are chains over queries in order and
 * dQ is a chain over pages in order, whatever the threads. Four queries at a time
 * share what is loaded; a query that sees fewer keys than another adds zeros. With P = exp(S − lse):
 *   dV_j += Σ p_j dO,  dS = p (dO·V − dO·O) scale,  dQ += Σ_j dS_j K_j,  dK_j += dS_j Q. */
#include "core/tensor/cpu/kernels/kernels.h"
#include "core/tensor/cpu/kernels/pages.h"
#include "core/tensor/cpu/kernels/swiglu.h"

struct page_scratch {
	float *k;  /* [64, Dk]: the page's keys, row form */
	float *vt; /* [Dv, 64]: the page's values, transposed */
	float *dkt; /* dK of the page, [Dk, 64], in place */
	float *dv;  /* dV of the page, [64, Dv], in place */
	float *room; /* for a page in f32, where pages are not; else NULL */
};

/* The first `keys` positions of a page; the rest up to whole vectors become 0 in the transposed values. */
static void page_load(struct page_scratch *s, const float *kp, const float *vp, int keys, int dk, int dv)
{
	int whole = (keys + 15) / 16 * 16;
	for (int d = 0; d < dk; d++)
		for (int j = 0; j < keys; j++) s->k[j * dk + d] = kp[d * KV_PAGE + j];
	for (int d = 0; d < dv; d++) {
		for (int j = 0; j < keys; j++) s->vt[d * KV_PAGE + j] = vp[j * dv + d];
		for (int j = keys; j < whole; j++) s->vt[d * KV_PAGE + j] = 0;
	}
}

enum { TILE = 4 };

/* One query head of one row; delta = dO·O. */
struct back_query {
	const float *q, *dout;
	float *dq;
	float lse, delta;
	int valid;
};

/* p and dS of one query against the page, `vectors` of 16 keys; 0 beyond the query's position. */
INLINE void page_slopes(const int vectors, const struct back_query *q, const struct page_scratch *s, const float *kp, const struct attention_args *a, float *p,
			float *ds)
{
	v16 sc[4], dp[4], lse = v_set(q->lse), scale = v_set(a->scale), delta = v_set(q->delta);
#pragma GCC unroll 4
	for (int c = 0; c < vectors; c++) sc[c] = dp[c] = v_zero();
	for (int d = 0; d < a->dk; d++) {
		v16 x = v_set(q->q[d]);
#pragma GCC unroll 4
		for (int c = 0; c < vectors; c++) sc[c] = v_fma(x, v_load(kp + d * KV_PAGE + c * 16), sc[c]);
	}
	for (int d = 0; d < a->dv; d++) {
		v16 x = v_set(q->dout[d]);
#pragma GCC unroll 4
		for (int c = 0; c < vectors; c++) dp[c] = v_fma(x, v_load(s->vt + d * KV_PAGE + c * 16), dp[c]);
	}
#pragma GCC unroll 4
	for (int c = 0; c < vectors; c++) {
		int n = q->valid - c * 16 < 0 ? 0 : q->valid - c * 16 < 16 ? q->valid - c * 16 : 16;
		v16 w = v_fill_tail(v_exp(v_sub(v_mul(sc[c], scale), lse)), n, 0.0f);
		v_store(p + c * 16, w);
		v_store(ds + c * 16, v_fill_tail(v_mul(v_mul(w, v_sub(dp[c], delta)), scale), n, 0.0f));
	}
}

/* to[j, 0..cols) += Σ_r w_r[j] x_r over n queries in order, j < keys. */
INLINE void page_spread(const int n, float *to, int keys, int cols, float (*w)[KV_PAGE], const float *const *x)
{
	for (int d = 0; d < cols; d += 16) {
		int m = cols - d < 16 ? cols - d : 16;
		v16 row[TILE];
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) row[r] = v_load_n(x[r] + d, m);
		for (int j = 0; j < keys; j++) {
			v16 acc = v_load_n(to + j * cols + d, m);
#pragma GCC unroll 4
			for (int r = 0; r < n; r++) acc = v_fma(v_set(w[r][j]), row[r], acc);
			v_store_n(to + j * cols + d, acc, m);
		}
	}
}

/* dQ += dS K of n queries, keys in order. */
INLINE void page_query(const int n, const struct back_query *q, int keys, int dk, float (*ds)[KV_PAGE], const float *k)
{
	for (int d = 0; d < dk; d += 16) {
		int m = dk - d < 16 ? dk - d : 16;
		v16 acc[TILE];
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) acc[r] = v_load_n(q[r].dq + d, m);
		for (int j = 0; j < keys; j++) {
			v16 row = v_load_n(k + j * dk + d, m);
#pragma GCC unroll 4
			for (int r = 0; r < n; r++) acc[r] = v_fma(v_set(ds[r][j]), row, acc[r]);
		}
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) v_store_n(q[r].dq + d, acc[r], m);
	}
}

/* dKᵀ[d, 0..64) += Σ_r q_r[d] dS_r over n queries in order. */
INLINE void page_keys(const int n, const struct back_query *q, int vectors, int dk, float (*ds)[KV_PAGE], float *dkt)
{
	for (int c = 0; c < vectors; c++) {
		v16 row[TILE];
#pragma GCC unroll 4
		for (int r = 0; r < n; r++) row[r] = v_load(ds[r] + c * 16);
		for (int d = 0; d < dk; d++) {
			v16 acc = v_load(dkt + d * KV_PAGE + c * 16);
#pragma GCC unroll 4
			for (int r = 0; r < n; r++) acc = v_fma(v_set(q[r].q[d]), row[r], acc);
			v_store(dkt + d * KV_PAGE + c * 16, acc);
		}
	}
}

/* n queries in order against one page. */
INLINE void page_gradient_tile(const int n, const struct back_query *q, const struct page_scratch *s, const float *kp, const struct attention_args *a)
{
	float p[TILE][KV_PAGE], ds[TILE][KV_PAGE];
	const float *dout[TILE];
	int keys = 0;
	for (int r = 0; r < n; r++) {
		dout[r] = q[r].dout;
		keys = q[r].valid > keys ? q[r].valid : keys;
	}
	int vectors = (keys + 15) / 16;
	for (int r = 0; r < n; r++) switch (vectors) {
		case 1: page_slopes(1, q + r, s, kp, a, p[r], ds[r]); break;
		case 2: page_slopes(2, q + r, s, kp, a, p[r], ds[r]); break;
		case 3: page_slopes(3, q + r, s, kp, a, p[r], ds[r]); break;
		default: page_slopes(4, q + r, s, kp, a, p[r], ds[r]); break;
		}
	page_spread(n, s->dv, keys, a->dv, p, dout);
	page_query(n, q, keys, a->dk, ds, s->k);
	page_keys(n, q, vectors, a->dk, ds, s->dkt);
}

static void page_gradient(int n, const struct back_query *q, const struct page_scratch *s, const float *kp, const struct attention_args *a)
{
	switch (n) {
	case 1: page_gradient_tile(1, q, s, kp, a); break;
	case 2: page_gradient_tile(2, q, s, kp, a); break;
	case 3: page_gradient_tile(3, q, s, kp, a); break;
	default: page_gradient_tile(4, q, s, kp, a); break;
	}
}

static int backward_sees(const struct attention_args *a, int64_t t, int j, int b, int64_t page)
{
	int valid = a->row_pos[t] - b * KV_PAGE + 1;
	if (valid < 1 || a->tables[(int64_t)a->row_seq[t] * a->table_stride + b] != page) return 0;
	return !a->blocks || valid <= KV_PAGE || a->blocks[(t * a->kv_heads + j) * a->table_stride + b];
}

/* Block b, whose page row `first` is the first to see: all of the set's rows that see it, four queries at a time. */
static void page_rows(const struct attention_args *a, int64_t first, int64_t last, int j, int b, struct page_scratch *s)
{
	const int per = a->heads / a->kv_heads;
	int64_t page = a->tables[(int64_t)a->row_seq[first] * a->table_stride + b];
	int64_t at = (page * a->kv_heads + j) * KV_PAGE;
	const float *kp = page_widened(a->k_pages, a->pages, at * a->dk, KV_PAGE * a->dk, s->room);
	const float *vp = page_widened(a->v_pages, a->pages, at * a->dv, KV_PAGE * a->dv, s->room ? s->room + KV_PAGE * a->dk : NULL);
	struct back_query q[TILE];
	int n = 0, keys = 0;
	for (int64_t t = first; t < last && keys < KV_PAGE; t++)
		if (backward_sees(a, t, j, b, page) && a->row_pos[t] - b * KV_PAGE + 1 > keys) keys = a->row_pos[t] - b * KV_PAGE + 1;
	page_load(s, kp, vp, keys < KV_PAGE ? keys : KV_PAGE, a->dk, a->dv);
	s->dkt = a->dk_pages + at * a->dk;
	s->dv = a->dv_pages + at * a->dv;
	for (int64_t t = first; t < last; t++) {
		if (!backward_sees(a, t, j, b, page)) continue;
		int valid = a->row_pos[t] - b * KV_PAGE + 1;
		for (int h = j * per; h < (j + 1) * per; h++) {
			const float *o = (const float *)a->out.data + t * a->out.cols + (int64_t)h * a->dv;
			const float *d = (const float *)a->dout.data + t * a->dout.cols + (int64_t)h * a->dv;
			q[n++] = (struct back_query){(const float *)a->q.data + t * a->q.cols + (int64_t)h * a->dk, d,
						     (float *)a->dq.data + t * a->dq.cols + (int64_t)h * a->dk, a->lse[t * a->heads + h],
						     dot_row(d, o, a->dv), valid < KV_PAGE ? valid : KV_PAGE};
			if (n == TILE) page_gradient(n, q, s, kp, a), n = 0;
		}
	}
	if (n) page_gradient(n, q, s, kp, a);
}

struct backward_job {
	struct cpu_backend *b;
	const struct attention_args *a;
};

/* Rows [first, last) of one set, one key/value head: every distinct page in order of (first row that has it, block). */
static void set_gradient(const struct attention_args *a, int64_t first, int64_t last, int j, struct page_scratch *s)
{
	for (int64_t r = first; r < last; r++) {
		const int32_t *table = a->tables + (int64_t)a->row_seq[r] * a->table_stride;
		for (int b = 0; b <= a->row_pos[r] / KV_PAGE; b++) {
			/* a page is handled when its first row comes: no row before it in this set sees it */
			int seen = 0;
			for (int64_t e = r - 1; e >= first && !seen; e--)
				seen = a->row_pos[e] >= b * KV_PAGE && a->tables[(int64_t)a->row_seq[e] * a->table_stride + b] == table[b];
			if (!seen) page_rows(a, r, last, j, b, s);
		}
	}
}

static void backward_task(void *arg, int task, int thread)
{
	const struct backward_job *job = arg;
	const struct attention_args *a = job->a;
	size_t page = (size_t)KV_PAGE * (size_t)(a->dk + a->dv);
	float *mem = cpu_scratch(job->b, thread, (a->pages == DTYPE_F32 ? page : 2 * page) * sizeof(float));
	struct page_scratch s = {.k = mem, .vt = mem + KV_PAGE * a->dk, .room = a->pages == DTYPE_F32 ? NULL : mem + page};
	int64_t set = task / a->kv_heads;
	set_gradient(a, a->set_rows[set], a->set_rows[set + 1], task % a->kv_heads, &s);
}

void K(attention_backward)(struct backend *b, const struct attention_args *a)
{
	CHECK(a->sets > 0 && a->set_rows[a->sets] == a->q.rows, "attention backward: %lld sets must cover %lld rows", (long long)a->sets,
	      (long long)a->q.rows);
	struct backward_job job = {cpu_of(b), a};
	pool_run(cpu_of(b)->pool, (int)(a->sets * a->kv_heads), backward_task, &job);
}
