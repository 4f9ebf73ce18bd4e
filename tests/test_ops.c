/* Every row-wise operation against its naive reference in double, over awkward
 * shapes: linear, norm, RoPE, SwiGLU, embedding, gather and scatter, sums, AdamW,
 * and the kernels' exp and log over their whole range. Attention, the router with
 * its experts, and the vocabulary have files of their own. */
#include "tests/ops_kit.h"
#include "tests/ops_linear.h"
#include "tests/ops_reference.h"

static void test_linear(void **state)
{
	struct kit *k = *state;
	for (int a = 0; a < KIT_SIZES; a++)
		for (int b = 0; b < KIT_SIZES; b++)
			for (int c = 0; c < KIT_SIZES; c++) linear_case(k, kit_sizes[a], kit_sizes[b], kit_sizes[c], (a + b + c) % 4);
	/* the reduction in several blocks, in every role, with every tail of the row tile */
	linear_case(k, 3, 1100, 40, 0);
	linear_case(k, 2, 1025, 33, 3);
	linear_case(k, 1100, 7, 33, 1);
	linear_case(k, 5, 40, 1100, 2);
	for (int64_t t = 1; t < 30; t++) linear_case(k, t, 20, 40, 0);
}

static void test_linear_frozen_and_empty(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 4 * 8, 1), w = kit_random(k, 8 * 8, 1), y = kit_nan(k, 4 * 8), dx = kit_random(k, 4 * 8, 1);
	struct linear_args a = {.x = tensor_f32(x.d, 0, 8), .w = tensor_f32(w.d, 8, 8), .y = tensor_f32(y.d, 0, 8), .dy = tensor_f32(y.d, 0, 8),
				.dx = tensor_f32(dx.d, 0, 8)};
	k->ops->linear_forward(k->b, &a);
	k->ops->linear_backward(k->b, &a);
	kit_pull(k, y);
	for (int i = 0; i < 32; i++) assert_true(isnan(y.h[i])); /* no rows: nothing written */
	kit_clear(k);
}

/* x·wᵀ after w was negated in place and the backend was told of these bytes; what must come out. */
static double *negated(struct kit *k, struct array x, struct array w, const float *from, size_t bytes, struct array *y)
{
	double *want = kit_doubles(k, 2 * 8);
	*y = kit_nan(k, 2 * 8);
	struct linear_args a = {.x = tensor_f32(x.d, 2, 8), .w = tensor_f32(w.d, 8, 8), .y = tensor_f32(y->d, 2, 8)};
	k->ops->linear_forward(k->b, &a);
	for (int i = 0; i < 64; i++) w.h[i] = -w.h[i];
	kit_push(k, w);
	k->ops->weights_changed(k->b, from, bytes);
	k->ops->linear_forward(k->b, &a);
	ref_linear(kit_widen(k, x), kit_widen(k, w), want, 2, 8, 8);
	return want;
}

/* A weight that changes is packed anew only after weights_changed, and of the weights that change nothing else is. */
static void test_linear_weights_changed(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 2 * 8, 1), w = kit_random(k, 8 * 8, 1), y;
	double *want = negated(k, x, w, NULL, 0, &y);
	kit_expect(k, y, NULL, want, "linear after all weights changed");
	want = negated(k, x, w, w.d, 64 * sizeof(float), &y);
	kit_expect(k, y, NULL, want, "linear after its weight changed");
#if !KIT_ON_DEVICE
	want = negated(k, x, w, w.d + 64, 64 * sizeof(float), &y); /* what lies behind it: the packed form stays */
	for (int i = 0; i < 16; i++) want[i] = -want[i];
	kit_expect(k, y, NULL, want, "linear after another weight changed");
#endif
	kit_clear(k);
}

struct norm_case {
	double *x, *w, *dy, *y;
	int64_t t, c;
};

static double norm_loss(void *arg)
{
	struct norm_case *n = arg;
	ref_norm(n->x, n->w, 1e-5, n->y, n->t, n->c);
	return kit_dot(n->y, n->dy, n->t * n->c);
}

static void test_norm(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			int64_t t = kit_sizes[i], c = kit_sizes[j];
			struct array x = kit_random(k, t * c, 2), w = kit_random(k, c, 1), y = kit_nan(k, t * c), r = kit_nan(k, t);
			struct array dy = kit_random(k, t * c, 1), dx = kit_random(k, t * c, 0.5f), dw = kit_random(k, c, 0.5f);
			struct norm_args a = {.x = tensor_f32(x.d, t, c), .w = w.d, .eps = 1e-5f, .y = tensor_f32(y.d, t, c), .rstd = r.d,
					      .dy = tensor_f32(dy.d, t, c), .dx = tensor_f32(dx.d, t, c), .dw = dw.d};
			struct norm_case n = {kit_widen(k, x), kit_widen(k, w), kit_widen(k, dy), kit_doubles(k, t * c), t, c};
			double *gx = kit_doubles(k, t * c), *gw = kit_doubles(k, c);
			ref_norm_backward(n.x, n.w, 1e-5, n.dy, gx, gw, t, c);
			kit_differences(norm_loss, &n, n.x, gx, t * c, 16, "norm dx");
			kit_differences(norm_loss, &n, n.w, gw, c, 16, "norm dw");
			norm_loss(&n);
			k->ops->norm_forward(k->b, &a);
			k->ops->norm_backward(k->b, &a);
			kit_expect(k, y, NULL, n.y, "norm %lld x %lld", (long long)t, (long long)c);
			k->typical = c == 1 ? 1 : 0; /* one channel: the two terms of the gradient cancel */
			kit_expect(k, dx, dx.h, gx, "norm dx %lld x %lld", (long long)t, (long long)c);
			k->typical = 0.2;
			kit_expect(k, dw, dw.h, gw, "norm dw %lld x %lld", (long long)t, (long long)c);
			k->typical = 0;
			kit_clear(k);
		}
}

static void test_norm_zero_rows(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 2 * 33, 0), w = kit_random(k, 33, 1), y = kit_nan(k, 2 * 33), r = kit_nan(k, 2);
	struct norm_args a = {.x = tensor_f32(x.d, 2, 33), .w = w.d, .eps = 1e-6f, .y = tensor_f32(y.d, 2, 33), .rstd = r.d};
	k->ops->norm_forward(k->b, &a);
	kit_pull(k, y);
	for (int i = 0; i < 66; i++) assert_true(y.h[i] == 0);
	kit_clear(k);
}

static void rope_case(struct kit *k, int64_t t, int heads, int dim, int first, int dims, int interleaved)
{
	int half = dims / 2;
	struct array x = kit_random(k, t * heads * dim, 1), cs = kit_nan(k, 200 * half), sn = kit_nan(k, 200 * half);
	struct ints pos = kit_ints_below(k, t, 200);
	for (int i = 0; i < 200 * half; i++) {
		double angle = (i / half) * pow(10000, -(double)(i % half) / half);
		cs.h[i] = (float)cos(angle);
		sn.h[i] = (float)sin(angle);
	}
	kit_push(k, cs);
	kit_push(k, sn);
	double *want = kit_widen(k, x);
	for (int64_t i = 0; i < t * heads * half; i++) {
		int64_t row = i / (heads * half), h = i / half % heads, j = i % half;
		double *at = want + row * heads * dim + h * dim + first;
		int64_t p = interleaved ? 2 * j : j, q = interleaved ? 2 * j + 1 : j + half;
		double c = cs.h[pos.h[row] * half + j], s = sn.h[pos.h[row] * half + j], u = at[p], v = at[q];
		at[p] = u * c - v * s;
		at[q] = v * c + u * s;
	}
	struct rope_args a = {.x = tensor_f32(x.d, t, heads * dim), .heads = heads, .head_dim = dim, .first = first, .dims = dims,
			      .interleaved = interleaved, .pos = pos.d, .cos = cs.d, .sin = sn.d};
	k->ops->rope(k->b, &a);
	kit_expect(k, x, NULL, want, "rope %d of %d from %d, interleaved %d", dims, dim, first, interleaved);
	a.inverse = 1;
	k->ops->rope(k->b, &a);
	double *back = kit_widen(k, x);
	kit_expect(k, x, NULL, back, "rope and back");
	kit_clear(k);
}

static void test_rope(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int inter = 0; inter < 2; inter++) {
			rope_case(k, kit_sizes[i], 3, 32, 0, 32, inter);
			rope_case(k, kit_sizes[i], 1, 34, 0, 34, inter);
			rope_case(k, kit_sizes[i], 2, 40, 24, 16, inter); /* a part of each head, as MLA has it */
			rope_case(k, kit_sizes[i], 4, 2, 0, 2, inter);
		}
}

static void test_swiglu(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			int64_t t = kit_sizes[i], c = kit_sizes[j], n = t * c;
			struct array g = kit_random(k, n, 6), u = kit_random(k, n, 1), y = kit_nan(k, n), da = kit_random(k, n, 1);
			struct array dg = kit_nan(k, n), du = kit_nan(k, n);
			struct swiglu_args a = {tensor_f32(g.d, t, c), tensor_f32(u.d, t, c), tensor_f32(y.d, t, c), tensor_f32(da.d, t, c),
						tensor_f32(dg.d, t, c), tensor_f32(du.d, t, c)};
			double *wy = kit_doubles(k, n), *wg = kit_doubles(k, n), *wu = kit_doubles(k, n);
			for (int64_t e = 0; e < n; e++) {
				double x = g.h[e], h = 1e-5;
				wy[e] = x * ref_sigmoid(x) * u.h[e];
				wu[e] = x * ref_sigmoid(x) * da.h[e];
				wg[e] = ref_silu_slope(x) * u.h[e] * da.h[e];
				double d = ((x + h) * ref_sigmoid(x + h) - (x - h) * ref_sigmoid(x - h)) / (2 * h) * u.h[e] * da.h[e];
				assert_true(fabs(d - wg[e]) < 1e-8);
			}
			k->ops->swiglu_forward(k->b, &a);
			k->ops->swiglu_backward(k->b, &a);
			kit_expect(k, y, NULL, wy, "swiglu");
			kit_expect(k, dg, NULL, wg, "swiglu dg");
			kit_expect(k, du, NULL, wu, "swiglu du");
			kit_clear(k);
		}
}

static void test_rows(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			int64_t t = kit_sizes[i], c = kit_sizes[j], v = 19;
			struct array table = kit_random(k, v * c, 1), y = kit_nan(k, t * c), dt = kit_random(k, v * c, 0.5f), sum = kit_random(k, t * c, 1);
			struct ints ids = kit_ints_below(k, t, (uint32_t)v);
			double *want = kit_doubles(k, t * c), *back = kit_doubles(k, v * c), *added = kit_widen(k, sum);
			for (int64_t e = 0; e < t * c; e++) {
				want[e] = table.h[ids.h[e / c] * c + e % c];
				added[e] += want[e];
				back[ids.h[e / c] * c + e % c] += want[e];
			}
			k->ops->embedding_forward(k->b, tensor_f32(table.d, v, c), ids.d, tensor_f32(y.d, t, c));
			kit_expect(k, y, NULL, want, "embedding");
			k->ops->embedding_backward(k->b, tensor_f32(dt.d, v, c), ids.d, tensor_f32(y.d, t, c));
			kit_expect(k, dt, dt.h, back, "embedding gradient");
			k->ops->add(k->b, sum.d, y.d, t * c);
			kit_expect(k, sum, NULL, added, "add");
			double squares = kit_dot(want, want, t * c), got = k->ops->sum_squares(k->b, y.d, t * c);
			assert_true(fabs(got - squares) <= 1e-12 * squares);
			kit_clear(k);
		}
}

static void test_sum_squares_not_finite(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 100000, 1);
	double s = 0;
	for (int64_t i = 0; i < x.n; i++) s += (double)x.h[i] * x.h[i];
	assert_true(fabs(k->ops->sum_squares(k->b, x.d, x.n) - s) <= 1e-12 * s);
	x.h[77777] = NAN;
	kit_push(k, x);
	assert_false(isfinite(k->ops->sum_squares(k->b, x.d, x.n)));
	kit_clear(k);
}

static void test_adamw(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < 2 * KIT_SIZES + 2; i++) {
		int64_t n = i < 2 * KIT_SIZES ? kit_sizes[i / 2] : 40001;
		int tf = i % 2;
		struct array w = kit_random(k, n, 1), g = kit_random(k, n, 1e-3f), m = kit_random(k, n, 1e-3f), v = kit_random(k, n, 1e-6f);
		for (int64_t e = 0; e < n; e++) v.h[e] = fabsf(v.h[e]);
		kit_push(k, v);
		struct adamw_args a = {.w = w.d, .g = g.d, .m = m.d, .v = v.d, .n = n, .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-5f,
				       .weight_decay = 0.1f, .grad_scale = 0.7f, .step = 3, .tensorflow = tf};
		double *ww = kit_doubles(k, n), *wm = kit_doubles(k, n), *wv = kit_doubles(k, n);
		double b1 = a.beta1, b2 = a.beta2, c1 = 1 - pow(b1, 3), c2 = 1 - pow(b2, 3), lr = a.lr, eps = a.eps, wd = a.weight_decay;
		for (int64_t e = 0; e < n; e++) {
			double gs = (double)g.h[e] * a.grad_scale;
			wm[e] = b1 * m.h[e] + (1 - b1) * gs;
			wv[e] = b2 * v.h[e] + (1 - b2) * gs * gs;
			double step = tf ? lr * sqrt(c2) / c1 * wm[e] / (sqrt(wv[e]) + eps) : lr * (wm[e] / c1) / (sqrt(wv[e] / c2) + eps);
			ww[e] = w.h[e] * (1 - lr * wd) - step;
		}
		k->ops->adamw(k->b, &a);
		kit_expect(k, w, NULL, ww, "adamw w, n %lld, tensorflow %d", (long long)n, tf);
		kit_expect(k, m, NULL, wm, "adamw m");
		kit_expect(k, v, NULL, wv, "adamw v");
		/* the step itself, not only the weight it disappears in */
		kit_pull(k, w);
		double worst = 0;
		for (int64_t e = 0; e < n; e++) worst = fmax(worst, fabs((double)w.h[e] - ww[e]));
		assert_true(worst <= 1.3e-7);
		kit_clear(k);
	}
}

/* The comparer, the guards and the differences must be able to fail. */
static double planted_loss(void *x)
{
	return *(double *)x * *(double *)x;
}

static void test_planted_faults(void **state)
{
	struct kit *k = *state;
	float got[3] = {1, 2, 3};
	double want[3] = {1, 2, 3}, x = 2, right = 4;
	assert_true(kit_error(got, NULL, want, 3, 0) == 0);
	got[1] = 2.00001f;
	assert_true(kit_error(got, NULL, want, 3, 0) > KIT_TOLERANCE);
	got[1] = NAN;
	assert_true(kit_error(got, NULL, want, 3, 0) == INFINITY);
	kit_differences(planted_loss, &x, &x, &right, 1, 1, "square");
	struct array a = kit_random(k, 3, 1);
	assert_true(kit_guards_hold(k));
	float word, one = 1;
	k->ops->download(k->b, &word, a.d + 3, 4);
	k->ops->upload(k->b, a.d + 3, &one, 4);
	assert_false(kit_guards_hold(k));
	k->ops->upload(k->b, a.d + 3, &word, 4);
	kit_clear(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_linear_frozen_and_empty),
		cmocka_unit_test(test_linear_weights_changed),
		cmocka_unit_test(test_norm),
		cmocka_unit_test(test_norm_zero_rows),
		cmocka_unit_test(test_rope),
		cmocka_unit_test(test_swiglu),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_sum_squares_not_finite),
		cmocka_unit_test(test_adamw),
		cmocka_unit_test(test_planted_faults),
	};
	return cmocka_run_group_tests_name("ops", tests, kit_setup, kit_teardown);
}
