/* Readers of data sets: each format from a small file of it, with what is wrong
 * in it counted by line and reason; compression, marks, arrays, long lines;
 * duplicates and leakage; splits; the real files where they are. */
#include "tests/data_kit.h"

static void bad_is(const struct data_kit *k, size_t i, uint64_t line, const char *reason)
{
	assert_true(i < k->bad);
	assert_int_equal(k->bad_line[i], line);
	if (!strstr(k->bad_reason[i], reason)) fail_msg("bad record %zu: '%s' instead of '%s'", i, k->bad_reason[i], reason);
}

#define HH(q, a) "\\n\\nHuman: " q "\\n\\nAssistant: " a

static void hh(void **state)
{
	struct data_kit *k = *state;
	data_kit_text(k, "hh", NULL, "x.jsonl",
		      "{\"chosen\": \"" HH("hi", "I am well") "\", \"rejected\": \"" HH("hi", "I am bad") "\"}\n"
		      "{\"chosen\": \"" HH("a", "b") HH("c", "d") "\", \"rejected\": \"" HH("a", "b") HH("c", "e") "\"}\r\n"
		      "\n"
		      "{\"chosen\": \"" HH("a", "b") "\", \"rejected\": \"" HH("a", "b") "\"}\n"
		      "{\"chosen\": \"x\", \"rejected\": \"y\"}\n"
		      "{\"chosen\": \"x\"}\n"
		      "not json\n"
		      "{\"chosen\": \"\xff\", \"rejected\": \"y\"}\n"
		      "{\"chosen\": \"" HH("a", "x") HH("c", "d") "\", \"rejected\": \"" HH("a", "y") "\"}");
	assert_int_equal(k->count, 3);
	/* the common beginning of the answers belongs to them, not to the prompt */
	const struct data_record *r = data_kit_expect(k, 0, DATA_GROUP, "\n\nHuman: hi\n\nAssistant:", " I am well", " I am bad");
	assert_int_equal(r->rank[0], 1);
	assert_int_equal(r->rank[1], 2);
	assert_string_equal(r->key, "\n\nHuman: hi");
	data_kit_expect(k, 1, DATA_GROUP, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", " d", " e");
	assert_string_equal(k->record[1].key, "\n\nHuman: a");
	assert_int_equal(k->record[1].line, 2);
	data_kit_expect(k, 2, DATA_GROUP, "\n\nHuman: a\n\nAssistant:", " x\n\nHuman: c\n\nAssistant: d", " y");
	assert_int_equal(k->report.notes, 1);
	assert_int_equal(k->bad, 5);
	bad_is(k, 0, 4, "the same");
	bad_is(k, 1, 5, "in common");
	bad_is(k, 2, 6, "no texts");
	bad_is(k, 3, 7, "not JSON");
	bad_is(k, 4, 8, "byte 13");
	assert_int_equal(k->report.bad, 5);
	assert_non_null(strstr(k->report.bad_shown[3], "x.jsonl:7: it is not JSON"));
}

static void trl(void **state)
{
	struct data_kit *k = *state;
	data_kit_text(k, "trl", NULL, "x.jsonl",
		      "{\"prompt\": \"The sky is\", \"chosen\": \" blue.\", \"rejected\": \" green.\"}\n"
		      "{\"chosen\": \"The sky is blue.\", \"rejected\": \"The sky is green.\"}\n"
		      "{\"prompt\": [{\"role\": \"system\", \"content\": \"Be brief\"}, {\"role\": \"user\", \"content\": \"hi\"}], "
		      "\"chosen\": [{\"role\": \"assistant\", \"content\": \"yes\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"no\"}]}\n"
		      "{\"chosen\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yes\"}], "
		      "\"rejected\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"no\"}]}\n"
		      "{\"prompt\": \"p\", \"completion\": \"c\"}\n"
		      "{\"prompt\": \"only\"}\n"
		      "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n"
		      "{\"chosen\": \"\xc3\xa9\", \"rejected\": \"\xc3\xa8\"}\n"
		      "{\"prompt\": \"p\", \"chosen\": [], \"rejected\": []}\n"
		      "{\"prompt\": [{\"role\": \"tool\", \"content\": \"x\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": \"x\"}], \"rejected\": []}\n"
		      "{\"prompt\": \"p\", \"completion\": \"c\", \"label\": true}\n"
		      "{}\n");
	data_kit_expect(k, 0, DATA_GROUP, "The sky is", " blue.", " green.");
	data_kit_expect(k, 1, DATA_GROUP, "The sky is", " blue.", " green.");
	data_kit_expect(k, 2, DATA_GROUP, "\n\nSystem: Be brief\n\nHuman: hi\n\nAssistant:", " yes", " no");
	data_kit_expect(k, 3, DATA_GROUP, "\n\nHuman: hi\n\nAssistant:", " yes", " no");
	data_kit_expect(k, 4, DATA_EXAMPLE, "p", "c", NULL);
	data_kit_expect(k, 5, DATA_PROMPT, "only", NULL, NULL);
	data_kit_expect(k, 6, DATA_EXAMPLE, "\n\nHuman: q\n\nAssistant:", " a", NULL);
	assert_int_equal(k->count, 7);
	/* the two letters share their first byte: no prompt of half a character */
	bad_is(k, 0, 8, "no beginning in common");
	bad_is(k, 1, 9, "mixed");
	bad_is(k, 2, 10, "unknown role");
	bad_is(k, 3, 11, "ranks nothing");
	bad_is(k, 4, 12, "neither");
}

static void lists_and_dialogues(void **state)
{
	struct data_kit *k = *state;
	data_kit_text(k, "prompts", NULL, "x.txt", "\xEF\xBB\xBFone\r\n\ntwo \"2\"\n");
	data_kit_expect(k, 0, DATA_PROMPT, "one", NULL, NULL);
	data_kit_expect(k, 1, DATA_PROMPT, "two \"2\"", NULL, NULL);
	assert_int_equal(k->record[1].line, 3);
	data_kit_text(k, "prompts", NULL, "x.jsonl", "{\"prompt\": \"one\"}\n\"two\"\n{\"text\": 3}\n");
	assert_int_equal(k->count, 2);
	bad_is(k, 0, 3, "no text \"prompt\"");
	/* one array, as the original file is, its elements over several lines */
	data_kit_text(k, "alpaca", NULL, "x.json",
		      "[\n  {\"instruction\": \"add [1, 2]\",\n   \"input\": \"\",\n   \"output\": \"3\"},\n  {\"instruction\": \"say\", \"input\": \"it \\\" {\", \"output\": \"it\"},\n"
		      "  {\"instruction\": \"\"}\n]\n");
	assert_int_equal(k->count, 2);
	assert_non_null(strstr(k->record[0].prompt, "### Instruction:\nadd [1, 2]\n\n### Response:\n"));
	assert_int_equal(k->record[0].line, 2);
	assert_non_null(strstr(k->record[1].prompt, "### Input:\nit \" {\n\n### Response:\n"));
	bad_is(k, 0, 6, "instruction");
	data_kit_text(k, "sharegpt", NULL, "x.json",
		      "[{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"gpt\", \"value\": \"a\"}, {\"from\": \"human\", \"value\": \"r\"}, "
		      "{\"from\": \"gpt\", \"value\": \"b\"}]}, {\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}]}, {\"conversations\": [{\"from\": \"bing\", \"value\": \"q\"}]}]");
	data_kit_expect(k, 0, DATA_EXAMPLE, "\n\nHuman: q\n\nAssistant:", " a", NULL);
	data_kit_expect(k, 1, DATA_EXAMPLE, "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:", " b", NULL);
	assert_string_equal(k->record[0].key, k->record[1].key);
	assert_int_equal(k->count, 2);
	bad_is(k, 0, 1, "no answer");
	bad_is(k, 1, 1, "unknown role");
}

static void gsm8k_and_text(void **state)
{
	struct data_kit *k = *state;
	data_kit_text(k, "gsm8k", NULL, "x.jsonl",
		      "{\"question\": \"1+1?\", \"answer\": \"It is <<1+1=2>>2.\\n#### 2\"}\n{\"question\": \"?\", \"answer\": \"many\\n#### 1,234.50\"}\n"
		      "{\"question\": \"?\", \"answer\": \"#### none\"}\n");
	data_kit_expect(k, 0, DATA_EXAMPLE, "1+1?\n", "It is <<1+1=2>>2.\n#### 2", NULL);
	assert_string_equal(k->record[0].answer, "2");
	assert_string_equal(k->record[1].answer, "1,234.50");
	bad_is(k, 0, 3, "####");
	data_kit_text(k, "text", NULL, "x.txt", "\n\none\n  two\n \t\nthree\r\n\r\n\xff\n\nfour");
	data_kit_expect(k, 0, DATA_TEXT, "", "one\n  two", NULL);
	data_kit_expect(k, 1, DATA_TEXT, "", "three", NULL);
	data_kit_expect(k, 2, DATA_TEXT, "", "four", NULL);
	assert_int_equal(k->record[2].line, 10);
	bad_is(k, 0, 8, "UTF-8");
}

static void rows(void **state)
{
	struct data_kit *k = *state;
	data_kit_text(k, "csv", "prompt=q, a=left, b=right, label=who, key=subject", "x.csv",
		      "\"#id\",q,left,right,who,subject\r\n1,\"a, \"\"b\"\"\nc\",x,y,right,s\r\n2,p,x,y,a,s\r\n3,p,x,y,tie,t\r\n4,p,x,y,neither,t\r\n5,p,x,y\r\n6,p,x,\"y\r\n");
	assert_int_equal(k->count, 3);
	data_kit_expect(k, 0, DATA_GROUP, "a, \"b\"\nc", "y", "x");
	assert_string_equal(k->record[0].key, "s");
	data_kit_expect(k, 1, DATA_GROUP, "p", "x", "y");
	assert_int_equal(k->record[1].line, 4);
	assert_int_equal(k->record[2].rank[1], 1);
	bad_is(k, 0, 6, "neither of the two: neither");
	bad_is(k, 1, 7, "fields");
	bad_is(k, 2, 8, "does not end");
	/* tabs: quotes are text */
	data_kit_text(k, "tsv", "prompt=@file, key=@topic, chosen=a1, rejected=a2", "cats-or-dogs-_dogs.tsv", "#id\ta1\ta2\n7\t\"x\ty\"\n");
	data_kit_expect(k, 0, DATA_GROUP, "cats or dogs: dogs\n", "\"x", "y\"");
	assert_string_equal(k->record[0].key, "cats or dogs");
	/* roles from the header */
	data_kit_text(k, "csv", NULL, "x.csv", "prompt,completion,answer\np,c,3\n");
	data_kit_expect(k, 0, DATA_EXAMPLE, "p", "c", NULL);
	assert_string_equal(k->record[0].answer, "3");
	data_kit_text(k, "csv", NULL, "x.csv", "prompt,a,b,label,strength,criterion\np,x,y,b,3,1\np,x,y,a,strong,0\n");
	assert_string_equal(k->record[0].strength, "3");
	assert_string_equal(k->record[0].criterion, "1");
	assert_null(k->record[0].person);
	assert_string_equal(k->record[1].strength, "strong"); /* what it means is for whoever reads labels */
	data_kit_text(k, "csv", "text=body", "x.csv", "body\nhello\n");
	data_kit_expect(k, 0, DATA_TEXT, "", "hello", NULL);
	static const char *const refused[][2] = {{"prompt=q, chosen=a", "which columns"}, {"prompt=nothing", "no column 'nothing'"}, {"who=q", "no role 'who'"}, {"prompt", "role=column"}};
	data_kit_file(k, 0, "x.csv", "q,a,b\n1,2,3\n", 12);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		assert_int_equal(data_kit_read(k, "csv", refused[i][0]), ERR_FORMAT);
		assert_non_null(strstr(k->e.msg, refused[i][1]));
	}
}

/* What our own layout says comes back as it was. */
static void own_layout(void **state)
{
	struct data_kit *k = *state;
	static const char text[] = "{\"prompt\": \"p\"}\n{\"prompt\": \"p\", \"completion\": \"\", \"answer\": \"7\", \"key\": \"k\"}\n"
				   "{\"prompt\": \"p\\u20ac\\n\", \"completions\": [\"a\", \"b\", \"c\", \"d\"], \"ranks\": [2, 1, 0, 2], \"margins\": [0.25, null]}\n"
				   "{\"text\": \"t\"}\n";
	struct { const char *line, *why; } refused[] = {
		{"{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [2, 2]}", "1, 2, 2, 4"}, {"{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [1, 0]}", "fewer than two"},
		{"{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [1]}", "for each"}, {"{\"prompt\": \"p\", \"completions\": [\"a\"], \"ranks\": [1]}", "2 to 64"},
		{"{\"prompt\": \"p\", \"completions\": [\"a\", \"b\"], \"ranks\": [1, 2], \"margins\": [-1]}", "below 0"}, {"{\"prompt\": \"\"}", "no text"},
		{"{\"prompt\": \"a\\u0000b\"}", "not JSON"}, {"{\"prompt\": \"p\", \"prompt\": \"q\"}", "not JSON"}};
	data_kit_text(k, "tenfold", NULL, "x.jsonl", text);
	assert_int_equal(k->count, 4);
	assert_true(k->record[2].has_margins && k->record[2].margin[0] == 0.25 && isnan(k->record[2].margin[1]));
	char *again;
	size_t bytes;
	FILE *f = open_memstream(&again, &bytes);
	for (size_t i = 0; i < k->count; i++) assert_int_equal(data_write(f, &k->record[i], &k->e), 0);
	fclose(f);
	data_kit_file(k, 0, "y.jsonl", again, bytes);
	free(again);
	struct data_record first[4];
	memcpy(first, k->record, sizeof first);
	assert_int_equal(data_kit_read(k, "tenfold", NULL), 0);
	assert_int_equal(k->count, 4);
	for (size_t i = 0; i < 4; i++) {
		const struct data_record *x = &k->record[i], *y = &first[i];
		assert_int_equal(x->kind, y->kind);
		assert_string_equal(x->prompt, y->prompt);
		assert_int_equal(x->count, y->count);
		for (uint32_t c = 0; c < x->count; c++) assert_string_equal(x->completion[c], y->completion[c]);
		assert_memory_equal(x->rank, y->rank, sizeof x->rank);
		assert_int_equal(x->has_margins, y->has_margins);
		assert_int_equal(x->answer != NULL, y->answer != NULL);
		assert_int_equal(x->key != NULL, y->key != NULL);
	}
	assert_true(k->record[2].margin[0] == 0.25 && isnan(k->record[2].margin[1]));
	assert_string_equal(k->record[1].answer, "7");
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		data_kit_text(k, "tenfold", NULL, "z.jsonl", refused[i].line);
		assert_int_equal(k->count, 0);
		bad_is(k, 0, 1, refused[i].why);
	}
}

static void duplicates_leakage_limit(void **state)
{
	struct data_kit *k = *state;
	static const char train[] = "{\"prompt\": \"a\", \"completion\": \"x\"}\n{\"prompt\": \"a\", \"completion\": \"x\"}\n{\"prompt\": \"b\", \"completion\": \"y\"}\n";
	static const char heldout[] = "{\"prompt\": \"c\", \"completion\": \"z\"}\n{\"prompt\": \"b\", \"completion\": \"w\"}\n{\"prompt\": \"d\", \"completion\": \"y\"}\n?\n?\n";
	data_kit_file(k, 0, "train.jsonl", train, sizeof train - 1);
	data_kit_file(k, 1, "held.jsonl", heldout, sizeof heldout - 1);
	assert_int_equal(data_kit_read(k, "tenfold", NULL), 0);
	const struct data_report *r = &k->report;
	assert_int_equal(r->side[DATA_TRAIN].records[DATA_EXAMPLE], 3);
	assert_int_equal(r->side[DATA_HELDOUT].records[DATA_EXAMPLE], 3);
	assert_int_equal(r->duplicates, 1);
	assert_int_equal(r->prompts, 4);
	assert_int_equal(r->prompts_repeated, 2);
	assert_int_equal(r->leaked_prompts, 1);
	assert_int_equal(r->leaked_completions, 1);
	assert_int_equal(r->leaked_records, 0);
	assert_non_null(strstr(r->leak_shown[0], "held.jsonl:2 (held out) has a prompt of "));
	assert_non_null(strstr(r->leak_shown[0], "train.jsonl:3"));
	assert_int_equal(r->bad, 2);
	const char *paths[] = {k->path[0], k->path[1]};
	struct data_options o = {.format = "tenfold", .train = paths, .train_count = 2, .bad_limit = 1};
	assert_int_equal(data_read(&o, &k->report, &k->e), ERR_FORMAT);
	assert_non_null(strstr(k->e.msg, "held.jsonl:5: it is not JSON"));
	o.bad_limit = 2;
	assert_int_equal(data_read(&o, &k->report, &k->e), 0);
	o.format = "hf";
	assert_int_equal(data_read(&o, &k->report, &k->e), ERR_FORMAT);
	assert_non_null(strstr(k->e.msg, "sharegpt"));
	paths[0] = "/nonexistent.jsonl";
	o.format = "tenfold";
	assert_int_equal(data_read(&o, &k->report, &k->e), ERR_NOT_FOUND);
}

/* Which side a record is on depends on its key and the seed, not on its place. */
static void split_by_key(void **state)
{
	struct data_kit *k = *state;
	char text[2][4096] = {"", ""}, line[80];
	int side[20];
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof line, "{\"prompt\": \"p%d\", \"key\": \"k%d\"}\n", i, i / 2);
		strcat(text[0], line);
		memmove(text[1] + strlen(line), text[1], strlen(text[1]) + 1);
		memcpy(text[1], line, strlen(line));
	}
	struct data_options o = {.format = "tenfold", .share = 0.4, .seed = 3, .bad_limit = -1, .on_record = data_kit_record, .ctx = k};
	const char *paths[] = {k->path[0]};
	o.train = paths;
	o.train_count = 1;
	for (int turned = 0; turned < 2; turned++) {
		data_kit_file(k, 0, "x.jsonl", text[turned], strlen(text[turned]));
		k->count = 0;
		assert_int_equal(data_read(&o, &k->report, &k->e), 0);
		for (int i = 0; i < 20; i++) {
			int at = turned ? 19 - i : i;
			if (turned) assert_int_equal(k->record[at].side, side[i]);
			side[i] = (int)k->record[at].side;
			if (i % 2) assert_int_equal(side[i], side[i - 1]);
		}
	}
	uint64_t held = k->report.side[DATA_HELDOUT].records[DATA_PROMPT];
	assert_true(held > 0 && held < 20);
}

static void compressed_and_hostile(void **state)
{
	struct data_kit *k = *state;
	char command[300], *big;
	data_kit_file(k, 0, "x.jsonl", "{\"prompt\": \"packed\"}\n", 21);
	snprintf(command, sizeof command, "gzip -k '%s' && head -c 30 '%s.gz' > '%s/cut.gz'", k->path[0], k->path[0], k->dir);
	assert_int_equal(system(command), 0);
	strcat(k->path[0], ".gz");
	assert_int_equal(data_kit_read(k, "tenfold", NULL), 0);
	data_kit_expect(k, 0, DATA_PROMPT, "packed", NULL, NULL);
	snprintf(k->path[0], sizeof k->path[0], "%s/cut.gz", k->dir);
	assert_int_equal(data_kit_read(k, "tenfold", NULL), ERR_IO);
	/* a line without end: cut and counted, and the next one is read */
	size_t n = (17 << 20);
	big = malloc(n + 32);
	memset(big, 'x', n);
	memcpy(big + n, "\n{\"prompt\": \"next\"}\n", 21);
	data_kit_file(k, 0, "big.jsonl", big, n + 20);
	assert_int_equal(data_kit_read(k, "tenfold", NULL), 0);
	bad_is(k, 0, 1, "longer than 16 MiB");
	data_kit_expect(k, 0, DATA_PROMPT, "next", NULL, NULL);
	/* brackets without end, in JSON as deep as a parser would have to go */
	memset(big, '[', 1 << 20);
	data_kit_file(k, 0, "deep.json", big, 1 << 20);
	assert_int_equal(data_kit_read(k, "tenfold", NULL), 0);
	assert_int_equal(k->report.bad, 1);
	for (int i = 0; i < 256; i++) big[i] = (char)i;
	data_kit_file(k, 0, "bytes.bin", big, 256);
	static const char *const formats[] = {"hh", "trl", "prompts", "alpaca", "sharegpt", "gsm8k", "text", "tenfold"};
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		assert_int_equal(data_kit_read(k, formats[i], NULL), 0);
		assert_int_equal(k->count, 0);
		assert_true(k->report.bad > 0);
	}
	free(big);
	data_kit_file(k, 0, "empty", "", 0);
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) assert_int_equal(data_kit_read(k, formats[i], NULL), 0);
}

/* The published files: every record is read, none is bad. */
static void real_files(void **state)
{
	(void)state;
	static const struct {
		const char *format, *columns, *files;
		uint64_t records;
		enum data_kind kind;
	} sets[] = {{"hh", NULL, "hh_rlhf_harmless_test/test.jsonl.gz", 2312, DATA_GROUP},
		    {"tsv", "prompt=@file, key=@topic, a=a1, b=a2, label=label", "ukp_convarg1/UKPConvArg1Strict-CSV/*.csv", 11650, DATA_GROUP},
		    {"gsm8k", NULL, "gsm8k/train.jsonl", 7473, DATA_EXAMPLE}};
	char path[512];
	struct err e;
	const char *root = getenv("TENFOLD_DATA");
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		struct data_files f;
		struct data_report r;
		snprintf(path, sizeof path, "%s/%s", root ? root : TENFOLD_SOURCE "/../shared/data", sets[i].files);
		int there = data_files_open(&f, path, &e) == 0 && fs_exists(f.path[0]);
		if (!there) data_files_close(&f);
		if (!there) skip();
		struct data_options o = {.format = sets[i].format, .columns = sets[i].columns, .train = (const char *const *)f.path, .train_count = f.count, .share = 0.2, .bad_limit = 0};
		if (data_read(&o, &r, &e) != 0) fail_msg("%s", e.msg);
		assert_int_equal(r.side[0].records[sets[i].kind] + r.side[1].records[sets[i].kind], sets[i].records);
		assert_int_equal(r.leaked_prompts, 0);
		data_files_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hh, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(trl, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(lists_and_dialogues, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(gsm8k_and_text, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(rows, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(own_layout, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(duplicates_leakage_limit, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(split_by_key, data_kit_setup, data_kit_teardown),
		cmocka_unit_test_setup_teardown(compressed_and_hostile, data_kit_setup, data_kit_teardown),
		cmocka_unit_test(real_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
