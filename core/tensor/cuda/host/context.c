/* Memory and life of the backend when its kernels run on the processor; see
 * host.h for what that is good for. "Device" memory is the host's. */
#include "core/tensor/cuda/host/context.h"
#include "core/tensor/cuda/memory.h"

#include <stdlib.h>

void *K(cuda_alloc)(struct backend *b, size_t bytes)
{
	(void)b;
	return calloc(1, bytes ? bytes : 1);
}

void K(cuda_release)(struct backend *b, void *p)
{
	(void)b;
	free(p);
}

void K(cuda_upload)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	(void)b;
	if (bytes) memcpy(dst, src, bytes);
}

void K(cuda_download)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	K(cuda_upload)(b, dst, src, bytes);
}

void K(cuda_copy)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	(void)b;
	if (bytes) memmove(dst, src, bytes);
}

void K(cuda_zero)(struct backend *b, void *dst, size_t bytes)
{
	(void)b;
	if (bytes) memset(dst, 0, bytes);
}

void K(cuda_wait)(struct backend *b)
{
	(void)b;
}

void K(cuda_weights_changed)(struct backend *b)
{
	(void)b;
}

void *K(cuda_scratch)(struct backend *b, size_t bytes)
{
	struct cuda_backend *c = cuda_of(b);
	/* always another piece: what a kernel leaves there for the next operation by mistake is lost */
	free(c->scratch);
	c->scratch = (char *)malloc(bytes ? bytes : 1);
	CHECK(c->scratch, "out of memory: %zu bytes of scratch", bytes);
	memset(c->scratch, 0xff, bytes);
	return c->scratch;
}

void K(cuda_send)(struct backend *b, void *device, const void *host, size_t bytes)
{
	K(cuda_upload)(b, device, host, bytes);
}

static void cuda_host_close(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	host_machine_close(b->machine);
	free(b->scratch);
	free(b);
}

int cuda_host_backend_open(struct backend **out, const char *precision, struct err *e)
{
	*out = NULL;
	if (!__builtin_cpu_supports("fma")) return err_set(e, ERR_STATE, "this processor has no fused multiply-add: kernels on the host need it");
	struct cuda_backend *b = (struct cuda_backend *)calloc(1, sizeof *b);
	CHECK(b, "out of memory for a backend");
	K(cuda_table)(&b->ops);
	b->ops.name = "cuda-host";
	b->base.ops = &b->ops;
	b->base.close = cuda_host_close;
	b->base.threads = 1;
	strcpy(b->identity, "kernels of the CUDA backend, run on the processor: no GPU");
	b->base.identity = b->identity;
	b->bf16 = !strcmp(precision, "bf16");
	b->processors = 3;
	b->machine = host_machine_open();
	*out = &b->base;
	return 0;
}
