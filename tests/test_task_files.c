/* The task from files: prompts and examples counted once, ranked groups whose
 * order tells nothing, what is left out and why, the numeric verifier. */
#include "tests/data_kit.h"

#include "reward/task.h"
#include "reward/verify_number.h"

static void config_for(struct data_kit *k, struct config *c, const char *format, const char *data)
{
	data_kit_file(k, 0, "data.jsonl", data, strlen(data));
	config_defaults(c);
	strcpy(c->task.name, "prompts");
	strcpy(c->task.format, format);
	snprintf(c->task.prompts, sizeof c->task.prompts, "%s", k->path[0]);
	c->tokenizer.vocab_size = 300;
	c->rollout.max_new_tokens = 4;
}

static struct task *opened(struct data_kit *k, const struct config *c)
{
	struct task *t;
	if (task_open(&t, c, &k->e) < 0) fail_msg("%s", k->e.msg);
	return t;
}

static const char ranked[] = "{\"prompt\": \"p\", \"completions\": [\"bad\", \"good\", \"odd\", \"fair\"], \"ranks\": [3, 1, 0, 2], \"margins\": [0.5, 0.25]}\n"
			     "{\"prompt\": \"p\", \"completions\": [\"good\", \"x\"], \"ranks\": [1, 1]}\n"
			     "{\"prompt\": \"q\", \"completion\": \"good\"}\n"
			     "{\"text\": \"plain text\"}\n"
			     "{\"prompt\": \"q\", \"completion\": \"good\"}\n";

static void records_become_a_task(void **state)
{
	struct data_kit *k = *state;
	struct config c;
	struct group g;
	struct store_comparison r;
	config_for(k, &c, "tenfold", ranked);
	c.task.heldout = 9;
	struct task *t = opened(k, &c);
	assert_int_equal(t->prompts[TASK_TRAIN], 2);
	assert_int_equal(t->prompts[TASK_HELDOUT], 0); /* 4 records: a tenth of them is none */
	assert_int_equal(t->groups[TASK_TRAIN], 2);
	/* p: good, x (both rank 1 of the second); q: good; the text */
	assert_int_equal(t->examples, 4);
	assert_false(task_verifiable(t));
	assert_int_equal(t->data->duplicates, 1);
	assert_int_equal(task_group_get(t, TASK_TRAIN, 0, k->arena, &g, &r, &k->e), 0);
	assert_int_equal(g.size, 4);
	assert_int_equal(r.count, 3);
	static const char *const order[] = {"good", "fair", "bad"};
	for (uint32_t i = 0; i < 3; i++) {
		assert_string_equal(g.text[r.order[i]], order[i]);
		assert_int_equal(r.rank[i], i + 1);
	}
	assert_true(r.has_margins && r.margin[0] == 0.5 && r.margin[1] == 0.25);
	uint32_t at = g.prompt_tokens;
	for (uint32_t i = 0; i < g.size; i++) {
		at += g.length[i];
		assert_int_equal(g.tokens[at - 1], t->end_token);
		assert_true(isnan(g.logprobs[at - 1 - g.prompt_tokens]));
	}
	assert_int_equal(task_group_get(t, TASK_TRAIN, 1, k->arena, &g, &r, &k->e), 0);
	assert_int_equal(r.rank[1], 1);
	task_close(t);
}

/* The same records in another order of completions: the same groups. */
static void order_tells_nothing(void **state)
{
	struct data_kit *k = *state;
	struct config c;
	struct group g[2];
	struct store_comparison r[2];
	static const char *const texts[] = {"{\"prompt\": \"p\", \"completions\": [\"aa\", \"bb\", \"cc\"], \"ranks\": [1, 2, 3]}\n",
					    "{\"prompt\": \"p\", \"completions\": [\"cc\", \"aa\", \"bb\"], \"ranks\": [3, 1, 2]}\n"};
	for (int i = 0; i < 2; i++) {
		config_for(k, &c, "tenfold", texts[i]);
		struct task *t = opened(k, &c);
		assert_int_equal(task_group_get(t, TASK_TRAIN, 0, k->arena, &g[i], &r[i], &k->e), 0);
		for (uint32_t x = 0; x < 3; x++) g[i].text[x] = arena_strdup(k->arena, g[i].text[x]);
		task_close(t);
	}
	for (uint32_t x = 0; x < 3; x++) assert_string_equal(g[0].text[x], g[1].text[x]);
	assert_memory_equal(r[0].order, r[1].order, 3);
}

static void limits(void **state)
{
	struct data_kit *k = *state;
	struct config c;
	config_for(k, &c, "tenfold", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"c\", \"completion\": \"dddddddddddddddddddddd\"}\n{\"prompt\": \"eeeeeeee\"}\n"
				     "{\"prompt\": \"f\"}\n{\"prompt\": \"a\", \"completion\": \"g\"}\n{\"prompt\": \"h\"}\n");
	c.tokenizer.vocab_size = 258;
	c.task.max_tokens = 10;
	c.task.train = 2;
	c.task.heldout = 0;
	struct task *t = opened(k, &c);
	assert_int_equal(t->too_long, 2);
	assert_int_equal(t->beyond, 1);
	assert_int_equal(t->prompts[TASK_TRAIN], 2);
	assert_int_equal(t->examples, 2);
	task_close(t);
	c.task.max_tokens = 2;
	assert_int_equal(task_open(&t, &c, &k->e), ERR_RANGE);
	assert_non_null(strstr(k->e.msg, "task.max_tokens"));
}

static void a_changed_record_changes_the_digest(void **state)
{
	struct data_kit *k = *state;
	struct config c;
	char digest[2][HASH_HEX];
	static const char *const texts[] = {"{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [1, 2]}\n", "{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [1, 1]}\n"};
	for (int i = 0; i < 2; i++) {
		config_for(k, &c, "tenfold", texts[i]);
		struct task *t = opened(k, &c);
		memcpy(digest[i], t->digest, HASH_HEX);
		task_close(t);
	}
	assert_string_not_equal(digest[0], digest[1]);
}

static void numbers(void **state)
{
	struct data_kit *k = *state;
	struct config c;
	config_for(k, &c, "gsm8k", "{\"question\": \"1+1?\", \"answer\": \"#### 2\"}\n{\"question\": \"2+2?\", \"answer\": \"#### 1,004\"}\n");
	struct task *t = opened(k, &c);
	assert_true(task_verifiable(t));
	assert_true(task_passes(t, TASK_TRAIN, 1, "so #### 1004"));
	assert_false(task_passes(t, TASK_TRAIN, 1, "so #### 4"));
	assert_true(task_reward(t, TASK_TRAIN, 0, "it is 2.") == 1.0f);
	task_close(t);
	static const struct {
		const char *completion, *answer;
		int right;
	} cases[] = {
		{"#### 72", "72", 1}, {"#### 72\n", "72", 1}, {"72", "72", 1}, {"a 1 b 72.", "72", 1}, {"72 or 73", "72", 0}, {"", "72", 0}, {"#### ", "72", 0},
		{"5 #### none\n72", "72", 0}, {"#### 1,234,567", "1234567", 1}, {"#### 1,23", "123", 0}, {"$18", "18", 1}, {"-$18", "-18", 1}, {"#### -5", "-5", 1}, {"#### -5", "5", 0},
		{"3-2", "2", 1}, {"x = -2", "-2", 1}, {"7.50", "7.5", 1}, {"007", "7", 1}, {"7.0", "7", 1}, {"-0", "0", 1}, {"0.5", ".5", 1}, {"0.50001", "0.5", 0},
		{"#### 1 #### 2", "2", 1}, {"12 km", "12", 1}, {"2.", "2", 1}, {"no number", "no number", 0},
		{"#### 11111111111111111111111111111111111111111111111111111111111111111111111111", "1", 0}, {"10000000000000000000001", "10000000000000000000000", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (verify_number(cases[i].completion, cases[i].answer) != cases[i].right) fail_msg("'%s' against '%s' is not %d", cases[i].completion, cases[i].answer, cases[i].right);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_become_a_task, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(order_tells_nothing, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(limits, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(a_changed_record_changes_the_digest, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(numbers, data_kit_setup, data_kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
