/* The lock of a run folder: one owner at a time, whichever stage runs, because
 * run.db has one writer and the checkpoints have one.
 *
 * It is an flock on <run>/lock: the kernel gives it back when the owner dies in
 * whatever way, so there is no stale lock to remove by hand. The file's text
 * (pid, host, role, since) only serves the message of the one refused; the file
 * itself stays, for deleting a lock file invites two owners. A child made by
 * fork without exec shares the lock and keeps it alive: roles are started by
 * exec, which closes it. */
#ifndef TENFOLD_BASE_LOCK_H
#define TENFOLD_BASE_LOCK_H

#include "core/base/err.h"

#include <stdint.h>

struct lock;

struct lock_owner {
	int64_t pid; /* 0: not known (the owner is just writing it) */
	char host[72], role[32], since[32]; /* since: local time, as in the log */
};

/* Takes the lock of the folder `run`, which must exist. role: the stage or role that runs ("learner", "sft"). ERR_STATE
 * when another process has it, with a message that names it. */
int lock_open(struct lock **out, const char *run, const char *role, struct err *e);
/* Gives it back. NULL is fine. */
void lock_close(struct lock *l);
/* Who has the run, without taking the lock: 1 and *o filled, 0 when nobody has it, negative on an error. */
int lock_query(const char *run, struct lock_owner *o, struct err *e);

#endif
