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

enum { EXPERTS_MAX = 1024 };

struct moe {
	struct cpu_backend *b;
	const struct experts_args *a;
	int64_t rows, width, inner; /* T*K, C, I */
	struct gemm gate, up, down; /* the weights of expert 0 as B; turned in the backward */
	struct gemm low_a[EXPERTS_MATRICES], low_b[EXPERTS_MATRICES], low_a_turned[EXPERTS_MATRICES]; /* the same of the low ranks; b turned in the backward */
	float *hidden[EXPERTS_MATRICES], *dhidden[EXPERTS_MATRICES]; /* [T*K, r]: scale·A·x, and its gradient by A·x */
	float *y;             /* [T*K, C] expert outputs, or dX of each sorted row */
	float *act, *dg, *du; /* [T*K, I] */
	const int32_t *token; /* [T*K] row of x for each sorted row */
	int32_t task_start[EXPERTS_MAX + 1]; /* tasks of CPU_EXPERT_ROWS rows each, by expert */
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
	work = m->du + m->rows * m->inner;
	for (int i = 0; i < EXPERTS_MATRICES; i++) {
		m->hidden[i] = work;
		m->dhidden[i] = work + m->rows * a->low[i].rank;
		work += 2 * m->rows * a->low[i].rank;
	}
}

/* Packs what a pass needs of the low ranks. */
static void moe_pack_low(struct moe *m, int backward)
{
	const struct experts_args *a = m->a;
	for (int i = 0; i < EXPERTS_MATRICES; i++) {
		const struct low_rank *l = &a->low[i];
		int64_t in = i == EXPERTS_DOWN ? m->inner : m->width, out = i == EXPERTS_DOWN ? m->width : m->inner;
		if (!l->rank) continue;
		CHECK(l->a.rows == (int64_t)a->experts * l->rank && l->a.cols == in && l->b.rows == a->experts * out && l->b.cols == l->rank,
		      "experts: rank %d, a [%lld,%lld], b [%lld,%lld]", l->rank, (long long)l->a.rows, (long long)l->a.cols, (long long)l->b.rows, (long long)l->b.cols);
		gemm_weight(m->b, &m->low_a[i], l->a, a->experts, 0);
		gemm_weight(m->b, &m->low_b[i], l->b, a->experts, backward);
		if (backward) gemm_weight(m->b, &m->low_a_turned[i], l->a, a->experts, 1);
	}
}

/* The tasks' first numbers by expert; returns how many there are. */
static int moe_tasks(struct moe *m)
{
	const struct experts_args *a = m->a;
	m->task_start[0] = 0;
	for (int e = 0; e < a->experts; e++)
		m->task_start[e + 1] = m->task_start[e] + (a->offset[e + 1] - a->offset[e] + CPU_EXPERT_ROWS - 1) / CPU_EXPERT_ROWS;
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
	int64_t all = m->a->offset[lo + 1] - m->a->offset[lo], parts = m->task_start[lo + 1] - m->task_start[lo], part = task - m->task_start[lo];
	*first = m->a->offset[lo] + all * part / parts;
	*rows = m->a->offset[lo] + all * (part + 1) / parts - *first;
}

/* n rows of expert e through its matrix, in the stack or at at[e]: c (+)= A·Wᵀ (or A·W, turned). */
static void moe_product(struct gemm g, int64_t e, const void *const *at, const float *a, const int32_t *index, int64_t n, float *c, int add)
{
	if (at) g.b16 = at[e];
	else if (g.b16) g.b16 += e * g.b_matrix;
	else g.b += e * g.b_matrix;
	g.m = n, g.a = a, g.a_row = g.k, g.index = index, g.c = c, g.c_row = g.n, g.add = add;
	K(gemm_block)(&g, 0, n, 0, gemm_panels(g.n));
}

/* n rows of x that belong to an expert, side by side. */
static void moe_gather(const struct moe *m, int64_t first, int64_t n, float *to)
{
	const float *x = m->a->x.data;
	for (int64_t i = 0; i < n; i++) memcpy(to + i * m->width, x + m->token[first + i] * m->width, (size_t)m->width * sizeof *to);
}

/* hidden = scale·A·x of n rows of expert e from sorted row r on; x side by side, or by index. */
static void low_hidden(const struct moe *m, int i, int64_t e, int64_t r, int64_t n, const float *x, const int32_t *index)
{
	const struct low_rank *l = &m->a->low[i];
	float *h = m->hidden[i] + r * l->rank;
	moe_product(m->low_a[i], e, NULL, x, index, n, h, 0);
	for (int64_t k = 0; k < n * l->rank; k++) h[k] *= l->scale;
}

/* y += B·scale·A·x. */
static void low_forward(const struct moe *m, int i, int64_t e, int64_t r, int64_t n, const float *x, float *y)
{
	const struct low_rank *l = &m->a->low[i];
	if (!l->rank) return;
	low_hidden(m, i, e, r, n, x, NULL);
	moe_product(m->low_b[i], e, NULL, m->hidden[i] + r * l->rank, NULL, n, y, 1);
}

/* dhidden = scale·dy·B, and dx += dhidden·A (dx NULL: not wanted). */
static void low_backward(const struct moe *m, int i, int64_t e, int64_t r, int64_t n, const float *dy, const int32_t *index, float *dx)
{
	const struct low_rank *l = &m->a->low[i];
	if (!l->rank) return;
	float *d = m->dhidden[i] + r * l->rank;
	moe_product(m->low_b[i], e, NULL, dy, index, n, d, 0);
	for (int64_t k = 0; k < n * l->rank; k++) d[k] *= l->scale;
	if (dx) moe_product(m->low_a_turned[i], e, NULL, d, NULL, n, dx, 1);
}

static void forward_task(void *arg, int task, int thread)
{
	const struct moe *m = arg;
	const struct experts_args *a = m->a;
	int64_t e, r, n;
	moe_find(m, task, &e, &r, &n);
	const int64_t c = m->width, in = m->inner;
	float *g = (float *)a->g.data + r * in, *u = (float *)a->u.data + r * in;
	float *x = cpu_scratch(m->b, thread, (size_t)(n * (c + in)) * sizeof *x), *act = x + n * c;
	moe_gather(m, r, n, x);
	moe_product(m->gate, e, a->gate_at, x, NULL, n, g, 0);
	moe_product(m->up, e, a->up_at, x, NULL, n, u, 0);
	low_forward(m, EXPERTS_GATE, e, r, n, x, g);
	low_forward(m, EXPERTS_UP, e, r, n, x, u);
	swiglu_row(g, u, act, n * in);
	moe_product(m->down, e, a->down_at, act, NULL, n, m->y + r * c, 0);
	low_forward(m, EXPERTS_DOWN, e, r, n, act, m->y + r * c);
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
	gemm_weight(m.b, &m.gate, a->gate, a->experts, 0);
	gemm_weight(m.b, &m.up, a->up, a->experts, 0);
	gemm_weight(m.b, &m.down, a->down, a->experts, 0);
	moe_pack_low(&m, 0);
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
	/* dA lives in du until SwiGLU's gradient replaces it */
	moe_product(m->down, e, a->down_at, a->dout.data, m->token + r, n, du, 0);
	low_backward(m, EXPERTS_DOWN, e, r, n, a->dout.data, m->token + r, du);
	for (int64_t i = 0; i < n; i++) {
		int32_t choice = a->order[r + i];
		a->dweight[choice] = swiglu_row_weighted(g + i * in, u + i * in, a->weight[choice], act + i * in, dg + i * in, du + i * in, in);
	}
	if (a->dx.data) {
		moe_product(m->gate, e, a->gate_at, dg, NULL, n, m->y + r * c, 0);
		moe_product(m->up, e, a->up_at, du, NULL, n, m->y + r * c, 1);
	}
	low_backward(m, EXPERTS_GATE, e, r, n, dg, NULL, a->dx.data ? m->y + r * c : NULL);
	low_backward(m, EXPERTS_UP, e, r, n, du, NULL, a->dx.data ? m->y + r * c : NULL);
	/* again for the weights' gradients; the activation is weighted by now, and so is what it gives */
	if (a->low[EXPERTS_GATE].rank) low_hidden(m, EXPERTS_GATE, e, r, n, a->x.data, m->token + r);
	if (a->low[EXPERTS_UP].rank) low_hidden(m, EXPERTS_UP, e, r, n, a->x.data, m->token + r);
	if (a->low[EXPERTS_DOWN].rank) low_hidden(m, EXPERTS_DOWN, e, r, n, act, NULL);
}

/* Weight gradients of one expert: chains over its k rows in token order, dW [m, n] += leftᵀ · right. */
static void weight_product(const struct moe *m, float *dw, int64_t rows, int64_t n, int64_t k, const float *left, const int32_t *left_rows, const float *right)
{
	struct gemm g = {.m = rows, .n = n, .k = k, .a = left, .a_step = rows, .a_k = left_rows, .b = right, .b_panel = PANEL, .b_row = n, .c = dw, .c_row = n,
			 .add = 1, .round = m->b->bf16};
	K(gemm_block)(&g, 0, rows, 0, gemm_panels(n));
}

/* Gradients of a low rank's factors: B from its output's gradient dy, A from its input x (side by side). */
static void low_weights(const struct moe *m, int i, int64_t e, const float *dy, const int32_t *dy_rows, const float *x)
{
	const struct low_rank *l = &m->a->low[i];
	int64_t r = m->a->offset[e], n = m->a->offset[e + 1] - r, out = l->b.rows / m->a->experts, in = l->a.cols;
	if (!l->rank) return;
	if (l->db.data) weight_product(m, (float *)l->db.data + e * out * l->rank, out, l->rank, n, dy, dy_rows, m->hidden[i] + r * l->rank);
	if (l->da.data) weight_product(m, (float *)l->da.data + e * l->rank * in, l->rank, in, n, m->dhidden[i] + r * l->rank, NULL, x);
}

static void backward_weights_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct moe *m = arg;
	const struct experts_args *a = m->a;
	const int64_t e = task / 2, c = m->width, in = m->inner, r = a->offset[e], n = a->offset[e + 1] - r;
	if (n == 0) return;
	if (task % 2) {
		if (a->ddown.data) weight_product(m, (float *)a->ddown.data + e * c * in, c, in, n, a->dout.data, m->token + r, m->act + r * in);
		low_weights(m, EXPERTS_DOWN, e, a->dout.data, m->token + r, m->act + r * in);
		return;
	}
	if (!a->dgate.data && !a->dup.data && !a->low[EXPERTS_GATE].da.data && !a->low[EXPERTS_UP].da.data) return;
	float *x = m->y + r * c; /* the rows of dx that were there are added up by now */
	moe_gather(m, r, n, x);
	if (a->dgate.data) weight_product(m, (float *)a->dgate.data + e * in * c, in, c, n, m->dg + r * in, NULL, x);
	if (a->dup.data) weight_product(m, (float *)a->dup.data + e * in * c, in, c, n, m->du + r * in, NULL, x);
	low_weights(m, EXPERTS_GATE, e, m->dg + r * in, NULL, x);
	low_weights(m, EXPERTS_UP, e, m->du + r * in, NULL, x);
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
	if (a->dx.data) {
		gemm_weight(m.b, &m.gate, a->gate, a->experts, 1);
		gemm_weight(m.b, &m.up, a->up, a->experts, 1);
	}
	gemm_weight(m.b, &m.down, a->down, a->experts, 1);
	moe_pack_low(&m, 1);
	pool_run(m.b->pool, tasks, backward_rows_task, &m);
	if (a->dx.data) cpu_for(base, a->x.rows, 64, scatter_rows, &m);
	pool_run(m.b->pool, 2 * a->experts, backward_weights_task, &m);
}
