/* Limits of an iteration; see limits.h. */
#include "app/limits.h"
#include "app/bench.h"
#include "ppo/learner.h"

#include <math.h>
#include <string.h>

static double size_of(const struct params *p, int i)
{
	return i < 0 ? 0.0 : (double)p->list[i].stack * (double)p->list[i].rows * (double)(p->list[i].cols > 0 ? p->list[i].cols : 1);
}

void limits_model(struct limits_model *out, const struct model *m)
{
	const struct shape *s = &m->shape;
	const struct params *p = &m->params;
	*out = (struct limits_model){.total = (double)p->parameters, .moe_layers = (double)shape_moe_layers(s), .experts = (double)s->experts,
				     .chosen = (double)s->chosen, .bytes = (double)dtype_bytes(backend_weights(m->backend)),
				     .key_bytes = (double)dtype_bytes(backend_keys(m->backend)), .layers = (double)s->layers, .attention = 0.5 * (double)(s->heads * (s->head_dim + s->value_dim)),
				     .kv = (double)(s->kv_heads * (s->head_dim + s->value_dim))};
	for (int64_t i = 0; i < s->layers; i++) {
		const struct layer_params *l = &p->layer[i];
		int dense[] = {l->q, l->k, l->v, l->qkv, l->widen, l->query_down, l->o, l->router, l->shared_gate, l->shared_up, l->shared_down, l->dense_gate, l->dense_up, l->dense_down};
		for (size_t k = 0; k < sizeof dense / sizeof *dense; k++) out->dense += size_of(p, dense[k]);
		double experts = size_of(p, l->gate) + size_of(p, l->up) + size_of(p, l->down);
		if (s->experts > 0) out->trunk += experts * out->chosen / out->experts;
		if (experts > 0) out->expert = experts / out->experts;
	}
	out->trunk += out->dense;
	if (s->heads_kind & HEAD_LM) out->head = (double)s->vocab * (double)s->width;
}

double limits_forward_flop(const struct limits_model *m, const struct limits_work *w)
{
	return 2 * m->trunk * w->rows + 2 * m->head * w->outs + 4 * m->layers * m->attention * w->visible;
}

/* Experts that n rows with independent choices touch. */
static double touched(const struct limits_model *m, double n)
{
	return m->experts > 0 ? m->experts * (1 - pow(1 - m->chosen / m->experts, n)) : 0;
}

/* One decoding step: n completions at position s after prompts of P. */
static double decode_step(const struct limits_machine *f, const struct limits_model *m, double n, double prompts, double s)
{
	double keys = prompts + n * s, bytes = m->bytes * (m->dense + m->head + m->moe_layers * touched(m, n) * m->expert) + m->key_bytes * m->layers * m->kv * keys;
	double flop = 2 * (m->trunk + m->head) * n + 4 * m->layers * m->attention * n * s;
	return fmax(bytes / f->bytes, flop / f->flops);
}

void limits_work(struct limits_work *out, const struct limits_machine *f, const struct limits_model *m, const struct group *groups, int64_t n)
{
	*out = (struct limits_work){.groups = (double)n};
	uint32_t longest = 0;
	for (int64_t i = 0; i < n; i++) {
		double p = groups[i].prompt_tokens;
		out->prompt_rows += p;
		out->prompt_visible += p * (p + 1) / 2;
		for (uint32_t c = 0; c < groups[i].size; c++) {
			double r = groups[i].length[c] > 0 ? groups[i].length[c] - 1.0 : 0.0;
			out->rows += r;
			out->outs += groups[i].length[c];
			out->visible += r * p + r * (r + 1) / 2;
			longest = groups[i].length[c] > longest ? groups[i].length[c] : longest;
		}
	}
	out->rows += out->prompt_rows;
	out->visible += out->prompt_visible;
	for (uint32_t s = 1; s < longest; s++) {
		double running = 0, prompts = 0;
		for (int64_t i = 0; i < n; i++) {
			double before = running;
			for (uint32_t c = 0; c < groups[i].size; c++) running += groups[i].length[c] > s;
			if (running > before) prompts += groups[i].prompt_tokens;
		}
		out->decode_seconds += decode_step(f, m, running, prompts, s);
	}
}

void limits_step(struct limits *out, const struct limits_machine *f, const struct limits_models *m, const struct limits_work *w, int64_t epochs,
		 int64_t minibatches)
{
	const struct limits_model *p = m->policy, *v = m->critic;
	double policy = limits_forward_flop(p, w), reference = limits_forward_flop(m->reference, w), critic = v ? limits_forward_flop(v, w) : 0;
	double prefill = 2 * p->trunk * w->prompt_rows + 4 * p->layers * p->attention * w->prompt_visible;
	double update = (double)epochs * 3 * (policy + critic);
	*out = (struct limits){.generate = prefill / f->flops + w->decode_seconds, .score = (reference + critic + policy) / f->flops,
			       .update = update / f->flops, .flop = policy + reference + critic + policy + update,
			       .optimise = (double)(epochs * minibatches) * (p->total + (v ? v->total : 0)) * 28 / f->bytes};
}

double limits_seconds(const struct limits *l)
{
	return l->generate + l->score + l->update + l->optimise + l->sync;
}

static double seconds(const struct metrics *m, const char *name)
{
	double s = metrics_get(m, name);
	return isfinite(s) ? s : 0;
}

void limits_eta_add(struct limits_eta *eta, const struct learner *l)
{
	static const char *const parts[] = {"timing/rollout", "timing/store", "timing/evaluate", "timing/update"};
	if (eta->machine.flops == 0) {
		struct bench_peak peak;
		struct backend_limits device;
		bench_peak_quick(&peak, backend_threads(l->policy->backend));
		if (backend_limits(l->policy->backend, &device)) peak.gflops_all = device.flops * 1e-9, peak.memory_gbs = device.bytes * 1e-9;
		eta->machine = (struct limits_machine){peak.gflops_all * 1e9, peak.memory_gbs * 1e9};
		limits_model(&eta->policy, l->policy);
		limits_model(&eta->reference, l->reference);
		if (l->critic) limits_model(&eta->critic, l->critic);
	}
	struct limits_models models = {&eta->policy, &eta->reference, l->critic ? &eta->critic : NULL};
	struct limits_work w;
	struct limits limit;
	limits_work(&w, &eta->machine, &eta->policy, l->batch.group, l->batch.groups);
	limits_step(&limit, &eta->machine, &models, &w, l->config.ppo.epochs, l->config.ppo.minibatches);
	eta->limit += limits_seconds(&limit);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) eta->measured += seconds(&l->metrics, parts[i]);
}

double limits_eta(const struct limits_eta *eta)
{
	return eta->measured > 0 ? eta->limit / eta->measured : NAN;
}
