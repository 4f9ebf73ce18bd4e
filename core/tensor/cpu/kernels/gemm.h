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
	const uint16_t *b16;    /* B in bf16, in place of b */
	int64_t b_matrix;       /* from matrix to matrix of a stack */
	int64_t b_out;          /* not 0: B is not panels but rows of k, as a weight is stored: B(k, n) = b[n * b_out + k] */
	int round;              /* what is not in bf16 yet is rounded to it */
	float *c;
	int64_t c_row;
	int add; /* start from what is in c */
};

/* Panels of n outputs. */
static inline int64_t gemm_panels(int64_t n)
{
	return (n + PANEL - 1) / PANEL;
}

/* The weights w, `matrices` stacked [out, in], as B (the first of them): of x·wᵀ, or turned of dy·w. In f32 packed, else as they
 * lie. Main thread only. */
static inline void gemm_weight(struct cpu_backend *b, struct gemm *g, struct tensor w, int64_t matrices, int turned)
{
	int64_t out = w.rows / matrices;
	g->n = turned ? w.cols : out;
	g->k = turned ? out : w.cols;
	g->round = b->bf16;
	if (w.dtype == DTYPE_F32 && !b->bf16) {
		g->b = cpu_packed(b, w, matrices, turned);
		g->b_panel = g->k * PANEL;
		g->b_row = PANEL;
		g->b_matrix = gemm_panels(g->n) * g->b_panel;
		return;
	}
	if (w.dtype == DTYPE_BF16) g->b16 = w.data;
	else g->b = w.data;
	g->b_matrix = g->n * g->k;
	if (turned) g->b_panel = PANEL, g->b_row = w.cols;
	else g->b_out = w.cols;
}
/* 1 for gemm_convert.c. */
INLINE int gemm_is_converted(const struct gemm *g)
{
	return g->b16 || g->b_out || g->round;
}

/* Rows [row0, row1) and panels [panel0, panel1) of the product, by the calling thread. */
void K(gemm_block_converted)(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1);
void K(gemm_block)(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1);
/* The whole product, split over the pool. */
void K(gemm_run)(struct cpu_backend *b, const struct gemm *g);

#endif
