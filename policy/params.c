/* The parameter table; see params.h. Names are those of the Hugging Face
 * layouts (OLMoE, DeepSeek). */
#include "policy/params.h"

#include "core/base/rng.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct builder {
	struct params *p;
	int room;
};

static int put(struct builder *b, int64_t stack, int64_t rows, int64_t cols, enum param_init init, int decay, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));

static int put(struct builder *b, int64_t stack, int64_t rows, int64_t cols, enum param_init init, int decay, const char *fmt, ...)
{
	struct params *p = b->p;
	CHECK(p->count < b->room, "parameter table of %d is full", b->room);
	struct param *q = &p->list[p->count];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(q->name, sizeof q->name, fmt, ap);
	va_end(ap);
	q->stack = stack;
	q->rows = rows;
	q->cols = cols;
	q->size = stack * rows * (cols ? cols : 1);
	q->offset = p->floats;
	q->init = init;
	q->decay = decay;
	q->trained = 1;
	p->floats += (q->size + 15) / 16 * 16;
	p->parameters += q->size;
	return p->count++;
}

static void put_attention(struct builder *b, const struct shape *s, struct layer_params *l, int n)
{
	int64_t c = s->width;
	l->norm1 = put(b, 1, c, 0, INIT_ONE, 0, "model.layers.%d.input_layernorm.weight", n);
	l->q = put(b, 1, s->heads * s->head_dim, c, INIT_NORMAL, 1, "model.layers.%d.self_attn.q_proj.weight", n);
	l->k = put(b, 1, s->kv_heads * s->head_dim, c, INIT_NORMAL, 1, "model.layers.%d.self_attn.k_proj.weight", n);
	l->v = put(b, 1, s->kv_heads * s->value_dim, c, INIT_NORMAL, 1, "model.layers.%d.self_attn.v_proj.weight", n);
	l->o = put(b, 1, c, s->heads * s->value_dim, INIT_NORMAL_OUT, 1, "model.layers.%d.self_attn.o_proj.weight", n);
	if (s->qk_norm) {
		l->q_norm = put(b, 1, s->head_dim, 0, INIT_ONE, 0, "model.layers.%d.self_attn.q_norm.weight", n);
		l->k_norm = put(b, 1, s->head_dim, 0, INIT_ONE, 0, "model.layers.%d.self_attn.k_norm.weight", n);
	}
	l->norm2 = put(b, 1, c, 0, INIT_ONE, 0, "model.layers.%d.post_attention_layernorm.weight", n);
}

static void put_ffn(struct builder *b, const struct shape *s, struct layer_params *l, int n)
{
	int64_t c = s->width, i = s->expert_width, e = s->experts;
	if (!shape_is_moe(s, n)) {
		int64_t d = s->dense_width;
		l->dense_gate = put(b, 1, d, c, INIT_NORMAL, 1, "model.layers.%d.mlp.gate_proj.weight", n);
		l->dense_up = put(b, 1, d, c, INIT_NORMAL, 1, "model.layers.%d.mlp.up_proj.weight", n);
		l->dense_down = put(b, 1, c, d, INIT_NORMAL_OUT, 1, "model.layers.%d.mlp.down_proj.weight", n);
		return;
	}
	l->router = put(b, 1, e, c, INIT_NORMAL, 1, "model.layers.%d.mlp.gate.weight", n);
	if (s->router_bias) {
		l->router_bias = put(b, 1, e, 0, INIT_ZERO, 0, "model.layers.%d.mlp.gate.e_score_correction_bias", n);
		b->p->list[l->router_bias].trained = 0;
	}
	l->gate = put(b, e, i, c, INIT_NORMAL, 1, "model.layers.%d.mlp.experts.%%d.gate_proj.weight", n);
	l->up = put(b, e, i, c, INIT_NORMAL, 1, "model.layers.%d.mlp.experts.%%d.up_proj.weight", n);
	l->down = put(b, e, c, i, INIT_NORMAL_OUT, 1, "model.layers.%d.mlp.experts.%%d.down_proj.weight", n);
	if (s->shared_width) {
		int64_t w = s->shared_width;
		l->shared_gate = put(b, 1, w, c, INIT_NORMAL, 1, "model.layers.%d.mlp.shared_experts.gate_proj.weight", n);
		l->shared_up = put(b, 1, w, c, INIT_NORMAL, 1, "model.layers.%d.mlp.shared_experts.up_proj.weight", n);
		l->shared_down = put(b, 1, c, w, INIT_NORMAL_OUT, 1, "model.layers.%d.mlp.shared_experts.down_proj.weight", n);
	}
}

/* As a layer, with a dense feed-forward and without norms on queries and keys. */
static void put_group(struct builder *b, const struct shape *s, struct layer_params *l)
{
	int64_t c = s->width, a = s->heads * s->head_dim, d = PARAMS_GROUP_WIDTH * c;
	l->norm1 = put(b, 1, c, 0, INIT_ONE, 0, "score.group.input_layernorm.weight");
	l->q = put(b, 1, a, c, INIT_NORMAL, 1, "score.group.q_proj.weight");
	l->k = put(b, 1, a, c, INIT_NORMAL, 1, "score.group.k_proj.weight");
	l->v = put(b, 1, a, c, INIT_NORMAL, 1, "score.group.v_proj.weight");
	l->o = put(b, 1, c, a, INIT_NORMAL_OUT, 1, "score.group.o_proj.weight");
	l->norm2 = put(b, 1, c, 0, INIT_ONE, 0, "score.group.post_attention_layernorm.weight");
	l->dense_gate = put(b, 1, d, c, INIT_NORMAL, 1, "score.group.gate_proj.weight");
	l->dense_up = put(b, 1, d, c, INIT_NORMAL, 1, "score.group.up_proj.weight");
	l->dense_down = put(b, 1, c, d, INIT_NORMAL_OUT, 1, "score.group.down_proj.weight");
}

void params_build(struct params *p, const struct shape *s, struct arena *a)
{
	struct builder b = {p, (int)s->layers * 20 + 17};
	memset(p, 0, sizeof *p);
	memset(&p->group, 0xff, sizeof p->group); /* all -1 */
	p->lm_head = p->score = p->score_bias = -1;
	p->list = arena_must(a, (size_t)b.room, sizeof *p->list);
	p->layer = arena_must(a, (size_t)s->layers, sizeof *p->layer);
	p->embed = put(&b, 1, s->vocab, s->width, INIT_NORMAL, 1, "model.embed_tokens.weight");
	for (int n = 0; n < s->layers; n++) {
		memset(&p->layer[n], 0xff, sizeof p->layer[n]); /* all -1 */
		put_attention(&b, s, &p->layer[n], n);
		put_ffn(&b, s, &p->layer[n], n);
	}
	p->norm = put(&b, 1, s->width, 0, INIT_ONE, 0, "model.norm.weight");
	if (s->heads_kind & HEAD_LM) p->lm_head = s->tied ? p->embed : put(&b, 1, s->vocab, s->width, INIT_NORMAL, 1, "lm_head.weight");
	if (p->lm_head == p->embed) p->apart = p->list[p->embed].size;
	if (s->heads_kind & HEAD_SCALAR) {
		p->score = put(&b, 1, 1, s->width, INIT_HEAD, 0, "score.weight");
		p->score_bias = put(&b, 1, 1, 0, INIT_ZERO, 0, "score.bias");
	}
	if (s->heads_kind & HEAD_GROUP) put_group(&b, s, &p->group);
	p->active = p->parameters;
	for (int i = 0; i < p->count; i++)
		if (p->list[i].stack > 1) p->active -= p->list[i].size / s->experts * (s->experts - s->chosen);
}

int params_find(const struct params *p, const char *name)
{
	for (int i = 0; i < p->count; i++)
		if (strcmp(p->list[i].name, name) == 0) return i;
	return -1;
}

void params_init(const struct params *p, const struct shape *s, uint64_t seed, float *host)
{
	struct rng_key key = {seed, RNG_INIT};
	memset(host, 0, (size_t)p->floats * sizeof *host);
	for (int i = 0; i < p->count; i++) {
		const struct param *q = &p->list[i];
		double std = s->init_std;
		/* outputs into the residual stream are scaled by 1/sqrt(2L), as in GPT-2 */
		if (q->init == INIT_NORMAL_OUT) std /= sqrt(2.0 * (double)s->layers);
		if (q->init == INIT_HEAD) std = 1.0 / sqrt((double)s->width + 1.0);
		for (int64_t j = 0; j < q->size; j++) {
			float x = 0;
			if (q->init == INIT_ONE) x = 1;
			else if (q->init != INIT_ZERO) x = (float)(std * rng_normal(key, (uint32_t)i, (uint64_t)j, 0));
			host[q->offset + j] = x;
		}
	}
}

struct tensor params_view(const struct params *p, int i, float *base)
{
	if (i < 0 || !base) return (struct tensor){0};
	const struct param *q = &p->list[i];
	if (q->cols == 0) return tensor_f32(base + q->offset, 1, q->rows);
	return tensor_f32(base + q->offset, q->stack * q->rows, q->cols);
}

float *params_vector(const struct params *p, int i, float *base)
{
	return i < 0 || !base ? NULL : base + p->list[i].offset;
}
