/* Dropless mixture of experts: dispatch, SwiGLU, combine; what is kept for the
 * backward is laid out as cpu/kernels/experts.c has it.
 *
 * Sorting by expert is a counting sort without atomics: one block for each expert
 * counts its choices in order, then places them in order. The products find
 * their rows by the offsets on the device; the gather of x is part of their
 * loads. Combining gathers a token's results in the router's order. */
#include "core/tensor/cuda/kernels/product.h"
#include "core/tensor/cuda/kernels/swiglu.h"

enum { THREADS = 256, EXPERTS_MAX = 1024 };

struct moe_launch {
	struct experts_args a;
	int64_t rows, width, inner; /* T*K, C, I */
	float *y;                   /* [T*K, C] expert outputs, or dX of each sorted row */
	float *act, *dg, *du;       /* [T*K, I] */
	int32_t *inverse, *token;   /* [T*K] */
	float *hidden[EXPERTS_MATRICES], *dhidden[EXPERTS_MATRICES]; /* [T*K, r]: scale·A·x, and its gradient by A·x */
};

struct moe_scale_launch {
	float *x;
	int64_t n;
	float scale;
};

static struct moe_launch moe_launch(const struct experts_args *a)
{
	struct moe_launch m;
	memset(&m, 0, sizeof m);
	m.a = *a, m.rows = a->x.rows * a->chosen, m.width = a->x.cols, m.inner = a->down.cols;
	CHECK(a->experts <= EXPERTS_MAX && a->gate.rows == a->experts * m.inner && a->gate.cols == m.width && a->down.rows == a->experts * m.width,
	      "experts: x of %lld, %d experts of %lld", (long long)m.width, a->experts, (long long)m.inner);
	m.y = (float *)a->work.data;
	m.act = m.y + m.rows * m.width;
	m.dg = m.act + m.rows * m.inner;
	m.du = m.dg + m.rows * m.inner;
	m.inverse = a->order + m.rows;
	m.token = m.inverse + m.rows;
	float *work = m.du + m.rows * m.inner;
	for (int i = 0; i < EXPERTS_MATRICES; i++) {
		m.hidden[i] = work;
		m.dhidden[i] = work + m.rows * a->low[i].rank;
		work += 2 * m.rows * a->low[i].rank;
	}
	return m;
}

/* offset[e + 1] = choices of expert e, one block each. */
KERNEL(moe_count, struct moe_launch, THREADS)
{
	SHARED int room[33];
	int e = blockIdx.x, count = 0;
	for (int64_t at = 0; at < arg.rows; at += THREADS) {
		int64_t i = at + threadIdx.x;
		int total, mine = 0;
		if (i < arg.rows) {
			DEVICE_CHECK(arg.a.expert[i] >= 0 && arg.a.expert[i] < arg.a.experts);
			mine = arg.a.expert[i] == e;
		}
		block_rank(mine, room, &total);
		count += total;
	}
	if (threadIdx.x == 0) arg.a.offset[e + 1] = count;
}

KERNEL(moe_offsets, struct moe_launch, 32)
{
	if (threadIdx.x) return;
	arg.a.offset[0] = 0;
	for (int e = 0; e < arg.a.experts; e++) arg.a.offset[e + 1] += arg.a.offset[e];
}

/* Expert e's choices in order, one block each. */
KERNEL(moe_place, struct moe_launch, THREADS)
{
	SHARED int room[33];
	int e = blockIdx.x, next = arg.a.offset[e];
	for (int64_t at = 0; at < arg.rows; at += THREADS) {
		int64_t i = at + threadIdx.x;
		int total, mine = i < arg.rows && arg.a.expert[i] == e, to = next + block_rank(mine, room, &total);
		if (mine) {
			arg.a.order[to] = (int32_t)i;
			arg.inverse[i] = to;
			arg.token[to] = (int32_t)(i / arg.a.chosen);
		}
		next += total;
	}
}

KERNEL(moe_swiglu, struct moe_launch, THREADS)
{
	int64_t i = global_thread();
	if (i < arg.rows * arg.inner) arg.act[i] = swiglu_value(((const float *)arg.a.g.data)[i], ((const float *)arg.a.u.data)[i]);
}

KERNEL(moe_combine, struct moe_launch, THREADS)
{
	int64_t i = global_thread(), t = i / arg.width, c = i % arg.width;
	if (t >= arg.a.x.rows) return;
	float sum = ((float *)arg.a.out.data)[i];
	for (int k = 0; k < arg.a.chosen; k++) {
		int64_t n = t * arg.a.chosen + k;
		sum = d_fma(arg.a.weight[n], arg.y[arg.inverse[n] * arg.width + c], sum);
	}
	((float *)arg.a.out.data)[i] = sum;
}

/* A product of the sorted rows with each expert's matrix. */
static struct product moe_rows(const struct moe_launch *m, const float *a, int64_t k, const int32_t *index, struct tensor w, int turned, float *c, int64_t n)
{
	struct product p = {.m = m->rows, .n = n, .k = k, .a = a, .a_row = k, .a_index = index, .b = w.data, .b_half = w.dtype == DTYPE_BF16, .b_row = w.cols,
			    .b_turned = turned, .c = c, .c_row = n, .groups = PRODUCT_ROWS, .experts = m->a.experts, .offset = m->a.offset,
			    .b_expert = m->width * m->inner};
	return p;
}

KERNEL(moe_scale, struct moe_scale_launch, THREADS)
{
	int64_t i = global_thread();
	if (i < arg.n) arg.x[i] *= arg.scale;
}

/* c (+)= scale·a·wᵀ (turned) or scale·a·w of a low rank's factor w, [rows, cols] of each expert. */
static void low_product(struct backend *b, const struct moe_launch *m, const float *a, const int32_t *index, struct tensor w, int turned, float *c, int add,
			float scale)
{
	int64_t rows = w.rows / m->a.experts, n = turned ? rows : w.cols;
	struct product p = moe_rows(m, a, turned ? w.cols : rows, index, w, turned, c, n);
	p.b_expert = rows * w.cols;
	p.add = add;
	K(product_run)(b, &p);
	struct moe_scale_launch l = {c, m->rows * n, scale};
	if (!add) LAUNCH(b, moe_scale, cuda_blocks(l.n, THREADS), 1, 1, THREADS, l);
}

/* y += B·scale·A·x. */
static void low_forward(struct backend *b, const struct moe_launch *m, int i, const float *x, const int32_t *index, float *y)
{
	const struct low_rank *l = &m->a.low[i];
	if (!l->rank) return;
	low_product(b, m, x, index, l->a, 1, m->hidden[i], 0, l->scale);
	low_product(b, m, m->hidden[i], NULL, l->b, 1, y, 1, 1);
}

/* dhidden = scale·dy·B, and dx += dhidden·A (dx NULL: not wanted). */
static void low_backward(struct backend *b, const struct moe_launch *m, int i, const float *dy, const int32_t *index, float *dx)
{
	const struct low_rank *l = &m->a.low[i];
	if (!l->rank) return;
	low_product(b, m, dy, index, l->b, 0, m->dhidden[i], 0, l->scale);
	if (dx) low_product(b, m, m->dhidden[i], NULL, l->a, 0, dx, 1, 1);
}

CUDA_API void K(experts_forward)(struct backend *b, const struct experts_args *a)
{
	struct moe_launch m = moe_launch(a);
	if (m.rows == 0) return;
	LAUNCH(b, moe_count, a->experts, 1, 1, THREADS, m);
	LAUNCH(b, moe_offsets, 1, 1, 1, 32, m);
	LAUNCH(b, moe_place, a->experts, 1, 1, THREADS, m);
	const float *x = (const float *)a->x.data;
	struct product gate = moe_rows(&m, x, m.width, m.token, a->gate, 1, (float *)a->g.data, m.inner);
	struct product up = moe_rows(&m, x, m.width, m.token, a->up, 1, (float *)a->u.data, m.inner);
	struct product down = moe_rows(&m, m.act, m.inner, NULL, a->down, 1, m.y, m.width);
	struct product both = gate;
	both.b2 = a->up.data, both.c2 = (float *)a->u.data, both.act = m.act;
	if (a->low[EXPERTS_GATE].rank || a->low[EXPERTS_UP].rank || !K(product_pair)(b, &both)) {
		K(product_run)(b, &gate);
		K(product_run)(b, &up);
		low_forward(b, &m, EXPERTS_GATE, x, m.token, (float *)a->g.data);
		low_forward(b, &m, EXPERTS_UP, x, m.token, (float *)a->u.data);
		LAUNCH(b, moe_swiglu, cuda_blocks(m.rows * m.inner, THREADS), 1, 1, THREADS, m);
	}
	K(product_run)(b, &down);
	low_forward(b, &m, EXPERTS_DOWN, m.act, NULL, m.y);
	LAUNCH(b, moe_combine, cuda_blocks(a->x.rows * m.width, THREADS), 1, 1, THREADS, m);
}

/* From da (in du, not weighted) the gradients dg, du of da·w, the activation times w, and the router's <da, a>; half a
 * warp has a row. */
KERNEL(moe_slopes, struct moe_launch, THREADS)
{
	int64_t r = global_thread() / 16, in = arg.inner;
	int lane = threadIdx.x % 16, live = r < arg.rows;
	int32_t choice = live ? arg.a.order[r] : 0;
	float w = live ? arg.a.weight[choice] : 0, sum = 0;
	const float *g = (const float *)arg.a.g.data + r * in, *u = (const float *)arg.a.u.data + r * in;
	for (int64_t i = lane; live && i < in; i += 16) {
		struct swiglu_slopes s = swiglu_slopes(g[i]);
		float da = arg.du[r * in + i], act = s.silu * u[i], d = da * w;
		sum = d_fma(da, act, sum);
		arg.act[r * in + i] = act * w;
		arg.du[r * in + i] = d * s.silu;
		arg.dg[r * in + i] = d * u[i] * s.slope;
	}
	sum = lanes_sum(sum);
	if (live && lane == 0) arg.a.dweight[choice] = sum;
}

KERNEL(moe_scatter, struct moe_launch, THREADS)
{
	int64_t i = global_thread(), t = i / arg.width, c = i % arg.width;
	if (t >= arg.a.x.rows) return;
	float sum = ((float *)arg.a.dx.data)[i];
	for (int k = 0; k < arg.a.chosen; k++) sum += arg.y[arg.inverse[t * arg.a.chosen + k] * arg.width + c];
	((float *)arg.a.dx.data)[i] = sum;
}

/* dW of each expert, [m, n] += leftᵀ · right over its rows in token order. */
static void moe_weights(struct backend *b, const struct moe_launch *l, float *dw, int64_t m, int64_t n, const float *left, const int32_t *left_rows,
			const float *right, const int32_t *right_rows)
{
	struct product p = {.m = m, .n = n, .k = 0, .a = left, .a_row = m, .a_turned = 1, .a_index = left_rows, .b = right, .b_row = n, .b_index = right_rows,
			    .c = dw, .c_row = n, .add = 1, .groups = PRODUCT_SUMS, .experts = l->a.experts, .offset = l->a.offset, .c_expert = m * n};
	K(product_run)(b, &p);
}

/* Gradients of a low rank's factors: B from its output's gradient dy, A from its input x. */
static void low_weights(struct backend *b, const struct moe_launch *m, int i, const float *dy, const int32_t *dy_rows, const float *x, const int32_t *x_rows)
{
	const struct low_rank *l = &m->a.low[i];
	if (!l->rank) return;
	low_product(b, m, x, x_rows, l->a, 1, m->hidden[i], 0, l->scale);
	if (l->db.data) moe_weights(b, m, (float *)l->db.data, l->b.rows / m->a.experts, l->rank, dy, dy_rows, m->hidden[i], NULL);
	if (l->da.data) moe_weights(b, m, (float *)l->da.data, l->rank, l->a.cols, m->dhidden[i], NULL, x, x_rows);
}

CUDA_API void K(experts_backward)(struct backend *b, const struct experts_args *a)
{
	struct moe_launch m = moe_launch(a);
	if (m.rows == 0) return;
	const float *dout = (const float *)a->dout.data, *x = (const float *)a->x.data;
	struct product da = moe_rows(&m, dout, m.width, m.token, a->down, 0, m.du, m.inner);
	K(product_run)(b, &da);
	low_backward(b, &m, EXPERTS_DOWN, dout, m.token, m.du);
	LAUNCH(b, moe_slopes, cuda_blocks(m.rows * 16, THREADS), 1, 1, THREADS, m);
	if (a->dx.data) {
		struct product gate = moe_rows(&m, m.dg, m.inner, NULL, a->gate, 0, m.y, m.width);
		struct product up = moe_rows(&m, m.du, m.inner, NULL, a->up, 0, m.y, m.width);
		up.add = 1;
		K(product_run)(b, &gate);
		K(product_run)(b, &up);
	}
	low_backward(b, &m, EXPERTS_GATE, m.dg, NULL, a->dx.data ? m.y : NULL);
	low_backward(b, &m, EXPERTS_UP, m.du, NULL, a->dx.data ? m.y : NULL);
	if (a->dx.data) LAUNCH(b, moe_scatter, cuda_blocks(a->x.rows * m.width, THREADS), 1, 1, THREADS, m);
	if (a->dgate.data) moe_weights(b, &m, (float *)a->dgate.data, m.inner, m.width, m.dg, NULL, x, m.token);
	if (a->dup.data) moe_weights(b, &m, (float *)a->dup.data, m.inner, m.width, m.du, NULL, x, m.token);
	if (a->ddown.data) moe_weights(b, &m, (float *)a->ddown.data, m.width, m.inner, dout, m.token, m.act, NULL);
	low_weights(b, &m, EXPERTS_GATE, m.dg, NULL, x, m.token);
	low_weights(b, &m, EXPERTS_UP, m.du, NULL, x, m.token);
	low_weights(b, &m, EXPERTS_DOWN, dout, m.token, m.act, NULL);
}
