/* What checkpoint.c (writing), checkpoint_find.c (listing, choosing) and
 * checkpoint_manifest.c (manifest, verifying) share; everyone else uses
 * checkpoint.h. Folders are open descriptors; names are relative to them. */
#ifndef TENFOLD_POLICY_CHECKPOINT_INTERNAL_H
#define TENFOLD_POLICY_CHECKPOINT_INTERNAL_H

#include "policy/checkpoint.h"

#define CHECKPOINT_TEMP ".tmp-"
#define CHECKPOINT_MANIFEST "manifest.json"
enum { CHECKPOINT_NAME = 64 };

/* Opens <run>/<place> component by component without following links; create: makes what is missing. ERR_NOT_FOUND when it
 * is not there. */
int checkpoint_place_open(int *fd, const char *run, const char *place, int create, struct err *e);
/* Opens a folder in `dir` without following links. */
int checkpoint_folder_open(int *fd, int dir, const char *name, const char *where, struct err *e);
/* Removes a folder and its content by descriptor, links as links. Missing is fine. */
int checkpoint_remove(int dir, const char *name, const char *where, struct err *e);
/* Removes all temp folders in `dir`. */
int checkpoint_remove_temps(int dir, const char *where, struct err *e);
/* "step-00000020" */
void checkpoint_name(char name[CHECKPOINT_NAME], uint64_t step);

/* Hashes every file in `dir` and writes and syncs the manifest. path: the same folder by name, for opening tensors and for
 * messages. Refuses anything but plain files. */
int checkpoint_manifest_write(int dir, const char *path, uint64_t step, char hash[HASH_HEX], struct err *e);
/* Checks the checkpoint in `dir`: manifest, step, presence and sizes; with `hashes` every byte. bytes, hash may be NULL. */
int checkpoint_manifest_check(int dir, const char *path, uint64_t step, int hashes, uint64_t *bytes, char hash[HASH_HEX], struct err *e);
/* fsync of every file the folder has, then of the folder. */
int checkpoint_sync(int dir, const char *path, struct err *e);

#endif
