/* What the device can do: copy bandwidth, and the vendor's matrix product with
 * the fastest of the algorithms that it proposes. Only the benchmark asks; the operations use
 * none of this, because cublasLt's choice (split reductions among them) changes
 * with the number of rows, and bits with it. The quotient is the price of
 * exactness. Inputs are random: a product of zeros runs faster than one of data. */
#include "core/tensor/cuda/memory.h"

#include <stdlib.h>

enum { REPEATS = 10, SAMPLES = 7, ALGORITHMS = 8 };

static void blas_must(int code, const char *what)
{
	CHECK(code == (int)CUBLAS_STATUS_SUCCESS, "%s: %s", what, cublasLtGetStatusString((cublasStatus_t)code));
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* Median seconds of one fn(arg), after a warm-up. */
static double seconds_of(struct cuda_backend *b, void (*fn)(struct cuda_backend *, void *), void *arg)
{
	cudaEvent_t start, stop;
	float ms[SAMPLES];
	cuda_must(cudaEventCreate(&start), "cudaEventCreate");
	cuda_must(cudaEventCreate(&stop), "cudaEventCreate");
	fn(b, arg);
	for (int s = 0; s < SAMPLES; s++) {
		cuda_must(cudaEventRecord(start, b->stream), "cudaEventRecord");
		for (int i = 0; i < REPEATS; i++) fn(b, arg);
		cuda_must(cudaEventRecord(stop, b->stream), "cudaEventRecord");
		cuda_must(cudaEventSynchronize(stop), "a measurement");
		cuda_must(cudaEventElapsedTime(&ms[s], start, stop), "cudaEventElapsedTime");
	}
	cuda_must(cudaEventDestroy(start), "cudaEventDestroy");
	cuda_must(cudaEventDestroy(stop), "cudaEventDestroy");
	qsort(ms, SAMPLES, sizeof ms[0], ascending);
	return (double)ms[SAMPLES / 2] * 1e-3 / (double)REPEATS;
}

struct copying {
	void *from, *to;
	size_t bytes;
};

static void copy_once(struct cuda_backend *b, void *arg)
{
	const struct copying *c = (const struct copying *)arg;
	cuda_must(cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyDeviceToDevice, b->stream), "cudaMemcpy");
}

/* n numbers of this backend's precision, random in ±1; NULL when there is no memory. */
static void *random_numbers(struct cuda_backend *b, int64_t n)
{
	enum { PIECE = 1 << 18 };
	size_t each = b->bf16 ? 2 : 4, bytes = (size_t)n * each, piece = PIECE * each;
	char *p = (char *)K(cuda_alloc)(&b->base, bytes), *host = (char *)malloc(piece);
	CHECK(host, "out of memory to measure with");
	uint32_t state = 1;
	for (int i = 0; i < PIECE; i++) {
		state = state * 1664525u + 1013904223u;
		float x = (float)(int32_t)state * 0x1p-31f;
		memcpy(host + (size_t)i * each, (const char *)&x + (4 - each), each); /* bf16: the upper half */
	}
	for (size_t at = 0; p && at < bytes; at += piece) K(cuda_upload)(&b->base, p + at, host, bytes - at < piece ? bytes - at : piece);
	free(host);
	return p;
}

struct library {
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t w, x, y;
	cublasLtMatmulHeuristicResult_t algorithm[ALGORITHMS];
	int found, now;
	void *weights, *rows, *out, *room;
	size_t room_bytes;
};

static void library_once(struct cuda_backend *b, void *arg)
{
	const struct library *l = (const struct library *)arg;
	float one = 1, zero = 0;
	blas_must(cublasLtMatmul(l->handle, l->operation, &one, l->weights, l->w, l->rows, l->x, &zero, l->out, l->y, l->out, l->y, &l->algorithm[l->now].algo, l->room,
				 l->room_bytes, b->stream),
		  "cublasLtMatmul");
}

/* The product in column order: y[n, m] = w[k, n]ᵀ·x[k, m], and the algorithms that the library takes for the fastest. */
static void library_plan(const struct cuda_backend *b, struct library *l, int64_t m, int64_t n, int64_t k)
{
	cudaDataType_t type = b->bf16 ? CUDA_R_16BF : CUDA_R_32F;
	cublasOperation_t turned = CUBLAS_OP_T;
	cublasLtMatmulPreference_t wish;
	blas_must(cublasLtCreate(&l->handle), "cublasLtCreate");
	blas_must(cublasLtMatmulDescCreate(&l->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
	blas_must(cublasLtMatmulDescSetAttribute(l->operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned), "cublasLtMatmulDescSetAttribute");
	blas_must(cublasLtMatrixLayoutCreate(&l->w, type, (uint64_t)k, (uint64_t)n, k), "cublasLtMatrixLayoutCreate");
	blas_must(cublasLtMatrixLayoutCreate(&l->x, type, (uint64_t)k, (uint64_t)m, k), "cublasLtMatrixLayoutCreate");
	blas_must(cublasLtMatrixLayoutCreate(&l->y, CUDA_R_32F, (uint64_t)n, (uint64_t)m, n), "cublasLtMatrixLayoutCreate");
	blas_must(cublasLtMatmulPreferenceCreate(&wish), "cublasLtMatmulPreferenceCreate");
	blas_must(cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &l->room_bytes, sizeof l->room_bytes),
		  "cublasLtMatmulPreferenceSetAttribute");
	cublasStatus_t rc = cublasLtMatmulAlgoGetHeuristic(l->handle, l->operation, l->w, l->x, l->y, l->y, wish, ALGORITHMS, l->algorithm, &l->found);
	blas_must(cublasLtMatmulPreferenceDestroy(wish), "cublasLtMatmulPreferenceDestroy");
	if (rc != CUBLAS_STATUS_SUCCESS) l->found = 0;
}

static void library_close(struct cuda_backend *b, struct library *l)
{
	void *p[] = {l->weights, l->rows, l->out, l->room};
	for (int i = 0; i < 4; i++)
		if (p[i]) K(cuda_release)(&b->base, p[i]);
	blas_must(cublasLtMatrixLayoutDestroy(l->w), "cublasLtMatrixLayoutDestroy");
	blas_must(cublasLtMatrixLayoutDestroy(l->x), "cublasLtMatrixLayoutDestroy");
	blas_must(cublasLtMatrixLayoutDestroy(l->y), "cublasLtMatrixLayoutDestroy");
	blas_must(cublasLtMatmulDescDestroy(l->operation), "cublasLtMatmulDescDestroy");
	blas_must(cublasLtDestroy(l->handle), "cublasLtDestroy");
}

CUDA_API double cuda_library_product(struct backend *base, int64_t m, int64_t n, int64_t k)
{
	struct cuda_backend *b = cuda_of(base);
	struct library l;
	double seconds = 0;
	memset(&l, 0, sizeof l);
	l.room_bytes = (size_t)32 << 20;
	library_plan(b, &l, m, n, k);
	l.weights = random_numbers(b, n * k);
	l.rows = random_numbers(b, m * k);
	l.out = K(cuda_alloc)(base, (size_t)(m * n) * 4);
	l.room = K(cuda_alloc)(base, l.room_bytes);
	int ready = l.weights && l.rows && l.out && l.room;
	for (l.now = 0; ready && l.now < l.found; l.now++) {
		if (l.algorithm[l.now].state != CUBLAS_STATUS_SUCCESS) continue;
		double s = seconds_of(b, library_once, &l);
		if (seconds == 0 || s < seconds) seconds = s;
	}
	library_close(b, &l);
	return seconds;
}

CUDA_API int cuda_limits(struct backend *base, struct backend_limits *out)
{
	const int64_t side = 8192;
	struct cuda_backend *b = cuda_of(base);
	struct copying c = {NULL, NULL, (size_t)1 << 30};
	c.from = random_numbers(b, (int64_t)(c.bytes / (b->bf16 ? 2 : 4)));
	c.to = K(cuda_alloc)(base, c.bytes);
	CHECK(c.from && c.to, "out of device memory: 2 GiB to measure bandwidth with");
	out->bytes = 2.0 * (double)c.bytes / seconds_of(b, copy_once, &c);
	K(cuda_release)(base, c.from);
	K(cuda_release)(base, c.to);
	double seconds = cuda_library_product(base, side, side, side);
	out->flops = seconds > 0 ? 2.0 * (double)(side * side * side) / seconds : 0;
	return 1;
}
