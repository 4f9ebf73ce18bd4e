/* Opening a backend by name, and the kernel fingerprint's home. */
#include "core/tensor/backend.h"

#include <string.h>

int backend_open(struct backend **out, const struct backend_options *o, struct err *e)
{
	*out = NULL;
#ifdef TENFOLD_CUDA
	if (!strcmp(o->device, "cuda") || (!strcmp(o->device, "auto") && cuda_devices() > 0)) return cuda_backend_open(out, e);
#endif
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
