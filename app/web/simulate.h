/* A simulated crowd: people who answer by the very model that the fit assumes
 * (judgement.h), with a stated noise, so that what a design or a fit recovers can
 * be compared with what was put in. Every answer is a pure function of seed,
 * prompt, person and place.
 *
 * The experiments behind docs/labelling.md: which design gives the best ranking
 * for the seconds it costs, and whether someone who answers the opposite is found.
 * `tenfold crowd` prints them. */
#ifndef TENFOLD_APP_WEB_SIMULATE_H
#define TENFOLD_APP_WEB_SIMULATE_H

#include "app/web/pick.h"
#include "reward/crowd.h"

/* Scores of the candidates, standard normal. */
void simulate_scores(uint64_t seed, uint32_t item, uint32_t n, double *score);
/* Fills rank and strength of j, whose kind, count, shown, item and person are set: by a person of inverse temperature beta
 * (negative: the opposite, 0: at random). scale NULL: a duel never ties and no strength is said. */
void simulate_answer(struct judgement *j, uint64_t seed, uint32_t place, double beta, const double *score, const struct judgement_scale *scale);
/* Inverse temperature at which two such people agree on that share (0.5 to 0.95) of pairs of standard normal scores. */
double simulate_beta(double agreement);

struct simulate_seconds {
	double first, again, decision; /* reading a candidate for the first time, again; deciding */
};

struct simulate_design {
	const char *name;
	uint32_t quads, best_worst; /* quads; candidates of one best-worst question instead of quads, 0: none */
	uint32_t order;             /* 1: a full order */
	double order_noise;         /* how much noisier a person is at ordering all ten */
	uint32_t random, gain;      /* duels drawn uniformly, by information */
	int mixed;                  /* quads and duels as pick.h asks by default, a quarter of the duels uniform, with early stop */
};

struct simulate_result {
	double seconds, questions;   /* a prompt */
	double accuracy, accuracy_error; /* share of pairs that are in the right order, standard error over prompts */
	double top, top_error;       /* share of prompts whose best is found */
	double expected, expected_top; /* what the posterior itself says of both: calibrated when equal */
};

/* All designs; returns how many, 0-terminated names are the table's. */
const struct simulate_design *simulate_designs(uint32_t *count);
/* One person, n candidates, over `prompts` prompts. */
void simulate_run(struct simulate_result *out, const struct simulate_design *d, uint64_t seed, uint32_t prompts, uint32_t n, double beta,
		  const struct simulate_seconds *s);

struct simulate_campaign {
	uint32_t people, adversaries; /* the last ones are adversaries */
	uint32_t labels;       /* of each person */
	double overlap;        /* chance of a prompt to go to everybody */
	double gold;           /* chance of a prompt to be known (its best and worst), which goes to everybody too */
	uint32_t qualification; /* known prompts at each person's start */
	double beta, adversary; /* inverse temperatures */
};

struct simulate_flags {
	uint32_t seeds, flagged, false_flags, false_seeds; /* adversaries flagged; honest people flagged; seeds with any of those */
	uint32_t adversaries, honest;          /* of all seeds */
	double weight_adversary, weight_honest; /* means */
};
int simulate_adversary(struct simulate_flags *out, const struct simulate_campaign *c, uint64_t seed, uint32_t seeds, struct err *e);

#endif
