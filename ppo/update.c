/* Epochs of minibatches; see learner.h.
 *
 * A minibatch is a set of whole groups. Its gradient is a sum over fixed blocks
 * of groups, each reduced alone and added in order (optimizer.h), so micro-batch
 * size and threads do not change a bit of it. */
#include "ppo/advantage.h"
#include "ppo/loss.h"
#include "ppo/work.h"

#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sums over the tokens of one update, and over all of them. */
struct update_sums {
	double policy_loss, value_loss, entropy, kl_square; /* weighted as the loss is, kl_square over tokens */
	double clipped, value_clipped;
	struct tally ratio;
	double first_deviation; /* of the first minibatch's ratios from 1, largest */
	double policy_norm, critic_norm, lr;
	int64_t tokens, entries, updates, stopped;
};

struct minibatch {
	const uint32_t *groups; /* in order */
	int64_t count;
	const float *advantage; /* by entry, whitened where asked */
	int64_t tokens, entries, sequences, rows;
	int64_t number; /* in the step, over all epochs */
	int warming;    /* only the critic learns */
	char bad[160];  /* the first thing found that is not finite; "": nothing */
};

static double token_weight(const struct learner *l, const struct minibatch *mb, int64_t entry, int64_t *sequence)
{
	const struct ppo_batch *b = &l->batch;
	if (strcmp(l->config.ppo.loss_average, "sequence")) return 1.0 / (double)mb->tokens;
	while (b->first[*sequence + 1] <= entry || b->first[*sequence] > entry) *sequence = (*sequence + 1) % b->sequences;
	const struct group *g = &b->group[*sequence / b->size];
	return 1.0 / ((double)mb->sequences * (double)g->length[*sequence % b->size]);
}

/* What is not finite, as text: the sign of a NaN is the processor's whim, and the text goes into the record. */
static const char *shown(double x)
{
	return isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

/* Notes the first thing at entry j that is not finite, and what it comes from. */
static void look(const struct learner *l, struct minibatch *mb, int64_t j, float logprob, float value)
{
	const struct ppo_batch *b = &l->batch;
	/* the policy's may be -inf: a token that left the top-k or top-p set since it was drawn */
	const struct {
		const char *name;
		float x;
	} all[] = {{"log-probability", b->chosen[j] ? b->old[j] : 0}, {"reference's log-probability", b->chosen[j] ? b->ref[j] : 0},
		   {"log-probability", b->chosen[j] && logprob != -INFINITY ? logprob : 0}, {"value", b->value[j]}, {"value", value},
		   {"reward", b->reward[j]}, {"return", b->returns[j]}, {"advantage", mb->advantage[j]}};
	if (mb->bad[0]) return;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		int64_t s = 0;
		if (isfinite(all[i].x)) continue;
		while (b->first[s + 1] <= j) s++;
		for (int64_t k = 0; k < b->sequences; k++) /* whitening spreads one reward over all advantages */
			if (!isfinite(b->score[k])) {
				snprintf(mb->bad, sizeof mb->bad, "the reward at slot %u, completion %lld is %s", b->group[k / b->size].slot, (long long)(k % b->size),
					 shown((double)b->score[k]));
				return;
			}
		snprintf(mb->bad, sizeof mb->bad, "the %s at slot %u, completion %lld, token %lld is %s", all[i].name, b->group[s / b->size].slot,
			 (long long)(s % b->size), (long long)(j - b->first[s]), shown((double)all[i].x));
		return;
	}
}

/* Losses and their derivatives at the outs of the current batch. */
static void losses(struct learner *l, struct minibatch *mb, struct update_sums *u)
{
	struct learner_work *w = l->work;
	const struct ppo_batch *b = &l->batch;
	const struct config_ppo *c = &l->config.ppo;
	int64_t sequence = 0;
	for (int64_t i = 0; i < w->batch.outs; i++) {
		int64_t j = w->map[i];
		look(l, mb, j, w->logprob[i], w->value[i]);
		double vw = c->value_coef / (double)mb->entries;
		struct ppo_value_term v = ppo_value_loss(c, (double)w->value[i], (double)b->value[j], (double)b->returns[j]);
		u->value_loss += v.loss / (double)mb->entries;
		u->value_clipped += v.clipped;
		/* a critic of its own has its own loss: the coefficient weighs two losses on one trunk */
		w->dvalue[i] = (float)(v.dvalue * (l->critic ? 1.0 / (double)mb->entries : vw));
		w->dlogprob[i] = w->dentropy[i] = 0;
		u->entries++;
		if (!b->chosen[j]) continue;
		double weight = token_weight(l, mb, j, &sequence);
		if (w->logprob[i] == -INFINITY) { /* left the top-k or top-p set since it was drawn: ratio 0, and no slope leads back */
			tally_add(&u->ratio, 0.0);
			u->tokens++;
			continue;
		}
		struct ppo_policy_term t = ppo_policy_loss(c, l->kl_coef, (double)w->logprob[i], (double)b->old[j], (double)b->ref[j], (double)mb->advantage[j]);
		u->policy_loss += t.loss * weight;
		u->entropy += (double)w->entropy[i];
		u->kl_square += t.delta * t.delta;
		u->clipped += t.clipped;
		tally_add(&u->ratio, t.ratio);
		if (mb->number == 0) u->first_deviation = fmax(u->first_deviation, fabs(t.ratio - 1.0));
		u->tokens++;
		if (mb->warming) continue;
		w->dlogprob[i] = (float)(t.dlogprob * weight);
		w->dentropy[i] = (float)(-c->entropy_coef * weight);
	}
}

static void micro_step(struct learner *l, struct minibatch *mb, const uint32_t *index, int64_t n, struct update_sums *u)
{
	struct learner_work *w = l->work;
	const struct config_ppo *c = &l->config.ppo;
	int head = !strcmp(c->critic, "head");
	work_batch(l, index, n);
	model_forward(l->policy, w->policy, &w->batch, NULL);
	model_logprobs(l->policy, w->policy, &w->batch, &l->sampling, w->logprob, w->entropy);
	work_values(l, w->value);
	losses(l, mb, u);
	int64_t layers = shape_moe_layers(&l->policy->shape);
	struct model_loss p = {.dlogprob = w->dlogprob, .dentropy = c->entropy_coef != 0 ? w->dentropy : NULL, .dvalue = head ? w->dvalue : NULL,
			       .balance = c->load_balance_coef != 0 ? w->balance : NULL,
			       .z_scale = layers ? (float)(c->z_loss_coef / ((double)mb->rows * (double)layers)) : 0.0f};
	model_backward(l->policy, w->policy, &w->batch, &l->sampling, &p, l->policy_opt->block);
	if (l->critic) {
		struct model_loss v = {.dvalue = w->dvalue};
		model_backward(l->critic, w->critic, &w->batch, &l->sampling, &v, l->critic_opt->block);
	}
}

/* While a head of the policy warms up, only its own two parameters move. */
static void keep_head_only(struct learner *l)
{
	const struct params *p = l->policy->learned;
	int score = model_learned_index(l->policy, l->policy->params.score), bias = model_learned_index(l->policy, l->policy->params.score_bias);
	float *g = l->policy_opt->total;
	for (int i = 0; i < p->count; i++)
		if (i != score && i != bias)
			l->policy->ops->zero(l->policy->backend, g + p->list[i].offset, (size_t)p->list[i].size * sizeof *g);
}

static int skip(struct learner *l, const struct minibatch *mb, struct err *e)
{
	struct learner_skip *s = &l->skip[l->skips++];
	s->minibatch = mb->number;
	memcpy(s->what, mb->bad, sizeof s->what);
	log_warn("step %lld, minibatch %lld: %s; the update is skipped", (long long)l->step, (long long)mb->number, mb->bad);
	if (++l->skipped < LEARNER_SKIPS) return 0;
	return err_set(e, ERR_RANGE, "step %lld, minibatch %lld: %s; that is not finite, and it was update number %d in a row that could not be made", (long long)l->step,
		       (long long)mb->number, mb->bad, LEARNER_SKIPS);
}

static int apply(struct learner *l, struct minibatch *mb, struct update_sums *u, struct err *e)
{
	struct err planted;
	if (mb->warming && !l->critic) keep_head_only(l);
	double pn = optimizer_norm(l->policy_opt), cn = l->critic ? optimizer_norm(l->critic_opt) : 0.0;
	if (FAULT_ERROR("update.gradient", "a minibatch's gradient is complete; an error makes it NaN", &planted) < 0) pn = NAN;
	if (!mb->bad[0] && !isfinite(pn)) snprintf(mb->bad, sizeof mb->bad, "the norm of the policy's gradient is %s", shown(pn));
	if (!mb->bad[0] && !isfinite(cn)) snprintf(mb->bad, sizeof mb->bad, "the norm of the critic's gradient is %s", shown(cn));
	if (mb->bad[0]) return skip(l, mb, e);
	l->skipped = 0;
	double lr = optimizer_rate(l->policy_opt, l->step);
	if (!(mb->warming && l->critic)) optimizer_update(l->policy_opt, lr, pn);
	FAULT_POINT("update.within_weights", "a minibatch moved the policy, the critic not yet");
	if (l->critic) optimizer_update(l->critic_opt, optimizer_rate(l->critic_opt, l->step), cn);
	model_balance_bias(l->policy, l->work->counts, l->config.ppo.router_bias_rate);
	u->policy_norm += pn;
	u->critic_norm += cn;
	u->lr = lr;
	u->updates++;
	return 0;
}

static int minibatch_step(struct learner *l, struct minibatch *mb, struct update_sums *u, struct err *e)
{
	const struct config_ppo *c = &l->config.ppo;
	optimizer_begin(l->policy_opt);
	if (l->critic) optimizer_begin(l->critic_opt);
	if (c->load_balance_coef != 0) model_balance_gradient(l->policy, l->work->counts, c->load_balance_coef, mb->rows, l->work->balance);
	for (int64_t i = 0; i < mb->count; i += c->gradient_block) {
		int64_t last = i + c->gradient_block < mb->count ? i + c->gradient_block : mb->count;
		optimizer_block_begin(l->policy_opt);
		if (l->critic) optimizer_block_begin(l->critic_opt);
		for (int64_t j = i; j < last; j += c->micro_batch)
			micro_step(l, mb, mb->groups + j, last - j < c->micro_batch ? last - j : c->micro_batch, u);
		optimizer_block_end(l->policy_opt);
		if (l->critic) optimizer_block_end(l->critic_opt);
		FAULT_POINT("update.after_block", "a part of a minibatch's gradient is there");
	}
	return apply(l, mb, u, e);
}

/* Counts a minibatch and whitens its advantages into a copy. */
static void minibatch_open(struct learner *l, struct minibatch *mb, const uint32_t *groups, int64_t count, float *advantage, int64_t *entries)
{
	const struct ppo_batch *b = &l->batch;
	int64_t n = 0;
	*mb = (struct minibatch){.groups = groups, .count = count, .advantage = b->advantage, .sequences = count * b->size};
	for (int64_t i = 0; i < count; i++) {
		int64_t s = (int64_t)groups[i] * b->size;
		for (int64_t j = b->first[s]; j < b->first[s + b->size]; j++) {
			entries[n++] = j;
			mb->tokens += b->chosen[j];
		}
		mb->rows += b->group[groups[i]].prompt_tokens + group_response_tokens(&b->group[groups[i]]) - b->size;
	}
	mb->entries = n;
	if (strcmp(l->config.ppo.whiten_advantages, "minibatch")) return;
	for (int64_t i = 0; i < n; i++) advantage[entries[i]] = b->advantage[entries[i]];
	ppo_whiten(advantage, b->chosen, entries, n, 0);
	mb->advantage = advantage;
}

static void update_metrics(struct learner *l, const struct update_sums *u)
{
	struct metrics *m = &l->metrics;
	double n = u->tokens ? (double)u->tokens : 1.0, k = u->updates ? (double)u->updates : 1.0;
	metrics_put(m, 0.5 * u->kl_square / n, "policy/approxkl_avg");
	metrics_put(m, u->clipped / n, "policy/clipfrac_avg");
	metrics_put(m, u->entropy / n, "policy/entropy_avg");
	metrics_put(m, u->policy_loss / k, "loss/policy_avg");
	if (strcmp(l->config.ppo.critic, "none")) {
		metrics_put(m, u->value_loss / k, "loss/value_avg");
		metrics_put(m, u->entries ? u->value_clipped / (double)u->entries : 0.0, "val/clipfrac_avg");
	}
	metrics_put(m, tally_mean(&u->ratio), "val/ratio");
	metrics_put(m, tally_variance(&u->ratio), "val/ratio_var");
	metrics_put(m, u->ratio.greatest, "val/ratio_max");
	metrics_put(m, u->ratio.least, "val/ratio_min");
	metrics_put(m, u->first_deviation, "training/first_minibatch_ratio_max_deviation");
	metrics_put(m, u->policy_norm / k, "actor/grad_norm");
	if (l->critic) metrics_put(m, u->critic_norm / k, "critic/grad_norm");
	metrics_put(m, u->lr, "lr");
	metrics_put(m, (double)l->episodes, "episode");
	metrics_put(m, (double)l->skips, "training/skipped_updates");
	metrics_put(m, (double)u->stopped, "training/kl_stopped");
	int64_t layers = shape_moe_layers(&l->policy->shape), experts = l->policy->shape.experts;
	double worst = 0;
	for (int64_t i = 0; i < layers; i++) {
		double sum = 0;
		for (int64_t x = 0; x < experts; x++) sum += (double)l->work->counts[i * experts + x];
		for (int64_t x = 0; x < experts; x++) {
			double load = sum > 0 ? (double)l->work->counts[i * experts + x] * (double)experts / sum : 0;
			worst = fmax(worst, load);
			if (layers * experts <= METRICS_MAX / 2) metrics_put(m, load, "load/%lld/%lld", (long long)i, (long long)x);
		}
	}
	if (layers) metrics_put(m, worst, "load/max");
}

int learner_update(struct learner *l, struct arena *arena, struct err *e)
{
	const struct config_ppo *c = &l->config.ppo;
	struct ppo_batch *b = &l->batch;
	struct update_sums u = {0};
	int rc = 0, stopped = 0;
	int64_t done = l->episodes + b->sequences;
	uint32_t *order = arena_must(arena, (size_t)b->groups + 1, sizeof *order);
	float *advantage = arena_must(arena, (size_t)b->tokens + 1, sizeof *advantage);
	int64_t *entries = arena_must(arena, (size_t)b->tokens + 1, sizeof *entries);
	l->skip = arena_must(arena, (size_t)(c->epochs * c->minibatches), sizeof *l->skip);
	l->skips = 0;
	for (int64_t epoch = 0; epoch < c->epochs && !stopped && rc == 0; epoch++) {
		rng_permutation((struct rng_key){(uint64_t)l->config.run.seed, RNG_SHUFFLE}, (uint32_t)l->step, (uint32_t)epoch, (uint32_t)b->groups, order);
		for (int64_t i = 0; i < c->minibatches && !stopped && rc == 0; i++) {
			int64_t first = b->groups * i / c->minibatches, last = b->groups * (i + 1) / c->minibatches;
			struct update_sums before = u;
			int64_t skips = l->skips;
			struct minibatch mb;
			minibatch_open(l, &mb, order + first, last - first, advantage, entries);
			mb.number = epoch * c->minibatches + i;
			mb.warming = l->step < c->critic_warmup;
			rc = minibatch_step(l, &mb, &u, e);
			if (l->skips > skips) u = before; /* what is not finite is in no sum */
			double approx = 0.5 * (u.kl_square - before.kl_square) / (double)(u.tokens > before.tokens ? u.tokens - before.tokens : 1);
			stopped = c->kl_stop > 0 && approx > c->kl_stop;
		}
	}
	u.stopped = stopped;
	l->episodes = done;
	update_metrics(l, &u);
	double kl = metrics_get(&l->metrics, "objective/kl");
	if (!strcmp(c->kl_control, "adaptive") && isfinite(kl)) l->kl_coef = ppo_adapt_kl(l->kl_coef, kl, c->kl_target, c->kl_horizon, (double)b->sequences);
	if (rc == 0 && (!optimizer_is_finite(l->policy_opt) || (l->critic && !optimizer_is_finite(l->critic_opt))))
		rc = err_set(e, ERR_RANGE, "step %lld: the update left weights or moments that are not finite", (long long)l->step);
	l->step++;
	return rc;
}
