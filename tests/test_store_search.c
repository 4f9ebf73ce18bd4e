/* Finding groups again: one group, the outline of a step, words in prompts and
 * completions, page by page, while a writer goes on. */
#include "tests/store_kit.h"

struct hits {
	int n, candidate[64];
	uint64_t step[64];
	uint32_t slot[64];
	char text[64][32];
};

static int on_hit(void *ctx, const struct store_hit *r)
{
	struct hits *h = ctx;
	assert_true(h->n < 64);
	assert_string_equal(r->stage, "ppo");
	h->step[h->n] = r->step;
	h->slot[h->n] = r->slot;
	h->candidate[h->n] = r->candidate;
	snprintf(h->text[h->n++], 32, "%s", r->candidate < 0 ? r->prompt : r->text);
	return 0;
}

static int64_t look(struct store *s, const char *text, int prompts, int64_t before, uint32_t limit, struct hits *h)
{
	struct err e;
	int64_t next = -1;
	*h = (struct hits){0};
	kit_ok(store_each_hit(s, &(struct store_search){ .text = text, .prompts = prompts, .before = before, .limit = limit, .seconds = 10 }, on_hit, h, &next, &e), &e);
	return next;
}

static void test_search(void **state)
{
	struct kit *k = *state;
	struct hits h;
	struct err e;
	int64_t next;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	/* "STEP push CANDIDATE": candidate 7 of each group; the newest first; letters in either case */
	assert_int_equal(look(s, "PUSH 7", 0, 0, 64, &h), 0);
	assert_int_equal(h.n, KIT_STEPS * KIT_GROUPS);
	for (int i = 0; i < h.n; i++) {
		assert_int_equal(h.candidate[i], 7);
		assert_int_equal(h.step[i], KIT_STEPS - 1 - i / KIT_GROUPS);
		assert_int_equal(h.slot[i], KIT_GROUPS - 1 - i % KIT_GROUPS);
	}
	/* pages: all of them once, in the same order */
	struct hits all = h;
	int seen = 0;
	for (next = 0; seen == 0 || next; seen += h.n) {
		next = look(s, "push 7", 0, next, 5, &h);
		for (int i = 0; i < h.n; i++) assert_int_equal(h.step[i] * 100 + h.slot[i], all.step[seen + i] * 100 + all.slot[seen + i]);
	}
	assert_int_equal(seen, all.n);
	/* what LIKE would read is looked for as it stands */
	look(s, "2 push %", 0, 0, 64, &h);
	assert_int_equal(h.n, 0);
	look(s, "2 push _", 0, 0, 64, &h);
	assert_int_equal(h.n, 0);
	look(s, "' OR 1=1 --", 0, 0, 64, &h);
	assert_int_equal(h.n, 0);
	/* prompts */
	look(s, "say \"no\",\nplease", 1, 0, 64, &h);
	assert_int_equal(h.n, KIT_STEPS);
	assert_true(h.candidate[0] == -1 && h.slot[0] == 1);
	assert_int_equal(store_each_hit(s, &(struct store_search){ .text = "", .limit = 1 }, on_hit, &h, &next, &e), ERR_RANGE);
	/* a stage without rows; a cursor of nowhere */
	h.n = 0;
	kit_ok(store_each_hit(s, &(struct store_search){ .text = "push", .stage = "sft", .limit = 9, .seconds = 1 }, on_hit, &h, &next, &e), &e);
	assert_true(h.n == 0 && next == 0);
	store_close(s);
}

static int on_outline(void *ctx, const struct store_outline *r)
{
	struct kit_group g;
	double sum = 0, low = INFINITY, high = -INFINITY;
	kit_group(&g, 2, r->slot, 0);
	assert_int_equal(r->slot, (*(int *)ctx)++);
	assert_int_equal(r->size, KIT_G);
	assert_string_equal(r->prompt_text, g.g.prompt_text);
	assert_string_equal(r->scorer_version, "kit-1");
	for (int i = 0; i < KIT_G; i++) sum += (double)g.reward[i], low = fmin(low, (double)g.reward[i]), high = fmax(high, (double)g.reward[i]);
	assert_true(fabs(r->reward - sum / KIT_G) < 1e-12 && r->lowest == low && r->highest == high);
	assert_true(fabs(r->tokens * KIT_G - group_response_tokens(&g.g)) < 1e-9);
	return 0;
}

static int on_group(void *ctx, const struct group *g)
{
	struct kit_group k;
	kit_group(&k, 2, g->slot, 0);
	assert_memory_equal(g->tokens, k.tokens, (KIT_P + group_response_tokens(&k.g)) * 4);
	assert_string_equal(g->text[4], k.text[4]);
	*(uint32_t *)ctx = g->slot;
	return 0;
}

static void test_one_group(void **state)
{
	struct kit *k = *state;
	struct err e;
	int n = 0;
	uint32_t slot = 99;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	kit_ok(store_each_outline(s, "ppo", 2, on_outline, &n, &e), &e);
	assert_int_equal(n, KIT_GROUPS);
	kit_ok(store_get_group(s, "ppo", 2, 1, on_group, &slot, &e), &e);
	assert_int_equal(slot, 1);
	assert_int_equal(store_get_group(s, "ppo", 2, 77, on_group, &slot, &e), ERR_NOT_FOUND);
	assert_int_equal(store_get_group(s, "sft", 2, 1, on_group, &slot, &e), ERR_NOT_FOUND);
	store_close(s);
}

/* A reader in the middle of a search neither waits for the writer nor holds it up, and sees what was there when it began. */
struct beside {
	struct store *writer;
	int hits;
};

static int write_beside(void *ctx, const struct store_hit *r)
{
	struct beside *b = ctx;
	struct err e;
	(void)r;
	if (b->hits++ == 0) kit_ok(kit_step(b->writer, KIT_STEPS, 0, &e), &e);
	return 0;
}

static void test_beside_a_writer(void **state)
{
	struct kit *k = *state;
	struct beside b = {0};
	struct hits h;
	struct err e;
	int64_t next;
	kit_make(k->path, KIT_STEPS, 0);
	b.writer = kit_open(k->path, 1);
	struct store *s = kit_open(k->path, 0);
	kit_ok(store_each_hit(s, &(struct store_search){ .text = "push 7", .limit = 64, .seconds = 10 }, write_beside, &b, &next, &e), &e);
	assert_int_equal(b.hits, KIT_STEPS * KIT_GROUPS);
	look(s, "push 7", 0, 0, 64, &h);
	assert_int_equal(h.n, (KIT_STEPS + 1) * KIT_GROUPS);
	assert_int_equal(h.step[0], KIT_STEPS);
	store_close(s);
	store_close(b.writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_search, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_one_group, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_beside_a_writer, kit_setup, kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
