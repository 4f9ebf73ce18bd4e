/* The model's forward; see model.h. Pre-norm transformer: x += attention(norm x);
 * x += feed-forward(norm x), the feed-forward being shared experts plus the
 * chosen ones, or dense (layer_attention.c, layer_ffn.c). */
#include "policy/adapter.h"
#include "policy/layer.h"
#include "policy/weights.h"

#include <stdlib.h>
#include <string.h>

static int open(struct model **out, struct backend *backend, const struct shape *s, int held, struct err *e)
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
	int64_t n = s->max_positions * (shape_rope_dims(s) / 2);
	backend_purpose(backend, "weights");
	m->learned = &m->params;
	rc = weights_open(m, held);
	m->cos = m->ops->alloc(backend, (size_t)n * sizeof(float));
	m->sin = m->ops->alloc(backend, (size_t)n * sizeof(float));
	float *cs = malloc((size_t)n * sizeof *cs + 1), *sn = malloc((size_t)n * sizeof *sn + 1);
	if (rc < 0 || !m->cos || !m->sin || !cs || !sn) {
		free(cs);
		free(sn);
		rc = err_set(e, ERR_MEMORY, "no memory for a model of %lld parameters (%.1f MiB)%s", (long long)m->params.parameters,
			     (double)m->params.floats * 4 / 1048576.0, backend_shortage(backend));
		model_close(m);
		return rc;
	}
	shape_rope_tables(s, cs, sn);
	m->ops->upload(backend, m->cos, cs, (size_t)n * sizeof *cs);
	m->ops->upload(backend, m->sin, sn, (size_t)n * sizeof *sn);
	free(cs);
	free(sn);
	*out = m;
	return 0;
}

int model_open(struct model **out, struct backend *backend, const struct shape *s, struct err *e)
{
	return open(out, backend, s, 0, e);
}

int model_open_held(struct model **out, struct backend *backend, const struct shape *s, struct err *e)
{
	return open(out, backend, s, 1, e);
}

void model_close(struct model *m)
{
	if (!m) return;
	void *p[] = {m->adapter ? m->adapter->weights : NULL, m->base ? NULL : m->cos, m->base ? NULL : m->sin};
	for (size_t i = 0; i < sizeof p / sizeof *p; i++)
		if (p[i]) m->ops->release(m->backend, p[i]);
	weights_close(m);
	arena_close(m->arena);
	free(m);
}

int model_learned_index(const struct model *m, int param)
{
	return m->adapter && param >= 0 ? m->adapter->slot[param].whole : param;
}

struct tensor model_grad(const struct model *m, int param, float *grads)
{
	int i = model_learned_index(m, param);
	return i >= 0 && m->learned->list[i].trained ? params_view(m->learned, i, grads) : (struct tensor){0};
}

float *model_grad_vector(const struct model *m, int param, float *grads)
{
	return params_vector(m->learned, model_learned_index(m, param), grads);
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
	size_t each = dtype_bytes(backend_keys(m->backend));
	memset(c, 0, sizeof *c);
	c->pages = pages;
	c->k = calloc((size_t)s->layers, sizeof *c->k);
	c->v = calloc((size_t)s->layers, sizeof *c->v);
	CHECK(c->k && c->v, "out of memory for a cache");
	backend_purpose(m->backend, "keys and values in generation");
	for (int64_t l = 0; l < s->layers; l++) {
		c->k[l] = m->ops->alloc(m->backend, (size_t)(pages * s->kv_heads * s->head_dim * KV_PAGE) * each);
		c->v[l] = m->ops->alloc(m->backend, (size_t)(pages * s->kv_heads * s->value_dim * KV_PAGE) * each);
		if (!c->k[l] || !c->v[l]) {
			kv_cache_close(c, m);
			return err_set(e, ERR_MEMORY, "no memory for a cache of %lld pages of %d positions; lower rollout.batch_groups%s", (long long)pages, KV_PAGE,
				       backend_shortage(m->backend));
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

/* Token embeddings, and with learned positions the positions' rows added. */
static void embed(const struct pass *p, float *x)
{
	const struct model *m = p->m;
	int64_t t = p->b->rows, c = m->shape.width;
	m->ops->embedding_forward(m->backend, model_view(m, m->params.embed), p->b->device.ids, tensor_f32(x, t, c));
	if (m->params.positions < 0) return;
	struct tensor rows = tensor_f32(p->a->layer[0].n1, t, c);
	m->ops->gather_rows(m->backend, rows, model_view(m, m->params.positions), p->b->device.pos);
	m->ops->add(m->backend, x, rows.data, t * c);
}

void model_forward(const struct model *m, struct activations *a, const struct batch *b, const struct kv_cache *cache)
{
	const struct shape *s = &m->shape;
	activations_reserve(a, b->rows, cache ? 0 : b->pages, b->outs);
	struct pass p = {.m = m, .a = a, .b = b, .cache = cache};
	embed(&p, a->layer[0].x);
	for (int64_t l = 0; l < s->layers; l++) {
		layer_attention(&p, l);
		layer_feed_forward(&p, l, l + 1 < s->layers ? a->layer[l + 1].x : a->last);
	}
	layer_norm(&p, tensor_f32(a->last, b->rows, s->width), m->params.norm, tensor_f32(a->final, b->rows, s->width), a->rstd);
}

struct tensor model_outs(const struct model *m, struct activations *a, const struct batch *b)
{
	struct tensor outs = tensor_f32(a->outs, b->outs, m->shape.width);
	m->ops->gather_rows(m->backend, outs, tensor_f32(a->final, b->rows, m->shape.width), b->device.out_row);
	return outs;
}

void model_logprobs(const struct model *m, struct activations *a, const struct batch *b, const struct sampling *s, float *logprob, float *entropy)
{
	struct head_args h = {.x = model_outs(m, a, b), .w = model_view(m, m->params.lm_head), .target = b->device.target,
			      .forbidden = b->any_forbidden ? b->device.forbidden : NULL, .temperature = s->temperature, .top_k = s->top_k,
			      .top_p = s->top_p, .logprob = a->logprob, .entropy = a->entropy, .work = a->head_work, .work_rows = a->head_rows};
	m->ops->head_forward(m->backend, &h);
	m->ops->download(m->backend, logprob, a->logprob, (size_t)b->outs * 4);
	if (entropy) m->ops->download(m->backend, entropy, a->entropy, (size_t)b->outs * 4);
}

void model_scalars(const struct model *m, struct activations *a, const struct batch *b, float *value)
{
	struct linear_args l = {.x = model_outs(m, a, b), .w = model_view(m, m->params.score),
				.bias = model_vector(m, m->params.score_bias), .y = tensor_f32(a->value, b->outs, 1)};
	m->ops->linear_forward(m->backend, &l);
	m->ops->download(m->backend, value, a->value, (size_t)b->outs * 4);
}

void model_logits(const struct model *m, struct activations *a, const struct batch *b, float *logits)
{
	size_t bytes = (size_t)(b->outs * m->shape.vocab) * sizeof *logits;
	float *y = m->ops->alloc(m->backend, bytes);
	CHECK(y, "out of memory: %zu bytes of logits", bytes);
	struct linear_args l = {.x = model_outs(m, a, b), .w = model_view(m, m->params.lm_head), .y = tensor_f32(y, b->outs, m->shape.vocab)};
	m->ops->linear_forward(m->backend, &l);
	m->ops->download(m->backend, logits, y, bytes);
	m->ops->release(m->backend, y);
}

double model_router_loss(const struct model *m, const struct activations *a, const struct batch *b)
{
	const struct shape *s = &m->shape;
	int64_t layers = shape_moe_layers(s), n = b->rows, e = s->experts;
	double loss = 0, *share = calloc((size_t)(2 * e) + 1, sizeof *share);
	float *probs = malloc((size_t)(n * e) * sizeof *probs + 1);
	int32_t *chosen = malloc((size_t)(n * s->chosen) * sizeof *chosen + 1);
	CHECK(a->keep && share && probs && chosen, "out of memory for %lld rows of router probabilities", (long long)n);
	for (int64_t l = 0; l < layers; l++) {
		m->ops->download(m->backend, probs, a->layer[s->dense_layers + l].probs, (size_t)(n * e) * sizeof *probs);
		m->ops->download(m->backend, chosen, activations_experts(a, l), (size_t)(n * s->chosen) * sizeof *chosen);
		for (int64_t i = 0; i < n * s->chosen; i++) share[chosen[i]] += 1;
		for (int64_t i = 0; i < n * e; i++) share[e + i % e] += (double)probs[i];
	}
	double rows = (double)(layers * n);
	for (int64_t i = 0; i < e && layers > 0; i++) loss += (double)e * share[i] / rows * share[e + i] / rows;
	free(share);
	free(probs);
	free(chosen);
	return loss;
}
