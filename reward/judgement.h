/* One answer of one person about some candidates of one prompt, and how likely
 * it is under scores of the candidates. Plain structs and pure functions; where
 * the answers come from (labels.db, a simulation) is the caller's affair.
 *
 * Scores are on the log scale of Bradley–Terry: a person of inverse temperature
 * 1 prefers a to b with odds exp(score a − score b). Every log-likelihood is
 * concave in the scores and finite for finite scores, so Newton's method finds
 * its one maximum.
 *
 *   best and worst   the best by a softmax over the shown, then the worst by a softmax over minus the scores of the rest
 *                    (best-then-worst, Marley & Louviere 2005): the pairs of one quad are not independent, so they are not
 *                    taken as five duels. All tied: the mean of the log-likelihoods over all answers.
 *   duel             ordered logit with thresholds symmetric about 0 (Rao & Kupper 1967 with ties, Agresti 1992
 *                    with strengths): P(at least k for the first) = σ(β·(a − b) − threshold_k). Without a strength, only who won.
 *   order            Plackett–Luce from the best on; tied blocks by Efron's form, as in rank_loss.h.
 *
 * What was shown but not ranked (all bad, skipped, cannot rank, flagged) says
 * nothing about the order and has likelihood 1: these outcomes are kept apart
 * by whoever records them, and are never made a tie here. */
#ifndef TENFOLD_REWARD_JUDGEMENT_H
#define TENFOLD_REWARD_JUDGEMENT_H

#include "core/base/group.h"

#include <stddef.h>
#include <stdint.h>

enum judgement_kind { JUDGEMENT_BEST_WORST = 1, JUDGEMENT_DUEL = 2, JUDGEMENT_ORDER = 3 };

enum { JUDGEMENT_STRENGTHS = 3 }; /* of a win in a duel: 1 slightly, 2, 3 much better; with the tie a scale of seven */

struct judgement {
	uint32_t item;    /* the prompt: index of the caller's */
	uint32_t person;  /* index of the caller's */
	enum judgement_kind kind;
	uint32_t count;   /* candidates shown: 2 in a duel, 3 or 4 for best and worst, 2..GROUP_MAX in an order */
	uint8_t shown[GROUP_MAX]; /* candidates as they were laid out: the first is at the left or on top */
	/* of shown[k]: 0 not ranked; 1 the best. Best and worst: 1 the best, 3 the worst, 2 those between, whose order is not
	 * known; all 1: a tie. Duel: 1 and 2, or both 1. Order: equal numbers tie. All 0: an answer without a ranking. */
	uint8_t rank[GROUP_MAX];
	uint8_t strength; /* of a duel that has a winner: 1..JUDGEMENT_STRENGTHS; 0: not said */
};

/* How people of inverse temperature 1 use the duel's scale: 0 < threshold[0] < threshold[1] < threshold[2], in units of the
 * score; threshold[0] is half the width of a tie. */
struct judgement_scale {
	double threshold[JUDGEMENT_STRENGTHS];
};
/* Of a campaign without data: a tie within ±0.3, the strengths from 0.9 and 1.8 on. */
struct judgement_scale judgement_scale_default(void);

/* Whether it has a ranking; one that has none counts nothing below. */
int judgement_ranked(const struct judgement *j);
/* Whether the fields agree with each other and candidates are below n, each shown once. */
int judgement_valid(const struct judgement *j, uint32_t n);

/* Log-likelihood at score [n] of a person with inverse temperature beta (negative: one who answers the opposite; 0: one who
 * answers at random). gradient [n] and hessian [n, n] (of the log-likelihood, row-major), by candidate, get weight times
 * their derivatives added; both may be NULL. Returns weight times the log-likelihood. */
double judgement_loglik(const struct judgement *j, const struct judgement_scale *scale, double beta, double weight, const double *score, uint32_t n,
			double *gradient, double *hessian);

#endif
