/* Decoding: pre-scan, msgpack-c, then every key against the type's table. See
 * message.h for what is refused. Tensors are copied into the arena, where they
 * are aligned; the frame can be freed afterwards. */
#include "core/wire/message_fields.h"
#include "core/wire/scan.h"

#include <math.h>
#include <msgpack.h>
#include <string.h>

enum { LIMIT_DEFAULT = 64 << 20 };

struct decoder {
	struct arena *arena;
	struct err *err;
};

static int key_is(const msgpack_object *key, const char *name)
{
	size_t n = strlen(name);
	return key->type == MSGPACK_OBJECT_STR && key->via.str.size == n && memcmp(key->via.str.ptr, name, n) == 0;
}

static int wrong_type(struct decoder *d, const char *key, const char *want)
{
	return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" is not %s", key, want);
}

/* Valid UTF-8 without NUL, or ERR_FORMAT. */
static int check_text(struct decoder *d, const char *key, const msgpack_object *o)
{
	if (o->type != MSGPACK_OBJECT_STR) return wrong_type(d, key, "a text");
	size_t n = o->via.str.size, good = scan_utf8((const unsigned char *)o->via.str.ptr, n);
	if (good != n) return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" is not UTF-8 at byte %zu", key, good);
	if (n && memchr(o->via.str.ptr, 0, n))
		return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" holds a NUL", key);
	return 0;
}

static int take_name(struct decoder *d, const char *key, const msgpack_object *o, char *out, size_t size)
{
	int rc = check_text(d, key, o);
	if (rc < 0) return rc;
	if (o->via.str.size >= size)
		return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" has %u bytes, at most %zu", key, o->via.str.size, size - 1);
	memcpy(out, o->via.str.ptr, o->via.str.size);
	out[o->via.str.size] = 0;
	return 0;
}

static int take_text(struct decoder *d, const char *key, const msgpack_object *o, const char **out)
{
	int rc = check_text(d, key, o);
	if (rc < 0) return rc;
	char *p = arena_alloc(d->arena, (size_t)o->via.str.size + 1);
	if (!p) return err_set(d->err, ERR_MEMORY, "no memory for a text of %u bytes", o->via.str.size);
	memcpy(p, o->via.str.ptr, o->via.str.size);
	p[o->via.str.size] = 0;
	*out = p;
	return 0;
}

static int take_number(struct decoder *d, const char *key, const msgpack_object *o, uint64_t max, uint64_t *out)
{
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return wrong_type(d, key, "a whole number from 0 up");
	if (o->via.u64 > max)
		return err_set(d->err, ERR_RANGE, "key \"%s\" is %llu, at most %llu", key, (unsigned long long)o->via.u64,
		               (unsigned long long)max);
	*out = o->via.u64;
	return 0;
}

static int take_f64(struct decoder *d, const char *key, const msgpack_object *o, double *out)
{
	double v;
	if (o->type == MSGPACK_OBJECT_FLOAT64 || o->type == MSGPACK_OBJECT_FLOAT32) v = o->via.f64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER) v = (double)o->via.u64;
	else return wrong_type(d, key, "a number from 0 up");
	if (!isfinite(v) || v < 0) return err_set(d->err, ERR_RANGE, "key \"%s\" is %g, not a finite number from 0 up", key, v);
	*out = v;
	return 0;
}

static int take_texts(struct decoder *d, const char *key, const msgpack_object *o, struct field_texts *out)
{
	if (o->type != MSGPACK_OBJECT_ARRAY) return wrong_type(d, key, "a list of texts");
	size_t n = o->via.array.size;
	const char **text = arena_alloc(d->arena, n * sizeof *text);
	if (!text) return err_set(d->err, ERR_MEMORY, "no memory for %zu texts", n);
	for (size_t i = 0; i < n; i++) {
		int rc = take_text(d, key, &o->via.array.ptr[i], &text[i]);
		if (rc < 0) return rc;
	}
	*out = (struct field_texts){text, n};
	return 0;
}

static int take_bin(struct decoder *d, const struct field *f, const msgpack_object *o, struct field_bin *out)
{
	if (o->type != MSGPACK_OBJECT_BIN) return wrong_type(d, f->key, "a bin");
	size_t n = o->via.bin.size;
	if (n % f->size)
		return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" has %zu bytes, not a multiple of %zu (%s)", f->key, n,
		               f->size, f->element);
	void *p = arena_alloc(d->arena, n);
	if (!p) return err_set(d->err, ERR_MEMORY, "no memory for %zu bytes of \"%s\"", n, f->key);
	if (n) memcpy(p, o->via.bin.ptr, n);
	*out = (struct field_bin){p, n / f->size};
	return 0;
}

static int take_field(struct decoder *d, const struct field *f, const msgpack_object *o, void *body)
{
	void *p = (char *)body + f->offset;
	uint64_t u = 0;
	int rc = 0;
	switch (f->kind) {
	case FIELD_U32:
		rc = take_number(d, f->key, o, UINT32_MAX, &u);
		*(uint32_t *)p = (uint32_t)u;
		return rc;
	case FIELD_U64: return take_number(d, f->key, o, UINT64_MAX, p);
	case FIELD_F64: return take_f64(d, f->key, o, p);
	case FIELD_NAME: return take_name(d, f->key, o, p, f->size);
	case FIELD_TEXT: return take_text(d, f->key, o, p);
	case FIELD_TEXTS: return take_texts(d, f->key, o, p);
	case FIELD_BIN: return take_bin(d, f, o, p);
	}
	return 0;
}

static const msgpack_object *find(const msgpack_object_map *map, const char *key)
{
	for (uint32_t i = 0; i < map->size; i++)
		if (key_is(&map->ptr[i].key, key)) return &map->ptr[i].val;
	return NULL;
}

/* Protocol first: a frame of another version may have any other keys. */
static int take_envelope(struct decoder *d, struct message *m, const msgpack_object_map *map)
{
	static const char *const keys[] = {"protocol", "run", "type"};
	const msgpack_object *o[3];
	char type[MESSAGE_ABOUT];
	uint64_t u = 0;
	int rc = 0;
	for (int i = 0; i < 3; i++) o[i] = find(map, keys[i]);
	for (int i = 0; i < 3; i++)
		if (!o[i]) return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" is missing", keys[i]);
	TRY(take_number(d, "protocol", o[0], UINT32_MAX, &u));
	m->protocol = (uint32_t)u;
	if (m->protocol != MESSAGE_PROTOCOL)
		return err_set(d->err, ERR_MISMATCH, "the message is of protocol version %u, this program speaks %d: use the same release on both sides",
		               m->protocol, MESSAGE_PROTOCOL);
	TRY(take_name(d, "run", o[1], m->run, sizeof m->run));
	TRY(take_name(d, "type", o[2], type, sizeof type));
	for (int t = MESSAGE_NONE + 1; t < MESSAGE_TYPES; t++)
		if (strcmp(type, message_type_name((enum message_type)t)) == 0) m->type = (enum message_type)t;
	if (m->type == MESSAGE_NONE) return err_set(d->err, ERR_FORMAT, "unknown message type \"%s\"", type);
	const msgpack_object *step = find(map, "step"), *slot = find(map, "slot");
	if (step && slot && step->type == MSGPACK_OBJECT_POSITIVE_INTEGER && slot->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
	    slot->via.u64 <= UINT32_MAX) {
		m->has_id = 1;
		m->id_step = step->via.u64;
		m->id_slot = (uint32_t)slot->via.u64;
	}
out:
	return rc;
}

/* A key as it may be shown: 40 bytes at most, printable. */
static const char *show_key(const msgpack_object *key, char out[48])
{
	if (key->type != MSGPACK_OBJECT_STR) return "(not a text)";
	size_t n = key->via.str.size < 40 ? key->via.str.size : 40;
	for (size_t i = 0; i < n; i++) {
		char c = key->via.str.ptr[i];
		out[i] = c >= 32 && c < 127 ? c : '?';
	}
	out[n] = 0;
	return out;
}

static int take_body(struct decoder *d, struct message *m, const msgpack_object_map *map, void *body)
{
	size_t count;
	const struct field *f = message_fields(m->type, &count);
	static const char *const envelope[] = {"protocol", "run", "type"};
	uint32_t seen = 0;
	char shown[48];
	for (uint32_t i = 0; i < map->size; i++) {
		const msgpack_object *key = &map->ptr[i].key;
		size_t at = 0;
		while (at < 3 && !key_is(key, envelope[at])) at++;
		if (at == 3)
			while (at < count + 3 && !key_is(key, f[at - 3].key)) at++;
		if (at == count + 3)
			return err_set(d->err, ERR_FORMAT, "malformed message: unknown key \"%s\"", show_key(key, shown));
		if (seen >> at & 1)
			return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" comes twice", show_key(key, shown));
		seen |= 1u << at;
		int rc = at < 3 ? 0 : take_field(d, &f[at - 3], &map->ptr[i].val, body);
		if (rc < 0) return rc;
	}
	for (size_t at = 3; at < count + 3; at++)
		if (!(seen >> at & 1)) return err_set(d->err, ERR_FORMAT, "malformed message: key \"%s\" is missing", f[at - 3].key);
	return 0;
}

int message_decode(struct message *m, const void *data, size_t bytes, struct arena *arena,
                   const struct message_limits *limits, struct err *e)
{
	static const struct message_limits standard = {0};
	const struct message_limits *l = limits ? limits : &standard;
	struct decoder d = {arena, e};
	msgpack_unpacked unpacked;
	union view v;
	size_t at = 0, most = l->bytes ? l->bytes : LIMIT_DEFAULT;
	int rc = 0;
	memset(m, 0, sizeof *m);
	memset(&v, 0, sizeof v);
	msgpack_unpacked_init(&unpacked);
	if (bytes > most) {
		rc = err_set(e, ERR_FORMAT, "a message of %zu bytes, at most %zu (net.max_message_mib)", bytes, most);
		goto out;
	}
	TRY(scan_msgpack(data, bytes, e));
	msgpack_unpack_return r = msgpack_unpack_next(&unpacked, data, bytes, &at);
	if (r != MSGPACK_UNPACK_SUCCESS || at != bytes || unpacked.data.type != MSGPACK_OBJECT_MAP) {
		rc = r == MSGPACK_UNPACK_NOMEM_ERROR ? err_set(e, ERR_MEMORY, "no memory to decode a message of %zu bytes", bytes)
		                                     : err_set(e, ERR_FORMAT, "malformed message: it is not one map");
		goto out;
	}
	TRY(take_envelope(&d, m, &unpacked.data.via.map));
	rc = take_body(&d, m, &unpacked.data.via.map, view_target(m, &v));
	if (rc == 0) rc = view_take(m, &v, arena, l, e);
	if (rc < 0) err_prefix(e, "message %s", message_type_name(m->type));
out:
	msgpack_unpacked_destroy(&unpacked);
	return rc;
}

int message_check_run(const struct message *m, const char *run, struct err *e)
{
	if (strcmp(m->run, run) == 0) return 0;
	if (m->run[0] == 0 && (m->type == MESSAGE_HELLO || m->type == MESSAGE_HEALTH)) return 0;
	return err_set(e, ERR_MISMATCH, "the message is of run \"%s\", this is run \"%s\": check the endpoints in both configurations",
	               m->run, run);
}

void message_refuse(struct message *reply, const struct message *about, const char *run, const struct err *e)
{
	message_init(reply, MESSAGE_REFUSE, run);
	strcpy(reply->refuse.about, message_type_name(about->type));
	if (about->has_id) {
		reply->refuse.step = about->id_step;
		reply->refuse.slot = about->id_slot;
	}
	size_t n = strnlen(e->msg, MESSAGE_REASON - 1);
	memcpy(reply->refuse.reason, e->msg, n);
	reply->refuse.reason[n] = 0;
}
