/* The model's backward: the same layers in reverse, gradients added in the order
 * that docs/exactness.md lays down. */
#include "policy/activations.h"

#include <math.h>

struct back {
	const struct model *m;
	struct activations *a;
	const struct batch *b;
	const struct model_loss *loss;
	float *grads;
};

static struct tensor grad(const struct back *p, int i)
{
	return i >= 0 && p->m->params.list[i].trained ? params_view(&p->m->params, i, p->grads) : (struct tensor){0};
}

static void clear(const struct back *p, struct tensor t)
{
	p->m->ops->zero(p->m->backend, t.data, tensor_bytes(t));
}

static void project_back(const struct back *p, struct tensor x, int param, struct tensor dy, struct tensor dx)
{
	struct linear_args l = {.x = x, .w = params_view(&p->m->params, param, p->m->weights), .dy = dy, .dx = dx, .dw = grad(p, param)};
	p->m->ops->linear_backward(p->m->backend, &l);
}

static void normalise_back(const struct back *p, struct tensor x, int param, float *rstd, struct tensor dy, struct tensor dx)
{
	struct norm_args n = {.x = x, .w = params_vector(&p->m->params, param, p->m->weights), .eps = (float)p->m->shape.norm_eps, .rstd = rstd, .dy = dy,
			      .dx = dx, .dw = params_vector(&p->m->params, param, p->grads)};
	p->m->ops->norm_backward(p->m->backend, &n);
}

static void gated_back(const struct back *p, struct layer_acts *l, struct tensor x, int gate, int up, int down, int64_t width, struct tensor dout,
		       struct tensor dx)
{
	int64_t t = p->b->rows;
	struct tensor g = tensor_f32(l->sg, t, width), u = tensor_f32(l->su, t, width), a = tensor_f32(l->sa, t, width);
	struct tensor dg = tensor_f32(p->a->dg, t, width), du = tensor_f32(p->a->du, t, width), da = tensor_f32(p->a->da, t, width);
	clear(p, da);
	project_back(p, a, down, dout, da);
	struct swiglu_args s = {.g = g, .u = u, .da = da, .dg = dg, .du = du};
	p->m->ops->swiglu_backward(p->m->backend, &s);
	project_back(p, x, gate, dg, dx);
	project_back(p, x, up, du, dx);
}

static void expert_back(const struct back *p, int64_t layer, struct tensor x, struct tensor dout, struct tensor dx)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	int64_t t = p->b->rows, k = s->chosen, e = s->experts;
	struct experts_args ex = {.x = x, .experts = (int)e, .chosen = (int)k, .expert = l->expert, .weight = l->weight,
				  .gate = params_view(&p->m->params, w->gate, p->m->weights), .up = params_view(&p->m->params, w->up, p->m->weights),
				  .down = params_view(&p->m->params, w->down, p->m->weights), .order = l->order, .offset = l->offset,
				  .g = tensor_f32(l->g, t * k, s->expert_width), .u = tensor_f32(l->u, t * k, s->expert_width),
				  .work = tensor_f32(p->a->work, t * k, s->width + 3 * s->expert_width), .dout = dout, .dx = dx, .dweight = p->a->dweight,
				  .dgate = grad(p, w->gate), .dup = grad(p, w->up), .ddown = grad(p, w->down)};
	o->experts_backward(p->m->backend, &ex);
	const float *balance = NULL;
	if (p->loss->balance) {
		o->upload(p->m->backend, p->a->balance, p->loss->balance + (layer - s->dense_layers) * e, (size_t)e * 4);
		balance = p->a->balance;
	}
	struct router_args r = {.logits = tensor_f32(l->logits, t, e), .kind = s->router, .chosen = (int)k, .normalize = s->router_normalize,
				.scale = (float)s->router_scale, .probs = l->probs, .lse = l->router_lse, .expert = l->expert, .weight = l->weight,
				.dweight = p->a->dweight, .dprob_balance = balance, .z_scale = p->loss->z_scale, .dlogits = tensor_f32(p->a->dlogits, t, e)};
	o->router_backward(p->m->backend, &r);
	project_back(p, x, w->router, r.dlogits, dx);
}

static void feed_forward_back(const struct back *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	int64_t t = p->b->rows, c = s->width;
	struct tensor n2 = tensor_f32(l->n2, t, c), dx = tensor_f32(p->a->dx, t, c), dn = tensor_f32(p->a->dn, t, c);
	clear(p, dn);
	if (shape_is_moe(s, layer)) {
		if (s->shared_width) gated_back(p, l, n2, w->shared_gate, w->shared_up, w->shared_down, s->shared_width, dx, dn);
		expert_back(p, layer, n2, dx, dn);
	} else {
		gated_back(p, l, n2, w->dense_gate, w->dense_up, w->dense_down, s->dense_width, dx, dn);
	}
	normalise_back(p, tensor_f32(l->mid, t, c), w->norm2, l->rstd2, dn, dx);
}

/* Inverse rotation, then the gradient of the norm per head; the result is in d (dq or dk). */
static void position_back(const struct back *p, float *d, float *raw, float *rstd, int norm, int64_t heads, float *spare)
{
	const struct shape *s = &p->m->shape;
	int64_t t = p->b->rows, hd = s->head_dim;
	struct rope_args r = {.x = tensor_f32(d, t, heads * hd), .heads = (int)heads, .head_dim = (int)hd, .dims = (int)hd, .pos = p->b->device.pos,
			      .cos = p->m->cos, .sin = p->m->sin, .inverse = 1};
	p->m->ops->rope(p->m->backend, &r);
	if (norm < 0) return;
	struct tensor dy = tensor_f32(spare, t * heads, hd), dx = tensor_f32(d, t * heads, hd);
	p->m->ops->copy(p->m->backend, spare, d, tensor_bytes(dy));
	clear(p, dx);
	normalise_back(p, tensor_f32(raw, t * heads, hd), norm, rstd, dy, dx);
}

static void attention_back(const struct back *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	const struct batch *b = p->b;
	int64_t t = b->rows, c = s->width, hk = s->kv_heads * s->head_dim, hv = s->kv_heads * s->value_dim;
	struct tensor dx = tensor_f32(p->a->dx, t, c), dn = tensor_f32(p->a->dn, t, c), n1 = tensor_f32(l->n1, t, c);
	struct tensor att = tensor_f32(l->att, t, s->heads * s->value_dim), datt = tensor_f32(p->a->datt, t, s->heads * s->value_dim);
	struct tensor dq = tensor_f32(p->a->dq, t, s->heads * s->head_dim), dk = tensor_f32(p->a->dk, t, hk), dv = tensor_f32(p->a->dv, t, hv);
	clear(p, datt);
	project_back(p, att, w->o, dx, datt);
	clear(p, dq), clear(p, dk), clear(p, dv);
	o->zero(p->m->backend, p->a->dk_pages, (size_t)(b->pages * hk * KV_PAGE) * 4);
	o->zero(p->m->backend, p->a->dv_pages, (size_t)(b->pages * hv * KV_PAGE) * 4);
	struct attention_args at = {.q = tensor_f32(l->q, t, dq.cols), .heads = (int)s->heads, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim,
				    .dv = (int)s->value_dim, .scale = (float)(1.0 / sqrt((double)s->head_dim)), .k_pages = l->k_pages,
				    .v_pages = l->v_pages, .tables = b->device.tables, .table_stride = (int)b->stride, .row_seq = b->device.seq,
				    .row_pos = b->device.pos, .out = att, .lse = l->lse, .dout = datt, .dq = dq, .dk_pages = p->a->dk_pages,
				    .dv_pages = p->a->dv_pages, .sets = b->sets, .set_rows = b->set_rows};
	o->attention_backward(p->m->backend, &at);
	struct kv_args kv = {.k_pages = p->a->dk_pages, .v_pages = p->a->dv_pages, .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim,
			     .dv = (int)s->value_dim, .k = dk, .v = dv, .writes = b->writes, .row = b->device.write_row, .page = b->device.write_page,
			     .slot = b->device.write_slot};
	o->kv_read_add(p->m->backend, &kv);
	position_back(p, p->a->dq, l->q_raw, l->q_rstd, w->q_norm, s->heads, p->a->datt);
	position_back(p, p->a->dk, l->k_raw, l->k_rstd, w->k_norm, s->kv_heads, p->a->datt);
	clear(p, dn);
	project_back(p, n1, w->q, dq, dn);
	project_back(p, n1, w->k, dk, dn);
	project_back(p, n1, w->v, dv, dn);
	normalise_back(p, tensor_f32(l->x, t, c), w->norm1, l->rstd1, dn, dx);
}

/* Gradient at the outs, from both heads. */
static void heads_back(const struct back *p, const struct sampling *s)
{
	const struct model *m = p->m;
	struct activations *a = p->a;
	const struct batch *b = p->b;
	int64_t n = b->outs, c = m->shape.width;
	struct tensor outs = model_outs(m, a, b), douts = tensor_f32(a->douts, n, c);
	clear(p, douts);
	if (p->loss->douts) m->ops->add(m->backend, a->douts, p->loss->douts, n * c);
	if (p->loss->dlogprob) {
		m->ops->upload(m->backend, a->dlogprob, p->loss->dlogprob, (size_t)n * 4);
		if (p->loss->dentropy) m->ops->upload(m->backend, a->dentropy, p->loss->dentropy, (size_t)n * 4);
		struct head_args h = {.x = outs, .w = params_view(&m->params, m->params.lm_head, m->weights), .target = b->device.target,
				      .forbidden = b->any_forbidden ? b->device.forbidden : NULL, .temperature = s->temperature, .top_k = s->top_k,
				      .top_p = s->top_p, .logprob = a->logprob, .entropy = a->entropy, .work = a->head_work, .work_rows = a->head_rows,
				      .dlogprob = a->dlogprob, .dentropy = p->loss->dentropy ? a->dentropy : NULL, .dx = douts,
				      .dw = grad(p, m->params.lm_head)};
		m->ops->head_backward(m->backend, &h);
	}
	if (p->loss->dvalue) {
		m->ops->upload(m->backend, a->dvalue, p->loss->dvalue, (size_t)n * 4);
		struct linear_args l = {.x = outs, .w = params_view(&m->params, m->params.score, m->weights), .dy = tensor_f32(a->dvalue, n, 1), .dx = douts,
					.dw = grad(p, m->params.score), .dbias = params_vector(&m->params, m->params.score_bias, p->grads)};
		m->ops->linear_backward(m->backend, &l);
	}
	struct tensor dfinal = tensor_f32(a->dn, b->rows, c), dx = tensor_f32(a->dx, b->rows, c);
	clear(p, dfinal);
	m->ops->scatter_add_rows(m->backend, dfinal, douts, b->device.out_row);
	clear(p, dx);
	normalise_back(p, tensor_f32(a->last, b->rows, c), m->params.norm, a->rstd, dfinal, dx);
}

void model_backward(const struct model *m, struct activations *a, const struct batch *b, const struct sampling *s, const struct model_loss *loss,
		    float *grads)
{
	CHECK(a->keep, "backward needs activations opened with keep");
	struct back p = {m, a, b, loss, grads};
	heads_back(&p, s);
	for (int64_t l = m->shape.layers - 1; l >= 0; l--) {
		feed_forward_back(&p, l);
		attention_back(&p, l);
	}
	struct tensor dembed = grad(&p, m->params.embed);
	if (m->params.apart && dembed.data) dembed.data = grads + m->params.floats;
	m->ops->embedding_backward(m->backend, dembed, b->device.ids, tensor_f32(a->dx, b->rows, m->shape.width));
}

void model_join(const struct model *m, float *grads)
{
	if (m->params.apart) m->ops->add(m->backend, grads + m->params.list[m->params.embed].offset, grads + m->params.floats, m->params.apart);
}
