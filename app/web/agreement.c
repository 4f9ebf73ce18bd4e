/* Coefficients of agreement and their bootstrap; see agreement.h. Every
 * coefficient is computed from the units with a multiplicity each: the bootstrap
 * only changes those. */
#include "app/web/agreement.h"

#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { V = AGREEMENT_VALUES_MAX };
static const double Z95 = 1.959963984540054;

/* ---- from judgements to ratings ---- */

/* −1, 0, 1: whether shown[k] is worse than, level with, better than shown[l]; 2: not decided. */
static int decided(const struct judgement *j, uint32_t k, uint32_t l)
{
	uint8_t a = j->rank[k], b = j->rank[l];
	if (a == 0 || b == 0 || (j->kind == JUDGEMENT_BEST_WORST && a == 2 && b == 2)) return 2;
	return a < b ? 1 : a > b ? -1 : 0;
}

size_t agreement_ratings_most(const struct judgement *j, size_t n)
{
	size_t most = 0;
	for (size_t i = 0; i < n; i++) most += (size_t)j[i].count * (j[i].count - 1) / 2;
	return most;
}

static int by_unit(const void *x, const void *y)
{
	const struct agreement_rating *a = x, *b = y;
	if (a->cluster != b->cluster) return a->cluster < b->cluster ? -1 : 1;
	if (a->unit != b->unit) return a->unit < b->unit ? -1 : 1;
	if (a->rater != b->rater) return a->rater < b->rater ? -1 : 1;
	return (a->value > b->value) - (a->value < b->value);
}

/* While collecting, the answer's number stands above the value: the sort then keeps a person's first word first. */
size_t agreement_ratings(struct agreement_rating *out, const struct judgement *j, size_t n)
{
	size_t count = 0, kept = 0;
	CHECK(n < (size_t)INT32_MAX / 4, "%zu answers at once", n);
	for (size_t i = 0; i < n; i++) {
		CHECK(j[i].item < 1u << 20, "item %u: beyond what a unit can name", j[i].item);
		for (uint32_t k = 0; k < j[i].count; k++)
			for (uint32_t l = k + 1; l < j[i].count; l++) {
				int d = decided(&j[i], k, l);
				uint32_t a = j[i].shown[k], b = j[i].shown[l];
				if (d == 2) continue;
				if (a > b) d = -d;
				uint32_t unit = j[i].item * 4096 + (a < b ? a * 64 + b : b * 64 + a);
				out[count++] = (struct agreement_rating){j[i].item, unit, j[i].person, (int32_t)(i * 4) + d + 1};
			}
	}
	qsort(out, count, sizeof *out, by_unit);
	for (size_t i = 0; i < count; i++) {
		if (kept && out[kept - 1].unit == out[i].unit && out[kept - 1].rater == out[i].rater) continue;
		out[kept] = out[i];
		out[kept++].value = out[i].value % 4 - 1;
	}
	return kept;
}

/* ---- coefficients ---- */

struct unit {
	size_t begin, count;
	uint32_t cluster; /* number of the cluster, from 0 */
};

struct table {
	const struct agreement_rating *r;
	struct unit *unit;
	uint32_t units, clusters, raters, values;
	uint8_t *value;    /* [n] index of a rating's value */
	uint16_t *rater;   /* [n] index of its rater */
	double *times;     /* [clusters] multiplicity */
	double delta[V * V]; /* of the interval metric and the nominal one */
	enum agreement_metric metric;
	double *pair;      /* [raters, raters, 2 + 2·values]: units, equal, marginals of both */
};

static double coefficient(double observed, double expected)
{
	return expected < 1 ? (observed - expected) / (1 - expected) : NAN;
}

/* raw and Fleiss: from counts of values per unit. */
static void raw_fleiss(const struct table *t, double *raw, double *fleiss)
{
	double equal = 0, pairs = 0, mean = 0, units = 0, share[V] = {0}, all = 0, expected = 0;
	for (uint32_t u = 0; u < t->units; u++) {
		double w = t->times[t->unit[u].cluster], count[V] = {0}, n = (double)t->unit[u].count, same = 0;
		for (size_t i = 0; i < t->unit[u].count; i++) count[t->value[t->unit[u].begin + i]]++;
		for (uint32_t v = 0; v < t->values; v++) {
			same += count[v] * (count[v] - 1);
			share[v] += w * count[v];
		}
		equal += w * same / 2;
		pairs += w * n * (n - 1) / 2;
		mean += w * same / (n * (n - 1));
		units += w;
		all += w * n;
	}
	for (uint32_t v = 0; v < t->values; v++) expected += share[v] / all * (share[v] / all);
	*raw = pairs > 0 ? equal / pairs : NAN;
	*fleiss = units > 0 ? coefficient(mean / units, expected) : NAN;
}

static double cohen(const struct table *t)
{
	uint32_t width = 2 + 2 * t->values;
	double sum = 0, weight = 0;
	if (!t->pair) return NAN;
	memset(t->pair, 0, (size_t)t->raters * t->raters * width * sizeof *t->pair);
	for (uint32_t u = 0; u < t->units; u++) {
		const struct unit *x = &t->unit[u];
		double w = t->times[x->cluster];
		for (size_t i = x->begin; w > 0 && i < x->begin + x->count; i++)
			for (size_t k = i + 1; k < x->begin + x->count; k++) {
				double *p = t->pair + ((size_t)t->rater[i] * t->raters + t->rater[k]) * width;
				p[0] += w;
				p[1] += t->value[i] == t->value[k] ? w : 0;
				p[2 + t->value[i]] += w;
				p[2 + t->values + t->value[k]] += w;
			}
	}
	for (size_t q = 0; q < (size_t)t->raters * t->raters; q++) {
		const double *p = t->pair + q * width;
		double expected = 0;
		for (uint32_t v = 0; p[0] > 0 && v < t->values; v++) expected += p[2 + v] / p[0] * (p[2 + t->values + v] / p[0]);
		double kappa = p[0] > 0 ? coefficient(p[1] / p[0], expected) : NAN;
		if (isnan(kappa)) continue;
		sum += p[0] * kappa;
		weight += p[0];
	}
	return weight > 0 ? sum / weight : NAN;
}

/* α = 1 − observed/expected disagreement, from the coincidences of values within units. */
static double alpha(const struct table *t)
{
	double o[V * V] = {0}, n[V] = {0}, all = 0, observed = 0, expected = 0, below = 0, middle[V];
	for (uint32_t u = 0; u < t->units; u++) {
		double w = t->times[t->unit[u].cluster], count[V] = {0}, m = (double)t->unit[u].count;
		for (size_t i = 0; i < t->unit[u].count; i++) count[t->value[t->unit[u].begin + i]]++;
		for (uint32_t a = 0; w > 0 && a < t->values; a++)
			for (uint32_t b = 0; count[a] > 0 && b < t->values; b++) o[a * V + b] += w * count[a] * (count[b] - (a == b)) / (m - 1);
	}
	for (uint32_t a = 0; a < t->values; a++) {
		for (uint32_t b = 0; b < t->values; b++) n[a] += o[a * V + b];
		middle[a] = below + n[a] / 2; /* of the ordinal metric: values of a rank as one step each */
		below += n[a];
		all += n[a];
	}
	for (uint32_t a = 0; a < t->values; a++)
		for (uint32_t b = 0; b < t->values; b++) {
			double d = t->metric == AGREEMENT_ORDINAL ? (middle[a] - middle[b]) * (middle[a] - middle[b]) : t->delta[a * V + b];
			observed += o[a * V + b] * d;
			expected += n[a] * n[b] * d;
		}
	return expected > 0 ? 1 - (all - 1) * observed / expected : NAN;
}

static void coefficients(const struct table *t, double out[4])
{
	raw_fleiss(t, &out[0], &out[2]);
	out[1] = cohen(t);
	out[3] = alpha(t);
}

/* ---- the table ---- */

/* Index of x in a sorted list, which it is put into when it is new; -1: the list is full. */
static int index_of(int64_t *list, uint32_t *count, uint32_t most, int64_t x)
{
	uint32_t at = 0;
	while (at < *count && list[at] < x) at++;
	if (at < *count && list[at] == x) return (int)at;
	if (*count == most) return -1;
	memmove(list + at + 1, list + at, (*count - at) * sizeof *list);
	list[at] = x;
	++*count;
	return (int)at;
}

/* Units of at least two ratings. */
static void find_units(struct table *t, size_t n)
{
	uint32_t last = UINT32_MAX;
	for (size_t i = 0, k; i < n; i = k) {
		for (k = i + 1; k < n && t->r[k].cluster == t->r[i].cluster && t->r[k].unit == t->r[i].unit; k++) continue;
		if (k - i < 2) continue;
		if (t->units == 0 || t->r[i].cluster != last) t->clusters++;
		last = t->r[i].cluster;
		t->unit[t->units++] = (struct unit){i, k - i, t->clusters - 1};
	}
}

static int find_values(struct table *t, struct err *e)
{
	int64_t value[V], rater[AGREEMENT_RATERS_MAX];
	int many = 0;
	for (uint32_t pass = 0; pass < 2; pass++) /* indices are final when the lists are */
		for (uint32_t u = 0; u < t->units; u++)
			for (size_t i = t->unit[u].begin; i < t->unit[u].begin + t->unit[u].count; i++) {
				int v = index_of(value, &t->values, V, t->r[i].value);
				int p = many ? 0 : index_of(rater, &t->raters, AGREEMENT_RATERS_MAX, t->r[i].rater);
				if (v < 0) return err_set(e, ERR_RANGE, "ratings have more than %d different values", V);
				many |= p < 0;
				t->value[i] = (uint8_t)v;
				t->rater[i] = (uint16_t)p;
			}
	for (uint32_t a = 0; a < t->values; a++)
		for (uint32_t b = 0; b < t->values; b++) {
			double d = (double)(value[a] - value[b]);
			t->delta[a * V + b] = t->metric == AGREEMENT_INTERVAL ? d * d : a != b;
		}
	if (many) return 0;
	t->pair = calloc((size_t)t->raters * t->raters * (2 + 2 * t->values) + 1, sizeof *t->pair);
	return t->pair ? 0 : err_set(e, ERR_MEMORY, "no memory for the pairs of %u people", t->raters);
}

static int ascending(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

/* Percentile intervals over resamples of the clusters; undefined resamples (one value only) are left out. */
static int bootstrap(const struct table *t, struct agreement_value *const out[4], uint64_t seed, uint32_t resamples, struct err *e)
{
	double *drawn = calloc((size_t)resamples * 4 + 1, sizeof *drawn);
	if (!drawn) return err_set(e, ERR_MEMORY, "no memory for %u resamples", resamples);
	for (uint32_t s = 0; s < resamples; s++) {
		double c[4];
		memset(t->times, 0, t->clusters * sizeof *t->times);
		for (uint32_t i = 0; i < t->clusters; i++) t->times[rng_below((struct rng_key){seed, RNG_BOOTSTRAP}, s, i, 0, t->clusters)]++;
		coefficients(t, c);
		for (int k = 0; k < 4; k++) drawn[(size_t)k * resamples + s] = c[k];
	}
	for (int k = 0; k < 4; k++) {
		double *d = drawn + (size_t)k * resamples;
		uint32_t n = 0;
		for (uint32_t s = 0; s < resamples; s++)
			if (!isnan(d[s])) d[n++] = d[s];
		if (n == 0 || isnan(out[k]->value)) continue;
		qsort(d, n, sizeof *d, ascending);
		out[k]->low = d[(uint32_t)(0.025 * (n - 1) + 0.5)];
		out[k]->high = d[(uint32_t)(0.975 * (n - 1) + 0.5)];
	}
	free(drawn);
	return 0;
}

int agreement_compute(struct agreement *out, struct agreement_rating *r, size_t n, enum agreement_metric metric, uint64_t seed, uint32_t resamples,
		      struct err *e)
{
	struct table t = {.r = r, .metric = metric};
	struct agreement_value *const value[4] = {&out->raw, &out->cohen, &out->fleiss, &out->alpha};
	double c[4];
	int rc = 0;
	memset(out, 0, sizeof *out);
	if (n) qsort(r, n, sizeof *r, by_unit);
	t.unit = calloc(n / 2 + 1, sizeof *t.unit);
	t.value = calloc(n + 1, sizeof *t.value);
	t.rater = calloc(n + 1, sizeof *t.rater);
	if (!t.unit || !t.value || !t.rater) TRY(err_set(e, ERR_MEMORY, "no memory for %zu ratings", n));
	find_units(&t, n);
	t.times = calloc((size_t)t.clusters + 1, sizeof *t.times);
	if (!t.times) TRY(err_set(e, ERR_MEMORY, "no memory for %zu ratings", n));
	TRY(find_values(&t, e));
	for (uint32_t i = 0; i < t.clusters; i++) t.times[i] = 1;
	coefficients(&t, c);
	for (int k = 0; k < 4; k++) *value[k] = (struct agreement_value){c[k], NAN, NAN};
	for (uint32_t u = 0; u < t.units; u++) out->ratings += t.unit[u].count;
	out->units = t.units;
	out->raters = t.raters;
	if (resamples && t.clusters) TRY(bootstrap(&t, value, seed, resamples, e));
out:
	free(t.unit);
	free(t.value);
	free(t.rater);
	free(t.times);
	free(t.pair);
	return rc;
}

/* ---- shares ---- */

struct agreement_share agreement_share_of(double hits, uint64_t n)
{
	if (n == 0) return (struct agreement_share){NAN, NAN, NAN, 0};
	double m = (double)n, p = hits / m, z2 = Z95 * Z95, centre = (p + z2 / (2 * m)) / (1 + z2 / m);
	double half = Z95 / (1 + z2 / m) * sqrt(p * (1 - p) / m + z2 / (4 * m * m));
	return (struct agreement_share){p, fmax(0, centre - half), fmin(1, centre + half), n};
}

struct agreement_share agreement_left_wins(const struct judgement *j, size_t n)
{
	uint64_t wins = 0, all = 0;
	for (size_t i = 0; i < n; i++) {
		if (j[i].kind != JUDGEMENT_DUEL || j[i].rank[0] == j[i].rank[1]) continue;
		all++;
		wins += j[i].rank[0] == 1;
	}
	return agreement_share_of((double)wins, all);
}

struct agreement_share agreement_place_wins(const struct judgement *j, size_t n, uint32_t place)
{
	uint64_t wins = 0, all = 0;
	for (size_t i = 0; i < n; i++) {
		int tie = j[i].rank[0] == 1 && j[i].rank[1] == 1;
		if (j[i].kind != JUDGEMENT_BEST_WORST || place >= j[i].count || tie || !judgement_ranked(&j[i])) continue;
		all++;
		wins += j[i].rank[place] == 1;
	}
	return agreement_share_of((double)wins, all);
}

struct agreement_share agreement_length_wins(const struct judgement *j, size_t n, uint32_t (*length)(const void *ctx, uint32_t item, uint32_t candidate),
					     const void *ctx)
{
	uint64_t wins = 0, all = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t best = 0, worst = 0;
		if (!judgement_ranked(&j[i])) continue;
		for (uint32_t k = 0; k < j[i].count; k++) {
			if (j[i].rank[k] && (!j[i].rank[best] || j[i].rank[k] < j[i].rank[best])) best = k;
			if (j[i].rank[k] > j[i].rank[worst]) worst = k;
		}
		uint32_t b = length(ctx, j[i].item, j[i].shown[best]), w = length(ctx, j[i].item, j[i].shown[worst]);
		if (j[i].rank[best] == j[i].rank[worst] || b == w) continue;
		all++;
		wins += b > w;
	}
	return agreement_share_of((double)wins, all);
}

/* What a says of candidates x and y: as decided(). */
static int said(const struct judgement *a, uint8_t x, uint8_t y)
{
	uint32_t k = 0, l = 0;
	while (k < a->count && a->shown[k] != x) k++;
	while (l < a->count && a->shown[l] != y) l++;
	return k < a->count && l < a->count ? decided(a, k, l) : 2;
}

void agreement_same(const struct judgement *a, const struct judgement *b, uint64_t *alike, uint64_t *pairs)
{
	*alike = *pairs = 0;
	for (uint32_t k = 0; k < a->count; k++)
		for (uint32_t l = k + 1; l < a->count; l++) {
			int x = decided(a, k, l), y = said(b, a->shown[k], a->shown[l]);
			if (x == 2 || y == 2) continue;
			++*pairs;
			*alike += x == y;
		}
}

void agreement_gold(const struct judgement *j, int best, int worst, double *right, uint64_t *pairs)
{
	*right = 0;
	*pairs = 0;
	for (uint32_t k = 0; k < j->count; k++)
		for (uint32_t l = k + 1; l < j->count; l++) {
			int d = decided(j, k, l), a = j->shown[k], b = j->shown[l];
			int should = a == best || b == worst ? 1 : b == best || a == worst ? -1 : 0;
			if (d == 2 || should == 0) continue;
			++*pairs;
			*right += d == 0 ? 0.5 : d == should;
		}
}

double agreement_ceiling(double agreement)
{
	return (1 + sqrt(2 * agreement - 1)) / 2;
}
