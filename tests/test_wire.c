/* Messages: every type there and back, every way a frame can be wrong, with
 * memory bounded. The numbers in comments are
 * those of the list of faults that the design answers to (messages 1–20). */
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/wire/message.h"
#include "core/wire/message_fields.h"
#include "core/wire/scan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Bytes asked from malloc since the last look; counted where no sanitizer owns malloc. */
static _Atomic size_t allocated;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t n);
void *malloc(size_t n)
{
	allocated += n;
	return __libc_malloc(n);
}
#endif

static struct arena *arena;
static struct message_buffer buffer;
static struct err err;

static int setup(void **state)
{
	(void)state;
	arena = arena_open(0);
	log_setup("test", LOG_SILENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_close(arena);
	message_buffer_free(&buffer);
	return 0;
}

/* A scored group of 3 completions with 2, 0 and 3 tokens, all keys used. */
static struct group example_group(void)
{
	static const int32_t tokens[] = {5, 6, 7, 1, 2, 3, 4, 8};
	static const float logprobs[] = {-0.5f, -1.25f, 0, -3e-39f, -80};
	static const uint16_t experts[20] = {1, 2, 3, 63, 60000};
	static const float scores[] = {1, 0, 0.5f, 2, 0, 3}, reward[] = {1, 0, 0.25f};
	struct group g = {.step = 7, .slot = 3, .prompt = 11, .policy_version = 1ull << 40, .size = 3, .prompt_tokens = 3,
	                  .length = {2, 0, 3}, .finish = {0, 1, 2}, .tokens = tokens, .logprobs = logprobs, .moe_layers = 2,
	                  .experts_per_token = 2, .experts = experts, .prompt_text = "add a and b",
	                  .text = {"a b +", "", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x99\x82"}, .terms = 2,
	                  .term_name = {"verifier", "length"}, .scores = scores, .reward = reward, .scorer_version = "stack-1"};
	return g;
}

/* One message of each type, with values in every field. */
static void example(struct message *m, enum message_type type)
{
	static const int32_t first[] = {1, 2, 3}, second[] = {4};
	static const struct message_lease_item items[] = {{0, 9, 3, first, "one"}, {5, 2, 1, second, "two"}};
	static const float values[] = {1, 2, 3, 4, 5, 6};
	message_init(m, type, "run-1");
	switch (type) {
	case MESSAGE_HELLO: m->hello = (struct message_hello){"worker 1", "0123456789abcdef0123456789abcdef", 4321}; break;
	case MESSAGE_WELCOME: m->welcome.version = 12; break;
	case MESSAGE_REFUSE: m->refuse = (struct message_refuse){"score", 5, 6, "no"}; break;
	case MESSAGE_ASK: m->ask.capacity = 8; break;
	case MESSAGE_WAIT: m->wait.seconds = 0.25; break;
	case MESSAGE_GOT: m->got = (struct message_got){3, 4, 1}; break;
	case MESSAGE_GROUP: m->group = example_group(); break;
	case MESSAGE_SCORE:
		m->score.group = example_group();
		strcpy(m->score.fingerprint, "ff");
		break;
	case MESSAGE_LEASE:
		m->lease = (struct message_lease){.step = 1, .policy_version = 2, .weights_path = "checkpoints/w2", .weights_hash = "aa",
		                                  .weights_bytes = 1000, .seconds = 60, .count = 2, .items = items};
		break;
	case MESSAGE_WEIGHTS_GET: m->weights_get = (struct message_weights_get){2, "aa", 100, 50}; break;
	case MESSAGE_WEIGHTS_CHUNK: m->weights_chunk = (struct message_weights_chunk){2, "bb", 100, 1000, "data\0more", 9}; break;
	case MESSAGE_READY: m->ready = (struct message_ready){"stack-1", 2, {"verifier", "length"}}; break;
	case MESSAGE_SCORES: m->scores = (struct message_scores){7, 3, "stack-1", 2, 3, {"verifier", "length"}, values}; break;
	case MESSAGE_COUNTERS: m->counters = (struct message_counters){"stack-1", 1.5, 1, 2, 3, 4, 5, 6, 7}; break;
	default: break;
	}
}

static void encode_example(enum message_type type)
{
	struct message m;
	example(&m, type);
	assert_int_equal(message_encode(&buffer, &m, &err), 0);
}

static int decode(struct message *m, const void *data, size_t bytes)
{
	arena_reset(arena);
	memset(&err, 0, sizeof err);
	return message_decode(m, data, bytes, arena, &(struct message_limits){.vocab = 100}, &err);
}

#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

/* Encoding again what was decoded gives the same bytes: nothing is lost or changed. */
static void test_round_trip(void **state)
{
	(void)state;
	for (int t = MESSAGE_NONE + 1; t < MESSAGE_TYPES; t++) {
		struct message m;
		struct message_buffer again = {0};
		encode_example((enum message_type)t);
		if (decode(&m, buffer.data, buffer.bytes) != 0) fail_msg("%s: %s", message_type_name((enum message_type)t), err.msg);
		assert_int_equal(m.type, t);
		assert_string_equal(m.run, "run-1");
		assert_int_equal(message_encode(&again, &m, &err), 0);
		assert_int_equal(again.bytes, buffer.bytes);
		assert_memory_equal(again.data, buffer.data, buffer.bytes);
		message_buffer_free(&again);
	}
}

static void test_group_content(void **state)
{
	(void)state;
	struct message m;
	struct group g = example_group();
	encode_example(MESSAGE_GROUP);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), 0);
	assert_int_equal(m.group.policy_version, 1ull << 40);
	assert_int_equal(m.group.slot, 3);
	assert_memory_equal(m.group.tokens, g.tokens, 8 * 4);
	assert_memory_equal(m.group.logprobs, g.logprobs, 5 * 4);
	assert_memory_equal(m.group.experts, g.experts, 20 * 2);
	assert_memory_equal(m.group.length, g.length, sizeof g.length);
	assert_string_equal(m.group.text[2], g.text[2]);
	assert_string_equal(m.group.term_name[1], "length");
	assert_memory_equal(m.group.scores, g.scores, 6 * 4);
	assert_memory_equal(m.group.reward, g.reward, 3 * 4);
	assert_true(m.has_id && m.id_step == 7 && m.id_slot == 3);
	encode_example(MESSAGE_LEASE);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), 0);
	assert_int_equal(m.lease.items[1].tokens[0], 4);
	assert_int_equal(m.lease.items[1].slot, 5);
	assert_string_equal(m.lease.items[0].text, "one");
}

/* 5, 6: cut at every byte, followed by a byte. */
static void test_truncated_and_trailing(void **state)
{
	(void)state;
	for (int t = MESSAGE_NONE + 1; t < MESSAGE_TYPES; t++) {
		struct message m;
		encode_example((enum message_type)t);
		for (size_t n = 0; n < buffer.bytes; n++) {
			unsigned char *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read beyond */
			memcpy(exact, buffer.data, n);
			assert_int_equal(decode(&m, exact, n), ERR_FORMAT);
			free(exact);
		}
		unsigned char *more = calloc(buffer.bytes + 1, 1);
		memcpy(more, buffer.data, buffer.bytes);
		assert_int_equal(decode(&m, more, buffer.bytes + 1), ERR_FORMAT);
		assert_said("follow its end");
		free(more);
	}
}

/* Any one byte changed: refused or accepted, never a crash; what is accepted can be encoded. */
static void test_flipped_bytes(void **state)
{
	(void)state;
	for (int t = MESSAGE_NONE + 1; t < MESSAGE_TYPES; t++) {
		encode_example((enum message_type)t);
		size_t bytes = buffer.bytes;
		unsigned char *copy = malloc(bytes);
		struct message_buffer again = {0};
		memcpy(copy, buffer.data, bytes);
		for (size_t i = 0; i < bytes; i++)
			for (int x = 1; x < 256; x = x * 2 + 1) {
				struct message m;
				copy[i] ^= (unsigned char)x;
				if (decode(&m, copy, bytes) == 0) assert_int_equal(message_encode(&again, &m, &err), 0);
				copy[i] ^= (unsigned char)x;
			}
		message_buffer_free(&again);
		free(copy);
	}
}

static void hostile(const void *data, size_t bytes, const char *says)
{
	struct message m;
	arena_reset(arena);
	allocated = 0;
	assert_int_equal(message_decode(&m, data, bytes, arena, NULL, &err), ERR_FORMAT);
	assert_said(says);
	assert_true(allocated < 65536);
	assert_int_equal(arena_used(arena), 0);
}

/* 1–4: few bytes that ask for much; nesting. */
static void test_hostile_frames(void **state)
{
	(void)state;
	static unsigned char deep[100000];
	hostile("\xdd\xff\0\0\0", 5, "declares more");
	hostile("\xdf\x10\0\0\0", 5, "declares more");
	hostile("\xc6\xff\xff\xff\xff", 5, "declares more");
	hostile("\xdb\xff\xff\xff\xff", 5, "declares more");
	unsigned char nested[31 * 5];
	for (int i = 0; i < 31; i++) memcpy(nested + i * 5, "\xdd\0\0\0\x01", 5);
	hostile(nested, sizeof nested, "nested deeper");
	memset(deep, 0x91, sizeof deep);
	hostile(deep, 64, "nested deeper");
	hostile(deep, sizeof deep, "nested deeper");
	/* items are there, but far too many of them */
	static unsigned char wide[5 + 100000];
	memcpy(wide, "\xdd\0\x01\x86\xa0", 5);
	memset(wide + 5, 0xc0, 100000);
	hostile(wide, sizeof wide, "more than 16384 values");
	hostile("\xc1", 1, "unknown type byte");
	hostile("\xd4\0\0", 3, "unknown type byte");
	hostile("", 0, "empty");
	hostile("\x93\x01\x02\x03", 4, "not one map");
	hostile("\x80", 1, "\"protocol\" is missing");
	struct message m;
	static unsigned char large[2000];
	assert_int_equal(message_decode(&m, large, sizeof large, arena, &(struct message_limits){.bytes = 1000}, &err), ERR_FORMAT);
	assert_said("net.max_message_mib");
}

static size_t find_bytes(const char *what, size_t n)
{
	unsigned char *p = memmem(buffer.data, buffer.bytes, what, n);
	assert_non_null(p);
	return (size_t)(p - buffer.data);
}

/* 7: keys. The map's head of a short message is one byte: 0x80 | keys. */
static void test_keys(void **state)
{
	(void)state;
	struct message m;
	encode_example(MESSAGE_GOT);
	buffer.data[find_bytes("slot", 4)] = 'S';
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), ERR_FORMAT);
	assert_said("unknown key \"Slot\"");
	encode_example(MESSAGE_GOT);
	memcpy(buffer.data + find_bytes("slot", 4), "step", 4);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), ERR_FORMAT);
	assert_said("\"step\" comes twice");
	encode_example(MESSAGE_GOT);
	size_t at = find_bytes("\xa9""duplicate", 10);
	buffer.data[0]--;
	assert_int_equal(decode(&m, buffer.data, at), ERR_FORMAT);
	assert_said("\"duplicate\" is missing");
	assert_true(m.has_id && m.id_step == 3 && m.id_slot == 4);
	encode_example(MESSAGE_GOT);
	memcpy(buffer.data + find_bytes("\xa3got", 4) + 1, "god", 3);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), ERR_FORMAT);
	assert_said("unknown message type \"god\"");
	encode_example(MESSAGE_WAIT);
	size_t f = find_bytes("\xcb", 1); /* the number's head: a double */
	double bad = NAN;
	uint64_t bits;
	memcpy(&bits, &bad, 8);
	for (int i = 0; i < 8; i++) buffer.data[f + 1 + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), ERR_RANGE);
	assert_said("\"seconds\"");
}

/* 17: another protocol version, another run. */
static void test_protocol_and_run(void **state)
{
	(void)state;
	struct message m;
	encode_example(MESSAGE_HELLO);
	buffer.data[find_bytes("protocol", 8) + 8] = 2;
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), ERR_MISMATCH);
	assert_said("protocol version 2");
	encode_example(MESSAGE_HELLO);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), 0);
	assert_int_equal(message_check_run(&m, "run-1", &err), 0);
	assert_int_equal(message_check_run(&m, "run-2", &err), ERR_MISMATCH);
	assert_said("run-2");
	m.run[0] = 0;
	assert_int_equal(message_check_run(&m, "run-2", &err), 0);
	m.type = MESSAGE_GROUP;
	assert_int_equal(message_check_run(&m, "run-2", &err), ERR_MISMATCH);
}

/* Changes one element of a bin in the encoded example group. */
static int decode_changed(const void *from, const void *to, size_t n)
{
	struct message m;
	encode_example(MESSAGE_GROUP);
	memcpy(buffer.data + find_bytes(from, n), to, n);
	return decode(&m, buffer.data, buffer.bytes);
}

/* 8, 9: what a group promises. */
static void test_group_values(void **state)
{
	(void)state;
	const float from = -1.25f, nan_value = NAN, inf = -INFINITY;
	assert_int_equal(decode_changed(&from, &nan_value, 4), ERR_RANGE);
	assert_said("\"logprobs\": element 1");
	assert_int_equal(decode_changed(&from, &inf, 4), ERR_RANGE);
	const float score = 0.5f;
	assert_int_equal(decode_changed(&score, &nan_value, 4), ERR_RANGE);
	assert_said("\"scores\"");
	const float reward = 0.25f;
	assert_int_equal(decode_changed(&reward, &nan_value, 4), ERR_RANGE);
	assert_said("\"reward\"");
	const int32_t token[2] = {3, 4}, above[2] = {3, 100}, negative[2] = {3, -1}, last[2] = {3, 99};
	assert_int_equal(decode_changed(token, above, 8), ERR_RANGE);
	assert_said("token 100 at 6");
	assert_int_equal(decode_changed(token, negative, 8), ERR_RANGE);
	assert_int_equal(decode_changed(token, last, 8), 0);
	const uint32_t length[3] = {2, 0, 3}, longer[3] = {2, 1, 3}, huge[3] = {2, 0xffffffff, 3};
	assert_int_equal(decode_changed(length, longer, 12), ERR_RANGE);
	assert_said("\"tokens\" has 8 elements, 9 are expected");
	assert_int_equal(decode_changed(length, huge, 12), ERR_RANGE);
	assert_int_equal(decode_changed("\xc4\x03\0\x01\x02", "\xc4\x03\0\x01\x03", 5), ERR_RANGE);
	assert_said("\"finish\"");
	assert_int_equal(decode_changed("verifier", "ver\0fier", 8), ERR_FORMAT);
	assert_said("NUL");
	assert_int_equal(decode_changed("gr\xc3\xbc", "gr\xc3\x28", 4), ERR_FORMAT);
	assert_said("UTF-8");
	struct message m;
	encode_example(MESSAGE_GROUP);
	arena_reset(arena);
	assert_int_equal(message_decode(&m, buffer.data, buffer.bytes, arena, &(struct message_limits){.experts = 64}, &err), ERR_RANGE);
	assert_said("expert 60000");
}

static int encode_group(const struct group *g)
{
	struct message m;
	message_init(&m, MESSAGE_GROUP, "run-1");
	m.group = *g;
	return message_encode(&buffer, &m, &err);
}

/* The sender hears of its own mistakes. */
static void test_encode_refuses(void **state)
{
	(void)state;
	struct group g = example_group();
	const float bad[] = {0, NAN, 0, 0, 0};
	g.logprobs = bad;
	assert_int_equal(encode_group(&g), ERR_RANGE);
	assert_said("message group not sent");
	g = example_group();
	g.logprobs = NULL;
	assert_int_equal(encode_group(&g), ERR_RANGE);
	g = example_group();
	g.size = 1;
	assert_int_equal(encode_group(&g), ERR_RANGE);
	g = example_group();
	g.reward = NULL;
	assert_int_equal(encode_group(&g), ERR_RANGE);
	g = example_group();
	g.terms = 0;
	g.scores = g.reward = NULL;
	g.experts = NULL;
	assert_int_equal(encode_group(&g), 0);
	g.text[0] = "a\xff\xc0\x80z\xed\xa0\x80";
	struct message m;
	assert_int_equal(encode_group(&g), 0);
	assert_int_equal(decode(&m, buffer.data, buffer.bytes), 0);
	assert_string_equal(m.group.text[0], "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

static void test_utf8(void **state)
{
	(void)state;
	static const char *const good[] = {"", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80",
	                                   "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9" "12345678"};
	static const char *const bad[] = {"\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
	                                  "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "12345678\xff" "1234567"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(scan_utf8((const unsigned char *)good[i], strlen(good[i])), strlen(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_true(scan_utf8((const unsigned char *)bad[i], strlen(bad[i])) < strlen(bad[i]));
}

/* docs/messages.md names every type and, under it, every key. */
static void test_reference(void **state)
{
	(void)state;
	char *doc;
	size_t bytes;
	assert_int_equal(fs_read(TENFOLD_SOURCE "/docs/messages.md", 1 << 20, &doc, &bytes, &err), 0);
	for (int t = MESSAGE_NONE + 1; t < MESSAGE_TYPES; t++) {
		char want[64];
		size_t count;
		const struct field *f = message_fields((enum message_type)t, &count);
		snprintf(want, sizeof want, "\n### `%s`", message_type_name((enum message_type)t));
		char *part = strstr(doc, want);
		if (!part) fail_msg("docs/messages.md has no section%s", want);
		char *end = strstr(part + 1, "\n### ");
		for (size_t i = 0; i < count; i++) {
			snprintf(want, sizeof want, "\n| `%s` |", f[i].key);
			char *key = strstr(part, want);
			if (!key || (end && key > end)) fail_msg("docs/messages.md: %s lacks key %s", message_type_name((enum message_type)t), f[i].key);
		}
	}
	free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_group_content), cmocka_unit_test(test_truncated_and_trailing),
		cmocka_unit_test(test_flipped_bytes),  cmocka_unit_test(test_hostile_frames), cmocka_unit_test(test_keys),
		cmocka_unit_test(test_protocol_and_run), cmocka_unit_test(test_group_values), cmocka_unit_test(test_encode_refuses),
		cmocka_unit_test(test_utf8),           cmocka_unit_test(test_reference),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
