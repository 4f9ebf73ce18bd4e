/* Messages: what crosses a process, as msgpack maps with exact keys.
 *
 * Every message is one frame: a map of "protocol", "run", "type" and the keys
 * of that type, all present, none twice, none beside. Tensors travel as `bin`
 * (little endian i32, u32, f32, u16, u8), which costs a copy and no parsing.
 * docs/messages.md is the reference for those who write a peer in another
 * language; a test compares it with the tables in message_fields.c.
 *
 * Decoding trusts nothing: the bytes are first walked without allocating
 * (scan.h), then read against the table of the type, then checked for what the
 * type promises (lengths that add up, finite log-probabilities, token ids
 * inside the vocabulary). What fails is refused by name: ERR_FORMAT for a
 * malformed frame, ERR_RANGE for a value outside what is allowed, ERR_MISMATCH
 * for another protocol version. Whether the run id fits is the receiver's
 * business: message_check_run.
 *
 * Texts are UTF-8 on the wire. Encoding puts U+FFFD for each byte that is not;
 * decoding refuses such a text, and NUL, because texts are C strings here. */
#ifndef TENFOLD_WIRE_MESSAGE_H
#define TENFOLD_WIRE_MESSAGE_H

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/base/group.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>

enum {
	MESSAGE_PROTOCOL = 1,
	MESSAGE_RUN = 64,      /* bytes of a run id, final NUL included */
	MESSAGE_NAME = 64,     /* of a peer's name */
	MESSAGE_ABOUT = 24,    /* of a message type's name */
	MESSAGE_REASON = 512,  /* of a refusal */
	MESSAGE_LEASE_MAX = 4096, /* prompts in one lease */
};

enum message_type {
	MESSAGE_NONE,
	/* worker → learner */
	MESSAGE_HELLO, /* also client → service */
	MESSAGE_ASK,
	MESSAGE_GROUP,
	MESSAGE_BYE,
	MESSAGE_WEIGHTS_GET,
	/* learner → worker */
	MESSAGE_WELCOME,
	MESSAGE_REFUSE, /* also service → client */
	MESSAGE_LEASE,
	MESSAGE_WAIT,
	MESSAGE_GOT,
	MESSAGE_WEIGHTS_CHUNK,
	MESSAGE_STOP,
	/* client → service */
	MESSAGE_SCORE,
	MESSAGE_HEALTH,
	/* service → client */
	MESSAGE_READY,
	MESSAGE_SCORES,
	MESSAGE_COUNTERS,
	MESSAGE_TYPES
};

struct message_hello {
	char name[MESSAGE_NAME];    /* of the peer, for logs and tables */
	char fingerprint[HASH_HEX]; /* of its kernels; empty: it computes nothing that must be exact */
	uint64_t pid;
};

struct message_welcome {
	uint64_t version; /* newest published weights */
};

struct message_refuse {
	char about[MESSAGE_ABOUT]; /* type of the message refused; empty when it could not be told */
	uint64_t step;             /* id of the group, for about = score and group; version for weights_get; else 0 */
	uint32_t slot;
	char reason[MESSAGE_REASON];
};

struct message_ask {
	uint32_t capacity; /* groups the worker takes now */
};

struct message_lease_item {
	uint32_t slot, prompt;
	uint32_t token_count;  /* >= 1 */
	const int32_t *tokens; /* [token_count] */
	const char *text;
};

struct message_lease {
	uint64_t step, policy_version;
	const char *weights_path; /* as the learner names the file; may be out of reach on another machine */
	char weights_hash[HASH_HEX];
	uint64_t weights_bytes;
	double seconds; /* after which the prompts are given to someone else */
	uint32_t count; /* 1..MESSAGE_LEASE_MAX */
	const struct message_lease_item *items;
};

struct message_wait {
	double seconds; /* before asking again */
};

struct message_got {
	uint64_t step;
	uint32_t slot;
	uint32_t duplicate; /* 1: it was there already, nothing changed */
};

struct message_weights_get {
	uint64_t version;
	char hash[HASH_HEX]; /* of the whole file */
	uint64_t offset, bytes;
};

struct message_weights_chunk {
	uint64_t version;
	char hash[HASH_HEX]; /* of this chunk's data */
	uint64_t offset, total; /* place in the file; bytes of the file */
	const void *data;
	size_t bytes;
};

struct message_ready {
	char scorer_version[GROUP_VERSION];
	uint32_t terms;
	char term_name[GROUP_TERMS_MAX][GROUP_TERM_NAME];
};

struct message_scores {
	uint64_t step;
	uint32_t slot;
	char scorer_version[GROUP_VERSION];
	uint32_t terms, size; /* T >= 1, G */
	char term_name[GROUP_TERMS_MAX][GROUP_TERM_NAME];
	const float *values; /* [terms, size], finite */
};

struct message_counters {
	char scorer_version[GROUP_VERSION];
	double seconds;     /* since the service started */
	uint64_t received;  /* frames */
	uint64_t scored;    /* groups, each counted once */
	uint64_t repeated;  /* answered from memory */
	uint64_t conflicts; /* another payload under a known id */
	uint64_t refused, malformed, batches;
};

struct message {
	enum message_type type;
	uint32_t protocol;
	char run[MESSAGE_RUN]; /* may be empty in hello and health: "tell me" */
	/* filled by message_decode as soon as they are seen, also when the rest is refused */
	int has_id;
	uint64_t id_step;
	uint32_t id_slot;
	union {
		struct message_hello hello;
		struct message_welcome welcome;
		struct message_refuse refuse;
		struct message_ask ask;
		struct message_lease lease;
		struct message_wait wait;
		struct message_got got;
		struct message_weights_get weights_get;
		struct message_weights_chunk weights_chunk;
		struct message_ready ready;
		struct message_scores scores;
		struct message_counters counters;
		struct group group; /* of MESSAGE_GROUP */
		struct {
			char fingerprint[HASH_HEX]; /* the sender's expectation; empty: none */
			struct group group;         /* id, prompt, texts, lengths; tokens may be NULL; no log-probabilities */
		} score;
	};
};

struct message_limits {
	size_t bytes;  /* of a frame; 0: 64 MiB */
	int32_t vocab;    /* token ids are in [0, vocab); 0: only negative ones are refused */
	uint32_t experts; /* expert ids are below; 0: not checked */
};

/* A buffer that encoding fills and reuses. */
struct message_buffer {
	unsigned char *data;
	size_t bytes, capacity;
};
void message_buffer_free(struct message_buffer *b);

/* "hello", "weights_get", …; "" for MESSAGE_NONE. */
const char *message_type_name(enum message_type type);
/* Makes an empty message of this type for this run. */
void message_init(struct message *m, enum message_type type, const char *run);
/* Replaces the buffer's content by the frame. ERR_RANGE: the message breaks its own rules (the text says which);
 * ERR_MEMORY. */
int message_encode(struct message_buffer *b, const struct message *m, struct err *e);
/* Reads a frame; pointers in *m live in `arena` (the frame may be freed). On failure *m holds what could be told:
 * type (or MESSAGE_NONE), protocol, run, id. */
int message_decode(struct message *m, const void *data, size_t bytes, struct arena *arena,
                   const struct message_limits *limits, struct err *e);
/* ERR_MISMATCH naming both ids unless m is of `run`; an empty run id passes in hello and health. */
int message_check_run(const struct message *m, const char *run, struct err *e);
/* A refusal of `about` with the reason in *e. */
void message_refuse(struct message *reply, const struct message *about, const char *run, const struct err *e);

#endif
