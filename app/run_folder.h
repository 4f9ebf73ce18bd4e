/* Runs as arguments of commands: a run's folder, or the path of its run.db. */
#ifndef TENFOLD_APP_RUN_FOLDER_H
#define TENFOLD_APP_RUN_FOLDER_H

#include "store/store.h"

#include <limits.h>

struct run_folder {
	char folder[PATH_MAX]; /* without a final slash */
	char name[256];        /* the folder's own name: how the run is called where it has no other name */
	struct store *store;   /* opened for reading; NULL after run_folder_close */
};

/* ERR_NOT_FOUND names what was looked for. */
int run_folder_open(struct run_folder *r, const char *argument, struct err *e);
void run_folder_close(struct run_folder *r);
/* folder/file into `out`. */
int run_folder_path(const struct run_folder *r, const char *file, char out[PATH_MAX], struct err *e);

#endif
