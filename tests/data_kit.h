/* What the tests of data sets share: files in a temporary folder, and records
 * collected into an array. */
#ifndef TENFOLD_TESTS_DATA_KIT_H
#define TENFOLD_TESTS_DATA_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "store/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DATA_KIT_MAX = 64 };

struct data_kit {
	char dir[64], path[2][128];
	struct arena *arena;
	struct data_record record[DATA_KIT_MAX];
	size_t count;
	uint64_t bad_line[DATA_KIT_MAX];
	char bad_reason[DATA_KIT_MAX][128];
	size_t bad;
	struct data_report report;
	struct err e;
};

static inline int data_kit_setup(void **state)
{
	struct data_kit *k = calloc(1, sizeof *k);
	strcpy(k->dir, "/tmp/tenfold-data-XXXXXX");
	if (!mkdtemp(k->dir)) return -1;
	k->arena = arena_open(0);
	*state = k;
	return 0;
}

static inline int data_kit_teardown(void **state)
{
	struct data_kit *k = *state;
	int rc = fs_remove_tree(k->dir, NULL);
	arena_close(k->arena);
	free(k);
	return rc;
}

/* A file of that name with these bytes; its path in path[which]. */
static inline void data_kit_file(struct data_kit *k, int which, const char *name, const char *data, size_t bytes)
{
	snprintf(k->path[which], sizeof k->path[which], "%s/%s", k->dir, name);
	assert_int_equal(fs_write_atomic(k->path[which], data, bytes, &k->e), 0);
}

static inline int data_kit_record(void *ctx, const struct data_record *r, struct err *e)
{
	struct data_kit *k = ctx;
	(void)e;
	assert_true(k->count < DATA_KIT_MAX);
	struct data_record *x = &k->record[k->count++];
	*x = *r;
	x->prompt = arena_strdup(k->arena, r->prompt);
	x->answer = r->answer ? arena_strdup(k->arena, r->answer) : NULL;
	x->key = r->key ? arena_strdup(k->arena, r->key) : NULL;
	x->person = r->person ? arena_strdup(k->arena, r->person) : NULL;
	x->strength = r->strength ? arena_strdup(k->arena, r->strength) : NULL;
	x->criterion = r->criterion ? arena_strdup(k->arena, r->criterion) : NULL;
	for (uint32_t i = 0; i < r->count; i++) x->completion[i] = arena_strdup(k->arena, r->completion[i]);
	return 0;
}

static inline int data_kit_bad(void *ctx, const char *file, uint64_t line, const char *reason, struct err *e)
{
	struct data_kit *k = ctx;
	(void)file;
	(void)e;
	assert_true(k->bad < DATA_KIT_MAX);
	k->bad_line[k->bad] = line;
	snprintf(k->bad_reason[k->bad++], sizeof k->bad_reason[0], "%s", reason);
	return 0;
}

/* Reads path[0] (and path[1] as held out, when it is set) into the kit; the result of data_read. */
static inline int data_kit_read(struct data_kit *k, const char *format, const char *columns)
{
	const char *train[] = {k->path[0]}, *heldout[] = {k->path[1]};
	struct data_options o = {.format = format, .columns = columns, .train = train, .train_count = 1, .heldout = heldout, .heldout_count = k->path[1][0] != 0,
				 .bad_limit = -1, .on_record = data_kit_record, .on_bad = data_kit_bad, .ctx = k};
	k->count = k->bad = 0;
	return data_read(&o, &k->report, &k->e);
}

/* The text as a file NAME, read. */
static inline void data_kit_text(struct data_kit *k, const char *format, const char *columns, const char *name, const char *text)
{
	data_kit_file(k, 0, name, text, strlen(text));
	if (data_kit_read(k, format, columns) != 0) fail_msg("%s", k->e.msg);
}

/* Record i, with all that is asked of it. */
static inline const struct data_record *data_kit_expect(const struct data_kit *k, size_t i, enum data_kind kind, const char *prompt, const char *first, const char *second)
{
	assert_true(i < k->count);
	const struct data_record *r = &k->record[i];
	assert_int_equal(r->kind, kind);
	assert_string_equal(r->prompt, prompt);
	assert_int_equal(r->count, (first != NULL) + (second != NULL));
	if (first) assert_string_equal(r->completion[0], first);
	if (second) assert_string_equal(r->completion[1], second);
	return r;
}

#endif
