/* What the f32 and the bf16 product share: which part of the work a block has, and
 * the elements of A, B and C by their place in it. */
#ifndef TENFOLD_TENSOR_CUDA_PRODUCT_TILE_H
#define TENFOLD_TENSOR_CUDA_PRODUCT_TILE_H

#include "core/tensor/cuda/kernels/product.h"
#include "core/tensor/cuda/kernels/swiglu.h"

/* Outputs of a block: for training, and for decoding, where many small blocks are needed to draw on the whole memory
 * bandwidth. The choice changes no bits. */
enum { TILE_WIDE = 128, TILE_SMALL_M = 16, TILE_SMALL_N = 64 };

/* What one block works on. */
struct product_tile {
	int64_t row0, rows; /* of A and C: first row of the tile, rows of the matrix from there */
	int64_t k0, k1;     /* reduction */
	int64_t expert;
};

/* The block's place in a stack whose rows lie between offsets; 0: it has none. */
DEVICE int product_rows(const struct product *p, int64_t block, int tile, struct product_tile *t)
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

DEVICE int product_find(const struct product *p, int tile, struct product_tile *t)
{
	t->expert = 0;
	t->row0 = (int64_t)blockIdx.x * tile;
	t->rows = p->m - t->row0;
	t->k0 = 0;
	t->k1 = p->k;
	if (p->groups == PRODUCT_ROWS) return product_rows(p, blockIdx.x, tile, t);
	if (p->groups == PRODUCT_SUMS) {
		t->expert = blockIdx.z;
		t->k0 = p->offset[t->expert];
		t->k1 = p->offset[t->expert + 1];
	}
	return t->k1 > t->k0 || p->groups == PRODUCT_ONE;
}

/* A(row0 + i, k) and B(k, column), 0 beyond the edges. */
DEVICE float product_a(const struct product *p, const struct product_tile *t, int i, int64_t k)
{
	int64_t r = t->row0 + i, row = p->a_turned ? k : r;
	if (i >= t->rows || k >= t->k1) return 0;
	if (p->a_index) row = p->a_index[row];
	return p->a[row * p->a_row + (p->a_turned ? r : k)];
}

/* b: p->b or p->b2. */
DEVICE float product_b(const struct product *p, const struct product_tile *t, const void *b, int64_t column, int64_t k)
{
	int64_t at = p->groups == PRODUCT_ROWS ? t->expert * p->b_expert : 0;
	if (column >= p->n || k >= t->k1) return 0;
	if (p->b_turned) at += column * p->b_row + k;
	else at += (p->b_index ? p->b_index[k] : k) * p->b_row + column;
	return p->b_half ? d_float_of((int)((uint32_t)((const uint16_t *)b)[at] << 16)) : ((const float *)b)[at];
}

/* B(k, column) and B(k + 1, column), k even: of bf16 weights in one load, where rows begin at whole words. */
DEVICE void product_b_pair(const struct product *p, const struct product_tile *t, const void *b, int64_t column, int64_t k, float x[2])
{
	if (p->b_half && p->b_turned && ((p->b_row | p->b_expert) & 1) == 0 && ((uintptr_t)b & 3) == 0 && column < p->n && k + 1 < t->k1) {
		int64_t at = p->groups == PRODUCT_ROWS ? t->expert * p->b_expert : 0;
		uint32_t both = d_load_pair((const uint16_t *)b + at + column * p->b_row + k);
		x[0] = d_float_of((int)(both << 16));
		x[1] = d_float_of((int)(both & 0xffff0000u));
		return;
	}
	x[0] = product_b(p, t, b, column, k);
	x[1] = product_b(p, t, b, column, k + 1);
}

/* Where an output lies in c, c2 and act. */
DEVICE int64_t product_place(const struct product *p, const struct product_tile *t, int64_t i, int64_t column)
{
	return (p->groups == PRODUCT_SUMS ? t->expert * p->c_expert : 0) + (t->row0 + i) * p->c_row + column;
}

DEVICE float product_start(const struct product *p, const struct product_tile *t, int64_t i, int64_t column)
{
	if (i >= t->rows || column >= p->n) return 0;
	return p->add ? p->c[product_place(p, t, i, column)] : p->bias ? p->bias[column] : 0;
}

DEVICE void product_finish(const struct product *p, const struct product_tile *t, int64_t i, int64_t column, float x)
{
	if (i < t->rows && column < p->n) p->c[product_place(p, t, i, column)] = p->add && p->bias ? x + p->bias[column] : x;
}

/* The end of a pair: g = A·b, u = A·b2. */
DEVICE void product_finish_pair(const struct product *p, const struct product_tile *t, int64_t i, int64_t column, float g, float u)
{
	if (i >= t->rows || column >= p->n) return;
	int64_t at = product_place(p, t, i, column);
	p->c[at] = g;
	p->c2[at] = u;
	p->act[at] = swiglu_value(g, u);
}

struct product_grid {
	int wide; /* which of the two tiles */
	int64_t x, y, z;
};

static inline struct product_grid product_grid(const struct product *p)
{
	struct product_grid g = {0, 0, 0, p->groups == PRODUCT_SUMS ? p->experts : 1};
	g.wide = (p->groups == PRODUCT_ROWS ? p->m / p->experts : p->m) >= 64;
	g.x = cuda_blocks(p->m, g.wide ? TILE_WIDE : TILE_SMALL_M);
	g.y = cuda_blocks(p->n, g.wide ? TILE_WIDE : TILE_SMALL_N);
	if (p->groups == PRODUCT_ROWS) g.x += p->experts < p->m ? p->experts : p->m; /* a ragged tile for each expert */
	CHECK(g.y <= 65535 && g.z <= 65535, "a product of %lld columns, %lld matrices", (long long)p->n, (long long)g.z);
	return g;
}

#endif
