/* The sampler's numbers, one thread each. */
#include "core/tensor/cuda/kernels/random.h"

enum { THREADS = 128 };

struct uniforms_launch {
	struct uniforms_args a;
};

KERNEL(uniforms_draw, struct uniforms_launch, THREADS)
{
	const struct uniforms_args *a = &arg.a;
	int64_t i = global_thread();
	uint32_t word[4];
	if (i >= a->n) return;
	const uint32_t *c = a->counter + 4 * i;
	d_rng_block(a->seed, a->purpose, c[0], (uint64_t)c[2] << 32 | c[1], c[3], word);
	a->out[i] = d_rng_uniform(word[0]);
}

CUDA_API void K(uniforms)(struct backend *b, const struct uniforms_args *a)
{
	struct uniforms_launch l = {*a};
	LAUNCH(b, uniforms_draw, cuda_blocks(a->n, THREADS), 1, 1, THREADS, l);
}
