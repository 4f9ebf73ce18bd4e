/* For the tests of scoring: groups that are easy to make, and a scorer whose
 * result is easy to foretell, that can be slow, or broken for one prompt. */
#ifndef TENFOLD_TESTS_FAKE_SCORER_H
#define TENFOLD_TESTS_FAKE_SCORER_H

#include "reward/scorer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { G = 4 };

#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		if ((call) < 0) fail_msg("%s: %s", #call, err.msg);                                                    \
	} while (0)

#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

struct fake {
	struct scorer scorer;
	double delay;
	int broken; /* prompt that fails; -1: none */
	int given_nan;
	uint32_t largest, calls; /* batch */
};

static inline float fake_value(const struct group *g, uint32_t i)
{
	return (float)(g->prompt * 10 + i) + (float)strlen(g->text[i]) / 16;
}

static inline int fake_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct fake *f = self;
	f->calls++;
	if (n > f->largest) f->largest = n;
	if (f->delay > 0) usleep((useconds_t)(f->delay * 1e6));
	for (uint32_t g = 0; g < n; g++) {
		if ((int)groups[g]->prompt == f->broken) return err_set(e, ERR_RANGE, "prompt %d breaks this scorer", f->broken);
		for (uint32_t i = 0; i < groups[g]->size; i++) *out++ = f->given_nan ? NAN : fake_value(groups[g], i);
	}
	return 0;
}

static inline void fake_close(struct scorer *s)
{
	(void)s;
}

static inline void fake_init(struct fake *f, const char *version)
{
	*f = (struct fake){.scorer = {.self = f, .name = "fake", .terms = 1, .term_name = {"fake"}, .score = fake_score, .close = fake_close},
	                   .broken = -1};
	strcpy(f->scorer.version, version);
}

static inline struct group make_group(uint32_t i)
{
	static const char *const texts[] = {"", "a", "ab", "abc", "abcd", "abcde", "abcdef"};
	struct group g = {.step = 3, .slot = i, .prompt = i % 7, .size = G, .prompt_text = "prompt with words"};
	for (uint32_t k = 0; k < G; k++) {
		g.text[k] = texts[(i + k) % 7];
		g.length[k] = (i + k) % 7 + 1;
	}
	return g;
}

static inline void check_group(const struct group *g, const char *version)
{
	assert_int_equal(g->terms, 1);
	assert_string_equal(g->term_name[0], "fake");
	assert_string_equal(g->scorer_version, version);
	for (uint32_t k = 0; k < G; k++) assert_true(g->scores[k] == fake_value(g, k));
}

#endif
