/* Labels needed and the stop rule; see estimate.h. */
#include "app/web/estimate.h"

#include "app/web/simulate.h"
#include "core/base/rng.h"

#include <math.h>
#include <string.h>

enum { SAMPLE = 4096 };
static const double Z95 = 1.959963984540054, AGREEMENT_USUAL = 0.73;

static double correlation_of(double accuracy)
{
	return sin(M_PI * (accuracy - 0.5));
}

static double accuracy_of(double information)
{
	return 0.5 + asin(sqrt(information / (1 + information))) / M_PI;
}

/* m·c of an accuracy. */
static double information_of(double accuracy)
{
	double r2 = correlation_of(accuracy) * correlation_of(accuracy);
	return r2 < 1 ? r2 / (1 - r2) : INFINITY;
}

/* Mean of β²·(1 − Σp²) for a choice among k candidates of standard normal scores: the trace of its Fisher information. */
static double choice_information(double beta, uint32_t k)
{
	double sum = 0;
	for (uint32_t i = 0; i < SAMPLE; i++) {
		double e[4], z = 0, square = 0;
		for (uint32_t c = 0; c < k; c++) z += e[c] = exp(beta * rng_normal((struct rng_key){2, RNG_CROWD}, i, UINT64_MAX - 3, c));
		for (uint32_t c = 0; c < k; c++) square += e[c] / z * (e[c] / z);
		sum += beta * beta * (1 - square);
	}
	return sum / SAMPLE;
}

/* Of one label: the trace of the questions' information spread over the n − 1 directions that they can tell apart. */
static double information_before(double agreement, uint32_t n)
{
	struct pick_options o = pick_options_default();
	double beta = simulate_beta(agreement), duel = choice_information(beta, 2);
	uint32_t quads = n > 2 ? (n + 1) / 3 : 0, duels = n > 2 ? 2 * (n + 2) / 5 : 1;
	double quad = n > 3 ? choice_information(beta, 4) + choice_information(beta, 3) : choice_information(beta, 3) + duel;
	/* the pairs of the largest information are near a tie, where it is twice 1/4 */
	double asked = o.uniform * duel + (1 - o.uniform) * 0.5 * beta * beta;
	return n < 2 ? 0 : (quads * quad + duels * asked) / (quads + duels) / (n - 1);
}

double estimate_accuracy(double agreement, uint32_t n, double labels)
{
	return accuracy_of(labels * information_before(agreement, n));
}

double estimate_labels(double agreement, uint32_t n, double accuracy)
{
	double c = information_before(agreement, n);
	return c > 1e-9 ? information_of(accuracy) / c : INFINITY;
}

double estimate_expected(const struct posterior *p)
{
	double sum = 0;
	for (uint32_t a = 0; a < p->n; a++)
		for (uint32_t b = a + 1; b < p->n; b++) {
			double above = posterior_above(p, a, b);
			sum += fmax(above, 1 - above);
		}
	return sum / (p->n * (p->n - 1) / 2.0);
}

void estimate_begin(struct estimate *e)
{
	memset(e, 0, sizeof *e);
}

void estimate_add(struct estimate *e, const struct posterior *p, size_t labels)
{
	e->prompts++;
	if (!p || labels == 0) return;
	double a = estimate_expected(p);
	e->labelled++;
	e->labels += (double)labels;
	e->sum += a;
	e->sum2 += a * a;
}

void estimate_end(struct estimate *e, double target, double agreement, uint32_t n)
{
	double m = (double)e->labelled;
	if (e->labelled == 0) {
		e->accuracy = 0.5;
		e->low = e->high = NAN;
		e->information = information_before(agreement > 0 ? agreement : AGREEMENT_USUAL, n);
	} else {
		e->accuracy = e->sum / m;
		double half = e->labelled > 1 ? Z95 * sqrt(fmax(0, e->sum2 / m - e->accuracy * e->accuracy) / (m - 1)) : 0.5;
		e->low = fmax(0.5, e->accuracy - half);
		e->high = fmin(1, e->accuracy + half);
		e->information = information_of(e->accuracy) / (e->labels / m);
	}
	e->per_prompt = e->information > 1e-9 ? information_of(target) / e->information : INFINITY;
	e->stop = e->labelled > 0 && e->labelled == e->prompts && e->low >= target;
	e->missing = e->stop ? 0 : fmax(0, e->per_prompt * (double)e->prompts - e->labels);
}
