/* The matrix product all others are made of: C[m, n] (+)= Σ_k A(i, k) · B(k, j)
 * (product.cu says how), for one matrix or for a stack of experts whose rows, or
 * whose reduction, lie between offsets that only the device knows. */
#ifndef TENFOLD_TENSOR_CUDA_PRODUCT_H
#define TENFOLD_TENSOR_CUDA_PRODUCT_H

#include "core/tensor/cuda/kernels/kernels.h"

enum product_groups {
	PRODUCT_ONE = 0,
	PRODUCT_ROWS, /* rows offset[e] .. offset[e+1] of A and C belong to matrix e of B; m: rows of all */
	PRODUCT_SUMS, /* reduction indices offset[e] .. offset[e+1] belong to matrix e of C; k is not used */
};

struct product {
	int64_t m, n, k;
	const float *a;
	int64_t a_row;
	int a_turned;           /* 0: A(i, k) = a[i·a_row + k]; 1: A(i, k) = a[k·a_row + i] */
	const int32_t *a_index; /* row of a for each i (or, turned, for each k); NULL: itself */
	const void *b;          /* f32, or bf16, which is widened */
	int b_half;             /* 1: bf16 */
	int64_t b_row;
	int b_turned;           /* 0: B(k, j) = b[k·b_row + j]; 1: B(k, j) = b[j·b_row + k] (weights [out, in]) */
	const int32_t *b_index; /* not turned: row of b for each k; NULL: itself */
	float *c;
	int64_t c_row;
	int add;                /* start from what is in c */
	const float *bias;      /* [n]: start from it; with add, added at the end */
	enum product_groups groups;
	int experts;
	const int32_t *offset;  /* device, [experts+1] */
	int64_t b_expert, c_expert; /* numbers from one expert's matrix to the next */
	/* of a pair: c2 = A·b2 and act = silu(c)·c2, in the layouts of b and c; neither add nor bias */
	const void *b2;
	float *c2, *act;
};

/* In the backend's precision. */
CUDA_API void K(product_run)(struct backend *, const struct product *);
/* Both products of a pair and the activation in one kernel, which reads A once: for few rows, where nothing but the reading
 * counts. 0, and nothing is done, for many, where two accumulators a thread would leave the wide tile no registers. */
CUDA_API int K(product_pair)(struct backend *, const struct product *);
/* Inputs rounded to bf16, sums in f32 (product_bf16.cu). */
CUDA_API void K(product_run_bf16)(struct backend *, const struct product *);
CUDA_API void K(product_pair_bf16)(struct backend *, const struct product *);

#endif
