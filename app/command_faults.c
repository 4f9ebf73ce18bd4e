/* `tenfold faults`: the places at which a test build can be killed, each with
 * where it is and what is done and not done there; see core/base/fault.h. The
 * list is what is compiled in. tests/fault_points.py kills a run at each of them. */
#include "app/commands.h"
#include "app/options.h"

#include "core/base/fault.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct fault_info *)a)->name, ((const struct fault_info *)b)->name);
}

/* The compiler was started in the build folder. */
static const char *file_shown(const char *file)
{
	return strncmp(file, "../", 3) ? file : file + 3;
}

static int print_json(const struct fault_info *p, size_t n, struct err *e)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:i,s:b}", "name", p[i].name, "meaning", p[i].meaning, "file", file_shown(p[i].file), "line", p[i].line,
						      "can_fail", p[i].can_fail));
	char *text = json_dumps(list, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(list);
	if (!text) return err_set(e, ERR_MEMORY, "no memory for the JSON output");
	puts(text);
	free(text);
	return 0;
}

int command_faults(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	int json = 0;
	const struct option table[] = {OPTION_JSON(&json)};
	const struct options_use use = {
		.line = "faults [--json]",
		.about = "Lists the fault points of a build made with -DTENFOLD_FAULTS=ON: name, place, and what is done and not done there.\n"
			 "TENFOLD_FAULT=NAME[:NTH[:kill|stop|error]] in the environment makes the process that reaches one die there.",
		.table = table, .count = 1, .at_least = 0, .at_most = 0};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!fault_enabled()) return err_set(e, ERR_STATE, "this build has no fault points: configure with -DTENFOLD_FAULTS=ON");
	size_t n = fault_list(NULL, 0);
	struct fault_info *p = calloc(n + 1, sizeof *p);
	CHECK(p, "out of memory for %zu fault points", n);
	fault_list(p, n);
	qsort(p, n, sizeof *p, by_name);
	if (json) rc = print_json(p, n, e);
	for (size_t i = 0; i < n && !json; i++) {
		printf("%-28s %s:%d: %s\n", p[i].name, file_shown(p[i].file), p[i].line, p[i].meaning);
	}
	if (rc == 0 && !json) printf("%zu fault points\n", n);
	free(p);
	return rc;
}
