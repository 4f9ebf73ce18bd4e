/* What only a GPU's benchmark runs, at tiny shapes on the CPU: it works, and its
 * figures are finite and above zero. */
#include "app/bench_sections.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct backend *open_cpu(void)
{
	struct backend *b;
	struct err e;
	if (backend_open(&b, &(struct backend_options){"cpu", "auto", 1, NULL}, &e) < 0) fail_msg("%s", e.msg);
	return b;
}

static int positive(double x)
{
	return isfinite(x) && x > 0;
}

static void test_layer(void **state)
{
	(void)state;
	struct backend *b = open_cpu();
	struct bench_peak peak = {.threads = 1, .gflops_one = 1, .gflops_all = 1, .seconds = 0.001};
	for (int shared = 0; shared <= 24; shared += 24) {
		struct bench_layer s = {.rows = 16, .width = 32, .experts = 4, .chosen = 2, .expert_width = 8, .shared = shared};
		struct bench_pair p = {0};
		bench_layer(b, &peak, &s, &p);
		double flop = 6.0 * 16 * 32 * (2 * 8 + shared);
		assert_true(positive(p.forward.gflops) && positive(p.backward.gflops));
		assert_true(fabs(p.forward.gflops * 1e9 * p.forward.time.median / flop - 1) < 1e-9);
		assert_true(fabs(p.backward.gflops * 1e9 * p.backward.time.median / (2 * flop) - 1) < 1e-9);
	}
	backend_close(b);
}

static void test_decode(void **state)
{
	(void)state;
	struct backend *b = open_cpu();
	struct model *m;
	struct err e;
	struct shape s = {.vocab = 48, .width = 32, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 16, .value_dim = 16, .experts = 4, .chosen = 2,
			  .expert_width = 8, .router = ROUTER_SOFTMAX, .router_scale = 1, .qk_norm = QK_NORM_WHOLE, .rope_theta = 10000, .norm_eps = 1e-5,
			  .init_std = 0.02, .max_positions = 128, .heads_kind = HEAD_LM};
	struct limits_machine machine = {1e15, 1e9};
	if (bench_decode_open(&m, b, &s, &e) < 0) fail_msg("%s", e.msg);
	struct bench_decode d = {.groups = 2, .completions = 3, .prompt = 20, .steps = 10};
	if (bench_decode(m, &machine, 2, &d, &e) < 0) fail_msg("%s", e.msg);
	assert_true(positive(d.limit_seconds) && isfinite(d.step_seconds));
	/* bytes decide here, so that half of them is half of the time */
	assert_true(fabs(d.limit_seconds / d.limit_seconds_half - 2) < 1e-9);
	model_close(m);
	backend_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_layer), cmocka_unit_test(test_decode)};
	return cmocka_run_group_tests_name("bench_parts", tests, NULL, NULL);
}
