/* Scaling and dropout of rows. The mask is not stored: an element's number is drawn
 * by what it is (its sequence, position and column), four columns a block. */
#include "core/base/rng.h"
#include "core/tensor/cpu/kernels/kernels.h"

static void scale_rows(const struct dropout_args *a, int64_t first, int64_t last)
{
	const float *x = a->x.data;
	float *y = a->y.data;
	for (int64_t i = first * a->x.cols; i < last * a->x.cols; i++) y[i] = a->add ? y[i] + x[i] * a->scale : x[i] * a->scale;
}

static void dropout_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct dropout_args *a = ctx;
	struct rng_key key = {a->seed, RNG_DROPOUT};
	const float kept = a->scale / (1.0f - a->rate);
	uint32_t word[4] = {0};
	if (a->rate == 0.0f) {
		scale_rows(a, first, last);
		return;
	}
	for (int64_t t = first; t < last; t++) {
		uint64_t row = (a->first + (uint64_t)a->seq[t]) << 20 | (uint32_t)a->pos[t];
		const float *x = (const float *)a->x.data + t * a->x.cols;
		float *y = (float *)a->y.data + t * a->x.cols;
		for (int64_t c = 0; c < a->x.cols; c++) {
			if (c % 4 == 0) rng_block(key, a->stream, row, (uint32_t)(c / 4), word);
			float v = (float)(word[c % 4] >> 8) * 0x1p-24f < a->rate ? 0.0f : x[c] * kept;
			y[c] = a->add ? y[c] + v : v;
		}
	}
}

void K(dropout)(struct backend *b, const struct dropout_args *a)
{
	CHECK(a->x.rows == a->y.rows && a->x.cols == a->y.cols && a->rate >= 0 && a->rate < 1, "dropout: x [%lld,%lld], y [%lld,%lld], rate %g",
	      (long long)a->x.rows, (long long)a->x.cols, (long long)a->y.rows, (long long)a->y.cols, (double)a->rate);
	cpu_for(b, a->x.rows, 64, dropout_rows, a);
}
