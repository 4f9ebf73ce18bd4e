/* Equal completions of a group computed once.
 *
 * A policy that is sure of itself writes the same completion several times in
 * ten: the start of configs/quickstart.yaml has 4.6 different ones a group. A
 * model that sees one candidate at a time gives equal completions equal numbers,
 * bit for bit, so one of them is enough; on the way back their gradients are
 * added to its, in the order of the candidates. A model that compares
 * (group_block.h) needs every candidate's row: it adds with merge = 0.
 *
 * Remembers the groups of one batch, from distinct_add to the next. */
#ifndef TENFOLD_REWARD_DISTINCT_H
#define TENFOLD_REWARD_DISTINCT_H

#include "policy/batch.h"

struct distinct {
	uint32_t n, room;        /* groups of the batch */
	uint32_t *size, *count;  /* [room]: candidates, those added */
	uint8_t (*of)[GROUP_MAX]; /* [room]: place of a candidate among those added of its group */
	int32_t *tokens;         /* [token_room] */
	size_t token_room;
};

void distinct_close(struct distinct *d);
/* Adds groups (flag BATCH_LAST) to a batch that was reset. */
void distinct_add(struct distinct *d, struct batch *b, const struct group *const *groups, uint32_t n, int merge);
/* In place, [added] -> [candidates]: every candidate gets the value of the one that stands for it. */
void distinct_expand(const struct distinct *d, float *value);
/* In place, [candidates] -> [added]: sums over the candidates that one stands for. */
void distinct_fold(const struct distinct *d, float *dvalue);

#endif
