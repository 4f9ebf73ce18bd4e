/* What safetensors.c (reading a file), safetensors_folder.c (shards, finding,
 * converting) and safetensors_write.c share; everyone else uses safetensors.h. */
#ifndef TENFOLD_POLICY_SAFETENSORS_INTERNAL_H
#define TENFOLD_POLICY_SAFETENSORS_INTERNAL_H

#include "core/base/fs.h"
#include "policy/safetensors.h"

#include <jansson.h>

enum { SAFETENSORS_SHOWN = 160 };

struct safetensors_shard {
	char *path;
	struct fs_map map;
	json_t *header; /* owns the names that tensors point to */
	struct safetensors_tensor *tensors; /* [count], in data order */
	size_t count;
};

/* Maps and checks one file. On an error the shard is left as shard_close leaves it. */
int safetensors_shard_open(struct safetensors_shard *shard, const char *path, struct err *e);
void safetensors_shard_close(struct safetensors_shard *shard);
/* shape × size of the type into *elements and *bytes; -1 when a dimension is negative or it does not fit 63 bits. */
int safetensors_sizes(enum safetensors_dtype dtype, int ndim, const int64_t *shape, int64_t *elements, size_t *bytes);
/* A name from a file made fit for a message: UTF-8, no control characters, at most SAFETENSORS_SHOWN-1 bytes. */
const char *safetensors_show(char out[SAFETENSORS_SHOWN], const char *name);

#endif
