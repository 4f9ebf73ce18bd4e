/* Rows of CSV (RFC 4180: fields may be quoted, and then hold commas, line ends
 * and doubled quotes) and TSV (no quoting: a field is what stands between tabs),
 * one row in memory at a time. */
#include "store/data_rows.h"

#include <stdlib.h>
#include <string.h>

static void put(struct data_rows *s, int c)
{
	if (s->bytes >= DATA_ITEM_MAX) {
		s->fault = "it is longer than 16 MiB";
		return;
	}
	if (s->bytes + 2 >= s->room) {
		s->room = s->room ? 2 * s->room : 4096;
		s->text = realloc(s->text, s->room);
		CHECK(s->text, "out of memory for a row of %zu bytes", s->bytes);
	}
	s->text[s->bytes++] = (char)c;
}

/* A field without its quotes; the character behind it (a separator, a line end, -1). */
static int read_field(struct data_rows *s, struct data_source *in)
{
	int c = data_source_byte(in);
	if (s->separator == ',' && c == '"') {
		for (;;) {
			c = data_source_byte(in);
			if (c < 0) s->fault = "a quoted field does not end";
			if (c < 0) return c;
			if (c != '"') put(s, c);
			else if (data_source_peek(in) == '"') put(s, data_source_byte(in));
			else break;
		}
		c = data_source_byte(in);
		if (c >= 0 && c != ',' && c != '\n' && c != '\r') s->fault = "text follows a closing quote";
	}
	for (; c >= 0 && c != s->separator && c != '\n'; c = data_source_byte(in))
		if (c != '\r' || data_source_peek(in) != '\n') put(s, c);
	return c;
}

int data_rows_next(struct data_rows *s, struct data_source *in)
{
	size_t start[DATA_FIELDS_MAX];
	while (data_source_peek(in) == '\n' || data_source_peek(in) == '\r') data_source_byte(in);
	if (data_source_peek(in) < 0) return 0;
	s->line = data_source_line(in);
	s->fields = 0;
	s->bytes = 0;
	s->fault = NULL;
	for (int c = s->separator; c == s->separator; put(s, 0)) {
		if (s->fields == DATA_FIELDS_MAX) s->fault = "it has more than 256 fields", s->fields--;
		start[s->fields++] = s->bytes;
		c = read_field(s, in);
	}
	s->text[s->bytes] = 0;
	for (int i = 0; i < s->fields; i++) {
		s->field[i] = s->text + start[i];
		s->length[i] = (i + 1 < s->fields ? start[i + 1] : s->bytes) - start[i] - 1;
	}
	return 1;
}

void data_rows_free(struct data_rows *s)
{
	free(s->text);
	s->text = NULL;
}
