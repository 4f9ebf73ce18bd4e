/* What the parts of a layer share: a pass over the model, forward or backward, and
 * the two operations that have parameters in every layer. All projections but
 * the experts go through layer_project and layer_project_back, so that what is
 * added to them (a bias, an adapter) has one place. Internal to policy/. */
#ifndef TENFOLD_POLICY_LAYER_H
#define TENFOLD_POLICY_LAYER_H

#include "policy/activations.h"

struct pass {
	const struct model *m;
	struct activations *a;
	const struct batch *b;
	const struct kv_cache *cache;  /* forward; NULL: pages of the activations */
	const struct model_loss *loss; /* backward */
	float *grads;                  /* backward */
};

static inline struct tensor layer_weight(const struct pass *p, int param)
{
	return model_view(p->m, param);
}
/* Gradient of a parameter; data NULL when it is not trained. */
static inline struct tensor layer_grad(const struct pass *p, int param)
{
	return model_grad(p->m, param, p->grads);
}
void layer_clear(const struct pass *p, struct tensor t);

/* y = x·wᵀ (+ its bias); add: y += */
void layer_project(const struct pass *p, struct tensor x, int param, struct tensor y, int add);
/* Adds into dx and the gradients. */
void layer_project_back(const struct pass *p, struct tensor x, int param, struct tensor dy, struct tensor dx);

/* The norm of the residual stream, of the shape's kind. statistics: [rows], or [2·rows] with LayerNorm. */
void layer_norm(const struct pass *p, struct tensor x, int param, struct tensor y, float *statistics);
void layer_norm_back(const struct pass *p, struct tensor x, int param, float *statistics, struct tensor dy, struct tensor dx);
/* RMSNorm of something else: a head, all heads, a latent. */
void layer_rms(const struct pass *p, struct tensor x, int param, double eps, struct tensor y, float *rstd);
void layer_rms_back(const struct pass *p, struct tensor x, int param, double eps, float *rstd, struct tensor dy, struct tensor dx);

/* x += attention(norm x), into `mid`; parallel layers norm for the feed-forward here too, since x may be overwritten. */
void layer_attention(const struct pass *p, int64_t layer);
/* Turns the gradient in activations.dx by the layer's output, feed-forward done, into that by its input. */
void layer_attention_back(const struct pass *p, int64_t layer);
/* out = mid + feed-forward(norm mid). */
void layer_feed_forward(const struct pass *p, int64_t layer, float *out);
void layer_feed_forward_back(const struct pass *p, int64_t layer);

#endif
