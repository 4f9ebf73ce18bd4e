/* Whole rows, or runs of their columns, moved or added: embedding, gather, scatter, fused projections, sums; and the
 * sampler's numbers. */
#include "core/base/rng.h"
#include "core/tensor/cpu/kernels/kernels.h"
#include "core/tensor/cpu/kernels/simd_bf16.h"

void K(embedding_forward)(struct backend *b, struct tensor table, const int32_t *ids, struct tensor y)
{
	for (int64_t i = 0; i < y.rows; i++)
		CHECK(ids[i] >= 0 && ids[i] < table.rows, "token %d at row %lld, vocabulary of %lld", ids[i], (long long)i, (long long)table.rows);
	K(gather_rows)(b, y, table, ids);
}

void K(embedding_backward)(struct backend *b, struct tensor dtable, const int32_t *ids, struct tensor dy)
{
	K(scatter_add_rows)(b, dtable, dy, ids);
}

void K(gather_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *rows)
{
	(void)b;
	CHECK(x.cols == y.cols, "gather: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	const float *src = x.data;
	const uint16_t *half = x.data;
	float *dst = y.data;
	for (int64_t i = 0; i < y.rows; i++)
		if (x.dtype == DTYPE_F32) memcpy(dst + i * y.cols, src + rows[i] * x.cols, (size_t)x.cols * sizeof *dst);
		else
			for (int64_t c = 0; c < x.cols; c++) dst[i * y.cols + c] = bf16_widen(half[rows[i] * x.cols + c]);
}

void K(scatter_add_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *rows)
{
	(void)b;
	CHECK(x.cols == y.cols, "scatter: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	const float *src = x.data;
	float *dst = y.data;
	for (int64_t i = 0; i < x.rows; i++) {
		float *to = dst + rows[i] * y.cols;
		const float *from = src + i * x.cols;
		for (int64_t c = 0; c < x.cols; c++) to[c] += from[c];
	}
}

void K(place_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *from, const int32_t *to, int64_t n)
{
	(void)b;
	CHECK(x.cols == y.cols, "place: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	const float *src = x.data;
	float *dst = y.data;
	for (int64_t i = 0; i < n; i++) memcpy(dst + to[i] * y.cols, src + (from ? from[i] : i) * x.cols, (size_t)x.cols * sizeof *dst);
}

void K(uniforms)(struct backend *b, const struct uniforms_args *a)
{
	(void)b;
	for (int64_t i = 0; i < a->n; i++) {
		const uint32_t *c = a->counter + 4 * i;
		a->out[i] = rng_uniform((struct rng_key){a->seed, a->purpose}, c[0], (uint64_t)c[2] << 32 | c[1], c[3]);
	}
}

static void columns_rows(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct columns_args *a = ctx;
	for (int64_t t = first; t < last; t++)
		for (int h = 0; h < a->heads; h++) {
			const float *x = (const float *)a->x.data + t * a->x.cols + a->x_first + h * a->x_step;
			float *y = (float *)a->y.data + t * a->y.cols + a->y_first + h * a->y_step;
			if (a->add)
				for (int i = 0; i < a->count; i++) y[i] += x[i];
			else memcpy(y, x, (size_t)a->count * sizeof *y);
		}
}

void K(columns)(struct backend *b, const struct columns_args *a)
{
	int64_t x_end = a->x_first + (a->heads - 1) * a->x_step + a->count, y_end = a->y_first + (a->heads - 1) * a->y_step + a->count;
	CHECK(a->x.rows == a->y.rows && x_end <= a->x.cols && y_end <= a->y.cols, "columns: up to %lld of %lld into up to %lld of %lld", (long long)x_end,
	      (long long)a->x.cols, (long long)y_end, (long long)a->y.cols);
	cpu_for(b, a->x.rows, 1 + 16384 / (a->heads * a->count + 1), columns_rows, a);
}

struct add_ctx {
	float *y;
	const float *x;
};

static void add_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct add_ctx *a = ctx;
	for (int64_t i = first; i < last; i++) a->y[i] += a->x[i];
}

void K(add)(struct backend *b, float *y, const float *x, int64_t n)
{
	struct add_ctx a = {y, x};
	cpu_for(b, n, 1 << 16, add_range, &a);
}

struct round_ctx {
	struct tensor to;
	const float *from;
};

static void round_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct round_ctx *r = ctx;
	uint16_t *half = r->to.data;
	float *full = r->to.data;
	for (int64_t i = first; i < last; i++) {
		uint16_t h = bf16_round(r->from[i]);
		if (r->to.dtype == DTYPE_BF16) half[i] = h;
		else full[i] = bf16_widen(h);
	}
}

void K(round_bf16)(struct backend *b, struct tensor to, const float *from)
{
	struct round_ctx r = {to, from};
	cpu_for(b, to.rows * to.cols, 1 << 16, round_range, &r);
}

struct sum_ctx {
	const float *x;
	double *part;
};

/* Squares in double: 16 lanes would not fit v16, so eight partial sums in fixed order. */
static void sum_range(const void *ctx, int64_t first, int64_t last, int thread)
{
	(void)thread;
	const struct sum_ctx *s = ctx;
	double a[8] = {0};
	int64_t i = first;
	for (; i + 8 <= last; i += 8)
		for (int l = 0; l < 8; l++) a[l] += (double)s->x[i + l] * (double)s->x[i + l];
	for (int l = 0; i < last; i++, l++) a[l] += (double)s->x[i] * (double)s->x[i];
	s->part[first / CPU_SUM_BLOCK] = ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

double K(sum_squares)(struct backend *b, const float *x, int64_t n)
{
	int64_t parts = (n + CPU_SUM_BLOCK - 1) / CPU_SUM_BLOCK;
	double total = 0, *part = cpu_scratch(cpu_of(b), 0, (size_t)(parts + 1) * sizeof *part);
	struct sum_ctx s = {x, part};
	cpu_for(b, n, CPU_SUM_BLOCK, sum_range, &s);
	for (int64_t i = 0; i < parts; i++) total += part[i];
	return total;
}
