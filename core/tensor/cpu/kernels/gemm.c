/* The matrix product all others are made of: C[m, n] (+)= sum_k A(i, k) * B[k, n].
 *
 * Lanes run over n (32 outputs, two vectors), each output has one accumulator,
 * k is strictly in order with fused multiply-add. So an output's bits depend on
 * its own row and column only: not on m, tiling or threads. Blocks of k continue
 * from the stored partial sum, which is the same sum in the same order.
 *
 * A is rows of k (a_row, optionally by index), or transposed (columns: the weight
 * gradient, k = tokens, optionally by index). B is panels packed beforehand
 * (b_row = 32) or rows as stored. Rows by index and rows that lie far apart are
 * copied block by block into buffers of 48 and 64 KiB on the stack, because long
 * strides of a power of two fall into the same few cache sets; shorter ones are
 * cheaper in place. A register tile keeps its rows in the first cache and streams
 * B from the second; AVX2's small tile does it the other way round. Measured
 * against oneDNN by `bench`. */
#include "core/tensor/cpu/kernels/gemm.h"

enum {
	GEMM_ROWS = 96,        /* of A in one block */
	GEMM_K = 512,          /* when B is packed and A is rows */
	GEMM_COPY_K = 128,     /* when either is copied */
	GEMM_COPY_PANELS = 4,
	GEMM_FAR = 256,        /* floats between rows from which on copying pays */
	GEMM_GROUP = 1 << 16,  /* floats of B visited by all tiles before the next are */
};

/* Where a tile finds its operands: A(i, j) = a[i * a_row + j] and B in steps of b_row; or, turned, A(i, j) = a[a_at[j] + i]
 * and row j of B at b + b_at[j]. */
struct gemm_source {
	const float *a, *b;
	int64_t a_row, b_row;
	const int64_t *a_at, *b_at;
};

/* One register tile of mr rows and one panel. Rows of A are reached from every third one, which leaves registers free. */
INLINE void gemm_tile(const int mr, const int masked, const int turned, int cols, int64_t k, const struct gemm_source *from, const int64_t b_row, float *c,
		      int64_t c_row, int load)
{
	const int n0 = masked ? (cols < 16 ? cols : 16) : 16, n1 = masked ? (cols > 16 ? cols - 16 : 0) : 16;
	v16 s0[V_TILE_ROWS], s1[V_TILE_ROWS];
	const int64_t a_row = from->a_row, *a_at = from->a_at, *b_at = from->b_at;
	const float *a = from->a, *b = from->b, *a3 = a + 3 * a_row, *a6 = a + 6 * a_row, *a9 = a + 9 * a_row;
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
		const float *at = turned ? b + b_at[j] : b, *pa = turned ? a + a_at[j] : NULL;
		v16 b0 = masked ? v_load_n(at, n0) : v_load(at), b1 = masked ? v_load_n(at + 16, n1) : v_load(at + 16);
#pragma GCC unroll 16
		for (int i = 0; i < mr; i++) {
			v16 x = v_set(turned ? pa[i] : (i < 3 ? a : i < 6 ? a3 : i < 9 ? a6 : a9)[i % 3 * a_row]);
			s0[i] = v_fma(x, b0, s0[i]);
			s1[i] = v_fma(x, b1, s1[i]);
		}
		if (!turned) b += b_row, a++, a3++, a6++, a9++;
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

/* The tile for `rows` <= V_TILE_ROWS rows and `cols` <= PANEL columns. */
static __attribute__((noinline)) void gemm_micro(int rows, int turned, int cols, int64_t k, const struct gemm_source *from, float *c, int64_t c_row,
							  int load)
{
#define GEMM_CASE(r)                                                                                                   \
	case r:                                                                                                        \
		if (turned && cols >= PANEL) gemm_tile(r, 0, 1, cols, k, from, 0, c, c_row, load);                     \
		else if (turned) gemm_tile(r, 1, 1, cols, k, from, 0, c, c_row, load);                                 \
		else if (from->b_row != PANEL) gemm_tile(r, 1, 0, cols, k, from, from->b_row, c, c_row, load);         \
		else if (cols >= PANEL) gemm_tile(r, 0, 0, cols, k, from, PANEL, c, c_row, load);                      \
		else gemm_tile(r, 1, 0, cols, k, from, PANEL, c, c_row, load);                                         \
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

/* A block of the product: rows [row0, row0+rows), k [k0, k0+kn), in `tiles` tiles of nearly equal height. */
struct gemm_part {
	const struct gemm *g;
	int64_t row0, rows, tiles, k0, kn;
	const float *a_copy; /* [tiles][kn][V_TILE_ROWS] of a transposed A, [rows][kn] of rows by index, or NULL: in place */
	const float *b;      /* first panel of the group */
	int64_t b_panel, b_row;
	const int64_t *a_at, *b_at; /* [kn], transposed A only */
};

static inline int64_t gemm_tile_row(const struct gemm_part *p, int64_t tile)
{
	return p->rows * tile / p->tiles;
}

/* Asks for one tile of C, so that it is there when the tile before it is done. */
INLINE void gemm_prefetch(const float *c, int64_t c_row, int64_t rows)
{
	for (int64_t i = 0; i < rows; i++) {
		__builtin_prefetch(c + i * c_row, 1);
		__builtin_prefetch(c + i * c_row + 16, 1);
	}
}

/* One tile against panels [panel0, panel1), whose first is p->b + (panel0 - group) * p->b_panel. */
INLINE void gemm_tile_panels(const struct gemm_part *p, int64_t tile, int64_t group, int64_t panel0, int64_t panel1)
{
	const struct gemm *g = p->g;
	int64_t i0 = p->row0 + gemm_tile_row(p, tile), i1 = p->row0 + gemm_tile_row(p, tile + 1);
	struct gemm_source from = {.a_row = p->a_copy ? p->kn : g->a_row, .b_row = p->b_row, .a_at = p->a_at, .b_at = p->b_at};
	if (p->a_at) from.a = p->a_copy ? p->a_copy + tile * p->kn * V_TILE_ROWS : g->a + i0;
	else from.a = p->a_copy ? p->a_copy + (i0 - p->row0) * p->kn : g->a + i0 * g->a_row + p->k0;
	for (int64_t n = panel0; n < panel1; n++) {
		int cols = (int)(g->n - n * PANEL < PANEL ? g->n - n * PANEL : PANEL);
		from.b = p->b + (n - group) * p->b_panel;
		if (n + 1 < panel1) gemm_prefetch(g->c + i0 * g->c_row + (n + 1) * PANEL, g->c_row, i1 - i0);
		else if (tile + 1 < p->tiles) gemm_prefetch(g->c + i1 * g->c_row + panel0 * PANEL, g->c_row, i1 - i0);
		gemm_micro((int)(i1 - i0), p->a_at != NULL, cols, p->kn, &from, g->c + i0 * g->c_row + n * PANEL, g->c_row, g->add || p->k0 > 0);
	}
}

static inline void gemm_group(const struct gemm_part *p, int64_t panel0, int64_t panel1)
{
	if (V_TILE_ROWS >= 12)
		for (int64_t t = 0; t < p->tiles; t++) gemm_tile_panels(p, t, panel0, panel0, panel1);
	else
		for (int64_t n = panel0; n < panel1; n++)
			for (int64_t t = 0; t < p->tiles; t++) gemm_tile_panels(p, t, panel0, n, n + 1);
}

/* Copies of rows by index, of a transposed A tile by tile, and of panels of B, all of k in [k0, k0+kn). */
static inline void gemm_copy_rows(const struct gemm_part *p, float *copy)
{
	const struct gemm *g = p->g;
	for (int64_t i = 0; i < p->rows; i++)
		memcpy(copy + i * p->kn, g->a + g->index[p->row0 + i] * g->a_row + p->k0, (size_t)p->kn * sizeof *copy);
}

static inline void gemm_copy_a(const struct gemm_part *p, float *copy)
{
	const struct gemm *g = p->g;
	for (int64_t t = 0; t < p->tiles; t++) {
		int64_t i0 = gemm_tile_row(p, t);
		int n = (int)(gemm_tile_row(p, t + 1) - i0);
		float *to = copy + t * p->kn * V_TILE_ROWS;
		for (int64_t j = 0; j < p->kn; j++, to += V_TILE_ROWS) {
			const float *from = g->a + (g->a_k ? g->a_k[p->k0 + j] : p->k0 + j) * g->a_step + p->row0 + i0;
			if (V_TILE_ROWS >= 12) v_store(to, v_load_n(from, n)); /* 16 lanes: the next row overwrites the rest */
			else
				for (int i = 0; i < n; i++) to[i] = from[i];
		}
	}
}

static inline void gemm_copy_b(const struct gemm_part *p, int64_t panel0, int64_t panel1, float *copy)
{
	const struct gemm *g = p->g;
	for (int64_t j = 0; j < p->kn; j++) {
		const float *row = g->b + (p->k0 + j) * g->b_row;
		for (int64_t n = panel0; n < panel1; n++) {
			const float *from = row + n * g->b_panel;
			float *to = copy + ((n - panel0) * p->kn + j) * PANEL;
			int cols = (int)(g->n - n * PANEL);
			if (cols >= PANEL) {
				v_store(to, v_load(from));
				v_store(to + 16, v_load(from + 16));
			} else {
				v_store(to, v_load_n(from, cols < 16 ? cols : 16));
				v_store(to + 16, v_load_n(from + 16, cols > 16 ? cols - 16 : 0));
			}
		}
	}
}

/* Offsets of the rows [k0, k0+kn) of an operand: in its copy, by index, or in steps. */
static inline void gemm_offsets(const struct gemm_part *p, int64_t *at, const int32_t *index, int64_t step, int64_t copied)
{
	for (int64_t j = 0; j < p->kn; j++) at[j] = copied ? j * copied : (index ? index[p->k0 + j] : p->k0 + j) * step;
}

/* Rows [row0, row0+rows), at most GEMM_ROWS, of panels [panel0, panel1). */
static inline void gemm_rows(const struct gemm *g, int64_t row0, int64_t rows, int64_t panel0, int64_t panel1)
{
	float a_copy[(GEMM_ROWS + V_TILE_ROWS) * GEMM_COPY_K + 16] __attribute__((aligned(64)));
	float b_copy[GEMM_COPY_PANELS * GEMM_COPY_K * PANEL] __attribute__((aligned(64)));
	int64_t a_at[GEMM_COPY_K], b_at[GEMM_COPY_K];
	const int turned = g->a_row == 0, copy_a = turned ? g->a_k || g->a_step >= GEMM_FAR : g->index != NULL;
	const int copy_b = turned && g->b_row >= GEMM_FAR && rows > V_TILE_ROWS;
	const int64_t step = turned || copy_a ? GEMM_COPY_K : GEMM_K;
	struct gemm_part p = {.g = g, .row0 = row0, .rows = rows, .tiles = (rows + V_TILE_ROWS - 1) / V_TILE_ROWS, .a_copy = copy_a ? a_copy : NULL};
	for (; p.k0 < g->k || p.k0 == 0; p.k0 += step) {
		p.kn = g->k - p.k0 < step ? g->k - p.k0 : step;
		if (copy_a && !turned) gemm_copy_rows(&p, a_copy);
		if (turned) {
			if (copy_a) gemm_copy_a(&p, a_copy);
			gemm_offsets(&p, a_at, g->a_k, g->a_step, copy_a ? V_TILE_ROWS : 0);
			gemm_offsets(&p, b_at, NULL, g->b_row, copy_b ? PANEL : 0);
			p.a_at = a_at, p.b_at = b_at;
		}
		int64_t group = copy_b ? GEMM_COPY_PANELS : 1 + GEMM_GROUP / (PANEL * (p.kn + 1));
		for (int64_t n = panel0; n < panel1; n += group) {
			int64_t end = n + group < panel1 ? n + group : panel1;
			if (copy_b) {
				gemm_copy_b(&p, n, end, b_copy);
				p.b = b_copy, p.b_panel = p.kn * PANEL;
			} else {
				p.b = g->b + n * g->b_panel + (turned ? 0 : p.k0 * g->b_row), p.b_panel = g->b_panel, p.b_row = g->b_row;
			}
			gemm_group(&p, n, end);
		}
	}
}

/* Rows [row0, row1) and panels [panel0, panel1) of the product. */
void K(gemm_block)(const struct gemm *g, int64_t row0, int64_t row1, int64_t panel0, int64_t panel1)
{
	int64_t blocks = (row1 - row0 + GEMM_ROWS - 1) / GEMM_ROWS;
	if (gemm_is_converted(g)) {
		K(gemm_block_converted)(g, row0, row1, panel0, panel1);
		return;
	}
	for (int64_t r = 0; r < blocks; r++) {
		int64_t first = (row1 - row0) * r / blocks, last = (row1 - row0) * (r + 1) / blocks;
		gemm_rows(g, row0 + first, last - first, panel0, panel1);
	}
}

/* A product split over the pool: tasks are (rows block, panels block). */
struct gemm_job {
	const struct gemm *g;
	int64_t row_tasks, panels_per_task, panel_tasks;
};

static void gemm_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct gemm_job *j = arg;
	int64_t r = task / j->panel_tasks, p = task % j->panel_tasks, panels = gemm_panels(j->g->n);
	int64_t p1 = (p + 1) * j->panels_per_task < panels ? (p + 1) * j->panels_per_task : panels;
	K(gemm_block)(j->g, j->g->m * r / j->row_tasks, j->g->m * (r + 1) / j->row_tasks, p * j->panels_per_task, p1);
}

void K(gemm_run)(struct cpu_backend *b, const struct gemm *g)
{
	if (g->m == 0 || g->n == 0) return;
	int64_t panels = gemm_panels(g->n), rows = (g->m + GEMM_ROWS - 1) / GEMM_ROWS;
	int64_t one = (g->m + rows - 1) / rows * PANEL * (g->k + 1); /* multiply-adds of one panel of one row block */
	int64_t want = one * rows * panels / (4 * b->base.threads);  /* of a task: some for each thread, none below two microseconds */
	if (want < 1 << 17) want = 1 << 17;
	int64_t per = b->base.threads == 1 ? panels : want / one;
	per = per < 1 ? 1 : per > panels ? panels : per;
	struct gemm_job job = {g, rows, per, (panels + per - 1) / per};
	pool_run(b->pool, (int)(rows * job.panel_tasks), gemm_task, &job);
}
