/* Options of the subcommands: one small table per command.
 *
 * `--name value` and `--name=value`; flags take no value; `--` ends the
 * options. Every command has --help, made from its table. An unknown option is
 * an error with the nearest known one. Values point into argv and live as long. */
#ifndef TENFOLD_APP_OPTIONS_H
#define TENFOLD_APP_OPTIONS_H

#include "core/base/config.h"
#include "core/base/err.h"

#include <stdint.h>

enum { OPTION_LIST_MAX = 256 };

struct option_list {
	const char *item[OPTION_LIST_MAX];
	int count;
};

enum option_kind {
	OPTION_FLAG,  /* to: int *, set to 1 */
	OPTION_TEXT,  /* to: const char ** */
	OPTION_INT,   /* to: int64_t *, whole and not negative */
	OPTION_FLOAT, /* to: double *, finite */
	OPTION_LIST,  /* to: struct option_list *; may be repeated */
};

struct option {
	const char *name; /* without the dashes */
	enum option_kind kind;
	void *to;
	const char *value; /* what the value is called in --help; NULL for flags */
	const char *help;  /* one line */
};

struct options_use {
	const char *line;  /* "report RUN… [options]" */
	const char *about; /* one or more sentences */
	const struct option *table;
	int count;
	int at_least, at_most; /* number of positional arguments */
};

/* argv[0] is the command's name. rest: the positional arguments. Returns 0; 1 after printing --help (the command returns
 * 0 then); or ERR_FORMAT / ERR_RANGE. */
int options_parse(const struct options_use *use, int argc, char **argv, struct option_list *rest, struct err *e);

/* The configuration as a command uses it: defaults, the file (NULL: none), every --set, then config_check. */
int options_config(struct config *c, const char *path, const struct option_list *sets, struct err *e);

/* Of `count` names, the one nearest to `word` by edit distance. */
const char *options_nearest(const char *word, const char *const *names, int count);

/* Rows that most commands share. */
#define OPTION_SET(list) {"set", OPTION_LIST, list, "KEY=VALUE", "Change one key of the configuration; may be repeated."}
#define OPTION_JSON(flag) {"json", OPTION_FLAG, flag, NULL, "Print the result as JSON."}

#endif
