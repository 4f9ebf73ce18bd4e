/* What the files of the report and the dashboard share; everyone else uses report.h. */
#ifndef TENFOLD_APP_REPORT_PARTS_H
#define TENFOLD_APP_REPORT_PARTS_H

#include "core/base/err.h"
#include "store/store.h"

#include <jansson.h>

/* A real number, or null when it is not finite. */
json_t *report_number(double v);
/* Text cleaned to UTF-8 and cut to what a page shows; NULL is "". */
json_t *report_text(const char *text);
/* The same cut to so many bytes. */
json_t *report_text_to(const char *text, size_t limit);
/* Fills *e with ERR_MEMORY; returns it. */
int report_memory(struct err *e);
/* Fills run.groups and run.loads. */
int report_load_groups(struct store *s, json_t *run, struct err *e);

#endif
