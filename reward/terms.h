/* The reward of a completion: the weighted sum of named terms, written as
 * "verifier:1.0, length:-0.001" in reward.terms. The raw scores are kept and
 * logged beside it, so weights can be questioned afterwards. */
#ifndef TENFOLD_REWARD_TERMS_H
#define TENFOLD_REWARD_TERMS_H

#include "core/base/err.h"
#include "core/base/group.h"

struct reward_terms {
	uint32_t count; /* 1..GROUP_TERMS_MAX */
	char name[GROUP_TERMS_MAX][GROUP_TERM_NAME];
	double weight[GROUP_TERMS_MAX];
};

/* "name:weight, name:weight"; a name alone has weight 1. ERR_FORMAT naming the part that is wrong. */
int reward_terms_parse(struct reward_terms *t, const char *text, struct err *e);

/* 1 when a term is a reward model's: model, model_std. */
int reward_terms_learned(const struct reward_terms *t);

struct reward_rule {
	struct reward_terms terms;
	double clip;   /* rewards limited to ±clip; 0: off */
	int shuffle;   /* control run: each group's rewards are permuted, which keeps their distribution and breaks their
	                  relation to the completions */
	uint64_t seed; /* of the permutation: (RNG_CONTROL, step, slot) */
};

/* Fills reward[G] and points g->reward at it. The sum is taken in double in the order of `terms`; terms the scorer
 * gave beyond those count nothing. ERR_NOT_FOUND: a term is missing from the group; ERR_RANGE: a score that is not
 * finite. */
int reward_combine(struct group *g, float *reward, const struct reward_rule *rule, struct err *e);

#endif
