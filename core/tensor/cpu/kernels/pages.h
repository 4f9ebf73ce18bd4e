/* Pages of keys and values as f32, whatever they are stored as. */
#ifndef TENFOLD_TENSOR_PAGES_H
#define TENFOLD_TENSOR_PAGES_H

#include "core/tensor/cpu/kernels/simd_bf16.h"
#include "core/tensor/tensor.h"

/* n numbers, a multiple of 16, from number `at` on: where they are, or from bf16 widened into room. */
INLINE const float *page_widened(const void *pages, enum dtype type, int64_t at, int64_t n, float *room)
{
	if (type == DTYPE_F32) return (const float *)pages + at;
	const uint16_t *half = (const uint16_t *)pages + at;
	for (int64_t i = 0; i < n; i += 16) v_store(room + i, v_load_bf16(half + i));
	return room;
}

#endif
