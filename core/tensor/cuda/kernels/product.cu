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
#include "core/tensor/cuda/kernels/product.h"

enum { THREADS = 256, STEP = 16, WIDE = 128, SMALL_M = 16, SMALL_N = 64, PAD = 4, REGISTERS = 8 };

struct product_launch {
	struct product p;
};

/* What one block works on. */
struct product_tile {
	int64_t row0, rows; /* of A and C: first row of the tile, rows of the matrix from there */
	int64_t k0, k1;     /* reduction */
	int64_t expert;
};

/* The block's place in a stack whose rows lie between offsets; 0: it has none. */
DEVICE int tile_of_rows(const struct product *p, int64_t block, int tile, struct product_tile *t)
{
	for (int e = 0; e < p->experts; e++) {
		int64_t first = p->offset[e], n = p->offset[e + 1] - first, tiles = (n + tile - 1) / tile;
		if (block < tiles) {
			t->expert = e;
			t->row0 = first + block * tile;
			t->rows = n - block * tile;
			return 1;
		}
		block -= tiles;
	}
	return 0;
}

DEVICE int tile_find(const struct product *p, int tile, struct product_tile *t)
{
	t->expert = 0;
	t->row0 = (int64_t)blockIdx.x * tile;
	t->rows = p->m - t->row0;
	t->k0 = 0;
	t->k1 = p->k;
	if (p->groups == PRODUCT_ROWS) return tile_of_rows(p, blockIdx.x, tile, t);
	if (p->groups == PRODUCT_SUMS) {
		t->expert = blockIdx.z;
		t->k0 = p->offset[t->expert];
		t->k1 = p->offset[t->expert + 1];
	}
	return t->k1 > t->k0 || p->groups == PRODUCT_ONE;
}

/* to[kk][i] = A(row0 + i, k0 + kk), 0 beyond the edges; `width` rows. Neighbouring threads read neighbouring words. */
DEVICE void load_a(const struct product *p, const struct product_tile *t, int64_t k0, int width, float *to, int pitch)
{
	for (int n = (int)threadIdx.x; n < width * STEP; n += THREADS) {
		int i = p->a_turned ? n % width : n / STEP, kk = p->a_turned ? n / width : n % STEP;
		int64_t r = t->row0 + i, k = k0 + kk, row = p->a_turned ? k : r;
		float x = 0;
		if (i < t->rows && k < t->k1) {
			if (p->a_index) row = p->a_index[row];
			x = p->a[row * p->a_row + (p->a_turned ? r : k)];
		}
		to[kk * pitch + i] = x;
	}
}

/* to[kk][j] = B(k0 + kk, column0 + j). */
DEVICE void load_b(const struct product *p, const struct product_tile *t, int64_t k0, int64_t column0, int width, float *to, int pitch)
{
	const float *b = p->b + (p->groups == PRODUCT_ROWS ? t->expert * p->b_expert : 0);
	for (int n = (int)threadIdx.x; n < width * STEP; n += THREADS) {
		int j = p->b_turned ? n / STEP : n % width, kk = p->b_turned ? n % STEP : n / width;
		int64_t c = column0 + j, k = k0 + kk;
		float x = 0;
		if (c < p->n && k < t->k1) x = p->b_turned ? b[c * p->b_row + k] : b[(p->b_index ? p->b_index[k] : k) * p->b_row + c];
		to[kk * pitch + j] = x;
	}
}

/* One block's tile of `tm` x `tn`; a thread has rm x rn of it, its rows and columns 16 apart. */
DEVICE void product_tile(const struct product *p, float *as, float *bs, const int tm, const int tn)
{
	const int rm = tm / 16, rn = tn / 16;
	struct product_tile t;
	if (!tile_find(p, tm, &t)) return;
	int ty = (int)threadIdx.x / 16, tx = (int)threadIdx.x % 16;
	int64_t column0 = (int64_t)blockIdx.y * tn;
	float *c = p->c + (p->groups == PRODUCT_SUMS ? t.expert * p->c_expert : 0), acc[REGISTERS][REGISTERS];
	UNROLL
	for (int i = 0; i < rm; i++) {
		UNROLL
		for (int j = 0; j < rn; j++) {
			int64_t r = ty + 16 * i, k = column0 + tx + 16 * j;
			acc[i][j] = 0;
			if (r < t.rows && k < p->n) acc[i][j] = p->add ? c[(t.row0 + r) * p->c_row + k] : p->bias ? p->bias[k] : 0;
		}
	}
	for (int64_t k0 = t.k0; k0 < t.k1; k0 += STEP) {
		load_a(p, &t, k0, tm, as, tm + PAD);
		load_b(p, &t, k0, column0, tn, bs, tn + PAD);
		block_sync();
		int steps = t.k1 - k0 < STEP ? (int)(t.k1 - k0) : STEP;
		for (int kk = 0; kk < steps; kk++) {
			float x[REGISTERS], y[REGISTERS];
			UNROLL
			for (int i = 0; i < rm; i++) x[i] = as[kk * (tm + PAD) + ty + 16 * i];
			UNROLL
			for (int j = 0; j < rn; j++) y[j] = bs[kk * (tn + PAD) + tx + 16 * j];
			UNROLL
			for (int i = 0; i < rm; i++) {
				UNROLL
				for (int j = 0; j < rn; j++) acc[i][j] = d_fma(x[i], y[j], acc[i][j]);
			}
		}
		block_sync();
	}
	UNROLL
	for (int i = 0; i < rm; i++) {
		UNROLL
		for (int j = 0; j < rn; j++) {
			int64_t r = ty + 16 * i, k = column0 + tx + 16 * j;
			if (r < t.rows && k < p->n) c[(t.row0 + r) * p->c_row + k] = p->add && p->bias ? acc[i][j] + p->bias[k] : acc[i][j];
		}
	}
}

KERNEL(product_wide, struct product_launch, THREADS)
{
	SHARED float as[STEP * (WIDE + PAD)], bs[STEP * (WIDE + PAD)];
	product_tile(&arg.p, as, bs, WIDE, WIDE);
}

KERNEL(product_small, struct product_launch, THREADS)
{
	SHARED float as[STEP * (SMALL_M + PAD)], bs[STEP * (SMALL_N + PAD)];
	product_tile(&arg.p, as, bs, SMALL_M, SMALL_N);
}

CUDA_API void K(product_run)(struct backend *b, const struct product *p)
{
	struct product_launch l = {*p};
	int64_t rows = p->groups == PRODUCT_ROWS ? p->m / p->experts : p->m;
	int wide = rows >= 64, tm = wide ? WIDE : SMALL_M, tn = wide ? WIDE : SMALL_N;
	int64_t gx = cuda_blocks(p->m, tm), gy = cuda_blocks(p->n, tn), gz = p->groups == PRODUCT_SUMS ? p->experts : 1;
	if (p->m == 0 || p->n == 0) return;
	if (p->groups == PRODUCT_ROWS) gx += p->experts < p->m ? p->experts : p->m;
	CHECK(gy <= 65535 && gz <= 65535, "a product of %lld columns, %lld matrices", (long long)p->n, (long long)gz);
	if (wide) LAUNCH(b, product_wide, gx, gy, gz, THREADS, l);
	else LAUNCH(b, product_small, gx, gy, gz, THREADS, l);
}
