/* Gradient of attention, page by page.
 *
 * A task is one key/value head of one set of rows (a group: rows that share
 * pages). Within it pages are visited in position order and, for a page, the
 * query rows in packed order: so dK and dV are chains over queries in order and
 * dQ is a chain over pages in order, whatever the threads. With P = exp(S − lse):
 *   dV_j += Σ p_j dO,  dS = p (dO·V − dO·O) scale,  dQ += Σ_j dS_j K_j,  dK_j += dS_j Q. */
#include "core/tensor/cpu/kernels/kernels.h"
#include "core/tensor/cpu/kernels/swiglu.h"

struct page_scratch {
	float *k;  /* [64, Dk]: the page's keys, row form */
	float *vt; /* [Dv, 64]: the page's values, transposed */
	float *dkt; /* dK of the page, [Dk, 64], in place */
	float *dv;  /* dV of the page, [64, Dv], in place */
};

static void page_load(struct page_scratch *s, const float *kp, const float *vp, int dk, int dv)
{
	for (int j = 0; j < KV_PAGE; j++) {
		for (int d = 0; d < dk; d++) s->k[j * dk + d] = kp[d * KV_PAGE + j];
		for (int d = 0; d < dv; d++) s->vt[d * KV_PAGE + j] = vp[j * dv + d];
	}
}

/* One query head of one row against one page. delta = dO·O. */
static void page_gradient(const struct attention_args *a, const struct page_scratch *s, const float *kp, int valid, int64_t t, int h, float delta)
{
	const int dk = a->dk, dv = a->dv, vectors = (valid + 15) / 16;
	const float *q = (const float *)a->q.data + t * a->q.cols + (int64_t)h * dk;
	const float *dout = (const float *)a->dout.data + t * a->dout.cols + (int64_t)h * dv;
	float *dq = (float *)a->dq.data + t * a->dq.cols + (int64_t)h * dk;
	v16 lse = v_set(a->lse[t * a->heads + h]), scale = v_set(a->scale);
	float p[KV_PAGE], ds[KV_PAGE];
	for (int c = 0; c < vectors; c++) {
		int n = valid - c * 16 < 16 ? valid - c * 16 : 16;
		v16 sc = v_zero(), dp = v_zero();
		for (int d = 0; d < dk; d++) sc = v_fma(v_set(q[d]), v_load(kp + d * KV_PAGE + c * 16), sc);
		for (int d = 0; d < dv; d++) dp = v_fma(v_set(dout[d]), v_load(s->vt + d * KV_PAGE + c * 16), dp);
		v16 w = v_fill_tail(v_exp(v_sub(v_mul(sc, scale), lse)), n, 0.0f);
		v_store(p + c * 16, w);
		v_store(ds + c * 16, v_fill_tail(v_mul(v_mul(w, v_sub(dp, v_set(delta))), scale), n, 0.0f));
	}
	for (int j = 0; j < valid; j++) {
		v16 pj = v_set(p[j]);
		for (int d = 0; d < dv; d += 16) {
			int n = dv - d < 16 ? dv - d : 16;
			float *to = s->dv + j * dv + d;
			v_store_n(to, v_fma(pj, v_load_n(dout + d, n), v_load_n(to, n)), n);
		}
	}
	for (int d = 0; d < dk; d += 16) {
		int n = dk - d < 16 ? dk - d : 16;
		v16 acc = v_load_n(dq + d, n);
		for (int j = 0; j < valid; j++) acc = v_fma(v_set(ds[j]), v_load_n(s->k + j * dk + d, n), acc);
		v_store_n(dq + d, acc, n);
	}
	for (int d = 0; d < dk; d++) {
		v16 qd = v_set(q[d]);
		for (int c = 0; c < vectors; c++) {
			float *to = s->dkt + d * KV_PAGE + c * 16;
			v_store(to, v_fma(qd, v_load(ds + c * 16), v_load(to)));
		}
	}
}

struct backward_job {
	struct cpu_backend *b;
	const struct attention_args *a;
};

/* Rows [first, last) of one set, one key/value head: every distinct page in order of (first row that has it, block). */
static void set_gradient(const struct attention_args *a, int64_t first, int64_t last, int j, struct page_scratch *s)
{
	const int per = a->heads / a->kv_heads;
	for (int64_t r = first; r < last; r++) {
		const int32_t *table = a->tables + (int64_t)a->row_seq[r] * a->table_stride;
		for (int b = 0; b <= a->row_pos[r] / KV_PAGE; b++) {
			/* a page is handled when its first row comes: the row before it in this set that sees it is none */
			int seen = 0;
			for (int64_t e = r - 1; e >= first && !seen; e--)
				seen = a->row_pos[e] >= b * KV_PAGE && a->tables[(int64_t)a->row_seq[e] * a->table_stride + b] == table[b];
			if (seen) continue;
			int64_t page = table[b];
			const float *kp = a->k_pages + (page * a->kv_heads + j) * a->dk * KV_PAGE;
			page_load(s, kp, a->v_pages + (page * a->kv_heads + j) * KV_PAGE * a->dv, a->dk, a->dv);
			s->dkt = a->dk_pages + (page * a->kv_heads + j) * a->dk * KV_PAGE;
			s->dv = a->dv_pages + (page * a->kv_heads + j) * KV_PAGE * a->dv;
			for (int64_t t = r; t < last; t++) {
				int valid = a->row_pos[t] - b * KV_PAGE + 1;
				if (valid < 1 || a->tables[(int64_t)a->row_seq[t] * a->table_stride + b] != page) continue;
				if (a->blocks && valid > KV_PAGE && !a->blocks[(t * a->kv_heads + j) * a->table_stride + b]) continue;
				for (int h = j * per; h < (j + 1) * per; h++) {
					const float *o = (const float *)a->out.data + t * a->out.cols + (int64_t)h * a->dv;
					const float *d = (const float *)a->dout.data + t * a->dout.cols + (int64_t)h * a->dv;
					page_gradient(a, s, kp, valid < KV_PAGE ? valid : KV_PAGE, t, h, dot_row(d, o, a->dv));
				}
			}
		}
	}
}

static void backward_task(void *arg, int task, int thread)
{
	const struct backward_job *job = arg;
	const struct attention_args *a = job->a;
	float *mem = cpu_scratch(job->b, thread, (size_t)KV_PAGE * (size_t)(a->dk + a->dv) * sizeof(float));
	struct page_scratch s = {.k = mem, .vt = mem + KV_PAGE * a->dk};
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
