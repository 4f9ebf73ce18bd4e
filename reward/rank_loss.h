/* Losses of a reward model over one group: scores of its candidates on one
 * side, a ranking of them on the other. Pure functions in double; the group is
 * one element of a batch whatever its size, so a batch averages over groups and
 * never over pairs (InstructGPT, 2203.02155, section 3.5: pairs of one prompt as
 * separate examples overfit in one pass).
 *
 * Rankings may be partial (candidates not ranked get no gradient) and may tie.
 * Every loss is finite for finite scores, also where the whole group ties: then
 * it is lowest at equal scores (pairs, Plackett–Luce, best of). */
#ifndef TENFOLD_REWARD_RANK_LOSS_H
#define TENFOLD_REWARD_RANK_LOSS_H

#include "core/base/err.h"
#include "store/store.h"

enum rank_loss_kind {
	/* Bradley–Terry over all pairs, divided by their number: −t·log σ(Δ−m) − (1−t)·log σ(m−Δ) with Δ the better's score less
	 * the worse's, t = 1 − label_smoothing, or ½ for a tie; m = margin · strength (Llama 2, 2307.09288, eq. 2), where
	 * strength is the sum of the ranking's margins between the two, 0 where one of them is unknown. */
	RANK_PAIRS,
	/* Plackett–Luce: the ranking as choices without replacement, from the best on. A tied block of b candidates T before the
	 * rest R has Efron's form (1977): Σ_{j<b} log(Z_R + (1 − j/b)·Z_T) − Σ_T s, near the mean over the block's orders and
	 * exact for b = 1. Divided by count − 1, the number of real choices. */
	RANK_PLACKETT_LUCE,
	/* Softmax cross entropy on the best (Ziegler et al. 2019, section 2.1: best of four); several best share the target
	 * evenly. label_smoothing is spread evenly over all. */
	RANK_BEST_OF,
};

struct rank_loss_options {
	enum rank_loss_kind kind;
	double label_smoothing; /* [0, 0.5]; not of Plackett–Luce */
	double margin;          /* >= 0; of pairs only */
};

/* "pairs", "plackett_luce", "best_of". ERR_RANGE for another word. */
int rank_loss_kind_parse(enum rank_loss_kind *kind, const char *name, struct err *e);
/* The loss; dscore [n] is overwritten with its derivatives by score [n], both by candidate. Candidates in c are below n. */
double rank_loss(const struct rank_loss_options *o, const struct store_comparison *c, const double *score, double *dscore, uint32_t n);
/* How much better order[k] is than order[l], k < l: the sum of the margins between; NaN when one is not known. */
double rank_strength(const struct store_comparison *c, uint32_t k, uint32_t l);

#endif
