/* Parameters on disk: one safetensors file in the names of the parameter table.
 *
 * Every parameter is a tensor of its own: stacked experts are taken apart into
 * "…experts.3.up_proj.weight", a matrix is [out, in], a vector [n]. The same
 * names with a prefix hold arenas of the same layout that are not weights, such
 * as the optimiser's moments ("exp_avg.model.norm.weight"); several arenas may
 * share a file.
 *
 * Loading is strict, because a part left out would go on as something else
 * silently: a tensor that is missing, one that the table does not have, another
 * shape or a type that would have to be rounded is refused by name, and the
 * model stays as it was. F16 and BF16 are widened, which is exact. Only heads
 * may differ, when the caller says so: a critic starts from a policy's file.
 *
 * A model that is only held (model_open_held) uses the mapped file itself for
 * every matrix that lies there as products take it; it must not be written over
 * then (nothing here does: files are replaced, not rewritten). Other tensors are
 * read one by one, never the whole model at once. */
#ifndef TENFOLD_POLICY_MODEL_FILE_H
#define TENFOLD_POLICY_MODEL_FILE_H

#include "core/base/hash.h"
#include "policy/model.h"
#include "policy/safetensors.h"

enum {
	MODEL_FILE_SKIP_HEADS = 1, /* heads (lm_head, score) that only the file has are passed over */
	MODEL_FILE_KEEP_HEADS = 2, /* heads that only the model has keep their values */
};

/* Writes what learns (all weights, or an adapter), a whole model in the type it computes with (backend_weights); equal weights give equal bytes. durable and hash (may be NULL) as in safetensors_write. */
int model_save(const struct model *m, const char *path, int durable, char hash[HASH_HEX], struct err *e);
/* Reads it. flags: MODEL_FILE_…; 0: the file has exactly this model. ERR_NOT_FOUND: no file, or a tensor is missing;
 * ERR_MISMATCH: another shape, or a tensor too many; ERR_FORMAT: another type, or not a safetensors file. */
int model_load(struct model *m, const char *path, int flags, struct err *e);

/* The same from a folder of the shape's family: one file or shards, under the names of the family in any of the spellings
 * that `transformers` writes (with or without the prefix of the base model, experts apart or fused), buffers that are no
 * weights passed over. */
int model_load_folder(struct model *m, const char *folder, int flags, struct err *e);
/* Each parameter in f32, one after the other, in the order of the table; heads that are missing are passed over as flags say. */
int model_each_param(const struct params *p, const struct shape *s, const char *folder, int flags, int (*take)(void *ctx, int param, const float *host),
		     void *ctx, struct err *e);
/* What is in such a folder without reading the weights: every tensor is there with its shape, none is left over. */
int model_check_folder(const struct params *p, const struct shape *s, const char *folder, int flags, struct err *e);
/* Writes all weights rounded to F32, F16 or BF16, for a folder of the shape's family: a classifier's layout there has no
 * score.bias, so one that is 0 is left out. */
int model_save_as(const struct model *m, const char *path, enum safetensors_dtype dtype, struct err *e);

/* An arena in host memory and the prefix of its names in the file: "" for weights, else with its dot. */
struct params_arena {
	const char *prefix;
	float *host; /* [params.floats] */
};

/* The same for any arenas of the layout, at most PARAMS_ARENAS_MAX with different prefixes. */
enum { PARAMS_ARENAS_MAX = 8 };
int params_save(const struct params *p, const struct params_arena *arenas, int n, const char *path, int durable, char hash[HASH_HEX], struct err *e);
/* Elements between parameters and, with MODEL_FILE_KEEP_HEADS, absent heads are left as they are. After an error the
 * arenas hold anything. */
int params_load(const struct params *p, const struct params_arena *arenas, int n, const char *path, int flags, struct err *e);

#endif
