/* The shape of a model: everything that decides its parameters and its
 * arithmetic, and nothing about how it is trained. */
#ifndef TENFOLD_POLICY_SHAPE_H
#define TENFOLD_POLICY_SHAPE_H

#include "core/base/config.h"
#include "core/tensor/ops.h"

enum head_kind {
	HEAD_LM = 1,     /* lm_head.weight [V, C] */
	HEAD_SCALAR = 2, /* score.weight [1, C] and score.bias: a reward model or a critic */
	HEAD_GROUP = 4,  /* score.group.…: a block before the scalar head, in which candidates of a group see each other */
};

struct shape {
	int64_t vocab, width, layers;
	int64_t heads, kv_heads, head_dim, value_dim; /* d_qk and d_v of a head may differ */
	int64_t experts, chosen, expert_width, shared_width; /* shared_width: of all shared experts together; 0: none */
	int64_t dense_layers, dense_width;            /* the first layers with a dense feed-forward */
	enum router_kind router;
	int router_normalize, router_bias;
	double router_scale;
	double rope_theta, norm_eps, init_std;
	int qk_norm, tied;
	int64_t max_positions;
	int heads_kind; /* HEAD_LM | HEAD_SCALAR */
};

/* From a configuration; vocab comes from the tokenizer. */
void shape_from_config(struct shape *s, const struct config *c, int64_t vocab, int heads_kind);
/* Refuses impossible shapes, naming the key. */
int shape_check(const struct shape *s, struct err *e);
/* 1 when layer l routes to experts. */
static inline int shape_is_moe(const struct shape *s, int64_t layer)
{
	return s->experts > 0 && layer >= s->dense_layers;
}
/* Layers with experts. */
int64_t shape_moe_layers(const struct shape *s);

#endif
