/* Where in a checkpoint a matrix is. Beside the table's name a family's file may
 * spell it without the base model's prefix (saved without heads), have the
 * experts of a layer fused as transformers 5 holds them in memory (gate rows over
 * up rows, "experts.gate_up_proj" [E, 2I, C], "experts.down_proj" [E, C, I]), or
 * call a scalar head as a classifier or as TRL does. Causal masks and rotary
 * frequencies that old versions saved are no weights and are passed over. */
#include "policy/family.h"
#include "policy/model_pieces.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN = 3 };

static int ends(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);
	return n >= k && !strcmp(name + n - k, end);
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

static int is_head(const char *name)
{
	return !strcmp(name, "lm_head.weight") || !strcmp(name, "embed_out.weight") || !strncmp(name, "score.", 6) || !strncmp(name, "v_head.", 7);
}

/* The experts' fused tensor that piece x is a part of, and the element it starts at. */
static const struct safetensors_tensor *find_fused(const struct safetensors *s, const struct piece *x, int64_t *first)
{
	const char *at = strstr(x->name, ".experts.");
	char name[PIECE_NAME + 16];
	if (!at) return NULL;
	int down = ends(x->name, ".down_proj.weight"), up = ends(x->name, ".up_proj.weight");
	if (!down && !up && !ends(x->name, ".gate_proj.weight")) return NULL;
	snprintf(name, sizeof name, "%.*s.experts.%s", (int)(at - x->name), x->name, down ? "down_proj" : "gate_up_proj");
	const struct safetensors_tensor *t = safetensors_find(s, name);
	int64_t matrix = x->shape[0] * x->shape[1];
	if (!t || t->ndim != 3 || t->shape[0] != x->experts || t->shape[1] != (down ? 1 : 2) * x->shape[0] || t->shape[2] != x->shape[1]) return NULL;
	*first = (down ? x->expert : 2 * x->expert + up) * matrix;
	return t;
}

static const struct safetensors_tensor *find_other_head(const struct safetensors *s, const char *name)
{
	static const char *const same[][2] = {{"score.weight", "v_head.summary.weight"}, {"score.bias", "v_head.summary.bias"}};
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++)
			if (!strcmp(name, same[i][k])) return safetensors_find(s, same[i][!k]);
	return NULL;
}

static void find(struct piece *x, const struct safetensors *s, const struct shape *shape)
{
	x->from = safetensors_find(s, x->name);
	if (x->from || !shape || shape->family == FAMILY_TENFOLD) return;
	const char *prefix = family_prefix(shape->family);
	if (!strncmp(x->name, prefix, strlen(prefix))) x->from = safetensors_find(s, x->name + strlen(prefix));
	if (!x->from && x->experts > 1) x->from = find_fused(s, x, &x->first);
	if (!x->from && x->head) x->from = find_other_head(s, x->name);
}

static int check(const struct piece *x, const struct safetensors *s, struct err *e)
{
	const struct safetensors_tensor *t = x->from;
	if (t->ndim < 3) {
		int rc = safetensors_expect(s, t->name, x->ndim, x->shape, &t, e);
		if (rc < 0) return rc;
	}
	if (t->dtype == SAFETENSORS_F32 || t->dtype == SAFETENSORS_F16 || t->dtype == SAFETENSORS_BF16) return 0;
	return err_set(e, ERR_FORMAT, "%s: tensor %s has type %s: F32, F16 and BF16 can be read without rounding", t->file, t->name,
		       safetensors_dtype_name(t->dtype));
}

/* 1 when a tensor that no piece took may stay: a buffer, or a head that is not wanted. */
static int may_stay(const struct safetensors_tensor *t, const struct shape *shape, int flags)
{
	static const char *const buffers[] = {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"};
	if (flags & MODEL_FILE_SKIP_HEADS && is_head(t->name)) return 1;
	for (size_t i = 0; shape && shape->family != FAMILY_TENFOLD && i < sizeof buffers / sizeof *buffers; i++)
		if (ends(t->name, buffers[i])) return 1;
	return 0;
}

/* A tied model's file may repeat the embedding as the output layer; another one there would be another model. */
static int tied_copy(const struct pieces *all, const struct safetensors_tensor *t, const struct shape *shape, struct err *e)
{
	char name[PIECE_NAME];
	if (!shape || !shape->tied) return 0;
	snprintf(name, sizeof name, "%s.weight", family_name(shape->family, ROLE_LM_HEAD));
	if (strcmp(t->name, name)) return 0;
	const struct safetensors_tensor *embed = all->list[0].from;
	if (embed && embed->dtype == t->dtype && embed->bytes == t->bytes && !memcmp(embed->data, t->data, t->bytes)) return 1;
	return err_set(e, ERR_MISMATCH, "%s: %s is not the embedding, but config.json ties them (tie_word_embeddings)", t->file, t->name);
}

static int by_address(const void *a, const void *b)
{
	const struct safetensors_tensor *const *x = a, *const *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* Refuses tensors that no piece took. */
static int check_left(const struct pieces *all, const struct safetensors *s, const struct shape *shape, const char *path, int flags, struct err *e)
{
	struct names unknown = {0};
	size_t n = 0;
	int rc = 0;
	const struct safetensors_tensor **taken = calloc(all->count + 1, sizeof *taken);
	CHECK(taken, "out of memory for %zu tensors", all->count);
	for (size_t i = 0; i < all->count; i++)
		if (all->list[i].from) taken[n++] = all->list[i].from;
	qsort(taken, n, sizeof *taken, by_address);
	for (size_t i = 0; i < safetensors_count(s) && rc >= 0; i++) {
		const struct safetensors_tensor *t = safetensors_at(s, i);
		if (bsearch(&t, taken, n, sizeof *taken, by_address) || may_stay(t, shape, flags)) continue;
		rc = tied_copy(all, t, shape, e);
		if (rc == 0) names_add(&unknown, t->name);
	}
	free(taken);
	if (rc < 0) return rc;
	if (unknown.count == 0) return 0;
	return err_set(e, ERR_MISMATCH, "%s has %zu tensor%s that this model lacks: %s; the file belongs to another model shape", path, unknown.count,
		       unknown.count == 1 ? "" : "s", unknown.text);
}

int pieces_find(struct pieces *all, const struct safetensors *s, const struct shape *shape, const char *path, int flags, struct err *e)
{
	struct names missing = {0};
	for (size_t i = 0; i < all->count; i++) {
		struct piece *x = &all->list[i];
		find(x, s, shape);
		int rc = x->from ? check(x, s, e) : 0;
		if (rc < 0) return rc;
		if (!x->from && (!x->head || !(flags & MODEL_FILE_KEEP_HEADS))) names_add(&missing, x->name);
	}
	if (missing.count)
		return err_set(e, ERR_NOT_FOUND, "%s lacks %zu tensor%s of this model: %s; the file belongs to another model shape", path, missing.count,
			       missing.count == 1 ? "" : "s", missing.text);
	return check_left(all, s, shape, path, flags, e);
}
