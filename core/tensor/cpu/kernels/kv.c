/* The paged keys and values. Keys are stored transposed within a page, so that
 * a query's scores against 64 keys advance in lanes. */
#include "core/tensor/bf16.h"
#include "core/tensor/cpu/kernels/kernels.h"

/* Heads are separate tasks: they share no memory, and one head's part of a page fits the first cache. */
struct kv_job {
	const struct kv_args *a;
};

static void kv_write_head(void *arg, int h, int thread)
{
	(void)thread;
	const struct kv_args *a = ((const struct kv_job *)arg)->a;
	const int dk = a->dk, dv = a->dv, heads = a->kv_heads;
	for (int64_t i = 0; i < a->writes; i++) {
		const float *k = (const float *)a->k.data + a->row[i] * a->k.cols + (int64_t)h * dk;
		const float *v = (const float *)a->v.data + a->row[i] * a->v.cols + (int64_t)h * dv;
		int64_t page = a->page[i], slot = a->slot[i], k_at = ((page * heads + h) * dk) * KV_PAGE + slot, v_at = ((page * heads + h) * KV_PAGE + slot) * dv;
		if (a->pages == DTYPE_BF16) {
			uint16_t *kp = (uint16_t *)a->k_pages + k_at, *vp = (uint16_t *)a->v_pages + v_at;
			for (int d = 0; d < dk; d++) kp[(int64_t)d * KV_PAGE] = bf16_round(k[d]);
			for (int d = 0; d < dv; d++) vp[d] = bf16_round(v[d]);
			continue;
		}
		float *kp = (float *)a->k_pages + k_at;
		for (int d = 0; d < dk; d++) kp[(int64_t)d * KV_PAGE] = k[d];
		memcpy((float *)a->v_pages + v_at, v, (size_t)dv * sizeof *v);
	}
}

void K(kv_write)(struct backend *b, const struct kv_args *a)
{
	struct kv_job job = {a};
	pool_run(cpu_of(b)->pool, a->kv_heads, kv_write_head, &job);
}

static void kv_read_add_head(void *arg, int h, int thread)
{
	(void)thread;
	const struct kv_args *a = ((const struct kv_job *)arg)->a;
	const int dk = a->dk, dv = a->dv, heads = a->kv_heads;
	for (int64_t i = 0; i < a->writes; i++) {
		float *k = (float *)a->k.data + a->row[i] * a->k.cols + (int64_t)h * dk;
		float *v = (float *)a->v.data + a->row[i] * a->v.cols + (int64_t)h * dv;
		int64_t page = a->page[i], slot = a->slot[i];
		const float *kp = (const float *)a->k_pages + ((page * heads + h) * dk) * KV_PAGE + slot;
		const float *vp = (const float *)a->v_pages + ((page * heads + h) * KV_PAGE + slot) * dv;
		for (int d = 0; d < dk; d++) k[d] += kp[(int64_t)d * KV_PAGE];
		for (int d = 0; d < dv; d++) v[d] += vp[d];
	}
}

void K(kv_read_add)(struct backend *b, const struct kv_args *a)
{
	CHECK(a->pages == DTYPE_F32, "gradients of keys and values of type %d", (int)a->pages);
	struct kv_job job = {a};
	pool_run(cpu_of(b)->pool, a->kv_heads, kv_read_add_head, &job);
}
