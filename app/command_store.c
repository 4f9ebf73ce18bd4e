/* Commands over a run's database: digest, diff, export. */
#include "app/commands.h"
#include "app/options.h"
#include "app/run_folder.h"
#include "core/base/fs.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prints and frees. */
static int print_json(json_t *j, struct err *e)
{
	char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(j);
	if (!text) return err_set(e, ERR_MEMORY, "no memory for the JSON output");
	puts(text);
	free(text);
	return 0;
}

int command_digest(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	int json = 0;
	const struct option table[] = {OPTION_JSON(&json)};
	const struct options_use use = {
		.line = "digest RUN [--json]",
		.about = "Prints a hash over everything exact that the run recorded: prompts, groups, log-probabilities, scores,\n"
			 "comparisons, metrics, events, evaluations; not times and rates. Runs of one configuration and seed have\n"
			 "one digest, whatever the number of workers, services and threads.",
		.table = table,
		.count = 1,
		.at_least = 1,
		.at_most = 1,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	struct run_folder run;
	char hex[HASH_HEX];
	rc = run_folder_open(&run, rest.item[0], e);
	if (rc == 0) rc = store_digest(run.store, hex, e);
	if (rc == 0 && json) rc = print_json(json_pack("{s:s,s:s}", "run", run.name, "digest", hex), e);
	else if (rc == 0) puts(hex);
	run_folder_close(&run);
	return rc;
}

static int print_difference(const struct store_difference *d, int json, struct err *e)
{
	if (json)
		return print_json(d->found ? json_pack("{s:b,s:s,s:I,s:I,s:s,s:s,s:s,s:s,s:s}", "identical", 0, "stage", d->stage, "step",
							      (json_int_t)d->step, "same_through", (json_int_t)d->same_through, "table", d->table, "row", d->row,
							      "column", d->column, "a", d->a, "b", d->b)
					   : json_pack("{s:b,s:I}", "identical", 1, "same_through", (json_int_t)d->same_through),
			e);
	if (!d->found) {
		puts("identical: every exact row is the same");
		return 0;
	}
	const char *stage = *d->stage ? d->stage : "prompts";
	if (d->same_through >= 0) printf("%s: identical through step %lld\n", stage, (long long)d->same_through);
	else printf("%s: differ from the start\n", stage);
	printf("first difference: %s, %s%s%s\n  a: %s\n  b: %s\n", d->table, d->row, *d->column ? ", " : "", d->column, d->a, d->b);
	return 0;
}

int command_diff(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	int json = 0;
	const struct option table[] = {OPTION_JSON(&json)};
	const struct options_use use = {
		.line = "diff RUN RUN [--json]",
		.about = "Says up to which step two runs are identical, bit for bit, and what the first difference is. Times and\n"
			 "rates are not compared. Exit status: 0 identical, 4 different.",
		.table = table,
		.count = 1,
		.at_least = 2,
		.at_most = 2,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	struct run_folder a = {0}, b = {0};
	struct store_difference d = {0};
	TRY(run_folder_open(&a, rest.item[0], e));
	TRY(run_folder_open(&b, rest.item[1], e));
	TRY(store_diff(a.store, b.store, &d, e));
	TRY(print_difference(&d, json, e));
	rc = d.found ? err_exit_status(ERR_MISMATCH) : 0;
out:
	run_folder_close(&a);
	run_folder_close(&b);
	return rc;
}

struct export {
	const char *format, *out, *stage, *source;
};

static int export_text(struct store *s, const struct export *x, FILE *f, struct err *e)
{
	static const struct {
		const char *name;
		enum store_pairs_format format;
	} pairs[] = {{"csv", STORE_PAIRS_CSV}, {"trl", STORE_PAIRS_TRL}, {"hh", STORE_PAIRS_HH}};
	uint64_t count = 0;
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		if (strcmp(x->format, pairs[i].name)) continue;
		int rc = store_export_pairs(s, pairs[i].format, x->stage, x->source, f, &count, e);
		if (rc == 0) fprintf(stderr, "%llu pairs\n", (unsigned long long)count);
		return rc;
	}
	if (!strcmp(x->format, "metrics")) return store_export_metrics(s, f, e);
	return err_set(e, ERR_RANGE, "--format takes csv, trl, hh, metrics or tensorboard, not '%.100s'", x->format);
}

/* Into memory first, then in one piece into the file: no half-written export is left behind. */
static int export_file(struct store *s, const struct export *x, struct err *e)
{
	if (!x->out) return export_text(s, x, stdout, e);
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);
	if (!f) return err_set(e, ERR_MEMORY, "no memory for the export");
	int rc = export_text(s, x, f, e);
	if (fclose(f) != 0 && rc == 0) rc = err_set(e, ERR_MEMORY, "no memory for the export");
	if (rc == 0) rc = fs_write_atomic(x->out, text, bytes, e);
	free(text);
	return rc;
}

int command_export(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	struct export x = {.format = "csv"};
	const struct option table[] = {
		{"format", OPTION_TEXT, &x.format, "NAME", "csv, trl, hh: comparisons as pairs; metrics: CSV; tensorboard: event files. Default csv."},
		{"out", OPTION_TEXT, &x.out, "PATH", "File to write, or folder for tensorboard; default: standard output."},
		{"stage", OPTION_TEXT, &x.stage, "NAME", "Pairs of this stage only."},
		{"source", OPTION_TEXT, &x.source, "NAME", "Pairs from this source of rankings only (reward, verifier, label …)."},
	};
	const struct options_use use = {
		.line = "export RUN [--format NAME] [--out PATH]",
		.about = "Writes what a run recorded in a form that other programs read: comparisons as pairs (CSV; JSONL as TRL and\n"
			 "as hh-rlhf have it), metrics (CSV), or metrics and evaluations for TensorBoard.",
		.table = table,
		.count = sizeof table / sizeof table[0],
		.at_least = 1,
		.at_most = 1,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	struct run_folder run = {0};
	TRY(run_folder_open(&run, rest.item[0], e));
	if (strcmp(x.format, "tensorboard")) {
		TRY(export_file(run.store, &x, e));
	} else if (!x.out) {
		rc = err_set(e, ERR_FORMAT, "--format tensorboard needs --out FOLDER");
	} else {
		TRY(fs_mkdirs(x.out, e));
		TRY(store_export_tensorboard(run.store, x.out, e));
	}
out:
	run_folder_close(&run);
	return rc;
}
