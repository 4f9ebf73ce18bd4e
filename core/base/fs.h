/* Files: whole reads, atomic writes, folders. Nothing here writes outside the
 * path it is given. */
#ifndef TENFOLD_BASE_FS_H
#define TENFOLD_BASE_FS_H

#include "core/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Creates `path` and its parents (mode 0755); fine when it is there already. */
int fs_mkdirs(const char *path, struct err *e);
int fs_exists(const char *path);
/* Reads a whole file of at most `limit` bytes; *data is malloc'ed with a final NUL beyond *bytes. */
int fs_read(const char *path, size_t limit, char **data, size_t *bytes, struct err *e);
/* Writes path atomically and durably: temp file in the same folder, fsync, rename, fsync of the folder. */
int fs_write_atomic(const char *path, const void *data, size_t bytes, struct err *e);
/* fsync of a folder, so that a rename in it survives power loss. */
int fs_sync_dir(const char *path, struct err *e);
/* Removes a folder and what is in it; not following links. Missing is fine. */
int fs_remove_tree(const char *path, struct err *e);

/* A read-only mapping of a whole file. */
struct fs_map {
	const unsigned char *data;
	size_t bytes;
};
int fs_map_open(struct fs_map *m, const char *path, struct err *e);
void fs_map_close(struct fs_map *m);

/* Seconds of a clock that does not jump (CLOCK_MONOTONIC). */
double fs_now(void);

#endif
