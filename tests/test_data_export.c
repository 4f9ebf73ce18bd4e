/* What `export` writes, `import` reads back, and nothing is lost: comparisons as
 * CSV (formulas neutralised), as TRL and as hh-rlhf, from a run whose texts look
 * like formulas, quotes, dialogues. */
#include "tests/data_kit.h"

#include "store/store.h"

enum { G = 12, STEPS = 2, PROMPTS = 2 };

static const char *const prompts[PROMPTS] = {"=HYPERLINK(\"http://x\")", "\n\nHuman: hello, \"you\"\n\nAssistant:"};
static const char *const texts[G] = {"=1+1", "'=1+1", "'", "+a", "-b,c", "@d \"e\"\r\n f", "\ttab", "\r", "", " plain", "''g", "\xE2\x82\xAC\x01"};

static void put(struct store *s, uint64_t step, uint32_t slot)
{
	int32_t tokens[3 + G];
	float logprobs[G], reward[G];
	struct err e;
	for (int i = 0; i < 3 + G; i++) tokens[i] = i;
	for (int i = 0; i < G; i++) logprobs[i] = -1, reward[i] = (float)((i * 5 + (int)step) % 7) / 4; /* with ties */
	struct group g = {.step = step, .slot = slot, .prompt = slot, .size = G, .prompt_tokens = 3, .tokens = tokens, .logprobs = logprobs, .prompt_text = prompts[slot],
			  .terms = 1, .term_name = {"verifier"}, .scores = reward, .reward = reward, .scorer_version = "v1"};
	for (int i = 0; i < G; i++) g.length[i] = 1, g.text[i] = texts[i];
	if (store_put_group(s, &g, &e) < 0) fail_msg("%s", e.msg);
}

static void make_run(const char *path)
{
	struct err e;
	struct store *s;
	assert_int_equal(store_open(&s, path, &(struct store_options){.writer = 1}, &e), 0);
	assert_int_equal(store_put_run(s, &(struct store_run){.id = "id", .name = "n", .fingerprint = "f", .program = "p", .config = ""}, &e), 0);
	struct store_prompt p[PROMPTS];
	for (uint32_t i = 0; i < PROMPTS; i++) p[i] = (struct store_prompt){.prompt = i, .text = prompts[i]};
	assert_int_equal(store_put_prompts(s, p, PROMPTS, &e), 0);
	/* a partial ranking without margins beside the whole ones */
	const struct store_comparison few = {.source = "label", .scorer_version = "anna", .count = 3, .order = {9, 0, 4}, .rank = {1, 1, 3}};
	for (uint64_t step = 0; step < STEPS; step++) {
		assert_int_equal(store_step_begin(s, step, step, &e), 0);
		for (uint32_t slot = 0; slot < PROMPTS; slot++) put(s, step, slot);
		assert_int_equal(store_put_comparison(s, step, 0, &few, &e), 0);
		assert_int_equal(store_step_commit(s, &e), 0);
	}
	store_close(s);
}

/* The export as a file, read as `format` reads it. */
static void export_and_read(struct data_kit *k, enum store_pairs_format how, const char *format)
{
	char path[128], *text;
	size_t bytes;
	struct store *s;
	snprintf(path, sizeof path, "%s/run.db", k->dir);
	make_run(path);
	assert_int_equal(store_open(&s, path, &(struct store_options){.writer = 0}, &k->e), 0);
	FILE *f = open_memstream(&text, &bytes);
	assert_int_equal(store_export_pairs(s, how, "ppo", how == STORE_PAIRS_CSV ? NULL : "label", f, NULL, &k->e), 0);
	fclose(f);
	store_close(s);
	data_kit_file(k, 0, "export", text, bytes);
	/* no cell that a spreadsheet would run */
	for (char *at = text; how == STORE_PAIRS_CSV && (at = strstr(at, ",\"")); at += 2) assert_null(at[2] ? strchr("=+-@\t\r", at[2]) : NULL);
	free(text);
	if (data_kit_read(k, format, NULL) != 0) fail_msg("%s", k->e.msg);
	assert_int_equal(k->bad, 0);
}

struct expected {
	struct data_kit *k;
	size_t at;
};

/* The stored comparison is the record at hand: candidates in order, ranks, margins. */
static int same(void *ctx, uint32_t slot, const struct store_comparison *c)
{
	struct expected *x = ctx;
	const struct data_record *r = &x->k->record[x->at++];
	uint32_t who[GROUP_MAX], n = 0;
	assert_string_equal(r->prompt, prompts[slot]);
	assert_int_equal(r->count, c->count);
	for (uint32_t i = 0; i < GROUP_MAX; i++)
		for (uint32_t p = 0; p < c->count; p++)
			if (c->order[p] == i) who[n++] = p;
	for (uint32_t i = 0; i < n; i++) {
		assert_string_equal(r->completion[i], texts[c->order[who[i]]]);
		assert_int_equal(r->rank[i], c->rank[who[i]]);
	}
	assert_int_equal(r->has_margins, c->has_margins);
	for (uint32_t p = 0; c->has_margins && p + 1 < c->count; p++) assert_true(r->margin[p] == c->margin[p]);
	return 0;
}

static void csv(void **state)
{
	struct data_kit *k = *state;
	struct store *s;
	char path[128];
	export_and_read(k, STORE_PAIRS_CSV, "export");
	assert_int_equal(k->count, STEPS * (PROMPTS + 1));
	snprintf(path, sizeof path, "%s/run.db", k->dir);
	assert_int_equal(store_open(&s, path, &(struct store_options){.writer = 0}, &k->e), 0);
	struct expected x = {.k = k};
	for (uint64_t step = 0; step < STEPS; step++)
		if (store_each_comparison(s, "ppo", step, NULL, same, &x, &k->e) < 0) fail_msg("%s", k->e.msg);
	assert_int_equal(x.at, k->count);
	store_close(s);
	/* another header is another file */
	data_kit_file(k, 0, "other.csv", "a,b\n1,2\n", 8);
	assert_int_equal(data_kit_read(k, "export", NULL), ERR_FORMAT);
}

static void trl(void **state)
{
	struct data_kit *k = *state;
	export_and_read(k, STORE_PAIRS_TRL, "trl");
	assert_int_equal(k->count, STEPS * 2); /* of three candidates two tie */
	data_kit_expect(k, 0, DATA_GROUP, prompts[0], texts[0], texts[4]);
	data_kit_expect(k, 1, DATA_GROUP, prompts[0], texts[9], texts[4]);
}

static void hh(void **state)
{
	struct data_kit *k = *state;
	export_and_read(k, STORE_PAIRS_HH, "hh");
	assert_int_equal(k->count, STEPS * 2);
	/* a prompt that is no dialogue is made one; prompt and answers are there to the letter */
	data_kit_expect(k, 0, DATA_GROUP, "\n\nHuman: =HYPERLINK(\"http://x\")\n\nAssistant:", " =1+1", " -b,c");
}

static void hh_dialogue(void **state)
{
	struct data_kit *k = *state;
	static const char pair[] = "{\"chosen\": \"\\n\\nHuman: hello\\n\\nAssistant: I do\", \"rejected\": \"\\n\\nHuman: hello\\n\\nAssistant: I don't\"}\n";
	data_kit_text(k, "hh", NULL, "x.jsonl", pair);
	data_kit_expect(k, 0, DATA_GROUP, "\n\nHuman: hello\n\nAssistant:", " I do", " I don't");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(csv, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(trl, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(hh, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(hh_dialogue, data_kit_setup, data_kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
