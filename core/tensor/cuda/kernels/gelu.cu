/* GELU (Hendrycks & Gimpel, 1606.08415), exact and in the tanh form, which is
 * x·sigmoid(2u); a thread has an element, the arithmetic is cpu/kernels/gelu.c's. */
#include "core/tensor/cuda/kernels/kernels.h"

enum { THREADS = 256 };
#define ROOT 0.797884561f /* sqrt(2/pi) */
#define CUBE 0.044715f

struct gelu_launch {
	struct gelu_args a;
};

/* Φ(x), or its approximation. */
DEVICE float gelu_share(float x, int exact)
{
	if (exact) return 0.5f * (1.0f + d_erf(x * 0.707106781f));
	float u = ROOT * x * d_fma(CUBE * x, x, 1.0f);
	return d_sigmoid(u + u);
}

/* dΦ/dx: the normal density, or the approximation's slope. */
DEVICE float gelu_slope(float x, float share, int exact)
{
	if (exact) return 0.398942280f * d_exp(x * x * -0.5f);
	return share * (1.0f - share) * (2.0f * ROOT * d_fma(3.0f * CUBE * x, x, 1.0f));
}

KERNEL(gelu_values, struct gelu_launch, THREADS)
{
	int64_t i = global_thread();
	if (i >= arg.a.x.rows * arg.a.x.cols) return;
	float x = ((const float *)arg.a.x.data)[i];
	((float *)arg.a.a.data)[i] = x * gelu_share(x, arg.a.exact);
}

KERNEL(gelu_gradients, struct gelu_launch, THREADS)
{
	int64_t i = global_thread();
	if (i >= arg.a.x.rows * arg.a.x.cols) return;
	float x = ((const float *)arg.a.x.data)[i], share = gelu_share(x, arg.a.exact);
	((float *)arg.a.dx.data)[i] = ((const float *)arg.a.da.data)[i] * d_fma(x, gelu_slope(x, share, arg.a.exact), share);
}

CUDA_API void K(gelu_forward)(struct backend *b, const struct gelu_args *a)
{
	CHECK(a->x.rows == a->a.rows && a->x.cols == a->a.cols, "gelu: x [%lld,%lld]", (long long)a->x.rows, (long long)a->x.cols);
	struct gelu_launch l = {*a};
	LAUNCH(b, gelu_values, cuda_blocks(a->x.rows * a->x.cols, THREADS), 1, 1, THREADS, l);
}

CUDA_API void K(gelu_backward)(struct backend *b, const struct gelu_args *a)
{
	struct gelu_launch l = {*a};
	LAUNCH(b, gelu_gradients, cuda_blocks(a->x.rows * a->x.cols, THREADS), 1, 1, THREADS, l);
}
