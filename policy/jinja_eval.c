/* Rendering of chat templates; see jinja.h. */
#include "policy/jinja_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT_MAX = 1 << 28 };

json_t *jinja_fail(struct jinja_run *r, const char *fmt, ...)
{
	char what[512];
	va_list args;
	if (r->rc) return NULL;
	va_start(args, fmt);
	vsnprintf(what, sizeof what, fmt, args);
	va_end(args);
	r->rc = err_set(r->e, ERR_RANGE, "chat template, line %d: %s", r->line, what);
	return NULL;
}

json_t *jinja_keep(struct jinja_run *r, json_t *v)
{
	if (!v || json_array_append_new(r->pool, v)) return jinja_fail(r, "out of memory, or a text that is not UTF-8");
	return v;
}

json_t *jinja_string(struct jinja_run *r, const char *s, size_t n)
{
	return jinja_keep(r, json_stringn(s, n));
}

/* ---- expressions ---- */

static json_t *lookup(struct jinja_run *r, const char *name)
{
	for (int i = r->scopes; i--;) {
		json_t *v = json_object_get(r->scope[i], name);
		if (v) return v;
	}
	return NULL;
}

static json_t *item(struct jinja_run *r, json_t *of, const json_t *key, const char *name)
{
	if (!of) return jinja_fail(r, "\"%s\" of something that is not defined", name ? name : json_is_string(key) ? json_string_value(key) : "an item");
	if (json_is_object(of) && json_is_string(key)) return json_object_get(of, json_string_value(key));
	if (json_is_integer(key) && (json_is_array(of) || json_is_string(of))) {
		json_int_t i = json_integer_value(key);
		if (json_is_array(of)) {
			json_int_t n = (json_int_t)json_array_size(of);
			if (i < 0) i += n;
			return i >= 0 && i < n ? json_array_get(of, (size_t)i) : NULL;
		}
		json_t *to = i == -1 ? NULL : jinja_keep(r, json_integer(i + 1));
		json_t *one = jinja_slice(r, of, key, to, NULL);
		return one && json_string_length(one) ? one : NULL;
	}
	return NULL; /* no such attribute: undefined */
}

static json_t *boolean(int v)
{
	return v ? json_true() : json_false(); /* singletons: need no keeping */
}

static json_t *arithmetic(struct jinja_run *r, int op, const json_t *a, const json_t *b)
{
	if (op == OP_ADD && json_is_string(a) && json_is_string(b)) {
		size_t n = json_string_length(a), m = json_string_length(b);
		char *s = malloc(n + m + 1);
		if (!s) return jinja_fail(r, "out of memory");
		memcpy(s, json_string_value(a), n);
		memcpy(s + n, json_string_value(b), m);
		json_t *v = jinja_string(r, s, n + m);
		free(s);
		return v;
	}
	if (op == OP_ADD && json_is_array(a) && json_is_array(b)) {
		json_t *v = jinja_keep(r, json_copy((json_t *)(uintptr_t)a));
		if (v) json_array_extend(v, (json_t *)(uintptr_t)b);
		return v;
	}
	if (json_is_integer(a) && json_is_integer(b) && op != OP_DIV) {
		json_int_t x = json_integer_value(a), y = json_integer_value(b), v = 0;
		if ((op == OP_FLOOR || op == OP_MOD) && (!y || y == -1)) return y ? jinja_keep(r, json_integer(op == OP_MOD ? 0 : -x)) : jinja_fail(r, "division by zero");
		int over = op == OP_ADD ? __builtin_add_overflow(x, y, &v) : op == OP_SUB ? __builtin_sub_overflow(x, y, &v) : op == OP_MUL ? __builtin_mul_overflow(x, y, &v) : 0;
		if (over) return jinja_fail(r, "a number too large");
		if (op == OP_FLOOR) v = x / y - (x % y != 0 && (x < 0) != (y < 0));
		if (op == OP_MOD) v = (x % y + y) % y;
		return jinja_keep(r, json_integer(v));
	}
	if (json_is_number(a) && json_is_number(b) && op <= OP_DIV) {
		double x = json_number_value(a), y = json_number_value(b);
		if (op == OP_DIV && y == 0) return jinja_fail(r, "division by zero");
		double v = op == OP_ADD ? x + y : op == OP_SUB ? x - y : op == OP_MUL ? x * y : x / y;
		return isfinite(v) ? jinja_keep(r, json_real(v)) : jinja_fail(r, "a number too large");
	}
	static const char *const names[] = { "+", "-", "*", "/", "//", "%" };
	return jinja_fail(r, "%s of %s and %s", names[op], a ? "values" : "something not defined", b ? "values that do not fit" : "something not defined");
}

static json_t *concat(struct jinja_run *r, const json_t *a, const json_t *b)
{
	struct text_buffer out = {0};
	json_t *v = NULL;
	if (!jinja_print(r, a, &out) && !jinja_print(r, b, &out)) v = jinja_string(r, out.used ? out.data : "", out.used);
	free(out.data);
	return v;
}

static json_t *compare(struct jinja_run *r, int op, const json_t *a, const json_t *b)
{
	double d;
	if (json_is_string(a) && json_is_string(b)) d = strcmp(json_string_value(a), json_string_value(b));
	else if (json_is_number(a) && json_is_number(b)) d = json_number_value(a) < json_number_value(b) ? -1 : json_number_value(a) > json_number_value(b);
	else return jinja_fail(r, "an order between values that have none");
	return boolean(op == OP_LT ? d < 0 : op == OP_LE ? d <= 0 : op == OP_GT ? d > 0 : d >= 0);
}

static json_t *binary(struct jinja_run *r, const struct jinja_node *n)
{
	const json_t *a = jinja_eval(r, n->a), *b = r->rc ? NULL : jinja_eval(r, n->b);
	if (r->rc) return NULL;
	switch ((enum jinja_operator)n->op) {
	case OP_EQ:
		return boolean(jinja_equal(a, b));
	case OP_NE:
		return boolean(!jinja_equal(a, b));
	case OP_IN:
	case OP_NOT_IN:
		return boolean(jinja_contains(r, a, b) == (n->op == OP_IN));
	case OP_LT:
	case OP_LE:
	case OP_GT:
	case OP_GE:
		return compare(r, n->op, a, b);
	case OP_CONCAT:
		return concat(r, a, b);
	default:
		return arithmetic(r, n->op, a, b);
	}
}

static json_t *list(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *v = jinja_keep(r, n->kind == J_LIST ? json_array() : json_object());
	for (const struct jinja_node *m = n->first; m && v; m = m->next) {
		json_t *one = jinja_eval(r, m);
		if (!one) return r->rc ? NULL : jinja_fail(r, "something not defined in a list");
		if (n->kind == J_LIST) {
			json_array_append(v, one);
			continue;
		}
		m = m->next;
		json_t *value = jinja_eval(r, m);
		if (!value || !json_is_string(one)) return r->rc ? NULL : jinja_fail(r, "a dictionary member whose name is no text or whose value is not defined");
		json_object_set(v, json_string_value(one), value);
	}
	return v;
}

enum { ARGUMENTS_MAX = 8 };

/* Evaluates arguments; returns the number without names, -1: failed. *keywords: those with names. */
static int arguments(struct jinja_run *r, const struct jinja_node *n, json_t **args, json_t **keywords)
{
	int count = 0;
	*keywords = jinja_keep(r, json_object());
	for (const struct jinja_node *m = n->first; m; m = m->next) {
		json_t *v = jinja_eval(r, m->kind == J_KEYWORD ? m->a : m);
		if (r->rc) return -1;
		if (m->kind == J_KEYWORD) {
			json_object_set(*keywords, m->name, v ? v : json_null());
		} else if (count == ARGUMENTS_MAX) {
			jinja_fail(r, "more than %d arguments", ARGUMENTS_MAX);
			return -1;
		} else {
			args[count++] = v;
		}
	}
	return count;
}

static json_t *range(struct jinja_run *r, json_t **args, int n)
{
	json_int_t from = 0, to, step = 1;
	for (int i = 0; i < n; i++)
		if (!json_is_integer(args[i])) return jinja_fail(r, "range of something that is no whole number");
	if (n < 1 || n > 3) return jinja_fail(r, "range with %d arguments", n);
	to = json_integer_value(args[n > 1]);
	if (n > 1) from = json_integer_value(args[0]);
	if (n > 2) step = json_integer_value(args[2]);
	if (!step) return jinja_fail(r, "range with a step of 0");
	json_t *v = jinja_keep(r, json_array());
	for (json_int_t i = from; step > 0 ? i < to : i > to; i += step) {
		if (json_array_size(v) > 100000) return jinja_fail(r, "a range of more than 100000 numbers");
		json_array_append_new(v, json_integer(i));
	}
	return v;
}

static json_t *call(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *args[ARGUMENTS_MAX], *keywords, *of = n->b ? jinja_eval(r, n->b) : NULL;
	int count = r->rc ? -1 : arguments(r, n, args, &keywords);
	if (count < 0) return NULL;
	if (n->b) return of ? jinja_method(r, n->op, of, args, count) : jinja_fail(r, "%s of something that is not defined", n->name);
	if (n->op == 0) return range(r, args, count);
	if (n->op == 1) return keywords; /* namespace */
	return jinja_fail(r, "the template refuses these messages: %s", count && json_is_string(args[0]) ? json_string_value(args[0]) : "no reason given");
}

static json_t *filter_or_test(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *args[ARGUMENTS_MAX], *keywords, *v = jinja_eval(r, n->a);
	int count = r->rc ? -1 : arguments(r, n, args, &keywords);
	if (count < 0) return NULL;
	if (n->kind == J_FILTER) return jinja_filter(r, n->op, v, args, count, keywords);
	int is = jinja_test(r, n->op, v, args, count);
	return is < 0 ? NULL : boolean(is);
}

json_t *jinja_eval(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *v, *part[3] = {0};
	if (r->rc) return NULL;
	switch (n->kind) {
	case J_LITERAL:
		return n->value;
	case J_NAME:
		return lookup(r, n->name);
	case J_LIST:
	case J_DICT:
		return list(r, n);
	case J_ITEM:
		v = jinja_eval(r, n->a);
		part[0] = r->rc ? NULL : jinja_eval(r, n->b);
		return r->rc ? NULL : item(r, v, part[0], n->name);
	case J_SLICE:
		v = jinja_eval(r, n->a);
		if (n->b) part[0] = jinja_eval(r, n->b);
		if (n->c) part[1] = jinja_eval(r, n->c);
		if (n->first) part[2] = jinja_eval(r, n->first);
		return r->rc ? NULL : jinja_slice(r, v, part[0], part[1], part[2]);
	case J_CALL:
		return call(r, n);
	case J_FILTER:
	case J_TEST:
		return filter_or_test(r, n);
	case J_NOT:
		v = jinja_eval(r, n->a);
		return r->rc ? NULL : boolean(!jinja_truth(v));
	case J_NEGATE:
		v = jinja_eval(r, n->a);
		if (json_is_integer(v)) return jinja_keep(r, json_integer(-json_integer_value(v)));
		return json_is_real(v) ? jinja_keep(r, json_real(-json_real_value(v))) : jinja_fail(r, "minus something that is no number");
	case J_BINARY:
		return binary(r, n);
	case J_AND:
	case J_OR:
		v = jinja_eval(r, n->a);
		return r->rc ? NULL : jinja_truth(v) == (n->kind == J_OR) ? v : jinja_eval(r, n->b);
	case J_CONDITION:
		v = jinja_eval(r, n->a);
		return r->rc ? NULL : jinja_truth(v) ? jinja_eval(r, n->b) : n->c ? jinja_eval(r, n->c) : NULL;
	default:
		return jinja_fail(r, "something that is no value");
	}
}

/* ---- statements ---- */

static void statements(struct jinja_run *r, const struct jinja_node *n);

/* What `loop` is in iteration i. */
static void set_loop(json_t *scope, const json_t *items, size_t i)
{
	size_t n = json_array_size(items);
	json_t *loop = json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "index", (json_int_t)i + 1, "index0", (json_int_t)i, "revindex", (json_int_t)(n - i),
				 "revindex0", (json_int_t)(n - i - 1), "length", (json_int_t)n, "first", i == 0, "last", i + 1 == n);
	if (i) json_object_set(loop, "previtem", json_array_get(items, i - 1));
	if (i + 1 < n) json_object_set(loop, "nextitem", json_array_get(items, i + 1));
	json_object_set_new(scope, "loop", loop);
}

static int bind(struct jinja_run *r, const struct jinja_node *n, json_t *scope, json_t *one)
{
	if (!n->second) return json_object_set(scope, n->name, one);
	if (json_array_size(one) != 2) {
		jinja_fail(r, "for %s, %s: the items are not pairs", n->name, n->second);
		return -1;
	}
	return json_object_set(scope, n->name, json_array_get(one, 0)) || json_object_set(scope, n->second, json_array_get(one, 1));
}

/* The items of a for: of a list; the names of a dictionary; the characters of a text. Filtered by the loop's if. */
static json_t *loop_items(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *of = jinja_eval(r, n->a), *items = jinja_keep(r, json_array());
	const char *key;
	json_t *v;
	if (r->rc) return NULL;
	if (!of) return jinja_fail(r, "for over something that is not defined");
	if (json_is_object(of)) json_object_foreach(of, key, v) json_array_append_new(items, json_string(key));
	else if (json_is_array(of)) json_array_extend(items, of);
	else return jinja_fail(r, "for over something that is neither list nor dictionary");
	if (!n->condition) return items;
	json_t *kept = jinja_keep(r, json_array());
	size_t i;
	json_array_foreach(items, i, v) {
		json_t *scope = r->scope[r->scopes - 1];
		if (bind(r, n, scope, v)) return NULL;
		if (jinja_truth(jinja_eval(r, n->condition))) json_array_append(kept, v);
		if (r->rc) return NULL;
	}
	return kept;
}

static void loop(struct jinja_run *r, const struct jinja_node *n)
{
	if (r->scopes == (int)(sizeof r->scope / sizeof *r->scope)) {
		jinja_fail(r, "too many loops in each other");
		return;
	}
	r->scope[r->scopes++] = jinja_keep(r, json_object());
	json_t *items = r->rc ? NULL : loop_items(r, n), *one;
	size_t i;
	json_array_foreach(items, i, one) {
		/* A name that is set in one iteration is not there in the next. */
		json_t *scope = r->scope[r->scopes - 1] = jinja_keep(r, json_object());
		if (r->rc) break;
		set_loop(scope, items, i);
		if (bind(r, n, scope, one)) break;
		statements(r, n->b);
		int signal = r->signal;
		r->signal = 0;
		if (r->rc || signal == S_BREAK) break;
	}
	r->scopes--;
	if (!r->rc && !json_array_size(items)) statements(r, n->c);
}

static void assign(struct jinja_run *r, const struct jinja_node *n)
{
	json_t *v = jinja_eval(r, n->a), *to = r->scope[r->scopes - 1];
	const char *name = n->name;
	if (r->rc) return;
	if (n->second) {
		to = lookup(r, n->name);
		name = n->second;
		if (!json_is_object(to)) jinja_fail(r, "set %s.%s: %s is no namespace", n->name, name, n->name);
	}
	if (r->rc) return;
	/* Setting a name to something that is not defined hides an outer one only for `is defined`, which no template uses. */
	if (!v) json_object_del(to, name);
	else if (v == to) jinja_fail(r, "a namespace within itself");
	else json_object_set(to, name, v);
}

static void capture(struct jinja_run *r, const struct jinja_node *n)
{
	struct text_buffer inner = {0}, *outer = r->out;
	r->out = &inner;
	statements(r, n->b);
	r->out = outer;
	json_t *v = r->rc ? NULL : jinja_string(r, inner.used ? inner.data : "", inner.used);
	if (v) json_object_set(r->scope[r->scopes - 1], n->name, v);
	free(inner.data);
}

static void statements(struct jinja_run *r, const struct jinja_node *n)
{
	for (; n && !r->rc && !r->signal; n = n->next) {
		json_t *v = NULL;
		r->line = n->line;
		switch (n->kind) {
		case S_TEXT:
			if (n->bytes && text_put(r->out, n->name, n->bytes, r->e)) r->rc = ERR_MEMORY;
			break;
		case S_PRINT:
			v = jinja_eval(r, n->a);
			if (!r->rc) jinja_print(r, v, r->out);
			break;
		case S_IF:
			v = jinja_eval(r, n->a);
			if (!r->rc) statements(r, jinja_truth(v) ? n->b : n->c);
			break;
		case S_FOR:
			loop(r, n);
			break;
		case S_SET:
			assign(r, n);
			break;
		case S_CAPTURE:
			capture(r, n);
			break;
		default:
			if (r->scopes < 2) jinja_fail(r, "break or continue outside of a loop");
			else r->signal = (int)n->kind;
		}
		if (r->out->used > OUTPUT_MAX) jinja_fail(r, "a text of more than %d MB", OUTPUT_MAX >> 20);
	}
}

int jinja_render(const struct jinja *j, const json_t *variables, char **text, size_t *bytes, struct err *e)
{
	struct text_buffer out = {0};
	struct jinja_run r = { .j = j, .pool = json_array(), .out = &out, .e = e };
	r.scope[r.scopes++] = jinja_keep(&r, json_copy((json_t *)(uintptr_t)variables));
	if (!r.rc) statements(&r, j->body);
	if (!r.rc && text_put(&out, "", 1, e)) r.rc = ERR_MEMORY;
	json_decref(r.pool);
	if (r.rc) {
		free(out.data);
		return r.rc;
	}
	*text = out.data;
	*bytes = out.used - 1;
	return 0;
}
