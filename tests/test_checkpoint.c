/* Checkpoints: whole or not there. Every bit of a small one is flipped and seen;
 * a child is killed at every passage of every fault point of the save, after
 * which the old one or the new one loads and nothing else; the points killed at
 * are counted against the list of all. Links are never followed. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/checkpoint.h"
#include "policy/safetensors.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH = 1200, FLOATS = 5 };
#define PLACE "checkpoints"

static int setup(void **state)
{
	char *dir = strdup("checkpoint-test-XXXXXX");
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

static const char *in(char out[PATH], const char *dir, const char *name)
{
	snprintf(out, PATH, "%s/%s", dir, name);
	return out;
}

static int exists(const char *dir, const char *name)
{
	char path[PATH];
	struct stat st;
	return lstat(in(path, dir, name), &st) == 0;
}

/* A shell command of two words, which must succeed. */
static void shell(const char *format, const char *one, const char *two)
{
	char command[2 * PATH];
	snprintf(command, sizeof command, format, one, two);
	assert_int_equal(system(command), 0);
}

/* Writes the files of a checkpoint; `mark` is in all of them, so that a mixture would be seen. */
static int fill(const char *folder, uint64_t step, int mark, struct err *e)
{
	char path[PATH];
	float w[FLOATS];
	int64_t s = (int64_t)step;
	for (int i = 0; i < FLOATS; i++) w[i] = (float)((int)step * 1000 + mark * 10 + i);
	const struct safetensors_entry policy[] = {{"w", SAFETENSORS_F32, 1, {FLOATS}, w}, {"step", SAFETENSORS_I64, 0, {0}, &s}};
	const struct safetensors_entry moments[] = {{"m", SAFETENSORS_F32, 1, {FLOATS}, w}};
	int rc = safetensors_write(in(path, folder, "policy.safetensors"), policy, 2, NULL, 0, 0, NULL, e);
	if (rc == 0) rc = safetensors_write(in(path, folder, "optimizer.safetensors"), moments, 1, NULL, 0, 0, NULL, e);
	if (rc < 0) return rc;
	FILE *f = fopen(in(path, folder, "state.json"), "wb");
	if (!f) return err_set(e, ERR_IO, "cannot create %s", path);
	fprintf(f, "%d", (int)w[0]);
	return fclose(f) == 0 ? 0 : err_set(e, ERR_IO, "cannot write %s", path);
}

static int save(const char *run, uint64_t step, int mark, int64_t keep, struct err *e)
{
	struct checkpoint *c;
	int rc = checkpoint_begin(&c, run, PLACE, step, e);
	if (rc < 0) return rc;
	rc = fill(checkpoint_folder(c), step, mark, e);
	if (rc == 0) return checkpoint_commit(c, keep, NULL, e);
	checkpoint_abort(c);
	return rc;
}

static void must_save(const char *run, uint64_t step, int mark)
{
	struct err e;
	if (save(run, step, mark, 2, &e) != 0) fail_msg("%s", e.msg);
}

/* Reads a checkpoint's three files, which must agree; returns the mark. */
static int load(const struct checkpoint_entry *c)
{
	char path[PATH], *text;
	struct safetensors *policy, *moments;
	struct err e;
	float w[FLOATS], m[FLOATS];
	size_t bytes;
	assert_int_equal(safetensors_open(&policy, in(path, c->path, "policy.safetensors"), &e), 0);
	assert_int_equal(safetensors_open(&moments, in(path, c->path, "optimizer.safetensors"), &e), 0);
	assert_int_equal(safetensors_read_f32(safetensors_find(policy, "w"), w, &e), 0);
	assert_int_equal(safetensors_read_f32(safetensors_find(moments, "m"), m, &e), 0);
	assert_int_equal(*safetensors_find(policy, "step")->data, c->step);
	safetensors_close(policy);
	safetensors_close(moments);
	assert_int_equal(fs_read(in(path, c->path, "state.json"), 100, &text, &bytes, &e), 0);
	assert_memory_equal(w, m, sizeof w);
	assert_int_equal(atoi(text), (int)w[0]);
	free(text);
	assert_int_equal((int)w[0] / 1000, c->step);
	return (int)w[0] % 1000 / 10;
}

struct warned {
	int count;
	char last[2048];
};

static void warn(void *arg, const char *text)
{
	struct warned *w = arg;
	w->count++;
	snprintf(w->last, sizeof w->last, "%s", text);
}

static void test_save_and_find(void **state)
{
	struct checkpoint_entry c, *list;
	struct warned w = {0};
	struct err e;
	size_t n;
	char first[HASH_HEX], again[HASH_HEX];
	struct checkpoint *open;
	assert_int_equal(checkpoint_latest(*state, PLACE, &c, warn, &w, &e), ERR_NOT_FOUND);
	assert_int_equal(checkpoint_recover(*state, PLACE, &c, warn, &w, &e), ERR_NOT_FOUND);
	assert_int_equal(checkpoint_list(*state, PLACE, &list, &n, &e), 0);
	assert_int_equal(n, 0);
	free(list);
	for (uint64_t step = 0; step <= 40; step += 10) must_save(*state, step, 3);
	assert_int_equal(checkpoint_list(*state, PLACE, &list, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[0].step, 40);
	assert_int_equal(list[1].step, 30);
	assert_true(list[0].complete && list[0].bytes > 100);
	assert_int_equal(checkpoint_latest(*state, PLACE, &c, warn, &w, &e), 0);
	assert_int_equal(c.step, 40);
	assert_string_equal(c.hash, list[0].hash);
	assert_int_equal(load(&c), 3);
	assert_int_equal(w.count, 0);
	free(list);
	/* the same step again takes the old one's place; equal files give an equal hash */
	snprintf(first, sizeof first, "%s", c.hash);
	must_save(*state, 40, 4);
	assert_int_equal(checkpoint_latest(*state, PLACE, &c, warn, &w, &e), 0);
	assert_int_equal(load(&c), 4);
	assert_string_not_equal(c.hash, first);
	assert_int_equal(checkpoint_begin(&open, *state, PLACE, 40, &e), 0);
	assert_int_equal(fill(checkpoint_folder(open), 40, 3, &e), 0);
	assert_int_equal(checkpoint_commit(open, 2, again, &e), 0);
	assert_string_equal(again, first);
	/* more kept, and another place */
	for (uint64_t step = 50; step <= 80; step += 10) assert_int_equal(save(*state, step, 1, 5, &e), 0);
	assert_int_equal(checkpoint_list(*state, PLACE, &list, &n, &e), 0);
	assert_int_equal(n, 5);
	free(list);
	assert_int_equal(checkpoint_begin(&open, *state, "checkpoints/critic", 7, &e), 0);
	assert_int_equal(checkpoint_commit(open, 2, NULL, &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "without files"));
	assert_int_equal(checkpoint_latest(*state, "checkpoints/critic", &c, warn, &w, &e), ERR_NOT_FOUND);
}

static void test_unfinished(void **state)
{
	struct checkpoint *c;
	struct checkpoint_entry found;
	struct err e;
	char path[PATH];
	must_save(*state, 10, 1);
	assert_int_equal(checkpoint_begin(&c, *state, PLACE, 20, &e), 0);
	assert_int_equal(fill(checkpoint_folder(c), 20, 1, &e), 0);
	assert_int_equal(checkpoint_latest(*state, PLACE, &found, NULL, NULL, &e), 0);
	assert_int_equal(found.step, 10);
	assert_true(fs_exists(checkpoint_folder(c))); /* a reader leaves it alone */
	checkpoint_abort(c);
	checkpoint_abort(NULL);
	assert_int_equal(checkpoint_begin(&c, *state, PLACE, 20, &e), 0);
	assert_int_equal(mkdir(in(path, checkpoint_folder(c), "folder"), 0755), 0);
	assert_int_equal(fill(checkpoint_folder(c), 20, 1, &e), 0);
	assert_int_equal(checkpoint_commit(c, 2, NULL, &e), ERR_FORMAT);
	assert_non_null(strstr(e.msg, "folder is not a plain file"));
	/* what a killed predecessor left goes at the next begin, and at recover */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fs_mkdirs(in(path, *state, PLACE "/.tmp-00000020-1/deep"), &e), 0);
		assert_int_equal(fs_write_atomic(in(path, *state, PLACE "/.tmp-00000020-1/x"), "x", 1, &e), 0);
		if (i) must_save(*state, 30, 1);
		else assert_int_equal(checkpoint_recover(*state, PLACE, &found, NULL, NULL, &e), 0);
		assert_false(exists(*state, PLACE "/.tmp-00000020-1"));
	}
	/* a tensors' file that is none is not committed */
	assert_int_equal(checkpoint_begin(&c, *state, PLACE, 40, &e), 0);
	assert_int_equal(fs_write_atomic(in(path, checkpoint_folder(c), "policy.safetensors"), "nonsense", 8, &e), 0);
	assert_int_equal(checkpoint_commit(c, 2, NULL, &e), ERR_FORMAT);
	assert_int_equal(checkpoint_latest(*state, PLACE, &found, NULL, NULL, &e), 0);
	assert_int_equal(found.step, 30);
}

static void put(const char *path, const char *data, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
}

/* Each bit of each file flipped, each file cut at each byte, each file removed: seen, by file name; in the data of a tensor
 * by its name. */
static void test_every_bit(void **state)
{
	static const char *const files[] = {"policy.safetensors", "optimizer.safetensors", "state.json", "manifest.json"};
	char path[PATH], *data;
	size_t bytes;
	struct err e;
	must_save(*state, 20, 1);
	for (int f = 0; f < 4; f++) {
		snprintf(path, sizeof path, "%s/" PLACE "/step-00000020/%s", (char *)*state, files[f]);
		assert_int_equal(fs_read(path, 1 << 20, &data, &bytes, &e), 0);
		size_t header = f < 2 ? 8 + (size_t)(unsigned char)data[0] : bytes; /* the headers here are under 256 bytes */
		for (size_t bit = 0; bit < 8 * bytes; bit++) {
			data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
			put(path, data, bytes);
			data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
			int rc = checkpoint_verify(*state, PLACE, 20, &e);
			const char *tensor = f == 1 ? "tensor m is damaged" : bit / 8 < header + 8 ? "tensor step is damaged" : "tensor w is damaged";
			if ((rc != ERR_MISMATCH && rc != ERR_FORMAT) || !strstr(e.msg, files[f]) || (bit / 8 >= header && !strstr(e.msg, tensor)))
				fail_msg("bit %zu of %s: %d %s", bit, files[f], rc, e.msg);
		}
		for (size_t n = 0; n < bytes; n++) {
			put(path, data, n);
			if (checkpoint_verify(*state, PLACE, 20, &e) >= 0 || !strstr(e.msg, files[f])) fail_msg("%s cut at %zu: %s", files[f], n, e.msg);
		}
		assert_int_equal(unlink(path), 0);
		assert_true(checkpoint_verify(*state, PLACE, 20, &e) < 0);
		assert_non_null(strstr(e.msg, files[f]));
		assert_non_null(strstr(e.msg, "missing"));
		put(path, data, bytes);
		free(data);
		assert_int_equal(checkpoint_verify(*state, PLACE, 20, &e), 0);
	}
}

static void damage(const char *run, const char *file)
{
	char path[PATH];
	in(path, run, file);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	off_t end = lseek(fd, -1, SEEK_END);
	char c;
	assert_int_equal(pread(fd, &c, 1, end), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, end), 1);
	close(fd);
}

static void test_fall_back(void **state)
{
	struct checkpoint_entry c, *list;
	struct warned w = {0};
	struct err e;
	size_t n;
	for (uint64_t step = 10; step <= 30; step += 10) assert_int_equal(save(*state, step, 1, 3, &e), 0);
	damage(*state, PLACE "/step-00000030/policy.safetensors");
	assert_int_equal(checkpoint_latest(*state, PLACE, &c, warn, &w, &e), 0);
	assert_int_equal(c.step, 20);
	assert_int_equal(w.count, 1);
	assert_non_null(strstr(w.last, "step 30"));
	assert_non_null(strstr(w.last, "policy.safetensors: tensor w is damaged"));
	assert_int_equal(checkpoint_recover(*state, PLACE, &c, NULL, NULL, &e), 0);
	assert_int_equal(c.step, 20);
	assert_true(exists(*state, PLACE "/damaged-step-00000030"));
	/* the damaged one no longer counts among those kept */
	must_save(*state, 40, 1);
	assert_int_equal(checkpoint_list(*state, PLACE, &list, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[1].step, 20);
	free(list);
	assert_int_equal(rename(in((char[PATH]){0}, *state, PLACE "/step-00000040"), in((char[PATH]){0}, *state, PLACE "/step-00000050")), 0);
	assert_int_equal(checkpoint_verify(*state, PLACE, 50, &e), ERR_MISMATCH);
	assert_non_null(strstr(e.msg, "is of step 40"));
	damage(*state, PLACE "/step-00000020/state.json");
	w.count = 0;
	assert_int_equal(checkpoint_latest(*state, PLACE, &c, warn, &w, &e), ERR_MISMATCH);
	assert_int_equal(w.count, 2);
	assert_non_null(strstr(e.msg, "state.json"));
	assert_int_equal(checkpoint_list(*state, PLACE, &list, &n, &e), 0);
	assert_false(list[0].complete); /* sizes and manifest only */
	assert_true(list[1].complete);
	free(list);
}

/* A link in place of the folder of checkpoints, a checkpoint, a file, or the temp folder: an error, and the folder it leads
 * to stays as it was. */
static void test_links(void **state)
{
	char a[PATH], b[PATH], real[PATH], outside[PATH];
	struct checkpoint *c;
	struct checkpoint_entry found;
	struct warned w = {0};
	struct err e;
	assert_non_null(realpath(*state, real));
	assert_int_equal(fs_mkdirs(in(outside, *state, "outside"), &e), 0);
	assert_int_equal(fs_mkdirs(in(a, *state, "run"), &e), 0);
	const char *run = in((char[PATH]){0}, *state, "run");
	assert_int_equal(symlink("../outside", in(a, run, PLACE)), 0);
	assert_int_equal(checkpoint_begin(&c, run, PLACE, 1, &e), ERR_IO);
	assert_non_null(strstr(e.msg, "symbolic link"));
	assert_true(checkpoint_latest(run, PLACE, &found, NULL, NULL, &e) == ERR_IO);
	assert_int_equal(unlink(a), 0);
	must_save(run, 10, 1);
	must_save(run, 20, 1);
	/* the temp folder swapped while the caller writes */
	assert_int_equal(checkpoint_begin(&c, run, PLACE, 30, &e), 0);
	assert_int_equal(rename(checkpoint_folder(c), in(b, run, "away")), 0);
	assert_int_equal(symlink(in((char[PATH]){0}, real, "outside"), checkpoint_folder(c)), 0);
	assert_int_equal(checkpoint_commit(c, 2, NULL, &e), ERR_STATE);
	assert_int_equal(fs_remove_tree(b, &e), 0);
	/* a file that is a link is neither committed nor loaded */
	assert_int_equal(checkpoint_begin(&c, run, PLACE, 30, &e), 0);
	assert_int_equal(symlink("/etc/hostname", in(a, checkpoint_folder(c), "x")), 0);
	assert_true(checkpoint_commit(c, 2, NULL, &e) < 0);
	assert_non_null(strstr(e.msg, "symbolic link"));
	assert_int_equal(rename(in(a, run, PLACE "/step-00000020/policy.safetensors"), in(b, outside, "policy.safetensors")), 0);
	assert_int_equal(symlink(in((char[PATH]){0}, real, "outside/policy.safetensors"), a), 0);
	assert_int_equal(checkpoint_latest(run, PLACE, &found, warn, &w, &e), 0);
	assert_int_equal(found.step, 10);
	assert_non_null(strstr(w.last, "symbolic link"));
	/* removing follows no link either: the pruned checkpoint holds one */
	assert_int_equal(checkpoint_recover(run, PLACE, &found, NULL, NULL, &e), 0);
	assert_int_equal(symlink("../../../outside", in(a, run, PLACE "/step-00000010/more")), 0);
	must_save(run, 40, 1);
	must_save(run, 50, 1);
	assert_false(exists(run, PLACE "/step-00000010"));
	assert_true(exists(outside, "policy.safetensors"));
	/* a checkpoint that is a link */
	assert_int_equal(rename(in(a, run, PLACE "/step-00000050"), in(b, outside, "fifty")), 0);
	assert_int_equal(symlink("../../outside/fifty", a), 0);
	assert_int_equal(checkpoint_latest(run, PLACE, &found, NULL, NULL, &e), 0);
	assert_int_equal(found.step, 40);
	assert_int_equal(save(run, 50, 2, 2, &e), ERR_IO);
	assert_true(exists(outside, "fifty/manifest.json"));
}

/* The disk is full (a limit on file sizes): an error, the old one loads, no temp folder is left. */
static void test_full_disk(void **state)
{
	struct checkpoint_entry c;
	struct err e;
	int status;
	must_save(*state, 10, 1);
	for (rlim_t limit = 0; limit < 2000; limit += limit < 300 ? 50 : 400) {
		pid_t child = fork();
		if (child == 0) {
			signal(SIGXFSZ, SIG_IGN);
			setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
			_exit(save(*state, 20, 1, 2, &e) == 0 ? 0 : 42);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), limit < 500 ? 42 : 0);
		assert_int_equal(checkpoint_latest(*state, PLACE, &c, NULL, NULL, &e), 0);
		assert_int_equal(c.step, limit < 500 ? 10 : 20);
		assert_int_equal(load(&c), 1);
		shell("! ls -A %s/%s | grep -q tmp", *state, PLACE);
	}
}

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

/* After a death at `order`: the old one or the new one, whole, and the run goes on. */
static void check_after(const char *run, const char *order, uint64_t step, int same_step)
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
		check_after(run, order, 30, same_step);
		assert_int_equal(fs_remove_tree(run, &e), 0);
		if (WIFEXITED(status)) return nth - 1;
	}
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
		points++;
	}
	print_message("killed %d times at %d of %d points\n", kills, points, points);
	assert_true(points >= 12);
}

/* Where a call can fail, it is made to: the save returns the error, the old one loads, nothing is left. */
static void test_errors_everywhere(void **state)
{
	struct fault_info all[256];
	char log[PATH], order[200];
	struct err e;
	if (!fault_enabled()) skip();
	size_t n = fault_list(all, 256);
	in(log, *state, "faults");
	templates(*state);
	for (size_t i = 0; i < n; i++) {
		if (!ours(all[i].name) || !all[i].can_fail) continue;
		const char *run = in((char[PATH]){0}, *state, "run");
		shell("cp -a %s/template-0 %s", *state, run);
		snprintf(order, sizeof order, "%s:1:error", all[i].name);
		int status = saved_under(run, order, log, 30);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) != 42) fail_msg("%s: exit status %d", order, WEXITSTATUS(status));
		check_after(run, order, 30, 0);
		assert_int_equal(fs_remove_tree(run, &e), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_save_and_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unfinished, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_bit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fall_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_everywhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors_everywhere, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
