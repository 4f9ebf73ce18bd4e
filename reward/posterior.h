/* What the answers about one prompt say of its candidates' scores: the posterior
 * under independent normal priors, by Laplace's approximation around its one
 * maximum (the likelihoods of judgement.h are log-concave). Pure, in double,
 * sums in the order of the answers: the same answers give the same bits. */
#ifndef TENFOLD_REWARD_POSTERIOR_H
#define TENFOLD_REWARD_POSTERIOR_H

#include "reward/judgement.h"

struct posterior {
	uint32_t n;
	double mean[GROUP_MAX];     /* scores, in the units of judgement.h */
	double evidence;            /* log of the marginal likelihood of the answers */
	int iterations;             /* Newton steps taken */
	double covariance[GROUP_MAX * GROUP_MAX]; /* [n, n] row-major; only of posterior_fit */
};

struct posterior_model {
	double sd;                   /* of the prior of every score, mean 0; > 0 */
	struct judgement_scale scale;
	const double *beta;          /* [people] NULL: all 1 */
	const double *weight;        /* [people] power of their likelihood, 0 to 1; NULL: all 1 */
};
/* sd 1.5, the default scale, everybody alike. */
struct posterior_model posterior_model_default(void);

/* n: candidates; j: answers about them, each valid; count may be 0. */
void posterior_fit(struct posterior *out, const struct posterior_model *m, const struct judgement *j, size_t count, uint32_t n);
/* Mean and evidence only, starting from out->mean where out->n is n already: what the fit of a crowd repeats. */
void posterior_evidence(struct posterior *out, const struct posterior_model *m, const struct judgement *j, size_t count, uint32_t n);

/* Mean and variance of score a less score b. */
void posterior_difference(const struct posterior *p, uint32_t a, uint32_t b, double *mean, double *variance);
/* Probability that a's score is above b's. */
double posterior_above(const struct posterior *p, uint32_t a, uint32_t b);
/* Probability that a person of inverse temperature 1 prefers a to b, ties aside: the mean of σ over the difference. */
double posterior_prefers(const struct posterior *p, uint32_t a, uint32_t b);
/* top [n]: probability of each to have the highest score, by 2,048 draws that depend on seed alone; sums to 1. */
void posterior_top(const struct posterior *p, uint64_t seed, double *top);
/* Candidates by falling mean, equal ones by number; order [n]. */
void posterior_order(const struct posterior *p, uint8_t *order);
/* Expected information of a duel between a and b asked of a person of inverse temperature beta about the scores, in nats:
 * entropy of the mean answer (first, tie, second) less the mean entropy of the answer, over the difference (Lindley 1956;
 * Houlsby et al. 2011, 1112.5745). */
double posterior_gain(const struct posterior *p, const struct judgement_scale *scale, double beta, uint32_t a, uint32_t b);

#endif
