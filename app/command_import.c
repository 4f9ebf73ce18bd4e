/* `tenfold import`: a data set of another layout, written in ours.
 *
 * Files grow under names with .part at the end and get their own names when all
 * is read, the report last: a folder with a report.json is complete. */
#include "app/commands.h"
#include "app/data_report.h"
#include "app/options.h"

#include "core/base/fs.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAD = 2 * DATA_KINDS, OUTPUTS };

static const char *const outputs[OUTPUTS] = {"prompts.jsonl", "examples.jsonl", "groups.jsonl", "texts.jsonl", "heldout-prompts.jsonl",
					     "heldout-examples.jsonl", "heldout-groups.jsonl", "heldout-texts.jsonl", "bad.jsonl"};

struct import {
	const char *folder;
	FILE *file[OUTPUTS];
};

static void path_of(const struct import *t, int which, const char *ending, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%.*s/%s%s", PATH_MAX - 64, t->folder, outputs[which], ending);
}

static int output(struct import *t, int which, struct err *e)
{
	char path[PATH_MAX];
	if (t->file[which]) return 0;
	path_of(t, which, ".part", path);
	t->file[which] = fopen(path, "we");
	return t->file[which] ? 0 : err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
}

static int on_record(void *ctx, const struct data_record *r, struct err *e)
{
	struct import *t = ctx;
	int which = (int)r->kind + (r->side == DATA_HELDOUT ? DATA_KINDS : 0), rc = output(t, which, e);
	return rc < 0 ? rc : data_write(t->file[which], r, e);
}

static int on_bad(void *ctx, const char *file, uint64_t line, const char *reason, struct err *e)
{
	struct import *t = ctx;
	int rc = output(t, BAD, e);
	if (rc < 0) return rc;
	json_t *j = json_pack("{s:s,s:I,s:s}", "file", file, "line", (json_int_t)line, "reason", reason);
	if (!j) j = json_pack("{s:I,s:s}", "line", (json_int_t)line, "reason", reason); /* a file name that is not UTF-8 */
	int failed = !j || json_dumpf(j, t->file[BAD], JSON_COMPACT) != 0 || fputc('\n', t->file[BAD]) < 0;
	json_decref(j);
	return failed ? err_set(e, ERR_IO, "cannot write the list of bad records") : 0;
}

/* Closes all; with `keep` they get their names, else they go. */
static int close_outputs(struct import *t, int keep, struct err *e)
{
	int rc = 0;
	char part[PATH_MAX], path[PATH_MAX];
	for (int i = 0; i < OUTPUTS; i++) {
		if (!t->file[i]) continue;
		path_of(t, i, ".part", part);
		path_of(t, i, "", path);
		int bad = fflush(t->file[i]) != 0 || fsync(fileno(t->file[i])) != 0;
		bad |= fclose(t->file[i]) != 0;
		t->file[i] = NULL;
		if (!keep || rc < 0) unlink(part);
		else if (bad || rename(part, path) != 0) rc = err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
	}
	return rc;
}

static int write_report(const struct import *t, const struct data_options *o, const struct data_report *r, int json, struct err *e)
{
	char path[PATH_MAX];
	json_t *j = json_pack("{s:s,s:f,s:I,s:o}", "format", o->format, "heldout_share", o->share, "seed", (json_int_t)o->seed, "report", data_report_json(r));
	char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(j);
	if (!text) return err_set(e, ERR_MEMORY, "no memory for the report");
	snprintf(path, sizeof path, "%.*s/report.json", PATH_MAX - 64, t->folder);
	int rc = fs_write_atomic(path, text, strlen(text), e);
	if (rc == 0 && json) puts(text);
	free(text);
	if (rc == 0 && !json) data_report_print(stdout, "", r);
	return rc;
}

static int run(struct import *t, struct data_options *o, int json, struct err *e)
{
	char path[PATH_MAX];
	struct data_report report;
	int rc = 0;
	snprintf(path, sizeof path, "%.*s/report.json", PATH_MAX - 64, t->folder);
	if (fs_exists(path)) return err_set(e, ERR_STATE, "%s holds an import already; give another --out", t->folder);
	TRY(fs_mkdirs(t->folder, e));
	rc = data_read(o, &report, e);
	int closed = close_outputs(t, rc == 0, rc == 0 ? e : NULL);
	if (rc == 0) TRY(closed);
	if (rc < 0 && report.bad) data_report_print(stderr, "import: ", &report);
	if (rc == 0) rc = write_report(t, o, &report, json, e);
out:
	return rc;
}

static void formats_help(char *out, size_t bytes)
{
	size_t at = (size_t)snprintf(out, bytes, "Reads data sets (also .gz) and writes them in Tenfold's own layout, JSON lines, with a report: bad records by reason,\n"
						 "duplicates, prompts and completions on both sides. A configuration can also name the original files (task.prompts,\n"
						 "task.format). docs/data.md says more. Formats:\n");
	const struct data_format_info *f;
	for (size_t i = 0; (f = data_format_info(i)) && at < bytes; i++) at += (size_t)snprintf(out + at, bytes - at, "  %-9s %s\n", f->name, f->about);
	if (at > 0 && at < bytes) out[at - 1] = 0;
}

int command_import(int argc, char **argv, struct err *e)
{
	struct option_list rest, heldout = {.count = 0};
	struct import t = {.folder = NULL};
	struct data_options o = {.bad_limit = -1, .on_record = on_record, .on_bad = on_bad, .ctx = &t};
	int64_t seed = 1, limit = -1;
	int json = 0;
	char about[2048];
	const struct option table[] = {
		{"format", OPTION_TEXT, &o.format, "NAME", "One of the formats above."},
		{"out", OPTION_TEXT, &t.folder, "DIR", "Folder to write."},
		{"columns", OPTION_TEXT, &o.columns, "LIST", "csv, tsv: \"prompt=COLUMN, chosen=COLUMN, rejected=COLUMN\"; roles: docs/data.md."},
		{"heldout", OPTION_LIST, &heldout, "FILE", "A file whose records are held out; may be repeated."},
		{"heldout-share", OPTION_FLOAT, &o.share, "X", "Share of the prompts (dialogues, topics) that is held out instead."},
		{"seed", OPTION_INT, &seed, "N", "Seed of that choice (1)."},
		{"max-bad", OPTION_INT, &limit, "N", "Stop when there are more bad records than this; without it all are counted."},
		OPTION_JSON(&json),
	};
	formats_help(about, sizeof about);
	const struct options_use use = {.line = "import --format NAME FILE… --out DIR [options]", .about = about, .table = table, .count = sizeof table / sizeof table[0],
					.at_least = 1, .at_most = OPTION_LIST_MAX};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!o.format || !t.folder) return err_set(e, ERR_FORMAT, "import needs --format and --out (tenfold import --help)");
	if (o.share < 0 || o.share >= 1) return err_set(e, ERR_RANGE, "--heldout-share is %g; from 0 to below 1 is possible", o.share);
	o.train = rest.item;
	o.train_count = (size_t)rest.count;
	o.heldout = heldout.item;
	o.heldout_count = (size_t)heldout.count;
	o.seed = (uint64_t)seed;
	o.bad_limit = limit;
	return run(&t, &o, json, e);
}
