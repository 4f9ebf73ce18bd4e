/* Sixteen f32 lanes, whatever the processor has: one AVX-512 register, two AVX2
 * registers, or plain C. Every function is one IEEE operation per lane, so the
 * three builds give the same bits; reductions over lanes use one fixed tree
 * (i with i+8, then +4, +2, +1). KERNEL_ISA names the build. */
#ifndef TENFOLD_TENSOR_SIMD_H
#define TENFOLD_TENSOR_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNEL_JOIN2(a, b) a##_##b
#define KERNEL_JOIN(a, b) KERNEL_JOIN2(a, b)
#define K(name) KERNEL_JOIN(name, KERNEL_ISA)

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)
#include <immintrin.h>
#define V_TILE_ROWS 12
typedef __m512 v16;
typedef __m512i v16i;
INLINE v16 v_zero(void) { return _mm512_setzero_ps(); }
INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
INLINE __mmask16 v_mask(int n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1u); }
/* the first n lanes (n in 0..16), the others 0 */
INLINE v16 v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }
INLINE void v_store_n(float *p, v16 a, int n) { _mm512_mask_storeu_ps(p, v_mask(n), a); }
/* lanes from n on become x */
INLINE v16 v_fill_tail(v16 a, int n, float x) { return _mm512_mask_blend_ps(v_mask(n), _mm512_set1_ps(x), a); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
/* a > b ? a : b; a NaN in b stays */
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
/* x < limit ? a : b */
INLINE v16 v_select_lt(v16 x, v16 limit, v16 a, v16 b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), b, a); }
INLINE v16i v_round_int(v16 a) { return _mm512_cvtps_epi32(a); }
INLINE v16 v_float(v16i a) { return _mm512_cvtepi32_ps(a); }
INLINE v16i v_bits(v16 a) { return _mm512_castps_si512(a); }
INLINE v16 v_from_bits(v16i a) { return _mm512_castsi512_ps(a); }
INLINE v16i vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE v16i vi_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
INLINE v16i vi_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }
INLINE v16i vi_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
INLINE v16i vi_shl23(v16i a) { return _mm512_slli_epi32(a, 23); }
INLINE v16i vi_sar23(v16i a) { return _mm512_srai_epi32(a, 23); }
INLINE float v_hsum(v16 a)
{
	__m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
INLINE float v_hmax(v16 a)
{
	__m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
	__m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
	q = _mm_max_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}
/* one bit for each lane equal to x */
INLINE uint32_t v_equal(v16 a, float x) { return _mm512_cmp_ps_mask(a, _mm512_set1_ps(x), _CMP_EQ_OQ); }
#elif defined(__AVX2__)
#include <immintrin.h>
#define V_TILE_ROWS 3
typedef struct { __m256 a, b; } v16;
typedef struct { __m256i a, b; } v16i;
#define V2(op) ((v16){op(x.a, y.a), op(x.b, y.b)})
#define VI2(op) ((v16i){op(x.a, y.a), op(x.b, y.b)})
INLINE v16 v_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
INLINE __m256i v_half_mask(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE v16 v_load_n(const float *p, int n) { return (v16){_mm256_maskload_ps(p, v_half_mask(n)), _mm256_maskload_ps(p + 8, v_half_mask(n - 8))}; }
INLINE void v_store_n(float *p, v16 x, int n) { _mm256_maskstore_ps(p, v_half_mask(n), x.a), _mm256_maskstore_ps(p + 8, v_half_mask(n - 8), x.b); }
INLINE v16 v_fill_tail(v16 x, int n, float f)
{
	return (v16){_mm256_blendv_ps(_mm256_set1_ps(f), x.a, _mm256_castsi256_ps(v_half_mask(n))),
		     _mm256_blendv_ps(_mm256_set1_ps(f), x.b, _mm256_castsi256_ps(v_half_mask(n - 8)))};
}
INLINE v16 v_add(v16 x, v16 y) { return V2(_mm256_add_ps); }
INLINE v16 v_sub(v16 x, v16 y) { return V2(_mm256_sub_ps); }
INLINE v16 v_mul(v16 x, v16 y) { return V2(_mm256_mul_ps); }
INLINE v16 v_div(v16 x, v16 y) { return V2(_mm256_div_ps); }
INLINE v16 v_max(v16 x, v16 y) { return V2(_mm256_max_ps); }
INLINE v16 v_min(v16 x, v16 y) { return V2(_mm256_min_ps); }
INLINE v16 v_sqrt(v16 x) { return (v16){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
INLINE v16 v_fma(v16 x, v16 y, v16 z) { return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
INLINE v16 v_select_lt(v16 x, v16 limit, v16 p, v16 q)
{
	return (v16){_mm256_blendv_ps(q.a, p.a, _mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ)),
		     _mm256_blendv_ps(q.b, p.b, _mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ))};
}
INLINE v16i v_round_int(v16 x) { return (v16i){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
INLINE v16 v_float(v16i x) { return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
INLINE v16i v_bits(v16 x) { return (v16i){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
INLINE v16 v_from_bits(v16i x) { return (v16){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
INLINE v16i vi_set(int32_t f) { return (v16i){_mm256_set1_epi32(f), _mm256_set1_epi32(f)}; }
INLINE v16i vi_add(v16i x, v16i y) { return VI2(_mm256_add_epi32); }
INLINE v16i vi_sub(v16i x, v16i y) { return VI2(_mm256_sub_epi32); }
INLINE v16i vi_and(v16i x, v16i y) { return VI2(_mm256_and_si256); }
INLINE v16i vi_shl23(v16i x) { return (v16i){_mm256_slli_epi32(x.a, 23), _mm256_slli_epi32(x.b, 23)}; }
INLINE v16i vi_sar23(v16i x) { return (v16i){_mm256_srai_epi32(x.a, 23), _mm256_srai_epi32(x.b, 23)}; }
INLINE float v_hsum(v16 x)
{
	__m256 h = _mm256_add_ps(x.a, x.b);
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
INLINE float v_hmax(v16 x)
{
	__m256 h = _mm256_max_ps(x.a, x.b);
	__m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
	q = _mm_max_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}
INLINE uint32_t v_equal(v16 x, float f)
{
	__m256 y = _mm256_set1_ps(f);
	return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y, _CMP_EQ_OQ)) | (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y, _CMP_EQ_OQ)) << 8;
}
#undef V2
#undef VI2
#else
#define V_TILE_ROWS 4
typedef struct { float f[16]; } v16;
typedef struct { int32_t i[16]; } v16i;
#define EACH(type, expr)                                                                                               \
	do {                                                                                                           \
		type r_;                                                                                               \
		for (int i = 0; i < 16; i++) { expr; }                                                                 \
		return r_;                                                                                             \
	} while (0)
INLINE v16 v_zero(void) { EACH(v16, r_.f[i] = 0); }
INLINE v16 v_set(float x) { EACH(v16, r_.f[i] = x); }
INLINE v16 v_load(const float *p) { EACH(v16, r_.f[i] = p[i]); }
INLINE void v_store(float *p, v16 a) { memcpy(p, a.f, sizeof a.f); }
INLINE v16 v_load_n(const float *p, int n) { EACH(v16, r_.f[i] = i < n ? p[i] : 0); }
INLINE void v_store_n(float *p, v16 a, int n) { for (int i = 0; i < n && i < 16; i++) p[i] = a.f[i]; }
INLINE v16 v_fill_tail(v16 a, int n, float x) { EACH(v16, r_.f[i] = i < n ? a.f[i] : x); }
INLINE v16 v_add(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] + b.f[i]); }
INLINE v16 v_sub(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] - b.f[i]); }
INLINE v16 v_mul(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] * b.f[i]); }
INLINE v16 v_div(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] / b.f[i]); }
INLINE v16 v_sqrt(v16 a) { EACH(v16, r_.f[i] = sqrtf(a.f[i])); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { EACH(v16, r_.f[i] = __builtin_fmaf(a.f[i], b.f[i], c.f[i])); }
INLINE v16 v_max(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
INLINE v16 v_min(v16 a, v16 b) { EACH(v16, r_.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
INLINE v16 v_select_lt(v16 x, v16 l, v16 a, v16 b) { EACH(v16, r_.f[i] = x.f[i] < l.f[i] ? a.f[i] : b.f[i]); }
INLINE v16i v_round_int(v16 a) { EACH(v16i, r_.i[i] = isnan(a.f[i]) ? INT32_MIN : (int32_t)lrintf(a.f[i])); }
INLINE v16 v_float(v16i a) { EACH(v16, r_.f[i] = (float)a.i[i]); }
INLINE v16i v_bits(v16 a) { EACH(v16i, memcpy(&r_.i[i], &a.f[i], 4)); }
INLINE v16 v_from_bits(v16i a) { EACH(v16, memcpy(&r_.f[i], &a.i[i], 4)); }
INLINE v16i vi_set(int32_t x) { EACH(v16i, r_.i[i] = x); }
INLINE v16i vi_add(v16i a, v16i b) { EACH(v16i, r_.i[i] = (int32_t)((uint32_t)a.i[i] + (uint32_t)b.i[i])); }
INLINE v16i vi_sub(v16i a, v16i b) { EACH(v16i, r_.i[i] = (int32_t)((uint32_t)a.i[i] - (uint32_t)b.i[i])); }
INLINE v16i vi_and(v16i a, v16i b) { EACH(v16i, r_.i[i] = a.i[i] & b.i[i]); }
INLINE v16i vi_shl23(v16i a) { EACH(v16i, r_.i[i] = (int32_t)((uint32_t)a.i[i] << 23)); }
INLINE v16i vi_sar23(v16i a) { EACH(v16i, r_.i[i] = a.i[i] >> 23); }
INLINE float v_hsum(v16 a)
{
	for (int s = 8; s; s /= 2)
		for (int i = 0; i < s; i++) a.f[i] += a.f[i + s];
	return a.f[0];
}
INLINE float v_hmax(v16 a)
{
	for (int s = 8; s; s /= 2)
		for (int i = 0; i < s; i++) a.f[i] = a.f[i] > a.f[i + s] ? a.f[i] : a.f[i + s];
	return a.f[0];
}
INLINE uint32_t v_equal(v16 a, float x)
{
	uint32_t m = 0;
	for (int i = 0; i < 16; i++) m |= (uint32_t)(a.f[i] == x) << i;
	return m;
}
#undef EACH
#endif

/* exp, error below 1.3 ulp; 0 below -86.6, inf above 88.72; NaN stays. Cody–Waite reduction, degree 6. */
INLINE v16 v_exp(v16 x)
{
	v16 c = v_min(v_set(88.9f), v_max(v_set(-87.0f), x));
	v16i n = v_round_int(v_mul(c, v_set(1.44269504f)));
	v16 f = v_float(n);
	v16 r = v_fma(f, v_set(-0.693359375f), c);
	r = v_fma(f, v_set(2.12194440e-4f), r);
	v16 p = v_set(1.98756915e-4f);
	p = v_fma(p, r, v_set(1.39819995e-3f));
	p = v_fma(p, r, v_set(8.33345158e-3f));
	p = v_fma(p, r, v_set(4.16657950e-2f));
	p = v_fma(p, r, v_set(1.66666650e-1f));
	p = v_fma(p, r, v_set(5.0e-1f));
	p = v_fma(v_mul(r, r), p, v_add(r, v_set(1.0f)));
	/* 2^n in two factors, so that n = 128 is reached */
	v16i half = vi_add(n, vi_set(-1));
	v16 s = v_from_bits(vi_shl23(vi_add(half, vi_set(127))));
	p = v_mul(v_mul(p, s), v_set(2.0f));
	return v_select_lt(x, v_set(-86.6f), v_zero(), p);
}

/* erf, error below 2 ulp; NaN stays. Below 0.93 an odd polynomial, above 1 - exp of one. */
INLINE v16 v_erf(v16 x)
{
	v16 t = v_max(x, v_sub(v_zero(), x)), s = v_mul(x, x), one = v_set(1.0f);
	v16 r = v_fma(v_set(-1.72853470e-5f), t, v_set(3.83197126e-4f));
	r = v_fma(r, s, v_fma(v_set(-3.88396438e-3f), t, v_set(2.42546219e-2f)));
	r = v_fma(r, t, v_set(-1.06777877e-1f));
	r = v_fma(r, t, v_set(-6.34846687e-1f));
	r = v_fma(r, t, v_set(-1.28717512e-1f));
	r = v_sub(one, v_exp(v_fma(r, t, v_sub(v_zero(), t))));
	v16 far = v_select_lt(v_set(4.0f), t, one, r); /* the polynomial turns round far out */
	far = v_select_lt(x, v_zero(), v_sub(v_zero(), far), far);
	v16 p = v_set(-5.96761703e-4f);
	p = v_fma(p, s, v_set(4.99119423e-3f));
	p = v_fma(p, s, v_set(-2.67681349e-2f));
	p = v_fma(p, s, v_set(1.12819925e-1f));
	p = v_fma(p, s, v_set(-3.76125336e-1f));
	p = v_fma(p, s, v_set(1.28379166e-1f));
	p = v_fma(p, x, x);
	return v_select_lt(v_set(0.927734375f), t, far, p);
}

/* log of positive normal numbers (Cephes), error below 1 ulp; inf and NaN stay. The callers pass sums of at least one
 * exp(0), so zero and negative numbers do not come. */
INLINE v16 v_log(v16 x)
{
	v16i b = v_bits(x);
	v16i e = vi_sub(vi_sar23(b), vi_set(126));
	v16 m = v_from_bits(vi_add(vi_and(b, vi_set(0x007fffff)), vi_set(0x3f000000))); /* [0.5, 1) */
	v16 small = v_set(0.707106781f);
	v16 ef = v_float(e);
	ef = v_select_lt(m, small, v_sub(ef, v_set(1.0f)), ef);
	m = v_select_lt(m, small, v_sub(v_add(m, m), v_set(1.0f)), v_sub(m, v_set(1.0f)));
	v16 z = v_mul(m, m);
	v16 p = v_set(7.0376836292e-2f);
	p = v_fma(p, m, v_set(-1.1514610310e-1f));
	p = v_fma(p, m, v_set(1.1676998740e-1f));
	p = v_fma(p, m, v_set(-1.2420140846e-1f));
	p = v_fma(p, m, v_set(1.4249322787e-1f));
	p = v_fma(p, m, v_set(-1.6668057665e-1f));
	p = v_fma(p, m, v_set(2.0000714765e-1f));
	p = v_fma(p, m, v_set(-2.4999993993e-1f));
	p = v_fma(p, m, v_set(3.3333331174e-1f));
	p = v_mul(v_mul(p, m), z);
	p = v_fma(ef, v_set(-2.12194440e-4f), p);
	p = v_fma(z, v_set(-0.5f), p);
	return v_select_lt(x, v_set(INFINITY), v_fma(ef, v_set(0.693359375f), v_add(m, p)), x);
}

INLINE float s_exp(float x)
{
	float f[16];
	v_store(f, v_exp(v_set(x)));
	return f[0];
}

INLINE float s_log(float x)
{
	float f[16];
	v_store(f, v_log(v_set(x)));
	return f[0];
}

INLINE v16 v_sigmoid(v16 x)
{
	return v_div(v_set(1.0f), v_add(v_set(1.0f), v_exp(v_sub(v_zero(), x))));
}

#endif
