/* Products whose operands are not f32 in packed panels: weights in bf16 as they lie
 * in memory or in a mapped file, and inputs that are rounded to bf16.
 *
 * A block of each operand is widened or rounded into a buffer, and gemm.c does the
 * block: widening is exact and the product of two bf16 numbers is exact in f32,
 * so the sum over k is the same chain in the same order, and the bits do not
 * depend on rows, tiles, threads or the instruction set here either. vdpbf16ps,
 * which would save the buffer, flushes subnormals and adds pairs in an order of
 * its own: other bits than AVX2 can give.
 *
 * Weights in bf16 are therefore not packed: they are read once for each block of
 * rows at half the bytes of f32, which is what a decoding step waits for. */
#include "core/tensor/cpu/kernels/gemm.h"
#include "core/tensor/cpu/kernels/simd_bf16.h"

enum { CONVERT_ROWS = 96, CONVERT_K = 256, CONVERT_PANELS = 2 };

static void convert_row(const float *from, float *to, int64_t n, int round)
{
	for (int64_t i = 0; i < n; i += 16) {
		int some = n - i < 16 ? (int)(n - i) : 16;
		v16 x = v_load_n(from + i, some);
		v_store_n(to + i, round ? v_round_bf16(x) : x, some);
	}
}

/* Rows [row0, row0+rows) of A by k [k0, k0+kn): [rows][kn], or [kn][rows] of a transposed A. */
static void convert_a(const struct gemm *g, int64_t row0, int64_t rows, int64_t k0, int64_t kn, float *to)
{
	if (g->a_row)
		for (int64_t i = 0; i < rows; i++) convert_row(g->a + (g->index ? g->index[row0 + i] : row0 + i) * g->a_row + k0, to + i * kn, kn, g->round);
	else
		for (int64_t j = 0; j < kn; j++) convert_row(g->a + (g->a_k ? g->a_k[k0 + j] : k0 + j) * g->a_step + row0, to + j * rows, rows, g->round);
}

/* [cols] rows of k, `step` apart, from k0 on: to [kn][PANEL]. */
static void convert_turned(const struct gemm *g, int64_t first, int64_t cols, int64_t k0, int64_t kn, float *to)
{
	const uint16_t *half = g->b16 ? g->b16 + first * g->b_out + k0 : NULL;
	const float *full = g->b16 ? NULL : g->b + first * g->b_out + k0;
	int64_t c = 0;
	for (; half && c + 16 <= cols; c += 16) {
		int64_t j = 0;
		for (; j + 32 <= kn; j += 32) v_turn_bf16(half + c * g->b_out + j, g->b_out, to + j * PANEL + c, PANEL);
		for (; j < kn; j++)
			for (int64_t i = c; i < c + 16; i++) to[j * PANEL + i] = bf16_widen(half[i * g->b_out + j]);
	}
	for (; c < cols; c++)
		for (int64_t j = 0; j < kn; j++) {
			float x = half ? bf16_widen(half[c * g->b_out + j]) : full[c * g->b_out + j];
			to[j * PANEL + c] = !half && g->round ? bf16_widen(bf16_round(x)) : x;
		}
}

/* One panel of B by k [k0, k0+kn): [kn][PANEL]. */
static void convert_b(const struct gemm *g, int64_t panel, int64_t k0, int64_t kn, float *to)
{
	int64_t cols = g->n - panel * PANEL < PANEL ? g->n - panel * PANEL : PANEL;
	if (g->b_out) {
		convert_turned(g, panel * PANEL, cols, k0, kn, to);
		return;
	}
	for (int64_t j = 0; j < kn; j++) {
		int64_t at = (k0 + j) * g->b_row + panel * g->b_panel;
		if (!g->b16) {
			convert_row(g->b + at, to + j * PANEL, cols, g->round);
		} else if (cols == PANEL) {
			v_store(to + j * PANEL, v_load_bf16(g->b16 + at));
			v_store(to + j * PANEL + 16, v_load_bf16(g->b16 + at + 16));
		} else {
			for (int64_t i = 0; i < cols; i++) to[j * PANEL + i] = bf16_widen(g->b16[at + i]);
		}
	}
}

/* Rows [row0, row0+rows), at most CONVERT_ROWS, of panels [panel0, panel1). */
static void convert_rows(const struct gemm *g, int64_t row0, int64_t rows, int64_t panel0, int64_t panel1)
{
	float a[CONVERT_ROWS * CONVERT_K] __attribute__((aligned(64))), b[CONVERT_PANELS * CONVERT_K * PANEL] __attribute__((aligned(64)));
	const int copy = g->round || !g->a_row;
	for (int64_t k0 = 0; k0 < g->k || k0 == 0; k0 += CONVERT_K) {
		int64_t kn = g->k - k0 < CONVERT_K ? g->k - k0 : CONVERT_K;
		struct gemm s = {.m = rows, .k = kn, .a = a, .a_row = g->a_row ? kn : 0, .a_step = rows, .b = b, .b_panel = kn * PANEL, .b_row = PANEL,
				 .c_row = g->c_row, .add = g->add || k0 > 0};
		if (copy) convert_a(g, row0, rows, k0, kn, a);
		else s.a = g->a + (g->index ? 0 : row0 * g->a_row) + k0, s.a_row = g->a_row, s.index = g->index ? g->index + row0 : NULL;
		for (int64_t p = panel0; p < panel1; p += CONVERT_PANELS) {
			int64_t end = p + CONVERT_PANELS < panel1 ? p + CONVERT_PANELS : panel1;
			for (int64_t n = p; n < end; n++) convert_b(g, n, k0, kn, b + (n - p) * kn * PANEL);
			s.n = end * PANEL < g->n ? (end - p) * PANEL : g->n - p * PANEL;
			s.c = g->c + row0 * g->c_row + p * PANEL;
			K(gemm_block)(&s, 0, rows, 0, end - p);
		}
	}
}

void K(gemm_block_converted)(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1)
{
	int64_t blocks = (row1 - row0 + CONVERT_ROWS - 1) / CONVERT_ROWS;
	for (int64_t r = 0; r < blocks; r++) {
		int64_t first = row0 + (row1 - row0) * r / blocks, last = row0 + (row1 - row0) * (r + 1) / blocks;
		convert_rows(g, first, last - first, panel0, panel1);
	}
}
