/* Adapters; see adapter.h. */
#include "policy/adapter.h"

#include "core/base/rng.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int adapter_is_target(const struct params *p, int param)
{
	const struct param *q = &p->list[param];
	return q->cols > 0 && param != p->embed && param != p->positions && param != p->lm_head && param != p->score && strncmp(q->name, "score.", 6);
}

/* The module of a parameter: its name without ".weight". */
static void module_of(const char *name, char *out, size_t bytes)
{
	const char *end = strrchr(name, '.');
	snprintf(out, bytes, "%.*s", (int)(end ? end - name : (ptrdiff_t)strlen(name)), name);
}

void adapter_leaf(const char *name, char out[64])
{
	char module[128];
	module_of(name, module, sizeof module);
	const char *at = strrchr(module, '.');
	snprintf(out, 64, "%s", at ? at + 1 : module);
}

static int is_router(const struct params *p, const struct shape *s, int param)
{
	for (int64_t l = 0; l < s->layers; l++)
		if (p->layer[l].router == param) return 1;
	return 0;
}

/* ---- choosing ---- */

static int next_item(const char **list, char *item, size_t bytes)
{
	const char *p = *list;
	if (!*p) return 0;
	size_t n = strcspn(p, ",");
	*list = p + n + (p[n] == ',');
	while (n && isspace((unsigned char)*p)) p++, n--;
	while (n && isspace((unsigned char)p[n - 1])) n--;
	snprintf(item, bytes, "%.*s", (int)n, p);
	return 1;
}

/* A target names a module, the end of its path after a dot, or, with * or ?, the whole path as a pattern. */
static int matches(const struct params *p, const struct shape *s, int param, const char *target)
{
	const struct param *q = &p->list[param];
	char module[128];
	if (!strcmp(target, "all-linear")) return !is_router(p, s, param);
	if (!strcmp(target, "experts")) return q->stack > 1;
	module_of(q->name, module, sizeof module);
	if (strpbrk(target, "*?")) return fnmatch(target, module, 0) == 0;
	size_t n = strlen(module), k = strlen(target);
	return n >= k && !strcmp(module + n - k, target) && (n == k || module[n - k - 1] == '.');
}

/* What the model has, for a message. */
static void list_targets(const struct params *p, char *out, size_t bytes)
{
	size_t at = 0;
	out[0] = 0;
	for (int i = 0; i < p->count; i++) {
		char leaf[64], other[64];
		int seen = !adapter_is_target(p, i);
		adapter_leaf(p->list[i].name, leaf);
		for (int k = 0; k < i && !seen; k++) {
			adapter_leaf(p->list[k].name, other);
			seen = adapter_is_target(p, k) && !strcmp(leaf, other);
		}
		if (!seen && at < bytes) at += (size_t)snprintf(out + at, bytes - at, "%s%s", at ? ", " : "", leaf);
	}
	for (int i = 0; i < p->count; i++)
		if (p->list[i].stack > 1 && at < bytes) {
			snprintf(out + at, bytes - at, ", experts (all matrices of the routed ones)");
			break;
		}
}

static int wish_targets(struct adapter_wish *w, const struct params *p, const struct shape *s, const struct config_lora *c, struct err *e)
{
	const char *list = c->targets;
	char item[128], have[512];
	while (next_item(&list, item, sizeof item)) {
		int found = 0;
		for (int i = 0; i < p->count; i++) {
			if (!adapter_is_target(p, i) || !matches(p, s, i, item)) continue;
			w[i].rank = c->r, w[i].alpha = c->alpha, w[i].rslora = (int)c->rslora;
			found = 1;
			if (p->list[i].stack > 1 && c->dropout > 0)
				return err_set(e, ERR_RANGE, "lora.dropout is %g, but lora.targets %s takes routed experts, where PEFT has none either: set lora.dropout to 0, or take "
					       "attention alone (q_proj, v_proj)", c->dropout, item);
		}
		if (found) continue;
		list_targets(p, have, sizeof have);
		return err_set(e, ERR_RANGE, "lora.targets: this model has no module %s; it has %s; all-linear takes all of them but routers, and a path may be a pattern (*.layers.0.*)",
			       item, have);
	}
	return 0;
}

static int wish_whole(struct adapter_wish *w, const struct params *p, const struct config_lora *c, struct err *e)
{
	const char *list = c->modules_to_save;
	char item[128], leaf[64];
	while (next_item(&list, item, sizeof item)) {
		if (p->lm_head >= 0) adapter_leaf(p->list[p->lm_head].name, leaf);
		if (p->lm_head == p->embed || p->lm_head < 0 || strcmp(item, leaf))
			return err_set(e, ERR_RANGE, "lora.modules_to_save: %s cannot be trained whole here; %s, and heads of values and scores always are", item,
				       p->lm_head == p->embed ? "the output layer is tied to the embedding" : p->lm_head < 0 ? "this model has no output layer" : "lm_head (embed_out) can");
		w[p->lm_head].whole = 1;
	}
	return 0;
}

/* ---- the table ---- */

static int put(struct params *t, const struct param *of, const char *suffix, int64_t rows, int64_t cols, int init)
{
	struct param *q = &t->list[t->count];
	char module[128];
	*q = *of;
	module_of(of->name, module, sizeof module);
	CHECK(snprintf(q->name, sizeof q->name, "%.100s%s", module, suffix) < (int)sizeof q->name, "the name %s%s is too long", module, suffix);
	q->rows = rows, q->cols = cols;
	q->size = q->stack * rows * cols;
	q->offset = t->floats;
	q->init = init;
	q->decay = q->trained = 1;
	q->bias = -1;
	q->turned = 0;
	t->floats += (q->size + 15) / 16 * 16;
	t->parameters += q->size;
	return t->count++;
}

static int put_whole(struct params *t, const struct param *of)
{
	struct param *q = &t->list[t->count];
	*q = *of;
	q->offset = t->floats;
	q->bias = -1;
	t->floats += (q->size + 15) / 16 * 16;
	t->parameters += q->size;
	return t->count++;
}

/* The table beside p, for a model on a base that has the parameters `base`. */
static void build(struct adapter *a, struct arena *arena, const struct params *p, const struct params *base, const struct shape *s, const struct adapter_wish *w)
{
	struct params *t = &a->params;
	memset(a, 0, sizeof *a);
	t->list = arena_must(arena, (size_t)p->count * 2 + 1, sizeof *t->list);
	a->slot = arena_must(arena, (size_t)p->count, sizeof *a->slot);
	memset(&t->group, 0xff, sizeof t->group); /* all -1 */
	t->embed = t->positions = t->norm = t->lm_head = t->score = t->score_bias = -1;
	for (int i = 0; i < p->count; i++) {
		const struct param *q = &p->list[i];
		struct adapter_slot *x = &a->slot[i];
		int alone = params_find(base, q->name) < 0; /* a head that only this model has */
		*x = (struct adapter_slot){-1, -1, -1, 0};
		if (w[i].whole || alone || !strncmp(q->name, "score.", 6) || !strncmp(q->name, "v_head.", 7)) {
			x->whole = put_whole(t, q);
			continue;
		}
		if (w[i].rank == 0) continue;
		CHECK(adapter_is_target(p, i), "low ranks beside %s", q->name);
		x->a = put(t, q, ".lora_A.weight", w[i].rank, q->cols, INIT_NORMAL);
		x->b = put(t, q, ".lora_B.weight", q->rows, w[i].rank, INIT_ZERO);
		x->scale = (float)(w[i].alpha / (w[i].rslora ? sqrt((double)w[i].rank) : (double)w[i].rank));
		if (q->stack > 1) continue;
		a->rank = w[i].rank > a->rank ? w[i].rank : a->rank;
		a->widest = q->cols > a->widest ? q->cols : a->widest;
	}
	for (int64_t l = 0; l < s->layers; l++) {
		const int of[] = {p->layer[l].gate, p->layer[l].up, p->layer[l].down};
		int64_t sum = 0;
		for (int k = 0; k < 3; k++) sum += of[k] >= 0 ? w[of[k]].rank : 0;
		a->expert_ranks = sum > a->expert_ranks ? sum : a->expert_ranks;
	}
}

/* Parameter k of the base into what learns as `whole`. */
static void copy_param(struct model *m, int k, int whole)
{
	size_t bytes = (size_t)m->base->params.list[k].size * sizeof(float);
	float *host = malloc(bytes);
	CHECK(host, "out of memory for %zu bytes of weights", bytes);
	model_get_param(m->base, k, host);
	m->ops->upload(m->backend, m->adapter->weights + m->adapter->params.list[whole].offset, host, bytes);
	free(host);
}

static void copy_whole(struct model *m)
{
	const struct params *from = &m->base->params;
	for (int i = 0; i < m->params.count; i++) {
		int whole = m->adapter->slot[i].whole, k = whole < 0 ? -1 : params_find(from, m->params.list[i].name);
		if (k >= 0 && from->list[k].size == m->params.list[i].size)
			copy_param(m, k, whole);
	}
}

/* A model on the base's memory, without an adapter yet. */
static struct model *share(const struct model *base, int heads_kind)
{
	struct model *m = calloc(1, sizeof *m);
	CHECK(m && !base->base, "out of memory for a model, or an adapter on an adapter");
	m->backend = base->backend;
	m->ops = base->ops;
	m->shape = base->shape;
	m->shape.heads_kind = heads_kind;
	m->arena = arena_open(0);
	params_build(&m->params, &m->shape, m->arena);
	m->weights = base->weights;
	m->cos = base->cos, m->sin = base->sin;
	m->base = base;
	for (int i = 0; i < m->params.count; i++) { /* heads come last, so that all trunks are laid out alike */
		int k = params_find(&base->params, m->params.list[i].name);
		CHECK(k < 0 || base->params.list[k].offset == m->params.list[i].offset || !adapter_is_target(&m->params, i), "%s is elsewhere in the base", m->params.list[i].name);
	}
	return m;
}

int adapter_open_wished(struct model **out, const struct model *base, int heads_kind, const struct adapter_wish *w, struct err *e)
{
	struct model *m = *out = share(base, heads_kind);
	m->adapter = arena_must(m->arena, 1, sizeof *m->adapter);
	build(m->adapter, m->arena, &m->params, &base->params, &m->shape, w);
	m->learned = &m->adapter->params;
	backend_purpose(m->backend, "adapters");
	m->learned_weights = m->adapter->weights = m->ops->alloc(m->backend, (size_t)m->learned->floats * sizeof(float) + 64);
	if (!m->adapter->weights) {
		int rc = err_set(e, ERR_MEMORY, "no memory for adapters of %lld parameters%s", (long long)m->learned->parameters, backend_shortage(m->backend));
		model_close(m);
		*out = NULL;
		return rc;
	}
	copy_whole(m);
	model_changed(m);
	return 0;
}

/* Uniform in ±1/√in: kaiming_uniform_ with a = √5. */
static void draw(struct model *m, uint64_t seed, uint32_t stream)
{
	struct adapter *a = m->adapter;
	float *host = malloc((size_t)a->params.floats * sizeof *host + 1);
	CHECK(host, "out of memory for %lld parameters of adapters", (long long)a->params.parameters);
	model_get_learned(m, host);
	for (int i = 0; i < m->params.count; i++) {
		if (a->slot[i].a < 0) continue;
		const struct param *q = &a->params.list[a->slot[i].a];
		double bound = 1 / sqrt((double)q->cols);
		for (int64_t k = 0; k < q->size; k++)
			host[q->offset + k] = (float)(bound * (2.0 * (double)rng_uniform((struct rng_key){seed, RNG_LORA}, (uint32_t)a->slot[i].a, (uint64_t)k, stream) - 1.0));
	}
	model_put_learned(m, host);
	free(host);
}

/* What the configuration wishes beside the parameters p of a model of this shape. */
static int wish(struct adapter_wish **out, struct params *p, const struct shape *s, const struct config_lora *c, struct arena *arena, struct err *e)
{
	params_build(p, s, arena);
	*out = arena_must(arena, (size_t)p->count, sizeof **out);
	int rc = wish_targets(*out, p, s, c, e);
	return rc < 0 ? rc : wish_whole(*out, p, c, e);
}

int adapter_plan(struct adapter *out, const struct shape *shape, const struct config_lora *c, struct arena *arena, struct err *e)
{
	struct params p;
	struct adapter_wish *w;
	int rc = wish(&w, &p, shape, c, arena, e);
	if (rc < 0) return rc;
	build(out, arena, &p, &p, shape, w);
	out->rate = c->dropout;
	return 0;
}

int adapter_open(struct model **out, const struct model *base, int heads_kind, const struct config_lora *c, uint64_t seed, uint32_t stream, struct err *e)
{
	struct shape s = base->shape;
	struct params p;
	struct adapter_wish *w;
	struct arena *arena = arena_open(0);
	int rc = 0;
	*out = NULL;
	s.heads_kind = heads_kind;
	TRY(wish(&w, &p, &s, c, arena, e));
	TRY(adapter_open_wished(out, base, heads_kind, w, e));
	(*out)->adapter->rate = c->dropout;
	draw(*out, seed, stream);
out:
	arena_close(arena);
	return rc;
}

/* ---- use ---- */

void adapter_merge(const struct model *m, float *host)
{
	const struct params *t = m->learned;
	float *low = malloc((size_t)t->floats * sizeof *low + 1);
	int64_t most = 1;
	for (int i = 0; i < m->params.count; i++) most = m->params.list[i].cols > most ? m->params.list[i].cols : most;
	double *row = malloc((size_t)most * sizeof *row);
	CHECK(low && row, "out of memory to merge %lld parameters of adapters", (long long)t->parameters);
	model_get_learned(m, low);
	for (int i = 0; i < m->params.count; i++) {
		const struct adapter_slot *s = &m->adapter->slot[i];
		const struct param *q = &m->params.list[i];
		if (s->a < 0) continue;
		int64_t r = t->list[s->a].rows;
		for (int64_t o = 0; o < q->stack * q->rows; o++) {
			const float *b = low + t->list[s->b].offset + o * r, *a = low + t->list[s->a].offset + o / q->rows * r * q->cols;
			float *w = host + q->offset + o * q->cols;
			memset(row, 0, (size_t)q->cols * sizeof *row);
			for (int64_t k = 0; k < r; k++)
				for (int64_t c = 0; c < q->cols; c++) row[c] += (double)b[k] * (double)a[k * q->cols + c];
			for (int64_t c = 0; c < q->cols; c++) w[c] = (float)((double)w[c] + (double)s->scale * row[c]);
		}
	}
	free(low);
	free(row);
}

size_t adapter_activations(const struct adapter *a, const struct shape *s, int keep, int64_t rows)
{
	int drops = keep && a->rate > 0;
	int64_t dense = a->rank * (keep ? 2 : 1) + (drops ? 2 * a->widest : 0);
	return (size_t)(rows * (dense + 2 * s->chosen * a->expert_ranks)) * sizeof(float);
}

/* 12345678 as 12,345,678. */
static void grouped(int64_t n, char out[32])
{
	char digits[32];
	int len = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0) out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = 0;
}

void adapter_describe(const struct model *m, char *out, size_t bytes)
{
	char some[32], all[32];
	int64_t total = m->params.parameters;
	for (int i = 0; m->adapter && i < m->params.count; i++)
		if (m->adapter->slot[i].a >= 0) total += m->learned->list[m->adapter->slot[i].a].size + m->learned->list[m->adapter->slot[i].b].size;
	/* PEFT keeps the frozen one beside an output layer that learns, and counts both */
	if (m->adapter && m->params.lm_head >= 0 && model_learned_index(m, m->params.lm_head) >= 0) total += m->params.list[m->params.lm_head].size;
	grouped(m->learned->parameters, some);
	grouped(total, all);
	snprintf(out, bytes, "trainable params: %s || all params: %s || trainable%%: %.4f", some, all, 100.0 * (double)m->learned->parameters / (double)total);
}
