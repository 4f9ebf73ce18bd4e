/* What training needs to go on: weights and both moments of AdamW in one
 * safetensors file, the moments under "exp_avg." and "exp_avg_sq.". The number
 * of updates is the caller's to keep. */
#ifndef TENFOLD_POLICY_TRAINING_FILE_H
#define TENFOLD_POLICY_TRAINING_FILE_H

#include "policy/optimizer.h"

int training_save(const struct optimizer *o, const char *path, struct err *e);
/* Into the optimiser and its model; both must have the file's parameters exactly. */
int training_load(struct optimizer *o, const char *path, struct err *e);

#endif
