/* The learner's state and the first look at a step; see learner.h. */
#include "ppo/learner.h"

#include "policy/adapter.h"
#include "ppo/advantage.h"
#include "ppo/work.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int work_open(struct learner *l)
{
	struct learner_work *w = l->work = calloc(1, sizeof *w);
	CHECK(w, "out of memory for the learner");
	int keep = l->config.run.recompute ? ACTIVATIONS_AGAIN : ACTIVATIONS_KEEP;
	w->policy = activations_open(l->policy, keep);
	w->reference = activations_open(l->reference, 0);
	if (l->critic) w->critic = activations_open(l->critic, keep);
	if (l->behaviour != l->policy) w->behaviour = activations_open(l->behaviour, 0);
	batch_open(&w->batch, l->policy->backend);
	int64_t items = shape_moe_layers(&l->policy->shape) * l->policy->shape.experts + 1;
	w->counts = calloc((size_t)items, sizeof *w->counts);
	w->balance = calloc((size_t)items, sizeof *w->balance);
	CHECK(w->counts && w->balance, "out of memory for the learner");
	w->after = !strcmp(l->config.ppo.score_at, "eos_plus_one");
	return 0;
}

/* Where sums over rows begin anew with every call, a micro-batch that divides a gradient block would show in the bits. */
static int check_micro_batch(const struct config *c, const struct backend *b, struct err *e)
{
	if (backend_rows_divide(b) || c->ppo.micro_batch >= c->ppo.gradient_block) return 0;
	return err_set(e, ERR_RANGE, "run.precision bf16 on a GPU needs ppo.micro_batch (%lld) to hold a whole ppo.gradient_block (%lld): raise the first or lower the second",
		(long long)c->ppo.micro_batch, (long long)c->ppo.gradient_block);
}

int learner_open(struct learner **out, const struct config *c, struct model *policy, struct model *reference, int32_t end_token, struct err *e)
{
	*out = NULL;
	struct learner *l = calloc(1, sizeof *l);
	CHECK(l, "out of memory for the learner");
	int rc = 0;
	l->config = *c;
	l->policy = l->behaviour = policy;
	l->reference = reference;
	l->end_token = end_token;
	l->kl_coef = c->ppo.kl_coef;
	l->sampling = (struct sampling){(float)c->rollout.temperature, (float)c->rollout.top_p, (int)c->rollout.top_k};
	TRY(check_micro_batch(c, policy->backend, e));
	TRY(optimizer_open(&l->policy_opt, policy, &c->ppo.optim, c->ppo.steps, e));
	if (!strcmp(c->ppo.critic, "separate")) TRY(learner_open_critic(l, e));
	if (c->ppo.lag > 0 && policy->adapter) TRY(adapter_open(&l->behaviour, policy->base, policy->shape.heads_kind, &c->lora, (uint64_t)c->run.seed, STREAM_POLICY, e));
	else if (c->ppo.lag > 0) TRY(model_open_held(&l->behaviour, policy->backend, &policy->shape, e));
	TRY(work_open(l));
	*out = l;
	return 0;
out:
	learner_close(l);
	return rc;
}

void learner_close(struct learner *l)
{
	if (!l) return;
	struct learner_work *w = l->work;
	if (w) {
		activations_close(w->policy);
		activations_close(w->critic);
		activations_close(w->reference);
		activations_close(w->behaviour);
		batch_close(&w->batch);
		void *p[] = {w->map, w->logprob, w->entropy, w->value, w->dlogprob, w->dentropy, w->dvalue, w->counts, w->balance, w};
		for (size_t i = 0; i < sizeof p / sizeof *p; i++) free(p[i]);
	}
	optimizer_close(l->policy_opt);
	optimizer_close(l->critic_opt);
	if (l->behaviour != l->policy) model_close(l->behaviour);
	model_close(l->critic);
	model_close(l->critic_base);
	free(l);
}

static void work_room(struct learner_work *w, int64_t n)
{
	if (n <= w->room) return;
	w->room = n + n / 4;
	float **p[] = {&w->logprob, &w->entropy, &w->value, &w->dlogprob, &w->dentropy, &w->dvalue};
	for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
		*p[i] = realloc(*p[i], (size_t)w->room * sizeof(float));
		CHECK(*p[i], "out of memory for %lld tokens", (long long)n);
	}
	w->map = realloc(w->map, (size_t)w->room * sizeof *w->map);
	CHECK(w->map, "out of memory for %lld tokens", (long long)n);
}

/* Groups computed together: nothing is gained by more than a block of the gradient, which is reduced alone. */
static int64_t groups_at_once(const struct config_ppo *c)
{
	int64_t n = c->micro_batch < c->gradient_block ? c->micro_batch : c->gradient_block;
	return n < c->prompts ? n : c->prompts;
}

struct batch_sizes learner_largest_batch(const struct config *c, int64_t longest_prompt)
{
	return batch_most(groups_at_once(&c->ppo), longest_prompt, c->rollout.group_size, c->rollout.max_new_tokens);
}

int learner_prepare_memory(struct learner *l, int64_t longest_prompt, struct err *e)
{
	struct learner_work *w = l->work;
	struct batch_sizes most = learner_largest_batch(&l->config, longest_prompt);
	int truncates = l->sampling.top_k > 0 || l->sampling.top_p < 1, rc = 0;
	TRY(activations_prepare(w->policy, &most, 0, truncates, e));
	TRY(activations_prepare(w->reference, &most, 0, 0, e));
	if (w->critic) TRY(activations_prepare(w->critic, &most, 0, 0, e));
	if (w->behaviour) TRY(activations_prepare(w->behaviour, &most, 0, truncates, e));
	TRY(batch_plan(&w->batch, &most, e));
	work_room(w, most.outs);
out:
	return rc;
}

void work_batch(struct learner *l, const uint32_t *index, int64_t n)
{
	struct learner_work *w = l->work;
	const struct ppo_batch *b = &l->batch;
	int64_t longest = 0;
	for (int64_t i = 0; i < n; i++) {
		const struct group *g = &b->group[index[i]];
		for (uint32_t c = 0; c < g->size; c++)
			if (g->prompt_tokens + g->length[c] > longest) longest = g->prompt_tokens + g->length[c];
	}
	batch_reset(&w->batch, longest / KV_PAGE + 1);
	for (int64_t i = 0; i < n; i++) {
		const struct group *g = &b->group[index[i]];
		batch_add(&w->batch, g->tokens, g->prompt_tokens, g->length, g->size, 0, l->end_token, l->config.rollout.min_new_tokens,
			  w->after ? l->config.rollout.max_new_tokens : 0);
	}
	work_room(w, w->batch.outs);
	int64_t out = 0;
	for (int64_t i = 0; i < n; i++) {
		int64_t s = (int64_t)index[i] * b->size;
		for (int64_t j = b->first[s]; j < b->first[s + b->size]; j++) w->map[out++] = j;
	}
	CHECK(out == w->batch.outs, "%lld outs for %lld entries", (long long)w->batch.outs, (long long)out);
	batch_upload(&w->batch);
}

void work_values(struct learner *l, float *value)
{
	struct learner_work *w = l->work;
	if (l->critic) {
		model_forward(l->critic, w->critic, &w->batch, NULL);
		model_scalars(l->critic, w->critic, &w->batch, value);
	} else if (!strcmp(l->config.ppo.critic, "head")) {
		model_scalars(l->policy, w->policy, &w->batch, value);
	} else {
		memset(value, 0, (size_t)w->batch.outs * sizeof *value);
	}
}

/* The first token whose recomputed log-probability is not the sampler's. */
static int mismatch(const struct learner *l, int64_t entry, float ours, struct err *e)
{
	const struct ppo_batch *b = &l->batch;
	int64_t s = 0;
	while (b->first[s + 1] <= entry) s++;
	return err_set(e, ERR_MISMATCH,
		       "step %lld: the learner's log-probability differs from the sampler's: slot %lld, completion %lld, token %lld: %.9g here, %.9g there; "
		       "a worker has other weights or other kernels than the learner",
		       (long long)l->step, (long long)(s / b->size), (long long)(s % b->size), (long long)(entry - b->first[s]), (double)ours,
		       (double)b->old[entry]);
}

/* Behaviour policy, reference and critic on one micro-batch. */
static void evaluate_micro(struct learner *l, const uint32_t *index, int64_t n, double *entropy, int64_t *worst, double *worst_diff, float *worst_value)
{
	struct learner_work *w = l->work;
	struct ppo_batch *b = &l->batch;
	work_batch(l, index, n);
	if (l->behaviour != l->policy) {
		model_forward(l->behaviour, w->behaviour, &w->batch, NULL);
		model_logprobs(l->behaviour, w->behaviour, &w->batch, &l->sampling, w->logprob, NULL);
		model_forward(l->policy, w->policy, &w->batch, NULL);
	} else {
		model_forward(l->policy, w->policy, &w->batch, NULL);
		model_logprobs(l->policy, w->policy, &w->batch, &l->sampling, w->logprob, NULL);
	}
	model_count_experts(l->policy, w->policy, &w->batch, w->counts);
	work_values(l, w->value);
	for (int64_t i = 0; i < w->batch.outs; i++) {
		int64_t j = w->map[i];
		b->value[j] = w->value[i];
		if (!b->chosen[j]) continue;
		double diff = fabs((double)w->logprob[i] - (double)b->old[j]);
		if (memcmp(&w->logprob[i], &b->old[j], sizeof(float)) && !(diff <= *worst_diff) && *worst < 0) *worst = j, *worst_value = w->logprob[i];
		if (!(diff <= *worst_diff)) *worst_diff = diff;
		*entropy -= (double)w->logprob[i];
	}
	model_forward(l->reference, w->reference, &w->batch, NULL);
	/* the reference's whole distribution: under its own top-k or top-p set a token of the policy's may have no probability at all */
	struct sampling whole = {l->sampling.temperature, 1.0f, 0};
	model_logprobs(l->reference, w->reference, &w->batch, &whole, w->logprob, NULL);
	for (int64_t i = 0; i < w->batch.outs; i++)
		if (b->chosen[w->map[i]]) b->ref[w->map[i]] = w->logprob[i];
}

int learner_evaluate(struct learner *l, const struct group *groups, int64_t n, struct arena *arena, struct err *e)
{
	struct learner_work *w = l->work;
	int64_t micro = groups_at_once(&l->config.ppo), worst = -1;
	double entropy = 0, worst_diff = 0;
	float worst_value = 0;
	ppo_batch_open(&l->batch, &l->config, groups, n, arena);
	uint32_t *index = arena_must(arena, (size_t)n + 1, sizeof *index);
	for (int64_t i = 0; i < n; i++) index[i] = (uint32_t)i;
	memset(w->counts, 0, (size_t)(shape_moe_layers(&l->policy->shape) * l->policy->shape.experts) * sizeof *w->counts);
	metrics_clear(&l->metrics);
	for (int64_t i = 0; i < n; i += micro) evaluate_micro(l, index + i, n - i < micro ? n - i : micro, &entropy, &worst, &worst_diff, &worst_value);
	metrics_put(&l->metrics, worst_diff, "training/rollout_probs_diff_max");
	metrics_put(&l->metrics, entropy / (double)l->batch.sequences, "objective/entropy");
	return worst >= 0 ? mismatch(l, worst, worst_value, e) : 0;
}

/* What a step looked like before anything was learned from it. */
static void prepare_metrics(struct learner *l)
{
	struct ppo_batch *b = &l->batch;
	struct tally score = {0}, length = {0}, value = {0}, advantage = {0};
	double kl = 0, penalty = 0, ends = 0, at_limit = 0;
	int in_reward = !strcmp(l->config.ppo.kl_in, "reward");
	for (int64_t s = 0; s < b->sequences; s++) {
		const struct group *g = &b->group[s / b->size];
		tally_add(&score, (double)b->score[s]);
		tally_add(&length, (double)g->length[s % b->size]);
		ends += b->ended[s];
		at_limit += g->finish[s % b->size] == GROUP_FINISH_LENGTH;
	}
	for (int64_t i = 0; i < b->tokens; i++) {
		if (b->chosen[i]) kl += (double)b->old[i] - (double)b->ref[i];
		if (in_reward) penalty -= l->kl_coef * (double)b->kl[i];
		tally_add(&value, (double)b->value[i]);
		tally_add(&advantage, (double)b->advantage[i]);
	}
	struct metrics *m = &l->metrics;
	double n = (double)b->sequences;
	metrics_put(m, kl / n, "objective/kl");
	metrics_put(m, l->kl_coef, "objective/kl_coef");
	metrics_put(m, penalty / n, "objective/non_score_reward");
	metrics_put(m, penalty / n + tally_mean(&score), "objective/rlhf_reward");
	metrics_put(m, tally_mean(&score), "objective/scores");
	metrics_put(m, sqrt(tally_variance(&score)), "objective/scores_std");
	metrics_put(m, tally_mean(&length), "response_length/mean");
	metrics_put(m, length.greatest, "response_length/max");
	metrics_put(m, length.least, "response_length/min");
	metrics_put(m, at_limit / n, "response_length/clip_ratio");
	metrics_put(m, ends, "val/num_eos_tokens");
	if (strcmp(l->config.ppo.critic, "none")) metrics_put(m, tally_mean(&value), "critic/values/mean");
	metrics_put(m, tally_mean(&advantage), "critic/advantages/mean");
	metrics_put(m, advantage.greatest, "critic/advantages/max");
	metrics_put(m, advantage.least, "critic/advantages/min");
	for (uint32_t t = 0; t < b->group[0].terms; t++) {
		double sum = 0;
		for (int64_t g = 0; g < b->groups; g++)
			for (int64_t i = 0; i < b->size; i++) sum += (double)b->group[g].scores[t * b->size + i];
		metrics_put(m, sum / n, "reward/%s", b->group[0].term_name[t]);
	}
}

/* 1 − Var(returns − value) / Var(returns) */
static double explained_variance(const struct ppo_batch *b)
{
	struct tally r = {0}, d = {0};
	for (int64_t i = 0; i < b->tokens; i++) {
		tally_add(&r, (double)b->returns[i]);
		tally_add(&d, (double)b->returns[i] - (double)b->value[i]);
	}
	return tally_variance(&r) > 0 ? 1.0 - tally_variance(&d) / tally_variance(&r) : 0.0;
}

void learner_prepare(struct learner *l)
{
	ppo_scores(&l->batch, &l->config.ppo);
	ppo_rewards(&l->batch, &l->config.ppo, l->kl_coef);
	ppo_advantages(&l->batch, &l->config.ppo);
	prepare_metrics(l);
	if (strcmp(l->config.ppo.critic, "none")) metrics_put(&l->metrics, explained_variance(&l->batch), "critic/vf_explained_var");
}
