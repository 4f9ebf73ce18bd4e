/* Compiler and interpreter of the stack language; see stack_lang.h.
 *
 * Compiling resolves every block to jumps, so that running is one flat loop
 * without recursion or search. The counters of loops live in an array indexed by
 * nesting level, which the compiler has bounded. Since every value on the stack
 * is within ±1e9, sums and products of two fit 64 bits: the range is checked
 * after each operation, never before. */
#include "reward/stack_lang.h"

#include <string.h>

enum code {
	OP_LITERAL, OP_INPUT, OP_ADD, OP_SUB, OP_MUL, OP_MOD, OP_MAX, OP_MIN, OP_LESS, OP_GREATER, OP_EQUAL,
	OP_NEG, OP_ABS, OP_NOT, OP_DUP, OP_DROP, OP_SWAP, OP_OVER, OP_IF, OP_ELSE, OP_DO, OP_END_IF, OP_END_DO,
	OP_END, /* only while compiling */
};

static const struct word {
	const char *name;
	uint8_t code;
} WORDS[] = {
	{ "+", OP_ADD },     { "-", OP_SUB },     { "*", OP_MUL },     { "mod", OP_MOD },   { "max", OP_MAX },
	{ "min", OP_MIN },   { "<", OP_LESS },    { ">", OP_GREATER }, { "=", OP_EQUAL },   { "neg", OP_NEG },
	{ "abs", OP_ABS },   { "not", OP_NOT },   { "dup", OP_DUP },   { "drop", OP_DROP }, { "swap", OP_SWAP },
	{ "over", OP_OVER }, { "if", OP_IF },     { "else", OP_ELSE }, { "do", OP_DO },     { "end", OP_END },
};

/* What each code takes from the stack and leaves there, for one check in front of all of them. */
static const uint8_t POPS[] = { 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 2, 2, 1, 0, 1, 0, 0 };
static const uint8_t PUSHES[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0, 2, 3, 0, 0, 0, 0, 0 };

static const char *const NAMES[STACK_STATUSES] = {
	[STACK_OK] = "ok",
	[STACK_EMPTY] = "empty program",
	[STACK_WORD] = "unknown word",
	[STACK_LENGTH] = "too many words",
	[STACK_BLOCK] = "unbalanced block",
	[STACK_UNDERFLOW] = "too few values",
	[STACK_OVERFLOW] = "too many values",
	[STACK_RANGE] = "value out of range",
	[STACK_ZERO] = "modulo by zero",
	[STACK_STEPS] = "too many steps",
	[STACK_RESULT] = "not exactly one result",
};

const char *stack_status_name(enum stack_status s)
{
	return (unsigned)s < STACK_STATUSES ? NAMES[s] : "unknown status";
}

static int is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A literal: an optional minus and one to four digits. */
static int parse_literal(const char *w, size_t n, int32_t *value)
{
	size_t i = w[0] == '-' ? 1 : 0;
	if (i == n || n - i > 4) return 0;
	int32_t v = 0;
	for (size_t k = i; k < n; k++) {
		if (w[k] < '0' || w[k] > '9') return 0;
		v = v * 10 + (w[k] - '0');
	}
	*value = i ? -v : v;
	return 1;
}

static int parse_word(const char *w, size_t n, struct stack_op *op)
{
	*op = (struct stack_op){ 0 };
	if (n == 1 && w[0] >= 'a' && w[0] < 'a' + STACK_INPUTS) {
		op->code = OP_INPUT;
		op->value = w[0] - 'a';
		return 1;
	}
	for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
		if (strlen(WORDS[i].name) == n && !memcmp(WORDS[i].name, w, n)) {
			op->code = WORDS[i].code;
			return 1;
		}
	}
	op->code = OP_LITERAL;
	return parse_literal(w, n, &op->value);
}

/* Matches the blocks and sets the jumps: if → after else or at end; else → end; do ↔ end. */
static enum stack_status link_blocks(struct stack_program *p)
{
	uint16_t open[STACK_NEST_MAX];
	unsigned depth = 0, ifs = 0;
	for (uint32_t i = 0; i < p->ops; i++) {
		struct stack_op *op = &p->op[i];
		if (op->code == OP_IF || op->code == OP_DO) {
			if (depth == STACK_NEST_MAX) return STACK_BLOCK;
			op->slot = (uint8_t)(op->code == OP_IF ? ifs++ : depth);
			open[depth++] = (uint16_t)i;
		} else if (op->code == OP_ELSE) {
			if (depth == 0 || p->op[open[depth - 1]].code != OP_IF) return STACK_BLOCK;
			p->op[open[depth - 1]].jump = (uint16_t)(i + 1);
			open[depth - 1] = (uint16_t)i;
		} else if (op->code == OP_END) {
			if (depth == 0) return STACK_BLOCK;
			struct stack_op *head = &p->op[open[--depth]];
			op->code = head->code == OP_DO ? OP_END_DO : OP_END_IF;
			op->slot = head->slot;
			op->jump = (uint16_t)(open[depth] + 1);
			head->jump = (uint16_t)(head->code == OP_DO ? i + 1 : i);
		}
	}
	return depth ? STACK_BLOCK : STACK_OK;
}

enum stack_status stack_compile(struct stack_program *p, const char *text)
{
	p->ops = 0;
	for (const char *s = text;;) {
		while (is_space(*s)) s++;
		if (!*s) break;
		const char *w = s;
		while (*s && !is_space(*s)) s++;
		if (p->ops == STACK_WORDS_MAX) return STACK_LENGTH;
		if (!parse_word(w, (size_t)(s - w), &p->op[p->ops])) return STACK_WORD;
		p->ops++;
	}
	return p->ops ? link_blocks(p) : STACK_EMPTY;
}

/* x y → value of a word that takes two and leaves one. */
static enum stack_status apply_two(unsigned code, int64_t x, int64_t y, int64_t *v)
{
	switch (code) {
	case OP_ADD: *v = x + y; break;
	case OP_SUB: *v = x - y; break;
	case OP_MUL: *v = x * y; break;
	case OP_MOD:
		if (y == 0) return STACK_ZERO;
		*v = x % y;
		if (*v && (*v < 0) != (y < 0)) *v += y;
		break;
	case OP_MAX: *v = x > y ? x : y; break;
	case OP_MIN: *v = x < y ? x : y; break;
	case OP_LESS: *v = x < y; break;
	case OP_GREATER: *v = x > y; break;
	default: *v = x == y; break;
	}
	return *v > STACK_VALUE_MAX || *v < -STACK_VALUE_MAX ? STACK_RANGE : STACK_OK;
}

enum stack_status stack_run(const struct stack_program *p, const int32_t in[STACK_INPUTS], int64_t *value,
			    struct stack_trace *trace)
{
	int64_t stack[STACK_DEPTH_MAX + 2], left[STACK_NEST_MAX] = { 0 }, x, y;
	unsigned n = 0, steps = 0;
	uint32_t taken = 0, skipped = 0;
	for (uint32_t at = 0; at < p->ops;) {
		const struct stack_op *op = &p->op[at++];
		if (++steps > STACK_STEPS_MAX) return STACK_STEPS;
		if (n < POPS[op->code]) return STACK_UNDERFLOW;
		if (n - POPS[op->code] + PUSHES[op->code] > STACK_DEPTH_MAX) return STACK_OVERFLOW;
		x = n ? stack[n - 1] : 0;
		y = n > 1 ? stack[n - 2] : 0;
		switch (op->code) {
		case OP_LITERAL: stack[n++] = op->value; break;
		case OP_INPUT: stack[n++] = in[op->value]; break;
		case OP_NEG: stack[n - 1] = -x; break;
		case OP_ABS: stack[n - 1] = x < 0 ? -x : x; break;
		case OP_NOT: stack[n - 1] = x == 0; break;
		case OP_DUP: stack[n++] = x; break;
		case OP_DROP: n--; break;
		case OP_SWAP: stack[n - 1] = y, stack[n - 2] = x; break;
		case OP_OVER: stack[n++] = y; break;
		case OP_IF:
			n--;
			if (op->slot < 32) *(x ? &taken : &skipped) |= 1u << op->slot;
			if (!x) at = op->jump;
			break;
		case OP_ELSE: at = op->jump; break;
		case OP_DO:
			n--;
			if (x > STACK_REPEAT_MAX) return STACK_RANGE;
			left[op->slot] = x;
			if (x <= 0) at = op->jump;
			break;
		case OP_END_DO:
			if (--left[op->slot] > 0) at = op->jump;
			break;
		case OP_END_IF: break;
		default: {
			enum stack_status s = apply_two(op->code, y, x, &stack[n - 2]);
			if (s) return s;
			n--;
		}
		}
	}
	if (n != 1) return STACK_RESULT;
	*value = stack[0];
	if (trace) *trace = (struct stack_trace){ taken, skipped };
	return STACK_OK;
}
