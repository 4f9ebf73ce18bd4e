/* Added tokens: found in the text before anything is encoded; see tokenizer_internal.h.
 *
 * As the reference: at each place the longest token wins, from left to right; one
 * that must be a single word and is not is passed over, with the text that it
 * covers; lstrip and rstrip take the white space beside a token with it, without
 * moving the place where the search goes on. Tokens with `normalized` are looked
 * for in normalised text, in their own normalised form. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

int tokenizer_add(struct tokenizer *t, const struct added_token *new, struct err *e)
{
	size_t bytes = new->bytes;
	if (!bytes) return err_set(e, ERR_FORMAT, "tokenizer: an added token is empty");
	int32_t there = bpe_id(&t->bpe, new->content, bytes);
	if (there >= 0 && there != new->id)
		return err_set(e, ERR_FORMAT, "tokenizer: added token \"%s\" has id %d, but %d in the vocabulary", new->content, new->id, there);
	if (new->id < 0) return err_set(e, ERR_RANGE, "tokenizer: added token \"%s\" has id %d", new->content, new->id);
	for (size_t i = 0; i < t->n_added; i++)
		if (t->added[i].id == new->id || (t->added[i].bytes == bytes && !memcmp(t->added[i].content, new->content, bytes)))
			return err_set(e, ERR_FORMAT, "tokenizer: added tokens \"%s\" and \"%s\" clash (id %d)", t->added[i].content, new->content,
				       new->id);
	if (new->id < t->bpe.size && t->bpe.token[new->id] && there < 0)
		return err_set(e, ERR_FORMAT, "tokenizer: added token \"%s\" has the id %d of \"%s\" in the vocabulary", new->content, new->id,
			       t->bpe.token[new->id]);
	struct added_token *a = realloc(t->added, (t->n_added + 1) * sizeof *a);
	char *copy = arena_alloc(t->bpe.arena, bytes + 1);
	if (a) t->added = a;
	if (!a || !copy) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	memcpy(copy, new->content, bytes);
	copy[bytes] = 0;
	a[t->n_added] = *new;
	a[t->n_added++].content = copy;
	return 0;
}

static int fill_match(struct tokenizer *t, struct added_token *a, struct err *e)
{
	struct text_buffer out = {0};
	a->match = a->content;
	a->match_bytes = a->bytes;
	if (!a->normalized || !t->norms) return 0;
	void *region = pattern_region_open();
	size_t origin = 0;
	int rc = region ? tokenizer_normalize(t, a->content, a->bytes, region, &origin, &out, e)
			: err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	if (!rc && !out.used) rc = err_set(e, ERR_FORMAT, "added token \"%s\" is nothing once it is normalised", a->content);
	char *copy = rc ? NULL : arena_alloc(t->bpe.arena, out.used);
	if (!rc && !copy) rc = err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	if (!rc) {
		memcpy(copy, out.data, out.used);
		a->match = copy;
		a->match_bytes = (uint32_t)out.used;
	}
	free(out.data);
	pattern_region_close(region);
	return rc;
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
			int later = (unsigned char)b->match[0] > (unsigned char)a->match[0] ||
				    (b->match[0] == a->match[0] && b->match_bytes < a->match_bytes);
			if (!later) break;
			order[k] = order[k - 1];
		}
		order[k] = i;
	}
	uint32_t at = 0;
	for (unsigned c = 0; c < 257; c++) {
		while (at < n && (unsigned char)t->added[order[at]].match[0] < c) at++;
		t->first[class][c] = at;
	}
	t->first[class][256] = n;
	return 0;
}

int added_prepare(struct tokenizer *t, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < t->n_added && !rc; i++) rc = fill_match(t, &t->added[i], e);
	for (int class = 0; class < 2 && !rc; class++) rc = order_added(t, class, e);
	return rc;
}

/* ---- cutting ---- */

/* The longest added token of the class at s; NULL: none. */
static const struct added_token *added_at(const struct tokenizer *t, int class, const char *s, size_t n)
{
	unsigned char c = (unsigned char)s[0];
	for (uint32_t i = t->first[class][c]; i < t->first[class][c + 1]; i++) {
		const struct added_token *a = &t->added[t->order[class][i]];
		if (a->match_bytes <= n && !memcmp(a->match, s, a->match_bytes)) return a;
	}
	return NULL;
}

/* Start of the character that ends at s[at]. */
static size_t char_before(const char *s, size_t at, int32_t *code)
{
	size_t start = at - 1;
	while (start && at - start < 4 && ((unsigned char)s[start] & 0xC0) == 0x80) start--;
	if (utf8_next(s + start, at - start, code) != at - start) *code = -1;
	return *code < 0 ? at - 1 : start;
}

static int is_word(int32_t code)
{
	return code >= 0 && unicode_is_word(code);
}

static int is_single_word(const char *s, size_t n, size_t at, size_t to)
{
	int32_t before = -1, after = -1;
	if (at) char_before(s, at, &before);
	if (to < n) utf8_next(s + to, n - to, &after);
	return !is_word(before) && !is_word(after);
}

static size_t spaces_before(const char *s, size_t at)
{
	for (int32_t code; at;) {
		size_t start = char_before(s, at, &code);
		if (code < 0 || !unicode_is_space(code)) break;
		at = start;
	}
	return at;
}

static size_t spaces_after(const char *s, size_t n, size_t at)
{
	for (int32_t code; at < n;) {
		size_t len = utf8_next(s + at, n - at, &code);
		if (code < 0 || !unicode_is_space(code)) break;
		at += len;
	}
	return at;
}

int added_cut(const struct tokenizer *t, int class, const char *s, size_t n, added_fn fn, void *arg)
{
	size_t done = 0;
	int rc = 0;
	for (size_t i = 0; t->first[class][256] && i < n && rc >= 0;) {
		const struct added_token *a = added_at(t, class, s + i, n - i);
		if (!a) {
			i++;
			continue;
		}
		size_t at = i, to = i += a->match_bytes;
		if (a->single_word && !is_single_word(s, n, at, to)) continue;
		if (a->lstrip) {
			at = spaces_before(s, at);
			if (at < done) at = done;
		}
		if (a->rstrip) to = spaces_after(s, n, to);
		if (at > done) rc = fn(arg, s + done, at - done, done, -1);
		if (rc >= 0) rc = fn(arg, s + at, to - at, at, a->id);
		done = to;
	}
	if (rc >= 0 && n > done) rc = fn(arg, s + done, n - done, done, -1);
	return rc;
}
