/* SwiGLU over n elements, shared by the dense feed-forward and the experts.
 * Elements are independent: lanes and tails do not change their bits. */
#ifndef TENFOLD_TENSOR_SWIGLU_H
#define TENFOLD_TENSOR_SWIGLU_H

#include "core/tensor/cpu/kernels/simd.h"

INLINE void swiglu_row(const float *g, const float *u, float *a, int64_t n)
{
	for (int64_t i = 0; i < n; i += 16) {
		int k = n - i < 16 ? (int)(n - i) : 16;
		v16 x = v_load_n(g + i, k);
		v_store_n(a + i, v_mul(v_mul(x, v_sigmoid(x)), v_load_n(u + i, k)), k);
	}
}

INLINE void swiglu_row_backward(const float *g, const float *u, const float *da, float *dg, float *du, int64_t n)
{
	for (int64_t i = 0; i < n; i += 16) {
		int k = n - i < 16 ? (int)(n - i) : 16;
		v16 x = v_load_n(g + i, k), d = v_load_n(da + i, k), s = v_sigmoid(x);
		v16 ds = v_mul(s, v_fma(x, v_sub(v_set(1.0f), s), v_set(1.0f))); /* silu' */
		v_store_n(du + i, v_mul(d, v_mul(x, s)), k);
		v_store_n(dg + i, v_mul(v_mul(d, v_load_n(u + i, k)), ds), k);
	}
}

/* The experts' form, n elements of one row: from da (in du, not weighted) the gradients dg, du for da·w, and the activation
 * times w in act; returns <da, a>. */
INLINE float swiglu_row_weighted(const float *g, const float *u, float w, float *act, float *dg, float *du, int64_t n)
{
	v16 sum = v_zero(), weight = v_set(w);
	for (int64_t i = 0; i < n; i += 16) {
		int k = n - i < 16 ? (int)(n - i) : 16;
		v16 x = v_load_n(g + i, k), y = v_load_n(u + i, k), da = v_load_n(du + i, k), s = v_sigmoid(x);
		v16 silu = v_mul(x, s), a = v_mul(silu, y), d = v_mul(da, weight);
		v16 ds = v_mul(s, v_fma(x, v_sub(v_set(1.0f), s), v_set(1.0f)));
		sum = v_fma(da, a, sum);
		v_store_n(act + i, v_mul(a, weight), k);
		v_store_n(du + i, v_mul(d, silu), k);
		v_store_n(dg + i, v_mul(v_mul(d, y), ds), k);
	}
	return v_hsum(sum);
}

/* Dot product over n, 16 lanes and the fixed tree. */
INLINE float dot_row(const float *a, const float *b, int64_t n)
{
	v16 s = v_zero();
	for (int64_t i = 0; i < n; i += 16) {
		int k = n - i < 16 ? (int)(n - i) : 16;
		s = v_fma(v_load_n(a + i, k), v_load_n(b + i, k), s);
	}
	return v_hsum(s);
}

#endif
