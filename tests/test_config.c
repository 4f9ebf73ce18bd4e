/* The configuration: reading, refusing, presets in any order, the written copy
 * reads back to the same value, and docs/configuration.md is up to date. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/config.h"
#include "core/base/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int open_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/tenfold_config_XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state)
{
	(void)state;
	return fs_remove_tree(folder, NULL);
}

static const char *file(const char *text, size_t bytes)
{
	static char path[96];
	struct err e;
	snprintf(path, sizeof path, "%s/c.yaml", folder);
	assert_int_equal(fs_write_atomic(path, text, bytes, &e), 0);
	return path;
}

static int read_text(struct config *c, const char *text, struct err *e)
{
	return config_read(c, file(text, strlen(text)), e);
}

/* Reading `text` fails with this code, and the message holds both words. */
static void refused(const char *text, int code, const char *one, const char *two)
{
	struct config c;
	struct err e = {0};
	config_defaults(&c);
	int rc = read_text(&c, text, &e);
	if (rc != code || !strstr(e.msg, one) || !strstr(e.msg, two))
		fail_msg("'%s' gave %d '%s'; expected %d with '%s' and '%s'", text, rc, e.msg, code, one, two);
}

static void defaults_are_valid(void **state)
{
	(void)state;
	struct config c;
	struct err e = {0};
	config_defaults(&c);
	int rc = config_check(&c, &e);
	if (rc) fail_msg("%s", e.msg);
	assert_int_equal(c.model.width, 128);
	assert_int_equal(c.rollout.group_size, 10);
	assert_string_equal(c.reward.terms, "verifier:1.0");
	assert_true(c.sft.optim.lr == 2e-3 && c.ppo.optim.lr == 3e-4);
	size_t count;
	config_keys(&count);
	for (size_t i = 0; i < CONFIG_KEYS_MAX; i++) assert_int_equal(c.given[i], 0);
}

static void every_key_has_its_field(void **state)
{
	(void)state;
	/* no two rows share bytes of the struct, and names are unique */
	size_t count;
	const struct config_key *k = config_keys(&count);
	static unsigned char used[sizeof(struct config)];
	memset(used, 0, sizeof used);
	for (size_t i = 0; i < count; i++) {
		size_t n = k[i].type == CONFIG_TEXT || k[i].type == CONFIG_CHOICE ? CONFIG_STRING : 8;
		for (size_t b = 0; b < n; b++) {
			if (used[k[i].offset + b]) fail_msg("%s shares its field with another key", k[i].name);
			used[k[i].offset + b] = 1;
		}
		assert_ptr_equal(config_find(k[i].name), &k[i]);
		assert_true(strlen(k[i].help) > 10);
	}
	for (size_t b = 0; b < offsetof(struct config, given); b++)
		if (!used[b]) fail_msg("byte %zu of struct config has no key", b);
}

static void reads_values(void **state)
{
	(void)state;
	struct config c;
	struct err e = {0};
	config_defaults(&c);
	int rc = read_text(&c,
		"run:\n  name: \"a: b\"\n  stages: [sft, ppo]\n"
		"ppo:\n  optim: {lr: 1e-4, schedule: linear}\n  clip: .3\n  kl_control: adaptive\n"
		"reward:\n  shuffle: yes\n  command:\nmodel: # empty section\nrollout:\n  temperature: 0.7\n",
		&e);
	if (rc) fail_msg("%s", e.msg);
	assert_string_equal(c.run.name, "a: b");
	assert_string_equal(c.run.stages, "sft, ppo");
	assert_true(config_has_stage(&c, "ppo") && !config_has_stage(&c, "eval"));
	assert_true(c.ppo.optim.lr == 1e-4 && c.ppo.clip == 0.3 && c.rollout.temperature == 0.7);
	assert_int_equal(c.reward.shuffle, 1);
	assert_int_equal(config_set(&c, "ppo.steps=7", &e), 0);
	assert_int_equal(config_set(&c, "run.name=", &e), 0);
	assert_int_equal(c.ppo.steps, 7);
	assert_string_equal(c.run.name, "");
	config_defaults(&c);
	assert_int_equal(read_text(&c, "", &e), 0);
	assert_int_equal(read_text(&c, "# nothing\n", &e), 0);
}

static void refuses_with_the_line(void **state)
{
	(void)state;
	refused("ppo:\n  clop: .2\n", ERR_FORMAT, "c.yaml:2", "ppo.clip");
	refused("sft:\n  lr: 1\n", ERR_FORMAT, "c.yaml:2", "sft.optim.lr");
	refused("pppo:\n  clip: .2\n", ERR_FORMAT, "c.yaml:1", "no key pppo");
	refused("ppo:\n  clip: .2\n  steps: 3\n  clip: .3\n", ERR_FORMAT, "c.yaml:4", "line 2");
	refused("ppo:\n  steps: 3\nrun:\n  seed: 1\nppo:\n  steps: 4\n", ERR_FORMAT, "c.yaml:6", "twice");
	refused("ppo:\n  steps: many\n", ERR_FORMAT, "c.yaml:2", "whole number");
	refused("ppo:\n  steps: 1.5\n", ERR_FORMAT, "c.yaml:2", "whole number");
	refused("ppo:\n  steps: \"3\"\n", ERR_FORMAT, "c.yaml:2", "quotes");
	refused("ppo:\n  steps:\n", ERR_FORMAT, "c.yaml:2", "whole number");
	refused("ppo:\n  steps: 99999999999999999999\n", ERR_FORMAT, "c.yaml:2", "whole number");
	refused("ppo:\n  clip: nan\n", ERR_FORMAT, "c.yaml:2", "finite");
	refused("ppo:\n  clip: 1e999\n", ERR_FORMAT, "c.yaml:2", "finite");
	refused("ppo:\n  clip: 0x1p3\n", ERR_FORMAT, "c.yaml:2", "finite");
	refused("rollout:\n  group_size: 65\n", ERR_RANGE, "c.yaml:2", "2 to 64");
	refused("rollout:\n  group_size: 1\n", ERR_RANGE, "c.yaml:2", "2 to 64");
	refused("ppo:\n  kl_estimator: k4\n", ERR_RANGE, "c.yaml:2", "k1|k2|k3");
	refused("reward:\n  shuffle: 2\n", ERR_FORMAT, "c.yaml:2", "true or false");
	refused("ppo: 3\n", ERR_FORMAT, "c.yaml:1", "section ppo");
	refused("ppo:\n  clip: [1, 2]\n", ERR_FORMAT, "c.yaml:2", "list");
	refused("ppo:\n  clip: {a: 1}\n", ERR_FORMAT, "c.yaml:2", "section");
	refused("- a\n- b\n", ERR_FORMAT, "c.yaml:1", "keys with values");
	refused("a: [1\n", ERR_FORMAT, "c.yaml:2", "not YAML");
	refused("run: {seed: 1}\n---\nrun: {seed: 2}\n", ERR_FORMAT, "c.yaml:3", "second document");
	refused("ppo: &a\n  optim: *a\n", ERR_FORMAT, "c.yaml:2", "ppo.optim.optim");
	refused("ppo:\n  <<: {clip: 1}\n", ERR_FORMAT, "c.yaml:2", "ppo.<<");
	refused("run:\n  name: \"a\\0b\"\n", ERR_FORMAT, "c.yaml:2", "NUL");
	refused("run:\n  name: \xff\xfe\n", ERR_FORMAT, "c.yaml", "UTF-8");
}

static void refuses_long_text_and_bad_sets(void **state)
{
	(void)state;
	char text[1200];
	snprintf(text, sizeof text, "run:\n  name: %0600d\n", 1);
	refused(text, ERR_RANGE, "c.yaml:2", "511");
	snprintf(text, sizeof text, "run:\n  stages: [%0600d, %0500d]\n", 1, 2);
	refused(text, ERR_RANGE, "c.yaml:2", "list");
	struct config c;
	struct err e;
	config_defaults(&c);
	assert_int_equal(config_set(&c, "ppo.step=3", &e), ERR_FORMAT);
	assert_non_null(strstr(e.msg, "ppo.steps"));
	assert_int_equal(config_set(&c, "ppo.steps", &e), ERR_FORMAT);
	assert_int_equal(config_set(&c, "=3", &e), ERR_FORMAT);
	assert_int_equal(config_set(&c, "ppo.clip=0", &e), ERR_RANGE);
	assert_int_equal(config_read(&c, "/nonexistent/x.yaml", &e), ERR_NOT_FOUND);
}

static void same(const struct config *a, const struct config *b)
{
	const char *key = config_difference(a, b);
	if (key) fail_msg("%s differs", key);
}

static void presets_yield_to_written_keys(void **state)
{
	(void)state;
	struct config a, b, c;
	struct err e;
	config_defaults(&a);
	assert_int_equal(read_text(&a, "ppo:\n  preset: oai2019\n  clip: .3\n", &e), 0);
	config_defaults(&b);
	assert_int_equal(read_text(&b, "ppo:\n  clip: .3\n  preset: oai2019\n", &e), 0);
	same(&a, &b);
	assert_true(a.ppo.clip == .3 && a.ppo.kl_coef == .15 && a.rollout.temperature == .7);
	assert_string_equal(a.ppo.optim.adam, "tensorflow");
	assert_string_equal(a.ppo.eos_rule, "replace");
	assert_int_equal(a.ppo.steps, 200);
	/* --set in either order, before or after the file */
	config_defaults(&c);
	assert_int_equal(config_set(&c, "ppo.clip=.3", &e), 0);
	assert_int_equal(config_set(&c, "ppo.preset=oai2019", &e), 0);
	assert_int_equal(config_set(&c, "ppo.kl_coef=.15", &e), 0);
	same(&a, &c);
	/* another preset by --set replaces the file's, its keys included; a key set to its default stays */
	assert_int_equal(config_set(&a, "ppo.preset=trl", &e), 0);
	assert_true(a.ppo.kl_coef == .05 && a.ppo.clip == .3);
	assert_string_equal(a.ppo.kl_control, "fixed");
	assert_string_equal(a.ppo.eos_rule, "subtract");
	assert_int_equal(config_set(&a, "ppo.epochs=1", &e), 0);
	assert_int_equal(config_set(&a, "ppo.preset=nplus2024", &e), 0);
	assert_int_equal(a.ppo.epochs, 1);
	assert_string_equal(a.ppo.score_at, "eos_plus_one");
	/* none: back to the defaults */
	config_defaults(&b);
	assert_int_equal(config_set(&b, "ppo.preset=trl", &e), 0);
	assert_int_equal(config_set(&b, "ppo.preset=none", &e), 0);
	config_defaults(&c);
	same(&b, &c);
	static const char *const all[] = {"oai2019", "nplus2024", "trl"};
	for (int i = 0; i < 3; i++) {
		char set[64];
		snprintf(set, sizeof set, "ppo.preset=%s", all[i]);
		config_defaults(&c);
		assert_int_equal(config_set(&c, set, &e), 0);
		assert_int_equal(config_check(&c, &e), 0);
	}
}

static void write_to(const struct config *c, const char *path)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	config_write(c, f);
	assert_int_equal(fclose(f), 0);
}

static void written_copy_reads_back(void **state)
{
	(void)state;
	struct config a, b;
	struct err e = {0};
	char path[96];
	snprintf(path, sizeof path, "%s/copy.yaml", folder);
	config_defaults(&a);
	assert_int_equal(config_set(&a, "ppo.preset=oai2019", &e), 0);
	assert_int_equal(config_set(&a, "ppo.clip=0.1234567890123456", &e), 0);
	assert_int_equal(config_set(&a, "reward.clip=1e22", &e), 0);
	assert_int_equal(config_set(&a, "run.seed=9007199254740991", &e), 0);
	assert_int_equal(config_set(&a, "run.name=\"q\" \\ \t: # \xc3\xa9 {x} 'y' -", &e), 0);
	assert_int_equal(config_set(&a, "rollout.stop=\n\x01", &e), 0);
	assert_int_equal(config_set(&a, "reward.shuffle=on", &e), 0);
	write_to(&a, path);
	config_defaults(&b);
	int rc = config_read(&b, path, &e);
	if (rc) fail_msg("%s", e.msg);
	same(&a, &b);
	/* a difference is seen, so `same` can fail */
	assert_int_equal(config_set(&b, "net.heartbeat_seconds=2", &e), 0);
	assert_string_equal(config_difference(&a, &b), "net.heartbeat_seconds");
}

static void checked(const char *set1, const char *set2, const char *word)
{
	struct config c;
	struct err e = {0};
	config_defaults(&c);
	if (config_set(&c, set1, &e) || (set2 && config_set(&c, set2, &e))) fail_msg("%s", e.msg);
	int rc = config_check(&c, &e);
	if (!word && rc) fail_msg("%s, %s: %s", set1, set2, e.msg);
	if (word && (rc >= 0 || !strstr(e.msg, word))) fail_msg("%s, %s: %d '%s' without '%s'", set1, set2 ? set2 : "", rc, e.msg, word);
}

static void cross_rules(void **state)
{
	(void)state;
	checked("model.kv_heads=3", NULL, "multiple");
	checked("model.kv_heads=2", NULL, NULL);
	checked("model.head_dim=33", NULL, "odd");
	checked("model.experts_per_token=8", "model.experts=4", "model.experts ");
	checked("model.dense_layers=4", NULL, "model.layers");
	checked("run.stages=sft, fly", NULL, "fly");
	checked("run.stages=sft,sft", NULL, "twice");
	checked("run.stages= , ", NULL, "no stage");
	checked("run.stages=", NULL, "empty");
	checked("rollout.max_new_tokens=2048", NULL, "no room");
	checked("rollout.min_new_tokens=33", NULL, "rollout.max_new_tokens");
	checked("ppo.minibatches=3", NULL, "multiple");
	checked("ppo.critic=none", NULL, "needs a critic");
	checked("ppo.advantage=group", NULL, "no critic");
	checked("ppo.advantage=group", "ppo.critic=none", NULL);
	checked("ppo.critic_init=reward", NULL, "ppo.critic is head");
	checked("ppo.critic_init=reward", "ppo.critic=separate", NULL);
	checked("ppo.kl_control=adaptive", "ppo.kl_coef=0", "start above");
	checked("ppo.lag=2", NULL, "ppo.stale_steps");
	checked("ppo.optim.warmup=300", "ppo.optim.schedule=cosine", "ppo.optim.warmup");
	checked("task.name=prompts", NULL, "task.prompts");
	checked("task.prompts=/nonexistent", NULL, "no /nonexistent");
	checked("model.init=/nonexistent", NULL, "model.init");
	checked("reward.terms=verifier", NULL, NULL);
	checked("reward.terms=verifier:x", NULL, "finite");
	checked("reward.terms=Ver:1", NULL, "no name");
	checked("reward.terms=a:1, a:2", NULL, "twice");
	checked("reward.terms=a : 1, b: -2e-3", NULL, NULL);
	checked("reward.terms=", NULL, "empty");
	checked("reward.terms=command:1", NULL, "reward.command");
	checked("reward.command=./score", NULL, "command:1.0");
	checked("net.rewards=tcp://127.0.0.1:5, 127.0.0.1", NULL, "endpoint");
	checked("net.learner=ipc://x", NULL, NULL);
}

static void docs_are_generated(void **state)
{
	(void)state;
	char *want = NULL, *have = NULL;
	size_t want_bytes = 0, have_bytes = 0;
	struct err e = {0};
	FILE *f = open_memstream(&want, &want_bytes);
	config_write_docs(f);
	fclose(f);
	if (fs_read(TENFOLD_SOURCE "/docs/configuration.md", 1 << 20, &have, &have_bytes, &e)) fail_msg("%s", e.msg);
	if (have_bytes != want_bytes || memcmp(have, want, want_bytes))
		fail_msg("docs/configuration.md is not up to date: write it anew with `tenfold config --docs > docs/configuration.md`");
	free(want);
	free(have);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_valid),
		cmocka_unit_test(every_key_has_its_field),
		cmocka_unit_test(reads_values),
		cmocka_unit_test(refuses_with_the_line),
		cmocka_unit_test(refuses_long_text_and_bad_sets),
		cmocka_unit_test(presets_yield_to_written_keys),
		cmocka_unit_test(written_copy_reads_back),
		cmocka_unit_test(cross_rules),
		cmocka_unit_test(docs_are_generated),
	};
	return cmocka_run_group_tests(tests, open_folder, close_folder);
}
