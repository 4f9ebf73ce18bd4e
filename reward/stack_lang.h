/* The stack language: small integer programs in postfix words, and the sandbox
 * that runs them.
 *
 * A program is a line of words separated by white space. Values are integers of
 * at most ±1e9, kept on one stack; three inputs a, b, c; the result is the one
 * value left at the end.
 *
 *   a b c            push an input
 *   0 … 9999, -7     push a literal
 *   + - *            x y → x+y, x-y, x·y
 *   mod              x y → x - y·floor(x/y): takes the sign of y; y = 0 fails
 *   max min          x y → the larger, the smaller
 *   neg abs not      x → -x, |x|, (1 when x is 0, else 0)
 *   < > =            x y → 1 or 0
 *   dup drop swap over     x → x x;  x →;  x y → y x;  x y → x y x
 *   if … end, if … else … end     pops a value: not 0 takes the first part
 *   do … end         pops n: runs the body n times (n <= 0: never; n > 100 fails)
 *
 * There is no way out: no names, no input or output, no memory but the stack, no
 * recursion, and every loop is counted. Words, nesting, stack, values and steps
 * are all bounded, so any bytes whatever compile and run in bounded time and
 * end in a value or in a named failure. */
#ifndef TENFOLD_REWARD_STACK_LANG_H
#define TENFOLD_REWARD_STACK_LANG_H

#include <stdint.h>

enum {
	STACK_WORDS_MAX = 96,   /* words of a program */
	STACK_NEST_MAX = 8,     /* blocks inside blocks */
	STACK_DEPTH_MAX = 32,   /* values on the stack */
	STACK_STEPS_MAX = 4000, /* words executed in one run */
	STACK_REPEAT_MAX = 100, /* the count of one `do` */
	STACK_LITERAL_MAX = 9999,
	STACK_VALUE_MAX = 1000000000,
	STACK_INPUTS = 3,
};

enum stack_status {
	STACK_OK,
	STACK_EMPTY,      /* no word at all */
	STACK_WORD,       /* a word that is not of the language */
	STACK_LENGTH,     /* more than STACK_WORDS_MAX words */
	STACK_BLOCK,      /* if, else, do, end that do not match, or nested too deeply */
	STACK_UNDERFLOW,  /* a word that found too few values */
	STACK_OVERFLOW,   /* more than STACK_DEPTH_MAX values */
	STACK_RANGE,      /* a value beyond ±STACK_VALUE_MAX, a count above STACK_REPEAT_MAX */
	STACK_ZERO,       /* mod by 0 */
	STACK_STEPS,      /* ran longer than STACK_STEPS_MAX */
	STACK_RESULT,     /* not exactly one value left */
	STACK_STATUSES,
};

struct stack_op {
	uint8_t code;
	uint8_t slot;   /* loops: nesting level; if: its number in the program, from 0 */
	uint16_t jump;  /* where if, else, do and end go on */
	int32_t value;  /* of a literal; the index of an input */
};

/* A compiled program: a plain value. */
struct stack_program {
	uint32_t ops;
	struct stack_op op[STACK_WORDS_MAX];
};

/* Which arms of the program's first 32 conditionals a run went through. */
struct stack_trace {
	uint32_t taken, skipped;
};

/* Compiles NUL-terminated text of any content. */
enum stack_status stack_compile(struct stack_program *p, const char *text);
/* Runs a compiled program on in = (a, b, c); *value is set on STACK_OK only. trace may be NULL. */
enum stack_status stack_run(const struct stack_program *p, const int32_t in[STACK_INPUTS], int64_t *value,
			    struct stack_trace *trace);
/* "ok", "unknown word", … */
const char *stack_status_name(enum stack_status s);

#endif
