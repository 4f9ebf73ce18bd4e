/* What `tenfold bench` says: tables for people, and the head of
 * docs/benchmarks.md with the method and the formulas. */
#include "app/bench_sections.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef TENFOLD_VERSION
#define TENFOLD_VERSION "unknown"
#endif

static void processor_name(char *out, size_t bytes)
{
	char line[512];
	FILE *f = fopen("/proc/cpuinfo", "re");
	snprintf(out, bytes, "unknown");
	while (f && fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon) continue;
		snprintf(out, bytes, "%s", colon + 1 + strspn(colon + 1, " \t"));
		out[strcspn(out, "\n")] = 0;
		break;
	}
	if (f) fclose(f);
}

json_t *bench_machine(const struct bench_context *c)
{
	char name[256], date[32];
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%Y-%m-%d", &tm);
	processor_name(name, sizeof name);
	return json_pack("{s:s,s:s,s:s,s:I,s:i,s:s,s:s}", "version", TENFOLD_VERSION, "date", date, "processor", name, "processors",
			 (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "threads", c->peak.threads, "kernels", backend_ops(c->all)->name, "compiler", __VERSION__);
}

static void print_value(FILE *f, const struct bench_column *c, const json_t *v)
{
	if (json_is_string(v)) fputs(json_string_value(v), f);
	else if (json_is_number(v)) fprintf(f, c->format, json_number_value(v));
	else fputs("–", f);
}

/* The numbers a row was made from. */
static void print_counts(FILE *f, const json_t *counts)
{
	const char *key;
	json_t *v;
	fputs("\n| count | value |\n|---|---|\n", f);
	json_object_foreach((json_t *)counts, key, v) fprintf(f, "| %s | %.6g |\n", key, json_number_value(v));
}

static int column_used(const struct bench_column *c, const json_t *rows)
{
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row) if (json_object_get(row, c->key)) return 1;
	return 0;
}

void bench_print_table(FILE *f, const struct bench_section *s, const json_t *rows)
{
	size_t i;
	json_t *row;
	for (int k = 0; k < s->count; k++) if (column_used(&s->columns[k], rows)) fprintf(f, "| %s ", s->columns[k].head);
	fputs("|\n", f);
	for (int k = 0; k < s->count; k++) if (column_used(&s->columns[k], rows)) fputs(strcmp(s->columns[k].format, "%s") ? "|---:" : "|---", f);
	fputs("|\n", f);
	json_array_foreach(rows, i, row) {
		for (int k = 0; k < s->count; k++) {
			if (!column_used(&s->columns[k], rows)) continue;
			fputs("| ", f);
			print_value(f, &s->columns[k], json_object_get(row, s->columns[k].key));
			fputc(' ', f);
		}
		fputs("|\n", f);
	}
	json_array_foreach(rows, i, row) if (json_object_get(row, "counts")) print_counts(f, json_object_get(row, "counts"));
}

static const char method[] =
	"## Method\n\n"
	"Every figure is the median of many repetitions after a warm-up; in brackets the least and the greatest. Limits are measured in the same run, so\n"
	"shares hold on other machines where absolute figures do not. \"Peak\" of one thread or of all is meant as the column `threads` says.\n\n"
	"The limit of one iteration, for B prompts, their completions, E epochs and M minibatches, is\n\n"
	"```\n"
	"t_gen    = 2·N_p·B·P/F + Σ_s max(bytes(n, s)/BW, 2·N_p·n/F)    n completions still running at position s\n"
	"bytes    = 4·(dense + L·E·(1 − (1 − k/E)^n)·expert + keys and values read)    of weights 2, on a CPU in bf16\n"
	"t_score  = 2·(N_ref + N_critic)·T/F + 2·N_p·T/F                 reference, critic, recomputed log-probabilities\n"
	"t_update = E·6·(N_p + N_v)·T/F                                  forward 2, backward 4\n"
	"t_opt    = E·M·(N_p + N_v in all)·28 B/BW                       AdamW in f32\n"
	"t_sync   = 0                                                    weights are shared\n"
	"attention adds 4·L·H·d for each visible key of a row (2·L·H·d_h·S a token on average), three times that with its backward\n"
	"η        = (t_gen + t_score + t_update + t_opt + t_sync) / t_measured\n"
	"```\n\n"
	"F: multiply-adds of all threads; BW: bandwidth of all threads; N: parameters that one token multiplies with (chosen and shared experts; embeddings\n"
	"are looked up and count nothing; the vocabulary's matrix counts at predicting rows only); T: rows, each prompt once for its group, completions\n"
	"without their last token. MFU is the useful FLOP over the time and F. The counts behind each η stand below its table. A run's own η, over all of its\n"
	"steps with processes, network and record, is `eta` in its summary.json.\n";

void bench_print_machine(FILE *f, const json_t *m)
{
	fprintf(f, "%s: %s, %lld processors, %lld threads, kernels %s, compiler %s, version %s.\n", json_string_value(json_object_get(m, "date")),
		json_string_value(json_object_get(m, "processor")), (long long)json_integer_value(json_object_get(m, "processors")),
		(long long)json_integer_value(json_object_get(m, "threads")), json_string_value(json_object_get(m, "kernels")),
		json_string_value(json_object_get(m, "compiler")), json_string_value(json_object_get(m, "version")));
}

void bench_print_head(FILE *f, const json_t *result)
{
	const char *config = json_string_value(json_object_get(result, "configuration"));
	fprintf(f, "# Benchmarks\n\nMade by `tenfold bench --config %s --update docs/benchmarks.md` on a machine that does nothing else. Sections do not depend on each\n"
		   "other: one that is not measured stays as it was, with its date and machine.\n\n", config);
	fputs(method, f);
}
