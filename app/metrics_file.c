/* metrics.jsonl; see metrics_file.h. */
#include "app/metrics_file.h"

#include "core/base/fault.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int metrics_file_open(struct metrics_file *m, const char *path, struct err *e)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	long whole = 0;
	m->last = 0;
	m->f = fopen(path, "a+e");
	if (!m->f) return err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
	rewind(m->f);
	while ((n = getline(&line, &room, m->f)) > 0 && line[n - 1] == '\n') {
		const char *at = strstr(line, "\"step\":");
		if (at) m->last = strtoll(at + 7, NULL, 10);
		whole = ftell(m->f);
	}
	free(line);
	/* half a line is what a kill left */
	if (ftruncate(fileno(m->f), whole) != 0) return err_set(e, ERR_IO, "cannot cut the half line at the end of %s: %s", path, strerror(errno));
	return 0;
}

void metrics_file_close(struct metrics_file *m)
{
	if (m->f) fclose(m->f);
	m->f = NULL;
}

void metrics_file_put(struct metrics_file *m, int64_t step, const struct metrics *x)
{
	if (step <= m->last) return;
	fprintf(m->f, "{\"step\":%lld", (long long)step);
	for (int64_t i = 0; i < x->count; i++) {
		if (isfinite(x->value[i])) fprintf(m->f, ",\"%s\":%.9g", x->name[i], x->value[i]);
		else fprintf(m->f, ",\"%s\":null", x->name[i]);
	}
	FAULT_POINT("metrics_file.within_line", "a line of metrics.jsonl is partly written");
	fputs("}\n", m->f);
	fflush(m->f);
	m->last = step;
}
