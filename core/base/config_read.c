/* The YAML reader of the configuration.
 *
 * The whole file is loaded as one libyaml document, whose nodes keep their line
 * numbers, and walked against the table: mappings are sections, scalars and
 * lists of scalars are values. It refuses unknown and duplicate keys, a section
 * where a value belongs and the other way round, merge keys and tags, further
 * documents, and files above a size that no configuration reaches. Aliases
 * cannot recurse: the walk is only as deep as the table's names. */
#include "core/base/config_internal.h"
#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_LIMIT = 1 << 20, NAME_BYTES = 128, WHERE_BYTES = 320, DEPTH = 3 };

struct reader {
	struct config *c;
	const char *path;
	yaml_document_t doc;
	unsigned long seen[CONFIG_KEYS_MAX]; /* line of a key already met in this file, 0: not yet */
	struct err *e;
};

static void place(const struct reader *r, const yaml_node_t *n, char where[WHERE_BYTES])
{
	snprintf(where, WHERE_BYTES, "%.280s:%lu", r->path, (unsigned long)n->start_mark.line + 1);
}

static int list_text(struct reader *r, const yaml_node_t *n, const struct config_key *key, char *out, size_t bytes)
{
	char where[WHERE_BYTES];
	size_t at = 0;
	out[0] = 0;
	for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
		const yaml_node_t *v = yaml_document_get_node(&r->doc, *i);
		place(r, v, where);
		if (v->type != YAML_SCALAR_NODE) return err_set(r->e, ERR_FORMAT, "%s: the list of %s may hold plain values only", where, key->name);
		int k = snprintf(out + at, bytes - at, "%s%s", at ? ", " : "", (const char *)v->data.scalar.value);
		at += (size_t)k;
		if (at >= bytes) return err_set(r->e, ERR_RANGE, "%s: the list of %s is longer than %d bytes", where, key->name, CONFIG_STRING - 1);
	}
	return 0;
}

static int read_value(struct reader *r, const struct config_key *key, const yaml_node_t *name, const yaml_node_t *v)
{
	char where[WHERE_BYTES], list[2 * CONFIG_STRING];
	size_t count;
	size_t row = (size_t)(key - config_keys(&count));
	place(r, name, where);
	if (r->seen[row])
		return err_set(r->e, ERR_FORMAT, "%s: %s is there twice; the first time in line %lu", where, key->name, r->seen[row]);
	r->seen[row] = name->start_mark.line + 1;
	if (v->type == YAML_SEQUENCE_NODE && key->type == CONFIG_TEXT) {
		int rc = list_text(r, v, key, list, sizeof list);
		return rc < 0 ? rc : config_assign(r->c, key, list, 1, where, r->e);
	}
	if (v->type != YAML_SCALAR_NODE)
		return err_set(r->e, ERR_FORMAT, "%s: %s takes one value, not a %s", where, key->name,
			v->type == YAML_SEQUENCE_NODE ? "list" : "section");
	const char *text = (const char *)v->data.scalar.value;
	int quoted = v->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	if (strlen(text) != v->data.scalar.length) return err_set(r->e, ERR_FORMAT, "%s: %s holds a NUL byte", where, key->name);
	if (!quoted && (!strcmp(text, "~") || !strcmp(text, "null"))) text = "";
	return config_assign(r->c, key, text, quoted, where, r->e);
}

static int read_section(struct reader *r, const yaml_node_t *n, const char *prefix, int depth)
{
	char where[WHERE_BYTES], name[NAME_BYTES];
	place(r, n, where);
	/* an empty section ("ppo:" with nothing below) is fine */
	if (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0) return 0;
	if (n->type != YAML_MAPPING_NODE)
		return err_set(r->e, ERR_FORMAT, "%s: %s%s holds keys with values (key: value), nothing else", where,
			*prefix ? "the section " : "the file", prefix);
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = yaml_document_get_node(&r->doc, p->key), *v = yaml_document_get_node(&r->doc, p->value);
		place(r, k, where);
		if (k->type != YAML_SCALAR_NODE) return err_set(r->e, ERR_FORMAT, "%s: a key must be a plain word", where);
		int len = snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", (const char *)k->data.scalar.value);
		const struct config_key *key = len < NAME_BYTES ? config_find(name) : NULL;
		int rc;
		if (key) rc = read_value(r, key, k, v);
		else if (len < NAME_BYTES && depth < DEPTH && config_is_section(name)) rc = read_section(r, v, name, depth + 1);
		else return err_set(r->e, ERR_FORMAT, "%s: there is no key %s; the nearest is %s", where, name, config_nearest(name));
		if (rc < 0) return rc;
	}
	return 0;
}

static int parse_error(const yaml_parser_t *p, const char *path, struct err *e)
{
	unsigned long line = p->problem_mark.line + 1;
	if (p->error == YAML_READER_ERROR)
		return err_set(e, ERR_FORMAT, "%s: byte %zu: %s; a configuration is UTF-8 text", path, p->problem_offset, p->problem);
	return err_set(e, ERR_FORMAT, "%s:%lu: not YAML: %s%s%s", path, line, p->problem ? p->problem : "out of memory",
		p->context ? ", " : "", p->context ? p->context : "");
}

static int read_root(struct reader *r, yaml_parser_t *parser)
{
	const yaml_node_t *root = yaml_document_get_root_node(&r->doc);
	if (!root) return 0;
	int rc = read_section(r, root, "", 1);
	if (rc < 0) return rc;
	yaml_document_t more;
	if (!yaml_parser_load(parser, &more)) return parse_error(parser, r->path, r->e);
	const yaml_node_t *second = yaml_document_get_root_node(&more);
	if (second)
		rc = err_set(r->e, ERR_FORMAT, "%s:%lu: a second document starts here; a configuration is one", r->path,
			(unsigned long)second->start_mark.line + 1);
	yaml_document_delete(&more);
	return rc;
}

int config_read_text(struct config *c, const char *text, size_t bytes, const char *name, struct err *e)
{
	yaml_parser_t parser;
	if (!yaml_parser_initialize(&parser)) return err_set(e, ERR_MEMORY, "no memory for the YAML parser of %s", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
	struct reader r = {.c = c, .path = name, .e = e};
	int rc;
	if (yaml_parser_load(&parser, &r.doc)) {
		rc = read_root(&r, &parser);
		yaml_document_delete(&r.doc);
	} else {
		rc = parse_error(&parser, name, e);
	}
	yaml_parser_delete(&parser);
	if (rc == 0) config_preset_apply(c);
	return rc;
}

int config_read(struct config *c, const char *path, struct err *e)
{
	char *text = NULL;
	size_t bytes = 0;
	int rc = fs_read(path, FILE_LIMIT, &text, &bytes, e);
	if (rc == 0) rc = config_read_text(c, text, bytes, path, e);
	free(text);
	return rc;
}
