/* Inside the room: how a message's body is laid out for the codec.
 *
 * Each type has one table of {key, kind, place}. Simple bodies are the public
 * struct itself; group, score, lease, scores, ready and chunk are turned into a
 * view whose arrays carry their counts, and checked when they are turned back. */
#ifndef TENFOLD_WIRE_MESSAGE_FIELDS_H
#define TENFOLD_WIRE_MESSAGE_FIELDS_H

#include "core/wire/message.h"

enum field_kind {
	FIELD_U32,   /* uint32_t */
	FIELD_U64,   /* uint64_t */
	FIELD_F64,   /* double, finite, >= 0 */
	FIELD_NAME,  /* char[size] */
	FIELD_TEXT,  /* const char * */
	FIELD_TEXTS, /* struct field_texts */
	FIELD_BIN,   /* struct field_bin; size: bytes of an element */
};

struct field {
	const char *key;
	enum field_kind kind;
	size_t offset;
	size_t size;
	const char *element; /* of FIELD_BIN: i32, u32, f32, u16, u8, for errors and the reference */
};

enum { FIELDS_MAX = 24 };

struct field_texts {
	const char *const *text;
	size_t count;
};

struct field_bin {
	const void *data;
	size_t count; /* elements */
};

struct view_group {
	uint64_t step, policy_version;
	uint32_t slot, prompt, size, prompt_tokens, moe_layers, experts_per_token;
	char fingerprint[HASH_HEX]; /* of score */
	struct field_bin length, finish, tokens, logprobs, experts, scores, reward;
	const char *prompt_text;
	struct field_texts texts, terms;
	char scorer_version[GROUP_VERSION];
};

struct view_lease {
	uint64_t step, policy_version, weights_bytes;
	const char *weights_path;
	char weights_hash[HASH_HEX];
	double seconds;
	struct field_bin slots, prompts, prompt_lengths, prompt_tokens;
	struct field_texts prompt_texts;
};

struct view_scores {
	uint64_t step;
	uint32_t slot;
	char scorer_version[GROUP_VERSION];
	struct field_texts terms;
	struct field_bin values;
};

struct view_chunk {
	uint64_t version, offset, total;
	char hash[HASH_HEX];
	struct field_bin data;
};

union view {
	struct view_group group;
	struct view_lease lease;
	struct view_scores scores; /* also of ready: terms and version */
	struct view_chunk chunk;
};

/* The table of a type; *count 0 for types without a body. */
const struct field *message_fields(enum message_type type, size_t *count);

/* Scratch that a view points into while a message is encoded. */
struct view_scratch {
	uint8_t finish[GROUP_MAX];
	const char *terms[GROUP_TERMS_MAX];
	/* of a lease, malloc'ed */
	uint32_t *numbers;
	int32_t *tokens;
	const char **texts;
};

/* The body to encode: m's own struct, or *v filled from it and checked. ERR_RANGE when it breaks its rules. */
int view_make(union view *v, struct view_scratch *s, const struct message *m, const void **body, struct err *e);
void view_scratch_free(struct view_scratch *s);
/* Where decoding puts the body: inside m, or *v. */
void *view_target(struct message *m, union view *v);
/* Checks a decoded body and, for views, fills m from it. */
int view_take(struct message *m, const union view *v, struct arena *a, const struct message_limits *l, struct err *e);

/* The same for group and score (scored: the log-probabilities and what follows belong to it). */
void view_make_group(struct view_group *v, struct view_scratch *s, const struct group *g, int whole);
int view_check_group(const struct view_group *v, int whole, const struct message_limits *l, struct err *e);
void view_take_group(struct group *g, const struct view_group *v);
/* Names of terms: at most GROUP_TERMS_MAX, short enough, none empty, none twice. */
int view_check_terms(const struct field_texts *terms, struct err *e);
/* ERR_RANGE naming the first element that is NaN or infinite. */
int view_check_finite(const char *what, const struct field_bin *x, struct err *e);

#endif
