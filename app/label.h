/* The parts of `tenfold label`. */
#ifndef TENFOLD_APP_LABEL_H
#define TENFOLD_APP_LABEL_H

#include "core/base/err.h"
#include "store/labels.h"

#include <jansson.h>

#include <stdio.h>

int label_new(int argc, char **argv, struct err *e);
int label_import(int argc, char **argv, struct err *e);
int label_export(int argc, char **argv, struct err *e);
int label_rank(int argc, char **argv, struct err *e);

/* DIR/labels.db for writing, or a sentence on who has it. */
int label_open(struct labels **l, const char *dir, int writer, struct err *e);

/* Items of a JSONL file into the campaign: {"prompt": text or [{"role", "content"}…], "candidates": [text or {"text",
 * "source", "test", …}…], "role", "language", "best", "worst", …}; what else is there is kept as extra. *n: items. */
int label_items_from_file(struct labels *l, int64_t campaign, const char *path, const char *language, int64_t *n, struct err *e);
/* One such object. `where` names it in messages. *item is the new one; *candidates how many it has. */
int label_item_from_json(struct labels *l, int64_t campaign, json_t *json, const char *language, const char *where, int64_t *item, uint32_t *candidates,
                         struct err *e);
/* Items of a run's groups: of the newest step of the stage, or of all its steps. */
int label_items_from_run(struct labels *l, int64_t campaign, const char *run, const char *stage, int all, int64_t limit, int64_t *n, struct err *e);

/* An item with its labels as one JSON object, which loses nothing: what label_item_from_json reads, and "labels":
 * people are "p1", "p2" … in the order in which `people` (a JSON object, kept from item to item) met them. *labels: how many. */
int label_record(struct labels *l, int64_t item, json_t *people, json_t **record, int64_t *labels, struct err *e);
/* And back: the item, and its labels by people of the state "imported". */
int label_record_put(struct labels *l, int64_t campaign, json_t *record, json_t *people, const char *where, int64_t *labels, struct err *e);

#endif
