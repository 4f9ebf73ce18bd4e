/* What forward and backward of attention share. */
#ifndef TENFOLD_TENSOR_CUDA_ATTENTION_H
#define TENFOLD_TENSOR_CUDA_ATTENTION_H

#include "core/tensor/cuda/kernels/kernels.h"

enum { HEAD_MAX = 512 };

/* A lane's numbers for its keys lane and lane + 32. */
struct two {
	float a, b;
};

/* Number `at` of pages in f32, or (half) in bf16. */
DEVICE float page_at(const void *pages, int64_t at, const int half)
{
	return half ? d_float_of((int)((uint32_t)((const uint16_t *)pages)[at] << 16)) : ((const float *)pages)[at];
}

/* 1 when row t looks at block b of its sequence for key/value head j. */
DEVICE int attention_visits(const struct attention_args *a, int64_t t, int j, int b)
{
	int own = a->row_pos[t] / KV_PAGE;
	return b <= own && (!a->blocks || b == own || a->blocks[(t * a->kv_heads + j) * a->table_stride + b]);
}

static inline void attention_check(const struct attention_args *a)
{
	CHECK(a->dk <= HEAD_MAX && a->dv <= HEAD_MAX && a->heads % a->kv_heads == 0, "attention: %d heads on %d, sizes %d and %d", a->heads, a->kv_heads,
	      a->dk, a->dv);
}

#endif
