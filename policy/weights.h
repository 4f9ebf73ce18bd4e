/* What a model computes with, where that is not its f32 arena itself: in bf16 a
 * rounded copy of what learns; in a model that never learns (model_open_held)
 * its only weights, each parameter in memory of its own or in the mapped file it
 * came from, which only the host's memory can use. A device's memory is taken when
 * the model is opened and stays where it is. Internal to policy/. */
#ifndef TENFOLD_POLICY_WEIGHTS_H
#define TENFOLD_POLICY_WEIGHTS_H

#include "policy/model.h"
#include "policy/safetensors.h"

/* Makes the memory. ERR_MEMORY without a message. */
int weights_open(struct model *, int held);
void weights_close(struct model *);

/* Memory of its own for parameter i of a held model in this type (vectors: f32), NULL when there is none; what was there is gone. */
void *weights_own(struct model *, int i, enum dtype type);
/* Parameter i of a held model lies in a mapped file: `at` has its matrices, [stack], in this type. One behind the other they are a
 * stack as any; apart they may only be bf16. */
void weights_map(struct model *, int i, enum dtype type, const void *const *at);
/* The file that is mapped: the one before it is closed. */
void weights_keep(struct model *, struct safetensors *file);
/* The type that the matrices of a held model get from a file of this type. */
enum dtype weights_type(const struct model *, enum safetensors_dtype file);

/* `n` floats of the host into the memory of parameter i of a held model (weights_own), from its element `first` on, as the backend
 * computes with them: rounded in bf16, where vectors stay f32. ERR_MEMORY without a message. */
int weights_put(struct model *, int i, int64_t first, const float *host, int64_t n);

#endif
