/* Shapes; see shape.h. */
#include "policy/shape.h"

#include <math.h>
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
		.heads_kind = heads_kind, .bos = -1, .eos = -1, .pad = -1,
	};
}

int shape_check(const struct shape *s, struct err *e)
{
	if (s->width < 1 || s->layers < 1 || s->heads < 1 || s->kv_heads < 1 || s->head_dim < 1 || s->value_dim < 1 || s->max_positions < 1)
		return err_set(e, ERR_RANGE, "width %lld, layers %lld, heads %lld, kv_heads %lld, head_dim %lld, value_dim %lld, max_positions %lld: all must be at "
			       "least 1", (long long)s->width, (long long)s->layers, (long long)s->heads, (long long)s->kv_heads, (long long)s->head_dim,
			       (long long)s->value_dim, (long long)s->max_positions);
	if (s->qkv == QKV_LATENT && (s->kv_heads != s->heads || s->latent_rank < 1 || s->nope_dim < 1))
		return err_set(e, ERR_RANGE, "a latent of rank %lld for %lld of %lld heads, unrotated part %lld", (long long)s->latent_rank, (long long)s->kv_heads,
			       (long long)s->heads, (long long)s->nope_dim);
	if (s->heads % s->kv_heads) return err_set(e, ERR_RANGE, "model.heads %lld is not a multiple of model.kv_heads %lld", (long long)s->heads, (long long)s->kv_heads);
	if (s->head_dim % 2 || s->head_dim > 512) return err_set(e, ERR_RANGE, "model.head_dim %lld must be even and at most 512", (long long)s->head_dim);
	if (s->experts && (s->chosen < 1 || s->chosen > s->experts)) return err_set(e, ERR_RANGE, "model.experts_per_token %lld is not between 1 and model.experts %lld", (long long)s->chosen, (long long)s->experts);
	if (s->dense_layers > 0 && s->dense_width < 1) return err_set(e, ERR_RANGE, "model.dense_layers is %lld but model.dense_width is not set", (long long)s->dense_layers);
	if (s->experts <= 0 && s->dense_width < 1) return err_set(e, ERR_RANGE, "a model without experts needs a dense feed-forward width");
	if (s->qkv == QKV_HEADS && (s->kv_heads != s->heads || s->value_dim != s->head_dim))
		return err_set(e, ERR_RANGE, "projections fused head by head need %lld key heads, not %lld", (long long)s->heads, (long long)s->kv_heads);
	if (shape_rope_dims(s) % 2 || shape_rope_first(s) + shape_rope_dims(s) > s->head_dim)
		return err_set(e, ERR_RANGE, "%lld rotated elements from %lld on do not fit a head of %lld", (long long)shape_rope_dims(s),
			       (long long)shape_rope_first(s), (long long)s->head_dim);
	if (s->vocab < 2) return err_set(e, ERR_RANGE, "a vocabulary of %lld tokens", (long long)s->vocab);
	return 0;
}

int64_t shape_moe_layers(const struct shape *s)
{
	if (s->experts <= 0) return 0;
	return s->layers > s->dense_layers ? s->layers - s->dense_layers : 0;
}

float shape_attention_scale(const struct shape *s)
{
	return (float)(s->attention_scale > 0 ? s->attention_scale : 1.0 / sqrt((double)s->head_dim));
}

/* YaRN's share of the stretched frequency in dimension i of half (2309.00071, section 3.2). */
static double yarn_ramp(const struct shape *s, int64_t i, int64_t dims)
{
	const struct rope_scaling *r = &s->scaling;
	double slow = 2 * log(s->rope_theta), low, high;
	low = floor((double)dims * log(r->original / (r->beta_fast * 2 * M_PI)) / slow);
	high = ceil((double)dims * log(r->original / (r->beta_slow * 2 * M_PI)) / slow);
	low = fmax(low, 0), high = fmin(high, (double)dims - 1);
	if (low == high) high += 0.001;
	return fmin(fmax(((double)i - low) / (high - low), 0), 1);
}

static double scaled_frequency(const struct shape *s, double f, int64_t i, int64_t dims)
{
	const struct rope_scaling *r = &s->scaling;
	double wave = 2 * M_PI / f, ramp;
	switch (r->kind) {
	case ROPE_LINEAR:
		return f / r->factor;
	case ROPE_YARN:
		ramp = yarn_ramp(s, i, dims);
		return f / r->factor * ramp + f * (1 - ramp);
	case ROPE_LLAMA3:
		if (wave < r->original / r->high) return f;
		if (wave > r->original / r->low) return f / r->factor;
		ramp = (r->original / wave - r->low) / (r->high - r->low);
		return (1 - ramp) * f / r->factor + ramp * f;
	default:
		return f;
	}
}

static double yarn_mscale(double factor, double m)
{
	return factor <= 1 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

static double rope_attention(const struct rope_scaling *r)
{
	if (r->kind != ROPE_YARN) return 1;
	if (r->attention > 0) return r->attention;
	if (r->mscale > 0 && r->mscale_all > 0) return yarn_mscale(r->factor, r->mscale) / yarn_mscale(r->factor, r->mscale_all);
	return yarn_mscale(r->factor, 1);
}

/* Families rotate by what transformers computes: frequency and angle rounded to f32 each. */
void shape_rope_tables(const struct shape *s, float *cos_table, float *sin_table)
{
	int64_t dims = shape_rope_dims(s), half = dims / 2;
	double factor = rope_attention(&s->scaling);
	for (int64_t p = 0; p < s->max_positions; p++)
		for (int64_t i = 0; i < half; i++) {
			double f = pow(s->rope_theta, -2.0 * (double)i / (double)dims), angle = (double)p * f;
			if (s->family != FAMILY_TENFOLD) angle = (double)((float)p * (float)scaled_frequency(s, f, i, dims));
			cos_table[p * half + i] = (float)(factor * cos(angle));
			sin_table[p * half + i] = (float)(factor * sin(angle));
		}
}
