/* Activation buffers: registered by shape, allocated once for the largest batch
 * seen. Without `keep` the layers share buffers, since nothing is read back. */
#include "policy/activations.h"

#include "policy/adapter.h"

#include <stdlib.h>
#include <string.h>

enum { HEAD_ROWS = 512 };

struct activations *activations_open(const struct model *m, int keep)
{
	struct activations *a = calloc(1, sizeof *a);
	CHECK(a, "out of memory for activations");
	a->model = m;
	a->keep = keep;
	a->layer = calloc((size_t)m->shape.layers, sizeof *a->layer);
	CHECK(a->layer, "out of memory for activations");
	return a;
}

static void release(struct activations *a)
{
	for (int i = 0; i < a->owned_count; i++) a->model->ops->release(a->model->backend, a->owned[i]);
	a->owned_count = 0;
	a->bytes = 0;
	a->cap_rows = a->cap_pages = a->cap_outs = 0;
}

void activations_close(struct activations *a)
{
	if (!a) return;
	release(a);
	free(a->owned);
	free(a->layer);
	free(a);
}

size_t activations_bytes(const struct activations *a)
{
	return a->bytes;
}

static void *get(struct activations *a, int64_t count)
{
	size_t bytes = (size_t)count * 4;
	if (a->plan) {
		a->bytes += bytes;
		return NULL;
	}
	void *p = a->missing ? NULL : a->model->ops->alloc(a->model->backend, bytes);
	if (!p) {
		a->missing += bytes;
		return NULL;
	}
	if (a->owned_count == a->owned_cap) {
		a->owned_cap = a->owned_cap ? a->owned_cap * 2 : 64;
		a->owned = realloc(a->owned, (size_t)a->owned_cap * sizeof *a->owned);
		CHECK(a->owned, "out of memory for activations");
	}
	a->owned[a->owned_count++] = p;
	a->bytes += bytes;
	return p;
}

size_t activations_plan(struct backend *b, const struct shape *s, int keep, int64_t rows, int64_t pages, int64_t outs)
{
	struct model m = {.shape = *s, .backend = b};
	struct activations *a = activations_open(&m, keep);
	a->plan = 1;
	activations_reserve(a, rows, pages, outs);
	size_t bytes = a->bytes;
	activations_close(a);
	return bytes;
}

static void layer_buffers(struct activations *a, struct layer_acts *l, int64_t layer, int64_t t, int64_t pages)
{
	const struct shape *s = &a->model->shape;
	int64_t c = s->width, hq = s->heads * s->head_dim, hk = s->kv_heads * s->head_dim, hv = s->kv_heads * s->value_dim;
	int64_t statistics = s->norm == NORM_LAYER ? 2 * t : t;
	l->x = get(a, t * c);
	l->n1 = get(a, t * c), l->rstd1 = get(a, statistics);
	l->q = get(a, t * hq), l->k = get(a, t * hk), l->v = get(a, t * hv);
	if (s->qk_norm && a->keep) {
		l->q_raw = get(a, t * hq), l->k_raw = get(a, t * hk);
		l->q_rstd = get(a, t * s->heads), l->k_rstd = get(a, t * s->kv_heads);
	}
	if (s->qkv == QKV_LATENT) l->latent = get(a, t * s->latent_rank), l->latent_n = get(a, t * s->latent_rank), l->latent_rstd = get(a, t);
	if (s->query_rank) l->query = get(a, t * s->query_rank), l->query_n = get(a, t * s->query_rank), l->query_rstd = get(a, t);
	int64_t whole = 4 / (int64_t)dtype_bytes(backend_keys(a->model->backend)); /* numbers of a page in a float; a page has an even number */
	if (pages > 0) l->k_pages = get(a, pages * hk * KV_PAGE / whole), l->v_pages = get(a, pages * hv * KV_PAGE / whole);
	l->att = get(a, t * s->heads * s->value_dim);
	l->lse = get(a, t * s->heads);
	l->mid = a->keep ? get(a, t * c) : l->x;
	l->n2 = get(a, t * c), l->rstd2 = get(a, statistics);
	if (a->keep != ACTIVATIONS_KEEP || shape_is_moe(s, layer)) {
		int64_t e = s->experts, k = s->chosen, i = s->expert_width;
		if (e > 0) {
			l->logits = get(a, t * e), l->probs = get(a, t * e), l->router_lse = get(a, t), l->weight = get(a, t * k);
			l->expert = get(a, t * k), l->order = get(a, 3 * t * k), l->offset = get(a, e + 1);
			l->g = get(a, t * k * i), l->u = get(a, t * k * i);
		}
	}
	int64_t w = shape_is_moe(s, layer) ? s->shared_width : s->dense_width;
	if (a->keep != ACTIVATIONS_KEEP) w = s->shared_width > s->dense_width ? s->shared_width : s->dense_width;
	if (w > 0) l->sg = get(a, t * w), l->su = get(a, t * w), l->sa = get(a, t * w);
}

static void backward_buffers(struct activations *a, int64_t t, int64_t pages, int64_t n)
{
	const struct shape *s = &a->model->shape;
	int64_t c = s->width, hq = s->heads * s->head_dim, hk = s->kv_heads * s->head_dim, hv = s->kv_heads * s->value_dim;
	int64_t w = s->shared_width > s->dense_width ? s->shared_width : s->dense_width;
	a->dx = get(a, t * c), a->dn = get(a, t * c);
	a->datt = get(a, t * s->heads * s->value_dim);
	a->dq = get(a, t * hq), a->dk = get(a, t * hk), a->dv = get(a, t * hv);
	if (s->qk_norm) a->dspare = get(a, t * (hq > hk ? hq : hk));
	if (shape_fused_width(s)) a->dfused = get(a, t * shape_fused_width(s));
	if (s->qkv == QKV_LATENT) {
		a->dwidened = get(a, t * shape_widened(s));
		a->dlatent = get(a, t * s->latent_rank), a->dlatent_n = get(a, t * s->latent_rank);
	}
	if (s->query_rank) a->dquery = get(a, t * s->query_rank), a->dquery_n = get(a, t * s->query_rank);
	a->dk_pages = get(a, pages * hk * KV_PAGE), a->dv_pages = get(a, pages * hv * KV_PAGE);
	if (w > 0) a->dg = get(a, t * w), a->du = get(a, t * w), a->da = get(a, t * w);
	if (s->experts > 0) {
		a->dlogits = get(a, t * s->experts), a->dweight = get(a, t * s->chosen);
		a->balance = get(a, s->experts);
	}
	a->douts = get(a, n * c);
	a->dlogprob = get(a, n), a->dentropy = get(a, n), a->dvalue = get(a, n);
}

static void buffers(struct activations *a)
{
	const struct shape *s = &a->model->shape;
	int64_t t = a->cap_rows, n = a->cap_outs;
	memset(a->layer, 0, (size_t)s->layers * sizeof *a->layer);
	for (int64_t l = 0; l < s->layers; l++) {
		if (a->keep == ACTIVATIONS_KEEP || l == 0) {
			layer_buffers(a, &a->layer[l], l, t, a->cap_pages);
			continue;
		}
		a->layer[l] = a->layer[0];
		if (a->keep) a->layer[l].x = get(a, t * s->width);
		/* which experts were chosen is wanted of every layer */
		if (shape_is_moe(s, l)) a->layer[l].expert = get(a, t * s->chosen);
	}
	a->last = a->keep ? get(a, t * s->width) : a->layer[0].x;
	if (a->keep == ACTIVATIONS_AGAIN) a->again = get(a, t * s->width);
	a->final = get(a, t * s->width), a->rstd = get(a, s->norm == NORM_LAYER ? 2 * t : t);
	if (shape_fused_width(s)) a->fused = get(a, t * shape_fused_width(s));
	if (s->qkv == QKV_LATENT) a->widened = get(a, t * shape_widened(s));
	const struct adapter *ad = a->model->adapter;
	int64_t ranks = ad ? ad->expert_ranks : 0;
	if (s->experts > 0) a->work = get(a, t * s->chosen * (s->width + 3 * s->expert_width + 2 * ranks));
	if (ad && ad->rank) a->low = get(a, t * ad->rank);
	if (ad && ad->rank && a->keep) a->dlow = get(a, t * ad->rank);
	if (ad && ad->rate > 0 && a->keep) a->low_x = get(a, t * ad->widest), a->dlow_x = get(a, t * ad->widest);
	a->outs = get(a, n * s->width);
	a->head_rows = n < HEAD_ROWS ? n : HEAD_ROWS;
	if (s->heads_kind & HEAD_LM) a->head_work = get(a, a->head_rows * s->vocab);
	a->logprob = get(a, n), a->entropy = get(a, n), a->value = get(a, n);
	if (a->keep) backward_buffers(a, t, a->cap_pages, n);
}

/* `need`, and when it is more than what there was, an eighth of slack, so that batches of similar size settle at once. */
static int64_t room(int64_t cap, int64_t need)
{
	if (need <= cap) return cap;
	return cap ? need + need / 8 : need;
}

static int reserve(struct activations *a, int64_t rows, int64_t pages, int64_t outs, struct err *e)
{
	if (rows <= a->cap_rows && pages <= a->cap_pages && outs <= a->cap_outs) return 0;
	int64_t most[] = {room(a->cap_rows, rows), room(a->cap_pages, pages), room(a->cap_outs, outs)};
	release(a);
	backend_purpose(a->model->backend, a->keep ? "activations in training" : "activations in generation and scoring");
	a->cap_rows = most[0], a->cap_pages = most[1], a->cap_outs = most[2];
	buffers(a);
	if (!a->missing) return 0;
	int rc = err_set(e, ERR_MEMORY, "out of memory: activations of %lld rows need %.1f MiB, %.1f of them are not there; lower ppo.micro_batch, sft.batch or rollout.batch_groups%s",
			 (long long)rows, (double)(a->bytes + a->missing) / 1048576.0, (double)a->missing / 1048576.0, backend_shortage(a->model->backend));
	release(a);
	a->missing = 0;
	return rc;
}

void activations_reserve(struct activations *a, int64_t rows, int64_t pages, int64_t outs)
{
	struct err e;
	CHECK(reserve(a, rows, pages, outs, &e) == 0, "%s", e.msg);
}

struct ops_sizes activations_operations(const struct shape *s, int keep, const struct batch_sizes *z, int truncates)
{
	return (struct ops_sizes){.rows = z->rows, .outs = z->outs, .sets = z->sets, .width = s->width, .expert_width = s->expert_width, .heads = s->heads,
				  .dk = s->head_dim, .dv = s->value_dim, .vocab = s->heads_kind & HEAD_LM ? s->vocab : 0, .table_stride = z->stride,
				  .truncates = truncates && s->heads_kind & HEAD_LM, .backward = keep != 0};
}

int activations_prepare(struct activations *a, const struct batch_sizes *z, int cache, int truncates, struct err *e)
{
	const struct model *m = a->model;
	struct ops_sizes o = activations_operations(&m->shape, a->keep, z, truncates);
	int rc = reserve(a, z->rows, cache ? 0 : z->pages, z->outs, e);
	if (rc < 0) return rc;
	if (m->ops->reserve(m->backend, &o) == 0) return 0;
	return err_set(e, ERR_MEMORY, "out of memory for what operations on %lld rows work in; lower ppo.micro_batch or rollout.batch_groups%s", (long long)z->rows,
		       backend_shortage(m->backend));
}

void model_dropout(struct activations *a, uint64_t seed, uint64_t first)
{
	a->drops = a->model->adapter && a->model->adapter->rate > 0;
	a->drop_seed = seed;
	a->drop_first = first;
	CHECK(!a->drops || a->keep, "dropout in activations that are not for training");
}

void model_dropout_end(struct activations *a)
{
	a->drops = 0;
}

const int32_t *activations_experts(const struct activations *a, int64_t moe)
{
	return a->layer[a->model->shape.dense_layers + moe].expert;
}
