/* The parts of `tenfold label`. */
#ifndef TENFOLD_APP_LABEL_H
#define TENFOLD_APP_LABEL_H

#include "core/base/err.h"
#include "store/labels.h"

#include <stdio.h>

int label_new(int argc, char **argv, struct err *e);
int label_import(int argc, char **argv, struct err *e);
int label_export(int argc, char **argv, struct err *e);

/* DIR/labels.db for writing, or a sentence on who has it. */
int label_open(struct labels **l, const char *dir, int writer, struct err *e);

/* Items of a JSONL file into the campaign: {"prompt": text or [{"role", "content"}…], "candidates": [text or {"text",
 * "source", "test", …}…], "role", "language", "best", "worst", …}; what else is there is kept as extra. *n: items. */
int label_items_from_file(struct labels *l, int64_t campaign, const char *path, const char *language, int64_t *n, struct err *e);
/* Items of a run's groups: of the newest step of the stage, or of all its steps. */
int label_items_from_run(struct labels *l, int64_t campaign, const char *run, const char *stage, int all, int64_t limit, int64_t *n, struct err *e);

#endif
