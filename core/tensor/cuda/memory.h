/* Memory and life of the backend: context.cu has it for the device, host/context.c
 * for the tests. */
#ifndef TENFOLD_TENSOR_CUDA_MEMORY_H
#define TENFOLD_TENSOR_CUDA_MEMORY_H

#include "core/tensor/cuda/cuda.h"

CUDA_API void *K(cuda_alloc)(struct backend *, size_t bytes);
CUDA_API void K(cuda_release)(struct backend *, void *);
CUDA_API void K(cuda_upload)(struct backend *, void *dst, const void *src, size_t bytes);
CUDA_API void K(cuda_download)(struct backend *, void *dst, const void *src, size_t bytes);
CUDA_API void K(cuda_copy)(struct backend *, void *dst, const void *src, size_t bytes);
CUDA_API void K(cuda_zero)(struct backend *, void *dst, size_t bytes);
CUDA_API void K(cuda_weights_changed)(struct backend *);
/* Fills the table, but for its name. */
CUDA_API void K(cuda_table)(struct ops *);

#endif
