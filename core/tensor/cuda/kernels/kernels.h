/* Prototypes of the operations (their contracts are in core/tensor/ops.h) and
 * the arithmetic that kernels share: exp and log of cpu/kernels/simd.h word for
 * word, and its sixteen lanes, which here are half a warp. */
#ifndef TENFOLD_TENSOR_CUDA_KERNELS_H
#define TENFOLD_TENSOR_CUDA_KERNELS_H

#include "core/tensor/cuda/cuda.h"

CUDA_API void K(embedding_forward)(struct backend *, struct tensor table, const int32_t *ids, struct tensor y);
CUDA_API void K(embedding_backward)(struct backend *, struct tensor dtable, const int32_t *ids, struct tensor dy);
CUDA_API void K(gather_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
CUDA_API void K(scatter_add_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
CUDA_API void K(round_bf16)(struct backend *, struct tensor to, const float *from);
CUDA_API void K(add)(struct backend *, float *y, const float *x, int64_t n);
CUDA_API void K(place_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *from, const int32_t *to, int64_t n);
CUDA_API double K(sum_squares)(struct backend *, const float *x, int64_t n);
CUDA_API void K(norm_forward)(struct backend *, const struct norm_args *);
CUDA_API void K(norm_backward)(struct backend *, const struct norm_args *);
CUDA_API void K(rope)(struct backend *, const struct rope_args *);
CUDA_API void K(linear_forward)(struct backend *, const struct linear_args *);
CUDA_API void K(linear_backward)(struct backend *, const struct linear_args *);
CUDA_API void K(kv_write)(struct backend *, const struct kv_args *);
CUDA_API void K(kv_read_add)(struct backend *, const struct kv_args *);
CUDA_API void K(attention_forward)(struct backend *, const struct attention_args *);
CUDA_API void K(attention_backward)(struct backend *, const struct attention_args *);
CUDA_API void K(router_forward)(struct backend *, const struct router_args *);
CUDA_API void K(router_backward)(struct backend *, const struct router_args *);
CUDA_API void K(experts_forward)(struct backend *, const struct experts_args *);
CUDA_API void K(experts_backward)(struct backend *, const struct experts_args *);
CUDA_API void K(swiglu_forward)(struct backend *, const struct swiglu_args *);
CUDA_API void K(swiglu_backward)(struct backend *, const struct swiglu_args *);
CUDA_API void K(gelu_forward)(struct backend *, const struct gelu_args *);
CUDA_API void K(gelu_backward)(struct backend *, const struct gelu_args *);
CUDA_API void K(dropout)(struct backend *, const struct dropout_args *);
CUDA_API void K(columns)(struct backend *, const struct columns_args *);
CUDA_API void K(head_forward)(struct backend *, const struct head_args *);
CUDA_API void K(head_backward)(struct backend *, const struct head_args *);
CUDA_API void K(uniforms)(struct backend *, const struct uniforms_args *);
CUDA_API void K(sample)(struct backend *, const struct sample_args *);
CUDA_API void K(adamw)(struct backend *, const struct adamw_args *);

/* Bytes of scratch that these operations ask for. */
CUDA_API size_t K(attention_scratch)(int64_t rows, int64_t sets, int64_t table_stride, int64_t heads);
CUDA_API size_t K(head_scratch)(struct backend *, int64_t rows, int64_t vocab); /* when rows are truncated */
CUDA_API size_t K(sum_scratch)(int64_t n);

DEVICE int64_t global_thread(void)
{
	return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* exp, error below 1.3 ulp; 0 below -86.6, inf above 88.72; NaN stays. */
DEVICE float d_exp(float x)
{
	float c = -87.0f > x ? -87.0f : x;
	c = 88.9f < c ? 88.9f : c;
	int n = d_round_int(c * 1.44269504f);
	float f = (float)n, r = d_fma(f, -0.693359375f, c);
	r = d_fma(f, 2.12194440e-4f, r);
	float p = 1.98756915e-4f;
	p = d_fma(p, r, 1.39819995e-3f);
	p = d_fma(p, r, 8.33345158e-3f);
	p = d_fma(p, r, 4.16657950e-2f);
	p = d_fma(p, r, 1.66666650e-1f);
	p = d_fma(p, r, 5.0e-1f);
	p = d_fma(r * r, p, r + 1.0f);
	p = p * d_float_of((n + 126) << 23) * 2.0f; /* 2^n in two factors, so that n = 128 is reached */
	return x < -86.6f ? 0.0f : p;
}

/* erf, error below 2 ulp; NaN stays. */
DEVICE float d_erf(float x)
{
	float t = x > 0.0f - x ? x : 0.0f - x, s = x * x;
	float r = d_fma(-1.72853470e-5f, t, 3.83197126e-4f);
	r = d_fma(r, s, d_fma(-3.88396438e-3f, t, 2.42546219e-2f));
	r = d_fma(r, t, -1.06777877e-1f);
	r = d_fma(r, t, -6.34846687e-1f);
	r = d_fma(r, t, -1.28717512e-1f);
	r = 1.0f - d_exp(d_fma(r, t, 0.0f - t));
	float far = 4.0f < t ? 1.0f : r; /* the polynomial turns round far out */
	far = x < 0.0f ? 0.0f - far : far;
	float p = -5.96761703e-4f;
	p = d_fma(p, s, 4.99119423e-3f);
	p = d_fma(p, s, -2.67681349e-2f);
	p = d_fma(p, s, 1.12819925e-1f);
	p = d_fma(p, s, -3.76125336e-1f);
	p = d_fma(p, s, 1.28379166e-1f);
	p = d_fma(p, x, x);
	return 0.927734375f < t ? far : p;
}

/* log of positive normal numbers, error below 1 ulp; inf and NaN stay. */
DEVICE float d_log(float x)
{
	int b = d_bits_of(x);
	float ef = (float)((b >> 23) - 126), m = d_float_of((b & 0x007fffff) + 0x3f000000);
	int small = m < 0.707106781f;
	ef = small ? ef - 1.0f : ef;
	m = small ? m + m - 1.0f : m - 1.0f;
	float z = m * m, p = 7.0376836292e-2f;
	p = d_fma(p, m, -1.1514610310e-1f);
	p = d_fma(p, m, 1.1676998740e-1f);
	p = d_fma(p, m, -1.2420140846e-1f);
	p = d_fma(p, m, 1.4249322787e-1f);
	p = d_fma(p, m, -1.6668057665e-1f);
	p = d_fma(p, m, 2.0000714765e-1f);
	p = d_fma(p, m, -2.4999993993e-1f);
	p = d_fma(p, m, 3.3333331174e-1f);
	p = p * m * z;
	p = d_fma(ef, -2.12194440e-4f, p);
	p = d_fma(z, -0.5f, p);
	return x < INFINITY ? d_fma(ef, 0.693359375f, m + p) : x;
}

DEVICE float d_sigmoid(float x)
{
	return 1.0f / (1.0f + d_exp(0.0f - x));
}

/* Sum over the sixteen lanes of this half warp, i with i+8, then +4, +2, +1: all lanes have it. */
DEVICE float lanes_sum(float x)
{
	x += shuffle_xor(x, 8);
	x += shuffle_xor(x, 4);
	x += shuffle_xor(x, 2);
	return x + shuffle_xor(x, 1);
}

DEVICE float d_max(float a, float b)
{
	return a > b ? a : b;
}

/* Maximum over 16 or 32 lanes. */
DEVICE float lanes_max(float x, int lanes)
{
	for (int s = lanes / 2; s > 0; s /= 2) x = d_max(x, shuffle_xor(x, s));
	return x;
}

/* Threads of a block that counts: returns how many threads before this one have `yes`, and in *total how many in all.
 * `room`: shared, 33 ints. Every thread of the block calls it. */
DEVICE int block_rank(int yes, int *room, int *total)
{
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
	unsigned bits = ballot(yes);
	if (lane == 0) room[warp] = d_popc(bits);
	block_sync();
	int before = 0, all = 0;
	for (int w = 0; w < warps; w++) {
		before += w < warp ? room[w] : 0;
		all += room[w];
	}
	block_sync();
	*total = all;
	return before + d_popc(bits & ((1u << lane) - 1u));
}

#endif
