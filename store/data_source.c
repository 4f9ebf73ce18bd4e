/* Bytes, lines and JSON values of a file that may be compressed: zlib's gzread
 * passes a file that is not compressed through. A byte order mark at the
 * beginning is skipped. An item longer than DATA_ITEM_MAX is cut and said to be
 * too long, and the reading goes on behind it: a file without line ends does not
 * fill the memory. */
#include "store/data_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { BUFFER = 1 << 16 };

struct data_source {
	gzFile file;
	const char *path;
	unsigned char buffer[BUFFER];
	int at, have, ended;
	uint64_t line;
	char *item;
	size_t room, bytes;
	int array; /* -1: not yet looked, 0: lines, 1: inside of the array, 2: behind it */
};

int data_source_open(struct data_source **out, const char *path, struct err *e)
{
	*out = NULL;
	struct data_source *s = calloc(1, sizeof *s);
	if (!s) return err_set(e, ERR_MEMORY, "no memory to read %s", path);
	errno = 0;
	s->file = gzopen(path, "rb");
	if (!s->file) {
		int code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
		free(s);
		return err_set(e, code, "cannot open %s: %s", path, errno ? strerror(errno) : "no memory");
	}
	gzbuffer(s->file, BUFFER);
	s->path = path;
	s->line = 1;
	s->array = -1;
	if (data_source_peek(s) == 0xEF && s->have >= 3 && s->buffer[1] == 0xBB && s->buffer[2] == 0xBF) s->at = 3;
	*out = s;
	return 0;
}

void data_source_close(struct data_source *s)
{
	if (!s) return;
	gzclose(s->file);
	free(s->item);
	free(s);
}

int data_source_peek(struct data_source *s)
{
	if (s->at == s->have) {
		if (s->ended) return -1;
		s->at = 0;
		s->have = gzread(s->file, s->buffer, BUFFER);
		if (s->have <= 0) {
			s->have = 0;
			s->ended = 1;
			return -1;
		}
	}
	return s->buffer[s->at];
}

int data_source_byte(struct data_source *s)
{
	int c = data_source_peek(s);
	if (c < 0) return c;
	s->at++;
	s->line += c == '\n';
	return c;
}

uint64_t data_source_line(const struct data_source *s)
{
	return s->line;
}

int data_source_check(const struct data_source *s, struct err *e)
{
	int code;
	const char *why = gzerror(s->file, &code);
	if (code == Z_OK || code == Z_STREAM_END) return 0;
	return err_set(e, ERR_IO, "cannot read %s to its end (line %llu): %s", s->path, (unsigned long long)s->line, code == Z_ERRNO ? strerror(errno) : why);
}

static void put(struct data_source *s, int c, int *too_long)
{
	if (s->bytes == DATA_ITEM_MAX) {
		*too_long = 1;
		return;
	}
	if (s->bytes + 1 >= s->room) {
		s->room = s->room ? 2 * s->room : 4096;
		s->item = realloc(s->item, s->room);
		CHECK(s->item, "out of memory for a line of %zu bytes", s->bytes);
	}
	s->item[s->bytes++] = (char)c;
}

static void finish(struct data_source *s, struct data_item *out, uint64_t line, int too_long)
{
	int unused = 0;
	if (!s->item) put(s, 0, &unused), s->bytes = 0;
	s->item[s->bytes] = 0;
	*out = (struct data_item){s->item, s->bytes, line, too_long};
}

int data_source_next_line(struct data_source *s, struct data_item *out)
{
	int c, too_long;
	uint64_t line;
	do {
		line = s->line;
		s->bytes = 0;
		too_long = 0;
		while ((c = data_source_byte(s)) >= 0 && c != '\n') put(s, c, &too_long);
		if (s->bytes && s->item[s->bytes - 1] == '\r') s->bytes--;
	} while (c >= 0 && s->bytes == 0);
	if (s->bytes == 0) return 0;
	finish(s, out, line, too_long);
	return 1;
}

static int blank(int c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One element of the array: up to the comma or the bracket that ends it, neither inside of a text nor of an element. */
static int next_element(struct data_source *s, struct data_item *out)
{
	int c, depth = 0, text = 0, escaped = 0, too_long = 0;
	while (blank(data_source_peek(s)) || data_source_peek(s) == ',') data_source_byte(s);
	uint64_t line = s->line;
	s->bytes = 0;
	while ((c = data_source_peek(s)) >= 0) {
		if (!text && depth == 0 && (c == ',' || c == ']')) break;
		if (text) {
			text = escaped || c != '"';
			escaped = !escaped && c == '\\';
		} else {
			text = c == '"';
			depth += (c == '{' || c == '[') - (c == '}' || c == ']');
		}
		put(s, data_source_byte(s), &too_long);
	}
	if (c == ']' && s->bytes == 0) {
		data_source_byte(s);
		s->array = 2;
	}
	if (s->bytes == 0) return 0;
	finish(s, out, line, too_long);
	return 1;
}

int data_source_next_value(struct data_source *s, struct data_item *out)
{
	if (s->array < 0) {
		while (blank(data_source_peek(s))) data_source_byte(s);
		s->array = data_source_peek(s) == '[';
		if (s->array) data_source_byte(s);
	}
	if (s->array == 1 && next_element(s, out)) return 1;
	return data_source_next_line(s, out); /* also what stands behind an array: it will be refused */
}
