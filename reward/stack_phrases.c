/* What the stack task can ask for, and how it is said: the tables behind
 * stack_plan.h.
 *
 * Each construct has one right program and two to four phrasings. A phrasing
 * with a second template is one that an inattentive reader gets wrong in that
 * way: operands taken in the order of the words, a limit mistaken for its
 * opposite, a negation overlooked, a repetition counted from the first time, a
 * second part dropped, "twice" applied to the whole. The description itself is
 * never ambiguous: the misreading is wrong.
 *
 * Words are few and short on purpose, so that a tokenizer of a few hundred
 * entries holds them whole. */
#include "reward/stack_plan.h"

static const struct construct STARTS[] = {
	{ "X Y +", 1, 3, OPERAND_ANY, { { "add X and Y", 0, 0 }, { "take the sum of X and Y", 0, 0 }, { "take X plus Y", 0, 0 } } },
	{ "X Y -", 1, 4, OPERAND_ANY, { { "take X minus Y", 0, 0 }, { "start with X less Y", 0, 0 }, { "subtract Y from X", "Y X -", 0 } } },
	{ "X Y *", 1, 2, OPERAND_ANY, { { "multiply X and Y", 0, 0 }, { "take X times Y", 0, 0 } } },
	{ "X", 2, 2, OPERAND_NONE, { { "start with X", 0, 0 }, { "take X", 0, 0 } } },
	{ "X Y max", 2, 1, OPERAND_ANY, { { "take the larger of X and Y", 0, 0 }, { "take the max of X and Y", 0, 0 } } },
	{ "X Y min", 2, 1, OPERAND_ANY, { { "take the smaller of X and Y", 0, 0 }, { "take the min of X and Y", 0, 0 } } },
	{ 0 },
};

static const struct construct STEPS[] = {
	{ "Y +", 1, 4, OPERAND_ANY, { { "add Y", 0, 0 }, { "increase it by Y", 0, 0 } } },
	{ "Y -", 1, 4, OPERAND_ANY, { { "subtract Y", 0, 0 }, { "decrease it by Y", 0, 0 } } },
	{ "Y *", 1, 3, OPERAND_ANY, { { "multiply by Y", 0, 0 }, { "multiply it by Y", 0, 0 } } },
	{ "Y swap -", 1, 4, OPERAND_ANY, { { "take Y minus it", 0, 0 }, { "subtract it from Y", "Y -", 0 } } },
	{ "Y 2 * +", 1, 4, OPERAND_ANY, { { "add 2 times Y", 0, 0 }, { "add twice Y", "Y + 2 *", 0 } } },
	{ "neg", 2, 2, OPERAND_NONE, { { "negate it", 0, 0 }, { "flip its sign", 0, 0 } } },
	{ "abs", 2, 2, OPERAND_NONE, { { "drop its sign", 0, 0 }, { "take its size", 0, 0 } } },
	{ "2 *", 2, 2, OPERAND_NONE, { { "double it", 0, 0 }, { "multiply it by two", 0, 0 } } },
	{ "dup *", 2, 2, OPERAND_NONE, { { "square it", 0, 0 }, { "multiply it by itself", "2 *", 0 } } },
	{ "Y max", 2, 3, OPERAND_ANY, { { "take the max with Y", 0, 0 }, { "keep it at least Y", "Y min", 0 } } },
	{ "Y min", 2, 3, OPERAND_ANY, { { "take the min with Y", 0, 0 }, { "keep it at most Y", "Y max", 0 } } },
	{ "Y mod", 2, 2, OPERAND_CONST, { { "take it modulo Y", 0, 0 }, { "reduce it modulo Y", 0, 0 } } },
	{ 0 },
};

static const struct construct CONDITIONS[] = {
	{ "dup 0 <", 3, 3, OPERAND_NONE, { { "it is negative", 0, 0 }, { "it is below 0", 0, 0 } } },
	{ "dup 0 >", 3, 3, OPERAND_NONE, { { "it is positive", 0, 0 }, { "it is above 0", 0, 0 } } },
	{ "dup Y >", 3, 3, OPERAND_ANY, { { "it is above Y", 0, 0 }, { "Y is below it", "dup Y <", 0 } } },
	{ "dup Y <", 3, 3, OPERAND_ANY, { { "it is below Y", 0, 0 }, { "Y is above it", "dup Y >", 0 } } },
	{ "dup 2 mod 0 =", 3, 2, OPERAND_NONE, { { "it is even", 0, 0 } } },
	{ 0 },
};

static const struct construct SET[] = {
	{ "drop Y", 3, 1, OPERAND_SMALL, { { "use Y instead", 0, 0 }, { "replace it by Y", 0, 0 }, { "return Y", 0, 1 } } },
	{ 0 },
};

static const struct construct IF[] = {
	{ "C if S end", 3, 1, OPERAND_NONE, { { "if C, S", 0, 0 }, { "when C, S", 0, 0 } } },
	{ "C if S else E end", 3, 1, OPERAND_NONE, { { "if C, S, otherwise E", 0, 0 }, { "if C, S, or else E", "C if S end", 0 } } },
	{ "C not if S end", 3, 1, OPERAND_NONE, { { "if it is not so that C, S", 0, 0 }, { "unless C, S", "C if S end", 0 } } },
	{ 0 },
};

static const struct construct LOOP[] = {
	{ "N do B end", 4, 1, OPERAND_NONE, { { "repeat N times: B", 0, 0 }, { "do this N times: B", 0, 0 }, { "N times over: B", "M do B end", 0 } } },
	{ 0 },
};

const struct construct *phrases_starts(void) { return STARTS; }
const struct construct *phrases_steps(void) { return STEPS; }
const struct construct *phrases_conditions(void) { return CONDITIONS; }
const struct construct *phrases_set(void) { return SET; }
const struct construct *phrases_if(void) { return IF; }
const struct construct *phrases_loop(void) { return LOOP; }
