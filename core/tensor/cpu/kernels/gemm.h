/* The matrix product all others are made of: C[m, n] (+)= sum_k A(i, k) * B[k, n]
 * (gemm.c says how and why). */
#ifndef TENFOLD_TENSOR_GEMM_H
#define TENFOLD_TENSOR_GEMM_H

#include "core/tensor/cpu/cpu.h"
#include "core/tensor/cpu/kernels/simd.h"

struct gemm {
	int64_t m, n, k;
	const float *a;
	int64_t a_row;          /* floats from row to row of A; 0: A is transposed, A(i, k) = a[k * a_step + i] */
	int64_t a_step;         /* of a transposed A */
	const int32_t *index;   /* [m] rows of A (not transposed), or NULL */
	const int32_t *a_k;     /* [k] rows of a transposed A, or NULL */
	const float *b;
	int64_t b_panel, b_row; /* floats from panel to panel, from k to k+1 (32: packed) */
	float *c;
	int64_t c_row;
	int add; /* start from what is in c */
};

/* Panels of n outputs. */
static inline int64_t gemm_panels(int64_t n)
{
	return (n + PANEL - 1) / PANEL;
}

/* Rows [row0, row1) and panels [panel0, panel1) of the product, by the calling thread. */
void K(gemm_block)(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1);
/* The whole product, split over the pool. */
void K(gemm_run)(struct cpu_backend *b, const struct gemm *g);

#endif
