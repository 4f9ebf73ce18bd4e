/* The paged keys and values. Keys are stored transposed within a page, so that
 * neighbouring threads read neighbouring keys. */
#include "core/tensor/cuda/kernels/rows.h"

enum { THREADS = 256 };

struct kv_launch {
	struct kv_args a;
	int64_t rows; /* of k and v */
};

/* One element of a written row: the keys' first, then the values'. */
KERNEL(kv_store, struct kv_launch, THREADS)
{
	const struct kv_args *a = &arg.a;
	int64_t kc = (int64_t)a->kv_heads * a->dk, vc = (int64_t)a->kv_heads * a->dv, n = global_thread(), i = n / (kc + vc), c = n % (kc + vc);
	if (i >= a->writes) return;
	int64_t row = a->row[i], page = a->page[i], slot = a->slot[i];
	DEVICE_CHECK(row >= 0 && row < arg.rows && slot >= 0 && slot < KV_PAGE);
	int key = c < kc;
	if (!key) c -= kc;
	void *to = key ? a->k_pages : a->v_pages;
	float x = key ? ((const float *)a->k.data)[row * kc + c] : ((const float *)a->v.data)[row * vc + c];
	int64_t at = key ? (page * kc + c) * KV_PAGE + slot : ((page * a->kv_heads + c / a->dv) * KV_PAGE + slot) * a->dv + c % a->dv;
	if (a->pages == DTYPE_BF16) ((uint16_t *)to)[at] = (uint16_t)d_bf16_pair(x, 0);
	else ((float *)to)[at] = x;
}

KERNEL(kv_sum, struct kv_launch, ENTRY_THREADS)
{
	SHARED struct entries e;
	const struct kv_args *a = &arg.a;
	int64_t kc = (int64_t)a->kv_heads * a->dk, vc = (int64_t)a->kv_heads * a->dv, first = (int64_t)blockIdx.x * ENTRY_ROWS;
	for (int64_t at = 0; at < a->writes; at += ENTRY_THREADS) {
		int taken = entries_take(&e, a->row, at, a->writes, first, arg.rows);
		for (int n = 0; n < taken; n++) {
			int64_t i = e.index[n], row = a->row[i], page = a->page[i], slot = a->slot[i];
			float *k = (float *)a->k.data + row * kc, *v = (float *)a->v.data + row * vc;
			for (int64_t c = threadIdx.x; c < kc; c += ENTRY_THREADS) k[c] += ((const float *)a->k_pages)[(page * kc + c) * KV_PAGE + slot];
			for (int64_t c = threadIdx.x; c < vc; c += ENTRY_THREADS)
				v[c] += ((const float *)a->v_pages)[((page * a->kv_heads + c / a->dv) * KV_PAGE + slot) * a->dv + c % a->dv];
		}
		block_sync();
	}
}

CUDA_API void K(kv_write)(struct backend *b, const struct kv_args *a)
{
	struct kv_launch l = {*a, a->k.rows};
	LAUNCH(b, kv_store, cuda_blocks(a->writes * a->kv_heads * (a->dk + a->dv), THREADS), 1, 1, THREADS, l);
}

CUDA_API void K(kv_read_add)(struct backend *b, const struct kv_args *a)
{
	struct kv_launch l = {*a, a->k.rows};
	CHECK(a->pages == DTYPE_F32, "gradients of keys and values of type %d", (int)a->pages);
	if (a->writes > 0) LAUNCH(b, kv_sum, cuda_blocks(a->k.rows, ENTRY_ROWS), 1, 1, ENTRY_THREADS, l);
}
