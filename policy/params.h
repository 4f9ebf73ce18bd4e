/* The parameter table: one list {name, shape, init, decay} drives allocation,
 * checkpoint, publication, optimiser and tests.
 *
 * All parameters lie in one arena of f32; gradients and optimiser moments are
 * arenas of the same layout. Experts of a layer are stacked [E, out, in] in
 * memory and are written under their own names ("…experts.3.up_proj.weight"),
 * every weight [out, in] as on disk. Names are those of the shape's family
 * (family.h), so that files, adapters and messages speak of the same tensors. */
#ifndef TENFOLD_POLICY_PARAMS_H
#define TENFOLD_POLICY_PARAMS_H

#include "core/base/arena.h"
#include "policy/shape.h"

enum param_init { INIT_NORMAL, INIT_NORMAL_OUT, INIT_ONE, INIT_ZERO, INIT_HEAD };

struct param {
	char name[112];       /* of one matrix; "%d" stands for the expert when stack > 1 */
	int64_t stack;        /* 1, or experts */
	int64_t rows, cols;   /* of one matrix; cols 0: a vector of `rows` */
	int64_t offset, size; /* floats in the arena */
	enum param_init init;
	int decay;            /* weight decay applies */
	int trained;          /* 0: set by a rule, not by a gradient (the router's bias) */
	int bias;             /* index of the vector added to this projection or norm; -1: none */
	int turned;           /* on disk as [cols, rows] (GPT-2's Conv1D) */
};

struct layer_params { /* indices in the table; -1: absent */
	int norm1, q, k, v, o, q_norm, k_norm, norm2;
	int qkv;                                /* fused, or the latent's projection */
	int latent_norm, widen;                 /* latent to keys and values */
	int query_down, query_norm;             /* with query_rank; q widens then */
	int router, router_bias, gate, up, down; /* experts */
	int shared_gate, shared_up, shared_down;
	int dense_gate, dense_up, dense_down;
};

struct params {
	int count;
	struct param *list;
	int64_t floats;       /* of the arena, every parameter aligned to 16 floats */
	int64_t apart;        /* more floats of a gradient, behind the arena: see model_backward; 0 unless tied */
	int64_t parameters;   /* as people count them */
	int64_t active;       /* used by one token: all but the experts not chosen */
	int embed, positions, norm, lm_head, score, score_bias;
	struct layer_params *layer; /* [layers] */
	struct layer_params group;  /* of HEAD_GROUP: norm1, q, k, v, o [H·D, C] (o: [C, H·D]), norm2, dense_* of width PARAMS_GROUP_WIDTH·C */
};

enum { PARAMS_GROUP_WIDTH = 2 };

/* Builds the table in `a`. */
void params_build(struct params *p, const struct shape *s, struct arena *a);
/* Index of a parameter by table name, or -1. */
int params_find(const struct params *p, const char *name);
/* Initial values, in host memory [p->floats]; parameter i draws from (seed, RNG_INIT, i). */
void params_init(const struct params *p, const struct shape *s, uint64_t seed, float *host);
/* View of parameter i in an arena; stacked ones as [stack*rows, cols], vectors as [1, rows]. base NULL gives data NULL. */
struct tensor params_view(const struct params *p, int i, float *base);
float *params_vector(const struct params *p, int i, float *base);

#endif
