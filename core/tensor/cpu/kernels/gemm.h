/* The matrix product all others are made of: C[m, n] (+)= sum_k A(i, k) * B[k, n].
 *
 * Lanes run over n (32 outputs, two vectors), each output has one accumulator,
 * k is strictly in order with fused multiply-add. So an output's bits depend on
 * its own row and column only: not on m, tiling or threads. Blocks of k continue
 * from the stored partial sum, which is the same sum in the same order.
 *
 * A(i, k) = a[i * a_row + k * a_step] (or a[index[i] * a_row + …]), so that the
 * forward product, the gradient by x (B = W as stored) and the gradient by W
 * (A = dYᵀ, B = X, k = tokens) are the same code. Measured against oneDNN in
 * docs/benchmarks.md. */
#ifndef TENFOLD_TENSOR_GEMM_H
#define TENFOLD_TENSOR_GEMM_H

#include "core/tensor/cpu/cpu.h"
#include "core/tensor/cpu/kernels/simd.h"

enum { GEMM_ROWS = 96, GEMM_K = 512 };

struct gemm {
	int64_t m, n, k;
	const float *a;
	int64_t a_row, a_step;
	const int32_t *index; /* [m] rows of a, or NULL */
	const float *b;
	int64_t b_panel, b_row; /* floats from panel to panel, from k to k+1 */
	float *c;
	int64_t c_row;
	int add; /* start from what is in c */
};

INLINE void gemm_tile(const int mr, const int masked, int cols, int64_t k, const float *const *a, int64_t a_step, const float *b,
		      int64_t b_row, float *c, int64_t c_row, int load)
{
	const int n0 = masked ? (cols < 16 ? cols : 16) : 16, n1 = masked ? (cols > 16 ? cols - 16 : 0) : 16;
	v16 s0[V_TILE_ROWS], s1[V_TILE_ROWS];
#pragma GCC unroll 16
	for (int i = 0; i < mr; i++) {
		if (load) {
			s0[i] = masked ? v_load_n(c + i * c_row, n0) : v_load(c + i * c_row);
			s1[i] = masked ? v_load_n(c + i * c_row + 16, n1) : v_load(c + i * c_row + 16);
		} else {
			s0[i] = s1[i] = v_zero();
		}
	}
	for (int64_t j = 0; j < k; j++) {
		v16 b0 = masked ? v_load_n(b, n0) : v_load(b), b1 = masked ? v_load_n(b + 16, n1) : v_load(b + 16);
#pragma GCC unroll 16
		for (int i = 0; i < mr; i++) {
			v16 x = v_set(a[i][j * a_step]);
			s0[i] = v_fma(x, b0, s0[i]);
			s1[i] = v_fma(x, b1, s1[i]);
		}
		b += b_row;
	}
#pragma GCC unroll 16
	for (int i = 0; i < mr; i++) {
		if (masked) {
			v_store_n(c + i * c_row, s0[i], n0);
			v_store_n(c + i * c_row + 16, s1[i], n1);
		} else {
			v_store(c + i * c_row, s0[i]);
			v_store(c + i * c_row + 16, s1[i]);
		}
	}
}

/* One register tile of `rows` <= V_TILE_ROWS rows and one panel. */
static __attribute__((noinline, unused)) void gemm_micro(int rows, int cols, int64_t k, const float *const *a, int64_t a_step,
							  const float *b, int64_t b_row, float *c, int64_t c_row, int load)
{
#define GEMM_CASE(r)                                                                                                   \
	case r:                                                                                                        \
		if (cols >= PANEL && a_step == 1) gemm_tile(r, 0, cols, k, a, 1, b, b_row, c, c_row, load);            \
		else if (cols >= PANEL) gemm_tile(r, 0, cols, k, a, a_step, b, b_row, c, c_row, load);                 \
		else gemm_tile(r, 1, cols, k, a, a_step, b, b_row, c, c_row, load);                                    \
		break;
	switch (rows) {
		GEMM_CASE(1)
		GEMM_CASE(2)
		GEMM_CASE(3)
#if V_TILE_ROWS >= 4
		GEMM_CASE(4)
#endif
#if V_TILE_ROWS >= 12
		GEMM_CASE(5)
		GEMM_CASE(6)
		GEMM_CASE(7)
		GEMM_CASE(8)
		GEMM_CASE(9)
		GEMM_CASE(10)
		GEMM_CASE(11)
		GEMM_CASE(12)
#endif
	default: CHECK(0, "register tile of %d rows", rows);
	}
#undef GEMM_CASE
}

/* Rows [row0, row1) and panels [panel0, panel1) of the product. */
static __attribute__((unused)) void gemm_block(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1)
{
	int64_t tiles = (row1 - row0 + V_TILE_ROWS - 1) / V_TILE_ROWS;
	for (int64_t k0 = 0; k0 < g->k || k0 == 0; k0 += GEMM_K) {
		int64_t kn = g->k - k0 < GEMM_K ? g->k - k0 : GEMM_K;
		for (int64_t p = panel0; p < panel1; p++) {
			const float *b = g->b + p * g->b_panel + k0 * g->b_row;
			int cols = (int)(g->n - p * PANEL < PANEL ? g->n - p * PANEL : PANEL);
			for (int64_t t = 0; t < tiles; t++) {
				int64_t i0 = row0 + (row1 - row0) * t / tiles, i1 = row0 + (row1 - row0) * (t + 1) / tiles;
				const float *a[V_TILE_ROWS];
				for (int64_t i = i0; i < i1; i++)
					a[i - i0] = g->a + (g->index ? g->index[i] : i) * g->a_row + k0 * g->a_step;
				gemm_micro((int)(i1 - i0), cols, kn, a, g->a_step, b, g->b_row, g->c + i0 * g->c_row + p * PANEL,
					   g->c_row, g->add || k0 > 0);
			}
		}
	}
}

static inline int64_t gemm_panels(int64_t n)
{
	return (n + PANEL - 1) / PANEL;
}

/* A product split over the pool: tasks are (rows block, panels block). */
struct gemm_job {
	const struct gemm *g;
	int64_t panels_per_task, panel_tasks;
};

static void gemm_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct gemm_job *j = arg;
	int64_t r = task / j->panel_tasks, p = task % j->panel_tasks, panels = gemm_panels(j->g->n);
	int64_t row1 = (r + 1) * GEMM_ROWS < j->g->m ? (r + 1) * GEMM_ROWS : j->g->m;
	int64_t p1 = (p + 1) * j->panels_per_task < panels ? (p + 1) * j->panels_per_task : panels;
	gemm_block(j->g, r * GEMM_ROWS, row1, p * j->panels_per_task, p1);
}

static __attribute__((unused)) void gemm_run(struct cpu_backend *b, const struct gemm *g)
{
	if (g->m == 0 || g->n == 0) return;
	int64_t rows = g->m < GEMM_ROWS ? g->m : GEMM_ROWS, panels = gemm_panels(g->n);
	int64_t work = rows * PANEL * (g->k + 1); /* multiply-adds of one panel */
	int64_t per = (1 << 17) / work;
	if (per < 1) per = 1;
	if (per > panels) per = panels;
	struct gemm_job job = {g, per, (panels + per - 1) / per};
	pool_run(b->pool, (int)((g->m + GEMM_ROWS - 1) / GEMM_ROWS * job.panel_tasks), gemm_task, &job);
}

#endif
