/* An external program with pipes at both ends that cannot outlive us.
 *
 * A small /bin/sh beside it, in the same process group, waits on a third pipe
 * whose other end only this process holds: when that closes, by child_stop or
 * because this process was killed, the guard kills the whole group, so
 * programs started by the program go too. (PR_SET_PDEATHSIG would be tied to
 * the thread that started it and would miss grandchildren.) */
#ifndef TENFOLD_REWARD_CHILD_H
#define TENFOLD_REWARD_CHILD_H

#include "core/base/err.h"

#include <sys/types.h>

struct child {
	pid_t guard;     /* 0: none is running */
	int in, out;     /* ours: write to its stdin, read its stdout; not blocking */
	int life;
};

/* Runs `command` by /bin/sh. That the program itself cannot be found shows as an end of its output. */
int child_start(struct child *c, const char *command, struct err *e);
/* Ends the program and all it started; fine when none is running. */
void child_stop(struct child *c);
/* write(2) without SIGPIPE. */
ssize_t child_write(struct child *c, const void *data, size_t bytes);

#endif
