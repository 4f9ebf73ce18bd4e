/* Tokenizers of every kind of pipeline, and chat templates, against what the
 * `tokenizers` library and transformers gave (golden/tokenizer_golden.json, made by
 * the script beside it); and files that are damaged at random: each is refused or
 * gives a tokenizer that works. */
#include "core/base/fs.h"
#include "core/base/rng.h"
#include "policy/chat.h"
#include "policy/jinja.h"
#include "policy/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define FOLDER "test_tokenizer_golden"

static json_t *golden;

static void must(int rc, const struct err *e)
{
	if (rc < 0) fail_msg("%s", e->msg);
}

static void write_file(const char *name, const char *data, size_t bytes)
{
	struct err e = {0};
	char path[256];
	snprintf(path, sizeof path, FOLDER "/%s", name);
	must(fs_write_atomic(path, data, bytes, &e), &e);
}

static struct tokenizer *open_kind(const json_t *kind)
{
	struct tokenizer *t;
	struct err e = {0};
	char *text = json_dumps(json_object_get(kind, "tokenizer"), JSON_COMPACT);
	write_file("tokenizer.json", text, strlen(text));
	free(text);
	must(tokenizer_open(&t, FOLDER, &e), &e);
	return t;
}

static void compare_text(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, const json_t *want, const char *name)
{
	struct err e = {0};
	char text[4096];
	int64_t bytes = tokenizer_decode(t, ids, n, flags | TOKENIZER_UTF8, text, sizeof text, &e);
	if (bytes != (int64_t)json_string_length(want) || memcmp(text, json_string_value(want), (size_t)bytes))
		fail_msg("%s: \"%s\" decoded, not \"%s\" (%s)", name, text, json_string_value(want), e.msg);
}

/* A case: text, ids with special tokens, decoded, decoded without special tokens. */
static void compare_case(struct tokenizer *t, const json_t *c, const char *name)
{
	struct err e = {0};
	const json_t *text = json_array_get(c, 0), *want = json_array_get(c, 1);
	const int32_t *before, *behind;
	size_t n_before, n_behind;
	int32_t ids[4096];
	tokenizer_wrap(t, &before, &n_before, &behind, &n_behind);
	memcpy(ids, before, n_before * sizeof *ids);
	int64_t got = tokenizer_encode(t, json_string_value(text), json_string_length(text), ids + n_before, 4000, &e);
	must(got < 0 ? -1 : 0, &e);
	size_t n = n_before + (size_t)got;
	memcpy(ids + n, behind, n_behind * sizeof *ids);
	n += n_behind;
	for (size_t i = 0; i < n || i < json_array_size(want); i++)
		if (i >= n || i >= json_array_size(want) || ids[i] != json_integer_value(json_array_get(want, i)))
			fail_msg("%s: \"%s\": id %zu is %d, not %d", name, json_string_value(text), i, i < n ? ids[i] : -1,
				 (int)json_integer_value(json_array_get(want, i)));
	compare_text(t, ids, n, 0, json_array_get(c, 2), name);
	compare_text(t, ids, n, TOKENIZER_SKIP_SPECIAL, json_array_get(c, 3), name);
}

static void test_kinds(void **state)
{
	(void)state;
	const char *name;
	json_t *kind, *c;
	size_t i, kinds = 0;
	json_object_foreach(json_object_get(golden, "kinds"), name, kind) {
		struct err e = {0};
		char first[HASH_HEX], second[HASH_HEX];
		struct tokenizer *t = open_kind(kind), *u;
		json_array_foreach(json_object_get(kind, "cases"), i, c) compare_case(t, c, name);
		must(tokenizer_save(t, FOLDER "/saved.json", &e), &e);
		must(tokenizer_open(&u, FOLDER "/saved.json", &e), &e);
		json_array_foreach(json_object_get(kind, "cases"), i, c) compare_case(u, c, name);
		tokenizer_digest(t, first);
		tokenizer_digest(u, second);
		assert_string_equal(first, second);
		tokenizer_close(t);
		tokenizer_close(u);
		kinds++;
	}
	assert_int_equal(kinds, 10);
}

static void test_chats(void **state)
{
	(void)state;
	static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"add_bos_token\":true}";
	const json_t *chats = json_object_get(golden, "chats");
	const char *name;
	json_t *template, *c;
	size_t i, compared = 0;
	write_file("tokenizer_config.json", config, sizeof config - 1);
	json_object_foreach(json_object_get(chats, "templates"), name, template) {
		write_file("chat_template.jinja", json_string_value(template), json_string_length(template));
		struct tokenizer *t = open_kind(json_object_get(json_object_get(golden, "kinds"), "mixtral"));
		struct chat *chat;
		struct err e = {0};
		must(chat_open(&chat, t, NULL, &e), &e);
		json_array_foreach(json_object_get(chats, "cases"), i, c) {
			const json_t *want = json_array_get(c, 4);
			char *text = NULL;
			size_t bytes;
			if (strcmp(json_string_value(json_array_get(c, 0)), name)) continue;
			int rc = chat_render(chat, json_array_get(c, 1), json_array_get(c, 2), json_is_true(json_array_get(c, 3)), &text, &bytes, &e);
			if (json_is_null(want) != (rc < 0)) fail_msg("%s, case %zu: %d (%s)", name, i, rc, e.msg);
			if (!rc) assert_string_equal(text, json_string_value(want));
			free(text);
			compared++;
		}
		chat_close(chat);
		tokenizer_close(t);
	}
	assert_int_equal(compared, json_array_size(json_object_get(chats, "cases")));
	unlink(FOLDER "/chat_template.jinja");
	unlink(FOLDER "/tokenizer_config.json");
}

static void renders(const struct tokenizer *t, const char *name, const char *want)
{
	struct chat *chat;
	struct err e = {0};
	char *text;
	size_t bytes;
	json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Yes?\"},{\"role\":\"user\",\"content\":\"No.\"}]", 0, NULL);
	must(chat_open(&chat, t, name, &e), &e);
	must(chat_render(chat, messages, NULL, 1, &text, &bytes, &e), &e);
	assert_string_equal(text, want);
	free(text);
	chat_close(chat);
	json_decref(messages);
}

static void test_named_chats(void **state)
{
	(void)state;
	struct tokenizer *t = open_kind(json_object_get(json_object_get(golden, "kinds"), "qwen"));
	struct chat *chat;
	struct err e = {0};
	renders(t, "hh", "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: No.\n\nAssistant:");
	renders(t, "chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nNo.<|im_end|>\n<|im_start|>assistant\n");
	assert_int_equal(chat_open(&chat, t, NULL, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "chatml"));
	assert_int_equal(chat_open(&chat, t, "alpaca", &e), ERR_NOT_FOUND);
	tokenizer_close(t);
}

/* tokenizer_config.json: tokens in front and behind, added_tokens_decoder, refusals. */
static void test_config(void **state)
{
	(void)state;
	const json_t *kind = json_object_get(json_object_get(golden, "kinds"), "gpt2_prefix");
	static const char good[] = "{\"add_bos_token\":true,\"add_eos_token\":true,\"bos_token\":\"<|endoftext|>\",\"eos_token\":{\"content\":\"<|x|>\"},"
				   "\"pad_token\":\"none\",\"added_tokens_decoder\":{\"900\":{\"content\":\"<|x|>\",\"special\":true,\"normalized\":false}},"
				   "\"chat_template\":[{\"name\":\"tool\",\"template\":\"t\"},{\"name\":\"default\",\"template\":\"d\"}]}";
	static const struct {
		const char *config, *reason;
	} bad[] = {
		{ "{\"bos_token\":\"<none>\"}", "bos_token \"<none>\" is not in the vocabulary" },
		{ "{\"add_prefix_space\":false}", "add_prefix_space" },
		{ "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}", "added_tokens_decoder: \"x\"" },
		{ "{\"added_tokens_decoder\":{\"1\":{\"content\":\"zz y\"}}}", "has the id 1" },
		{ "[1]", "not a JSON object" },
	};
	struct tokenizer *t;
	struct err e = {0};
	const int32_t *before, *behind;
	size_t n_before, n_behind;
	write_file("tokenizer_config.json", good, sizeof good - 1);
	t = open_kind(kind);
	tokenizer_wrap(t, &before, &n_before, &behind, &n_behind);
	assert_int_equal(n_before, 1);
	assert_int_equal(before[0], tokenizer_id(t, "<|endoftext|>"));
	assert_int_equal(n_behind, 1);
	assert_int_equal(behind[0], 900);
	assert_int_equal(tokenizer_eos(t), 900);
	assert_int_equal(tokenizer_pad(t), -1);
	assert_int_equal(tokenizer_vocab_size(t), 901);
	assert_string_equal(tokenizer_chat_template(t), "d");
	/* What is written into a folder says the same. */
	mkdir(FOLDER "/again", 0777);
	must(tokenizer_save_folder(t, FOLDER "/again", &e), &e);
	tokenizer_close(t);
	must(tokenizer_open(&t, FOLDER "/again", &e), &e);
	tokenizer_wrap(t, &before, &n_before, &behind, &n_behind);
	assert_true(n_before == 1 && n_behind == 1 && behind[0] == 900 && tokenizer_eos(t) == 900);
	assert_string_equal(tokenizer_chat_template(t), "d");
	tokenizer_close(t);
	unlink(FOLDER "/again/tokenizer.json");
	unlink(FOLDER "/again/tokenizer_config.json");
	rmdir(FOLDER "/again");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_file("tokenizer_config.json", bad[i].config, strlen(bad[i].config));
		int rc = tokenizer_open(&t, FOLDER, &e);
		if (rc >= 0 || !strstr(e.msg, bad[i].reason) || !strstr(e.msg, "tokenizer_config.json")) fail_msg("%s: %d, %s", bad[i].config, rc, e.msg);
	}
	unlink(FOLDER "/tokenizer_config.json");
}

/* ---- damage ---- */

static const char TRY_TEXT[] = "The caf\xC3\xA9 <s> 12 \xF0\x9F\x98\x80\xFF  x <lr> Day";

static void use(const char *path)
{
	struct tokenizer *t;
	struct err e = {0};
	int32_t ids[512];
	char text[2048];
	if (tokenizer_open(&t, path, &e) < 0) {
		assert_true(e.code < 0 && e.msg[0]);
		return;
	}
	int64_t n = tokenizer_encode(t, TRY_TEXT, sizeof TRY_TEXT - 1, ids, 512, &e);
	if (n > 0 && n <= 512) {
		n = tokenizer_decode(t, ids, (size_t)n, 0, text, sizeof text, &e);
		assert_true(n >= 0);
	}
	tokenizer_close(t);
}

/* A random part of a document. */
static json_t *random_part(json_t *j, struct rng_key key, uint32_t i, uint32_t *draw)
{
	while (json_is_object(j) || json_is_array(j)) {
		size_t n = json_is_object(j) ? json_object_size(j) : json_array_size(j);
		uint32_t k = n ? rng_below(key, 2, i, (*draw)++, (uint32_t)n + 1) : 0;
		if (!n || k == n) break;
		if (json_is_array(j)) {
			j = json_array_get(j, k);
			continue;
		}
		void *at = json_object_iter(j);
		while (k--) at = json_object_iter_next(j, at);
		j = json_object_iter_value(at);
	}
	return j;
}

/* Puts another value in the place of a random member of a random object or list. */
static void swap_part(json_t *doc, struct rng_key key, uint32_t i)
{
	uint32_t draw = 0;
	json_t *to = random_part(doc, key, i, &draw), *part = json_deep_copy(random_part(doc, key, i, &draw));
	uint32_t kind = rng_below(key, 3, i, 0, 5);
	if (kind < 4) {
		json_decref(part);
		part = kind == 0 ? json_null() : kind == 1 ? json_integer(-1) : kind == 2 ? json_string("") : json_object();
	}
	if (json_is_array(to) && json_array_size(to)) {
		json_array_set_new(to, rng_below(key, 4, i, 0, (uint32_t)json_array_size(to)), part);
	} else if (json_is_object(to) && json_object_size(to)) {
		uint32_t k = rng_below(key, 4, i, 0, (uint32_t)json_object_size(to));
		void *at = json_object_iter(to);
		while (k--) at = json_object_iter_next(to, at);
		json_object_iter_set_new(to, at, part);
	} else {
		json_decref(part);
	}
}

static void test_damage(void **state)
{
	(void)state;
	struct rng_key key = { 11, RNG_TEST };
	const char *name;
	json_t *kind;
	uint32_t i = 0;
	json_object_foreach(json_object_get(golden, "kinds"), name, kind) {
		for (uint32_t round = 0; round < 24; round++, i++) {
			json_t *doc = json_deep_copy(json_object_get(kind, "tokenizer"));
			/* Mostly in the pipeline: the vocabulary is most of the file, and one member of it like another. */
			json_t *part = round % 4 ? json_copy(doc) : json_incref(doc);
			if (round % 4) json_object_del(part, "model");
			if (round < 16) swap_part(part, key, i);
			if (round % 4) json_object_set(part, "model", json_object_get(doc, "model"));
			char *text = json_dumps(part, JSON_COMPACT);
			size_t bytes = strlen(text);
			if (round >= 16 && round < 20) bytes = rng_below(key, 5, i, 0, (uint32_t)bytes);
			for (uint32_t k = 0; round >= 20 && k < 1 + round % 3; k++) text[rng_below(key, 6, i, k, (uint32_t)bytes)] = (char)rng_below(key, 7, i, k, 256);
			write_file("damaged.json", text, bytes);
			use(FOLDER "/damaged.json");
			free(text);
			json_decref(part);
			json_decref(doc);
		}
	}
	for (uint32_t r = 0; r < 50; r++) {
		char junk[300];
		uint32_t n = rng_below(key, 8, r, 0, sizeof junk);
		for (uint32_t k = 0; k < n; k++) junk[k] = (char)rng_below(key, 9, r, k, 256);
		write_file("damaged.json", junk, n);
		use(FOLDER "/damaged.json");
	}
	unlink(FOLDER "/damaged.json");
}

static void test_damaged_templates(void **state)
{
	(void)state;
	struct rng_key key = { 12, RNG_TEST };
	const json_t *variables = json_array_get(json_array_get(json_object_get(json_object_get(golden, "chats"), "cases"), 0), 1);
	const char *name;
	json_t *template, *names = json_pack("{s:O, s:b}", "messages", variables, "add_generation_prompt", 1);
	uint32_t i = 0;
	json_object_foreach(json_object_get(json_object_get(golden, "chats"), "templates"), name, template) {
		for (uint32_t round = 0; round < 120; round++, i++) {
			static const char signs[] = "{}%#|()[]'\"-+.,:=<>~ \n0a";
			struct jinja *j;
			struct err e = {0};
			size_t n = json_string_length(template), bytes;
			char *s = strdup(json_string_value(template)), *text = NULL;
			for (uint32_t k = 0; k <= round % 3; k++) s[rng_below(key, 1, i, k, (uint32_t)n)] = signs[rng_below(key, 2, i, k, sizeof signs - 1)];
			if (round % 5 == 0) s[rng_below(key, 3, i, 0, (uint32_t)n)] = 0;
			if (!jinja_open(&j, s, &e)) {
				if (!jinja_render(j, names, &text, &bytes, &e)) assert_int_equal(strlen(text), bytes);
				else assert_true(e.msg[0]);
				jinja_close(j);
			} else {
				assert_non_null(strstr(e.msg, "chat template, line"));
			}
			free(text);
			free(s);
		}
	}
	json_decref(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds), cmocka_unit_test(test_chats), cmocka_unit_test(test_named_chats), cmocka_unit_test(test_config),
		cmocka_unit_test(test_damage), cmocka_unit_test(test_damaged_templates),
	};
	json_error_t je;
	mkdir(FOLDER, 0777);
	golden = json_load_file(TENFOLD_SOURCE "/tests/golden/tokenizer_golden.json", JSON_ALLOW_NUL, &je);
	if (!golden) {
		fprintf(stderr, "tokenizer_golden.json: line %d: %s\n", je.line, je.text);
		return 1;
	}
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	json_decref(golden);
	unlink(FOLDER "/tokenizer.json");
	unlink(FOLDER "/saved.json");
	rmdir(FOLDER);
	return rc;
}
