/* AdamW (Loshchilov & Hutter, 1711.05101), one thread a parameter; see
 * cpu/kernels/adamw.c for the two places of eps. */
#include "core/tensor/cuda/kernels/kernels.h"

enum { THREADS = 256 };

struct adamw_launch {
	struct adamw_args a;
	float rate, decay, root; /* step size, 1 - lr·wd, factor of sqrt(v) */
};

KERNEL(adamw_step, struct adamw_launch, THREADS)
{
	const struct adamw_args *a = &arg.a;
	int64_t i = global_thread();
	if (i >= a->n) return;
	float g = a->g[i] * a->grad_scale;
	float m = d_fma(a->beta1, a->m[i], (1.0f - a->beta1) * g);
	float v = d_fma(a->beta2, a->v[i], (1.0f - a->beta2) * g * g);
	float w = a->w[i] * arg.decay;
	a->m[i] = m;
	a->v[i] = v;
	a->w[i] = d_fma(-arg.rate, m / d_fma(sqrtf(v), arg.root, a->eps), w);
}

/* Binary powers: pow() may differ in the last bit from one C library to the next. */
static double power(double base, int64_t n)
{
	double p = 1.0;
	for (; n > 0; n >>= 1, base *= base)
		if (n & 1) p *= base;
	return p;
}

CUDA_API void K(adamw)(struct backend *b, const struct adamw_args *a)
{
	double c1 = 1.0 - power((double)a->beta1, a->step), c2 = 1.0 - power((double)a->beta2, a->step);
	struct adamw_launch l = {*a, 0, 1.0f - a->lr * a->weight_decay, 0};
	l.rate = a->tensorflow ? (float)((double)a->lr * sqrt(c2) / c1) : (float)((double)a->lr / c1);
	l.root = a->tensorflow ? 1.0f : (float)(1.0 / sqrt(c2));
	LAUNCH(b, adamw_step, cuda_blocks(a->n, THREADS), 1, 1, THREADS, l);
}
