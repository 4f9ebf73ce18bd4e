/* The operations of dense families against naive references in double: LayerNorm,
 * GELU in both forms, and columns with its transposed use. */
#include "tests/ops_kit.h"
#include "tests/ops_reference.h"

struct norm_case {
	double *x, *w, *bias, *dy, *y;
	int64_t t, c;
};

static double layer_norm_loss(void *arg)
{
	struct norm_case *n = arg;
	ref_layer_norm(n->x, n->w, n->bias, 1e-5, n->y, n->t, n->c);
	return kit_dot(n->y, n->dy, n->t * n->c);
}

static void layer_norm_case(struct kit *k, int64_t t, int64_t c, int bias, float scale)
{
	struct array x = kit_random(k, t * c, scale), w = kit_random(k, c, 1), b = kit_random(k, c, 1), y = kit_nan(k, t * c), r = kit_nan(k, t);
	struct array m = kit_nan(k, t), dy = kit_random(k, t * c, 1), dx = kit_random(k, t * c, 0.5f), dw = kit_random(k, c, 0.5f), db = kit_random(k, c, 0.5f);
	struct norm_args a = {.x = tensor_f32(x.d, t, c), .w = w.d, .bias = bias ? b.d : NULL, .eps = 1e-5f, .y = tensor_f32(y.d, t, c), .rstd = r.d,
			      .mean = m.d, .dy = tensor_f32(dy.d, t, c), .dx = tensor_f32(dx.d, t, c), .dw = dw.d, .dbias = bias ? db.d : NULL};
	struct norm_case n = {kit_widen(k, x), kit_widen(k, w), bias ? kit_widen(k, b) : kit_doubles(k, c), kit_widen(k, dy), kit_doubles(k, t * c), t, c};
	double *gx = kit_doubles(k, t * c), *gw = kit_doubles(k, c), *gb = kit_doubles(k, c);
	ref_layer_norm_backward(n.x, n.w, 1e-5, n.dy, gx, gw, gb, t, c);
	kit_differences(layer_norm_loss, &n, n.x, gx, t * c, 16, "layer norm dx");
	kit_differences(layer_norm_loss, &n, n.w, gw, c, 16, "layer norm dw");
	kit_differences(layer_norm_loss, &n, n.bias, gb, c, 16, "layer norm dbias");
	layer_norm_loss(&n);
	k->ops->norm_forward(k->b, &a);
	k->ops->norm_backward(k->b, &a);
	kit_expect(k, y, NULL, n.y, "layer norm %lld x %lld", (long long)t, (long long)c);
	k->typical = c <= 3 ? 1 : 0; /* few channels: the terms of the gradient cancel */
	kit_expect(k, dx, dx.h, gx, "layer norm dx %lld x %lld", (long long)t, (long long)c);
	k->typical = 0.2;
	kit_expect(k, dw, dw.h, gw, "layer norm dw %lld x %lld", (long long)t, (long long)c);
	if (bias) kit_expect(k, db, db.h, gb, "layer norm dbias %lld x %lld", (long long)t, (long long)c);
	k->typical = 0;
	kit_clear(k);
}

static void test_layer_norm(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 1; j < KIT_SIZES; j++) layer_norm_case(k, kit_sizes[i], kit_sizes[j], (i + j) % 2, 2);
}

/* One channel is its own mean: the bias alone comes out. */
static void test_layer_norm_of_one_channel(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 3, 5), w = kit_random(k, 1, 1), b = kit_random(k, 1, 1), y = kit_nan(k, 3), m = kit_nan(k, 3);
	struct norm_args a = {.x = tensor_f32(x.d, 3, 1), .w = w.d, .bias = b.d, .eps = 1e-5f, .y = tensor_f32(y.d, 3, 1), .mean = m.d};
	k->ops->norm_forward(k->b, &a);
	kit_pull(k, y);
	for (int i = 0; i < 3; i++) assert_true(y.h[i] == b.h[0]);
	kit_clear(k);
}

static void test_gelu(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int exact = 0; exact < 2; exact++) {
			int64_t t = kit_sizes[i], c = kit_sizes[KIT_SIZES - 1 - i], n = t * c;
			struct array x = kit_random(k, n, 5), y = kit_nan(k, n), da = kit_random(k, n, 1), dx = kit_nan(k, n);
			struct gelu_args a = {tensor_f32(x.d, t, c), tensor_f32(y.d, t, c), exact, tensor_f32(da.d, t, c), tensor_f32(dx.d, t, c)};
			double *wy = kit_doubles(k, n), *wx = kit_doubles(k, n);
			for (int64_t e = 0; e < n; e++) {
				double v = x.h[e], h = 1e-5;
				wy[e] = ref_gelu(v, exact);
				wx[e] = (ref_gelu(v + h, exact) - ref_gelu(v - h, exact)) / (2 * h) * da.h[e]; /* right to about 1e-10 */
			}
			k->ops->gelu_forward(k->b, &a);
			k->ops->gelu_backward(k->b, &a);
			kit_expect(k, y, NULL, wy, "gelu %d", exact);
			kit_expect(k, dx, NULL, wx, "gelu dx %d", exact);
			kit_clear(k);
		}
}

static void test_gelu_far_out(void **state)
{
	struct kit *k = *state;
	for (int exact = 0; exact < 2; exact++) {
		struct array x = kit_random(k, 4, 1), y = kit_nan(k, 4), da = kit_random(k, 4, 1), dx = kit_nan(k, 4);
		x.h[0] = 300, x.h[1] = -300, x.h[2] = 0, x.h[3] = NAN;
		da.h[0] = da.h[1] = da.h[2] = 1;
		kit_push(k, x), kit_push(k, da);
		struct gelu_args a = {tensor_f32(x.d, 1, 4), tensor_f32(y.d, 1, 4), exact, tensor_f32(da.d, 1, 4), tensor_f32(dx.d, 1, 4)};
		k->ops->gelu_forward(k->b, &a);
		k->ops->gelu_backward(k->b, &a);
		kit_pull(k, y), kit_pull(k, dx);
		assert_true(y.h[0] == 300 && y.h[1] == 0 && y.h[2] == 0 && isnan(y.h[3]));
		assert_true(dx.h[0] == 1 && dx.h[1] == 0 && dx.h[2] == 0.5f);
		kit_clear(k);
	}
}

/* A fused [T, H, 3D] projection taken apart and put together again; a shared part broadcast to every head and summed back. */
static void test_columns(void **state)
{
	struct kit *k = *state;
	enum { H = 3, D = 7, X = 3 * H * D };
	for (int i = 0; i < KIT_SIZES; i++) {
		int64_t t = kit_sizes[i];
		struct array x = kit_random(k, t * X, 1), part[3], back = kit_random(k, t * X, 1), wide = kit_nan(k, t * H * 9), sum = kit_random(k, t * 4, 1);
		struct columns_args a = {.x = tensor_f32(x.d, t, X), .heads = H, .count = D, .x_step = 3 * D, .y_step = D};
		for (int p = 0; p < 3; p++) {
			part[p] = kit_nan(k, t * H * D);
			a.x_first = p * D, a.y = tensor_f32(part[p].d, t, H * D);
			k->ops->columns(k->b, &a);
			struct columns_args r = {.x = a.y, .y = tensor_f32(back.d, t, X), .heads = H, .count = D, .x_step = D, .y_first = p * D, .y_step = 3 * D, .add = 1};
			k->ops->columns(k->b, &r);
			kit_pull(k, part[p]);
		}
		struct columns_args spread = {.x = tensor_f32(x.d, t, X), .y = tensor_f32(wide.d, t, H * 9), .heads = H, .count = 4, .x_first = 5, .y_first = 5, .y_step = 9};
		struct columns_args gather = {.x = spread.y, .y = tensor_f32(sum.d, t, 4), .heads = H, .count = 4, .x_first = 5, .x_step = 9, .add = 1};
		k->ops->columns(k->b, &spread);
		k->ops->columns(k->b, &gather);
		float *before = kit_host(k, (size_t)back.n * 4), *sums = kit_host(k, (size_t)sum.n * 4);
		memcpy(before, back.h, (size_t)back.n * 4), memcpy(sums, sum.h, (size_t)sum.n * 4);
		kit_pull(k, back), kit_pull(k, wide), kit_pull(k, sum);
		for (int64_t r = 0; r < t; r++) {
			for (int c = 0; c < X; c++) {
				assert_true(part[c / D % 3].h[r * H * D + c / (3 * D) * D + c % D] == x.h[r * X + c]);
				assert_true(back.h[r * X + c] == before[r * X + c] + x.h[r * X + c]);
			}
			for (int c = 0; c < H * 9; c++) assert_true(c % 9 < 5 ? isnan(wide.h[r * H * 9 + c]) : wide.h[r * H * 9 + c] == x.h[r * X + c % 9]);
			for (int c = 0; c < 4; c++) {
				float v = x.h[r * X + 5 + c];
				assert_true(sum.h[r * 4 + c] == sums[r * 4 + c] + v + v + v);
			}
		}
		kit_clear(k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layer_norm), cmocka_unit_test(test_layer_norm_of_one_channel), cmocka_unit_test(test_gelu),
		cmocka_unit_test(test_gelu_far_out), cmocka_unit_test(test_columns),
	};
	return cmocka_run_group_tests_name("ops_dense", tests, kit_setup, kit_teardown);
}
