/* Entries that add into rows, in the order of the entries, without atomics.
 *
 * A block owns some rows and looks through the whole list of entries, 256 at a
 * time; those that concern it come, in their order, into shared memory, and then
 * each thread adds its own columns. So a row's sum is one chain in list order. */
#ifndef TENFOLD_TENSOR_CUDA_ROWS_H
#define TENFOLD_TENSOR_CUDA_ROWS_H

#include "core/tensor/cuda/kernels/kernels.h"

enum { ENTRY_THREADS = 256, ENTRY_ROWS = 16 /* owned by one block */ };

struct entries {
	int32_t index[ENTRY_THREADS]; /* of entries of this chunk that are the block's, in order */
	int room[33];
};

/* Entries [at, at+256) of n whose row is in [first, first+ENTRY_ROWS); returns how many. The whole block calls it. */
DEVICE int entries_take(struct entries *e, const int32_t *row, int64_t at, int64_t n, int64_t first, int64_t rows)
{
	int64_t i = at + threadIdx.x;
	int total, mine = 0;
	if (i < n) {
		DEVICE_CHECK(row[i] >= 0 && row[i] < rows);
		mine = row[i] >= first && row[i] < first + ENTRY_ROWS;
	}
	int rank = block_rank(mine, e->room, &total);
	if (mine) e->index[rank] = (int32_t)i;
	block_sync();
	return total;
}

#endif
