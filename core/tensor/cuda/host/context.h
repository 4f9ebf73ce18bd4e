/* For tests: the CUDA backend with its kernels run on the processor. */
#ifndef TENFOLD_TENSOR_CUDA_HOST_CONTEXT_H
#define TENFOLD_TENSOR_CUDA_HOST_CONTEXT_H

#include "core/tensor/ops.h"

/* precision: f32 or bf16. */
int cuda_host_backend_open(struct backend **out, const char *precision, struct err *);
/* From now on its "device" has this many bytes; 0: as many as there are. */
void cuda_host_backend_limit(struct backend *, size_t bytes);

#endif
