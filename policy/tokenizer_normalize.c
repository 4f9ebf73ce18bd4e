/* Normalisers: text → text before it is cut into pieces; see tokenizer_internal.h.
 *
 * Each step reads one buffer and fills the other. `origin` follows what of the
 * text comes from its very first character, which Metaspace asks for. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static size_t first_char(const char *s, size_t n)
{
	int32_t code;
	return n ? utf8_next(s, n, &code) : 0;
}

static int replace(const struct norm_step *step, const char *s, size_t n, void *region, size_t *origin, struct text_buffer *out,
		   struct err *e)
{
	struct pattern_walk w = { &step->pattern, s, n, 0, SIZE_MAX };
	size_t done = 0, at, to;
	int found, rc = 0;
	while (!rc && (found = pattern_next(&w, region, &at, &to, e)) > 0) {
		if (*origin && !at) *origin = to == first_char(s, n) ? step->bytes : to ? 0 : step->bytes + *origin;
		rc = text_put(out, s + done, at - done, e);
		if (!rc) rc = text_put(out, step->text, step->bytes, e);
		done = to;
	}
	if (!rc && found < 0) rc = found;
	return rc ? rc : text_put(out, s + done, n - done, e);
}

static int strip(const struct norm_step *step, const char *s, size_t n, size_t *origin, struct text_buffer *out, struct err *e)
{
	size_t at = 0, to = n, last = 0;
	for (size_t i = 0; i < n;) {
		int32_t code;
		size_t len = utf8_next(s + i, n - i, &code);
		int space = unicode_is_space(code);
		if (step->left && space && at == i) at = i + len;
		i += len;
		if (!space) last = i;
	}
	if (step->right) to = last > at ? last : at;
	if (at) *origin = 0;
	return text_put(out, s + at, to - at, e);
}

static int apply(const struct norm_step *step, const char *s, size_t n, void *region, size_t *origin, struct text_buffer *out,
		 struct err *e)
{
	int rc;
	switch (step->kind) {
	case NORM_PREPEND:
		rc = n ? text_put(out, step->text, step->bytes, e) : 0;
		if (*origin) *origin += step->bytes;
		return rc ? rc : text_put(out, s, n, e);
	case NORM_REPLACE:
		return replace(step, s, n, region, origin, out, e);
	case NORM_STRIP:
		return strip(step, s, n, origin, out, e);
	case NORM_LOWERCASE:
	case NORM_FORM:
		rc = step->kind == NORM_FORM ? unicode_normalize(step->form, s, n, out, e) : unicode_lower(s, n, out, e);
		if (*origin) *origin = first_char(out->data, out->used);
		return rc;
	}
	return 0;
}

int tokenizer_normalize(const struct tokenizer *t, const char *s, size_t n, void *region, size_t *origin,
			struct text_buffer *out, struct err *e)
{
	struct text_buffer from = {0};
	int rc = 0;
	for (int i = 0; i < t->norms && !rc; i++) {
		out->used = 0;
		rc = apply(&t->norm[i], s, n, region, origin, out, e);
		if (i + 1 == t->norms) break;
		struct text_buffer swap = from;
		from = *out;
		*out = swap;
		s = from.data;
		n = from.used;
	}
	free(from.data);
	return rc;
}
