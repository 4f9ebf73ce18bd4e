/* Private to the templates: the tree and the values.
 *
 *   jinja_parse.c       text → statements: data, tags, white space
 *   jinja_expression.c  expressions
 *   jinja_eval.c        statements and expressions → text
 *   jinja_value.c       filters, tests, methods, functions
 *
 * Values are JSON values; "undefined" is NULL. Whatever is made while rendering
 * is kept in the run's pool and freed at its end, so values are borrowed all over. */
#ifndef TENFOLD_POLICY_JINJA_INTERNAL_H
#define TENFOLD_POLICY_JINJA_INTERNAL_H

#include "core/base/arena.h"
#include "policy/jinja.h"
#include "policy/tokenizer_internal.h"

enum jinja_kind {
	/* expressions */
	J_LITERAL, J_NAME, J_LIST, J_DICT, J_ITEM, J_SLICE, J_CALL, J_FILTER, J_TEST, J_NOT, J_NEGATE, J_BINARY, J_AND, J_OR, J_CONDITION,
	J_KEYWORD, /* name = a, among arguments */
	/* statements */
	S_TEXT, S_PRINT, S_IF, S_FOR, S_SET, S_CAPTURE, S_BREAK, S_CONTINUE,
};

enum jinja_operator { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOOR, OP_MOD, OP_CONCAT, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN };

struct jinja_node {
	enum jinja_kind kind;
	int op, line;         /* op: operator, or which filter, test, method, function */
	const char *name;     /* S_TEXT: the text */
	size_t bytes;
	json_t *value;        /* J_LITERAL */
	struct jinja_node *a, *b, *c; /* operands; S_IF: condition, body, else; S_FOR: list, body, else; S_SET: value, target */
	struct jinja_node *condition; /* S_FOR: its if */
	const char *second;   /* S_FOR: `for name, second in` */
	struct jinja_node *first;     /* arguments, members (keys and values in turn) */
	struct jinja_node *next;
};

struct jinja {
	struct arena *arena;
	struct jinja_node *body;
	json_t *literals; /* owns the values of the literals */
};

/* A position in the template while parsing. */
struct jinja_parser {
	struct jinja *j;
	const char *at, *end;
	int line, depth;
	struct err *e;
	int failed;
};

struct jinja_node *jinja_new(struct jinja_parser *p, enum jinja_kind kind);
/* Fails with the line; always NULL. */
struct jinja_node *jinja_refuse(struct jinja_parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An expression from p->at on, as far as it goes; NULL: failed. */
struct jinja_node *jinja_expression(struct jinja_parser *p);
/* Takes the word (a name) or sign if it comes next. */
int jinja_take(struct jinja_parser *p, const char *what);
/* The next name, in the arena; NULL: none there. */
const char *jinja_take_name(struct jinja_parser *p);
void jinja_skip_space(struct jinja_parser *p);

/* One rendering. */
struct jinja_run {
	const struct jinja *j;
	json_t *pool;       /* array of everything made */
	json_t *scope[64];
	int scopes;
	struct text_buffer *out;
	struct err *e;
	int rc, signal;     /* signal: S_BREAK or S_CONTINUE on its way to the loop */
	int line;
};

/* Puts a value in the pool and returns it. */
json_t *jinja_keep(struct jinja_run *r, json_t *v);
json_t *jinja_string(struct jinja_run *r, const char *s, size_t n);
/* Sets r->rc with the line; always NULL. */
json_t *jinja_fail(struct jinja_run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
json_t *jinja_eval(struct jinja_run *r, const struct jinja_node *n);
int jinja_truth(const json_t *v);
int jinja_equal(const json_t *x, const json_t *y);
/* Appends a value as Jinja prints it. */
int jinja_print(struct jinja_run *r, const json_t *v, struct text_buffer *out);
int jinja_contains(struct jinja_run *r, const json_t *item, const json_t *in);
/* Part [from:to:step] of a text (by characters) or list; absent parts are NULL. */
json_t *jinja_slice(struct jinja_run *r, const json_t *v, const json_t *from, const json_t *to, const json_t *step);

/* Indices of names known; -1: not known. */
int jinja_filter_find(const char *name);
int jinja_test_find(const char *name);
int jinja_method_find(const char *name);
json_t *jinja_filter(struct jinja_run *r, int which, json_t *v, json_t **args, int n, json_t *keywords);
/* 1 or 0; -1: failed. */
int jinja_test(struct jinja_run *r, int which, const json_t *v, json_t **args, int n);
json_t *jinja_method(struct jinja_run *r, int which, json_t *v, json_t **args, int n);

#endif
