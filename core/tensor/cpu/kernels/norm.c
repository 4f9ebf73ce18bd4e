/* RMSNorm: y = w · x · rsqrt(mean(x²) + eps) (Zhang & Sennrich, 1910.07467), and
 * LayerNorm, which takes the mean away first (Ba et al., 1607.06450).
 *
 * Sums run in 16 lanes with the fixed tree of simd.h; a tail is masked to zeros,
 * so its bits are those of a padded row. The variance is taken around the mean
 * in a second pass. The weight gradient is one chain per channel over rows in
 * order, threads split channels. */
#include "core/tensor/cpu/kernels/kernels.h"

/* Sum of (x − mean)² over a row. */
INLINE float square_sum(const float *x, float mean, int64_t c)
{
	v16 s = v_zero(), m = v_set(mean);
	int64_t i = 0;
	for (; i + 16 <= c; i += 16) {
		v16 v = v_sub(v_load(x + i), m);
		s = v_fma(v, v, s);
	}
	if (i < c) {
		int n = (int)(c - i);
		v16 v = v_fill_tail(v_sub(v_load_n(x + i, n), m), n, 0.0f);
		s = v_fma(v, v, s);
	}
	return v_hsum(s);
}

INLINE float row_sum(const float *x, int64_t c)
{
	v16 s = v_zero();
	for (int64_t i = 0; i < c; i += 16) s = v_add(s, v_load_n(x + i, c - i < 16 ? (int)(c - i) : 16));
	return v_hsum(s);
}

static void norm_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = first; t < last; t++) {
		const float *x = (const float *)a->x.data + t * c;
		float *y = (float *)a->y.data + t * c, mean = a->mean ? row_sum(x, c) / (float)c : 0.0f;
		float rstd = 1.0f / sqrtf(square_sum(x, mean, c) / (float)c + a->eps);
		if (a->rstd) a->rstd[t] = rstd;
		if (a->mean) a->mean[t] = mean;
		for (int64_t i = 0; i < c; i++) y[i] = a->w[i] * ((x[i] - mean) * rstd);
		for (int64_t i = 0; a->bias && i < c; i++) y[i] += a->bias[i];
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

/* LayerNorm: dx += rstd · (w·dy − mean(w·dy) − x̂ · mean(w·dy·x̂)), x̂ = (x − mean)·rstd */
static void layer_norm_dx(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = first; t < last; t++) {
		const float *x = (const float *)a->x.data + t * c, *dy = (const float *)a->dy.data + t * c;
		float *dx = (float *)a->dx.data + t * c, rstd = a->rstd[t], mean = a->mean[t];
		v16 sum = v_zero(), dot = v_zero();
		for (int64_t i = 0; i < c; i += 16) {
			int n = c - i < 16 ? (int)(c - i) : 16;
			v16 g = v_mul(v_load_n(a->w + i, n), v_load_n(dy + i, n)); /* 0 beyond the tail */
			sum = v_add(sum, g);
			dot = v_fma(g, v_sub(v_load_n(x + i, n), v_set(mean)), dot);
		}
		float m = v_hsum(sum) / (float)c, k = v_hsum(dot) * rstd * rstd / (float)c;
		for (int64_t i = 0; i < c; i++) dx[i] += rstd * (a->w[i] * dy[i] - m - (x[i] - mean) * k);
	}
}

static void norm_dw(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct norm_args *a = ctx;
	int64_t c = a->x.cols;
	for (int64_t t = 0; t < a->x.rows; t++) {
		const float *x = (const float *)a->x.data + t * c, *dy = (const float *)a->dy.data + t * c;
		float mean = a->mean ? a->mean[t] : 0.0f;
		for (int64_t i = first; a->dw && i < last; i++) a->dw[i] += dy[i] * ((x[i] - mean) * a->rstd[t]);
		for (int64_t i = first; a->dbias && i < last; i++) a->dbias[i] += dy[i];
	}
}

void K(norm_backward)(struct backend *b, const struct norm_args *a)
{
	if (a->dx.data) cpu_for(b, a->x.rows, 1 + 16384 / (a->x.cols + 1), a->mean ? layer_norm_dx : norm_dx, a);
	if (a->dw || a->dbias) cpu_for(b, a->x.cols, 64, norm_dw, a);
}
