/* Repetitions and their statistics; see bench.h. */
#include "app/bench.h"
#include "core/base/fs.h"

#include <stdlib.h>

enum { SAMPLES = 4096, AT_LEAST = 5 };

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

void bench_time_of(double *x, int n, struct bench_time *out)
{
	CHECK(n > 0, "no measurement");
	qsort(x, (size_t)n, sizeof *x, ascending);
	*out = (struct bench_time){n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]), x[0], x[n - 1]};
}

void bench_repeat(double seconds, void (*fn)(void *), void *arg, struct bench_time *out)
{
	double sample[SAMPLES];
	int n = 0;
	fn(arg);
	for (double end = fs_now() + seconds; n < SAMPLES && (n < AT_LEAST || fs_now() < end);) {
		double start = fs_now();
		fn(arg);
		sample[n++] = fs_now() - start;
	}
	bench_time_of(sample, n, out);
}
