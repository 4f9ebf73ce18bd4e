/* Comparisons come back from the record as they were put: order, ranks, margins
 * with what is unknown, several sources of a group, partial rankings. */
#include "store_kit.h"

enum { MOST = 16 };

struct got {
	int n;
	uint32_t slot[MOST];
	char source[MOST][STORE_NAME], version[MOST][STORE_NAME];
	struct store_comparison c[MOST];
	int stop_after; /* 0: never */
};

static int take(void *ctx, uint32_t slot, const struct store_comparison *c)
{
	struct got *g = ctx;
	assert_true(g->n < MOST);
	g->slot[g->n] = slot;
	snprintf(g->source[g->n], STORE_NAME, "%s", c->source);
	snprintf(g->version[g->n], STORE_NAME, "%s", c->scorer_version);
	g->c[g->n++] = *c;
	return g->n == g->stop_after ? 7 : 0;
}

static void same(const struct store_comparison *a, const struct store_comparison *b)
{
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->has_margins, b->has_margins);
	for (uint32_t k = 0; k < a->count; k++) {
		assert_int_equal(a->order[k], b->order[k]);
		assert_int_equal(a->rank[k], b->rank[k]);
		if (a->has_margins && k + 1 < a->count) assert_true(isnan(a->margin[k]) ? isnan(b->margin[k]) : a->margin[k] == b->margin[k]);
	}
}

static void test_round_trip(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct got g = {0};
	struct store *s = NULL;
	struct store_comparison odd = {.source = "label", .scorer_version = "v2", .count = 4, .order = {9, 0, 4, 2}, .rank = {1, 2, 2, 4}, .has_margins = 1,
				       .margin = {NAN, 0, 0.1 + 0.2}};
	assert_int_equal(store_open(&s, k->path, &(struct store_options){.writer = 1}, &e), 0);
	assert_int_equal(kit_fill(s, 2, 0, &e), 0);
	assert_int_equal(store_put_comparison(s, 1, 2, &odd, &e), 0);
	assert_int_equal(store_each_comparison(s, "ppo", 1, NULL, take, &g, &e), 0);
	assert_int_equal(g.n, 5); /* a reward for each of three groups, one judge, one label */
	for (int i = 0; i < g.n; i++) {
		if (strcmp(g.source[i], "reward")) continue;
		struct kit_group group;
		struct store_comparison expected;
		kit_group(&group, 1, g.slot[i], 0);
		store_comparison_from_reward(&expected, &group.g);
		same(&expected, &g.c[i]);
		assert_string_equal(g.version[i], "kit-1");
	}
	g = (struct got){0};
	assert_int_equal(store_each_comparison(s, "ppo", 1, "label", take, &g, &e), 0);
	assert_int_equal(g.n, 1);
	assert_int_equal(g.slot[0], 2);
	assert_string_equal(g.version[0], "v2");
	same(&odd, &g.c[0]);
	g = (struct got){0};
	assert_int_equal(store_each_comparison(s, "ppo", 1, "judge", take, &g, &e), 0);
	assert_int_equal(g.n, 1);
	assert_false(g.c[0].has_margins);
	assert_int_equal(g.c[0].count, 3);
	g = (struct got){.stop_after = 2};
	assert_int_equal(store_each_comparison(s, "ppo", 1, NULL, take, &g, &e), 7); /* what fn returns ends the reading */
	assert_int_equal(g.n, 2);
	g = (struct got){0};
	assert_int_equal(store_each_comparison(s, "ppo", 99, NULL, take, &g, &e), 0);
	assert_int_equal(g.n, 0);
	store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_round_trip, kit_setup, kit_teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
