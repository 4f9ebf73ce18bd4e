/* Starting and ending an external program; see child.h. */
#include "reward/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* $1 runs with the pipes; the guard lets go of them, waits for fd 3 to close and ends the group, itself included. */
static const char guard[] = "exec 4<&0\n"
                            "/bin/sh -c \"$1\" <&4 3<&- 4<&- &\n"
                            "exec 4<&- </dev/null >/dev/null\n"
                            "read line <&3\n"
                            "kill -KILL 0\n";

static int spawn(pid_t *pid, const char *command, int in, int out, int life)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, standard;
	char *argv[] = {"sh", "-c", (char *)guard, "guard", (char *)command, NULL};
	sigemptyset(&none);
	sigemptyset(&standard);
	for (int s = 1; s < 32; s++)
		if (s != SIGKILL && s != SIGSTOP) sigaddset(&standard, s);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	int rc = posix_spawn_file_actions_adddup2(&files, in, 0);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&files, out, 1);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(&files, life, 3);
	rc = rc ? rc : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = rc ? rc : posix_spawnattr_setpgroup(&attr, 0);
	rc = rc ? rc : posix_spawnattr_setsigmask(&attr, &none);
	rc = rc ? rc : posix_spawnattr_setsigdefault(&attr, &standard);
	rc = rc ? rc : posix_spawn(pid, "/bin/sh", &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static void close_pair(int fd[2])
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0) close(fd[i]);
}

int child_start(struct child *c, const char *command, struct err *e)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, life[2] = {-1, -1}, rc = 0;
	*c = (struct child){.in = -1, .out = -1, .life = -1};
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(life, O_CLOEXEC)) {
		rc = err_set(e, ERR_IO, "no pipe for the command \"%s\": %s", command, strerror(errno));
		goto out;
	}
	int bad = spawn(&c->guard, command, in[0], out[1], life[0]);
	if (bad) {
		c->guard = 0;
		rc = err_set(e, ERR_IO, "cannot start the command \"%s\": %s", command, strerror(bad));
		goto out;
	}
	c->in = in[1];
	c->out = out[0];
	c->life = life[1];
	in[1] = out[0] = life[1] = -1;
	fcntl(c->in, F_SETFL, O_NONBLOCK);
	fcntl(c->out, F_SETFL, O_NONBLOCK);
out:
	close_pair(in);
	close_pair(out);
	close_pair(life);
	return rc;
}

void child_stop(struct child *c)
{
	if (!c->guard) return;
	close(c->in);
	close(c->out);
	close(c->life);
	kill(-c->guard, SIGKILL);
	while (waitpid(c->guard, NULL, 0) < 0 && errno == EINTR) continue;
	c->guard = 0;
}

ssize_t child_write(struct child *c, const void *data, size_t bytes)
{
	sigset_t pipe_signal, old;
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &old);
	ssize_t n = write(c->in, data, bytes);
	int saved = errno;
	if (n < 0 && saved == EPIPE && !sigismember(&old, SIGPIPE)) {
		struct timespec zero = {0};
		while (sigtimedwait(&pipe_signal, NULL, &zero) < 0 && errno == EINTR) continue;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return n;
}
