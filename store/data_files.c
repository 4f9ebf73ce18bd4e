/* Names of data files: a list as a configuration has it, with patterns. The
 * order is that of the bytes of the names, not the locale's: it decides which
 * prompt has which number. */
#include "store/data.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

static void add(struct data_files *f, const char *path)
{
	f->path = realloc(f->path, (f->count + 1) * sizeof *f->path);
	CHECK(f->path, "out of memory for %zu file names", f->count + 1);
	f->path[f->count] = strdup(path);
	CHECK(f->path[f->count], "out of memory for a file name");
	f->count++;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_pattern(struct data_files *f, const char *pattern, struct err *e)
{
	glob_t g = {0};
	int got = glob(pattern, GLOB_NOSORT, NULL, &g);
	if (got == 0) {
		qsort(g.gl_pathv, g.gl_pathc, sizeof *g.gl_pathv, by_name);
		for (size_t i = 0; i < g.gl_pathc; i++) add(f, g.gl_pathv[i]);
	}
	globfree(&g);
	return got == 0 ? 0 : err_set(e, got == GLOB_NOMATCH ? ERR_NOT_FOUND : ERR_IO, "no file matches %s", pattern);
}

int data_files_open(struct data_files *f, const char *list, struct err *e)
{
	*f = (struct data_files){0};
	char *copy = strdup(list), *at = copy, *part;
	int rc = 0;
	CHECK(copy, "out of memory for a list of files");
	while (rc == 0 && (part = strsep(&at, ","))) {
		part += strspn(part, " \t");
		size_t n = strlen(part);
		while (n && strchr(" \t", part[n - 1])) part[--n] = 0;
		if (n == 0) continue;
		if (strpbrk(part, "*?[")) rc = add_pattern(f, part, e);
		else add(f, part);
	}
	free(copy);
	if (rc < 0) data_files_close(f);
	return rc;
}

void data_files_close(struct data_files *f)
{
	for (size_t i = 0; i < f->count; i++) free(f->path[i]);
	free(f->path);
	*f = (struct data_files){0};
}
