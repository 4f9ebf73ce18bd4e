/* The learner: who computes what must not show in the weights, and a sampler
 * that computes something else must show at once.
 *
 * Two steps are made from generated groups, the second by the weights that the
 * first one made, with minibatches, a prompt of more than one page, and every
 * kind of critic; the weights are compared as bits. */
#include "model_kit.h"

#include "core/base/group_copy.h"
#include "policy/generate.h"
#include "core/base/fs.h"
#include "policy/model_folder.h"
#include "ppo/learner.h"
#include "reward/reward_model.h"

enum { G = 4, PROMPTS = 16, MAX_NEW = 12, LONGEST = 70 };

struct variant {
	const char *critic, *advantage, *kl_in, *score_at, *loss_average;
	int model;
	const char *lora; /* targets of adapters; NULL: all weights learn */
};
static const struct variant variants[] = {
	{"head", "gae", "reward", "last", "token", 0, NULL},
	{"separate", "gae", "reward", "eos_plus_one", "sequence", 2, NULL},
	{"none", "group", "loss", "last", "sequence", 1, NULL},
	{"none", "leave_one_out", "reward", "last", "token", 3, NULL},
	{"head", "gae", "reward", "last", "token", 0, "all-linear"},
	{"separate", "gae", "reward", "eos_plus_one", "sequence", 1, "q_proj, v_proj, experts"},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

struct fixture {
	struct backend *b;
	struct model *policy, *reference; /* with adapters: on the reference's weights */
	struct learner *l;
	struct config *config;
	struct arena *arena;
	struct group group[PROMPTS];
	float (*reward)(const struct group *g, uint32_t i); /* NULL: numbers of all sizes around 0 */
	int max_new;                                        /* 0: MAX_NEW */
};

static void configure(struct config *c, const struct variant *v, int64_t micro)
{
	config_defaults(c);
	snprintf(c->ppo.critic, CONFIG_STRING, "%s", v->critic), snprintf(c->ppo.advantage, CONFIG_STRING, "%s", v->advantage);
	snprintf(c->ppo.kl_in, CONFIG_STRING, "%s", v->kl_in), snprintf(c->ppo.score_at, CONFIG_STRING, "%s", v->score_at);
	snprintf(c->ppo.loss_average, CONFIG_STRING, "%s", v->loss_average);
	c->ppo.epochs = 2, c->ppo.minibatches = 2, c->ppo.prompts = PROMPTS, c->ppo.steps = 10;
	c->ppo.gradient_block = 4, c->ppo.micro_batch = micro;
	c->ppo.entropy_coef = 0.01, c->ppo.z_loss_coef = 0.001, c->ppo.router_bias_rate = 0.01, c->ppo.optim.lr = 0.003;
	c->rollout.group_size = G, c->rollout.max_new_tokens = MAX_NEW, c->rollout.min_new_tokens = 2, c->rollout.temperature = 0.8;
	c->rollout.top_k = 12;
	if (!v->lora) return;
	c->ppo.router_bias_rate = 0, c->lora.r = 3;
	snprintf(c->lora.targets, CONFIG_STRING, "%s", v->lora);
}

static void fixture_open(struct fixture *f, const struct variant *v, int64_t micro, int threads)
{
	struct shape s = kit_shape(v->model);
	struct err e;
	memset(f, 0, sizeof *f);
	s.heads_kind = HEAD_LM | (strcmp(v->critic, "head") ? 0 : HEAD_SCALAR);
	f->b = kit_backend(threads);
	f->arena = arena_open(0);
	f->config = calloc(1, sizeof *f->config);
	assert_non_null(f->config);
	configure(f->config, v, micro);
	if (v->lora) {
		f->reference = kit_model(f->b, &s, 2);
		f->policy = kit_adapter(f->reference, s.heads_kind, &f->config->lora, 1);
	} else {
		f->policy = kit_model(f->b, &s, 1);
		s.heads_kind = HEAD_LM;
		f->reference = kit_model(f->b, &s, 2);
	}
	if (learner_open(&f->l, f->config, f->policy, f->reference, KIT_END, &e) < 0) fail_msg("%s", e.msg);
}

static void fixture_close(struct fixture *f)
{
	learner_close(f->l);
	model_close(f->policy), model_close(f->reference);
	backend_close(f->b);
	arena_close(f->arena);
	free(f->config);
}

static int take(void *arg, const struct group *g, struct err *e)
{
	struct fixture *f = arg;
	struct group *out = &f->group[g->slot];
	int rc = group_copy(out, g, f->arena, e);
	if (rc < 0) return rc;
	float *reward = arena_must(f->arena, G, sizeof *reward);
	for (uint32_t i = 0; i < G; i++) reward[i] = f->reward ? f->reward(g, i) : kit_weight(70, (int64_t)g->step * 1000 + g->slot * G + i);
	out->terms = 1;
	snprintf(out->term_name[0], sizeof out->term_name[0], "given");
	out->scores = out->reward = reward;
	return 0;
}

/* The step's groups, sampled from the policy as it is. */
static void sample(struct fixture *f)
{
	static int32_t tokens[PROMPTS][LONGEST];
	struct generate_request r[PROMPTS];
	struct generate_options o = {.completions = G, .max_new = f->max_new ? f->max_new : MAX_NEW, .min_new = f->max_new ? 0 : 2, .max_prompt = LONGEST, .batch_groups = 5, .sampling = f->l->sampling,
				     .end_token = KIT_END, .seed = 4, .purpose = RNG_SAMPLE};
	struct generator *g;
	struct err e;
	arena_reset(f->arena);
	for (uint32_t i = 0; i < PROMPTS; i++) {
		uint32_t n = i == 3 ? LONGEST : 1 + i;
		kit_tokens(tokens[i], n, 80 + i);
		r[i] = (struct generate_request){.step = (uint64_t)f->l->step, .slot = i, .prompt = i, .tokens = tokens[i], .prompt_tokens = n};
	}
	if (generator_open(&g, f->policy, &o, &e) < 0) fail_msg("%s", e.msg);
	if (generator_run(g, r, PROMPTS, 0, take, f, NULL, &e) < 0) fail_msg("%s", e.msg);
	generator_close(g);
}

static void step(struct fixture *f)
{
	struct err e;
	sample(f);
	if (learner_evaluate(f->l, f->group, PROMPTS, f->arena, &e) < 0) fail_msg("%s", e.msg);
	learner_prepare(f->l);
	if (learner_update(f->l, f->arena, &e) < 0) fail_msg("%s", e.msg);
	assert_true(metrics_get(&f->l->metrics, "training/rollout_probs_diff_max") == 0.0);
	assert_true(metrics_get(&f->l->metrics, "training/first_minibatch_ratio_max_deviation") == 0.0);
	assert_true(metrics_get(&f->l->metrics, "training/skipped_updates") == 0.0);
	assert_true(metrics_get(&f->l->metrics, "val/ratio_var") > 0.0);
}

static void compare(const struct fixture *x, const struct fixture *y, const char *what)
{
	assert_memory_equal(x->policy->learned_weights, y->policy->learned_weights, (size_t)x->policy->learned->floats * sizeof(float));
	if (x->l->critic) assert_memory_equal(x->l->critic->learned_weights, y->l->critic->learned_weights, (size_t)x->l->critic->learned->floats * sizeof(float));
	assert_int_equal(x->l->metrics.count, y->l->metrics.count);
	for (int64_t i = 0; i < x->l->metrics.count; i++)
		if (memcmp(&x->l->metrics.value[i], &y->l->metrics.value[i], sizeof(double)))
			fail_msg("%s: %s is %.17g and %.17g", what, x->l->metrics.name[i], x->l->metrics.value[i], y->l->metrics.value[i]);
}

static void test_micro_batch_and_threads_change_nothing(void **state)
{
	(void)state;
	for (int v = 0; v < VARIANTS; v++) {
		struct fixture base, other;
		fixture_open(&base, &variants[v], 1, 1);
		float *start = malloc((size_t)base.policy->learned->floats * sizeof *start), *frozen = malloc((size_t)base.reference->params.floats * sizeof *frozen);
		model_get_learned(base.policy, start);
		model_get(base.reference, frozen);
		step(&base), step(&base);
		assert_memory_not_equal(base.policy->learned_weights, start, (size_t)base.policy->learned->floats * sizeof *start);
		assert_memory_equal(base.reference->weights, frozen, (size_t)base.reference->params.floats * sizeof *frozen);
		if (variants[v].lora) assert_ptr_equal(base.policy->weights, base.reference->weights);
		if (variants[v].lora && base.l->critic) assert_ptr_equal(base.l->critic->weights, base.reference->weights);
		free(start);
		free(frozen);
		for (int64_t micro = 1; micro <= 4; micro *= 2) {
			fixture_open(&other, &variants[v], micro, 2);
			step(&other), step(&other);
			compare(&base, &other, variants[v].critic);
			fixture_close(&other);
		}
		fixture_close(&base);
	}
}

/* The gradient block is part of the result's bits: the comparison above is not one of things that always agree. */
static void test_gradient_block_is_part_of_the_result(void **state)
{
	(void)state;
	struct fixture x, y;
	fixture_open(&x, &variants[0], 1, 1), fixture_open(&y, &variants[0], 1, 1);
	y.l->config.ppo.gradient_block = 2;
	step(&x), step(&y);
	assert_memory_not_equal(x.policy->weights, y.policy->weights, (size_t)x.policy->params.floats * sizeof(float));
	fixture_close(&x), fixture_close(&y);
}

static void test_another_samplers_logprob_is_refused(void **state)
{
	(void)state;
	struct fixture f;
	struct err e;
	fixture_open(&f, &variants[0], 4, 1);
	sample(&f);
	float *at = (float *)f.group[2].logprobs + f.group[2].length[0];
	*at = nextafterf(*at, -100);
	assert_int_equal(learner_evaluate(f.l, f.group, PROMPTS, f.arena, &e), ERR_MISMATCH);
	assert_non_null(strstr(e.msg, "slot 2, completion 1, token 0"));
	assert_true(metrics_get(&f.l->metrics, "training/rollout_probs_diff_max") > 0.0);
	*at = NAN;
	assert_int_equal(learner_evaluate(f.l, f.group, PROMPTS, f.arena, &e), ERR_MISMATCH);
	fixture_close(&f);
}

/* Samples and evaluates a step; `spoil` may then do damage before anything is learned. Returns what learner_update does. */
static int spoiled(struct fixture *f, void (*spoil_groups)(struct fixture *), void (*spoil)(struct fixture *), struct err *e)
{
	sample(f);
	if (spoil_groups) spoil_groups(f);
	if (learner_evaluate(f->l, f->group, PROMPTS, f->arena, e) < 0) fail_msg("%s", e->msg);
	learner_prepare(f->l);
	if (spoil) spoil(f);
	return learner_update(f->l, f->arena, e);
}

static void every_reward(struct fixture *f)
{
	for (uint32_t g = 0; g < PROMPTS; g++)
		for (uint32_t i = 0; i < G; i++) ((float *)f->group[g].reward)[i] = NAN;
}

static void one_reward(struct fixture *f)
{
	((float *)f->group[5].reward)[1] = INFINITY;
}

static void critic_weight(struct fixture *f)
{
	f->l->critic->weights[f->l->critic->params.list[f->l->critic->params.norm].offset] = NAN;
}

static void policy_weight(struct fixture *f)
{
	f->policy->weights[f->policy->params.list[f->policy->params.norm].offset] = NAN;
}

static void entropy(struct fixture *f)
{
	f->l->config.ppo.entropy_coef = 1e300; /* beyond f32: the gradient is not finite, all that it comes from is */
}

static void endless_moment(struct fixture *f)
{
	f->l->policy_opt->v[0] = INFINITY;
}

/* What is not finite is never learned from: the update is left out with its reason, three in a row end the run. */
static void test_not_finite(void **state)
{
	(void)state;
	const struct {
		int variant;
		void (*groups)(struct fixture *), (*after)(struct fixture *);
		const char *says;
	} all[] = {{2, every_reward, NULL, "the reward at slot"}, {1, NULL, critic_weight, "the value at slot"}, {2, NULL, policy_weight, "the log-probability at slot"},
		   {0, NULL, policy_weight, "the log-probability at slot"}, {2, NULL, entropy, "the norm of the policy's gradient"}};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct fixture f;
		struct err e;
		fixture_open(&f, &variants[all[i].variant], 4, 1);
		float *before = malloc((size_t)f.policy->params.floats * sizeof *before);
		model_get(f.policy, before);
		assert_int_equal(spoiled(&f, all[i].groups, all[i].after, &e), ERR_RANGE);
		if (!strstr(e.msg, all[i].says) || !strstr(e.msg, "number 3 in a row")) fail_msg("%s: %s", all[i].says, e.msg);
		assert_int_equal(f.l->skips, LEARNER_SKIPS);
		for (int64_t k = 0; k < LEARNER_SKIPS; k++) {
			assert_int_equal(f.l->skip[k].minibatch, k);
			if (!strstr(f.l->skip[k].what, all[i].says)) fail_msg("%s: %s", all[i].says, f.l->skip[k].what);
		}
		assert_true(metrics_get(&f.l->metrics, "training/skipped_updates") == LEARNER_SKIPS);
		assert_int_equal(f.l->policy_opt->updates, 0);
		if (all[i].after == policy_weight) f.policy->weights[f.policy->params.list[f.policy->params.norm].offset] = before[f.policy->params.list[f.policy->params.norm].offset];
		assert_memory_equal(f.policy->weights, before, (size_t)f.policy->params.floats * sizeof *before);
		free(before);
		fixture_close(&f);
	}
}

/* One bad reward costs the updates of its minibatch, and no number of the others. */
static void test_one_bad_minibatch_is_left_out(void **state)
{
	(void)state;
	struct fixture f;
	struct err e;
	fixture_open(&f, &variants[2], 4, 1);
	snprintf(f.l->config.ppo.whiten_advantages, CONFIG_STRING, "none");
	snprintf(f.l->config.ppo.eos_rule, CONFIG_STRING, "none");
	f.l->skipped = 1; /* of the step before: what succeeds in between starts the count anew */
	assert_int_equal(spoiled(&f, one_reward, NULL, &e), 0);
	assert_int_equal(f.l->skips, 2); /* once an epoch */
	for (int k = 0; k < 2; k++) assert_non_null(strstr(f.l->skip[k].what, "the reward at slot 5, completion 1 is inf"));
	assert_int_equal(f.l->policy_opt->updates, 2);
	assert_true(f.l->skipped < 2);
	const char *const names[] = {"loss/policy_avg", "val/ratio", "policy/approxkl_avg", "policy/entropy_avg", "actor/grad_norm"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!isfinite(metrics_get(&f.l->metrics, names[i]))) fail_msg("%s is not finite", names[i]);
	assert_true(optimizer_is_finite(f.l->policy_opt));
	step(&f); /* and the next one is as good as any */
	assert_int_equal(f.l->skipped, 0);
	fixture_close(&f);
}

/* An update that leaves a state which must not be kept says so, whatever its gradients were. */
static void test_a_bad_state_is_noticed(void **state)
{
	(void)state;
	struct fixture f;
	struct err e;
	fixture_open(&f, &variants[2], 4, 1);
	assert_int_equal(spoiled(&f, NULL, endless_moment, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "weights or moments that are not finite"));
	fixture_close(&f);
}

static float constant(const struct group *g, uint32_t i)
{
	(void)g, (void)i;
	return 2.5f;
}

static float huge(const struct group *g, uint32_t i)
{
	(void)g, (void)i;
	return 1e30f;
}

static float huge_both_ways(const struct group *g, uint32_t i)
{
	return (g->slot + i) % 2 ? 1e30f : -1e30f;
}

/* Rewards that say nothing or shout, all-tie groups, completions that are over at once: losses stay finite, nothing is skipped. */
static void test_extreme_rewards(void **state)
{
	(void)state;
	float (*const rewards[])(const struct group *, uint32_t) = {constant, huge, huge_both_ways, NULL};
	for (int v = 0; v < VARIANTS; v++)
		for (int r = 0; r < 4; r++)
			for (int max_new = r < 3 ? 0 : 1; max_new < 2; max_new++) {
				struct fixture f;
				struct err e;
				fixture_open(&f, &variants[v], 4, 1);
				f.reward = rewards[r];
				f.max_new = max_new;
				if (max_new) f.l->config.rollout.max_new_tokens = 1, f.l->config.rollout.min_new_tokens = 0;
				for (int k = 0; k < 2; k++) {
					if (spoiled(&f, NULL, NULL, &e) < 0) fail_msg("variant %d, rewards %d: %s", v, r, e.msg);
					assert_int_equal(f.l->skips, 0);
					for (int64_t i = 0; i < f.l->metrics.count; i++)
						if (!isfinite(f.l->metrics.value[i])) fail_msg("variant %d, rewards %d: %s is %f", v, r, f.l->metrics.name[i], f.l->metrics.value[i]);
				}
				assert_true(optimizer_is_finite(f.l->policy_opt));
				fixture_close(&f);
			}
}

/* With the critic warming up the policy stays as it is, and the critic does not. */
static void test_critic_warmup(void **state)
{
	(void)state;
	for (int v = 0; v < 2; v++) {
		struct fixture f;
		fixture_open(&f, &variants[v], 4, 1);
		f.l->config.ppo.critic_warmup = 1;
		f.l->config.ppo.router_bias_rate = 0;
		size_t bytes = (size_t)f.policy->params.floats * sizeof(float);
		float *before = malloc(bytes);
		model_get(f.policy, before);
		struct model *critic = f.l->critic ? f.l->critic : f.policy;
		const struct param *score = &critic->params.list[critic->params.score];
		float head[64];
		assert_true(score->size <= 64);
		memcpy(head, critic->weights + score->offset, (size_t)score->size * sizeof *head);
		struct err e;
		sample(&f);
		assert_int_equal(learner_evaluate(f.l, f.group, PROMPTS, f.arena, &e), 0);
		learner_prepare(f.l);
		assert_int_equal(learner_update(f.l, f.arena, &e), 0);
		assert_memory_not_equal(head, critic->weights + score->offset, (size_t)score->size * sizeof *head);
		for (int i = 0; i < f.policy->params.count; i++) {
			const struct param *p = &f.policy->params.list[i];
			if (i == f.policy->params.score || i == f.policy->params.score_bias) continue;
			assert_memory_equal(before + p->offset, f.policy->weights + p->offset, (size_t)p->size * sizeof *before);
		}
		free(before);
		fixture_close(&f);
	}
}

/* The critic's values where completions end, against the reward model's heads and scores. */
static void test_critic_from_reward_model(void **state)
{
	(void)state;
	struct fixture f;
	struct reward_model *r;
	struct err e;
	char folder[] = "/tmp/tenfold-critic-XXXXXX";
	const struct group *groups[PROMPTS];
	float head[PROMPTS * G], value[PROMPTS * G];
	double score[PROMPTS * G];
	fixture_open(&f, &variants[1], 4, 1);
	assert_non_null(mkdtemp(folder));
	if (model_folder_write(folder, f.policy, NULL, &e) < 0) fail_msg("%s", e.msg);
	if (reward_model_start(&r, folder, f.b, 0, 1, 9, NULL, &e) < 0) fail_msg("%s", e.msg);
	sample(&f);
	for (int i = 0; i < PROMPTS; i++) groups[i] = &f.group[i];
	struct activations *a = activations_open(f.l->critic, 0);
	struct batch b;
	batch_open(&b, f.b);
	for (int scaled = 0; scaled < 2; scaled++) {
		double weight = scaled ? 0.7 : 1;
		if (scaled) r->member[0].gain = 1.7, r->member[0].bias = -0.3;
		if (learner_critic_from_reward(f.l, r, weight, &e) < 0) fail_msg("%s", e.msg);
		reward_model_heads(r, 0, groups, PROMPTS, head);
		reward_model_scores(r, groups, PROMPTS, score, NULL);
		batch_reset(&b, 4);
		for (int i = 0; i < PROMPTS; i++) batch_add(&b, groups[i]->tokens, groups[i]->prompt_tokens, groups[i]->length, G, BATCH_LAST, -1, 0, 0);
		batch_upload(&b);
		model_forward(f.l->critic, a, &b, NULL);
		model_scalars(f.l->critic, a, &b, value);
		if (!scaled) assert_memory_equal(value, head, sizeof head);
		for (int i = 0; i < PROMPTS * G; i++) assert_true(fabs((double)value[i] - weight * score[i]) < 1e-6 * fmax(1, fabs(score[i])));
	}
	assert_true(score[0] != score[1]);
	/* what learner_evaluate sees at the last token's own row, which the score at eos_plus_one adds, is that value */
	assert_int_equal(learner_evaluate(f.l, f.group, PROMPTS, f.arena, &e), 0);
	for (int i = 0; i < PROMPTS * G; i++) {
		uint32_t n = f.group[i / G].length[i % G];
		if (n > 0 && n < MAX_NEW) assert_memory_equal(&f.l->batch.value[f.l->batch.first[i + 1] - 1], &value[i], sizeof *value);
	}
	activations_close(a);
	batch_close(&b);
	/* refused: no critic of its own, one that compares, another shape */
	struct fixture other;
	fixture_open(&other, &variants[0], 4, 1);
	assert_int_equal(learner_critic_from_reward(other.l, r, 1, &e), ERR_STATE);
	fixture_close(&other);
	r->member[0].model->shape.chosen++;
	assert_int_equal(learner_critic_from_reward(f.l, r, 1, &e), ERR_MISMATCH);
	assert_non_null(strstr(e.msg, "num_experts_per_tok"));
	reward_model_close(r);
	if (reward_model_start(&r, folder, f.b, 1, 1, 9, NULL, &e) < 0) fail_msg("%s", e.msg);
	assert_int_equal(learner_critic_from_reward(f.l, r, 1, &e), ERR_MISMATCH);
	assert_non_null(strstr(e.msg, "compares"));
	reward_model_close(r);
	fs_remove_tree(folder, &e);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_micro_batch_and_threads_change_nothing),
		cmocka_unit_test(test_gradient_block_is_part_of_the_result),
		cmocka_unit_test(test_another_samplers_logprob_is_refused),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_one_bad_minibatch_is_left_out),
		cmocka_unit_test(test_a_bad_state_is_noticed),
		cmocka_unit_test(test_extreme_rewards),
		cmocka_unit_test(test_critic_warmup),
		cmocka_unit_test(test_critic_from_reward_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
