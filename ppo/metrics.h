/* A step's metrics: names and values in the order in which they were put.
 * Names are TRL's and verl's where those have one (docs/guide.md). */
#ifndef TENFOLD_PPO_METRICS_H
#define TENFOLD_PPO_METRICS_H

#include "core/base/err.h"

#include <stdint.h>

enum { METRICS_MAX = 2048, METRICS_NAME = 64 };

struct metrics {
	int64_t count;
	const char *name[METRICS_MAX]; /* into text[] */
	char text[METRICS_MAX][METRICS_NAME];
	double value[METRICS_MAX];
};

void metrics_clear(struct metrics *);
void metrics_put(struct metrics *, double value, const char *name, ...) __attribute__((format(printf, 3, 4)));
/* NaN when there is none of that name. */
double metrics_get(const struct metrics *, const char *name);

/* Running mean, least, greatest. */
struct tally {
	double sum, squares, least, greatest;
	int64_t n;
};
void tally_add(struct tally *, double x);
double tally_mean(const struct tally *);
double tally_variance(const struct tally *);

#endif
