/* Patterns of the pipeline: a literal text or an expression of Oniguruma, the
 * engine of the reference; see tokenizer_internal.h.
 *
 * Matches are walked as the reference's engine does: an empty match counts, except
 * right behind the match before it, where the search goes on one character later.
 * Character classes are those of the installed Oniguruma's Unicode version: two
 * libraries may part on characters added to Unicode in between. */
#include "policy/tokenizer_internal.h"

#include <oniguruma.h>
#include <string.h>

int pattern_open(struct pattern *p, const char *regex, struct err *e)
{
	OnigEncoding encoding = ONIG_ENCODING_UTF8;
	OnigErrorInfo info = {0};
	regex_t *r = NULL;
	const OnigUChar *s = (const OnigUChar *)regex;
	int rc = onig_initialize(&encoding, 1);
	if (rc == ONIG_NORMAL) rc = onig_new(&r, s, s + strlen(regex), ONIG_OPTION_NONE, encoding, ONIG_SYNTAX_DEFAULT, &info);
	if (rc != ONIG_NORMAL) {
		OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
		onig_error_code_to_str(text, rc, &info);
		return err_set(e, ERR_FORMAT, "pattern \"%.200s\": %s", regex, (const char *)text);
	}
	p->regex = r;
	return 0;
}

void pattern_close(struct pattern *p)
{
	if (p->regex) onig_free(p->regex);
	p->regex = NULL;
}

void *pattern_region_open(void)
{
	return onig_region_new();
}

void pattern_region_close(void *region)
{
	if (region) onig_region_free(region, 1);
}

static int next_literal(struct pattern_walk *w, size_t *at, size_t *to)
{
	const char *found = w->from < w->n ? memmem(w->s + w->from, w->n - w->from, w->pattern->literal, w->pattern->bytes) : NULL;
	if (!found) return 0;
	*at = (size_t)(found - w->s);
	*to = w->from = *at + w->pattern->bytes;
	return 1;
}

int pattern_next(struct pattern_walk *w, void *region, size_t *at, size_t *to, struct err *e)
{
	if (!w->pattern->regex) return next_literal(w, at, to);
	const OnigUChar *begin = (const OnigUChar *)w->s, *end = begin + w->n;
	OnigRegion *r = region;
	while (w->from <= w->n) {
		int found = onig_search(w->pattern->regex, begin, end, begin + w->from, end, r, ONIG_OPTION_NONE);
		if (found == ONIG_MISMATCH) return 0;
		if (found < 0) {
			OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
			onig_error_code_to_str(text, found);
			return err_set(e, ERR_RANGE, "tokenizer: matching failed: %s", (const char *)text);
		}
		*at = (size_t)r->beg[0];
		*to = (size_t)r->end[0];
		if (*at == *to && *to == w->last) {
			int32_t code;
			w->from = w->from < w->n ? w->from + utf8_next(w->s + w->from, w->n - w->from, &code) : w->n + 1;
			continue;
		}
		w->from = w->last = *to;
		return 1;
	}
	return 0;
}
