/* The whole model: its backward against central differences, and the group
 * against its completions one by one.
 *
 * Central differences in float: a log-probability is good to about 1e-6, so a step
 * must move the loss by far more than that, and then the loss is no longer
 * linear over the step. Two steps, h and h/2, extrapolated to zero (Richardson)
 * take the quadratic part away; what remains is below 2e-3 of the slope along a
 * tensor's own gradient, and a term left out is an error of 1e-1. The routing is
 * piecewise constant: where a step changes a chosen expert it is halved, and
 * every point that counts was taken with the routing of the middle. */
#include "model_kit.h"

#include "policy/training_file.h"

#include <unistd.h>

static const double SLOPE_TOLERANCE = 2e-3;
enum { MAX_OUTS = 512 };

/* A loss over two groups that reaches every part of the model. */
struct problem {
	struct backend *b;
	struct model *m, *base; /* base: of an adapter, or NULL */
	struct activations *a;
	struct batch batch;
	struct sampling sampling;
	float dlogprob[MAX_OUTS], dentropy[MAX_OUTS], dvalue[MAX_OUTS], balance[16];
	float z_scale;
	float *weights, *moved; /* [floats] */
	float *grads;
	int32_t *routing, *now;
	int64_t routes;
};

static int64_t routes(const struct problem *p)
{
	return shape_moe_layers(&p->m->shape) * p->batch.rows * p->m->shape.chosen;
}

static void take_routing(const struct problem *p, int32_t *out)
{
	int64_t n = p->batch.rows * p->m->shape.chosen;
	for (int64_t l = 0; l < shape_moe_layers(&p->m->shape); l++) memcpy(out + l * n, activations_experts(p->a, l), (size_t)n * sizeof *out);
}

/* The loss at these weights, and the routing that went with it. */
static double loss(struct problem *p, const float *weights)
{
	const struct shape *s = &p->m->shape;
	float logprob[MAX_OUTS], entropy[MAX_OUTS], value[MAX_OUTS];
	double sum = 0;
	model_put_learned(p->m, weights);
	model_forward(p->m, p->a, &p->batch, NULL);
	model_logprobs(p->m, p->a, &p->batch, &p->sampling, logprob, entropy);
	model_scalars(p->m, p->a, &p->batch, value);
	for (int64_t i = 0; i < p->batch.outs; i++) {
		sum += (double)p->dvalue[i] * (double)value[i];
		if (p->batch.host.target[i] < 0) continue;
		sum += (double)p->dlogprob[i] * (double)logprob[i] + (double)p->dentropy[i] * (double)entropy[i];
	}
	for (int64_t l = 0; l < shape_moe_layers(s); l++) {
		const struct layer_acts *x = &p->a->layer[s->dense_layers + l];
		for (int64_t t = 0; t < p->batch.rows; t++) {
			for (int64_t e = 0; e < s->experts; e++) sum += (double)p->balance[l * s->experts + e] * (double)x->probs[t * s->experts + e];
			sum += (double)p->z_scale * (double)x->router_lse[t] * (double)x->router_lse[t];
		}
	}
	take_routing(p, p->now);
	return sum;
}

/* lora NULL: all weights learn. */
static void problem_open(struct problem *p, int variant, const struct config_lora *lora)
{
	static const uint32_t first[] = {3, 0, 1, 7}, second[] = {2, 5};
	int32_t tokens[5 + 11 + 66 + 7];
	struct shape s = kit_shape(variant);
	memset(p, 0, sizeof *p);
	p->b = kit_backend(1);
	p->m = kit_model(p->b, &s, (uint64_t)variant + 1);
	if (lora) p->base = p->m, p->m = kit_adapter(p->base, s.heads_kind, lora, 3);
	p->a = activations_open(p->m, 1);
	model_dropout(p->a, 4, (uint64_t)1 << 33); /* nothing without an adapter */
	p->sampling = (struct sampling){0.8f, 1.0f, 0};
	batch_open(&p->batch, p->b);
	batch_reset(&p->batch, 3);
	kit_tokens(tokens, 16, 1);
	batch_add(&p->batch, tokens, 5, first, 4, 0, KIT_END, 2, 5); /* rows after the end below five tokens, two forbidden ends */
	kit_tokens(tokens, 73, 2);
	batch_add(&p->batch, tokens, 66, second, 2, 0, KIT_END, 0, 0);
	batch_upload(&p->batch);
	for (int64_t i = 0; i < p->batch.outs; i++) {
		int chosen = p->batch.host.target[i] >= 0;
		p->dlogprob[i] = chosen ? kit_weight(10, i) : 0;
		p->dentropy[i] = chosen ? kit_weight(11, i) : 0;
		p->dvalue[i] = kit_weight(12, i);
	}
	for (int i = 0; i < 16; i++) p->balance[i] = 0.1f * kit_weight(13, i);
	p->z_scale = 0.01f;
	size_t bytes = (size_t)p->m->learned->floats * sizeof(float);
	p->weights = malloc(bytes), p->moved = malloc(bytes);
	p->grads = p->m->ops->alloc(p->b, bytes + (size_t)p->m->learned->apart * sizeof(float));
	p->routes = routes(p);
	p->routing = calloc((size_t)p->routes, sizeof *p->routing), p->now = calloc((size_t)p->routes, sizeof *p->now);
	model_get_learned(p->m, p->weights);
	loss(p, p->weights);
	take_routing(p, p->routing);
	struct model_loss l = {.dlogprob = p->dlogprob, .dentropy = p->dentropy, .dvalue = p->dvalue, .balance = p->balance, .z_scale = p->z_scale};
	model_backward(p->m, p->a, &p->batch, &p->sampling, &l, p->grads);
	model_join(p->m, p->grads);
}

static void problem_close(struct problem *p)
{
	free(p->weights), free(p->moved), free(p->routing), free(p->now);
	p->m->ops->release(p->b, p->grads);
	batch_close(&p->batch);
	activations_close(p->a);
	model_close(p->m);
	model_close(p->base);
	backend_close(p->b);
}

/* (L(w + hd) - L(w - hd)) / 2h; NaN where the routing is another one. */
static double quotient(struct problem *p, const struct param *q, const double *d, double h)
{
	double side[2];
	for (int k = 0; k < 2; k++) {
		memcpy(p->moved, p->weights, (size_t)p->m->learned->floats * sizeof *p->moved);
		for (int64_t j = 0; j < q->size; j++) p->moved[q->offset + j] = (float)((double)p->weights[q->offset + j] + (k ? -h : h) * d[j]);
		side[k] = loss(p, p->moved);
		if (memcmp(p->now, p->routing, (size_t)p->routes * sizeof *p->now)) return NAN;
	}
	return (side[0] - side[1]) / (2 * h);
}

/* Slope along d by differences; NaN when no step leaves the routing alone. `slope` is what it should be: it sets the step. */
static double by_differences(struct problem *p, const struct param *q, const double *d, double slope)
{
	/* a step that moves the loss by about a tenth, and no weight by more than a tenth of its usual size */
	double h = fmin(0.1 / fmax(fabs(slope), 1e-3), 0.03);
	for (int tries = 0; tries < 7; tries++, h *= 0.5) {
		double whole = quotient(p, q, d, h), half = isnan(whole) ? NAN : quotient(p, q, d, h / 2);
		if (!isnan(half)) return (4 * half - whole) / 3;
	}
	return NAN;
}

/* Checks one tensor along its gradient, and along its steepest element. Adds to the counts. */
static void check_tensor(struct problem *p, const struct param *q, int *checked, int *skipped)
{
	const float *g = p->grads + q->offset;
	double norm = 0, *d = calloc((size_t)q->size, sizeof *d);
	int64_t most = 0;
	assert_non_null(d);
	for (int64_t j = 0; j < q->size; j++) {
		norm += (double)g[j] * (double)g[j];
		if (fabsf(g[j]) > fabsf(g[most])) most = j;
	}
	norm = sqrt(norm);
	if (!(norm > 1e-3)) fail_msg("%s has a gradient of %g: the loss does not reach it", q->name, norm);
	for (int k = 0; k < 2; k++) {
		for (int64_t j = 0; j < q->size; j++) d[j] = k ? j == most : (double)g[j] / norm;
		double slope = k ? (double)g[most] : norm, found = by_differences(p, q, d, slope);
		if (isnan(found)) ++*skipped;
		else if (++*checked, !(fabs(found - slope) <= SLOPE_TOLERANCE * fabs(slope)))
			fail_msg("%s, %s: %.6g by differences, %.6g by the backward", q->name, k ? "one element" : "along its gradient", found, slope);
	}
	free(d);
}

static void test_gradients(void **state)
{
	(void)state;
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct problem p;
		int checked = 0, skipped = 0;
		problem_open(&p, v, NULL);
		for (int i = 0; i < p.m->params.count; i++) {
			const struct param *q = &p.m->params.list[i];
			if (q->trained) {
				check_tensor(&p, q, &checked, &skipped);
				continue;
			}
			for (int64_t j = 0; j < q->size; j++) assert_true(p.grads[q->offset + j] == 0.0f);
		}
		print_message("%s: %d slopes, %d skipped for their routing\n", kit_variant_name[v], checked, skipped);
		assert_true(checked >= 30 && skipped * 8 <= checked);
		problem_close(&p);
	}
}

/* Adapters on every projection, with dropout where there are no experts, and what learns whole beside them. */
static void test_gradients_of_adapters(void **state)
{
	(void)state;
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct shape s = kit_shape(v);
		struct config_lora c = {.r = 3, .alpha = 5, .rslora = v & 1, .dropout = s.experts ? 0 : 0.25, .targets = "all-linear"};
		struct problem p;
		int checked = 0, skipped = 0;
		if (s.experts) snprintf(c.targets, sizeof c.targets, "all-linear, gate");
		if (!s.tied) snprintf(c.modules_to_save, sizeof c.modules_to_save, "%s", s.family == FAMILY_GPT_NEOX ? "embed_out" : "lm_head");
		problem_open(&p, v, &c);
		for (int i = 0; i < p.m->learned->count; i++) check_tensor(&p, &p.m->learned->list[i], &checked, &skipped);
		print_message("%s: %d slopes of adapters, %d skipped for their routing\n", kit_variant_name[v], checked, skipped);
		assert_true(checked >= 30 && skipped * 8 <= checked);
		problem_close(&p);
	}
}

/* The check must see a gradient that is one per cent off. */
static void test_a_wrong_gradient_is_seen(void **state)
{
	(void)state;
	struct problem p;
	problem_open(&p, 0, NULL);
	const struct param *q = &p.m->params.list[p.m->params.layer[0].v];
	double norm = 0, *d = calloc((size_t)q->size, sizeof *d);
	for (int64_t j = 0; j < q->size; j++) norm += (double)p.grads[q->offset + j] * (double)p.grads[q->offset + j];
	norm = sqrt(norm);
	for (int64_t j = 0; j < q->size; j++) d[j] = (double)p.grads[q->offset + j] / norm;
	double found = by_differences(&p, q, d, norm);
	assert_true(fabs(found - norm) <= SLOPE_TOLERANCE * norm);
	assert_false(fabs(found - 1.01 * norm) <= SLOPE_TOLERANCE * norm);
	free(d);
	problem_close(&p);
}

/* ---- the group and its completions ---- */

static void run(struct model *m, struct activations *a, const int32_t *tokens, int64_t prompt, const uint32_t *length, int64_t n, const float *weight,
		float *logprob, float *value, float *grads)
{
	struct batch b;
	struct sampling s = {0.7f, 0.9f, 20};
	batch_open(&b, m->backend);
	batch_reset(&b, 4);
	batch_add(&b, tokens, prompt, length, n, 0, KIT_END, 1, 0);
	batch_upload(&b);
	model_forward(m, a, &b, NULL);
	model_logprobs(m, a, &b, &s, logprob, NULL);
	model_scalars(m, a, &b, value);
	/* a token outside the sampled set has no slope */
	float w[MAX_OUTS];
	for (int64_t i = 0; i < b.outs; i++) w[i] = isfinite(logprob[i]) ? weight[i] : 0;
	struct model_loss l = {.dlogprob = w, .dvalue = weight};
	model_backward(m, a, &b, &s, &l, grads);
	batch_close(&b);
}

/* Largest difference of two gradients, in multiples of the tensor's largest element. */
static double gradient_difference(const struct params *p, const float *x, const float *y)
{
	double worst = 0;
	for (int i = 0; i < p->count; i++) {
		double scale = 0, most = 0;
		for (int64_t j = p->list[i].offset; j < p->list[i].offset + p->list[i].size; j++) {
			scale = fmax(scale, fabs((double)x[j]));
			most = fmax(most, fabs((double)x[j] - (double)y[j]));
		}
		if (scale > 0 && most / scale > worst) worst = most / scale;
	}
	return worst;
}

static void test_group_is_its_completions(void **state)
{
	(void)state;
	static const int64_t prompts[] = {1, 32, 63, 64, 65, 125};
	static const uint32_t length[] = {1, 7, 40, 66};
	enum { N = 4, R = 1 + 7 + 40 + 66 };
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct shape s = kit_shape(v);
		struct backend *b = kit_backend(2);
		struct model *m = kit_model(b, &s, 9);
		struct activations *a = activations_open(m, 1);
		size_t bytes = (size_t)(m->params.floats + m->params.apart) * sizeof(float);
		float *whole = m->ops->alloc(b, bytes), *sum = m->ops->alloc(b, bytes);
		for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
			int32_t tokens[125 + R], one[125 + R];
			float weight[R], together[R], values[R], alone[R], value[R];
			int64_t at = 0;
			kit_tokens(tokens, prompts[i] + R, 20 + (uint32_t)i);
			for (int64_t j = 0; j < R; j++) weight[j] = kit_weight(30, j);
			m->ops->zero(b, whole, bytes), m->ops->zero(b, sum, bytes);
			run(m, a, tokens, prompts[i], length, N, weight, together, values, whole);
			memcpy(one, tokens, (size_t)prompts[i] * sizeof *one);
			for (int64_t c = 0; c < N; at += length[c++]) {
				memcpy(one + prompts[i], tokens + prompts[i] + at, length[c] * sizeof *one);
				run(m, a, one, prompts[i], &length[c], 1, weight + at, alone + at, value + at, sum);
			}
			assert_memory_equal(together, alone, sizeof alone);
			assert_memory_equal(values, value, sizeof value);
			model_join(m, whole), model_join(m, sum);
			double d = gradient_difference(&m->params, whole, sum);
			/* the prompt's rows are summed over completions before or after the products: another order of the same terms */
			if (!(d <= 1e-6)) fail_msg("%s, prompt of %lld: gradients differ by %g", kit_variant_name[v], (long long)prompts[i], d);
		}
		m->ops->release(b, whole), m->ops->release(b, sum);
		activations_close(a);
		model_close(m);
		backend_close(b);
	}
}

/* Computed again in the backward: the same bits from less memory; with adapters the same elements are dropped. */
static void test_activations_again(void **state)
{
	(void)state;
	static const struct config_lora lora = {.r = 3, .alpha = 5, .dropout = 0.25};
	for (int i = 0; i < 2 * KIT_VARIANTS; i++) {
		struct problem p;
		struct config_lora c = lora;
		int v = i % KIT_VARIANTS;
		snprintf(c.targets, sizeof c.targets, v == 4 ? "*.attention.*" : v == 5 ? "*.attn.*" : "*.self_attn.*");
		problem_open(&p, v, i < KIT_VARIANTS ? NULL : &c);
		struct activations *kept = p.a, *again = activations_open(p.m, ACTIVATIONS_AGAIN);
		model_dropout(again, 4, (uint64_t)1 << 33);
		size_t bytes = (size_t)(p.m->learned->floats + p.m->learned->apart) * sizeof(float);
		float *grads = p.m->ops->alloc(p.b, bytes);
		struct model_loss l = {.dlogprob = p.dlogprob, .dentropy = p.dentropy, .dvalue = p.dvalue, .balance = p.balance, .z_scale = p.z_scale};
		for (int round = 0; round < 2; round++) { /* what is left of the first batch must not show in the second */
			p.m->ops->zero(p.b, grads, bytes);
			model_forward(p.m, again, &p.batch, NULL);
			model_backward(p.m, again, &p.batch, &p.sampling, &l, grads);
			model_join(p.m, grads);
			assert_memory_equal(grads, p.grads, (size_t)p.m->learned->floats * sizeof(float));
		}
		take_routing(&p, p.now);
		p.a = again;
		take_routing(&p, p.routing);
		p.a = kept;
		assert_memory_equal(p.now, p.routing, (size_t)p.routes * sizeof *p.now);
		assert_true(activations_bytes(again) < activations_bytes(kept));
		p.m->ops->release(p.b, grads);
		activations_close(again);
		problem_close(&p);
	}
}

/* ---- training state on disk ---- */

static void scatter(struct model *m, float *device, uint32_t stream)
{
	float *host = calloc((size_t)m->params.floats, sizeof *host);
	assert_non_null(host);
	for (int i = 0; i < m->params.count; i++)
		for (int64_t j = 0; j < m->params.list[i].size; j++) host[m->params.list[i].offset + j] = kit_weight(stream, m->params.list[i].offset + j);
	m->ops->upload(m->backend, device, host, (size_t)m->params.floats * sizeof *host);
	free(host);
}

static void test_training_state_round_trip(void **state)
{
	(void)state;
	char path[64];
	snprintf(path, sizeof path, "test_model_%d.safetensors", (int)getpid());
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct shape s = kit_shape(v);
		struct backend *b = kit_backend(1);
		struct model *m = kit_model(b, &s, 3), *n = kit_model(b, &s, 4);
		struct optimizer *o, *p;
		struct err e;
		struct config_optim c = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .schedule = "constant", .adam = "pytorch"};
		size_t bytes = (size_t)m->params.floats * sizeof(float);
		assert_int_equal(optimizer_open(&o, m, &c, 10, &e), 0);
		assert_int_equal(optimizer_open(&p, n, &c, 10, &e), 0);
		scatter(m, o->total, 50);
		optimizer_update(o, 0.01, 1.0);
		optimizer_update(o, 0.01, 1.0);
		assert_memory_not_equal(m->weights, n->weights, bytes);
		if (training_save(o, path, &e) < 0 || training_load(p, path, &e) < 0) fail_msg("%s", e.msg);
		assert_memory_equal(m->weights, n->weights, bytes);
		assert_memory_equal(o->m, p->m, bytes);
		assert_memory_equal(o->v, p->v, bytes);
		/* and both go on alike */
		p->updates = o->updates;
		scatter(m, o->total, 51), scatter(n, p->total, 51);
		optimizer_update(o, 0.01, 1.0), optimizer_update(p, 0.01, 1.0);
		assert_memory_equal(m->weights, n->weights, bytes);
		optimizer_close(o), optimizer_close(p);
		model_close(m), model_close(n);
		backend_close(b);
	}
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients), cmocka_unit_test(test_gradients_of_adapters),
		cmocka_unit_test(test_a_wrong_gradient_is_seen),
		cmocka_unit_test(test_group_is_its_completions),
		cmocka_unit_test(test_activations_again),
		cmocka_unit_test(test_training_state_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
