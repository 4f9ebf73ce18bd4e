/* Gradients and AdamW; see optimizer.h. */
#include "policy/optimizer.h"

#include "policy/activations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int optimizer_open(struct optimizer **out, struct model *m, const struct config_optim *options, int64_t total_steps, struct err *e)
{
	struct optimizer *o = calloc(1, sizeof *o);
	CHECK(o, "out of memory for an optimiser");
	CHECK(m->learned_weights, "a model that is only held does not learn");
	o->model = m;
	o->options = *options;
	o->total_steps = total_steps;
	backend_purpose(m->backend, "gradients and moments");
	float **arenas[] = {&o->total, &o->block, &o->m, &o->v};
	size_t bytes = (size_t)m->learned->floats * sizeof(float);
	for (int i = 0; i < 4; i++) {
		*arenas[i] = m->ops->alloc(m->backend, bytes + (arenas[i] == &o->block ? (size_t)m->learned->apart * sizeof(float) : 0));
		if (!*arenas[i]) {
			optimizer_close(o);
			return err_set(e, ERR_MEMORY, "no memory to train %lld parameters: gradients and moments need %.1f MiB%s", (long long)m->learned->parameters,
				       4.0 * (double)bytes / 1048576.0, backend_shortage(m->backend));
		}
	}
	if (m->ops->reserve(m->backend, &(struct ops_sizes){.parameters = m->learned->floats}) < 0) {
		optimizer_close(o);
		return err_set(e, ERR_MEMORY, "no memory to add up the squares of %lld parameters%s", (long long)m->learned->parameters, backend_shortage(m->backend));
	}
	*out = o;
	return 0;
}

void optimizer_close(struct optimizer *o)
{
	if (!o) return;
	float *arenas[] = {o->total, o->block, o->m, o->v};
	for (int i = 0; i < 4; i++)
		if (arenas[i]) o->model->ops->release(o->model->backend, arenas[i]);
	free(o);
}

static void clear(const struct optimizer *o, float *p, int64_t n)
{
	o->model->ops->zero(o->model->backend, p, (size_t)n * sizeof *p);
}

void optimizer_begin(struct optimizer *o)
{
	clear(o, o->total, o->model->learned->floats);
}

void optimizer_block_begin(struct optimizer *o)
{
	clear(o, o->block, o->model->learned->floats + o->model->learned->apart);
}

void optimizer_block_end(struct optimizer *o)
{
	model_join(o->model, o->block);
	o->model->ops->add(o->model->backend, o->total, o->block, o->model->learned->floats);
}

/* The backend's sum is in f32 lanes, where squares of more than 1e19 overflow; then it is made again on the host, in double. */
static double sum_squares(const struct optimizer *o, const float *p)
{
	const struct model *m = o->model;
	double sum = m->ops->sum_squares(m->backend, p, m->learned->floats);
	float host[4096];
	if (isfinite(sum)) return sum;
	sum = 0;
	for (int64_t i = 0; i < m->learned->floats; i += 4096) {
		int64_t n = m->learned->floats - i < 4096 ? m->learned->floats - i : 4096;
		m->ops->download(m->backend, host, p + i, (size_t)n * sizeof *host);
		for (int64_t k = 0; k < n; k++) sum += (double)host[k] * (double)host[k];
	}
	return sum;
}

double optimizer_norm(const struct optimizer *o)
{
	return sqrt(sum_squares(o, o->total));
}

int optimizer_is_finite(const struct optimizer *o)
{
	return isfinite(sum_squares(o, o->model->learned_weights)) && isfinite(sum_squares(o, o->m)) && isfinite(sum_squares(o, o->v));
}

double optimizer_rate(const struct optimizer *o, int64_t step)
{
	double lr = o->options.lr, warm = (double)o->options.warmup, s = (double)step;
	if (s < warm) return lr * (s + 1) / warm;
	double rest = (double)o->total_steps - warm, at = rest > 0 ? (s - warm) / rest : 0;
	if (at > 1) at = 1;
	if (!strcmp(o->options.schedule, "linear")) return lr * (1 - at);
	if (!strcmp(o->options.schedule, "cosine")) return lr * 0.5 * (1 + cos(3.14159265358979323846 * at));
	return lr;
}

void optimizer_update(struct optimizer *o, double lr, double norm)
{
	struct model *m = o->model;
	double max = o->options.max_grad_norm, scale = max > 0 && norm > max ? max / (norm + 1e-6) : 1.0;
	o->updates++;
	for (int i = 0; i < m->learned->count; i++) {
		const struct param *p = &m->learned->list[i];
		if (!p->trained) continue;
		struct adamw_args a = {.w = m->learned_weights + p->offset, .g = o->total + p->offset, .m = o->m + p->offset, .v = o->v + p->offset, .n = p->size,
				       .lr = (float)lr, .beta1 = (float)o->options.beta1, .beta2 = (float)o->options.beta2, .eps = (float)o->options.eps,
				       .weight_decay = p->decay ? (float)o->options.weight_decay : 0.0f, .grad_scale = (float)scale, .step = o->updates,
				       .tensorflow = !strcmp(o->options.adam, "tensorflow")};
		m->ops->adamw(m->backend, &a);
	}
	model_changed(m);
}

void model_count_experts(const struct model *m, const struct activations *a, const struct batch *b, int64_t *counts)
{
	int64_t n = b->rows * m->shape.chosen, layers = shape_moe_layers(&m->shape);
	int32_t chosen[4096];
	for (int64_t l = 0; l < layers; l++)
		for (int64_t i = 0; i < n; i += 4096) {
			int64_t k = n - i < 4096 ? n - i : 4096;
			m->ops->download(m->backend, chosen, activations_experts(a, l) + i, (size_t)k * sizeof *chosen);
			for (int64_t j = 0; j < k; j++) counts[l * m->shape.experts + chosen[j]]++;
		}
}

void model_balance_gradient(const struct model *m, const int64_t *counts, double coef, int64_t rows, float *balance)
{
	int64_t layers = shape_moe_layers(&m->shape), e = m->shape.experts;
	for (int64_t l = 0; l < layers; l++) {
		double total = 0;
		for (int64_t i = 0; i < e; i++) total += (double)counts[l * e + i];
		for (int64_t i = 0; i < e; i++) {
			double f = total > 0 ? (double)counts[l * e + i] * (double)m->shape.chosen / total : 0;
			balance[l * e + i] = (float)(coef * (double)e * f / ((double)rows * (double)layers));
		}
	}
}

void model_balance_bias(struct model *m, const int64_t *counts, double rate)
{
	int64_t layers = shape_moe_layers(&m->shape), e = m->shape.experts;
	if (!m->shape.router_bias || rate == 0 || e > 1024) return;
	for (int64_t l = 0; l < layers; l++) {
		int bias = m->params.layer[m->shape.dense_layers + l].router_bias;
		float host[1024];
		int64_t total = 0;
		for (int64_t i = 0; i < e; i++) total += counts[l * e + i];
		model_get_param(m, bias, host);
		for (int64_t i = 0; i < e; i++) {
			int64_t off = total - counts[l * e + i] * e;
			host[i] += (float)(off > 0 ? rate : off < 0 ? -rate : 0);
		}
		model_put_param(m, bias, host);
	}
}
