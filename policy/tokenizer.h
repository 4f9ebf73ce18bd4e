/* The tokenizer: text → ids and back.
 *
 * A pipeline in the order of Hugging Face's tokenizer.json: added tokens are cut
 * out of the text, the rest is normalised and cut into pieces by the
 * pre-tokenisers, each piece is encoded by byte-pair merges (BPE); decoders lead
 * back. Trained here it is the byte-level BPE of GPT-2: every byte string has ids
 * and comes back from them unchanged.
 *
 * Reads tokenizer.json with tokenizer_config.json beside it (model BPE, with
 * ignore_merges, byte_fallback, unk_token and fuse_unk; normalisers NFC, NFD, NFKC,
 * NFKD, Lowercase, Strip, Prepend, Replace; pre-tokenisers Split, ByteLevel, Digits,
 * Punctuation, Metaspace, Whitespace, WhitespaceSplit; post-processors ByteLevel,
 * TemplateProcessing; decoders ByteLevel, ByteFallback, Fuse, Metaspace, Replace,
 * Strip; Sequences of all) and GPT-2's vocab.json + merges.txt; writes a
 * tokenizer.json that the `tokenizers` library loads to the same ids. What it does
 * not know in a file it refuses by name, since a part left out would change ids
 * silently. Equality with that library is tested over all of Unicode 14, the
 * version of Debian 12's Oniguruma: of characters that came later the two may
 * disagree whether they are letters or digits.
 *
 * A tokenizer holds a cache of encoded pieces: encode with it from one thread at
 * a time. All other calls only read. */
#ifndef TENFOLD_POLICY_TOKENIZER_H
#define TENFOLD_POLICY_TOKENIZER_H

#include "core/base/err.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct tokenizer_text {
	const char *data;
	size_t bytes;
};

/* path: a tokenizer.json, or a folder with tokenizer.json or with vocab.json and merges.txt, and what of
 * tokenizer_config.json, special_tokens_map.json and chat_template.jinja there is. */
int tokenizer_open(struct tokenizer **out, const char *path, struct err *e);
/* GPT-2's pair of files by name; "<|endoftext|>" becomes a special token when the vocabulary has it. */
int tokenizer_open_gpt2(struct tokenizer **out, const char *vocab_path, const char *merges_path, struct err *e);
/* Trains byte-level BPE with GPT-2's pre-tokeniser. Ids: the specials, the 256 bytes in GPT-2's order, then one per
 * merge until vocab_size is reached (or no pair is left: then the vocabulary is smaller). The most frequent pair is
 * merged; of equally frequent ones the one with the greater bytes, left part first. Specials in the texts are no
 * material for merges. ERR_RANGE when vocab_size does not hold the bytes and the specials. */
int tokenizer_train(struct tokenizer **out, const struct tokenizer_text *texts, size_t n, int32_t vocab_size,
		    const char *const *specials, size_t n_specials, struct err *e);
void tokenizer_close(struct tokenizer *t);
/* Writes tokenizer.json at this path, atomically. */
int tokenizer_save(const struct tokenizer *t, const char *path, struct err *e);
/* Writes tokenizer.json into a folder that is there, with the tokenizer_config.json and chat_template.jinja that were read
 * beside it, so that transformers finds special tokens and chat template again. A tokenizer trained here gets a
 * tokenizer_config.json that names its end token. */
int tokenizer_save_folder(const struct tokenizer *t, const char *folder, struct err *e);
/* Hash of what tokenizer_save writes. */
void tokenizer_digest(const struct tokenizer *t, char hex[HASH_HEX]);

/* Returns the number of ids; writes the first `max` of them (ids may be NULL with max 0). Added tokens in the text
 * become their ids; nothing is put in front or behind. ERR_RANGE for a character that the vocabulary lacks. */
int64_t tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, int32_t *ids, size_t max, struct err *e);

/* What the post-processor and add_bos_token, add_eos_token put before and behind the ids of a text that stands alone;
 * valid as long as the tokenizer. */
void tokenizer_wrap(const struct tokenizer *t, const int32_t **before, size_t *n_before, const int32_t **behind, size_t *n_behind);

enum {
	TOKENIZER_SKIP_SPECIAL = 1, /* leave special tokens out */
	TOKENIZER_UTF8 = 2,         /* replace invalid UTF-8 by U+FFFD, as `tokenizers` does; else the bytes as they are */
};
/* Returns the number of bytes, without a final NUL; writes the first max-1 of them and a NUL (text may be NULL with
 * max 0). ERR_RANGE for an id that is not in the vocabulary. */
int64_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char *text, size_t max,
			 struct err *e);

/* Id of a token by its text: an added token as it stands, another one in the vocabulary's spelling ("Ġthe");
 * -1: none. */
int32_t tokenizer_id(const struct tokenizer *t, const char *token);
/* The vocabulary's spelling of an id; NULL: no such token. */
const char *tokenizer_token(const struct tokenizer *t, int32_t id);
int tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* bos_token, eos_token, pad_token of tokenizer_config.json; -1: not named there. */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
int32_t tokenizer_pad(const struct tokenizer *t);
/* The Jinja text of the chat template; NULL: the files have none. */
const char *tokenizer_chat_template(const struct tokenizer *t);
/* One more than the highest id. */
int32_t tokenizer_vocab_size(const struct tokenizer *t);

#endif
