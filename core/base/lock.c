/* The run folder's lock; see lock.h. */
#include "core/base/lock.h"

#include "core/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* lock_query holds a shared lock for some microseconds: a refusal must be seen again after 10 ms before it counts. */
enum { RETRIES = 3 };

struct lock {
	int fd;
};

static int lock_path(char path[PATH_MAX], const char *run, struct err *e)
{
	if (snprintf(path, PATH_MAX, "%s/lock", run) >= PATH_MAX) return err_set(e, ERR_RANGE, "path too long: %s", run);
	return 0;
}

/* One line "key value" of the lock's text. */
static void owner_field(const char *text, const char *key, char *out, size_t bytes)
{
	size_t n = strlen(key);
	out[0] = 0;
	for (const char *line = text; *line;) {
		size_t width = strcspn(line, "\n");
		if (width > n && !strncmp(line, key, n) && line[n] == ' ')
			snprintf(out, bytes, "%.*s", (int)(width - n - 1), line + n + 1);
		line += width + (line[width] == '\n');
	}
	for (char *c = out; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
}

static void owner_read(int fd, struct lock_owner *o)
{
	char text[512], pid[32];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	text[n > 0 ? n : 0] = 0;
	*o = (struct lock_owner){0};
	owner_field(text, "pid", pid, sizeof pid);
	owner_field(text, "host", o->host, sizeof o->host);
	owner_field(text, "role", o->role, sizeof o->role);
	owner_field(text, "since", o->since, sizeof o->since);
	o->pid = strtoll(pid, NULL, 10);
}

static int owner_write(int fd, const char *role)
{
	char text[512], host[72] = "?", since[32] = "?";
	struct tm tm;
	time_t now = time(NULL);
	if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "?");
	if (localtime_r(&now, &tm)) strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%S", &tm);
	int n = snprintf(text, sizeof text, "pid %d\nhost %s\nrole %s\nsince %s\n", (int)getpid(), host, role, since);
	if (ftruncate(fd, 0) != 0) return -1;
	return pwrite(fd, text, (size_t)n, 0) == n ? 0 : -1;
}

static int refused(int fd, const char *run, struct err *e)
{
	struct lock_owner o;
	owner_read(fd, &o);
	if (!o.pid) return err_set(e, ERR_STATE, "%s is in use by another process, which is just starting", run);
	return err_set(e, ERR_STATE,
		"%s is in use by `%s`, process %lld on %s since %s: wait for it, stop it, or choose another folder with --out", run,
		o.role, (long long)o.pid, o.host, o.since);
}

/* 1 when the open file is still the one the path names. */
static int still_there(int fd, const char *path)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int lock_open(struct lock **out, const char *run, const char *role, struct err *e)
{
	char path[PATH_MAX];
	int rc = lock_path(path, run, e), fd = -1;
	*out = NULL;
	if (rc < 0) return rc;
	for (int tries = 0;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0) return err_set(e, ERR_IO, "cannot open the lock %s: %s", path, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
		int got = flock(fd, LOCK_EX | LOCK_NB);
		if (got != 0 && (errno == EINTR || (errno == EWOULDBLOCK && tries++ < RETRIES))) {
			close(fd);
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
			continue;
		}
		if (got != 0) {
			rc = errno == EWOULDBLOCK ? refused(fd, run, e) : err_set(e, ERR_IO, "cannot lock %s: %s", path, strerror(errno));
			goto out;
		}
		if (still_there(fd, path)) break;
		close(fd); /* someone replaced the file between open and flock: the new one counts */
	}
	FAULT_POINT("lock.before_owner", "the folder is locked, the owner is not written");
	if (owner_write(fd, role) != 0) {
		rc = err_set(e, ERR_IO, "cannot write the lock %s: %s", path, strerror(errno));
		goto out;
	}
	*out = malloc(sizeof **out);
	CHECK(*out, "out of memory for a lock");
	(*out)->fd = fd;
	fd = -1;
out:
	if (fd >= 0) close(fd);
	return rc;
}

void lock_close(struct lock *l)
{
	if (!l) return;
	if (ftruncate(l->fd, 0) != 0) errno = 0; /* the text is for people; closing is what gives the lock back */
	close(l->fd);
	free(l);
}

int lock_query(const char *run, struct lock_owner *o, struct err *e)
{
	char path[PATH_MAX];
	int rc = lock_path(path, run, e);
	*o = (struct lock_owner){0};
	if (rc < 0) return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) return errno == ENOENT ? 0 : err_set(e, ERR_IO, "cannot open the lock %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_SH | LOCK_NB) != 0) {
		rc = errno == EWOULDBLOCK ? 1 : err_set(e, ERR_IO, "cannot look at the lock %s: %s", path, strerror(errno));
		if (rc == 1) owner_read(fd, o);
	}
	close(fd);
	return rc;
}
