/* The backend's table of operations, in the order of struct ops. */
#include "core/tensor/cuda/kernels/kernels.h"
#include "core/tensor/cuda/memory.h"

CUDA_API size_t K(cuda_scratch_plan)(struct backend *b, const struct ops_sizes *s)
{
	size_t need[] = {s->backward ? K(attention_scratch)(s->rows, s->sets, s->table_stride, s->heads) : 0,
			 s->truncates ? K(head_scratch)(b, s->outs, s->vocab) : 0, K(sum_scratch)(s->parameters)}, most = 0;
	for (size_t i = 0; i < sizeof need / sizeof *need; i++) most = need[i] > most ? need[i] : most;
	return most;
}

CUDA_API void K(cuda_table)(struct ops *t)
{
	memset(t, 0, sizeof *t);
	t->alloc = K(cuda_alloc);
	t->release = K(cuda_release);
	t->upload = K(cuda_upload);
	t->download = K(cuda_download);
	t->copy = K(cuda_copy);
	t->zero = K(cuda_zero);
	t->reserve = K(cuda_reserve);
	t->wait = K(cuda_wait);
	t->round_bf16 = K(round_bf16);
	t->weights_changed = K(cuda_weights_changed);
	t->embedding_forward = K(embedding_forward);
	t->embedding_backward = K(embedding_backward);
	t->norm_forward = K(norm_forward);
	t->norm_backward = K(norm_backward);
	t->rope = K(rope);
	t->linear_forward = K(linear_forward);
	t->linear_backward = K(linear_backward);
	t->kv_write = K(kv_write);
	t->kv_read_add = K(kv_read_add);
	t->attention_forward = K(attention_forward);
	t->attention_backward = K(attention_backward);
	t->router_forward = K(router_forward);
	t->router_backward = K(router_backward);
	t->experts_forward = K(experts_forward);
	t->experts_backward = K(experts_backward);
	t->swiglu_forward = K(swiglu_forward);
	t->swiglu_backward = K(swiglu_backward);
	t->gelu_forward = K(gelu_forward);
	t->gelu_backward = K(gelu_backward);
	t->dropout = K(dropout);
	t->columns = K(columns);
	t->head_forward = K(head_forward);
	t->head_backward = K(head_backward);
	t->uniforms = K(uniforms);
	t->sample = K(sample);
	t->add = K(add);
	t->gather_rows = K(gather_rows);
	t->scatter_add_rows = K(scatter_add_rows);
	t->place_rows = K(place_rows);
	t->sum_squares = K(sum_squares);
	t->adamw = K(adamw);
}
