/* The record: what is put comes back bit for bit; one writer; foreign, newer and
 * damaged files are refused by name; nothing that was learned from can be changed;
 * every query of docs/schema.md answers, and every column is described there. */
#include "tests/store_kit.h"

#include "store/internal.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- round trip ---- */

static int group_compare(void *ctx, const struct group *g)
{
	int *seen = ctx;
	struct kit_group k;
	kit_group(&k, 2, (uint32_t)*seen, 0);
	uint32_t n = group_response_tokens(&k.g);
	assert_int_equal(g->slot, *seen);
	assert_int_equal(g->prompt, k.g.prompt);
	assert_int_equal(g->policy_version, k.g.policy_version);
	assert_int_equal(g->size, k.g.size);
	assert_int_equal(g->prompt_tokens, KIT_P);
	assert_memory_equal(g->length, k.g.length, sizeof g->length);
	assert_memory_equal(g->finish, k.g.finish, sizeof g->finish);
	assert_memory_equal(g->tokens, k.tokens, (KIT_P + n) * 4);
	assert_memory_equal(g->logprobs, k.logprobs, n * 4);
	assert_memory_equal(g->experts, k.experts, n * KIT_LAYERS * KIT_K * 2);
	assert_memory_equal(g->scores, k.scores, sizeof k.scores);
	assert_memory_equal(g->reward, k.reward, sizeof k.reward);
	assert_string_equal(g->prompt_text, k.g.prompt_text);
	assert_string_equal(g->term_name[1], "verifier");
	assert_string_equal(g->scorer_version, "kit-1");
	for (uint32_t i = 0; i < g->size; i++) assert_string_equal(g->text[i], k.text[i]);
	++*seen;
	return 0;
}

static int metric_count(void *ctx, const struct store_metric *m)
{
	int *seen = ctx;
	double v = 1.0 / (3 + (double)m->step);
	assert_string_equal(m->name, "policy/entropy");
	assert_memory_equal(&m->value, &v, sizeof v);
	assert_int_equal(m->step, *seen);
	++*seen;
	return 0;
}

static int step_metric_check(void *ctx, const struct store_metric *m)
{
	int *seen = ctx;
	assert_int_equal(m->step, 2 + *seen / 6);
	if (!strcmp(m->name, "loss/nan")) assert_true(isnan(m->value));
	if (!strcmp(m->name, "loss/zero")) assert_true(m->value == 0 && !signbit(m->value));
	++*seen;
	return 0;
}

static int event_count(void *ctx, const struct store_event *r)
{
	assert_string_equal(r->kind, *(int *)ctx % 2 ? "timing/worker_joined" : "stale_group");
	++*(int *)ctx;
	return 0;
}

static int eval_check(void *ctx, const struct store_eval *r)
{
	double v = 0.5 + 0.1 * (double)r->step;
	assert_memory_equal(&r->value, &v, sizeof v);
	assert_true(isnan(r->high) && r->low == 0.4 && r->n == 1000);
	++*(int *)ctx;
	return 0;
}

static int checkpoint_check(void *ctx, const struct store_checkpoint *r)
{
	assert_int_equal(r->version, r->step + 1);
	assert_string_equal(r->hash, "00ff");
	++*(int *)ctx;
	return 0;
}

static int stage_check(void *ctx, const struct store_stage *r)
{
	int k = (*(int *)ctx)++;
	assert_string_equal(r->stage, k ? "ppo" : "sft");
	assert_int_equal(r->last_step, k ? KIT_STEPS - 1 : -1);
	assert_int_equal(r->last_metric, k ? KIT_STEPS - 1 : 2);
	return 0;
}

static int run_check(void *ctx, const struct store_run *r)
{
	assert_string_equal(r->config, "run:\n  seed: 17\n");
	assert_int_equal(r->seed, 17);
	++*(int *)ctx;
	return 0;
}

static int step_stop(void *ctx, const struct store_step *r)
{
	*(uint64_t *)ctx = r->policy_version;
	return r->step == 1 ? 42 : 0;
}

static void test_round_trip(void **state)
{
	struct kit *k = *state;
	struct err e;
	int64_t last;
	uint64_t version;
	int n;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	kit_ok(store_each_group(s, "ppo", 2, group_compare, (n = 0, &n), &e), &e);
	assert_int_equal(n, KIT_GROUPS);
	kit_ok(store_each_metric(s, "ppo", "policy/*", metric_count, (n = 0, &n), &e), &e);
	assert_int_equal(n, KIT_STEPS);
	kit_ok(store_each_step_metric(s, "ppo", 2, step_metric_check, (n = 0, &n), &e), &e);
	assert_int_equal(n, (KIT_STEPS - 2) * 6);
	kit_ok(store_each_event(s, NULL, 0, event_count, (n = 0, &n), &e), &e);
	assert_int_equal(n, 2 * KIT_STEPS);
	kit_ok(store_each_eval(s, NULL, eval_check, (n = 0, &n), &e), &e);
	assert_int_equal(n, KIT_STEPS);
	kit_ok(store_each_checkpoint(s, "ppo", checkpoint_check, (n = 0, &n), &e), &e);
	assert_int_equal(n, KIT_STEPS);
	kit_ok(store_each_stage(s, stage_check, (n = 0, &n), &e), &e);
	assert_int_equal(n, 2);
	kit_ok(store_get_run(s, run_check, (n = 0, &n), &e), &e);
	assert_int_equal(n, 1);
	kit_ok(store_last_step(s, "ppo", &last, &e), &e);
	assert_int_equal(last, KIT_STEPS - 1);
	kit_ok(store_last_step(s, "collect", &last, &e), &e);
	assert_int_equal(last, -1);
	assert_int_equal(store_each_step(s, NULL, step_stop, &version, &e), 42);
	assert_int_equal(version, 1);
	store_close(s);
}

static void test_comparison(void **state)
{
	(void)state;
	float reward[] = { 1, NAN, 3, 1, NAN, INFINITY, -0.0f, 0 };
	struct group g = { .size = 8, .reward = reward, .scorer_version = "v" };
	struct store_comparison c;
	store_comparison_from_reward(&c, &g);
	assert_memory_equal(c.order, ((uint8_t[]){ 5, 2, 0, 3, 6, 7, 1, 4 }), 8);
	assert_memory_equal(c.rank, ((uint8_t[]){ 1, 2, 3, 3, 5, 5, 7, 7 }), 8);
	assert_true(isinf(c.margin[0]) && c.margin[1] == 2 && c.margin[2] == 0 && c.margin[3] == 1 && c.margin[4] == 0);
	assert_true(isnan(c.margin[5]) && c.margin[6] == 0);
}

static void test_pairs_view(void **state)
{
	struct kit *k = *state;
	char v[4096];
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	kit_value(s, "SELECT count(*) FROM pairs WHERE stage='ppo' AND step=1 AND slot=1 AND source='reward'", v);
	assert_string_equal(v, "45");
	/* every pair agrees with the rewards, ties and margins included */
	kit_value(s, "SELECT count(*) FROM pairs p JOIN candidates w ON w.stage=p.stage AND w.step=p.step AND w.slot=p.slot AND w.candidate=p.winner "
	             "JOIN candidates l ON l.stage=p.stage AND l.step=p.step AND l.slot=p.slot AND l.candidate=p.loser WHERE p.source='reward' "
	             "AND (w.reward < l.reward OR p.tie <> (w.reward = l.reward) OR abs(p.margin - (w.reward - l.reward)) > 1e-12)", v);
	assert_string_equal(v, "0");
	kit_value(s, "SELECT group_concat(winner || loser || tie || ifnull(margin, '-')) FROM pairs WHERE source='judge' AND step=0", v);
	assert_string_equal(v, "901-,940-,040-");
	store_close(s);
}

/* ---- who may open what ---- */

static void open_refused(const char *path, int writer, int code, const char *word)
{
	struct store *s;
	struct err e;
	assert_int_equal(store_open(&s, path, &(struct store_options){ .writer = writer }, &e), code);
	assert_null(s);
	if (!strstr(e.msg, word)) fail_msg("\"%s\" is not in: %s", word, e.msg);
	assert_non_null(strstr(e.msg, path));
}

static void test_second_writer(void **state)
{
	struct kit *k = *state;
	char pid[32], v[4096];
	kit_make(k->path, 1, 0);
	struct store *s = kit_open(k->path, 1);
	snprintf(pid, sizeof pid, "process %ld", (long)getpid());
	open_refused(k->path, 1, ERR_STATE, pid);
	struct store *r = kit_open(k->path, 0); /* a reader is welcome, and sees commits only */
	struct err e;
	struct kit_group g;
	kit_ok(store_step_begin(s, 9, 9, &e), &e);
	kit_group(&g, 9, 0, 0);
	kit_ok(store_put_group(s, &g.g, &e), &e);
	kit_value(r, "SELECT count(*) FROM groups WHERE step=9", v);
	assert_string_equal(v, "0");
	kit_ok(store_step_commit(s, &e), &e);
	kit_value(r, "SELECT count(*) FROM groups WHERE step=9", v);
	assert_string_equal(v, "1");
	store_close(s);
	store_close(r);
	store_close(kit_open(k->path, 1));
}

/* A writer killed inside a step: the lock is free, the step is not there, and the run goes on to the same digest. */
static void test_killed_writer(void **state)
{
	struct kit *k = *state;
	struct err e;
	char other[128], a[HASH_HEX], b[HASH_HEX];
	int64_t last;
	pid_t child = fork();
	if (child == 0) {
		struct store *s = kit_open(k->path, 1);
		struct kit_group g;
		int rc = kit_fill(s, 2, 0, &e);
		if (rc == 0) rc = store_step_begin(s, 2, 2, &e);
		for (uint32_t slot = 0; rc == 0 && slot < 2; slot++) kit_group(&g, 2, slot, 0), rc = store_put_group(s, &g.g, &e);
		raise(rc == 0 ? SIGKILL : SIGTERM);
	}
	int status;
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	struct store *s = kit_open(k->path, 0); /* reading what it left, WAL and all */
	kit_ok(store_last_step(s, "ppo", &last, &e), &e);
	assert_int_equal(last, 1);
	store_close(s);
	s = kit_open(k->path, 1);
	kit_ok(kit_fill(s, KIT_STEPS, 0, &e), &e);
	kit_ok(store_digest(s, a, &e), &e);
	store_close(s);
	snprintf(other, sizeof other, "%s/other.db", k->dir);
	kit_make(other, KIT_STEPS, 0);
	s = kit_open(other, 0);
	kit_ok(store_digest(s, b, &e), &e);
	store_close(s);
	assert_string_equal(a, b);
}

static void file_write(const char *path, const char *data, size_t bytes)
{
	struct err e;
	kit_ok(fs_write_atomic(path, data, bytes, &e), &e);
}

static void test_bad_files(void **state)
{
	struct kit *k = *state;
	struct err e;
	char *data, link[128];
	size_t bytes;
	open_refused(k->path, 0, ERR_NOT_FOUND, "no such file");
	file_write(k->path, "", 0);
	open_refused(k->path, 0, ERR_NOT_FOUND, "empty");
	for (int i = 0; i < 2; i++) {
		char text[4096];
		memset(text, 'x', sizeof text);
		file_write(k->path, text, sizeof text);
		open_refused(k->path, i, ERR_FORMAT, "not a SQLite database");
	}
	unlink(k->path);
	kit_make(k->path, KIT_STEPS, 0);
	kit_ok(fs_read(k->path, 1u << 30, &data, &bytes, &e), &e);
	memset(data + bytes / 2, 0x5a, 8192); /* damage in the middle: writing refused, file untouched, reading possible */
	file_write(k->path, data, bytes);
	open_refused(k->path, 1, ERR_FORMAT, "damaged");
	char *again;
	size_t more;
	kit_ok(fs_read(k->path, 1u << 30, &again, &more, &e), &e);
	assert_int_equal(bytes, more);
	assert_memory_equal(data, again, bytes);
	free(again);
	struct store *s = kit_open(k->path, 0);
	char v[4096];
	kit_value(s, "SELECT id FROM runs", v);
	assert_string_equal(v, "r1");
	assert_int_equal(store_check(s, &e), ERR_FORMAT);
	store_close(s);
	file_write(k->path, data, bytes / 3); /* truncated */
	open_refused(k->path, 1, ERR_FORMAT, "damaged");
	free(data);
	snprintf(link, sizeof link, "%s/link.db", k->dir);
	assert_int_equal(symlink(k->path, link), 0);
	open_refused(link, 1, ERR_IO, "not a regular file");
}

static void test_versions(void **state)
{
	struct kit *k = *state;
	struct err e;
	char v[4096], backup[128];
	static const struct migration good[] = { { 2, "CREATE TABLE later (x INTEGER) STRICT; INSERT INTO later VALUES (7)" }, { 0, NULL } };
	static const struct migration bad[] = { { 2, "CREATE TABLE later (x INTEGER) STRICT; SELECT nonsense" }, { 0, NULL } };
	kit_make(k->path, 1, 0);
	struct store *s = kit_open(k->path, 1);
	assert_int_equal(store_migrate(s, 2, 3, bad, &e), ERR_STATE);
	assert_int_equal(store_migrate(s, 2, 4, good, &e), ERR_STATE); /* no way from 3 to 4: not even 3 is kept */
	kit_value(s, "SELECT user_version || ' ' || (SELECT count(*) FROM sqlite_schema WHERE name='later') FROM pragma_user_version", v);
	assert_string_equal(v, "2 0");
	kit_ok(store_migrate(s, 2, 3, good, &e), &e);
	kit_value(s, "SELECT x FROM later", v);
	assert_string_equal(v, "7");
	store_close(s);
	open_refused(k->path, 1, ERR_STATE, "newer");
	open_refused(k->path, 0, ERR_STATE, "newer");
	snprintf(backup, sizeof backup, "%s.backup-v2", k->path);
	s = kit_open(backup, 0);
	kit_value(s, "SELECT count(*) FROM groups", v);
	assert_string_equal(v, "3");
	store_close(s);
	s = kit_open(backup, 1);
	kit_ok(store_sql_run(s, "PRAGMA application_id=1", &e), &e);
	store_close(s);
	open_refused(backup, 1, ERR_FORMAT, "another program");
	open_refused(backup, 0, ERR_FORMAT, "another program");
}

static int on_reference(void *ctx, const struct store_reference *r)
{
	struct kit_group k;
	float want[KIT_TOKENS];
	kit_group(&k, 2, r->slot, 0);
	assert_int_equal(r->count, kit_reference(&k, want));
	assert_memory_equal(r->logprobs, want, r->count * sizeof *want);
	++*(int *)ctx;
	return 0;
}

/* A file of version 1, which had no table of the reference, is read as it is; a writer migrates it to what a new one has, and puts
 * what is missing when the steps come again. */
static void test_before_references(void **state)
{
	static const char schema[] = "SELECT group_concat(name || ' ' || type || ' ' || \"notnull\" || ' ' || pk) || (SELECT group_concat(sql) FROM sqlite_schema WHERE type='trigger' AND "
		"tbl_name='reference_logprobs') || (SELECT \"table\" || count(*) FROM pragma_foreign_key_list('reference_logprobs')) FROM pragma_table_info('reference_logprobs')";
	struct kit *k = *state;
	struct err e;
	char fresh[4096], v[4096], digest[HASH_HEX], old[HASH_HEX];
	int n = 0;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 1);
	kit_value(s, schema, fresh);
	kit_ok(store_digest(s, digest, &e), &e);
	kit_ok(store_get_reference(s, "ppo", 2, 1, on_reference, &n, &e), &e);
	assert_int_equal(store_get_reference(s, "ppo", 2, KIT_GROUPS, on_reference, &n, &e), ERR_NOT_FOUND);
	assert_int_equal(n, 1);
	kit_ok(store_sql_run(s, "DROP TABLE reference_logprobs; PRAGMA user_version=1", &e), &e);
	store_close(s);
	s = kit_open(k->path, 0);
	kit_ok(store_digest(s, old, &e), &e);
	assert_string_equal(old, digest);
	assert_int_equal(store_get_reference(s, "ppo", 2, 1, on_reference, &n, &e), ERR_NOT_FOUND);
	store_close(s);
	s = kit_open(k->path, 1);
	kit_value(s, schema, v);
	assert_string_equal(v, fresh);
	kit_ok(kit_fill(s, KIT_STEPS, 0, &e), &e);
	kit_ok(store_get_reference(s, "ppo", 2, 1, on_reference, &n, &e), &e);
	assert_int_equal(n, 2);
	kit_value(s, "SELECT user_version FROM pragma_user_version", v);
	assert_string_equal(v, "2");
	kit_ok(store_digest(s, old, &e), &e);
	assert_string_equal(old, digest);
	store_close(s);
}

/* An archived run: folder and file read-only, no process left. Root may write anywhere, so it becomes nobody. */
static void test_read_only_folder(void **state)
{
	struct kit *k = *state;
	kit_make(k->path, 1, 0);
	chmod(k->path, 0444);
	chmod(k->dir, 0555);
	pid_t child = fork();
	if (child == 0) {
		struct store *s;
		struct err e;
		if (getuid() == 0 && setuid(65534) != 0) _exit(3);
		int rc = store_open(&s, k->path, &(struct store_options){ 0 }, &e);
		int64_t last = -1;
		if (rc == 0) rc = store_last_step(s, "ppo", &last, &e);
		if (rc < 0) fprintf(stderr, "%s\n", e.msg);
		if (rc == 0) store_close(s);
		_exit(rc < 0 ? 1 : last == 0 ? 0 : 2);
	}
	int status;
	waitpid(child, &status, 0);
	chmod(k->dir, 0755);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- what is refused ---- */

static void test_immutable(void **state)
{
	struct kit *k = *state;
	struct err e;
	char sql[128], before[HASH_HEX], after[HASH_HEX];
	kit_make(k->path, 2, 0);
	struct store *s = kit_open(k->path, 1);
	kit_ok(store_digest(s, before, &e), &e);
	for (int t = 0; t < TABLE_COUNT; t++) {
		if (t == TABLE_CHECKPOINTS || t == TABLE_EVALUATIONS) continue;
		snprintf(sql, sizeof sql, "UPDATE %s SET %s=%s", store_tables[t].name, store_tables[t].column[1].name, store_tables[t].column[1].name);
		assert_true(store_sql_run(s, sql, &e) < 0);
		assert_non_null(strstr(e.msg, "immutable"));
		snprintf(sql, sizeof sql, "DELETE FROM %s", store_tables[t].name);
		assert_true(store_sql_run(s, sql, &e) < 0);
		assert_non_null(strstr(e.msg, "immutable"));
	}
	assert_true(store_sql_run(s, "INSERT OR REPLACE INTO comparisons SELECT * FROM comparisons", &e) < 0);
	kit_ok(store_digest(s, after, &e), &e);
	assert_string_equal(before, after);
	static const char *const writing[] = { "DELETE FROM events", "BEGIN", "SELECT 1; SELECT 2", "ATTACH ':memory:' AS x" };
	for (size_t i = 0; i < sizeof writing / sizeof *writing; i++)
		assert_int_equal(store_query(s, writing[i], kit_first_value, sql, &e), ERR_RANGE);
	store_close(s);
}

static void test_wrong_use(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct kit_group g;
	char v[4096];
	kit_make(k->path, 1, 0);
	struct store *s = kit_open(k->path, 1);
	kit_group(&g, 5, 1, 0);
	assert_int_equal(store_put_group(s, &g.g, &e), ERR_STATE); /* no step */
	assert_int_equal(store_step_commit(s, &e), ERR_STATE);
	kit_ok(store_step_begin(s, 5, 5, &e), &e);
	kit_ok(store_put_group(s, &g.g, &e), &e);
	assert_int_equal(store_put_group(s, &g.g, &e), ERR_STATE); /* the same slot again: rolled back */
	assert_int_equal(store_step_commit(s, &e), ERR_STATE);
	kit_value(s, "SELECT count(*) FROM steps WHERE step=5", v);
	assert_string_equal(v, "0");
	kit_ok(store_step_begin(s, 5, 5, &e), &e);
	assert_int_equal(store_set_stage(s, "sft", &e), ERR_STATE);
	g.g.prompt = 77;
	assert_int_equal(store_put_group(s, &g.g, &e), ERR_STATE);
	assert_non_null(strstr(e.msg, "prompt 77"));
	kit_ok(store_step_begin(s, 5, 5, &e), &e);
	g.g.prompt = 0;
	assert_int_equal(store_put_group(s, &g.g, &e), ERR_MISMATCH); /* another prompt's text */
	kit_ok(store_step_begin(s, 5, 5, &e), &e);
	g.g.prompt = 1;
	g.g.size = 1;
	assert_int_equal(store_put_group(s, &g.g, &e), ERR_RANGE);
	assert_int_equal(store_set_stage(s, "../x", &e), ERR_RANGE);
	struct store_comparison c = { .source = "x", .scorer_version = "x", .count = 2, .order = { 1, 1 }, .rank = { 1, 2 } };
	assert_int_equal(store_put_comparison(s, 0, 0, &c, &e), ERR_RANGE);
	store_close(s);
	s = kit_open(k->path, 0);
	assert_int_equal(store_put_event(s, 0, "x", 0, "", &e), ERR_STATE);
	assert_int_equal(store_step_begin(s, 0, 0, &e), ERR_STATE);
	store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, kit_setup, kit_teardown),
		cmocka_unit_test(test_comparison),
		cmocka_unit_test_setup_teardown(test_pairs_view, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_second_writer, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_killed_writer, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_bad_files, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_versions, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_before_references, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_read_only_folder, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_immutable, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_use, kit_setup, kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
