/* docs/benchmarks.md as a list of sections that do not depend on each other: a
 * section is what stands from its "## title" to the next one. What is measured now
 * replaces its own section, or is put at the end; every other section stays byte
 * for byte, with the date and machine that it names. */
#include "app/bench_sections.h"

#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>

/* Where the section begins and ends in the page: at its end when it is not there. */
static void find(const char *page, const char *title, const char **from, const char **to)
{
	size_t n = strlen(title);
	for (const char *at = page; (at = strstr(at, "\n## ")); at++)
		if (!strncmp(at + 4, title, n) && at[4 + n] == '\n') {
			*from = at + 1;
			*to = strstr(at + 1, "\n## ");
			*to = *to ? *to + 1 : page + strlen(page);
			return;
		}
	*from = *to = page + strlen(page);
}

int bench_page_put(const char *path, const char *title, const char *text, struct err *e)
{
	char *page = NULL, *whole = NULL;
	size_t bytes = 0;
	const char *from, *to;
	int rc = 0;
	if (fs_exists(path)) TRY(fs_read(path, (size_t)16 << 20, &page, &bytes, e));
	else page = calloc(1, 1);
	CHECK(page, "out of memory for %s", path);
	if (title) find(page, title, &from, &to);
	else from = page, to = strstr(page, "\n## ") ? strstr(page, "\n## ") + 1 : page + strlen(page);
	whole = malloc(strlen(page) + strlen(text) + 4);
	CHECK(whole, "out of memory for %s", path);
	size_t before = (size_t)(from - page);
	const char *gap = before == 0 || (before > 1 && from[-1] == '\n' && from[-2] == '\n') ? "" : from[-1] == '\n' ? "\n" : "\n\n";
	sprintf(whole, "%.*s%s%s%s%s", (int)before, page, gap, text, *to ? "\n" : "", to);
	TRY(fs_write_atomic(path, whole, strlen(whole), e));
out:
	free(page);
	free(whole);
	return rc;
}
