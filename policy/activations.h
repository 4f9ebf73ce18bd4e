/* The inside of activations: buffers by layer. Internal to policy/. */
#ifndef TENFOLD_POLICY_ACTIVATIONS_H
#define TENFOLD_POLICY_ACTIVATIONS_H

#include "policy/model.h"

struct layer_acts {
	float *x;        /* [T, C] input */
	float *n1, *rstd1; /* [T, C], [T] (LayerNorm: [2, T], means behind) */
	float *q, *k, *v;  /* [T, H*D], [T, J*D], [T, J*Dv]; q and k after norm and rotation */
	float *q_raw, *k_raw, *q_rstd, *k_rstd; /* with qk_norm */
	float *latent, *latent_n, *latent_rstd; /* QKV_LATENT: before and after its norm */
	float *query, *query_n, *query_rstd;    /* with query_rank */
	void *k_pages, *v_pages; /* in backend_keys */
	float *att, *lse;  /* [T, H*Dv], [T, H] */
	float *mid;        /* [T, C] after attention */
	float *n2, *rstd2;
	float *logits, *probs, *router_lse, *weight; /* [T, E], [T, E], [T], [T, K] */
	int32_t *expert, *order, *offset;            /* [T, K], [3*T*K], [E+1] */
	float *g, *u;      /* experts: [T*K, I] */
	float *sg, *su, *sa; /* shared or dense feed-forward: [T, S] */
};

struct activations {
	const struct model *model;
	int keep, plan; /* plan: counted, not allocated */
	size_t missing; /* bytes that the backend did not have */
	int64_t cap_rows, cap_pages, cap_outs;
	int drops;          /* dropout is on, keyed by the two below (model_dropout) */
	uint64_t drop_seed, drop_first;
	size_t bytes;
	void **owned;       /* allocations */
	int owned_count, owned_cap;
	struct layer_acts *layer; /* [layers]; without keep all share one set of buffers; computed again, all but x and expert */
	float *last;        /* [T, C] output of the last layer */
	float *again;       /* [T, C] output of a layer computed again, not read */
	float *final, *rstd; /* [T, C], [T] after the final norm */
	float *work;        /* [T*K, C + 3I] experts scratch */
	float *fused, *widened; /* [T, shape_fused_width], [T, shape_widened]: of the layer under way */
	float *low, *low_x; /* adapters: [T, rank], and with dropout [T, widest] */
	float *outs;        /* [N, C] */
	float *head_work;   /* [head_rows, V] */
	int64_t head_rows;
	float *logprob, *entropy, *value; /* [N] */
	/* backward */
	float *dx, *dn, *datt, *dq, *dk, *dv, *dk_pages, *dv_pages, *dg, *du, *da, *dlogits, *dweight, *douts, *dlogprob, *dentropy, *dvalue,
		*balance, *dspare, *dfused, *dwidened, *dlatent, *dlatent_n, *dquery, *dquery_n, *dlow, *dlow_x;
};

/* Buffers for a batch of this size: the first time exactly these, later with slack. */
void activations_reserve(struct activations *, int64_t rows, int64_t pages, int64_t outs);

#endif
