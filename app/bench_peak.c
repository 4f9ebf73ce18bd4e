/* This machine's limits, measured: multiply-adds from registers, memory reads and
 * updates over more than the caches hold. The loops for AVX-512 and AVX2 are
 * compiled by function attribute and chosen at run time.
 *
 * What other processes take away lowers a single measurement, never raises it, so
 * the best of many short ones is the limit. */
#include "app/bench.h"
#include "core/base/fs.h"
#include "core/base/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 20, ROUNDS = 200000, MEMORY = 320 << 20 };

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

/* Memory: S streams of one slab at once, four loads of each in turn, so that the prefetchers of any machine find
 * something to do; or the optimiser's pattern, four arrays read and three of them written. Returns what was read. */
#define MEMORY_LOOPS(read, mixed, isa)                                                                                 \
	__attribute__((target(isa))) static uint64_t read(float *memory, size_t bytes, size_t streams)                 \
	{                                                                                                              \
		size_t each = bytes / streams / 256 * 256;                                                             \
		words s0 = {0}, s1 = s0, s2 = s0, s3 = s0;                                                             \
		for (size_t i = 0; i < each; i += 256)                                                                 \
			for (size_t s = 0; s < streams; s++) {                                                         \
				const words *p = (const void *)((const char *)memory + s * each + i);                  \
				s0 ^= p[0], s1 ^= p[1], s2 ^= p[2], s3 ^= p[3];                                        \
			}                                                                                              \
		s0 ^= s1 ^ s2 ^ s3;                                                                                    \
		return s0[0] ^ s0[1] ^ s0[2] ^ s0[3] ^ s0[4] ^ s0[5] ^ s0[6] ^ s0[7];                                  \
	}                                                                                                              \
	__attribute__((target(isa))) static void mixed(float *memory, size_t bytes)                                    \
	{                                                                                                              \
		size_t each = bytes / 4 / 64;                                                                          \
		words *w = (void *)memory, *g = w + each, *m = g + each, *v = m + each;                                \
		for (size_t i = 0; i < each; i++) w[i] ^= g[i], m[i] ^= g[i], v[i] ^= g[i];                            \
	}
typedef uint64_t words __attribute__((vector_size(64), aligned(64), may_alias));
MEMORY_LOOPS(read_512, mixed_512, "avx512f")
MEMORY_LOOPS(read_256, mixed_256, "avx2")
MEMORY_LOOPS(read_plain, mixed_plain, "sse2")

struct peak_job {
	double (*loop)(void);
	uint64_t (*read)(float *, size_t, size_t);
	void (*mixed)(float *, size_t);
	float *memory;
	size_t slab, first, bytes, streams; /* bytes of each task; those read now; streams 0: the optimiser's pattern */
	double flop[256];
	uint64_t sum[256];
};

static void peak_task(void *arg, int task, int thread)
{
	(void)thread;
	struct peak_job *j = arg;
	j->flop[task] = j->loop();
}

static void touch_task(void *arg, int task, int thread)
{
	(void)thread;
	struct peak_job *j = arg;
	memset((char *)j->memory + (size_t)task * j->slab, 1, j->slab);
}

static void memory_task(void *arg, int task, int thread)
{
	(void)thread;
	struct peak_job *j = arg;
	float *at = (void *)((char *)j->memory + (size_t)task * j->slab + j->first);
	if (j->streams) j->sum[task] = j->read(at, j->bytes, j->streams);
	else j->mixed(at, j->bytes);
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

/* Best GB/s of reads and of the optimiser's pattern over `passes`. The memory is gone through quarter by quarter: by the
 * time a quarter comes again the caches hold the others. */
static void peak_memory(struct pool *p, struct peak_job *j, int passes, double *read, double *mixed)
{
	static const size_t streams[] = {0, 1, 4, 8};
	int tasks = pool_threads(p);
	j->slab = MEMORY / (size_t)tasks / 16384 * 16384;
	j->bytes = j->slab / 4;
	pool_run(p, tasks, touch_task, j);
	*read = *mixed = 0;
	for (int i = 0; i < passes * 4 * 4; i++) {
		j->first = (size_t)i % 4 * j->bytes;
		j->streams = streams[i / 4 % 4];
		double bytes = (double)(j->bytes * (size_t)tasks) * (j->streams ? 1.0 : 1.75);
		double rate = bytes / best_of(p, tasks, memory_task, j, 1) * 1e-9, *best = j->streams ? read : mixed;
		*best = rate > *best ? rate : *best;
	}
}

static struct peak_job peak_job(void)
{
	int wide = __builtin_cpu_supports("avx512f") != 0, fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	struct peak_job j = {.loop = wide ? peak_512 : fma ? peak_256 : peak_plain, .read = wide ? read_512 : fma ? read_256 : read_plain,
			     .mixed = wide ? mixed_512 : fma ? mixed_256 : mixed_plain, .memory = aligned_alloc(64, MEMORY)};
	CHECK(j.memory, "out of memory: %zu bytes to measure bandwidth with", (size_t)MEMORY);
	return j;
}

/* The part that needs all threads. */
static void peak_all(struct pool *p, struct peak_job *j, int times, int passes, struct bench_peak *out)
{
	int threads = pool_threads(p);
	double seconds = best_of(p, threads, peak_task, j, times);
	*out = (struct bench_peak){.threads = threads, .gflops_all = j->flop[0] * threads / seconds * 1e-9, .seconds = 0.15};
	peak_memory(p, j, passes, &out->read_all, &out->mixed_all);
	out->memory_gbs = out->read_all > out->mixed_all ? out->read_all : out->mixed_all;
}

void bench_peak_quick(struct bench_peak *out, int threads)
{
	struct pool *p = pool_open(threads);
	struct peak_job j = peak_job();
	peak_all(p, &j, 30, 1, out);
	free(j.memory);
	pool_close(p);
}

void bench_peak(struct bench_peak *out, int threads)
{
	struct pool *p = pool_open(threads), *one = pool_open(1);
	struct peak_job j = peak_job();
	peak_all(p, &j, 150, 4, out);
	out->gflops_one = j.flop[0] / best_of(one, 1, peak_task, &j, 50) * 1e-9;
	peak_memory(one, &j, 3, &out->read_one, &out->mixed_one);
	free(j.memory);
	pool_close(one);
	pool_close(p);
}

void bench_peak_of(struct bench_peak *out, struct backend *b)
{
	struct backend_limits l;
	if (!backend_limits(b, &l)) {
		bench_peak(out, backend_threads(b));
		return;
	}
	double flops = l.flops * 1e-9, bytes = l.bytes * 1e-9;
	*out = (struct bench_peak){.device = 1, .threads = 1, .gflops_one = flops, .gflops_all = flops, .read_one = bytes, .read_all = bytes, .mixed_one = bytes,
				   .mixed_all = bytes, .memory_gbs = bytes, .seconds = 0.15};
}
