/* RMSNorm: y = w · x · rsqrt(mean(x²) + eps) (Zhang & Sennrich, 1910.07467).
 *
 * The sum of squares runs in 16 lanes with the fixed tree of simd.h; a tail is
 * masked to zeros, so its bits are those of a padded row. The weight gradient
 * is one chain per channel over rows in order, threads split channels. */
#include "core/tensor/cpu/kernels/kernels.h"

static void norm_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = first; t < last; t++) {
		const float *x = (const float *)a->x.data + t * c;
		float *y = (float *)a->y.data + t * c;
		v16 s = v_zero();
		int64_t i = 0;
		for (; i + 16 <= c; i += 16) {
			v16 v = v_load(x + i);
			s = v_fma(v, v, s);
		}
		if (i < c) {
			v16 v = v_load_n(x + i, (int)(c - i));
			s = v_fma(v, v, s);
		}
		float rstd = 1.0f / sqrtf(v_hsum(s) / (float)c + a->eps);
		if (a->rstd) a->rstd[t] = rstd;
		for (i = 0; i < c; i++) y[i] = a->w[i] * (x[i] * rstd);
	}
}

void K(norm_forward)(struct backend *b, const struct norm_args *a)
{
	CHECK(a->x.rows == a->y.rows && a->x.cols == a->y.cols, "norm: x [%lld,%lld]", (long long)a->x.rows, (long long)a->x.cols);
	cpu_for(b, a->x.rows, 1 + 16384 / (a->x.cols + 1), norm_rows, a);
}

/* dx += rstd · (w·dy − x̂ · mean(w·dy·x̂)), x̂ = x·rstd */
static void norm_dx(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = first; t < last; t++) {
		const float *x = (const float *)a->x.data + t * c, *dy = (const float *)a->dy.data + t * c;
		float *dx = (float *)a->dx.data + t * c, rstd = a->rstd[t];
		v16 s = v_zero();
		int64_t i = 0;
		for (; i + 16 <= c; i += 16) s = v_fma(v_mul(v_load(a->w + i), v_load(dy + i)), v_load(x + i), s);
		if (i < c) {
			int n = (int)(c - i);
			s = v_fma(v_mul(v_load_n(a->w + i, n), v_load_n(dy + i, n)), v_load_n(x + i, n), s);
		}
		float k = v_hsum(s) * rstd * rstd / (float)c;
		for (i = 0; i < c; i++) dx[i] += rstd * (a->w[i] * dy[i] - x[i] * k);
	}
}

static void norm_dw(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = 0; t < a->x.rows; t++) {
		const float *x = (const float *)a->x.data + t * c, *dy = (const float *)a->dy.data + t * c;
		for (int64_t i = first; i < last; i++) a->dw[i] += dy[i] * (x[i] * a->rstd[t]);
	}
}

void K(norm_backward)(struct backend *b, const struct norm_args *a)
{
	if (a->dx.data) cpu_for(b, a->x.rows, 1 + 16384 / (a->x.cols + 1), norm_dx, a);
	if (a->dw) cpu_for(b, a->x.cols, 64, norm_dw, a);
}
