/* The kernels' exp, log and sigmoid against the C library's double functions over
 * the whole range of f32, in units of the last place; special values and masked
 * lanes. The plain C build of the lanes is tested here; that the others have the
 * same bits is test_ops_exact's. */
#define KERNEL_ISA generic
#undef __AVX512F__
#undef __AVX2__
#include "core/tensor/cpu/kernels/simd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Distance in units of the last place of the nearest f32 (normal numbers). */
static double ulps(float got, double want)
{
	int e;
	frexp(want, &e);
	return fabs((double)got - want) / ldexp(1.0, e - 24);
}

static float from_bits(uint32_t b)
{
	float x;
	memcpy(&x, &b, 4);
	return x;
}

static void test_exp(void **state)
{
	(void)state;
	double worst = 0;
	for (uint64_t b = 0; b < 1ull << 32; b += 16 * 4093) {
		float x[16], y[16];
		for (int i = 0; i < 16; i++) x[i] = from_bits((uint32_t)(b + 4093u * (uint64_t)i));
		v_store(y, v_exp(v_load(x)));
		for (int i = 0; i < 16; i++) {
			if (isnan(x[i])) assert_true(isnan(y[i]));
			else if (x[i] < -86.6f) assert_true(y[i] == 0);
			else if (x[i] > 88.7229f) assert_true(isinf(y[i]) && y[i] > 0);
			else if (x[i] < 88.7228f) worst = fmax(worst, ulps(y[i], exp((double)x[i])));
		}
	}
	assert_true(worst < 1.3);
	assert_true(s_exp(0.0f) == 1 && s_exp(-0.0f) == 1 && s_exp(-INFINITY) == 0 && s_exp(INFINITY) == INFINITY && isnan(s_exp(NAN)));
}

static void test_exp_is_dense_near_zero(void **state)
{
	(void)state;
	double worst = 0;
	for (int n = -20000; n <= 20000; n++) worst = fmax(worst, ulps(s_exp((float)n * 1e-4f), exp((double)((float)n * 1e-4f))));
	assert_true(worst < 1.3);
}

static void test_log(void **state)
{
	(void)state;
	double worst = 0;
	for (uint32_t b = 0x00800000; b < 0x7f800000; b += 2039) {
		float x = from_bits(b), y = s_log(x);
		if (x == 1) assert_true(y == 0);
		else worst = fmax(worst, ulps(y, log((double)x)));
	}
	assert_true(worst < 1);
	assert_true(s_log(1.0f) == 0 && s_log(INFINITY) == INFINITY && isnan(s_log(NAN)));
}

static void test_sigmoid(void **state)
{
	(void)state;
	for (int n = -1000; n <= 1000; n++) {
		float x = (float)n * 0.2f, y[16];
		v_store(y, v_sigmoid(v_set(x)));
		double want = 1 / (1 + exp(-(double)x));
		assert_true(want < 0x1p-125 ? y[0] < 0x1p-124f : ulps(y[0], want) < 3);
	}
}

static void test_erf(void **state)
{
	(void)state;
	double worst = 0;
	for (uint64_t b = 0; b < 1ull << 32; b += 16 * 2039) {
		float x[16], y[16];
		for (int i = 0; i < 16; i++) x[i] = from_bits((uint32_t)(b + 2039u * (uint64_t)i));
		v_store(y, v_erf(v_load(x)));
		for (int i = 0; i < 16; i++) {
			if (isnan(x[i])) assert_true(isnan(y[i]));
			else if (fabsf(x[i]) > 1e-37f) worst = fmax(worst, ulps(y[i], erf((double)x[i])));
			else assert_true(fabsf(y[i]) <= 1.13e-37f);
		}
	}
	assert_true(worst < 2);
}

static void test_tails(void **state)
{
	(void)state;
	float x[16], y[18];
	for (int i = 0; i < 16; i++) x[i] = (float)(i + 1);
	for (int n = 0; n <= 16; n++) {
		for (int i = 0; i < 18; i++) y[i] = -1;
		v_store_n(y + 1, v_load_n(x, n), n);
		for (int i = 0; i < 18; i++) assert_true(y[i] == (i >= 1 && i <= n ? x[i - 1] : -1));
		v_store(y + 1, v_fill_tail(v_load(x), n, 99));
		for (int i = 0; i < 16; i++) assert_true(y[i + 1] == (i < n ? x[i] : 99));
	}
	assert_true(v_hmax(v_load(x)) == 16 && v_hsum(v_load(x)) == 136);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exp), cmocka_unit_test(test_exp_is_dense_near_zero), cmocka_unit_test(test_log),
		cmocka_unit_test(test_sigmoid), cmocka_unit_test(test_erf), cmocka_unit_test(test_tails),
	};
	return cmocka_run_group_tests_name("ops_math", tests, NULL, NULL);
}
