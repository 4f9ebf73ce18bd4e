/* Reading one safetensors file: mapping, header, every refusal; see
 * safetensors.h. The header is walked once by bytes before it is parsed, because
 * a JSON library allocates for whatever it is shown: a header nests three deep
 * and its arrays have at most SAFETENSORS_DIMS members, so anything else is
 * refused at no cost. Keys of an entry that the format does not know are ignored,
 * as the reference does. */
#include "core/base/text.h"
#include "policy/safetensors_internal.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100000000, HEADER_DEPTH = 3 };

static const struct {
	const char *name;
	size_t bytes;
} dtypes[SAFETENSORS_DTYPES] = {
	[SAFETENSORS_BOOL] = {"BOOL", 1},
	[SAFETENSORS_U8] = {"U8", 1},
	[SAFETENSORS_I8] = {"I8", 1},
	[SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1},
	[SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1},
	[SAFETENSORS_I16] = {"I16", 2},
	[SAFETENSORS_U16] = {"U16", 2},
	[SAFETENSORS_F16] = {"F16", 2},
	[SAFETENSORS_BF16] = {"BF16", 2},
	[SAFETENSORS_I32] = {"I32", 4},
	[SAFETENSORS_U32] = {"U32", 4},
	[SAFETENSORS_F32] = {"F32", 4},
	[SAFETENSORS_F64] = {"F64", 8},
	[SAFETENSORS_I64] = {"I64", 8},
	[SAFETENSORS_U64] = {"U64", 8},
};

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
	CHECK(dtype < SAFETENSORS_DTYPES, "dtype %d", (int)dtype);
	return dtypes[dtype].name;
}

size_t safetensors_dtype_bytes(enum safetensors_dtype dtype)
{
	CHECK(dtype < SAFETENSORS_DTYPES, "dtype %d", (int)dtype);
	return dtypes[dtype].bytes;
}

int safetensors_dtype_find(const char *name)
{
	for (int i = 0; i < SAFETENSORS_DTYPES; i++)
		if (!strcmp(name, dtypes[i].name)) return i;
	return -1;
}

const char *safetensors_show(char out[SAFETENSORS_SHOWN], const char *name)
{
	text_clean(name, strlen(name), out, SAFETENSORS_SHOWN);
	for (char *c = out; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
	return out;
}

int safetensors_sizes(enum safetensors_dtype dtype, int ndim, const int64_t *shape, int64_t *elements, size_t *bytes)
{
	int64_t n = 1, size;
	for (int i = 0; i < ndim; i++)
		if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n)) return -1;
	if (__builtin_mul_overflow(n, (int64_t)safetensors_dtype_bytes(dtype), &size)) return -1;
	*elements = n;
	*bytes = (size_t)size;
	return 0;
}

/* Refuses JSON that no header can be, before anything is allocated for it. */
static int header_scan(const char *path, const char *text, size_t bytes, struct err *e)
{
	int depth = 0, in_string = 0, commas = 0;
	for (size_t i = 0; i < bytes; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\') i++;
			else if (c == '"') in_string = 0;
		} else if (c == '"') {
			in_string = 1;
		} else if (c == '{' || c == '[') {
			commas = 0;
			if (++depth > HEADER_DEPTH)
				return err_set(e, ERR_FORMAT, "%s: header: JSON deeper than %d levels at byte %zu", path, HEADER_DEPTH, 8 + i);
		} else if (c == '}' || c == ']') {
			depth--;
		} else if (c == ',' && depth == HEADER_DEPTH && ++commas >= SAFETENSORS_DIMS) {
			return err_set(e, ERR_FORMAT, "%s: header: a list of more than %d members at byte %zu: more dimensions than are read here", path,
				SAFETENSORS_DIMS, 8 + i);
		}
	}
	return 0;
}

static int header_parse(struct safetensors_shard *shard, size_t *data_start, struct err *e)
{
	const char *path = shard->path;
	const unsigned char *p = shard->map.data;
	uint64_t n = 0;
	if (shard->map.bytes < 8)
		return err_set(e, ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file: it is damaged or something else", path, shard->map.bytes);
	for (int i = 7; i >= 0; i--) n = n << 8 | p[i];
	if (n == 0) return err_set(e, ERR_FORMAT, "%s: header of 0 bytes", path);
	if (n > HEADER_MAX) return err_set(e, ERR_FORMAT, "%s: header of %llu bytes: at most %d are allowed", path, (unsigned long long)n, HEADER_MAX);
	if (n > shard->map.bytes - 8)
		return err_set(e, ERR_FORMAT, "%s: header of %llu bytes in a file of %zu: it is cut off", path, (unsigned long long)n, shard->map.bytes);
	const char *text = (const char *)p + 8;
	if (text[0] != '{') return err_set(e, ERR_FORMAT, "%s: header does not start with {", path);
	int rc = header_scan(path, text, (size_t)n, e);
	if (rc < 0) return rc;
	json_error_t why;
	char shown[SAFETENSORS_SHOWN];
	shard->header = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &why);
	if (!shard->header) {
		int out_of_memory = json_error_code(&why) == json_error_out_of_memory;
		return err_set(e, out_of_memory ? ERR_MEMORY : ERR_FORMAT, "%s: header: %s at byte %d", path, safetensors_show(shown, why.text), 8 + why.position);
	}
	*data_start = 8 + (size_t)n;
	return 0;
}

static int metadata_check(const char *path, json_t *metadata, struct err *e)
{
	const char *key;
	json_t *value;
	char shown[SAFETENSORS_SHOWN];
	if (!json_is_object(metadata)) return err_set(e, ERR_FORMAT, "%s: __metadata__ is not an object", path);
	json_object_foreach(metadata, key, value)
		if (!json_is_string(value)) return err_set(e, ERR_FORMAT, "%s: __metadata__: %s is not a string", path, safetensors_show(shown, key));
	return 0;
}

/* One entry of the header. data: start of the data, available: its bytes. */
static int entry_read(struct safetensors_tensor *t, json_t *entry, const unsigned char *data, size_t available, struct err *e)
{
	char name[SAFETENSORS_SHOWN], word[SAFETENSORS_SHOWN];
	const char *dtype = json_string_value(json_object_get(entry, "dtype"));
	json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
	json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
#define REFUSE(...) (err_set(e, ERR_FORMAT, __VA_ARGS__), err_prefix(e, "%s: tensor %s", t->file, safetensors_show(name, t->name)))
	if (!json_is_object(entry)) return REFUSE("its entry is not an object");
	if (!dtype) return REFUSE("no dtype");
	if (!json_is_array(shape)) return REFUSE("no shape");
	if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
		return REFUSE("data_offsets is not a pair of whole numbers");
	int kind = safetensors_dtype_find(dtype);
	if (kind < 0) return REFUSE("unknown dtype %s", safetensors_show(word, dtype));
	t->dtype = (enum safetensors_dtype)kind;
	if (json_array_size(shape) > SAFETENSORS_DIMS)
		return REFUSE("%zu dimensions: at most %d are read here", json_array_size(shape), SAFETENSORS_DIMS);
	t->ndim = (int)json_array_size(shape);
	for (int i = 0; i < t->ndim; i++) {
		json_t *d = json_array_get(shape, (size_t)i);
		if (!json_is_integer(d) || json_integer_value(d) < 0) return REFUSE("dimension %d of its shape is not a whole number from 0", i);
		t->shape[i] = json_integer_value(d);
	}
	if (safetensors_sizes(t->dtype, t->ndim, t->shape, &t->elements, &t->bytes) < 0) return REFUSE("its shape overflows");
	int64_t begin = json_integer_value(first), end = json_integer_value(last);
	if (begin < 0 || end < begin) return REFUSE("data_offsets [%lld,%lld] run backwards", (long long)begin, (long long)end);
	if ((size_t)(end - begin) != t->bytes)
		return REFUSE("data_offsets give %lld bytes, its shape and dtype %s need %zu", (long long)(end - begin), dtype, t->bytes);
	if ((size_t)end > available)
		return REFUSE("its data ends at byte %lld of %zu: the file is cut off", (long long)end, available);
#undef REFUSE
	t->data = data + begin;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a, *y = b;
	if (x->data != y->data) return x->data < y->data ? -1 : 1;
	if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* In data order each tensor begins where the one before ended, and the last ends with the file. */
static int places_check(const struct safetensors_shard *shard, const unsigned char *data, size_t available, struct err *e)
{
	size_t at = 0;
	char name[SAFETENSORS_SHOWN];
	for (size_t i = 0; i < shard->count; i++) {
		const struct safetensors_tensor *t = &shard->tensors[i];
		size_t begin = (size_t)(t->data - data);
		if (begin != at)
			return err_set(e, ERR_FORMAT, "%s: tensor %s: begins at byte %zu of the data, %s byte %zu, where the one before it ends", shard->path,
				safetensors_show(name, t->name), begin, begin < at ? "an overlap: before" : "a hole: after", at);
		at = begin + t->bytes;
	}
	if (at != available)
		return err_set(e, ERR_FORMAT, "%s: %zu bytes follow the last tensor: the file is damaged or was written over", shard->path, available - at);
	return 0;
}

static int tensors_read(struct safetensors_shard *shard, size_t data_start, struct err *e)
{
	const unsigned char *data = shard->map.data + data_start;
	size_t available = shard->map.bytes - data_start;
	const char *key;
	json_t *value;
	int rc = 0;
	shard->tensors = calloc(json_object_size(shard->header) + 1, sizeof *shard->tensors);
	if (!shard->tensors) return err_set(e, ERR_MEMORY, "%s: no memory for its %zu tensors", shard->path, json_object_size(shard->header));
	json_object_foreach(shard->header, key, value) {
		if (!strcmp(key, "__metadata__")) {
			rc = metadata_check(shard->path, value, e);
		} else {
			struct safetensors_tensor *t = &shard->tensors[shard->count++];
			t->name = key;
			t->file = shard->path;
			rc = entry_read(t, value, data, available, e);
		}
		if (rc < 0) return rc;
	}
	qsort(shard->tensors, shard->count, sizeof *shard->tensors, by_place);
	return places_check(shard, data, available, e);
}

int safetensors_shard_open(struct safetensors_shard *shard, const char *path, struct err *e)
{
	size_t data_start = 0;
	int rc = 0;
	*shard = (struct safetensors_shard){.path = strdup(path)};
	CHECK(shard->path, "out of memory for a path");
	TRY(fs_map_open(&shard->map, path, e));
	TRY(header_parse(shard, &data_start, e));
	TRY(tensors_read(shard, data_start, e));
out:
	if (rc < 0) safetensors_shard_close(shard);
	return rc;
}

void safetensors_shard_close(struct safetensors_shard *shard)
{
	free(shard->tensors);
	json_decref(shard->header);
	fs_map_close(&shard->map);
	free(shard->path);
	*shard = (struct safetensors_shard){0};
}
