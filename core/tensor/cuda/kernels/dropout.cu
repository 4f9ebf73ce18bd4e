/* Scaling and dropout of rows; the numbers are those of core/base/rng.h, word for
 * word, four columns a block of them and a thread. */
#include "core/tensor/cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "core/base/rng.h"
#ifdef __cplusplus
}
#endif

enum { THREADS = 256 };

struct dropout_launch {
	struct dropout_args a;
	float kept;
};

DEVICE void dropout_words(const struct dropout_args *a, uint64_t row, uint32_t block, uint32_t out[4])
{
	uint32_t x0 = block, x1 = a->stream, x2 = (uint32_t)row, x3 = (uint32_t)(row >> 32);
	uint32_t k0 = (uint32_t)a->seed, k1 = (uint32_t)(a->seed >> 32) ^ (RNG_DROPOUT * 0x9E3779B1u);
	for (int i = 0; i < 10; i++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
		uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
		x1 = (uint32_t)p1;
		x3 = (uint32_t)p0;
		x0 = y0;
		x2 = y2;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

KERNEL(dropout_rows, struct dropout_launch, THREADS)
{
	const struct dropout_args *a = &arg.a;
	int64_t cols = a->x.cols, blocks = (cols + 3) / 4, i = global_thread(), t = i / blocks, first = i % blocks * 4;
	uint32_t word[4] = {0, 0, 0, 0};
	if (t >= a->x.rows) return;
	if (a->rate > 0) dropout_words(a, (a->first + (uint64_t)a->seq[t]) << 20 | (uint32_t)a->pos[t], (uint32_t)(first / 4), word);
	for (int64_t c = first; c < first + 4 && c < cols; c++) {
		float *y = (float *)a->y.data + t * cols + c, v = ((const float *)a->x.data)[t * cols + c] * arg.kept;
		if (a->rate > 0 && (float)(word[c - first] >> 8) * 5.9604644775390625e-8f < a->rate) v = 0.0f;
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
