/* Generates and verifies the tasks of the stack language; see stack_task.h.
 *
 * Task i of a split has level 1 + i mod levels and a stream of draws of its own:
 * plans are drawn from it until one is accepted, so a task depends on the tasks
 * before it only by being distinct from them. */
#include "reward/stack_set.h"

#include <stdlib.h>
#include <string.h>

enum {
	HELDOUT_ONE_IN = 5,
	ATTEMPTS_MAX = 5000, /* plans tried for one task */
	INPUT_DRAWS = 6,      /* sets of test inputs tried for one plan */
	WORDS_MIN = 5,        /* of a description */
	WORDS_MAX = 34,
};

/* A set of 64-bit hashes: open addressing, at most half full. */
struct seen {
	uint64_t *slot;
	size_t mask;
};

static int seen_open(struct seen *s, size_t entries)
{
	size_t size = 16;
	while (size < 2 * entries) size *= 2;
	s->mask = size - 1;
	s->slot = calloc(size, sizeof *s->slot);
	return s->slot ? 0 : -1;
}

/* Puts the text in when `add`; returns whether it was there. */
static int seen_text(struct seen *s, const char *text, int add)
{
	uint64_t h = hash_u64(text, strlen(text)) | 1;
	size_t i = (h >> 8) & s->mask;
	for (; s->slot[i]; i = (i + 1) & s->mask)
		if (s->slot[i] == h) return 1;
	if (add) s->slot[i] = h;
	return 0;
}

static int is_heldout(const char *structure)
{
	return hash_u64(structure, strlen(structure)) % HELDOUT_ONE_IN == 0;
}

static uint32_t count_words(const char *s)
{
	uint32_t n = 0;
	for (int in = 0; *s; s++) {
		int space = *s == ' ' || *s == '\n';
		if (!space && !in) n++;
		in = !space;
	}
	return n;
}

float stack_verify(const struct stack_task *t, const char *program)
{
	struct stack_program p;
	if (stack_compile(&p, program)) return 0;
	uint32_t passed = 0;
	for (uint32_t i = 0; i < t->cases; i++) {
		int64_t v;
		passed += !stack_run(&p, t->tests[i].in, &v, NULL) && v == t->tests[i].out;
	}
	return (float)passed / (float)t->cases;
}

int stack_passes(const struct stack_task *t, const char *program)
{
	return stack_verify(t, program) >= 1.0f;
}

static int32_t draw_input(struct draws *d)
{
	uint32_t r = draw_below(d, 100);
	if (r < 12) return 0;
	int32_t limit = r < 70 ? 9 : 30;
	return (int32_t)draw_below(d, (uint32_t)(2 * limit + 1)) - limit;
}

/* Runs the reference on fresh inputs into tests[n]; 0 when they suit: no failure, outputs that vary, and each arm of
 * each conditional entered by an eighth of the tests (at least one; a single test exercises what it can). */
static int draw_tests(const struct stack_program *p, struct draws *d, struct stack_case *tests, uint32_t n)
{
	uint32_t arms[2][32] = { { 0 } }, ifs = 0, all = 0, need = n >= 2 ? (n + 7) / 8 : 0;
	for (uint32_t i = 0; i < n; i++) {
		struct stack_trace trace;
		int64_t v;
		for (int k = 0; k < STACK_INPUTS; k++) tests[i].in[k] = draw_input(d);
		if (stack_run(p, tests[i].in, &v, &trace)) return -1;
		tests[i].out = (int32_t)v;
		all |= trace.taken | trace.skipped;
		for (uint32_t k = 0; k < 32; k++) {
			arms[0][k] += trace.taken >> k & 1;
			arms[1][k] += trace.skipped >> k & 1;
		}
	}
	for (uint32_t k = 0; k < 32; k++) ifs += all >> k & 1;
	for (uint32_t k = 0; k < ifs; k++)
		if (arms[0][k] < need || arms[1][k] < need) return -1;
	uint32_t distinct = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = 0;
		while (k < i && tests[k].out != tests[i].out) k++;
		distinct += k == i;
	}
	return distinct >= (n + 3) / 4 ? 0 : -1;
}

/* Whether the tests notice every omitted clause, every single misreading and the three shortest programs. */
static int tests_tell(const struct plan *plan, const struct stack_task *t)
{
	char text[PLAN_TEXT_MAX];
	if (stack_passes(t, "a") || stack_passes(t, "b") || stack_passes(t, "c")) return 0;
	for (int i = 1; i < plan->clauses; i++) {
		plan_program(plan, 0, i, text);
		if (stack_passes(t, text)) return 0;
	}
	for (uint32_t left = plan_sites(plan); left; left &= left - 1) {
		plan_program(plan, left & -left, -1, text);
		if (stack_passes(t, text)) return 0;
	}
	return 1;
}

/* One attempt at a task; 0 when accepted. Texts go into the arena only then. */
static int try_task(struct stack_task_set *s, enum stack_split split, struct draws *d, int level, struct seen *seen,
		    struct plan *plan, struct stack_task *t, struct stack_case *tests)
{
	char program[PLAN_TEXT_MAX], key[PLAN_TEXT_MAX], prompt[PLAN_TEXT_MAX];
	struct stack_program compiled;
	plan_draw(plan, level, d);
	plan_program(plan, 0, -1, program);
	plan_structure(program, key);
	if (is_heldout(key) != (split == STACK_HELDOUT) || seen_text(seen, program, 0)) return -1;
	plan_text(plan, prompt);
	uint32_t words = count_words(prompt);
	if (words < WORDS_MIN || words > WORDS_MAX || seen_text(seen, prompt, 0)) return -1;
	enum stack_status status = stack_compile(&compiled, program);
	CHECK(status == STACK_OK, "reference program \"%s\": %s", program, stack_status_name(status));
	int tries = 0;
	while (draw_tests(&compiled, d, tests, t->cases))
		if (++tries == INPUT_DRAWS) return -1;
	t->tests = tests;
	if (!tests_tell(plan, t)) return -1;
	seen_text(seen, program, 1);
	seen_text(seen, prompt, 1);
	t->level = level;
	t->loose = plan->loose;
	t->prompt = arena_strdup(s->arena, prompt);
	t->program = arena_strdup(s->arena, program);
	t->structure = arena_strdup(s->arena, key);
	return 0;
}

static int make_split(struct stack_task_set *s, enum stack_split split, const struct config_task *cfg, struct seen *seen,
		      struct err *e)
{
	uint32_t cases = (uint32_t)cfg->tests;
	struct plan scratch;
	for (uint32_t i = 0; i < s->count[split]; i++) {
		struct draws d = { .key = { s->seed, RNG_TASK }, .a = split == STACK_TRAIN ? STREAM_TRAIN : STREAM_HELDOUT, .b = i };
		struct stack_case *tests = arena_must(s->arena, cases, sizeof *tests);
		struct plan *plan = split == STACK_TRAIN ? &s->plan[i] : &scratch;
		int level = 1 + (int)(i % (uint32_t)cfg->levels), tries = 0;
		s->task[split][i].cases = cases;
		while (try_task(s, split, &d, level, seen, plan, &s->task[split][i], tests))
			if (++tries == ATTEMPTS_MAX)
				return err_set(e, ERR_RANGE,
					       "stack task: no more distinct %s tasks of level %d after %u of %u: lower task.%s or raise task.levels",
					       split == STACK_TRAIN ? "training" : "held-out", level, i, s->count[split],
					       split == STACK_TRAIN ? "train" : "heldout");
	}
	return 0;
}

int stack_task_set_open(struct stack_task_set **out, const struct config_task *cfg, struct err *e)
{
	int rc = 0;
	struct seen seen = { 0 };
	struct stack_task_set *s = NULL;
	*out = NULL;
	if (cfg->levels < 1 || cfg->levels > PLAN_LEVELS)
		return err_set(e, ERR_RANGE, "task.levels is %lld: the stack task has levels 1 to %d", (long long)cfg->levels, PLAN_LEVELS);
	if (cfg->train < 1 || cfg->heldout < 0 || cfg->supervised < 0 || cfg->train + cfg->heldout + cfg->supervised > 100000000)
		return err_set(e, ERR_RANGE, "task.train, task.heldout and task.supervised must be at least 1, 0 and 0, together at most 1e8");
	if (cfg->tests < 1 || cfg->tests > 256 || !(cfg->wrong >= 0 && cfg->wrong <= 1))
		return err_set(e, ERR_RANGE, "task.tests must be 1 to 256 and task.wrong 0 to 1");
	s = calloc(1, sizeof *s);
	if (!s || seen_open(&seen, (size_t)(2 * (cfg->train + cfg->heldout)))) {
		rc = err_set(e, ERR_MEMORY, "out of memory for %lld stack tasks", (long long)(cfg->train + cfg->heldout));
		goto out;
	}
	s->arena = arena_open(0);
	s->seed = (uint64_t)cfg->seed;
	s->count[STACK_TRAIN] = (uint32_t)cfg->train;
	s->count[STACK_HELDOUT] = (uint32_t)cfg->heldout;
	for (int k = 0; k < 2; k++) s->task[k] = arena_must(s->arena, s->count[k], sizeof *s->task[k]);
	s->plan = arena_must(s->arena, s->count[STACK_TRAIN], sizeof *s->plan);
	TRY(make_split(s, STACK_TRAIN, cfg, &seen, e));
	TRY(make_split(s, STACK_HELDOUT, cfg, &seen, e));
	stack_examples_make(s, (uint32_t)cfg->supervised, cfg->wrong);
	*out = s;
	s = NULL;
out:
	free(seen.slot);
	stack_task_set_close(s);
	return rc;
}

void stack_task_set_close(struct stack_task_set *s)
{
	if (!s) return;
	arena_close(s->arena);
	free(s);
}

uint32_t stack_task_set_count(const struct stack_task_set *s, enum stack_split split)
{
	return s->count[split];
}

const struct stack_task *stack_task_set_get(const struct stack_task_set *s, enum stack_split split, uint32_t i)
{
	CHECK(i < s->count[split], "task %u of %u", i, s->count[split]);
	return &s->task[split][i];
}

uint32_t stack_task_set_examples(const struct stack_task_set *s)
{
	return s->examples;
}

const struct stack_example *stack_task_set_example(const struct stack_task_set *s, uint32_t i)
{
	CHECK(i < s->examples, "example %u of %u", i, s->examples);
	return &s->example[i];
}

void stack_task_set_digest(const struct stack_task_set *s, char hex[HASH_HEX])
{
	struct hash_stream *h = hash_stream_open();
	for (int k = 0; k < 2; k++) {
		for (uint32_t i = 0; i < s->count[k]; i++) {
			const struct stack_task *t = &s->task[k][i];
			hash_stream_add(h, &t->level, sizeof t->level);
			hash_stream_add(h, t->prompt, strlen(t->prompt) + 1);
			hash_stream_add(h, t->program, strlen(t->program) + 1);
			hash_stream_add(h, t->tests, t->cases * sizeof *t->tests);
		}
	}
	for (uint32_t i = 0; i < s->examples; i++) {
		hash_stream_add(h, s->example[i].prompt, strlen(s->example[i].prompt) + 1);
		hash_stream_add(h, s->example[i].completion, strlen(s->example[i].completion) + 1);
	}
	hash_stream_finish(h, hex);
}
