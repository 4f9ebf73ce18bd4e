/* Private to the stack task: a task before it is text.
 *
 * A plan is a list of clauses that act one after the other on one value ("it").
 * From one plan come the English description, the reference program, the
 * programs of misreadings and the structure key, clause by clause and in the
 * same order, by filling the templates of stack_phrases.c. */
#ifndef TENFOLD_REWARD_STACK_PLAN_H
#define TENFOLD_REWARD_STACK_PLAN_H

#include "core/base/rng.h"

#include <stddef.h>
#include <stdint.h>

enum {
	PLAN_CLAUSES_MAX = 6,
	PLAN_LEVELS = 4,
	PLAN_TEXT_MAX = 512, /* bytes of any text made from a plan, with the final NUL */
	PHRASES_MAX = 4,
};

/* Draws from one counter-based stream, in order. */
struct draws {
	struct rng_key key;
	uint32_t a, c;
	uint64_t b;
};
uint32_t draw_below(struct draws *d, uint32_t n);

/* One way to say a construct. Capitals in templates are slots: X, Y operands; N a count, M the count less one;
 * C condition, S first step, E second step, B body of a loop. */
struct phrase {
	const char *text;
	const char *slip; /* program of the plausible misreading; NULL: not misread */
	int last;         /* only as the last clause */
};

enum operand_kind { OPERAND_NONE, OPERAND_ANY, OPERAND_CONST, OPERAND_SMALL /* 0 too */ };

struct construct {
	const char *program;
	int level;   /* first level that uses it */
	int weight;  /* relative frequency among its kind */
	enum operand_kind operand; /* of Y */
	struct phrase phrase[PHRASES_MAX]; /* up to the first without text */
};

/* The tables, each ended by a row without program. */
const struct construct *phrases_starts(void);
const struct construct *phrases_steps(void);
const struct construct *phrases_conditions(void);
const struct construct *phrases_set(void);    /* the one step "use Y instead" */
const struct construct *phrases_if(void);     /* [0] without, [1] with a second part */
const struct construct *phrases_loop(void);

struct operand {
	char input;    /* 'a'…'c', or 0: the constant */
	uint8_t value;
};

/* A construct with a way to say it and its operands. */
struct saying {
	const struct construct *what;
	const struct phrase *how;
	struct operand x, y;
};

enum clause_form { CLAUSE_STEP, CLAUSE_IF, CLAUSE_LOOP };

struct clause {
	enum clause_form form;
	struct saying whole; /* of an if or a loop: its frame */
	struct saying cond;  /* of an if, or of the if that is the loop's body; what == NULL: none */
	struct saying inner; /* frame of the if inside a loop */
	int steps;
	struct saying step[2];
	uint8_t count;       /* of a loop */
};

struct plan {
	int level;
	int loose; /* written in the loose style, which prefers phrases that are misread */
	int clauses;
	struct clause clause[PLAN_CLAUSES_MAX]; /* [0]: the start */
};

/* Sites of misreading are bits 5·clause + {0 whole, 1 cond, 2 inner, 3 step 0, 4 step 1}. */
void plan_draw(struct plan *p, int level, struct draws *d);
uint32_t plan_sites(const struct plan *p);
void plan_text(const struct plan *p, char text[PLAN_TEXT_MAX]);
/* slips: the sites read wrongly; omit: a clause left out, or -1. */
void plan_program(const struct plan *p, uint32_t slips, int omit, char text[PLAN_TEXT_MAX]);
/* A program with inputs as x and literals as n. */
void plan_structure(const char *program, char key[PLAN_TEXT_MAX]);

#endif
