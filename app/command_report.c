/* `tenfold report`. */
#include "app/commands.h"
#include "app/options.h"
#include "app/report.h"
#include "app/run_folder.h"

#include <stdio.h>

/* Inside the (first) run's folder: nothing is written elsewhere unasked. */
static int default_path(const char *run, int count, char out[PATH_MAX], struct err *e)
{
	struct run_folder r;
	int rc = run_folder_open(&r, run, e);
	if (rc == 0) rc = run_folder_path(&r, count > 1 ? "compare.html" : "report.html", out, e);
	run_folder_close(&r);
	return rc;
}

int command_report(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	const char *out = NULL, *svg = NULL;
	char path[PATH_MAX];
	const struct option table[] = {
		{"out", OPTION_TEXT, &out, "FILE", "The page to write; default: report.html in the run's folder (several: compare.html in the first's)."},
		{"svg", OPTION_TEXT, &svg, "FILE", "Write the reward curve and the pass rate as a picture instead."},
	};
	const struct options_use use = {
		.line = "report RUN… [--out FILE]",
		.about = "Writes one HTML page that holds everything it shows: figures, curves, expert load, best and worst groups,\n"
			 "events, configuration. Several runs are overlaid. Works while a run is going on.",
		.table = table,
		.count = sizeof table / sizeof table[0],
		.at_least = 1,
		.at_most = REPORT_RUNS_MAX,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (svg) {
		TRY(report_write_svg(rest.item, rest.count, svg, e));
		puts(svg);
		return 0;
	}
	if (!out) {
		TRY(default_path(rest.item[0], rest.count, path, e));
		out = path;
	}
	TRY(report_write(rest.item, rest.count, out, e));
	puts(out);
out:
	return rc;
}
