/* How far each person is to be trusted, from everybody's answers together: a
 * person is honest with an unknown inverse temperature, answers at random, or
 * answers the opposite of what they think, each with a prior, and the posterior
 * of these kinds is found with the candidates' scores integrated out.
 *
 * Why not plug estimated scores in: on a prompt that one person alone answered
 * the scores follow that person, and a coin would look honest. The evidence of a
 * prompt (posterior.h) with a person's answers taken as of one kind, the others
 * weighed as they stand, has no such fault. Persons are visited in order, until
 * nothing changes (coordinate ascent on a mean-field bound); after each round
 * the width of the prior of the scores and the thresholds of duels move to where
 * the evidence is higher. Deterministic: the same answers give the same bits.
 *
 * What someone answers who is not honest is not turned round, however certain:
 * it is given weight honest, near 0. Whoever is excluded is the owner's decision;
 * this only says who is flagged. */
#ifndef TENFOLD_REWARD_CROWD_H
#define TENFOLD_REWARD_CROWD_H

#include "core/base/err.h"
#include "reward/posterior.h"

struct crowd_person {
	double honest, random, opposite; /* posterior probabilities, sum 1; prior 0.9, 0.05, 0.05 */
	double beta;      /* mean inverse temperature if honest; prior log-normal around 1 with sd 0.5 of the log */
	uint32_t answers; /* with a ranking */
	int flagged;      /* honest < CROWD_FLAG */
};

#define CROWD_FLAG 0.02

struct crowd_item {
	uint32_t candidates; /* n, 2..GROUP_MAX */
	size_t begin, count; /* of its judgements */
};

struct crowd_data {
	const struct judgement *judgement; /* all of one item together; judgement.item is not looked at */
	const struct crowd_item *item;
	uint32_t items, people;
	/* [people] NULL: nobody. Others than 0 are known answers (gold): taken as of an honest person of this inverse temperature. */
	const double *known;
};

struct crowd {
	uint32_t people;
	struct crowd_person *person;     /* [people] */
	double *beta, *weight;           /* [people] for posterior_model: weight is honest */
	double sd;                       /* of the scores' prior */
	struct judgement_scale scale;
	double evidence;                 /* of all prompts */
	int rounds;
};

/* ERR_RANGE: a judgement that is not valid (named by its number); ERR_MEMORY. */
int crowd_fit(struct crowd *out, const struct crowd_data *d, struct err *e);
void crowd_free(struct crowd *c);
/* For posterior_fit over one of the prompts. */
struct posterior_model crowd_model(const struct crowd *c);

#endif
