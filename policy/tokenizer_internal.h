/* Private to the tokenizer: its parts and how they fit together.
 *
 *   tokenizer_text.c       UTF-8, GPT-2's alphabet of 256 printable characters, growing buffers
 *   tokenizer_pattern.c    literal texts and Oniguruma's expressions, searched for
 *   tokenizer_added.c      added tokens, cut out of the text before anything else
 *   tokenizer_unicode.c    NFC, NFD, NFKC, NFKD, small letters, classes of characters
 *   tokenizer_normalize.c  normalisers: text → text
 *   tokenizer_split.c      pre-tokenisers: text → pieces
 *   tokenizer_bpe.c        vocabulary, merges, encoding of one piece
 *   tokenizer_decode.c     decoders: tokens → text
 *   tokenizer_train.c      merges from text
 *   tokenizer_pipeline.c   the pipeline's parts from JSON
 *   tokenizer_json.c       files
 *   tokenizer_config.c     tokenizer_config.json
 *   tokenizer.c            the public calls
 *
 * A new normaliser, pre-tokeniser or decoder is a kind of its step, a case where
 * it is read (tokenizer_pipeline.c) and one where it is applied. The pipeline's
 * JSON is kept as read and written back unchanged. */
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

/* A growing text. */
struct text_buffer {
	char *data;
	size_t used, room;
};
/* Appends; ERR_MEMORY when memory is out. */
int text_put(struct text_buffer *b, const char *s, size_t n, struct err *e);
int text_put_char(struct text_buffer *b, int32_t code, struct err *e);

/* ---- characters ---- */

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };

/* Appends the normal form of valid UTF-8. */
int unicode_normalize(enum unicode_form form, const char *s, size_t n, struct text_buffer *out, struct err *e);
/* Appends the small letters, each character by itself. */
int unicode_lower(const char *s, size_t n, struct text_buffer *out, struct err *e);
int unicode_is_word(int32_t code);        /* \w: Alphabetic, marks, Nd, connectors, joiners */
int unicode_is_space(int32_t code);       /* White_Space */
int unicode_is_numeric(int32_t code);     /* Nd, Nl, No */
int unicode_is_punctuation(int32_t code); /* as the reference's Punctuation */

/* ---- patterns ---- */

struct pattern {
	void *regex;         /* regex_t of Oniguruma, or a literal text */
	const char *literal;
	size_t bytes;
};

/* One walk over the matches of a pattern in a text. */
struct pattern_walk {
	const struct pattern *pattern;
	const char *s;
	size_t n, from, last; /* last: end of the last match, SIZE_MAX: none yet */
};

int pattern_open(struct pattern *p, const char *regex, struct err *e);
void pattern_close(struct pattern *p);
/* 1 with the next match in *at, *to (it may be empty); 0: no more. region: OnigRegion, overwritten. */
int pattern_next(struct pattern_walk *w, void *region, size_t *at, size_t *to, struct err *e);
void *pattern_region_open(void);
void pattern_region_close(void *region);

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
	int byte_fallback;   /* a character that is no token becomes its bytes' tokens <0xNN> */
	int fuse_unk;
	int32_t unk;         /* id of what stands for unknown characters, -1: there is none */
	int32_t fallback_id[256];
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
	const char *match; /* what is looked for: the content, normalised for those that are matched after normalisation */
	uint32_t bytes, match_bytes;
	int32_t id;
	int special, normalized, single_word, lstrip, rstrip;
};

enum norm_kind { NORM_FORM, NORM_PREPEND, NORM_REPLACE, NORM_LOWERCASE, NORM_STRIP };

struct norm_step {
	enum norm_kind kind;
	enum unicode_form form;
	struct pattern pattern;    /* REPLACE */
	const char *text;          /* PREPEND, REPLACE: what is put there */
	size_t bytes;
	int left, right;           /* STRIP */
};

enum pre_kind { PRE_SPLIT, PRE_BYTE_LEVEL, PRE_METASPACE, PRE_CHARACTERS };
enum split_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };
enum prefix_rule { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct pre_step {
	enum pre_kind kind;
	enum split_behavior behavior;
	int invert;
	struct pattern pattern;     /* SPLIT, BYTE_LEVEL (none: no cutting) */
	int (*is_match)(int32_t code); /* CHARACTERS */
	enum prefix_rule prefix;    /* BYTE_LEVEL, METASPACE */
	char mark[5];               /* METASPACE: what stands for a space */
	int cut;                    /* METASPACE */
};

enum decode_kind { DECODE_BYTE_LEVEL, DECODE_METASPACE, DECODE_BYTE_FALLBACK, DECODE_FUSE, DECODE_STRIP, DECODE_REPLACE };

struct decode_step {
	enum decode_kind kind;
	struct pattern pattern; /* REPLACE */
	const char *text;
	size_t bytes;
	char mark[5];           /* METASPACE, STRIP: a character */
	int drop_first;         /* METASPACE: none in the first token */
	size_t start, stop;     /* STRIP: at most so many of the character */
};

enum { STEPS_MAX = 16, WRAP_MAX = 8 };

struct tokenizer {
	struct bpe bpe;
	struct added_token *added;
	size_t n_added;
	int32_t size, *added_of; /* ids in all; [size]: index of the added token with this id, or -1 */
	/* Added tokens by class (0: on raw text, 1: on normalised text), first byte and length, longest first. */
	uint32_t *order[2];
	uint32_t first[2][257];
	struct norm_step norm[STEPS_MAX];
	struct pre_step step[STEPS_MAX];
	struct decode_step decode[STEPS_MAX];
	int norms, steps, decodes;
	int has_decoder;          /* without one, tokens are joined by spaces */
	int32_t prefix[WRAP_MAX], suffix[WRAP_MAX]; /* special tokens around a text */
	int prefixes, suffixes;
	int32_t bos, eos, pad;    /* -1: none */
	char *chat_template;      /* malloc'ed; NULL: none */
	int template_in_file;     /* it came from chat_template.jinja */
	json_t *config;           /* tokenizer_config.json as read, with what special_tokens_map.json adds; NULL: there was none */
	json_t *pipeline; /* normalizer, pre_tokenizer, post_processor, decoder, truncation, padding as read */
};

extern const char TOKENIZER_GPT2_REGEX[];

/* Gives an empty tokenizer, byte level. */
int tokenizer_new(struct tokenizer **out, struct err *e);
/* Takes content, id and flags from *a; the rest is filled in here. */
int tokenizer_add(struct tokenizer *t, const struct added_token *a, struct err *e);
/* Size of the vocabulary and added tokens by id, as they are now. */
int tokenizer_index(struct tokenizer *t, struct err *e);
/* Sorts the added tokens and completes the BPE; to be called once everything is in. */
int tokenizer_finish(struct tokenizer *t, struct err *e);
void tokenizer_free_steps(struct tokenizer *t);
/* GPT-2's pipeline: ByteLevel with its regex, in `pipeline` too. */
int tokenizer_set_gpt2(struct tokenizer *t, struct err *e);
/* normalizer, pre_tokenizer, post_processor and decoder of tokenizer.json. */
int tokenizer_read_pipeline(struct tokenizer *t, const json_t *doc, struct err *e);
/* tokenizer_config.json, chat_template.jinja and special_tokens_map.json of a folder; all may be missing. */
int tokenizer_read_config(struct tokenizer *t, const char *folder, struct err *e);
/* A JSON object from a file; NULL with *e filled. */
json_t *tokenizer_read_json(const char *path, struct err *e);
/* Boolean member, `standard` where it is missing or null; string member, "" where there is none. */
int json_flag(const json_t *j, const char *key, int standard);
const char *json_text(const json_t *j, const char *key);

/* Normalises valid UTF-8 into out (emptied first). *origin: the number of leading bytes that come from the very first
 * character of the text (0: none do), kept up to date. */
int tokenizer_normalize(const struct tokenizer *t, const char *s, size_t n, void *region, size_t *origin,
			struct text_buffer *out, struct err *e);

/* Called for every piece in order: an added token (id >= 0), or text for the BPE. A negative return ends the walk. */
typedef int (*piece_fn)(void *arg, const char *piece, size_t bytes, int32_t added_id, struct err *e);
int tokenizer_pieces(const struct tokenizer *t, const char *text, size_t bytes, piece_fn fn, void *arg, struct err *e);

/* Cuts the added tokens of a class out of s. fn gets the texts between (id -1, never empty) and the tokens, `at` bytes
 * into s. */
typedef int (*added_fn)(void *arg, const char *s, size_t bytes, size_t at, int32_t id);
int added_cut(const struct tokenizer *t, int class, const char *s, size_t n, added_fn fn, void *arg);
/* Fills `match` of all added tokens, and orders them. */
int added_prepare(struct tokenizer *t, struct err *e);

/* Text of tokens, malloc'ed; see tokenizer_decode. */
int64_t decode_tokens(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char **out, struct err *e);

#endif
