/* Whole rows moved or added: embedding, gather, scatter, sums. */
#include "core/tensor/cpu/kernels/kernels.h"

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
	float *dst = y.data;
	for (int64_t i = 0; i < y.rows; i++) memcpy(dst + i * y.cols, src + rows[i] * x.cols, (size_t)x.cols * sizeof *dst);
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

enum { SUM_BLOCK = 1 << 15 };

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
	s->part[first / SUM_BLOCK] = ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

double K(sum_squares)(struct backend *b, const float *x, int64_t n)
{
	int64_t parts = (n + SUM_BLOCK - 1) / SUM_BLOCK;
	double total = 0, *part = cpu_scratch(cpu_of(b), 0, (size_t)(parts + 1) * sizeof *part);
	struct sum_ctx s = {x, part};
	cpu_for(b, n, SUM_BLOCK, sum_range, &s);
	for (int64_t i = 0; i < parts; i++) total += part[i];
	return total;
}
