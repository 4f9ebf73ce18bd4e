/* This machine's limits, measured: multiply-adds from registers, memory reads, and
 * what handing work to the pool costs. The loops for AVX-512 and AVX2 are compiled
 * by function attribute and chosen at run time. */
#include "app/bench.h"
#include "core/base/fs.h"
#include "core/base/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 20, ROUNDS = 200000 };

/* Multiply-adds of CHAINS independent vectors; the asm pins each to a register and keeps the compiler from folding. */
#define PEAK_LOOP(name, isa, type, lanes)                                                                              \
	__attribute__((target(isa))) static double name(void)                                                          \
	{                                                                                                              \
		typedef float type __attribute__((vector_size(lanes * 4)));                                            \
		type a = {0}, b = a + 1.0f;                                                                            \
		type c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a;                   \
		for (int r = 0; r < ROUNDS; r++) {                                                                     \
			__asm__ volatile("vfmadd231ps %10, %11, %0\n\tvfmadd231ps %10, %11, %1\n\t"                    \
					 "vfmadd231ps %10, %11, %2\n\tvfmadd231ps %10, %11, %3\n\t"                    \
					 "vfmadd231ps %10, %11, %4\n\tvfmadd231ps %10, %11, %5\n\t"                    \
					 "vfmadd231ps %10, %11, %6\n\tvfmadd231ps %10, %11, %7\n\t"                    \
					 "vfmadd231ps %10, %11, %8\n\tvfmadd231ps %10, %11, %9\n\t"                    \
					 "vfmadd231ps %10, %11, %0\n\tvfmadd231ps %10, %11, %1\n\t"                    \
					 "vfmadd231ps %10, %11, %2\n\tvfmadd231ps %10, %11, %3\n\t"                    \
					 "vfmadd231ps %10, %11, %4\n\tvfmadd231ps %10, %11, %5\n\t"                    \
					 "vfmadd231ps %10, %11, %6\n\tvfmadd231ps %10, %11, %7\n\t"                    \
					 "vfmadd231ps %10, %11, %8\n\tvfmadd231ps %10, %11, %9"                        \
					 : "+v"(c0), "+v"(c1), "+v"(c2), "+v"(c3), "+v"(c4), "+v"(c5), "+v"(c6),        \
					   "+v"(c7), "+v"(c8), "+v"(c9)                                                \
					 : "v"(a), "v"(b));                                                            \
		}                                                                                                      \
		return 2.0 * lanes * CHAINS * ROUNDS;                                                                  \
	}
PEAK_LOOP(peak_512, "avx512f", v512, 16)
PEAK_LOOP(peak_256, "avx2,fma", v256, 8)

/* Without FMA instructions: separate multiply and add, which is what the generic build would reach at best. */
static double peak_plain(void)
{
	float c[16], b = 1.0f;
	for (int i = 0; i < 16; i++) c[i] = 0;
	for (int r = 0; r < ROUNDS; r++) {
		__asm__ volatile("" : "+r"(b));
		for (int i = 0; i < 16; i++) c[i] = c[i] * b + b;
	}
	__asm__ volatile("" : : "r"(c) : "memory");
	return 2.0 * 16 * ROUNDS;
}

struct peak_job {
	double (*loop)(void);
	const float *memory;
	size_t floats; /* of each task */
	double flop[256];
	float sum[256];
};

static void peak_task(void *arg, int task, int thread)
{
	(void)thread;
	struct peak_job *j = arg;
	j->flop[task] = j->loop();
}

static void read_task(void *arg, int task, int thread)
{
	(void)thread;
	struct peak_job *j = arg;
	typedef uint64_t words __attribute__((vector_size(64), aligned(4), may_alias));
	const words *p = (const void *)(j->memory + (size_t)task * j->floats);
	words s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
	for (size_t i = 0; i + 4 <= j->floats / 16; i += 4) s0 ^= p[i], s1 ^= p[i + 1], s2 ^= p[i + 2], s3 ^= p[i + 3];
	s0 ^= s1 ^ s2 ^ s3;
	j->sum[task] = (float)(s0[0] ^ s0[1] ^ s0[2] ^ s0[3] ^ s0[4] ^ s0[5] ^ s0[6] ^ s0[7]);
}

static void empty_task(void *arg, int task, int thread)
{
	(void)arg, (void)task, (void)thread;
}

static double best_of(struct pool *p, int tasks, void (*fn)(void *, int, int), void *arg, int times)
{
	double best = 1e30;
	for (int i = 0; i < times; i++) {
		double start = fs_now();
		pool_run(p, tasks, fn, arg);
		double t = fs_now() - start;
		best = t < best ? t : best;
	}
	return best;
}

static void peak_memory(struct pool *p, int threads, struct bench_peak *out)
{
	size_t bytes = (size_t)256 << 20;
	struct peak_job j = {.floats = bytes / 4 / (size_t)threads / 64 * 64};
	float *memory = aligned_alloc(64, bytes);
	if (!memory) return;
	memset(memory, 1, bytes);
	j.memory = memory;
	out->read_gbs = (double)(j.floats * 4) * threads / best_of(p, threads, read_task, &j, 8) * 1e-9;
	free(memory);
}

void bench_peak(struct bench_peak *out, int threads)
{
	struct pool *p = pool_open(threads), *one = pool_open(1);
	struct peak_job j = {.loop = __builtin_cpu_supports("avx512f") ? peak_512 : __builtin_cpu_supports("fma") ? peak_256 : peak_plain};
	threads = pool_threads(p);
	*out = (struct bench_peak){.threads = threads};
	double seconds = best_of(one, 1, peak_task, &j, 30);
	out->gflops_one = j.flop[0] / seconds * 1e-9;
	out->gflops_all = j.flop[0] * threads / best_of(p, threads, peak_task, &j, 60) * 1e-9;
	out->dispatch_us = best_of(p, 2, empty_task, NULL, 2000) * 1e6;
	peak_memory(p, threads, out);
	pool_close(one);
	pool_close(p);
}
