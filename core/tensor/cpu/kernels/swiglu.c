/* SwiGLU: a = silu(g)·u (Shazeer, 2002.05202). */
#include "core/tensor/cpu/kernels/swiglu.h"

#include "core/tensor/cpu/kernels/kernels.h"

static void swiglu_forward_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct swiglu_args *s = ctx;
	swiglu_row((const float *)s->g.data + first, (const float *)s->u.data + first, (float *)s->a.data + first, last - first);
}

void K(swiglu_forward)(struct backend *b, const struct swiglu_args *s)
{
	cpu_for(b, s->g.rows * s->g.cols, 4096, swiglu_forward_range, s);
}

static void swiglu_backward_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct swiglu_args *s = ctx;
	swiglu_row_backward((const float *)s->g.data + first, (const float *)s->u.data + first, (const float *)s->da.data + first,
			    (float *)s->dg.data + first, (float *)s->du.data + first, last - first);
}

void K(swiglu_backward)(struct backend *b, const struct swiglu_args *s)
{
	cpu_for(b, s->g.rows * s->g.cols, 4096, swiglu_backward_range, s);
}
