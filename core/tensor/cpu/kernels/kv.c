/* The paged keys and values. Keys are stored transposed within a page, so that
 * a query's scores against 64 keys advance in lanes. */
#include "core/tensor/cpu/kernels/kernels.h"

void K(kv_write)(struct backend *b, const struct kv_args *a)
{
	(void)b;
	const int dk = a->dk, dv = a->dv, heads = a->kv_heads;
	for (int64_t i = 0; i < a->writes; i++) {
		const float *k = (const float *)a->k.data + a->row[i] * a->k.cols, *v = (const float *)a->v.data + a->row[i] * a->v.cols;
		int64_t page = a->page[i], slot = a->slot[i];
		for (int h = 0; h < heads; h++) {
			float *kp = a->k_pages + ((page * heads + h) * dk) * KV_PAGE + slot;
			for (int d = 0; d < dk; d++) kp[(int64_t)d * KV_PAGE] = k[h * dk + d];
			memcpy(a->v_pages + ((page * heads + h) * KV_PAGE + slot) * dv, v + (int64_t)h * dv, (size_t)dv * sizeof *v);
		}
	}
}

void K(kv_read_add)(struct backend *b, const struct kv_args *a)
{
	(void)b;
	const int dk = a->dk, dv = a->dv, heads = a->kv_heads;
	for (int64_t i = 0; i < a->writes; i++) {
		float *k = (float *)a->k.data + a->row[i] * a->k.cols, *v = (float *)a->v.data + a->row[i] * a->v.cols;
		int64_t page = a->page[i], slot = a->slot[i];
		for (int h = 0; h < heads; h++) {
			const float *kp = a->k_pages + ((page * heads + h) * dk) * KV_PAGE + slot;
			const float *vp = a->v_pages + ((page * heads + h) * KV_PAGE + slot) * dv;
			for (int d = 0; d < dk; d++) k[h * dk + d] += kp[(int64_t)d * KV_PAGE];
			for (int d = 0; d < dv; d++) v[h * dv + d] += vp[d];
		}
	}
}

void K(kv_copy)(struct backend *b, const struct kv_args *a, int32_t from, int32_t to)
{
	(void)b;
	size_t k = (size_t)a->kv_heads * a->dk * KV_PAGE, v = (size_t)a->kv_heads * a->dv * KV_PAGE;
	memcpy(a->k_pages + (size_t)to * k, a->k_pages + (size_t)from * k, k * sizeof(float));
	memcpy(a->v_pages + (size_t)to * v, a->v_pages + (size_t)from * v, v * sizeof(float));
}
