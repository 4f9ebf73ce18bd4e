/* Groups that outlive the buffer they came in, and the question whether two
 * groups with one id are the same: exactness promises that they are, so the
 * answer names what differs. */
#ifndef TENFOLD_BASE_GROUP_COPY_H
#define TENFOLD_BASE_GROUP_COPY_H

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/base/group.h"

#include <stddef.h>

/* Copies g and all it points to into `a`. ERR_MEMORY. */
int group_copy(struct group *out, const struct group *g, struct arena *a, struct err *e);
/* 0 when both are equal to the bit, else 1 and a sentence about the first member that differs in text[bytes]. */
int group_difference(const struct group *x, const struct group *y, char *text, size_t bytes);

#endif
