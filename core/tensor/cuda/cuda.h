/* The CUDA backend's inside: a stream, scratch, and what every kernel file
 * includes. Internal to core/tensor/cuda.
 *
 * Sources are CUDA in C style: the common part of C11 and C++20. nvcc compiles
 * them for the device; the tests compile the same files for the processor
 * (TENFOLD_CUDA_HOST, host/host.h). A kernel takes one struct by value, called
 * `arg`, and is started by LAUNCH.
 *
 * Arithmetic: every sum has the order of the CPU's kernels (16 lanes and the
 * same tree, or one chain), every multiply-add is written as one, contraction is
 * off, division and square root are the rounded ones. So f32 results have the
 * CPU's bits, and the tests compare them as bits. */
#ifndef TENFOLD_TENSOR_CUDA_H
#define TENFOLD_TENSOR_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif
#include "core/base/err.h"
#include "core/tensor/backend.h"
#ifdef __cplusplus
}
#endif

#ifdef TENFOLD_CUDA_HOST
#include "core/tensor/cuda/host/host.h"
#define K(name) name##_cuda_host
#define CUDA_API
#else
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#define K(name) name##_cuda
#define CUDA_API extern "C"
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define SHARED_DYNAMIC(type, name)                                                                                     \
	extern __shared__ float4 dynamic_shared[];                                                                     \
	type *name = (type *)dynamic_shared
#define UNROLL _Pragma("unroll")
#define KERNEL(name, type, threads) static __global__ void __launch_bounds__(threads) name(const __grid_constant__ type arg)
DEVICE void block_sync(void) { __syncthreads(); }
DEVICE void warp_sync(void) { __syncwarp(); }
DEVICE float shuffle(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE unsigned ballot(int yes) { return __ballot_sync(0xffffffffu, yes); }
DEVICE void device_trap(void) { __trap(); }
DEVICE float d_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE double d_fma_double(double a, double b, double c) { return __fma_rn(a, b, c); }
DEVICE int d_round_int(float x) { return __float2int_rn(x); }
DEVICE float d_float_of(int bits) { return __int_as_float(bits); }
DEVICE int d_bits_of(float x) { return __float_as_int(x); }
DEVICE int d_popc(unsigned x) { return __popc(x); }
/* Two numbers rounded to bf16, to nearest even; `low` in the low half. */
DEVICE uint32_t d_bf16_pair(float low, float high)
{
	uint32_t r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}
DEVICE uint32_t d_load_pair(const uint16_t *p) { return *(const uint32_t *)p; } /* two of them, p at an even place */
/* c[16, 8] += a[16, 16]·b[16, 8] by a warp, in the fragment layouts of PTX's mma.m16n8k16. */
DEVICE void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/* A caller's mistake that only the device can see. */
#define DEVICE_CHECK(cond)                                                                                             \
	do {                                                                                                           \
		if (!(cond)) device_trap();                                                                            \
	} while (0)

struct cuda_backend {
	struct backend base;
	struct ops ops;      /* with this device's name */
	char name[32];
	struct account account;
#ifdef TENFOLD_CUDA_HOST
	struct host_machine *machine;
	size_t limit;        /* bytes that this "device" has; 0: no limit */
	struct backend_graph *graph; /* being recorded; NULL: none is */
#else
	cudaStream_t stream;
#endif
	int recording;       /* between graph_begin and graph_end */
	int bf16;            /* products round their inputs to bf16 */
	int processors;      /* multiprocessors, for persistent grids */
	char *scratch;       /* device memory; reserved, or grown to the greatest need */
	size_t scratch_bytes;
	char identity[384];  /* into the fingerprint */
};

static inline struct cuda_backend *cuda_of(struct backend *b)
{
	return (struct cuda_backend *)b;
}

/* Bytes of scratch that operations up to these sizes ask for (kernels/table.cu). */
CUDA_API size_t K(cuda_scratch_plan)(struct backend *, const struct ops_sizes *);
/* Device memory of this backend until the next call; whole operations use it. */
CUDA_API void *K(cuda_scratch)(struct backend *, size_t bytes);

#ifdef TENFOLD_CUDA_HOST
/* Runs it, or notes it while a graph is recorded (host/graph.c). */
void host_submit(struct cuda_backend *, void (*kernel)(const void *), const void *arg, size_t arg_bytes, struct host_index grid, unsigned threads, size_t shared);
#define LAUNCH_SHARED(b, kernel, gx, gy, gz, threads, bytes, value)                                                    \
	do {                                                                                                           \
		struct host_index grid_ = {(unsigned)(gx), (unsigned)(gy), (unsigned)(gz)};                            \
		if (grid_.x && grid_.y && grid_.z) host_submit(cuda_of(b), kernel, &(value), sizeof(value), grid_, threads, bytes); \
	} while (0)
#else
/* Stops the program: after a failed call the device's state is unknown. */
CUDA_API void cuda_must(int code, const char *what);
#define LAUNCH_SHARED(b, kernel, gx, gy, gz, threads, bytes, value)                                                    \
	do {                                                                                                           \
		dim3 grid_((unsigned)(gx), (unsigned)(gy), (unsigned)(gz));                                            \
		if (grid_.x && grid_.y && grid_.z) {                                                                   \
			kernel<<<grid_, threads, bytes, cuda_of(b)->stream>>>(value);                                  \
			cuda_must(cudaGetLastError(), #kernel);                                                        \
		}                                                                                                      \
	} while (0)
#endif
#define LAUNCH(b, kernel, gx, gy, gz, threads, value) LAUNCH_SHARED(b, kernel, gx, gy, gz, threads, 0, value)

/* Blocks of `threads` for n items, one thread each. */
static inline int64_t cuda_blocks(int64_t n, int64_t each)
{
	return (n + each - 1) / each;
}

#endif
