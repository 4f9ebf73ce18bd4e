/* Products in bf16: against the reference in double over the same rounded inputs,
 * bits that do not depend on the number of rows, and experts and the vocabulary,
 * whose inner results are rounded too, near their f32 values.
 *
 * The tolerance is that of f32 on the CPU, where products of bf16 are exact and
 * sums f32, and 1e-4 on a GPU, which need not add the sixteen products of an
 * instruction exactly. Only the CPU takes weights that are bf16 already, as they
 * lie: their bits are those of the same numbers in f32, in either precision. */
#include "tests/ops_kit.h"
#include "tests/ops_linear.h"
#include "tests/ops_reference.h"

#if KIT_ON_DEVICE
#define TOLERANCE 1e-4
#else
#define TOLERANCE KIT_TOLERANCE
#endif

static void test_linear(void **state)
{
	struct kit *k = *state;
	for (int a = 0; a < KIT_SIZES; a++)
		for (int b = 0; b < KIT_SIZES; b++)
			for (int c = 0; c < KIT_SIZES; c++) linear_case(k, kit_sizes[a], kit_sizes[b], kit_sizes[c], (a + b + c) % 4);
	linear_case(k, 3, 300, 40, 0);
	linear_case(k, 300, 7, 33, 1);
}

/* Unrounded inputs must not give the f32 result: the rounding is there. */
static void test_rounds(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 17 * 33, 1), w = kit_random(k, 9 * 33, 1), y = kit_nan(k, 17 * 9);
	struct linear_args a = {.x = tensor_f32(x.d, 17, 33), .w = tensor_f32(w.d, 9, 33), .y = tensor_f32(y.d, 17, 9)};
	double *want = kit_doubles(k, 17 * 9);
	ref_linear(kit_widen(k, x), kit_widen(k, w), want, 17, 33, 9);
	k->ops->linear_forward(k->b, &a);
	kit_pull(k, y);
	double error = kit_error(y.h, NULL, want, y.n, 0);
	assert_true(error > 5e-4 && error < 1e-2);
	kit_clear(k);
}

/* A row alone, in a small tile, among many in a wide one. */
static void test_rows_alone(void **state)
{
	struct kit *k = *state;
	enum { T = 150, IN = 75, OUT = 45 };
	struct array x = kit_random(k, T * IN, 1), w = kit_random(k, OUT * IN, 1), y = kit_nan(k, T * OUT), z = kit_nan(k, T * OUT);
	struct array dy = kit_random(k, T * OUT, 1), dx = kit_random(k, T * IN, 0), dz = kit_random(k, T * IN, 0);
	struct linear_args a = {.x = tensor_f32(x.d, T, IN), .w = tensor_f32(w.d, OUT, IN), .y = tensor_f32(y.d, T, OUT), .dy = tensor_f32(dy.d, T, OUT),
				.dx = tensor_f32(dx.d, T, IN)};
	k->ops->linear_forward(k->b, &a);
	k->ops->linear_backward(k->b, &a);
	for (int64_t at = 0, n = 1; at < T; at += n, n = n % 20 + 3) {
		n = n < T - at ? n : T - at;
		struct linear_args p = {.x = tensor_f32(x.d + at * IN, n, IN), .w = a.w, .y = tensor_f32(z.d + at * OUT, n, OUT), .dy = tensor_f32(dy.d + at * OUT, n, OUT),
					.dx = tensor_f32(dz.d + at * IN, n, IN)};
		k->ops->linear_forward(k->b, &p);
		k->ops->linear_backward(k->b, &p);
	}
	kit_pull(k, y), kit_pull(k, z), kit_pull(k, dx), kit_pull(k, dz);
	assert_memory_equal(y.h, z.h, T * OUT * 4);
	assert_memory_equal(dx.h, dz.h, T * IN * 4);
	kit_clear(k);
}

enum { ROWS = 90, WIDTH = 40, EXPERTS = 5, CHOSEN = 2, INNER = 24 };

struct moe {
	struct array x, gate, up, down, weight, out, g, u, work, dout, dx, dweight, dgate, dup, ddown;
	struct ints expert, order, offset;
};

static void moe_make(struct kit *k, struct moe *m)
{
	const int64_t rows = ROWS * CHOSEN, w = EXPERTS * INNER * WIDTH;
	*m = (struct moe){kit_random(k, ROWS * WIDTH, 1), kit_random(k, w, 1), kit_random(k, w, 1), kit_random(k, w, 1), kit_random(k, rows, 1),
			  kit_random(k, ROWS * WIDTH, 0), kit_nan(k, rows * INNER), kit_nan(k, rows * INNER), kit_nan(k, rows * (WIDTH + 3 * INNER)),
			  kit_random(k, ROWS * WIDTH, 1), kit_random(k, ROWS * WIDTH, 0), kit_nan(k, rows), kit_random(k, w, 0), kit_random(k, w, 0),
			  kit_random(k, w, 0), kit_ints(k, rows), kit_ints(k, 3 * rows), kit_ints(k, EXPERTS + 1)};
	for (int i = 0; i < rows; i++) m->expert.h[i] = (i / CHOSEN * 7 % 3 + i % CHOSEN * 2) % EXPERTS;
	kit_push_ints(k, m->expert);
}

/* half: gate, up, down in bf16; matrices: each expert's, in bf16. */
static void moe_run_with(struct kit *k, const struct moe *m, int64_t at, int64_t n, uint16_t *const half[3], const void *matrices[3][EXPERTS])
{
	int64_t s = at * CHOSEN, r = n * CHOSEN;
	struct experts_args a = {.x = tensor_f32(m->x.d + at * WIDTH, n, WIDTH), .experts = EXPERTS, .chosen = CHOSEN, .expert = m->expert.d + s,
				 .weight = m->weight.d + s, .gate = tensor_f32(m->gate.d, EXPERTS * INNER, WIDTH), .up = tensor_f32(m->up.d, EXPERTS * INNER, WIDTH),
				 .down = tensor_f32(m->down.d, EXPERTS * WIDTH, INNER), .out = tensor_f32(m->out.d + at * WIDTH, n, WIDTH), .order = m->order.d,
				 .offset = m->offset.d, .g = tensor_f32(m->g.d, r, INNER), .u = tensor_f32(m->u.d, r, INNER),
				 .work = tensor_f32(m->work.d, r, WIDTH + 3 * INNER), .dout = tensor_f32(m->dout.d + at * WIDTH, n, WIDTH),
				 .dx = tensor_f32(m->dx.d + at * WIDTH, n, WIDTH), .dweight = m->dweight.d + s, .dgate = tensor_f32(m->dgate.d, EXPERTS * INNER, WIDTH),
				 .dup = tensor_f32(m->dup.d, EXPERTS * INNER, WIDTH), .ddown = tensor_f32(m->ddown.d, EXPERTS * WIDTH, INNER)};
	struct tensor *w[] = {&a.gate, &a.up, &a.down};
	for (int i = 0; i < 3 && (half || matrices); i++) w[i]->dtype = DTYPE_BF16, w[i]->data = half ? half[i] : NULL;
	if (matrices) a.gate_at = matrices[0], a.up_at = matrices[1], a.down_at = matrices[2];
	k->ops->experts_forward(k->b, &a);
	k->ops->experts_backward(k->b, &a);
}

static void moe_run(struct kit *k, const struct moe *m, int64_t at, int64_t n)
{
	moe_run_with(k, m, at, n, NULL, NULL);
}

/* Near f32 (three rounded factors in a row: a few times 2^-9), and the same bits in any pieces. */
static void test_experts(void **state)
{
	struct kit *k = *state, exact = {0};
	struct moe m, f, p;
	struct err e;
	assert_int_equal(device_kit_open(&exact.b, "auto", 1, &e), 0);
	exact.ops = backend_ops(exact.b);
	exact.draws = k->draws;
	uint32_t draws = k->draws;
	moe_make(k, &m);
	k->draws = draws;
	moe_make(k, &p);
	moe_make(&exact, &f);
	moe_run(k, &m, 0, ROWS);
	moe_run(&exact, &f, 0, ROWS);
	for (int64_t at = 0, n = 1; at < ROWS; at += n, n = n % 13 + 4) {
		n = n < ROWS - at ? n : ROWS - at;
		moe_run(k, &p, at, n);
	}
	struct array *got = &m.x, *want = &f.x, *pieces = &p.x;
	for (int i = 5; i < 15; i++) { /* out … ddown, without scratch */
		if (i == 8 || i == 9) continue;
		kit_pull(&exact, want[i]);
		double *w = kit_widen(&exact, want[i]);
		k->tolerance = 2e-2;
		kit_expect(k, got[i], NULL, w, "bf16 experts, array %d", i);
		k->tolerance = TOLERANCE;
		if (i != 5 && i != 10 && i != 11) continue; /* out, dx, dweight: rows */
		kit_pull(k, got[i]), kit_pull(k, pieces[i]);
		assert_memory_equal(got[i].h, pieces[i].h, (size_t)got[i].n * 4);
	}
	kit_close(&exact);
	kit_clear(k);
}

static void test_head(void **state)
{
	struct kit *k = *state;
	enum { T = 37, C = 30, V = 90 };
	struct array x = kit_random(k, T * C, 1), w = kit_random(k, V * C, 1), lp = kit_nan(k, T), entropy = kit_nan(k, T), work = kit_nan(k, 10 * V);
	struct ints target = kit_ints_below(k, T, V);
	double *xd = kit_input(k, x), *wd = kit_input(k, w), *logits = kit_doubles(k, T * V), *wl = kit_doubles(k, T), *we = kit_doubles(k, T);
	uint8_t keep[V];
	memset(keep, 1, sizeof keep);
	ref_linear(xd, wd, logits, T, C, V);
	for (int t = 0; t < T; t++) ref_head_row(logits + t * V, keep, V, 0.9, target.h[t], wl + t, we + t);
	struct head_args a = {.x = tensor_f32(x.d, T, C), .w = tensor_f32(w.d, V, C), .target = target.d, .temperature = 0.9f, .top_p = 1, .logprob = lp.d,
			      .entropy = entropy.d, .work = work.d, .work_rows = 10};
	k->ops->head_forward(k->b, &a);
	kit_expect(k, lp, NULL, wl, "bf16 head logprob");
	kit_expect(k, entropy, NULL, we, "bf16 head entropy");
	kit_clear(k);
}

#if !KIT_ON_DEVICE
/* Rounded to bf16 in place; its sixteen bits beside it, in backend memory. */
static uint16_t *halve(struct kit *k, struct array a)
{
	uint16_t *h = kit_device(k, (size_t)a.n * 2);
	for (int64_t i = 0; i < a.n; i++) h[i] = bf16_round(a.h[i]), a.h[i] = bf16_widen(h[i]);
	kit_push(k, a);
	k->ops->weights_changed(k->b, a.d, (size_t)a.n * sizeof(float));
	return h;
}

static struct tensor half_tensor(uint16_t *h, int64_t rows, int64_t cols)
{
	return (struct tensor){h, DTYPE_BF16, rows, cols};
}

static void stored_linear(struct kit *k, int64_t t, int64_t in, int64_t out)
{
	struct array x = kit_random(k, t * in, 1), w = kit_random(k, out * in, 1), dy = kit_random(k, t * out, 1), y[2], dx[2];
	uint16_t *half = halve(k, w);
	uint32_t draws = k->draws;
	for (int i = 0; i < 2; i++) {
		k->draws = draws;
		y[i] = kit_nan(k, t * out), dx[i] = kit_random(k, t * in, 1);
		struct linear_args a = {.x = tensor_f32(x.d, t, in), .w = i ? half_tensor(half, out, in) : tensor_f32(w.d, out, in), .y = tensor_f32(y[i].d, t, out),
					.dy = tensor_f32(dy.d, t, out), .dx = tensor_f32(dx[i].d, t, in)};
		k->ops->linear_forward(k->b, &a);
		k->ops->linear_backward(k->b, &a);
		kit_pull(k, y[i]), kit_pull(k, dx[i]);
	}
	assert_memory_equal(y[0].h, y[1].h, (size_t)y[0].n * 4);
	assert_memory_equal(dx[0].h, dx[1].h, (size_t)dx[0].n * 4);
	kit_clear(k);
}

/* Stacks, and the same matrices apart and not aligned to more than two bytes. */
static void stored_experts(struct kit *k)
{
	struct moe m[3];
	uint32_t draws = k->draws;
	const void *at[3][EXPERTS];
	for (int i = 0; i < 3; i++) {
		k->draws = draws;
		moe_make(k, &m[i]);
		struct array *w[] = {&m[i].gate, &m[i].up, &m[i].down};
		uint16_t *half[3];
		for (int j = 0; j < 3; j++) half[j] = halve(k, *w[j]);
		for (int j = 0; i == 2 && j < 3; j++)
			for (int e = EXPERTS - 1; e >= 0; e--) {
				uint16_t *to = (uint16_t *)kit_device(k, (size_t)(INNER * WIDTH) * 2 + 2) + 1;
				memcpy(to, half[j] + e * INNER * WIDTH, (size_t)(INNER * WIDTH) * 2);
				at[j][e] = to;
			}
		moe_run_with(k, &m[i], 0, ROWS, i == 1 ? half : NULL, i == 2 ? at : NULL);
	}
	for (int i = 1; i < 3; i++) {
		struct array *want = &m[0].x, *got = &m[i].x;
		for (int j = 5; j < 15; j++) {
			if (j == 8 || j == 9) continue;
			kit_pull(k, want[j]), kit_pull(k, got[j]);
			assert_memory_equal(want[j].h, got[j].h, (size_t)want[j].n * 4);
		}
	}
	kit_clear(k);
}

static void stored_head(struct kit *k)
{
	enum { T = 21, C = 70, V = 90 };
	struct array x = kit_random(k, T * C, 1), w = kit_random(k, V * C, 1), lp[2], dx[2], y[2], dl = kit_random(k, T, 1), entropy = kit_nan(k, T), work = kit_nan(k, 10 * V);
	struct ints target = kit_ints_below(k, T, V);
	uint16_t *half = halve(k, w);
	for (int i = 0; i < 2; i++) {
		struct tensor weight = i ? half_tensor(half, V, C) : tensor_f32(w.d, V, C);
		lp[i] = kit_nan(k, T), dx[i] = kit_random(k, T * C, 0), y[i] = kit_nan(k, T * C);
		struct head_args a = {.x = tensor_f32(x.d, T, C), .w = weight, .target = target.d, .temperature = 0.9f, .top_p = 1, .logprob = lp[i].d, .entropy = entropy.d,
				      .work = work.d, .work_rows = 10, .dlogprob = dl.d, .dx = tensor_f32(dx[i].d, T, C)};
		k->ops->head_forward(k->b, &a);
		k->ops->head_backward(k->b, &a);
		k->ops->embedding_forward(k->b, weight, target.d, tensor_f32(y[i].d, T, C));
		kit_pull(k, lp[i]), kit_pull(k, dx[i]), kit_pull(k, y[i]);
	}
	assert_memory_equal(lp[0].h, lp[1].h, T * 4);
	assert_memory_equal(dx[0].h, dx[1].h, T * C * 4);
	assert_memory_equal(y[0].h, y[1].h, T * C * 4);
	kit_clear(k);
}

static void test_stored(void **state)
{
	(void)state;
	static const char *const precisions[] = {"f32", "bf16"}, *const isas[] = {"auto", "avx2", "generic"};
	for (int p = 0; p < 2; p++)
		for (int i = 0; i < 3; i++) {
			struct kit k;
			kit_open_in(&k, isas[i], 2, precisions[p]);
			if (!k.b) continue; /* a processor without AVX2 */
			for (int a = 0; a < KIT_SIZES; a++)
				for (int b = 0; b < KIT_SIZES; b++) stored_linear(&k, kit_sizes[a], kit_sizes[b], kit_sizes[(a + b) % KIT_SIZES]);
			stored_linear(&k, 100, 600, 70);
			stored_linear(&k, 7, 96, 300);
			stored_experts(&k);
			stored_head(&k);
			kit_close(&k);
		}
}

/* To nearest even, infinities, and NaN stays NaN. */
static void test_rounding(void **state)
{
	(void)state;
	static const uint32_t cases[][2] = {{0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82}, {0x3F817FFF, 0x3F81},
					    {0x80000000, 0x8000}, {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0x7F800001, 0x7FC0}, {0x00000001, 0x0000},
					    {0x00018000, 0x0002}, {0x00008001, 0x0001}, {0xFFC00000, 0xFFC0}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		float x;
		memcpy(&x, &cases[i][0], 4);
		assert_int_equal(bf16_round(x), cases[i][1]);
	}
}
#endif

static int open_kit(void **state)
{
	static struct kit k;
	kit_open_in(&k, "auto", 2, "bf16");
	k.tolerance = TOLERANCE;
	*state = &k;
	return k.b ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear), cmocka_unit_test(test_rounds), cmocka_unit_test(test_rows_alone),
		cmocka_unit_test(test_experts), cmocka_unit_test(test_head),
#if !KIT_ON_DEVICE
		cmocka_unit_test(test_stored), cmocka_unit_test(test_rounding),
#endif
	};
	return cmocka_run_group_tests_name("ops_bf16", tests, open_kit, kit_teardown);
}
