/* Gradients and AdamW for a model: three more arenas of the parameters' layout.
 *
 * A step's gradient is a sum of blocks. Each block (a fixed number of groups,
 * by configuration) is reduced alone from zero and then added in order; within
 * a block, micro-batches continue the same chains. So the gradient does not
 * depend on micro-batch size or threads, only on the block size. */
#ifndef TENFOLD_POLICY_OPTIMIZER_H
#define TENFOLD_POLICY_OPTIMIZER_H

#include "policy/model.h"

struct optimizer {
	struct model *model;
	struct config_optim options;
	int64_t total_steps;  /* of the schedule */
	int64_t updates;      /* made so far: Adam's t */
	float *total, *block; /* backend: gradient of the step, of the block (with params.apart) */
	float *m, *v;         /* backend: moments */
};

int optimizer_open(struct optimizer **out, struct model *, const struct config_optim *, int64_t total_steps, struct err *);
void optimizer_close(struct optimizer *);
/* Zeroes the step's gradient. */
void optimizer_begin(struct optimizer *);
/* Zeroes the block's gradient, into which model_backward adds. */
void optimizer_block_begin(struct optimizer *);
void optimizer_block_end(struct optimizer *);
/* L2 norm of the step's gradient; not finite when, and only when, an element is not. */
double optimizer_norm(const struct optimizer *);
/* 1 when weights and moments are all finite: what may be saved and published. */
int optimizer_is_finite(const struct optimizer *);
/* Learning rate of schedule step `step` (from 0): warm-up, then constant, linear or cosine to 0. */
double optimizer_rate(const struct optimizer *, int64_t step);
/* Clips to max_grad_norm and updates the weights with rate lr. `norm` is optimizer_norm's result. */
void optimizer_update(struct optimizer *, double lr, double norm);

/* Loss-free balancing (DeepSeek-V3): b_e += rate · sign(mean load − load_e), from the step's expert counts
 * [moe layers, E]. Nothing happens for a model without router bias. */
void model_balance_bias(struct model *, const int64_t *counts, double rate);
/* Adds the experts chosen in this batch's rows to counts [moe layers, E]. */
void model_count_experts(const struct model *, const struct activations *, const struct batch *, int64_t *counts);
/* Gradient of coef · E · mean_layers Σ_e f_e·P_e (Switch Transformer, 2101.03961, with f summing to K) by a row's
 * probability, from the step's counts, for a loss averaged over `rows` rows: balance [moe layers, E]. */
void model_balance_gradient(const struct model *, const int64_t *counts, double coef, int64_t rows, float *balance);

#endif
