/* Files and folders; see fs.h. */
#include "core/base/fs.h"

#include "core/base/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int fs_mkdirs(const char *path, struct err *e)
{
	char p[PATH_MAX];
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof p) return err_set(e, ERR_RANGE, "folder name of %zu bytes: between 1 and %d are possible", n, PATH_MAX - 1);
	memcpy(p, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (p[i] != '/' && p[i] != 0) continue;
		char c = p[i];
		p[i] = 0;
		if (mkdir(p, 0755) != 0 && errno != EEXIST) return err_set(e, ERR_IO, "cannot create folder %s: %s", p, strerror(errno));
		p[i] = c;
	}
	struct stat st;
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return err_set(e, ERR_IO, "%s exists and is not a folder", path);
	return 0;
}

int fs_exists(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0;
}

int fs_read(const char *path, size_t limit, char **data, size_t *bytes, struct err *e)
{
	int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
	char *buf = NULL;
	if (fd < 0) return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path, strerror(errno));
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		rc = err_set(e, ERR_IO, "%s is not a regular file", path);
		goto out;
	}
	if ((size_t)st.st_size > limit) {
		rc = err_set(e, ERR_RANGE, "%s has %lld bytes, more than the %zu allowed here", path, (long long)st.st_size, limit);
		goto out;
	}
	size_t want = (size_t)st.st_size, got = 0;
	buf = malloc(want + 1);
	if (!buf) {
		rc = err_set(e, ERR_MEMORY, "no memory for the %zu bytes of %s", want, path);
		goto out;
	}
	while (got < want) {
		ssize_t k = read(fd, buf + got, want - got);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) {
			rc = err_set(e, ERR_IO, "cannot read %s at byte %zu: %s", path, got, k < 0 ? strerror(errno) : "it ends early");
			goto out;
		}
		got += (size_t)k;
	}
	buf[want] = 0;
	*data = buf;
	*bytes = want;
	buf = NULL;
out:
	free(buf);
	close(fd);
	return rc;
}

int fs_sync_dir(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) return err_set(e, ERR_IO, "cannot open folder %s: %s", path, strerror(errno));
	int bad = fsync(fd) != 0, why = errno;
	close(fd);
	return bad ? err_set(e, ERR_IO, "cannot sync folder %s: %s", path, strerror(why)) : 0;
}

static int write_all(int fd, const void *data, size_t bytes)
{
	const char *p = data;
	while (bytes) {
		ssize_t k = write(fd, p, bytes);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) return -1;
		p += k;
		bytes -= (size_t)k;
	}
	return 0;
}

int fs_write_atomic(const char *path, const void *data, size_t bytes, struct err *e)
{
	char tmp[PATH_MAX], dir[PATH_MAX];
	if (snprintf(tmp, sizeof tmp, "%s.tmp.%d", path, (int)getpid()) >= (int)sizeof tmp) return err_set(e, ERR_RANGE, "path too long: %s", path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0) return err_set(e, ERR_IO, "cannot create %s: %s", tmp, strerror(errno));
	FAULT_POINT("fs.before_write", "the temporary file is there, empty");
	int bad = write_all(fd, data, bytes) != 0, why = errno;
	FAULT_POINT("fs.before_sync", "written, not synced");
	if (!bad && fsync(fd) != 0) bad = 1, why = errno;
	if (close(fd) != 0 && !bad) bad = 1, why = errno;
	FAULT_POINT("fs.before_rename", "synced, not renamed");
	if (!bad && rename(tmp, path) != 0) bad = 1, why = errno;
	FAULT_POINT("fs.after_rename", "renamed, the folder not synced");
	if (bad) {
		unlink(tmp);
		return err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(why));
	}
	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (slash == dir) slash[1] = 0;
	else if (slash) *slash = 0;
	return fs_sync_dir(slash ? dir : ".", e);
}

int fs_remove_tree(const char *path, struct err *e)
{
	struct stat st;
	if (lstat(path, &st) != 0) return 0;
	if (S_ISDIR(st.st_mode)) {
		DIR *d = opendir(path);
		if (!d) return err_set(e, ERR_IO, "cannot open folder %s: %s", path, strerror(errno));
		int rc = 0;
		for (struct dirent *f; rc == 0 && (f = readdir(d));) {
			char p[PATH_MAX];
			if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
			if (snprintf(p, sizeof p, "%s/%s", path, f->d_name) < (int)sizeof p) rc = fs_remove_tree(p, e);
		}
		closedir(d);
		if (rc < 0) return rc;
	}
	if (remove(path) != 0) return err_set(e, ERR_IO, "cannot remove %s: %s", path, strerror(errno));
	return 0;
}

int fs_map_open(struct fs_map *m, const char *path, struct err *e)
{
	*m = (struct fs_map){0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path, strerror(errno));
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return err_set(e, ERR_FORMAT, "%s is empty or not a regular file", path);
	}
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	int why = errno;
	close(fd);
	if (p == MAP_FAILED) return err_set(e, ERR_IO, "cannot map %s: %s", path, strerror(why));
	m->data = p;
	m->bytes = (size_t)st.st_size;
	return 0;
}

void fs_map_close(struct fs_map *m)
{
	if (m->data) munmap((void *)(uintptr_t)m->data, m->bytes);
	*m = (struct fs_map){0};
}

double fs_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
