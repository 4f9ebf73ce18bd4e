/* Expressions of chat templates; see jinja.h. Recursive descent in Jinja's order of
 * precedence: if-else, or, and, not, comparison, + -, ~, * / // %, unary, then
 * attributes, items, calls, filters and tests. */
#include "policy/jinja_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 100 };

void jinja_skip_space(struct jinja_parser *p)
{
	while (p->at < p->end && isspace((unsigned char)*p->at)) {
		if (*p->at == '\n') p->line++;
		p->at++;
	}
}

static int is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

int jinja_take(struct jinja_parser *p, const char *what)
{
	size_t n = strlen(what);
	jinja_skip_space(p);
	if ((size_t)(p->end - p->at) < n || memcmp(p->at, what, n)) return 0;
	if (is_name_char(*what) && p->at + n < p->end && is_name_char(p->at[n])) return 0;
	p->at += n;
	return 1;
}

const char *jinja_take_name(struct jinja_parser *p)
{
	jinja_skip_space(p);
	const char *s = p->at;
	if (s == p->end || !is_name_char(*s) || isdigit((unsigned char)*s)) return NULL;
	while (p->at < p->end && is_name_char(*p->at)) p->at++;
	char *name = arena_must(p->j->arena, (size_t)(p->at - s) + 1, 1);
	memcpy(name, s, (size_t)(p->at - s));
	return name;
}

static struct jinja_node *literal(struct jinja_parser *p, json_t *v)
{
	struct jinja_node *n = jinja_new(p, J_LITERAL);
	if (!v || json_array_append_new(p->j->literals, v)) return jinja_refuse(p, "a text that is not UTF-8");
	n->value = v;
	return n;
}

static int escaped(struct jinja_parser *p, struct text_buffer *b)
{
	static const char from[] = "ntrbfav\\'\"0", to[] = "\n\t\r\b\f\a\v\\'\"";
	char c = *p->at++;
	const char *known = c ? strchr(from, c) : NULL;
	if (c == 'u' || c == 'x') {
		char digits[5] = {0};
		int n = c == 'u' ? 4 : 2;
		if (p->end - p->at < n) return -1;
		memcpy(digits, p->at, (size_t)n);
		for (int i = 0; i < n; i++)
			if (!isxdigit((unsigned char)digits[i])) return -1;
		p->at += n;
		long code = strtol(digits, NULL, 16);
		return code >= 0xD800 && code < 0xE000 ? -1 : text_put_char(b, (int32_t)code, p->e);
	}
	if (!known) {
		if (text_put(b, "\\", 1, p->e)) return -1;
		return c == '\n' ? -1 : text_put(b, &c, 1, p->e);
	}
	return text_put(b, &to[known - from], 1, p->e);
}

/* Texts beside each other are one. */
static struct jinja_node *text(struct jinja_parser *p)
{
	struct text_buffer b = {0};
	int bad = text_put(&b, "", 0, p->e);
	for (jinja_skip_space(p); p->at < p->end && (*p->at == '"' || *p->at == '\''); jinja_skip_space(p)) {
		char quote = *p->at++;
		while (!bad && p->at < p->end && *p->at != quote) {
			if (*p->at == '\n') p->line++;
			if (*p->at == '\\' && p->at + 1 < p->end) {
				p->at++;
				bad = escaped(p, &b);
			} else {
				bad = text_put(&b, p->at++, 1, p->e);
			}
		}
		if (p->at++ >= p->end) bad = 1;
		if (bad) break;
	}
	struct jinja_node *n = bad ? jinja_refuse(p, "a text that does not end or has an escape that is not known")
				   : literal(p, json_stringn(b.used ? b.data : "", b.used));
	free(b.data);
	return n;
}

static struct jinja_node *number(struct jinja_parser *p)
{
	char digits[64];
	size_t n = 0;
	int real = 0;
	while (p->at < p->end && n + 1 < sizeof digits && (isdigit((unsigned char)*p->at) || *p->at == '_' ||
	       (*p->at == '.' && !real && p->at + 1 < p->end && isdigit((unsigned char)p->at[1])))) {
		if (*p->at == '.') real = 1;
		if (*p->at != '_') digits[n++] = *p->at;
		p->at++;
	}
	digits[n] = 0;
	return literal(p, real ? json_real(strtod(digits, NULL)) : json_integer(strtoll(digits, NULL, 10)));
}

/* Appends to a list of arguments or members. */
static void append(struct jinja_node *to, struct jinja_node ***last, struct jinja_node *n)
{
	if (!*last) *last = &to->first;
	**last = n;
	*last = &n->next;
}

/* a, b, … until `close`; for a dictionary key: value, …. *comma: whether there was one. */
static struct jinja_node *members(struct jinja_parser *p, struct jinja_node *n, const char *close, int *comma)
{
	struct jinja_node **last = NULL, *v;
	while (!jinja_take(p, close)) {
		const char *keep = p->at;
		int line = p->line;
		const char *name = n->kind == J_CALL || n->kind == J_FILTER || n->kind == J_TEST ? jinja_take_name(p) : NULL;
		jinja_skip_space(p);
		if (name && p->at + 1 < p->end && p->at[0] == '=' && p->at[1] != '=') {
			p->at++;
			struct jinja_node *value = jinja_expression(p);
			if (!value) return NULL;
			v = jinja_new(p, J_KEYWORD);
			v->name = name;
			v->a = value;
		} else {
			p->at = keep;
			p->line = line;
			v = jinja_expression(p);
		}
		if (!v) return NULL;
		append(n, &last, v);
		if (n->kind == J_DICT) {
			if (!jinja_take(p, ":")) return jinja_refuse(p, "a dictionary member without a colon");
			v = jinja_expression(p);
			if (!v) return NULL;
			append(n, &last, v);
		}
		if (jinja_take(p, ",")) {
			if (comma) *comma = 1;
			continue;
		}
		if (!jinja_take(p, close)) return jinja_refuse(p, "\"%s\" is missing", close);
		break;
	}
	return n;
}

static struct jinja_node *primary(struct jinja_parser *p)
{
	jinja_skip_space(p);
	if (p->at >= p->end) return jinja_refuse(p, "an expression ends too soon");
	if (*p->at == '"' || *p->at == '\'') return text(p);
	if (isdigit((unsigned char)*p->at)) return number(p);
	if (jinja_take(p, "[")) return members(p, jinja_new(p, J_LIST), "]", NULL);
	if (jinja_take(p, "{")) return members(p, jinja_new(p, J_DICT), "}", NULL);
	if (jinja_take(p, "(")) {
		int comma = 0;
		struct jinja_node *n = members(p, jinja_new(p, J_LIST), ")", &comma);
		return n && !comma && n->first ? n->first : n;
	}
	const char *name = jinja_take_name(p);
	if (!name) return jinja_refuse(p, "\"%.10s\" in an expression", p->at);
	if (!strcmp(name, "true") || !strcmp(name, "True")) return literal(p, json_true());
	if (!strcmp(name, "false") || !strcmp(name, "False")) return literal(p, json_false());
	if (!strcmp(name, "none") || !strcmp(name, "None")) return literal(p, json_null());
	if (!strcmp(name, "strftime_now"))
		return jinja_refuse(p, "strftime_now: with it the same messages would have other tokens tomorrow; write the date as a text into the template");
	struct jinja_node *n = jinja_new(p, J_NAME);
	n->name = name;
	return n;
}

/* [i], [a:b:c] */
static struct jinja_node *subscript(struct jinja_parser *p, struct jinja_node *of)
{
	struct jinja_node *part[3] = {0};
	int n = 0, colons = 0;
	while (!jinja_take(p, "]")) {
		if (jinja_take(p, ":")) {
			if (++colons > 2) return jinja_refuse(p, "a slice with more than two colons");
			n = colons;
			continue;
		}
		if (part[n]) return jinja_refuse(p, "\"]\" is missing");
		part[n] = jinja_expression(p);
		if (!part[n]) return NULL;
	}
	struct jinja_node *s = jinja_new(p, colons ? J_SLICE : J_ITEM);
	s->a = of;
	s->b = part[0];
	if (!colons && !part[0]) return jinja_refuse(p, "an empty subscript");
	s->c = part[1];
	s->first = part[2];
	return s;
}

static struct jinja_node *attribute(struct jinja_parser *p, struct jinja_node *of)
{
	const char *name = jinja_take_name(p);
	if (!name) return jinja_refuse(p, "a dot without a name behind it");
	struct jinja_node *n = jinja_new(p, J_ITEM);
	n->a = of;
	n->b = literal(p, json_string(name));
	n->name = name; /* tells x.name from x["name"]: the former may be a method */
	return n->b ? n : NULL;
}

static struct jinja_node *call(struct jinja_parser *p, struct jinja_node *of)
{
	static const char *const functions[] = { "range", "namespace", "raise_exception" };
	struct jinja_node *n = jinja_new(p, J_CALL);
	n->a = of;
	n->op = -1;
	if (of->kind == J_ITEM && of->name) {
		n->op = jinja_method_find(of->name);
		if (n->op < 0) return jinja_refuse(p, "the method %s", of->name);
		n->name = of->name;
		n->b = of->a; /* the object */
	} else if (of->kind == J_NAME) {
		for (int i = 0; i < 3; i++)
			if (!strcmp(of->name, functions[i])) n->op = i;
		n->name = of->name;
		if (n->op < 0) return jinja_refuse(p, "the function %s", of->name);
	} else {
		return jinja_refuse(p, "a call of something without a name");
	}
	return members(p, n, ")", NULL);
}

/* | name(arguments) and is [not] name arguments */
static struct jinja_node *filter(struct jinja_parser *p, struct jinja_node *of)
{
	const char *name = jinja_take_name(p);
	struct jinja_node *n = jinja_new(p, J_FILTER);
	n->a = of;
	n->op = name ? jinja_filter_find(name) : -1;
	if (n->op < 0) return jinja_refuse(p, "the filter %s", name ? name : "without a name");
	n->name = name;
	return jinja_take(p, "(") ? members(p, n, ")", NULL) : n;
}

static struct jinja_node *postfix(struct jinja_parser *p);

static struct jinja_node *test(struct jinja_parser *p, struct jinja_node *of)
{
	struct jinja_node *n = jinja_new(p, J_TEST);
	int negated = jinja_take(p, "not");
	const char *name = jinja_take_name(p);
	n->a = of;
	n->op = name ? jinja_test_find(name) : -1;
	if (n->op < 0) return jinja_refuse(p, "the test %s", name ? name : "without a name");
	n->name = name;
	if (jinja_take(p, "(")) {
		n = members(p, n, ")", NULL);
	} else {
		jinja_skip_space(p);
		/* One argument without brackets, as in `x is divisibleby 3`: a value, but none of the words that go on. */
		if (p->at < p->end && (isdigit((unsigned char)*p->at) || *p->at == '"' || *p->at == '\'')) n->first = primary(p);
		if (p->failed) return NULL;
	}
	if (!n || !negated) return n;
	struct jinja_node *not = jinja_new(p, J_NOT);
	not->a = n;
	return not;
}

static struct jinja_node *postfix(struct jinja_parser *p)
{
	struct jinja_node *n = primary(p);
	while (n) {
		jinja_skip_space(p);
		if (p->at < p->end && *p->at == '.') p->at++, n = attribute(p, n);
		else if (jinja_take(p, "[")) n = subscript(p, n);
		else if (jinja_take(p, "(")) n = call(p, n);
		else break;
	}
	return n;
}

static struct jinja_node *unary(struct jinja_parser *p)
{
	struct jinja_node *n;
	if (++p->depth > DEPTH) return jinja_refuse(p, "an expression too deep");
	jinja_skip_space(p);
	if (jinja_take(p, "-")) {
		struct jinja_node *of = unary(p);
		n = of ? jinja_new(p, J_NEGATE) : NULL;
		if (n) n->a = of;
	} else {
		n = postfix(p);
	}
	while (n) {
		jinja_skip_space(p);
		if (p->at < p->end && *p->at == '|') p->at++, n = filter(p, n);
		else if (jinja_take(p, "is")) n = test(p, n);
		else break;
	}
	p->depth--;
	return n;
}

static struct jinja_node *binary(struct jinja_parser *p, int op, struct jinja_node *a, struct jinja_node *b)
{
	if (!a || !b) return NULL;
	struct jinja_node *n = jinja_new(p, J_BINARY);
	n->op = op;
	n->a = a;
	n->b = b;
	return n;
}

/* The sign comes next and does not begin a closing tag ("-}}", "-%}", "%}"). */
static int take_sign(struct jinja_parser *p, const char *sign)
{
	jinja_skip_space(p);
	size_t n = strlen(sign);
	if ((size_t)(p->end - p->at) <= n || memcmp(p->at, sign, n)) return 0;
	const char *behind = p->at + n;
	if (*behind == '}' || (p->end - behind > 1 && behind[1] == '}' && (*behind == '%' || *behind == '}'))) return 0;
	p->at += n;
	return 1;
}

static struct jinja_node *product(struct jinja_parser *p)
{
	struct jinja_node *n = unary(p);
	for (;;) {
		if (!n) return NULL;
		int op = take_sign(p, "//") ? OP_FLOOR : take_sign(p, "**") ? -2 : take_sign(p, "*") ? OP_MUL : take_sign(p, "/") ? OP_DIV : take_sign(p, "%") ? OP_MOD : -1;
		if (op == -2) return jinja_refuse(p, "the operator **");
		if (op < 0) return n;
		n = binary(p, op, n, unary(p));
	}
}

static struct jinja_node *concat(struct jinja_parser *p)
{
	struct jinja_node *n = product(p);
	while (n && take_sign(p, "~")) n = binary(p, OP_CONCAT, n, product(p));
	return n;
}

static struct jinja_node *sum(struct jinja_parser *p)
{
	struct jinja_node *n = concat(p);
	for (;;) {
		if (!n) return NULL;
		int op = take_sign(p, "+") ? OP_ADD : take_sign(p, "-") ? OP_SUB : -1;
		if (op < 0) return n;
		n = binary(p, op, n, concat(p));
	}
}

static int take_comparison(struct jinja_parser *p)
{
	static const struct {
		const char *sign;
		int op;
	} signs[] = { { "==", OP_EQ }, { "!=", OP_NE }, { "<=", OP_LE }, { ">=", OP_GE }, { "<", OP_LT }, { ">", OP_GT }, { "in", OP_IN } };
	for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
		if (jinja_take(p, signs[i].sign)) return signs[i].op;
	const char *keep = p->at;
	if (jinja_take(p, "not")) {
		if (jinja_take(p, "in")) return OP_NOT_IN;
		p->at = keep;
	}
	return -1;
}

static struct jinja_node *comparison(struct jinja_parser *p)
{
	struct jinja_node *n = sum(p);
	int op = n ? take_comparison(p) : -1;
	if (op < 0) return n;
	n = binary(p, op, n, sum(p));
	if (n && take_comparison(p) >= 0) return jinja_refuse(p, "a chain of comparisons");
	return n;
}

static struct jinja_node *negation(struct jinja_parser *p)
{
	if (!jinja_take(p, "not")) return comparison(p);
	if (++p->depth > DEPTH) return jinja_refuse(p, "an expression too deep");
	struct jinja_node *of = negation(p), *n = of ? jinja_new(p, J_NOT) : NULL;
	p->depth--;
	if (n) n->a = of;
	return n;
}

static struct jinja_node *both(struct jinja_parser *p, const char *word, enum jinja_kind kind, struct jinja_node *(*part)(struct jinja_parser *))
{
	struct jinja_node *n = part(p);
	while (n && jinja_take(p, word)) {
		struct jinja_node *more = jinja_new(p, kind);
		more->a = n;
		more->b = part(p);
		n = more->b ? more : NULL;
	}
	return n;
}

static struct jinja_node *conjunction(struct jinja_parser *p)
{
	return both(p, "and", J_AND, negation);
}

struct jinja_node *jinja_expression(struct jinja_parser *p)
{
	if (++p->depth > DEPTH) return jinja_refuse(p, "an expression too deep");
	struct jinja_node *n = both(p, "or", J_OR, conjunction);
	while (n && jinja_take(p, "if")) {
		struct jinja_node *c = jinja_new(p, J_CONDITION);
		c->b = n;
		c->a = both(p, "or", J_OR, conjunction);
		if (c->a && jinja_take(p, "else")) {
			c->c = jinja_expression(p);
			if (!c->c) return NULL;
		}
		n = c->a ? c : NULL;
	}
	p->depth--;
	return n;
}
