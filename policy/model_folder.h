/* A model as a folder: config.json (its shape), model.safetensors or its shards,
 * tokenizer.json. What the program writes it reads back; a folder of one of the
 * families of `transformers` (family.h) is written in that family's layout. A
 * folder with adapters of PEFT and no model (adapter_file.h) is read as its base
 * with the adapters merged into it. */
#ifndef TENFOLD_POLICY_MODEL_FOLDER_H
#define TENFOLD_POLICY_MODEL_FOLDER_H

#include "policy/model.h"
#include "policy/safetensors.h"
#include "policy/tokenizer.h"

/* Makes the folder when missing; each file replaces an older one atomically, config.json last. */
int model_folder_write(const char *folder, const struct model *m, const struct tokenizer *t, struct err *e);
/* f32, f16 or bf16 as people write it; -1: none of them. */
int model_folder_dtype(const char *name);
/* The same with the weights rounded to F32, F16 or BF16. */
int model_folder_write_as(const char *folder, const struct model *m, const struct tokenizer *t, enum safetensors_dtype dtype, struct err *e);
/* The shape in config.json; a missing key is an error that names it. */
int model_folder_shape(const char *folder, struct shape *s, struct err *e);
/* Copies what belongs to a checkpoint beside weights, shape and tokenizer.json: the tokenizer's other files, generation_config.json.
 * A file that is in `to` already stays. */
int model_folder_copy_rest(const char *from, const char *to, struct err *e);
/* Opens the model with its weights. heads_kind: heads wanted (HEAD_LM | HEAD_SCALAR); a wanted scalar head that the
 * folder lacks starts at zero, one that is not wanted is passed over. */
int model_folder_open(struct model **out, const char *folder, struct backend *backend, int heads_kind, struct err *e);
/* The same for a model that never learns, see model_open_held. */
int model_folder_open_held(struct model **out, const char *folder, struct backend *backend, int heads_kind, struct err *e);

/* Merges the adapters of a folder into a model, whose heads they must fit. */
int model_folder_merge(struct model *m, const char *adapter, struct err *e);
/* The folder itself, or the base of one with adapters: where what belongs to the model beside its weights is. */
int model_folder_base(const char *folder, char *out, size_t bytes, struct err *e);

#endif
