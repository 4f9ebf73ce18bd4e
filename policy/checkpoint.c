/* Writing checkpoints; see checkpoint.h for the order of things and why it is
 * safe. Removal also goes through a rename: a checkpoint that is going away
 * becomes a temp folder first, so that a process killed halfway leaves no
 * half-empty step-… behind. */
#include "policy/checkpoint.h"

#include "core/base/fault.h"
#include "core/base/log.h"
#include "policy/checkpoint_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct checkpoint {
	int dir, temp; /* the folder of checkpoints; the temp folder in it */
	uint64_t step;
	char run[CHECKPOINT_PATH], place[CHECKPOINT_PATH];
	char where[CHECKPOINT_PATH]; /* run/place */
	char name[CHECKPOINT_NAME];  /* of the temp folder */
	char path[CHECKPOINT_PATH];  /* where/name */
};

void checkpoint_name(char name[CHECKPOINT_NAME], uint64_t step)
{
	snprintf(name, CHECKPOINT_NAME, "step-%08" PRIu64, step);
}

int checkpoint_folder_open(int *fd, int dir, const char *name, const char *where, struct err *e)
{
	*fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd >= 0) return 0;
	if (errno == ENOENT) return err_set(e, ERR_NOT_FOUND, "%s/%s does not exist", where, name);
	int link = errno == ELOOP || errno == ENOTDIR;
	return err_set(e, ERR_IO, "cannot open the folder %s/%s: %s", where, name, link ? "it is a symbolic link or a file" : strerror(errno));
}

int checkpoint_place_open(int *fd, const char *run, const char *place, int create, struct err *e)
{
	char part[CHECKPOINT_PATH];
	int at = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0) return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open the run's folder %s: %s", run, strerror(errno));
	for (const char *p = place; *p;) {
		size_t n = strcspn(p, "/");
		int next;
		CHECK(n > 0 && n < sizeof part && *p != '.', "a place is plain names with / between: %s", place);
		snprintf(part, sizeof part, "%.*s", (int)n, p);
		if (create && mkdirat(at, part, 0755) != 0 && errno != EEXIST) {
			int rc = err_set(e, ERR_IO, "cannot create the folder %s/%s: %s", run, place, strerror(errno));
			close(at);
			return rc;
		}
		int rc = checkpoint_folder_open(&next, at, part, run, e);
		close(at);
		if (rc < 0) return rc;
		at = next;
		p += n + (p[n] == '/');
	}
	*fd = at;
	return 0;
}

int checkpoint_remove(int dir, const char *name, const char *where, struct err *e)
{
	int fd, rc = 0;
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return 0;
	if (errno != EISDIR && errno != EPERM) return err_set(e, ERR_IO, "cannot remove %s/%s: %s", where, name, strerror(errno));
	rc = checkpoint_folder_open(&fd, dir, name, where, e);
	if (rc < 0) return rc;
	DIR *d = fdopendir(fd);
	if (!d) {
		close(fd);
		return err_set(e, ERR_IO, "cannot list %s/%s: %s", where, name, strerror(errno));
	}
	for (struct dirent *f; rc == 0 && (f = readdir(d));)
		if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..")) rc = checkpoint_remove(fd, f->d_name, where, e);
	closedir(d);
	if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) != 0) rc = err_set(e, ERR_IO, "cannot remove %s/%s: %s", where, name, strerror(errno));
	return rc;
}

int checkpoint_remove_temps(int dir, const char *where, struct err *e)
{
	int fd, rc = checkpoint_folder_open(&fd, dir, ".", where, e);
	if (rc < 0) return rc;
	DIR *d = fdopendir(fd);
	CHECK(d, "cannot list %s", where);
	for (struct dirent *f; rc == 0 && (f = readdir(d));)
		if (!strncmp(f->d_name, CHECKPOINT_TEMP, strlen(CHECKPOINT_TEMP))) rc = checkpoint_remove(dir, f->d_name, where, e);
	closedir(d);
	return rc;
}

static void checkpoint_free(struct checkpoint *c)
{
	if (c->temp >= 0) close(c->temp);
	if (c->dir >= 0) close(c->dir);
	free(c);
}

int checkpoint_begin(struct checkpoint **out, const char *run, const char *place, uint64_t step, struct err *e)
{
	struct checkpoint *c = calloc(1, sizeof *c);
	int rc = 0;
	CHECK(c, "out of memory for a checkpoint");
	CHECK(step <= INT64_MAX, "step %" PRIu64, step);
	*out = NULL;
	c->dir = c->temp = -1;
	c->step = step;
	snprintf(c->name, sizeof c->name, CHECKPOINT_TEMP "%08" PRIu64 "-%d", step, (int)getpid());
	snprintf(c->run, sizeof c->run, "%s", run);
	snprintf(c->place, sizeof c->place, "%s", place);
	snprintf(c->where, sizeof c->where, "%s/%s", run, place);
	if (snprintf(c->path, sizeof c->path, "%s/%s/%s", run, place, c->name) >= (int)sizeof c->path - 32) {
		rc = err_set(e, ERR_RANGE, "path too long: %s", run);
		goto out;
	}
	TRY(checkpoint_place_open(&c->dir, run, place, 1, e));
	TRY(checkpoint_remove_temps(c->dir, c->where, e));
	if (mkdirat(c->dir, c->name, 0755) != 0) {
		rc = err_set(e, ERR_IO, "cannot create the folder %s: %s", c->path, strerror(errno));
		goto out;
	}
	TRY(checkpoint_folder_open(&c->temp, c->dir, c->name, c->where, e));
	FAULT_POINT("checkpoint.after_begin", "an empty temporary folder is there");
	*out = c;
	c = NULL;
out:
	if (c) checkpoint_free(c);
	return rc;
}

const char *checkpoint_folder(const struct checkpoint *c)
{
	return c->path;
}

void checkpoint_abort(struct checkpoint *c)
{
	struct err e;
	if (!c) return;
	if (checkpoint_remove(c->dir, c->name, c->where, &e) < 0) log_warn("a temporary folder stays behind: %s", e.msg);
	checkpoint_free(c);
}

/* The name still leads to the folder that was made: files written by name went there. */
static int same_folder(const struct checkpoint *c, struct err *e)
{
	struct stat a, b;
	if (fstat(c->temp, &a) != 0 || lstat(c->path, &b) != 0 || a.st_ino != b.st_ino || a.st_dev != b.st_dev)
		return err_set(e, ERR_STATE, "%s is no longer the folder that was made for the checkpoint: was something moved or linked?", c->path);
	return 0;
}

/* Puts the finished folder in its place; one of the same step is exchanged for it and removed. */
static int put_in_place(const struct checkpoint *c, struct err *e)
{
	char name[CHECKPOINT_NAME], aside[CHECKPOINT_NAME];
	checkpoint_name(name, c->step);
	int rc = FAULT_ERROR("checkpoint.before_rename", "complete and synced, not in its place", e);
	if (rc < 0) return rc;
	if (renameat(c->dir, c->name, c->dir, name) == 0) return 0;
	if (errno != EEXIST && errno != ENOTEMPTY) return err_set(e, ERR_IO, "cannot rename %s to %s: %s", c->path, name, strerror(errno));
	if (renameat2(c->dir, c->name, c->dir, name, RENAME_EXCHANGE) == 0) {
		FAULT_POINT("checkpoint.after_exchange", "exchanged for the one of the same step, which is still there under the temporary name");
		return checkpoint_remove(c->dir, c->name, c->where, e);
	}
	/* A file system without exchange: between the two renames the checkpoint before this one is the newest. */
	snprintf(aside, sizeof aside, CHECKPOINT_TEMP "old-%08" PRIu64, c->step);
	if (renameat(c->dir, name, c->dir, aside) != 0 || renameat(c->dir, c->name, c->dir, name) != 0)
		return err_set(e, ERR_IO, "cannot replace %s/%s: %s", c->where, name, strerror(errno));
	return checkpoint_remove(c->dir, aside, c->where, e);
}

/* Removes the complete ones beyond the newest `keep`. */
static int prune(const struct checkpoint *c, int64_t keep, struct err *e)
{
	struct checkpoint_entry *list = NULL;
	char name[CHECKPOINT_NAME], gone[CHECKPOINT_NAME];
	size_t n = 0;
	int64_t kept = 0;
	int rc = checkpoint_list(c->run, c->place, &list, &n, e);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (!list[i].complete || kept++ < keep) continue;
		checkpoint_name(name, list[i].step);
		snprintf(gone, sizeof gone, CHECKPOINT_TEMP "gone-%08" PRIu64, list[i].step);
		if (renameat(c->dir, name, c->dir, gone) != 0) {
			rc = err_set(e, ERR_IO, "cannot rename %s/%s: %s", c->where, name, strerror(errno));
			break;
		}
		FAULT_POINT("checkpoint.before_remove", "an old checkpoint is renamed, nothing of it removed");
		rc = checkpoint_remove(c->dir, gone, c->where, e);
	}
	free(list);
	return rc;
}

int checkpoint_commit(struct checkpoint *c, int64_t keep, char hash_hex[HASH_HEX], struct err *e)
{
	char hash[HASH_HEX];
	struct err trifle;
	int rc = 0, placed = 0;
	CHECK(keep >= CHECKPOINT_KEEP_MIN, "keep %lld", (long long)keep);
	TRY(same_folder(c, e));
	TRY(checkpoint_manifest_write(c->temp, c->path, c->step, hash, e));
	FAULT_POINT("checkpoint.after_manifest", "the manifest is written, nothing is synced");
	TRY(checkpoint_sync(c->temp, c->path, e));
	TRY(put_in_place(c, e));
	placed = 1;
	FAULT_POINT("checkpoint.after_rename", "in its place, the folder around it not synced");
	if (fsync(c->dir) != 0) {
		rc = err_set(e, ERR_IO, "cannot sync %s: %s", c->where, strerror(errno));
		goto out;
	}
	FAULT_POINT("checkpoint.after_parent_sync", "in its place for good, old ones not removed");
	if (hash_hex) memcpy(hash_hex, hash, HASH_HEX);
	if (prune(c, keep, &trifle) < 0) log_warn("old checkpoints stay: %s", trifle.msg);
	FAULT_POINT("checkpoint.after_prune", "old ones are removed, its row is not in the record");
out:
	if (placed) checkpoint_free(c);
	else checkpoint_abort(c);
	return rc;
}
