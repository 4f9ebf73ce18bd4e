/* The model: weights in backend memory, forward and backward over batches.
 *
 * One code path serves sampling, scoring and training; what differs is whether
 * activations are kept. Because every operation is batch-invariant, the
 * log-probability of a token has the same bits in all three. */
#ifndef TENFOLD_POLICY_MODEL_H
#define TENFOLD_POLICY_MODEL_H

#include "policy/batch.h"
#include "policy/params.h"

struct adapter;
struct weights;

struct model {
	struct backend *backend;
	const struct ops *ops;
	struct shape shape;
	struct params params;
	struct arena *arena;
	float *weights;      /* backend, [params.floats] in f32; NULL in a model that is only held */
	struct weights *held; /* what is computed with where that is not `weights` (weights.h); NULL: it is */
	float *cos, *sin;    /* backend, [max_positions, head_dim/2] */
	/* What learns, and is therefore what optimisers, checkpoints and publication hold: all of the above, or with an adapter
	 * (adapter.h) that alone, and the rest is another model's. */
	const struct params *learned;
	float *learned_weights; /* backend, [learned->floats] */
	const struct model *base;
	struct adapter *adapter;
};

/* Weights are zero until model_init or model_load. */
int model_open(struct model **out, struct backend *, const struct shape *, struct err *);
/* For a model that never learns (a reference, a sampler): it takes what its operations need and no more. Of a file that model_load or
 * model_load_folder gives it, what lies there as it is needed stays there, mapped, where the backend's memory is the host's. */
int model_open_held(struct model **out, struct backend *, const struct shape *, struct err *);
void model_close(struct model *);
void model_init(struct model *, uint64_t seed);
/* Whole-arena copies from and to host memory [params.floats], and of one parameter [size]. In bf16 a model that is held keeps the
 * rounded values alone. With an adapter: model_get gives its sum with the base, and model_put is refused, since the weights are
 * another model's; of one parameter what learns itself, or the base's. */
void model_put(struct model *, const float *host);
void model_get(const struct model *, float *host);
void model_put_param(struct model *, int param, const float *host);
void model_get_param(const struct model *, int param, float *host);
/* The same of what learns, [learned->floats]. */
void model_put_learned(struct model *, const float *host);
void model_get_learned(const struct model *, float *host);
/* To be called when `weights` or `learned_weights` were written to: a rounded copy follows, packed forms are stale. */
void model_changed(struct model *);
/* What is computed with of a parameter, as a matrix (params_view; in bf16 where the backend has it so) or a vector (f32); an index < 0
 * gives NULL. */
struct tensor model_view(const struct model *, int param);
const float *model_vector(const struct model *, int param);
/* The matrices of a stack where they do not lie one behind the other, [stack]; else NULL. */
const void *const *model_apart(const struct model *, int param);
/* Index in `learned` of a parameter that itself learns; -1: it is frozen. */
int model_learned_index(const struct model *, int param);
/* Where its gradient goes in an arena of the layout of `learned`; NULL: it is frozen, or grads is NULL. */
struct tensor model_grad(const struct model *, int param, float *grads);
float *model_grad_vector(const struct model *, int param, float *grads);

/* Keys and values outside the activations (the generator's cache): pages of each layer. */
struct kv_cache {
	int64_t pages;
	void **k, **v; /* [layers] backend memory, pages*kv_heads*head_dim*64 numbers each, in backend_keys */
};
int kv_cache_open(struct kv_cache *c, const struct model *m, int64_t pages, struct err *e);
void kv_cache_close(struct kv_cache *c, const struct model *m);

/* Activations of one batch, reused from batch to batch. keep: for a backward pass; ACTIVATIONS_AGAIN keeps the layers' inputs
 * alone, and the backward computes the rest again, layer by layer: the same bits in less memory. */
enum { ACTIVATIONS_NONE = 0, ACTIVATIONS_KEEP = 1, ACTIVATIONS_AGAIN = 2 };
struct activations;
struct activations *activations_open(const struct model *, int keep);
void activations_close(struct activations *);
size_t activations_bytes(const struct activations *);
/* Takes the memory of the largest batch to come, and what operations on it work in, so that none is taken later. cache: the
 * pages are a cache's. ERR_MEMORY, with a table of what has how much. */
int activations_prepare(struct activations *, const struct batch_sizes *, int cache, int truncates, struct err *e);
/* The operations of a model of this shape on batches up to this size. */
struct ops_sizes activations_operations(const struct shape *, int keep, const struct batch_sizes *, int truncates);
/* From now on passes with these activations drop inputs of the adapters, by (seed, first + sequence of the batch, position); a
 * backward must have what its forward had. first: below 2^43. Without an adapter, or one without dropout, nothing is dropped. */
void model_dropout(struct activations *, uint64_t seed, uint64_t first);
/* Nothing is dropped any more, as at the start. */
void model_dropout_end(struct activations *);
/* Bytes that activations of a model of this shape take for batches of this size. */
size_t activations_plan(struct backend *, const struct shape *, int keep, int64_t rows, int64_t pages, int64_t outs);

/* Runs the trunk. cache NULL: the batch brings all keys it needs and uses pages of the activations. */
void model_forward(const struct model *, struct activations *, const struct batch *, const struct kv_cache *cache);
/* Final hidden states of the outs, [outs, C] in backend memory (after model_forward). */
struct tensor model_outs(const struct model *, struct activations *, const struct batch *);
/* Experts chosen in layer `moe` (counted over layers with experts) for each row: backend memory [rows, K]. */
const int32_t *activations_experts(const struct activations *, int64_t moe);

struct sampling {
	float temperature, top_p;
	int top_k;
};

/* Log-probability and entropy of each out's target; host arrays [outs]. entropy may be NULL. */
void model_logprobs(const struct model *, struct activations *, const struct batch *, const struct sampling *, float *logprob, float *entropy);
/* Scalar head at each out; host array [outs]. */
void model_scalars(const struct model *, struct activations *, const struct batch *, float *value);

/* Raw logits of each out; host array [outs, V]. */
void model_logits(const struct model *, struct activations *, const struct batch *, float *logits);
/* The auxiliary loss of transformers' mixtures (load_balancing_loss_func, without a mask) over the rows of the last
 * model_forward (keep = 1): E · Σ_e Σ_j f_je · P_e, means over rows and layers; an even load gives the number of chosen experts. 0 without experts. */
double model_router_loss(const struct model *, const struct activations *, const struct batch *);

/* Gradients of a loss given through its derivatives at the outs (host arrays; NULL: zero). */
struct model_loss {
	const float *dlogprob, *dentropy, *dvalue; /* [outs] */
	const float *douts;   /* backend, [outs, C]: by the outs' final hidden states (model_outs), beside what the heads give; NULL: none */
	const float *balance; /* host, [moe layers, E]: d loss / d probability of each expert, every row; NULL: none */
	float z_scale;        /* z-loss: gradient scale per row; 0: none */
};
/* Adds into grads (backend, [learned->floats + learned->apart]). The batch and activations of the last model_forward (keep = 1).
 * A matrix that is embedding and output layer in one has two gradients; summed into one place, their order would depend on
 * how rows are divided into batches. So the embedding's goes behind the arena, until model_join adds it to the other. */
void model_backward(const struct model *, struct activations *, const struct batch *, const struct sampling *, const struct model_loss *,
		    float *grads);
/* After the last batch of a sum; nothing to do without tied embeddings. */
void model_join(const struct model *, float *grads);

#endif
