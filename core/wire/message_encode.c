/* Encoding: envelope, then the keys of the type's table in its order, through
 * msgpack-c's packer into a buffer that is kept from message to message. */
#include "core/base/text.h"
#include "core/wire/message_fields.h"
#include "core/wire/scan.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors travel in the memory's order, little endian");

static int buffer_write(void *data, const char *bytes, size_t n)
{
	struct message_buffer *b = data;
	if (b->capacity - b->bytes < n) {
		size_t want = b->capacity ? b->capacity : 4096;
		while (want - b->bytes < n) {
			if (want > SIZE_MAX / 4) return -1;
			want *= 2;
		}
		unsigned char *p = realloc(b->data, want);
		if (!p) return -1;
		b->data = p;
		b->capacity = want;
	}
	if (n) memcpy(b->data + b->bytes, bytes, n);
	b->bytes += n;
	return 0;
}

void message_buffer_free(struct message_buffer *b)
{
	free(b->data);
	*b = (struct message_buffer){0};
}

/* Writes a text; each byte that is not UTF-8 becomes U+FFFD. */
static int pack_text(msgpack_packer *pk, const char *text)
{
	size_t n = strlen(text);
	if (scan_utf8((const unsigned char *)text, n) == n) return msgpack_pack_str_with_body(pk, text, n);
	char *clean = malloc(3 * n + 1);
	if (!clean) return -1;
	text_clean(text, n, clean, 3 * n + 1);
	int rc = msgpack_pack_str_with_body(pk, clean, strlen(clean));
	free(clean);
	return rc;
}

static int pack_field(msgpack_packer *pk, const struct field *f, const void *body)
{
	const void *p = (const char *)body + f->offset;
	int rc = msgpack_pack_str_with_body(pk, f->key, strlen(f->key));
	if (rc) return rc;
	switch (f->kind) {
	case FIELD_U32: return msgpack_pack_uint32(pk, *(const uint32_t *)p);
	case FIELD_U64: return msgpack_pack_uint64(pk, *(const uint64_t *)p);
	case FIELD_F64: return msgpack_pack_double(pk, *(const double *)p);
	case FIELD_NAME: return pack_text(pk, p);
	case FIELD_TEXT: return pack_text(pk, *(const char *const *)p);
	case FIELD_TEXTS: {
		const struct field_texts *t = p;
		rc = msgpack_pack_array(pk, t->count);
		for (size_t i = 0; i < t->count && rc == 0; i++) rc = pack_text(pk, t->text[i]);
		return rc;
	}
	case FIELD_BIN: {
		const struct field_bin *b = p;
		return msgpack_pack_bin_with_body(pk, b->data, b->count * f->size);
	}
	}
	return -1;
}

/* NULL texts are a caller's mistake, told by key. */
static void check_texts(const struct field *f, size_t count, const void *body)
{
	for (size_t i = 0; i < count; i++) {
		const void *p = (const char *)body + f[i].offset;
		if (f[i].kind == FIELD_TEXT) CHECK(*(const char *const *)p, "text \"%s\" is NULL", f[i].key);
		const struct field_texts *t = p;
		for (size_t k = 0; f[i].kind == FIELD_TEXTS && k < t->count; k++) CHECK(t->text[k], "\"%s\"[%zu] is NULL", f[i].key, k);
		if (f[i].kind == FIELD_NAME) CHECK(memchr(p, 0, f[i].size), "\"%s\" does not end", f[i].key);
	}
}

static int pack_message(struct message_buffer *b, const struct message *m, const struct field *f, size_t count, const void *body)
{
	msgpack_packer pk;
	const char *type = message_type_name(m->type);
	msgpack_packer_init(&pk, b, buffer_write);
	int rc = msgpack_pack_map(&pk, count + 3);
	rc = rc ? rc : msgpack_pack_str_with_body(&pk, "protocol", 8);
	rc = rc ? rc : msgpack_pack_uint32(&pk, m->protocol);
	rc = rc ? rc : msgpack_pack_str_with_body(&pk, "run", 3);
	rc = rc ? rc : pack_text(&pk, m->run);
	rc = rc ? rc : msgpack_pack_str_with_body(&pk, "type", 4);
	rc = rc ? rc : msgpack_pack_str_with_body(&pk, type, strlen(type));
	for (size_t i = 0; i < count && rc == 0; i++) rc = pack_field(&pk, &f[i], body);
	return rc;
}

int message_encode(struct message_buffer *b, const struct message *m, struct err *e)
{
	CHECK(m->type > MESSAGE_NONE && m->type < MESSAGE_TYPES, "message of type %d", (int)m->type);
	union view v;
	struct view_scratch s = {.numbers = NULL};
	const void *body;
	size_t count;
	const struct field *f = message_fields(m->type, &count);
	int rc = 0;
	b->bytes = 0;
	rc = view_make(&v, &s, m, &body, e);
	if (rc < 0) {
		err_prefix(e, "message %s not sent", message_type_name(m->type));
		goto out;
	}
	check_texts(f, count, body);
	if (pack_message(b, m, f, count, body) != 0)
		rc = err_set(e, ERR_MEMORY, "no memory to encode a message %s", message_type_name(m->type));
out:
	view_scratch_free(&s);
	return rc;
}
