/* bf16 in the sixteen f32 lanes of simd.h: widened by a shift, rounded to nearest
 * even as core/tensor/bf16.h does it. The same bits in all three builds. */
#ifndef TENFOLD_TENSOR_SIMD_BF16_H
#define TENFOLD_TENSOR_SIMD_BF16_H

#include "core/tensor/bf16.h"
#include "core/tensor/cpu/kernels/simd.h"

#if defined(__AVX512F__)
INLINE v16 v_load_bf16(const uint16_t *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16)); }
INLINE v16 v_round_bf16(v16 x)
{
	__m512i b = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
	__m512i r = _mm512_add_epi32(_mm512_add_epi32(b, _mm512_set1_epi32(0x7FFF)), odd);
	r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), b, _mm512_set1_epi32(0x400000));
	return _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32((int)0xFFFF0000u)));
}
/* Sixteen rows of 32 numbers, `step` apart, become 32 rows of sixteen, `to_step` apart. A word is two neighbours of a row: words are
 * turned, then taken apart. */
INLINE void v_turn_bf16(const uint16_t *from, int64_t step, float *to, int64_t to_step)
{
	__m512i r[16], t[16];
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * step);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88), t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88), t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88), r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88), r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		_mm512_storeu_ps(to + 2 * i * to_step, _mm512_castsi512_ps(_mm512_slli_epi32(r[i], 16)));
		_mm512_storeu_ps(to + (2 * i + 1) * to_step, _mm512_castsi512_ps(_mm512_and_si512(r[i], _mm512_set1_epi32((int)0xFFFF0000u))));
	}
}
#elif defined(__AVX2__)
INLINE v16 v_load_bf16(const uint16_t *p)
{
	return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16)),
		     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p + 8))), 16))};
}
INLINE __m256 v_half_round_bf16(__m256 x)
{
	__m256i b = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(1));
	__m256i r = _mm256_add_epi32(_mm256_add_epi32(b, _mm256_set1_epi32(0x7FFF)), odd), nan = _mm256_or_si256(b, _mm256_set1_epi32(0x400000));
	r = _mm256_blendv_epi8(r, nan, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
	return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32((int)0xFFFF0000u)));
}
INLINE v16 v_round_bf16(v16 x) { return (v16){v_half_round_bf16(x.a), v_half_round_bf16(x.b)}; }
/* Eight rows of sixteen numbers; see above. */
INLINE void v_half_turn_bf16(const uint16_t *from, int64_t step, float *to, int64_t to_step)
{
	__m256i r[8], t[8];
	for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_si256((const void *)(from + i * step));
	for (int i = 0; i < 8; i += 2) t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]), r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]), r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
		t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
	}
	for (int i = 0; i < 8; i++) {
		_mm256_storeu_ps(to + 2 * i * to_step, _mm256_castsi256_ps(_mm256_slli_epi32(t[i], 16)));
		_mm256_storeu_ps(to + (2 * i + 1) * to_step, _mm256_castsi256_ps(_mm256_and_si256(t[i], _mm256_set1_epi32((int)0xFFFF0000u))));
	}
}
INLINE void v_turn_bf16(const uint16_t *from, int64_t step, float *to, int64_t to_step)
{
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++) v_half_turn_bf16(from + 8 * i * step + 16 * k, step, to + 16 * k * to_step + 8 * i, to_step);
}
#else
INLINE v16 v_load_bf16(const uint16_t *p)
{
	v16 r;
	for (int i = 0; i < 16; i++) r.f[i] = bf16_widen(p[i]);
	return r;
}
INLINE v16 v_round_bf16(v16 x)
{
	for (int i = 0; i < 16; i++) x.f[i] = bf16_widen(bf16_round(x.f[i]));
	return x;
}
INLINE void v_turn_bf16(const uint16_t *from, int64_t step, float *to, int64_t to_step)
{
	for (int k = 0; k < 32; k++)
		for (int i = 0; i < 16; i++) to[k * to_step + i] = bf16_widen(from[i * step + k]);
}
#endif

#endif
