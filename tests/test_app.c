/* The shell of the program: options, progress lines, and the report of a run
 * with hostile text in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/options.h"
#include "app/progress.h"
#include "app/report.h"
#include "core/base/fs.h"
#include "core/base/text.h"
#include "store/store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVIL "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)> &amp; \xff \x1b"

struct values {
	int flag, json;
	const char *text;
	int64_t whole;
	double number;
	struct option_list list, rest;
};

static int parse(struct values *v, struct err *e, int argc, const char *const *argv)
{
	*v = (struct values){0};
	const struct option table[] = {
		{"flag", OPTION_FLAG, &v->flag, NULL, "A flag."},
		{"text", OPTION_TEXT, &v->text, "TEXT", "A text."},
		{"whole", OPTION_INT, &v->whole, "N", "A whole number."},
		{"number", OPTION_FLOAT, &v->number, "X", "A number."},
		OPTION_SET(&v->list),
		OPTION_JSON(&v->json),
	};
	const struct options_use use = {
		.line = "probe A B [options]", .about = "A probe.", .table = table, .count = sizeof table / sizeof table[0], .at_least = 1, .at_most = 2};
	return options_parse(&use, argc, (char **)(uintptr_t)argv, &v->rest, e);
}
#define PARSE(...) parse(&v, &e, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__})

static void options_are_read(void **state)
{
	(void)state;
	struct values v;
	struct err e;
	assert_int_equal(PARSE("probe", "--flag", "a", "--text=x=y", "--whole", "7", "--set", "p=1", "--number", "-2.5", "--set=q=2", "--", "--b"), 0);
	assert_true(v.flag && !v.json && v.whole == 7 && v.number == -2.5);
	assert_string_equal(v.text, "x=y");
	assert_int_equal(v.list.count, 2);
	assert_string_equal(v.list.item[1], "q=2");
	assert_int_equal(v.rest.count, 2);
	assert_string_equal(v.rest.item[1], "--b");
}

static void options_are_refused(void **state)
{
	(void)state;
	struct values v;
	struct err e;
	assert_int_equal(PARSE("probe", "a", "--flog"), ERR_FORMAT);
	assert_non_null(strstr(e.msg, "--flag"));
	assert_int_equal(PARSE("probe", "a", "--flag=1"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "--text"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "--whole", "-1"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "--whole", "1x"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "--number", "nan"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "-x"), ERR_FORMAT);
	assert_int_equal(PARSE("probe"), ERR_FORMAT);
	assert_int_equal(PARSE("probe", "a", "b", "c"), ERR_FORMAT);
	assert_non_null(strstr(e.msg, "one argument too many"));
}

static void configuration_for_commands(void **state)
{
	(void)state;
	struct config c;
	struct err e;
	struct option_list sets = {.item = {"ppo.steps=3", "ppo.clip=.1"}, .count = 2};
	assert_int_equal(options_config(&c, NULL, &sets, &e), 0);
	assert_int_equal(c.ppo.steps, 3);
	sets.item[1] = "ppo.critic=none";
	assert_int_equal(options_config(&c, NULL, &sets, &e), ERR_RANGE);
}

static void progress_lines(void **state)
{
	(void)state;
	static const struct {
		double seconds;
		const char *text;
	} times[] = {{0.25, "250 ms"}, {42.9, "42 s"}, {185, "3:05"}, {7385, "2:03:05"}, {INFINITY, "?"}, {NAN, "?"}, {-1, "?"}};
	char out[64], *text = NULL;
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		progress_time(times[i].seconds, out, sizeof out);
		assert_string_equal(out, times[i].text);
	}
	size_t bytes = 0;
	FILE *f = tmpfile();
	assert_non_null(f);
	struct progress p;
	progress_open(&p, f, "ppo", "steps", 200, 100);
	progress_show(&p, 110, NULL); /* too early */
	assert_int_equal(ftell(f), 0);
	p.started -= 10; /* ten seconds ago: ten of a hundred steps are done, ninety seconds are left */
	progress_show(&p, 110, "reward 0.5");
	progress_show(&p, 111, NULL); /* too soon after the last */
	progress_line(&p, "step %d", 10);
	progress_close(&p, 200);
	bytes = (size_t)ftell(f);
	text = calloc(1, bytes + 1);
	rewind(f);
	assert_int_equal(fread(text, 1, bytes, f), bytes);
	if (strcmp(text, "ppo: 110/200 steps   55%  1.0 steps/s  1:30 left  reward 0.5\nstep 10\nppo: 200/200 steps in 10 s\n") &&
		strcmp(text, "ppo: 110/200 steps   55%  1.0 steps/s  1:29 left  reward 0.5\nstep 10\nppo: 200/200 steps in 10 s\n"))
		fail_msg("%s", text);
	free(text);
	fclose(f);
}

static void text_is_cleaned(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} cases[] = {{"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}, {"\xff", "\xEF\xBF\xBD"},
		{"\xc0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"}, {"\xed\xa0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, {"x\xe2\x82", "x\xEF\xBF\xBD\xEF\xBF\xBD"},
		{"\xf4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}};
	char out[64];
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(text_clean(cases[i].in, strlen(cases[i].in), out, sizeof out), strlen(cases[i].in));
		assert_string_equal(out, cases[i].out);
	}
	assert_int_equal(text_clean("ab\xc3\xa9", 4, out, 4), 2); /* no half character */
	assert_string_equal(out, "ab");
	assert_int_equal(text_distance("kitten", "sitting"), 3);
}

/* ---- a run with hostile text ---- */

enum { G = 4, P = 2, R = 3, LAYERS = 2, CHOSEN = 2, STEPS = 3 };

static void put_group(struct store *s, uint64_t step, uint32_t slot, struct err *e)
{
	int32_t tokens[P + G * R];
	float logprobs[G * R], scores[G], reward[G];
	uint16_t experts[G * R * LAYERS * CHOSEN];
	for (int i = 0; i < P + G * R; i++) tokens[i] = i;
	for (int i = 0; i < G * R; i++) logprobs[i] = -1;
	for (int i = 0; i < G * R * LAYERS * CHOSEN; i++) experts[i] = (uint16_t)((i + (int)slot) % 7);
	for (int i = 0; i < G; i++) scores[i] = reward[i] = (float)slot + 0.1f * (float)i;
	struct group g = {.step = step, .slot = slot, .prompt = slot, .policy_version = step, .size = G, .prompt_tokens = P, .tokens = tokens,
		.logprobs = logprobs, .moe_layers = LAYERS, .experts_per_token = CHOSEN, .experts = experts, .prompt_text = EVIL, .terms = 1,
		.term_name = {"verifier"}, .scores = scores, .reward = reward, .scorer_version = "v1"};
	for (int i = 0; i < G; i++) g.length[i] = R, g.text[i] = EVIL;
	assert_int_equal(store_put_group(s, &g, e), 0);
}

static void make_run(const char *folder)
{
	char db[300];
	struct err e = {0};
	struct store *s;
	snprintf(db, sizeof db, "%s/run.db", folder);
	if (store_open(&s, db, &(struct store_options){.writer = 1}, &e)) fail_msg("%s", e.msg);
	assert_int_equal(store_put_run(s, &(struct store_run){.id = "id", .name = EVIL, .fingerprint = "f", .program = "p", .config = "run:\n  seed: 3\ntask:\n  content_warning: may <b>upset</b>\n"}, &e), 0);
	struct store_prompt prompts[8];
	for (uint32_t i = 0; i < 8; i++) prompts[i] = (struct store_prompt){.prompt = i, .text = EVIL};
	assert_int_equal(store_put_prompts(s, prompts, 8, &e), 0);
	for (uint64_t step = 0; step < STEPS; step++) {
		assert_int_equal(store_step_begin(s, step, step, &e), 0);
		for (uint32_t slot = 0; slot < 8; slot++) put_group(s, step, slot, &e);
		assert_int_equal(store_step_commit(s, &e), 0);
		const char *const names[] = {REPORT_REWARD, "objective/kl", "nan/metric", REPORT_PROXY, REPORT_GOLD};
		const double values[] = {0.25 * (double)step, 0.5, NAN, 0.25 * (double)step, 0.5 - 0.125 * (double)step};
		assert_int_equal(store_put_metrics(s, step, names, values, 5, &e), 0);
	}
	assert_int_equal(store_put_eval(s, 2, REPORT_PASS_RATE, 0.9, 100, 0.85, 0.95, &e), 0);
	assert_int_equal(store_put_eval(s, 2, REPORT_BEST_OF, 0.8, 100, 0.75, 0.85, &e), 0);
	assert_int_equal(store_put_eval(s, 2, REPORT_CONTINUED, 0.7, 100, 0.65, 0.75, &e), 0);
	assert_int_equal(store_put_event(s, 1, "group/stale", 2, EVIL, &e), 0);
	assert_int_equal(store_put_checkpoint(s, 2, 3, "checkpoints/3", "abc", &e), 0);
	store_close(s);
	snprintf(db, sizeof db, "%s/summary.json", folder);
	static const char summary[] = "{\"ppo\": {\"pass_rate\": 0.9, \"note\": \"<b>\"}, \"reward\": {\"pair_accuracy\": 0.56, \"group_low\": 0.52, "
				      "\"group_high\": 0.6, \"n\": 347, \"length_baseline\": 0.55, \"length_rule\": \"shorter wins\", \"verdict\": \"not shown <b>\"}}";
	assert_int_equal(fs_write_atomic(db, summary, sizeof summary - 1, &e), 0);
}

static char folder[64];

static int open_run(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/tenfold_app_XXXXXX");
	if (!mkdtemp(folder)) return -1;
	make_run(folder);
	return 0;
}

static int close_run(void **state)
{
	(void)state;
	return fs_remove_tree(folder, NULL);
}

static void run_is_loaded(void **state)
{
	(void)state;
	struct err e = {0};
	json_t *run;
	if (report_load(folder, &run, &e)) fail_msg("%s", e.msg);
	json_t *stage = json_array_get(json_object_get(run, "stages"), 0), *metrics = json_object_get(stage, "metrics");
	json_t *reward = json_object_get(metrics, REPORT_REWARD);
	assert_int_equal(json_array_size(json_array_get(reward, 0)), STEPS);
	assert_true(json_real_value(json_array_get(json_array_get(reward, 1), 2)) == 0.5);
	assert_true(json_is_null(json_array_get(json_array_get(json_object_get(metrics, "nan/metric"), 1), 0)));
	/* three best and three worst of the first and the last step, best first */
	json_t *groups = json_object_get(run, "groups"), *first = json_array_get(groups, 0), *low = json_array_get(groups, 5);
	assert_int_equal(json_array_size(groups), 12);
	assert_int_equal(json_integer_value(json_object_get(first, "slot")), 7);
	assert_string_equal(json_string_value(json_object_get(first, "why")), "best");
	assert_int_equal(json_integer_value(json_object_get(low, "slot")), 0);
	assert_string_equal(json_string_value(json_object_get(low, "why")), "worst");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(groups, 11), "step")), STEPS - 1);
	/* expert counts: every chosen expert of every row is counted; as many experts as the configuration has */
	json_t *load = json_array_get(json_object_get(run, "loads"), 0), *layers = json_array_get(json_object_get(load, "counts"), 0);
	json_int_t sum = 0;
	assert_int_equal(json_array_size(json_object_get(load, "steps")), STEPS);
	assert_int_equal(json_array_size(json_array_get(layers, 0)), 64);
	for (size_t l = 0; l < LAYERS; l++)
		for (size_t x = 0; x < 64; x++) sum += json_integer_value(json_array_get(json_array_get(layers, l), x));
	assert_int_equal(sum, 8 * G * R * LAYERS * CHOSEN);
	assert_int_equal(json_array_size(json_object_get(run, "events")), 1);
	json_decref(run);
}

static int occurrences(const char *text, const char *what)
{
	int n = 0;
	for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
	return n;
}

static void report_is_inert(void **state)
{
	(void)state;
	struct err e = {0};
	char out[128], *page;
	size_t bytes;
	const char *const one[] = {folder}, *const two[] = {folder, folder};
	/* kept in the build folder: tests/report_page.py opens it in a browser */
	if (report_write(one, 1, "report_test.html", &e)) fail_msg("%s", e.msg);
	assert_int_equal(fs_read("report_test.html", 1 << 24, &page, &bytes, &e), 0);
	assert_int_equal(occurrences(page, "</script>"), 3);
	assert_int_equal(occurrences(page, "<script"), 3);
	assert_int_equal(occurrences(page, "<img"), 0);
	assert_int_equal(occurrences(page, "default-src 'none'"), 1);
	assert_true(occurrences(page, "Released under the MIT License") >= 1);
	assert_true(occurrences(page, "pwned") > 10);
	free(page);
	snprintf(out, sizeof out, "%s/two.html", folder);
	assert_int_equal(report_write(two, 2, out, &e), 0);
	snprintf(out, sizeof out, "%s/curve.svg", folder);
	assert_int_equal(report_write_svg(two, 2, out, &e), 0);
	assert_int_equal(fs_read(out, 1 << 20, &page, &bytes, &e), 0);
	assert_int_equal(occurrences(page, "<polyline"), 2 * 4); /* proxy, gold, divergence, pass rate of two runs */
	assert_int_equal(occurrences(page, "stroke-dasharray"), 2 * 2); /* their baselines */
	free(page);
	const char *const none[] = {"/nonexistent"};
	assert_int_equal(report_write(none, 1, out, &e), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_read),
		cmocka_unit_test(options_are_refused),
		cmocka_unit_test(configuration_for_commands),
		cmocka_unit_test(progress_lines),
		cmocka_unit_test(text_is_cleaned),
		cmocka_unit_test(run_is_loaded),
		cmocka_unit_test(report_is_inert),
	};
	return cmocka_run_group_tests(tests, open_run, close_run);
}
