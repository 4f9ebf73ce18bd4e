/* Child processes of a run: this same program in other roles. They die with
 * their parent, get SIGTERM to stop, and are waited for. */
#ifndef TENFOLD_APP_PROCESSES_H
#define TENFOLD_APP_PROCESSES_H

#include "core/base/err.h"

#include <sys/types.h>

enum { PROCESS_ARGUMENTS = 600, PROCESS_NAME = 32 };

struct process {
	char name[PROCESS_NAME]; /* "learner", "worker-0" */
	char *argv[PROCESS_ARGUMENTS];
	int argc;
	pid_t pid;               /* 0: not running */
	int restarts;
	double retry_at;         /* fs_now() at which it may be started again; 0: none is due */
};

/* Adds an argument (copied). */
void process_argument(struct process *p, const char *text);
void process_free(struct process *p);
int process_start(struct process *p, struct err *e);
/* Asks n running processes to stop, waits up to `seconds`, then kills. */
void processes_stop(struct process *p, int n, double seconds);
/* One that ended: its index, with its wait status; -1 when none did within `seconds`. */
int processes_wait(struct process *p, int n, double seconds, int *status);
/* "ended with status 4", "was killed by signal 9" */
void process_ending(int status, char *out, size_t bytes);

#endif
