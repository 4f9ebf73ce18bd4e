/* Attention over a group's candidates; see group_block.h. */
#include "reward/group_block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct group_block {
	const struct model *m;
	const struct ops *o;
	struct batch rows; /* a row a candidate, a sequence and a page a group; every row at the group's last position, so that all see all */
	int64_t cap_rows, cap_pages;
	/* [N, …] by size: C x, n1, mid, n2, y, dx, dn; A = H·D q, k, v, att; W g, u, a; [N, H] lse; [N] rstd1, rstd2, score; [pages, H, D, 64] pages */
	float *x, *n1, *rstd1, *q, *k, *v, *k_pages, *v_pages, *att, *lse, *mid, *n2, *rstd2, *g, *u, *a, *y, *score;
	float *dy, *dx, *dn, *dq, *dk, *dv, *dk_pages, *dv_pages, *datt, *dg, *du, *da;
};

enum { SLICES = 30 };

struct slice {
	float **at;
	int64_t cols;
	int paged; /* by page, not by row */
};

static void slices(struct group_block *b, struct slice out[SLICES])
{
	const struct shape *s = &b->m->shape;
	int64_t c = s->width, a = s->heads * s->head_dim, w = PARAMS_GROUP_WIDTH * c, page = a * KV_PAGE;
	const struct slice list[SLICES] = {
		{&b->x, c, 0}, {&b->n1, c, 0}, {&b->rstd1, 1, 0}, {&b->q, a, 0}, {&b->k, a, 0}, {&b->v, a, 0}, {&b->k_pages, page, 1},
		{&b->v_pages, page, 1}, {&b->att, a, 0}, {&b->lse, s->heads, 0}, {&b->mid, c, 0}, {&b->n2, c, 0}, {&b->rstd2, 1, 0}, {&b->g, w, 0},
		{&b->u, w, 0}, {&b->a, w, 0}, {&b->y, c, 0}, {&b->score, 1, 0}, {&b->dy, 1, 0}, {&b->dx, c, 0}, {&b->dn, c, 0}, {&b->dq, a, 0},
		{&b->dk, a, 0}, {&b->dv, a, 0}, {&b->dk_pages, page, 1}, {&b->dv_pages, page, 1}, {&b->datt, a, 0}, {&b->dg, w, 0}, {&b->du, w, 0},
		{&b->da, w, 0}};
	memcpy(out, list, sizeof list);
}

static void release(struct group_block *b)
{
	struct slice all[SLICES];
	slices(b, all);
	for (int i = 0; i < SLICES; i++) {
		if (*all[i].at) b->o->release(b->m->backend, *all[i].at);
		*all[i].at = NULL;
	}
}

static size_t slice_bytes(const struct slice *s, int64_t rows, int64_t pages)
{
	return (size_t)((s->paged ? pages : rows) * s->cols) * sizeof(float);
}

size_t group_block_plan(const struct shape *s, int64_t candidates, int64_t groups)
{
	struct model m = {.shape = *s};
	struct group_block b = {.m = &m};
	struct slice all[SLICES];
	size_t bytes = 0;
	slices(&b, all);
	for (int i = 0; i < SLICES; i++) bytes += slice_bytes(&all[i], candidates, groups);
	return bytes;
}

static int reserve(struct group_block *b, int64_t rows, int64_t pages, struct err *e)
{
	struct slice all[SLICES];
	if (rows <= b->cap_rows && pages <= b->cap_pages) return 0;
	release(b);
	if (rows > b->cap_rows) b->cap_rows = rows;
	if (pages > b->cap_pages) b->cap_pages = pages;
	slices(b, all);
	backend_purpose(b->m->backend, "the block of a group model");
	for (int i = 0; i < SLICES; i++) {
		*all[i].at = b->o->alloc(b->m->backend, slice_bytes(&all[i], b->cap_rows, b->cap_pages));
		if (!*all[i].at)
			return err_set(e, ERR_MEMORY, "out of memory for a group block of %lld candidates; lower reward.batch_groups%s", (long long)b->cap_rows,
				       backend_shortage(b->m->backend));
	}
	return 0;
}

int group_block_prepare(struct group_block *b, int64_t candidates, int64_t groups, struct err *e)
{
	struct batch_sizes most = {.rows = candidates, .seqs = groups, .stride = 1, .writes = candidates, .outs = 1, .sets = groups};
	int rc = reserve(b, candidates, groups, e);
	return rc < 0 ? rc : batch_plan(&b->rows, &most, e);
}

struct group_block *group_block_open(const struct model *m)
{
	struct group_block *b = calloc(1, sizeof *b);
	CHECK(b, "out of memory for a group block");
	CHECK(m->params.group.q >= 0 && m->params.score >= 0, "a group block for a model without the heads of one");
	b->m = m;
	b->o = m->ops;
	batch_open(&b->rows, m->backend);
	return b;
}

void group_block_close(struct group_block *b)
{
	if (!b) return;
	release(b);
	batch_close(&b->rows);
	free(b);
}

/* ---- who sees whom ---- */

/* Whether completion x of n tokens comes before y of m by content. */
static int before(const int32_t *x, uint32_t n, const int32_t *y, uint32_t m)
{
	for (uint32_t i = 0; i < n && i < m; i++)
		if (x[i] != y[i]) return x[i] < y[i];
	return n < m;
}

/* slot[i]: place of candidate i in the order of content. */
static void content_order(const struct group *g, int32_t slot[GROUP_MAX])
{
	const int32_t *at[GROUP_MAX], *t = g->tokens + g->prompt_tokens;
	for (uint32_t i = 0; i < g->size; t += g->length[i++]) at[i] = t;
	for (uint32_t i = 0; i < g->size; i++) {
		slot[i] = 0;
		for (uint32_t k = 0; k < g->size; k++) {
			if (k == i) continue;
			int less = before(at[k], g->length[k], at[i], g->length[i]);
			slot[i] += less || (k < i && !before(at[i], g->length[i], at[k], g->length[k]));
		}
	}
}

static void lay_out(struct group_block *b, const struct group *const *groups, uint32_t n)
{
	struct batch *r = &b->rows;
	int32_t slot[GROUP_MAX];
	batch_reset(r, 1);
	for (uint32_t i = 0; i < n; i++) {
		const struct group *g = groups[i];
		CHECK(g->size >= 1 && g->size <= GROUP_MAX, "a group of %u candidates", g->size);
		batch_reserve(r, r->rows + g->size, i + 1, r->rows + g->size, 1, i + 1);
		content_order(g, slot);
		r->host.tables[i] = (int32_t)i;
		for (uint32_t c = 0; c < g->size; c++, r->rows++, r->writes++) {
			r->host.ids[r->rows] = 0; /* no tokens here */
			r->host.pos[r->rows] = (int32_t)g->size - 1;
			r->host.seq[r->rows] = (int32_t)i;
			r->host.write_row[r->writes] = (int32_t)r->rows;
			r->host.write_page[r->writes] = (int32_t)i;
			r->host.write_slot[r->writes] = slot[c];
		}
		r->seqs = r->pages = i + 1;
		r->set_rows[++r->sets] = r->rows;
	}
	batch_upload(r);
}

/* ---- forward ---- */

static struct tensor weight(const struct group_block *b, int i)
{
	return model_view(b->m, i);
}

static void project(const struct group_block *b, struct tensor x, int param, struct tensor y, int add)
{
	struct linear_args l = {.x = x, .w = weight(b, param), .y = y, .add = add};
	b->o->linear_forward(b->m->backend, &l);
}

static void normalise(const struct group_block *b, float *x, int param, float *y, float *rstd)
{
	int64_t n = b->rows.rows, c = b->m->shape.width;
	struct norm_args a = {.x = tensor_f32(x, n, c), .w = model_vector(b->m, param), .eps = (float)b->m->shape.norm_eps,
			      .y = tensor_f32(y, n, c), .rstd = rstd};
	b->o->norm_forward(b->m->backend, &a);
}

static struct kv_args pages(const struct group_block *b, float *k_pages, float *v_pages, float *k, float *v)
{
	const struct shape *s = &b->m->shape;
	int64_t n = b->rows.rows, a = s->heads * s->head_dim;
	return (struct kv_args){.k_pages = k_pages, .v_pages = v_pages, .kv_heads = (int)s->heads, .dk = (int)s->head_dim, .dv = (int)s->head_dim,
				.k = tensor_f32(k, n, a), .v = tensor_f32(v, n, a), .writes = b->rows.writes, .row = b->rows.device.write_row,
				.page = b->rows.device.write_page, .slot = b->rows.device.write_slot};
}

static struct attention_args attention(const struct group_block *b)
{
	const struct shape *s = &b->m->shape;
	int64_t n = b->rows.rows, a = s->heads * s->head_dim;
	return (struct attention_args){.q = tensor_f32(b->q, n, a), .heads = (int)s->heads, .kv_heads = (int)s->heads, .dk = (int)s->head_dim,
				       .dv = (int)s->head_dim, .scale = (float)(1.0 / sqrt((double)s->head_dim)), .k_pages = b->k_pages,
				       .v_pages = b->v_pages, .tables = b->rows.device.tables, .table_stride = 1, .row_seq = b->rows.device.seq,
				       .row_pos = b->rows.device.pos, .out = tensor_f32(b->att, n, a), .lse = b->lse};
}

void group_block_forward(struct group_block *b, struct tensor x, const struct group *const *groups, uint32_t n, float *score)
{
	const struct layer_params *w = &b->m->params.group;
	struct backend *be = b->m->backend;
	lay_out(b, groups, n);
	CHECK(x.rows == b->rows.rows && x.cols == b->m->shape.width, "%lld vectors for %lld candidates", (long long)x.rows, (long long)b->rows.rows);
	struct err e;
	CHECK(reserve(b, b->rows.rows, b->rows.pages, &e) == 0, "%s", e.msg);
	int64_t t = b->rows.rows, c = x.cols, a = b->m->shape.heads * b->m->shape.head_dim, f = PARAMS_GROUP_WIDTH * c;
	size_t bytes = (size_t)(t * c) * sizeof(float);
	b->o->copy(be, b->x, x.data, bytes);
	normalise(b, b->x, w->norm1, b->n1, b->rstd1);
	struct tensor n1 = tensor_f32(b->n1, t, c), n2 = tensor_f32(b->n2, t, c);
	project(b, n1, w->q, tensor_f32(b->q, t, a), 0);
	project(b, n1, w->k, tensor_f32(b->k, t, a), 0);
	project(b, n1, w->v, tensor_f32(b->v, t, a), 0);
	struct kv_args kv = pages(b, b->k_pages, b->v_pages, b->k, b->v);
	b->o->kv_write(be, &kv);
	struct attention_args at = attention(b);
	b->o->attention_forward(be, &at);
	b->o->copy(be, b->mid, b->x, bytes);
	project(b, at.out, w->o, tensor_f32(b->mid, t, c), 1);
	normalise(b, b->mid, w->norm2, b->n2, b->rstd2);
	project(b, n2, w->dense_gate, tensor_f32(b->g, t, f), 0);
	project(b, n2, w->dense_up, tensor_f32(b->u, t, f), 0);
	struct swiglu_args sw = {.g = tensor_f32(b->g, t, f), .u = tensor_f32(b->u, t, f), .a = tensor_f32(b->a, t, f)};
	b->o->swiglu_forward(be, &sw);
	b->o->copy(be, b->y, b->mid, bytes);
	project(b, sw.a, w->dense_down, tensor_f32(b->y, t, c), 1);
	struct linear_args head = {.x = tensor_f32(b->y, t, c), .w = weight(b, b->m->params.score),
				   .bias = model_vector(b->m, b->m->params.score_bias), .y = tensor_f32(b->score, t, 1)};
	b->o->linear_forward(be, &head);
	b->o->download(be, score, b->score, (size_t)t * sizeof *score);
}

/* ---- backward ---- */

static struct tensor cleared(const struct group_block *b, float *p, int64_t cols)
{
	struct tensor t = tensor_f32(p, b->rows.rows, cols);
	b->o->zero(b->m->backend, p, tensor_bytes(t));
	return t;
}

static void project_back(const struct group_block *b, struct tensor x, int param, struct tensor dy, struct tensor dx, float *grads)
{
	struct linear_args l = {.x = x, .w = weight(b, param), .dy = dy, .dx = dx, .dw = model_grad(b->m, param, grads)};
	b->o->linear_backward(b->m->backend, &l);
}

static void normalise_back(const struct group_block *b, float *x, int param, float *rstd, struct tensor dy, struct tensor dx, float *grads)
{
	struct norm_args a = {.x = tensor_f32(x, dx.rows, dx.cols), .w = model_vector(b->m, param), .eps = (float)b->m->shape.norm_eps,
			      .rstd = rstd, .dy = dy, .dx = dx, .dw = model_grad_vector(b->m, param, grads)};
	b->o->norm_backward(b->m->backend, &a);
}

/* dx, the gradient by the block's output, becomes that by the state between attention and feed-forward. */
static void feed_forward_back(struct group_block *b, struct tensor dx, float *grads)
{
	const struct layer_params *w = &b->m->params.group;
	int64_t t = dx.rows, c = dx.cols, f = PARAMS_GROUP_WIDTH * c;
	struct tensor da = cleared(b, b->da, f), dn = cleared(b, b->dn, c), n2 = tensor_f32(b->n2, t, c);
	project_back(b, tensor_f32(b->a, t, f), w->dense_down, dx, da, grads);
	struct swiglu_args sw = {.g = tensor_f32(b->g, t, f), .u = tensor_f32(b->u, t, f), .da = da, .dg = tensor_f32(b->dg, t, f), .du = tensor_f32(b->du, t, f)};
	b->o->swiglu_backward(b->m->backend, &sw);
	project_back(b, n2, w->dense_gate, sw.dg, dn, grads);
	project_back(b, n2, w->dense_up, sw.du, dn, grads);
	normalise_back(b, b->mid, w->norm2, b->rstd2, dn, dx, grads);
}

/* dx, by the state after the attention, becomes that by x. */
static void attention_back(struct group_block *b, struct tensor dx, float *grads)
{
	const struct layer_params *w = &b->m->params.group;
	struct backend *be = b->m->backend;
	int64_t t = dx.rows, c = dx.cols, a = b->m->shape.heads * b->m->shape.head_dim;
	size_t page = (size_t)(b->rows.pages * a * KV_PAGE) * sizeof(float);
	struct attention_args at = attention(b);
	at.dout = cleared(b, b->datt, a);
	project_back(b, at.out, w->o, dx, at.dout, grads);
	at.dq = cleared(b, b->dq, a);
	at.dk_pages = b->dk_pages, at.dv_pages = b->dv_pages;
	at.sets = b->rows.sets, at.set_rows = b->rows.set_rows;
	b->o->zero(be, b->dk_pages, page);
	b->o->zero(be, b->dv_pages, page);
	b->o->attention_backward(be, &at);
	struct tensor dk = cleared(b, b->dk, a), dv = cleared(b, b->dv, a), dn = cleared(b, b->dn, c), n1 = tensor_f32(b->n1, t, c);
	struct kv_args kv = pages(b, b->dk_pages, b->dv_pages, b->dk, b->dv);
	b->o->kv_read_add(be, &kv);
	project_back(b, n1, w->q, at.dq, dn, grads);
	project_back(b, n1, w->k, dk, dn, grads);
	project_back(b, n1, w->v, dv, dn, grads);
	normalise_back(b, b->x, w->norm1, b->rstd1, dn, dx, grads);
}

const float *group_block_backward(struct group_block *b, const float *dscore, float *grads)
{
	const struct params *p = &b->m->params;
	int64_t t = b->rows.rows, c = b->m->shape.width;
	b->o->upload(b->m->backend, b->dy, dscore, (size_t)t * sizeof *dscore);
	struct tensor dx = cleared(b, b->dx, c);
	struct linear_args head = {.x = tensor_f32(b->y, t, c), .w = weight(b, p->score), .dy = tensor_f32(b->dy, t, 1), .dx = dx,
				   .dw = model_grad(b->m, p->score, grads), .dbias = model_grad_vector(b->m, p->score_bias, grads)};
	b->o->linear_backward(b->m->backend, &head);
	feed_forward_back(b, dx, grads);
	attention_back(b, dx, grads);
	return b->dx;
}
