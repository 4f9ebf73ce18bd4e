/* What a model computes with, in f32 and in bf16: the rounded copy follows what
 * learns, a model that is only held has the rounded values alone, both compute
 * the same bits, and a file read again moves nothing (recorded steps have the
 * addresses). */
#include "model_kit.h"

#include "core/base/fs.h"
#include "core/tensor/bf16.h"
#include "policy/model_file.h"

#include <unistd.h>

enum { ROWS = 20 };

static struct backend *open_backend(const char *precision)
{
	struct backend *b;
	struct err e;
	if (device_kit_open_in(&b, "auto", 2, precision, &e) < 0) fail_msg("%s", e.msg);
	return b;
}

/* What is computed with of a parameter, as floats; to free. */
static float *seen(const struct model *m, int param)
{
	struct tensor t = model_view(m, param);
	const void *const *apart = model_apart(m, param);
	int64_t n = t.rows * t.cols, stack = m->params.list[param].stack, each = n / stack;
	size_t bytes = (size_t)each * dtype_bytes(t.dtype);
	float *x = malloc((size_t)n * sizeof *x);
	char *raw = malloc((size_t)stack * bytes);
	assert_true(x && raw);
	for (int64_t k = 0; k < stack; k++) m->ops->download(m->backend, raw + (size_t)k * bytes, apart ? apart[k] : (const char *)t.data + (size_t)k * bytes, bytes);
	for (int64_t i = 0; i < n; i++) {
		uint16_t half;
		if (t.dtype == DTYPE_F32) memcpy(&x[i], raw + (size_t)i * 4, 4);
		else memcpy(&half, raw + (size_t)i * 2, 2), x[i] = bf16_widen(half);
	}
	free(raw);
	return x;
}

/* Every parameter is as `host`, an arena in f32, rounded where the backend rounds. */
static void expect(const struct model *m, const float *host)
{
	int bf16 = backend_weights(m->backend) == DTYPE_BF16;
	for (int i = 0; i < m->params.count; i++) {
		const struct param *p = &m->params.list[i];
		float *x = seen(m, i);
		assert_int_equal(model_view(m, i).dtype, bf16 && p->cols ? DTYPE_BF16 : DTYPE_F32);
		for (int64_t k = 0; k < p->size; k++) {
			float want = bf16 ? bf16_widen(bf16_round(host[p->offset + k])) : host[p->offset + k];
			if (memcmp(&x[k], &want, 4)) fail_msg("%s[%lld] is %.9g, not %.9g", p->name, (long long)k, (double)x[k], (double)want);
		}
		free(x);
	}
}

static void hidden(const struct model *m, float *out)
{
	struct batch b;
	struct activations *a = activations_open(m, 0);
	int32_t tokens[ROWS + 1];
	kit_tokens(tokens, ROWS + 1, 9);
	batch_open(&b, m->backend);
	batch_reset(&b, 1);
	batch_add(&b, tokens, ROWS, &(uint32_t){1}, 1, BATCH_PROMPT_LOSS, -1, 0, 0);
	batch_upload(&b);
	model_forward(m, a, &b, NULL);
	assert_int_equal(b.outs, ROWS);
	m->ops->download(m->backend, out, model_outs(m, a, &b).data, (size_t)(ROWS * m->shape.width) * 4);
	batch_close(&b);
	activations_close(a);
}

static void test_precision(const char *precision, int variant)
{
	struct backend *b = open_backend(precision);
	struct shape s = kit_shape(variant);
	struct err e;
	char folder[] = "/tmp/tenfold-weights-XXXXXX", path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/model.safetensors", folder);
	struct model *m = kit_model(b, &s, 3), *held;
	float *host = malloc((size_t)m->params.floats * sizeof *host), *back = malloc((size_t)m->params.floats * sizeof *back);
	float *out[2] = {malloc((size_t)(ROWS * s.width) * 4), malloc((size_t)(ROWS * s.width) * 4)};
	assert_true(host && back && out[0] && out[1]);
	model_get(m, host);
	expect(m, host);

	/* as an optimiser leaves it */
	for (int64_t i = 0; i < m->params.floats; i++) host[i] *= 1.01f;
	m->ops->upload(b, m->weights, host, (size_t)m->params.floats * sizeof *host);
	model_changed(m);
	expect(m, host);
	model_get(m, back);
	assert_memory_equal(host, back, (size_t)m->params.floats * sizeof *host);
	if (model_save(m, path, 0, NULL, &e) < 0) fail_msg("%s", e.msg);

	if (model_open_held(&held, b, &s, &e) < 0) fail_msg("%s", e.msg);
	const void *first = model_view(held, held->params.lm_head).data;
	uint64_t taken = backend_allocations(b);
	for (int i = 0; i < 2; i++) {
		if (model_load(held, path, 0, &e) < 0) fail_msg("%s", e.msg);
		expect(held, host);
	}
	if (KIT_ON_DEVICE) {
		assert_ptr_equal(first, model_view(held, held->params.lm_head).data);
		assert_int_equal(backend_allocations(b), taken);
	}
	hidden(m, out[0]);
	hidden(held, out[1]);
	assert_memory_equal(out[0], out[1], (size_t)(ROWS * s.width) * 4);

	/* what is read back of a held model is what it has; one parameter put alone is rounded too */
	model_get_param(held, held->params.norm, back);
	float *x = seen(held, held->params.norm);
	assert_memory_equal(x, back, (size_t)s.width * 4);
	free(x);
	for (int64_t i = 0; i < s.width; i++) host[held->params.list[held->params.norm].offset + i] = back[i] = 1 + (float)i / 1000;
	model_put_param(held, held->params.norm, back);
	model_put_param(m, m->params.norm, back);
	expect(held, host);
	expect(m, host);

	model_close(m), model_close(held);
	free(host), free(back), free(out[0]), free(out[1]);
	fs_remove_tree(folder, &e);
	backend_close(b);
}

static void test_f32(void **state)
{
	(void)state;
	for (int i = 0; i < KIT_VARIANTS; i++) test_precision("f32", i);
}

static void test_bf16(void **state)
{
	(void)state;
	for (int i = 0; i < KIT_VARIANTS; i++) test_precision("bf16", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
	return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
