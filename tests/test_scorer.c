/* Scorers without the network: terms and their sum, the external command in all
 * its ways to fail; and the example programs that the documentation shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/log.h"
#include "reward/bench.h"
#include "reward/client.h"
#include "tests/fake_scorer.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct arena *arena;
static struct err err;

static int setup(void **state)
{
	(void)state;
	arena = arena_open(0);
	log_setup("test", LOG_SILENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_close(arena);
	return 0;
}

static void test_terms(void **state)
{
	(void)state;
	struct reward_rule rule = {0};
	assert_ok(reward_terms_parse(&rule.terms, " verifier:1.0, length : -0.001 ,x", &err));
	assert_int_equal(rule.terms.count, 3);
	assert_string_equal(rule.terms.name[1], "length");
	assert_true(rule.terms.weight[1] == -0.001 && rule.terms.weight[2] == 1);
	struct reward_terms bad;
	static const char *const wrong[] = {"", "a:", "a:1x", "a:1,,b", "a,a", ":1", "a:inf", "name-that-is-longer-than-31-bytes"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) assert_int_equal(reward_terms_parse(&bad, wrong[i], &err), ERR_FORMAT);
	/* weighted sum by name, whatever the order of the group's terms */
	float scores[] = {10, 20, 30, 1, 0.5f, -2}, reward[3], same[3];
	struct group g = {.step = 4, .slot = 9, .size = 3, .terms = 2, .term_name = {"length", "verifier"}, .scores = scores};
	assert_ok(reward_terms_parse(&rule.terms, "verifier:2, length:-0.1", &err));
	assert_ok(reward_combine(&g, reward, &rule, &err));
	assert_ptr_equal(g.reward, reward);
	assert_true(reward[0] == 1 && reward[1] == -1 && reward[2] == -7);
	rule.clip = 1.5;
	assert_ok(reward_combine(&g, reward, &rule, &err));
	assert_true(reward[0] == 1 && reward[1] == -1 && reward[2] == -1.5f);
	/* the control: a permutation that depends on seed, step and slot only */
	rule.clip = 0;
	rule.shuffle = 1;
	int moved = 0, differ = 0;
	for (uint32_t slot = 0; slot < 20; slot++) {
		g.slot = slot;
		rule.seed = 1;
		assert_ok(reward_combine(&g, reward, &rule, &err));
		assert_ok(reward_combine(&g, same, &rule, &err));
		assert_memory_equal(reward, same, sizeof same);
		assert_true(reward[0] + reward[1] + reward[2] == -7);
		moved += reward[0] != 1;
		rule.seed = 2;
		assert_ok(reward_combine(&g, same, &rule, &err));
		differ += memcmp(reward, same, sizeof same) != 0;
	}
	assert_true(moved > 3 && differ > 3);
	scores[4] = NAN;
	assert_int_equal(reward_combine(&g, reward, &rule, &err), ERR_RANGE);
	assert_ok(reward_terms_parse(&rule.terms, "gold", &err));
	assert_int_equal(reward_combine(&g, reward, &rule, &err), ERR_NOT_FOUND);
	assert_said("\"gold\"");
}

static void test_scorer_terms(void **state)
{
	(void)state;
	struct fake f;
	struct scorer *given[1], *s;
	struct reward_terms terms;
	fake_init(&f, "fake-1");
	given[0] = &f.scorer;
	assert_ok(reward_terms_parse(&terms, "length:-1, fake", &err));
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	struct group g[2] = {make_group(1), make_group(2)};
	g[1].size = 3;
	const struct group *list[2] = {&g[0], &g[1]};
	float out[2 * 4 + 2 * 3];
	assert_int_equal(scorer_offset(s, list, 2), 14);
	assert_ok(s->score(s->self, list, 2, out, &err));
	for (uint32_t i = 0; i < 4; i++) assert_true(out[i] == (float)g[0].length[i] && out[4 + i] == fake_value(&g[0], i));
	for (uint32_t i = 0; i < 3; i++) assert_true(out[8 + i] == (float)g[1].length[i] && out[11 + i] == fake_value(&g[1], i));
	char version[GROUP_VERSION];
	strcpy(version, s->version);
	scorer_close(s);
	fake_init(&f, "fake-2");
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	assert_string_not_equal(version, s->version);
	scorer_close(s);
	/* among several terms a model's version stays readable, and the others still count */
	fake_init(&f, "model-0123456789abcdef0123456789abcdef");
	strcpy(f.scorer.name, "model");
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	assert_int_equal(strlen(s->version), GROUP_VERSION - 1);
	assert_memory_equal(s->version, "model-0123456789abcdef+", 23);
	strcpy(version, s->version);
	scorer_close(s);
	assert_ok(reward_terms_parse(&terms, "fake, length", &err));
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	assert_string_not_equal(version, s->version);
	scorer_close(s);
	assert_ok(reward_terms_parse(&terms, "gold", &err));
	assert_int_equal(scorer_terms_open(&s, &terms, given, 1, "", 1, &err), ERR_NOT_FOUND);
	assert_said("length, command, fake");
	assert_ok(reward_terms_parse(&terms, "command", &err));
	assert_int_equal(scorer_terms_open(&s, &terms, given, 1, "", 1, &err), ERR_NOT_FOUND);
	assert_said("reward.command");
}

/* Runs a command over three groups; the result of score, values in out. */
static int run_command(const char *command, double timeout, float *out)
{
	struct scorer *s;
	struct group g[3] = {make_group(0), make_group(1), make_group(2)};
	const struct group *list[3] = {&g[0], &g[1], &g[2]};
	assert_ok(scorer_command_open(&s, command, timeout, &err));
	int rc = s->score(s->self, list, 3, out, &err);
	if (rc == 0) rc = s->score(s->self, list, 3, out, &err); /* the same process, a second time */
	scorer_close(s);
	return rc;
}

/* sed turns a group's line into an answer: no interpreter is needed. */
#define ANSWER "s/.*\"id\":\"\\([^\"]*\\)\".*/{\"id\":\"\\1\",\"scores\":[1,2.5,-3,4e0]}/"

static void check_answers(const float *out)
{
	static const float want[4] = {1, 2.5f, -3, 4};
	for (int i = 0; i < 12; i++) assert_true(out[i] == want[i % 4]);
}

static void test_command(void **state)
{
	(void)state;
	float out[12];
	assert_ok(run_command("sed -u '" ANSWER "'", 10, out));
	check_answers(out);
	/* wrong lines: by number, with the text */
	assert_int_equal(run_command("sed -u '2s/.*/nonsense/;" ANSWER "'", 10, out), ERR_FORMAT);
	assert_said("line 2 of the output");
	assert_said("nonsense");
	assert_int_equal(run_command("sed -u '" ANSWER ";3s/,4e0//'", 10, out), ERR_FORMAT);
	assert_said("line 3 of the output");
	assert_said("not a list of 4 numbers");
	assert_int_equal(run_command("sed -u '" ANSWER ";s/2.5/\"x\"/'", 10, out), ERR_FORMAT);
	assert_said("score 1 is not a finite number");
	assert_int_equal(run_command("sed -u '" ANSWER ";s/2.5/1e60/'", 10, out), ERR_FORMAT);
	assert_int_equal(run_command("sed -u '" ANSWER ";s/3./9/'", 10, out), ERR_FORMAT);
	assert_said("\"id\"");
	/* not there; ends; hangs */
	assert_int_equal(run_command("exec 2>&-; ./no-such-program-here", 10, out), ERR_NET);
	assert_said("ended 3 times, at group 3/0 (prompt 0)");
	assert_int_equal(run_command("head -n 1 >/dev/null", 10, out), ERR_NET);
	double start = fs_now();
	assert_int_equal(run_command("cat >/dev/null; sleep 1000", 0.2, out), ERR_NET);
	assert_said("gave no line in time 3 times");
	assert_true(fs_now() - start < 10);
}

/* Crashes in the middle: started again, the open groups are given again. */
static void test_command_crash(void **state)
{
	(void)state;
	float out[12];
	char folder[] = "/tmp/tenfold-test-XXXXXX", command[512], path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/count", folder);
	/* the first process answers one line and ends, the next answers all */
	snprintf(command, sizeof command, "echo x >>%s; if [ $(wc -l <%s) = 1 ]; then sed -u -n '" ANSWER ";p;q'; else sed -u '" ANSWER "'; fi",
	         path, path);
	assert_ok(run_command(command, 10, out));
	check_answers(out);
	char *text;
	size_t bytes;
	assert_ok(fs_read(path, 100, &text, &bytes, &err));
	assert_string_equal(text, "x\nx\n");
	free(text);
	/* an edited script is another version */
	struct scorer *s;
	char version[GROUP_VERSION];
	snprintf(path, sizeof path, "%s/score", folder);
	assert_ok(fs_write_atomic(path, "one", 3, &err));
	assert_ok(scorer_command_open(&s, path, 1, &err));
	strcpy(version, s->version);
	scorer_close(s);
	assert_ok(fs_write_atomic(path, "two", 3, &err));
	assert_ok(scorer_command_open(&s, path, 1, &err));
	assert_string_not_equal(version, s->version);
	scorer_close(s);
	fs_remove_tree(folder, NULL);
}

static int process_lives(pid_t pid)
{
	char path[64], state = 'Z';
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f) return 0;
	int n = fscanf(f, "%*d %*s %c", &state);
	fclose(f);
	return n == 1 && state != 'Z';
}

/* The command and what it started end with the process, also when that is killed. */
static void test_command_dies_with_us(void **state)
{
	(void)state;
#if defined(__SANITIZE_THREAD__)
	skip(); /* a fork of a process with threads cannot start further ones under this sanitizer */
#endif
	char folder[] = "/tmp/tenfold-test-XXXXXX", command[256], path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/pid", folder);
	snprintf(command, sizeof command, "sleep 300 & echo $! >%s.tmp; mv %s.tmp %s; sed -u '" ANSWER "'; sleep 300", path, path, path);
	pid_t us = fork();
	if (us == 0) {
		float out[12];
		struct scorer *s;
		struct group g = make_group(0);
		const struct group *list[1] = {&g};
		if (scorer_command_open(&s, command, 10, &err) == 0) s->score(s->self, list, 1, out, &err);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(us, &status, 0), us);
	assert_true(WIFSIGNALED(status));
	char *text;
	size_t bytes;
	assert_ok(fs_read(path, 100, &text, &bytes, &err));
	pid_t sleeper = atoi(text);
	free(text);
	assert_true(sleeper > 1);
	int alive = 1;
	for (int i = 0; i < 100 && (alive = process_lives(sleeper)); i++) usleep(50000);
	assert_false(alive);
	fs_remove_tree(folder, NULL);
}

/* The first interpreter that runs this; NULL: none. */
static const char *find_python(const char *imports)
{
	static const char *const names[] = {"python3", "/usr/bin/python3"};
	char command[256];
	for (int i = 0; i < 2; i++) {
		snprintf(command, sizeof command, "%s -c 'import %s' >/dev/null 2>&1", names[i], imports);
		if (system(command) == 0) return names[i];
	}
	return NULL;
}

static void test_example_command(void **state)
{
	(void)state;
	const char *python = find_python("json");
	float out[12];
	char command[512];
	if (!python) skip();
	snprintf(command, sizeof command, "%s %s/examples/score.py", python, TENFOLD_SOURCE);
	struct scorer *s;
	struct group g = make_group(0);
	const struct group *list[1] = {&g};
	g.text[0] = "words";
	g.text[1] = "words prompt \"quoted\"\n words";
	g.text[2] = "";
	g.text[3] = "\xff with \xf0\x9f\x99\x82";
	assert_ok(scorer_command_open(&s, command, 20, &err));
	assert_ok(s->score(s->self, list, 1, out, &err));
	assert_true(out[0] == 1 && out[1] == 2 && out[2] == 0 && out[3] == 1);
	scorer_close(s);
}

/* The service written in Python from docs/messages.md, driven by the client. */
static void test_example_service(void **state)
{
	(void)state;
	const char *python = find_python("zmq, msgpack");
	if (!python) skip();
	char folder[] = "/tmp/tenfold-test-XXXXXX", endpoint[64];
	assert_non_null(mkdtemp(folder));
	snprintf(endpoint, sizeof endpoint, "ipc://%s/service", folder);
	pid_t child = fork();
	if (child == 0) {
		execlp(python, python, TENFOLD_SOURCE "/examples/reward_service.py", endpoint, (char *)NULL);
		_exit(127);
	}
	struct wire *w;
	struct reward_client *c;
	struct reward_rule rule = {0};
	assert_ok(wire_open(&w, &(struct wire_options){0}, &err));
	assert_ok(reward_terms_parse(&rule.terms, "short:2", &err));
	assert_ok(reward_client_open(&c, w, &(struct reward_client_options){.endpoints = endpoint, .run = "run", .rule = &rule}, &err));
	struct group g[5], *got;
	for (uint32_t i = 0; i < 5; i++) {
		g[i] = make_group(i);
		assert_ok(reward_client_submit(c, &g[i], arena, &err));
	}
	for (int i = 0; i < 5; i++) {
		int rc = reward_client_poll(c, 30, &got, &err);
		if (rc != 1) fail_msg("%s", rc < 0 ? err.msg : "no answer");
		assert_string_equal(got->scorer_version, "short-1");
		for (uint32_t k = 0; k < G; k++) assert_true(got->reward[k] == (float)(2.0 * (double)(float)(-(double)strlen(got->text[k]) / 200)));
	}
	reward_client_close(c);
	wire_close(w);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	fs_remove_tree(folder, NULL);
}

static void test_bench(void **state)
{
	(void)state;
	struct reward_bench b;
	assert_ok(reward_bench_run(&b, 50, &err));
	for (int t = 0; t < REWARD_BENCH_TRANSPORTS; t++) {
		assert_true(b.transport[t].p50_us > 0 && b.transport[t].p99_us >= b.transport[t].p50_us);
		assert_true(b.transport[t].groups_per_second > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command_dies_with_us), /* first: it forks, and no thread has been started yet */
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_scorer_terms),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_command_crash),
		cmocka_unit_test(test_example_command),
		cmocka_unit_test(test_example_service),
		cmocka_unit_test(test_bench),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
