/* The parts of rng.h that are not inline. */
#include "core/base/rng.h"

#include <math.h>

double rng_normal(struct rng_key key, uint32_t a, uint64_t b, uint32_t c)
{
	uint32_t o[4];
	rng_block(key, a, b, c, o);
	double u = ((double)o[0] + 0.5) * 0x1p-32, v = (double)o[1] * 0x1p-32;
	return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

void rng_permutation(struct rng_key key, uint32_t a, uint32_t b, uint32_t n, uint32_t *order)
{
	for (uint32_t i = 0; i < n; i++) order[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		uint32_t j = rng_below(key, a, b, i, i), t = order[i - 1];
		order[i - 1] = order[j];
		order[j] = t;
	}
}
