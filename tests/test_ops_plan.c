/* Memory is planned: what steps need is there before the first of them, none is
 * taken in the loop, and memory that is not there is an error with a table. */
#include "model_kit.h"

#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "policy/generate.h"
#include "policy/model_folder.h"
#include "ppo/learner.h"
#include "reward/reward_model.h"

#include <unistd.h>

enum { G = 2, PROMPTS = 4, MAX_NEW = 4, LONGEST = 66, STEPS = 5, SCORED = 3 };

struct fixture {
	struct backend *b;
	struct model *policy, *reference;
	struct learner *l;
	struct generator *generator;
	struct config config;
	struct arena *arena;
	struct group group[PROMPTS];
};

static void configure(struct config *c)
{
	config_defaults(c);
	snprintf(c->ppo.critic, CONFIG_STRING, "separate"), snprintf(c->ppo.score_at, CONFIG_STRING, "eos_plus_one");
	c->ppo.epochs = 1, c->ppo.minibatches = 1, c->ppo.prompts = PROMPTS, c->ppo.steps = STEPS, c->ppo.gradient_block = 2, c->ppo.micro_batch = 8;
	c->rollout.group_size = G, c->rollout.max_new_tokens = MAX_NEW, c->rollout.min_new_tokens = 1, c->rollout.top_k = 12, c->rollout.batch_groups = 3;
}

/* Everything a worker and a learner have; an error leaves it to fixture_close. */
static int open_all(struct fixture *f, struct err *e)
{
	struct shape s = kit_shape(2);
	int rc = 0;
	s.heads_kind = HEAD_LM;
	TRY(model_open(&f->policy, f->b, &s, e));
	TRY(model_open(&f->reference, f->b, &s, e));
	model_init(f->policy, 1), model_init(f->reference, 2);
	TRY(learner_open(&f->l, &f->config, f->policy, f->reference, KIT_END, e));
	TRY(learner_prepare_memory(f->l, LONGEST, e));
	struct generate_options o = {.completions = G, .max_new = MAX_NEW, .min_new = 1, .max_prompt = LONGEST, .batch_groups = 3,
				     .sampling = f->l->sampling, .end_token = KIT_END, .seed = 4, .purpose = RNG_SAMPLE};
	TRY(generator_open(&f->generator, f->policy, &o, e));
out:
	return rc;
}

static void close_all(struct fixture *f)
{
	generator_close(f->generator);
	learner_close(f->l);
	model_close(f->policy), model_close(f->reference);
	f->generator = NULL, f->l = NULL, f->policy = f->reference = NULL;
}

static int take(void *arg, const struct group *g, struct err *e)
{
	struct fixture *f = arg;
	struct group *out = &f->group[g->slot];
	int rc = group_copy(out, g, f->arena, e);
	if (rc < 0) return rc;
	float *reward = arena_must(f->arena, G, sizeof *reward);
	for (uint32_t i = 0; i < G; i++) reward[i] = kit_weight(70, (int64_t)g->step * 1000 + g->slot * G + i);
	out->terms = 1;
	snprintf(out->term_name[0], sizeof out->term_name[0], "given");
	out->scores = out->reward = reward;
	return 0;
}

/* Prompts grow from step to step: the longest comes last (on the CPU first too, which packs weights when rows first are many). */
static void step(struct fixture *f)
{
	static int32_t tokens[LONGEST];
	struct generate_request r[PROMPTS];
	struct err e;
	int64_t k = f->l->step;
	arena_reset(f->arena);
	kit_tokens(tokens, LONGEST, 80);
	for (uint32_t i = 0; i < PROMPTS; i++)
		r[i] = (struct generate_request){.step = (uint64_t)k, .slot = i, .prompt = i, .tokens = tokens,
						 .prompt_tokens = k == STEPS - 1 || (k == 0 && !KIT_ON_DEVICE) ? LONGEST : 1 + i + (uint32_t)k};
	if (generator_run(f->generator, r, PROMPTS, 0, take, f, NULL, &e) < 0) fail_msg("%s", e.msg);
	if (learner_evaluate(f->l, f->group, PROMPTS, f->arena, &e) < 0) fail_msg("%s", e.msg);
	learner_prepare(f->l);
	if (learner_update(f->l, f->arena, &e) < 0) fail_msg("%s", e.msg);
}

/* On a device from the first step on; the CPU's packed weights come with the first. */
static void test_no_memory_is_taken_in_the_loop(void **state)
{
	(void)state;
	struct fixture f = {.b = kit_backend(2), .arena = arena_open(0)};
	struct err e;
	configure(&f.config);
	if (open_all(&f, &e) < 0) fail_msg("%s", e.msg);
	if (!KIT_ON_DEVICE) step(&f);
	uint64_t before = backend_allocations(f.b);
	assert_true(before > 0);
	while (f.l->step < STEPS) {
		step(&f);
		if (backend_allocations(f.b) != before) fail_msg("step %d took memory %d times", (int)f.l->step, (int)(backend_allocations(f.b) - before));
	}
	/* the counter sees what is beyond the plan */
	void *p = f.policy->ops->alloc(f.b, 8);
	f.policy->ops->release(f.b, p);
	assert_int_equal(backend_allocations(f.b), before + 1);
	close_all(&f);
	arena_close(f.arena);
	backend_close(f.b);
}

/* Whatever is missing first, it is an error that says what has how much. */
static void test_missing_memory_is_an_error(void **state)
{
	(void)state;
#ifdef KIT_CUDA_HOST
	int refused = 0, rc = ERR_MEMORY;
	for (size_t limit = 4096; rc < 0; limit += limit / 8) {
		struct fixture f = {.b = kit_backend(1)};
		struct err e;
		cuda_host_backend_limit(f.b, limit);
		configure(&f.config);
		rc = open_all(&f, &e);
		if (rc < 0) {
			assert_int_equal(rc, ERR_MEMORY);
			if (!strstr(e.msg, "wanted for") || !strstr(e.msg, "MiB free of")) fail_msg("no table: %s", e.msg);
			refused++;
		}
		close_all(&f);
		backend_close(f.b);
	}
	assert_true(refused > 20);
#else
	skip();
#endif
}

/* Scores of `n` groups of a prompt and completions of these lengths. */
static void score(struct reward_model *m, uint32_t n, uint32_t prompt, uint32_t response)
{
	static int32_t tokens[SCORED][LONGEST + G * MAX_NEW];
	struct group g[SCORED];
	const struct group *groups[SCORED];
	double out[SCORED * G], spread[SCORED * G];
	for (uint32_t i = 0; i < n; i++) {
		kit_tokens(tokens[i], LONGEST + G * MAX_NEW, i);
		g[i] = (struct group){.slot = i, .size = G, .prompt_tokens = prompt, .tokens = tokens[i], .prompt_text = ""};
		for (uint32_t c = 0; c < G; c++) g[i].length[c] = response;
		groups[i] = &g[i];
	}
	reward_model_scores(m, groups, n, out, spread);
	for (uint32_t i = 0; i < n * G; i++) assert_true(isfinite(out[i]));
}

/* Once prepared, a reward model takes nothing, whatever it scores; and what is missing is an error. */
static void test_scoring_takes_no_memory(void **state)
{
	(void)state;
	for (int group = 0; group < 2; group++) {
		struct backend *b = kit_backend(1);
		struct shape s = kit_shape(1);
		struct reward_model *m = NULL;
		struct err e;
		char folder[] = "/tmp/tenfold-plan-XXXXXX";
		assert_non_null(mkdtemp(folder));
		s.heads_kind = HEAD_LM;
		struct model *policy = kit_model(b, &s, 3);
		if (model_folder_write(folder, policy, NULL, &e) < 0) fail_msg("%s", e.msg);
		model_close(policy);
		if (reward_model_start(&m, folder, b, group, 2, 5, NULL, &e) < 0) fail_msg("%s", e.msg);
		struct batch_sizes most = reward_model_largest_batch(SCORED, LONGEST, G, MAX_NEW);
		if (reward_model_prepare(m, &most, &e) < 0) fail_msg("%s", e.msg);
		if (!KIT_ON_DEVICE) score(m, SCORED, LONGEST, MAX_NEW); /* packs weights */
		uint64_t before = backend_allocations(b);
		score(m, 1, 1, 1);
		score(m, 2, KV_PAGE - 1, MAX_NEW);
		score(m, SCORED, KV_PAGE, 1);
		score(m, SCORED, LONGEST, MAX_NEW);
		assert_int_equal(backend_allocations(b), before);
		reward_model_close(m);
#ifdef KIT_CUDA_HOST
		if (reward_model_start(&m, folder, b, group, 1, 5, NULL, &e) < 0) fail_msg("%s", e.msg);
		cuda_host_backend_limit(b, 1);
		assert_int_equal(reward_model_prepare(m, &most, &e), ERR_MEMORY);
		assert_non_null(strstr(e.msg, "wanted for"));
		reward_model_close(m);
#endif
		fs_remove_tree(folder, &e);
		backend_close(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_memory_is_taken_in_the_loop), cmocka_unit_test(test_missing_memory_is_an_error),
					      cmocka_unit_test(test_scoring_takes_no_memory)};
	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
