/* GELU (Hendrycks & Gimpel, 1606.08415), exact and in the tanh form, which is
 * x·sigmoid(2u). Elements are independent: lanes and tails do not change their bits. */
#include "core/tensor/cpu/kernels/kernels.h"

static const float ROOT = 0.797884561f; /* sqrt(2/pi) */
static const float CUBE = 0.044715f;

/* Φ(x), or its approximation. */
INLINE v16 gelu_share(v16 x, int exact)
{
	if (exact) return v_mul(v_set(0.5f), v_add(v_set(1.0f), v_erf(v_mul(x, v_set(0.707106781f)))));
	v16 u = v_mul(v_mul(v_set(ROOT), x), v_fma(v_mul(v_set(CUBE), x), x, v_set(1.0f)));
	return v_sigmoid(v_add(u, u));
}

/* dΦ/dx: the normal density, or the approximation's slope. */
INLINE v16 gelu_slope(v16 x, v16 share, int exact)
{
	if (exact) return v_mul(v_set(0.398942280f), v_exp(v_mul(v_mul(x, x), v_set(-0.5f))));
	v16 du = v_mul(v_set(2.0f * ROOT), v_fma(v_mul(v_set(3.0f * CUBE), x), x, v_set(1.0f)));
	return v_mul(v_mul(share, v_sub(v_set(1.0f), share)), du);
}

static void gelu_forward_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct gelu_args *g = ctx;
	const float *x = g->x.data;
	float *a = g->a.data;
	for (int64_t i = first; i < last; i += 16) {
		int n = last - i < 16 ? (int)(last - i) : 16;
		v16 v = v_load_n(x + i, n);
		v_store_n(a + i, v_mul(v, gelu_share(v, g->exact)), n);
	}
}

void K(gelu_forward)(struct backend *b, const struct gelu_args *g)
{
	CHECK(g->x.rows == g->a.rows && g->x.cols == g->a.cols, "gelu: x [%lld,%lld]", (long long)g->x.rows, (long long)g->x.cols);
	cpu_for(b, g->x.rows * g->x.cols, 4096, gelu_forward_range, g);
}

static void gelu_backward_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct gelu_args *g = ctx;
	const float *x = g->x.data, *da = g->da.data;
	float *dx = g->dx.data;
	for (int64_t i = first; i < last; i += 16) {
		int n = last - i < 16 ? (int)(last - i) : 16;
		v16 v = v_load_n(x + i, n), share = gelu_share(v, g->exact);
		v_store_n(dx + i, v_mul(v_load_n(da + i, n), v_fma(v, gelu_slope(v, share, g->exact), share)), n);
	}
}

void K(gelu_backward)(struct backend *b, const struct gelu_args *g)
{
	cpu_for(b, g->x.rows * g->x.cols, 4096, gelu_backward_range, g);
}
