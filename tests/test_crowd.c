/* Who is to be trusted: an adversary in five is flagged within 60 labels, honest
 * people are not, and what is put into a simulated crowd is found again. The long
 * version is `tenfold crowd people` (200 seeds), figures in docs/labelling.md. */
#include "app/web/simulate.h"
#include "reward/crowd.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct simulate_campaign usual(void)
{
	return (struct simulate_campaign){.people = 5, .adversaries = 1, .labels = 60, .overlap = 0.2, .gold = 0.05, .qualification = 3, .beta = 1.7,
					  .adversary = -1.7};
}

static void test_adversary(void **state)
{
	(void)state;
	struct simulate_campaign c = usual();
	struct simulate_flags f;
	struct err e;
	assert_int_equal(simulate_adversary(&f, &c, 1, 4, &e), 0);
	assert_int_equal(f.adversaries, 4);
	assert_int_equal(f.honest, 16);
	assert_int_equal(f.flagged, 4);
	assert_int_equal(f.false_flags, 0);
	assert_true(f.weight_adversary < 0.01 && f.weight_honest > 0.95);
	c.adversary = 0; /* answers at random */
	assert_int_equal(simulate_adversary(&f, &c, 1, 4, &e), 0);
	assert_true(f.flagged >= 2 && f.weight_adversary < 0.3);
	assert_int_equal(f.false_flags, 0);
}

/* Without anything shared or known an adversary cannot be told from an honest person, and nobody is accused. */
static void test_nothing_shared(void **state)
{
	(void)state;
	struct simulate_campaign c = usual();
	struct simulate_flags f;
	struct err e;
	c.overlap = c.gold = 0;
	c.qualification = 0;
	assert_int_equal(simulate_adversary(&f, &c, 7, 1, &e), 0);
	assert_int_equal(f.flagged + f.false_flags, 0);
}

/* Two people of different care over the same prompts, in duels of seven points: temperatures' ratio, thresholds and width. */
enum { ITEMS = 80, EACH = 10 };

static struct judgement *two_people(struct crowd_item *items, const double *beta, const struct judgement_scale *scale)
{
	struct judgement *j = calloc((size_t)ITEMS * EACH * 3, sizeof *j);
	assert_non_null(j);
	size_t n = 0;
	for (uint32_t i = 0; i < ITEMS; i++) {
		double score[6];
		simulate_scores(5, i, 6, score);
		items[i] = (struct crowd_item){.candidates = 6, .begin = n, .count = 3 * EACH};
		for (uint32_t p = 0; p < 3; p++)
			for (uint32_t k = 0; k < EACH; k++) {
				struct judgement *a = &j[n++];
				*a = (struct judgement){.item = i, .person = p, .kind = JUDGEMENT_DUEL, .count = 2};
				a->shown[0] = (uint8_t)((i + k) % 6);
				a->shown[1] = (uint8_t)((i + k + 1 + k / 6) % 6);
				simulate_answer(a, 5, k, beta[p], score, scale);
			}
	}
	return j;
}

static void test_recovery(void **state)
{
	(void)state;
	static struct crowd_item items[ITEMS];
	const double beta[3] = {2, 2, 1};
	const struct judgement_scale scale = {{0.5, 1.2, 2.5}};
	struct judgement *j = two_people(items, beta, &scale);
	struct crowd_data d = {.judgement = j, .item = items, .items = ITEMS, .people = 3};
	struct crowd c, again;
	struct err e;
	assert_int_equal(crowd_fit(&c, &d, &e), 0);
	double ratio = c.person[2].beta / c.person[0].beta, spread = c.sd * c.person[0].beta;
	assert_true(ratio > 0.35 && ratio < 0.7);
	assert_true(spread > 1.5 && spread < 2.6); /* the scores have sd 1, so 2 */
	for (int k = 0; k < 3; k++) assert_true(fabs(c.scale.threshold[k] / scale.threshold[k] - 1) < 0.2);
	for (uint32_t p = 0; p < 3; p++) {
		assert_true(c.person[p].honest > 0.99);
		assert_int_equal(c.person[p].answers, ITEMS * EACH);
	}
	assert_int_equal(crowd_fit(&again, &d, &e), 0);
	assert_memory_equal(c.person, again.person, 3 * sizeof *c.person);
	assert_true(c.evidence == again.evidence && c.sd == again.sd);
	/* the posterior by it is nearer the truth than chance by far */
	struct posterior_model m = crowd_model(&c);
	int right = 0, all = 0;
	for (uint32_t i = 0; i < ITEMS; i++) {
		struct posterior p;
		double score[6];
		simulate_scores(5, i, 6, score);
		posterior_fit(&p, &m, j + items[i].begin, items[i].count, 6);
		for (uint32_t a = 0; a < 6; a++)
			for (uint32_t b = a + 1; b < 6; b++, all++) right += (p.mean[a] > p.mean[b]) == (score[a] > score[b]);
	}
	assert_true(right > 0.85 * all);
	crowd_free(&c);
	crowd_free(&again);
	free(j);
}

/* A hundred ties, a hundred contradictions, one person of two known to be right: finite. */
static void test_extremes(void **state)
{
	(void)state;
	struct judgement j[200];
	struct crowd_item item = {.candidates = 2, .count = 200};
	const double known[3] = {0, 0, 4};
	struct crowd_data d = {.judgement = j, .item = &item, .items = 1, .people = 3, .known = known};
	struct crowd c;
	struct err e;
	for (int kind = 0; kind < 3; kind++) {
		for (uint32_t i = 0; i < 200; i++) {
			j[i] = (struct judgement){.person = i % 3, .kind = JUDGEMENT_DUEL, .count = 2, .shown = {0, 1}, .rank = {1, 2}};
			if (kind == 0) j[i].rank[1] = 1;
			if (kind == 1 && i % 3 == 1) j[i].rank[0] = 2, j[i].rank[1] = 1;
			if (kind == 2) memset(j[i].rank, 0, 2);
		}
		assert_int_equal(crowd_fit(&c, &d, &e), 0);
		assert_true(isfinite(c.evidence) && c.sd > 0);
		for (uint32_t p = 0; p < 3; p++) {
			struct crowd_person *w = &c.person[p];
			assert_true(fabs(w->honest + w->random + w->opposite - 1) < 1e-9 && isfinite(w->beta));
		}
		assert_true(c.person[2].honest == 1 && c.person[2].beta == 4);
		if (kind == 1) assert_true(c.person[1].flagged && c.person[1].opposite > 0.9 && !c.person[0].flagged);
		if (kind == 2) assert_true(fabs(c.person[0].honest - 0.9) < 1e-9);
		crowd_free(&c);
	}
	d.items = 0;
	assert_int_equal(crowd_fit(&c, &d, &e), 0);
	crowd_free(&c);
	d.items = 1;
	j[3].shown[1] = 7;
	assert_int_equal(crowd_fit(&c, &d, &e), ERR_RANGE);
}

/* The designs' known figures (reference simulation: .776/.54, .783/.55, .804/.48), and a posterior that knows how good it is. */
static void test_designs(void **state)
{
	(void)state;
	uint32_t n;
	const struct simulate_design *d = simulate_designs(&n);
	const struct simulate_seconds s = {25, 7, 4};
	double beta = simulate_beta(0.73);
	assert_true(fabs(beta - 1.7) < 0.05);
	int seen = 0;
	for (uint32_t i = 0; i < n; i++) {
		const char *names[] = {"3 quads + 4 duels by information", "full order"};
		const double accuracy[] = {0.776, 0.804}, top[] = {0.54, 0.48}, seconds[] = {348, 360};
		for (int k = 0; k < 2; k++) {
			if (strcmp(d[i].name, names[k])) continue;
			struct simulate_result r;
			simulate_run(&r, &d[i], 3, 300, 10, beta, &s);
			assert_true(fabs(r.accuracy - accuracy[k]) < 4 * r.accuracy_error);
			assert_true(fabs(r.top - top[k]) < 4 * r.top_error);
			assert_true(fabs(r.seconds - seconds[k]) < 1);
			assert_true(fabs(r.expected - r.accuracy) < 0.03);
			seen++;
		}
	}
	assert_int_equal(seen, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adversary), cmocka_unit_test(test_nothing_shared), cmocka_unit_test(test_recovery), cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_designs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
