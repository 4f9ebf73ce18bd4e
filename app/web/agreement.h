/* How far people agree: with each other, with known answers, with themselves; and
 * what sways them that should not (side, length). Pure functions over ratings and
 * judgements; intervals by bootstrap over prompts, seeded, as the pairs of one
 * prompt are not independent.
 *
 * A rating is one person's word on one unit; from comparisons the unit is a pair
 * of candidates of a prompt, and the values are −1, 0, 1: the first is worse, a
 * tie, the first is better. Quads say nothing on their two middle candidates, so
 * that pair is not rated by them. Answers without a ranking rate nothing. */
#ifndef TENFOLD_APP_WEB_AGREEMENT_H
#define TENFOLD_APP_WEB_AGREEMENT_H

#include "core/base/err.h"
#include "reward/judgement.h"

struct agreement_rating {
	uint32_t cluster, unit, rater; /* cluster: what is drawn together by the bootstrap (the prompt) */
	int32_t value;
};

enum agreement_metric { AGREEMENT_NOMINAL, AGREEMENT_ORDINAL, AGREEMENT_INTERVAL };
enum { AGREEMENT_VALUES_MAX = 64, AGREEMENT_RATERS_MAX = 256 };

struct agreement_value {
	double value, low, high; /* 95 %; NaN where undefined (nobody rated the same, only one value) */
};

struct agreement {
	uint64_t units, ratings; /* units that at least two people rated; their ratings */
	uint32_t raters;
	struct agreement_value raw;    /* share of pairs of ratings of one unit that are equal */
	struct agreement_value cohen;  /* Cohen 1960; of more than two people the mean over pairs of people, weighed by units shared
				        * (after Light 1971); NaN for more than AGREEMENT_RATERS_MAX */
	struct agreement_value fleiss; /* Fleiss 1971; units may have different numbers of ratings */
	struct agreement_value alpha;  /* Krippendorff 2004, with the metric asked for */
};

/* The ratings that answers imply, at most one per person and pair (the first); out [agreement_ratings_most]. unit: item·4096
 * + a·64 + b with a < b, cluster: the item; items below 2^20. Returns how many. */
size_t agreement_ratings_most(const struct judgement *j, size_t n);
size_t agreement_ratings(struct agreement_rating *out, const struct judgement *j, size_t n);

/* r is sorted. resamples 0: no intervals (NaN). ERR_RANGE: more than AGREEMENT_VALUES_MAX different values; ERR_MEMORY. */
int agreement_compute(struct agreement *out, struct agreement_rating *r, size_t n, enum agreement_metric metric, uint64_t seed, uint32_t resamples,
		      struct err *e);

/* A share with Wilson's 95 % interval. */
struct agreement_share {
	double value, low, high; /* NaN of none */
	uint64_t n;
};
struct agreement_share agreement_share_of(double hits, uint64_t n);

/* Of duels with a winner, those that the candidate laid out first won. */
struct agreement_share agreement_left_wins(const struct judgement *j, size_t n);
/* Of best-and-worst questions with a best, those whose best lay at this place. */
struct agreement_share agreement_place_wins(const struct judgement *j, size_t n, uint32_t place);
/* Of answers, one pair each (the best against the worst that was said), those won by the longer; equal lengths left out. */
struct agreement_share agreement_length_wins(const struct judgement *j, size_t n, uint32_t (*length)(const void *ctx, uint32_t item, uint32_t candidate),
					     const void *ctx);
/* Pairs on which answers a and b, of one prompt, both decide, ties included, and those decided alike: for repeats. */
void agreement_same(const struct judgement *a, const struct judgement *b, uint64_t *alike, uint64_t *pairs);
/* Pairs that an answer decides between the best or worst as known (−1: not known) and another; those decided right, ties half. */
void agreement_gold(const struct judgement *j, int best, int worst, double *right, uint64_t *pairs);

/* The share of the time one of two equal people is right when two of them agree on that share: promise no reward model a higher
 * accuracy (p = 2a² − 2a + 1). NaN below ½. */
double agreement_ceiling(double agreement);

#endif
