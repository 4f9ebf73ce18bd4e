/* Likelihoods of answers against their definitions written out, derivatives
 * against central differences; the posterior against numerical integration. */
#include "reward/judgement.h"
#include "reward/posterior.h"

#include "core/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct judgement_scale SCALE = {{0.3, 0.9, 1.8}};

static void near(double a, double b, double tolerance)
{
	if (!(fabs(a - b) <= tolerance * fmax(1, fabs(b)))) fail_msg("%.15g is not %.15g", a, b);
}

static struct judgement quad(uint8_t best, uint8_t worst)
{
	struct judgement j = {.kind = JUDGEMENT_BEST_WORST, .count = 4, .shown = {4, 0, 3, 1}};
	for (int k = 0; k < 4; k++) j.rank[k] = j.shown[k] == best ? 1 : j.shown[k] == worst ? 3 : 2;
	return j;
}

static struct judgement duel(uint8_t a, uint8_t b, uint8_t ra, uint8_t rb, uint8_t strength)
{
	return (struct judgement){.kind = JUDGEMENT_DUEL, .count = 2, .shown = {a, b}, .rank = {ra, rb}, .strength = strength};
}

/* Answers that have every form; over 6 candidates. */
static uint32_t every_form(struct judgement *j)
{
	uint32_t n = 0;
	j[n++] = quad(3, 0);
	j[n] = quad(3, 0);
	memset(j[n++].rank, 1, 4);
	j[n++] = (struct judgement){.kind = JUDGEMENT_BEST_WORST, .count = 3, .shown = {5, 2, 1}, .rank = {2, 3, 1}};
	j[n++] = duel(2, 5, 2, 1, 0);
	j[n++] = duel(5, 2, 1, 1, 0);
	for (uint8_t s = 1; s <= 3; s++) j[n++] = duel(0, 4, 1, 2, s);
	j[n++] = (struct judgement){.kind = JUDGEMENT_ORDER, .count = 6, .shown = {5, 4, 3, 2, 1, 0}, .rank = {1, 2, 3, 4, 5, 6}};
	j[n++] = (struct judgement){.kind = JUDGEMENT_ORDER, .count = 5, .shown = {0, 1, 2, 3, 4}, .rank = {2, 1, 2, 0, 4}};
	j[n++] = (struct judgement){.kind = JUDGEMENT_ORDER, .count = 3, .shown = {0, 1, 2}, .rank = {1, 1, 1}};
	return n;
}

static void test_values(void **state)
{
	(void)state;
	const double s[6] = {0.2, -0.4, 1.1, 0.7, -1.3, 0.05};
	double beta = 1.7, e[6];
	for (int i = 0; i < 6; i++) e[i] = exp(beta * s[i]);
	struct judgement j = quad(3, 0);
	double want = log(e[3] / (e[4] + e[0] + e[3] + e[1])) + log(1 / e[0] / (1 / e[4] + 1 / e[0] + 1 / e[1]));
	near(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL), want, 1e-13);
	j = duel(2, 5, 2, 1, 0);
	near(judgement_loglik(&j, &SCALE, beta, 2, s, 6, NULL, NULL), 2 * log(1 / (1 + exp(-(beta * (s[5] - s[2]) - 0.3)))), 1e-13);
	/* seven answers are all there are */
	double all = 0;
	for (uint8_t k = 1; k <= 3; k++) {
		j = duel(0, 4, 1, 2, k);
		all += exp(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL));
		j = duel(0, 4, 2, 1, k);
		all += exp(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL));
	}
	j = duel(0, 4, 1, 1, 0);
	near(all + exp(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL)), 1, 1e-13);
	/* so are the twelve best and worst */
	all = 0;
	for (uint32_t b = 0; b < 4; b++)
		for (uint32_t w = 0; w < 4; w++) {
			struct judgement q = quad(0, 1);
			for (uint32_t k = 0; k < 4; k++) q.rank[k] = k == b ? 1 : k == w ? 3 : 2;
			if (b != w) all += exp(judgement_loglik(&q, &SCALE, beta, 1, s, 6, NULL, NULL));
		}
	near(all, 1, 1e-13);
	j = (struct judgement){.kind = JUDGEMENT_ORDER, .count = 3, .shown = {2, 0, 1}, .rank = {1, 3, 2}};
	near(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL), log(e[2] / (e[2] + e[0] + e[1]) * e[1] / (e[0] + e[1])), 1e-13);
	memset(j.rank, 0, 3); /* skipped */
	near(judgement_loglik(&j, &SCALE, beta, 1, s, 6, NULL, NULL), 0, 0);
}

static void test_derivatives(void **state)
{
	(void)state;
	struct judgement j[16];
	uint32_t n = every_form(j);
	const double beta[] = {1, -0.6, 2.5, 0};
	for (uint32_t i = 0; i < n; i++)
		for (int b = 0; b < 4; b++) {
			double s[6] = {0.3, -0.2, 0.9, 1.4, -0.8, 0.1}, g[6] = {0}, h[36] = {0};
			assert_true(judgement_valid(&j[i], 6));
			double at = judgement_loglik(&j[i], &SCALE, beta[b], 0.7, s, 6, g, h);
			assert_true(at < 0);
			for (uint32_t k = 0; k < 6; k++) {
				double up[6] = {0}, down[6] = {0}, x = s[k];
				s[k] = x + 1e-5;
				double high = judgement_loglik(&j[i], &SCALE, beta[b], 0.7, s, 6, up, NULL);
				s[k] = x - 1e-5;
				double low = judgement_loglik(&j[i], &SCALE, beta[b], 0.7, s, 6, down, NULL);
				s[k] = x;
				near((high - low) / 2e-5, g[k], 1e-8);
				for (uint32_t l = 0; l < 6; l++) near((up[l] - down[l]) / 2e-5, h[k * 6 + l], 1e-8);
			}
		}
}

static void test_invalid(void **state)
{
	(void)state;
	struct judgement j = quad(3, 0);
	assert_true(judgement_valid(&j, 5));
	assert_false(judgement_valid(&j, 4)); /* candidate 4 */
	j.rank[0] = 1;
	j.rank[1] = 1;
	assert_false(judgement_valid(&j, 5));
	j = quad(3, 0);
	j.shown[1] = 4;
	assert_false(judgement_valid(&j, 5)); /* twice */
	j = duel(0, 1, 1, 1, 2);
	assert_false(judgement_valid(&j, 5)); /* a tie of a strength */
	j = duel(0, 1, 2, 2, 0);
	assert_false(judgement_valid(&j, 5));
	j = (struct judgement){.kind = 9, .count = 2, .shown = {0, 1}};
	assert_false(judgement_valid(&j, 5));
}

/* Evidence and mean of two candidates by brute force over a grid. */
static void test_posterior_integral(void **state)
{
	(void)state;
	const struct judgement j[] = {duel(0, 1, 1, 2, 0), duel(1, 0, 2, 1, 2), duel(0, 1, 1, 1, 0)};
	struct posterior_model m = {.sd = 0.8, .scale = SCALE};
	struct posterior p;
	posterior_fit(&p, &m, j, 3, 2);
	double z = 0, mean = 0, square = 0, above = 0, prefers = 0, top[2];
	for (double a = -6; a <= 6; a += 0.02)
		for (double b = -6; b <= 6; b += 0.02) {
			double s[2] = {a, b}, w = exp(-(a * a + b * b) / (2 * 0.64)) / (2 * M_PI * 0.64) * 0.0004;
			for (int k = 0; k < 3; k++) w *= exp(judgement_loglik(&j[k], &SCALE, 1, 1, s, 2, NULL, NULL));
			z += w;
			mean += w * (a - b);
			square += w * (a - b) * (a - b);
			above += w * (a > b ? 1 : fabs(a - b) < 1e-9 ? 0.5 : 0);
			prefers += w / (1 + exp(b - a));
		}
	double d, v;
	posterior_difference(&p, 0, 1, &d, &v);
	mean /= z;
	/* Laplace's approximation, so not exact: its error at three answers */
	near(p.evidence, log(z), 0.01);
	near(d, mean, 0.03);
	near(v, square / z - mean * mean, 0.06);
	near(posterior_above(&p, 0, 1), above / z, 0.02);
	near(posterior_prefers(&p, 0, 1), prefers / z, 0.01);
	posterior_top(&p, 1, top);
	near(top[0] + top[1], 1, 1e-12);
	near(top[0], posterior_above(&p, 0, 1), 0.03);
}

static void test_posterior_no_answers(void **state)
{
	(void)state;
	struct posterior_model m = posterior_model_default();
	struct posterior p;
	double top[10];
	posterior_fit(&p, &m, NULL, 0, 10);
	near(p.evidence, 0, 1e-12);
	for (uint32_t i = 0; i < 10; i++) {
		near(p.mean[i], 0, 0);
		for (uint32_t k = 0; k < 10; k++) near(p.covariance[i * 10 + k], i == k ? m.sd * m.sd : 0, 1e-12);
	}
	posterior_top(&p, 3, top);
	for (uint32_t i = 0; i < 10; i++) near(top[i], 0.1, 0.03);
	near(posterior_above(&p, 2, 7), 0.5, 1e-12);
}

/* Contradictory and one-sided answers: finite, and the maximum is one: the gradient there is zero. */
static void test_posterior_extremes(void **state)
{
	(void)state;
	struct judgement j[300];
	struct posterior_model m = posterior_model_default();
	struct posterior p;
	double gradient[6] = {0};
	for (int i = 0; i < 300; i++) j[i] = i < 280 ? quad(3, 0) : duel(0, 3, 1, 2, 3);
	posterior_fit(&p, &m, j, 300, 6);
	for (int i = 0; i < 300; i++) judgement_loglik(&j[i], &m.scale, 1, 1, p.mean, 6, gradient, NULL);
	for (uint32_t i = 0; i < 6; i++) near(gradient[i] - p.mean[i] / (m.sd * m.sd), 0, 1e-7);
	assert_true(isfinite(p.evidence) && p.mean[3] > p.mean[0]);
}

/* The gain is the mutual information of answer and difference: by brute force over the difference. */
static void test_gain(void **state)
{
	(void)state;
	const struct judgement j[] = {duel(0, 1, 1, 2, 0), quad(0, 1)};
	struct posterior_model m = posterior_model_default();
	struct posterior p;
	posterior_fit(&p, &m, j, 2, 6);
	double mean, variance, q[3] = {0}, inner = 0;
	posterior_difference(&p, 0, 1, &mean, &variance);
	for (double z = -8; z <= 8; z += 0.001) {
		double x = 0.8 * (mean + z * sqrt(variance)), w = exp(-z * z / 2) / sqrt(2 * M_PI) * 0.001;
		double f = 1 / (1 + exp(0.3 - x)), s = 1 / (1 + exp(0.3 + x)), o[3] = {f, 1 - f - s, s};
		for (int k = 0; k < 3; k++) q[k] += w * o[k], inner -= w * o[k] * log(o[k]);
	}
	near(posterior_gain(&p, &SCALE, 0.8, 0, 1), -q[0] * log(q[0]) - q[1] * log(q[1]) - q[2] * log(q[2]) - inner, 1e-4);
	near(posterior_gain(&p, &SCALE, 0, 0, 1), 0, 1e-12);
	/* a pair that is not settled tells more than one that is */
	assert_true(posterior_gain(&p, &SCALE, 1, 3, 4) > posterior_gain(&p, &SCALE, 1, 0, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values), cmocka_unit_test(test_derivatives), cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_posterior_integral), cmocka_unit_test(test_posterior_no_answers), cmocka_unit_test(test_posterior_extremes),
		cmocka_unit_test(test_gain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
