/* Adapters: a model whose matrices are frozen and shared, and beside some of them
 * low ranks that learn, W + s·B·A (LoRA, Hu et al. 2021, 2106.09685), with
 * s = alpha/r, or alpha/√r (rsLoRA, 2312.03732). A starts as PEFT starts it
 * (uniform in ±1/√in), B at zero, so that the model starts as its base.
 *
 * What learns is a table of its own (struct model, `learned`): the factors under
 * the name of their matrix, "….q_proj.lora_A.weight" [r, in] and "….lora_B.weight"
 * [out, r], the experts' stacked, and whole parameters: heads that the base
 * does not have in common with others, and those that the configuration names.
 * Gradients, moments, checkpoints and published weights have this table, and the
 * base's weights are neither copied nor written.
 *
 * The sum is not made in training: y = W·x + B·(s·A·x), so that base, reference and
 * several adapters use the same memory. model_get of such a model makes it, which
 * is what exports write. */
#ifndef TENFOLD_POLICY_ADAPTER_H
#define TENFOLD_POLICY_ADAPTER_H

#include "policy/model.h"

/* What is beside a parameter of the model: indices in the adapter's table, -1: nothing. */
struct adapter_slot {
	int a, b;    /* the factors */
	int whole;   /* the parameter itself */
	float scale; /* s */
};

struct adapter {
	struct params params;
	struct adapter_slot *slot; /* [params.count of the model] */
	float *weights;            /* backend, [params.floats] */
	double rate;               /* of dropout in front of A, in training */
	int64_t rank, widest;      /* greatest rank and input of matrices that are no experts' */
	int64_t expert_ranks;      /* greatest sum of the ranks of a layer's experts */
};

/* What is to be beside a parameter of the model. */
struct adapter_wish {
	int64_t rank; /* 0: nothing */
	double alpha;
	int rslora, whole;
};

/* Who draws A: models on one base start apart from each other. */
enum { STREAM_POLICY = 0, STREAM_CRITIC = 1, STREAM_MEMBER = 2 /* and further ones, of a reward model */ };

/* A model on the base's weights, which must outlive it, with the heads of heads_kind. The parameters that learn whole start as
 * in the base, or at zero where it does not have them. seed, stream: of A's random numbers.
 * ERR_RANGE: a target that the model does not have (the message lists what it has), dropout with experts. */
int adapter_open(struct model **out, const struct model *base, int heads_kind, const struct config_lora *c, uint64_t seed, uint32_t stream, struct err *e);
/* The same by wishes, [count of adapter_count]: in the order of the model's table with these heads. A and B are zero. */
int adapter_open_wished(struct model **out, const struct model *base, int heads_kind, const struct adapter_wish *w, struct err *e);
/* 1 when low ranks may be beside a parameter: projections, not embeddings, norms, heads. */
int adapter_is_target(const struct params *p, int param);
/* Last part of a parameter's module ("q_proj"). */
void adapter_leaf(const char *name, char out[64]);
/* Adds the low ranks to the weights in host memory, [m->params.floats]: in double, rounded once. */
void adapter_merge(const struct model *m, float *host);
/* Table and sizes alone, in `arena`, of the adapters of a model of this shape; weights NULL. */
int adapter_plan(struct adapter *out, const struct shape *s, const struct config_lora *c, struct arena *arena, struct err *e);
/* Bytes of activations that the adapter's work takes more, for batches of so many rows. */
size_t adapter_activations(const struct adapter *a, const struct shape *s, int keep, int64_t rows);
/* "trainable params: 1,024 || all params: 10,000 || trainable%: 10.2400", as PEFT prints it. */
void adapter_describe(const struct model *m, char *out, size_t bytes);

#endif
