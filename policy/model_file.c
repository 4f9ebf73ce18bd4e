/* Between arenas and safetensors files; see model_file.h. The table is walked
 * once to name every matrix of every arena; each is then looked for in the file
 * under its spellings (model_source.c), and what the file has beyond that is
 * refused unless it is known to be no weight. */
#include "core/tensor/bf16.h"
#include "policy/model_pieces.h"
#include "policy/weights.h"

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

/* Row r of a piece as f32: where it lies, or brought into `row`. */
static const float *piece_row(const struct piece *x, int64_t r, int64_t rows, int64_t cols, float *row)
{
	if (!x->turned && !x->half) return x->data + r * cols;
	int64_t from = x->turned ? r : r * cols, step = x->turned ? rows : 1;
	if (x->half)
		for (int64_t c = 0; c < cols; c++) row[c] = bf16_widen(x->half[from + c * step]);
	else
		for (int64_t c = 0; c < cols; c++) row[c] = x->data[from + c * step];
	return row;
}

static void round_row(void *to, enum safetensors_dtype dtype, const float *from, int64_t n)
{
	uint16_t *half = to;
	if (dtype == SAFETENSORS_F32) memcpy(to, from, (size_t)n * sizeof *from);
	else if (dtype == SAFETENSORS_BF16)
		for (int64_t c = 0; c < n; c++) half[c] = bf16_round(from[c]);
	else
		for (int64_t c = 0; c < n; c++) half[c] = to_f16(from[c]);
}

/* The bytes of a piece as they go to disk, a copy to free; NULL: they lie so already. */
static void *piece_bytes(const struct piece *x, enum safetensors_dtype dtype)
{
	int64_t rows = x->ndim == 2 ? x->shape[0] : 1, cols = x->ndim == 2 ? x->shape[1] : x->shape[0];
	size_t bytes = safetensors_dtype_bytes(dtype);
	if (!x->turned && dtype == (x->half ? SAFETENSORS_BF16 : SAFETENSORS_F32)) return NULL;
	char *copy = malloc((size_t)(rows * cols) * bytes + 1);
	float *row = malloc((size_t)cols * sizeof *row + 1);
	CHECK(copy && row, "out of memory to convert %s", x->name);
	for (int64_t r = 0; r < rows; r++) round_row(copy + (size_t)(r * cols) * bytes, dtype, piece_row(x, r, rows, cols, row), cols);
	free(row);
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
		copy[i] = piece_bytes(x, dtype);
		entry[i] = (struct safetensors_entry){.name = x->name, .dtype = dtype, .ndim = x->ndim, .shape = {x->shape[0], x->shape[1]},
						      .data = copy[i] ? copy[i] : x->half ? (const void *)x->half : x->data};
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

/* One matrix from where it was found. */
static int read_piece(const struct piece *x, float *to, struct err *e)
{
	struct safetensors_tensor part = *x->from;
	part.elements = x->shape[0] * (x->ndim == 2 ? x->shape[1] : 1);
	part.data += (size_t)x->first * safetensors_dtype_bytes(part.dtype);
	if (!x->turned) return safetensors_read_f32(&part, to, e);
	float *flat = malloc((size_t)part.elements * sizeof *flat + 1);
	CHECK(flat, "out of memory to read %s", x->name);
	int rc = safetensors_read_f32(&part, flat, e);
	for (int64_t r = 0; r < x->shape[0]; r++)
		for (int64_t c = 0; c < x->shape[1]; c++) to[c * x->shape[0] + r] = flat[r * x->shape[1] + c];
	free(flat);
	return rc;
}

static int read_pieces(const struct pieces *all, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < all->count && rc == 0; i++)
		if (all->list[i].from && all->list[i].data) rc = read_piece(&all->list[i], all->list[i].data, e);
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

/* ---- models ---- */

/* Pieces of a whole model where its weights are: what it computes with (rounded), or its f32 arena where it has one; from a device the
 * arena, which is rounded when it is written. *host: to be freed after them. */
static int model_pieces(struct pieces *all, const struct model *m, int rounded, float **host, struct err *e)
{
	*host = NULL;
	if (!m->held || !backend_on_host(m->backend) || (m->weights && !rounded)) {
		int direct = backend_on_host(m->backend) && !m->base; /* with an adapter: the sum with the base */
		*host = direct ? NULL : malloc((size_t)m->params.floats * sizeof **host);
		if (!direct && !*host) return err_set(e, ERR_MEMORY, "no memory to pass %lld parameters from the model to a file", (long long)m->params.parameters);
		if (!direct) model_get(m, *host);
		pieces_make(all, &m->params, &(struct params_arena){"", direct ? m->weights : *host}, 1);
		return 0;
	}
	pieces_make(all, &m->params, &(struct params_arena){"", NULL}, 1);
	struct piece *x = all->list;
	for (int i = 0; i < m->params.count; i++)
		for (int64_t k = 0; k < m->params.list[i].stack; k++, x++) {
			struct tensor t = model_view(m, i);
			const void *const *apart = model_apart(m, i);
			int64_t at = k * (m->params.list[i].size / m->params.list[i].stack);
			CHECK(t.data || apart, "%s has no weights to save", x->name);
			if (apart) x->half = apart[k];
			else if (t.dtype == DTYPE_BF16) x->half = (const uint16_t *)t.data + at;
			else x->data = (float *)t.data + at;
		}
	return 0;
}

int model_save(const struct model *m, const char *path, int durable, char hash[HASH_HEX], struct err *e)
{
	struct pieces all;
	float *host;
	if (m->learned != &m->params) {
		host = malloc((size_t)m->learned->floats * sizeof *host);
		if (!host) return err_set(e, ERR_MEMORY, "no memory to save %lld parameters", (long long)m->learned->parameters);
		model_get_learned(m, host);
		pieces_make(&all, m->learned, &(struct params_arena){"", host}, 1);
	} else {
		int rc = model_pieces(&all, m, 1, &host, e);
		if (rc < 0) return rc;
	}
	int half = m->learned == &m->params && backend_weights(m->backend) == DTYPE_BF16;
	int rc = write_pieces(all, path, half ? SAFETENSORS_BF16 : SAFETENSORS_F32, durable, hash, e);
	free(host);
	return rc;
}

int model_save_as(const struct model *m, const char *path, enum safetensors_dtype dtype, struct err *e)
{
	struct pieces all;
	float *host;
	int rc = model_pieces(&all, m, 0, &host, e);
	if (rc < 0) return rc;
	for (size_t i = 0; m->shape.family != FAMILY_TENFOLD && i < all.count; i++)
		if (!strcmp(all.list[i].name, "score.bias") && all.list[i].data[0] == 0) {
			memmove(all.list + i, all.list + i + 1, (all.count - i - 1) * sizeof *all.list);
			all.count--;
		}
	rc = write_pieces(all, path, dtype, 1, NULL, e);
	free(host);
	return rc;
}

/* Every parameter that was found, one after the other through memory for the largest of them. */
static int each_param(const struct params *p, const struct pieces *all, int (*take)(void *ctx, int param, const float *host), void *ctx, struct err *e)
{
	const struct piece *x = all->list;
	float *host = NULL;
	int64_t most = 0;
	int rc = 0;
	for (int i = 0; i < p->count; i++) most = p->list[i].size > most ? p->list[i].size : most;
	host = malloc((size_t)most * sizeof *host + 1);
	if (!host) return err_set(e, ERR_MEMORY, "no memory to read a tensor of %lld elements", (long long)most);
	for (int i = 0; i < p->count && rc == 0; x += p->list[i++].stack) {
		int64_t each = p->list[i].size / p->list[i].stack;
		if (!x->from) continue;
		for (int64_t k = 0; k < p->list[i].stack && rc == 0; k++) rc = read_piece(x + k, host + k * each, e);
		if (rc == 0) rc = take(ctx, i, host);
	}
	free(host);
	return rc;
}

static int take_learned(void *ctx, int param, const float *host)
{
	struct model *m = ctx;
	const struct param *q = &m->learned->list[param];
	m->ops->upload(m->backend, m->learned_weights + q->offset, host, (size_t)q->size * sizeof *host);
	return 0;
}

/* Addresses of a parameter's matrices in a mapped file, when they can be used there: of the type wanted, not transposed, aligned,
 * and as a stack unless it is bf16. */
static int find_mapped(const struct piece *x, const struct param *q, enum dtype type, const void **at)
{
	size_t bytes = dtype_bytes(type);
	for (int64_t k = 0; k < q->stack; k++) {
		at[k] = x[k].from->data + (size_t)x[k].first * bytes;
		if (x[k].turned || x[k].from->dtype != (type == DTYPE_BF16 ? SAFETENSORS_BF16 : SAFETENSORS_F32) || (uintptr_t)at[k] % bytes) return 0;
		if (type == DTYPE_F32 && k && (const char *)at[k] != (const char *)at[k - 1] + (size_t)(q->size / q->stack) * bytes) return 0;
	}
	return 1;
}

/* Parameter i of a held model: mapped, or converted matrix by matrix. *mapped: 1 when it is. */
static int hold(struct model *m, int i, const struct piece *x, int *mapped, struct err *e)
{
	const struct param *q = &m->params.list[i];
	int64_t each = q->size / q->stack;
	int rc = 0, rounded_vector = !q->cols && backend_weights(m->backend) != DTYPE_F32;
	if (!x->from && (model_view(m, i).data || model_apart(m, i))) return 0; /* a head that only the model has */
	enum dtype type = !q->cols ? DTYPE_F32 : x->from ? weights_type(m, x->from->dtype) : backend_weights(m->backend);
	const void **at = calloc((size_t)q->stack, sizeof *at);
	float *host = malloc((size_t)each * sizeof *host + 1);
	CHECK(at && host, "out of memory to read %s", x->name);
	if (x->from && backend_on_host(m->backend) && !rounded_vector && find_mapped(x, q, type, at)) {
		weights_map(m, i, type, at);
		*mapped = 1;
	} else {
		if (!weights_own(m, i, type)) rc = err_set(e, ERR_MEMORY, "no memory for %s, %lld elements", x->name, (long long)q->size);
		for (int64_t k = 0; k < q->stack && rc == 0 && x->from; k++) {
			rc = read_piece(x + k, host, e);
			if (rc == 0 && weights_put(m, i, k * each, host, each) < 0) rc = err_set(e, ERR_MEMORY, "no memory to round %s, %lld elements", x->name, (long long)each);
		}
	}
	free(at);
	free(host);
	return rc;
}

/* shape NULL: the table's names alone. *kept: 1 when the model goes on using the file. */
static int model_read(struct model *m, struct safetensors *s, const struct shape *shape, const char *path, int flags, int *kept, struct err *e)
{
	struct pieces all;
	int whole = m->learned == &m->params;
	pieces_make(&all, m->learned, &(struct params_arena){"", NULL}, 1);
	int rc = pieces_find(&all, s, shape, path, flags, e);
	const struct piece *x = all.list;
	*kept = 0;
	if (rc == 0 && (m->weights || !whole)) rc = each_param(m->learned, &all, take_learned, m, e);
	else
		for (int i = 0; rc == 0 && i < m->params.count; x += m->params.list[i++].stack) rc = hold(m, i, x, kept, e);
	if (rc == 0 && !m->weights && whole) weights_keep(m, *kept ? s : NULL);
	if (rc == 0) model_changed(m);
	free(all.list);
	return rc;
}

int model_load(struct model *m, const char *path, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int kept = 0, rc = safetensors_open(&s, path, e);
	if (rc == 0) rc = model_read(m, s, NULL, path, flags, &kept, e);
	if (!kept) safetensors_close(s);
	return rc;
}

int model_load_folder(struct model *m, const char *folder, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	int kept = 0, rc = safetensors_open_folder(&s, folder, e);
	if (rc == 0) rc = model_read(m, s, &m->shape, folder, flags, &kept, e);
	if (!kept) safetensors_close(s);
	return rc;
}

int model_each_param(const struct params *p, const struct shape *shape, const char *folder, int flags, int (*take)(void *ctx, int param, const float *host),
		     void *ctx, struct err *e)
{
	struct safetensors *s = NULL;
	struct pieces all;
	int rc = safetensors_open_folder(&s, folder, e);
	if (rc < 0) return rc;
	pieces_make(&all, p, &(struct params_arena){"", NULL}, 1);
	rc = pieces_find(&all, s, shape, folder, flags, e);
	if (rc == 0) rc = each_param(p, &all, take, ctx, e);
	free(all.list);
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
