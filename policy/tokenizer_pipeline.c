/* The parts of tokenizer.json: normalizer, pre_tokenizer, post_processor and
 * decoder into steps; see tokenizer.h. A kind or a setting that would change ids
 * and is not carried out here is refused by its place and name. */
#include "policy/tokenizer_internal.h"

#include <string.h>

int json_flag(const json_t *j, const char *key, int standard)
{
	const json_t *v = json_object_get(j, key);
	return json_is_boolean(v) ? json_is_true(v) : standard;
}

const char *json_text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));
	return s ? s : "";
}

static int is_missing(const json_t *j)
{
	return !j || json_is_null(j);
}

/* A copy of a string member for the tokenizer's life; NULL with *e filled. */
static const char *keep_text(struct tokenizer *t, const json_t *j, const char *key, size_t *bytes, struct err *e)
{
	const json_t *v = json_object_get(j, key);
	if (!json_is_string(v)) {
		err_set(e, ERR_FORMAT, "\"%s\" is not a text", key);
		return NULL;
	}
	*bytes = json_string_length(v);
	char *copy = arena_alloc(t->bpe.arena, *bytes + 1);
	if (copy) memcpy(copy, json_string_value(v), *bytes + 1);
	else err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
	return copy;
}

/* {"String": …} or {"Regex": …} */
static int read_pattern(struct tokenizer *t, const json_t *j, struct pattern *p, struct err *e)
{
	const json_t *pattern = json_object_get(j, "pattern"), *regex = json_object_get(pattern, "Regex");
	if (json_is_string(regex)) {
		if (strlen(json_string_value(regex)) != json_string_length(regex)) return err_set(e, ERR_FORMAT, "a pattern with U+0000");
		return pattern_open(p, json_string_value(regex), e);
	}
	if (!json_is_string(json_object_get(pattern, "String"))) return err_set(e, ERR_FORMAT, "the pattern is neither {\"String\": …} nor {\"Regex\": …}");
	p->literal = keep_text(t, pattern, "String", &p->bytes, e);
	if (!p->literal) return ERR_MEMORY;
	return p->bytes ? 0 : err_set(e, ERR_FORMAT, "the pattern is empty");
}

/* A member of one character. */
static int read_char(const json_t *j, const char *key, const char *standard, char out[5], struct err *e)
{
	const json_t *v = json_object_get(j, key);
	const char *s = v || !standard ? json_string_value(v) : standard;
	int32_t code;
	size_t n = s ? strlen(s) : 0;
	if (!n || utf8_next(s, n, &code) != n) return err_set(e, ERR_FORMAT, "\"%s\" is not one character", key);
	memcpy(out, s, n + 1);
	return 0;
}

typedef int (*read_fn)(struct tokenizer *t, const json_t *j, struct err *e);

/* Reads a part, or every part of a Sequence of them under `list`, to a depth of four. */
static int read_each(struct tokenizer *t, const json_t *j, const char *list, read_fn fn, int depth, struct err *e)
{
	const char *type = json_text(j, "type");
	if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "not an object");
	if (strcmp(type, "Sequence")) {
		int rc = fn(t, j, e);
		return rc ? err_prefix(e, "%s", *type ? type : "a part without type") : 0;
	}
	const json_t *parts = json_object_get(j, list);
	if (!json_is_array(parts) || depth == 4) return err_set(e, ERR_FORMAT, depth == 4 ? "Sequences too deep in each other" : "Sequence without %s", list);
	for (size_t i = 0; i < json_array_size(parts); i++) {
		int rc = read_each(t, json_array_get(parts, i), list, fn, depth + 1, e);
		if (rc) return err_prefix(e, "%s[%zu]", list, i);
	}
	return 0;
}

static int too_many(struct err *e)
{
	return err_set(e, ERR_RANGE, "more than %d steps", STEPS_MAX);
}

/* ---- normalisers ---- */

static int read_normalizer(struct tokenizer *t, const json_t *j, struct err *e)
{
	static const char *const forms[] = { "NFC", "NFD", "NFKC", "NFKD" };
	const char *type = json_text(j, "type");
	if (t->norms == STEPS_MAX) return too_many(e);
	struct norm_step *s = &t->norm[t->norms];
	*s = (struct norm_step){ .kind = NORM_FORM };
	int known = 0, rc = 0;
	for (int f = 0; f < 4; f++)
		if (!strcmp(type, forms[f])) s->form = (enum unicode_form)f, known = 1;
	if (!strcmp(type, "Lowercase")) s->kind = NORM_LOWERCASE, known = 1;
	if (!strcmp(type, "Strip")) {
		known = 1;
		*s = (struct norm_step){ .kind = NORM_STRIP, .left = json_flag(j, "strip_left", 1), .right = json_flag(j, "strip_right", 1) };
	}
	if (!strcmp(type, "Prepend") || !strcmp(type, "Replace")) {
		known = 1;
		s->kind = *type == 'P' ? NORM_PREPEND : NORM_REPLACE;
		s->text = keep_text(t, j, *type == 'P' ? "prepend" : "content", &s->bytes, e);
		if (!s->text) return e ? e->code : ERR_FORMAT;
		if (s->kind == NORM_REPLACE) rc = read_pattern(t, j, &s->pattern, e);
	}
	if (!known) return err_set(e, ERR_FORMAT, "not supported (NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace, Sequence)");
	t->norms++; /* also after an error: its pattern is to be closed */
	return rc;
}

/* ---- pre-tokenisers ---- */

static int read_behavior(const json_t *j, const char *standard, enum split_behavior *out, struct err *e)
{
	static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
	const char *s = json_text(j, "behavior");
	if (!*s && standard) s = standard;
	for (int i = 0; i < 5; i++)
		if (!strcmp(s, names[i])) {
			*out = (enum split_behavior)i;
			return 0;
		}
	return err_set(e, ERR_FORMAT, "behavior \"%s\" is not known", s);
}

static int read_metaspace(struct pre_step *s, const json_t *j, struct err *e)
{
	const char *scheme = json_text(j, "prepend_scheme");
	if (!*scheme) scheme = json_flag(j, "add_prefix_space", 1) ? "always" : "never";
	*s = (struct pre_step){ .kind = PRE_METASPACE, .behavior = SPLIT_NEXT, .cut = json_flag(j, "split", 1) };
	if (!strcmp(scheme, "always")) s->prefix = PREFIX_ALWAYS;
	else if (!strcmp(scheme, "first")) s->prefix = PREFIX_FIRST;
	else if (strcmp(scheme, "never")) return err_set(e, ERR_FORMAT, "prepend_scheme \"%s\" is not known", scheme);
	return read_char(j, "replacement", NULL, s->mark, e);
}

static int read_pre_tokenizer(struct tokenizer *t, const json_t *j, struct err *e)
{
	const char *type = json_text(j, "type");
	if (t->steps == STEPS_MAX) return too_many(e);
	if (t->steps && t->step[t->steps - 1].kind == PRE_BYTE_LEVEL) return err_set(e, ERR_FORMAT, "a pre-tokenizer after ByteLevel is not supported");
	struct pre_step *s = &t->step[t->steps++];
	*s = (struct pre_step){ .kind = PRE_SPLIT };
	if (!strcmp(type, "Split")) {
		int rc = read_behavior(j, NULL, &s->behavior, e);
		s->invert = json_flag(j, "invert", 0);
		return rc ? rc : read_pattern(t, j, &s->pattern, e);
	}
	if (!strcmp(type, "ByteLevel")) {
		*s = (struct pre_step){ .kind = PRE_BYTE_LEVEL, .behavior = SPLIT_ISOLATED,
					.prefix = json_flag(j, "add_prefix_space", 1) ? PREFIX_ALWAYS : PREFIX_NEVER };
		return json_flag(j, "use_regex", 1) ? pattern_open(&s->pattern, TOKENIZER_GPT2_REGEX, e) : 0;
	}
	if (!strcmp(type, "Digits")) {
		*s = (struct pre_step){ .kind = PRE_CHARACTERS, .is_match = unicode_is_numeric,
					.behavior = json_flag(j, "individual_digits", 0) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS };
		return 0;
	}
	if (!strcmp(type, "Punctuation")) {
		*s = (struct pre_step){ .kind = PRE_CHARACTERS, .is_match = unicode_is_punctuation };
		return read_behavior(j, "Isolated", &s->behavior, e);
	}
	if (!strcmp(type, "Whitespace")) {
		*s = (struct pre_step){ .kind = PRE_SPLIT, .behavior = SPLIT_REMOVED, .invert = 1 };
		/* The reference's engine counts the joiners as word characters, Oniguruma does not. */
		return pattern_open(&s->pattern, "[\\w\\x{200C}\\x{200D}]+|[^\\w\\s\\x{200C}\\x{200D}]+", e);
	}
	if (!strcmp(type, "WhitespaceSplit")) {
		*s = (struct pre_step){ .kind = PRE_CHARACTERS, .is_match = unicode_is_space, .behavior = SPLIT_REMOVED };
		return 0;
	}
	if (!strcmp(type, "Metaspace")) return read_metaspace(s, j, e);
	return err_set(e, ERR_FORMAT, "not supported (Split, ByteLevel, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit, Sequence)");
}

/* ---- post-processors: special tokens before and behind ---- */

static int wrap_ids(struct tokenizer *t, const json_t *specials, const char *name, int32_t *list, int *n, struct err *e)
{
	const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
	if (!json_array_size(ids)) return err_set(e, ERR_FORMAT, "special_tokens has no ids for \"%s\"", name);
	for (size_t i = 0; i < json_array_size(ids); i++) {
		json_int_t id = json_integer_value(json_array_get(ids, i));
		if (!json_is_integer(json_array_get(ids, i)) || id < 0 || id >= t->size || !tokenizer_token(t, (int32_t)id))
			return err_set(e, ERR_RANGE, "the ids of \"%s\" are not all tokens of the vocabulary", name);
		if (*n == WRAP_MAX) return err_set(e, ERR_RANGE, "more than %d special tokens on one side", WRAP_MAX);
		list[(*n)++] = (int32_t)id;
	}
	return 0;
}

/* Processors that come later wrap what the earlier ones made. */
static int read_template(struct tokenizer *t, const json_t *j, struct err *e)
{
	const json_t *single = json_object_get(j, "single"), *specials = json_object_get(j, "special_tokens");
	int32_t before[WRAP_MAX];
	int n = 0, text = 0;
	for (size_t i = 0; i < json_array_size(single); i++) {
		const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
		if (json_object_get(piece, "Sequence")) {
			if (text++ || strcmp(json_text(json_object_get(piece, "Sequence"), "id"), "A"))
				return err_set(e, ERR_FORMAT, "single must have the sequence A once");
			continue;
		}
		int rc = text ? wrap_ids(t, specials, json_text(special, "id"), t->suffix, &t->suffixes, e)
			      : wrap_ids(t, specials, json_text(special, "id"), before, &n, e);
		if (rc) return rc;
	}
	if (!text) return err_set(e, ERR_FORMAT, "single must have the sequence A once");
	if (n + t->prefixes > WRAP_MAX) return err_set(e, ERR_RANGE, "more than %d special tokens on one side", WRAP_MAX);
	memmove(t->prefix + n, t->prefix, (size_t)t->prefixes * sizeof *t->prefix);
	memcpy(t->prefix, before, (size_t)n * sizeof *before);
	t->prefixes += n;
	return 0;
}

static int read_post_processor(struct tokenizer *t, const json_t *j, struct err *e)
{
	const char *type = json_text(j, "type");
	if (!strcmp(type, "ByteLevel")) return 0; /* it moves offsets, which are not given out here */
	if (!strcmp(type, "TemplateProcessing")) return read_template(t, j, e);
	return err_set(e, ERR_FORMAT, "not supported (ByteLevel, TemplateProcessing, Sequence)");
}

/* ---- decoders ---- */

static int read_size(const json_t *j, const char *key, size_t *out, struct err *e)
{
	const json_t *v = json_object_get(j, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0) return err_set(e, ERR_FORMAT, "\"%s\" is not a number from 0 on", key);
	*out = (size_t)json_integer_value(v);
	return 0;
}

static int read_decoder(struct tokenizer *t, const json_t *j, struct err *e)
{
	const char *type = json_text(j, "type");
	if (t->decodes == STEPS_MAX) return too_many(e);
	struct decode_step *s = &t->decode[t->decodes++];
	*s = (struct decode_step){ .kind = DECODE_FUSE };
	int rc;
	if (!strcmp(type, "Fuse")) return 0;
	if (!strcmp(type, "ByteLevel")) {
		s->kind = DECODE_BYTE_LEVEL;
		return 0;
	}
	if (!strcmp(type, "ByteFallback")) {
		s->kind = DECODE_BYTE_FALLBACK;
		return 0;
	}
	if (!strcmp(type, "Metaspace")) {
		struct pre_step as;
		rc = read_metaspace(&as, j, e);
		s->kind = DECODE_METASPACE;
		s->drop_first = as.prefix != PREFIX_NEVER;
		memcpy(s->mark, as.mark, sizeof s->mark);
		return rc;
	}
	if (!strcmp(type, "Strip")) {
		s->kind = DECODE_STRIP;
		rc = read_char(j, "content", NULL, s->mark, e);
		if (!rc) rc = read_size(j, "start", &s->start, e);
		return rc ? rc : read_size(j, "stop", &s->stop, e);
	}
	if (!strcmp(type, "Replace")) {
		s->kind = DECODE_REPLACE;
		s->text = keep_text(t, j, "content", &s->bytes, e);
		return s->text ? read_pattern(t, j, &s->pattern, e) : e ? e->code : ERR_FORMAT;
	}
	return err_set(e, ERR_FORMAT, "not supported (ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, Sequence)");
}

/* ---- all ---- */

int tokenizer_read_pipeline(struct tokenizer *t, const json_t *doc, struct err *e)
{
	static const struct {
		const char *part, *list;
		read_fn read;
	} parts[] = {
		{ "normalizer", "normalizers", read_normalizer },
		{ "pre_tokenizer", "pretokenizers", read_pre_tokenizer },
		{ "post_processor", "processors", read_post_processor },
		{ "decoder", "decoders", read_decoder },
	};
	for (int i = 0; i < 4; i++) {
		const json_t *j = json_object_get(doc, parts[i].part);
		int rc = is_missing(j) ? 0 : read_each(t, j, parts[i].list, parts[i].read, 0, e);
		if (rc) return err_prefix(e, "%s", parts[i].part);
	}
	t->has_decoder = !is_missing(json_object_get(doc, "decoder"));
	t->bpe.byte_level = t->steps && t->step[t->steps - 1].kind == PRE_BYTE_LEVEL;
	return 0;
}
