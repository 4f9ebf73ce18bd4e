/* The bf16 product on tensor cores: inputs are rounded once, to nearest even, as
 * they are loaded; products are exact and sums are f32.
 *
 * An output is one chain of m16n8k16 instructions over k in steps of 16 from the
 * matrix's start, beginning with what it starts from; how the instruction adds its
 * sixteen products is the device's matter, the same wherever the output lies in
 * the tile. So here too a row's bits do not depend on the number of rows. The sums
 * over tokens (weight gradients) are in steps of 16 tokens from the start of the
 * call: they depend on how rows are divided into calls, unlike in f32.
 *
 * While a tile is multiplied the next one is on its way into registers. Words in
 * shared memory are pairs along k; rows are 20 words apart, so that a warp's
 * fragment comes without bank conflicts. */
#include "core/tensor/cuda/kernels/product_tile.h"

enum { THREADS = 256, STEP = 32, WORDS = STEP / 2, PITCH = WORDS + 4, TILES = 4, PAIRS = 8 };

struct bf16_launch {
	struct product p;
};

/* A tile's shape (constants of the two kernels) and this thread's place in it. */
struct bf16_place {
	int row, column;  /* of the warp's part */
	int group, third; /* of the fragment layouts: lane / 4, lane % 4 */
};

/* `width` rows of pairs from k0 on into registers; b NULL: of A. */
DEVICE void fetch(const struct product *p, const struct product_tile *t, int64_t column0, const void *b, const int width, int64_t k0, float *x)
{
	int turned = b ? !p->b_turned : p->a_turned; /* neighbouring threads read along the rows in memory */
	UNROLL
	for (int s = 0; s < width * WORDS / THREADS; s++) {
		int n = (int)threadIdx.x + s * THREADS, i = turned ? n % width : n / WORDS, w = turned ? n / width : n % WORDS;
		int64_t k = k0 + 2 * w;
		if (b) {
			product_b_pair(p, t, b, column0 + i, k, x + 2 * s);
			continue;
		}
		x[2 * s] = product_a(p, t, i, k);
		x[2 * s + 1] = product_a(p, t, i, k + 1);
	}
}

/* The same pairs, rounded, into shared memory [width][PITCH]. */
DEVICE void store(int turned, const int width, const float *x, uint32_t *to)
{
	UNROLL
	for (int s = 0; s < width * WORDS / THREADS; s++) {
		int n = (int)threadIdx.x + s * THREADS, i = turned ? n % width : n / WORDS, w = turned ? n / width : n % WORDS;
		to[i * PITCH + w] = d_bf16_pair(x[2 * s], x[2 * s + 1]);
	}
}

/* acc += A·B of the tile in shared memory. */
DEVICE void multiply(const uint32_t *as, const uint32_t *bs, struct bf16_place at, const int mt, const int nt, float acc[TILES][TILES][4])
{
	UNROLL
	for (int kk = 0; kk < WORDS; kk += 8) {
		uint32_t b[TILES][2];
		UNROLL
		for (int j = 0; j < nt; j++) {
			const uint32_t *from = bs + (at.column + 8 * j + at.group) * PITCH + kk + at.third;
			b[j][0] = from[0];
			b[j][1] = from[4];
		}
		UNROLL
		for (int i = 0; i < mt; i++) {
			const uint32_t *from = as + (at.row + 16 * i + at.group) * PITCH + kk + at.third;
			uint32_t a[4] = {from[0], from[8 * PITCH], from[4], from[8 * PITCH + 4]};
			UNROLL
			for (int j = 0; j < nt; j++) mma_bf16(acc[i][j], a, b[j]);
		}
	}
}

/* One block's tile of tm x tn by wm x wn warps; a pair has a second B, behind the first in shared memory. */
DEVICE void bf16_tile(const struct product *p, uint32_t *as, uint32_t *bs, const int tm, const int tn, const int wm, const int wn, const int pair)
{
	const int mt = tm / wm / 16, nt = tn / wn / 8;
	struct product_tile t;
	if (!product_find(p, tm, &t)) return;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	struct bf16_place at = {warp / wn * (tm / wm), warp % wn * (tn / wn), lane / 4, lane % 4};
	int64_t column0 = (int64_t)blockIdx.y * tn, first = column0 + at.column + 2 * at.third;
	float acc[TILES][TILES][4], acc2[TILES][TILES][4], xa[2 * PAIRS], xb[2 * PAIRS], xb2[2 * PAIRS];
	UNROLL
	for (int i = 0; i < mt; i++) {
		UNROLL
		for (int j = 0; j < nt; j++) {
			UNROLL
			for (int e = 0; e < 4; e++) {
				acc[i][j][e] = pair ? 0 : product_start(p, &t, at.row + 16 * i + at.group + e / 2 * 8, first + 8 * j + e % 2);
				acc2[i][j][e] = 0;
			}
		}
	}
	fetch(p, &t, column0, NULL, tm, t.k0, xa);
	fetch(p, &t, column0, p->b, tn, t.k0, xb);
	if (pair) fetch(p, &t, column0, p->b2, tn, t.k0, xb2);
	for (int64_t k0 = t.k0; k0 < t.k1; k0 += STEP) {
		store(p->a_turned, tm, xa, as);
		store(!p->b_turned, tn, xb, bs);
		if (pair) store(!p->b_turned, tn, xb2, bs + tn * PITCH);
		block_sync();
		if (k0 + STEP < t.k1) {
			fetch(p, &t, column0, NULL, tm, k0 + STEP, xa);
			fetch(p, &t, column0, p->b, tn, k0 + STEP, xb);
			if (pair) fetch(p, &t, column0, p->b2, tn, k0 + STEP, xb2);
		}
		multiply(as, bs, at, mt, nt, acc);
		if (pair) multiply(as, bs + tn * PITCH, at, mt, nt, acc2);
		block_sync();
	}
	UNROLL
	for (int i = 0; i < mt; i++) {
		UNROLL
		for (int j = 0; j < nt; j++) {
			UNROLL
			for (int e = 0; e < 4; e++) {
				int64_t r = at.row + 16 * i + at.group + e / 2 * 8, c = first + 8 * j + e % 2;
				if (pair) product_finish_pair(p, &t, r, c, acc[i][j][e], acc2[i][j][e]);
				else product_finish(p, &t, r, c, acc[i][j][e]);
			}
		}
	}
}

KERNEL(bf16_wide, struct bf16_launch, THREADS)
{
	SHARED uint32_t as[TILE_WIDE * PITCH], bs[TILE_WIDE * PITCH];
	bf16_tile(&arg.p, as, bs, TILE_WIDE, TILE_WIDE, 2, 4, 0);
}

KERNEL(bf16_small, struct bf16_launch, THREADS)
{
	SHARED uint32_t as[TILE_SMALL_M * PITCH], bs[TILE_SMALL_N * PITCH];
	bf16_tile(&arg.p, as, bs, TILE_SMALL_M, TILE_SMALL_N, 1, 8, 0);
}

KERNEL(bf16_small_pair, struct bf16_launch, THREADS)
{
	SHARED uint32_t as[TILE_SMALL_M * PITCH], bs[2 * TILE_SMALL_N * PITCH];
	bf16_tile(&arg.p, as, bs, TILE_SMALL_M, TILE_SMALL_N, 1, 8, 1);
}

CUDA_API void K(product_run_bf16)(struct backend *b, const struct product *p)
{
	struct bf16_launch l = {*p};
	struct product_grid g = product_grid(p);
	if (g.wide) LAUNCH(b, bf16_wide, g.x, g.y, g.z, THREADS, l);
	else LAUNCH(b, bf16_small, g.x, g.y, g.z, THREADS, l);
}

CUDA_API void K(product_pair_bf16)(struct backend *b, const struct product *p)
{
	struct bf16_launch l = {*p};
	struct product_grid g = product_grid(p);
	LAUNCH(b, bf16_small_pair, g.x, g.y, g.z, THREADS, l);
}
