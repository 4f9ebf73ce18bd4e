/* What a run takes in memory, before it starts. */
#ifndef TENFOLD_APP_MEMORY_H
#define TENFOLD_APP_MEMORY_H

#include "app/session.h"

#include <stdio.h>

/* Prints a table of the learner's and the workers' memory to f and refuses (ERR_MEMORY), with the keys to lower, when all
 * roles on this machine together need more than it has. The session has a task and a backend. */
int memory_check(const struct session *s, FILE *f, struct err *e);

#endif
