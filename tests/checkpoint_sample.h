/* What the two tests of checkpoints share: a run folder of their own, a small
 * checkpoint whose three files carry the same mark (so that a mixture of two
 * would be seen), saving and loading it. */
#ifndef TENFOLD_TESTS_CHECKPOINT_SAMPLE_H
#define TENFOLD_TESTS_CHECKPOINT_SAMPLE_H

#include "core/base/fs.h"
#include "policy/checkpoint.h"
#include "policy/safetensors.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH = 1200, FLOATS = 5 };
#define PLACE "checkpoints"

static inline int setup(void **state)
{
	char *dir = strdup("checkpoint-test-XXXXXX");
	*state = mkdtemp(dir);
	return *state ? 0 : -1;
}

static inline int teardown(void **state)
{
	struct err e;
	int rc = fs_remove_tree(*state, &e);
	free(*state);
	return rc;
}

static inline const char *in(char out[PATH], const char *dir, const char *name)
{
	snprintf(out, PATH, "%s/%s", dir, name);
	return out;
}

static inline int exists(const char *dir, const char *name)
{
	char path[PATH];
	struct stat st;
	return lstat(in(path, dir, name), &st) == 0;
}

/* A shell command of two words, which must succeed. */
static inline void shell(const char *format, const char *one, const char *two)
{
	char command[2 * PATH];
	snprintf(command, sizeof command, format, one, two);
	assert_int_equal(system(command), 0);
}

/* Writes the files of a checkpoint; `mark` is in all of them, so that a mixture would be seen. */
static inline int fill(const char *folder, uint64_t step, int mark, struct err *e)
{
	char path[PATH];
	float w[FLOATS];
	int64_t s = (int64_t)step;
	for (int i = 0; i < FLOATS; i++) w[i] = (float)((int)step * 1000 + mark * 10 + i);
	const struct safetensors_entry policy[] = {{"w", SAFETENSORS_F32, 1, {FLOATS}, w}, {"step", SAFETENSORS_I64, 0, {0}, &s}};
	const struct safetensors_entry moments[] = {{"m", SAFETENSORS_F32, 1, {FLOATS}, w}};
	int rc = safetensors_write(in(path, folder, "policy.safetensors"), policy, 2, NULL, 0, 0, NULL, e);
	if (rc == 0) rc = safetensors_write(in(path, folder, "optimizer.safetensors"), moments, 1, NULL, 0, 0, NULL, e);
	if (rc < 0) return rc;
	FILE *f = fopen(in(path, folder, "state.json"), "wb");
	if (!f) return err_set(e, ERR_IO, "cannot create %s", path);
	fprintf(f, "%d", (int)w[0]);
	return fclose(f) == 0 ? 0 : err_set(e, ERR_IO, "cannot write %s", path);
}

static inline int save(const char *run, uint64_t step, int mark, int64_t keep, struct err *e)
{
	struct checkpoint *c;
	int rc = checkpoint_begin(&c, run, PLACE, step, e);
	if (rc < 0) return rc;
	rc = fill(checkpoint_folder(c), step, mark, e);
	if (rc == 0) return checkpoint_commit(c, keep, NULL, e);
	checkpoint_abort(c);
	return rc;
}

static inline void must_save(const char *run, uint64_t step, int mark)
{
	struct err e;
	if (save(run, step, mark, 2, &e) != 0) fail_msg("%s", e.msg);
}

/* Reads a checkpoint's three files, which must agree; returns the mark. */
static inline int load(const struct checkpoint_entry *c)
{
	char path[PATH], *text;
	struct safetensors *policy, *moments;
	struct err e;
	float w[FLOATS], m[FLOATS];
	size_t bytes;
	assert_int_equal(safetensors_open(&policy, in(path, c->path, "policy.safetensors"), &e), 0);
	assert_int_equal(safetensors_open(&moments, in(path, c->path, "optimizer.safetensors"), &e), 0);
	assert_int_equal(safetensors_read_f32(safetensors_find(policy, "w"), w, &e), 0);
	assert_int_equal(safetensors_read_f32(safetensors_find(moments, "m"), m, &e), 0);
	assert_int_equal(*safetensors_find(policy, "step")->data, c->step);
	safetensors_close(policy);
	safetensors_close(moments);
	assert_int_equal(fs_read(in(path, c->path, "state.json"), 100, &text, &bytes, &e), 0);
	assert_memory_equal(w, m, sizeof w);
	assert_int_equal(atoi(text), (int)w[0]);
	free(text);
	assert_int_equal((int)w[0] / 1000, c->step);
	return (int)w[0] % 1000 / 10;
}

struct warned {
	int count;
	char last[2048];
};

static inline void warn(void *arg, const char *text)
{
	struct warned *w = arg;
	w->count++;
	snprintf(w->last, sizeof w->last, "%s", text);
}

#endif
