/* From text to pieces: added tokens, normalisers, then the pre-tokenisers in turn;
 * see tokenizer_internal.h.
 *
 * Normalisers and expressions see valid UTF-8 only: bytes that are not are cut
 * out first and become pieces of their own, so that any bytes can be encoded.
 * Each step sees only the piece that the step before it made, as in the reference
 * (a lookahead ends at its end). A step gives segments, matching and not, in
 * order; its behaviour says which are joined and which are dropped. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

const char TOKENIZER_GPT2_REGEX[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

void tokenizer_free_steps(struct tokenizer *t)
{
	for (int i = 0; i < t->norms; i++) pattern_close(&t->norm[i].pattern);
	for (int i = 0; i < t->steps; i++) pattern_close(&t->step[i].pattern);
	for (int i = 0; i < t->decodes; i++) pattern_close(&t->decode[i].pattern);
}

struct walk {
	const struct tokenizer *t;
	piece_fn fn;
	void *arg;
	struct err *e;
	void *region;
	size_t origin; /* leading bytes of the text being cut that come from the input's first character */
};

static int walk_step(struct walk *w, int k, const char *s, size_t n, size_t origin);

/* The segments of one piece on their way into the next step. */
struct cutter {
	struct walk *w;
	const char *s;
	size_t origin;
	int k, held, previous; /* held: from..to waits for what comes next; previous: the last segment matched */
	size_t from, to;
};

static int emit(struct cutter *c, size_t from, size_t to)
{
	if (from == to) return 0;
	return walk_step(c->w, c->k + 1, c->s + from, to - from, c->origin > from ? c->origin - from : 0);
}

static int flush(struct cutter *c)
{
	int rc = c->held ? emit(c, c->from, c->to) : 0;
	c->held = 0;
	return rc;
}

static int hold(struct cutter *c, size_t from, size_t to)
{
	int rc = flush(c);
	c->held = 1;
	c->from = from;
	c->to = to;
	return rc;
}

static int segment(struct cutter *c, size_t from, size_t to, int match)
{
	const struct pre_step *step = &c->w->t->step[c->k];
	match ^= step->invert;
	int was = c->previous, rc = 0;
	c->previous = match;
	switch (step->behavior) {
	case SPLIT_REMOVED:
		return match ? 0 : emit(c, from, to);
	case SPLIT_ISOLATED:
		return emit(c, from, to);
	case SPLIT_PREVIOUS:
		if (!c->held || !match || was) return hold(c, from, to);
		c->to = to;
		return 0;
	case SPLIT_CONTIGUOUS:
		if (!c->held || match != was) return hold(c, from, to);
		c->to = to;
		return 0;
	case SPLIT_NEXT:
		if (match) return hold(c, from, to);
		if (c->held) from = c->from, c->held = 0;
		rc = emit(c, from, to);
	}
	return rc;
}

static int cut_by_pattern(struct cutter *c, const struct pattern *p, size_t n)
{
	struct pattern_walk m = { p, c->s, n, 0, SIZE_MAX };
	size_t done = 0, at, to;
	int found, rc = 0;
	while ((found = pattern_next(&m, c->w->region, &at, &to, c->w->e)) > 0) {
		if (at > done) rc = segment(c, done, at, 0);
		if (rc >= 0) rc = segment(c, at, to, 1);
		if (rc < 0) return rc;
		done = to;
	}
	if (found < 0) return found;
	if (n > done) rc = segment(c, done, n, 0);
	return rc < 0 ? rc : flush(c);
}

/* Every matching character is a segment of its own. */
static int cut_by_characters(struct cutter *c, int (*is_match)(int32_t), size_t n)
{
	size_t done = 0;
	int rc = 0;
	for (size_t i = 0, len; i < n && rc >= 0; i += len) {
		int32_t code;
		len = utf8_next(c->s + i, n - i, &code);
		if (!is_match(code)) continue;
		if (i > done) rc = segment(c, done, i, 0);
		if (rc >= 0) rc = segment(c, i, i + len, 1);
		done = i + len;
	}
	if (rc >= 0 && n > done) rc = segment(c, done, n, 0);
	return rc < 0 ? rc : flush(c);
}

static int byte_level(struct walk *w, int k, const char *s, size_t n, size_t origin)
{
	const struct pre_step *step = &w->t->step[k];
	char *copy = NULL;
	if (step->prefix == PREFIX_ALWAYS && s[0] != ' ') {
		copy = malloc(n + 1);
		if (!copy) return err_set(w->e, ERR_MEMORY, "out of memory for the tokenizer");
		copy[0] = ' ';
		memcpy(copy + 1, s, n++);
		s = copy;
	}
	struct cutter c = { .w = w, .s = s, .origin = origin, .k = k };
	int rc = step->pattern.regex ? cut_by_pattern(&c, &step->pattern, n) : walk_step(w, k + 1, s, n, origin);
	free(copy);
	return rc;
}

static int metaspace(struct walk *w, int k, const char *s, size_t n, size_t origin)
{
	const struct pre_step *step = &w->t->step[k];
	size_t mark = strlen(step->mark), used = 0;
	char *text = malloc((n + 1) * mark);
	if (!text) return err_set(w->e, ERR_MEMORY, "out of memory for the tokenizer");
	int marked = s[0] == ' ' || (n >= mark && !memcmp(s, step->mark, mark));
	if (!marked && (step->prefix == PREFIX_ALWAYS || (step->prefix == PREFIX_FIRST && origin))) {
		memcpy(text, step->mark, mark);
		used = mark;
		if (origin) origin += mark;
	}
	for (size_t i = 0; i < n; i++) {
		if (s[i] == ' ') memcpy(text + used, step->mark, mark), used += mark;
		else text[used++] = s[i];
	}
	struct pattern p = { NULL, step->mark, mark };
	struct cutter c = { .w = w, .s = text, .origin = origin, .k = k };
	int rc = step->cut ? cut_by_pattern(&c, &p, used) : walk_step(w, k + 1, text, used, origin);
	free(text);
	return rc;
}

/* Applies step k and those after it; recursion is at most STEPS_MAX deep. */
static int walk_step(struct walk *w, int k, const char *s, size_t n, size_t origin)
{
	if (k == w->t->steps) return w->fn(w->arg, s, n, -1, w->e);
	const struct pre_step *step = &w->t->step[k];
	struct cutter c = { .w = w, .s = s, .origin = origin, .k = k };
	switch (step->kind) {
	case PRE_BYTE_LEVEL:
		return byte_level(w, k, s, n, origin);
	case PRE_METASPACE:
		return metaspace(w, k, s, n, origin);
	case PRE_CHARACTERS:
		return cut_by_characters(&c, step->is_match, n);
	case PRE_SPLIT:
		break;
	}
	return cut_by_pattern(&c, &step->pattern, n);
}

/* Normalised text: its added tokens, and pieces of what lies between. */
static int walk_normalized(void *arg, const char *s, size_t n, size_t at, int32_t id)
{
	struct walk *w = arg;
	if (id >= 0) return w->fn(w->arg, s, n, id, w->e);
	return walk_step(w, 0, s, n, w->origin > at ? w->origin - at : 0);
}

static int walk_valid(struct walk *w, const char *s, size_t n, int is_first)
{
	int32_t code;
	struct text_buffer out = {0};
	w->origin = is_first ? utf8_next(s, n, &code) : 0;
	int rc = w->t->norms ? tokenizer_normalize(w->t, s, n, w->region, &w->origin, &out, w->e) : 0;
	if (rc >= 0 && w->t->norms) rc = added_cut(w->t, 1, out.data, out.used, walk_normalized, w);
	else if (rc >= 0) rc = added_cut(w->t, 1, s, n, walk_normalized, w);
	free(out.data);
	return rc;
}

/* Raw text: its added tokens; stretches of valid UTF-8 and of other bytes in turn. */
static int walk_raw(void *arg, const char *s, size_t n, size_t place, int32_t id)
{
	struct walk *w = arg;
	if (id >= 0) return w->fn(w->arg, s, n, id, w->e);
	int rc = 0;
	for (size_t at = 0, to; at < n && rc >= 0; at = to) {
		int32_t code, valid = -1;
		for (to = at; to < n;) {
			size_t len = utf8_next(s + to, n - to, &code);
			if (valid >= 0 && (code >= 0) != valid) break;
			valid = code >= 0;
			to += len;
		}
		rc = valid ? walk_valid(w, s + at, to - at, !place && !at) : w->fn(w->arg, s + at, to - at, -1, w->e);
	}
	return rc;
}

int tokenizer_pieces(const struct tokenizer *t, const char *text, size_t bytes, piece_fn fn, void *arg, struct err *e)
{
	struct walk w = { t, fn, arg, e, pattern_region_open(), 0 };
	if (!w.region) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	int rc = added_cut(t, 0, text, bytes, walk_raw, &w);
	pattern_region_close(w.region);
	return rc;
}
