/* The device: opening it, its memory, and its errors.
 *
 * One backend has one stream: operations run in the order of the calls, and only
 * download waits for them. Memory is plain device memory, zeroed; there is no
 * managed memory. What cannot fail in a correct program on a sound device stops
 * the program, with the call's name: an error of a kernel comes out at the next
 * call that waits, and the device's state is unknown from then on. */
#include "core/tensor/cuda/memory.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONTEXT_MIB = 512 }; /* of a process's context, kernels and stack, by what such contexts usually take; not measured here */

CUDA_API void cuda_must(int code, const char *what)
{
	CHECK(code == (int)cudaSuccess, "%s: %s", what, cudaGetErrorString((cudaError_t)code));
}

CUDA_API void *K(cuda_alloc)(struct backend *b, size_t bytes)
{
	void *p = NULL;
	cuda_not_recorded(b, "memory is taken");
	cudaError_t rc = cudaMalloc(&p, bytes ? bytes : 1);
	if (rc == cudaErrorMemoryAllocation) {
		size_t left = 0, total = 0;
		(void)cudaGetLastError(); /* the error is reported by the caller, who knows what to lower */
		cuda_must(cudaMemGetInfo(&left, &total), "cudaMemGetInfo");
		account_short(b->account, bytes, left, total);
		return NULL;
	}
	cuda_must(rc, "cudaMalloc");
	backend_count(b);
	account_take(b->account, p, bytes);
	cuda_must(cudaMemsetAsync(p, 0, bytes ? bytes : 1, cuda_of(b)->stream), "cudaMemset");
	return p;
}

CUDA_API void K(cuda_release)(struct backend *b, void *p)
{
	cuda_not_recorded(b, "memory is given back");
	cuda_must(cudaStreamSynchronize(cuda_of(b)->stream), "kernels before cudaFree");
	cuda_must(cudaFree(p), "cudaFree");
	account_give(b->account, p);
	K(cuda_weights_changed)(b, NULL, 0);
}

static void transfer(struct backend *b, void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
	if (!bytes) return;
	if (kind != cudaMemcpyDeviceToDevice) cuda_not_recorded(b, "the host is read or written");
	cuda_must(cudaMemcpyAsync(dst, src, bytes, kind, cuda_of(b)->stream), "cudaMemcpy");
	if (kind != cudaMemcpyDeviceToDevice) cuda_must(cudaStreamSynchronize(cuda_of(b)->stream), "kernels before a transfer");
}

CUDA_API void K(cuda_upload)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	transfer(b, dst, src, bytes, cudaMemcpyHostToDevice);
}

CUDA_API void K(cuda_download)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	transfer(b, dst, src, bytes, cudaMemcpyDeviceToHost);
}

CUDA_API void K(cuda_copy)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	transfer(b, dst, src, bytes, cudaMemcpyDeviceToDevice);
}

CUDA_API void K(cuda_zero)(struct backend *b, void *dst, size_t bytes)
{
	if (bytes) cuda_must(cudaMemsetAsync(dst, 0, bytes, cuda_of(b)->stream), "cudaMemset");
}

CUDA_API void K(cuda_wait)(struct backend *b)
{
	cuda_not_recorded(b, "the host waits");
	cuda_must(cudaStreamSynchronize(cuda_of(b)->stream), "kernels");
}

CUDA_API void K(cuda_weights_changed)(struct backend *b, const void *from, size_t bytes)
{
	(void)b, (void)from, (void)bytes;
}

/* 0, or -1: no memory. */
static int scratch_grow(struct backend *b, size_t bytes)
{
	struct cuda_backend *c = cuda_of(b);
	if (c->scratch_bytes >= bytes) return 0;
	if (c->scratch) K(cuda_release)(b, c->scratch);
	c->scratch_bytes = 0;
	bytes = (bytes + (1 << 20)) / (1 << 20) * (1 << 20);
	int now = b->account->now;
	account_purpose(b->account, "scratch of the operations");
	c->scratch = (char *)K(cuda_alloc)(b, bytes);
	b->account->now = now;
	if (!c->scratch) return -1;
	c->scratch_bytes = bytes;
	return 0;
}

CUDA_API int K(cuda_reserve)(struct backend *b, const struct ops_sizes *s)
{
	return scratch_grow(b, K(cuda_scratch_plan)(b, s)) < 0 ? ERR_MEMORY : 0;
}

CUDA_API void *K(cuda_scratch)(struct backend *b, size_t bytes)
{
	CHECK(scratch_grow(b, bytes) == 0, "out of device memory for scratch:%s", backend_shortage(b));
	return cuda_of(b)->scratch;
}

static int cuda_memory(struct backend *b, size_t *left, size_t *total)
{
	(void)b;
	cuda_must(cudaMemGetInfo(left, total), "cudaMemGetInfo");
	return 1;
}

static void cuda_close(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	if (b->scratch) K(cuda_release)(base, b->scratch);
	if (b->stream) cuda_must(cudaStreamDestroy(b->stream), "cudaStreamDestroy");
	account_close(&b->account);
	free(b);
}

CUDA_API int cuda_devices(void)
{
	int n = 0;
	if (cudaGetDeviceCount(&n) != cudaSuccess) {
		(void)cudaGetLastError();
		return 0;
	}
	return n;
}

/* The first device that CUDA_VISIBLE_DEVICES leaves. */
CUDA_API int cuda_backend_open(struct backend **out, const struct backend_options *o, struct err *e)
{
	struct cudaDeviceProp p;
	*out = NULL;
	if (cuda_devices() < 1)
		return err_set(e, ERR_STATE, "run.device: no CUDA device can be reached (nvidia-smi lists them; a driver for CUDA 13 is needed); use cpu or auto");
	cudaError_t rc = cudaGetDeviceProperties(&p, 0);
	if (rc != cudaSuccess) return err_set(e, ERR_STATE, "run.device: the CUDA device does not answer: %s", cudaGetErrorString(rc));
	if (p.major < 8)
		return err_set(e, ERR_RANGE, "run.device: %s has compute capability %d.%d; 8.0 or newer is needed; use cpu", p.name, p.major, p.minor);
	struct cuda_backend *b = (struct cuda_backend *)calloc(1, sizeof *b);
	CHECK(b, "out of memory for a backend");
	b->base.ops = &b->ops;
	b->base.close = cuda_close;
	b->base.threads = 1;
	b->base.identity = b->identity;
	b->base.account = &b->account;
	b->base.memory = cuda_memory;
	K(cuda_graphs)(&b->base);
	b->base.scratch = K(cuda_scratch_plan);
	b->base.limits = cuda_limits;
	b->base.library = cuda_library_product;
	b->bf16 = o->precision && !strcmp(o->precision, "bf16");
	b->base.process_bytes = (size_t)CONTEXT_MIB << 20;
	b->base.rows_apart = b->bf16;
	b->base.weights = b->base.keys = b->bf16 ? DTYPE_BF16 : DTYPE_F32;
	b->processors = p.multiProcessorCount;
	K(cuda_table)(&b->ops);
	snprintf(b->name, sizeof b->name, "cuda-sm%d%d%s", p.major, p.minor, b->bf16 ? "-bf16" : "");
	snprintf(b->identity, sizeof b->identity, "%s, compute capability %d.%d, cuBLAS %zu, %s", p.name, p.major, p.minor, cublasLtGetVersion(),
		 b->bf16 ? "bf16" : "f32");
	b->ops.name = b->name;
	rc = cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking);
	if (rc != cudaSuccess) {
		cuda_close(&b->base);
		return err_set(e, ERR_STATE, "run.device: %s cannot be used: %s", p.name, cudaGetErrorString(rc));
	}
	*out = &b->base;
	return 0;
}
