/* The parts of a PPO iteration; see bench_loop.h. */
#include "app/bench_loop.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "policy/generate.h"
#include "ppo/learner.h"
#include "reward/task.h"

#include <stdlib.h>
#include <string.h>

enum { TIMES_MAX = 64 };

struct bench_loop {
	struct config config;
	struct limits_machine machine;
	struct task *task;
	struct model *policy, *reference;
	struct learner *learner;
	struct generator *generator; /* of iterations */
	struct arena *arena;
	struct group *groups;        /* [count] of the last generation, in slot order */
	struct limits_model policy_cost, reference_cost, critic_cost;
	uint64_t step;
};

int bench_loop_open(struct bench_loop **out, const struct config *c, struct backend *b, const struct bench_peak *peak, int64_t groups, struct err *e)
{
	struct bench_loop *l = *out = calloc(1, sizeof *l);
	CHECK(l, "out of memory for the benchmark");
	struct shape shape;
	int rc = 0;
	l->config = *c;
	l->machine = (struct limits_machine){peak->gflops_all * 1e9, peak->memory_gbs * 1e9};
	/* the stack task, as far as prompts are needed; its tokenizer decides the vocabulary */
	snprintf(l->config.task.name, sizeof l->config.task.name, "stack");
	l->config.task.train = c->task.train < 2000 ? c->task.train : 2000;
	if (l->config.task.train < groups) l->config.task.train = groups;
	l->config.task.heldout = l->config.task.supervised = 16;
	l->config.tokenizer.path[0] = 0;
	l->config.ppo.prompts = groups;
	l->config.ppo.lag = 0;
	int head = strcmp(c->ppo.critic, "head") == 0 ? HEAD_SCALAR : 0;
	TRY(task_open(&l->task, &l->config, e));
	shape_from_config(&shape, &l->config, tokenizer_vocab_size(l->task->tokenizer), HEAD_LM | head);
	TRY(model_open(&l->policy, b, &shape, e));
	shape.heads_kind = HEAD_LM;
	TRY(model_open_held(&l->reference, b, &shape, e));
	model_init(l->policy, 1);
	model_init(l->reference, 1);
	TRY(learner_open(&l->learner, &l->config, l->policy, l->reference, l->task->end_token, e));
	TRY(learner_prepare_memory(l->learner, l->task->longest_prompt, e));
	limits_model(&l->policy_cost, l->policy);
	limits_model(&l->reference_cost, l->reference);
	if (l->learner->critic) limits_model(&l->critic_cost, l->learner->critic);
	l->arena = arena_open((size_t)4 << 20);
	l->groups = calloc((size_t)groups, sizeof *l->groups);
	CHECK(l->groups, "out of memory for %lld groups", (long long)groups);
out:
	if (rc < 0) {
		bench_loop_close(l);
		*out = NULL;
	}
	return rc;
}

void bench_loop_close(struct bench_loop *l)
{
	if (!l) return;
	generator_close(l->generator);
	learner_close(l->learner);
	model_close(l->reference);
	model_close(l->policy);
	task_close(l->task);
	arena_close(l->arena);
	free(l->groups);
	free(l);
}

static int open_generator(struct bench_loop *l, int groups, int completions, struct generator **out, struct err *e)
{
	const struct config_rollout *r = &l->config.rollout;
	struct generate_options o = {.completions = completions, .max_new = (int)r->max_new_tokens, .min_new = (int)r->min_new_tokens,
				     .max_prompt = (int)l->task->longest_prompt, .batch_groups = groups,
				     .sampling = {(float)r->temperature, (float)r->top_p, (int)r->top_k}, .end_token = l->task->end_token, .stop = r->stop,
				     .seed = (uint64_t)l->config.run.seed, .purpose = RNG_SAMPLE, .tokenizer = l->task->tokenizer};
	return generator_open(out, l->policy, &o, e);
}

static int keep(void *arg, const struct group *g, struct err *e)
{
	struct bench_loop *l = arg;
	return group_copy(&l->groups[g->slot], g, l->arena, e);
}

/* The first n prompts, for step l->step; the groups stay until the next call. */
static int generate(struct bench_loop *l, struct generator *g, int n, struct err *e)
{
	arena_reset(l->arena);
	struct generate_request *r = arena_must(l->arena, (size_t)n, sizeof *r);
	for (int i = 0; i < n; i++) {
		const struct task_prompt *p = &l->task->prompt[TASK_TRAIN][i];
		r[i] = (struct generate_request){l->step, (uint32_t)i, (uint32_t)i, p->tokens, p->count, p->text};
	}
	return generator_run(g, r, (uint32_t)n, l->step, keep, l, NULL, e);
}

static struct limits limits_of(const struct bench_loop *l, int64_t n, struct limits_work *w)
{
	struct limits_models models = {&l->policy_cost, &l->reference_cost, l->learner->critic ? &l->critic_cost : NULL};
	struct limits out;
	limits_work(w, &l->machine, &l->policy_cost, l->groups, n);
	limits_step(&out, &l->machine, &models, w, l->config.ppo.epochs, l->config.ppo.minibatches);
	return out;
}

int bench_generate(struct bench_loop *l, int groups, int completions, int times, struct bench_part *out, struct err *e)
{
	struct generator *g = NULL;
	struct limits_work w;
	double sample[TIMES_MAX];
	int rc = 0;
	CHECK(times <= TIMES_MAX && groups <= l->config.ppo.prompts, "%d times, %d groups", times, groups);
	TRY(open_generator(l, groups, completions, &g, e));
	for (int i = -1; i < times; i++) {
		double start = fs_now();
		TRY(generate(l, g, groups, e));
		if (i >= 0) sample[i] = fs_now() - start;
	}
	struct limits limits = limits_of(l, groups, &w);
	*out = (struct bench_part){.tokens = w.outs, .limit = limits.generate, .flop = limits_forward_flop(&l->policy_cost, &w)};
	bench_time_of(sample, times, &out->time);
out:
	generator_close(g);
	return rc;
}

/* Puts groups [first, last) into the batch. */
static void lay_out(const struct bench_loop *l, struct batch *b, int64_t first, int64_t last)
{
	batch_reset(b, ((int64_t)l->task->longest_prompt + l->config.rollout.max_new_tokens) / KV_PAGE + 1);
	for (int64_t i = first; i < last; i++) {
		const struct group *g = &l->groups[i];
		batch_add(b, g->tokens, g->prompt_tokens, g->length, g->size, 0, -1, 0, 0);
	}
	batch_upload(b);
}

struct score_run {
	struct bench_loop *l;
	struct batch *batch;
	struct activations *activations;
	float *logprob;
	int groups;
};

static void score_once(void *arg)
{
	struct score_run *r = arg;
	struct sampling s = {1.0f, 1.0f, 0};
	int64_t micro = r->l->config.ppo.micro_batch;
	for (int64_t i = 0; i < r->groups; i += micro) {
		lay_out(r->l, r->batch, i, r->groups - i < micro ? r->groups : i + micro);
		model_forward(r->l->policy, r->activations, r->batch, NULL);
		model_logprobs(r->l->policy, r->activations, r->batch, &s, r->logprob, NULL);
	}
}

int bench_score(struct bench_loop *l, int groups, int times, struct bench_part *out, struct err *e)
{
	struct generator *g = NULL;
	struct batch batch;
	struct limits_work w;
	double sample[TIMES_MAX];
	int size = (int)l->config.rollout.group_size, rc = open_generator(l, groups, size, &g, e);
	if (rc == 0) rc = generate(l, g, groups, e);
	generator_close(g);
	if (rc < 0) return rc;
	CHECK(times <= TIMES_MAX, "%d times", times);
	batch_open(&batch, l->policy->backend);
	struct score_run r = {l, &batch, activations_open(l->policy, 0), calloc((size_t)(groups * size * l->config.rollout.max_new_tokens), sizeof(float)), groups};
	CHECK(r.logprob, "out of memory for the benchmark");
	for (int i = -1; i < times; i++) {
		double start = fs_now();
		score_once(&r);
		if (i >= 0) sample[i] = fs_now() - start;
	}
	limits_of(l, groups, &w);
	double flop = limits_forward_flop(&l->policy_cost, &w);
	*out = (struct bench_part){.tokens = w.rows, .limit = flop / l->machine.flops, .flop = flop};
	bench_time_of(sample, times, &out->time);
	activations_close(r.activations);
	batch_close(&batch);
	free(r.logprob);
	return 0;
}

static void reward(struct bench_loop *l, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		struct group *g = &l->groups[i];
		float *scores = arena_must(l->arena, g->size, sizeof *scores);
		for (uint32_t c = 0; c < g->size; c++) scores[c] = task_reward(l->task, TASK_TRAIN, g->prompt, g->text[c]);
		g->terms = 1;
		snprintf(g->term_name[0], sizeof g->term_name[0], "verifier");
		g->scores = g->reward = scores;
	}
}

enum { PART_GENERATE, PART_REWARD, PART_SCORE, PART_UPDATE, PART_ALL, PARTS };

static int iterate_once(struct bench_loop *l, double seconds[PARTS], struct err *e)
{
	int64_t n = l->config.ppo.prompts;
	double t[PARTS];
	int rc = 0;
	t[0] = fs_now();
	TRY(generate(l, l->generator, (int)n, e));
	t[1] = fs_now();
	reward(l, n);
	t[2] = fs_now();
	TRY(learner_evaluate(l->learner, l->groups, n, l->arena, e));
	learner_prepare(l->learner);
	t[3] = fs_now();
	TRY(learner_update(l->learner, l->arena, e));
	t[4] = fs_now();
	for (int i = 0; i < PART_ALL; i++) seconds[i] = t[i + 1] - t[i];
	seconds[PART_ALL] = t[4] - t[0];
	l->step++;
out:
	return rc;
}

static void iteration_fill(const struct bench_loop *l, struct bench_iteration *out)
{
	struct limits_work w;
	int64_t n = l->config.ppo.prompts;
	out->limits = limits_of(l, n, &w);
	double forward = limits_forward_flop(&l->policy_cost, &w), epochs = (double)l->config.ppo.epochs;
	out->policy = l->policy_cost;
	out->groups = n;
	out->completions = l->config.rollout.group_size;
	out->prompt_tokens = w.prompt_rows;
	out->response_tokens = w.outs;
	out->rows = w.rows;
	out->generate.tokens = w.outs, out->generate.limit = out->limits.generate, out->generate.flop = forward;
	out->score.tokens = w.rows, out->score.limit = out->limits.score, out->score.flop = out->limits.score * l->machine.flops;
	out->update.tokens = w.rows * epochs, out->update.limit = out->limits.update + out->limits.optimise;
	out->update.flop = out->limits.update * l->machine.flops;
	out->all.tokens = w.rows, out->all.limit = limits_seconds(&out->limits), out->all.flop = out->limits.flop;
}

int bench_iterate(struct bench_loop *l, int times, struct bench_iteration *out, struct err *e)
{
	double sample[PARTS][TIMES_MAX], seconds[PARTS];
	int rc = 0;
	CHECK(times <= TIMES_MAX, "%d times", times);
	*out = (struct bench_iteration){0};
	if (!l->generator) {
		int64_t in_flight = l->config.rollout.batch_groups < l->config.ppo.prompts ? l->config.rollout.batch_groups : l->config.ppo.prompts;
		TRY(open_generator(l, (int)in_flight, (int)l->config.rollout.group_size, &l->generator, e));
	}
	for (int i = -1; i < times; i++) {
		TRY(iterate_once(l, seconds, e));
		for (int p = 0; p < PARTS && i >= 0; p++) sample[p][i] = seconds[p];
	}
	iteration_fill(l, out);
	struct bench_part *parts[PARTS] = {&out->generate, &out->reward, &out->score, &out->update, &out->all};
	for (int p = 0; p < PARTS; p++) bench_time_of(sample[p], times, &parts[p]->time);
out:
	return rc;
}
