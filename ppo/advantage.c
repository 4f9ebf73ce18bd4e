/* Rewards and advantages; see advantage.h. Sums are taken in double in entry
 * order. */
#include "ppo/advantage.h"

#include "core/base/err.h"

#include <math.h>
#include <string.h>

double ppo_kl(const char *estimator, double d)
{
	if (!strcmp(estimator, "k2")) return 0.5 * d * d;
	if (!strcmp(estimator, "k3")) return exp(-d) - 1.0 + d;
	return d;
}

double ppo_kl_slope(const char *estimator, double d)
{
	if (!strcmp(estimator, "k2")) return d;
	if (!strcmp(estimator, "k3")) return 1.0 - exp(-d);
	return 1.0;
}

void ppo_scores(struct ppo_batch *b, const struct config_ppo *c)
{
	int replace = !strcmp(c->eos_rule, "replace"), subtract = !strcmp(c->eos_rule, "subtract");
	for (int64_t s = 0; s < b->sequences; s++) {
		float r = b->group[s / b->size].reward[s % b->size];
		if (!b->ended[s] && replace) r = (float)-c->eos_penalty;
		if (!b->ended[s] && subtract) r = (float)((double)r - c->eos_penalty);
		b->score[s] = r;
	}
}

void ppo_whiten(float *x, const uint8_t *mask, const int64_t *index, int64_t n, int keep_mean)
{
	double sum = 0, squares = 0, count = 0;
	for (int64_t i = 0; i < n; i++) {
		int64_t j = index ? index[i] : i;
		if (mask && !mask[j]) continue;
		sum += (double)x[j];
		count++;
	}
	if (count == 0) return;
	double mean = sum / count;
	for (int64_t i = 0; i < n; i++) {
		int64_t j = index ? index[i] : i;
		if (!mask || mask[j]) squares += ((double)x[j] - mean) * ((double)x[j] - mean);
	}
	double scale = 1.0 / sqrt(squares / count + 1e-8);
	for (int64_t i = 0; i < n; i++) {
		int64_t j = index ? index[i] : i;
		if (!mask || mask[j]) x[j] = (float)(((double)x[j] - mean) * scale + (keep_mean ? mean : 0.0));
	}
}

void ppo_rewards(struct ppo_batch *b, const struct config_ppo *c, double kl_coef)
{
	int in_reward = !strcmp(c->kl_in, "reward");
	for (int64_t i = 0; i < b->tokens; i++) {
		b->kl[i] = b->chosen[i] ? (float)ppo_kl(c->kl_estimator, (double)b->old[i] - (double)b->ref[i]) : 0.0f;
		b->reward[i] = in_reward ? (float)(-kl_coef * (double)b->kl[i]) : 0.0f;
	}
	for (int64_t s = 0; s < b->sequences; s++)
		if (ppo_batch_length(b, s) > 0) b->reward[b->first[s + 1] - 1] += b->score[s];
	if (strcmp(c->whiten_rewards, "none")) ppo_whiten(b->reward, NULL, NULL, b->tokens, !strcmp(c->whiten_rewards, "keep_mean"));
}

static void gae(struct ppo_batch *b, double gamma, double lambda)
{
	for (int64_t s = 0; s < b->sequences; s++) {
		double next_value = 0, next_advantage = 0;
		for (int64_t i = b->first[s + 1] - 1; i >= b->first[s]; i--) {
			double delta = (double)b->reward[i] + gamma * next_value - (double)b->value[i];
			next_advantage = delta + gamma * lambda * next_advantage;
			next_value = (double)b->value[i];
			b->advantage[i] = (float)next_advantage;
			b->returns[i] = (float)(next_advantage + next_value);
		}
	}
}

void ppo_group_advantage(const char *kind, const double *total, int64_t count, double *advantage)
{
	double sum = 0, squares = 0, n = (double)count;
	for (int64_t i = 0; i < count; i++) sum += total[i];
	double mean = sum / n;
	for (int64_t i = 0; i < count; i++) squares += (total[i] - mean) * (total[i] - mean);
	double std = sqrt(squares / (n > 1 ? n - 1 : 1)); /* unbiased, as torch.std in GRPO implementations */
	for (int64_t i = 0; i < count; i++) {
		double a = total[i] - mean;
		if (!strcmp(kind, "group")) a /= std + 1e-4;
		if (!strcmp(kind, "leave_one_out")) a *= n / (n > 1 ? n - 1 : 1);
		advantage[i] = a;
	}
}

/* One number a completion: its total reward against the group's. */
static void group_advantages(struct ppo_batch *b, const char *kind)
{
	for (int64_t g = 0; g < b->groups; g++) {
		double total[GROUP_MAX] = {0}, advantage[GROUP_MAX];
		for (int64_t i = 0; i < b->size; i++) {
			int64_t s = g * b->size + i;
			total[i] = 0;
			for (int64_t j = b->first[s]; j < b->first[s + 1]; j++) total[i] += (double)b->reward[j];
		}
		ppo_group_advantage(kind, total, b->size, advantage);
		for (int64_t i = 0; i < b->size; i++) {
			int64_t s = g * b->size + i;
			for (int64_t j = b->first[s]; j < b->first[s + 1]; j++) b->advantage[j] = (float)advantage[i], b->returns[j] = (float)total[i];
		}
	}
}

void ppo_advantages(struct ppo_batch *b, const struct config_ppo *c)
{
	if (!strcmp(c->advantage, "gae")) gae(b, c->gamma, c->lambda);
	else group_advantages(b, c->advantage);
	if (!strcmp(c->whiten_advantages, "batch")) ppo_whiten(b->advantage, b->chosen, NULL, b->tokens, 0);
}

double ppo_adapt_kl(double coef, double kl, double target, double horizon, double episodes)
{
	double e = kl / target - 1.0;
	e = e > 0.2 ? 0.2 : e < -0.2 ? -0.2 : e;
	return coef * (1.0 + e * episodes / horizon);
}
