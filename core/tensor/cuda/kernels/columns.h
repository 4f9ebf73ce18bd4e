/* Sums down the columns, one chain each over the rows in order: a block makes
 * the terms of 64 rows by 32 columns together, then 32 threads add them. */
#ifndef TENFOLD_TENSOR_CUDA_COLUMNS_H
#define TENFOLD_TENSOR_CUDA_COLUMNS_H

#include "core/tensor/cuda/kernels/kernels.h"

enum { COLUMN_THREADS = 256, COLUMN_ROWS = 64, COLUMN_WIDTH = 32 };

struct column_sum {
	float sum;
	int64_t column; /* of this thread, or -1: it adds nothing */
};

/* The block's first column. */
DEVICE int64_t column_first(void)
{
	return (int64_t)blockIdx.x * COLUMN_WIDTH;
}

/* Starts from what is in to[cols]. */
DEVICE struct column_sum column_begin(const float *to, int64_t cols)
{
	struct column_sum s = {0, column_first() + threadIdx.x};
	if (threadIdx.x >= COLUMN_WIDTH || s.column >= cols) s.column = -1;
	else s.sum = to[s.column];
	return s;
}

/* Adds at most 64 rows of term[64][32], which the block has just written. */
DEVICE void column_add(struct column_sum *s, const float *term, int64_t rows)
{
	block_sync();
	if (s->column >= 0)
		for (int i = 0; i < COLUMN_ROWS && i < rows; i++) s->sum += term[i * COLUMN_WIDTH + (int)threadIdx.x];
	block_sync();
}

DEVICE void column_end(const struct column_sum *s, float *to)
{
	if (s->column >= 0) to[s->column] = s->sum;
}

#endif
