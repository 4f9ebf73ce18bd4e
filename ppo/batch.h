/* One step's rollouts as the learner sees them: per-token arrays over all
 * sequences, packed group after group, candidate after candidate.
 *
 * A sequence has one entry for each response token. With score_at: eos_plus_one
 * it has one more when it ended before the length limit: the state after the end
 * token, where the value is learnt and the score arrives but no token was
 * chosen; `chosen` is 0 there. All arrays live in the step's arena. */
#ifndef TENFOLD_PPO_BATCH_H
#define TENFOLD_PPO_BATCH_H

#include "core/base/arena.h"
#include "core/base/config.h"
#include "core/base/group.h"

struct ppo_batch {
	int64_t groups, size;      /* groups; completions of each (G) */
	const struct group *group; /* [groups] in slot order */
	int64_t sequences;         /* groups * size */
	int64_t tokens;            /* entries N */
	int64_t *first;            /* [sequences+1] first entry of each sequence */
	uint8_t *chosen;           /* [N] 1: a response token; 0: the state after the end */
	float *old;                /* [N] log-probability under the policy that sampled */
	float *ref;                /* [N] under the reference, at the sampler's temperature, without its top-k and top-p */
	float *value;              /* [N] critic's value of the state before the token */
	float *kl;                 /* [N] estimate by kl_estimator, nats */
	float *reward;             /* [N] token reward: KL penalty, and the score where it arrives */
	float *advantage, *returns; /* [N] */
	float *score;              /* [sequences] after the end rule */
	uint8_t *ended;            /* [sequences] 1: finished by the end token or a stop text */
};

/* Lays out the arrays for these groups and fills old, chosen and ended. */
void ppo_batch_open(struct ppo_batch *b, const struct config *c, const struct group *groups, int64_t n, struct arena *a);
/* Entries of sequence s. */
static inline int64_t ppo_batch_length(const struct ppo_batch *b, int64_t s)
{
	return b->first[s + 1] - b->first[s];
}

#endif
