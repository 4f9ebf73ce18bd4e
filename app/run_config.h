/* config.yaml in a run's folder: the complete configuration of the run's first
 * start. Everything that a run starts later reads it there, so that the file
 * which the user gave may be edited or deleted while the run goes on. */
#ifndef TENFOLD_APP_RUN_CONFIG_H
#define TENFOLD_APP_RUN_CONFIG_H

#include "core/base/config.h"
#include "core/base/err.h"

/* 1 for a key that decides only who computes and what it is called, never what comes out (docs/exactness.md). */
int run_config_arrangement(const char *key);

/* Writes FOLDER/config.yaml, whole or not at all, where there is none. One that is there stays: ERR_MISMATCH, naming the first such
 * key, when the configuration would give other results than it. */
int run_config_keep(const struct config *c, const char *folder, struct err *e);

/* Calls `differs` for each key in which `now` is not as FOLDER/config.yaml says, with both values as --set takes them, until it
 * answers something else than 0; returns its last answer, or a negative code. */
int run_config_each_change(const struct config *now, const char *folder,
			   int (*differs)(void *ctx, const char *name, const char *was, const char *is), void *ctx, struct err *e);

#endif
