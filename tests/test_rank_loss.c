/* The ranking losses and their evaluation: values worked out by hand,
 * derivatives against central differences, the order of candidates, ties,
 * partial rankings, extreme scores; and a planted fault that the comparer must
 * see. Pure functions in double: 1e-12 for values, 1e-6 for differences. */
#include "reward/rank_eval.h"
#include "reward/rank_loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/rng.h"

static const double VALUE = 1e-12, DIFFERENCE = 1e-6;
enum { KINDS = 3 };

static int near(double a, double b, double tolerance)
{
	return fabs(a - b) <= tolerance * fmax(1, fabs(b));
}

static void expect(const char *what, double got, double expected, double tolerance)
{
	if (!near(got, expected, tolerance)) fail_msg("%s is %.17g, not %.17g", what, got, expected);
}

/* Candidates in order, a rank for each place; margins 1 between places that do not tie. */
static struct store_comparison ranking(uint32_t count, const uint8_t *order, const uint8_t *rank)
{
	struct store_comparison c = {.count = count, .has_margins = 1};
	memcpy(c.order, order, count);
	memcpy(c.rank, rank, count);
	for (uint32_t k = 0; k + 1 < count; k++) c.margin[k] = rank[k] == rank[k + 1] ? 0 : 1;
	return c;
}

/* A random ranking of `count` of n candidates with ties. */
static struct store_comparison random_ranking(uint64_t seed, uint32_t n, uint32_t count)
{
	uint32_t order[GROUP_MAX];
	uint8_t o[GROUP_MAX], r[GROUP_MAX];
	rng_permutation((struct rng_key){seed, RNG_TEST}, 0, 0, n, order);
	for (uint32_t k = 0; k < count; k++) {
		o[k] = (uint8_t)order[k];
		r[k] = k && rng_below((struct rng_key){seed, RNG_TEST}, 1, k, 0, 3) == 0 ? r[k - 1] : (uint8_t)(k + 1);
	}
	return ranking(count, o, r);
}

static void random_scores(uint64_t seed, double *score, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) score[i] = 2 * rng_normal((struct rng_key){seed, RNG_TEST}, 7, i, 0);
}

static double log_sigmoid(double x)
{
	return -log(1 + exp(-x));
}

static void test_pairs_by_hand(void **state)
{
	(void)state;
	double score[] = {0.5, -1, 2}, d[3];
	struct store_comparison c = ranking(3, (uint8_t[]){2, 0, 1}, (uint8_t[]){1, 2, 3});
	struct rank_loss_options o = {RANK_PAIRS, 0, 0};
	expect("pairs", rank_loss(&o, &c, score, d, 3), -(log_sigmoid(1.5) + log_sigmoid(3) + log_sigmoid(1.5)) / 3, VALUE);
	expect("its derivative by the best", d[2], (1 / (1 + exp(-1.5)) - 1 + 1 / (1 + exp(-3.0)) - 1) / 3, VALUE);
	o.label_smoothing = 0.1;
	expect("smoothed", rank_loss(&o, &c, score, d, 3),
	       -(0.9 * (2 * log_sigmoid(1.5) + log_sigmoid(3)) + 0.1 * (2 * log_sigmoid(-1.5) + log_sigmoid(-3))) / 3, VALUE);
	o = (struct rank_loss_options){RANK_PAIRS, 0, 0.5};
	expect("with margin", rank_loss(&o, &c, score, d, 3), -(log_sigmoid(1) + log_sigmoid(2) + log_sigmoid(1)) / 3, VALUE);
	c.margin[1] = NAN; /* what is not known asks for nothing */
	expect("with an unknown margin", rank_loss(&o, &c, score, d, 3), -(log_sigmoid(1) + log_sigmoid(3) + log_sigmoid(1.5)) / 3, VALUE);
	c = ranking(2, (uint8_t[]){0, 1}, (uint8_t[]){1, 1});
	expect("a tie", rank_loss(&o, &c, score, d, 3), -(log_sigmoid(1.5) + log_sigmoid(-1.5)) / 2, VALUE);
}

static void test_plackett_luce_by_hand(void **state)
{
	(void)state;
	double score[] = {0.5, -1, 2}, d[3], e0 = exp(0.5), e1 = exp(-1.0), e2 = exp(2.0);
	struct rank_loss_options o = {RANK_PLACKETT_LUCE, 0, 0};
	struct store_comparison c = ranking(3, (uint8_t[]){2, 0, 1}, (uint8_t[]){1, 2, 3});
	expect("Plackett-Luce", rank_loss(&o, &c, score, d, 3), -(log(e2 / (e0 + e1 + e2)) + log(e0 / (e0 + e1))) / 2, VALUE);
	c = ranking(3, (uint8_t[]){2, 0, 1}, (uint8_t[]){1, 1, 3}); /* Efron: the block's second choice sees half of the block */
	expect("with a tie", rank_loss(&o, &c, score, d, 3), (log(e0 + e1 + e2) + log(e1 + (e0 + e2) / 2) - 2.5) / 2, VALUE);
	/* near the mean over both orders of the tie */
	double mean = -(log(e2 / (e0 + e1 + e2)) + log(e0 / (e0 + e1)) + log(e0 / (e0 + e1 + e2)) + log(e2 / (e2 + e1))) / 4;
	assert_true(fabs(rank_loss(&o, &c, score, d, 3) - mean) < 0.25);
}

static void test_best_of_by_hand(void **state)
{
	(void)state;
	double score[] = {0.5, -1, 2}, d[3], z = log(exp(0.5) + exp(-1.0) + exp(2.0));
	struct rank_loss_options o = {RANK_BEST_OF, 0, 0};
	struct store_comparison c = ranking(3, (uint8_t[]){1, 0, 2}, (uint8_t[]){1, 2, 3});
	expect("best of three", rank_loss(&o, &c, score, d, 3), z + 1, VALUE);
	expect("its derivative", d[1], exp(-1 - z) - 1, VALUE);
	c.rank[1] = 1;
	expect("two best", rank_loss(&o, &c, score, d, 3), z - (0.5 - 1) / 2, VALUE);
	o.label_smoothing = 0.3;
	expect("smoothed", rank_loss(&o, &c, score, d, 3), z - 0.35 * (0.5 - 1) - 0.1 * (0.5 - 1 + 2), VALUE);
}

/* Largest error of the derivatives, by central differences; `fault` is added to the first derivative. */
static double gradient_error(const struct rank_loss_options *o, const struct store_comparison *c, const double *score, uint32_t n, double fault)
{
	double d[GROUP_MAX], scratch[GROUP_MAX], moved[GROUP_MAX], worst = 0;
	rank_loss(o, c, score, d, n);
	d[0] += fault;
	for (uint32_t i = 0; i < n; i++) {
		const double h = 1e-5;
		memcpy(moved, score, n * sizeof *score);
		moved[i] = score[i] + h;
		double up = rank_loss(o, c, moved, scratch, n);
		moved[i] = score[i] - h;
		double down = rank_loss(o, c, moved, scratch, n), expected = (up - down) / (2 * h);
		worst = fmax(worst, fabs(d[i] - expected) / fmax(1, fabs(expected)));
	}
	return worst;
}

static void test_derivatives(void **state)
{
	(void)state;
	static const uint32_t sizes[][2] = {{2, 2}, {3, 3}, {10, 10}, {10, 4}, {64, 64}, {64, 2}};
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			for (uint64_t seed = 0; seed < 4; seed++) {
				double score[GROUP_MAX];
				uint32_t n = sizes[i][0];
				struct store_comparison c = random_ranking(seed, n, sizes[i][1]);
				struct rank_loss_options o = {(enum rank_loss_kind)kind, kind == RANK_PLACKETT_LUCE ? 0 : 0.1, kind == RANK_PAIRS ? 0.3 : 0};
				random_scores(seed + 100, score, n);
				double worst = gradient_error(&o, &c, score, n, 0);
				if (!(worst < DIFFERENCE)) fail_msg("loss %d, %u of %u, seed %u: derivatives are wrong by %g", kind, sizes[i][1], n, (unsigned)seed, worst);
			}
}

static void test_a_planted_fault_is_seen(void **state)
{
	(void)state;
	double score[10];
	struct store_comparison c = random_ranking(3, 10, 10);
	random_scores(4, score, 10);
	for (int kind = 0; kind < KINDS; kind++) assert_true(gradient_error(&(struct rank_loss_options){(enum rank_loss_kind)kind, 0, 0}, &c, score, 10, 1e-4) > DIFFERENCE);
}

/* Naming the candidates otherwise, and writing a tie in another order, changes nothing. */
static void test_order_of_candidates(void **state)
{
	(void)state;
	for (int kind = 0; kind < KINDS; kind++)
		for (uint64_t seed = 0; seed < 8; seed++) {
			struct rank_loss_options o = {(enum rank_loss_kind)kind, 0, 0};
			struct store_comparison c = random_ranking(seed, 10, 8), r = c;
			double score[10], other[10], d[10], e[10];
			uint32_t name[10];
			random_scores(seed, score, 10);
			rng_permutation((struct rng_key){seed, RNG_TEST}, 5, 0, 10, name);
			for (int i = 0; i < 10; i++) other[name[i]] = score[i];
			for (uint32_t k = 0; k < c.count; k++) r.order[k] = (uint8_t)name[c.order[k]];
			for (uint32_t k = 0; k + 1 < c.count; k++)
				if (r.rank[k] == r.rank[k + 1]) {
					uint8_t t = r.order[k];
					r.order[k] = r.order[k + 1], r.order[k + 1] = t;
				}
			expect("loss", rank_loss(&o, &r, other, e, 10), rank_loss(&o, &c, score, d, 10), VALUE);
			double sum = 0;
			for (int i = 0; i < 10; i++) {
				expect("derivative", e[name[i]], d[i], VALUE);
				sum += d[i];
			}
			expect("sum of the derivatives", sum, 0, VALUE); /* a constant added to all scores changes nothing */
		}
}

static void test_ties_and_extremes(void **state)
{
	(void)state;
	static const double scores[][4] = {{0, 0, 0, 0}, {1e6, -1e6, 0, 1}, {-1e6, 1e6, 1e6, -1e6}, {800, 0, -800, -1600}};
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t s = 0; s < sizeof scores / sizeof *scores; s++)
			for (int tied = 0; tied < 2; tied++) {
				double d[4];
				struct rank_loss_options o = {(enum rank_loss_kind)kind, 0, 0};
				struct store_comparison c = ranking(4, (uint8_t[]){0, 1, 2, 3}, tied ? (uint8_t[]){1, 1, 1, 1} : (uint8_t[]){1, 2, 3, 4});
				double loss = rank_loss(&o, &c, scores[s], d, 4);
				assert_true(isfinite(loss) && loss >= -VALUE * 1e6);
				for (int i = 0; i < 4; i++) assert_true(isfinite(d[i]));
				if (tied && s == 0)
					for (int i = 0; i < 4; i++) expect("derivative of an all-tie group at equal scores", d[i], 0, VALUE);
			}
	/* candidates that are not ranked have no part */
	double d[4] = {9, 9, 9, 9}, score[] = {1, 2, 3, 4};
	struct store_comparison c = ranking(2, (uint8_t[]){3, 1}, (uint8_t[]){1, 2});
	for (int kind = 0; kind < KINDS; kind++) {
		rank_loss(&(struct rank_loss_options){(enum rank_loss_kind)kind, 0, 0}, &c, score, d, 4);
		assert_true(d[0] == 0 && d[2] == 0 && d[1] > 0 && d[3] < 0);
	}
}

static void test_names(void **state)
{
	(void)state;
	enum rank_loss_kind k;
	struct err e;
	assert_int_equal(rank_loss_kind_parse(&k, "best_of", &e), 0);
	assert_int_equal(k, RANK_BEST_OF);
	assert_int_equal(rank_loss_kind_parse(&k, "pair", &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "plackett_luce"));
}

static void test_evaluation(void **state)
{
	(void)state;
	struct ranked_group g[3] = {0};
	struct rank_eval v;
	g[0].group.size = g[1].group.size = g[2].group.size = 3;
	g[1].group.prompt = 1, g[2].group.prompt = 2;
	g[0].ranking = ranking(3, (uint8_t[]){0, 1, 2}, (uint8_t[]){1, 2, 2}); /* two pairs */
	g[1].ranking = ranking(2, (uint8_t[]){2, 0}, (uint8_t[]){1, 2});       /* one pair */
	g[2].ranking = ranking(3, (uint8_t[]){0, 1, 2}, (uint8_t[]){1, 1, 1}); /* none */
	g[1].ranking.margin[0] = 4;
	memcpy(g[0].group.length, (uint32_t[]){5, 9, 5}, 3 * sizeof(uint32_t));
	memcpy(g[1].group.length, (uint32_t[]){3, 1, 7}, 3 * sizeof(uint32_t));
	const double score[] = {1, 0, 2, 0, 9, 0, 5, 5, 5}; /* right, wrong; equal */
	rank_eval(&v, g, 3, score, 1);
	assert_int_equal(v.groups, 3);
	assert_int_equal(v.tied_groups, 1);
	assert_int_equal(v.pairs, 3);
	expect("accuracy", v.accuracy, 0.5, VALUE);
	expect("the shorter wins", v.shorter, 0.5, VALUE);
	expect("the longer wins", v.longer, 0.5, VALUE);
	expect("Wilson's lower end for a half of three", v.low, 0.5 - 1.959963984540054 / (1 + 3.841458820694124 / 3) * sqrt(1.0 / 12 + 3.841458820694124 / 36), VALUE);
	double p1 = 1 / (1 + exp(-1.0)), p2 = 1 / (1 + exp(1.0));
	expect("Brier", v.brier, ((p1 - 1) * (p1 - 1) + (p2 - 1) * (p2 - 1) + 0.25) / 3, VALUE);
	assert_int_equal(v.bin[7].n, 1);
	assert_int_equal(v.bin[2].n, 1);
	assert_int_equal(v.bin[5].n, 1);
	expect("observed", v.bin[5].observed, 0, VALUE); /* the second of the pair's candidates is the better one */
	expect("calibration error", v.calibration, (1 - p1 + 1 - p2 + 0.5) / 3, VALUE);
	/* prompts as clusters: right 1 of 2 and half of 1 pair: both have an error of 0; shorter 0.5 of 2, 1 of 1 pair */
	assert_int_equal(v.prompts, 2);
	expect("lower end over prompts", v.group_low, 0.5, VALUE);
	/* paired with "the shorter wins": 1 − 0.5 and 0.5 − 1, around 0, over 3 pairs */
	expect("lower end of the advantage", v.over_low, -1.959963984540054 * sqrt(2 * (0.25 + 0.25)) / 3, VALUE);
	expect("upper end of the advantage", v.over_high, -v.over_low, VALUE);
	assert_int_equal(v.margin[0].n, 2);
	assert_int_equal(v.margin[3].n, 1);
	rank_eval(&v, g + 2, 1, score + 6, 1);
	assert_int_equal(v.pairs, 0);
	expect("accuracy without pairs", v.accuracy, 0, VALUE);
}

/* Groups of one prompt are one cluster: given k times, they leave the interval as it is; as k prompts they narrow it. */
static void test_prompts_are_the_units(void **state)
{
	(void)state;
	enum { N = 40, SIZE = 6, TIMES = 3 };
	static struct ranked_group g[N * TIMES];
	static double score[N * TIMES * SIZE];
	struct rank_eval once, same, apart;
	memset(g, 0, sizeof g);
	for (uint32_t i = 0; i < N * TIMES; i++) {
		uint32_t prompt = i % N;
		g[i].group.size = SIZE;
		g[i].group.prompt = prompt;
		for (uint32_t c = 0; c < SIZE; c++) g[i].group.length[c] = 1 + rng_below((struct rng_key){3, RNG_TEST}, prompt, c, 0, 9);
		g[i].ranking = random_ranking(prompt, SIZE, SIZE);
		random_scores(prompt + 100, score + i * SIZE, SIZE);
	}
	rank_eval(&once, g, N, score, 1);
	rank_eval(&same, g, N * TIMES, score, 1);
	assert_int_equal(same.prompts, once.prompts);
	assert_int_equal(same.pairs, TIMES * once.pairs);
	expect("lower end", same.group_low, once.group_low, VALUE);
	expect("lower end of the advantage", same.over_low, once.over_low, VALUE);
	assert_true(same.low > once.low && once.group_low < once.accuracy - 0.01);
	for (uint32_t i = 0; i < N * TIMES; i++) g[i].group.prompt = i;
	rank_eval(&apart, g, N * TIMES, score, 1);
	assert_int_equal(apart.prompts, TIMES * once.prompts);
	assert_true(apart.group_low > once.group_low + 0.005);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs_by_hand), cmocka_unit_test(test_plackett_luce_by_hand), cmocka_unit_test(test_best_of_by_hand),
		cmocka_unit_test(test_derivatives), cmocka_unit_test(test_a_planted_fault_is_seen), cmocka_unit_test(test_order_of_candidates),
		cmocka_unit_test(test_ties_and_extremes), cmocka_unit_test(test_names), cmocka_unit_test(test_evaluation),
		cmocka_unit_test(test_prompts_are_the_units)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
