/* Linear layers: y = x·wᵀ (+ bias), and the gradients by x and w. See gemm.c
 * for why the bits of a row do not depend on the others. */
#include "core/tensor/cpu/kernels/gemm.h"
#include "core/tensor/cpu/kernels/kernels.h"

static void linear_check(const struct linear_args *a, struct tensor y)
{
	CHECK(a->x.cols == a->w.cols && y.cols == a->w.rows && y.rows == a->x.rows, "linear: x [%lld,%lld], w [%lld,%lld], y [%lld,%lld]",
	      (long long)a->x.rows, (long long)a->x.cols, (long long)a->w.rows, (long long)a->w.cols, (long long)y.rows, (long long)y.cols);
}

void K(linear_forward)(struct backend *base, const struct linear_args *a)
{
	linear_check(a, a->y);
	struct cpu_backend *b = cpu_of(base);
	int64_t t = a->x.rows, in = a->w.cols, out = a->w.rows;
	float *y = a->y.data;
	if (a->bias && !a->add)
		for (int64_t i = 0; i < t; i++) memcpy(y + i * out, a->bias, (size_t)out * sizeof *y);
	struct gemm g = {.m = t, .n = out, .k = in, .a = a->x.data, .a_row = in, .c = y, .c_row = out, .add = a->add || a->bias};
	gemm_weight(b, &g, a->w, 1, 0);
	K(gemm_run)(b, &g);
	if (a->bias && a->add)
		for (int64_t i = 0; i < t * out; i++) y[i] += a->bias[i % out];
}

void K(linear_backward)(struct backend *base, const struct linear_args *a)
{
	linear_check(a, a->dy);
	struct cpu_backend *b = cpu_of(base);
	int64_t t = a->dy.rows, in = a->w.cols, out = a->w.rows;
	const float *dy = a->dy.data;
	if (a->dx.data) { /* few rows do not repay packing */
		struct gemm g = {.m = t, .n = in, .k = out, .a = dy, .a_row = out, .b = a->w.data, .b_panel = PANEL, .b_row = in, .c = a->dx.data, .c_row = in,
				 .add = 1};
		if (t > 2 * V_TILE_ROWS || b->bf16 || a->w.dtype != DTYPE_F32) gemm_weight(b, &g, a->w, 1, 1);
		K(gemm_run)(b, &g);
	}
	if (a->dw.data) {
		struct gemm g = {.m = out, .n = in, .k = t, .a = dy, .a_step = out, .b = a->x.data, .b_panel = PANEL,
				 .b_row = in, .c = a->dw.data, .c_row = in, .add = 1, .round = b->bf16};
		K(gemm_run)(b, &g);
	}
	if (a->dbias)
		for (int64_t i = 0; i < t; i++)
			for (int64_t o = 0; o < out; o++) a->dbias[o] += dy[i * out + o];
}
