/* Model files: what is written comes back to the bit under the names other
 * programs know, and what does not fit is refused by name with the model as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "policy/model_file.h"
#include "policy/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/tenfold-model-file-XXXXXX";
static char path[128];
static struct backend *backend;
static struct err err;

static const struct shape small = {.vocab = 23, .width = 16, .layers = 3, .heads = 4, .kv_heads = 2, .head_dim = 6, .value_dim = 8, .experts = 5,
				   .chosen = 2, .expert_width = 7, .shared_width = 9, .dense_layers = 1, .dense_width = 11, .router = ROUTER_SIGMOID,
				   .router_normalize = 1, .router_bias = 1, .router_scale = 1, .rope_theta = 10000, .norm_eps = 1e-6, .init_std = 0.05,
				   .qk_norm = 1, .max_positions = 64, .heads_kind = HEAD_LM};

#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		if ((call) < 0) fail_msg("%s: %s", #call, err.msg);                                                    \
	} while (0)
#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder)) return -1;
	snprintf(path, sizeof path, "%s/model.safetensors", folder);
	return backend_open(&backend, &(struct backend_options){.device = "cpu", .isa = "auto", .threads = 1}, &err);
}

static int teardown(void **state)
{
	(void)state;
	backend_close(backend);
	return fs_remove_tree(folder, &err);
}

static struct model *make(const struct shape *s, uint64_t seed)
{
	struct model *m;
	assert_ok(model_open(&m, backend, s, &err));
	if (seed) model_init(m, seed);
	return m;
}

static float *values(const struct model *m)
{
	float *host = malloc((size_t)m->params.floats * sizeof *host);
	assert_non_null(host);
	model_get(m, host);
	return host;
}

static int same(const struct model *a, const struct model *b)
{
	float *x = values(a), *y = values(b);
	int equal = a->params.floats == b->params.floats && !memcmp(x, y, (size_t)a->params.floats * sizeof *x);
	free(x);
	free(y);
	return equal;
}

static void comes_back_to_the_bit(void **state)
{
	(void)state;
	char first[HASH_HEX], again[HASH_HEX];
	struct shape both = small;
	both.heads_kind = HEAD_LM | HEAD_SCALAR;
	struct model *a = make(&both, 3), *b = make(&both, 4);
	assert_ok(model_save(a, path, 1, first, &err));
	assert_false(same(a, b));
	assert_ok(model_load(b, path, 0, &err));
	assert_true(same(a, b));
	assert_ok(model_save(b, path, 0, again, &err));
	assert_string_equal(first, again);
	struct fs_map map;
	assert_ok(fs_map_open(&map, path, &err));
	hash_bytes(map.data, map.bytes, again);
	fs_map_close(&map);
	assert_string_equal(first, again);
	model_close(a);
	model_close(b);
}

static void experts_have_their_own_names(void **state)
{
	(void)state;
	struct safetensors *s;
	struct shape both = small;
	both.heads_kind = HEAD_LM | HEAD_SCALAR;
	struct model *a = make(&both, 5);
	float *host = values(a);
	assert_ok(model_save(a, path, 0, NULL, &err));
	assert_ok(safetensors_open(&s, path, &err));
	int64_t up[2] = {7, 16}, norm[1] = {16}, score[2] = {1, 16}, one[1] = {1};
	const struct safetensors_tensor *t;
	assert_ok(safetensors_expect(s, "model.layers.2.mlp.experts.3.up_proj.weight", 2, up, &t, &err));
	const struct param *q = &a->params.list[a->params.layer[2].up];
	assert_memory_equal(t->data, host + q->offset + (ptrdiff_t)3 * 7 * 16, sizeof(float) * 7 * 16);
	assert_ok(safetensors_expect(s, "model.norm.weight", 1, norm, &t, &err));
	assert_ok(safetensors_expect(s, "score.weight", 2, score, &t, &err));
	assert_ok(safetensors_expect(s, "score.bias", 1, one, &t, &err));
	/* per layer: 8 of attention; dense 3; or router, bias, 3 experts' matrices, 3 shared */
	assert_int_equal(safetensors_count(s), 1 + 3 * 8 + 3 + 2 * (2 + 15 + 3) + 1 + 1 + 2);
	safetensors_close(s);
	free(host);
	model_close(a);
}

static void one_expert_has_number_0(void **state)
{
	(void)state;
	struct safetensors *s;
	struct shape one = small;
	one.experts = one.chosen = 1;
	struct model *a = make(&one, 5), *b = make(&one, 0);
	assert_ok(model_save(a, path, 0, NULL, &err));
	assert_ok(safetensors_open(&s, path, &err));
	assert_non_null(safetensors_find(s, "model.layers.1.mlp.experts.0.down_proj.weight"));
	safetensors_close(s);
	assert_ok(model_load(b, path, 0, &err));
	assert_true(same(a, b));
	model_close(a);
	model_close(b);
}

static void heads_may_differ_when_asked(void **state)
{
	(void)state;
	struct shape critic_shape = small;
	critic_shape.heads_kind = HEAD_SCALAR;
	struct model *policy = make(&small, 6), *critic = make(&critic_shape, 7);
	float *before = values(critic);
	assert_ok(model_save(policy, path, 0, NULL, &err));
	assert_int_equal(model_load(critic, path, 0, &err), ERR_NOT_FOUND);
	assert_said("score.weight, score.bias");
	assert_int_equal(model_load(critic, path, MODEL_FILE_KEEP_HEADS, &err), ERR_MISMATCH);
	assert_said("lm_head.weight");
	assert_int_equal(model_load(critic, path, MODEL_FILE_SKIP_HEADS, &err), ERR_NOT_FOUND);
	float *after = values(critic);
	assert_memory_equal(before, after, (size_t)critic->params.floats * sizeof *before);
	free(after);
	assert_ok(model_load(critic, path, MODEL_FILE_KEEP_HEADS | MODEL_FILE_SKIP_HEADS, &err));
	after = values(critic);
	float *wanted = values(policy);
	const struct params *c = &critic->params, *p = &policy->params;
	assert_memory_equal(after + c->list[c->norm].offset, wanted + p->list[p->norm].offset, 16 * sizeof(float));
	assert_memory_equal(after + c->list[c->score].offset, before + c->list[c->score].offset, 16 * sizeof(float));
	free(before);
	free(after);
	free(wanted);
	model_close(policy);
	model_close(critic);
}

static void other_shapes_are_refused(void **state)
{
	(void)state;
	struct shape more = small, wide = small;
	more.experts = 6;
	wide.expert_width = 8;
	struct model *a = make(&small, 8), *b = make(&more, 9), *c = make(&wide, 9), *d = make(&more, 9);
	assert_ok(model_save(a, path, 0, NULL, &err));
	assert_int_equal(model_load(b, path, 0, &err), ERR_MISMATCH); /* the router's shape comes first */
	assert_said("mlp.gate.weight");
	assert_int_equal(model_load(c, path, 0, &err), ERR_MISMATCH);
	assert_said("experts.0.gate_proj.weight");
	assert_true(same(b, d));
	assert_int_equal(model_load(a, "/tmp/tenfold-no-such-file", 0, &err), ERR_NOT_FOUND);
	model_close(a);
	model_close(b);
	model_close(c);
	model_close(d);
}

static void too_many_tensors_are_refused(void **state)
{
	(void)state;
	struct shape less = small;
	less.layers = 2;
	struct model *a = make(&small, 8), *b = make(&less, 9);
	assert_ok(model_save(a, path, 0, NULL, &err));
	assert_int_equal(model_load(b, path, 0, &err), ERR_MISMATCH);
	assert_said("has 28 tensors that this model lacks");
	assert_said("model.layers.2.");
	assert_int_equal(model_load(b, path, MODEL_FILE_SKIP_HEADS, &err), ERR_MISMATCH); /* a layer is no head */
	model_close(a);
	model_close(b);
}

/* Writes model a with every tensor in another type. */
static void save_as(const struct model *a, enum safetensors_dtype dtype)
{
	struct safetensors *s;
	assert_ok(model_save(a, path, 0, NULL, &err));
	assert_ok(safetensors_open(&s, path, &err));
	size_t n = safetensors_count(s);
	struct safetensors_entry *entry = calloc(n, sizeof *entry);
	uint16_t *half = calloc((size_t)a->params.parameters * 4, sizeof *half);
	size_t at = 0, width = safetensors_dtype_bytes(dtype) / 2;
	for (size_t i = 0; i < n; i++) {
		const struct safetensors_tensor *t = safetensors_at(s, i);
		entry[i] = (struct safetensors_entry){.name = t->name, .dtype = dtype, .ndim = t->ndim, .data = half + at};
		memcpy(entry[i].shape, t->shape, sizeof t->shape);
		for (size_t k = 0; k < (size_t)t->elements && width == 1; k++) memcpy(&half[at + k], t->data + 4 * k + 2, 2); /* f32's upper half */
		at += (size_t)t->elements * width;
	}
	char other[160];
	snprintf(other, sizeof other, "%s/other.safetensors", folder);
	assert_ok(safetensors_write(other, entry, n, NULL, 0, 0, NULL, &err));
	safetensors_close(s);
	assert_int_equal(rename(other, path), 0);
	free(half);
	free(entry);
}

static void bf16_is_widened_and_f64_refused(void **state)
{
	(void)state;
	struct model *a = make(&small, 10), *b = make(&small, 11);
	save_as(a, SAFETENSORS_BF16);
	assert_ok(model_load(b, path, 0, &err));
	float *x = values(a), *y = values(b);
	for (int i = 0; i < a->params.count; i++) {
		const struct param *q = &a->params.list[i];
		for (int64_t k = q->offset; k < q->offset + q->size; k++) {
			uint32_t bits;
			memcpy(&bits, &x[k], 4);
			bits &= 0xffff0000u;
			assert_memory_equal(&bits, &y[k], 4);
		}
	}
	save_as(a, SAFETENSORS_F64);
	assert_int_equal(model_load(b, path, 0, &err), ERR_FORMAT);
	assert_said("has type F64");
	free(x);
	free(y);
	model_close(a);
	model_close(b);
}

static void moments_share_a_file(void **state)
{
	(void)state;
	struct model *a = make(&small, 12), *b = make(&small, 13);
	size_t n = (size_t)a->params.floats;
	float *m = values(a), *v = values(b), *m2 = calloc(n, sizeof *m2), *v2 = calloc(n, sizeof *v2);
	struct params_arena out[2] = {{"exp_avg.", m}, {"exp_avg_sq.", v}}, in[2] = {{"exp_avg.", m2}, {"exp_avg_sq.", v2}};
	assert_ok(params_save(&a->params, out, 2, path, 0, NULL, &err));
	assert_ok(params_load(&a->params, in, 2, path, 0, &err));
	assert_memory_equal(m, m2, n * sizeof *m);
	assert_memory_equal(v, v2, n * sizeof *v);
	assert_int_equal(params_load(&a->params, in, 1, path, 0, &err), ERR_MISMATCH);
	assert_said("exp_avg_sq.");
	assert_int_equal(model_load(a, path, 0, &err), ERR_NOT_FOUND);
	free(m);
	free(v);
	free(m2);
	free(v2);
	model_close(a);
	model_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_to_the_bit),       cmocka_unit_test(experts_have_their_own_names),
		cmocka_unit_test(one_expert_has_number_0),     cmocka_unit_test(heads_may_differ_when_asked),
		cmocka_unit_test(other_shapes_are_refused),    cmocka_unit_test(too_many_tensors_are_refused),
		cmocka_unit_test(bf16_is_widened_and_f64_refused), cmocka_unit_test(moments_share_a_file),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
