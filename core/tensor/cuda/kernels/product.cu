/* The f32 product: tiles in shared memory, outputs in registers.
 *
 * Each output has one accumulator and k is strictly in order, with fused
 * multiply-adds: its bits depend on its own row and column only, not on m, on
 * the tile or on the neighbours, and they are the CPU's. So the tile may follow
 * m: 128 x 128 for training, 16 x 64 for decoding, where many small blocks are
 * needed to draw on the whole memory bandwidth.
 *
 * With a stack of experts a block finds its expert from the offsets on the
 * device: the grid has room for a ragged tile of every expert, and blocks without
 * rows leave at once. Nothing is read back to the host. */
#include "core/tensor/cuda/kernels/product_tile.h"

enum { THREADS = 256, STEP = 16, PAD = 4, REGISTERS = 8 };

struct product_launch {
	struct product p;
};

/* to[kk][i] = A(row0 + i, k0 + kk); `width` rows. Neighbouring threads read neighbouring words. */
DEVICE void load_a(const struct product *p, const struct product_tile *t, int64_t k0, int width, float *to, int pitch)
{
	for (int n = (int)threadIdx.x; n < width * STEP; n += THREADS) {
		int i = p->a_turned ? n % width : n / STEP, kk = p->a_turned ? n / width : n % STEP;
		to[kk * pitch + i] = product_a(p, t, i, k0 + kk);
	}
}

/* to[kk][j] = B(k0 + kk, column0 + j). */
DEVICE void load_b(const struct product *p, const struct product_tile *t, const void *b, int64_t k0, int64_t column0, int width, float *to, int pitch)
{
	for (int n = (int)threadIdx.x; n < width * STEP; n += THREADS) {
		int j = p->b_turned ? n / STEP : n % width, kk = p->b_turned ? n % STEP : n / width;
		to[kk * pitch + j] = product_b(p, t, b, column0 + j, k0 + kk);
	}
}

/* One block's tile of `tm` x `tn`; a thread has rm x rn of it, its rows and columns 16 apart. A pair has a second B, behind
 * the first in shared memory. */
DEVICE void product_tile(const struct product *p, float *as, float *bs, const int tm, const int tn, const int pair)
{
	const int rm = tm / 16, rn = tn / 16, second = pair ? STEP * (tn + PAD) : 0;
	struct product_tile t;
	if (!product_find(p, tm, &t)) return;
	int ty = (int)threadIdx.x / 16, tx = (int)threadIdx.x % 16;
	int64_t column0 = (int64_t)blockIdx.y * tn;
	float acc[REGISTERS][REGISTERS], acc2[REGISTERS][REGISTERS];
	UNROLL
	for (int i = 0; i < rm; i++) {
		UNROLL
		for (int j = 0; j < rn; j++) {
			int64_t r = ty + 16 * i, k = column0 + tx + 16 * j;
			acc[i][j] = pair ? 0 : product_start(p, &t, r, k);
			acc2[i][j] = 0;
		}
	}
	for (int64_t k0 = t.k0; k0 < t.k1; k0 += STEP) {
		load_a(p, &t, k0, tm, as, tm + PAD);
		load_b(p, &t, p->b, k0, column0, tn, bs, tn + PAD);
		if (pair) load_b(p, &t, p->b2, k0, column0, tn, bs + second, tn + PAD);
		block_sync();
		int steps = t.k1 - k0 < STEP ? (int)(t.k1 - k0) : STEP;
		for (int kk = 0; kk < steps; kk++) {
			float x[REGISTERS], y[REGISTERS], y2[REGISTERS];
			UNROLL
			for (int i = 0; i < rm; i++) x[i] = as[kk * (tm + PAD) + ty + 16 * i];
			UNROLL
			for (int j = 0; j < rn; j++) {
				y[j] = bs[kk * (tn + PAD) + tx + 16 * j];
				y2[j] = bs[second + kk * (tn + PAD) + tx + 16 * j];
			}
			UNROLL
			for (int i = 0; i < rm; i++) {
				UNROLL
				for (int j = 0; j < rn; j++) {
					acc[i][j] = d_fma(x[i], y[j], acc[i][j]);
					if (pair) acc2[i][j] = d_fma(x[i], y2[j], acc2[i][j]);
				}
			}
		}
		block_sync();
	}
	UNROLL
	for (int i = 0; i < rm; i++) {
		UNROLL
		for (int j = 0; j < rn; j++) {
			int64_t r = ty + 16 * i, k = column0 + tx + 16 * j;
			if (pair) product_finish_pair(p, &t, r, k, acc[i][j], acc2[i][j]);
			else product_finish(p, &t, r, k, acc[i][j]);
		}
	}
}

KERNEL(product_wide, struct product_launch, THREADS)
{
	SHARED float as[STEP * (TILE_WIDE + PAD)], bs[STEP * (TILE_WIDE + PAD)];
	product_tile(&arg.p, as, bs, TILE_WIDE, TILE_WIDE, 0);
}

KERNEL(product_small, struct product_launch, THREADS)
{
	SHARED float as[STEP * (TILE_SMALL_M + PAD)], bs[STEP * (TILE_SMALL_N + PAD)];
	product_tile(&arg.p, as, bs, TILE_SMALL_M, TILE_SMALL_N, 0);
}

KERNEL(product_small_pair, struct product_launch, THREADS)
{
	SHARED float as[STEP * (TILE_SMALL_M + PAD)], bs[2 * STEP * (TILE_SMALL_N + PAD)];
	product_tile(&arg.p, as, bs, TILE_SMALL_M, TILE_SMALL_N, 1);
}

CUDA_API void K(product_run)(struct backend *b, const struct product *p)
{
	struct product_launch l = {*p};
	struct product_grid g = product_grid(p);
	if (cuda_of(b)->bf16) K(product_run_bf16)(b, p);
	else if (g.wide) LAUNCH(b, product_wide, g.x, g.y, g.z, THREADS, l);
	else LAUNCH(b, product_small, g.x, g.y, g.z, THREADS, l);
}

CUDA_API int K(product_pair)(struct backend *b, const struct product *p)
{
	struct product_launch l = {*p};
	struct product_grid g = product_grid(p);
	CHECK(!p->add && !p->bias && p->groups != PRODUCT_SUMS, "a pair of products that starts from something");
	if (g.wide) return 0;
	if (cuda_of(b)->bf16) K(product_pair_bf16)(b, p);
	else LAUNCH(b, product_small_pair, g.x, g.y, g.z, THREADS, l);
	return 1;
}
