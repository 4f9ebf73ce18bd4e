/* Weights that lie in memory as bf16: every operation that reads weights gives the
 * same bits as with the same values in f32, in both precisions, with few rows and
 * with many. */
#include "ops_kit.h"

enum { WIDTH = 38, INNER = 22, EXPERTS = 5, CHOSEN = 2, VOCAB = 70 };

/* The same numbers twice; every one of them is a bf16. */
struct stored {
	float *full;
	void *half;
};

static struct stored draw(struct kit *k, int64_t n)
{
	struct array a = kit_random(k, n, 1);
	uint16_t *half = kit_host(k, (size_t)n * 2);
	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &a.h[i], 4);
		bits &= 0xffff0000u;
		memcpy(&a.h[i], &bits, 4);
		half[i] = (uint16_t)(bits >> 16);
	}
	kit_push(k, a);
	struct stored s = {a.d, kit_device(k, (size_t)n * 2)};
	k->ops->upload(k->b, s.half, half, (size_t)n * 2);
	return s;
}

static struct tensor view(struct stored s, int half, int64_t rows, int64_t cols)
{
	return half ? (struct tensor){s.half, DTYPE_BF16, rows, cols} : tensor_f32(s.full, rows, cols);
}

static void same(struct kit *k, struct array x, struct array y, const char *what, int64_t rows)
{
	kit_pull(k, x), kit_pull(k, y);
	for (int64_t i = 0; i < x.n; i++)
		if (memcmp(&x.h[i], &y.h[i], 4)) fail_msg("%s, %lld rows: element %lld is %.9g and %.9g", what, (long long)rows, (long long)i, (double)x.h[i], (double)y.h[i]);
}

static void test_linear(struct kit *k, int64_t rows, int64_t in)
{
	struct stored w = draw(k, INNER * in), table = draw(k, VOCAB * in);
	struct array x = kit_random(k, rows * in, 1), dy = kit_random(k, rows * INNER, 1);
	struct array y[2], dx[2], g[2];
	struct ints ids = kit_ints_below(k, rows, VOCAB);
	for (int i = 0; i < 2; i++) {
		y[i] = kit_nan(k, rows * INNER), dx[i] = kit_nan(k, rows * in), g[i] = kit_nan(k, rows * in);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct linear_args a = {.x = tensor_f32(x.d, rows, in), .w = view(w, i, INNER, in), .y = tensor_f32(y[i].d, rows, INNER),
					.dy = tensor_f32(dy.d, rows, INNER), .dx = tensor_f32(dx[i].d, rows, in)};
		k->ops->linear_forward(k->b, &a);
		k->ops->linear_backward(k->b, &a);
		k->ops->embedding_forward(k->b, view(table, i, VOCAB, in), ids.d, tensor_f32(g[i].d, rows, in));
	}
	same(k, y[0], y[1], "linear", rows);
	same(k, dx[0], dx[1], "linear's dx", rows);
	same(k, g[0], g[1], "embedding", rows);
	kit_clear(k);
}

static void test_head(struct kit *k, int64_t rows)
{
	struct stored w = draw(k, VOCAB * WIDTH);
	struct array x = kit_random(k, rows * WIDTH, 1), dlogprob = kit_random(k, rows, 1), work = kit_nan(k, rows * VOCAB);
	struct array logprob[2], entropy[2], dx[2];
	struct ints target = kit_ints_below(k, rows, VOCAB);
	for (int i = 0; i < 2; i++) {
		logprob[i] = kit_nan(k, rows), entropy[i] = kit_nan(k, rows), dx[i] = kit_nan(k, rows * WIDTH);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct head_args a = {.x = tensor_f32(x.d, rows, WIDTH), .w = view(w, i, VOCAB, WIDTH), .target = target.d, .temperature = 0.9f, .top_p = 1,
				      .logprob = logprob[i].d, .entropy = entropy[i].d, .work = work.d, .work_rows = rows, .dlogprob = dlogprob.d,
				      .dx = tensor_f32(dx[i].d, rows, WIDTH)};
		k->ops->head_forward(k->b, &a);
		k->ops->head_backward(k->b, &a);
	}
	same(k, logprob[0], logprob[1], "log-probabilities", rows);
	same(k, dx[0], dx[1], "the head's dx", rows);
	kit_clear(k);
}

static void test_experts(struct kit *k, int64_t rows)
{
	struct stored gate = draw(k, EXPERTS * INNER * WIDTH), up = draw(k, EXPERTS * INNER * WIDTH), down = draw(k, EXPERTS * WIDTH * INNER);
	struct array x = kit_random(k, rows * WIDTH, 1), weight = kit_random(k, rows * CHOSEN, 1), out[2], dx[2], dweight[2];
	struct array g = kit_nan(k, rows * CHOSEN * INNER), u = kit_nan(k, rows * CHOSEN * INNER), work = kit_nan(k, rows * CHOSEN * (WIDTH + 3 * INNER));
	struct array dout = kit_random(k, rows * WIDTH, 1);
	struct ints expert = kit_ints(k, rows * CHOSEN), order = kit_ints(k, 3 * rows * CHOSEN), offset = kit_ints(k, EXPERTS + 1);
	for (int64_t i = 0; i < rows * CHOSEN; i++) expert.h[i] = (int32_t)((i / CHOSEN * 3 + i % CHOSEN) % EXPERTS);
	kit_push_ints(k, expert);
	for (int i = 0; i < 2; i++) {
		out[i] = kit_nan(k, rows * WIDTH), dx[i] = kit_nan(k, rows * WIDTH), dweight[i] = kit_nan(k, rows * CHOSEN);
		k->ops->zero(k->b, out[i].d, (size_t)out[i].n * 4);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct experts_args a = {.x = tensor_f32(x.d, rows, WIDTH), .experts = EXPERTS, .chosen = CHOSEN, .expert = expert.d, .weight = weight.d,
					 .gate = view(gate, i, EXPERTS * INNER, WIDTH), .up = view(up, i, EXPERTS * INNER, WIDTH),
					 .down = view(down, i, EXPERTS * WIDTH, INNER), .out = tensor_f32(out[i].d, rows, WIDTH), .order = order.d, .offset = offset.d,
					 .g = tensor_f32(g.d, rows * CHOSEN, INNER), .u = tensor_f32(u.d, rows * CHOSEN, INNER),
					 .work = tensor_f32(work.d, rows * CHOSEN, WIDTH + 3 * INNER), .dout = tensor_f32(dout.d, rows, WIDTH),
					 .dx = tensor_f32(dx[i].d, rows, WIDTH), .dweight = dweight[i].d};
		k->ops->experts_forward(k->b, &a);
		k->ops->experts_backward(k->b, &a);
	}
	same(k, out[0], out[1], "experts", rows);
	same(k, dx[0], dx[1], "the experts' dx", rows);
	same(k, dweight[0], dweight[1], "the router's gradient", rows);
	kit_clear(k);
}

static void test_as_f32(void **state)
{
	(void)state;
	static const char *const precision[] = {"f32", "bf16"};
	for (int i = 0; i < 2; i++) {
		struct kit k;
		struct err e;
		memset(&k, 0, sizeof k);
		if (device_kit_open_in(&k.b, "auto", 1, precision[i], &e) < 0) fail_msg("%s", e.msg);
		k.ops = backend_ops(k.b);
		for (int64_t rows = 3; rows <= 90; rows += 87) {
			test_linear(&k, rows, WIDTH);
			test_linear(&k, rows, 33); /* rows that begin at odd places */
			test_head(&k, rows);
			test_experts(&k, 4 * rows);
		}
		kit_close(&k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_f32)};
	return cmocka_run_group_tests_name("stored", tests, NULL, NULL);
}
