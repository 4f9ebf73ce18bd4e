/* Statements of chat templates, and white space around tags; see jinja.h.
 *
 * White space as Jinja with trim_blocks and lstrip_blocks: the newline behind a
 * statement or comment goes, and so do the blanks before one that begins its line;
 * a minus in the tag takes all white space on its side, a plus keeps it; one
 * newline at the end of the template goes. */
#include "policy/jinja_internal.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_DEEP = 60 };

struct jinja_node *jinja_new(struct jinja_parser *p, enum jinja_kind kind)
{
	struct jinja_node *n = arena_must(p->j->arena, 1, sizeof *n);
	*n = (struct jinja_node){ .kind = kind, .line = p->line };
	return n;
}

struct jinja_node *jinja_refuse(struct jinja_parser *p, const char *fmt, ...)
{
	char what[256];
	va_list args;
	if (p->failed++) return NULL;
	va_start(args, fmt);
	vsnprintf(what, sizeof what, fmt, args);
	va_end(args);
	err_set(p->e, ERR_FORMAT, "chat template, line %d: %s is not supported", p->line, what);
	return NULL;
}

/* What ended a body. */
enum ending { END_OF_TEXT, END_ELSE, END_ELIF, END_IF, END_FOR, END_SET, END_OTHER, END_FAILED };

static struct jinja_node *body(struct jinja_parser *p, enum ending *how);

static void count_lines(struct jinja_parser *p, const char *to)
{
	for (; p->at < to; p->at++)
		if (*p->at == '\n') p->line++;
}

/* Text up to the next tag (or the end), as a node; NULL when nothing is left of it. */
static struct jinja_node *data(struct jinja_parser *p, int from_line_start)
{
	const char *s = p->at, *tag = s;
	while (tag + 1 < p->end && !(tag[0] == '{' && (tag[1] == '{' || tag[1] == '%' || tag[1] == '#'))) tag++;
	if (tag + 1 >= p->end) tag = p->end;
	const char *end = tag;
	if (tag < p->end) {
		char sign = tag + 2 < p->end ? tag[2] : 0;
		if (sign == '-') {
			while (end > s && isspace((unsigned char)end[-1])) end--;
		} else if (sign != '+' && tag[1] != '{') {
			const char *line = end;
			while (line > s && line[-1] != '\n' && isspace((unsigned char)line[-1])) line--;
			if ((line > s && line[-1] == '\n') || (line == s && from_line_start)) end = line;
		}
	}
	struct jinja_node *n = jinja_new(p, S_TEXT);
	n->name = s;
	n->bytes = (size_t)(end - s);
	count_lines(p, tag);
	return n->bytes ? n : NULL;
}

/* The end of a tag, and the white space behind it that goes with it. */
static int close_tag(struct jinja_parser *p, const char *end, int trims)
{
	jinja_skip_space(p);
	char sign = p->at < p->end && (*p->at == '-' || *p->at == '+') ? *p->at++ : 0;
	if ((size_t)(p->end - p->at) < 2 || memcmp(p->at, end, 2)) {
		jinja_refuse(p, "\"%.12s\" where \"%s\" ends the tag", p->at, end);
		return -1;
	}
	p->at += 2;
	if (sign == '-') jinja_skip_space(p);
	else if (trims && !sign && p->at < p->end && *p->at == '\n') count_lines(p, p->at + 1);
	return 0;
}

static struct jinja_node *print(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_new(p, S_PRINT);
	n->a = jinja_expression(p);
	return n->a && !close_tag(p, "}}", 0) ? n : NULL;
}

/* Behind the condition of an if or elif. */
static struct jinja_node *rest_of_if(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_new(p, S_IF);
	enum ending how;
	n->a = jinja_expression(p);
	if (!n->a || close_tag(p, "%}", 1)) return NULL;
	n->b = body(p, &how);
	if (how == END_ELIF) {
		n->c = rest_of_if(p);
		return n->c ? n : NULL;
	}
	if (how == END_ELSE) {
		if (close_tag(p, "%}", 1)) return NULL;
		n->c = body(p, &how);
	}
	if (how != END_IF) return jinja_refuse(p, "an if without endif");
	return close_tag(p, "%}", 1) ? NULL : n;
}

static struct jinja_node *for_loop(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_new(p, S_FOR);
	enum ending how;
	n->name = jinja_take_name(p);
	if (n->name && jinja_take(p, ",")) n->second = jinja_take_name(p);
	if (!n->name || !jinja_take(p, "in")) return jinja_refuse(p, "this kind of for");
	n->a = jinja_expression(p);
	/* `for x in y if z`: the expression took the if, with no else; it is the loop's. */
	if (n->a && n->a->kind == J_CONDITION && !n->a->c) {
		n->condition = n->a->a;
		n->a = n->a->b;
	}
	if (!n->a) return NULL;
	if (jinja_take(p, "recursive")) return jinja_refuse(p, "a recursive for");
	if (close_tag(p, "%}", 1)) return NULL;
	n->b = body(p, &how);
	if (how == END_ELSE) {
		if (close_tag(p, "%}", 1)) return NULL;
		n->c = body(p, &how);
	}
	if (how != END_FOR) return jinja_refuse(p, "a for without endfor");
	return close_tag(p, "%}", 1) ? NULL : n;
}

static struct jinja_node *set(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_new(p, S_SET);
	enum ending how;
	n->name = jinja_take_name(p);
	if (!n->name) return jinja_refuse(p, "a set without a name");
	if (p->at < p->end && *p->at == '.') {
		p->at++;
		n->second = jinja_take_name(p);
		if (!n->second) return jinja_refuse(p, "a set without a name");
	}
	if (jinja_take(p, "=")) {
		n->a = jinja_expression(p);
		return n->a && !close_tag(p, "%}", 1) ? n : NULL;
	}
	if (n->second) return jinja_refuse(p, "a set without a value");
	n->kind = S_CAPTURE;
	if (close_tag(p, "%}", 1)) return NULL;
	n->b = body(p, &how);
	if (how != END_SET) return jinja_refuse(p, "a set without endset");
	return close_tag(p, "%}", 1) ? NULL : n;
}

/* A statement; *how tells when it ends the body instead. */
static struct jinja_node *statement(struct jinja_parser *p, enum ending *how)
{
	static const struct {
		const char *word;
		enum ending how;
	} ends[] = { { "else", END_ELSE }, { "elif", END_ELIF }, { "endif", END_IF }, { "endfor", END_FOR }, { "endset", END_SET } };
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (jinja_take(p, ends[i].word)) {
			*how = ends[i].how;
			return NULL;
		}
	if (jinja_take(p, "if")) return rest_of_if(p);
	if (jinja_take(p, "for")) return for_loop(p);
	if (jinja_take(p, "set")) return set(p);
	int breaks = jinja_take(p, "break");
	if (breaks || jinja_take(p, "continue")) {
		struct jinja_node *n = jinja_new(p, breaks ? S_BREAK : S_CONTINUE);
		return close_tag(p, "%}", 1) ? NULL : n;
	}
	/* They mark what the assistant said, and print nothing. */
	if (jinja_take(p, "generation") || jinja_take(p, "endgeneration")) {
		struct jinja_node *n = jinja_new(p, S_TEXT);
		return close_tag(p, "%}", 1) ? NULL : n;
	}
	const char *word = jinja_take_name(p);
	return jinja_refuse(p, "the statement %s", word ? word : "without a name");
}

static int comment(struct jinja_parser *p)
{
	const char *end = memmem(p->at, (size_t)(p->end - p->at), "#}", 2);
	if (!end) {
		jinja_refuse(p, "a comment without end");
		return -1;
	}
	count_lines(p, end > p->at && (end[-1] == '-' || end[-1] == '+') ? end - 1 : end);
	return close_tag(p, "#}", 1);
}

/* Statements until one that ends the body, which is taken up to its name. */
static struct jinja_node *body(struct jinja_parser *p, enum ending *how)
{
	struct jinja_node *first = NULL, **last = &first;
	*how = END_OF_TEXT;
	if (++p->depth > BLOCKS_DEEP) jinja_refuse(p, "more than %d blocks in each other", BLOCKS_DEEP);
	while (!p->failed && p->at < p->end) {
		int line_start = p->at == p->j->body->name || p->at[-1] == '\n';
		struct jinja_node *n = data(p, line_start);
		if (n) *last = n, last = &n->next;
		if (p->at >= p->end) break;
		char kind = p->at[1];
		p->at += 2;
		if (p->at < p->end && (*p->at == '-' || *p->at == '+') && kind != '#') p->at++;
		if (kind == '#') {
			comment(p);
			continue;
		}
		n = kind == '{' ? print(p) : statement(p, how);
		if (*how != END_OF_TEXT) break;
		if (n) *last = n, last = &n->next;
	}
	p->depth--;
	if (p->failed) *how = END_FAILED;
	return first;
}

int jinja_open(struct jinja **out, const char *text, struct err *e)
{
	struct jinja *j = calloc(1, sizeof *j);
	*out = NULL;
	if (!j) return err_set(e, ERR_MEMORY, "out of memory for the chat template");
	j->arena = arena_open(0);
	j->literals = json_array();
	size_t n = strlen(text);
	char *copy = arena_must(j->arena, n + 1, 1);
	memcpy(copy, text, n + 1);
	if (n && copy[n - 1] == '\n') copy[--n] = 0;
	struct jinja_parser p = { .j = j, .at = copy, .end = copy + n, .line = 1, .e = e };
	enum ending how;
	struct jinja_node *root = jinja_new(&p, S_TEXT); /* until the body is there: where the text begins */
	root->name = copy;
	j->body = root;
	struct jinja_node *all = body(&p, &how);
	if (!p.failed && how != END_OF_TEXT) jinja_refuse(&p, "an end or else without its beginning");
	j->body = all;
	if (p.failed) {
		jinja_close(j);
		return e ? e->code : ERR_FORMAT;
	}
	*out = j;
	return 0;
}

void jinja_close(struct jinja *j)
{
	if (!j) return;
	json_decref(j->literals);
	arena_close(j->arena);
	free(j);
}
