/* The numbers of core/base/rng.h, word for word (Philox4x32-10; Salmon et al., SC 2011), on the device. */
#ifndef TENFOLD_TENSOR_CUDA_RANDOM_H
#define TENFOLD_TENSOR_CUDA_RANDOM_H

#ifdef __cplusplus
extern "C" {
#endif
#include "core/base/rng.h"
#ifdef __cplusplus
}
#endif
#include "core/tensor/cuda/kernels/kernels.h"

/* rng_block of the key {seed, purpose}. */
DEVICE void d_rng_block(uint64_t seed, uint32_t purpose, uint32_t a, uint64_t b, uint32_t c, uint32_t out[4])
{
	uint32_t x0 = c, x1 = a, x2 = (uint32_t)b, x3 = (uint32_t)(b >> 32);
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ (purpose * 0x9E3779B1u);
	for (int i = 0; i < 10; i++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
		uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
		x1 = (uint32_t)p1;
		x3 = (uint32_t)p0;
		x0 = y0;
		x2 = y2;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* rng_uniform's number from its word. */
DEVICE float d_rng_uniform(uint32_t word)
{
	return (float)(word >> 8) * 5.9604644775390625e-8f;
}

#endif
