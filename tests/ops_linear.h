/* Linear layers against the naive reference, forward and backward, in f32 and in
 * bf16: there the reference sees rounded inputs (kit_input). */
#ifndef TENFOLD_TESTS_OPS_LINEAR_H
#define TENFOLD_TESTS_OPS_LINEAR_H

#include "tests/ops_kit.h"
#include "tests/ops_reference.h"

/* One shape; flags: 1 bias, 2 add. */
static KIT_UNUSED void linear_case(struct kit *k, int64_t t, int64_t in, int64_t out, int flags)
{
	struct array x = kit_random(k, t * in, 1), w = kit_random(k, out * in, 1), bias = kit_random(k, out, 1), dy = kit_random(k, t * out, 1);
	struct array y = flags & 2 ? kit_random(k, t * out, 1) : kit_nan(k, t * out);
	struct array dx = kit_random(k, t * in, 0.5f), dw = kit_random(k, out * in, 0.5f), db = kit_random(k, out, 0.5f);
	struct linear_args a = {.x = tensor_f32(x.d, t, in), .w = tensor_f32(w.d, out, in), .bias = flags & 1 ? bias.d : NULL,
				.y = tensor_f32(y.d, t, out), .add = flags & 2, .dy = tensor_f32(dy.d, t, out), .dx = tensor_f32(dx.d, t, in),
				.dw = tensor_f32(dw.d, out, in), .dbias = flags & 1 ? db.d : NULL};
	double *xd = kit_input(k, x), *wd = kit_input(k, w), *dyd = kit_input(k, dy), *want = kit_doubles(k, t * out);
	double *wx = kit_doubles(k, t * in), *ww = kit_doubles(k, out * in), *wb = kit_doubles(k, out);
	for (int64_t i = 0; i < t * out; i++) {
		want[i] = flags & 1 ? bias.h[i % out] : 0;
		if (flags & 1) wb[i % out] += dy.h[i]; /* a sum, no product: not rounded */
	}
	ref_linear(xd, wd, want, t, in, out);
	ref_linear_backward(xd, wd, dyd, wx, ww, t, in, out);
	k->ops->linear_forward(k->b, &a);
	k->ops->linear_backward(k->b, &a);
	kit_expect(k, y, flags & 2 ? y.h : NULL, want, "linear %lld x %lld x %lld flags %d", (long long)t, (long long)in, (long long)out, flags);
	kit_expect(k, dx, dx.h, wx, "linear dx %lld x %lld x %lld", (long long)t, (long long)in, (long long)out);
	kit_expect(k, dw, dw.h, ww, "linear dw %lld x %lld x %lld", (long long)t, (long long)in, (long long)out);
	k->typical = 0.5 * sqrt((double)t); /* a chain of t terms of ±1, which may end near zero */
	kit_expect(k, db, db.h, wb, "linear dbias %lld x %lld", (long long)t, (long long)out);
	k->typical = 0;
	kit_clear(k);
}

#endif
