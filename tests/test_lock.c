/* The run folder's lock: one owner, named to whoever is refused, free again at
 * once when the owner is killed. And the text of TENFOLD_FAULT. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/lock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state)
{
	char *dir = strdup("lock-test-XXXXXX");
	*state = mkdtemp(dir);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	struct err e;
	int rc = fs_remove_tree(*state, &e);
	free(*state);
	return rc;
}

/* A child that takes the lock, says so, and waits to be killed. */
static pid_t holder(const char *run)
{
	int ready[2];
	char c = 0;
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (child == 0) {
		struct lock *l;
		struct err e;
		c = lock_open(&l, run, "learner", &e) == 0 ? 'y' : 'n';
		if (write(ready[1], &c, 1) != 1) _exit(1);
		for (;;) pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	close(ready[0]);
	close(ready[1]);
	return child;
}

static void reap(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_second_is_refused(void **state)
{
	struct lock *l;
	struct lock_owner o;
	struct err e;
	char pid[32];
	pid_t child = holder(*state);
	snprintf(pid, sizeof pid, "process %d on", (int)child);
	assert_int_equal(lock_open(&l, *state, "sft", &e), ERR_STATE);
	assert_null(l);
	assert_non_null(strstr(e.msg, *state));
	assert_non_null(strstr(e.msg, pid));
	assert_non_null(strstr(e.msg, "learner"));
	assert_int_equal(lock_query(*state, &o, &e), 1);
	assert_int_equal(o.pid, child);
	assert_string_equal(o.role, "learner");
	assert_true(o.host[0] && strlen(o.since) == 19);
	/* a stopped owner is an owner */
	kill(child, SIGSTOP);
	assert_int_equal(lock_open(&l, *state, "sft", &e), ERR_STATE);
	reap(child);
	/* killed: free at once, although its text is still there */
	assert_int_equal(lock_query(*state, &o, &e), 0);
	assert_int_equal(lock_open(&l, *state, "sft", &e), 0);
	assert_int_equal(lock_query(*state, &o, &e), 1);
	assert_int_equal(o.pid, getpid());
	assert_string_equal(o.role, "sft");
	lock_close(l);
	assert_int_equal(lock_query(*state, &o, &e), 0);
	lock_close(NULL);
}

static void test_same_process_twice(void **state)
{
	struct lock *a, *b;
	struct err e;
	assert_int_equal(lock_open(&a, *state, "learner", &e), 0);
	assert_int_equal(lock_open(&b, *state, "learner", &e), ERR_STATE);
	lock_close(a);
	assert_int_equal(lock_open(&b, *state, "learner", &e), 0);
	lock_close(b);
}

/* Fifty processes want it at once: one gets it, and looking at it never makes a start fail. */
static void test_many(void **state)
{
	enum { MANY = 50 };
	pid_t child[MANY];
	int gate[2], won = 0;
	assert_int_equal(pipe(gate), 0);
	for (int i = 0; i < MANY; i++) {
		child[i] = fork();
		if (child[i]) continue;
		struct lock *l;
		struct err e;
		char c;
		close(gate[1]);
		if (read(gate[0], &c, 1) != 0) _exit(9);
		if (lock_open(&l, *state, "learner", &e) == ERR_STATE) _exit(1);
		usleep(500000);
		_exit(0);
	}
	close(gate[0]);
	close(gate[1]);
	for (int i = 0; i < MANY; i++) {
		int status;
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		won += WEXITSTATUS(status) == 0;
	}
	assert_int_equal(won, 1);
}

static void test_query_never_disturbs(void **state)
{
	struct lock *l;
	struct lock_owner o;
	struct err e;
	pid_t child = fork();
	if (child == 0)
		for (;;) lock_query(*state, &o, &e);
	for (int i = 0; i < 300; i++) {
		if (lock_open(&l, *state, "learner", &e) != 0) {
			reap(child);
			fail_msg("try %d: %s", i, e.msg);
		}
		lock_close(l);
	}
	reap(child);
}

static void test_odd_folders(void **state)
{
	struct lock *l;
	struct lock_owner o;
	struct err e;
	char path[256], text[1024];
	assert_int_equal(lock_open(&l, "absent-folder", "learner", &e), ERR_IO);
	assert_int_equal(lock_query("absent-folder", &o, &e), 0);
	snprintf(path, sizeof path, "%s/lock", (char *)*state);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_int_equal(lock_open(&l, *state, "learner", &e), ERR_IO);
	assert_non_null(strstr(e.msg, "symbolic link"));
	assert_int_equal(unlink(path), 0);
	/* a text that is no text of ours is not believed and not copied to a terminal as it is */
	memset(text, 0x1b, sizeof text);
	memcpy(text, "role ", 5);
	assert_int_equal(fs_write_atomic(path, text, sizeof text, &e), 0);
	assert_int_equal(lock_open(&l, *state, "learner", &e), 0);
	assert_int_equal(lock_query(*state, &o, &e), 1);
	assert_string_equal(o.role, "learner");
	lock_close(l);
}

static int checked(const char *text)
{
	struct err e;
	setenv("TENFOLD_FAULT", text, 1);
	int rc = fault_check(&e);
	unsetenv("TENFOLD_FAULT");
	return rc;
}

static void test_fault_text(void **state)
{
	(void)state;
	assert_int_equal(checked(""), 0);
	if (!fault_enabled()) {
		assert_int_equal(fault_list(NULL, 0), 0);
		assert_int_equal(checked("lock.before_owner"), ERR_STATE);
		print_message("skipped: this build has no fault points (TENFOLD_FAULTS)\n");
		skip();
	}
	assert_int_equal(checked("lock.before_owner"), 0);
	assert_int_equal(checked("lock.before_owner:3"), 0);
	assert_int_equal(checked("lock.before_owner:3:kill"), 0);
	assert_int_equal(checked("lock.before_owner:1:stop"), 0);
	assert_int_equal(checked("lock.before_owner:1:error"), ERR_RANGE); /* cannot return one */
	assert_int_equal(checked("lock.before_owner:0"), ERR_RANGE);
	assert_int_equal(checked("lock.before_owner:x"), ERR_RANGE);
	assert_int_equal(checked("lock.before_owner:1:explode"), ERR_RANGE);
	assert_int_equal(checked("lock.before_own"), ERR_NOT_FOUND);
	assert_int_equal(checked("lock.before_owner_too"), ERR_NOT_FOUND);
}

/* Killed while it writes its name, owner unknown; stopped there, another is refused without a name. */
static void test_fault_in_lock(void **state)
{
	struct lock *l;
	struct err e;
	int status;
	if (!fault_enabled()) skip();
	pid_t child = fork();
	if (child == 0) {
		fault_reset();
		setenv("TENFOLD_FAULT", "lock.before_owner:1:stop", 1);
		lock_open(&l, *state, "learner", &e);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(lock_open(&l, *state, "sft", &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "just starting"));
	reap(child);
	assert_int_equal(lock_open(&l, *state, "sft", &e), 0);
	lock_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_second_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_process_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_query_never_disturbs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_folders, setup, teardown),
		cmocka_unit_test(test_fault_text),
		cmocka_unit_test_setup_teardown(test_fault_in_lock, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
