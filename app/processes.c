/* Child processes; see processes.h. */
#include "app/processes.h"

#include "core/base/fs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void process_argument(struct process *p, const char *text)
{
	CHECK(p->argc < PROCESS_ARGUMENTS - 1, "more than %d arguments for %s", PROCESS_ARGUMENTS, p->name);
	p->argv[p->argc] = strdup(text);
	CHECK(p->argv[p->argc], "out of memory for an argument");
	p->argc++;
}

void process_free(struct process *p)
{
	for (int i = 0; i < p->argc; i++) free(p->argv[i]);
	p->argc = 0;
}

int process_start(struct process *p, struct err *e)
{
	pid_t parent = getpid(), pid = fork();
	if (pid < 0) return err_set(e, ERR_IO, "cannot start %s: %s", p->name, strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent) _exit(1); /* it died between fork and prctl */
		execv("/proc/self/exe", p->argv);
		fprintf(stderr, "tenfold: cannot start %s: %s\n", p->name, strerror(errno));
		_exit(127);
	}
	p->pid = pid;
	return 0;
}

int processes_wait(struct process *p, int n, double seconds, int *status)
{
	double until = fs_now() + seconds;
	for (;;) {
		pid_t pid = waitpid(-1, status, WNOHANG);
		for (int i = 0; pid > 0 && i < n; i++)
			if (p[i].pid == pid) {
				p[i].pid = 0;
				return i;
			}
		if (pid <= 0) {
			if (fs_now() >= until) return -1;
			usleep(20000);
		}
	}
}

static int running(const struct process *p, int n)
{
	int k = 0;
	for (int i = 0; i < n; i++) k += p[i].pid != 0;
	return k;
}

static void signal_all(const struct process *p, int n, int number)
{
	for (int i = 0; i < n; i++)
		if (p[i].pid) kill(p[i].pid, number);
}

void processes_stop(struct process *p, int n, double seconds)
{
	int status;
	double until = fs_now() + seconds;
	signal_all(p, n, SIGTERM);
	signal_all(p, n, SIGCONT);
	while (running(p, n) && fs_now() < until) processes_wait(p, n, 0.1, &status);
	signal_all(p, n, SIGKILL);
	while (running(p, n)) processes_wait(p, n, 0.1, &status);
}

void process_ending(int status, char *out, size_t bytes)
{
	if (WIFSIGNALED(status)) snprintf(out, bytes, "was killed by signal %d", WTERMSIG(status));
	else snprintf(out, bytes, "ended with status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}
