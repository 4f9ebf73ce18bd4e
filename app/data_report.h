/* What the reading of a data set found, in words and as JSON: for `import` and
 * for the stages of a run on files. */
#ifndef TENFOLD_APP_DATA_REPORT_H
#define TENFOLD_APP_DATA_REPORT_H

#include "store/data.h"

#include <stdio.h>

struct json_t;

/* Counts of both sides; bad records by reason, the first with their places; duplicates and leakage, also when there are
 * none. Each line begins with `prefix`. */
void data_report_print(FILE *f, const char *prefix, const struct data_report *r);
/* The same; the caller drops the reference. */
struct json_t *data_report_json(const struct data_report *r);

#endif
