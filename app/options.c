/* Option parser; see options.h. */
#include "app/options.h"
#include "core/base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *options_nearest(const char *word, const char *const *names, int count)
{
	const char *best = count ? names[0] : "";
	int low = 1 << 20;
	for (int i = 0; i < count; i++) {
		int d = text_distance(word, names[i]);
		if (d < low) low = d, best = names[i];
	}
	return best;
}

static void print_help(const struct options_use *use)
{
	printf("Usage: tenfold %s\n\n%s\n\nOptions:\n", use->line, use->about);
	for (int i = 0; i <= use->count; i++) {
		static const struct option help = {"help", OPTION_FLAG, NULL, NULL, "Print this."};
		const struct option *o = i < use->count ? &use->table[i] : &help;
		char left[64];
		snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-24s %s\n", left, o->help);
	}
}

static const struct option *find(const struct options_use *use, const char *name, size_t n)
{
	for (int i = 0; i < use->count; i++)
		if (strlen(use->table[i].name) == n && !memcmp(use->table[i].name, name, n)) return &use->table[i];
	return NULL;
}

static int unknown(const struct options_use *use, const char *name, size_t n, struct err *e)
{
	const char *names[64];
	char word[64];
	int count = 0;
	for (int i = 0; i < use->count && count < 63; i++) names[count++] = use->table[i].name;
	names[count++] = "help";
	snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), name);
	return err_set(e, ERR_FORMAT, "there is no option --%s; the nearest is --%s (tenfold %.*s --help lists all)", word,
		options_nearest(word, names, count), (int)strcspn(use->line, " "), use->line);
}

static int store_value(const struct option *o, const char *text, struct err *e)
{
	char *end;
	errno = 0;
	switch (o->kind) {
	case OPTION_FLAG: *(int *)o->to = 1; return 0;
	case OPTION_TEXT: *(const char **)o->to = text; return 0;
	case OPTION_INT: {
		long long v = strtoll(text, &end, 10);
		if (end == text || *end || errno || v < 0) return err_set(e, ERR_FORMAT, "--%s takes a whole number from 0 on, not '%.100s'", o->name, text);
		*(int64_t *)o->to = v;
		return 0;
	}
	case OPTION_FLOAT: {
		double v = strtod(text, &end);
		if (end == text || *end || !isfinite(v)) return err_set(e, ERR_FORMAT, "--%s takes a number, not '%.100s'", o->name, text);
		*(double *)o->to = v;
		return 0;
	}
	case OPTION_LIST: {
		struct option_list *list = o->to;
		if (list->count == OPTION_LIST_MAX) return err_set(e, ERR_RANGE, "--%s more than %d times", o->name, OPTION_LIST_MAX);
		list->item[list->count++] = text;
		return 0;
	}
	}
	return 0;
}

/* One "--…" argument at argv[*i]; steps *i over a separate value. */
static int parse_one(const struct options_use *use, int argc, char **argv, int *i, struct err *e)
{
	const char *name = argv[*i] + 2, *equals = strchr(name, '=');
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *o = find(use, name, n);
	if (!o) return unknown(use, name, n, e);
	if (o->kind == OPTION_FLAG) {
		if (equals) return err_set(e, ERR_FORMAT, "--%s takes no value", o->name);
		return store_value(o, NULL, e);
	}
	if (equals) return store_value(o, equals + 1, e);
	if (*i + 1 >= argc) return err_set(e, ERR_FORMAT, "--%s needs a value: --%s %s", o->name, o->name, o->value);
	return store_value(o, argv[++*i], e);
}

int options_parse(const struct options_use *use, int argc, char **argv, struct option_list *rest, struct err *e)
{
	rest->count = 0;
	int only_rest = 0, rc = 0;
	for (int i = 1; i < argc; i++) {
		if (!only_rest && !strcmp(argv[i], "--")) {
			only_rest = 1;
		} else if (!only_rest && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
			print_help(use);
			return 1;
		} else if (!only_rest && argv[i][0] == '-' && argv[i][1]) {
			if (argv[i][1] != '-') return unknown(use, argv[i] + 1, strlen(argv[i] + 1), e);
			rc = parse_one(use, argc, argv, &i, e);
			if (rc < 0) return rc;
		} else if (rest->count == use->at_most || rest->count == OPTION_LIST_MAX) {
			return err_set(e, ERR_FORMAT, "'%.200s' is one argument too many; usage: tenfold %s", argv[i], use->line);
		} else {
			rest->item[rest->count++] = argv[i];
		}
	}
	if (rest->count < use->at_least) return err_set(e, ERR_FORMAT, "an argument is missing; usage: tenfold %s", use->line);
	return 0;
}

int options_config(struct config *c, const char *path, const struct option_list *sets, struct err *e)
{
	int rc = 0;
	config_defaults(c);
	if (path) TRY(config_read(c, path, e));
	for (int i = 0; sets && i < sets->count; i++) TRY(config_set(c, sets->item[i], e));
	TRY(config_check(c, e));
out:
	return rc;
}
