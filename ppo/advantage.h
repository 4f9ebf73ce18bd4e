/* From scores to advantages: pure functions over a step's arrays.
 *
 * Sources: Schulman et al. 2016 (GAE, 1506.02438), Ziegler et al. 2019
 * (1909.08593: KL in the reward, adaptive control), Huang et al. 2024
 * (2403.17031: details), Shao et al. 2024 (GRPO, 2402.03300), Liu et al. 2025
 * (Dr. GRPO, 2503.20783), Ahmadian et al. 2024 (RLOO, 2402.14740). */
#ifndef TENFOLD_PPO_ADVANTAGE_H
#define TENFOLD_PPO_ADVANTAGE_H

#include "ppo/batch.h"

/* Estimate of KL(policy || reference) at one token, d = log π − log π_ref (Schulman, "Approximating KL divergence"):
 * k1 = d, k2 = d²/2, k3 = exp(−d) − 1 + d. ppo_kl_slope is its derivative by log π. */
double ppo_kl(const char *estimator, double d);
double ppo_kl_slope(const char *estimator, double d);

/* score[s] from the groups' rewards by the end rule: a completion without end gets −eos_penalty instead of its reward
 * (replace), or that much less (subtract). */
void ppo_scores(struct ppo_batch *b, const struct config_ppo *c);
/* kl and reward of every entry: −kl_coef·kl when kl_in is reward, plus the score at the sequence's last entry; then
 * whitening when asked. Empty sequences have no entry and are skipped. */
void ppo_rewards(struct ppo_batch *b, const struct config_ppo *c, double kl_coef);
/* advantage and returns. gae: from value with gamma, lambda. The others use no critic: one advantage for a whole
 * completion from the group's returns. */
void ppo_advantages(struct ppo_batch *b, const struct config_ppo *c);

/* The advantages of one group, from the total reward of each completion [count, at most GROUP_MAX]: less the mean; by kind
 * also over (deviation + 1e-4) (group, GRPO), unchanged (group_mean, Dr. GRPO), or times n/(n−1) (leave_one_out, RLOO). */
void ppo_group_advantage(const char *kind, const double *total, int64_t count, double *advantage);

/* (x − mean)·rsqrt(var + 1e-8) over entries with mask, population variance; keep_mean adds the mean again. x may be
 * gathered through index[n] (NULL: 0..n-1). */
void ppo_whiten(float *x, const uint8_t *mask, const int64_t *index, int64_t n, int keep_mean);

/* Ziegler et al. §2.2: e = clip(kl/target − 1, ±0.2); β ← β(1 + e·episodes/horizon). */
double ppo_adapt_kl(double coef, double kl, double target, double horizon, double episodes);

#endif
