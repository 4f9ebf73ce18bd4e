/* Shapes; see shape.h. */
#include "policy/shape.h"

#include <string.h>

void shape_from_config(struct shape *s, const struct config *c, int64_t vocab, int heads_kind)
{
	const struct config_model *m = &c->model;
	*s = (struct shape){
		.vocab = vocab, .width = m->width, .layers = m->layers, .heads = m->heads, .kv_heads = m->kv_heads, .head_dim = m->head_dim,
		.value_dim = m->head_dim, .experts = m->experts, .chosen = m->experts_per_token, .expert_width = m->expert_width,
		.shared_width = m->shared_experts * m->expert_width, .dense_layers = m->dense_layers, .dense_width = m->dense_width,
		.router = strcmp(m->router, "sigmoid") == 0 ? ROUTER_SIGMOID : ROUTER_SOFTMAX, .router_normalize = (int)m->router_normalize,
		.router_bias = (int)m->router_bias, .router_scale = m->router_scale, .rope_theta = m->rope_theta, .norm_eps = m->norm_eps,
		.init_std = m->init_std, .qk_norm = (int)m->qk_norm, .tied = (int)m->tie_embeddings, .max_positions = m->max_positions,
		.heads_kind = heads_kind,
	};
}

int shape_check(const struct shape *s, struct err *e)
{
	if (s->heads % s->kv_heads) return err_set(e, ERR_RANGE, "model.heads %lld is not a multiple of model.kv_heads %lld", (long long)s->heads, (long long)s->kv_heads);
	if (s->head_dim % 2 || s->head_dim > 512) return err_set(e, ERR_RANGE, "model.head_dim %lld must be even and at most 512", (long long)s->head_dim);
	if (s->experts && (s->chosen < 1 || s->chosen > s->experts)) return err_set(e, ERR_RANGE, "model.experts_per_token %lld is not between 1 and model.experts %lld", (long long)s->chosen, (long long)s->experts);
	if (s->dense_layers > 0 && s->dense_width < 1) return err_set(e, ERR_RANGE, "model.dense_layers is %lld but model.dense_width is not set", (long long)s->dense_layers);
	if (s->vocab < 2) return err_set(e, ERR_RANGE, "a vocabulary of %lld tokens", (long long)s->vocab);
	return 0;
}

int64_t shape_moe_layers(const struct shape *s)
{
	if (s->experts <= 0) return 0;
	return s->layers > s->dense_layers ? s->layers - s->dense_layers : 0;
}
