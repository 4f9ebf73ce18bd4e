/* A learned reward model: the policy's trunk with a scalar head read at the last
 * token of a completion, and a gain and a bias that put the completions of the
 * start at mean 0, standard deviation 1 (Ziegler et al. 2019, 1909.08593; the
 * head's start N(0, 1/√(d+1)) is theirs too).
 *
 * An ensemble is several such models with other seeds; its score is their mean,
 * its uncertainty their spread. A pointwise model's score of a completion depends
 * on prompt and completion alone. A group model has a block before the head in
 * which the candidates see each other (group_block.h): its score depends on the
 * group's set of candidates too, not on their order. Neither depends on the batch
 * it is computed in.
 *
 * On disk: FOLDER is a model folder (the first member), FOLDER/member-2 … the
 * further ones, FOLDER/reward.json the kind and the members' gains and biases. The
 * version is a hash of all of it. One thread at a time. */
#ifndef TENFOLD_REWARD_REWARD_MODEL_H
#define TENFOLD_REWARD_REWARD_MODEL_H

#include "core/base/group.h"
#include "policy/model.h"
#include "policy/tokenizer.h"
#include "reward/distinct.h"
#include "reward/group_block.h"
#include "reward/scorer.h"

enum { REWARD_MEMBERS_MAX = 8 };

struct reward_member {
	struct model *model;
	struct activations *acts;
	struct group_block *block; /* NULL: pointwise */
	double gain, bias; /* score = gain · head + bias */
	int64_t step;      /* of its fit, from 1, whose weights these are; 0: not fitted */
	double logit;      /* log odds of a pair = logit · score difference, as fitted */
};

struct reward_model {
	struct backend *backend;
	int group; /* the candidates see each other */
	uint32_t members;
	struct reward_member member[REWARD_MEMBERS_MAX];
	struct model *base; /* with adapters: the frozen trunk that all members are on, and no member of which is written; NULL: none */
	struct batch batch;
	struct distinct distinct; /* of the batch */
	struct batch_sizes most;  /* as prepared; 0 rows: it was not */
	float *head; /* [room] */
	size_t room;
	char version[GROUP_VERSION]; /* "" until saved or opened */
};

/* Members with the trunk of a model folder and heads (and group blocks) drawn from (seed, member); gain 1, bias 0. lora: what
 * learns beside them are adapters, on one trunk; NULL: each member's trunk learns. Saving writes their sum. */
int reward_model_start(struct reward_model **out, const char *folder, struct backend *backend, int group, uint32_t members, uint64_t seed,
		       const struct config_lora *lora, struct err *e);
/* What reward_model_save wrote. ERR_NOT_FOUND without FOLDER/reward.json. */
int reward_model_open(struct reward_model **out, const char *folder, struct backend *backend, struct err *e);
int reward_model_save(struct reward_model *m, const char *folder, const struct tokenizer *t, struct err *e);
void reward_model_close(struct reward_model *m);
/* Head of one member for the batch of these groups (BATCH_LAST), after model_forward with `acts`; head [sum of sizes]. */
void reward_member_heads(struct reward_member *b, struct activations *acts, const struct batch *batch, const struct group *const *groups, uint32_t n, float *head);
/* After that: adds the gradient of a loss with derivatives dhead [sum of sizes] into grads (backend). */
void reward_member_backward(struct reward_member *b, struct activations *acts, const struct batch *batch, const float *dhead, float *grads);
/* One member's head at the last token of every completion: head [sum of sizes], group after group. */
void reward_model_heads(struct reward_model *m, uint32_t member, const struct group *const *groups, uint32_t n, float *head);
/* The largest batch that this makes of at most `groups` groups with prompts, completions and responses up to these. */
struct batch_sizes reward_model_largest_batch(int64_t groups, int64_t prompt, int64_t completions, int64_t response);
/* Takes a device's memory of such batches now, so that scoring takes none. ERR_MEMORY, with a table of what has how much. */
int reward_model_prepare(struct reward_model *m, const struct batch_sizes *most, struct err *e);
/* What is in a folder, without opening it: the shape of a member with its heads, how many there are, whether candidates see each other. */
int reward_model_describe(const char *folder, struct shape *s, uint32_t *members, int *group, struct err *e);
/* Mean of the members' scores, and their standard deviation (spread may be NULL), by candidate as above. */
void reward_model_scores(struct reward_model *m, const struct group *const *groups, uint32_t n, double *score, double *spread);
/* Sets gain and bias of a member so that the first completion of each group, then the second, … up to `count`
 * completions, have mean 0 and standard deviation 1 (gain 1 where they are all equal). */
void reward_model_normalise(struct reward_model *m, uint32_t member, const struct group *const *groups, uint32_t n, int64_t count);
/* Factor from a difference of scores to log odds: the members' mean. */
double reward_model_logit(const struct reward_model *m);

/* The term `model`, and with several members `model_std`. The model stays the caller's. Groups must have tokens. */
int reward_model_scorer_open(struct scorer **out, struct reward_model *m, struct err *e);
/* The same terms by models that change: groups of step s are scored by `start` for s < every, then by the one in
 * FOLDER/0000000V, V = s / every, which is opened when it is first asked for. start stays the caller's. */
enum { REWARD_LIVE_OPEN = 3 }; /* versions that stay open beside the start, each with the memory that the start was prepared with */
int reward_live_scorer_open(struct scorer **out, struct reward_model *start, const char *folder, uint64_t every, struct backend *backend, struct err *e);
/* FOLDER/0000000V. */
int reward_live_path(const char *folder, uint64_t version, char *out, size_t bytes, struct err *e);

#endif
