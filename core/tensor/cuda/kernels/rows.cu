/* Whole rows, or runs of their columns, moved or added: embedding, gather, scatter, fused projections, sums. */
#include "core/tensor/cuda/kernels/rows.h"

enum { THREADS = 256, SUM_BLOCK = 1 << 15, SUM_PIECE = 1024 };

struct rows_launch {
	float *y;
	const float *x;
	const int32_t *rows;
	int64_t n, cols, limit; /* entries; columns; rows that an entry may name */
	int half;               /* 1: x is bf16, which is widened */
};

KERNEL(rows_gather, struct rows_launch, THREADS)
{
	int64_t i = global_thread(), r = i / arg.cols, c = i % arg.cols;
	if (r >= arg.n) return;
	DEVICE_CHECK(arg.rows[r] >= 0 && arg.rows[r] < arg.limit);
	int64_t at = arg.rows[r] * arg.cols + c;
	arg.y[i] = arg.half ? d_float_of((int)((uint32_t)((const uint16_t *)(const void *)arg.x)[at] << 16)) : arg.x[at];
}

struct place_launch {
	uint32_t *y;
	const uint32_t *x;
	const int32_t *from, *to;
	int64_t n, cols, x_rows, y_rows;
};

KERNEL(rows_place, struct place_launch, THREADS)
{
	int64_t i = global_thread(), r = i / arg.cols, c = i % arg.cols;
	if (r >= arg.n) return;
	int64_t from = arg.from ? arg.from[r] : r, to = arg.to[r];
	DEVICE_CHECK(from >= 0 && from < arg.x_rows && to >= 0 && to < arg.y_rows);
	arg.y[to * arg.cols + c] = arg.x[from * arg.cols + c];
}

CUDA_API void K(place_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *from, const int32_t *to, int64_t n)
{
	CHECK(x.cols == y.cols, "place: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	struct place_launch l = {(uint32_t *)y.data, (const uint32_t *)x.data, from, to, n, x.cols, x.rows, y.rows};
	LAUNCH(b, rows_place, cuda_blocks(n * x.cols, THREADS), 1, 1, THREADS, l);
}

KERNEL(rows_scatter, struct rows_launch, ENTRY_THREADS)
{
	SHARED struct entries e;
	int64_t first = (int64_t)blockIdx.x * ENTRY_ROWS;
	for (int64_t at = 0; at < arg.n; at += ENTRY_THREADS) {
		int taken = entries_take(&e, arg.rows, at, arg.n, first, arg.limit);
		for (int k = 0; k < taken; k++) {
			const float *from = arg.x + e.index[k] * arg.cols;
			float *to = arg.y + arg.rows[e.index[k]] * arg.cols;
			for (int64_t c = threadIdx.x; c < arg.cols; c += ENTRY_THREADS) to[c] += from[c];
		}
		block_sync();
	}
}

KERNEL(rows_add, struct rows_launch, THREADS)
{
	int64_t i = global_thread();
	if (i < arg.n) arg.y[i] += arg.x[i];
}

CUDA_API void K(gather_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *rows)
{
	CHECK(x.cols == y.cols, "gather: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	struct rows_launch l = {(float *)y.data, (const float *)x.data, rows, y.rows, y.cols, x.rows, x.dtype == DTYPE_BF16};
	LAUNCH(b, rows_gather, cuda_blocks(y.rows * y.cols, THREADS), 1, 1, THREADS, l);
}

CUDA_API void K(scatter_add_rows)(struct backend *b, struct tensor y, struct tensor x, const int32_t *rows)
{
	CHECK(x.cols == y.cols, "scatter: rows of %lld into rows of %lld", (long long)x.cols, (long long)y.cols);
	struct rows_launch l = {(float *)y.data, (const float *)x.data, rows, x.rows, y.cols, y.rows, 0};
	if (x.rows > 0) LAUNCH(b, rows_scatter, cuda_blocks(y.rows, ENTRY_ROWS), 1, 1, ENTRY_THREADS, l);
}

CUDA_API void K(embedding_forward)(struct backend *b, struct tensor table, const int32_t *ids, struct tensor y)
{
	K(gather_rows)(b, y, table, ids);
}

CUDA_API void K(embedding_backward)(struct backend *b, struct tensor dtable, const int32_t *ids, struct tensor dy)
{
	K(scatter_add_rows)(b, dtable, dy, ids);
}

CUDA_API void K(add)(struct backend *b, float *y, const float *x, int64_t n)
{
	struct rows_launch l = {y, x, NULL, n, 1, 0, 0};
	LAUNCH(b, rows_add, cuda_blocks(n, THREADS), 1, 1, THREADS, l);
}

struct round_launch {
	const float *from;
	uint16_t *half; /* NULL: into `full` */
	float *full;
	int64_t n;
};

/* A thread has two numbers, which are one word where they become bf16. */
KERNEL(rows_round, struct round_launch, THREADS)
{
	int64_t i = 2 * global_thread();
	if (i >= arg.n) return;
	int second = i + 1 < arg.n;
	uint32_t both = d_bf16_pair(arg.from[i], second ? arg.from[i + 1] : 0);
	if (arg.half) {
		arg.half[i] = (uint16_t)both;
		if (second) arg.half[i + 1] = (uint16_t)(both >> 16);
	} else {
		arg.full[i] = d_float_of((int)(both << 16));
		if (second) arg.full[i + 1] = d_float_of((int)(both & 0xffff0000u));
	}
}

CUDA_API void K(round_bf16)(struct backend *b, struct tensor to, const float *from)
{
	int half = to.dtype == DTYPE_BF16;
	struct round_launch l = {from, half ? (uint16_t *)to.data : NULL, half ? NULL : (float *)to.data, to.rows * to.cols};
	LAUNCH(b, rows_round, cuda_blocks(l.n, 2 * THREADS), 1, 1, THREADS, l);
}

struct columns_launch {
	struct columns_args a;
};

/* A thread has one column of the run in all heads, so that heads which share a place are added in order. */
KERNEL(rows_columns, struct columns_launch, THREADS)
{
	const struct columns_args *a = &arg.a;
	int64_t n = global_thread(), t = n / a->count, i = n % a->count;
	if (t >= a->x.rows) return;
	const float *x = (const float *)a->x.data + t * a->x.cols + a->x_first + i;
	float *y = (float *)a->y.data + t * a->y.cols + a->y_first + i;
	for (int h = 0; h < a->heads; h++) y[h * a->y_step] = a->add ? y[h * a->y_step] + x[h * a->x_step] : x[h * a->x_step];
}

CUDA_API void K(columns)(struct backend *b, const struct columns_args *a)
{
	int64_t x_end = a->x_first + (a->heads - 1) * a->x_step + a->count, y_end = a->y_first + (a->heads - 1) * a->y_step + a->count;
	CHECK(a->x.rows == a->y.rows && x_end <= a->x.cols && y_end <= a->y.cols, "columns: up to %lld of %lld into up to %lld of %lld", (long long)x_end,
	      (long long)a->x.cols, (long long)y_end, (long long)a->y.cols);
	struct columns_launch l = {*a};
	LAUNCH(b, rows_columns, cuda_blocks(a->x.rows * a->count, THREADS), 1, 1, THREADS, l);
}

struct sum_launch {
	const float *x;
	double *part; /* [parts], and the sum behind them */
	int64_t n, parts;
};

/* Eight threads have a part of 2^15 numbers: eight partial sums in double, as on the CPU. A square of an f32 is exact in
 * double, so that a multiply-add rounds as the CPU's two operations do. */
KERNEL(sum_parts, struct sum_launch, THREADS)
{
	SHARED double sum[THREADS];
	int64_t p = global_thread() / 8, first = p * SUM_BLOCK, last = first + SUM_BLOCK < arg.n ? first + SUM_BLOCK : arg.n;
	int l = threadIdx.x % 8;
	double s = 0;
	for (int64_t i = first + l; p < arg.parts && i < last; i += 8) s = d_fma_double((double)arg.x[i], (double)arg.x[i], s);
	sum[threadIdx.x] = s;
	block_sync();
	const double *a = sum + threadIdx.x;
	if (l == 0 && p < arg.parts) arg.part[p] = ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

/* The parts in order, by one thread; the block brings them a piece at a time. */
KERNEL(sum_total, struct sum_launch, THREADS)
{
	SHARED double part[SUM_PIECE];
	double total = 0;
	for (int64_t at = 0; at < arg.parts; at += SUM_PIECE) {
		int n = arg.parts - at < SUM_PIECE ? (int)(arg.parts - at) : SUM_PIECE;
		for (int i = (int)threadIdx.x; i < n; i += THREADS) part[i] = arg.part[at + i];
		block_sync();
		for (int i = 0; threadIdx.x == 0 && i < n; i++) total += part[i];
		block_sync();
	}
	if (threadIdx.x == 0) arg.part[arg.parts] = total;
}

CUDA_API size_t K(sum_scratch)(int64_t n)
{
	return (size_t)(cuda_blocks(n, SUM_BLOCK) + 1) * sizeof(double);
}

CUDA_API double K(sum_squares)(struct backend *b, const float *x, int64_t n)
{
	struct sum_launch l = {x, NULL, n, cuda_blocks(n, SUM_BLOCK)};
	double total = 0;
	if (l.parts == 0) return 0;
	l.part = (double *)K(cuda_scratch)(b, K(sum_scratch)(n));
	LAUNCH(b, sum_parts, cuda_blocks(l.parts * 8, THREADS), 1, 1, THREADS, l);
	LAUNCH(b, sum_total, 1, 1, 1, THREADS, l);
	b->ops->download(b, &total, l.part + l.parts, sizeof total);
	return total;
}
