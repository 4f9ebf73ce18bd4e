/* Deaths while a checkpoint is saved: a child is killed at every passage of every
 * fault point of the save, once beside older checkpoints and once in place of one
 * of the same step; then the old one or the new one loads, whole, and the run
 * goes on. Where a call can fail it is made to. The points killed at are counted
 * against the list of all, so a new point that no save passes fails the test. */
#include "core/base/fault.h"
#include "tests/checkpoint_sample.h"

/* A child saves step `step` with the order in TENFOLD_FAULT. Returns its wait status. */
static int saved_under(const char *run, const char *order, const char *log, uint64_t step)
{
	int status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct err e;
		fault_reset();
		setenv("TENFOLD_FAULT", order, 1);
		setenv("TENFOLD_FAULT_LOG", log, 1);
		_exit(fault_check(&e) < 0 ? 9 : save(run, step, 2, 2, &e) == 0 ? 0 : 42);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

/* After a death at `order`: the old one or the new one, whole, and (tried if go_on) the run goes on. */
static void check_after(const char *run, const char *order, uint64_t step, int same_step, int go_on)
{
	struct checkpoint_entry c;
	struct warned w = {0};
	struct err e;
	if (checkpoint_latest(run, PLACE, &c, warn, &w, &e) != 0) fail_msg("%s: %s", order, e.msg);
	int mark = load(&c), is_new = c.step == step && mark == 2;
	if (!is_new && (c.step != (same_step ? step : 20) || mark != 1)) fail_msg("%s: step %d mark %d", order, (int)c.step, mark);
	if (w.count) fail_msg("%s: %s", order, w.last);
	assert_int_equal(checkpoint_recover(run, PLACE, &c, warn, &w, &e), 0);
	assert_int_equal(w.count, 0);
	if (!go_on) return;
	must_save(run, step, 2);
	assert_int_equal(checkpoint_latest(run, PLACE, &c, warn, &w, &e), 0);
	assert_true(c.step == step && load(&c) == 2);
}

static int ours(const char *name)
{
	return !strncmp(name, "checkpoint.", 11) || !strncmp(name, "safetensors.", 12);
}

static int logged(const char *log, const char *what, const char *name)
{
	char line[300], *text;
	size_t bytes;
	struct err e;
	snprintf(line, sizeof line, "%s %s\n", what, name);
	if (fs_read(log, 1 << 24, &text, &bytes, &e) != 0) return 0;
	int found = strstr(text, line) != NULL;
	free(text);
	return found;
}

/* Two folders to copy runs from, as syncing makes saving slow: steps 10 and 20, and 20 and 30. */
static void templates(const char *dir)
{
	char path[PATH];
	struct err e;
	for (int same_step = 0; same_step < 2; same_step++) {
		assert_int_equal(fs_mkdirs(in(path, dir, same_step ? "template-1" : "template-0"), &e), 0);
		must_save(path, 10, 1);
		must_save(path, 20, 1);
		if (same_step) must_save(path, 30, 1);
	}
}

/* Kills at passage 1, 2, … of one point until the save of step 30 gets through; returns how many times it killed. */
static int kill_at(const char *dir, const char *name, const char *log, int same_step)
{
	char order[200], run[PATH], template[PATH];
	struct err e;
	in(run, dir, "run");
	in(template, dir, same_step ? "template-1" : "template-0");
	for (int nth = 1;; nth++) {
		snprintf(order, sizeof order, "%s:%d:kill", name, nth);
		shell("cp -a %s %s", template, run);
		int status = saved_under(run, order, log, 30);
		if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
		else assert_int_equal(WTERMSIG(status), SIGKILL);
		check_after(run, order, 30, same_step, nth == 1);
		assert_int_equal(fs_remove_tree(run, &e), 0);
		if (WIFEXITED(status)) return nth - 1;
	}
}

/* Where a call can fail, it is made to: the save returns the error, the old one loads, nothing is left. */
static void fail_at(const char *dir, const char *name, const char *log)
{
	char order[200], run[PATH];
	struct err e;
	snprintf(order, sizeof order, "%s:1:error", name);
	shell("cp -a %s/template-0 %s", dir, in(run, dir, "run"));
	int status = saved_under(run, order, log, 30);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 42) fail_msg("%s: exit status %d", order, WEXITSTATUS(status));
	shell("! ls -A %s/%s | grep -q tmp", run, PLACE);
	check_after(run, order, 30, 0, 1);
	assert_int_equal(fs_remove_tree(run, &e), 0);
}

static void test_killed_everywhere(void **state)
{
	struct fault_info all[256];
	char log[PATH];
	int points = 0, kills = 0;
	if (!fault_enabled()) {
		print_message("skipped: this build has no fault points (TENFOLD_FAULTS)\n");
		skip();
	}
	size_t n = fault_list(all, 256);
	assert_true(n > 0 && n <= 256);
	in(log, *state, "faults");
	templates(*state);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++) assert_string_not_equal(all[i].name, all[k].name);
		if (!ours(all[i].name)) continue;
		kills += kill_at(*state, all[i].name, log, 0) + kill_at(*state, all[i].name, log, 1);
		if (!logged(log, "kill", all[i].name)) fail_msg("nobody was killed at %s", all[i].name);
		if (all[i].can_fail) fail_at(*state, all[i].name, log);
		points++;
	}
	print_message("killed %d times at %d of %d points\n", kills, points, points);
	assert_true(points >= 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed_everywhere, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
