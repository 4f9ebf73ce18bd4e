/* A loss of one's own: the two functions of ppo/loss.h. A program that links
 * these takes them in place of Tenfold's, and is the whole program otherwise.
 *
 * Policy: Simple Policy Optimization (2401.16025, eq. 14): no clipping, a
 * parabola around ratio 1 instead,  −(A·ρ − |A|/(2ε)·(ρ − 1)²).
 * Value: half the squared error. */
#include "ppo/loss.h"

#include <math.h>

struct ppo_policy_term ppo_policy_loss(const struct config_ppo *c, double kl_coef, double logprob, double old, double ref, double advantage)
{
	(void)kl_coef, (void)ref; /* ppo.kl_in: reward; the penalty is in the advantage */
	struct ppo_policy_term t = {.delta = logprob - old};
	t.ratio = exp(t.delta);
	double away = t.ratio - 1.0, size = fabs(advantage) / c->clip;
	t.loss = -(advantage * t.ratio - 0.5 * size * away * away);
	t.dlogprob = -(advantage - size * away) * t.ratio; /* dρ/dlogπ = ρ */
	return t;
}

struct ppo_value_term ppo_value_loss(const struct config_ppo *c, double value, double old, double returns)
{
	(void)c, (void)old;
	double d = value - returns;
	return (struct ppo_value_term){.loss = 0.5 * d * d, .dvalue = d};
}
