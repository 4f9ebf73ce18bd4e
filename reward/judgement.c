/* Likelihoods of answers; see judgement.h. All three kinds are made of two
 * pieces, a choice (softmax with weights) and a logit, each with its first two
 * derivatives. */
#include "reward/judgement.h"

#include "core/base/err.h"

#include <math.h>

struct judgement_scale judgement_scale_default(void)
{
	return (struct judgement_scale){{0.3, 0.9, 1.8}};
}

int judgement_ranked(const struct judgement *j)
{
	int ranked = 0;
	for (uint32_t k = 0; k < j->count; k++) ranked += j->rank[k] > 0;
	return ranked >= 2;
}

static int valid_best_worst(const struct judgement *j)
{
	uint32_t with[4] = {0};
	for (uint32_t k = 0; k < j->count; k++) {
		if (j->rank[k] > 3) return 0;
		with[j->rank[k]]++;
	}
	return with[0] == j->count || with[1] == j->count || (with[1] == 1 && with[3] == 1 && with[2] == j->count - 2);
}

static int valid_duel(const struct judgement *j)
{
	uint8_t a = j->rank[0], b = j->rank[1];
	if (j->strength > JUDGEMENT_STRENGTHS || (j->strength && a == b)) return 0;
	return (a == 0 && b == 0) || (a == 1 && b == 1) || (a == 1 && b == 2) || (a == 2 && b == 1);
}

int judgement_valid(const struct judgement *j, uint32_t n)
{
	uint64_t seen = 0;
	if (n < 2 || n > GROUP_MAX || j->count < 2 || j->count > n) return 0;
	for (uint32_t k = 0; k < j->count; k++) {
		if (j->shown[k] >= n || seen >> j->shown[k] & 1) return 0;
		seen |= (uint64_t)1 << j->shown[k];
	}
	if (j->strength && j->kind != JUDGEMENT_DUEL) return 0;
	switch (j->kind) {
	case JUDGEMENT_BEST_WORST: return j->count >= 3 && valid_best_worst(j);
	case JUDGEMENT_DUEL: return j->count == 2 && valid_duel(j);
	case JUDGEMENT_ORDER: return 1;
	}
	return 0;
}

/* Where the derivatives go. */
struct sum {
	const double *score;
	uint32_t n;
	double weight, loglik;
	double *gradient, *hessian;
};

/* Σ target·c·s − log Σ within·exp(c·s) over m candidates: the choice of one (targets sum to 1) out of those with within > 0. */
static void add_choice(struct sum *s, const uint8_t *of, uint32_t m, double c, double weight, const double *target, const double *within)
{
	double p[GROUP_MAX], most = -INFINITY, z = 0, ll = 0;
	for (uint32_t i = 0; i < m; i++)
		if (within[i] > 0 && c * s->score[of[i]] > most) most = c * s->score[of[i]];
	for (uint32_t i = 0; i < m; i++) z += p[i] = within[i] > 0 ? within[i] * exp(c * s->score[of[i]] - most) : 0;
	for (uint32_t i = 0; i < m; i++) {
		p[i] /= z;
		ll += target[i] * c * s->score[of[i]];
	}
	s->loglik += weight * (ll - most - log(z));
	if (!s->gradient) return;
	for (uint32_t i = 0; i < m; i++) s->gradient[of[i]] += weight * c * (target[i] - p[i]);
	for (uint32_t i = 0; s->hessian && i < m; i++)
		for (uint32_t k = 0; k < m; k++) s->hessian[of[i] * s->n + of[k]] -= weight * c * c * p[i] * ((i == k) - p[k]);
}

static void add_best_worst(struct sum *s, const struct judgement *j, double beta)
{
	uint32_t m = j->count;
	double all[GROUP_MAX] = {0}, rest[GROUP_MAX] = {0}, target[GROUP_MAX] = {0};
	int tie = j->rank[0] == 1 && j->rank[1] == 1;
	for (uint32_t k = 0; k < m; k++) {
		all[k] = 1;
		target[k] = tie ? 1.0 / m : j->rank[k] == 1;
	}
	add_choice(s, j->shown, m, beta, s->weight, target, all);
	for (uint32_t best = 0; best < m; best++) {
		if (!tie && j->rank[best] != 1) continue;
		for (uint32_t k = 0; k < m; k++) {
			rest[k] = k != best;
			target[k] = tie ? rest[k] / (m - 1) : j->rank[k] == 3;
		}
		add_choice(s, j->shown, m, -beta, tie ? s->weight / m : s->weight, target, rest);
	}
}

static double sigmoid(double x)
{
	return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double log_sigmoid(double x)
{
	return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
}

/* log(σ(x − low) − σ(x − high)), x = β·(winner − loser); high infinite: log σ(x − low). By σ(u) − σ(v) =
 * σ(u)·σ(−v)·(1 − exp(v − u)) it never cancels. */
static void add_logit(struct sum *s, uint32_t winner, uint32_t loser, double beta, double low, double high)
{
	double x = beta * (s->score[winner] - s->score[loser]), up = sigmoid(low - x), d1 = up, d2 = up * (1 - up);
	s->loglik += s->weight * log_sigmoid(x - low);
	if (isfinite(high)) {
		double down = sigmoid(x - high);
		s->loglik += s->weight * (log_sigmoid(high - x) + log(-expm1(low - high)));
		d1 -= down;
		d2 += down * (1 - down);
	}
	if (!s->gradient) return;
	s->gradient[winner] += s->weight * beta * d1;
	s->gradient[loser] -= s->weight * beta * d1;
	if (!s->hessian) return;
	double h = s->weight * beta * beta * d2;
	s->hessian[winner * s->n + winner] -= h;
	s->hessian[loser * s->n + loser] -= h;
	s->hessian[winner * s->n + loser] += h;
	s->hessian[loser * s->n + winner] += h;
}

static void add_duel(struct sum *s, const struct judgement *j, const struct judgement_scale *scale, double beta)
{
	const double *t = scale->threshold;
	uint32_t winner = j->shown[j->rank[0] > j->rank[1]], loser = j->shown[j->rank[0] <= j->rank[1]];
	if (j->rank[0] == j->rank[1]) add_logit(s, j->shown[0], j->shown[1], beta, -t[0], t[0]);
	else if (j->strength == 0) add_logit(s, winner, loser, beta, t[0], INFINITY);
	else add_logit(s, winner, loser, beta, t[j->strength - 1], j->strength < JUDGEMENT_STRENGTHS ? t[j->strength] : INFINITY);
}

/* A block of equal rank before all of a higher one; what is not ranked takes no part. */
static void add_order(struct sum *s, const struct judgement *j, double beta)
{
	double within[GROUP_MAX] = {0}, target[GROUP_MAX] = {0};
	for (uint32_t r = 1; r <= GROUP_MAX; r++) {
		uint32_t tied = 0, after = 0;
		for (uint32_t k = 0; k < j->count; k++) {
			tied += j->rank[k] == r;
			after += j->rank[k] > r;
		}
		if (tied == 0 || tied + after < 2) continue;
		for (uint32_t i = 0; i < tied; i++) {
			for (uint32_t k = 0; k < j->count; k++) {
				target[k] = j->rank[k] == r ? 1.0 / tied : 0;
				within[k] = j->rank[k] == r ? 1 - (double)i / tied : j->rank[k] > r;
			}
			add_choice(s, j->shown, j->count, beta, s->weight, target, within);
		}
	}
}

double judgement_loglik(const struct judgement *j, const struct judgement_scale *scale, double beta, double weight, const double *score, uint32_t n,
			double *gradient, double *hessian)
{
	struct sum s = {.score = score, .n = n, .weight = weight, .gradient = gradient, .hessian = hessian};
	CHECK(judgement_valid(j, n), "a judgement of kind %d over %u of %u candidates is not one", (int)j->kind, j->count, n);
	if (!judgement_ranked(j)) return 0;
	switch (j->kind) {
	case JUDGEMENT_BEST_WORST: add_best_worst(&s, j, beta); break;
	case JUDGEMENT_DUEL: add_duel(&s, j, scale, beta); break;
	case JUDGEMENT_ORDER: add_order(&s, j, beta); break;
	}
	return s.loglik;
}
