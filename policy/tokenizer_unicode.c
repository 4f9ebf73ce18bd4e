/* Normal forms, small letters and classes of characters, by libutf8proc; see
 * tokenizer_internal.h.
 *
 * The reference carries tables of its own, of different ages: those of its normal
 * forms are Unicode 9's, those of its Punctuation Unicode 8's. A character that
 * came later is left alone by them, so it is left alone here: the lists below,
 * found by comparing every character (tests/test_tokenizer_parity.py does it). */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct range {
	int32_t from, to;
};

/* Marks and characters with a decomposition that the reference's normal forms do not know. */
static const struct range inert[] = {
	{ 0x7FD, 0x7FD }, { 0x898, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE }, { 0xC3C, 0xC3C }, { 0xD3B, 0xD3C },
	{ 0xEBA, 0xEBA }, { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE }, { 0x1DF6, 0x1DFA }, { 0x32FF, 0x32FF }, { 0xA7F2, 0xA7F4 },
	{ 0xA82C, 0xA82C }, { 0xAB69, 0xAB69 }, { 0x10781, 0x10785 }, { 0x10787, 0x107B0 }, { 0x107B2, 0x107BA },
	{ 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 },
	{ 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A }, { 0x11930, 0x11930 }, { 0x11938, 0x11938 },
	{ 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 },
	{ 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x16FF0, 0x16FF1 },
	{ 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1F16C, 0x1F16C }, { 0x1FBF0, 0x1FBF9 },
};

/* Punctuation that the reference's Punctuation does not know. */
static const struct range late_punctuation[] = {
	{ 0x61D, 0x61D }, { 0x9FD, 0x9FD }, { 0xA76, 0xA76 }, { 0xC77, 0xC77 }, { 0xC84, 0xC84 },
	{ 0x1B7D, 0x1B7E }, { 0x2E43, 0x2E4F }, { 0x2E52, 0x2E5D }, { 0x10EAD, 0x10EAD }, { 0x10F55, 0x10F59 },
	{ 0x10F86, 0x10F89 }, { 0x1144B, 0x1144F }, { 0x1145A, 0x1145B }, { 0x1145D, 0x1145D },
	{ 0x11660, 0x1166C }, { 0x116B9, 0x116B9 }, { 0x1183B, 0x1183B }, { 0x11944, 0x11946 }, { 0x119E2, 0x119E2 },
	{ 0x11A3F, 0x11A46 }, { 0x11A9A, 0x11A9C }, { 0x11A9E, 0x11AA2 }, { 0x11C41, 0x11C45 }, { 0x11C70, 0x11C71 },
	{ 0x11EF7, 0x11EF8 }, { 0x11FFF, 0x11FFF }, { 0x12FF1, 0x12FF2 }, { 0x16E97, 0x16E9A }, { 0x16FE2, 0x16FE2 },
	{ 0x1E95E, 0x1E95F },
};

static int in_ranges(const struct range *r, size_t n, int32_t code)
{
	size_t low = 0, high = n;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (code > r[mid].to) low = mid + 1;
		else high = mid;
	}
	return low < n && code >= r[low].from;
}

static int is_inert(int32_t code)
{
	return code >= 0x7FD && in_ranges(inert, sizeof inert / sizeof *inert, code);
}

/* ---- classes ---- */

int unicode_is_space(int32_t c)
{
	if (c < 0x80) return c == 0x20 || (c >= 9 && c <= 13);
	return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
	       c == 0x205F || c == 0x3000;
}

int unicode_is_numeric(int32_t code)
{
	utf8proc_category_t c = utf8proc_category(code);
	return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

int unicode_is_punctuation(int32_t code)
{
	if (code < 0x80) return code > 0x20 && code < 0x7F && !((code | 0x20) >= 'a' && (code | 0x20) <= 'z') && !(code >= '0' && code <= '9');
	utf8proc_category_t c = utf8proc_category(code);
	if (code == 0x166D || code == 0x111C9) return 1; /* no longer, since Unicode 11 and 12 */
	return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO &&
	       !in_ranges(late_punctuation, sizeof late_punctuation / sizeof *late_punctuation, code);
}

/* Alphabetic are the letters, Nl, and of the marks and symbols those that are listed as such; marks count as word
 * characters anyway, so only the circled and squared letters remain to be named. */
int unicode_is_word(int32_t code)
{
	utf8proc_category_t c = utf8proc_category(code);
	if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ND) return 1; /* letters, marks, Nd */
	return c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC || code == 0x200C || code == 0x200D ||
	       (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
	       (code >= 0x1F170 && code <= 0x1F189);
}

/* ---- small letters ---- */

int unicode_lower(const char *s, size_t n, struct text_buffer *out, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < n && !rc;) {
		int32_t code;
		i += utf8_next(s + i, n - i, &code);
		rc = text_put_char(out, code == 0x130 ? 'i' : utf8proc_tolower(code), e);
		if (!rc && code == 0x130) rc = text_put_char(out, 0x307, e); /* the one character with two small ones */
	}
	return rc;
}

/* ---- normal forms ---- */

struct codes {
	int32_t *code;
	size_t n, room;
};

static int codes_room(struct codes *c, size_t more, struct err *e)
{
	if (c->room - c->n >= more) return 0;
	size_t room = c->room ? 2 * c->room : 256;
	while (room - c->n < more) room *= 2;
	int32_t *code = realloc(c->code, room * sizeof *code);
	if (!code) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer's text");
	c->code = code;
	c->room = room;
	return 0;
}

static int combining_class(int32_t code)
{
	return code < 0x300 || is_inert(code) ? 0 : utf8proc_get_property(code)->combining_class;
}

static int decompose(struct codes *c, int32_t code, int compat, struct err *e)
{
	enum { LONGEST = 32 };
	int rc = codes_room(c, LONGEST, e), boundary = 0;
	if (rc) return rc;
	if (is_inert(code)) {
		c->code[c->n++] = code;
		return 0;
	}
	utf8proc_option_t options = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
	utf8proc_ssize_t n = utf8proc_decompose_char(code, c->code + c->n, LONGEST, options, &boundary);
	if (n < 0 || n > LONGEST) return err_set(e, ERR_FORMAT, "tokenizer: U+%04X cannot be normalised", (unsigned)code);
	c->n += (size_t)n;
	return 0;
}

/* Brings the marks code[0..n) into the order of their classes by counting: a long run would take n² by insertion. */
static int sort_long(int32_t *code, size_t n, struct err *e)
{
	size_t at[257] = {0};
	int32_t *sorted = malloc(n * sizeof *sorted);
	if (!sorted) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer's text");
	for (size_t i = 0; i < n; i++) at[combining_class(code[i]) + 1]++;
	for (int k = 1; k < 257; k++) at[k] += at[k - 1];
	for (size_t i = 0; i < n; i++) sorted[at[combining_class(code[i])]++] = code[i];
	memcpy(code, sorted, n * sizeof *sorted);
	free(sorted);
	return 0;
}

/* Marks behind a character in the order of their classes, equal ones as they were (Unicode, D109). */
static int order_marks(struct codes *c, struct err *e)
{
	enum { SHORT = 16 };
	for (size_t from = 0, to; from < c->n; from = to + 1) {
		for (to = from; to < c->n && combining_class(c->code[to]);) to++;
		if (to - from > SHORT) {
			int rc = sort_long(c->code + from, to - from, e);
			if (rc) return rc;
			continue;
		}
		for (size_t i = from + 1; i < to; i++) {
			int32_t code = c->code[i];
			size_t k = i;
			for (; k > from && combining_class(c->code[k - 1]) > combining_class(code); k--) c->code[k] = c->code[k - 1];
			c->code[k] = code;
		}
	}
	return 0;
}

/* The character that two make; -1: none. */
static int32_t compose_pair(int32_t first, int32_t second)
{
	int32_t pair[2] = { first, second };
	int hangul = second >= 0x1161 && second <= 0x11C2;
	if (!hangul && utf8proc_get_property(second)->comb_index == UINT16_MAX) return -1; /* never a second part */
	if (is_inert(first) || is_inert(second) || second == 0x11A7) return -1; /* one below the trailing consonants: libutf8proc takes it for one */
	utf8proc_ssize_t n = utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
	return n == 1 && !is_inert(pair[0]) ? pair[0] : -1;
}

/* Unicode, D117: each character joins the last starter unless something of its class or higher lies between. */
static void compose(struct codes *c)
{
	size_t out = 0, starter = SIZE_MAX;
	int last = -1; /* class of the character before, since the starter; -1: none between */
	for (size_t i = 0; i < c->n; i++) {
		int32_t code = c->code[i];
		int class = combining_class(code);
		if (starter != SIZE_MAX && last < class && code >= 0x300) {
			int32_t whole = compose_pair(c->code[starter], code);
			if (whole >= 0) {
				c->code[starter] = whole;
				continue;
			}
		}
		last = class;
		if (!class) starter = out, last = -1;
		c->code[out++] = code;
	}
	c->n = out;
}

int unicode_normalize(enum unicode_form form, const char *s, size_t n, struct text_buffer *out, struct err *e)
{
	struct codes c = {0};
	int rc = 0, composed = form == UNICODE_NFC || form == UNICODE_NFKC, compat = form == UNICODE_NFKC || form == UNICODE_NFKD;
	size_t plain = 0;
	/* Below U+00C0 (below U+0300 when composed) nothing decomposes canonically. */
	for (const unsigned char *u = (const unsigned char *)s; plain < n && u[plain] < (compat ? 0x80 : composed ? 0xCC : 0xC3);) plain++;
	if (plain == n) return text_put(out, s, n, e);
	while (plain && ((unsigned char)s[plain - 1] & 0x80)) plain--;
	if (plain) plain--; /* the last plain character may take marks */
	rc = text_put(out, s, plain, e);
	for (size_t i = plain; i < n && !rc;) {
		int32_t code;
		i += utf8_next(s + i, n - i, &code);
		rc = decompose(&c, code, compat, e);
	}
	if (!rc) rc = order_marks(&c, e);
	if (!rc && composed) compose(&c);
	for (size_t i = 0; i < c.n && !rc; i++) rc = text_put_char(out, c.code[i], e);
	free(c.code);
	return rc;
}
