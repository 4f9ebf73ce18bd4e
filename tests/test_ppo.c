/* PPO's arithmetic against golden/ppo_golden.h, which golden/ppo_golden.py makes
 * from the papers' equations; against values worked out by hand; derivatives
 * against central differences; and what is awkward: no tokens, equal rewards,
 * huge rewards.
 *
 * Float arrays may differ by 1e-6 of the array's largest magnitude: the learner
 * keeps rewards, values and advantages in float, and a small advantage is the
 * difference of large ones. Pure functions in double: 1e-12. */
#include "golden/ppo_golden.h"
#include "policy/optimizer.h"
#include "ppo/advantage.h"
#include "ppo/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof *(a)))
static const double FLOAT_TOLERANCE = 1e-6, DOUBLE_TOLERANCE = 1e-12;

/* Largest difference, in multiples of the largest expected magnitude; infinite when anything is not finite. */
static double difference(const float *got, const double *expected, int64_t n)
{
	double worst = 0, scale = 1e-30;
	for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(expected[i]));
	for (int64_t i = 0; i < n; i++) {
		double d = fabs((double)got[i] - expected[i]) / scale;
		if (!(d <= worst)) worst = d;
		if (!isfinite(d)) return INFINITY;
	}
	return worst;
}

static void expect_floats(const char *name, const char *what, const float *got, const double *expected, int64_t n)
{
	double d = difference(got, expected, n);
	if (!(d <= FLOAT_TOLERANCE)) fail_msg("%s: %s differs by %g", name, what, d);
}

static void expect_double(const char *what, int64_t i, double got, double expected)
{
	if (!(fabs(got - expected) <= DOUBLE_TOLERANCE * fmax(1.0, fabs(expected)))) fail_msg("%s %lld: %.17g, not %.17g", what, (long long)i, got, expected);
}

/* A case as the learner would have it. */
struct step {
	struct arena *arena;
	struct config *config;
	struct group *groups;
	struct ppo_batch b;
};

static void text(char *out, const char *value)
{
	snprintf(out, CONFIG_STRING, "%s", value);
}

static void configure(struct config *c, const struct golden_case *k)
{
	config_defaults(c);
	text(c->ppo.eos_rule, k->eos_rule), text(c->ppo.score_at, k->score_at), text(c->ppo.kl_in, k->kl_in);
	text(c->ppo.kl_estimator, k->kl_estimator), text(c->ppo.whiten_rewards, k->whiten_rewards);
	text(c->ppo.whiten_advantages, k->whiten_advantages), text(c->ppo.advantage, k->advantage_kind);
	c->ppo.eos_penalty = k->eos_penalty, c->ppo.kl_coef = k->kl_coef, c->ppo.gamma = k->gamma, c->ppo.lambda = k->lambda;
	c->rollout.max_new_tokens = k->max_new;
}

/* factor: multiplies the rewards. */
static void step_open(struct step *s, const struct golden_case *k, float factor)
{
	s->arena = arena_open(0);
	s->config = arena_must(s->arena, 1, sizeof *s->config);
	configure(s->config, k);
	s->groups = arena_must(s->arena, (size_t)k->groups, sizeof *s->groups);
	for (int64_t g = 0; g < k->groups; g++) {
		struct group *x = &s->groups[g];
		int64_t first = g * k->size, n = k->first[first + k->size] - k->first[first], at = 0;
		float *logprobs = arena_must(s->arena, (size_t)n + 1, sizeof *logprobs), *reward = arena_must(s->arena, (size_t)k->size, sizeof *reward);
		for (int64_t j = k->first[first]; j < k->first[first + k->size]; j++)
			if (k->chosen[j]) logprobs[at++] = k->old[j];
		for (int64_t i = 0; i < k->size; i++) {
			x->length[i] = k->length[first + i];
			x->finish[i] = k->finish[first + i];
			reward[i] = k->given[first + i] * factor;
		}
		x->size = (uint32_t)k->size;
		x->prompt_tokens = 1;
		x->logprobs = logprobs;
		x->reward = reward;
	}
	ppo_batch_open(&s->b, s->config, s->groups, k->groups, s->arena);
	assert_int_equal(s->b.tokens, k->first[k->groups * k->size]);
	memcpy(s->b.ref, k->ref, (size_t)s->b.tokens * sizeof(float));
	memcpy(s->b.value, k->value, (size_t)s->b.tokens * sizeof(float));
}

static void step_run(struct step *s)
{
	ppo_scores(&s->b, &s->config->ppo);
	ppo_rewards(&s->b, &s->config->ppo, s->config->ppo.kl_coef);
	ppo_advantages(&s->b, &s->config->ppo);
}

static void step_close(struct step *s)
{
	arena_close(s->arena);
}

static void test_golden_cases(void **state)
{
	(void)state;
	for (int64_t i = 0; i < COUNT(golden_cases); i++) {
		const struct golden_case *k = &golden_cases[i];
		struct step s;
		int64_t sequences = k->groups * k->size;
		step_open(&s, k, 1.0f);
		step_run(&s);
		assert_memory_equal(s.b.first, k->first, (size_t)(sequences + 1) * sizeof *k->first);
		assert_memory_equal(s.b.chosen, k->chosen, (size_t)s.b.tokens);
		assert_memory_equal(s.b.old, k->old, (size_t)s.b.tokens * sizeof(float));
		for (int64_t j = 0; j < sequences; j++) assert_int_equal(s.b.ended[j], k->finish[j] != GROUP_FINISH_LENGTH);
		expect_floats(k->name, "kl", s.b.kl, k->kl, s.b.tokens);
		expect_floats(k->name, "score", s.b.score, k->score, sequences);
		expect_floats(k->name, "reward", s.b.reward, k->reward, s.b.tokens);
		expect_floats(k->name, "advantage", s.b.advantage, k->advantage, s.b.tokens);
		expect_floats(k->name, "returns", s.b.returns, k->returns, s.b.tokens);
		step_close(&s);
	}
}

/* The comparer must see one value changed by five parts in a million, and an algorithm that is slightly another. */
static void test_a_fault_is_seen(void **state)
{
	(void)state;
	const struct golden_case *k = &golden_cases[0];
	struct step s;
	step_open(&s, k, 1.0f);
	step_run(&s);
	assert_true(difference(s.b.advantage, k->advantage, s.b.tokens) <= FLOAT_TOLERANCE);
	int64_t most = 0;
	for (int64_t i = 0; i < s.b.tokens; i++)
		if (fabsf(s.b.advantage[i]) > fabsf(s.b.advantage[most])) most = i;
	s.b.advantage[most] *= 1.000005f;
	assert_true(difference(s.b.advantage, k->advantage, s.b.tokens) > FLOAT_TOLERANCE);
	s.b.advantage[most] = NAN;
	assert_true(difference(s.b.advantage, k->advantage, s.b.tokens) > FLOAT_TOLERANCE);
	s.config->ppo.lambda += 0.0001;
	ppo_advantages(&s.b, &s.config->ppo);
	assert_true(difference(s.b.advantage, k->advantage, s.b.tokens) > FLOAT_TOLERANCE);
	step_close(&s);
}

/* Three tokens, values 1/2, 1/4, -1/2, one reward of 1 at the end, lambda 1/2, worked out on paper.
 * gamma 1: deltas -1/4, -3/4, 3/2; advantages -1/4, 0, 3/2. gamma 1/2: deltas -3/8, -1/2, 3/2; advantages -13/32, -1/8, 3/2. */
static void test_by_hand(void **state)
{
	(void)state;
	static const double expected[2][3] = {{-0.25, 0.0, 1.5}, {-0.40625, -0.125, 1.5}};
	static const float value[] = {0.5f, 0.25f, -0.5f};
	float old[] = {-1, -1, -1}, reward[] = {1};
	struct group g = {.size = 1, .prompt_tokens = 1, .length = {3}, .logprobs = old, .reward = reward};
	struct arena *a = arena_open(0);
	struct config *c = arena_must(a, 1, sizeof *c);
	config_defaults(c);
	text(c->ppo.whiten_advantages, "none");
	c->ppo.lambda = 0.5;
	for (int i = 0; i < 2; i++) {
		struct ppo_batch b;
		c->ppo.gamma = i ? 0.5 : 1.0;
		ppo_batch_open(&b, c, &g, 1, a);
		memcpy(b.ref, old, sizeof old);
		memcpy(b.value, value, sizeof value);
		ppo_scores(&b, &c->ppo);
		ppo_rewards(&b, &c->ppo, 0.5);
		ppo_advantages(&b, &c->ppo);
		for (int t = 0; t < 3; t++) {
			assert_true((double)b.advantage[t] == expected[i][t]);
			assert_true((double)b.returns[t] == expected[i][t] + (double)value[t]);
		}
	}
	arena_close(a);
}

static void policy_setting(struct config_ppo *c, const struct golden_setting *s)
{
	memset(c, 0, sizeof *c);
	c->clip = s->clip, c->clip_high = s->clip_high, c->dual_clip = s->dual_clip;
	text(c->kl_in, s->kl_in), text(c->kl_estimator, s->kl_estimator);
}

static void test_policy_loss(void **state)
{
	(void)state;
	int64_t clipped = 0, limited = 0;
	for (int64_t i = 0; i < COUNT(golden_policy) / 7; i++) {
		const double *p = golden_policy + 7 * i, h = 1e-6;
		const struct golden_setting *s = &golden_settings[(int)p[0]];
		struct config_ppo c;
		policy_setting(&c, s);
		struct ppo_policy_term t = ppo_policy_loss(&c, s->kl_coef, p[1], p[2], p[3], p[4]);
		expect_double("policy loss", i, t.loss, p[5]);
		expect_double("ratio", i, t.ratio, p[6]);
		expect_double("delta", i, t.delta, p[1] - p[2]);
		double up = ppo_policy_loss(&c, s->kl_coef, p[1] + h, p[2], p[3], p[4]).loss;
		double down = ppo_policy_loss(&c, s->kl_coef, p[1] - h, p[2], p[3], p[4]).loss, slope = (up - down) / (2 * h);
		/* rounding of the losses divided by the step, and the third derivative times its square: both near 1e-10 */
		if (fabs(slope - t.dlogprob) > 1e-8 * fmax(1.0, fabs(slope))) fail_msg("policy slope %lld: %g, not %g", (long long)i, t.dlogprob, slope);
		clipped += t.clipped;
		limited += t.clipped && s->dual_clip > 0 && p[4] < 0 && p[6] > s->dual_clip;
	}
	/* the golden points go through every branch */
	assert_true(clipped > 20 && clipped < COUNT(golden_policy) / 7 - 20 && limited > 3);
}

static void test_value_loss(void **state)
{
	(void)state;
	int64_t clipped = 0;
	for (int64_t i = 0; i < COUNT(golden_value) / 5; i++) {
		const double *p = golden_value + 5 * i, h = 1e-6;
		struct config_ppo c = {.value_clip = p[0]};
		struct ppo_value_term t = ppo_value_loss(&c, p[1], p[2], p[3]);
		expect_double("value loss", i, t.loss, p[4]);
		double slope = (ppo_value_loss(&c, p[1] + h, p[2], p[3]).loss - ppo_value_loss(&c, p[1] - h, p[2], p[3]).loss) / (2 * h);
		if (fabs(slope - t.dvalue) > 1e-8) fail_msg("value slope %lld: %g, not %g", (long long)i, t.dvalue, slope);
		clipped += t.clipped;
	}
	assert_true(clipped > 2);
}

static void test_estimators(void **state)
{
	(void)state;
	static const char *const kinds[] = {"k1", "k2", "k3"};
	for (int k = 0; k < 3; k++)
		for (double d = -3; d <= 3; d += 0.375) {
			double h = 1e-6, slope = (ppo_kl(kinds[k], d + h) - ppo_kl(kinds[k], d - h)) / (2 * h);
			assert_true(fabs(slope - ppo_kl_slope(kinds[k], d)) <= 1e-8 * fmax(1.0, fabs(slope)));
			assert_true(k == 0 || ppo_kl(kinds[k], d) >= 0);
		}
	/* each estimates the same divergence: sum over a distribution p of k(log p - log q) where k1 and k3 are unbiased */
	static const double p[] = {0.5, 0.25, 0.25}, q[] = {0.25, 0.25, 0.5};
	double sum[3] = {0}, exact = 0.25 * log(2.0);
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < 3; i++) sum[k] += p[i] * ppo_kl(kinds[k], log(p[i]) - log(q[i]));
	expect_double("k1", 0, sum[0], exact);
	expect_double("k3", 0, sum[2], exact);
}

static void test_whiten_control_balance(void **state)
{
	(void)state;
	static const double *const expected[2][2] = {{golden_whiten_all, golden_whiten_all_mean}, {golden_whiten_masked, golden_whiten_masked_mean}};
	enum { N = sizeof golden_whiten_in / sizeof *golden_whiten_in };
	for (int masked = 0; masked < 2; masked++)
		for (int mean = 0; mean < 2; mean++) {
			float x[N], y[2 * N];
			int64_t index[N];
			uint8_t mask[2 * N] = {0};
			memcpy(x, golden_whiten_in, sizeof x);
			ppo_whiten(x, masked ? golden_whiten_mask : NULL, NULL, N, mean);
			expect_floats("whiten", "direct", x, expected[masked][mean], N);
			for (int i = 0; i < N; i++) {
				index[i] = 2 * (N - 1 - i);
				y[index[i]] = golden_whiten_in[i], y[index[i] + 1] = 77;
				mask[index[i]] = golden_whiten_mask[i];
			}
			ppo_whiten(y, masked ? mask : NULL, index, N, mean);
			for (int i = 0; i < N; i++) x[i] = y[index[i]], assert_true(y[index[i] + 1] == 77);
			expect_floats("whiten", "gathered", x, expected[masked][mean], N);
		}
	for (int64_t i = 0; i < COUNT(golden_adapt) / 2; i++)
		expect_double("adaptive coefficient", i, ppo_adapt_kl(0.15, golden_adapt[2 * i], 6, 10000, 640), golden_adapt[2 * i + 1]);
	struct model m = {.shape = {.layers = 3, .experts = 5, .chosen = 2}};
	float balance[15];
	model_balance_gradient(&m, golden_balance_counts, 0.0625, 77, balance);
	expect_floats("load balance", "gradient", balance, golden_balance, 15);
}

static void test_no_tokens(void **state)
{
	(void)state;
	static const char *const kinds[] = {"gae", "group", "group_mean", "leave_one_out"};
	struct arena *a = arena_open(0);
	struct config *c = arena_must(a, 1, sizeof *c);
	float reward[] = {1, 2, 3};
	struct group g[2] = {{.size = 3, .prompt_tokens = 1, .reward = reward}, {.size = 3, .prompt_tokens = 1, .reward = reward}};
	for (int i = 0; i < 8; i++) {
		struct ppo_batch b;
		config_defaults(c);
		text(c->ppo.advantage, kinds[i / 2]);
		text(c->ppo.score_at, i % 2 ? "eos_plus_one" : "last");
		text(c->ppo.whiten_advantages, "batch"), text(c->ppo.whiten_rewards, "full");
		ppo_batch_open(&b, c, g, 2, a);
		assert_int_equal(b.tokens, 0);
		ppo_scores(&b, &c->ppo);
		ppo_rewards(&b, &c->ppo, 1);
		ppo_advantages(&b, &c->ppo);
		assert_true(b.score[5] == 3);
	}
	arena_close(a);
}

/* Equal rewards teach a group nothing, whichever kind: not even rounding may be blown up by the division. */
static void test_equal_rewards(void **state)
{
	(void)state;
	for (int64_t i = 0; i < COUNT(golden_cases); i++) {
		struct golden_case k = golden_cases[i];
		struct step s;
		if (!strcmp(k.advantage_kind, "gae")) continue;
		k.kl_in = "loss", k.eos_rule = "none", k.whiten_advantages = "none", k.whiten_rewards = "none";
		step_open(&s, &k, 1.0f);
		for (int64_t g = 0; g < k.groups; g++)
			for (int64_t j = 0; j < k.size; j++) ((float *)s.groups[g].reward)[j] = 0.1f;
		step_run(&s);
		for (int64_t q = 0; q < s.b.sequences; q++) {
			int64_t g = q / k.size, holes = 0; /* an empty completion has no token that could carry its score */
			for (int64_t j = g * k.size; j < (g + 1) * k.size; j++) holes += ppo_batch_length(&s.b, j) == 0;
			for (int64_t t = s.b.first[q]; !holes && t < s.b.first[q + 1]; t++) assert_true(fabs((double)s.b.advantage[t]) < 1e-9);
		}
		step_close(&s);
	}
	float equal[7] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f};
	ppo_whiten(equal, NULL, NULL, 7, 0);
	for (int i = 0; i < 7; i++) assert_true(fabsf(equal[i]) < 1e-3f);
}

static void test_huge_rewards(void **state)
{
	(void)state;
	for (int64_t i = 0; i < COUNT(golden_cases); i++) {
		const struct golden_case *k = &golden_cases[i];
		struct step s;
		step_open(&s, k, 1e6f);
		step_run(&s);
		for (int64_t t = 0; t < s.b.tokens; t++) {
			assert_true(isfinite(s.b.reward[t]) && isfinite(s.b.advantage[t]) && isfinite(s.b.returns[t]));
			struct ppo_policy_term p = ppo_policy_loss(&s.config->ppo, 0.1, -1.0, -2.0, -1.5, (double)s.b.advantage[t]);
			struct ppo_value_term v = ppo_value_loss(&s.config->ppo, 0.5, (double)s.b.value[t], (double)s.b.returns[t]);
			assert_true(isfinite(p.loss) && isfinite(p.dlogprob) && isfinite(v.loss) && isfinite(v.dvalue));
		}
		step_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_cases), cmocka_unit_test(test_a_fault_is_seen), cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_policy_loss), cmocka_unit_test(test_value_loss), cmocka_unit_test(test_estimators),
		cmocka_unit_test(test_whiten_control_balance), cmocka_unit_test(test_no_tokens), cmocka_unit_test(test_equal_rewards),
		cmocka_unit_test(test_huge_rewards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
