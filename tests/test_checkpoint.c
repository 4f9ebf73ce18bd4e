/* Checkpoints: whole or not there. Every bit of a small one is flipped and seen
 * by file and tensor, a damaged one is passed over, links are never followed, a
 * full disk leaves the old one. Deaths are in test_checkpoint_faults.c. */
#include "tests/checkpoint_sample.h"

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
	assert_int_equal(fill(checkpoint_folder(c), 30, 1, &e), 0);
	assert_int_equal(rename(checkpoint_folder(c), in(b, run, "away")), 0);
	assert_int_equal(symlink(in((char[PATH]){0}, real, "outside"), checkpoint_folder(c)), 0);
	assert_int_equal(checkpoint_commit(c, 2, NULL, &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "no longer the folder"));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_save_and_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unfinished, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_bit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fall_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
