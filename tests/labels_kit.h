/* What tests about labels share: a temporary folder with a labels.db, a campaign
 * with a few items, answers. */
#ifndef TENFOLD_TESTS_LABELS_KIT_H
#define TENFOLD_TESTS_LABELS_KIT_H

#include "tests/store_kit.h"

#include "store/labels.h"

struct labels_kit {
	char dir[64], path[96];
	struct labels *l;
	int64_t campaign, item[8], person[4];
	char token[4][LABELS_TOKEN];
};

static inline void labels_kit_item(struct labels_kit *k, int n, const char *role, uint32_t size)
{
	struct err e = {0};
	char prompt[64], text[GROUP_MAX][64];
	struct labels_item it = {.campaign = k->campaign, .role = role, .prompt = prompt, .expected_best = 0, .expected_worst = (int)size - 1};
	snprintf(prompt, sizeof prompt, "prompt %d", n);
	for (uint32_t i = 0; i < size; i++) {
		snprintf(text[i], sizeof text[i], "answer %u to prompt %d", i, n);
		it.candidate[i].text = text[i];
		it.candidate[i].source = i % 2 ? "b" : "a";
	}
	kit_ok(labels_item_put(k->l, &it, size, &e), &e);
	k->item[n] = it.item;
	assert_int_equal(it.number, n);
	assert_int_equal(it.words, 5);
}

/* A campaign of four tasks of ten, one of two, a gold item; three people. */
static inline int labels_kit_setup(void **state)
{
	struct labels_kit *k = calloc(1, sizeof *k);
	struct err e = {0};
	strcpy(k->dir, "/tmp/tenfold-labels-XXXXXX");
	if (!mkdtemp(k->dir)) return -1;
	snprintf(k->path, sizeof k->path, "%s/labels.db", k->dir);
	kit_ok(labels_open(&k->l, k->path, 1, &e), &e);
	kit_ok(labels_begin(k->l, &e), &e);
	kit_ok(labels_campaign_put(k->l, "kit", "{}", "Be fair.", &k->campaign, &e), &e);
	for (int i = 0; i < 4; i++) labels_kit_item(k, i, "task", 10);
	labels_kit_item(k, 4, "task", 2);
	labels_kit_item(k, 5, "gold", 4);
	for (int p = 0; p < 3; p++) kit_ok(labels_person_put(k->l, p ? "Björn" : "Ann", k->token[p], &k->person[p], &e), &e);
	kit_ok(labels_end(k->l, 0, &e), &e);
	*state = k;
	return 0;
}

static inline int labels_kit_teardown(void **state)
{
	struct labels_kit *k = *state;
	labels_close(k->l);
	int rc = fs_remove_tree(k->dir, NULL);
	free(k);
	return rc;
}

/* Asks the person for a duel of candidates a and b of the item at that place; assigns when it is the first. */
static inline int64_t labels_kit_duel(struct labels_kit *k, int item, int person, uint32_t place, int a, int b)
{
	struct err e = {0};
	struct labels_assignment open;
	struct labels_ask ask = {.item = k->item[item], .person = k->person[person], .place = place, .kind = LABELS_DUEL, .design = "duels", .arm = "uniform",
		.probability = 0.5, .count = 2, .shown = {(uint8_t)a, (uint8_t)b}};
	int rc = labels_assignment_open(k->l, k->campaign, k->person[person], &open, &e);
	kit_ok(rc, &e);
	if (rc) ask.assignment = open.assignment;
	else kit_ok(labels_assign(k->l, k->item[item], k->person[person], "task", &ask.assignment, &e), &e);
	kit_ok(labels_ask_put(k->l, &ask, &e), &e);
	return ask.ask;
}

static inline int labels_kit_answer(struct labels_kit *k, const char *key, int64_t ask, int person, int first_wins, int64_t *event, struct err *e)
{
	struct labels_answer a = {.key = key, .ask = ask, .person = k->person[person], .outcome = LABELS_RANKED,
		.rank = {first_wins ? 1 : 2, first_wins ? 2 : 1}, .strength = 2, .visible_ms = 4000, .guidelines = 1, .page = "t1", .reason = "because Ann said so"};
	return labels_answer_put(k->l, &a, event, e);
}

/* Labels that count, with an optional query. */
struct labels_kit_count {
	int n;
	struct labels_label last;
};
static inline int labels_kit_count_one(void *ctx, const struct labels_label *r)
{
	struct labels_kit_count *c = ctx;
	c->n++;
	c->last = *r;
	return 0;
}
static inline int labels_kit_count_of(struct labels *l, struct labels_query q, int64_t *changed)
{
	struct labels_kit_count c = {0};
	struct err e = {0};
	kit_ok(labels_each_label(l, &q, labels_kit_count_one, &c, changed, &e), &e);
	return c.n;
}

#endif
