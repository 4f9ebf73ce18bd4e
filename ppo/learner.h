/* The learner's arithmetic: scored groups in, new weights and metrics out.
 * Nothing here knows of processes, sockets or files.
 *
 * A step is three calls: learner_evaluate recomputes the sampler's
 * log-probabilities by the training forward (they must be equal bit for bit) and
 * takes the reference's and the critic's view; learner_prepare makes rewards and
 * advantages; learner_update runs epochs of minibatches. */
#ifndef TENFOLD_PPO_LEARNER_H
#define TENFOLD_PPO_LEARNER_H

#include "policy/batch.h"
#include "policy/optimizer.h"
#include "ppo/batch.h"
#include "ppo/metrics.h"

struct reward_model;

enum { LEARNER_SKIPS = 3 }; /* updates in a row that could not be made: the end */

/* An update that was left out, because a reward, a value, a log-probability or the gradient was not finite. */
struct learner_skip {
	int64_t minibatch; /* of the step, over all epochs */
	char what[160];
};

struct learner {
	struct config config;
	struct model *policy, *reference;
	struct model *critic;           /* NULL: none, or a head of the policy */
	struct model *behaviour;        /* weights that sampled the step; the policy itself without lag */
	struct model *critic_base;      /* of a critic with adapters that starts from a reward model; NULL: the policy's base, or none */
	struct optimizer *policy_opt, *critic_opt; /* critic_opt NULL without a separate critic */
	int32_t end_token;
	struct sampling sampling;
	/* state, saved with checkpoints */
	int64_t step;                   /* steps done */
	double kl_coef;
	int64_t episodes;               /* completions learned from */
	int64_t skipped;                /* updates in a row that were skipped as not finite */
	/* of the running step */
	struct ppo_batch batch;
	struct metrics metrics;
	struct learner_skip *skip; /* [skips], in the step's arena */
	int64_t skips;
	struct learner_work *work;
};

/* policy and reference are the caller's and must outlive the learner. With ppo.critic: separate the critic starts as a
 * copy of the policy's trunk with a zero head (learner_open_critic, which learner_open calls). A policy with adapters gets a
 * critic with adapters, on the same base. */
int learner_open(struct learner **out, const struct config *, struct model *policy, struct model *reference, int32_t end_token, struct err *);
int learner_open_critic(struct learner *, struct err *);
/* The largest batch of a step with prompts of up to longest_prompt tokens. */
struct batch_sizes learner_largest_batch(const struct config *, int64_t longest_prompt);
/* Takes all memory that steps with prompts of up to longest_prompt tokens need, before the first of them: a step takes none.
 * ERR_MEMORY, with a table of what has how much. */
int learner_prepare_memory(struct learner *, int64_t longest_prompt, struct err *);
void learner_close(struct learner *);
/* ppo.critic_init: reward. The critic becomes the reward model's first member (Stiennon et al. 2020, 2009.01325; Ouyang et
 * al. 2022, 2203.02155): trunk and head, the head scaled so that a value is weight · score, the score's part in the reward, where
 * the completion ends. Before the first step, or a restored checkpoint. ERR_STATE without a separate critic; ERR_MISMATCH for
 * a model of another shape than the policy's or one that compares. */
int learner_critic_from_reward(struct learner *, const struct reward_model *, double weight, struct err *);

/* groups: of this step, in slot order, scored; they and `arena` live until learner_update returns.
 * ERR_MISMATCH when a recomputed log-probability differs from the sampler's (training/rollout_probs_diff_max > 0):
 * the message names the first token that differs. */
int learner_evaluate(struct learner *, const struct group *groups, int64_t n, struct arena *arena, struct err *);
void learner_prepare(struct learner *);
/* Leaves out the update of a minibatch in which something is not finite (learner->skip says what). ERR_RANGE when that
 * happened LEARNER_SKIPS times in a row, or when an update left weights or moments that are not finite: the state must
 * then be neither saved nor published. */
int learner_update(struct learner *, struct arena *arena, struct err *);

#endif
