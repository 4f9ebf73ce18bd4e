/* Coefficients of agreement against published examples; shares, repeats and gold
 * items by hand; the estimate of labels against the simulation. */
#include "app/web/agreement.h"
#include "app/web/estimate.h"
#include "app/web/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void near(double a, double b, double tolerance)
{
	if (!(fabs(a - b) <= tolerance)) fail_msg("%.9g is not %.9g ± %g", a, b, tolerance);
}

/* values [units, raters], 0: none. Put in backwards: the order must not matter. */
static struct agreement of(const int *values, uint32_t units, uint32_t raters, enum agreement_metric metric, uint32_t resamples)
{
	static struct agreement_rating r[4096];
	struct agreement a;
	struct err e;
	size_t n = 0;
	for (uint32_t u = units; u-- > 0;)
		for (uint32_t k = raters; k-- > 0;)
			if (values[u * raters + k]) r[n++] = (struct agreement_rating){u, u, k, values[u * raters + k]};
	assert_int_equal(agreement_compute(&a, r, n, metric, 1, resamples, &e), 0);
	return a;
}

/* Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: four observers, twelve units, missing data. */
static void test_krippendorff(void **state)
{
	(void)state;
	const int v[12 * 4] = {1, 1, 0, 1, 2, 2, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 1, 2, 3, 4,
			       4, 4, 4, 4, 1, 1, 2, 1, 2, 2, 2, 2, 0, 5, 5, 5, 0, 0, 1, 1, 0, 3, 0, 0};
	struct agreement a = of(v, 12, 4, AGREEMENT_NOMINAL, 500);
	near(a.alpha.value, 0.743, 0.0005);
	assert_int_equal(a.units, 11); /* one observer alone says nothing */
	assert_int_equal(a.ratings, 40);
	assert_int_equal(a.raters, 4);
	assert_true(a.alpha.low < 0.65 && a.alpha.high > 0.8 && a.alpha.high <= 1);
	near(of(v, 12, 4, AGREEMENT_ORDINAL, 0).alpha.value, 0.815, 0.0005);
	near(of(v, 12, 4, AGREEMENT_INTERVAL, 0).alpha.value, 0.849, 0.0005);
	assert_true(isnan(of(v, 12, 4, AGREEMENT_NOMINAL, 0).alpha.low));
}

/* Fleiss, Measuring nominal scale agreement among many raters (1971), table 1: 30 patients, 6 psychiatrists, 5 categories: 0.430. */
static void test_fleiss(void **state)
{
	(void)state;
	static const int v[30 * 6] = {
		4, 4, 4, 4, 4, 4, 2, 2, 2, 5, 5, 5, 2, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 2, 2, 2, 4, 4, 4, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 5, 5, 1, 1, 3,
		3, 3, 4, 1, 1, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 1, 4, 4, 4, 4, 4, 1, 2, 4, 4, 4, 4, 2, 2, 2, 3, 3, 3, 1, 4, 4, 4, 4, 4, 2, 2, 4, 4, 4, 5,
		3, 3, 3, 3, 3, 5, 1, 1, 1, 4, 5, 5, 1, 1, 1, 1, 1, 2, 2, 2, 4, 4, 4, 4, 1, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5, 5, 2, 4, 4, 4, 4, 4, 2, 2, 4,
		5, 5, 5, 1, 1, 4, 4, 4, 4, 1, 4, 4, 4, 4, 5, 2, 2, 2, 2, 2, 4, 1, 1, 1, 1, 5, 5, 2, 2, 4, 4, 4, 4, 1, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5};
	struct agreement a = of(v, 30, 6, AGREEMENT_NOMINAL, 500);
	near(a.fleiss.value, 0.430, 0.0005);
	near(a.raw.value, 0.5556, 0.0005); /* his mean P */
	assert_true(a.fleiss.low < 0.40 && a.fleiss.low > 0.2 && a.fleiss.high > 0.46 && a.fleiss.high < 0.7);
	struct agreement again = of(v, 30, 6, AGREEMENT_NOMINAL, 500);
	assert_memory_equal(&a, &again, sizeof a);
}

/* Fleiss, Cohen & Everitt, Large sample standard errors of kappa (1969), table 1: 200 cases, two raters: 0.429. */
static void test_cohen(void **state)
{
	(void)state;
	const int cases[3][3] = {{106, 10, 4}, {22, 28, 10}, {2, 12, 6}};
	int v[200 * 2];
	uint32_t n = 0;
	for (int a = 0; a < 3; a++)
		for (int b = 0; b < 3; b++)
			for (int k = 0; k < cases[a][b]; k++, n++) v[2 * n] = a + 1, v[2 * n + 1] = b + 1;
	assert_int_equal(n, 200);
	struct agreement a = of(v, 200, 2, AGREEMENT_NOMINAL, 400);
	near(a.cohen.value, 0.429, 0.0005);
	near(a.raw.value, 0.70, 1e-12);
	/* their standard error is 0.054: the bootstrap's interval is about 1.96 of it to either side */
	near((a.cohen.high - a.cohen.low) / (2 * 1.96), 0.054, 0.008);
}

static void test_degenerate(void **state)
{
	(void)state;
	const int same[6] = {1, 1, 1, 1, 1, 1}, alone[3] = {1, 2, 3}, opposite[8] = {1, 2, 2, 1, 1, 2, 2, 1};
	struct agreement a = of(same, 3, 2, AGREEMENT_NOMINAL, 50);
	near(a.raw.value, 1, 0);
	assert_true(isnan(a.alpha.value) && isnan(a.fleiss.value) && isnan(a.cohen.value)); /* chance alone would give it */
	a = of(alone, 3, 1, AGREEMENT_NOMINAL, 50);
	assert_true(isnan(a.raw.value) && a.units == 0);
	a = of(opposite, 4, 2, AGREEMENT_NOMINAL, 50);
	near(a.raw.value, 0, 0);
	near(a.cohen.value, -1, 1e-12);
	assert_true(a.alpha.value < -0.7);
	struct err e;
	static struct agreement_rating many[200];
	for (int i = 0; i < 200; i++) many[i] = (struct agreement_rating){0, 0, (uint32_t)i, i};
	assert_int_equal(agreement_compute(&a, many, 200, AGREEMENT_NOMINAL, 1, 0, &e), ERR_RANGE);
}

static struct judgement judged(uint32_t item, uint32_t person, enum judgement_kind kind, uint32_t count, const char *shown, const char *rank)
{
	struct judgement j = {.item = item, .person = person, .kind = kind, .count = count};
	for (uint32_t k = 0; k < count; k++) j.shown[k] = (uint8_t)(shown[k] - '0'), j.rank[k] = (uint8_t)(rank[k] - '0');
	return j;
}

static void test_ratings(void **state)
{
	(void)state;
	const struct judgement j[] = {
		judged(3, 0, JUDGEMENT_BEST_WORST, 4, "7153", "1232"), /* 7 > 1, 5, 3; 1, 3 > 5 */
		judged(3, 1, JUDGEMENT_DUEL, 2, "17", "12"),           /* 1 > 7: against person 0 */
		judged(3, 1, JUDGEMENT_DUEL, 2, "53", "11"),           /* a tie */
		judged(3, 1, JUDGEMENT_DUEL, 2, "71", "12"),           /* the same pair again: the first word counts */
		judged(3, 2, JUDGEMENT_DUEL, 2, "71", "00"),           /* skipped */
	};
	struct agreement_rating r[32];
	struct agreement a;
	struct err e;
	assert_true(agreement_ratings_most(j, 5) <= 32);
	size_t n = agreement_ratings(r, j, 5);
	assert_int_equal(n, 7);
	for (size_t i = 0; i < n; i++)
		if (r[i].unit == 3 * 4096 + 1 * 64 + 7) assert_int_equal(r[i].value, r[i].rater == 0 ? -1 : 1);
	assert_int_equal(agreement_compute(&a, r, n, AGREEMENT_ORDINAL, 1, 0, &e), 0);
	assert_int_equal(a.units, 2);
	near(a.raw.value, 0, 0);
}

static uint32_t length(const void *ctx, uint32_t item, uint32_t candidate)
{
	(void)ctx;
	return item == 0 ? 5 : candidate;
}

static void test_shares(void **state)
{
	(void)state;
	const struct judgement j[] = {
		judged(1, 0, JUDGEMENT_DUEL, 2, "90", "12"), judged(1, 0, JUDGEMENT_DUEL, 2, "23", "21"), judged(1, 0, JUDGEMENT_DUEL, 2, "12", "12"),
		judged(1, 0, JUDGEMENT_DUEL, 2, "12", "11"), judged(1, 0, JUDGEMENT_DUEL, 2, "12", "00"), judged(0, 0, JUDGEMENT_DUEL, 2, "12", "12"),
		judged(1, 0, JUDGEMENT_BEST_WORST, 4, "0123", "2213"), judged(1, 0, JUDGEMENT_BEST_WORST, 4, "0123", "1111"),
	};
	struct agreement_share s = agreement_left_wins(j, 8);
	assert_int_equal(s.n, 4);
	near(s.value, 0.75, 0);
	assert_true(s.low > 0.2 && s.high < 1 && s.low < 0.75 && s.high > 0.75);
	s = agreement_place_wins(j, 8, 2);
	assert_int_equal(s.n, 1);
	near(s.value, 1, 0);
	near(agreement_place_wins(j, 8, 0).value, 0, 0);
	s = agreement_length_wins(j, 8, length, NULL); /* 9 > 0, 3 > 2, 2 over 1 lost, 2 over 3 lost */
	assert_int_equal(s.n, 4);
	near(s.value, 0.5, 0);
	assert_true(isnan(agreement_left_wins(j, 0).value));
	near(agreement_ceiling(0.726), 0.836, 0.0005);
	near(agreement_ceiling(0.63), 0.755, 0.0005);
	near(agreement_ceiling(0.773), 0.869, 0.0005);
}

static void test_repeat_and_gold(void **state)
{
	(void)state;
	const struct judgement a = judged(1, 0, JUDGEMENT_BEST_WORST, 4, "0123", "1223"), b = judged(1, 0, JUDGEMENT_BEST_WORST, 4, "3210", "3122");
	uint64_t alike, pairs;
	double right;
	agreement_same(&a, &a, &alike, &pairs);
	assert_true(alike == 5 && pairs == 5);
	agreement_same(&a, &b, &alike, &pairs); /* b: 2 > 0, 1 > 3; both decide 02, 03, 13, 23 */
	assert_true(pairs == 4 && alike == 3);
	agreement_gold(&a, 0, 3, &right, &pairs);
	assert_true(pairs == 5 && right == 5);
	agreement_gold(&b, 0, 3, &right, &pairs); /* 0 is the best: it is below 2, level unknown with 1, above 3 */
	assert_true(pairs == 4 && right == 3);
	agreement_gold(&b, 2, -1, &right, &pairs);
	assert_true(pairs == 3 && right == 3);
	struct judgement tie = judged(1, 0, JUDGEMENT_DUEL, 2, "02", "11");
	agreement_gold(&tie, 0, -1, &right, &pairs);
	assert_true(pairs == 1 && right == 0.5);
}

/* Before: the formula against the simulated accuracy of the usual design. During: it stops when it should. */
static void test_estimate(void **state)
{
	(void)state;
	const struct simulate_design usual = {.name = "usual", .mixed = 1}, quads = {.name = "quads", .quads = 3};
	const struct simulate_seconds s = {25, 7, 4};
	struct simulate_result r;
	double beta = simulate_beta(0.73);
	simulate_run(&r, &usual, 1, 300, 10, beta, &s);
	near(estimate_accuracy(0.73, 10, r.questions), r.accuracy, 0.02);
	simulate_run(&r, &quads, 1, 300, 10, beta, &s);
	near(estimate_accuracy(0.73, 10, 3), r.accuracy, 0.03);
	near(estimate_accuracy(0.73, 10, estimate_labels(0.73, 10, 0.8)), 0.8, 1e-9);
	assert_true(estimate_labels(0.63, 10, 0.8) > 1.5 * estimate_labels(0.73, 10, 0.8));
	assert_true(isinf(estimate_labels(0.5, 10, 0.8)) || estimate_labels(0.5, 10, 0.8) > 1e6);

	struct posterior_model m = posterior_model_default();
	struct posterior p;
	struct judgement j[400];
	struct estimate e;
	estimate_begin(&e);
	for (int i = 0; i < 20; i++) estimate_add(&e, NULL, 0);
	estimate_end(&e, 0.8, 0.73, 10);
	assert_false(e.stop);
	near(e.missing, 20 * estimate_labels(0.73, 10, 0.8), 1e-6);
	for (uint32_t labels = 8; labels <= 40; labels += 32) {
		estimate_begin(&e);
		for (uint32_t i = 0; i < 20; i++) {
			double score[10];
			simulate_scores(4, i, 10, score);
			for (uint32_t k = 0; k < labels; k++) {
				j[k] = (struct judgement){.item = i, .kind = JUDGEMENT_DUEL, .count = 2, .shown = {(uint8_t)(k % 10), (uint8_t)((k + 1 + k / 10) % 10)}};
				simulate_answer(&j[k], 4, k, beta, score, NULL);
			}
			posterior_fit(&p, &m, j, labels, 10);
			estimate_add(&e, &p, labels);
		}
		estimate_end(&e, 0.8, 0, 10);
		assert_true(e.low < e.accuracy && e.accuracy < e.high);
		assert_int_equal(e.stop, labels == 40);
		if (labels == 8) assert_true(e.missing > 5 * 20 && e.missing < 40 * 20);
		else assert_true(e.missing == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_krippendorff), cmocka_unit_test(test_fleiss), cmocka_unit_test(test_cohen), cmocka_unit_test(test_degenerate),
		cmocka_unit_test(test_ratings), cmocka_unit_test(test_shares), cmocka_unit_test(test_repeat_and_gold), cmocka_unit_test(test_estimate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
