/* Filters, tests and methods of chat templates, and how values are printed; see jinja.h. */
#include "policy/jinja_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int jinja_truth(const json_t *v)
{
	if (!v || json_is_null(v) || json_is_false(v)) return 0;
	if (json_is_string(v)) return json_string_length(v) > 0;
	if (json_is_array(v)) return json_array_size(v) > 0;
	if (json_is_object(v)) return json_object_size(v) > 0;
	return json_is_number(v) ? json_number_value(v) != 0 : 1;
}

int jinja_equal(const json_t *x, const json_t *y)
{
	if (!x || !y) return x == y;
	if (json_is_number(x) && json_is_number(y)) return json_number_value(x) == json_number_value(y);
	return json_equal((json_t *)(uintptr_t)x, (json_t *)(uintptr_t)y);
}

/* ---- printing ---- */

/* The shortest digits that read back as the number, as Python writes it. */
static void print_real(double v, char out[40])
{
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, 40, "%.*g", digits, v);
		if (strtod(out, NULL) == v) break;
	}
	double size = fabs(v);
	if (strpbrk(out, "e") && size < 1e16 && size >= 1e-4) snprintf(out, 40, "%.1f", v);
	if (!strpbrk(out, ".e")) strcat(out, ".0");
}

int jinja_print(struct jinja_run *r, const json_t *v, struct text_buffer *out)
{
	char number[40];
	const char *s = number;
	if (!v) return 0;
	if (json_is_string(v)) return text_put(out, json_string_value(v), json_string_length(v), r->e) ? (r->rc = ERR_MEMORY) : 0;
	if (json_is_integer(v)) snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v)) print_real(json_real_value(v), number);
	else if (json_is_null(v)) s = "None";
	else if (json_is_boolean(v)) s = json_is_true(v) ? "True" : "False";
	else {
		jinja_fail(r, "printing a %s (tojson would do)", json_is_array(v) ? "list" : "dictionary");
		return -1;
	}
	return text_put(out, s, strlen(s), r->e) ? (r->rc = ERR_MEMORY) : 0;
}

/* json.dumps(…, ensure_ascii=False): ", " and ": ", or lines indented by `indent` (-1: one line). */
static int to_json(struct jinja_run *r, const json_t *v, int indent, int depth, struct text_buffer *out)
{
	char piece[64];
	const char *s, *key;
	json_t *one;
	size_t i;
	int rc = 0, first = 1, is_list = json_is_array(v);
	if (json_is_string(v)) {
		rc = text_put(out, "\"", 1, r->e);
		s = json_string_value(v);
		for (i = 0; i < json_string_length(v) && !rc; i++) {
			static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
			const char *known = s[i] ? strchr(from, s[i]) : NULL;
			if (known) snprintf(piece, sizeof piece, "\\%c", to[known - from]);
			else if ((unsigned char)s[i] < 0x20) snprintf(piece, sizeof piece, "\\u%04x", (unsigned)s[i]);
			else piece[0] = s[i], piece[1] = 0;
			rc = text_put(out, piece, strlen(piece), r->e);
		}
		return rc ? rc : text_put(out, "\"", 1, r->e);
	}
	if (!is_list && !json_is_object(v)) {
		if (json_is_boolean(v) || json_is_null(v)) s = json_is_null(v) ? "null" : json_is_true(v) ? "true" : "false";
		else return jinja_print(r, v, out);
		return text_put(out, s, strlen(s), r->e);
	}
	size_t n = is_list ? json_array_size(v) : json_object_size(v);
	void *at = is_list ? NULL : json_object_iter((json_t *)(uintptr_t)v);
	rc = text_put(out, is_list ? "[" : "{", 1, r->e);
	for (i = 0; i < n && !rc; i++, first = 0) {
		if (!first) rc = text_put(out, indent < 0 ? ", " : ",", indent < 0 ? 2 : 1, r->e);
		if (indent >= 0) rc = text_put(out, "\n", 1, r->e);
		for (int k = 0; k < indent * (depth + 1) && !rc; k++) rc = text_put(out, " ", 1, r->e);
		if (!is_list && !rc) {
			key = json_object_iter_key(at);
			json_t *name = jinja_string(r, key, strlen(key));
			rc = name ? to_json(r, name, -1, 0, out) : r->rc;
			if (!rc) rc = text_put(out, ": ", 2, r->e);
		}
		one = is_list ? json_array_get(v, i) : json_object_iter_value(at);
		if (!rc) rc = to_json(r, one, indent, depth + 1, out);
		if (!is_list) at = json_object_iter_next((json_t *)(uintptr_t)v, at);
	}
	if (n && indent >= 0 && !rc) rc = text_put(out, "\n", 1, r->e);
	for (int k = 0; n && k < indent * depth && !rc; k++) rc = text_put(out, " ", 1, r->e);
	return rc ? rc : text_put(out, is_list ? "]" : "}", 1, r->e);
}

/* ---- texts and lists ---- */

int jinja_contains(struct jinja_run *r, const json_t *what, const json_t *in)
{
	size_t i;
	json_t *one;
	if (json_is_string(in) && json_is_string(what))
		return memmem(json_string_value(in), json_string_length(in), json_string_value(what), json_string_length(what)) != NULL;
	if (json_is_object(in) && json_is_string(what)) return json_object_get(in, json_string_value(what)) != NULL;
	if (json_is_array(in)) {
		json_array_foreach(in, i, one) if (jinja_equal(one, what)) return 1;
		return 0;
	}
	jinja_fail(r, "in something that holds nothing");
	return 0;
}

static size_t characters(const json_t *v)
{
	size_t n = 0;
	const char *s = json_string_value(v);
	for (size_t i = 0; i < json_string_length(v); i++) n += ((unsigned char)s[i] & 0xC0) != 0x80;
	return n;
}

/* Python's slice.indices. */
static json_int_t bound(const json_t *v, json_int_t n, json_int_t step, json_int_t standard)
{
	if (!json_is_integer(v)) return standard;
	json_int_t i = json_integer_value(v), low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
	if (i < 0) i = i < -n ? -1 : i + n, i = i < low ? low : i;
	return i > high ? high : i;
}

json_t *jinja_slice(struct jinja_run *r, const json_t *v, const json_t *from, const json_t *to, const json_t *step)
{
	if (!json_is_string(v) && !json_is_array(v)) return jinja_fail(r, "a slice of something that is neither text nor list");
	json_int_t n = (json_int_t)(json_is_string(v) ? characters(v) : json_array_size(v)), by = json_is_integer(step) ? json_integer_value(step) : 1;
	if (!by) return jinja_fail(r, "a slice with a step of 0");
	json_int_t i = bound(from, n, by, by < 0 ? n - 1 : 0), end = bound(to, n, by, by < 0 ? -1 : n);
	if (json_is_array(v)) {
		json_t *part = jinja_keep(r, json_array());
		for (; by > 0 ? i < end : i > end; i += by) json_array_append(part, json_array_get(v, (size_t)i));
		return part;
	}
	const char *s = json_string_value(v);
	size_t bytes = json_string_length(v), *start = malloc(((size_t)n + 1) * sizeof *start), k = 0;
	struct text_buffer out = {0};
	if (!start) return jinja_fail(r, "out of memory");
	for (size_t b = 0; b < bytes; b++)
		if (((unsigned char)s[b] & 0xC0) != 0x80) start[k++] = b;
	start[k] = bytes;
	int rc = 0;
	for (; !rc && (by > 0 ? i < end : i > end); i += by) rc = text_put(&out, s + start[i], start[i + 1] - start[i], r->e);
	json_t *part = rc ? jinja_fail(r, "out of memory") : jinja_string(r, out.used ? out.data : "", out.used);
	free(out.data);
	free(start);
	return part;
}

/* Without the characters of `set` (NULL: white space) at its ends; side: 1 left, 2 right, 3 both. */
static json_t *strip(struct jinja_run *r, const json_t *v, const json_t *set, int side)
{
	const char *s = json_string_value(v), *chars = json_string_value(set);
	size_t from = 0, to = json_string_length(v), len;
	int32_t code;
	for (; (side & 1) && from < to; from += len) {
		len = utf8_next(s + from, to - from, &code);
		if (chars ? !memmem(chars, json_string_length(set), s + from, len) : !unicode_is_space(code) && !(code >= 0x1C && code <= 0x1F)) break;
	}
	for (; (side & 2) && from < to; to -= len) {
		for (len = 1; len < to - from && ((unsigned char)s[to - len] & 0xC0) == 0x80;) len++;
		utf8_next(s + to - len, len, &code);
		if (chars ? !memmem(chars, json_string_length(set), s + to - len, len) : !unicode_is_space(code) && !(code >= 0x1C && code <= 0x1F)) break;
	}
	return jinja_string(r, s + from, to - from);
}

static json_t *replace(struct jinja_run *r, const json_t *v, const json_t *what, const json_t *by)
{
	const char *s = json_string_value(v), *end = s + json_string_length(v), *found;
	struct text_buffer out = {0};
	int rc = 0;
	if (!json_is_string(what) || !json_is_string(by) || !json_string_length(what)) return jinja_fail(r, "replace needs two texts, the first not empty");
	while (!rc && (found = memmem(s, (size_t)(end - s), json_string_value(what), json_string_length(what)))) {
		rc = text_put(&out, s, (size_t)(found - s), r->e);
		if (!rc) rc = text_put(&out, json_string_value(by), json_string_length(by), r->e);
		s = found + json_string_length(what);
	}
	if (!rc) rc = text_put(&out, s, (size_t)(end - s), r->e);
	json_t *part = rc ? jinja_fail(r, "out of memory") : jinja_string(r, out.used ? out.data : "", out.used);
	free(out.data);
	return part;
}

/* By a separator (NULL: runs of white space), at most `most` times (negative: always). */
static json_t *split(struct jinja_run *r, const json_t *v, const json_t *by, json_int_t most)
{
	const char *s = json_string_value(v), *end = s + json_string_length(v), *found;
	json_t *parts = jinja_keep(r, json_array());
	size_t n = json_string_length(by);
	if (by && !n) return jinja_fail(r, "split by an empty text");
	if (by) {
		while (most-- && (found = memmem(s, (size_t)(end - s), json_string_value(by), n))) {
			json_array_append_new(parts, json_stringn(s, (size_t)(found - s)));
			s = found + n;
		}
		json_array_append_new(parts, json_stringn(s, (size_t)(end - s)));
		return parts;
	}
	if (most >= 0) return jinja_fail(r, "split by white space with a limit");
	for (const char *word = NULL; s <= end; s++) {
		int space = s == end || unicode_is_space((unsigned char)*s < 0x80 ? *s : 'x');
		if (!space && !word) word = s;
		if (space && word) json_array_append_new(parts, json_stringn(word, (size_t)(s - word))), word = NULL;
	}
	return parts;
}

/* Large or small letters of ASCII texts; others are refused, since Python's rules go beyond single characters. */
static json_t *letters(struct jinja_run *r, const json_t *v, int upper, size_t from, size_t to)
{
	size_t n = json_string_length(v);
	char *s = malloc(n + 1);
	if (!s) return jinja_fail(r, "out of memory");
	memcpy(s, json_string_value(v), n + 1);
	int ascii = 1;
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)s[i] > 0x7F) ascii = 0;
		int up = (i >= from && i < to) == upper;
		if (up && s[i] >= 'a' && s[i] <= 'z') s[i] = (char)(s[i] - 32);
		else if (!up && s[i] >= 'A' && s[i] <= 'Z') s[i] = (char)(s[i] + 32);
	}
	json_t *out = ascii ? jinja_string(r, s, n) : jinja_fail(r, "changing the letters of a text that is not ASCII");
	free(s);
	return out;
}

/* ---- methods ---- */

static const char *const methods[] = { "strip", "lstrip", "rstrip", "split", "startswith", "endswith", "replace", "upper", "lower", "items", "keys", "values", "get", "append" };

static int find(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(names[i], name)) return (int)i;
	return -1;
}

int jinja_method_find(const char *name)
{
	return find(methods, sizeof methods / sizeof *methods, name);
}

static json_t *object_list(struct jinja_run *r, json_t *v, int which)
{
	json_t *list = jinja_keep(r, json_array()), *one;
	const char *key;
	json_object_foreach(v, key, one) {
		if (which == 9) json_array_append_new(list, json_pack("[s, O]", key, one));
		else if (which == 10) json_array_append_new(list, json_string(key));
		else json_array_append(list, one);
	}
	return list;
}

static int has_end(const json_t *v, const json_t *part, int at_end)
{
	size_t n = json_string_length(v), m = json_string_length(part);
	return m <= n && !memcmp(json_string_value(v) + (at_end ? n - m : 0), json_string_value(part), m);
}

json_t *jinja_method(struct jinja_run *r, int which, json_t *v, json_t **args, int n)
{
	const json_t *x = n > 0 ? args[0] : NULL, *y = n > 1 ? args[1] : NULL;
	size_t i;
	json_t *one;
	if (which >= 9 && which <= 12 && json_is_object(v)) {
		if (which != 12) return object_list(r, v, which);
		if (!json_is_string(x)) return jinja_fail(r, "get without a name");
		one = json_object_get(v, json_string_value(x));
		return one ? one : n > 1 ? args[1] : json_null();
	}
	if (which == 13 && json_is_array(v) && n == 1 && x && x != v) {
		json_array_append(v, args[0]);
		return json_null();
	}
	if (which > 8 || !json_is_string(v)) return jinja_fail(r, "%s of a value that has no such method", methods[which]);
	switch (which) {
	case 0:
	case 1:
	case 2:
		return strip(r, v, json_is_string(x) ? x : NULL, which == 0 ? 3 : which);
	case 3:
		return split(r, v, json_is_string(x) ? x : NULL, json_is_integer(y) ? json_integer_value(y) : -1);
	case 4:
	case 5:
		if (json_is_array(x)) {
			json_array_foreach(x, i, one) if (json_is_string(one) && has_end(v, one, which == 5)) return json_true();
			return json_false();
		}
		if (!json_is_string(x)) return jinja_fail(r, "%s without a text", methods[which]);
		return has_end(v, x, which == 5) ? json_true() : json_false();
	case 6:
		return replace(r, v, x, y);
	default:
		return letters(r, v, which == 7, 0, SIZE_MAX);
	}
}

/* ---- filters ---- */

static const char *const filters[] = { "trim", "length", "count", "tojson", "upper", "lower", "capitalize", "replace", "default", "d", "first",
				       "last", "join", "string", "list", "items", "int", "reverse", "safe", "selectattr", "rejectattr" };

int jinja_filter_find(const char *name)
{
	return find(filters, sizeof filters / sizeof *filters, name);
}

static json_t *join(struct jinja_run *r, const json_t *v, const json_t *by)
{
	struct text_buffer out = {0};
	size_t i;
	json_t *one;
	if (!json_is_array(v)) return jinja_fail(r, "join of something that is no list");
	json_array_foreach(v, i, one) {
		if (i && by) jinja_print(r, by, &out);
		jinja_print(r, one, &out);
	}
	json_t *joined = r->rc ? NULL : jinja_string(r, out.used ? out.data : "", out.used);
	free(out.data);
	return joined;
}

/* selectattr("role"), selectattr("role", "equalto", "user"), and the opposite. */
static json_t *select_by(struct jinja_run *r, const json_t *v, json_t **args, int n, int wanted)
{
	json_t *kept = jinja_keep(r, json_array()), *one;
	size_t i;
	int which = n > 1 && json_is_string(args[1]) ? jinja_test_find(json_string_value(args[1])) : -1;
	if (!json_is_array(v) || n < 1 || !json_is_string(args[0]) || (n > 1 && which < 0)) return jinja_fail(r, "this use of selectattr or rejectattr");
	json_array_foreach(v, i, one) {
		json_t *member = json_object_get(one, json_string_value(args[0]));
		int is = n > 1 ? jinja_test(r, which, member, args + 2, n - 2) : jinja_truth(member);
		if (is < 0) return NULL;
		if (is == wanted) json_array_append(kept, one);
	}
	return kept;
}

static json_t *json_filter(struct jinja_run *r, const json_t *v, const json_t *indent)
{
	struct text_buffer out = {0};
	if (!v) return jinja_fail(r, "tojson of something that is not defined");
	int rc = to_json(r, v, json_is_integer(indent) ? (int)json_integer_value(indent) : -1, 0, &out);
	json_t *text = rc || r->rc ? jinja_fail(r, "tojson") : jinja_string(r, out.data, out.used);
	free(out.data);
	return text;
}

static json_t *as_list(struct jinja_run *r, json_t *v, int reversed)
{
	if (json_is_object(v)) return object_list(r, v, 10);
	if (!json_is_array(v)) return jinja_fail(r, "a list of something that is none");
	json_t *back = reversed ? jinja_keep(r, json_integer(-1)) : NULL;
	return jinja_slice(r, v, NULL, NULL, back);
}

json_t *jinja_filter(struct jinja_run *r, int which, json_t *v, json_t **args, int n, json_t *keywords)
{
	json_t *x = n > 0 ? args[0] : NULL, *y = n > 1 ? args[1] : NULL;
	const char *name = filters[which];
	if (!strcmp(name, "tojson")) return json_filter(r, v, n ? x : json_object_get(keywords, "indent"));
	if (!strcmp(name, "default") || !strcmp(name, "d")) return v && !(jinja_truth(y) && !jinja_truth(v)) ? v : x ? x : jinja_string(r, "", 0);
	if (!v) return jinja_fail(r, "the filter %s of something that is not defined", name);
	if (!strcmp(name, "length") || !strcmp(name, "count")) {
		if (!json_is_string(v) && !json_is_array(v) && !json_is_object(v)) return jinja_fail(r, "the length of something that has none");
		return jinja_keep(r, json_integer((json_int_t)(json_is_string(v) ? characters(v) : json_is_array(v) ? json_array_size(v) : json_object_size(v))));
	}
	if (!strcmp(name, "first")) return json_array_get(v, 0);
	if (!strcmp(name, "last")) return json_array_size(v) ? json_array_get(v, json_array_size(v) - 1) : NULL;
	if (!strcmp(name, "join")) return join(r, v, x);
	if (!strcmp(name, "list")) return as_list(r, v, 0);
	if (!strcmp(name, "reverse")) return as_list(r, v, 1);
	if (!strcmp(name, "items") && json_is_object(v)) return object_list(r, v, 9);
	if (!strcmp(name, "selectattr") || !strcmp(name, "rejectattr")) return select_by(r, v, args, n, *name == 's');
	if (!strcmp(name, "int") && json_is_number(v)) return jinja_keep(r, json_integer((json_int_t)json_number_value(v)));
	if (!strcmp(name, "string")) {
		struct text_buffer out = {0};
		json_t *text = jinja_print(r, v, &out) ? NULL : jinja_string(r, out.used ? out.data : "", out.used);
		free(out.data);
		return text;
	}
	if (!json_is_string(v)) return jinja_fail(r, "the filter %s of something that is no text", name);
	if (!strcmp(name, "trim")) return strip(r, v, x, 3);
	if (!strcmp(name, "replace")) return replace(r, v, x, y);
	if (!strcmp(name, "capitalize")) return letters(r, v, 1, 0, 1);
	if (!strcmp(name, "safe")) return v;
	if (!strcmp(name, "upper") || !strcmp(name, "lower")) return letters(r, v, *name == 'u', 0, SIZE_MAX);
	return jinja_fail(r, "the filter %s of this value", name);
}

/* ---- tests ---- */

static const char *const tests[] = { "defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "boolean",
				     "true", "false", "equalto", "eq", "odd", "even", "in", "float", "ne" };

int jinja_test_find(const char *name)
{
	return find(tests, sizeof tests / sizeof *tests, name);
}

int jinja_test(struct jinja_run *r, int which, const json_t *v, json_t **args, int n)
{
	const json_t *x = n > 0 ? args[0] : NULL;
	switch (which) {
	case 0:
	case 1:
		return (v != NULL) == (which == 0);
	case 2:
		return json_is_null(v);
	case 3:
		return json_is_string(v);
	case 4:
		return json_is_object(v);
	case 5: /* undefined can be walked over, too */
	case 6:
		return !v || json_is_string(v) || json_is_array(v) || json_is_object(v);
	case 7:
		return json_is_number(v) || json_is_boolean(v);
	case 8:
		return json_is_integer(v);
	case 9:
		return json_is_boolean(v);
	case 10:
		return json_is_true(v);
	case 11:
		return json_is_false(v);
	case 12:
	case 13:
		return jinja_equal(v, x);
	case 14:
	case 15:
		if (json_is_integer(v)) return (json_integer_value(v) % 2 != 0) == (which == 14);
		jinja_fail(r, "%s of something that is no whole number", tests[which]);
		return -1;
	case 16:
		return jinja_contains(r, v, x);
	case 17:
		return json_is_real(v);
	default:
		return !jinja_equal(v, x);
	}
}
