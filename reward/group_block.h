/* The part of a reward model that compares (reward.scorer: group): a block in
 * which the candidates of a group attend to each other, between the trunk and
 * the scalar head, forward and backward.
 *
 * In goes one vector a candidate, the trunk's final hidden state at its last
 * token; out comes one score. The block is a pre-norm transformer layer over
 * the group's set of candidates (Lee et al. 2019, Set Transformer, 1810.00825):
 * x += attention(norm x); x += SwiGLU(norm x); score = head(x). It has no
 * positions, so permuted candidates have permuted scores, and that bit for bit:
 * sums over the candidates run in the order of their content (tokens,
 * lexicographic), whatever place they came in. Candidates of equal content have
 * equal keys and values, so their order among themselves cannot show.
 *
 * A group's keys fill one page of attention, which is why 64 candidates are the
 * most. Groups do not see each other. The parameters are those of HEAD_GROUP in
 * the model's table; what lies here is one batch's activations, reused. */
#ifndef TENFOLD_REWARD_GROUP_BLOCK_H
#define TENFOLD_REWARD_GROUP_BLOCK_H

#include "core/base/group.h"
#include "policy/model.h"

struct group_block;

/* The model must have the heads HEAD_SCALAR and HEAD_GROUP, and outlive the block. */
struct group_block *group_block_open(const struct model *m);
void group_block_close(struct group_block *b);
/* Bytes that the block of a model of this shape takes for so many candidates of so many groups. */
size_t group_block_plan(const struct shape *, int64_t candidates, int64_t groups);
/* Takes them now, so that none is taken later. ERR_MEMORY, with a table of what has how much. */
int group_block_prepare(struct group_block *b, int64_t candidates, int64_t groups, struct err *e);
/* x: backend, [N, C], N the candidates of all groups in order; score: host, [N]. x may change afterwards. */
void group_block_forward(struct group_block *b, struct tensor x, const struct group *const *groups, uint32_t n, float *score);
/* Of the last forward. dscore: host, [N]. Adds into grads (backend, the model's layout); returns d/dx, backend [N, C], which
 * lives until the next call. */
const float *group_block_backward(struct group_block *b, const float *dscore, float *grads);

#endif
