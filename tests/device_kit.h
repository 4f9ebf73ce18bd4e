/* Which backend a test of operations or of the model runs on: one source, one
 * program for each device. Without a definition: the CPU. KIT_CUDA_HOST: the
 * CUDA backend's kernels on the processor (their logic, not a GPU; see
 * core/tensor/cuda/host/host.h). KIT_CUDA: a GPU; where there is none the
 * program is counted as skipped. */
#ifndef TENFOLD_TESTS_DEVICE_KIT_H
#define TENFOLD_TESTS_DEVICE_KIT_H

#include "core/tensor/ops.h"

#include <stdio.h>
#include <unistd.h>

#ifdef KIT_CUDA_HOST
#include "core/tensor/cuda/host/context.h"
#endif

#if defined(KIT_CUDA_HOST) || defined(KIT_CUDA)
#define KIT_ON_DEVICE 1
#else
#define KIT_ON_DEVICE 0
#endif

/* The backend under test. isa and threads are for the CPU. */
static __attribute__((unused)) int device_kit_open_in(struct backend **out, const char *isa, int threads, const char *precision, struct err *e)
{
#if defined(KIT_CUDA_HOST)
	(void)isa, (void)threads;
	return cuda_host_backend_open(out, precision, e);
#elif defined(KIT_CUDA)
	return backend_open(out, &(struct backend_options){"cuda", isa, threads, precision}, e);
#else
	return backend_open(out, &(struct backend_options){"cpu", isa, threads, precision}, e);
#endif
}

static __attribute__((unused)) int device_kit_open(struct backend **out, const char *isa, int threads, struct err *e)
{
	return device_kit_open_in(out, isa, threads, "f32", e);
}

#ifdef KIT_CUDA
static __attribute__((constructor)) void device_kit_skip(void)
{
	struct backend *b;
	struct err e;
	if (backend_open(&b, &(struct backend_options){"cuda", "auto", 0, NULL}, &e) < 0) {
		printf("skipped: %s\n", e.msg);
		fflush(stdout);
		_exit(77);
	}
	backend_close(b);
}
#endif

#endif
