/* Linear layers: y = x·wᵀ (+ bias), and the gradients by x, w and bias. */
#include "core/tensor/cuda/kernels/columns.h"
#include "core/tensor/cuda/kernels/product.h"

static void linear_check(const struct linear_args *a, struct tensor y)
{
	CHECK(a->x.cols == a->w.cols && y.cols == a->w.rows && y.rows == a->x.rows, "linear: x [%lld,%lld], w [%lld,%lld], y [%lld,%lld]",
	      (long long)a->x.rows, (long long)a->x.cols, (long long)a->w.rows, (long long)a->w.cols, (long long)y.rows, (long long)y.cols);
}

CUDA_API void K(linear_forward)(struct backend *b, const struct linear_args *a)
{
	linear_check(a, a->y);
	struct product p = {.m = a->x.rows, .n = a->w.rows, .k = a->w.cols, .a = (const float *)a->x.data, .a_row = a->x.cols,
			    .b = a->w.data, .b_half = a->w.dtype == DTYPE_BF16, .b_row = a->w.cols, .b_turned = 1, .c = (float *)a->y.data, .c_row = a->w.rows,
			    .add = a->add, .bias = a->bias};
	K(product_run)(b, &p);
}

struct bias_launch {
	const float *dy;
	float *dbias;
	int64_t rows, cols;
};

KERNEL(bias_sum, struct bias_launch, COLUMN_THREADS)
{
	SHARED float term[COLUMN_ROWS * COLUMN_WIDTH];
	struct column_sum s = column_begin(arg.dbias, arg.cols);
	for (int64_t t0 = 0; t0 < arg.rows; t0 += COLUMN_ROWS) {
		for (int i = (int)threadIdx.x; i < COLUMN_ROWS * COLUMN_WIDTH; i += COLUMN_THREADS) {
			int64_t t = t0 + i / COLUMN_WIDTH, k = column_first() + i % COLUMN_WIDTH;
			if (t < arg.rows && k < arg.cols) term[i] = arg.dy[t * arg.cols + k];
		}
		column_add(&s, term, arg.rows - t0);
	}
	column_end(&s, arg.dbias);
}

CUDA_API void K(linear_backward)(struct backend *b, const struct linear_args *a)
{
	linear_check(a, a->dy);
	int64_t t = a->dy.rows, in = a->w.cols, out = a->w.rows;
	const float *dy = (const float *)a->dy.data;
	if (t == 0) return;
	if (a->dx.data) {
		struct product p = {.m = t, .n = in, .k = out, .a = dy, .a_row = out, .b = a->w.data, .b_half = a->w.dtype == DTYPE_BF16, .b_row = in,
				    .c = (float *)a->dx.data, .c_row = in, .add = 1};
		K(product_run)(b, &p);
	}
	if (a->dw.data) {
		struct product p = {.m = out, .n = in, .k = t, .a = dy, .a_row = out, .a_turned = 1, .b = (const float *)a->x.data, .b_row = in,
				    .c = (float *)a->dw.data, .c_row = in, .add = 1};
		K(product_run)(b, &p);
	}
	struct bias_launch l = {dy, a->dbias, t, out};
	if (a->dbias) LAUNCH(b, bias_sum, cuda_blocks(out, COLUMN_WIDTH), 1, 1, COLUMN_THREADS, l);
}
