/* Finding checkpoints: the list, the newest whole one, and putting things in
 * order before a run goes on; see checkpoint.h. */
#include "policy/checkpoint_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 1 when the name is exactly what checkpoint_name makes. */
static int name_step(const char *name, uint64_t *step)
{
	char again[CHECKPOINT_NAME];
	if (strncmp(name, "step-", 5) || !isdigit((unsigned char)name[5])) return 0;
	*step = strtoull(name + 5, NULL, 10);
	checkpoint_name(again, *step);
	return *step <= INT64_MAX && !strcmp(name, again);
}

static int newest_first(const void *a, const void *b)
{
	const struct checkpoint_entry *x = a, *y = b;
	return x->step < y->step ? 1 : x->step > y->step ? -1 : 0;
}

static int check_one(int dir, const char *where, struct checkpoint_entry *c, int hashes, struct err *e)
{
	char name[CHECKPOINT_NAME];
	int fd, rc;
	checkpoint_name(name, c->step);
	rc = checkpoint_folder_open(&fd, dir, name, where, e);
	if (rc < 0) return rc;
	rc = checkpoint_manifest_check(fd, c->path, c->step, hashes, &c->bytes, c->hash, e);
	close(fd);
	return rc;
}

static void entry_fill(struct checkpoint_entry *c, int dir, const char *where, uint64_t step)
{
	char name[CHECKPOINT_NAME];
	struct err e;
	*c = (struct checkpoint_entry){.step = step};
	checkpoint_name(name, step);
	snprintf(c->path, sizeof c->path, "%s/%s", where, name);
	c->complete = check_one(dir, where, c, 0, &e) == 0;
	if (c->complete) return;
	c->hash[0] = 0;
	snprintf(c->reason, sizeof c->reason, "%s", e.msg);
}

static int list_open(int dir, const char *where, struct checkpoint_entry **out, size_t *count, struct err *e)
{
	size_t room = 0;
	int fd, rc = checkpoint_folder_open(&fd, dir, ".", where, e);
	if (rc < 0) return rc;
	DIR *d = fdopendir(fd);
	CHECK(d, "cannot list %s", where);
	for (struct dirent *f; (f = readdir(d));) {
		uint64_t step;
		if (!name_step(f->d_name, &step)) continue;
		if (*count == room) {
			struct checkpoint_entry *more = realloc(*out, (room = room ? 2 * room : 16) * sizeof **out);
			if (!more) {
				rc = err_set(e, ERR_MEMORY, "no memory for the list of checkpoints in %s", where);
				break;
			}
			*out = more;
		}
		entry_fill(&(*out)[(*count)++], dir, where, step);
	}
	closedir(d);
	if (rc == 0 && *count) qsort(*out, *count, sizeof **out, newest_first);
	return rc;
}

/* Opens the place and lists it. *dir is -1 when there is no such place. */
static int place_list(int *dir, char where[CHECKPOINT_PATH], const char *run, const char *place, struct checkpoint_entry **out,
	size_t *count, struct err *e)
{
	*out = NULL;
	*count = 0;
	*dir = -1;
	if (snprintf(where, CHECKPOINT_PATH, "%s/%s", run, place) >= CHECKPOINT_PATH - CHECKPOINT_NAME) return err_set(e, ERR_RANGE, "path too long: %s", run);
	int rc = checkpoint_place_open(dir, run, place, 0, e);
	if (rc < 0) {
		*dir = -1;
		return rc == ERR_NOT_FOUND ? 0 : rc;
	}
	rc = list_open(*dir, where, out, count, e);
	if (rc == 0) return 0;
	free(*out);
	*out = NULL;
	*count = 0;
	close(*dir);
	*dir = -1;
	return rc;
}

int checkpoint_list(const char *run, const char *place, struct checkpoint_entry **out, size_t *count, struct err *e)
{
	char where[CHECKPOINT_PATH];
	int dir, rc = place_list(&dir, where, run, place, out, count, e);
	if (dir >= 0) close(dir);
	return rc;
}

int checkpoint_verify(const char *run, const char *place, uint64_t step, struct err *e)
{
	struct checkpoint_entry c = {.step = step};
	char where[CHECKPOINT_PATH], name[CHECKPOINT_NAME];
	int dir, rc;
	checkpoint_name(name, step);
	snprintf(where, sizeof where, "%s/%s", run, place);
	if (snprintf(c.path, sizeof c.path, "%s/%s/%s", run, place, name) >= (int)sizeof c.path) return err_set(e, ERR_RANGE, "path too long: %s", run);
	rc = checkpoint_place_open(&dir, run, place, 0, e);
	if (rc < 0) return rc;
	rc = check_one(dir, where, &c, 1, e);
	close(dir);
	return rc;
}

/* Renames a damaged one out of the way. */
static int set_aside(int dir, const char *where, uint64_t step, struct err *e)
{
	char name[CHECKPOINT_NAME], aside[CHECKPOINT_NAME];
	checkpoint_name(name, step);
	snprintf(aside, sizeof aside, "damaged-step-%08" PRIu64, step);
	int rc = checkpoint_remove(dir, aside, where, e);
	if (rc == 0 && renameat(dir, name, dir, aside) != 0)
		rc = err_set(e, ERR_IO, "cannot rename %s/%s: %s", where, name, strerror(errno));
	return rc;
}

static int latest(const char *run, const char *place, int owner, struct checkpoint_entry *out, void (*warn)(void *arg, const char *text),
	void *arg, struct err *e)
{
	struct checkpoint_entry *list = NULL;
	struct err why = {0};
	char where[CHECKPOINT_PATH], text[sizeof why.msg + 128];
	size_t n = 0, i;
	int dir = -1, rc = 0;
	TRY(place_list(&dir, where, run, place, &list, &n, e));
	if (owner && dir >= 0) TRY(checkpoint_remove_temps(dir, where, e));
	for (i = 0; i < n && (rc = check_one(dir, where, &list[i], 1, &why)) < 0; i++) {
		snprintf(text, sizeof text, "checkpoint of step %" PRIu64 " is not whole and is passed over: %s", list[i].step, why.msg);
		if (warn) warn(arg, text);
	}
	if (n == 0) {
		rc = err_set(e, ERR_NOT_FOUND, "%s has no checkpoints", where);
	} else if (i == n) {
		rc = err_set(e, ERR_MISMATCH, "none of the %zu checkpoints in %s is whole; the oldest: %s", n, where, why.msg);
	} else {
		*out = list[i];
		rc = 0;
		for (size_t k = 0; owner && rc == 0 && k < i; k++) rc = set_aside(dir, where, list[k].step, e);
	}
out:
	free(list);
	if (dir >= 0) close(dir);
	return rc;
}

int checkpoint_latest(const char *run, const char *place, struct checkpoint_entry *out, void (*warn)(void *arg, const char *text),
	void *arg, struct err *e)
{
	return latest(run, place, 0, out, warn, arg, e);
}

int checkpoint_recover(const char *run, const char *place, struct checkpoint_entry *out, void (*warn)(void *arg, const char *text),
	void *arg, struct err *e)
{
	return latest(run, place, 1, out, warn, arg, e);
}
