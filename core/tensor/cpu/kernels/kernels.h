/* Prototypes of one build's kernels (KERNEL_ISA); the contracts are in core/tensor/ops.h. */
#ifndef TENFOLD_TENSOR_KERNELS_H
#define TENFOLD_TENSOR_KERNELS_H

#include "core/tensor/cpu/cpu.h"
#include "core/tensor/cpu/kernels/simd.h"

void K(embedding_forward)(struct backend *, struct tensor table, const int32_t *ids, struct tensor y);
void K(embedding_backward)(struct backend *, struct tensor dtable, const int32_t *ids, struct tensor dy);
void K(gather_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
void K(scatter_add_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
void K(round_bf16)(struct backend *, struct tensor to, const float *from);
void K(add)(struct backend *, float *y, const float *x, int64_t n);
void K(place_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *from, const int32_t *to, int64_t n);
double K(sum_squares)(struct backend *, const float *x, int64_t n);
void K(norm_forward)(struct backend *, const struct norm_args *);
void K(norm_backward)(struct backend *, const struct norm_args *);
void K(rope)(struct backend *, const struct rope_args *);
void K(linear_forward)(struct backend *, const struct linear_args *);
void K(linear_backward)(struct backend *, const struct linear_args *);
void K(kv_write)(struct backend *, const struct kv_args *);
void K(kv_read_add)(struct backend *, const struct kv_args *);
void K(attention_forward)(struct backend *, const struct attention_args *);
void K(attention_backward)(struct backend *, const struct attention_args *);
void K(router_forward)(struct backend *, const struct router_args *);
void K(router_backward)(struct backend *, const struct router_args *);
void K(experts_forward)(struct backend *, const struct experts_args *);
void K(experts_backward)(struct backend *, const struct experts_args *);
void K(swiglu_forward)(struct backend *, const struct swiglu_args *);
void K(swiglu_backward)(struct backend *, const struct swiglu_args *);
void K(gelu_forward)(struct backend *, const struct gelu_args *);
void K(gelu_backward)(struct backend *, const struct gelu_args *);
void K(dropout)(struct backend *, const struct dropout_args *);
void K(columns)(struct backend *, const struct columns_args *);
void K(head_forward)(struct backend *, const struct head_args *);
void K(head_backward)(struct backend *, const struct head_args *);
void K(uniforms)(struct backend *, const struct uniforms_args *);
void K(sample)(struct backend *, const struct sample_args *);
void K(adamw)(struct backend *, const struct adamw_args *);

/* n items in blocks of `block`: fn(ctx, first, last, thread) in parallel. */
struct cpu_ranges {
	int64_t n, block;
	void (*fn)(const void *ctx, int64_t first, int64_t last, int thread);
	const void *ctx;
};
static __attribute__((unused)) void cpu_ranges_task(void *arg, int task, int thread)
{
	const struct cpu_ranges *r = arg;
	int64_t first = task * r->block, last = first + r->block < r->n ? first + r->block : r->n;
	r->fn(r->ctx, first, last, thread);
}
static inline void cpu_for(struct backend *b, int64_t n, int64_t block, void (*fn)(const void *, int64_t, int64_t, int), const void *ctx)
{
	struct cpu_ranges r = {n, block < 1 ? 1 : block, fn, ctx};
	if (n > 0) pool_run(cpu_of(b)->pool, (int)((n + r.block - 1) / r.block), cpu_ranges_task, &r);
}

#endif
