/* What the tests of the operations share: guarded arrays in backend memory, the
 * comparer, and central differences.
 *
 * An array has guard words on both sides. Inputs are drawn from the counter-based
 * generator (the same on every machine); outputs that an operation writes start
 * as NaN, gradients that it adds to start from random values that the comparison
 * takes away again. The error is normalised: sqrt(Σ(got − want)² / Σ want²), with
 * want computed naively in double.
 *
 * The tolerance is 1e-6: an f32 operation rounds each step by at most 6e-8 and the
 * rounding errors of a chain of some hundred steps add like a random walk, so that
 * 1e-6 leaves a factor of about three, while a dropped term, a wrong lane or a
 * wrong index is an error of 1e-3 and more at these sizes. */
#ifndef TENFOLD_TESTS_OPS_KIT_H
#define TENFOLD_TESTS_OPS_KIT_H

#include "core/base/rng.h"
#include "core/tensor/bf16.h"
#include "tests/device_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIT_UNUSED __attribute__((unused))

enum { KIT_ARRAYS = 128, KIT_GUARD = 64 };
#define KIT_TOLERANCE 1e-6

static const int64_t kit_sizes[] = {1, 3, 17, 33, 127, 128};
enum { KIT_SIZES = 6 };

/* A device pointer and its host copy; n items of 4 bytes. */
struct array {
	float *d, *h;
	int64_t n;
};
struct ints {
	int32_t *d, *h;
	int64_t n;
};

struct kit {
	struct backend *b;
	const struct ops *ops;
	int bf16;         /* products see rounded inputs */
	double tolerance; /* 0: KIT_TOLERANCE */
	double typical; /* size of a result when nothing cancels; 0: as found. For shapes of one output, which may cancel */
	uint32_t draws; /* arrays drawn so far: part of the generator's key */
	int arrays, hosts;
	struct {
		unsigned char *base;
		size_t bytes;
	} array[KIT_ARRAYS];
	void *host[KIT_ARRAYS * 4];
};

static KIT_UNUSED void kit_open_in(struct kit *k, const char *isa, int threads, const char *precision)
{
	struct err e;
	memset(k, 0, sizeof *k);
	if (device_kit_open_in(&k->b, isa, threads, precision, &e) < 0) {
		k->b = NULL;
		return;
	}
	k->ops = backend_ops(k->b);
	k->bf16 = !strcmp(precision, "bf16");
}

static KIT_UNUSED void kit_open(struct kit *k, const char *isa, int threads)
{
	kit_open_in(k, isa, threads, "f32");
}

static KIT_UNUSED void *kit_host(struct kit *k, size_t bytes)
{
	assert_true(k->hosts < KIT_ARRAYS * 4);
	void *p = calloc(1, bytes + 8);
	assert_non_null(p);
	k->host[k->hosts++] = p;
	return p;
}

static KIT_UNUSED double *kit_doubles(struct kit *k, int64_t n)
{
	return kit_host(k, (size_t)n * sizeof(double));
}

/* Guarded memory of the backend. */
static KIT_UNUSED void *kit_device(struct kit *k, size_t bytes)
{
	unsigned char guard[KIT_GUARD];
	memset(guard, 0xA5, sizeof guard);
	assert_true(k->arrays < KIT_ARRAYS);
	unsigned char *base = k->ops->alloc(k->b, bytes + 2 * KIT_GUARD);
	assert_non_null(base);
	k->ops->upload(k->b, base, guard, KIT_GUARD);
	k->ops->upload(k->b, base + KIT_GUARD + bytes, guard, KIT_GUARD);
	k->array[k->arrays].base = base;
	k->array[k->arrays++].bytes = bytes;
	return base + KIT_GUARD;
}

/* 1 when the guard words of every array are intact. */
static KIT_UNUSED int kit_guards_hold(struct kit *k)
{
	for (int i = 0; i < k->arrays; i++) {
		unsigned char g[2 * KIT_GUARD];
		k->ops->download(k->b, g, k->array[i].base, KIT_GUARD);
		k->ops->download(k->b, g + KIT_GUARD, k->array[i].base + KIT_GUARD + k->array[i].bytes, KIT_GUARD);
		for (int j = 0; j < 2 * KIT_GUARD; j++)
			if (g[j] != 0xA5) return 0;
	}
	return 1;
}

/* Checks the guards and frees all arrays; the backend stays open. */
static KIT_UNUSED void kit_clear(struct kit *k)
{
	int hold = kit_guards_hold(k);
	for (int i = 0; i < k->arrays; i++) k->ops->release(k->b, k->array[i].base);
	for (int i = 0; i < k->hosts; i++) free(k->host[i]);
	k->arrays = k->hosts = 0;
	assert_true(hold);
}

static KIT_UNUSED void kit_close(struct kit *k)
{
	if (!k->b) return;
	kit_clear(k);
	backend_close(k->b);
}

/* Of a group of tests: one kit in f32, two threads. */
static KIT_UNUSED int kit_setup(void **state)
{
	static struct kit k;
	kit_open(&k, "auto", 2);
	*state = &k;
	return k.b ? 0 : -1;
}

static KIT_UNUSED int kit_teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static KIT_UNUSED void kit_push(struct kit *k, struct array a)
{
	k->ops->upload(k->b, a.d, a.h, (size_t)a.n * 4);
}

static KIT_UNUSED void kit_pull(struct kit *k, struct array a)
{
	k->ops->download(k->b, a.h, a.d, (size_t)a.n * 4);
}

/* Uniform in ±scale. */
static KIT_UNUSED struct array kit_random(struct kit *k, int64_t n, float scale)
{
	struct array a = {kit_device(k, (size_t)n * 4), kit_host(k, (size_t)n * 4), n};
	uint32_t draw = k->draws++;
	for (int64_t i = 0; i < n; i++) a.h[i] = scale * (2.0f * rng_uniform((struct rng_key){7, RNG_TEST}, draw, (uint64_t)i, 0) - 1.0f);
	kit_push(k, a);
	return a;
}

/* An output that is to be written: NaN before. */
static KIT_UNUSED struct array kit_nan(struct kit *k, int64_t n)
{
	struct array a = {kit_device(k, (size_t)n * 4), kit_host(k, (size_t)n * 4), n};
	for (int64_t i = 0; i < n; i++) a.h[i] = NAN;
	kit_push(k, a);
	return a;
}

static KIT_UNUSED struct ints kit_ints(struct kit *k, int64_t n)
{
	return (struct ints){kit_device(k, (size_t)n * 4), kit_host(k, (size_t)n * 4), n};
}

static KIT_UNUSED void kit_push_ints(struct kit *k, struct ints a)
{
	k->ops->upload(k->b, a.d, a.h, (size_t)a.n * 4);
}

static KIT_UNUSED struct ints kit_ints_below(struct kit *k, int64_t n, uint32_t below)
{
	struct ints a = kit_ints(k, n);
	uint32_t draw = k->draws++;
	for (int64_t i = 0; i < n; i++) a.h[i] = (int32_t)rng_below((struct rng_key){7, RNG_TEST}, draw, (uint64_t)i, 1, below);
	kit_push_ints(k, a);
	return a;
}

static KIT_UNUSED double *kit_widen(struct kit *k, struct array a)
{
	double *p = kit_doubles(k, a.n);
	for (int64_t i = 0; i < a.n; i++) p[i] = a.h[i];
	return p;
}

/* The same of what a product takes: rounded where the backend rounds it. */
static KIT_UNUSED double *kit_input(struct kit *k, struct array a)
{
	double *d = kit_widen(k, a);
	for (int64_t i = 0; k->bf16 && i < a.n; i++) d[i] = (double)bf16_widen(bf16_round(a.h[i]));
	return d;
}

/* sqrt(Σ(got − before − want)² / Σ want²), at least n·typical² below the line; infinite when anything is not finite or
 * want is all zero and got is not. */
static KIT_UNUSED double kit_error(const float *got, const float *before, const double *want, int64_t n, double typical)
{
	double diff = 0, norm = 0, least = (double)n * typical * typical;
	for (int64_t i = 0; i < n; i++) {
		double d = (double)got[i] - (before ? (double)before[i] : 0.0) - want[i];
		if (!isfinite(d)) return INFINITY;
		diff += d * d;
		norm += want[i] * want[i] + (before ? (double)before[i] * (double)before[i] : 0.0);
	}
	norm = norm > least ? norm : least;
	if (norm == 0) return diff == 0 ? 0 : INFINITY;
	return sqrt(diff / norm);
}

/* Downloads `a`, which held `before` (NULL: it was written, not added to), and compares. */
static KIT_UNUSED void kit_expect(struct kit *k, struct array a, const float *before, const double *want, const char *fmt, ...)
{
	float *got = kit_host(k, (size_t)a.n * 4);
	k->ops->download(k->b, got, a.d, (size_t)a.n * 4);
	double error = kit_error(got, before, want, a.n, k->typical);
	double tolerance = k->tolerance > 0 ? k->tolerance : KIT_TOLERANCE;
	if (error <= tolerance) return;
	char what[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	fail_msg("%s: normalised error %.3g > %.3g", what, error, tolerance);
}

/* Central differences of loss(ctx) by parameters p[0..n), at no more than `samples` places, against grad. The differences
 * of a smooth double function with h = 1e-5 are right to about 1e-9; the scale is the largest gradient seen. */
static KIT_UNUSED void kit_differences(double (*loss)(void *), void *ctx, double *p, const double *grad, int64_t n, int samples, const char *what)
{
	int64_t step = n / samples + 1;
	double worst = 0, scale = 1e-3;
	for (int64_t i = 0; i < n; i += step) {
		double keep = p[i], h = 1e-5;
		p[i] = keep + h;
		double up = loss(ctx);
		p[i] = keep - h;
		double down = loss(ctx);
		p[i] = keep;
		double d = fabs((up - down) / (2 * h) - grad[i]);
		worst = d > worst ? d : worst;
		scale = fabs(grad[i]) > scale ? fabs(grad[i]) : scale;
	}
	if (worst > 1e-6 * scale) fail_msg("%s: differs from central differences by %.3g of %.3g", what, worst, scale);
}

static KIT_UNUSED double kit_dot(const double *a, const double *b, int64_t n)
{
	double s = 0;
	for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
	return s;
}

#endif
