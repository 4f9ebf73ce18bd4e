/* Kernels on the processor: what a kernel needs of a GPU, as plain C, so that
 * the very same .cu sources can be tested where there is no GPU.
 *
 * This checks logic: indices, masks, barriers, the order of every sum. It does
 * not check what only a device has: its arithmetic (assumed IEEE, as the kernels
 * ask for it), its memory model, its speed. Nothing of it is in the program; the
 * tests that use it say so in their names (…_cuda_host).
 *
 * A block's threads are fibers of one operating-system thread; they run one
 * after another and change only at a barrier or a shuffle. The direction changes
 * from one stretch to the next and blocks run in alternating order, so that a
 * missing barrier or a block that leans on another gives wrong results here too,
 * instead of working by luck. Dynamic shared memory starts as NaN in each block. */
#ifndef TENFOLD_TENSOR_CUDA_HOST_H
#define TENFOLD_TENSOR_CUDA_HOST_H

#include <math.h>
#include <stdint.h>
#include <string.h>

struct host_index {
	unsigned x, y, z;
};

/* One thread of the running block. */
struct host_lane {
	struct host_index thread, block, block_dim, grid_dim;
	void *shared; /* dynamic shared memory of the block */
	struct host_machine *machine;
};
extern _Thread_local struct host_lane *host_lane;

#define threadIdx (host_lane->thread)
#define blockIdx (host_lane->block)
#define blockDim (host_lane->block_dim)
#define gridDim (host_lane->grid_dim)

#define DEVICE static inline __attribute__((unused))
#define SHARED static _Thread_local
#define SHARED_DYNAMIC(type, name) type *name = (type *)host_lane->shared
#define UNROLL
#define KERNEL(name, type, threads)                                                                                    \
	static void name##_body(const type arg);                                                                       \
	static void name(const void *p)                                                                                \
	{                                                                                                              \
		name##_body(*(const type *)p);                                                                         \
	}                                                                                                              \
	static void name##_body(const type arg)

void block_sync(void);
void warp_sync(void);
float shuffle(float x, int lane);
float shuffle_xor(float x, int mask);
unsigned ballot(int yes);
_Noreturn void device_trap(void);

DEVICE float d_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE double d_fma_double(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEVICE int d_round_int(float x) { return x != x ? 0 : (int)lrintf(x); }
DEVICE float d_float_of(int bits)
{
	float x;
	memcpy(&x, &bits, 4);
	return x;
}
DEVICE int d_bits_of(float x)
{
	int b;
	memcpy(&b, &x, 4);
	return b;
}
DEVICE int d_popc(unsigned x) { return __builtin_popcount(x); }

DEVICE uint32_t d_bf16(float x)
{
	uint32_t b = (uint32_t)d_bits_of(x);
	return x != x ? 0x7fff : (b + 0x7fff + (b >> 16 & 1)) >> 16;
}
DEVICE uint32_t d_bf16_pair(float low, float high) { return d_bf16(low) | d_bf16(high) << 16; }
DEVICE uint32_t d_load_pair(const uint16_t *p)
{
	uint32_t b;
	memcpy(&b, p, 4);
	return b;
}
/* The layouts are PTX's; the sixteen products are added in double, which a device does not promise. */
void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]);

/* Runs a launch to its end. threads: of a block, a multiple of 32, at most 1024. */
struct host_machine *host_machine_open(void);
void host_machine_close(struct host_machine *);
void host_launch(struct host_machine *, void (*kernel)(const void *), const void *arg, struct host_index grid, unsigned threads, size_t shared);

#endif
