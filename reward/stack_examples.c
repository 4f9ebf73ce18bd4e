/* The supervised examples of the stack task, partly wrong; see stack_task.h.
 *
 * With k places that may be misread and a chance p at each, an example is wrong
 * with 1 - (1-p)^k. p is solved by bisection over the tasks used, so that nine
 * tenths of the wanted share come from misreadings; noise on the remaining right
 * examples fills what is missing. */
#include "reward/stack_set.h"

#include <math.h>
#include <string.h>

#define MISREAD_MAX 0.85 /* the right reading keeps at least 15 % */
#define SYSTEMATIC 0.9   /* of the wrong examples */

/* Expected share of wrong examples among n when each place is misread with chance p. */
static double expected_wrong(const struct stack_task_set *s, uint32_t n, double p)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++) {
		int k = __builtin_popcount(plan_sites(&s->plan[i % s->count[STACK_TRAIN]]));
		sum += 1 - pow(1 - p, k);
	}
	return sum / n;
}

static double solve_misread(const struct stack_task_set *s, uint32_t n, double share)
{
	double low = 0, high = MISREAD_MAX;
	if (expected_wrong(s, n, high) <= share) return high;
	for (int i = 0; i < 40; i++) {
		double mid = (low + high) / 2;
		if (expected_wrong(s, n, mid) < share) low = mid;
		else high = mid;
	}
	return high;
}

static int draw_chance(struct draws *d, double p)
{
	return rng_uniform(d->key, d->a, d->b, d->c++) < p;
}

static const char *other_word(struct draws *d, const char *word, size_t n)
{
	static const char *const OPERATORS[] = { "+", "-", "*", "max", "min" };
	static const char *const INPUTS[] = { "a", "b", "c" };
	static const char *const DIGITS[] = { "1", "2", "3", "4", "5", "6", "7", "8", "9" };
	if (n == 1 && *word >= 'a' && *word <= 'c') return INPUTS[draw_below(d, 3)];
	if (n == 1 && *word >= '0' && *word <= '9') return DIGITS[draw_below(d, 9)];
	for (int i = 0; i < 5; i++)
		if (strlen(OPERATORS[i]) == n && !memcmp(OPERATORS[i], word, n)) return OPERATORS[draw_below(d, 5)];
	return "";
}

/* Changes one word to another of its kind, or drops it when it has none. */
static void disturb(struct draws *d, const char *program, char out[PLAN_TEXT_MAX])
{
	uint32_t words = 1, at = 0;
	for (const char *c = program; *c; c++) words += *c == ' ';
	uint32_t target = draw_below(d, words);
	size_t n = 0;
	for (const char *w = program; *w; at++) {
		size_t len = strcspn(w, " ");
		const char *put = at == target ? other_word(d, w, len) : w;
		size_t put_len = at == target ? strlen(put) : len;
		if (n && put_len) out[n++] = ' ';
		memcpy(out + n, put, put_len);
		n += put_len;
		w += len;
		w += *w == ' ';
	}
	out[n] = 0;
}

static void make_example(struct stack_task_set *s, uint32_t i, double misread, double noise)
{
	struct draws d = { .key = { s->seed, RNG_TASK }, .a = STREAM_EXAMPLES, .b = i };
	struct stack_example *x = &s->example[i];
	x->task = i % s->count[STACK_TRAIN];
	const struct plan *plan = &s->plan[x->task];
	const struct stack_task *t = &s->task[STACK_TRAIN][x->task];
	char text[PLAN_TEXT_MAX];
	uint32_t slips = 0;
	for (uint32_t left = plan_sites(plan); left; left &= left - 1)
		if (draw_chance(&d, misread)) slips |= left & -left;
	plan_program(plan, slips, -1, text);
	if (!slips && draw_chance(&d, noise)) {
		for (int tries = 0; tries < 8 && stack_passes(t, text); tries++) disturb(&d, t->program, text);
	}
	x->prompt = t->prompt;
	x->completion = arena_strdup(s->arena, text);
	x->misread = __builtin_popcount(slips);
	x->wrong = !stack_passes(t, text);
}

void stack_examples_make(struct stack_task_set *s, uint32_t n, double wrong)
{
	s->examples = n;
	s->example = arena_must(s->arena, n, sizeof *s->example);
	if (!n) return;
	double misread = wrong > 0 ? solve_misread(s, n, SYSTEMATIC * wrong) : 0;
	double systematic = expected_wrong(s, n, misread);
	double noise = systematic < wrong ? (wrong - systematic) / (1 - systematic) : 0;
	for (uint32_t i = 0; i < n; i++) make_example(s, i, misread, noise);
}
