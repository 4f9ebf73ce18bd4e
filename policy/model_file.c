/* Between arenas and safetensors files; see model_file.h. The table is walked
 * once to name every matrix of every arena; each is then looked for in the file
 * under its spellings (model_source.c), and what the file has beyond that is
 * refused unless it is known to be no weight. */
#include "policy/model_pieces.h"

#include <stdlib.h>
#include <string.h>

/* The table's name of matrix i: "%d" replaced by it. */
static void piece_name(char *out, size_t room, const char *prefix, const struct param *q, int64_t i)
{
	const char *mark = strstr(q->name, "%d");
	int n;
	if (mark) n = snprintf(out, room, "%s%.*s%lld%s", prefix, (int)(mark - q->name), q->name, (long long)i, mark + 2);
	else n = snprintf(out, room, "%s%s", prefix, q->name);
	CHECK(n < (int)room, "the name %s%s is too long", prefix, q->name);
}

void pieces_make(struct pieces *out, const struct params *p, const struct params_arena *arenas, int n)
{
	size_t count = 0;
	CHECK(n >= 1 && n <= PARAMS_ARENAS_MAX, "%d arenas in a file", n);
	for (int i = 0; i < p->count; i++) count += (size_t)p->list[i].stack * (size_t)n;
	*out = (struct pieces){.list = calloc(count, sizeof *out->list), .count = count};
	CHECK(out->list, "out of memory for %zu names", count);
	struct piece *x = out->list;
	for (int a = 0; a < n; a++)
		for (int i = 0; i < p->count; i++) {
			const struct param *q = &p->list[i];
			for (int64_t k = 0; k < q->stack; k++, x++) {
				piece_name(x->name, sizeof x->name, arenas[a].prefix, q, k);
				x->ndim = q->cols ? 2 : 1;
				x->turned = q->turned;
				x->shape[0] = q->turned ? q->cols : q->rows;
				x->shape[1] = q->turned ? q->rows : q->cols;
				x->expert = k;
				x->experts = q->stack;
				x->data = arenas[a].host ? arenas[a].host + q->offset + k * (q->size / q->stack) : NULL;
				x->head = !strncmp(q->name, "score.", 6) || !strncmp(q->name, "v_head.", 7) || (i == p->lm_head && i != p->embed);
			}
		}
}

/* ---- writing ---- */

static uint16_t to_bf16(float x)
{
	uint32_t b;
	memcpy(&b, &x, sizeof b);
	if ((b & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(b >> 16 | 0x40);
	return (uint16_t)((b + 0x7FFF + (b >> 16 & 1)) >> 16);
}

/* Round to nearest even; beyond the range infinity. */
static uint16_t to_f16(float x)
{
	uint32_t b, sign;
	memcpy(&b, &x, sizeof b);
	sign = b >> 16 & 0x8000u;
	b &= 0x7FFFFFFFu;
	if (b > 0x7F800000u) return (uint16_t)(sign | 0x7E00);
	if (b >= 0x477FF000u) return (uint16_t)(sign | 0x7C00);
	if (b < 0x38800000u) { /* subnormal: the addition rounds at the last place that stays */
		float y, magic = 0.5f;
		memcpy(&y, &b, sizeof y);
		y += magic;
		memcpy(&b, &y, sizeof b);
		return (uint16_t)(sign | (b - 0x3F000000u));
	}
	b += 0xC8000FFFu + (b >> 13 & 1);
	return (uint16_t)(sign | b >> 13);
}

/* The bytes of a piece as they go to disk: the arena's own when nothing is to be done, else a copy to free. */
static void *piece_bytes(const struct piece *x, enum safetensors_dtype dtype)
{
	int64_t rows = x->shape[0], cols = x->ndim == 2 ? x->shape[1] : 1, n = rows * cols;
	void *copy = malloc((size_t)n * safetensors_dtype_bytes(dtype) + 1);
	CHECK(copy, "out of memory to convert %s", x->name);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++) {
			float v = x->turned ? x->data[c * rows + r] : x->data[r * cols + c];
			int64_t at = r * cols + c;
			if (dtype == SAFETENSORS_F32) ((float *)copy)[at] = v;
			else ((uint16_t *)copy)[at] = dtype == SAFETENSORS_BF16 ? to_bf16(v) : to_f16(v);
		}
	return copy;
}

static int write_pieces(struct pieces all, const char *path, enum safetensors_dtype dtype, int durable, char hash[HASH_HEX], struct err *e)
{
	static const struct safetensors_pair format = {"format", "pt"};
	struct safetensors_entry *entry = calloc(all.count, sizeof *entry);
	void **copy = calloc(all.count, sizeof *copy);
	CHECK(entry && copy, "out of memory for %zu tensors", all.count);
	for (size_t i = 0; i < all.count; i++) {
		const struct piece *x = &all.list[i];
		if (x->turned || dtype != SAFETENSORS_F32) copy[i] = piece_bytes(x, dtype);
		entry[i] = (struct safetensors_entry){.name = x->name, .dtype = dtype, .ndim = x->ndim, .shape = {x->shape[0], x->shape[1]},
						      .data = copy[i] ? copy[i] : x->data};
	}
	int rc = safetensors_write(path, entry, all.count, &format, 1, durable, hash, e);
	for (size_t i = 0; i < all.count; i++) free(copy[i]);
	free(copy);
	free(entry);
	free(all.list);
	return rc;
}

int params_save(const struct params *p, const struct params_arena *arenas, int n, const char *path, int durable, char hash[HASH_HEX], struct err *e)
{
	struct pieces all;
	pieces_make(&all, p, arenas, n);
	return write_pieces(all, path, SAFETENSORS_F32, durable, hash, e);
}

/* ---- reading ---- */

static int read_pieces(const struct pieces *all, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < all->count && rc == 0; i++) {
		const struct piece *x = &all->list[i];
		if (!x->from || !x->data) continue;
		struct safetensors_tensor part = *x->from;
		part.elements = x->shape[0] * (x->ndim == 2 ? x->shape[1] : 1);
		part.data += (size_t)x->first * safetensors_dtype_bytes(part.dtype);
		if (!x->turned) {
			rc = safetensors_read_f32(&part, x->data, e);
			continue;
		}
		float *flat = malloc((size_t)part.elements * sizeof *flat + 1);
		CHECK(flat, "out of memory to read %s", x->name);
		rc = safetensors_read_f32(&part, flat, e);
		for (int64_t r = 0; r < x->shape[0]; r++)
			for (int64_t c = 0; c < x->shape[1]; c++) x->data[c * x->shape[0] + r] = flat[r * x->shape[1] + c];
		free(flat);
	}
	return rc;
}

static int load(const struct safetensors *s, const struct params *p, const struct params_arena *arenas, int n, const struct shape *shape, const char *path,
		int flags, struct err *e)
{
	struct pieces all;
	pieces_make(&all, p, arenas, n);
	int rc = pieces_find(&all, s, shape, path, flags, e);
	if (rc == 0) rc = read_pieces(&all, e);
	free(all.list);
	return rc;
}

int params_load(const struct params *p, const struct params_arena *arenas, int n, const char *path, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int rc = safetensors_open(&s, path, e);
	if (rc == 0) rc = load(s, p, arenas, n, NULL, path, flags, e);
	safetensors_close(s);
	return rc;
}

static float *staging(const struct params *p, struct err *e)
{
	float *host = calloc((size_t)p->floats, sizeof *host);
	if (!host) err_set(e, ERR_MEMORY, "no memory to pass %lld parameters between a file and the model", (long long)p->parameters);
	return host;
}

int model_save(const struct model *m, const char *path, int durable, char hash[HASH_HEX], struct err *e)
{
	float *host = staging(m->learned, e);
	if (!host) return ERR_MEMORY;
	model_get_learned(m, host);
	int rc = params_save(m->learned, &(struct params_arena){"", host}, 1, path, durable, hash, e);
	free(host);
	return rc;
}

int model_save_as(const struct model *m, const char *path, enum safetensors_dtype dtype, struct err *e)
{
	struct pieces all;
	float *host = staging(&m->params, e);
	if (!host) return ERR_MEMORY;
	model_get(m, host);
	pieces_make(&all, &m->params, &(struct params_arena){"", host}, 1);
	for (size_t i = 0; m->shape.family != FAMILY_TENFOLD && i < all.count; i++)
		if (!strcmp(all.list[i].name, "score.bias") && all.list[i].data[0] == 0) {
			memmove(all.list + i, all.list + i + 1, (all.count - i - 1) * sizeof *all.list);
			all.count--;
		}
	int rc = write_pieces(all, path, dtype, 1, NULL, e);
	free(host);
	return rc;
}

/* shape NULL: the table's names alone. */
static int model_read(struct model *m, const struct safetensors *s, const struct shape *shape, const char *path, int flags, struct err *e)
{
	float *host = staging(m->learned, e);
	if (!host) return ERR_MEMORY;
	if (flags & MODEL_FILE_KEEP_HEADS) model_get_learned(m, host);
	int rc = load(s, m->learned, &(struct params_arena){"", host}, 1, shape, path, flags, e);
	if (rc == 0) model_put_learned(m, host);
	free(host);
	return rc;
}

int model_load(struct model *m, const char *path, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int rc = safetensors_open(&s, path, e);
	if (rc == 0) rc = model_read(m, s, NULL, path, flags, e);
	safetensors_close(s);
	return rc;
}

int model_load_folder(struct model *m, const char *folder, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int rc = safetensors_open_folder(&s, folder, e);
	if (rc == 0) rc = model_read(m, s, &m->shape, folder, flags, e);
	safetensors_close(s);
	return rc;
}

int model_check_folder(const struct params *p, const struct shape *shape, const char *folder, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int rc = safetensors_open_folder(&s, folder, e);
	if (rc == 0) rc = load(s, p, &(struct params_arena){"", NULL}, 1, shape, folder, flags, e);
	safetensors_close(s);
	return rc;
}
