/* The operations: one const table of functions that a backend fills. The model
 * is written once against it.
 *
 * Rules every backend keeps (the reasons are in docs/exactness.md):
 *  - Batch-invariant: the bits of a row depend on that row alone, never on the
 *    number of rows, on neighbours, on threads or on the instruction set.
 *  - Matrix products: one accumulator per output, reduction index strictly in
 *    order, fused multiply-add; weight gradients run over rows in order and
 *    continue from what is already in the gradient.
 *  - Backward operations ADD into gradients (dx, dw); forward operations write,
 *    unless a comment says add.
 *  - Integer arrays (ids, positions, page tables, routing) are in backend memory too.
 *
 * Activations and gradients are f32; pages of keys and values are f32 or bf16. Weights (`w` of linear and head, gate, up, down, and the tables that rows are gathered
 * from) are f32 or bf16, which is widened.
 *
 * Dimensions: T rows (tokens in packed order), C width, H query heads, J
 * key/value heads, D head size, E experts, K chosen experts, I expert width,
 * V vocabulary. A wrong shape is the caller's mistake and is CHECKed. */
#ifndef TENFOLD_TENSOR_OPS_H
#define TENFOLD_TENSOR_OPS_H

#include "core/base/err.h"
#include "core/tensor/tensor.h"

struct backend;

/* A page of the KV cache, a block of attention and a unit of sparse attention: positions [64b, 64b+64). */
enum { KV_PAGE = 64 };

struct linear_args {
	struct tensor x;    /* [T, in] */
	struct tensor w;    /* [out, in] */
	const float *bias;  /* [out] or NULL */
	struct tensor y;    /* [T, out]; forward result */
	int add;            /* forward: y += instead of y = (residual) */
	struct tensor dy;   /* [T, out] */
	struct tensor dx;   /* [T, in], added; data NULL: not wanted */
	struct tensor dw;   /* [out, in], added; data NULL: not wanted (frozen) */
	float *dbias;       /* [out], added; or NULL */
};

/* RMSNorm y = w·x·rstd (+ bias), or with a place for the mean LayerNorm y = w·(x − mean)·rstd (+ bias). */
struct norm_args {
	struct tensor x;   /* [T, C] */
	const float *w;    /* [C] */
	const float *bias; /* [C] or NULL */
	float eps;
	struct tensor y;   /* [T, C] */
	float *rstd;       /* [T]; written by forward, read by backward */
	float *mean;       /* [T]; the same; NULL: RMSNorm */
	struct tensor dy, dx; /* dx added */
	float *dw;         /* [C], added; NULL: frozen */
	float *dbias;      /* [C], added; or NULL */
};

struct rope_args {
	struct tensor x;       /* [T, heads*D], rotated in place */
	int heads, head_dim;   /* D */
	int first, dims;       /* rotates elements first .. first+dims of each head */
	int interleaved;       /* 0: pairs (i, i+dims/2), Hugging Face style; 1: pairs (2i, 2i+1) */
	const int32_t *pos;    /* [T] */
	const float *cos, *sin; /* [max_positions, dims/2] */
	int inverse;           /* backward: rotate by the negative angle */
};

/* Pages: k [pages, J, Dk, 64] (transposed, so that lanes run over keys), v [pages, J, 64, Dv]. */
struct kv_args {
	void *k_pages, *v_pages;
	int kv_heads, dk, dv;
	struct tensor k;       /* [T, J*Dk] */
	struct tensor v;       /* [T, J*Dv] */
	int64_t writes;        /* entries; a row may be written to several pages (a prompt's tail, copied to each completion) */
	const int32_t *row, *page, *slot; /* [writes] */
	enum dtype pages;      /* type of the pages; in bf16 kv_write rounds. kv_read_add: f32 */
};

struct attention_args {
	struct tensor q;        /* [T, H*Dk] */
	int heads, kv_heads, dk, dv;
	float scale;
	const void *k_pages, *v_pages;
	enum dtype pages;       /* type of these pages */
	const int32_t *tables;  /* [S, table_stride]: pages of a sequence in position order */
	int table_stride;
	const int32_t *row_seq; /* [T] row of `tables` */
	const int32_t *row_pos; /* [T] position: keys 0..pos are visible */
	const uint8_t *blocks;  /* [T, J, table_stride] 1: visit the block; NULL: all (dense). Block of pos itself is always visited */
	struct tensor out;      /* [T, H*Dv] */
	float *lse;             /* [T, H] log-sum-exp, for backward; NULL in inference */
	/* backward */
	struct tensor dout, dq; /* dq added */
	float *dk_pages, *dv_pages; /* same layout as the pages, f32, added */
	int64_t sets;               /* runs of rows that share no page with rows of another run (groups) */
	const int64_t *set_rows;    /* HOST memory, [sets+1]: first row of each run */
};

enum router_kind { ROUTER_SOFTMAX = 0, ROUTER_SIGMOID = 1 };

struct router_args {
	struct tensor logits;   /* [T, E] */
	enum router_kind kind;
	int chosen;             /* K */
	int normalize;          /* weights sum to 1 before scaling */
	float scale;
	const float *bias;      /* [E] added for the choice only, or NULL */
	float *probs;           /* [T, E] scores (softmax or sigmoid) */
	float *lse;             /* [T] log-sum-exp of the logits (z-loss) */
	int32_t *expert;        /* [T, K] ordered by weight descending, then index; ties of the choice go to the lower index */
	float *weight;          /* [T, K] */
	/* backward */
	const float *dweight;      /* [T, K] */
	const float *dprob_balance; /* [E]: gradient of the load-balance loss for every row's probability, or NULL */
	float z_scale;             /* gradient of z-loss: dlogit += z_scale * 2 * lse * softmax */
	struct tensor dlogits;     /* [T, E], written */
};

/* What is added to a stack of matrices: of each expert W + scale·B·A (LoRA, 2106.09685). */
struct low_rank {
	int rank;             /* r; 0: nothing */
	float scale;
	struct tensor a, b;   /* [E*r, in], [E*out, r] */
	struct tensor da, db; /* backward, added; data NULL: frozen */
};

enum { EXPERTS_GATE, EXPERTS_UP, EXPERTS_DOWN, EXPERTS_MATRICES };

struct experts_args {
	struct tensor x;                 /* [T, C] */
	int experts, chosen;             /* E, K */
	const int32_t *expert;           /* [T, K] */
	const float *weight;             /* [T, K] */
	struct tensor gate, up;          /* [E*I, C] */
	struct tensor down;              /* [E*C, I] */
	/* [E] each expert's matrix in bf16, where they do not lie one behind the other (a mapped file) and the tensor has no data; else
	 * NULL. The CPU's alone */
	const void *const *gate_at, *const *up_at, *const *down_at;
	struct tensor out;               /* [T, C]; added: shared experts come first, then the chosen in their order */
	/* kept from forward to backward, all in expert-sorted order */
	int32_t *order;                  /* [3*T*K]: t*K+k of each sorted row, its inverse, row of x of each sorted row */
	int32_t *offset;                 /* [E+1] */
	struct tensor g, u;              /* [T*K, I] pre-activations */
	struct tensor work;              /* [T*K, C + 3*I + 2*(sum of the ranks)] scratch */
	struct low_rank low[EXPERTS_MATRICES];
	/* backward */
	struct tensor dout, dx;          /* dx added */
	float *dweight;                  /* [T, K], written */
	struct tensor dgate, dup, ddown; /* added; data NULL: frozen */
};

struct swiglu_args {
	struct tensor g, u, a; /* [T, I]: a = silu(g)*u */
	struct tensor da, dg, du; /* backward: dg, du written */
};

struct gelu_args {
	struct tensor x, a;   /* [T, I]: a = gelu(x) */
	int exact;            /* 1: x·Φ(x) (erf); 0: the tanh form of GPT-2 ("gelu_new") */
	struct tensor da, dx; /* backward: dx written */
};

/* y[t, c] = scale·x[t, c], and with a rate each element is 0 with this probability, else scaled by 1/(1 − rate) more. Which ones
 * are dropped depends on (seed, stream, first + seq[t], pos[t], c) alone, so that a backward drops the same. */
struct dropout_args {
	struct tensor x, y;        /* [T, C]; y may be x */
	int add;                   /* y += instead of y = */
	float scale, rate;         /* rate in [0, 1); 0: none */
	uint64_t seed, first;      /* first: number of sequence 0, below 2^43 */
	uint32_t stream;
	const int32_t *seq, *pos;  /* [T] */
};

/* Columns moved in runs: y[t, y_first + h·y_step + i] = x[t, x_first + h·x_step + i] for h < heads, i < count. Splits fused
 * projections and joins the parts of a key; a step of 0 gives every head the same columns. Its gradient is the same
 * with x and y exchanged and add = 1, where a step of 0 sums over the heads in order. */
struct columns_args {
	struct tensor x, y;   /* [T, *] */
	int heads, count;
	int64_t x_first, x_step, y_first, y_step;
	int add;              /* y += instead of y = */
};

/* The vocabulary in one pass: log-probability and entropy of softmax(x·wᵀ/temperature) restricted to the
 * top-k / top-p set (the distribution that is sampled from). Rows whose target is negative are ignored. */
struct head_args {
	struct tensor x;         /* [T, C] */
	struct tensor w;         /* [V, C] */
	const int32_t *target;   /* [T] */
	const int32_t *forbidden; /* [T] token that could not come at this row, or -1; NULL: none */
	float temperature;       /* > 0 */
	int top_k;               /* 0: off */
	float top_p;             /* 1: off */
	float *logprob;          /* [T] */
	float *entropy;          /* [T] */
	float *work;             /* [head_rows, V] scratch */
	int64_t work_rows;       /* rows of work; rows are taken in chunks of this */
	const float *dlogprob;   /* [T] */
	const float *dentropy;   /* [T] or NULL */
	struct tensor dx, dw;    /* added; dw.data NULL: frozen */
};

/* out[i] = rng_uniform({seed, purpose}, a, b, c) of core/base/rng.h. */
struct uniforms_args {
	uint64_t seed;
	uint32_t purpose;
	int64_t n;
	const uint32_t *counter; /* [n, 4]: a, low word of b, high word of b, c */
	float *out;              /* [n] in [0,1) */
};

struct sample_args {
	struct tensor logits;    /* [n, V] (raw); overwritten */
	float temperature;       /* 0: greedy (the log-probability is then that of temperature 1) */
	int top_k;
	float top_p;
	const float *uniform;    /* [n] in [0,1) */
	const int32_t *forbidden; /* [n] token that may not come (the end token before min_new_tokens) or -1; NULL: none */
	int32_t *token;          /* [n] */
	float *logprob;          /* [n] */
};

struct adamw_args {
	float *w, *g, *m, *v;    /* [n] */
	int64_t n;
	float lr, beta1, beta2, eps, weight_decay;
	float grad_scale;        /* gradient is multiplied by this (clipping) */
	int64_t step;            /* from 1 */
	int tensorflow;          /* 1: eps is not bias-corrected (TensorFlow); 0: PyTorch */
};

/* The greatest operations to come. 0: none of that kind. */
struct ops_sizes {
	int64_t rows, outs, sets;                    /* of a batch; outs: rows of the vocabulary's operations */
	int64_t width, expert_width, heads, dk, dv;  /* as above */
	int64_t vocab, table_stride;
	int truncates;                               /* top-k or top-p is on */
	int backward;
	int64_t parameters;                          /* of a sum of squares */
};

struct ops {
	const char *name; /* cpu-avx512, cpu-avx2, cpu-generic, cuda-sm90 … */

	/* memory: zeroed; NULL when out of memory */
	void *(*alloc)(struct backend *, size_t bytes);
	void (*release)(struct backend *, void *);
	void (*upload)(struct backend *, void *dst, const void *src, size_t bytes);
	void (*download)(struct backend *, void *dst, const void *src, size_t bytes);
	void (*copy)(struct backend *, void *dst, const void *src, size_t bytes);
	void (*zero)(struct backend *, void *dst, size_t bytes);
	/* Takes the memory that operations up to these sizes work in, so that none of them takes any later. 0 or ERR_MEMORY
	 * (backend_shortage says more). */
	int (*reserve)(struct backend *, const struct ops_sizes *);
	/* until everything asked for so far is done (only a clock needs it: a download waits by itself) */
	void (*wait)(struct backend *);
	/* to[i] = from[i] rounded to bf16 as core/tensor/bf16.h has it (but which NaN a NaN becomes), all of `to`: its sixteen bits, or
	 * where `to` is f32 its value */
	void (*round_bf16)(struct backend *, struct tensor to, const float *from);
	/* Packed or converted forms of the weights in these bytes are stale from now on; from NULL: of all weights. What lies
	 * elsewhere (the frozen base of an adapter, a reference model) is not packed again. */
	void (*weights_changed)(struct backend *, const void *from, size_t bytes);

	void (*embedding_forward)(struct backend *, struct tensor table, const int32_t *ids, struct tensor y);
	void (*embedding_backward)(struct backend *, struct tensor dtable, const int32_t *ids, struct tensor dy);
	void (*norm_forward)(struct backend *, const struct norm_args *);
	void (*norm_backward)(struct backend *, const struct norm_args *);
	void (*rope)(struct backend *, const struct rope_args *);
	void (*linear_forward)(struct backend *, const struct linear_args *);
	void (*linear_backward)(struct backend *, const struct linear_args *);
	void (*kv_write)(struct backend *, const struct kv_args *);
	/* k[row] += page slot for each entry in order: the transpose of kv_write, for gradients */
	void (*kv_read_add)(struct backend *, const struct kv_args *);
	void (*attention_forward)(struct backend *, const struct attention_args *);
	void (*attention_backward)(struct backend *, const struct attention_args *);
	void (*router_forward)(struct backend *, const struct router_args *);
	void (*router_backward)(struct backend *, const struct router_args *);
	void (*experts_forward)(struct backend *, const struct experts_args *);
	void (*experts_backward)(struct backend *, const struct experts_args *);
	void (*swiglu_forward)(struct backend *, const struct swiglu_args *);
	void (*swiglu_backward)(struct backend *, const struct swiglu_args *);
	void (*gelu_forward)(struct backend *, const struct gelu_args *);
	void (*gelu_backward)(struct backend *, const struct gelu_args *);
	void (*dropout)(struct backend *, const struct dropout_args *);
	void (*columns)(struct backend *, const struct columns_args *);
	void (*head_forward)(struct backend *, const struct head_args *);
	void (*head_backward)(struct backend *, const struct head_args *);
	void (*uniforms)(struct backend *, const struct uniforms_args *);
	void (*sample)(struct backend *, const struct sample_args *);
	void (*add)(struct backend *, float *y, const float *x, int64_t n); /* y += x */
	/* y[i] = x[rows[i]] */
	void (*gather_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
	/* y[rows[i]] += x[i] in order of i */
	void (*scatter_add_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *rows);
	/* y[to[i]] = x[from[i]] for i < n, words of 32 bits of whatever kind; from NULL: i. No row of y twice. */
	void (*place_rows)(struct backend *, struct tensor y, struct tensor x, const int32_t *from, const int32_t *to, int64_t n);
	double (*sum_squares)(struct backend *, const float *x, int64_t n); /* fixed tree; not finite when x is not */
	void (*adamw)(struct backend *, const struct adamw_args *);
};

/* device: auto (a GPU where there is one), cpu, cuda (refused by name where it is not built in or not there). isa: auto,
 * avx512, avx2, generic; threads: 0: all; both of the CPU. precision: f32 (NULL: the same), or bf16: products round their
 * inputs to bf16 and add in f32. */
struct backend_options {
	const char *device, *isa;
	int threads;
	const char *precision;
};
int backend_open(struct backend **out, const struct backend_options *, struct err *);
void backend_close(struct backend *);
const struct ops *backend_ops(const struct backend *);
int backend_threads(const struct backend *);
/* What a model's matrices are best held in: DTYPE_BF16 in bf16, whose products read them as they lie; else DTYPE_F32. Operations
 * take either there where `w` or a table says so. */
enum dtype backend_weights(const struct backend *);
/* What keys and values are best held in: DTYPE_BF16 on a GPU in bf16, where reading them is most of a large decoding step; else
 * DTYPE_F32. Operations take either there. */
enum dtype backend_keys(const struct backend *);
/* 1: its memory is the host's (the CPU), and any other memory of the host, such as a mapped file, will do too. */
int backend_on_host(const struct backend *);
/* 1: a sum over rows has the same bits when the rows come in several calls. 0: on a GPU in bf16. */
int backend_rows_divide(const struct backend *);

/* Operations that are recorded once and run again (CUDA graphs). Between begin and end operations are noted and not run;
 * memory may be neither taken nor given back, and the host be neither read nor written (upload, download, wait): that aborts.
 * Addresses and sizes are as they were; what differs from run to run lies in backend memory. */
struct backend_graph;
/* 0: this backend records nothing (the CPU), operations are simply called. */
int backend_has_graphs(const struct backend *);
void backend_graph_begin(struct backend *);
struct backend_graph *backend_graph_end(struct backend *);
/* 0, and nothing is run, when the working memory has moved since: it is to be recorded anew. */
int backend_graph_run(struct backend *, const struct backend_graph *);
void backend_graph_close(struct backend *, struct backend_graph *); /* NULL is legal */

/* What the next allocations are for, a string constant: the table of a shortage sums them up. Without a backend (a plan) nothing is noted. */
void backend_purpose(struct backend *, const char *what);
/* After alloc gave NULL: lines "\n  MiB what" of what was wanted, is free and is taken for what; "" where the backend does not
 * know (the CPU). */
const char *backend_shortage(const struct backend *);

/* Bytes of a device that `reserve` would take; 0: it has no memory of its own. */
size_t backend_scratch(struct backend *, const struct ops_sizes *);
/* How often this backend has taken memory so far, from a device or for itself: in the loop over steps it must not rise. */
uint64_t backend_allocations(const struct backend *);
/* Bytes of a device that a process takes by opening a backend, beside all that is asked for: an estimate. 0: no device. */
size_t backend_process_bytes(const struct backend *);
/* Bytes that are free on the backend's device and that it has; 0: it has no memory of its own (the CPU). */
int backend_memory(struct backend *, size_t *left, size_t *total);

/* What a device can do, measured in a second or two: bytes/s copied (read and written both count), FLOP/s of the vendor's
 * library in the backend's precision. 0: no device; what a processor can do is the caller's to measure. */
struct backend_limits {
	double bytes, flops;
};
int backend_limits(struct backend *, struct backend_limits *);
/* Seconds of y[m, n] = x[m, k]·wᵀ by the fastest of the algorithms that the vendor's library proposes; 0: there is none. */
double backend_library_product(struct backend *, int64_t m, int64_t n, int64_t k);

/* Kernel fingerprint: a hash over the results of every operation on fixed inputs. Two processes with the same
 * fingerprint compute the same bits. */
void backend_fingerprint(struct backend *, char hex[33]);

#endif
