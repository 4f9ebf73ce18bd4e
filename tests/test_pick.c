/* Which comparison comes next: quads cover and connect, the uniform arm is
 * uniform whatever people answer, the rest is by information and stops. */
#include "app/web/pick.h"

#include "core/base/rng.h"
#include "reward/posterior.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 256 };

/* Someone who always prefers the higher number, ties never. */
static struct judgement answer(const struct pick *p, uint32_t person)
{
	struct judgement j = {.person = person, .kind = p->kind, .count = p->count};
	uint32_t best = 0, worst = 0;
	memcpy(j.shown, p->shown, sizeof j.shown);
	for (uint32_t k = 0; k < p->count; k++) {
		if (p->shown[k] > p->shown[best]) best = k;
		if (p->shown[k] < p->shown[worst]) worst = k;
	}
	for (uint32_t k = 0; k < p->count; k++) j.rank[k] = k == best ? 1 : k == worst ? (p->kind == JUDGEMENT_DUEL ? 2 : 3) : 2;
	for (uint32_t k = 0; p->kind == JUDGEMENT_ORDER && k < p->count; k++)
		for (uint32_t l = 0, r = j.rank[k] = 1; l < p->count; l++) j.rank[k] = (uint8_t)(r += p->shown[l] > p->shown[k]);
	return j;
}

/* Everything that is asked of one person about a prompt; returns the number of picks. */
static uint32_t sit(const struct pick_options *o, uint32_t item, uint32_t person, uint32_t n, uint32_t words, struct pick *picks, struct judgement *answers)
{
	struct pick_task t = {.item = item, .person = person, .candidates = n, .words = words, .answers = answers};
	for (;;) {
		assert_true(t.count < MOST);
		pick_next(&picks[t.count], o, &t);
		assert_int_equal(picks[t.count].place, t.count);
		if (picks[t.count].done) return (uint32_t)t.count;
		assert_true(t.count < picks[t.count].most);
		answers[t.count] = answer(&picks[t.count], person);
		assert_true(judgement_valid(&answers[t.count], n));
		t.count++;
	}
}

static struct pick_options usual(uint64_t seed)
{
	struct pick_options o = pick_options_default();
	o.seed = seed;
	o.other_design = 0;
	return o;
}

static uint32_t root(const uint32_t *parent, uint32_t i)
{
	while (parent[i] != i) i = parent[i];
	return i;
}

static void test_quads_cover_and_connect(void **state)
{
	(void)state;
	static struct pick picks[MOST];
	static struct judgement answers[MOST];
	for (uint32_t n = 2; n <= 64; n++) {
		struct pick_options o = usual(n);
		uint32_t parent[64], total = sit(&o, 5, 1, n, 100, picks, answers), quads = 0, parts = n;
		for (uint32_t i = 0; i < n; i++) parent[i] = i;
		for (uint32_t q = 0; q < total && picks[q].kind == JUDGEMENT_BEST_WORST; q++, quads++) {
			assert_int_equal(picks[q].count, n < 4 ? n : 4);
			assert_int_equal(picks[q].arm, PICK_UNIFORM);
			for (uint32_t k = 1; k < picks[q].count; k++) {
				uint32_t a = root(parent, picks[q].shown[0]), b = root(parent, picks[q].shown[k]);
				parts -= a != b;
				parent[a] = b;
			}
		}
		assert_int_equal(quads, n == 2 ? 0 : (n + 1) / 3);
		if (n > 2) assert_int_equal(parts, 1); /* all are in one connected comparison */
		if (n == 2) assert_int_equal(total, 1);
		if (n == 10) assert_int_equal(quads, 3);
	}
}

static void test_uniform_arm(void **state)
{
	(void)state;
	static struct pick picks[MOST];
	static struct judgement answers[MOST];
	struct pick_options o = usual(3);
	int pair[10][10] = {{0}}, uniform = 0, uniform_duels = 0, duels = 0, all = 0, left = 0;
	for (uint32_t item = 0; item < 4000; item++) {
		uint32_t total = sit(&o, item, 7, 10, 100, picks, answers);
		for (uint32_t i = 0; i < total; i++) {
			all++;
			uniform += picks[i].arm == PICK_UNIFORM;
			if (picks[i].kind != JUDGEMENT_DUEL) continue;
			duels++;
			assert_true(picks[i].probability > 0 && picks[i].probability <= 1);
			if (picks[i].arm == PICK_GAIN) {
				assert_true(picks[i].gain >= o.stop_gain);
				double equals = (1 - o.uniform) / (picks[i].probability - o.uniform / 45); /* pairs with the same gain */
				assert_true(fabs(equals - round(equals)) < 1e-9 && equals < 45);
				continue;
			}
			uniform_duels++;
			uint8_t a = picks[i].shown[0], b = picks[i].shown[1];
			left += a < b;
			pair[a < b ? a : b][a < b ? b : a]++;
			assert_true(fabs(picks[i].probability - o.uniform / 45) < 1e-15);
		}
	}
	assert_true(uniform_duels >= 0.2 * duels && uniform >= 0.2 * all);
	/* every one of the 45 pairs as often as the others, chi-square with 44 degrees of freedom, 99.9 %; either side as often */
	double chi = 0, want = uniform_duels / 45.0;
	for (int a = 0; a < 10; a++)
		for (int b = a + 1; b < 10; b++) chi += (pair[a][b] - want) * (pair[a][b] - want) / want;
	assert_true(chi < 78.7);
	assert_true(fabs(left - uniform_duels / 2.0) < 3.3 * sqrt(uniform_duels / 4.0));
}

/* How many uniform duels there are, and which, does not depend on what was answered. */
static void test_uniform_arm_blind(void **state)
{
	(void)state;
	static struct pick picks[2][MOST];
	static struct judgement answers[MOST];
	struct pick_options o = usual(11);
	int compared = 0;
	for (uint32_t item = 0; item < 300; item++) {
		uint32_t total[2], k = 0;
		total[0] = sit(&o, item, 2, 10, 100, picks[0], answers);
		struct pick_task t = {.item = item, .person = 2, .candidates = 10, .words = 100, .answers = answers};
		for (;; t.count++) { /* one who skips everything */
			pick_next(&picks[1][t.count], &o, &t);
			if (picks[1][t.count].done) break;
			answers[t.count] = answer(&picks[1][t.count], 2);
			memset(answers[t.count].rank, 0, sizeof answers[t.count].rank);
		}
		total[1] = (uint32_t)t.count;
		for (uint32_t i = 3; i < total[0]; i++) {
			if (picks[0][i].arm != PICK_UNIFORM) continue;
			while (k < total[1] && (picks[1][k].arm != PICK_UNIFORM || picks[1][k].kind != JUDGEMENT_DUEL)) k++;
			assert_true(k < total[1]);
			uint8_t *a = picks[0][i].shown, *b = picks[1][k].shown;
			assert_true((a[0] == b[0] && a[1] == b[1]) || (a[0] == b[1] && a[1] == b[0]));
			compared++;
			k++;
		}
		for (; k < total[1]; k++) assert_false(picks[1][k].arm == PICK_UNIFORM && picks[1][k].kind == JUDGEMENT_DUEL);
	}
	assert_true(compared > 200);
}

static void test_gain_is_the_largest(void **state)
{
	(void)state;
	static struct pick picks[MOST];
	static struct judgement answers[MOST];
	struct pick_options o = usual(4);
	struct posterior_model m = posterior_model_default();
	struct posterior p;
	int seen = 0;
	for (uint32_t item = 0; item < 40; item++) {
		uint32_t total = sit(&o, item, 0, 10, 100, picks, answers);
		for (uint32_t i = 0; i < total; i++) {
			if (picks[i].arm != PICK_GAIN) continue;
			seen++;
			posterior_fit(&p, &m, answers, i, 10);
			int larger = 0;
			for (uint32_t a = 0; a < 10; a++)
				for (uint32_t b = a + 1; b < 10; b++) larger += posterior_gain(&p, &m.scale, 1, a, b) > picks[i].gain + 1e-12;
			assert_true(larger <= (int)i + 4); /* those asked already, and the planned uniform ones */
		}
	}
	assert_true(seen > 40);
}

static void test_early_stop(void **state)
{
	(void)state;
	static struct pick picks[MOST];
	static struct judgement answers[MOST];
	struct pick_options o = usual(4), late = o;
	uint32_t few = 0, many = 0;
	o.stop_gain = 10;
	late.stop_gain = 0;
	for (uint32_t item = 0; item < 60; item++) {
		uint32_t n = sit(&o, item, 0, 10, 100, picks, answers);
		for (uint32_t i = 0; i < n; i++) assert_int_equal(picks[i].arm, PICK_UNIFORM);
		few += n;
		n = sit(&late, item, 0, 10, 100, picks, answers);
		assert_int_equal(n, picks[0].most);
		many += n;
	}
	assert_true(few < many);
}

/* Who is not trusted does not move the choice; `most` is known without it. */
static void test_weighed(void **state)
{
	(void)state;
	struct pick_options o = usual(5);
	struct pick picks[MOST], alone, both, weighed;
	struct judgement answers[MOST];
	int moved = 0;
	for (uint32_t item = 0; item < 20; item++) {
		uint32_t first = sit(&o, item, 0, 10, 100, picks, answers), n = first;
		struct pick_task t = {.item = item, .person = 2, .candidates = 10, .words = 100, .answers = answers};
		assert_int_equal(pick_most(&o, item, 10, 100), picks[0].most);
		for (uint32_t q = 0; q < 3; q++, n++) { /* the quads of person 2 */
			t.count = n;
			pick_next(&picks[n], &o, &t);
			answers[n] = answer(&picks[n], 2);
		}
		t.count = n;
		pick_next(&alone, &o, &t);
		for (uint32_t i = 0; i < first; i++, n++) { /* somebody who answers the opposite */
			answers[n] = answers[i];
			answers[n].person = 1;
			uint8_t most = answers[i].kind == JUDGEMENT_DUEL ? 3 : 4;
			for (uint32_t k = 0; k < answers[n].count; k++) answers[n].rank[k] = (uint8_t)(most - answers[n].rank[k]);
		}
		t.count = n;
		pick_next(&both, &o, &t);
		const double beta[3] = {1, 1, 1}, weight[3] = {1, 0, 1};
		t.beta = beta;
		t.weight = weight;
		pick_next(&weighed, &o, &t);
		assert_int_equal(weighed.done, alone.done);
		assert_memory_equal(weighed.shown, alone.shown, 2);
		assert_true(weighed.gain == alone.gain && weighed.probability == alone.probability);
		moved += both.gain != alone.gain;
	}
	assert_true(moved > 10);
}

static void test_designs(void **state)
{
	(void)state;
	static struct pick picks[MOST];
	static struct judgement answers[MOST];
	struct pick_options o = pick_options_default();
	o.seed = 9;
	int count[3][4] = {{0}};
	const uint32_t words[3] = {20, 100, 400};
	for (uint32_t item = 0; item < 6000; item++)
		for (int w = 0; w < 3; w++) count[w][pick_design_of(&o, item, 10, words[w])]++;
	const enum pick_design want[3] = {PICK_ORDER, PICK_QUADS, PICK_DUELS};
	for (int w = 0; w < 3; w++)
		for (int d = PICK_QUADS; d <= PICK_ORDER; d++) {
			double share = count[w][d] / 6000.0;
			assert_true(fabs(share - (d == (int)want[w] ? 0.9 : 0.05)) < 0.02);
		}
	assert_int_equal(pick_design_of(&o, 3, 2, 20), PICK_DUELS);
	for (uint32_t item = 0; item < 500; item++) assert_int_not_equal(pick_design_of(&o, item, PICK_ORDER_MAX + 1, 20), PICK_ORDER);
	o.other_design = 0;
	assert_int_equal(sit(&o, 0, 0, 10, 20, picks, answers), 1);
	assert_int_equal(picks[0].count, 10);
	assert_true(sit(&o, 0, 0, 10, 400, picks, answers) <= 15);
	assert_int_equal(picks[0].kind, JUDGEMENT_DUEL);
	assert_true(picks[0].probability < 0.03); /* at the start all pairs are alike */
}

/* Asked again, or after an undo, it is the same; another person gets other quads, and what that one said counts. */
static void test_stateless(void **state)
{
	(void)state;
	static struct pick picks[MOST], again[MOST];
	static struct judgement answers[MOST], mixed[MOST];
	struct pick_options o = usual(21);
	uint32_t n = sit(&o, 8, 1, 10, 100, picks, answers), same = 0;
	for (uint32_t i = 0; i <= n; i++) {
		struct pick_task t = {.item = 8, .person = 1, .candidates = 10, .words = 100, .answers = answers, .count = i};
		pick_next(&again[i], &o, &t);
		assert_memory_equal(&again[i], &picks[i], sizeof picks[i]);
	}
	memcpy(mixed, answers, n * sizeof *answers);
	struct pick_task t = {.item = 8, .person = 2, .candidates = 10, .words = 100, .answers = mixed, .count = n};
	for (uint32_t i = 0; i < 3; i++) {
		pick_next(&again[i], &o, &t);
		assert_int_equal(again[i].place, i);
		same += !memcmp(again[i].shown, picks[i].shown, 4);
		mixed[t.count++] = answer(&again[i], 2);
	}
	assert_true(same < 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quads_cover_and_connect), cmocka_unit_test(test_uniform_arm), cmocka_unit_test(test_uniform_arm_blind),
		cmocka_unit_test(test_gain_is_the_largest), cmocka_unit_test(test_early_stop), cmocka_unit_test(test_weighed), cmocka_unit_test(test_designs),
		cmocka_unit_test(test_stateless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
