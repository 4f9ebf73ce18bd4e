/* Prompts as the model sees them: special tokens in front, chat templates, the end token of tokenizer_config.json. */
#include "core/base/fs.h"
#include "reward/task.h"

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

#define FOLDER "test_task_chat"

static void must(int rc, const struct err *e)
{
	if (rc < 0) fail_msg("%s", e->msg);
}

static void write_file(const char *name, const char *text)
{
	struct err e = {0};
	char path[128];
	snprintf(path, sizeof path, FOLDER "/%s", name);
	must(fs_write_atomic(path, text, strlen(text), &e), &e);
}

static struct task *open(const char *chat)
{
	static struct config c;
	struct err e = {0};
	struct task *t;
	char assignment[64];
	config_defaults(&c);
	must(config_set(&c, "task.name=prompts", &e), &e);
	must(config_set(&c, "task.prompts=" FOLDER "/prompts.jsonl", &e), &e);
	must(config_set(&c, "tokenizer.path=" FOLDER, &e), &e);
	must(config_set(&c, "task.heldout=1", &e), &e);
	snprintf(assignment, sizeof assignment, "task.chat=%s", chat);
	must(config_set(&c, assignment, &e), &e);
	must(task_open(&t, &c, &e), &e);
	return t;
}

/* The prompt's tokens are `before`, then those of this text. */
static void compare(const char *chat, int32_t before, const char *text)
{
	struct err e = {0};
	int32_t want[256];
	struct task *t = open(chat);
	const struct task_prompt *p = &t->prompt[TASK_TRAIN][0];
	size_t n = 0;
	if (before >= 0) want[n++] = before;
	n += (size_t)tokenizer_encode(t->tokenizer, text, strlen(text), want + n, 200, &e);
	assert_string_equal(p->text, "The theme of the day");
	assert_int_equal(p->count, n);
	assert_memory_equal(p->tokens, want, n * sizeof *want);
	assert_int_equal(t->end_token, tokenizer_id(t->tokenizer, "</s>"));
	assert_int_equal(t->example[0].tokens[0], want[0]);
	assert_int_equal(t->example[0].prompt, n);
	assert_int_equal(t->example[0].tokens[t->example[0].prompt + t->example[0].completion - 1], t->end_token);
	task_close(t);
}

static void test_prompts(void **state)
{
	(void)state;
	char plain[HASH_HEX];
	struct task *t = open("none");
	memcpy(plain, t->digest, sizeof plain);
	task_close(t);
	t = open("hh");
	assert_string_not_equal(plain, t->digest);
	task_close(t);
	compare("none", 1, "The theme of the day");
	compare("hh", 1, "\n\nHuman: The theme of the day\n\nAssistant:");
	compare("chatml", 1, "<|im_start|>user\nThe theme of the day<|im_end|>\n<|im_start|>assistant\n");
	compare("own", -1, "<s>[INST] The theme of the day [/INST]"); /* the template puts the token there itself */
}

static void test_refusal(void **state)
{
	(void)state;
	struct config c;
	struct err e = {0};
	struct task *t;
	write_file("chat_template.jinja", "\n{% macro x() %}");
	config_defaults(&c);
	must(config_set(&c, "task.name=prompts", &e), &e);
	must(config_set(&c, "task.prompts=" FOLDER "/prompts.jsonl", &e), &e);
	must(config_set(&c, "tokenizer.path=" FOLDER, &e), &e);
	must(config_set(&c, "task.chat=own", &e), &e);
	assert_true(task_open(&t, &c, &e) < 0);
	assert_non_null(strstr(e.msg, "task.chat: chat template, line 2: the statement macro"));
}

static int make(void **state)
{
	(void)state;
	json_error_t je;
	json_t *golden = json_load_file(TENFOLD_SOURCE "/tests/golden/tokenizer_golden.json", JSON_ALLOW_NUL, &je);
	if (!golden) return -1;
	char *text = json_dumps(json_object_get(json_object_get(json_object_get(golden, "kinds"), "mixtral"), "tokenizer"), JSON_COMPACT);
	mkdir(FOLDER, 0777);
	write_file("tokenizer.json", text);
	write_file("tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
	write_file("chat_template.jinja", json_string_value(json_object_get(json_object_get(json_object_get(golden, "chats"), "templates"), "mixtral")));
	write_file("prompts.jsonl", "{\"prompt\":\"The theme of the day\",\"completion\":\"it's there\"}\n{\"prompt\":\"b\",\"completion\":\"c\"}\n"
				    "{\"prompt\":\"d\",\"completion\":\"e\"}\n{\"prompt\":\"f\",\"completion\":\"g\"}\n");
	free(text);
	json_decref(golden);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	static const char *const names[] = { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "prompts.jsonl" };
	for (int i = 0; i < 4; i++) {
		char path[128];
		snprintf(path, sizeof path, FOLDER "/%s", names[i]);
		unlink(path);
	}
	rmdir(FOLDER);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_prompts), cmocka_unit_test(test_refusal) };
	return cmocka_run_group_tests(tests, make, drop);
}
