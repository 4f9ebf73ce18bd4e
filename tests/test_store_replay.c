/* Replay, digest, difference: the same rows again change nothing; one changed
 * bit in any compared column of any table is found by all three and named; rows
 * missing or too many are found; what depends on the clock is not looked at. */
#include "tests/store_kit.h"

#include "core/base/fault.h"
#include "store/internal.h"

#include <signal.h>
#include <sys/wait.h>

static void counts(struct store *s, char out[4096])
{
	kit_value(s, "SELECT (SELECT count(*) FROM runs) || ' ' || (SELECT count(*) FROM stages) || ' ' || (SELECT count(*) FROM prompts) || ' ' || "
	             "(SELECT count(*) FROM steps) || ' ' || (SELECT count(*) FROM groups) || ' ' || (SELECT count(*) FROM candidates) || ' ' || "
	             "(SELECT count(*) FROM scores) || ' ' || (SELECT count(*) FROM reference_logprobs) || ' ' || (SELECT count(*) FROM comparisons) || ' ' || (SELECT count(*) FROM metrics) || ' ' || "
	             "(SELECT count(*) FROM events WHERE kind NOT GLOB 'timing/*') || ' ' || (SELECT count(*) FROM checkpoints) || ' ' || "
	             "(SELECT count(*) FROM evaluations)", out);
}

static void test_same_again(void **state)
{
	struct kit *k = *state;
	struct err e;
	char before[4096], after[4096], a[HASH_HEX], b[HASH_HEX];
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 1);
	counts(s, before);
	assert_string_equal(before, "1 2 3 4 12 120 240 12 16 30 4 4 4");
	kit_ok(store_digest(s, a, &e), &e);
	kit_ok(kit_fill(s, KIT_STEPS, 0, &e), &e);
	counts(s, after);
	assert_string_equal(before, after);
	kit_ok(store_digest(s, b, &e), &e);
	assert_string_equal(a, b);
	kit_ok(store_step_begin(s, 0, 0, &e), &e);
	assert_true(store_step_is_replay(s));
	store_step_abort(s);
	kit_ok(store_step_begin(s, KIT_STEPS, 0, &e), &e);
	assert_false(store_step_is_replay(s));
	store_close(s);
}

/* ---- one changed value ---- */

/* The row that is changed, as a condition. */
static const char *const planted_row[TABLE_COUNT] = {
	[TABLE_RUNS] = "run=1",
	[TABLE_PROMPTS] = "prompt=0",
	[TABLE_STEPS] = "stage='ppo' AND step=2",
	[TABLE_GROUPS] = "stage='ppo' AND step=2 AND slot=1",
	[TABLE_CANDIDATES] = "stage='ppo' AND step=2 AND slot=1 AND candidate=7",
	[TABLE_SCORES] = "stage='ppo' AND step=2 AND slot=1 AND candidate=7 AND term='verifier'",
	[TABLE_COMPARISONS] = "stage='ppo' AND step=2 AND slot=1 AND source='reward'",
	[TABLE_REFERENCES] = "stage='ppo' AND step=2 AND slot=1",
	[TABLE_METRICS] = "stage='ppo' AND step=2 AND name='policy/entropy'",
	[TABLE_EVENTS] = "stage='ppo' AND step=2 AND kind='stale_group'",
	[TABLE_CHECKPOINTS] = "stage='ppo' AND step=2",
	[TABLE_EVALUATIONS] = "stage='ppo' AND step=2 AND name='pass_rate'",
};

/* Changes one column of one row by as little as its type allows: one, one ulp, one letter, one bit. */
static void plant(struct store *s, enum table_id t, const struct column *c)
{
	char sql[STORE_SQL * 4], v[4096];
	struct err e;
	const char *table = store_tables[t].name;
	snprintf(sql, sizeof sql, "DROP TRIGGER IF EXISTS %s_no_update; PRAGMA foreign_keys=0; PRAGMA ignore_check_constraints=1", table);
	kit_ok(store_sql_run(s, sql, &e), &e);
	if (c->kind == CELL_INT) snprintf(v, sizeof v, "%s+1", c->name);
	else if (c->kind == CELL_REAL)
		snprintf(v, sizeof v, "CASE WHEN ifnull(%s, 0.0)=0.0 THEN 1e-300 ELSE %s*(1.0+2.3e-16) END", c->name, c->name);
	else if (c->kind == CELL_TEXT) snprintf(v, sizeof v, "ifnull(%s, '') || 'x'", c->name);
	else {
		char hex[4096];
		snprintf(sql, sizeof sql, "SELECT hex(%s) FROM %s WHERE %s", c->name, table, planted_row[t]);
		kit_value(s, sql, hex);
		size_t n = strlen(hex);
		assert_true(n >= 4);
		hex[n - 1] = hex[n - 1] == '0' ? '1' : '0';
		snprintf(v, sizeof v, "X'%.4000s'", hex);
	}
	snprintf(sql, sizeof sql, "UPDATE %s SET %s=%s WHERE %s", table, c->name, v, planted_row[t]);
	kit_ok(store_sql_run(s, sql, &e), &e);
	kit_value(s, "SELECT changes()", v);
	assert_string_equal(v, "1");
}

static void has(const char *text, const char *word)
{
	if (!strstr(text, word)) fail_msg("\"%s\" is not in: %s", word, text);
}

/* Plants in a copy and looks at it by replay, digest and difference. */
static void plant_and_look(const char *pristine, const char *path, enum table_id t, const struct column *c, const char *digest)
{
	struct err e = { 0 };
	struct store_difference d;
	char word[96], hex[HASH_HEX];
	unlink(path);
	kit_copy(pristine, path);
	struct store *s = kit_open(path, 1), *old = kit_open(pristine, 0);
	plant(s, t, c);
	kit_ok(store_digest(s, hex, &e), &e);
	kit_ok(store_diff(old, s, &d, &e), &e);
	int in_digest = store_tables[t].hashed && c->flags & COL_DIGEST;
	if (in_digest == !strcmp(hex, digest) || d.found != in_digest) fail_msg("%s.%s: digest or difference are wrong", store_tables[t].name, c->name);
	if (in_digest) {
		assert_string_equal(d.table, store_tables[t].name);
		has(d.column, c->name);
		assert_int_equal(d.step, store_tables[t].staged ? 2 : -1);
		assert_int_equal(d.same_through, store_tables[t].staged ? 1 : -1);
		assert_string_not_equal(d.a, d.b);
	}
	int rc = kit_fill(s, KIT_STEPS, 0, &e);
	if (rc != (c->flags & COL_REPLAY ? ERR_MISMATCH : 0)) fail_msg("%s.%s: replay gave %d %s", store_tables[t].name, c->name, rc, e.msg);
	if (rc) {
		snprintf(word, sizeof word, "table %s,", store_tables[t].name);
		has(e.msg, word);
		snprintf(word, sizeof word, "column %s", c->name);
		has(e.msg, word);
		if (store_tables[t].staged) has(e.msg, "stage ppo, step 2");
		if (t == TABLE_CANDIDATES || t == TABLE_SCORES) has(e.msg, "slot 1, candidate 7");
	}
	store_close(s);
	store_close(old);
}

static void test_planted(void **state)
{
	struct kit *k = *state;
	struct err e;
	char path[128], digest[HASH_HEX];
	int columns = 0;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	kit_ok(store_digest(s, digest, &e), &e);
	store_close(s);
	snprintf(path, sizeof path, "%s/planted.db", k->dir);
	for (int t = 0; t < TABLE_COUNT; t++)
		for (int c = store_tables[t].keys; c < store_tables[t].columns; c++, columns++)
			plant_and_look(k->path, path, (enum table_id)t, &store_tables[t].column[c], digest);
	assert_int_equal(columns, 7 + 3 + 2 + 8 + 7 + 1 + 3 + 1 + 1 + 2 + 4 + 4);
}

/* Every column of the schema is in the description, so that none escapes the comparison. */
static void test_all_columns_described(void **state)
{
	struct kit *k = *state;
	char sql[256], v[4096], want[16];
	kit_make(k->path, 1, 0);
	struct store *s = kit_open(k->path, 0);
	for (int t = 0; t < TABLE_COUNT; t++) {
		snprintf(sql, sizeof sql, "SELECT count(*) FROM pragma_table_info('%s') WHERE name<>'event'", store_tables[t].name);
		kit_value(s, sql, v);
		snprintf(want, sizeof want, "%d", store_tables[t].columns);
		assert_string_equal(v, want);
	}
	kit_value(s, "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name<>'stages'", v);
	snprintf(want, sizeof want, "%d", TABLE_COUNT);
	assert_string_equal(v, want);
	store_close(s);
}

/* ---- rows missing or too many ---- */

static void expect_mismatch(int rc, const struct err *e, const char *word)
{
	if (rc != ERR_MISMATCH) fail_msg("expected a mismatch about %s, got %d", word, rc);
	has(e->msg, word);
}

static void test_rows(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct kit_group g;
	char before[4096], after[4096];
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 1);
	counts(s, before);
	kit_ok(store_step_begin(s, 1, 1, &e), &e); /* a group short */
	for (uint32_t slot = 0; slot < 2; slot++) {
		kit_group(&g, 1, slot, 0);
		kit_ok(store_put_group(s, &g.g, &e), &e);
	}
	expect_mismatch(store_step_commit(s, &e), &e, "table groups");
	kit_ok(store_step_begin(s, 1, 1, &e), &e); /* a group that was not there */
	kit_group(&g, 1, 2, 0);
	g.g.slot = 3;
	expect_mismatch(store_put_group(s, &g.g, &e), &e, "slot 3");
	kit_ok(store_step_begin(s, 1, 1, &e), &e); /* a candidate short */
	kit_group(&g, 1, 2, 0);
	g.g.size = 9;
	expect_mismatch(store_put_group(s, &g.g, &e), &e, "column size was 10, now 9");
	kit_ok(store_step_begin(s, 1, 1, &e), &e); /* one float of one candidate */
	kit_group(&g, 1, 2, 0);
	g.logprobs[0] = nextafterf(g.logprobs[0], 0);
	expect_mismatch(store_put_group(s, &g.g, &e), &e, "candidate 0: column logprobs[0] was");
	expect_mismatch(store_step_begin(s, 1, 7, &e), &e, "policy_version was 1, now 7");
	const char *names[] = { "objective/kl", "policy/entropy", "loss/nan", "more" };
	double values[] = { 0.1, 0.25, NAN, 0 };
	expect_mismatch(store_put_metrics(s, 1, names, values, 4, &e), &e, "name more");
	expect_mismatch(store_put_metrics(s, 1, names, values, 2, &e), &e, "name loss/nan");
	values[2] = 0;
	expect_mismatch(store_put_metrics(s, 1, names, values, 3, &e), &e, "value was NaN, now 0");
	expect_mismatch(store_put_event(s, 1, "stale_group", 1, "{\"dropped\": 2}", &e), &e, "column body");
	struct store_prompt p = { 0, kit_prompts[0], NULL };
	expect_mismatch(store_put_prompts(s, &p, 1, &e), &e, "3 prompts");
	counts(s, after);
	assert_string_equal(before, after);
	store_close(s);
}

/* ---- two runs ---- */

static void test_difference(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct store_difference d;
	char path[128], a[HASH_HEX], b[HASH_HEX];
	snprintf(path, sizeof path, "%s/b.db", k->dir);
	kit_make(k->path, KIT_STEPS, 0);
	kit_make(path, KIT_STEPS, 1); /* one ulp in step 2 */
	struct store *x = kit_open(k->path, 0), *y = kit_open(path, 0);
	kit_ok(store_diff(x, y, &d, &e), &e);
	assert_true(d.found && d.step == 2 && d.same_through == 1);
	assert_string_equal(d.stage, "ppo");
	assert_string_equal(d.row, "step 2, slot 1, candidate 7");
	assert_string_equal(d.column, "logprobs[0]");
	kit_ok(store_digest(x, a, &e), &e);
	kit_ok(store_digest(y, b, &e), &e);
	assert_string_not_equal(a, b);
	kit_ok(store_diff(x, x, &d, &e), &e);
	assert_true(!d.found && d.same_through == KIT_STEPS - 1);
	store_close(y);
	unlink(path);
	kit_make(path, 2, 0); /* shorter */
	y = kit_open(path, 0);
	kit_ok(store_diff(x, y, &d, &e), &e);
	assert_true(d.found && d.step == 2 && d.same_through == 1);
	assert_string_equal(d.table, "steps");
	assert_string_equal(d.b, "no such row");
	store_close(y);
	unlink(path);
	kit_make(path, 0, 0); /* without the last stage */
	y = kit_open(path, 0);
	kit_ok(store_diff(y, x, &d, &e), &e);
	assert_true(d.found);
	assert_string_equal(d.table, "stages");
	assert_string_equal(d.b, "ppo");
	store_close(y);
	store_close(x);
}

/* ---- killed at every named point ---- */

/* Fills a database in a child that is to be killed at the point; the way it ended. */
static int fill_in_child(const char *path, const char *fault)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		struct err e;
		setenv("TENFOLD_FAULT", fault, 1);
		fault_reset();
		struct store *s = kit_open(path, 1);
		int rc = kit_fill(s, KIT_STEPS, 0, &e);
		store_close(s);
		_exit(rc < 0 ? -rc : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void expect_digest(const char *path, const char *digest)
{
	struct err e;
	char hex[HASH_HEX];
	struct store *s = kit_open(path, 1);
	kit_ok(kit_fill(s, KIT_STEPS, 0, &e), &e);
	kit_ok(store_digest(s, hex, &e), &e);
	assert_string_equal(hex, digest);
	kit_ok(store_check(s, &e), &e);
	store_close(s);
	fs_remove_tree(path, NULL);
}

static void test_fault_points(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct fault_info points[512];
	char path[128], fault[96], digest[HASH_HEX];
	int killed = 0;
	if (!fault_enabled()) skip(); /* built without TENFOLD_FAULTS */
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	kit_ok(store_digest(s, digest, &e), &e);
	store_close(s);
	snprintf(path, sizeof path, "%s/killed.db", k->dir);
	size_t n = fault_list(points, 512);
	for (size_t i = 0; i < n && i < 512; i++) {
		if (strncmp(points[i].name, "store.", 6)) continue;
		int once = !strcmp(points[i].name, "store.within_create") || !strcmp(points[i].name, "store.after_create") || !strcmp(points[i].name, "store.before_prompts_commit");
		int passes = once ? 1 : 3;
		for (int nth = 1; nth <= passes; nth += 2) {
			snprintf(fault, sizeof fault, "%s:%d:kill", points[i].name, nth);
			int status = fill_in_child(path, fault);
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail_msg("%s: not killed, status %d", fault, status);
			expect_digest(path, digest);
			killed++;
		}
		if (!points[i].can_fail) continue;
		snprintf(fault, sizeof fault, "%s:2:error", points[i].name);
		int status = fill_in_child(path, fault);
		if (!WIFEXITED(status) || WEXITSTATUS(status) == 0) fail_msg("%s: no error, status %d", fault, status);
		expect_digest(path, digest);
	}
	assert_int_equal(killed, 9 * 2 + 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_again, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_planted, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_all_columns_described, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_rows, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_difference, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_fault_points, kit_setup, kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
