/* This build's table of operations. */
#include "core/tensor/cpu/kernels/kernels.h"

#define NAME2(x) "cpu-" #x
#define NAME(x) NAME2(x)

const struct ops K(cpu_ops) = {
	.name = NAME(KERNEL_ISA),
	.alloc = cpu_alloc,
	.release = cpu_release,
	.upload = cpu_copy,
	.download = cpu_copy,
	.copy = cpu_copy,
	.zero = cpu_zero,
	.weights_changed = cpu_weights_changed,
	.embedding_forward = K(embedding_forward),
	.embedding_backward = K(embedding_backward),
	.norm_forward = K(norm_forward),
	.norm_backward = K(norm_backward),
	.rope = K(rope),
	.linear_forward = K(linear_forward),
	.linear_backward = K(linear_backward),
	.kv_write = K(kv_write),
	.kv_read_add = K(kv_read_add),
	.kv_copy = K(kv_copy),
	.attention_forward = K(attention_forward),
	.attention_backward = K(attention_backward),
	.router_forward = K(router_forward),
	.router_backward = K(router_backward),
	.experts_forward = K(experts_forward),
	.experts_backward = K(experts_backward),
	.swiglu_forward = K(swiglu_forward),
	.swiglu_backward = K(swiglu_backward),
	.head_forward = K(head_forward),
	.head_backward = K(head_backward),
	.sample = K(sample),
	.add = K(add),
	.gather_rows = K(gather_rows),
	.scatter_add_rows = K(scatter_add_rows),
	.sum_squares = K(sum_squares),
	.adamw = K(adamw),
};
