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
CUDA_API int K(cuda_reserve)(struct backend *, const struct ops_sizes *);
CUDA_API void K(cuda_wait)(struct backend *);
CUDA_API void K(cuda_weights_changed)(struct backend *, const void *from, size_t bytes);
/* graph.cu, host/graph.c: fills what backend.h has of graphs. */
CUDA_API void K(cuda_graphs)(struct backend *);
/* Aborts while a graph is recorded: `what` cannot be part of it. */
static inline void cuda_not_recorded(struct backend *b, const char *what)
{
	CHECK(!cuda_of(b)->recording, "%s while operations are recorded", what);
}
#ifdef TENFOLD_CUDA_HOST
/* Notes a copy, or with from NULL zeros; 0 when nothing is being recorded. */
int host_note_bytes(struct cuda_backend *, void *to, const void *from, size_t bytes);
/* Scratch of the operation that is being recorded. */
void *host_note_scratch(struct cuda_backend *, size_t bytes);
#else
/* measure.cu */
CUDA_API int cuda_limits(struct backend *, struct backend_limits *);
CUDA_API double cuda_library_product(struct backend *, int64_t m, int64_t n, int64_t k);
#endif
/* Fills the table, but for its name. */
CUDA_API void K(cuda_table)(struct ops *);

#endif
