/* From tokens to text: the decoders in turn, each from one list of texts to
 * another, and in the end all joined; see tokenizer_internal.h.
 *
 * Where the reference puts U+FFFD for bytes that are no character, the bytes
 * stay as they are unless TOKENIZER_UTF8 asks for it: so that what was encoded
 * comes back. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

struct texts {
	struct text_buffer b;
	size_t *end, n, room; /* text i is data[end[i-1]..end[i]) */
};

static int close_text(struct texts *t, struct err *e)
{
	if (t->n == t->room) {
		size_t room = t->room ? 2 * t->room : 64, *end = realloc(t->end, room * sizeof *end);
		if (!end) return err_set(e, ERR_MEMORY, "out of memory for decoded text");
		t->end = end;
		t->room = room;
	}
	t->end[t->n++] = t->b.used;
	return 0;
}

static int put_text(struct texts *t, const char *s, size_t n, struct err *e)
{
	int rc = text_put(&t->b, s, n, e);
	return rc ? rc : close_text(t, e);
}

static const char *text_at(const struct texts *t, size_t i, size_t *n)
{
	size_t from = i ? t->end[i - 1] : 0;
	*n = t->end[i] - from;
	return t->b.data + from;
}

/* A token whose spelling is not all of the byte alphabet stands for itself, as in the reference. */
static int byte_level(const struct texts *in, struct texts *out, struct err *e)
{
	int rc = text_put(&out->b, "", 0, e);
	for (size_t i = 0; i < in->n && !rc; i++) {
		size_t n;
		const char *s = text_at(in, i, &n);
		rc = text_put(&out->b, s, n, e); /* room for it; then in place */
		if (rc) break;
		out->b.used -= n;
		int64_t k = alphabet_read(s, n, out->b.data + out->b.used);
		if (k < 0) memcpy(out->b.data + out->b.used, s, n);
		out->b.used += k < 0 ? n : (size_t)k;
	}
	return rc ? rc : close_text(out, e);
}

/* Every token on its own: marks become spaces, or nothing in the first token. */
static int metaspace(const struct decode_step *step, const struct texts *in, struct texts *out, struct err *e)
{
	size_t mark = strlen(step->mark);
	int rc = 0;
	for (size_t i = 0; i < in->n && !rc; i++) {
		size_t n, k = 0;
		const char *s = text_at(in, i, &n);
		while (k < n && !rc) {
			int is_mark = n - k >= mark && !memcmp(s + k, step->mark, mark);
			if (!is_mark) rc = text_put(&out->b, s + k, 1, e);
			else if (i || !step->drop_first) rc = text_put(&out->b, " ", 1, e);
			k += is_mark ? mark : 1;
		}
		if (!rc) rc = close_text(out, e);
	}
	return rc;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that <0xNN> stands for; -1: it is another token. ("+F" is a number for the reference's parser.) */
static int fallback_byte(const char *s, size_t n)
{
	if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
	int high = hex(s[3]), low = hex(s[4]);
	if (s[3] == '+') high = 0;
	return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* Ends a run of bytes that began at from: one text, or U+FFFD for each byte when they are no UTF-8. */
static int close_bytes(struct texts *out, size_t from, int flags, struct err *e)
{
	size_t n = out->b.used - from, i = 0;
	int32_t code = 0;
	if (!n) return 0;
	while (i < n && code >= 0) i += utf8_next(out->b.data + from + i, n - i, &code);
	if (code >= 0 || !(flags & TOKENIZER_UTF8)) return close_text(out, e);
	int rc = 0;
	out->b.used = from;
	for (i = 0; i < n && !rc; i++) rc = put_text(out, "\xEF\xBF\xBD", 3, e);
	return rc;
}

static int byte_fallback(const struct texts *in, struct texts *out, int flags, struct err *e)
{
	size_t from = 0;
	int rc = 0;
	for (size_t i = 0; i < in->n && !rc; i++) {
		size_t n;
		const char *s = text_at(in, i, &n);
		int byte = fallback_byte(s, n);
		char c = (char)byte;
		if (byte >= 0) {
			rc = text_put(&out->b, &c, 1, e);
			continue;
		}
		rc = close_bytes(out, from, flags, e);
		if (!rc) rc = put_text(out, s, n, e);
		from = out->b.used;
	}
	return rc ? rc : close_bytes(out, from, flags, e);
}

static int strip(const struct decode_step *step, const struct texts *in, struct texts *out, struct err *e)
{
	size_t mark = strlen(step->mark);
	int rc = 0;
	for (size_t i = 0; i < in->n && !rc; i++) {
		size_t n;
		const char *s = text_at(in, i, &n);
		for (size_t k = 0; k < step->start && n >= mark && !memcmp(s, step->mark, mark); k++) s += mark, n -= mark;
		for (size_t k = 0; k < step->stop && n >= mark && !memcmp(s + n - mark, step->mark, mark); k++) n -= mark;
		rc = put_text(out, s, n, e);
	}
	return rc;
}

static int replace(const struct decode_step *step, const struct texts *in, struct texts *out, struct err *e)
{
	void *region = pattern_region_open();
	int rc = region ? 0 : err_set(e, ERR_MEMORY, "out of memory for decoded text");
	for (size_t i = 0; i < in->n && !rc; i++) {
		size_t n, done = 0, at, to;
		const char *s = text_at(in, i, &n);
		struct pattern_walk w = { &step->pattern, s, n, 0, SIZE_MAX };
		int found = 0;
		while (!rc && (found = pattern_next(&w, region, &at, &to, e)) > 0) {
			rc = text_put(&out->b, s + done, at - done, e);
			if (!rc) rc = text_put(&out->b, step->text, step->bytes, e);
			done = to;
		}
		if (!rc && found < 0) rc = found;
		if (!rc) rc = put_text(out, s + done, n - done, e);
	}
	pattern_region_close(region);
	return rc;
}

static int apply(const struct decode_step *step, const struct texts *in, struct texts *out, int flags, struct err *e)
{
	switch (step->kind) {
	case DECODE_BYTE_LEVEL:
		return byte_level(in, out, e);
	case DECODE_METASPACE:
		return metaspace(step, in, out, e);
	case DECODE_BYTE_FALLBACK:
		return byte_fallback(in, out, flags, e);
	case DECODE_STRIP:
		return strip(step, in, out, e);
	case DECODE_REPLACE:
		return replace(step, in, out, e);
	case DECODE_FUSE:
		break;
	}
	return put_text(out, in->b.data, in->b.used, e);
}

/* The spellings of the tokens; with no decoder, each but the first behind a space. An added token that is matched in
 * normalised text is spelled so too (the reference does since 0.22). */
static int spell(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, struct texts *out, struct err *e)
{
	int rc = text_put(&out->b, "", 0, e);
	for (size_t i = 0; i < n && !rc; i++) {
		const char *s = tokenizer_token(t, ids[i]);
		if (!s) return err_set(e, ERR_RANGE, "token id %d is not in the vocabulary (0 to %d)", ids[i], tokenizer_vocab_size(t) - 1);
		if ((flags & TOKENIZER_SKIP_SPECIAL) && tokenizer_is_special(t, ids[i])) continue;
		const struct added_token *a = t->added_of[ids[i]] >= 0 ? &t->added[t->added_of[ids[i]]] : NULL;
		if (!t->has_decoder && out->n) rc = text_put(&out->b, " ", 1, e);
		if (!rc) rc = put_text(out, a ? a->match : s, a ? a->match_bytes : t->bpe.bytes[ids[i]], e);
	}
	return rc;
}

int64_t decode_tokens(const struct tokenizer *t, const int32_t *ids, size_t n, int flags, char **out, struct err *e)
{
	struct texts list[2] = {0};
	int now = 0, rc = spell(t, ids, n, flags, &list[0], e);
	for (int i = 0; i < t->decodes && !rc; i++, now ^= 1) {
		list[!now].n = list[!now].b.used = 0;
		rc = apply(&t->decode[i], &list[now], &list[!now], flags, e);
	}
	free(list[0].end);
	free(list[1].end);
	free(list[!now].b.data);
	if (rc) {
		free(list[now].b.data);
		return rc;
	}
	*out = list[now].b.data;
	return (int64_t)list[now].b.used;
}
