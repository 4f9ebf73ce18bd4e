/* How good a score is against rankings that it has not seen: accuracy over
 * pairs with its interval, the baselines that read only the length, calibration
 * of the probabilities, accuracy by how clear the difference was.
 *
 * Pairs that tie in the ranking are left out. Pairs of one group are not
 * independent, nor are groups of one prompt: beside Wilson's interval over pairs
 * stands one that takes prompts as the independent units, and is the one to trust
 * when they disagree. */
#ifndef TENFOLD_REWARD_RANK_EVAL_H
#define TENFOLD_REWARD_RANK_EVAL_H

#include "core/base/group.h"
#include "reward/posterior.h"
#include "store/store.h"

/* A group with a ranking of it. */
struct ranked_group {
	struct group group;
	struct store_comparison ranking;
	/* of human labels (label_set.h): what the ranking was made from; NULL: nothing */
	const struct judgement *answer;
	size_t answers;
	const struct posterior_model *people; /* scale, inverse temperatures and weights of those who answered */
};

enum { RANK_BINS = 10, RANK_MARGINS = 4 };

struct rank_eval {
	int64_t groups, tied_groups; /* all; those whose whole ranking ties, which have no pairs */
	int64_t pairs;
	double accuracy;             /* share of pairs in which the better has the higher score; equal scores count half */
	double low, high;            /* Wilson 1927 score interval over pairs, 95 % */
	int64_t prompts;             /* with pairs */
	double group_low, group_high; /* ratio estimator over prompts, 95 %, cut at 0 and 1 */
	double shorter, longer;      /* accuracy of "the shorter wins" and of "the longer wins"; equal lengths count half */
	double over_low, over_high;  /* 95 % interval, in the same way, of accuracy less that of the better of those two, paired */
	double brier;                /* mean squared error of the probabilities */
	double calibration;          /* expected calibration error: mean over pairs of |predicted − observed| of their bins */
	struct {
		int64_t n;
		double predicted, observed; /* means */
	} bin[RANK_BINS];            /* predicted probability that the pair's first candidate wins, in tenths */
	struct {
		double low, high;       /* (low, high]: quarters of the largest strength */
		int64_t n;
		double accuracy;
	} margin[RANK_MARGINS];      /* pairs of known strength */
};

/* score: by candidate, group after group (sum of sizes); logit: factor from a score difference to log odds. */
void rank_eval(struct rank_eval *out, const struct ranked_group *g, uint32_t n, const double *score, double logit);

#endif
