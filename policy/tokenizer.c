/* The public calls; see tokenizer.h, and tokenizer_internal.h for the parts. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

int tokenizer_new(struct tokenizer **out, struct err *e)
{
	*out = calloc(1, sizeof **out);
	if (!*out) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	(*out)->bpe.arena = arena_open(0);
	(*out)->bpe.byte_level = 1;
	(*out)->pipeline = json_object();
	return 0;
}

void tokenizer_close(struct tokenizer *t)
{
	if (!t) return;
	tokenizer_free_steps(t);
	json_decref(t->pipeline);
	free(t->order[0]);
	free(t->order[1]);
	free(t->added);
	free(t->added_of);
	bpe_free(&t->bpe);
	free(t);
}

int tokenizer_add(struct tokenizer *t, const char *content, size_t bytes, int32_t id, int special, int normalized, struct err *e)
{
	if (!bytes) return err_set(e, ERR_FORMAT, "tokenizer: an added token is empty");
	int32_t there = bpe_id(&t->bpe, content, bytes);
	if (there >= 0 && there != id)
		return err_set(e, ERR_FORMAT, "tokenizer: added token \"%s\" has id %d, but %d in the vocabulary", content, id, there);
	if (id < 0) return err_set(e, ERR_RANGE, "tokenizer: added token \"%s\" has id %d", content, id);
	for (size_t i = 0; i < t->n_added; i++)
		if (t->added[i].id == id || (t->added[i].bytes == bytes && !memcmp(t->added[i].content, content, bytes)))
			return err_set(e, ERR_FORMAT, "tokenizer: added tokens \"%s\" and \"%s\" clash (id %d)", t->added[i].content, content, id);
	struct added_token *a = realloc(t->added, (t->n_added + 1) * sizeof *a);
	char *copy = arena_alloc(t->bpe.arena, bytes + 1);
	if (a) t->added = a;
	if (!a || !copy) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	memcpy(copy, content, bytes);
	copy[bytes] = 0;
	a[t->n_added++] = (struct added_token){ copy, (uint32_t)bytes, id, special, normalized };
	return 0;
}

/* Orders the added tokens of a class by first byte, the longest first within it. */
static int order_added(struct tokenizer *t, int class, struct err *e)
{
	free(t->order[class]);
	uint32_t *order = t->order[class] = calloc(t->n_added + 1, sizeof *order), n = 0;
	if (!order) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	for (uint32_t i = 0; i < t->n_added; i++) {
		const struct added_token *a = &t->added[i];
		if (a->normalized != class) continue;
		uint32_t k = n++;
		for (; k; k--) {
			const struct added_token *b = &t->added[order[k - 1]];
			int later = (unsigned char)b->content[0] > (unsigned char)a->content[0] ||
				    (b->content[0] == a->content[0] && b->bytes < a->bytes);
			if (!later) break;
			order[k] = order[k - 1];
		}
		order[k] = i;
	}
	uint32_t at = 0;
	for (unsigned c = 0; c < 257; c++) {
		while (at < n && (unsigned char)t->added[order[at]].content[0] < c) at++;
		t->first[class][c] = at;
	}
	t->first[class][256] = n;
	return 0;
}

static int index_ids(struct tokenizer *t, struct err *e)
{
	t->size = t->bpe.size;
	for (size_t i = 0; i < t->n_added; i++)
		if (t->added[i].id >= t->size) t->size = t->added[i].id + 1;
	free(t->added_of);
	t->added_of = malloc(((size_t)t->size + 1) * sizeof *t->added_of);
	if (!t->added_of) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	for (int32_t id = 0; id < t->size; id++) t->added_of[id] = -1;
	for (size_t i = 0; i < t->n_added; i++) t->added_of[t->added[i].id] = (int32_t)i;
	return 0;
}

int tokenizer_finish(struct tokenizer *t, struct err *e)
{
	int rc = order_added(t, 0, e);
	if (!rc) rc = order_added(t, 1, e);
	if (!rc) rc = index_ids(t, e);
	return rc ? rc : bpe_finish(&t->bpe, e);
}

/* ---- encode ---- */

struct encoding {
	struct bpe *bpe;
	int32_t *ids;
	size_t max, count;
};

static int encode_piece(void *arg, const char *piece, size_t bytes, int32_t added_id, struct err *e)
{
	struct encoding *c = arg;
	const int32_t *ids = &added_id;
	int64_t n = added_id >= 0 ? 1 : bpe_encode(c->bpe, piece, bytes, &ids, e);
	if (n < 0) return (int)n;
	for (int64_t i = 0; i < n; i++, c->count++)
		if (c->count < c->max) c->ids[c->count] = ids[i];
	return 0;
}

int64_t tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, int32_t *ids, size_t max, struct err *e)
{
	struct encoding c = { &t->bpe, ids, max, 0 };
	int rc = tokenizer_pieces(t, text, bytes, encode_piece, &c, e);
	return rc < 0 ? rc : (int64_t)c.count;
}

/* ---- decode ---- */

static const struct added_token *added_by_id(const struct tokenizer *t, int32_t id)
{
	return id >= 0 && id < t->size && t->added_of[id] >= 0 ? &t->added[t->added_of[id]] : NULL;
}

/* The bytes of all tokens one after the other, malloc'ed. A token whose spelling is not all of the byte alphabet
 * stands for itself, as in the reference. */
static int64_t decode_bytes(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char **out, struct err *e)
{
	size_t used = 0, room = 64 + 8 * n;
	char *text = malloc(room);
	for (size_t i = 0; text && i < n; i++) {
		const struct added_token *a = added_by_id(t, ids[i]);
		const char *s = tokenizer_token(t, ids[i]);
		if (!s) {
			free(text);
			return err_set(e, ERR_RANGE, "token id %d is not in the vocabulary (0 to %d)", ids[i], tokenizer_vocab_size(t) - 1);
		}
		if (a && a->special && (flags & TOKENIZER_SKIP_SPECIAL)) continue;
		size_t bytes = a ? a->bytes : t->bpe.bytes[ids[i]];
		if (used + bytes > room) {
			char *more = realloc(text, room = 2 * (used + bytes));
			if (!more) free(text);
			text = more;
			if (!text) break;
		}
		int64_t k = t->bpe.byte_level ? alphabet_read(s, bytes, text + used) : -1;
		if (k < 0) memcpy(text + used, s, bytes);
		used += k < 0 ? bytes : (size_t)k;
	}
	if (!text) return err_set(e, ERR_MEMORY, "out of memory for decoded text");
	*out = text;
	return (int64_t)used;
}

int64_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char *text, size_t max,
			 struct err *e)
{
	char *bytes = NULL;
	int64_t used = decode_bytes(t, ids, n, flags, &bytes, e), count = 0;
	if (used < 0) return used;
	for (int64_t i = 0; i < used;) {
		char lossy[4];
		const char *from = bytes + i;
		int32_t code;
		size_t len = utf8_next(from, (size_t)(used - i), &code), put = len;
		if (code < 0 && (flags & TOKENIZER_UTF8)) put = utf8_put(lossy, 0xFFFD), from = lossy;
		for (size_t k = 0; k < put; k++, count++)
			if ((size_t)count + 1 < max) text[count] = from[k];
		i += (int64_t)len;
	}
	if (max) text[(size_t)count < max ? (size_t)count : max - 1] = 0;
	free(bytes);
	return count;
}

/* ---- the vocabulary ---- */

int32_t tokenizer_id(const struct tokenizer *t, const char *token)
{
	for (size_t i = 0; i < t->n_added; i++)
		if (!strcmp(t->added[i].content, token)) return t->added[i].id;
	return bpe_id(&t->bpe, token, strlen(token));
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id)
{
	const struct added_token *a = added_by_id(t, id);
	if (a) return a->content;
	return id >= 0 && id < t->bpe.size ? t->bpe.token[id] : NULL;
}

int tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
	const struct added_token *a = added_by_id(t, id);
	return a && a->special;
}

int32_t tokenizer_vocab_size(const struct tokenizer *t)
{
	return t->size;
}
