/* metrics.jsonl: one line of JSON a step, for whoever follows a run with a
 * text tool. Lines of steps done again after a crash are not written twice. */
#ifndef TENFOLD_APP_METRICS_FILE_H
#define TENFOLD_APP_METRICS_FILE_H

#include "core/base/err.h"
#include "ppo/metrics.h"

#include <stdio.h>

struct metrics_file {
	FILE *f;
	int64_t last; /* last step written */
};

int metrics_file_open(struct metrics_file *m, const char *path, struct err *e);
void metrics_file_close(struct metrics_file *m);
/* step counts from 1; NaN becomes null. */
void metrics_file_put(struct metrics_file *m, int64_t step, const struct metrics *metrics);

#endif
