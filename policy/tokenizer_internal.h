/* Private to the tokenizer: its parts and how they fit together.
 *
 *   tokenizer_text.c   UTF-8, GPT-2's alphabet of 256 printable characters
 *   tokenizer_bpe.c    vocabulary, merges, encoding of one piece
 *   tokenizer_split.c  added tokens and pre-tokenisers: text → pieces
 *   tokenizer_train.c  merges from text
 *   tokenizer_json.c   files
 *   tokenizer.c        the public calls
 *
 * A new normaliser or pre-tokeniser is a kind of `struct pre_step`, a case where
 * it is read (tokenizer_json.c) and one where it is applied (tokenizer_split.c).
 * The pipeline's JSON is kept as read and written back unchanged. */
#ifndef TENFOLD_POLICY_TOKENIZER_INTERNAL_H
#define TENFOLD_POLICY_TOKENIZER_INTERNAL_H

#include "core/base/arena.h"
#include "policy/tokenizer.h"

#include <jansson.h>

/* ---- text ---- */

/* Bytes of the character at s (n >= 1 bytes left) into *code; or, where it is not valid UTF-8, *code = -1 and the
 * length of its longest prefix that could have been one (at least 1). */
size_t utf8_next(const char *s, size_t n, int32_t *code);
size_t utf8_put(char *s, int32_t code);
/* GPT-2's character of a byte, and back (-1: not in the alphabet). */
int32_t alphabet_char(unsigned char byte);
int alphabet_byte(int32_t code);
/* Bytes in the alphabet's spelling, NUL-terminated; s holds 2·n+1. Returns the length. */
size_t alphabet_spell(const char *bytes, size_t n, char *s);
/* The bytes that a spelling stands for (at most n); -1 when a character is not of the alphabet. */
int64_t alphabet_read(const char *s, size_t n, char *bytes);

/* ---- BPE ---- */

struct bpe_merge {
	int32_t left, right, id; /* rank: its index */
};

struct bpe_symbol {
	int32_t id, prev, next; /* id -1: merged away */
};

struct bpe_candidate {
	uint32_t rank;
	int32_t at;
};

/* Encoded pieces, direct-mapped: a new one takes the place of the old. */
enum { BPE_CACHE = 1 << 14, BPE_CACHE_KEY = 32, BPE_CACHE_IDS = 12 };
struct bpe_cached {
	uint64_t hash;
	uint8_t bytes, count; /* bytes 0: free */
	char key[BPE_CACHE_KEY];
	int32_t ids[BPE_CACHE_IDS];
};

struct bpe {
	struct arena *arena; /* spellings */
	int32_t size, room;  /* ids 0..size-1, some may be free (NULL) */
	char **token;        /* NUL-terminated spellings */
	uint32_t *bytes;     /* their lengths */
	int32_t *vocab_slot; /* spelling → id, open addressing, -1 free */
	size_t vocab_mask, vocab_count;
	uint32_t merges, merges_room;
	struct bpe_merge *merge;
	int32_t *merge_slot; /* pair → rank */
	size_t merge_mask;
	int ignore_merges;   /* a piece that is a token is that token */
	int byte_level;      /* pieces are bytes, spelled in the alphabet */
	int32_t byte_id[256];
	struct bpe_cached *cache;
	struct bpe_symbol *symbol; /* scratch for one piece */
	struct bpe_candidate *heap;
	size_t symbols_room, heap_room;
	char *spelling;
};

int bpe_add_token(struct bpe *b, const char *spelling, size_t bytes, int32_t id, struct err *e);
int32_t bpe_id(const struct bpe *b, const char *spelling, size_t bytes);
/* Both parts and the whole must be tokens. */
int bpe_add_merge(struct bpe *b, const char *left, size_t left_bytes, const char *right, size_t right_bytes, struct err *e);
/* Fixes byte_id and the cache once vocabulary and merges are complete. */
int bpe_finish(struct bpe *b, struct err *e);
/* Encodes one piece into *ids (valid until the next call); returns their number. */
int64_t bpe_encode(struct bpe *b, const char *piece, size_t bytes, const int32_t **ids, struct err *e);
void bpe_free(struct bpe *b);

/* ---- the pipeline ---- */

struct added_token {
	char *content;
	uint32_t bytes;
	int32_t id;
	int special, normalized;
};

enum pre_kind { PRE_SPLIT, PRE_BYTE_LEVEL };

struct pre_step {
	enum pre_kind kind;
	void *regex;        /* regex_t of Oniguruma; NULL: no cutting */
	int keep_match, keep_gap;
	int prefix_space;
};

enum { PRE_STEPS_MAX = 8 };

struct tokenizer {
	struct bpe bpe;
	struct added_token *added;
	size_t n_added;
	int32_t size, *added_of; /* ids in all; [size]: index of the added token with this id, or -1 */
	/* Added tokens by class (0: on raw text, 1: on normalised text), first byte and length, longest first. */
	uint32_t *order[2];
	uint32_t first[2][257];
	struct pre_step step[PRE_STEPS_MAX];
	int steps;
	json_t *pipeline; /* normalizer, pre_tokenizer, post_processor, decoder, truncation, padding as read */
};

extern const char TOKENIZER_GPT2_REGEX[];

/* Gives an empty tokenizer, byte level. */
int tokenizer_new(struct tokenizer **out, struct err *e);
int tokenizer_add(struct tokenizer *t, const char *content, size_t bytes, int32_t id, int special, int normalized, struct err *e);
/* Sorts the added tokens and completes the BPE; to be called once everything is in. */
int tokenizer_finish(struct tokenizer *t, struct err *e);
/* Appends a pre-tokeniser; pattern NULL: none. */
int tokenizer_add_step(struct tokenizer *t, enum pre_kind kind, const char *pattern, int keep_match, int keep_gap,
		       int prefix_space, struct err *e);
void tokenizer_free_steps(struct tokenizer *t);
/* GPT-2's pipeline: ByteLevel with its regex, in `pipeline` too. */
int tokenizer_set_gpt2(struct tokenizer *t, struct err *e);

/* Called for every piece in order: an added token (id >= 0), or text for the BPE. A negative return ends the walk. */
typedef int (*piece_fn)(void *arg, const char *piece, size_t bytes, int32_t added_id, struct err *e);
int tokenizer_pieces(const struct tokenizer *t, const char *text, size_t bytes, piece_fn fn, void *arg, struct err *e);

#endif
