/* The CPU backend's inside: a thread pool, scratch for each thread, and the
 * cache of packed weights. Internal to core/tensor/cpu. */
#ifndef TENFOLD_TENSOR_CPU_H
#define TENFOLD_TENSOR_CPU_H

#include "core/base/pool.h"
#include "core/tensor/backend.h"

enum { PANEL = 32 }; /* outputs of a packed panel: two vectors of 16 lanes */
enum { CPU_EXPERT_ROWS = 48, CPU_SUM_BLOCK = 1 << 15 }; /* sorted rows of one task; numbers of one partial sum */

struct cpu_pack {
	uintptr_t key;    /* the weights' address, plus 1 when turned */
	int64_t matrices; /* stacked */
	uint64_t version; /* of the weights when packed; 0: stale */
	size_t bytes;
	float *data;      /* [matrices][ceil(out/32)][in][32], or turned [matrices][ceil(in/32)][out][32] */
};

struct cpu_backend {
	struct backend base;
	struct pool *pool;
	int bf16;               /* inputs of products are rounded to bf16 */
	uint64_t version;       /* rises when all weights change */
	struct cpu_pack *packs; /* open addressing by key */
	size_t pack_slots, pack_count;
	char **scratch;         /* one growing buffer per thread */
	size_t *scratch_bytes;
};

static inline struct cpu_backend *cpu_of(struct backend *b)
{
	return (struct cpu_backend *)b;
}

/* Panels of `matrices` stacked [rows/matrices, cols] matrices, packed now when absent or stale: for x·wᵀ, or turned for
 * dy·w. Main thread only. */
const float *cpu_packed(struct cpu_backend *, struct tensor w, int64_t matrices, int turned);
/* 64-byte aligned memory of this thread, valid until its next call. */
void *cpu_scratch(struct cpu_backend *, int thread, size_t bytes);

/* The tables of the three builds. */
extern const struct ops cpu_ops_avx512, cpu_ops_avx2, cpu_ops_generic;

void *cpu_alloc(struct backend *, size_t bytes);
int cpu_reserve(struct backend *, const struct ops_sizes *);
void cpu_release(struct backend *, void *);
void cpu_copy(struct backend *, void *dst, const void *src, size_t bytes);
void cpu_zero(struct backend *, void *dst, size_t bytes);
void cpu_wait(struct backend *);
void cpu_weights_changed(struct backend *, const void *from, size_t bytes);

#endif
