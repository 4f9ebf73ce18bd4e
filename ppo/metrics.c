/* Metrics of a step; see metrics.h. */
#include "ppo/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void metrics_clear(struct metrics *m)
{
	m->count = 0;
}

void metrics_put(struct metrics *m, double value, const char *name, ...)
{
	CHECK(m->count < METRICS_MAX, "more than %d metrics in a step", METRICS_MAX);
	va_list ap;
	va_start(ap, name);
	vsnprintf(m->text[m->count], METRICS_NAME, name, ap);
	va_end(ap);
	m->name[m->count] = m->text[m->count];
	m->value[m->count++] = value;
}

double metrics_get(const struct metrics *m, const char *name)
{
	for (int64_t i = 0; i < m->count; i++)
		if (!strcmp(m->name[i], name)) return m->value[i];
	return NAN;
}

void tally_add(struct tally *t, double x)
{
	if (t->n == 0 || x < t->least) t->least = x;
	if (t->n == 0 || x > t->greatest) t->greatest = x;
	t->sum += x;
	t->squares += x * x;
	t->n++;
}

double tally_mean(const struct tally *t)
{
	return t->n ? t->sum / (double)t->n : 0.0;
}

double tally_variance(const struct tally *t)
{
	double mean = tally_mean(t);
	return t->n ? fmax(0.0, t->squares / (double)t->n - mean * mean) : 0.0;
}
