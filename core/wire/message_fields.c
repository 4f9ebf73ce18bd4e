/* The tables: every key of every message. docs/messages.md lists the same keys,
 * and tests/test_wire.c compares. A key added here changes MESSAGE_PROTOCOL. */
#include "core/wire/message_fields.h"

#include <string.h>

#define NUMBER(T, m, k) {#m, k, offsetof(T, m), 0, NULL}
#define NAME(T, m) {#m, FIELD_NAME, offsetof(T, m), sizeof(((T *)0)->m), NULL}
#define TEXT(T, m) {#m, FIELD_TEXT, offsetof(T, m), 0, NULL}
#define TEXTS(T, m) {#m, FIELD_TEXTS, offsetof(T, m), 0, NULL}
#define BIN(T, m, bytes, element) {#m, FIELD_BIN, offsetof(T, m), bytes, element}

static const struct field hello[] = {
	NAME(struct message_hello, name), NAME(struct message_hello, fingerprint), NUMBER(struct message_hello, pid, FIELD_U64)};
static const struct field welcome[] = {NUMBER(struct message_welcome, version, FIELD_U64)};
static const struct field refuse[] = {
	NAME(struct message_refuse, about), NUMBER(struct message_refuse, step, FIELD_U64),
	NUMBER(struct message_refuse, slot, FIELD_U32), NAME(struct message_refuse, reason)};
static const struct field ask[] = {NUMBER(struct message_ask, capacity, FIELD_U32)};
static const struct field wait_fields[] = {NUMBER(struct message_wait, seconds, FIELD_F64)};
static const struct field got[] = {
	NUMBER(struct message_got, step, FIELD_U64), NUMBER(struct message_got, slot, FIELD_U32),
	NUMBER(struct message_got, duplicate, FIELD_U32)};
static const struct field weights_get[] = {
	NUMBER(struct message_weights_get, version, FIELD_U64), NAME(struct message_weights_get, hash),
	NUMBER(struct message_weights_get, offset, FIELD_U64), NUMBER(struct message_weights_get, bytes, FIELD_U64)};
static const struct field weights_chunk[] = {
	NUMBER(struct view_chunk, version, FIELD_U64), NAME(struct view_chunk, hash),
	NUMBER(struct view_chunk, offset, FIELD_U64), NUMBER(struct view_chunk, total, FIELD_U64),
	BIN(struct view_chunk, data, 1, "u8")};
static const struct field lease[] = {
	NUMBER(struct view_lease, step, FIELD_U64), NUMBER(struct view_lease, policy_version, FIELD_U64),
	TEXT(struct view_lease, weights_path), NAME(struct view_lease, weights_hash),
	NUMBER(struct view_lease, weights_bytes, FIELD_U64), NUMBER(struct view_lease, seconds, FIELD_F64),
	BIN(struct view_lease, slots, 4, "u32"), BIN(struct view_lease, prompts, 4, "u32"),
	BIN(struct view_lease, prompt_lengths, 4, "u32"), BIN(struct view_lease, prompt_tokens, 4, "i32"),
	TEXTS(struct view_lease, prompt_texts)};
static const struct field group[] = {
	NUMBER(struct view_group, step, FIELD_U64), NUMBER(struct view_group, slot, FIELD_U32),
	NUMBER(struct view_group, prompt, FIELD_U32), NUMBER(struct view_group, policy_version, FIELD_U64),
	NUMBER(struct view_group, size, FIELD_U32), NUMBER(struct view_group, prompt_tokens, FIELD_U32),
	BIN(struct view_group, length, 4, "u32"), BIN(struct view_group, finish, 1, "u8"),
	BIN(struct view_group, tokens, 4, "i32"), BIN(struct view_group, logprobs, 4, "f32"),
	NUMBER(struct view_group, moe_layers, FIELD_U32), NUMBER(struct view_group, experts_per_token, FIELD_U32),
	BIN(struct view_group, experts, 2, "u16"), TEXT(struct view_group, prompt_text),
	TEXTS(struct view_group, texts), TEXTS(struct view_group, terms), BIN(struct view_group, scores, 4, "f32"),
	BIN(struct view_group, reward, 4, "f32"), NAME(struct view_group, scorer_version)};
static const struct field score[] = {
	NUMBER(struct view_group, step, FIELD_U64), NUMBER(struct view_group, slot, FIELD_U32),
	NUMBER(struct view_group, prompt, FIELD_U32), NUMBER(struct view_group, policy_version, FIELD_U64),
	NUMBER(struct view_group, size, FIELD_U32), NUMBER(struct view_group, prompt_tokens, FIELD_U32),
	BIN(struct view_group, length, 4, "u32"), BIN(struct view_group, finish, 1, "u8"),
	BIN(struct view_group, tokens, 4, "i32"), TEXT(struct view_group, prompt_text),
	TEXTS(struct view_group, texts), NAME(struct view_group, fingerprint)};
static const struct field ready[] = {NAME(struct view_scores, scorer_version), TEXTS(struct view_scores, terms)};
static const struct field scores[] = {
	NUMBER(struct view_scores, step, FIELD_U64), NUMBER(struct view_scores, slot, FIELD_U32),
	TEXTS(struct view_scores, terms), BIN(struct view_scores, values, 4, "f32"), NAME(struct view_scores, scorer_version)};
static const struct field counters[] = {
	NAME(struct message_counters, scorer_version), NUMBER(struct message_counters, seconds, FIELD_F64),
	NUMBER(struct message_counters, received, FIELD_U64), NUMBER(struct message_counters, scored, FIELD_U64),
	NUMBER(struct message_counters, repeated, FIELD_U64), NUMBER(struct message_counters, conflicts, FIELD_U64),
	NUMBER(struct message_counters, refused, FIELD_U64), NUMBER(struct message_counters, malformed, FIELD_U64),
	NUMBER(struct message_counters, batches, FIELD_U64)};

#define TABLE(t) {#t, t, sizeof t / sizeof t[0]}

static const struct {
	const char *name;
	const struct field *fields;
	size_t count;
} types[MESSAGE_TYPES] = {
	[MESSAGE_NONE] = {"", NULL, 0},
	[MESSAGE_HELLO] = TABLE(hello),
	[MESSAGE_ASK] = TABLE(ask),
	[MESSAGE_GROUP] = TABLE(group),
	[MESSAGE_BYE] = {"bye", NULL, 0},
	[MESSAGE_WEIGHTS_GET] = TABLE(weights_get),
	[MESSAGE_WELCOME] = TABLE(welcome),
	[MESSAGE_REFUSE] = TABLE(refuse),
	[MESSAGE_LEASE] = TABLE(lease),
	[MESSAGE_WAIT] = {"wait", wait_fields, sizeof wait_fields / sizeof wait_fields[0]},
	[MESSAGE_GOT] = TABLE(got),
	[MESSAGE_WEIGHTS_CHUNK] = TABLE(weights_chunk),
	[MESSAGE_STOP] = {"stop", NULL, 0},
	[MESSAGE_SCORE] = TABLE(score),
	[MESSAGE_HEALTH] = {"health", NULL, 0},
	[MESSAGE_READY] = TABLE(ready),
	[MESSAGE_SCORES] = TABLE(scores),
	[MESSAGE_COUNTERS] = TABLE(counters),
};

const char *message_type_name(enum message_type type)
{
	CHECK((unsigned)type < MESSAGE_TYPES, "message type %d", (int)type);
	return types[type].name;
}

const struct field *message_fields(enum message_type type, size_t *count)
{
	CHECK((unsigned)type < MESSAGE_TYPES, "message type %d", (int)type);
	*count = types[type].count;
	return types[type].fields;
}

void message_init(struct message *m, enum message_type type, const char *run)
{
	memset(m, 0, sizeof *m);
	m->type = type;
	m->protocol = MESSAGE_PROTOCOL;
	size_t n = strlen(run);
	CHECK(n < sizeof m->run, "run id of %zu bytes, at most %d", n, MESSAGE_RUN - 1);
	memcpy(m->run, run, n + 1);
}
