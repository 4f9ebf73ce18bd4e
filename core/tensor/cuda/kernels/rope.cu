/* Rotary position embedding (Su et al., 2104.09864), half-rotated (Hugging Face)
 * or interleaved pairs, over all or a part of each head. A thread turns one pair. */
#include "core/tensor/cuda/kernels/kernels.h"

enum { THREADS = 256 };

struct rope_launch {
	struct rope_args a;
};

KERNEL(rope_pairs, struct rope_launch, THREADS)
{
	const struct rope_args *a = &arg.a;
	int half = a->dims / 2, step = a->interleaved ? 2 : 1, apart = a->interleaved ? 1 : half;
	int64_t n = global_thread(), per_row = (int64_t)a->heads * half;
	if (n >= a->x.rows * per_row) return;
	int64_t t = n / per_row, h = n % per_row / half, i = n % half;
	float *x = (float *)a->x.data + t * a->x.cols + h * a->head_dim + a->first;
	float c = a->cos[(int64_t)a->pos[t] * half + i], s = a->sin[(int64_t)a->pos[t] * half + i];
	float p = x[i * step], q = x[i * step + apart];
	if (a->inverse) s = -s;
	x[i * step] = p * c - q * s;
	x[i * step + apart] = q * c + p * s;
}

CUDA_API void K(rope)(struct backend *b, const struct rope_args *a)
{
	CHECK(a->x.cols == (int64_t)a->heads * a->head_dim && a->first + a->dims <= a->head_dim && a->dims % 2 == 0, "rope: %d heads of %d, %d of them from %d",
	      a->heads, a->head_dim, a->dims, a->first);
	struct rope_launch l = {*a};
	LAUNCH(b, rope_pairs, cuda_blocks(a->x.rows * a->heads * (a->dims / 2), THREADS), 1, 1, THREADS, l);
}
