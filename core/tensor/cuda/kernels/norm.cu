/* RMSNorm: y = w · x · rsqrt(mean(x²) + eps) (Zhang & Sennrich, 1910.07467), and
 * LayerNorm, which takes the mean away first (Ba et al., 1607.06450).
 *
 * Half a warp has a row: its lanes are the sixteen lanes of the CPU's kernel. A wide
 * row has a block, which brings it to them piece by piece, so that a decoding step
 * with its few rows does not wait for one load after the other; it changes no
 * order. The weight gradient is one chain per channel over rows in order; its terms are
 * made in parallel, tile by tile, and added by one thread. */
#include "core/tensor/cuda/kernels/columns.h"

enum { THREADS = 128, ROWS = THREADS / 16, WIDE = 512, PIECE = 1024 };

struct norm_launch {
	struct norm_args a;
	int bias; /* norm_dw: the gradient is the bias's */
};

KERNEL(norm_rows, struct norm_launch, THREADS)
{
	const struct norm_args *a = &arg.a;
	int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / 16, c = a->x.cols;
	int lane = threadIdx.x % 16, live = t < a->x.rows;
	const float *x = (const float *)a->x.data + t * c;
	float s = 0, mean = 0, *y = (float *)a->y.data + t * c;
	for (int64_t i = lane; live && a->mean && i < c; i += 16) s += x[i];
	if (a->mean) mean = lanes_sum(s) / (float)c;
	s = 0;
	for (int64_t i = lane; live && i < c; i += 16) s = d_fma(x[i] - mean, x[i] - mean, s);
	float rstd = 1.0f / sqrtf(lanes_sum(s) / (float)c + a->eps);
	if (live && a->rstd && lane == 0) a->rstd[t] = rstd;
	if (live && a->mean && lane == 0) a->mean[t] = mean;
	for (int64_t i = lane; live && i < c; i += 16) {
		float v = a->w[i] * ((x[i] - mean) * rstd);
		y[i] = a->bias ? v + a->bias[i] : v;
	}
}

struct wide_shared {
	float piece[PIECE], sum;
};

/* Sum of x, or of (x − mean)², over a row by sixteen threads of the block; all have it. */
DEVICE float wide_sum(const float *x, int64_t c, float mean, int squares, struct wide_shared *w)
{
	float s = 0;
	for (int64_t at = 0; at < c; at += PIECE) {
		int n = c - at < PIECE ? (int)(c - at) : PIECE;
		block_sync();
		for (int i = (int)threadIdx.x; i < n; i += THREADS) w->piece[i] = x[at + i];
		block_sync();
		for (int i = (int)threadIdx.x; threadIdx.x < 16 && i < n; i += 16) s = squares ? d_fma(w->piece[i] - mean, w->piece[i] - mean, s) : s + w->piece[i];
	}
	s = lanes_sum(s);
	if (threadIdx.x == 0) w->sum = s;
	block_sync();
	return w->sum;
}

KERNEL(norm_wide, struct norm_launch, THREADS)
{
	SHARED struct wide_shared w;
	const struct norm_args *a = &arg.a;
	int64_t t = blockIdx.x, c = a->x.cols;
	const float *x = (const float *)a->x.data + t * c;
	float mean = a->mean ? wide_sum(x, c, 0, 0, &w) / (float)c : 0, *y = (float *)a->y.data + t * c;
	float rstd = 1.0f / sqrtf(wide_sum(x, c, mean, 1, &w) / (float)c + a->eps);
	if (a->rstd && threadIdx.x == 0) a->rstd[t] = rstd;
	if (a->mean && threadIdx.x == 0) a->mean[t] = mean;
	for (int64_t i = threadIdx.x; i < c; i += THREADS) {
		float v = a->w[i] * ((x[i] - mean) * rstd);
		y[i] = a->bias ? v + a->bias[i] : v;
	}
}

CUDA_API void K(norm_forward)(struct backend *b, const struct norm_args *a)
{
	CHECK(a->x.rows == a->y.rows && a->x.cols == a->y.cols, "norm: x [%lld,%lld]", (long long)a->x.rows, (long long)a->x.cols);
	struct norm_launch l = {*a, 0};
	if (a->x.cols >= WIDE) LAUNCH(b, norm_wide, a->x.rows, 1, 1, THREADS, l);
	else LAUNCH(b, norm_rows, cuda_blocks(a->x.rows, ROWS), 1, 1, THREADS, l);
}

/* dx += rstd · (w·dy − x̂ · mean(w·dy·x̂)), x̂ = x·rstd; LayerNorm: rstd · (w·dy − mean(w·dy) − x̂ · mean(w·dy·x̂)),
 * x̂ = (x − mean)·rstd. */
KERNEL(norm_dx, struct norm_launch, THREADS)
{
	const struct norm_args *a = &arg.a;
	int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / 16, c = a->x.cols;
	int lane = threadIdx.x % 16, live = t < a->x.rows;
	const float *x = (const float *)a->x.data + t * c, *dy = (const float *)a->dy.data + t * c;
	float *dx = (float *)a->dx.data + t * c, rstd = live ? a->rstd[t] : 0, mean = live && a->mean ? a->mean[t] : 0, sum = 0, dot = 0;
	for (int64_t i = lane; live && i < c; i += 16) {
		sum += a->w[i] * dy[i];
		dot = d_fma(a->w[i] * dy[i], x[i] - mean, dot);
	}
	float m = lanes_sum(sum) / (float)c, k = lanes_sum(dot) * rstd * rstd / (float)c;
	for (int64_t i = lane; live && i < c; i += 16)
		dx[i] += a->mean ? rstd * (a->w[i] * dy[i] - m - (x[i] - mean) * k) : rstd * (a->w[i] * dy[i] - x[i] * k);
}

KERNEL(norm_dw, struct norm_launch, COLUMN_THREADS)
{
	const struct norm_args *a = &arg.a;
	SHARED float term[COLUMN_ROWS * COLUMN_WIDTH];
	int64_t c = a->x.cols;
	const float *x = (const float *)a->x.data, *dy = (const float *)a->dy.data;
	float *to = arg.bias ? a->dbias : a->dw;
	struct column_sum s = column_begin(to, c);
	for (int64_t t0 = 0; t0 < a->x.rows; t0 += COLUMN_ROWS) {
		for (int i = (int)threadIdx.x; i < COLUMN_ROWS * COLUMN_WIDTH; i += COLUMN_THREADS) {
			int64_t t = t0 + i / COLUMN_WIDTH, k = column_first() + i % COLUMN_WIDTH;
			if (t >= a->x.rows || k >= c) continue;
			float mean = a->mean ? a->mean[t] : 0;
			term[i] = arg.bias ? dy[t * c + k] : dy[t * c + k] * ((x[t * c + k] - mean) * a->rstd[t]);
		}
		column_add(&s, term, a->x.rows - t0);
	}
	column_end(&s, to);
}

CUDA_API void K(norm_backward)(struct backend *b, const struct norm_args *a)
{
	struct norm_launch l = {*a, 0}, bias = {*a, 1};
	if (a->x.rows == 0) return;
	if (a->dx.data) LAUNCH(b, norm_dx, cuda_blocks(a->x.rows, ROWS), 1, 1, THREADS, l);
	if (a->dw) LAUNCH(b, norm_dw, cuda_blocks(a->x.cols, COLUMN_WIDTH), 1, 1, COLUMN_THREADS, l);
	if (a->dbias) LAUNCH(b, norm_dw, cuda_blocks(a->x.cols, COLUMN_WIDTH), 1, 1, COLUMN_THREADS, bias);
}
