/* The attention part of a layer, forward and backward: where queries, keys and
 * values come from (three projections, one fused one, or a latent), norms on
 * queries and keys, rotation, the pages, the output projection.
 *
 * A fused projection is kept as it is on disk and taken apart by columns, so
 * that its name and shape are the family's. With a latent (DeepSeek-V2) the cache
 * holds the widened keys and values, so that attention is the same code. */
#include "policy/layer.h"

static const double LATENT_EPS = 1e-6; /* of the latents' norms: the class default, which no config changes */

/* x of `fused` columns taken apart; back: its gradient put together from dq, dk, dv. */
static void fused_columns(const struct pass *p, struct tensor fused, struct tensor q, struct tensor k, struct tensor v, int back)
{
	const struct shape *s = &p->m->shape;
	struct tensor part[3] = {q, k, v};
	int64_t at = 0;
	for (int i = 0; i < 3; i++) {
		int heads = s->qkv == QKV_HEADS ? (int)s->heads : 1;
		int64_t n = part[i].cols / heads, step = heads > 1 ? fused.cols / heads : 0;
		struct columns_args c = {.x = fused, .y = part[i], .heads = heads, .count = (int)n, .x_first = at, .x_step = step, .y_step = heads > 1 ? n : 0};
		if (back) c = (struct columns_args){.x = part[i], .y = fused, .heads = heads, .count = (int)n, .x_step = c.y_step, .y_first = at, .y_step = step};
		p->m->ops->columns(p->m->backend, &c);
		at += n;
	}
}

/* The parts of a latent layer: the unrotated keys and the values of each head, and the rotated key that all share. */
static struct columns_args latent_keys(const struct shape *s, struct tensor widened, struct tensor k)
{
	return (struct columns_args){.x = widened, .y = k, .heads = (int)s->kv_heads, .count = (int)s->nope_dim, .x_step = s->nope_dim + s->value_dim,
				     .y_step = s->head_dim};
}

static struct columns_args latent_values(const struct shape *s, struct tensor widened, struct tensor v)
{
	return (struct columns_args){.x = widened, .y = v, .heads = (int)s->kv_heads, .count = (int)s->value_dim, .x_first = s->nope_dim,
				     .x_step = s->nope_dim + s->value_dim, .y_step = s->value_dim};
}

static struct columns_args latent_rotated(const struct shape *s, struct tensor down, struct tensor k)
{
	return (struct columns_args){.x = down, .y = k, .heads = (int)s->kv_heads, .count = (int)(s->head_dim - s->nope_dim), .x_first = s->latent_rank,
				     .y_first = s->nope_dim, .y_step = s->head_dim};
}

/* The same columns the other way, for gradients. */
static struct columns_args turned(struct columns_args c, int add)
{
	return (struct columns_args){.x = c.y, .y = c.x, .heads = c.heads, .count = c.count, .x_first = c.y_first, .x_step = c.y_step, .y_first = c.x_first,
				     .y_step = c.x_step, .add = add};
}

static void move(const struct pass *p, struct columns_args c)
{
	p->m->ops->columns(p->m->backend, &c);
}

/* Views of a layer's activations. */
struct views {
	struct tensor x, n1, q, k, v, att, fused, latent, latent_n, widened, query, query_n;
};

static struct views views_of(const struct pass *p, const struct layer_acts *l)
{
	const struct shape *s = &p->m->shape;
	int64_t t = p->b->rows;
	return (struct views){.x = tensor_f32(l->x, t, s->width), .n1 = tensor_f32(l->n1, t, s->width), .q = tensor_f32(l->q, t, s->heads * s->head_dim),
			      .k = tensor_f32(l->k, t, s->kv_heads * s->head_dim), .v = tensor_f32(l->v, t, s->kv_heads * s->value_dim),
			      .att = tensor_f32(l->att, t, s->heads * s->value_dim), .fused = tensor_f32(p->a->fused, t, shape_fused_width(s)),
			      .latent = tensor_f32(l->latent, t, s->latent_rank), .latent_n = tensor_f32(l->latent_n, t, s->latent_rank),
			      .widened = tensor_f32(p->a->widened, t, shape_widened(s)), .query = tensor_f32(l->query, t, s->query_rank),
			      .query_n = tensor_f32(l->query_n, t, s->query_rank)};
}

static void latent_forward(const struct pass *p, const struct layer_params *w, struct layer_acts *l, const struct views *x)
{
	const struct shape *s = &p->m->shape;
	if (s->query_rank) {
		layer_project(p, x->n1, w->query_down, x->query, 0);
		layer_rms(p, x->query, w->query_norm, LATENT_EPS, x->query_n, l->query_rstd);
		layer_project(p, x->query_n, w->q, x->q, 0);
	} else {
		layer_project(p, x->n1, w->q, x->q, 0);
	}
	layer_project(p, x->n1, w->qkv, x->fused, 0);
	move(p, (struct columns_args){.x = x->fused, .y = x->latent, .heads = 1, .count = (int)s->latent_rank});
	layer_rms(p, x->latent, w->latent_norm, LATENT_EPS, x->latent_n, l->latent_rstd);
	layer_project(p, x->latent_n, w->widen, x->widened, 0);
	move(p, latent_keys(s, x->widened, x->k));
	move(p, latent_values(s, x->widened, x->v));
	move(p, latent_rotated(s, x->fused, x->k));
}

static void latent_back(const struct pass *p, const struct layer_params *w, struct layer_acts *l, const struct views *x, struct tensor dq, struct tensor dk,
			struct tensor dv, struct tensor dn)
{
	const struct shape *s = &p->m->shape;
	struct activations *a = p->a;
	int64_t t = p->b->rows;
	struct tensor dwide = tensor_f32(a->dwidened, t, x->widened.cols), dln = tensor_f32(a->dlatent_n, t, s->latent_rank);
	struct tensor dl = tensor_f32(a->dlatent, t, s->latent_rank), dfused = tensor_f32(a->dfused, t, x->fused.cols);
	move(p, turned(latent_keys(s, dwide, dk), 0));
	move(p, turned(latent_values(s, dwide, dv), 0));
	layer_clear(p, dln), layer_clear(p, dl), layer_clear(p, dfused);
	layer_project_back(p, x->latent_n, w->widen, dwide, dln);
	layer_rms_back(p, x->latent, w->latent_norm, LATENT_EPS, l->latent_rstd, dln, dl);
	move(p, (struct columns_args){.x = dl, .y = dfused, .heads = 1, .count = (int)s->latent_rank});
	move(p, turned(latent_rotated(s, dfused, dk), 1));
	if (s->query_rank) {
		struct tensor dqn = tensor_f32(a->dquery_n, t, s->query_rank), dqd = tensor_f32(a->dquery, t, s->query_rank);
		layer_clear(p, dqn), layer_clear(p, dqd);
		layer_project_back(p, x->query_n, w->q, dq, dqn);
		layer_rms_back(p, x->query, w->query_norm, LATENT_EPS, l->query_rstd, dqn, dqd);
		layer_project_back(p, x->n1, w->query_down, dqd, dn);
	} else {
		layer_project_back(p, x->n1, w->q, dq, dn);
	}
	layer_project_back(p, x->n1, w->qkv, dfused, dn);
}

static void rotate(const struct pass *p, float *x, int64_t heads, int inverse)
{
	const struct shape *s = &p->m->shape;
	struct rope_args r = {.x = tensor_f32(x, p->b->rows, heads * s->head_dim), .heads = (int)heads, .head_dim = (int)s->head_dim,
			      .first = (int)shape_rope_first(s), .dims = (int)shape_rope_dims(s), .interleaved = s->rope_interleaved, .pos = p->b->device.pos,
			      .cos = p->m->cos, .sin = p->m->sin, .inverse = inverse};
	if (r.dims > 0) p->m->ops->rope(p->m->backend, &r);
}

/* q or k as its norm sees it: rows of one head, or of all. */
static struct tensor norm_view(const struct pass *p, float *x, int64_t heads)
{
	const struct shape *s = &p->m->shape;
	int64_t t = p->b->rows, d = s->head_dim;
	return s->qk_norm == QK_NORM_WHOLE ? tensor_f32(x, t, heads * d) : tensor_f32(x, t * heads, d);
}

/* Norm (when asked) and rotation, in place on q or k. */
static void position(const struct pass *p, float *x, float *raw, float *rstd, int norm, int64_t heads)
{
	if (norm >= 0) {
		struct tensor y = norm_view(p, x, heads);
		if (raw) p->m->ops->copy(p->m->backend, raw, x, tensor_bytes(y));
		layer_rms(p, norm_view(p, raw ? raw : x, heads), norm, p->m->shape.norm_eps, y, rstd);
	}
	rotate(p, x, heads, 0);
}

/* Inverse rotation, then the gradient of the norm; the result is in d (dq or dk). */
static void position_back(const struct pass *p, float *d, float *raw, float *rstd, int norm, int64_t heads)
{
	rotate(p, d, heads, 1);
	if (norm < 0) return;
	struct tensor dy = norm_view(p, p->a->dspare, heads), dx = norm_view(p, d, heads);
	p->m->ops->copy(p->m->backend, dy.data, d, tensor_bytes(dy));
	layer_clear(p, dx);
	layer_rms_back(p, norm_view(p, raw, heads), norm, p->m->shape.norm_eps, rstd, dy, dx);
}

/* What forward and backward of attention itself have in common. */
static struct attention_args attention_of(const struct pass *p, const struct views *x, const void *k_pages, const void *v_pages)
{
	const struct shape *s = &p->m->shape;
	const struct batch *b = p->b;
	return (struct attention_args){.q = x->q, .heads = (int)s->heads, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim, .dv = (int)s->value_dim,
				       .scale = shape_attention_scale(s), .k_pages = k_pages, .v_pages = v_pages, .pages = backend_keys(p->m->backend), .tables = b->device.tables,
				       .table_stride = (int)b->stride, .row_seq = b->device.seq, .row_pos = b->device.pos, .out = x->att};
}

static struct kv_args pages_of(const struct pass *p, struct tensor k, struct tensor v, void *k_pages, void *v_pages)
{
	const struct shape *s = &p->m->shape;
	const struct batch *b = p->b;
	return (struct kv_args){.k_pages = k_pages, .v_pages = v_pages, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim, .dv = (int)s->value_dim, .k = k,
				.v = v, .writes = b->writes, .row = b->device.write_row, .page = b->device.write_page, .slot = b->device.write_slot};
}

void layer_attention(const struct pass *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	struct views x = views_of(p, l);
	layer_norm(p, x.x, w->norm1, x.n1, l->rstd1);
	if (s->parallel) layer_norm(p, x.x, w->norm2, tensor_f32(l->n2, p->b->rows, s->width), l->rstd2);
	if (s->qkv == QKV_LATENT) {
		latent_forward(p, w, l, &x);
	} else if (s->qkv == QKV_APART) {
		layer_project(p, x.n1, w->q, x.q, 0);
		layer_project(p, x.n1, w->k, x.k, 0);
		layer_project(p, x.n1, w->v, x.v, 0);
	} else {
		layer_project(p, x.n1, w->qkv, x.fused, 0);
		fused_columns(p, x.fused, x.q, x.k, x.v, 0);
	}
	position(p, l->q, l->q_raw, l->q_rstd, w->q_norm, s->heads);
	position(p, l->k, l->k_raw, l->k_rstd, w->k_norm, s->kv_heads);
	void *kp = p->cache ? p->cache->k[layer] : l->k_pages, *vp = p->cache ? p->cache->v[layer] : l->v_pages;
	struct kv_args kv = pages_of(p, x.k, x.v, kp, vp);
	kv.pages = backend_keys(p->m->backend);
	o->kv_write(p->m->backend, &kv);
	struct attention_args at = attention_of(p, &x, kp, vp);
	at.lse = p->a->keep ? l->lse : NULL;
	o->attention_forward(p->m->backend, &at);
	if (l->mid != l->x) o->copy(p->m->backend, l->mid, l->x, tensor_bytes(x.x));
	layer_project(p, x.att, w->o, tensor_f32(l->mid, p->b->rows, s->width), 1);
}

void layer_attention_back(const struct pass *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	struct views x = views_of(p, l);
	int64_t t = p->b->rows;
	struct tensor dx = tensor_f32(p->a->dx, t, s->width), dn = tensor_f32(p->a->dn, t, s->width), datt = tensor_f32(p->a->datt, t, x.att.cols);
	struct tensor dq = tensor_f32(p->a->dq, t, x.q.cols), dk = tensor_f32(p->a->dk, t, x.k.cols), dv = tensor_f32(p->a->dv, t, x.v.cols);
	layer_clear(p, datt);
	layer_project_back(p, x.att, w->o, dx, datt);
	layer_clear(p, dq), layer_clear(p, dk), layer_clear(p, dv);
	o->zero(p->m->backend, p->a->dk_pages, (size_t)(p->b->pages * dk.cols * KV_PAGE) * 4);
	o->zero(p->m->backend, p->a->dv_pages, (size_t)(p->b->pages * dv.cols * KV_PAGE) * 4);
	struct attention_args at = attention_of(p, &x, l->k_pages, l->v_pages);
	at.lse = l->lse, at.dout = datt, at.dq = dq, at.dk_pages = p->a->dk_pages, at.dv_pages = p->a->dv_pages;
	at.sets = p->b->sets, at.set_rows = p->b->set_rows;
	o->attention_backward(p->m->backend, &at);
	struct kv_args kv = pages_of(p, dk, dv, p->a->dk_pages, p->a->dv_pages);
	o->kv_read_add(p->m->backend, &kv);
	position_back(p, p->a->dq, l->q_raw, l->q_rstd, w->q_norm, s->heads);
	position_back(p, p->a->dk, l->k_raw, l->k_rstd, w->k_norm, s->kv_heads);
	/* a parallel layer's other branch starts at the same x */
	if (s->parallel) layer_norm_back(p, x.x, w->norm2, l->rstd2, dn, dx);
	layer_clear(p, dn);
	if (s->qkv == QKV_LATENT) {
		latent_back(p, w, l, &x, dq, dk, dv, dn);
	} else if (s->qkv == QKV_APART) {
		layer_project_back(p, x.n1, w->q, dq, dn);
		layer_project_back(p, x.n1, w->k, dk, dn);
		layer_project_back(p, x.n1, w->v, dv, dn);
	} else {
		struct tensor dfused = tensor_f32(p->a->dfused, t, x.fused.cols);
		fused_columns(p, dfused, dq, dk, dv, 1);
		layer_project_back(p, x.n1, w->qkv, dfused, dn);
	}
	layer_norm_back(p, x.x, w->norm1, l->rstd1, dn, dx);
}
