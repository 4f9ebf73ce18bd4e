/* The model's forward; see model.h. Pre-norm transformer: x += attention(norm x);
 * x += feed-forward(norm x), the feed-forward being shared experts plus the
 * chosen ones, or dense. */
#include "policy/activations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int model_open(struct model **out, struct backend *backend, const struct shape *s, struct err *e)
{
	*out = NULL;
	int rc = shape_check(s, e);
	if (rc < 0) return rc;
	struct model *m = calloc(1, sizeof *m);
	CHECK(m, "out of memory for a model");
	m->backend = backend;
	m->ops = backend_ops(backend);
	m->shape = *s;
	m->arena = arena_open(0);
	params_build(&m->params, s, m->arena);
	int64_t half = s->head_dim / 2, n = s->max_positions * half;
	m->weights = m->ops->alloc(backend, (size_t)m->params.floats * sizeof(float));
	m->cos = m->ops->alloc(backend, (size_t)n * sizeof(float));
	m->sin = m->ops->alloc(backend, (size_t)n * sizeof(float));
	float *cs = malloc((size_t)n * sizeof *cs), *sn = malloc((size_t)n * sizeof *sn);
	if (!m->weights || !m->cos || !m->sin || !cs || !sn) {
		free(cs);
		free(sn);
		rc = err_set(e, ERR_MEMORY, "no memory for a model of %lld parameters (%.1f MiB)", (long long)m->params.parameters,
			     (double)m->params.floats * 4 / 1048576.0);
		model_close(m);
		return rc;
	}
	for (int64_t p = 0; p < s->max_positions; p++)
		for (int64_t i = 0; i < half; i++) {
			double angle = (double)p * pow(s->rope_theta, -2.0 * (double)i / (double)s->head_dim);
			cs[p * half + i] = (float)cos(angle);
			sn[p * half + i] = (float)sin(angle);
		}
	m->ops->upload(backend, m->cos, cs, (size_t)n * sizeof *cs);
	m->ops->upload(backend, m->sin, sn, (size_t)n * sizeof *sn);
	free(cs);
	free(sn);
	*out = m;
	return 0;
}

void model_close(struct model *m)
{
	if (!m) return;
	void *p[] = {m->weights, m->cos, m->sin};
	for (size_t i = 0; i < sizeof p / sizeof *p; i++)
		if (p[i]) m->ops->release(m->backend, p[i]);
	arena_close(m->arena);
	free(m);
}

void model_put(struct model *m, const float *host)
{
	m->ops->upload(m->backend, m->weights, host, (size_t)m->params.floats * sizeof *host);
	m->ops->weights_changed(m->backend);
}

void model_get(const struct model *m, float *host)
{
	m->ops->download(m->backend, host, m->weights, (size_t)m->params.floats * sizeof *host);
}

void model_init(struct model *m, uint64_t seed)
{
	float *host = malloc((size_t)m->params.floats * sizeof *host);
	CHECK(host, "out of memory to initialise %lld parameters", (long long)m->params.parameters);
	params_init(&m->params, &m->shape, seed, host);
	model_put(m, host);
	free(host);
}

int kv_cache_open(struct kv_cache *c, const struct model *m, int64_t pages, struct err *e)
{
	const struct shape *s = &m->shape;
	memset(c, 0, sizeof *c);
	c->pages = pages;
	c->k = calloc((size_t)s->layers, sizeof *c->k);
	c->v = calloc((size_t)s->layers, sizeof *c->v);
	CHECK(c->k && c->v, "out of memory for a cache");
	for (int64_t l = 0; l < s->layers; l++) {
		c->k[l] = m->ops->alloc(m->backend, (size_t)(pages * s->kv_heads * s->head_dim * KV_PAGE) * 4);
		c->v[l] = m->ops->alloc(m->backend, (size_t)(pages * s->kv_heads * s->value_dim * KV_PAGE) * 4);
		if (!c->k[l] || !c->v[l]) {
			kv_cache_close(c, m);
			return err_set(e, ERR_MEMORY, "no memory for a cache of %lld pages of %d positions; lower rollout.batch_groups", (long long)pages, KV_PAGE);
		}
	}
	return 0;
}

void kv_cache_close(struct kv_cache *c, const struct model *m)
{
	for (int64_t l = 0; c->k && l < m->shape.layers; l++) {
		if (c->k[l]) m->ops->release(m->backend, c->k[l]);
		if (c->v[l]) m->ops->release(m->backend, c->v[l]);
	}
	free(c->k);
	free(c->v);
	memset(c, 0, sizeof *c);
}

/* ---- forward ---- */

struct pass {
	const struct model *m;
	struct activations *a;
	const struct batch *b;
	const struct kv_cache *cache;
};

static struct tensor weight(const struct pass *p, int i)
{
	return params_view(&p->m->params, i, p->m->weights);
}

static void project(const struct pass *p, struct tensor x, int param, struct tensor y, int add)
{
	struct linear_args l = {.x = x, .w = weight(p, param), .y = y, .add = add};
	p->m->ops->linear_forward(p->m->backend, &l);
}

static void normalise(const struct pass *p, struct tensor x, int param, struct tensor y, float *rstd)
{
	struct norm_args n = {.x = x, .w = params_vector(&p->m->params, param, p->m->weights), .eps = (float)p->m->shape.norm_eps, .y = y, .rstd = rstd};
	p->m->ops->norm_forward(p->m->backend, &n);
}

/* Norm per head (when asked) and rotation, in place on q or k. */
static void position(const struct pass *p, float *x, float *raw, float *rstd, int norm, int64_t heads)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	int64_t t = p->b->rows, d = s->head_dim;
	if (norm >= 0) {
		if (raw) o->copy(p->m->backend, raw, x, (size_t)(t * heads * d) * 4);
		normalise(p, tensor_f32(raw ? raw : x, t * heads, d), norm, tensor_f32(x, t * heads, d), rstd);
	}
	struct rope_args r = {.x = tensor_f32(x, t, heads * d), .heads = (int)heads, .head_dim = (int)d, .dims = (int)d, .pos = p->b->device.pos,
			      .cos = p->m->cos, .sin = p->m->sin};
	o->rope(p->m->backend, &r);
}

static void attention_layer(const struct pass *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	const struct batch *b = p->b;
	int64_t t = b->rows, c = s->width;
	struct tensor x = tensor_f32(l->x, t, c), n1 = tensor_f32(l->n1, t, c);
	struct tensor q = tensor_f32(l->q, t, s->heads * s->head_dim), k = tensor_f32(l->k, t, s->kv_heads * s->head_dim);
	struct tensor v = tensor_f32(l->v, t, s->kv_heads * s->value_dim), att = tensor_f32(l->att, t, s->heads * s->value_dim);
	normalise(p, x, w->norm1, n1, l->rstd1);
	project(p, n1, w->q, q, 0);
	project(p, n1, w->k, k, 0);
	project(p, n1, w->v, v, 0);
	position(p, l->q, l->q_raw, l->q_rstd, w->q_norm, s->heads);
	position(p, l->k, l->k_raw, l->k_rstd, w->k_norm, s->kv_heads);
	float *kp = p->cache ? p->cache->k[layer] : l->k_pages, *vp = p->cache ? p->cache->v[layer] : l->v_pages;
	struct kv_args kv = {.k_pages = kp, .v_pages = vp, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim, .dv = (int)s->value_dim, .k = k, .v = v,
			     .writes = b->writes, .row = b->device.write_row, .page = b->device.write_page, .slot = b->device.write_slot};
	o->kv_write(p->m->backend, &kv);
	struct attention_args at = {.q = q, .heads = (int)s->heads, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim, .dv = (int)s->value_dim,
				    .scale = (float)(1.0 / sqrt((double)s->head_dim)), .k_pages = kp, .v_pages = vp, .tables = b->device.tables,
				    .table_stride = (int)b->stride, .row_seq = b->device.seq, .row_pos = b->device.pos, .out = att,
				    .lse = p->a->keep ? l->lse : NULL};
	o->attention_forward(p->m->backend, &at);
	if (l->mid != l->x) o->copy(p->m->backend, l->mid, l->x, (size_t)(t * c) * 4);
	project(p, att, w->o, tensor_f32(l->mid, t, c), 1);
}

static void gated_layer(const struct pass *p, struct layer_acts *l, struct tensor x, int gate, int up, int down, int64_t width, struct tensor out)
{
	int64_t t = p->b->rows;
	struct tensor g = tensor_f32(l->sg, t, width), u = tensor_f32(l->su, t, width), a = tensor_f32(l->sa, t, width);
	project(p, x, gate, g, 0);
	project(p, x, up, u, 0);
	struct swiglu_args s = {.g = g, .u = u, .a = a};
	p->m->ops->swiglu_forward(p->m->backend, &s);
	project(p, a, down, out, 1);
}

static void expert_layer(const struct pass *p, struct layer_acts *l, const struct layer_params *w, struct tensor x, struct tensor out)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	int64_t t = p->b->rows, k = s->chosen;
	struct tensor logits = tensor_f32(l->logits, t, s->experts);
	project(p, x, w->router, logits, 0);
	struct router_args r = {.logits = logits, .kind = s->router, .chosen = (int)k, .normalize = s->router_normalize, .scale = (float)s->router_scale,
				.bias = params_vector(&p->m->params, w->router_bias, p->m->weights), .probs = l->probs, .lse = l->router_lse,
				.expert = l->expert, .weight = l->weight};
	o->router_forward(p->m->backend, &r);
	struct experts_args e = {.x = x, .experts = (int)s->experts, .chosen = (int)k, .expert = l->expert, .weight = l->weight, .gate = weight(p, w->gate),
				 .up = weight(p, w->up), .down = weight(p, w->down), .out = out, .order = l->order, .offset = l->offset,
				 .g = tensor_f32(l->g, t * k, s->expert_width), .u = tensor_f32(l->u, t * k, s->expert_width),
				 .work = tensor_f32(p->a->work, t * k, s->width + 3 * s->expert_width)};
	o->experts_forward(p->m->backend, &e);
}

static void feed_forward_layer(const struct pass *p, int64_t layer, float *out_data)
{
	const struct shape *s = &p->m->shape;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	int64_t t = p->b->rows, c = s->width;
	struct tensor n2 = tensor_f32(l->n2, t, c), out = tensor_f32(out_data, t, c);
	normalise(p, tensor_f32(l->mid, t, c), w->norm2, n2, l->rstd2);
	if (out_data != l->mid) p->m->ops->copy(p->m->backend, out_data, l->mid, (size_t)(t * c) * 4);
	if (!shape_is_moe(s, layer)) {
		gated_layer(p, l, n2, w->dense_gate, w->dense_up, w->dense_down, s->dense_width, out);
		return;
	}
	if (s->shared_width) gated_layer(p, l, n2, w->shared_gate, w->shared_up, w->shared_down, s->shared_width, out);
	expert_layer(p, l, w, n2, out);
}

void model_forward(const struct model *m, struct activations *a, const struct batch *b, const struct kv_cache *cache)
{
	const struct shape *s = &m->shape;
	activations_reserve(a, b->rows, cache ? 0 : b->pages, b->outs);
	struct pass p = {m, a, b, cache};
	m->ops->embedding_forward(m->backend, params_view(&m->params, m->params.embed, m->weights), b->device.ids,
				  tensor_f32(a->layer[0].x, b->rows, s->width));
	for (int64_t l = 0; l < s->layers; l++) {
		attention_layer(&p, l);
		feed_forward_layer(&p, l, l + 1 < s->layers ? a->layer[l + 1].x : a->last);
	}
	normalise(&p, tensor_f32(a->last, b->rows, s->width), m->params.norm, tensor_f32(a->final, b->rows, s->width), a->rstd);
}

struct tensor model_outs(const struct model *m, struct activations *a, const struct batch *b)
{
	struct tensor outs = tensor_f32(a->outs, b->outs, m->shape.width);
	m->ops->gather_rows(m->backend, outs, tensor_f32(a->final, b->rows, m->shape.width), b->device.out_row);
	return outs;
}

void model_logprobs(const struct model *m, struct activations *a, const struct batch *b, const struct sampling *s, float *logprob, float *entropy)
{
	struct head_args h = {.x = model_outs(m, a, b), .w = params_view(&m->params, m->params.lm_head, m->weights), .target = b->device.target,
			      .forbidden = b->any_forbidden ? b->device.forbidden : NULL, .temperature = s->temperature, .top_k = s->top_k,
			      .top_p = s->top_p, .logprob = a->logprob, .entropy = a->entropy, .work = a->head_work, .work_rows = a->head_rows};
	m->ops->head_forward(m->backend, &h);
	m->ops->download(m->backend, logprob, a->logprob, (size_t)b->outs * 4);
	if (entropy) m->ops->download(m->backend, entropy, a->entropy, (size_t)b->outs * 4);
}

void model_scalars(const struct model *m, struct activations *a, const struct batch *b, float *value)
{
	struct linear_args l = {.x = model_outs(m, a, b), .w = params_view(&m->params, m->params.score, m->weights),
				.bias = params_vector(&m->params, m->params.score_bias, m->weights), .y = tensor_f32(a->value, b->outs, 1)};
	m->ops->linear_forward(m->backend, &l);
	m->ops->download(m->backend, value, a->value, (size_t)b->outs * 4);
}
