/* From text to pieces: added tokens, then the pre-tokenisers in turn; see
 * tokenizer_internal.h.
 *
 * The regular expressions run in Oniguruma, the engine of the reference, over
 * valid UTF-8 only: bytes that are not are cut out first and become pieces of
 * their own, so that any bytes can be encoded. Each step sees only the piece that
 * the step before it made, as in the reference (a lookahead ends at its end).
 * Character classes are those of the installed Oniguruma's Unicode version: two
 * libraries may part on characters added to Unicode in between. */
#include "policy/tokenizer_internal.h"

#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>

const char TOKENIZER_GPT2_REGEX[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- building ---- */

int tokenizer_add_step(struct tokenizer *t, enum pre_kind kind, const char *pattern, int keep_match, int keep_gap,
		       int prefix_space, struct err *e)
{
	if (t->steps == PRE_STEPS_MAX) return err_set(e, ERR_RANGE, "tokenizer: more than %d pre-tokenizers", PRE_STEPS_MAX);
	if (t->steps && t->step[t->steps - 1].kind == PRE_BYTE_LEVEL)
		return err_set(e, ERR_FORMAT, "tokenizer: a pre-tokenizer after ByteLevel is not supported");
	struct pre_step *s = &t->step[t->steps];
	*s = (struct pre_step){ .kind = kind, .keep_match = keep_match, .keep_gap = keep_gap, .prefix_space = prefix_space };
	if (pattern) {
		OnigEncoding encoding = ONIG_ENCODING_UTF8;
		OnigErrorInfo info;
		regex_t *regex = NULL;
		const OnigUChar *p = (const OnigUChar *)pattern;
		int rc = onig_initialize(&encoding, 1);
		if (rc == ONIG_NORMAL) rc = onig_new(&regex, p, p + strlen(pattern), ONIG_OPTION_NONE, encoding, ONIG_SYNTAX_DEFAULT, &info);
		if (rc != ONIG_NORMAL) {
			OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
			onig_error_code_to_str(text, rc, &info);
			return err_set(e, ERR_FORMAT, "tokenizer: pattern \"%s\": %s", pattern, (const char *)text);
		}
		s->regex = regex;
	}
	t->steps++;
	return 0;
}

void tokenizer_free_steps(struct tokenizer *t)
{
	for (int i = 0; i < t->steps; i++)
		if (t->step[i].regex) onig_free(t->step[i].regex);
}

/* ---- walking ---- */

struct walk {
	const struct tokenizer *t;
	piece_fn fn;
	void *arg;
	struct err *e;
};

static int walk_step(struct walk *w, int k, const char *s, size_t n);

/* Cuts s by the step's pattern; matches and gaps go on to the next step where they are kept. An empty match cuts
 * nothing and the search goes on one character later. */
static int walk_matches(struct walk *w, int k, const char *s, size_t n)
{
	const struct pre_step *step = &w->t->step[k];
	const OnigUChar *begin = (const OnigUChar *)s, *end = begin + n;
	OnigRegion *region = onig_region_new();
	size_t done = 0, from = 0;
	int rc = region ? 0 : err_set(w->e, ERR_MEMORY, "out of memory for the tokenizer");
	while (rc >= 0 && from <= n) {
		int found = onig_search(step->regex, begin, end, begin + from, end, region, ONIG_OPTION_NONE);
		if (found == ONIG_MISMATCH) break;
		if (found < 0) {
			OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
			onig_error_code_to_str(text, found);
			rc = err_set(w->e, ERR_RANGE, "tokenizer: matching failed: %s", (const char *)text);
			break;
		}
		size_t at = (size_t)region->beg[0], to = (size_t)region->end[0];
		if (to == at) {
			int32_t code;
			from = to < n ? to + utf8_next(s + to, n - to, &code) : n + 1;
			continue;
		}
		if (at > done && step->keep_gap) rc = walk_step(w, k + 1, s + done, at - done);
		if (rc >= 0 && step->keep_match) rc = walk_step(w, k + 1, s + at, to - at);
		done = from = to;
	}
	if (rc >= 0 && n > done && step->keep_gap) rc = walk_step(w, k + 1, s + done, n - done);
	if (region) onig_region_free(region, 1);
	return rc;
}

/* Applies step k and those after it; recursion is at most PRE_STEPS_MAX deep. */
static int walk_step(struct walk *w, int k, const char *s, size_t n)
{
	if (k == w->t->steps) return w->fn(w->arg, s, n, -1, w->e);
	const struct pre_step *step = &w->t->step[k];
	char *copy = NULL;
	if (step->prefix_space && s[0] != ' ') {
		copy = malloc(n + 1);
		if (!copy) return err_set(w->e, ERR_MEMORY, "out of memory for the tokenizer");
		copy[0] = ' ';
		memcpy(copy + 1, s, n++);
		s = copy;
	}
	int rc = step->regex ? walk_matches(w, k, s, n) : walk_step(w, k + 1, s, n);
	free(copy);
	return rc;
}

/* Text without added tokens: stretches of valid UTF-8 and of other bytes in turn. */
static int walk_text(struct walk *w, const char *s, size_t n)
{
	int rc = 0;
	for (size_t at = 0, to; at < n && rc >= 0; at = to) {
		int32_t code, valid = -1;
		for (to = at; to < n;) {
			size_t len = utf8_next(s + to, n - to, &code);
			if (valid >= 0 && (code >= 0) != valid) break;
			valid = code >= 0;
			to += len;
		}
		rc = valid ? walk_step(w, 0, s + at, to - at) : w->fn(w->arg, s + at, to - at, -1, w->e);
	}
	return rc;
}

/* The longest added token of the class at s; NULL: none. */
static const struct added_token *added_at(const struct tokenizer *t, int class, const char *s, size_t n)
{
	unsigned char c = (unsigned char)s[0];
	for (uint32_t i = t->first[class][c]; i < t->first[class][c + 1]; i++) {
		const struct added_token *a = &t->added[t->order[class][i]];
		if (a->bytes <= n && !memcmp(a->content, s, a->bytes)) return a;
	}
	return NULL;
}

static int walk_added(struct walk *w, int class, const char *s, size_t n)
{
	if (class == 2) return walk_text(w, s, n);
	if (!w->t->first[class][256]) return walk_added(w, class + 1, s, n);
	size_t done = 0;
	int rc = 0;
	for (size_t i = 0; i < n && rc >= 0;) {
		const struct added_token *a = added_at(w->t, class, s + i, n - i);
		if (!a) {
			i++;
			continue;
		}
		if (i > done) rc = walk_added(w, class + 1, s + done, i - done);
		if (rc >= 0) rc = w->fn(w->arg, s + i, a->bytes, a->id, w->e);
		done = i += a->bytes;
	}
	if (rc >= 0 && n > done) rc = walk_added(w, class + 1, s + done, n - done);
	return rc;
}

int tokenizer_pieces(const struct tokenizer *t, const char *text, size_t bytes, piece_fn fn, void *arg, struct err *e)
{
	struct walk w = { t, fn, arg, e };
	return walk_added(&w, 0, text, bytes);
}
