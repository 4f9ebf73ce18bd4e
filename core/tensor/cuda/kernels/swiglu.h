/* SwiGLU of one element (Shazeer, 2002.05202), shared by the dense feed-forward
 * and the experts; the order of the products is the CPU's. */
#ifndef TENFOLD_TENSOR_CUDA_SWIGLU_H
#define TENFOLD_TENSOR_CUDA_SWIGLU_H

#include "core/tensor/cuda/kernels/kernels.h"

DEVICE float swiglu_value(float g, float u)
{
	return g * d_sigmoid(g) * u;
}

struct swiglu_slopes {
	float silu, slope; /* silu(g) and its derivative */
};

DEVICE struct swiglu_slopes swiglu_slopes(float g)
{
	float s = d_sigmoid(g);
	struct swiglu_slopes r = {g * s, s * d_fma(g, 1.0f - s, 1.0f)};
	return r;
}

#endif
