/* Adapters: what learns is their table, what does not is the base's memory and
 * keeps its bits; a model starts as its base, and the sum that is exported is the
 * model. Gradients are in test_model, sampler against learner in test_learner. */
#include "model_kit.h"

#include "core/base/config.h"
#include "policy/optimizer.h"
#include "policy/training_file.h"

#include <unistd.h>

enum { ROWS = 12 };

static const struct sampling plain = {1.0f, 1.0f, 0};

/* Log-probabilities of a random text. */
static void logprobs_of(struct model *m, struct activations *a, float out[ROWS])
{
	struct batch b;
	int32_t tokens[ROWS];
	kit_tokens(tokens, ROWS, 7);
	batch_open(&b, m->backend);
	batch_reset(&b, 1);
	batch_add(&b, tokens, 1, &(uint32_t){ROWS - 1}, 1, 0, KIT_END, 0, 0);
	batch_upload(&b);
	model_forward(m, a, &b, NULL);
	model_logprobs(m, a, &b, &plain, out, NULL);
	batch_close(&b);
}

static void logprobs(struct model *m, float out[ROWS])
{
	struct activations *a = activations_open(m, ACTIVATIONS_NONE);
	memset(out, 0, ROWS * sizeof *out);
	logprobs_of(m, a, out);
	activations_close(a);
}

static struct config_lora lora(const char *targets)
{
	struct config_lora c = {.r = 4, .alpha = 8};
	snprintf(c.targets, sizeof c.targets, "%s", targets);
	return c;
}

static void test_starts_as_its_base(void **state)
{
	(void)state;
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct shape s = kit_shape(v);
		struct config_lora c = lora("all-linear");
		struct backend *b = kit_backend(2);
		struct model *base = kit_model(b, &s, 1), *m;
		float x[ROWS], y[ROWS];
		struct err e;
		assert_int_equal(adapter_open(&m, base, s.heads_kind, &c, 5, 0, &e), 0);
		logprobs(base, x), logprobs(m, y);
		for (int i = 0; i < ROWS; i++) assert_true(x[i] == y[i]);
		model_close(m), model_close(base);
		backend_close(b);
	}
}

/* A is uniform in ±1/√in, B is zero; other seeds and streams give other numbers. */
static void test_start_of_the_factors(void **state)
{
	(void)state;
	struct shape s = kit_shape(0);
	struct config_lora c = lora("all-linear");
	struct backend *b = kit_backend(1);
	struct model *base = kit_model(b, &s, 1), *m[3];
	struct err e;
	for (int i = 0; i < 3; i++) assert_int_equal(adapter_open(&m[i], base, s.heads_kind, &c, i == 2 ? 6 : 5, i == 1, &e), 0);
	size_t bytes = (size_t)m[0]->learned->floats * sizeof(float);
	float *x = malloc(bytes), *y = malloc(bytes);
	model_get_learned(m[0], x);
	for (int i = 0; i < m[0]->params.count; i++) {
		const struct adapter_slot *slot = &m[0]->adapter->slot[i];
		if (slot->a < 0) continue;
		const struct param *a = &m[0]->learned->list[slot->a], *q = &m[0]->learned->list[slot->b];
		double bound = 1 / sqrt((double)a->cols), sum = 0, square = 0, n = (double)a->size;
		assert_true(slot->scale == 2.0f && a->rows == 4 && a->cols == m[0]->params.list[i].cols && q->rows == m[0]->params.list[i].rows && q->cols == 4);
		for (int64_t j = 0; j < a->size; j++) {
			double w = (double)x[a->offset + j];
			assert_true(fabs(w) <= bound);
			sum += w, square += w * w;
		}
		assert_true(fabs(sum / n) < 4 * bound / sqrt(3 * n) && fabs(square / n / (bound * bound / 3) - 1) < 0.5);
		for (int64_t j = 0; j < q->size; j++) assert_true(x[q->offset + j] == 0.0f);
	}
	for (int i = 1; i < 3; i++) {
		model_get_learned(m[i], y);
		assert_memory_not_equal(x, y, bytes);
	}
	for (int i = 0; i < 3; i++) model_close(m[i]);
	free(x), free(y);
	model_close(base);
	backend_close(b);
}

/* model_get gives one model's weights that stand for base and adapters. */
static void test_sum_is_the_model(void **state)
{
	(void)state;
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct shape s = kit_shape(v);
		struct config_lora c = lora(s.experts ? "all-linear, gate" : "all-linear");
		struct backend *b = kit_backend(1);
		struct model *base = kit_model(b, &s, 1), *m = kit_adapter(base, s.heads_kind, &c, 2), *sum = kit_model(b, &s, 3);
		float x[ROWS], y[ROWS], z[ROWS], *host = malloc((size_t)m->params.floats * sizeof *host);
		memset(host, 0x7f, (size_t)m->params.floats * sizeof *host);
		model_get(m, host);
		const struct param *bias = &m->params.list[m->params.score_bias];
		for (int64_t k = bias->offset + bias->size; k < m->params.floats; k++) assert_true(host[k] == 0.0f); /* hashed with the rest */
		model_put(sum, host);
		logprobs(m, x), logprobs(sum, y), logprobs(base, z);
		double far = 0;
		for (int i = 0; i < ROWS - 1; i++) {
			assert_true(fabs((double)x[i] - (double)y[i]) < 2e-5);
			far = fmax(far, fabs((double)x[i] - (double)z[i]));
		}
		assert_true(far > 1e-2); /* the adapters do something */
		free(host);
		model_close(m), model_close(base), model_close(sum);
		backend_close(b);
	}
}

static void train(struct model *m, struct optimizer *o, int steps)
{
	for (int i = 0; i < steps; i++) {
		float *g = malloc((size_t)m->learned->floats * sizeof *g);
		for (int64_t k = 0; k < m->learned->floats; k++) g[k] = 0;
		for (int q = 0; q < m->learned->count; q++)
			for (int64_t k = 0; k < m->learned->list[q].size; k++) g[m->learned->list[q].offset + k] = kit_weight(60 + (uint32_t)i, m->learned->list[q].offset + k);
		m->ops->upload(m->backend, o->total, g, (size_t)m->learned->floats * sizeof *g);
		optimizer_update(o, 0.01, 1.0);
		free(g);
	}
}

/* Updates leave the base as it is; a state read back goes on to the same bits. */
static void test_only_the_adapters_learn(void **state)
{
	(void)state;
	char path[64];
	struct shape s = kit_shape(0);
	struct config_lora c = lora("q_proj, experts");
	struct config_optim oc = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .schedule = "constant", .adam = "pytorch"};
	struct backend *b = kit_backend(1);
	struct model *base = kit_model(b, &s, 1), *m = kit_adapter(base, s.heads_kind, &c, 2), *n = kit_adapter(base, s.heads_kind, &c, 9);
	struct optimizer *o, *p;
	struct err e;
	float *before = malloc((size_t)base->params.floats * sizeof *before);
	size_t bytes = (size_t)m->learned->floats * sizeof(float);
	snprintf(path, sizeof path, "test_adapter_%d.safetensors", (int)getpid());
	model_get(base, before);
	/* factors of q and of three stacks of experts in each of two layers, score and its bias */
	assert_int_equal(m->learned->count, 2 * 2 * 4 + 2);
	assert_true(m->learned->floats * 3 < base->params.floats);
	assert_int_equal(optimizer_open(&o, m, &oc, 10, &e), 0);
	assert_int_equal(optimizer_open(&p, n, &oc, 10, &e), 0);
	train(m, o, 2);
	assert_memory_not_equal(m->learned_weights, n->learned_weights, bytes);
	assert_memory_equal(base->weights, before, (size_t)base->params.floats * sizeof *before);
	if (training_save(o, path, &e) < 0 || training_load(p, path, &e) < 0) fail_msg("%s", e.msg);
	p->updates = o->updates;
	train(m, o, 2), train(n, p, 2);
	assert_memory_equal(m->learned_weights, n->learned_weights, bytes);
	assert_memory_equal(o->m, p->m, bytes);
	assert_memory_equal(o->v, p->v, bytes);
	assert_memory_equal(base->weights, before, (size_t)base->params.floats * sizeof *before);
	optimizer_close(o), optimizer_close(p);
	/* weights of other adapters are refused by name */
	struct config_lora other = lora("k_proj");
	struct model *k = kit_adapter(base, s.heads_kind, &other, 1);
	assert_int_equal(optimizer_open(&p, k, &oc, 10, &e), 0);
	assert_int_equal(training_load(p, path, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "k_proj.lora_A.weight"));
	optimizer_close(p);
	free(before);
	model_close(k), model_close(n), model_close(m), model_close(base);
	backend_close(b);
	assert_int_equal(unlink(path), 0);
}

/* Dropout is the training pass's alone, differs from sequence number to sequence number, and is off when it is ended. */
static void test_dropout(void **state)
{
	(void)state;
	struct shape s = kit_shape(0);
	struct config_lora c = lora("q_proj, v_proj, o_proj");
	c.dropout = 0.5;
	struct backend *b = kit_backend(2);
	struct model *base = kit_model(b, &s, 1), *m = kit_adapter(base, s.heads_kind, &c, 2);
	struct activations *a = activations_open(m, ACTIVATIONS_KEEP);
	float off[ROWS] = {0}, on[ROWS] = {0}, again[ROWS] = {0};
	logprobs_of(m, a, off);
	model_dropout(a, 1, 40);
	logprobs_of(m, a, on);
	assert_memory_not_equal(on, off, sizeof on);
	logprobs_of(m, a, again);
	assert_memory_equal(on, again, sizeof on);
	model_dropout(a, 1, 42);
	logprobs_of(m, a, again);
	assert_memory_not_equal(on, again, sizeof on);
	model_dropout_end(a);
	logprobs_of(m, a, again);
	assert_memory_equal(off, again, sizeof on);
	activations_close(a);
	model_close(m), model_close(base);
	backend_close(b);
}

static void test_targets(void **state)
{
	(void)state;
	static const struct {
		int variant;
		const char *targets, *whole, *says;
		double dropout;
		int pairs; /* of factors; 0: refused */
	} cases[] = {
		{0, "q_proj, v_proj", "", "", 0.1, 4},
		{0, "self_attn.q_proj", "", "", 0, 2},
		{0, "model.layers.1.*", "", "", 0, 4 + 1 + 3 + 3},
		{0, "experts", "lm_head", "", 0, 6},
		{0, "all-linear", "", "", 0, 2 * (4 + 3 + 3)},
		{0, "q_proj, c_attn", "", "this model has no module c_attn; it has q_proj, k_proj, v_proj, o_proj, gate, gate_proj, up_proj, down_proj, experts", 0, 0},
		{0, "_proj", "", "no module _proj", 0, 0},
		{0, "lm_head", "", "no module lm_head", 0, 0},
		{0, "embed_tokens", "", "no module embed_tokens", 0, 0},
		{0, "experts", "", "set lora.dropout to 0", 0.1, 0},
		{0, "q_proj", "embed_tokens", "lora.modules_to_save: embed_tokens cannot be trained whole", 0, 0},
		{1, "q_proj", "lm_head", "tied to the embedding", 0, 0},
		{4, "query_key_value, dense_h_to_4h", "embed_out", "", 0.1, 4},
		{5, "c_attn", "", "", 0, 2},
		{5, "q_proj", "", "it has c_attn, c_proj, c_fc;", 0, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct shape s = kit_shape(cases[i].variant);
		struct config_lora c = lora(cases[i].targets);
		struct backend *b = kit_backend(1);
		struct model *base = kit_model(b, &s, 1), *m;
		struct err e = {0};
		c.dropout = cases[i].dropout;
		snprintf(c.modules_to_save, sizeof c.modules_to_save, "%s", cases[i].whole);
		int rc = adapter_open(&m, base, s.heads_kind, &c, 1, 0, &e);
		if (cases[i].pairs) {
			if (rc < 0) fail_msg("%s: %s", cases[i].targets, e.msg);
			assert_int_equal(m->learned->count, 2 * cases[i].pairs + 2 + (cases[i].whole[0] != 0));
			model_close(m);
		} else {
			assert_int_equal(rc, ERR_RANGE);
			if (!strstr(e.msg, cases[i].says)) fail_msg("%s: %s", cases[i].targets, e.msg);
		}
		model_close(base);
		backend_close(b);
	}
}

static void test_described_as_peft_does(void **state)
{
	(void)state;
	struct shape s = kit_shape(0);
	s.heads_kind = HEAD_LM;
	struct config_lora c = lora("q_proj, v_proj");
	struct backend *b = kit_backend(1);
	struct model *base = kit_model(b, &s, 1), *m = kit_adapter(base, HEAD_LM, &c, 1);
	char text[128], want[128];
	int64_t n = 2 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4);
	adapter_describe(m, text, sizeof text);
	assert_true(base->params.parameters + n > 10000 && base->params.parameters + n < 100000);
	snprintf(want, sizeof want, "trainable params: %d || all params: %d,%03d || trainable%%: %.4f", (int)n, (int)(base->params.parameters + n) / 1000,
		 (int)(base->params.parameters + n) % 1000, 100.0 * (double)n / (double)(base->params.parameters + n));
	assert_string_equal(text, want);
	model_close(m), model_close(base);
	backend_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_as_its_base), cmocka_unit_test(test_start_of_the_factors), cmocka_unit_test(test_sum_is_the_model),
		cmocka_unit_test(test_only_the_adapters_learn), cmocka_unit_test(test_dropout), cmocka_unit_test(test_targets),
		cmocka_unit_test(test_described_as_peft_does),
	};
	return cmocka_run_group_tests_name("adapter", tests, NULL, NULL);
}
