/* See weights.h. */
#include "policy/weights.h"

#include "core/tensor/bf16.h"
#include "policy/adapter.h"

#include <stdlib.h>
#include <string.h>

struct held_param {
	struct tensor view;  /* data NULL: nothing yet, or the matrices are apart */
	void *own;           /* backend memory behind it */
	size_t bytes;        /* of own */
	const void **apart;  /* [stack] */
};

struct weights {
	struct held_param *param; /* [params.count] */
	struct safetensors *file; /* mapped; NULL: none */
};

static struct tensor view_of(const struct param *q, void *data, enum dtype type)
{
	return (struct tensor){data, type, q->cols ? q->stack * q->rows : 1, q->cols ? q->cols : q->rows};
}

void *weights_own(struct model *m, int i, enum dtype type)
{
	struct held_param *h = &m->held->param[i];
	const struct param *q = &m->params.list[i];
	if (!q->cols) type = DTYPE_F32;
	size_t bytes = (size_t)q->size * dtype_bytes(type);
	if (h->own && h->bytes != bytes) {
		m->ops->release(m->backend, h->own);
		h->own = NULL;
	}
	if (!h->own) h->own = m->ops->alloc(m->backend, bytes);
	if (!h->own) return NULL;
	h->bytes = bytes;
	h->view = view_of(q, h->own, type);
	free(h->apart);
	h->apart = NULL;
	return h->own;
}

void weights_map(struct model *m, int i, enum dtype type, const void *const *at)
{
	struct held_param *h = &m->held->param[i];
	const struct param *q = &m->params.list[i];
	size_t step = (size_t)(q->size / q->stack) * dtype_bytes(type);
	int apart = 0;
	for (int64_t k = 1; k < q->stack; k++) apart |= (const char *)at[k] != (const char *)at[k - 1] + step;
	CHECK(!apart || type == DTYPE_BF16, "%s: matrices of type %d apart", q->name, (int)type);
	if (h->own) m->ops->release(m->backend, h->own);
	free(h->apart);
	*h = (struct held_param){.view = view_of(q, NULL, type)};
	if (!apart) {
		memcpy(&h->view.data, at, sizeof h->view.data); /* read only: nothing writes to a held model's views */
		return;
	}
	h->apart = malloc((size_t)q->stack * sizeof *h->apart);
	CHECK(h->apart, "out of memory for %lld addresses", (long long)q->stack);
	memcpy(h->apart, at, (size_t)q->stack * sizeof *h->apart);
}

void weights_keep(struct model *m, struct safetensors *file)
{
	safetensors_close(m->held->file);
	m->held->file = file;
}

enum dtype weights_type(const struct model *m, enum safetensors_dtype file)
{
	return backend_on_host(m->backend) && file == SAFETENSORS_BF16 ? DTYPE_BF16 : backend_weights(m->backend);
}

int weights_open(struct model *m, int held)
{
	enum dtype type = backend_weights(m->backend);
	if (!held) {
		m->weights = m->ops->alloc(m->backend, (size_t)m->params.floats * sizeof(float));
		if (!m->weights) return ERR_MEMORY;
		m->learned_weights = m->weights;
	}
	if (!held && type == DTYPE_F32) return 0;
	m->held = calloc(1, sizeof *m->held);
	CHECK(m->held, "out of memory for a model");
	m->held->param = calloc((size_t)m->params.count, sizeof *m->held->param);
	CHECK(m->held->param, "out of memory for %d parameters", m->params.count);
	for (int i = 0; i < m->params.count; i++) {
		m->held->param[i].view = view_of(&m->params.list[i], NULL, DTYPE_F32);
		/* on a device at once, so that it is there when it is planned and recorded steps find it where it was */
		if ((!held || !backend_on_host(m->backend)) && !weights_own(m, i, type)) return ERR_MEMORY;
	}
	return 0;
}

void weights_close(struct model *m)
{
	for (int i = 0; m->held && i < m->params.count; i++) {
		if (m->held->param[i].own) m->ops->release(m->backend, m->held->param[i].own);
		free(m->held->param[i].apart);
	}
	if (m->held) {
		safetensors_close(m->held->file);
		free(m->held->param);
	}
	free(m->held);
	if (m->weights && !m->base) m->ops->release(m->backend, m->weights);
}

int weights_put(struct model *m, int i, int64_t first, const float *host, int64_t n)
{
	const struct held_param *h = &m->held->param[i];
	size_t each = dtype_bytes(h->view.dtype);
	uint16_t *half = NULL;
	float *full = NULL;
	const void *bytes = host;
	if (h->view.dtype == DTYPE_BF16) {
		bytes = half = malloc((size_t)n * each + 1);
		for (int64_t k = 0; half && k < n; k++) half[k] = bf16_round(host[k]);
	} else if (backend_weights(m->backend) == DTYPE_BF16) {
		bytes = full = malloc((size_t)n * each + 1);
		for (int64_t k = 0; full && k < n; k++) full[k] = bf16_widen(bf16_round(host[k]));
	}
	if (!bytes) return ERR_MEMORY;
	m->ops->upload(m->backend, (char *)h->own + (size_t)first * each, bytes, (size_t)n * each);
	free(half);
	free(full);
	return 0;
}

/* The rounded copy of parameter i follows the arena. */
static void follow(struct model *m, int i)
{
	if (m->held && m->weights) m->ops->round_bf16(m->backend, m->held->param[i].view, m->weights + m->params.list[i].offset);
}

void model_changed(struct model *m)
{
	for (int i = 0; i < m->params.count; i++) follow(m, i);
	m->ops->weights_changed(m->backend, m->learned_weights, m->learned_weights ? (size_t)m->learned->floats * sizeof(float) : 0);
}

/* ---- in and out ---- */

/* Where a parameter that learns itself beside an adapter is; NULL: it is the base's, or there is no adapter. */
static float *learned_at(const struct model *m, int param)
{
	int i = m->adapter ? model_learned_index(m, param) : -1;
	return i >= 0 ? m->learned_weights + m->learned->list[i].offset : NULL;
}

void model_put_param(struct model *m, int param, const float *host)
{
	const struct param *q = &m->params.list[param];
	float *learned = learned_at(m, param);
	CHECK(!m->base || learned, "%s is not this model's but its base's", q->name);
	if (learned || m->weights) m->ops->upload(m->backend, learned ? learned : m->weights + q->offset, host, (size_t)q->size * sizeof *host);
	else
		CHECK(weights_own(m, param, backend_weights(m->backend)) && weights_put(m, param, 0, host, q->size) == 0, "out of memory: %lld weights of %s",
		      (long long)q->size, q->name);
	if (!learned) follow(m, param);
	struct tensor now = model_view(m, param);
	m->ops->weights_changed(m->backend, now.data, (size_t)(now.rows * now.cols) * dtype_bytes(now.dtype));
}

/* n numbers in bf16: into the upper half of where they go, which they leave in order. */
static void download_half(const struct model *m, float *host, const void *from, int64_t n)
{
	char *half = (char *)host + (size_t)n * sizeof(uint16_t);
	m->ops->download(m->backend, half, from, (size_t)n * sizeof(uint16_t));
	for (int64_t i = 0; i < n; i++) {
		uint16_t h;
		memcpy(&h, half + (size_t)i * sizeof h, sizeof h);
		host[i] = bf16_widen(h);
	}
}

void model_get_param(const struct model *m, int param, float *host)
{
	const struct param *q = &m->params.list[param];
	const float *learned = learned_at(m, param);
	if (learned || m->weights) {
		m->ops->download(m->backend, host, learned ? learned : m->weights + q->offset, (size_t)q->size * sizeof *host);
		return;
	}
	const struct held_param *h = &(m->base ? m->base : m)->held->param[param];
	int64_t each = q->size / q->stack;
	for (int64_t k = 0; k < q->stack; k++) {
		const void *at = h->apart ? h->apart[k] : h->view.data ? (const char *)h->view.data + (size_t)(k * each) * dtype_bytes(h->view.dtype) : NULL;
		if (!at) memset(host + k * each, 0, (size_t)each * sizeof *host);
		else if (h->view.dtype == DTYPE_F32) m->ops->download(m->backend, host + k * each, at, (size_t)each * sizeof *host);
		else download_half(m, host + k * each, at, each);
	}
}

void model_put(struct model *m, const float *host)
{
	CHECK(!m->base, "weights into a model with an adapter, which are another model's");
	if (m->weights) {
		m->ops->upload(m->backend, m->weights, host, (size_t)m->params.floats * sizeof *host);
		model_changed(m);
	} else {
		for (int i = 0; i < m->params.count; i++) model_put_param(m, i, host + m->params.list[i].offset);
	}
}

void model_get(const struct model *m, float *host)
{
	if (m->weights && !m->base) {
		m->ops->download(m->backend, host, m->weights, (size_t)m->params.floats * sizeof *host);
		return;
	}
	memset(host, 0, (size_t)m->params.floats * sizeof *host);
	for (int i = 0; i < m->params.count; i++) model_get_param(m, i, host + m->params.list[i].offset);
	if (m->base) adapter_merge(m, host);
}

void model_put_learned(struct model *m, const float *host)
{
	if (m->learned == &m->params) {
		model_put(m, host);
		return;
	}
	m->ops->upload(m->backend, m->learned_weights, host, (size_t)m->learned->floats * sizeof *host);
	model_changed(m);
}

void model_get_learned(const struct model *m, float *host)
{
	if (m->learned == &m->params) model_get(m, host);
	else m->ops->download(m->backend, host, m->learned_weights, (size_t)m->learned->floats * sizeof *host);
}

struct tensor model_view(const struct model *m, int param)
{
	const struct model *from = m->base ? m->base : m;
	if (param < 0) return (struct tensor){0};
	if (learned_at(m, param)) return params_view(m->learned, model_learned_index(m, param), m->learned_weights);
	return from->held ? from->held->param[param].view : params_view(&m->params, param, m->weights);
}

const float *model_vector(const struct model *m, int param)
{
	const struct model *from = m->base ? m->base : m;
	if (param < 0) return NULL;
	if (learned_at(m, param)) return learned_at(m, param);
	return from->held ? from->held->param[param].view.data : params_vector(&m->params, param, m->weights);
}

const void *const *model_apart(const struct model *m, int param)
{
	const struct model *from = m->base ? m->base : m;
	return param >= 0 && from->held && !learned_at(m, param) ? (const void *const *)from->held->param[param].apart : NULL;
}
