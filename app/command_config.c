/* `tenfold config`: what a configuration means in full, and the reference of
 * all keys. */
#include "app/commands.h"
#include "app/options.h"

#include <stdio.h>

int command_config(int argc, char **argv, struct err *e)
{
	struct option_list sets = {0}, rest;
	int docs = 0;
	const struct option table[] = {
		OPTION_SET(&sets),
		{"docs", OPTION_FLAG, &docs, NULL, "Print docs/configuration.md: every key with its range, default and meaning."},
	};
	const struct options_use use = {
		.line = "config [CONFIG] [options]",
		.about = "Prints the configuration in full, as a run would use it: the file over the defaults, presets and --set\n"
			 "applied, checked. Without a file: the defaults.",
		.table = table,
		.count = sizeof table / sizeof table[0],
		.at_most = 1,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (docs) {
		config_write_docs(stdout);
		return 0;
	}
	struct config c;
	rc = options_config(&c, rest.count ? rest.item[0] : NULL, &sets, e);
	if (rc == 0) config_write(&c, stdout);
	return rc;
}
