/* One or several safetensors files seen as one set of tensors: opening a file or
 * a folder with an index, finding by name, converting; see safetensors.h. */
#include "core/base/text.h"
#include "core/tensor/bf16.h"
#include "policy/safetensors_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INDEX_MAX = 100000000, SHARDS_MAX = 4096 };

struct safetensors {
	struct safetensors_shard *shards; /* [shard_count] */
	size_t shard_count;
	const struct safetensors_tensor **list, **sorted; /* [count]: data order; by name */
	size_t count;
};

static int by_name(const void *a, const void *b)
{
	const struct safetensors_tensor *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

/* Gathers the tensors of all shards; refuses a name in two of them. */
static int gather(struct safetensors *s, struct err *e)
{
	size_t at = 0;
	char name[SAFETENSORS_SHOWN];
	for (size_t i = 0; i < s->shard_count; i++) s->count += s->shards[i].count;
	s->list = calloc(s->count + 1, sizeof *s->list);
	s->sorted = calloc(s->count + 1, sizeof *s->sorted);
	if (!s->list || !s->sorted) return err_set(e, ERR_MEMORY, "no memory for the list of %zu tensors", s->count);
	for (size_t i = 0; i < s->shard_count; i++)
		for (size_t k = 0; k < s->shards[i].count; k++) s->list[at++] = &s->shards[i].tensors[k];
	memcpy(s->sorted, s->list, s->count * sizeof *s->sorted);
	qsort(s->sorted, s->count, sizeof *s->sorted, by_name);
	for (size_t i = 1; i < s->count; i++)
		if (!strcmp(s->sorted[i - 1]->name, s->sorted[i]->name))
			return err_set(e, ERR_FORMAT, "%s: tensor %s: it is in %s too", s->sorted[i]->file, safetensors_show(name, s->sorted[i]->name),
				s->sorted[i - 1]->file);
	return 0;
}

static struct safetensors *make(size_t shards)
{
	struct safetensors *s = calloc(1, sizeof *s);
	CHECK(s, "out of memory for a handle");
	s->shards = calloc(shards, sizeof *s->shards);
	CHECK(s->shards, "out of memory for a handle");
	return s;
}

int safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
	int rc = 0;
	struct safetensors *s = make(1);
	*out = NULL;
	TRY(safetensors_shard_open(&s->shards[0], path, e));
	s->shard_count = 1;
	TRY(gather(s, e));
	*out = s;
	s = NULL;
out:
	safetensors_close(s);
	return rc;
}

void safetensors_close(struct safetensors *s)
{
	if (!s) return;
	for (size_t i = 0; i < s->shard_count; i++) safetensors_shard_close(&s->shards[i]);
	free(s->shards);
	free(s->list);
	free(s->sorted);
	free(s);
}

/* The weight_map of an index: tensor → file name, all plain names. */
static int index_read(json_t **root, json_t **map, const char *path, struct err *e)
{
	char *text = NULL, name[SAFETENSORS_SHOWN];
	const char *tensor;
	size_t bytes = 0;
	json_error_t why;
	json_t *file;
	int rc = fs_read(path, INDEX_MAX, &text, &bytes, e);
	if (rc < 0) return rc;
	*root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	free(text);
	if (!*root) return err_set(e, ERR_FORMAT, "%s:%d: %s", path, why.line, safetensors_show(name, why.text));
	*map = json_object_get(*root, "weight_map");
	if (!json_is_object(*map) || !json_object_size(*map)) return err_set(e, ERR_FORMAT, "%s: no weight_map", path);
	json_object_foreach(*map, tensor, file) {
		const char *f = json_string_value(file);
		if (!f || !*f || f[0] == '.' || strchr(f, '/'))
			return err_set(e, ERR_FORMAT, "%s: tensor %s: its file is not a plain file name", path, safetensors_show(name, tensor));
	}
	return 0;
}

/* Every tensor of the map is in the file it names, and no file holds another. */
static int index_compare(const struct safetensors *s, json_t *map, const char *folder, struct err *e)
{
	char name[SAFETENSORS_SHOWN], path[PATH_MAX];
	const char *tensor;
	json_t *file;
	json_object_foreach(map, tensor, file) {
		const struct safetensors_tensor *t = safetensors_find(s, tensor);
		snprintf(path, sizeof path, "%s/%s", folder, json_string_value(file));
		if (!t || strcmp(t->file, path))
			return err_set(e, ERR_FORMAT, "%s: tensor %s: the index says it is here, and it is not", path, safetensors_show(name, tensor));
	}
	for (size_t i = 0; i < s->count; i++)
		if (!json_object_get(map, s->list[i]->name))
			return err_set(e, ERR_FORMAT, "%s: tensor %s: the index does not list it", s->list[i]->file, safetensors_show(name, s->list[i]->name));
	return 0;
}

/* Opens each file that the map names, once. */
static int shards_open(struct safetensors *s, json_t *map, const char *folder, struct err *e)
{
	char path[PATH_MAX];
	const char *tensor;
	json_t *file;
	json_object_foreach(map, tensor, file) {
		if (snprintf(path, sizeof path, "%s/%s", folder, json_string_value(file)) >= (int)sizeof path)
			return err_set(e, ERR_RANGE, "path too long: %s", folder);
		size_t k = 0;
		while (k < s->shard_count && strcmp(s->shards[k].path, path)) k++;
		if (k < s->shard_count) continue;
		if (k == SHARDS_MAX) return err_set(e, ERR_RANGE, "%s: the index names more than %d files", folder, SHARDS_MAX);
		int rc = safetensors_shard_open(&s->shards[k], path, e);
		if (rc < 0) return rc;
		s->shard_count++;
	}
	return gather(s, e);
}

int safetensors_open_folder(struct safetensors **out, const char *folder, struct err *e)
{
	char path[PATH_MAX];
	json_t *root = NULL, *map = NULL;
	struct safetensors *s = NULL;
	int rc = 0;
	*out = NULL;
	if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path) return err_set(e, ERR_RANGE, "path too long: %s", folder);
	if (fs_exists(path)) return safetensors_open(out, path, e);
	if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder) >= (int)sizeof path)
		return err_set(e, ERR_RANGE, "path too long: %s", folder);
	if (!fs_exists(path)) return err_set(e, ERR_NOT_FOUND, "%s has neither model.safetensors nor model.safetensors.index.json", folder);
	TRY(index_read(&root, &map, path, e));
	s = make(SHARDS_MAX);
	TRY(shards_open(s, map, folder, e));
	TRY(index_compare(s, map, folder, e));
	*out = s;
	s = NULL;
out:
	safetensors_close(s);
	json_decref(root);
	return rc;
}

size_t safetensors_count(const struct safetensors *s)
{
	return s->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t i)
{
	CHECK(i < s->count, "tensor %zu of %zu", i, s->count);
	return s->list[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
	size_t low = 0, high = s->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, s->sorted[mid]->name);
		if (order == 0) return s->sorted[mid];
		if (order < 0) high = mid;
		else low = mid + 1;
	}
	return NULL;
}

static const char *shape_text(char out[160], int ndim, const int64_t *shape)
{
	int at = snprintf(out, 160, "[");
	for (int i = 0; i < ndim && at < 130; i++) at += snprintf(out + at, (size_t)(160 - at), "%s%lld", i ? "," : "", (long long)shape[i]);
	snprintf(out + at, (size_t)(160 - at), "]");
	return out;
}

int safetensors_expect(const struct safetensors *s, const char *name, int ndim, const int64_t *shape,
	const struct safetensors_tensor **out, struct err *e)
{
	char have[160], need[160];
	const struct safetensors_tensor *t = safetensors_find(s, name);
	*out = t;
	if (!t) {
		const char *first = s->shard_count ? s->shards[0].path : "";
		return err_set(e, ERR_NOT_FOUND, "%s%s: tensor %s is missing", first, s->shard_count > 1 ? " and its fellows" : "", name);
	}
	if (t->ndim != ndim || (ndim && memcmp(t->shape, shape, (size_t)ndim * sizeof *shape)))
		return err_set(e, ERR_MISMATCH, "%s: tensor %s has shape %s, %s is needed", t->file, name, shape_text(have, t->ndim, t->shape),
			shape_text(need, ndim, shape));
	return 0;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
	for (size_t i = 0; i < s->shard_count; i++) {
		const char *value = json_string_value(json_object_get(json_object_get(s->shards[i].header, "__metadata__"), key));
		if (value) return value;
	}
	return NULL;
}

static uint32_t f16_to_f32(uint32_t h)
{
	uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
	if (exponent == 31) return sign | 0x7F800000u | fraction << 13;
	if (exponent) return sign | (exponent + 112) << 23 | fraction << 13;
	if (!fraction) return sign;
	uint32_t shift = (uint32_t)__builtin_clz(fraction) - 21; /* brings the leading one to bit 10 */
	return sign | (113 - shift) << 23 | (fraction << shift & 0x3FF) << 13;
}

int safetensors_read_f32(const struct safetensors_tensor *t, float *out, struct err *e)
{
	const unsigned char *p = t->data;
	size_t n = (size_t)t->elements;
	uint32_t bits;
	uint16_t half;
	double wide;
	char name[SAFETENSORS_SHOWN];
	switch (t->dtype) {
	case SAFETENSORS_F32:
		if (n) memcpy(out, p, n * sizeof *out);
		return 0;
	case SAFETENSORS_BF16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&half, p + 2 * i, sizeof half);
			out[i] = bf16_widen(half);
		}
		return 0;
	case SAFETENSORS_F16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&half, p + 2 * i, sizeof half);
			bits = f16_to_f32(half);
			memcpy(out + i, &bits, sizeof bits);
		}
		return 0;
	case SAFETENSORS_F64:
		for (size_t i = 0; i < n; i++) {
			memcpy(&wide, p + 8 * i, sizeof wide);
			out[i] = (float)wide;
		}
		return 0;
	default:
		return err_set(e, ERR_FORMAT, "%s: tensor %s: dtype %s where a float is needed", t->file, safetensors_show(name, t->name),
			safetensors_dtype_name(t->dtype));
	}
}
