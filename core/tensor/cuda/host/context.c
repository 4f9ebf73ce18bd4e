/* Memory and life of the backend when its kernels run on the processor; see
 * host.h for what that is good for. "Device" memory is the host's. */
#include "core/tensor/cuda/host/context.h"
#include "core/tensor/cuda/memory.h"

#include <stdlib.h>

static size_t taken(const struct account *a)
{
	size_t sum = 0;
	for (int i = 0; i < a->purposes; i++) sum += a->bytes[i];
	return sum;
}

void *K(cuda_alloc)(struct backend *b, size_t bytes)
{
	struct cuda_backend *c = cuda_of(b);
	cuda_not_recorded(b, "memory is taken");
	size_t left = c->limit > taken(&c->account) ? c->limit - taken(&c->account) : 0;
	if (c->limit && bytes > left) {
		account_short(&c->account, bytes, left, c->limit);
		return NULL;
	}
	void *p = calloc(1, bytes ? bytes : 1);
	CHECK(p, "out of memory: %zu bytes", bytes);
	account_take(&c->account, p, bytes);
	backend_count(b);
	return p;
}

void K(cuda_release)(struct backend *b, void *p)
{
	cuda_not_recorded(b, "memory is given back");
	account_give(b->account, p);
	free(p);
}

static int host_memory(struct backend *b, size_t *left, size_t *total)
{
	const struct cuda_backend *c = cuda_of(b);
	*total = c->limit;
	*left = c->limit > taken(&c->account) ? c->limit - taken(&c->account) : 0;
	return c->limit > 0;
}

void K(cuda_upload)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	cuda_not_recorded(b, "the host is read or written");
	if (bytes) memcpy(dst, src, bytes);
}

void K(cuda_download)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	K(cuda_upload)(b, dst, src, bytes);
}

void K(cuda_copy)(struct backend *b, void *dst, const void *src, size_t bytes)
{
	if (bytes && !host_note_bytes(cuda_of(b), dst, src, bytes)) memmove(dst, src, bytes);
}

void K(cuda_zero)(struct backend *b, void *dst, size_t bytes)
{
	if (bytes && !host_note_bytes(cuda_of(b), dst, NULL, bytes)) memset(dst, 0, bytes);
}

void K(cuda_wait)(struct backend *b)
{
	cuda_not_recorded(b, "the host waits");
}

void K(cuda_weights_changed)(struct backend *b, const void *from, size_t bytes)
{
	(void)b, (void)from, (void)bytes;
}

/* The device's scratch grows and stays; here only its size is kept, so that growing is counted the same. */
static int scratch_grow(struct backend *b, size_t bytes)
{
	struct cuda_backend *c = cuda_of(b);
	if (c->scratch_bytes >= bytes) return 0;
	void *p = K(cuda_alloc)(b, bytes);
	if (!p) return -1;
	K(cuda_release)(b, p);
	c->scratch_bytes = bytes;
	return 0;
}

int K(cuda_reserve)(struct backend *b, const struct ops_sizes *s)
{
	return scratch_grow(b, K(cuda_scratch_plan)(b, s)) < 0 ? ERR_MEMORY : 0;
}

void *K(cuda_scratch)(struct backend *b, size_t bytes)
{
	struct cuda_backend *c = cuda_of(b);
	CHECK(scratch_grow(b, bytes) == 0, "out of device memory for scratch:%s", backend_shortage(b));
	if (c->recording) return host_note_scratch(c, bytes);
	/* always another piece: what a kernel leaves there for the next operation by mistake is lost */
	free(c->scratch);
	c->scratch = (char *)malloc(bytes ? bytes : 1);
	CHECK(c->scratch, "out of memory: %zu bytes of scratch", bytes);
	memset(c->scratch, 0xff, bytes);
	return c->scratch;
}

static void cuda_host_close(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	host_machine_close(b->machine);
	account_close(&b->account);
	free(b->scratch);
	free(b);
}

void cuda_host_backend_limit(struct backend *b, size_t bytes)
{
	cuda_of(b)->limit = bytes;
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
	b->base.account = &b->account;
	b->base.memory = host_memory;
	K(cuda_graphs)(&b->base);
	b->base.scratch = K(cuda_scratch_plan);
	b->bf16 = !strcmp(precision, "bf16");
	b->base.rows_apart = b->bf16;
	b->base.weights = b->base.keys = b->bf16 ? DTYPE_BF16 : DTYPE_F32;
	b->processors = 3;
	b->machine = host_machine_open();
	*out = &b->base;
	return 0;
}
