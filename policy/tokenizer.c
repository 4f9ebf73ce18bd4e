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
	(*out)->bpe.unk = (*out)->bos = (*out)->eos = (*out)->pad = -1;
	(*out)->pipeline = json_object();
	return 0;
}

void tokenizer_close(struct tokenizer *t)
{
	if (!t) return;
	tokenizer_free_steps(t);
	json_decref(t->pipeline);
	json_decref(t->config);
	free(t->order[0]);
	free(t->order[1]);
	free(t->added);
	free(t->chat_template);
	free(t->added_of);
	bpe_free(&t->bpe);
	free(t);
}

int tokenizer_index(struct tokenizer *t, struct err *e)
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
	int rc = added_prepare(t, e);
	if (!rc) rc = tokenizer_index(t, e);
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

int64_t tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char *text, size_t max,
			 struct err *e)
{
	char *bytes = NULL;
	int64_t used = decode_tokens(t, ids, n, flags, &bytes, e), count = 0;
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

void tokenizer_wrap(const struct tokenizer *t, const int32_t **before, size_t *n_before, const int32_t **behind, size_t *n_behind)
{
	*before = t->prefix;
	*behind = t->suffix;
	*n_before = (size_t)t->prefixes;
	*n_behind = (size_t)t->suffixes;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
	return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
	return t->eos;
}

int32_t tokenizer_pad(const struct tokenizer *t)
{
	return t->pad;
}

const char *tokenizer_chat_template(const struct tokenizer *t)
{
	return t->chat_template;
}
