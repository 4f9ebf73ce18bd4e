/* The losses of PPO, one token at a time, with their derivatives. Pure. */
#ifndef TENFOLD_PPO_LOSS_H
#define TENFOLD_PPO_LOSS_H

#include "core/base/config.h"

struct ppo_policy_term {
	double loss;    /* of this token */
	double dlogprob; /* d loss / d log π(token) */
	double ratio;   /* π / π_old */
	double delta;   /* log π − log π_old */
	int clipped;    /* the clipped branch is the larger one */
};

/* Clipped surrogate (Schulman et al. 2017, 1707.06347, eq. 7): max(−A·ρ, −A·clip(ρ, 1−ε, 1+ε_high)); ε_high = clip_high,
 * or clip when that is 0 (DAPO's clip-higher, 2503.14476). dual_clip c > 0: for A < 0 the loss is at most −A·c (Ye et
 * al. 2020, 1912.09729). With kl_in = loss the term kl_coef·k(log π − log π_ref) is added, k by kl_estimator. */
struct ppo_policy_term ppo_policy_loss(const struct config_ppo *c, double kl_coef, double logprob, double old, double ref, double advantage);

struct ppo_value_term {
	double loss, dvalue;
	int clipped;
};

/* ½·max((v − R)², (clip(v, v_old ± ε) − R)²) (Baselines' PPO2; 2403.17031); ε = value_clip, 0: unclipped. */
struct ppo_value_term ppo_value_loss(const struct config_ppo *c, double value, double old, double returns);

#endif
