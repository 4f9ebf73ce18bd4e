/* What the record costs a step: a benchmark with rows of a usual step, timed
 * from begin to commit, plus the metrics after it; then the same steps replayed.
 *
 * Contents are made from counters, not drawn: the time does not depend on them.
 * Every step differs, as in a run, so that pages are new and the WAL is folded
 * back as often as it would be. The aim is below 0.1 % of a step's time. */
#include "store/internal.h"

#include "core/base/arena.h"
#include "core/base/fs.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 64, GROUPS = 32, CANDIDATES = 10, PROMPT = 40, RESPONSE = 12, TERMS = 2, LAYERS = 4, PER_TOKEN = 6, METRICS = 40 };

static const char bench_prompt[] = "add a and b, then multiply by c; if the result is negative return 0";

static void group_fill(struct group *g, struct arena *a)
{
	enum { N = CANDIDATES * RESPONSE };
	int32_t *tokens = arena_must(a, PROMPT + N, sizeof *tokens);
	float *logprobs = arena_must(a, N, sizeof *logprobs), *scores = arena_must(a, TERMS * CANDIDATES, sizeof *scores);
	float *reward = arena_must(a, CANDIDATES, sizeof *reward);
	uint16_t *experts = arena_must(a, (size_t)N * LAYERS * PER_TOKEN, sizeof *experts);
	for (int i = 0; i < PROMPT + N; i++) tokens[i] = i % 512;
	for (int i = 0; i < N; i++) logprobs[i] = -(float)(i % 17) / 7;
	for (int i = 0; i < N * LAYERS * PER_TOKEN; i++) experts[i] = (uint16_t)(i % 64);
	*g = (struct group){ .size = CANDIDATES, .prompt_tokens = PROMPT, .tokens = tokens, .logprobs = logprobs, .moe_layers = LAYERS,
		             .experts_per_token = PER_TOKEN, .experts = experts, .prompt_text = bench_prompt, .terms = TERMS,
		             .term_name = { "verifier", "length" }, .scores = scores, .reward = reward, .scorer_version = "bench" };
	for (int i = 0; i < CANDIDATES; i++) {
		g->length[i] = RESPONSE;
		g->text[i] = "a b add c mul dup 0 lt if drop 0 then";
		reward[i] = (float)(i * 7 % CANDIDATES) / 9;
		scores[i] = reward[i];
		scores[CANDIDATES + i] = -RESPONSE;
	}
}

static int step_put(struct store *s, uint64_t step, struct group *g, double *seconds, struct err *e)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char name[METRICS][16];
	const char *names[METRICS];
	double values[METRICS], began;
	struct store_reference references[GROUPS];
	int rc;
	for (int i = 0; i < METRICS; i++) {
		snprintf(name[i], sizeof name[i], "bench/%c", letters[i]);
		names[i] = name[i];
		values[i] = (double)step / (i + 3);
	}
	for (uint32_t slot = 0; slot < GROUPS; slot++) references[slot] = (struct store_reference){ slot, g->logprobs, CANDIDATES * RESPONSE };
	began = fs_now();
	TRY(store_step_begin(s, step, step, e));
	for (uint32_t slot = 0; slot < GROUPS; slot++) {
		g->step = g->policy_version = step;
		g->slot = slot;
		TRY(store_put_group(s, g, e));
	}
	TRY(store_step_commit(s, e));
	TRY(store_put_references(s, step, references, GROUPS, e));
	TRY(store_put_metrics(s, step, names, values, METRICS, e));
	*seconds = fs_now() - began;
out:
	return rc;
}

static int double_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int steps_put(struct store *s, struct group *g, double *median, double *worst, struct err *e)
{
	double seconds[STEPS];
	int rc = 0;
	for (uint64_t k = 0; k < STEPS && rc == 0; k++) rc = step_put(s, k, g, &seconds[k], e);
	if (rc < 0) return rc;
	qsort(seconds, STEPS, sizeof *seconds, double_order);
	*median = seconds[STEPS / 2] * 1e3;
	*worst = seconds[STEPS - 1] * 1e3;
	return 0;
}

int store_bench(const char *dir, struct store_bench *b, struct err *e)
{
	char folder[PATH_MAX], path[PATH_MAX + 8];
	struct store *s = NULL;
	struct arena *a = arena_open(0);
	struct group g;
	struct stat st;
	double ignored;
	int rc;
	*b = (struct store_bench){ .steps = STEPS, .groups = GROUPS, .candidates = CANDIDATES };
	if (snprintf(folder, sizeof folder, "%s/bench-store-%ld", dir, (long)getpid()) >= (int)sizeof folder) folder[0] = 0;
	TRY(fs_mkdirs(folder, e));
	snprintf(path, sizeof path, "%s/run.db", folder);
	group_fill(&g, a);
	TRY(store_open(&s, path, &(struct store_options){ .writer = 1 }, e));
	TRY(store_put_prompts(s, &(struct store_prompt){ 0, bench_prompt, NULL }, 1, e));
	TRY(steps_put(s, &g, &b->ms_per_step, &b->ms_worst, e));
	TRY(steps_put(s, &g, &b->ms_replay, &ignored, e));
	store_close(s);
	s = NULL;
	b->rows_per_step = 1 + GROUPS * (1 + CANDIDATES * (1 + TERMS) + 1 + 1) + METRICS + 1;
	b->rows_per_second = b->rows_per_step / (b->ms_per_step / 1e3);
	if (stat(path, &st) == 0) b->bytes_per_step = (double)st.st_size / STEPS;
out:
	store_close(s);
	arena_close(a);
	if (folder[0]) {
		struct err removing;
		int removed = fs_remove_tree(folder, &removing);
		if (rc == 0 && removed < 0) rc = err_set(e, removed, "%s", removing.msg);
	}
	return rc;
}
