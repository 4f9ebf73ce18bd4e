/* The stack language (every word, every named failure, any bytes) and the stack
 * task (frozen digest, split by structure, tests that notice what they must, the
 * share and kind of wrong examples, nearness by a second implementation). */
#include "core/base/rng.h"
#include "reward/stack_task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct config_task STANDARD = {
	.name = "stack", .seed = 7, .train = 4000, .heldout = 1024, .supervised = 2000, .levels = 4, .tests = 16, .wrong = 0.4,
};

static enum stack_status run_text(const char *text, int32_t a, int32_t b, int32_t c, int64_t *v)
{
	struct stack_program p;
	enum stack_status s = stack_compile(&p, text);
	return s ? s : stack_run(&p, (int32_t[]){ a, b, c }, v, NULL);
}

static void runs_to(const char *text, int32_t a, int32_t b, int32_t c, int64_t want)
{
	int64_t v = INT64_MIN;
	enum stack_status s = run_text(text, a, b, c, &v);
	if (s || v != want) fail_msg("%s on %d %d %d: %s, %lld, not %lld", text, a, b, c, stack_status_name(s), (long long)v, (long long)want);
}

static void fails_with(const char *text, enum stack_status want)
{
	int64_t v = 0;
	enum stack_status s = run_text(text, 5, -3, 0, &v);
	if (s != want) fail_msg("%s: %s, not %s", text, stack_status_name(s), stack_status_name(want));
}

static void test_words(void **state)
{
	(void)state;
	runs_to("a", 4, 5, 6, 4);
	runs_to("a b c + *", 4, 5, 6, 44);
	runs_to("a b -", 4, 5, 6, -1);
	runs_to(" \ta\n b\r- ", 4, 5, 6, -1);
	runs_to("-12 9999 +", 0, 0, 0, 9987);
	runs_to("a b max", 4, 5, 0, 5);
	runs_to("a b min", 4, 5, 0, 4);
	runs_to("a 5 mod", -7, 0, 0, 3);
	runs_to("a -5 mod", 7, 0, 0, -3);
	runs_to("a 5 mod", -10, 0, 0, 0);
	runs_to("a neg b abs +", 4, -5, 0, 1);
	runs_to("a dup * b swap -", 3, 1, 0, -8);
	runs_to("a b over - +", 4, 9, 0, 9);
	runs_to("a b drop", 4, 9, 0, 4);
	runs_to("a b < a b > a b = + 2 * +", 1, 2, 0, 1);
	runs_to("a b > 10 * a b = +", 2, 1, 0, 10);
	runs_to("a not b not 2 * +", 0, 3, 0, 1);
	runs_to("a dup 0 < if drop 0 else 1 + end", -3, 0, 0, 0);
	runs_to("a dup 0 < if drop 0 else 1 + end", 3, 0, 0, 4);
	runs_to("a b if 1 + end", 3, 0, 0, 3);
	runs_to("a 3 do b - end", 10, 2, 0, 4);
	runs_to("a 0 do b - end", 10, 2, 0, 10);
	runs_to("a -2 do b - end", 10, 2, 0, 10);
	runs_to("a 3 do 2 do 1 + end dup 4 > if b + end end", 0, 10, 0, 16);
	runs_to("0 100 do 9 do 1 + end end", 0, 0, 0, 900);
	runs_to("a 1 if if 5 else 6 end end", 0, 0, 0, 6);
}

static void test_failures(void **state)
{
	(void)state;
	fails_with("", STACK_EMPTY);
	fails_with(" \n\t", STACK_EMPTY);
	fails_with("a d +", STACK_WORD);
	fails_with("a 10000 +", STACK_WORD);
	fails_with("a - 3", STACK_UNDERFLOW);
	fails_with("a +5 +", STACK_WORD);
	fails_with("a 5x +", STACK_WORD);
	fails_with("A", STACK_WORD);
	fails_with("a b + ;", STACK_WORD);
	fails_with("+", STACK_UNDERFLOW);
	fails_with("a drop drop", STACK_UNDERFLOW);
	fails_with("a b", STACK_RESULT);
	fails_with("a drop", STACK_RESULT);
	fails_with("a if", STACK_BLOCK);
	fails_with("a end", STACK_BLOCK);
	fails_with("a 1 else 2 end", STACK_BLOCK);
	fails_with("a if 1 else 2 else 3 end", STACK_BLOCK);
	fails_with("a 3 do 1 else 2 end", STACK_BLOCK);
	fails_with("a 3 do if end", STACK_BLOCK);
	fails_with("a 0 mod", STACK_ZERO);
	fails_with("a c mod", STACK_ZERO);
	fails_with("a 101 do 1 + end", STACK_RANGE);
	fails_with("9999 9999 * 9999 *", STACK_RANGE);
	fails_with("9999 100 do dup * end", STACK_RANGE);
	fails_with("9999 neg 9999 * 9999 * neg", STACK_RANGE);
	fails_with("1 100 do dup end", STACK_OVERFLOW);
	fails_with("1 100 do 100 do 100 do 1 + end end end", STACK_STEPS);
	char text[4096] = "a";
	for (int i = 0; i < STACK_NEST_MAX; i++) strcat(text, " 1 if");
	for (int i = 0; i < STACK_NEST_MAX; i++) strcat(text, " end");
	runs_to(text, 5, 0, 0, 5);
	strcpy(text, "a");
	for (int i = 0; i <= STACK_NEST_MAX; i++) strcat(text, " 1 if");
	for (int i = 0; i <= STACK_NEST_MAX; i++) strcat(text, " end");
	fails_with(text, STACK_BLOCK);
	strcpy(text, "a");
	for (int i = 1; i < STACK_WORDS_MAX; i++) strcat(text, " neg");
	runs_to(text, 5, 0, 0, STACK_WORDS_MAX % 2 ? 5 : -5);
	strcat(text, " neg");
	fails_with(text, STACK_LENGTH);
}

/* Any text ends in a value within the limits or in a failure with a name; every failure occurs. */
static void test_any_text(void **state)
{
	(void)state;
	static const char *const words[] = { "a", "b", "c", "0", "1", "7", "-3", "99", "+", "-", "*", "mod", "max", "min", "neg", "abs",
		"not", "<", ">", "=", "dup", "drop", "swap", "over", "if", "else", "end", "do", "end", "x", "dup", "dup", "4" };
	struct rng_key key = { 3, RNG_TEST };
	uint32_t seen[STACK_STATUSES] = { 0 };
	for (uint32_t i = 0; i < 200000; i++) {
		char text[512];
		size_t n = 0;
		uint32_t len = rng_below(key, 0, i, 0, 30);
		for (uint32_t k = 0; k < len; k++)
			n += (size_t)sprintf(text + n, "%s ", words[rng_below(key, 1, i, k, i % 8 ? 29 : sizeof words / sizeof *words)]);
		text[n] = 0;
		if (i % 16 == 15)
			for (size_t k = 0; k < n; k++) text[k] = (char)rng_below(key, 2, i, (uint32_t)k, 256);
		int64_t v = 0;
		enum stack_status s = run_text(text, 5, -3, 0, &v);
		assert_true(s < STACK_STATUSES);
		assert_string_not_equal(stack_status_name(s), "unknown status");
		if (!s) assert_true(v >= -STACK_VALUE_MAX && v <= STACK_VALUE_MAX);
		seen[s]++;
	}
	for (int s = 0; s < STACK_STATUSES; s++)
		if (s != STACK_LENGTH && s != STACK_STEPS && s != STACK_OVERFLOW) assert_true(seen[s] > 0);
}

static struct stack_task_set *open_set(const struct config_task *cfg)
{
	struct stack_task_set *s;
	struct err e = { 0 };
	if (stack_task_set_open(&s, cfg, &e)) fail_msg("%s", e.msg);
	return s;
}

static void test_frozen(void **state)
{
	struct stack_task_set *s = *state;
	char hex[HASH_HEX];
	stack_task_set_digest(s, hex);
	assert_string_equal(hex, "0306def1da7a30c866a56d1681a77e76");
	struct config_task other = STANDARD;
	other.seed = 8;
	other.train = 400, other.heldout = 100, other.supervised = 100;
	char first[HASH_HEX], second[HASH_HEX];
	for (int k = 0; k < 2; k++, other.seed++) {
		struct stack_task_set *o = open_set(&other);
		stack_task_set_digest(o, k ? second : first);
		stack_task_set_close(o);
	}
	assert_string_not_equal(first, second);
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Number of distinct texts; sorts. */
static size_t distinct(const char **t, size_t n)
{
	qsort(t, n, sizeof *t, compare_text);
	size_t d = n > 0;
	for (size_t i = 1; i < n; i++) d += strcmp(t[i], t[i - 1]) != 0;
	return d;
}

enum { TRAIN = 4000, HELDOUT = 1024 };

static void test_tasks(void **state)
{
	struct stack_task_set *s = *state;
	static const char *prompts[TRAIN + HELDOUT], *programs[TRAIN + HELDOUT], *keys[2][TRAIN];
	size_t n = 0;
	uint32_t levels[5] = { 0 };
	for (int split = 0; split < 2; split++) {
		for (uint32_t i = 0; i < stack_task_set_count(s, split); i++, n++) {
			const struct stack_task *t = stack_task_set_get(s, split, i);
			prompts[n] = t->prompt, programs[n] = t->program, keys[split][i] = t->structure;
			levels[t->level]++;
			assert_int_equal(t->cases, 16);
			assert_true(stack_passes(t, t->program) && stack_verify(t, t->program) == 1.0f);
			assert_true(stack_verify(t, "") == 0 && stack_verify(t, "a b") == 0 && stack_verify(t, "hello") == 0);
			size_t len = strlen(t->prompt);
			assert_true(t->prompt[len - 1] == '\n' && strchr(t->prompt, '\n') == t->prompt + len - 1);
			assert_int_equal(strstr(t->program, "if") != NULL, t->level == 3 || (t->level == 4 && strstr(t->program, "if")));
			assert_int_equal(strstr(t->program, "do") != NULL, t->level == 4);
		}
	}
	assert_int_equal(n, TRAIN + HELDOUT);
	assert_int_equal(distinct(prompts, n), n);
	assert_int_equal(distinct(programs, n), n);
	for (int l = 1; l <= 4; l++) assert_int_equal(levels[l], n / 4);
	size_t train = distinct(keys[0], TRAIN), heldout = distinct(keys[1], HELDOUT);
	print_message("structures: %zu in training, %zu held out\n", train, heldout);
	assert_true(train > 2000 && heldout > 500);
	for (uint32_t i = 0; i < HELDOUT; i++) assert_null(bsearch(&keys[1][i], keys[0], TRAIN, sizeof **keys, compare_text));
}

/* Planted faults: the verifier notices a changed operator, constant answers pass nothing. */
static void test_verifier_notices(void **state)
{
	struct stack_task_set *s = *state;
	uint32_t minus = 0, unnoticed = 0;
	double zero = 0;
	for (uint32_t i = 0; i < HELDOUT; i++) {
		const struct stack_task *t = stack_task_set_get(s, STACK_HELDOUT, i);
		char *wrong = strdup(t->program), *at = strstr(wrong, " - ");
		if (at) {
			at[1] = '+';
			minus++;
			unnoticed += (uint32_t)stack_passes(t, wrong);
		}
		free(wrong);
		assert_false(stack_passes(t, "0"));
		assert_false(stack_passes(t, "a"));
		zero += stack_verify(t, "0");
	}
	print_message("- for +: %u of %u unnoticed; the program \"0\" gets %.3f of the tests\n", unnoticed, minus, zero / HELDOUT);
	assert_true(minus > 200 && unnoticed <= minus / 50 && zero / HELDOUT < 0.15);
}

static void test_examples(void **state)
{
	(void)state;
	static const double shares[] = { 0, 0.2, 0.4 };
	for (int k = 0; k < 3; k++) {
		struct config_task cfg = STANDARD;
		cfg.wrong = shares[k], cfg.heldout = 0;
		struct stack_task_set *s = open_set(&cfg);
		uint32_t wrong = 0, strict_wrong = 0, noise = 0, loose_right = 0, n = stack_task_set_examples(s);
		assert_int_equal(n, 2000);
		for (uint32_t i = 0; i < n; i++) {
			const struct stack_example *x = stack_task_set_example(s, i);
			const struct stack_task *t = stack_task_set_get(s, STACK_TRAIN, x->task);
			int passes = stack_passes(t, x->completion);
			assert_string_equal(x->prompt, t->prompt);
			assert_int_equal(passes, !x->wrong);
			wrong += (uint32_t)x->wrong;
			noise += x->wrong && !x->misread;
			strict_wrong += x->wrong && !t->loose && x->misread;
			loose_right += t->loose && !x->wrong;
		}
		print_message("wrong %.2f: %.3f wrong, %.3f by noise, %.3f loose and right\n", shares[k], wrong / 2000.0, noise / 2000.0,
			      loose_right / 2000.0);
		assert_true(wrong / 2000.0 > shares[k] - 0.03 && wrong / 2000.0 < shares[k] + 0.03);
		assert_int_equal(strict_wrong, 0);
		assert_true(loose_right > 100);
		if (k == 0) assert_int_equal(wrong, 0);
		else assert_true(noise > 0 && noise < wrong / 4);
		stack_task_set_close(s);
	}
}

/* Edit distance by the plain table, over words and marks split at spaces. */
static unsigned plain_distance(const char *a, const char *b)
{
	const char *w[2][64];
	size_t len[2][64], n[2] = { 0, 0 };
	for (int k = 0; k < 2; k++)
		for (const char *s = k ? b : a; *s;) {
			size_t l = strcspn(s, " ");
			w[k][n[k]] = s, len[k][n[k]++] = l;
			s += l + (s[l] == ' ');
		}
	unsigned d[65][65];
	for (size_t i = 0; i <= n[0]; i++)
		for (size_t j = 0; j <= n[1]; j++) {
			if (!i || !j) {
				d[i][j] = (unsigned)(i + j);
				continue;
			}
			int same = len[0][i - 1] == len[1][j - 1] && !memcmp(w[0][i - 1], w[1][j - 1], len[0][i - 1]);
			unsigned best = d[i - 1][j - 1] + !same;
			if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
			d[i][j] = best;
		}
	return d[n[0]][n[1]];
}

static void test_nearness(void **state)
{
	struct stack_task_set *s = *state;
	struct stack_nearness near;
	stack_task_set_nearness(s, &near);
	uint32_t sum = 0;
	print_message("distance to the nearest training program:");
	for (int i = 0; i < STACK_NEAR_BINS; i++) sum += near.program[i], print_message(" %u", near.program[i]);
	print_message("; mean %.2f (prompts %.2f); copying passes %.3f, reward %.3f\n", near.program_mean, near.prompt_mean, near.copy_pass,
		      near.copy_reward);
	assert_int_equal(sum, HELDOUT);
	assert_int_equal(near.program[0], 0); /* another structure is another program */
	assert_true(near.copy_pass < 0.05 && near.copy_reward < 0.2);
	struct config_task cfg = STANDARD;
	cfg.train = 100, cfg.heldout = 40;
	struct stack_task_set *small = open_set(&cfg);
	stack_task_set_nearness(small, &near);
	uint32_t bins[STACK_NEAR_BINS] = { 0 };
	for (uint32_t i = 0; i < 40; i++) {
		unsigned best = 99;
		for (uint32_t k = 0; k < 100; k++) {
			unsigned d = plain_distance(stack_task_set_get(small, STACK_HELDOUT, i)->program,
						    stack_task_set_get(small, STACK_TRAIN, k)->program);
			if (d < best) best = d;
		}
		bins[best < STACK_NEAR_BINS ? best : STACK_NEAR_BINS - 1]++;
	}
	assert_memory_equal(bins, near.program, sizeof bins);
	stack_task_set_close(small);
}

static void test_limits(void **state)
{
	(void)state;
	struct stack_task_set *s;
	struct err e = { 0 };
	struct config_task cfg = STANDARD;
	cfg.levels = 5;
	assert_int_equal(stack_task_set_open(&s, &cfg, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "task.levels"));
	cfg = STANDARD;
	cfg.levels = 1, cfg.train = 1, cfg.heldout = 100000;
	assert_int_equal(stack_task_set_open(&s, &cfg, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "lower task.heldout"));
	cfg = STANDARD;
	cfg.levels = 1, cfg.train = 500, cfg.heldout = 100, cfg.supervised = 1200, cfg.tests = 4;
	s = open_set(&cfg); /* more examples than tasks: they come round again, read anew */
	uint32_t differ = 0;
	for (uint32_t i = 0; i < 500; i++)
		differ += strcmp(stack_task_set_example(s, i)->completion, stack_task_set_example(s, i + 500)->completion) != 0;
	assert_true(differ > 20);
	stack_task_set_close(s);
}

static int set_up(void **state)
{
	struct err e;
	return stack_task_set_open((struct stack_task_set **)state, &STANDARD, &e);
}

static int tear_down(void **state)
{
	stack_task_set_close(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words), cmocka_unit_test(test_failures), cmocka_unit_test(test_any_text),
		cmocka_unit_test(test_frozen), cmocka_unit_test(test_tasks), cmocka_unit_test(test_verifier_notices),
		cmocka_unit_test(test_examples), cmocka_unit_test(test_nearness), cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
