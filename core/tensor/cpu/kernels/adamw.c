/* AdamW (Loshchilov & Hutter, 1711.05101). With `tensorflow` the eps is added to
 * the uncorrected root, lr·sqrt(1-β2ᵗ)/(1-β1ᵗ)·m/(sqrt(v)+eps), as TensorFlow 1
 * did; it changes the first epochs of published PPO runs visibly. */
#include "core/tensor/cpu/kernels/kernels.h"

struct adamw_ctx {
	const struct adamw_args *a;
	float rate, decay, root; /* step size, 1 - lr·wd, factor of sqrt(v) */
};

static void adamw_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct adamw_ctx *c = ctx;
	const struct adamw_args *a = c->a;
	v16 scale = v_set(a->grad_scale), b1 = v_set(a->beta1), b2 = v_set(a->beta2), i1 = v_set(1.0f - a->beta1), i2 = v_set(1.0f - a->beta2);
	v16 eps = v_set(a->eps), rate = v_set(-c->rate), decay = v_set(c->decay), root = v_set(c->root);
	for (int64_t i = first; i < last; i += 16) {
		int n = last - i < 16 ? (int)(last - i) : 16;
		v16 g = v_mul(v_load_n(a->g + i, n), scale);
		v16 m = v_fma(b1, v_load_n(a->m + i, n), v_mul(i1, g));
		v16 v = v_fma(b2, v_load_n(a->v + i, n), v_mul(v_mul(i2, g), g));
		v16 w = v_mul(v_load_n(a->w + i, n), decay);
		w = v_fma(rate, v_div(m, v_fma(v_sqrt(v), root, eps)), w);
		v_store_n(a->m + i, m, n);
		v_store_n(a->v + i, v, n);
		v_store_n(a->w + i, w, n);
	}
}

/* Binary powers: pow() may differ in the last bit from one C library to the next. */
static double power(double base, int64_t n)
{
	double p = 1.0;
	for (; n > 0; n >>= 1, base *= base)
		if (n & 1) p *= base;
	return p;
}

void K(adamw)(struct backend *b, const struct adamw_args *a)
{
	double c1 = 1.0 - power((double)a->beta1, a->step), c2 = 1.0 - power((double)a->beta2, a->step);
	struct adamw_ctx c = {.a = a, .decay = 1.0f - a->lr * a->weight_decay};
	if (a->tensorflow) {
		c.rate = (float)((double)a->lr * sqrt(c2) / c1);
		c.root = 1.0f;
	} else {
		c.rate = (float)((double)a->lr / c1);
		c.root = (float)(1.0 / sqrt(c2));
	}
	cpu_for(b, a->n, 1 << 14, adamw_range, &c);
}
