/* The parameter table; see params.h. */
#include "policy/params.h"

#include "core/base/rng.h"
#include "policy/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct builder {
	struct params *p;
	const struct shape *s;
	int room;
};

/* What a parameter is like beside its shape. */
struct kind {
	const char *suffix;
	int64_t stack;
	enum param_init init;
	int decay, turned;
};

/* One row of the table; name: a module path of family.h. */
static int put(struct builder *b, const char *name, int layer, int64_t rows, int64_t cols, struct kind k)
{
	struct params *p = b->p;
	CHECK(p->count < b->room, "parameter table of %d is full", b->room);
	struct param *q = &p->list[p->count];
	const char *mark = strstr(name, "%d"); /* the layer; the expert's stays */
	int n = mark ? snprintf(q->name, sizeof q->name, "%.*s%d%s%s", (int)(mark - name), name, layer, mark + 2, k.suffix)
		     : snprintf(q->name, sizeof q->name, "%s%s", name, k.suffix);
	CHECK(n < (int)sizeof q->name, "the name %s is too long", name);
	q->stack = k.stack;
	q->rows = rows;
	q->cols = cols;
	q->size = k.stack * rows * (cols ? cols : 1);
	q->offset = p->floats;
	q->init = k.init;
	q->decay = k.decay;
	q->turned = k.turned;
	q->trained = 1;
	q->bias = -1;
	p->floats += (q->size + 15) / 16 * 16;
	p->parameters += q->size;
	return p->count++;
}

static const struct kind VECTOR = {".bias", 1, INIT_ZERO, 0, 0};

static int put_norm(struct builder *b, enum role role, int layer, int64_t size, int bias)
{
	const char *name = family_name(b->s->family, role);
	int i = put(b, name, layer, size, 0, (struct kind){".weight", 1, INIT_ONE, 0, 0});
	if (bias) b->p->list[i].bias = put(b, name, layer, size, 0, VECTOR);
	return i;
}

/* A projection; into: it writes to the residual stream. */
static int put_linear(struct builder *b, enum role role, int layer, int64_t out, int64_t in, int into, int bias)
{
	const char *name = family_name(b->s->family, role);
	int i = put(b, name, layer, out, in, (struct kind){".weight", 1, into ? INIT_NORMAL_OUT : INIT_NORMAL, 1, b->s->family == FAMILY_GPT2});
	if (bias) b->p->list[i].bias = put(b, name, layer, out, 0, VECTOR);
	return i;
}

static int put_experts(struct builder *b, enum role role, int layer, int64_t out, int64_t in, int into)
{
	return put(b, family_name(b->s->family, role), layer, out, in,
		   (struct kind){".weight", b->s->experts, into ? INIT_NORMAL_OUT : INIT_NORMAL, 1, 0});
}

static void put_latent(struct builder *b, struct layer_params *l, int n)
{
	const struct shape *s = b->s;
	int64_t c = s->width, q = s->heads * s->head_dim;
	if (s->query_rank) {
		l->query_down = put_linear(b, ROLE_QUERY_DOWN, n, s->query_rank, c, 0, s->qkv_bias);
		l->query_norm = put_norm(b, ROLE_QUERY_NORM, n, s->query_rank, 0);
		l->q = put_linear(b, ROLE_QUERY_UP, n, q, s->query_rank, 0, 0);
	} else {
		l->q = put_linear(b, ROLE_Q, n, q, c, 0, 0);
	}
	l->qkv = put_linear(b, ROLE_QKV, n, shape_fused_width(s), c, 0, s->qkv_bias);
	l->latent_norm = put_norm(b, ROLE_LATENT_NORM, n, s->latent_rank, 0);
	l->widen = put_linear(b, ROLE_WIDEN, n, shape_widened(s), s->latent_rank, 0, 0);
}

static void put_attention(struct builder *b, struct layer_params *l, int n)
{
	const struct shape *s = b->s;
	int64_t c = s->width, q = s->heads * s->head_dim, k = s->kv_heads * s->head_dim, v = s->kv_heads * s->value_dim;
	l->norm1 = put_norm(b, ROLE_NORM1, n, c, s->norm_bias);
	if (s->qkv == QKV_LATENT) {
		put_latent(b, l, n);
	} else if (s->qkv == QKV_APART) {
		l->q = put_linear(b, ROLE_Q, n, q, c, 0, s->qkv_bias);
		l->k = put_linear(b, ROLE_K, n, k, c, 0, s->qkv_bias);
		l->v = put_linear(b, ROLE_V, n, v, c, 0, s->qkv_bias);
	} else {
		l->qkv = put_linear(b, ROLE_QKV, n, q + k + v, c, 0, s->qkv_bias);
	}
	l->o = put_linear(b, ROLE_O, n, c, s->heads * s->value_dim, 1, s->output_bias);
	if (s->qk_norm) {
		l->q_norm = put_norm(b, ROLE_Q_NORM, n, s->qk_norm == QK_NORM_WHOLE ? q : s->head_dim, 0);
		l->k_norm = put_norm(b, ROLE_K_NORM, n, s->qk_norm == QK_NORM_WHOLE ? k : s->head_dim, 0);
	}
	l->norm2 = put_norm(b, ROLE_NORM2, n, c, s->norm_bias);
}

static void put_ffn(struct builder *b, struct layer_params *l, int n)
{
	const struct shape *s = b->s;
	int64_t c = s->width, i = s->expert_width, e = s->experts;
	if (!shape_is_moe(s, n)) {
		int64_t d = s->dense_width;
		if (s->activation == ACTIVATION_SWIGLU) l->dense_gate = put_linear(b, ROLE_DENSE_GATE, n, d, c, 0, s->ffn_bias);
		l->dense_up = put_linear(b, ROLE_DENSE_UP, n, d, c, 0, s->ffn_bias);
		l->dense_down = put_linear(b, ROLE_DENSE_DOWN, n, c, d, 1, s->ffn_bias);
		return;
	}
	l->router = put_linear(b, ROLE_ROUTER, n, e, c, 0, 0);
	if (s->router_bias) {
		l->router_bias = put(b, family_name(s->family, ROLE_ROUTER), n, e, 0, (struct kind){".e_score_correction_bias", 1, INIT_ZERO, 0, 0});
		b->p->list[l->router_bias].trained = 0;
	}
	l->gate = put_experts(b, ROLE_GATE, n, i, c, 0);
	l->up = put_experts(b, ROLE_UP, n, i, c, 0);
	l->down = put_experts(b, ROLE_DOWN, n, c, i, 1);
	if (s->shared_width) {
		int64_t w = s->shared_width;
		l->shared_gate = put_linear(b, ROLE_SHARED_GATE, n, w, c, 0, s->ffn_bias);
		l->shared_up = put_linear(b, ROLE_SHARED_UP, n, w, c, 0, s->ffn_bias);
		l->shared_down = put_linear(b, ROLE_SHARED_DOWN, n, c, w, 1, s->ffn_bias);
	}
}

/* As a layer, with a dense feed-forward and without norms on queries and keys; the names are the same in every family. */
static void put_group(struct builder *b, struct layer_params *l)
{
	static const struct kind norm = {".weight", 1, INIT_ONE, 0, 0}, in = {".weight", 1, INIT_NORMAL, 1, 0}, into = {".weight", 1, INIT_NORMAL_OUT, 1, 0};
	int64_t c = b->s->width, a = b->s->heads * b->s->head_dim, d = PARAMS_GROUP_WIDTH * c;
	l->norm1 = put(b, "score.group.input_layernorm", 0, c, 0, norm);
	l->q = put(b, "score.group.q_proj", 0, a, c, in);
	l->k = put(b, "score.group.k_proj", 0, a, c, in);
	l->v = put(b, "score.group.v_proj", 0, a, c, in);
	l->o = put(b, "score.group.o_proj", 0, c, a, into);
	l->norm2 = put(b, "score.group.post_attention_layernorm", 0, c, 0, norm);
	l->dense_gate = put(b, "score.group.gate_proj", 0, d, c, in);
	l->dense_up = put(b, "score.group.up_proj", 0, d, c, in);
	l->dense_down = put(b, "score.group.down_proj", 0, c, d, into);
}

/* The scalar head. Beside a language model's head a family calls it as TRL does. */
static void put_score(struct builder *b, struct params *p, const struct shape *s)
{
	const char *name = s->family != FAMILY_TENFOLD && s->heads_kind & HEAD_LM ? "v_head.summary" : "score";
	p->score = put(b, name, 0, 1, s->width, (struct kind){".weight", 1, INIT_HEAD, 0, 0});
	p->score_bias = put(b, name, 0, 1, 0, VECTOR);
}

void params_build(struct params *p, const struct shape *s, struct arena *a)
{
	static const struct kind table = {".weight", 1, INIT_NORMAL, 1, 0};
	struct builder b = {p, s, (int)s->layers * 26 + 21};
	memset(p, 0, sizeof *p);
	memset(&p->group, 0xff, sizeof p->group); /* all -1 */
	p->positions = p->lm_head = p->score = p->score_bias = -1;
	p->list = arena_must(a, (size_t)b.room, sizeof *p->list);
	p->layer = arena_must(a, (size_t)s->layers, sizeof *p->layer);
	p->embed = put(&b, family_name(s->family, ROLE_EMBED), 0, s->vocab, s->width, table);
	if (s->learned_positions) p->positions = put(&b, family_name(s->family, ROLE_POSITIONS), 0, s->max_positions, s->width, table);
	for (int n = 0; n < s->layers; n++) {
		memset(&p->layer[n], 0xff, sizeof p->layer[n]); /* all -1 */
		put_attention(&b, &p->layer[n], n);
		put_ffn(&b, &p->layer[n], n);
	}
	p->norm = put_norm(&b, ROLE_NORM, 0, s->width, s->norm_bias);
	if (s->heads_kind & HEAD_LM) p->lm_head = s->tied ? p->embed : put(&b, family_name(s->family, ROLE_LM_HEAD), 0, s->vocab, s->width, table);
	if (p->lm_head == p->embed) p->apart = p->list[p->embed].size;
	if (s->heads_kind & HEAD_SCALAR) put_score(&b, p, s);
	if (s->heads_kind & HEAD_GROUP) put_group(&b, &p->group);
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
