/* config.yaml in a run's folder: the complete configuration of the run's first
 * start. Everything that a run starts later reads it there, so that the file
 * which the user gave may be edited or deleted while the run goes on. */
#ifndef TENFOLD_APP_RUN_CONFIG_H
#define TENFOLD_APP_RUN_CONFIG_H

#include "core/base/config.h"
#include "core/base/err.h"

/* Writes FOLDER/config.yaml, whole or not at all. */
int run_config_write(const struct config *c, const char *folder, struct err *e);

/* Refuses (ERR_MISMATCH) a resumption whose configuration would give other results than FOLDER/config.yaml; names the first
 * such key. Keys that decide only who computes may differ. */
int run_config_same(const struct config *c, const char *folder, struct err *e);

/* Calls `differs` for each key in which `now` is not as FOLDER/config.yaml says, with both values as --set takes them, until it
 * answers something else than 0; returns its last answer, or a negative code. */
int run_config_each_change(const struct config *now, const char *folder,
			   int (*differs)(void *ctx, const char *name, const char *was, const char *is), void *ctx, struct err *e);

#endif
