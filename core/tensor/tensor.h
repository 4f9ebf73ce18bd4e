/* A tensor is a view: it owns nothing, and rows lie contiguously.
 *
 * Everything the model needs is two-dimensional once leading dimensions are
 * folded into rows: activations [T, C], a stack of experts [E·out, in]. The
 * memory behind `data` belongs to a backend; on the CPU it can be read directly. */
#ifndef TENFOLD_TENSOR_TENSOR_H
#define TENFOLD_TENSOR_TENSOR_H

#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32 = 0, DTYPE_BF16 = 1 };

struct tensor {
	void *data;
	enum dtype dtype;
	int64_t rows, cols;
};

static inline size_t dtype_bytes(enum dtype t)
{
	return t == DTYPE_F32 ? 4 : 2;
}

static inline size_t tensor_bytes(struct tensor t)
{
	return (size_t)(t.rows * t.cols) * dtype_bytes(t.dtype);
}

static inline struct tensor tensor_f32(float *data, int64_t rows, int64_t cols)
{
	return (struct tensor){data, DTYPE_F32, rows, cols};
}

/* `rows` rows from `first` on. */
static inline struct tensor tensor_rows(struct tensor t, int64_t first, int64_t rows)
{
	t.data = (char *)t.data + (size_t)(first * t.cols) * dtype_bytes(t.dtype);
	t.rows = rows;
	return t;
}

#endif
