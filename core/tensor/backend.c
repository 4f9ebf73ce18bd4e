/* Opening a backend by name, and the kernel fingerprint's home. */
#include "core/tensor/backend.h"

#include <string.h>

int backend_open(struct backend **out, const struct backend_options *o, struct err *e)
{
	*out = NULL;
#ifdef TENFOLD_CUDA
	if (!strcmp(o->device, "cuda") || (!strcmp(o->device, "auto") && cuda_devices() > 0)) return cuda_backend_open(out, o, e);
#endif
	if (o->precision && strcmp(o->precision, "f32") && strcmp(o->precision, "bf16"))
		return err_set(e, ERR_RANGE, "run.precision: %s is neither f32 nor bf16", o->precision);
	if (!strcmp(o->device, "auto") || !strcmp(o->device, "cpu")) return cpu_backend_open(out, o, e);
	return err_set(e, ERR_RANGE, "run.device: %s is not built into this program; use cpu or auto", o->device);
}

void backend_close(struct backend *b)
{
	if (b) b->close(b);
}

const struct ops *backend_ops(const struct backend *b)
{
	return b->ops;
}

int backend_threads(const struct backend *b)
{
	return b->threads;
}

enum dtype backend_weights(const struct backend *b)
{
	return b->weights;
}

enum dtype backend_keys(const struct backend *b)
{
	return b->keys;
}

int backend_on_host(const struct backend *b)
{
	return b->on_host;
}

int backend_rows_divide(const struct backend *b)
{
	return !b->rows_apart;
}

int backend_limits(struct backend *b, struct backend_limits *out)
{
	return b->limits ? b->limits(b, out) : 0;
}

int backend_has_graphs(const struct backend *b)
{
	return b->graph_begin != NULL;
}

void backend_graph_begin(struct backend *b)
{
	CHECK(b->graph_begin, "%s records no operations", b->ops->name);
	b->graph_begin(b);
}

struct backend_graph *backend_graph_end(struct backend *b)
{
	return b->graph_end(b);
}

int backend_graph_run(struct backend *b, const struct backend_graph *g)
{
	return b->graph_run(b, g);
}

void backend_graph_close(struct backend *b, struct backend_graph *g)
{
	if (g) b->graph_close(b, g);
}

uint64_t backend_allocations(const struct backend *b)
{
	return __atomic_load_n(&b->allocations, __ATOMIC_RELAXED);
}

size_t backend_process_bytes(const struct backend *b)
{
	return b->process_bytes;
}

int backend_memory(struct backend *b, size_t *left, size_t *total)
{
	return b->memory ? b->memory(b, left, total) : 0;
}

size_t backend_scratch(struct backend *b, const struct ops_sizes *s)
{
	return b->scratch ? b->scratch(b, s) : 0;
}

double backend_library_product(struct backend *b, int64_t m, int64_t n, int64_t k)
{
	return b->library ? b->library(b, m, n, k) : 0;
}

void backend_purpose(struct backend *b, const char *what)
{
	if (b && b->account) account_purpose(b->account, what);
}

const char *backend_shortage(const struct backend *b)
{
	return b->account ? b->account->shortage : "";
}
