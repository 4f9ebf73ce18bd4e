/* Plain text: a record is a paragraph, the lines between empty ones. A paragraph
 * of more than DATA_ITEM_MAX bytes is refused as a bad record. */
#include "store/data_internal.h"

#include <stdlib.h>
#include <string.h>

struct paragraph {
	char *text;
	size_t bytes, room;
	uint64_t line;
	int too_long;
};

static void add(struct paragraph *p, int c)
{
	if (p->bytes == DATA_ITEM_MAX) {
		p->too_long = 1;
		return;
	}
	if (p->bytes + 1 >= p->room) {
		p->room = p->room ? 2 * p->room : 4096;
		p->text = realloc(p->text, p->room);
		CHECK(p->text, "out of memory for a paragraph of %zu bytes", p->bytes);
	}
	p->text[p->bytes++] = (char)c;
}

static int finish(struct data_reader *r, struct paragraph *p)
{
	int rc = 0;
	while (p->bytes && strchr(" \t\r\n", p->text[p->bytes - 1])) p->bytes--;
	if (p->bytes == 0) return 0;
	r->line = p->line;
	if (p->too_long) rc = data_bad(r, "it is longer than 16 MiB", NULL);
	else if (data_text_ok(r, p->text, p->bytes, &rc)) {
		p->text[p->bytes] = 0;
		struct data_record x = {.kind = DATA_TEXT, .prompt = "", .count = 1, .completion = {p->text}};
		rc = data_emit(r, &x);
	}
	*p = (struct paragraph){.text = p->text, .room = p->room};
	return rc;
}

static int read_file(struct data_reader *r, struct data_source *s)
{
	struct paragraph p = {0};
	int rc = 0, c, empty = 1; /* so far nothing but blanks in this line */
	while (rc == 0) {
		uint64_t line = data_source_line(s);
		c = data_source_byte(s);
		if (c < 0 || (c == '\n' && empty)) rc = finish(r, &p);
		if (c < 0) break;
		if (c == '\n' && empty) continue;
		if (p.bytes == 0) {
			if (strchr("\r\n", c) && c) continue;
			p.line = line;
		}
		add(&p, c);
		empty = c == '\n' || (empty && strchr(" \t\r", c) && c);
	}
	free(p.text);
	return rc;
}

const struct data_format data_format_text = {{"text", "plain text: paragraphs between empty lines"}, .read_file = read_file};
