/* Mixtures: every token once an epoch, shares by weight, any order of asking. */
#include "core/base/rng.h"
#include "policy/mixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SOURCES = 3, LENGTH = 7 };

struct data {
	int32_t *tokens[SOURCES];
	uint64_t *end[SOURCES];
	struct mixture_source source[SOURCES];
};

/* Documents of 1 to 12 tokens; a token tells source, document and place. */
static struct data make(void)
{
	static const uint32_t documents[SOURCES] = { 1, 17, 40 };
	static const double weights[SOURCES] = { 0.2, 3, 0.8 };
	static const char *const names[SOURCES] = { "one", "two", "three" };
	struct data d;
	for (int s = 0; s < SOURCES; s++) {
		uint64_t used = 0;
		d.tokens[s] = calloc(documents[s] * 12, sizeof(int32_t));
		d.end[s] = calloc(documents[s], sizeof(uint64_t));
		for (uint32_t k = 0; k < documents[s]; k++) {
			uint32_t n = 1 + rng_below((struct rng_key){ 3, RNG_TEST }, (uint32_t)s, k, 0, 12);
			for (uint32_t i = 0; i < n; i++) d.tokens[s][used++] = (int32_t)((uint32_t)s * 100000 + k * 100 + i);
			d.end[s][k] = used;
		}
		d.source[s] = (struct mixture_source){ names[s], weights[s], d.tokens[s], d.end[s], documents[s] };
	}
	return d;
}

static void drop(struct data *d)
{
	for (int s = 0; s < SOURCES; s++) free(d->tokens[s]), free(d->end[s]);
}

static struct mixture *open(const struct data *d, uint64_t seed)
{
	struct mixture *m;
	struct err e;
	assert_int_equal(mixture_open(&m, d->source, SOURCES, LENGTH, seed, &e), 0);
	return m;
}

/* The sequences of a source, one behind the other, are its documents, whole and each once an epoch, in orders that differ. */
static void test_epochs(void **state)
{
	(void)state;
	struct data d = make();
	struct mixture *m = open(&d, 5);
	enum { N = 3000 };
	static int32_t stream[SOURCES][N * LENGTH + 1];
	int64_t count[SOURCES] = { 0 }, shares[SOURCES];
	double epochs[SOURCES];
	for (int64_t i = 0; i < N; i++) {
		int32_t x[LENGTH + 1];
		int s = mixture_sequence(m, i, x);
		if (count[s]) assert_int_equal(stream[s][count[s] * LENGTH], x[0]); /* the last was this one's first */
		memcpy(stream[s] + count[s]++ * LENGTH, x, sizeof x);
	}
	mixture_shares(m, N, shares, epochs);
	for (int s = 0; s < SOURCES; s++) {
		uint64_t total = d.source[s].end[d.source[s].documents - 1];
		assert_int_equal(shares[s], count[s]);
		assert_true(epochs[s] * (double)total == (double)count[s] * LENGTH);
		int32_t orders[2][40];
		for (uint64_t epoch = 0; (epoch + 1) * total <= (uint64_t)count[s] * LENGTH; epoch++) {
			int seen[40] = { 0 };
			uint32_t place = 0;
			for (uint64_t at = 0; at < total; place++) {
				int32_t first = stream[s][epoch * total + at], k = first % 100000 / 100;
				uint64_t n = d.end[s][k] - (k ? d.end[s][k - 1] : 0);
				assert_int_equal(first, s * 100000 + k * 100);
				assert_int_equal(seen[k]++, 0);
				for (uint64_t i = 0; i < n; i++) assert_int_equal(stream[s][epoch * total + at + i], first + (int32_t)i);
				if (epoch < 2) orders[epoch][place] = k;
				at += n;
			}
			assert_int_equal(place, d.source[s].documents);
			if (epoch == 1 && place > 1) assert_memory_not_equal(orders[0], orders[1], place * sizeof **orders);
		}
	}
	/* Shares of 5, 75 and 20 %, within four standard deviations. */
	assert_in_range(count[0], 102, 198);
	assert_in_range(count[1], 2155, 2345);
	assert_in_range(count[2], 512, 688);
	mixture_close(m);
	drop(&d);
}

static void test_any_order(void **state)
{
	(void)state;
	struct data d = make();
	struct mixture *m = open(&d, 5), *jumping = open(&d, 5), *other = open(&d, 6);
	enum { N = 10000 };
	int different = 0;
	static int32_t all[N][LENGTH + 1];
	for (int64_t i = 0; i < N; i++) {
		int32_t x[LENGTH + 1];
		mixture_sequence(m, i, all[i]);
		mixture_sequence(other, i, x);
		different += memcmp(x, all[i], sizeof x) != 0;
	}
	assert_true(different > N / 2);
	for (uint32_t k = 0; k < 400; k++) {
		int32_t x[LENGTH + 1];
		int64_t i = rng_below((struct rng_key){ 9, RNG_TEST }, 0, k, 0, N), shares[SOURCES];
		double epochs[SOURCES];
		if (k % 7 == 0) mixture_shares(jumping, N - i, shares, epochs);
		mixture_sequence(jumping, i, x);
		assert_memory_equal(x, all[i], sizeof x);
		if (i) mixture_sequence(jumping, i - 1, x);
		if (i) assert_memory_equal(x, all[i - 1], sizeof x);
	}
	mixture_close(m);
	mixture_close(jumping);
	mixture_close(other);
	drop(&d);
}

static void test_refusals(void **state)
{
	(void)state;
	struct data d = make();
	struct mixture *m;
	struct err e;
	assert_int_equal(mixture_open(&m, d.source, 0, LENGTH, 1, &e), ERR_RANGE);
	d.source[1].weight = 0;
	assert_int_equal(mixture_open(&m, d.source, SOURCES, LENGTH, 1, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "two"));
	d.source[1].weight = 1;
	d.source[2].documents = 0;
	assert_int_equal(mixture_open(&m, d.source, SOURCES, LENGTH, 1, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "three"));
	assert_null(m);
	drop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_epochs), cmocka_unit_test(test_any_order), cmocka_unit_test(test_refusals) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
