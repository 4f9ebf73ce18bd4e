/* The loop and its plumbing; see bench_sections.h. */
#include "app/bench_sections.h"

#include "core/base/fs.h"
#include "reward/bench.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

int bench_context_loop(struct bench_context *c, struct err *e)
{
	return c->loop ? 0 : bench_loop_open(&c->loop, c->config, c->all, &c->peak, c->groups, e);
}

void bench_put_time(json_t *row, const char *key, const struct bench_time *t)
{
	char name[64], text[96];
	const struct { const char *suffix; double seconds; } list[] = {{"ms", t->median}, {"ms_min", t->least}, {"ms_max", t->greatest}};
	for (int i = 0; i < COUNT(list); i++) {
		snprintf(name, sizeof name, "%s%s%s", key, *key ? "_" : "", list[i].suffix);
		json_object_set_new(row, name, json_real(1e3 * list[i].seconds));
	}
	snprintf(name, sizeof name, "%s%stime", key, *key ? "_" : "");
	snprintf(text, sizeof text, "%.4g (%.4g–%.4g)", 1e3 * t->median, 1e3 * t->least, 1e3 * t->greatest);
	json_object_set_new(row, name, json_string(text));
}

static const struct bench_column part_columns[] = {
	{"what", "what", "%s"}, {"time", "time, ms", "%s"}, {"limit_ms", "limit, ms", "%.2f"}, {"eta", "η", "%.2f"}, {"tokens", "tokens", "%.0f"},
	{"tokens_per_second", "tokens/s", "%.0f"}, {"mfu", "MFU, %", "%.1f"}, {"floor", "floor of η", "%.2f"}, {"aim", "aim", "%.2f"},
};

static json_t *part_row(const struct bench_context *c, const char *what, const struct bench_part *p)
{
	double s = p->time.median;
	json_t *row = json_pack("{s:s}", "what", what);
	if (p->tokens > 0) {
		json_object_set_new(row, "tokens", json_real(p->tokens));
		json_object_set_new(row, "tokens_per_second", json_real(p->tokens / s));
	}
	bench_put_time(row, "", &p->time);
	if (p->limit > 0) {
		json_object_set_new(row, "limit_ms", json_real(1e3 * p->limit));
		json_object_set_new(row, "eta", json_real(p->limit / s));
	}
	if (p->flop > 0) json_object_set_new(row, "mfu", json_real(100 * p->flop / (s * c->peak.gflops_all * 1e9)));
	return row;
}

static int run_generate(struct bench_context *c, json_t *rows, struct err *e)
{
	const struct { int groups, completions; const char *what; } list[] = {
		{1, 1, "1 in flight"}, {1, 10, "10 in flight (1 group)"}, {32, 10, "320 in flight (32 groups)"}};
	int rc = bench_context_loop(c, e);
	for (int i = 0; i < COUNT(list) && rc == 0; i++) {
		struct bench_part p;
		if (list[i].groups > c->groups) continue;
		rc = bench_generate(c->loop, list[i].groups, list[i].completions, c->quick ? 2 : 9, &p, e);
		if (rc == 0) json_array_append_new(rows, part_row(c, list[i].what, &p));
	}
	return rc;
}

static int run_score(struct bench_context *c, json_t *rows, struct err *e)
{
	int rc = bench_context_loop(c, e);
	for (int64_t n = 1; n <= c->groups && rc == 0; n = n < 8 ? 8 : n * 4) {
		struct bench_part p;
		char what[64];
		rc = bench_score(c->loop, (int)n, c->quick ? 2 : 9, &p, e);
		snprintf(what, sizeof what, "%lld group%s", (long long)n, n == 1 ? "" : "s");
		if (rc == 0) json_array_append_new(rows, part_row(c, what, &p));
	}
	return rc;
}

static int run_iteration(struct bench_context *c, json_t *rows, struct err *e)
{
	struct bench_iteration it;
	int rc = bench_context_loop(c, e);
	if (rc == 0) rc = bench_iterate(c->loop, c->quick ? 1 : 7, &it, e);
	if (rc < 0) return rc;
	c->iteration_seconds = it.all.time.median;
	json_array_append_new(rows, part_row(c, "generation", &it.generate));
	json_array_append_new(rows, part_row(c, "rewards by the verifier", &it.reward));
	json_array_append_new(rows, part_row(c, "scoring: recomputation, reference, advantages", &it.score));
	json_array_append_new(rows, part_row(c, "update: forward, backward, AdamW", &it.update));
	json_t *all = part_row(c, "the whole iteration", &it.all);
	json_object_set_new(all, "floor", json_real(0.3));
	json_object_set_new(all, "aim", json_real(0.75));
	const struct { const char *key; double value; } counts[] = {
		{"F_gflops", c->peak.gflops_all}, {"BW_gbs", c->peak.memory_gbs}, {"parameters_active", it.policy.trunk + it.policy.head},
		{"parameters_total", it.policy.total}, {"groups", (double)it.groups}, {"completions", (double)it.completions},
		{"prompt_tokens", it.prompt_tokens / (double)it.groups}, {"response_tokens", it.response_tokens / (double)(it.groups * it.completions)},
		{"T", it.rows}, {"epochs", (double)c->config->ppo.epochs}, {"minibatches", (double)c->config->ppo.minibatches},
		{"t_gen_ms", 1e3 * it.limits.generate}, {"t_score_ms", 1e3 * it.limits.score}, {"t_update_ms", 1e3 * it.limits.update},
		{"t_opt_ms", 1e3 * it.limits.optimise}, {"t_sync_ms", 1e3 * it.limits.sync}};
	json_t *values = json_object();
	for (int i = 0; i < COUNT(counts); i++) json_object_set_new(values, counts[i].key, json_real(counts[i].value));
	json_object_set_new(all, "counts", values);
	json_array_append_new(rows, all);
	return 0;
}

static const struct bench_column overhead_columns[] = {
	{"transport", "transport", "%s"}, {"p50_us", "p50, µs", "%.0f"}, {"goal_us", "aim, µs", "%.0f"}, {"p99_us", "p99, µs", "%.0f"},
	{"groups_per_second", "groups/s, 64 under way", "%.0f"},
};

static int run_overhead(struct bench_context *c, json_t *rows, struct err *e)
{
	struct reward_bench b;
	int rc = reward_bench_run(&b, c->quick ? 50 : 3000, e);
	for (int i = 0; i < REWARD_BENCH_TRANSPORTS && rc == 0; i++)
		json_array_append_new(rows, json_pack("{s:s,s:f,s:f,s:f,s:f}", "transport", b.transport[i].name, "p50_us", b.transport[i].p50_us, "goal_us",
						      b.transport[i].goal_us, "p99_us", b.transport[i].p99_us, "groups_per_second", b.transport[i].groups_per_second));
	return rc;
}

static const struct bench_column store_columns[] = {
	{"groups", "groups a step", "%.0f"}, {"rows", "rows", "%.0f"}, {"kib", "KiB", "%.0f"}, {"ms", "ms", "%.2f"}, {"worst_ms", "worst", "%.2f"},
	{"rows_per_second", "rows/s", "%.0f"}, {"share", "% of the iteration", "%.2f"}, {"aim", "aim", "%.1f"}, {"replay_ms", "compared again, ms", "%.2f"},
};

static int run_store(struct bench_context *c, json_t *rows, struct err *e)
{
	const char *base = getenv("TMPDIR");
	char dir[512];
	struct store_bench b;
	snprintf(dir, sizeof dir, "%.400s/tenfold-bench-XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(dir)) return err_set(e, ERR_IO, "cannot make the folder %s for the store's benchmark; set TMPDIR", dir);
	int rc = store_bench(dir, &b, e);
	fs_remove_tree(dir, NULL);
	if (rc < 0) return rc;
	json_t *row = json_pack("{s:i,s:f,s:f,s:f,s:f,s:f,s:f}", "groups", (int)b.groups, "rows", b.rows_per_step, "kib", b.bytes_per_step / 1024, "ms",
				b.ms_per_step, "worst_ms", b.ms_worst, "rows_per_second", b.rows_per_second, "replay_ms", b.ms_replay);
	json_object_set_new(row, "aim", json_real(0.1));
	/* an iteration of another size stands for its own number of groups */
	if (c->iteration_seconds > 0)
		json_object_set_new(row, "share", json_real(0.1 * b.ms_per_step / (c->iteration_seconds * (double)b.groups / (double)c->groups)));
	return json_array_append_new(rows, row);
}

const struct bench_section bench_parts[] = {
	{"generation", "Generation",
	 "Prompts of the stack task completed by a random model to the length limit; one generator, all threads. η is the limit t_gen over the time.",
	 part_columns, COUNT(part_columns), run_generate},
	{"scoring", "Scoring", "One forward with log-probabilities over groups of ten, prompts once a group.", part_columns, COUNT(part_columns), run_score},
	{"iteration", "The whole iteration",
	 "Generator and learner in one process on the stack task, rewards by the verifier. Floor η = 0.3, aim 0.75.", part_columns, COUNT(part_columns),
	 run_iteration},
	{"overhead", "Overhead of a scored group",
	 "From handing a group of ten completions of 256 tokens to the client until it is back with its scores, one at a time; the service is in a thread of\n"
	 "its own and its scorer does nothing. Aim p50: 100, 150, 200 µs; p99 at most twice that.", overhead_columns, COUNT(overhead_columns), run_overhead},
	{"store", "The record",
	 "One step of 32 groups of ten committed to a new database, and its 40 metrics. Aim: below 0.1 % of an iteration of as many groups.", store_columns,
	 COUNT(store_columns), run_store},
};
const int bench_parts_count = COUNT(bench_parts);
