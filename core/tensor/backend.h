/* What every backend's own struct begins with. Internal to core/tensor. */
#ifndef TENFOLD_TENSOR_BACKEND_H
#define TENFOLD_TENSOR_BACKEND_H

#include "core/tensor/account.h"
#include "core/tensor/ops.h"

struct backend {
	const struct ops *ops;
	void (*close)(struct backend *);
	int threads;
	int on_host;         /* see backend_on_host */
	int rows_apart;      /* sums over rows begin anew with each call */
	enum dtype weights;  /* see backend_weights */
	enum dtype keys;     /* see backend_keys */
	size_t process_bytes; /* see backend_process_bytes */
	struct account *account; /* of a device's memory; NULL: none is kept */
	uint64_t allocations;    /* counted by whoever allocates (backend_count), on any thread */
	int (*memory)(struct backend *, size_t *left, size_t *total);       /* NULL: none of its own; then no scratch either */
	size_t (*scratch)(struct backend *, const struct ops_sizes *);
	void (*graph_begin)(struct backend *); /* NULL: no graphs, and the next three are not there */
	struct backend_graph *(*graph_end)(struct backend *);
	int (*graph_run)(struct backend *, const struct backend_graph *);
	void (*graph_close)(struct backend *, struct backend_graph *);
	int (*limits)(struct backend *, struct backend_limits *);           /* NULL: none */
	double (*library)(struct backend *, int64_t m, int64_t n, int64_t k); /* the same */
	const char *identity; /* what the fingerprint takes in besides the results; NULL: nothing */
};

static inline void backend_count(struct backend *b)
{
	__atomic_fetch_add(&b->allocations, 1, __ATOMIC_RELAXED);
}

int cpu_backend_open(struct backend **out, const struct backend_options *, struct err *);
#ifdef TENFOLD_CUDA
int cuda_backend_open(struct backend **out, const struct backend_options *, struct err *);
/* CUDA devices that can be reached. */
int cuda_devices(void);
int cuda_limits(struct backend *, struct backend_limits *);
double cuda_library_product(struct backend *, int64_t m, int64_t n, int64_t k);
#endif

#endif
