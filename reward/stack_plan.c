/* Draws plans and writes them out; see stack_plan.h. */
#include "reward/stack_plan.h"

#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	LOOSE_PERCENT = 55,   /* descriptions in the loose style */
	MISREAD_PERCENT = 90, /* of their constructs that have a phrasing that is misread, said that way */
	SITES_PER_CLAUSE = 5,
};

uint32_t draw_below(struct draws *d, uint32_t n)
{
	return rng_below(d->key, d->a, d->b, d->c++, n);
}

static int draw_percent(struct draws *d, uint32_t percent)
{
	return draw_below(d, 100) < percent;
}

static struct operand draw_operand(struct draws *d, enum operand_kind kind, char not_input)
{
	struct operand o = { 0, 0 };
	if (kind == OPERAND_ANY && draw_percent(d, 60)) {
		do o.input = (char)('a' + draw_below(d, 3));
		while (o.input == not_input);
	} else if (kind == OPERAND_SMALL) {
		o.value = (uint8_t)draw_below(d, 10);
	} else if (kind != OPERAND_NONE) {
		o.value = (uint8_t)(2 + draw_below(d, 8));
	}
	return o;
}

static const struct phrase *draw_phrase(struct draws *d, const struct construct *what, int loose, int last)
{
	const struct phrase *plain[PHRASES_MAX], *misread[PHRASES_MAX];
	uint32_t plains = 0, misreads = 0;
	for (int i = 0; i < PHRASES_MAX && what->phrase[i].text; i++) {
		const struct phrase *p = &what->phrase[i];
		if (p->last && !last) continue;
		if (p->slip) misread[misreads++] = p;
		else plain[plains++] = p;
	}
	if (loose && misreads && draw_percent(d, MISREAD_PERCENT)) return misread[draw_below(d, misreads)];
	return plain[draw_below(d, plains)];
}

static struct saying say(struct draws *d, const struct construct *what, int loose, int last)
{
	struct saying s = { .what = what };
	s.how = draw_phrase(d, what, loose, last);
	s.x.input = (char)('a' + draw_below(d, 3));
	s.y = draw_operand(d, what->operand, s.x.input);
	return s;
}

/* A construct of the table by weight among those of the level. */
static const struct construct *draw_construct(struct draws *d, const struct construct *table, int level)
{
	uint32_t total = 0;
	for (const struct construct *c = table; c->program; c++) total += c->level <= level ? (uint32_t)c->weight : 0;
	uint32_t r = draw_below(d, total);
	const struct construct *c = table;
	for (;; c++) {
		uint32_t w = c->level <= level ? (uint32_t)c->weight : 0;
		if (r < w) return c;
		r -= w;
	}
}

static struct saying draw_step(struct draws *d, const struct plan *p)
{
	return say(d, draw_construct(d, phrases_steps(), p->level), p->loose, 0);
}

static void draw_if(struct draws *d, const struct plan *p, struct clause *c, int last)
{
	uint32_t which = draw_below(d, 3); /* plain, with a second part, negated */
	c->form = CLAUSE_IF;
	c->whole = say(d, &phrases_if()[which], p->loose, last);
	c->cond = say(d, draw_construct(d, phrases_conditions(), p->level), p->loose, last);
	c->steps = which == 1 ? 2 : 1;
	c->step[0] = draw_percent(d, 40) ? say(d, phrases_set(), p->loose, last && c->steps == 1) : draw_step(d, p);
	if (c->steps == 2) c->step[1] = draw_step(d, p);
}

static void draw_loop(struct draws *d, const struct plan *p, struct clause *c)
{
	c->form = CLAUSE_LOOP;
	c->whole = say(d, phrases_loop(), p->loose, 0);
	c->count = (uint8_t)(2 + draw_below(d, 4));
	c->steps = 1;
	if (draw_percent(d, 25)) {
		c->inner = say(d, &phrases_if()[draw_percent(d, 50) ? 2 : 0], p->loose, 0);
		c->cond = say(d, draw_construct(d, phrases_conditions(), p->level), p->loose, 0);
	} else if (draw_percent(d, 40)) {
		c->steps = 2;
	}
	for (int i = 0; i < c->steps; i++) c->step[i] = draw_step(d, p);
}

/* Level 1: a start and 1–2 arithmetic steps; 2: 1–2 of all steps; 3: a conditional and 0–1 steps; 4: a loop, and a
 * conditional or 0–1 steps. */
void plan_draw(struct plan *p, int level, struct draws *d)
{
	CHECK(level >= 1 && level <= PLAN_LEVELS, "level %d of the stack task", level);
	memset(p, 0, sizeof *p);
	p->level = level;
	p->loose = draw_percent(d, LOOSE_PERCENT);
	int branch = level == 3 || (level == 4 && draw_percent(d, 40)), loop = level == 4, steps = level <= 2;
	if (!(branch && loop)) steps += (int)draw_below(d, 2);
	p->clauses = 1 + steps + branch + loop;
	int branch_at = branch ? 1 + (int)draw_below(d, (uint32_t)p->clauses - 1) : 0, loop_at = 0;
	if (loop)
		do loop_at = 1 + (int)draw_below(d, (uint32_t)p->clauses - 1);
		while (loop_at == branch_at);
	for (int i = 0; i < p->clauses; i++) {
		struct clause *c = &p->clause[i];
		if (i && i == branch_at) draw_if(d, p, c, i == p->clauses - 1);
		else if (i && i == loop_at) draw_loop(d, p, c);
		else {
			c->steps = 1;
			c->step[0] = i ? draw_step(d, p) : say(d, draw_construct(d, phrases_starts(), level), p->loose, 0);
		}
	}
}

/* ---- writing ---- */

struct writer {
	char *text; /* PLAN_TEXT_MAX */
	size_t n;
	int program;    /* templates of programs, else of descriptions */
	uint32_t slips; /* sites read wrongly */
	unsigned base;  /* first site of the clause */
	const struct clause *clause;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(w->text + w->n, PLAN_TEXT_MAX - w->n, fmt, ap);
	va_end(ap);
	CHECK(n >= 0 && (size_t)n < PLAN_TEXT_MAX - w->n, "text of a stack task is longer than %d bytes", PLAN_TEXT_MAX);
	w->n += (size_t)n;
}

static void put_operand(struct writer *w, struct operand o)
{
	if (o.input) put(w, "%c", o.input);
	else put(w, "%d", o.value);
}

static void put_saying(struct writer *w, const struct saying *s, unsigned site);

/* The body of a loop: a conditional, or one or two steps. */
static void put_body(struct writer *w)
{
	const struct clause *c = w->clause;
	if (c->inner.what) {
		put_saying(w, &c->inner, 2);
		return;
	}
	for (int i = 0; i < c->steps; i++) {
		if (i) put(w, w->program ? " " : " and ");
		put_saying(w, &c->step[i], 3 + (unsigned)i);
	}
}

/* Fills the template; recursion is at most whole → inner → step, as the tables have no slot of their own kind. */
static void put_saying(struct writer *w, const struct saying *s, unsigned site)
{
	const struct clause *c = w->clause;
	const char *t = s->how->text;
	if (w->program) {
		int slip = s->how->slip && (w->slips >> (w->base + site) & 1);
		t = slip ? s->how->slip : s->what->program;
	}
	for (; *t; t++) {
		switch (*t) {
		case 'X': put_operand(w, s->x); break;
		case 'Y': put_operand(w, s->y); break;
		case 'N': put(w, "%d", c->count); break;
		case 'M': put(w, "%d", c->count - 1); break;
		case 'C': put_saying(w, &c->cond, 1); break;
		case 'S': put_saying(w, &c->step[0], 3); break;
		case 'E': put_saying(w, &c->step[1], 4); break;
		case 'B': put_body(w); break;
		default: put(w, "%c", *t);
		}
	}
}

static void put_clause(struct writer *w, const struct plan *p, int i)
{
	w->clause = &p->clause[i];
	w->base = SITES_PER_CLAUSE * (unsigned)i;
	if (w->clause->form == CLAUSE_STEP) put_saying(w, &w->clause->step[0], 3);
	else put_saying(w, &w->clause->whole, 0);
}

void plan_text(const struct plan *p, char text[PLAN_TEXT_MAX])
{
	struct writer w = { .text = text };
	for (int i = 0; i < p->clauses; i++) {
		int plain = i && p->clause[i].form == CLAUSE_STEP && p->clause[i - 1].form == CLAUSE_STEP;
		if (i) put(&w, plain ? ", then " : "; ");
		put_clause(&w, p, i);
	}
	put(&w, "\n");
}

void plan_program(const struct plan *p, uint32_t slips, int omit, char text[PLAN_TEXT_MAX])
{
	struct writer w = { .text = text, .program = 1, .slips = slips };
	for (int i = 0; i < p->clauses; i++) {
		if (i == omit) continue;
		if (w.n) put(&w, " ");
		put_clause(&w, p, i);
	}
}

static uint32_t site_bit(const struct saying *s, unsigned site)
{
	return s->what && s->how->slip ? 1u << site : 0;
}

uint32_t plan_sites(const struct plan *p)
{
	uint32_t sites = 0;
	for (int i = 0; i < p->clauses; i++) {
		const struct clause *c = &p->clause[i];
		unsigned base = SITES_PER_CLAUSE * (unsigned)i;
		sites |= site_bit(&c->whole, base) | site_bit(&c->cond, base + 1) | site_bit(&c->inner, base + 2);
		for (int k = 0; k < c->steps; k++) sites |= site_bit(&c->step[k], base + 3 + (unsigned)k);
	}
	return sites;
}

void plan_structure(const char *program, char key[PLAN_TEXT_MAX])
{
	size_t n = 0;
	for (const char *s = program; *s;) {
		size_t len = strcspn(s, " ");
		CHECK(n + len + 2 <= PLAN_TEXT_MAX, "structure of a stack program is too long");
		int digit = s[0] >= '0' && s[0] <= '9', input = len == 1 && s[0] >= 'a' && s[0] <= 'c';
		if (digit) key[n++] = 'n';
		else if (input) key[n++] = 'x';
		else memcpy(key + n, s, len), n += len;
		s += len;
		if (*s == ' ') key[n++] = *s++;
	}
	key[n] = 0;
}
