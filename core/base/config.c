/* Configuration values: defaults, assignment by name, comparison; see config.h.
 *
 * Every value passes through config_assign, whoever brings it (defaults, file,
 * --set, preset), so type, range and choices are checked in one place. Numbers
 * are read in the C locale, which the program never changes. It refuses what
 * strtod would accept but a person did not mean: nan, inf, hexadecimal, text
 * after the number. */
#include "core/base/config_internal.h"
#include "core/base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *field_of(struct config *c, const struct config_key *key)
{
	return (char *)c + key->offset;
}

static const void *field_in(const struct config *c, const struct config_key *key)
{
	return (const char *)c + key->offset;
}

const struct config_key *config_find(const char *name)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(keys[i].name, name)) return &keys[i];
	return NULL;
}

int config_is_section(const char *prefix)
{
	size_t count, n = strlen(prefix);
	const struct config_key *keys = config_keys(&count);
	for (size_t i = 0; i < count; i++)
		if (!strncmp(keys[i].name, prefix, n) && keys[i].name[n] == '.') return 1;
	return 0;
}

static const char *last_part(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

const char *config_nearest(const char *name)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	const char *best = keys[0].name;
	int low = 1 << 20;
	for (size_t i = 0; i < count; i++) {
		/* the last part counts most: the section is what people misremember */
		int d = 4 * text_distance(last_part(name), last_part(keys[i].name)) + text_distance(name, keys[i].name);
		if (d < low) low = d, best = keys[i].name;
	}
	return best;
}

static int parse_int(const char *text, int64_t *out)
{
	char *end;
	errno = 0;
	long long v = strtoll(text, &end, 10);
	if (end == text || *end || errno || isspace((unsigned char)*text)) return -1;
	*out = v;
	return 0;
}

static int parse_float(const char *text, double *out)
{
	if (!*text || strspn(text, "+-.0123456789eE") != strlen(text)) return -1;
	char *end;
	double v = strtod(text, &end);
	if (end == text || *end || !isfinite(v)) return -1;
	*out = v;
	return 0;
}

static int parse_bool(const char *text, int64_t *out)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (!strcasecmp(text, words[i])) return *out = (int64_t)(i & 1), 0;
	return -1;
}

static int is_choice(const char *choices, const char *text)
{
	size_t n = strlen(text);
	for (const char *p = choices; *p; p += *p == '|') {
		size_t k = strcspn(p, "|");
		if (n == k && !memcmp(p, text, k)) return 1;
		p += k;
	}
	return 0;
}

static int assign_number(struct config *c, const struct config_key *key, const char *text, int quoted, const char *where,
	struct err *e)
{
	int64_t i = 0;
	double d = 0;
	int whole = key->type == CONFIG_INT;
	int bad = whole ? parse_int(text, &i) : parse_float(text, &d);
	if (bad || quoted)
		return err_set(e, ERR_FORMAT, "%s: %s takes a %s; '%.200s' is %s", where, key->name, whole ? "whole number" : "number",
			text, quoted && !bad ? "text, because of its quotes" : whole ? "not one" : "not a finite one");
	if (whole) d = (double)i;
	if (d < key->low || d > key->high)
		return err_set(e, ERR_RANGE, "%s: %s is %.60s, outside its range of %.16g to %.16g", where, key->name, text, key->low, key->high);
	if (whole) memcpy(field_of(c, key), &i, sizeof i);
	else memcpy(field_of(c, key), &d, sizeof d);
	return 0;
}

static int assign_text(struct config *c, const struct config_key *key, const char *text, const char *where, struct err *e)
{
	size_t n = strlen(text);
	if (n >= CONFIG_STRING)
		return err_set(e, ERR_RANGE, "%s: %s has %zu bytes of text; %d are possible", where, key->name, n, CONFIG_STRING - 1);
	if (key->type == CONFIG_CHOICE && !is_choice(key->choices, text))
		return err_set(e, ERR_RANGE, "%s: %s takes one of %s, not '%.200s'", where, key->name, key->choices, text);
	char *to = field_of(c, key);
	memset(to, 0, CONFIG_STRING);
	memcpy(to, text, n);
	return 0;
}

int config_assign(struct config *c, const struct config_key *key, const char *text, int quoted, const char *where, struct err *e)
{
	size_t count;
	size_t row = (size_t)(key - config_keys(&count));
	int rc = 0;
	int64_t flag;
	switch (key->type) {
	case CONFIG_INT:
	case CONFIG_FLOAT: rc = assign_number(c, key, text, quoted, where, e); break;
	case CONFIG_BOOL:
		if (quoted || parse_bool(text, &flag))
			return err_set(e, ERR_FORMAT, "%s: %s takes true or false, not '%.200s'%s", where, key->name, text, quoted ? " in quotes" : "");
		memcpy(field_of(c, key), &flag, sizeof flag);
		break;
	case CONFIG_TEXT:
	case CONFIG_CHOICE: rc = assign_text(c, key, text, where, e); break;
	}
	if (rc == 0) c->given[row] = 1;
	return rc;
}

void config_defaults(struct config *c)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < count; i++) {
		struct err e;
		int rc = config_assign(c, &keys[i], keys[i].standard, 0, "default", &e);
		CHECK(rc == 0, "%s", e.msg);
	}
	memset(c->given, 0, sizeof c->given);
}

int config_set(struct config *c, const char *assignment, struct err *e)
{
	char name[128];
	size_t n = strcspn(assignment, "=");
	if (assignment[n] != '=' || n == 0 || n >= sizeof name)
		return err_set(e, ERR_FORMAT, "--set takes section.key=value, not '%.200s'", assignment);
	memcpy(name, assignment, n);
	name[n] = 0;
	const struct config_key *key = config_find(name);
	if (!key) return err_set(e, ERR_FORMAT, "--set: there is no key %s; the nearest is %s", name, config_nearest(name));
	int rc = config_assign(c, key, assignment + n + 1, 0, "--set", e);
	if (rc == 0) config_preset_apply(c);
	return rc;
}

void config_value(const struct config *c, const struct config_key *key, char *out, size_t bytes)
{
	const void *p = field_in(c, key);
	int64_t i;
	double d;
	switch (key->type) {
	case CONFIG_INT:
	case CONFIG_BOOL:
		memcpy(&i, p, sizeof i);
		if (key->type == CONFIG_BOOL) snprintf(out, bytes, "%s", i ? "true" : "false");
		else snprintf(out, bytes, "%lld", (long long)i);
		break;
	case CONFIG_FLOAT:
		memcpy(&d, p, sizeof d);
		for (int digits = 1; digits <= 17; digits++) {
			snprintf(out, bytes, "%.*g", digits, d);
			if (strtod(out, NULL) == d) break;
		}
		break;
	case CONFIG_TEXT:
	case CONFIG_CHOICE: snprintf(out, bytes, "%s", (const char *)p); break;
	}
}

const char *config_difference(const struct config *a, const struct config *b)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	for (size_t i = 0; i < count; i++) {
		const void *x = field_in(a, &keys[i]), *y = field_in(b, &keys[i]);
		int text = keys[i].type == CONFIG_TEXT || keys[i].type == CONFIG_CHOICE;
		if (text ? strcmp(x, y) != 0 : memcmp(x, y, 8) != 0) return keys[i].name;
	}
	return NULL;
}
