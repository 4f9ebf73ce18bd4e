/* Scaling and dropout of rows; a thread has four columns, which are one block of
 * random numbers. */
#include "core/tensor/cuda/kernels/random.h"

enum { THREADS = 256 };

struct dropout_launch {
	struct dropout_args a;
	float kept;
};

KERNEL(dropout_rows, struct dropout_launch, THREADS)
{
	const struct dropout_args *a = &arg.a;
	int64_t cols = a->x.cols, blocks = (cols + 3) / 4, i = global_thread(), t = i / blocks, first = i % blocks * 4;
	uint32_t word[4] = {0, 0, 0, 0};
	if (t >= a->x.rows) return;
	if (a->rate > 0) d_rng_block(a->seed, RNG_DROPOUT, a->stream, (a->first + (uint64_t)a->seq[t]) << 20 | (uint32_t)a->pos[t], (uint32_t)(first / 4), word);
	for (int64_t c = first; c < first + 4 && c < cols; c++) {
		float *y = (float *)a->y.data + t * cols + c, v = ((const float *)a->x.data)[t * cols + c] * arg.kept;
		if (a->rate > 0 && d_rng_uniform(word[c - first]) < a->rate) v = 0.0f;
		*y = a->add ? *y + v : v;
	}
}

CUDA_API void K(dropout)(struct backend *b, const struct dropout_args *a)
{
	CHECK(a->x.rows == a->y.rows && a->x.cols == a->y.cols && a->rate >= 0 && a->rate < 1, "dropout: x [%lld,%lld], y [%lld,%lld], rate %g",
	      (long long)a->x.rows, (long long)a->x.cols, (long long)a->y.rows, (long long)a->y.cols, (double)a->rate);
	struct dropout_launch l = {*a, a->rate > 0 ? a->scale / (1.0f - a->rate) : a->scale};
	LAUNCH(b, dropout_rows, cuda_blocks(a->x.rows * ((a->x.cols + 3) / 4), THREADS), 1, 1, THREADS, l);
}
