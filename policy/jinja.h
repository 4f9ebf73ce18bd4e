/* The part of Jinja that chat templates are written in.
 *
 * A template is parsed once; what it uses and this does not know is refused then,
 * by line and name, so that a text is either exactly the one that Jinja (with the
 * settings of transformers: trim_blocks, lstrip_blocks) would write, or none.
 *
 * Known: for (with else, if, loop.*), if, set (also as a block and into a
 * namespace), break, continue, comments, white-space control; all operators,
 * slices, the usual methods of texts and dictionaries, the filters and tests
 * listed in jinja_value.c; range, namespace, raise_exception. Not known: macros,
 * includes, and strftime_now, with which the same messages would have other ids
 * tomorrow. */
#ifndef TENFOLD_POLICY_JINJA_H
#define TENFOLD_POLICY_JINJA_H

#include "core/base/err.h"

#include <jansson.h>
#include <stddef.h>

struct jinja;

/* ERR_FORMAT with the line and what is not known. */
int jinja_open(struct jinja **out, const char *text, struct err *e);
void jinja_close(struct jinja *j);
/* variables: an object; its members are the template's names. *text is malloc'ed, NUL-terminated. ERR_RANGE for what the
 * template itself refuses (raise_exception) and for operations on values that do not fit. */
int jinja_render(const struct jinja *j, const json_t *variables, char **text, size_t *bytes, struct err *e);

#endif
