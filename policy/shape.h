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

/* Whose config.json and tensor names; the arithmetic follows from the fields below alone. */
enum family {
	FAMILY_TENFOLD,
	FAMILY_OLMOE,
	FAMILY_LLAMA,
	FAMILY_GPT2,
	FAMILY_GPT_NEOX,
	FAMILY_MIXTRAL,
	FAMILY_QWEN3_MOE,
	FAMILY_DEEPSEEK,
	FAMILY_DEEPSEEK_V2,
	FAMILIES
};

enum norm_kind { NORM_RMS, NORM_LAYER };
enum qk_norm_kind { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_WHOLE }; /* over each head, or over all heads together */
enum qkv_kind {
	QKV_APART,  /* three projections */
	QKV_BLOCKS, /* one: all queries, all keys, all values (GPT-2) */
	QKV_HEADS,  /* one: query, key, value of head 0, then of head 1, … (GPT-NeoX) */
	QKV_LATENT, /* keys and values from a narrow latent (multi-head latent attention, DeepSeek-V2, 2405.04434) */
};
enum activation { ACTIVATION_SWIGLU, ACTIVATION_GELU_TANH, ACTIVATION_GELU }; /* the last two without a gate */
enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

/* How rotary frequencies are stretched beyond the context of pretraining (transformers' rope_scaling). */
struct rope_scaling {
	enum rope_kind kind;
	double factor, original;     /* original: positions of pretraining */
	double beta_fast, beta_slow; /* YaRN (2309.00071) */
	double low, high;            /* Llama 3: low_freq_factor, high_freq_factor */
	double mscale, mscale_all;   /* YaRN as DeepSeek has it; 0: absent */
	double attention;            /* factor on cos and sin; 0: from the others */
};

/* Zero in a field after `tied` is what a model described by the configuration alone has. */
struct shape {
	int64_t vocab, width, layers;
	int64_t heads, kv_heads, head_dim, value_dim; /* d_qk and d_v of a head may differ */
	int64_t experts, chosen, expert_width, shared_width; /* shared_width: of all shared experts together; 0: none */
	int64_t dense_layers, dense_width;            /* the first layers with a dense feed-forward */
	enum router_kind router;
	int router_normalize, router_bias;
	double router_scale;
	double rope_theta, norm_eps, init_std;
	int qk_norm, tied;                            /* qk_norm: enum qk_norm_kind */
	int64_t max_positions;
	int heads_kind; /* HEAD_LM | HEAD_SCALAR */

	enum family family;
	enum norm_kind norm;
	enum qkv_kind qkv;
	enum activation activation;
	int qkv_bias, output_bias, ffn_bias, norm_bias; /* output: of the attention's last projection */
	int learned_positions;                        /* a table [max_positions, width] in place of rotation */
	int parallel;                                 /* x + attention(norm1 x) + feed-forward(norm2 x) */
	int64_t rope_dims;                            /* rotated elements of a head, its first; 0: all */
	int rope_interleaved;
	struct rope_scaling scaling;
	double attention_scale;                       /* 0: head_dim^-1/2 */
	int64_t query_rank, latent_rank, nope_dim;    /* QKV_LATENT: ranks (query_rank 0: queries in one projection), unrotated part of a head */
	int64_t shared_experts;                       /* how many shared_width stands for, where config.json says so */
	int64_t bos, eos, pad;                        /* ids named by a family's config.json; -1: none */
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
/* First rotated element of a head, and how many are. */
static inline int64_t shape_rope_first(const struct shape *s)
{
	return s->qkv == QKV_LATENT ? s->nope_dim : 0;
}
static inline int64_t shape_rope_dims(const struct shape *s)
{
	if (s->learned_positions) return 0;
	return s->rope_dims > 0 ? s->rope_dims : s->head_dim - shape_rope_first(s);
}
/* Columns of the fused or latent projection that the queries, keys and values come from; 0: they have their own. */
static inline int64_t shape_fused_width(const struct shape *s)
{
	if (s->qkv == QKV_LATENT) return s->latent_rank + s->head_dim - s->nope_dim;
	return s->qkv == QKV_APART ? 0 : (s->heads + s->kv_heads) * s->head_dim + s->kv_heads * s->value_dim;
}
/* Columns that the latent is widened to: the unrotated keys and the values of all heads. */
static inline int64_t shape_widened(const struct shape *s)
{
	return s->kv_heads * (s->nope_dim + s->value_dim);
}
/* Factor on the scores of attention. */
float shape_attention_scale(const struct shape *s);
/* The rotation's tables cos, sin [max_positions, shape_rope_dims/2]. */
void shape_rope_tables(const struct shape *s, float *cos_table, float *sin_table);
/* Layers with experts. */
int64_t shape_moe_layers(const struct shape *s);

#endif
