/* What every backend's own struct begins with. Internal to core/tensor. */
#ifndef TENFOLD_TENSOR_BACKEND_H
#define TENFOLD_TENSOR_BACKEND_H

#include "core/tensor/ops.h"

struct backend {
	const struct ops *ops;
	void (*close)(struct backend *);
	int threads;
	const char *identity; /* what the fingerprint takes in besides the results; NULL: nothing */
};

int cpu_backend_open(struct backend **out, const struct backend_options *, struct err *);
#ifdef TENFOLD_CUDA
int cuda_backend_open(struct backend **out, struct err *);
/* CUDA devices that can be reached. */
int cuda_devices(void);
#endif

#endif
