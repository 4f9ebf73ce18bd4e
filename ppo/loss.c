/* PPO's losses; see loss.h. */
#include "ppo/loss.h"

#include "ppo/advantage.h"

#include <math.h>
#include <string.h>

static double limit(double x, double low, double high)
{
	return x < low ? low : x > high ? high : x;
}

struct ppo_policy_term ppo_policy_loss(const struct config_ppo *c, double kl_coef, double logprob, double old, double ref, double advantage)
{
	struct ppo_policy_term t = {.delta = logprob - old};
	t.ratio = exp(t.delta);
	double high = c->clip_high > 0 ? c->clip_high : c->clip;
	double plain = -advantage * t.ratio, clipped = -advantage * limit(t.ratio, 1.0 - c->clip, 1.0 + high);
	t.clipped = clipped > plain;
	t.loss = t.clipped ? clipped : plain;
	t.dlogprob = t.clipped ? 0.0 : plain; /* dρ/dlogπ = ρ */
	if (c->dual_clip > 0 && advantage < 0 && t.loss > -advantage * c->dual_clip) {
		t.loss = -advantage * c->dual_clip;
		t.dlogprob = 0.0;
		t.clipped = 1;
	}
	if (!strcmp(c->kl_in, "loss")) {
		t.loss += kl_coef * ppo_kl(c->kl_estimator, logprob - ref);
		t.dlogprob += kl_coef * ppo_kl_slope(c->kl_estimator, logprob - ref);
	}
	return t;
}

struct ppo_value_term ppo_value_loss(const struct config_ppo *c, double value, double old, double returns)
{
	struct ppo_value_term t = {0};
	double d = value - returns;
	t.loss = 0.5 * d * d;
	t.dvalue = d;
	if (c->value_clip > 0) {
		double v = limit(value, old - c->value_clip, old + c->value_clip), e = v - returns;
		if (e * e > d * d) {
			t.loss = 0.5 * e * e;
			t.dvalue = v == value ? e : 0.0;
			t.clipped = 1;
		}
	}
	return t;
}
