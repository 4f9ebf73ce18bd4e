/* Between arenas and safetensors files; see model_file.h. The table is walked
 * once to name every matrix of every arena; what the file has beyond that is
 * looked for only when the counts differ. */
#include "policy/model_file.h"

#include "policy/safetensors_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 192, SHOWN = 3 };

struct piece { /* one matrix of one arena */
	char name[NAME];
	int ndim;
	int64_t shape[2];
	float *data;
	int head;
};

struct pieces {
	struct piece *list;
	size_t count;
};

static int is_head(const char *name)
{
	return !strcmp(name, "lm_head.weight") || !strncmp(name, "score.", 6);
}

/* The table's name of matrix i: "%d" replaced by it. */
static void piece_name(char *out, size_t room, const char *prefix, const struct param *q, int64_t i)
{
	const char *mark = strstr(q->name, "%d");
	int n;
	if (mark) n = snprintf(out, room, "%s%.*s%lld%s", prefix, (int)(mark - q->name), q->name, (long long)i, mark + 2);
	else n = snprintf(out, room, "%s%s", prefix, q->name);
	CHECK(n < (int)room, "the name %s%s is too long", prefix, q->name);
}

static void pieces_make(struct pieces *out, const struct params *p, const struct params_arena *arenas, int n)
{
	size_t count = 0;
	CHECK(n >= 1 && n <= PARAMS_ARENAS_MAX, "%d arenas in a file", n);
	for (int i = 0; i < p->count; i++) count += (size_t)p->list[i].stack * (size_t)n;
	out->list = calloc(count, sizeof *out->list);
	CHECK(out->list, "out of memory for %zu names", count);
	out->count = count;
	struct piece *x = out->list;
	for (int a = 0; a < n; a++)
		for (int i = 0; i < p->count; i++) {
			const struct param *q = &p->list[i];
			for (int64_t k = 0; k < q->stack; k++, x++) {
				piece_name(x->name, sizeof x->name, arenas[a].prefix, q, k);
				x->ndim = q->cols ? 2 : 1;
				x->shape[0] = q->rows;
				x->shape[1] = q->cols;
				x->data = arenas[a].host + q->offset + k * (q->size / q->stack);
				x->head = is_head(q->name);
			}
		}
}

int params_save(const struct params *p, const struct params_arena *arenas, int n, const char *path, int durable, char hash[HASH_HEX], struct err *e)
{
	static const struct safetensors_pair format = {"format", "pt"};
	struct pieces all;
	pieces_make(&all, p, arenas, n);
	struct safetensors_entry *entry = calloc(all.count, sizeof *entry);
	CHECK(entry, "out of memory for %zu tensors", all.count);
	for (size_t i = 0; i < all.count; i++) {
		const struct piece *x = &all.list[i];
		entry[i] = (struct safetensors_entry){
			.name = x->name, .dtype = SAFETENSORS_F32, .ndim = x->ndim, .shape = {x->shape[0], x->shape[1]}, .data = x->data};
	}
	int rc = safetensors_write(path, entry, all.count, &format, 1, durable, hash, e);
	free(entry);
	free(all.list);
	return rc;
}

/* A short list of names for a message. */
struct names {
	char text[SHOWN * (SAFETENSORS_SHOWN + 2) + 8];
	size_t count;
};

static void names_add(struct names *n, const char *name)
{
	char shown[SAFETENSORS_SHOWN];
	size_t at = strlen(n->text);
	if (n->count < SHOWN) snprintf(n->text + at, sizeof n->text - at, "%s%s", n->count ? ", " : "", safetensors_show(shown, name));
	else if (n->count == SHOWN) strcpy(n->text + at, ", …");
	n->count++;
}

static int read_piece(const struct safetensors *s, const struct piece *x, struct err *e)
{
	const struct safetensors_tensor *t;
	int rc = safetensors_expect(s, x->name, x->ndim, x->shape, &t, e);
	if (rc < 0) return rc;
	if (t->dtype != SAFETENSORS_F32 && t->dtype != SAFETENSORS_F16 && t->dtype != SAFETENSORS_BF16)
		return err_set(e, ERR_FORMAT, "%s: tensor %s has type %s: F32, F16 and BF16 can be read without rounding", t->file, t->name,
			       safetensors_dtype_name(t->dtype));
	return safetensors_read_f32(t, x->data, e);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct piece *)a)->name, ((const struct piece *)b)->name);
}

/* Refuses tensors that no arena has, but for heads of an arena when they may be skipped. Sorts the pieces. */
static int check_unknown(const struct safetensors *s, struct pieces *all, const struct params_arena *arenas, int n, const char *path, int flags,
			 struct err *e)
{
	struct names unknown = {0};
	qsort(all->list, all->count, sizeof *all->list, by_name);
	for (size_t i = 0; i < safetensors_count(s); i++) {
		struct piece key;
		const char *name = safetensors_at(s, i)->name;
		int skip = 0;
		for (int a = 0; a < n && (flags & MODEL_FILE_SKIP_HEADS); a++) {
			size_t k = strlen(arenas[a].prefix);
			skip |= !strncmp(name, arenas[a].prefix, k) && is_head(name + k);
		}
		if (skip) continue;
		if (strlen(name) < NAME) {
			strcpy(key.name, name);
			if (bsearch(&key, all->list, all->count, sizeof *all->list, by_name)) continue;
		}
		names_add(&unknown, name);
	}
	if (unknown.count == 0) return 0;
	return err_set(e, ERR_MISMATCH, "%s has %zu tensor%s that this model lacks: %s; the file belongs to another model shape", path, unknown.count,
		       unknown.count == 1 ? "" : "s", unknown.text);
}

int params_load(const struct params *p, const struct params_arena *arenas, int n, const char *path, int flags, struct err *e)
{
	struct safetensors *s = NULL;
	struct pieces all = {0};
	struct names missing = {0};
	size_t found = 0;
	int rc = 0;
	TRY(safetensors_open(&s, path, e));
	pieces_make(&all, p, arenas, n);
	for (size_t i = 0; i < all.count; i++) {
		const struct piece *x = &all.list[i];
		if (safetensors_find(s, x->name)) {
			TRY(read_piece(s, x, e));
			found++;
		} else if (!x->head || !(flags & MODEL_FILE_KEEP_HEADS)) {
			names_add(&missing, x->name);
		}
	}
	if (missing.count) {
		rc = err_set(e, ERR_NOT_FOUND, "%s lacks %zu tensor%s of this model: %s; the file belongs to another model shape", path, missing.count,
			     missing.count == 1 ? "" : "s", missing.text);
		goto out;
	}
	if (found < safetensors_count(s)) rc = check_unknown(s, &all, arenas, n, path, flags, e);
out:
	free(all.list);
	safetensors_close(s);
	return rc;
}

static float *staging(const struct model *m, struct err *e)
{
	float *host = calloc((size_t)m->params.floats, sizeof *host);
	if (!host) err_set(e, ERR_MEMORY, "no memory to pass %lld parameters between a file and the model", (long long)m->params.parameters);
	return host;
}

int model_save(const struct model *m, const char *path, int durable, char hash[HASH_HEX], struct err *e)
{
	float *host = staging(m, e);
	if (!host) return ERR_MEMORY;
	model_get(m, host);
	int rc = params_save(&m->params, &(struct params_arena){"", host}, 1, path, durable, hash, e);
	free(host);
	return rc;
}

int model_load(struct model *m, const char *path, int flags, struct err *e)
{
	float *host = staging(m, e);
	if (!host) return ERR_MEMORY;
	if (flags & MODEL_FILE_KEEP_HEADS) model_get(m, host);
	int rc = params_load(&m->params, &(struct params_arena){"", host}, 1, path, flags, e);
	if (rc == 0) model_put(m, host);
	free(host);
	return rc;
}
