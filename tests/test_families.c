/* The families against `transformers`: for each fixture of tests/golden/models
 * (made by models.py beside them) logits, loss, gradients of the mean cross
 * entropy, the routers' auxiliary loss and a greedy continuation; what is written
 * reads back to the bit; what cannot be honoured is refused by name.
 *
 * Logits within 1e-5 of the greatest of the fixture, gradients within 1e-4 of
 * their tensor's greatest: both sides compute in f32, in other orders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "policy/generate.h"
#include "policy/model_folder.h"
#include "policy/model_pieces.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const fixtures[] = {"olmoe", "llama", "gpt2", "gpt_neox", "gpt_neox_serial", "mixtral", "qwen3_moe", "deepseek", "deepseek_v2",
				       "deepseek_v2_q"};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures, SEQUENCES = 2, LENGTH = 20, PROMPT = 5, NEW = 32 };

static struct backend *backend;
static struct err err;

#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		if ((call) < 0) fail_msg("%s: %s", #call, err.msg);                                                    \
	} while (0)
#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

static void fixture_path(char out[512], const char *name, const char *file)
{
	snprintf(out, 512, "%s/tests/golden/models/%s/%s", TENFOLD_SOURCE, name, file);
}

struct golden {
	struct safetensors *s;
	struct model *m;
	struct activations *a;
	struct batch b;
	const char *name;
};

static const void *golden_data(const struct golden *g, const char *name)
{
	const struct safetensors_tensor *t = safetensors_find(g->s, name);
	if (!t) fail_msg("%s: the fixture has no %s", g->name, name);
	return t->data;
}

static void golden_open(struct golden *g, const char *name)
{
	char path[512];
	memset(g, 0, sizeof *g);
	g->name = name;
	fixture_path(path, name, "golden.safetensors");
	assert_ok(safetensors_open(&g->s, path, &err));
	fixture_path(path, name, "");
	assert_ok(model_folder_open(&g->m, path, backend, HEAD_LM, &err));
	g->a = activations_open(g->m, 1);
	batch_open(&g->b, backend);
	batch_reset(&g->b, 1);
	const int32_t *tokens = golden_data(g, "tokens");
	uint32_t length = LENGTH - 1;
	for (int i = 0; i < SEQUENCES; i++) batch_add(&g->b, tokens + (ptrdiff_t)i * LENGTH, 1, &length, 1, 0, -1, 0, LENGTH + 1);
	batch_upload(&g->b);
	assert_int_equal(g->b.outs, SEQUENCES * LENGTH);
	model_forward(g->m, g->a, &g->b, NULL);
}

static void golden_close(struct golden *g)
{
	batch_close(&g->b);
	activations_close(g->a);
	model_close(g->m);
	safetensors_close(g->s);
}

/* Largest difference in multiples of the largest element wanted. */
static double distance(const float *got, const float *want, int64_t n)
{
	double most = 0, scale = 0;
	for (int64_t i = 0; i < n; i++) {
		double d = fabs((double)got[i] - (double)want[i]);
		most = isnan(d) ? INFINITY : fmax(most, d);
		scale = fmax(scale, fabs((double)want[i]));
	}
	return most / scale;
}

static void test_logits(void **state)
{
	(void)state;
	for (int f = 0; f < FIXTURES; f++) {
		struct golden g;
		golden_open(&g, fixtures[f]);
		int64_t n = g.b.outs * g.m->shape.vocab;
		float *logits = malloc((size_t)n * sizeof *logits);
		model_logits(g.m, g.a, &g.b, logits);
		double d = distance(logits, golden_data(&g, "logits"), n);
		print_message("%s: logits differ by %.2g\n", fixtures[f], d);
		if (!(d <= 1e-5)) fail_msg("%s: logits differ by %g of the greatest", fixtures[f], d);
		logits[7] += 3e-5f * fabsf(logits[7]) + 1e-3f; /* the comparison sees a small error */
		assert_true(distance(logits, golden_data(&g, "logits"), n) > 1e-5);
		if (safetensors_find(g.s, "aux_loss")) {
			double loss = model_router_loss(g.m, g.a, &g.b), want = (double)*(const float *)golden_data(&g, "aux_loss");
			if (fabs(loss - want) > 1e-5 * want) fail_msg("%s: auxiliary loss %.7g, transformers has %.7g", fixtures[f], loss, want);
		}
		free(logits);
		golden_close(&g);
	}
}

/* Gradients of the mean cross entropy, for the tensors that the fixture keeps, under their names on disk. */
static void test_gradients(void **state)
{
	(void)state;
	for (int f = 0; f < FIXTURES; f++) {
		struct golden g;
		struct pieces all;
		struct sampling sampling = {1, 1, 0};
		float logprob[SEQUENCES * LENGTH], dlogprob[SEQUENCES * LENGTH];
		double loss = 0;
		int found = 0;
		golden_open(&g, fixtures[f]);
		model_logprobs(g.m, g.a, &g.b, &sampling, logprob, NULL);
		for (int64_t i = 0; i < g.b.outs; i++) {
			int counts = g.b.host.target[i] >= 0;
			dlogprob[i] = counts ? -1.0f / (SEQUENCES * (LENGTH - 1)) : 0;
			if (counts) loss -= (double)logprob[i] / (SEQUENCES * (LENGTH - 1));
		}
		double want = (double)*(const float *)golden_data(&g, "loss");
		if (fabs(loss - want) > 1e-5 * want) fail_msg("%s: loss %.7g, transformers has %.7g", fixtures[f], loss, want);
		size_t bytes = (size_t)(g.m->params.floats + g.m->params.apart) * sizeof(float);
		float *grads = g.m->ops->alloc(backend, bytes), *host = malloc(bytes);
		model_backward(g.m, g.a, &g.b, &sampling, &(struct model_loss){.dlogprob = dlogprob}, grads);
		model_join(g.m, grads);
		g.m->ops->download(backend, host, grads, bytes);
		pieces_make(&all, &g.m->params, &(struct params_arena){"grad.", host}, 1);
		for (size_t i = 0; i < all.count; i++) {
			const struct piece *x = &all.list[i];
			const struct safetensors_tensor *t = safetensors_find(g.s, x->name);
			if (!t) continue;
			int64_t cols = x->ndim == 2 ? x->shape[1] : 1;
			float *flat = malloc((size_t)t->elements * sizeof *flat);
			assert_int_equal(t->elements, x->shape[0] * cols);
			for (int64_t r = 0; r < x->shape[0]; r++)
				for (int64_t c = 0; c < cols; c++) flat[r * cols + c] = x->turned ? x->data[c * x->shape[0] + r] : x->data[r * cols + c];
			double d = distance(flat, (const float *)(const void *)t->data, t->elements);
			if (!(d <= 1e-4)) fail_msg("%s: %s differs by %g of its greatest", fixtures[f], x->name, d);
			found++;
			free(flat);
		}
		size_t kept = 0;
		for (size_t i = 0; i < safetensors_count(g.s); i++) kept += !strncmp(safetensors_at(g.s, i)->name, "grad.", 5);
		assert_true(found == (int)kept && found >= 2);
		free(all.list);
		free(host);
		g.m->ops->release(backend, grads);
		golden_close(&g);
	}
}

static int take_tokens(void *arg, const struct group *group, struct err *e)
{
	(void)e;
	memcpy(arg, group->tokens, (size_t)(group->prompt_tokens + group->length[0]) * sizeof(int32_t));
	return 0;
}

static void test_greedy_continuations(void **state)
{
	(void)state;
	for (int f = 0; f < FIXTURES; f++) {
		struct golden g;
		struct generator *gen;
		int32_t line[PROMPT + NEW] = {0};
		golden_open(&g, fixtures[f]);
		const int32_t *want = golden_data(&g, "continuation");
		struct generate_options o = {.completions = 1, .max_new = NEW, .max_prompt = PROMPT, .batch_groups = 1, .sampling = {0, 1, 0}, .end_token = -1,
					     .purpose = RNG_EVAL};
		assert_ok(generator_open(&gen, g.m, &o, &err));
		struct generate_request r = {.tokens = want, .prompt_tokens = PROMPT};
		assert_ok(generator_run(gen, &r, 1, 0, take_tokens, line, NULL, &err));
		for (int i = 0; i < PROMPT + NEW; i++)
			if (line[i] != want[i]) fail_msg("%s: token %d is %d, transformers has %d", fixtures[f], i, line[i], want[i]);
		generator_close(gen);
		golden_close(&g);
	}
}

/* Written in the family's layout and read again: the same weights, the same shape. */
static void test_round_trip(void **state)
{
	(void)state;
	char folder[] = "/tmp/tenfold-families-XXXXXX", path[512];
	assert_non_null(mkdtemp(folder));
	for (int f = 0; f < FIXTURES; f++) {
		struct model *a, *b;
		fixture_path(path, fixtures[f], "");
		assert_ok(model_folder_open(&a, path, backend, HEAD_LM, &err));
		assert_ok(model_folder_write(folder, a, NULL, &err));
		assert_ok(model_folder_open(&b, folder, backend, HEAD_LM, &err));
		struct shape x = a->shape, y = b->shape;
		if (memcmp(&x, &y, sizeof x)) fail_msg("%s: another shape is read back", fixtures[f]);
		/* no rank is null in config.json: to transformers 0 would be a rank */
		if (x.qkv == QKV_LATENT) {
			char *text;
			size_t bytes;
			snprintf(path, sizeof path, "%s/config.json", folder);
			assert_ok(fs_read(path, 1 << 20, &text, &bytes, &err));
			assert_true(!strstr(text, "\"q_lora_rank\": null") == (x.query_rank > 0));
			free(text);
		}
		assert_int_equal(a->params.floats, b->params.floats);
		assert_memory_equal(a->weights, b->weights, (size_t)a->params.floats * sizeof(float));
		model_close(a);
		model_close(b);
	}
	assert_ok(fs_remove_tree(folder, &err));
}

/* ---- scalar heads ---- */

static void scores_of(struct model *m, const int32_t *tokens, float *scores)
{
	struct activations *a = activations_open(m, 0);
	struct batch b;
	uint32_t length = LENGTH - 1;
	batch_open(&b, backend);
	batch_reset(&b, 1);
	for (int i = 0; i < SEQUENCES; i++) batch_add(&b, tokens + (ptrdiff_t)i * LENGTH, 1, &length, 1, BATCH_LAST, -1, 0, 0);
	batch_upload(&b);
	assert_int_equal(b.outs, SEQUENCES);
	model_forward(m, a, &b, NULL);
	model_scalars(m, a, &b, scores);
	batch_close(&b);
	activations_close(a);
}

static size_t count_named(const char *folder, const char *name)
{
	struct safetensors *s;
	assert_ok(safetensors_open_folder(&s, folder, &err));
	size_t n = safetensors_find(s, name) != NULL;
	safetensors_close(s);
	return n;
}

/* ...ForSequenceClassification with one label, read and written: no score.bias in either. */
static void test_classifiers(void **state)
{
	(void)state;
	static const char *const names[] = {"gpt2_reward", "qwen3_moe_reward"};
	char folder[] = "/tmp/tenfold-families-XXXXXX", path[512];
	assert_non_null(mkdtemp(folder));
	for (int i = 0; i < 2; i++) {
		struct safetensors *golden;
		struct model *m;
		float scores[SEQUENCES];
		fixture_path(path, names[i], "golden.safetensors");
		assert_ok(safetensors_open(&golden, path, &err));
		const int32_t *tokens = (const int32_t *)(const void *)safetensors_find(golden, "tokens")->data;
		const float *want = (const float *)(const void *)safetensors_find(golden, "scores")->data;
		fixture_path(path, names[i], "");
		for (int again = 0; again < 2; again++) {
			struct shape s;
			assert_ok(model_folder_shape(path, &s, &err));
			assert_int_equal(s.heads_kind, HEAD_SCALAR);
			assert_ok(model_folder_open(&m, path, backend, HEAD_SCALAR, &err));
			scores_of(m, tokens, scores);
			if (!(distance(scores, want, SEQUENCES) <= 1e-5)) fail_msg("%s: scores %g %g, transformers has %g %g", names[i], (double)scores[0], (double)scores[1],
										  (double)want[0], (double)want[1]);
			if (!again) assert_ok(model_folder_write(folder, m, NULL, &err));
			model_close(m);
			assert_int_equal(count_named(path, "score.weight"), 1);
			assert_int_equal(count_named(path, "score.bias"), 0);
			snprintf(path, sizeof path, "%s", folder);
		}
		safetensors_close(golden);
	}
	assert_ok(fs_remove_tree(folder, &err));
}

/* TRL's value head beside a language model becomes a critic's head, and the other way. */
static void test_value_heads(void **state)
{
	(void)state;
	char folder[] = "/tmp/tenfold-families-XXXXXX", path[512];
	struct model *both, *critic;
	float one[SEQUENCES], other[SEQUENCES];
	int32_t tokens[SEQUENCES * LENGTH];
	assert_non_null(mkdtemp(folder));
	for (int i = 0; i < SEQUENCES * LENGTH; i++) tokens[i] = 1 + i * 7 % 90;
	fixture_path(path, "olmoe", "");
	assert_ok(model_folder_open(&both, path, backend, HEAD_LM | HEAD_SCALAR, &err));
	const struct params *p = &both->params;
	assert_string_equal(p->list[p->score].name, "v_head.summary.weight");
	for (int64_t i = 0; i < p->list[p->score].size; i++) both->weights[p->list[p->score].offset + i] = 0.1f * (float)(i % 5) - 0.2f;
	both->weights[p->list[p->score_bias].offset] = 0.75f;
	model_changed(both);
	assert_ok(model_folder_write(folder, both, NULL, &err));
	assert_int_equal(count_named(folder, "v_head.summary.bias"), 1);
	assert_ok(model_folder_open(&critic, folder, backend, HEAD_SCALAR, &err));
	scores_of(both, tokens, one);
	scores_of(critic, tokens, other);
	assert_true(one[0] != one[1]);
	assert_memory_equal(one, other, sizeof one);
	model_close(both);
	model_close(critic);
	assert_ok(fs_remove_tree(folder, &err));
}

/* ---- refusals ---- */

static const struct {
	const char *fixture, *from, *to, *says;
} refusals[] = {
	{"olmoe", "\"clip_qkv\": null", "\"clip_qkv\": 8.0", "clip_qkv is 8.0; only null"},
	{"olmoe", "\"model_type\": \"olmoe\"", "\"model_type\": \"olmoe2\"", "model_type olmoe2 is not known"},
	{"olmoe", "\"use_cache\": true", "\"logit_scale\": 0.5", "the key logit_scale is not known for olmoe"},
	{"olmoe", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 20", "experts_per_token 20"},
	{"olmoe", "\"intermediate_size\": 24", "\"intermediate_size\": 28", "gate_proj.weight has shape [24,32], [28,32] is needed"},
	{"olmoe", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "tensors that this model lacks"},
	{"olmoe", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "lacks 27 tensors of this model"},
	{"llama", "\"rope_type\": \"llama3\"", "\"rope_type\": \"longrope\"", "type longrope is not supported"},
	{"llama", "\"low_freq_factor\"", "\"short_factor\"", "part short_factor"},
	{"llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", "hidden_act is \"relu\"; only \"silu\""},
	{"gpt2", "\"scale_attn_by_inverse_layer_idx\": false", "\"scale_attn_by_inverse_layer_idx\": true", "scale_attn_by_inverse_layer_idx is true"},
	{"gpt2", "\"activation_function\": \"gelu_new\"", "\"activation_function\": \"relu\"", "activation_function \"relu\" is not supported"},
	{"mixtral", "\"sliding_window\": null", "\"sliding_window\": 16", "sliding_window 16 is not supported"},
	{"qwen3_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2", "decoder_sparse_step is 2"},
	{"qwen3_moe", "\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window is true"},
	{"deepseek", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 2", "moe_layer_freq is 2"},
	{"deepseek_v2", "\"topk_method\": \"greedy\"", "\"topk_method\": \"group_limited_greedy\"", "topk_method is \"group_limited_greedy\""},
};

static void test_refusals(void **state)
{
	(void)state;
	char folder[] = "/tmp/tenfold-families-XXXXXX", path[512], *text, command[1200];
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
		struct model *m;
		size_t bytes;
		fixture_path(path, refusals[i].fixture, "");
		snprintf(command, sizeof command, "rm -f %s/* && cp %s* %s/", folder, path, folder);
		assert_int_equal(system(command), 0);
		snprintf(path, sizeof path, "%s/config.json", folder);
		assert_ok(fs_read(path, 1 << 20, &text, &bytes, &err));
		const char *at = strstr(text, refusals[i].from);
		if (!at) fail_msg("%s has no %s", refusals[i].fixture, refusals[i].from);
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		fprintf(f, "%.*s%s%s", (int)(at - text), text, refusals[i].to, at + strlen(refusals[i].from));
		assert_int_equal(fclose(f), 0);
		free(text);
		snprintf(command, sizeof command, "rm -f %s/golden.safetensors", folder);
		assert_int_equal(system(command), 0);
		assert_true(model_folder_open(&m, folder, backend, HEAD_LM, &err) < 0);
		assert_said(refusals[i].says);
		model_close(m);
	}
	assert_ok(fs_remove_tree(folder, &err));
}

static int setup(void **state)
{
	(void)state;
	return backend_open(&backend, &(struct backend_options){.device = "cpu", .isa = "auto", .threads = 1}, &err);
}

static int teardown(void **state)
{
	(void)state;
	backend_close(backend);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logits), cmocka_unit_test(test_gradients), cmocka_unit_test(test_greedy_continuations),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_classifiers), cmocka_unit_test(test_value_heads),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests_name("families", tests, setup, teardown);
}
