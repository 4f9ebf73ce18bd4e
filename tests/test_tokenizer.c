/* The tokenizer: training against a reference result, GPT-2's published
 * vocabulary, round trips over any bytes, files, refusals. */
#include "core/base/fs.h"
#include "core/base/rng.h"
#include "policy/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define DATA TENFOLD_SOURCE "/../shared/data/gpt2_bpe_cs336/"

static const char *const END = "<|endoftext|>";

static void must(int rc, const struct err *e)
{
	if (rc < 0) fail_msg("%s", e->msg);
}

static char *read_data(const char *path, size_t *bytes)
{
	char *data;
	struct err e;
	if (!fs_exists(path)) {
		print_message("skipped: %s is not here\n", path);
		skip();
	}
	must(fs_read(path, 1 << 24, &data, bytes, &e), &e);
	return data;
}

static struct tokenizer *train_on(const char *text, size_t bytes, int32_t size)
{
	struct tokenizer *t;
	struct err e = { 0 };
	must(tokenizer_train(&t, &(struct tokenizer_text){ text, bytes }, 1, size, &END, 1, &e), &e);
	return t;
}

/* Encodes, compares with `want` and decodes again to the same bytes. */
static void encodes(struct tokenizer *t, const char *text, size_t bytes, const int32_t *want, size_t n)
{
	struct err e = { 0 };
	int64_t count = tokenizer_encode(t, text, bytes, NULL, 0, &e);
	must(count < 0 ? -1 : 0, &e);
	int32_t *ids = malloc(((size_t)count + 1) * sizeof *ids);
	char *back = malloc(bytes + 8);
	ids[count] = -77;
	assert_int_equal(tokenizer_encode(t, text, bytes, ids, (size_t)count, &e), count);
	assert_int_equal(ids[count], -77);
	if (want) {
		assert_int_equal(count, n);
		assert_memory_equal(ids, want, n * sizeof *ids);
	}
	assert_int_equal(tokenizer_decode(t, ids, (size_t)count, 0, back, bytes + 8, &e), bytes);
	assert_memory_equal(back, text, bytes);
	assert_int_equal(back[bytes], 0);
	free(ids);
	free(back);
}

static void test_reference_training(void **state)
{
	(void)state;
	size_t bytes, merges_bytes, line = 0;
	char *corpus = read_data(DATA "corpus.en", &bytes), *merges = read_data(DATA "train-bpe-reference-merges.txt", &merges_bytes);
	json_error_t je;
	json_t *vocab = json_load_file(DATA "train-bpe-reference-vocab.json", 0, &je), *id, *doc, *got;
	assert_non_null(vocab);
	struct tokenizer *t = train_on(corpus, bytes, 500);
	struct err e;
	const char *token;
	assert_int_equal(tokenizer_vocab_size(t), 500);
	assert_int_equal(json_object_size(vocab), 500);
	json_object_foreach(vocab, token, id) {
		if (tokenizer_id(t, token) != json_integer_value(id)) fail_msg("\"%s\": %d, not %d", token, tokenizer_id(t, token), (int)json_integer_value(id));
	}
	char path[] = "test_tokenizer_reference.json";
	must(tokenizer_save(t, path, &e), &e);
	doc = json_load_file(path, 0, &je);
	got = json_object_get(json_object_get(doc, "model"), "merges");
	for (char *s = strtok(merges, "\n"); s; s = strtok(NULL, "\n"), line++) {
		char pair[256];
		json_t *m = json_array_get(got, line);
		snprintf(pair, sizeof pair, "%s %s", json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1)));
		assert_string_equal(pair, s);
	}
	assert_int_equal(line, 243);
	assert_int_equal(json_array_size(got), 243);
	encodes(t, corpus, bytes, NULL, 0);
	unlink(path);
	json_decref(vocab);
	json_decref(doc);
	tokenizer_close(t);
	free(corpus);
	free(merges);
}

/* The textbook example, with equal counts decided by the greater bytes. */
static void test_small_training(void **state)
{
	(void)state;
	static const char text[] = "low low low low low lower lower widest widest widest newest newest newest newest newest newest";
	struct tokenizer *t = train_on(text, sizeof text - 1, 263);
	assert_string_equal(tokenizer_token(t, 257), "st");
	assert_string_equal(tokenizer_token(t, 258), "est");
	assert_int_equal(tokenizer_vocab_size(t), 263);
	tokenizer_close(t);
	t = train_on("aaaa aaaa", 9, 400); /* runs out of pairs */
	encodes(t, "aaaa", 4, (int32_t[]){ tokenizer_id(t, "aaaa") }, 1);
	encodes(t, "aaaaa", 5, (int32_t[]){ tokenizer_id(t, "aaaa"), tokenizer_id(t, "a") }, 2);
	assert_true(tokenizer_vocab_size(t) < 265);
	tokenizer_close(t);
	struct err e = { 0 };
	assert_int_equal(tokenizer_train(&t, NULL, 0, 256, &END, 1, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "257"));
	assert_null(t);
}

static void test_gpt2(void **state)
{
	(void)state;
	struct tokenizer *t;
	struct err e = { 0 };
	size_t bytes;
	free(read_data(DATA "gpt2_vocab.json", &bytes));
	must(tokenizer_open_gpt2(&t, DATA "gpt2_vocab.json", DATA "gpt2_merges.txt", &e), &e);
	assert_int_equal(tokenizer_vocab_size(t), 50257);
	assert_int_equal(tokenizer_id(t, END), 50256);
	assert_true(tokenizer_is_special(t, 50256) && !tokenizer_is_special(t, 15496));
#define ENCODES(text, ...) encodes(t, text, sizeof text - 1, (int32_t[]){ __VA_ARGS__ }, sizeof((int32_t[]){ __VA_ARGS__ }) / 4)
	ENCODES("Hello world", 15496, 995);
	ENCODES("Hello, world!", 15496, 11, 995, 0);
	ENCODES("s", 82);
	ENCODES("Hello, how are you?", 15496, 11, 703, 389, 345, 30);
	ENCODES("Hello<|endoftext|> world", 15496, 50256, 995);
	ENCODES("don't  you", 9099, 470, 220, 345);
	ENCODES("\n\n\n", 628, 198);
#undef ENCODES
	encodes(t, "", 0, NULL, 0);
	static const char *const files[] = { "address.txt", "german.txt", "tinystories_sample.txt", "corpus.en" };
	for (int i = 0; i < 4; i++) {
		char path[512];
		snprintf(path, sizeof path, DATA "%s", files[i]);
		char *text = read_data(path, &bytes);
		encodes(t, text, bytes, NULL, 0);
		free(text);
	}
	int32_t ids[3] = { 15496, 50256, 995 };
	char text[64];
	assert_int_equal(tokenizer_decode(t, ids, 3, TOKENIZER_SKIP_SPECIAL, text, sizeof text, &e), 11);
	assert_string_equal(text, "Hello world");
	ids[1] = 50257;
	assert_int_equal(tokenizer_decode(t, ids, 3, 0, text, sizeof text, &e), ERR_RANGE);
	tokenizer_close(t);
}

static size_t random_bytes(struct rng_key key, uint32_t i, char *s)
{
	static const char *const parts[] = { "the ", " it's", "\xC3\xA9", "\xE4\xB8\xAD\xE6\x96\x87", "\xF0\x9F\x98\x80", "\xCC\x81", "   ", "\n\n", "<|endoftext|>",
		"<|endof", "123", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\x80", "\xE4\xB8", "\xD7\xA9\xD7\x9C", "\t", "a", "\xC2\xA0", "\xE2\x80\xA8" };
	size_t n = 0;
	uint32_t len = rng_below(key, 0, i, 0, 40);
	for (uint32_t k = 0; k < len; k++) {
		if (i % 3 == 0) {
			s[n++] = (char)rng_below(key, 1, i, k, 256);
		} else {
			const char *p = parts[rng_below(key, 1, i, k, sizeof parts / sizeof *parts)];
			memcpy(s + n, p, strlen(p));
			n += strlen(p);
		}
	}
	return n;
}

static void test_round_trips(void **state)
{
	(void)state;
	static const char text[] = "the theme there: it's \xE4\xB8\xAD\xE6\x96\x87 \xE4\xB8\xAD\xE6\x96\x87 caf\xC3\xA9 caf\xC3\xA9 <|endoftext|> 123 123";
	struct tokenizer *t = train_on(text, sizeof text - 1, 290), *u;
	struct err e = { 0 };
	struct rng_key key = { 5, RNG_TEST };
	char path[] = "test_tokenizer_saved.json", first[HASH_HEX], second[HASH_HEX];
	must(tokenizer_save(t, path, &e), &e);
	must(tokenizer_open(&u, path, &e), &e);
	tokenizer_digest(t, first);
	tokenizer_digest(u, second);
	assert_string_equal(first, second);
	assert_int_equal(tokenizer_vocab_size(u), tokenizer_vocab_size(t));
	for (uint32_t i = 0; i < 20000; i++) {
		char s[1024];
		int32_t ids[1024];
		size_t n = random_bytes(key, i, s);
		int64_t count = tokenizer_encode(t, s, n, ids, 1024, &e);
		assert_true(count >= 0 && count <= 1024);
		encodes(t, s, n, ids, (size_t)count);
		encodes(u, s, n, ids, (size_t)count);
	}
	unlink(path);
	tokenizer_close(t);
	tokenizer_close(u);
}

/* The merge order by its definition: the lowest rank anywhere, leftmost first, until none is left. */
static size_t plain_encode(const struct tokenizer *t, const char *s, size_t n, int32_t *ids)
{
	for (size_t i = 0; i < n; i++) ids[i] = tokenizer_id(t, (char[]){ s[i], 0 });
	for (;;) {
		int32_t best = INT32_MAX;
		size_t at = 0;
		for (size_t i = 0; i + 1 < n; i++) {
			char both[256];
			snprintf(both, sizeof both, "%s%s", tokenizer_token(t, ids[i]), tokenizer_token(t, ids[i + 1]));
			int32_t id = tokenizer_id(t, both); /* of "ab" words each token has one merge, so rank order is id order */
			if (id >= 0 && id < best) best = id, at = i;
		}
		if (best == INT32_MAX) return n;
		ids[at] = best;
		memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
		n--;
	}
}

static void test_merge_order(void **state)
{
	(void)state;
	struct rng_key key = { 6, RNG_TEST };
	char text[4000];
	for (uint32_t i = 0; i < sizeof text; i++) text[i] = "abc d"[rng_below(key, 0, i, 0, 5)];
	struct tokenizer *t = train_on(text, sizeof text, 300);
	assert_int_equal(tokenizer_vocab_size(t), 300);
	for (uint32_t i = 0; i < 300; i++) {
		char s[200];
		int32_t ids[200];
		size_t n = 1 + rng_below(key, 1, i, 0, 199);
		for (size_t k = 0; k < n; k++) s[k] = "abcd"[rng_below(key, 2, i, (uint32_t)k, 4)];
		size_t count = plain_encode(t, s, n, ids);
		encodes(t, s, n, ids, count);
	}
	tokenizer_close(t);
}

static void test_lossy(void **state)
{
	(void)state;
	struct tokenizer *t = train_on("x", 1, 257);
	struct err e = { 0 };
	/* As Unicode prescribes: one U+FFFD for each longest prefix of a character. */
	static const struct { const char *in, *out; } cases[] = {
		{ "a\xFF" "b", "a\xEF\xBF\xBD" "b" }, { "\xE4\xB8", "\xEF\xBF\xBD" }, { "\xE4\xB8z", "\xEF\xBF\xBDz" },
		{ "\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" }, { "\xF0\x9F\x98", "\xEF\xBF\xBD" }, { "\xC3\xA9", "\xC3\xA9" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int32_t ids[16];
		char text[64];
		int64_t n = tokenizer_encode(t, cases[i].in, strlen(cases[i].in), ids, 16, &e);
		assert_int_equal(tokenizer_decode(t, ids, (size_t)n, TOKENIZER_UTF8, text, sizeof text, &e), strlen(cases[i].out));
		assert_string_equal(text, cases[i].out);
	}
	int32_t ids[3] = { tokenizer_id(t, "a"), tokenizer_id(t, "b"), tokenizer_id(t, "c") };
	char text[3] = "??";
	assert_int_equal(tokenizer_decode(t, ids, 3, 0, text, 3, &e), 3); /* too small: cut, the length told */
	assert_string_equal(text, "ab");
	assert_int_equal(tokenizer_decode(t, ids, 3, 0, NULL, 0, &e), 3);
	tokenizer_close(t);
}

static void refuses(const char *json, const char *reason)
{
	struct tokenizer *t;
	struct err e = { 0 };
	char path[] = "test_tokenizer_bad.json";
	must(fs_write_atomic(path, json, strlen(json), &e), &e);
	int rc = tokenizer_open(&t, path, &e);
	unlink(path);
	if (rc >= 0 || t || !strstr(e.msg, reason) || !strstr(e.msg, path)) fail_msg("rc %d, \"%s\" does not say \"%s\"", rc, e.msg, reason);
}

#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}"
#define MODEL(members) "{" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\"," members "}}"

static void test_refusals(void **state)
{
	(void)state;
	refuses("{", "test_tokenizer_bad.json:1");
	refuses("[]", "not a JSON object");
	refuses("{\"model\":{\"type\":\"Unigram\"}}", "Unigram");
	refuses(MODEL("\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"), "same id");
	refuses(MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "\"a\"");
	refuses(MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]"), "the result is not in the vocabulary");
	refuses(MODEL("\"vocab\":{\"a\":0,\"ab\":1},\"merges\":[[\"a\",\"b\"]]"), "the right part");
	refuses(MODEL("\"vocab\":{\"a\":0},\"merges\":[\"ab\"]"), "model.merges[0]");
	refuses(MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]"), "model.merges[0]");
	refuses(MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"b\""), "unk_token \"b\" is not in the vocabulary");
	refuses(MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), "dropout");
	refuses("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"decoder\":{\"type\":\"CTC\"}}", "decoder: CTC");
	refuses("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
		"{\"type\":\"Precompiled\"}]}}", "normalizer: normalizers[1]: Precompiled");
	refuses("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
		"\"behavior\":\"Eaten\"}}", "behavior \"Eaten\"");
	refuses("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":\"TemplateProcessing\","
		"\"single\":[{\"SpecialToken\":{\"id\":\"b\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"b\":{\"ids\":[5]}}}}", "the ids of \"b\"");
	refuses("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"},\"decoder\":{\"type\":\"ByteLevel\"},"
		"\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "pattern \"(\"");
	struct tokenizer *t;
	struct err e = { 0 };
	assert_int_equal(tokenizer_open(&t, "no/such/folder", &e), ERR_NOT_FOUND);
	static const char small[] = MODEL("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"],\"ignore_merges\":true");
	must(fs_write_atomic("test_tokenizer_small.json", small, sizeof small - 1, &e), &e);
	must(tokenizer_open(&t, "test_tokenizer_small.json", &e), &e);
	unlink("test_tokenizer_small.json");
	encodes(t, "ab", 2, (int32_t[]){ 2 }, 1);
	assert_int_equal(tokenizer_encode(t, "abc", 3, NULL, 0, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "0x63"));
	encodes(t, "aab", 3, (int32_t[]){ 0, 2 }, 2);
	tokenizer_close(t);
}

/* Syllables are composed with trailing consonants, U+11A8 on; U+11A7 is none (Unicode 9, section 3.12). */
static void test_nfc_of_hangul(void **state)
{
	(void)state;
	static const char json[] = "{\"normalizer\":{\"type\":\"NFC\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\uac00\":0,\"\\u11a7\":1,\"\\uac01\":2},\"merges\":[]}}";
	struct tokenizer *t;
	struct err e = { 0 };
	must(fs_write_atomic("test_tokenizer_nfc.json", json, sizeof json - 1, &e), &e);
	must(tokenizer_open(&t, "test_tokenizer_nfc.json", &e), &e);
	unlink("test_tokenizer_nfc.json");
	int32_t id[4];
	assert_int_equal(tokenizer_encode(t, "\xea\xb0\x80\xe1\x86\xa7", 6, id, 4, &e), 2);
	assert_true(id[0] == 0 && id[1] == 1);
	assert_int_equal(tokenizer_encode(t, "\xea\xb0\x80\xe1\x86\xa8", 6, id, 4, &e), 1);
	assert_int_equal(id[0], 2);
	tokenizer_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nfc_of_hangul),
		cmocka_unit_test(test_reference_training), cmocka_unit_test(test_small_training), cmocka_unit_test(test_gpt2),
		cmocka_unit_test(test_round_trips), cmocka_unit_test(test_merge_order), cmocka_unit_test(test_lossy),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
