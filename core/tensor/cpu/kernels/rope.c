/* Rotary position embedding (Su et al., 2104.09864), half-rotated (Hugging Face)
 * or interleaved pairs, over all or a part of each head. The gradient is the
 * inverse rotation. */
#include "core/tensor/cpu/kernels/kernels.h"

static void rope_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct rope_args *a = ctx;
	int half = a->dims / 2, step = a->interleaved ? 2 : 1, apart = a->interleaved ? 1 : half;
	for (int64_t t = first; t < last; t++) {
		const float *cs = a->cos + (int64_t)a->pos[t] * half, *sn = a->sin + (int64_t)a->pos[t] * half;
		for (int h = 0; h < a->heads; h++) {
			float *x = (float *)a->x.data + t * a->x.cols + (int64_t)h * a->head_dim + a->first;
			for (int i = 0; i < half; i++) {
				float p = x[i * step], q = x[i * step + apart], s = a->inverse ? -sn[i] : sn[i];
				x[i * step] = p * cs[i] - q * s;
				x[i * step + apart] = q * cs[i] + p * s;
			}
		}
	}
}

void K(rope)(struct backend *b, const struct rope_args *a)
{
	CHECK(a->x.cols == (int64_t)a->heads * a->head_dim && a->first + a->dims <= a->head_dim && a->dims % 2 == 0, "rope: %d heads of %d, %d of them from %d",
	      a->heads, a->head_dim, a->dims, a->first);
	cpu_for(b, a->x.rows, 1 + 8192 / (a->x.cols + 1), rope_rows, a);
}
