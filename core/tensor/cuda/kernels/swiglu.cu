/* SwiGLU: a = silu(g)·u. */
#include "core/tensor/cuda/kernels/swiglu.h"

enum { THREADS = 256 };

struct swiglu_launch {
	const float *g, *u, *da;
	float *a, *dg, *du;
	int64_t n;
};

KERNEL(swiglu_values, struct swiglu_launch, THREADS)
{
	int64_t i = global_thread();
	if (i < arg.n) arg.a[i] = swiglu_value(arg.g[i], arg.u[i]);
}

KERNEL(swiglu_gradients, struct swiglu_launch, THREADS)
{
	int64_t i = global_thread();
	if (i >= arg.n) return;
	struct swiglu_slopes s = swiglu_slopes(arg.g[i]);
	float d = arg.da[i];
	arg.du[i] = d * s.silu;
	arg.dg[i] = d * arg.u[i] * s.slope;
}

static struct swiglu_launch swiglu_launch(const struct swiglu_args *s)
{
	struct swiglu_launch l = {(const float *)s->g.data, (const float *)s->u.data, (const float *)s->da.data, (float *)s->a.data,
				  (float *)s->dg.data, (float *)s->du.data, s->g.rows * s->g.cols};
	return l;
}

CUDA_API void K(swiglu_forward)(struct backend *b, const struct swiglu_args *s)
{
	struct swiglu_launch l = swiglu_launch(s);
	LAUNCH(b, swiglu_values, cuda_blocks(l.n, THREADS), 1, 1, THREADS, l);
}

CUDA_API void K(swiglu_backward)(struct backend *b, const struct swiglu_args *s)
{
	struct swiglu_launch l = swiglu_launch(s);
	LAUNCH(b, swiglu_gradients, cuda_blocks(l.n, THREADS), 1, 1, THREADS, l);
}
