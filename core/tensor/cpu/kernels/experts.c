/* Dropless mixture of experts: dispatch, SwiGLU, combine.
 *
 * Rows are sorted by expert (stable: by token, then choice), each expert's rows
 * are one product, and the results are gathered back per token: shared experts
 * are already in `out`, then the chosen in the router's order. Nothing is
 * dropped, padded or added atomically. The router's gradient is <dA, A> from the
 * backward's own values (as in SonicMoE, 2512.14080), so that expert outputs
 * are not kept. */
#include "core/tensor/cpu/kernels/gemm.h"
#include "core/tensor/cpu/kernels/kernels.h"
#include "core/tensor/cpu/kernels/swiglu.h"

enum { ROWS = 48, /* rows of one expert in one task */ EXPERTS_MAX = 1024 };

struct moe {
	struct cpu_backend *b;
	const struct experts_args *a;
	int64_t rows, width, inner; /* T*K, C, I */
	const float *gate, *up, *down; /* packed */
	float *y;             /* [T*K, C] expert outputs, or dX of each sorted row */
	float *act, *dg, *du; /* [T*K, I] */
	const int32_t *token; /* [T*K] row of x for each sorted row */
	int32_t task_start[EXPERTS_MAX + 1]; /* tasks of ROWS rows each, by expert */
};

/* Counting sort of the T*K choices by expert: order, its inverse, and the row of x. */
static void moe_sort(const struct experts_args *a, int64_t rows)
{
	int32_t *inverse = a->order + rows, *token = inverse + rows, next[EXPERTS_MAX];
	memset(a->offset, 0, sizeof(int32_t) * (size_t)(a->experts + 1));
	for (int64_t i = 0; i < rows; i++) {
		CHECK(a->expert[i] >= 0 && a->expert[i] < a->experts, "expert %d of %d", a->expert[i], a->experts);
		a->offset[a->expert[i] + 1]++;
	}
	for (int e = 0; e < a->experts; e++) a->offset[e + 1] += a->offset[e];
	memcpy(next, a->offset, sizeof(int32_t) * (size_t)a->experts);
	for (int64_t i = 0; i < rows; i++) {
		int32_t at = next[a->expert[i]]++;
		a->order[at] = (int32_t)i;
		inverse[i] = at;
		token[at] = (int32_t)(i / a->chosen);
	}
}

static void moe_prepare(struct moe *m, struct backend *base, const struct experts_args *a)
{
	*m = (struct moe){.b = cpu_of(base), .a = a, .rows = a->x.rows * a->chosen, .width = a->x.cols, .inner = a->down.cols};
	CHECK(a->experts <= EXPERTS_MAX && a->gate.rows == a->experts * m->inner && a->gate.cols == m->width && a->down.rows == a->experts * m->width,
	      "experts: x of %lld, %d experts of %lld", (long long)m->width, a->experts, (long long)m->inner);
	float *work = a->work.data;
	m->y = work;
	m->act = work + m->rows * m->width;
	m->dg = m->act + m->rows * m->inner;
	m->du = m->dg + m->rows * m->inner;
	m->token = a->order + 2 * m->rows;
}

/* The tasks' first numbers by expert; returns how many there are. */
static int moe_tasks(struct moe *m)
{
	const struct experts_args *a = m->a;
	m->task_start[0] = 0;
	for (int e = 0; e < a->experts; e++)
		m->task_start[e + 1] = m->task_start[e] + (a->offset[e + 1] - a->offset[e] + ROWS - 1) / ROWS;
	return m->task_start[a->experts];
}

/* Which expert and which of its sorted rows a task has. */
static void moe_find(const struct moe *m, int task, int64_t *expert, int64_t *first, int64_t *rows)
{
	int lo = 0, hi = m->a->experts;
	while (hi - lo > 1) {
		int mid = (lo + hi) / 2;
		if (m->task_start[mid] <= task) lo = mid;
		else hi = mid;
	}
	*expert = lo;
	*first = m->a->offset[lo] + (int64_t)(task - m->task_start[lo]) * ROWS;
	*rows = m->a->offset[lo + 1] - *first < ROWS ? m->a->offset[lo + 1] - *first : ROWS;
}

/* Rows [first, first+n) of one expert through one matrix: c (+)= A·Wᵀ. */
static void moe_product(const float *a, int64_t a_row, const int32_t *index, int64_t n, int64_t k, const float *b, int64_t b_panel, int64_t b_row,
			float *c, int64_t out, int add)
{
	struct gemm g = {.m = n, .n = out, .k = k, .a = a, .a_row = a_row, .a_step = 1, .index = index, .b = b, .b_panel = b_panel,
			 .b_row = b_row, .c = c, .c_row = out, .add = add};
	gemm_block(&g, 0, n, 0, gemm_panels(out));
}

static void forward_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct moe *m = arg;
	const struct experts_args *a = m->a;
	int64_t e, r, n;
	moe_find(m, task, &e, &r, &n);
	const int64_t c = m->width, in = m->inner, pi = gemm_panels(in) * PANEL * c, pc = gemm_panels(c) * PANEL * in;
	float *g = (float *)a->g.data + r * in, *u = (float *)a->u.data + r * in, *act = m->act + r * in;
	moe_product(a->x.data, c, m->token + r, n, c, m->gate + e * pi, c * PANEL, PANEL, g, in, 0);
	moe_product(a->x.data, c, m->token + r, n, c, m->up + e * pi, c * PANEL, PANEL, u, in, 0);
	swiglu_row(g, u, act, n * in);
	moe_product(act, in, NULL, n, in, m->down + e * pc, in * PANEL, PANEL, m->y + r * c, c, 0);
}

static void combine_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct moe *m = ctx;
	const struct experts_args *a = m->a;
	const int32_t *inverse = a->order + m->rows;
	for (int64_t t = first; t < last; t++)
		for (int k = 0; k < a->chosen; k++) {
			const float *y = m->y + inverse[t * a->chosen + k] * m->width;
			float *out = (float *)a->out.data + t * m->width;
			v16 w = v_set(a->weight[t * a->chosen + k]);
			for (int64_t i = 0; i < m->width; i += 16) {
				int n = m->width - i < 16 ? (int)(m->width - i) : 16;
				v_store_n(out + i, v_fma(w, v_load_n(y + i, n), v_load_n(out + i, n)), n);
			}
		}
}

void K(experts_forward)(struct backend *base, const struct experts_args *a)
{
	struct moe m;
	moe_prepare(&m, base, a);
	moe_sort(a, m.rows);
	m.gate = cpu_packed(m.b, a->gate, a->experts);
	m.up = cpu_packed(m.b, a->up, a->experts);
	m.down = cpu_packed(m.b, a->down, a->experts);
	int tasks = moe_tasks(&m);
	pool_run(m.b->pool, tasks, forward_task, &m);
	cpu_for(base, a->x.rows, 64, combine_rows, &m);
}

/* dA = W_downᵀ dout (unweighted), router gradient <dA, A>, then through SwiGLU to dG, dU and dX of the row. */
static void backward_rows_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct moe *m = arg;
	const struct experts_args *a = m->a;
	int64_t e, r, n;
	moe_find(m, task, &e, &r, &n);
	const int64_t c = m->width, in = m->inner;
	float *g = (float *)a->g.data + r * in, *u = (float *)a->u.data + r * in;
	float *act = m->act + r * in, *dg = m->dg + r * in, *du = m->du + r * in;
	const float *down = (const float *)a->down.data + e * c * in, *gate = (const float *)a->gate.data + e * in * c,
		    *up = (const float *)a->up.data + e * in * c;
	/* dA lives in du until SwiGLU's gradient replaces it */
	moe_product(a->dout.data, c, m->token + r, n, c, down, PANEL, in, du, in, 0);
	swiglu_row(g, u, act, n * in);
	for (int64_t i = 0; i < n; i++) {
		float w = a->weight[a->order[r + i]];
		a->dweight[a->order[r + i]] = dot_row(du + i * in, act + i * in, in);
		for (int64_t j = 0; j < in; j++) du[i * in + j] *= w;
		for (int64_t j = 0; j < in; j++) act[i * in + j] *= w; /* for the gradient of down */
	}
	swiglu_row_backward(g, u, du, dg, du, n * in);
	if (a->dx.data) {
		moe_product(dg, in, NULL, n, in, gate, PANEL, c, m->y + r * c, c, 0);
		moe_product(du, in, NULL, n, in, up, PANEL, c, m->y + r * c, c, 1);
	}
}

/* Weight gradients of one expert and one strip of outputs: chains over the expert's rows in token order. The rows of x
 * or dout that belong to the expert are copied together first, in strips that continue the chains. */
enum { STRIP = 256 };

static void strip_product(const struct moe *m, int thread, int64_t e, const float *left, int64_t left_cols, const float *rows, int64_t row_cols,
			  int left_is_rows, float *dw)
{
	const struct experts_args *a = m->a;
	float *strip = cpu_scratch(m->b, thread, sizeof(float) * (size_t)(STRIP * m->width));
	for (int64_t r = a->offset[e]; r < a->offset[e + 1]; r += STRIP) {
		int64_t n = a->offset[e + 1] - r < STRIP ? a->offset[e + 1] - r : STRIP;
		for (int64_t i = 0; i < n; i++) memcpy(strip + i * m->width, rows + m->token[r + i] * m->width, (size_t)m->width * sizeof *strip);
		const float *l = left + r * left_cols;
		struct gemm g = {.k = n, .add = 1, .c = dw};
		if (left_is_rows) { /* dW [left_cols, C] = leftᵀ · rows */
			g.m = left_cols, g.n = row_cols, g.a = l, g.a_row = 1, g.a_step = left_cols, g.b = strip, g.b_panel = PANEL,
			g.b_row = row_cols, g.c_row = row_cols;
		} else { /* dW [C, left_cols] = rowsᵀ · left */
			g.m = row_cols, g.n = left_cols, g.a = strip, g.a_row = 1, g.a_step = row_cols, g.b = l, g.b_panel = PANEL,
			g.b_row = left_cols, g.c_row = left_cols;
		}
		gemm_block(&g, 0, g.m, 0, gemm_panels(g.n));
	}
}

static void backward_weights_task(void *arg, int task, int thread)
{
	const struct moe *m = arg;
	const struct experts_args *a = m->a;
	int64_t e = task / 3, c = m->width, in = m->inner;
	if (a->offset[e] == a->offset[e + 1]) return;
	switch (task % 3) {
	case 0:
		if (a->dgate.data) strip_product(m, thread, e, m->dg, in, a->x.data, c, 1, (float *)a->dgate.data + e * in * c);
		break;
	case 1:
		if (a->dup.data) strip_product(m, thread, e, m->du, in, a->x.data, c, 1, (float *)a->dup.data + e * in * c);
		break;
	default:
		if (a->ddown.data) strip_product(m, thread, e, m->act, in, a->dout.data, c, 0, (float *)a->ddown.data + e * c * in);
	}
}

static void scatter_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct moe *m = ctx;
	const struct experts_args *a = m->a;
	const int32_t *inverse = a->order + m->rows;
	for (int64_t t = first; t < last; t++)
		for (int k = 0; k < a->chosen; k++) {
			const float *y = m->y + inverse[t * a->chosen + k] * m->width;
			float *dx = (float *)a->dx.data + t * m->width;
			for (int64_t i = 0; i < m->width; i++) dx[i] += y[i];
		}
}

void K(experts_backward)(struct backend *base, const struct experts_args *a)
{
	struct moe m;
	moe_prepare(&m, base, a);
	int tasks = moe_tasks(&m);
	pool_run(m.b->pool, tasks, backward_rows_task, &m);
	if (a->dx.data) cpu_for(base, a->x.rows, 64, scatter_rows, &m);
	pool_run(m.b->pool, 3 * a->experts, backward_weights_task, &m);
}
