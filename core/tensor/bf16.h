/* bf16, the upper half of an f32: widening is exact, narrowing rounds to the nearest, ties to even; NaN stays NaN. */
#ifndef TENFOLD_TENSOR_BF16_H
#define TENFOLD_TENSOR_BF16_H

#include <stdint.h>
#include <string.h>

static inline uint16_t bf16_round(float x)
{
	uint32_t b;
	memcpy(&b, &x, sizeof b);
	uint32_t rounded = (b + 0x7FFF + (b >> 16 & 1)) >> 16, nan = b >> 16 | 0x40;
	return (uint16_t)((b & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

static inline float bf16_widen(uint16_t h)
{
	uint32_t b = (uint32_t)h << 16;
	float x;
	memcpy(&x, &b, sizeof x);
	return x;
}

#endif
