/* The feed-forward part of a layer, forward and backward: dense, with or without a
 * gate, or shared experts plus the chosen ones. */
#include "policy/adapter.h"
#include "policy/layer.h"

/* The matrices of a dense or shared feed-forward; gate -1: GELU alone. */
struct dense {
	int gate, up, down;
	int64_t width;
};

static struct dense dense_of(const struct shape *s, const struct layer_params *w, int shared)
{
	if (shared) return (struct dense){w->shared_gate, w->shared_up, w->shared_down, s->shared_width};
	return (struct dense){w->dense_gate, w->dense_up, w->dense_down, s->dense_width};
}

static void dense_forward(const struct pass *p, struct layer_acts *l, struct dense d, struct tensor x, struct tensor out)
{
	int64_t t = p->b->rows;
	struct tensor g = tensor_f32(l->sg, t, d.width), u = tensor_f32(l->su, t, d.width), a = tensor_f32(l->sa, t, d.width);
	layer_project(p, x, d.up, u, 0);
	if (d.gate >= 0) {
		layer_project(p, x, d.gate, g, 0);
		struct swiglu_args s = {.g = g, .u = u, .a = a};
		p->m->ops->swiglu_forward(p->m->backend, &s);
	} else {
		struct gelu_args s = {.x = u, .a = a, .exact = p->m->shape.activation == ACTIVATION_GELU};
		p->m->ops->gelu_forward(p->m->backend, &s);
	}
	layer_project(p, a, d.down, out, 1);
}

static void dense_back(const struct pass *p, struct layer_acts *l, struct dense d, struct tensor x, struct tensor dout, struct tensor dx)
{
	int64_t t = p->b->rows;
	struct tensor g = tensor_f32(l->sg, t, d.width), u = tensor_f32(l->su, t, d.width), a = tensor_f32(l->sa, t, d.width);
	struct tensor dg = tensor_f32(p->a->dg, t, d.width), du = tensor_f32(p->a->du, t, d.width), da = tensor_f32(p->a->da, t, d.width);
	layer_clear(p, da);
	layer_project_back(p, a, d.down, dout, da);
	if (d.gate >= 0) {
		struct swiglu_args s = {.g = g, .u = u, .da = da, .dg = dg, .du = du};
		p->m->ops->swiglu_backward(p->m->backend, &s);
		layer_project_back(p, x, d.gate, dg, dx);
	} else {
		struct gelu_args s = {.x = u, .exact = p->m->shape.activation == ACTIVATION_GELU, .da = da, .dx = du};
		p->m->ops->gelu_backward(p->m->backend, &s);
	}
	layer_project_back(p, x, d.up, du, dx);
}

/* The low ranks beside the experts' matrices; returns the sum of the ranks. */
static int64_t low_of(const struct pass *p, const struct layer_params *w, struct low_rank low[EXPERTS_MATRICES])
{
	const int param[EXPERTS_MATRICES] = {w->gate, w->up, w->down};
	const struct adapter *ad = p->m->adapter;
	int64_t sum = 0;
	for (int i = 0; ad && i < EXPERTS_MATRICES; i++) {
		const struct adapter_slot *s = &ad->slot[param[i]];
		if (s->a < 0) continue;
		low[i] = (struct low_rank){(int)ad->params.list[s->a].rows, s->scale, params_view(&ad->params, s->a, ad->weights), params_view(&ad->params, s->b, ad->weights),
					   params_view(&ad->params, s->a, p->grads), params_view(&ad->params, s->b, p->grads)};
		sum += low[i].rank;
	}
	return sum;
}

/* What forward and backward of the routed experts have in common. */
static struct experts_args experts_of(const struct pass *p, struct layer_acts *l, const struct layer_params *w, struct tensor x)
{
	const struct shape *s = &p->m->shape;
	int64_t n = p->b->rows * s->chosen;
	struct experts_args e = {.x = x, .experts = (int)s->experts, .chosen = (int)s->chosen, .expert = l->expert, .weight = l->weight,
				     .gate = layer_weight(p, w->gate), .up = layer_weight(p, w->up), .down = layer_weight(p, w->down),
				     .gate_at = model_apart(p->m, w->gate), .up_at = model_apart(p->m, w->up), .down_at = model_apart(p->m, w->down), .order = l->order,
				     .offset = l->offset, .g = tensor_f32(l->g, n, s->expert_width), .u = tensor_f32(l->u, n, s->expert_width),
				     .work = tensor_f32(p->a->work, n, s->width + 3 * s->expert_width)};
	e.work.cols += 2 * low_of(p, w, e.low);
	return e;
}

static struct router_args router_of(const struct pass *p, struct layer_acts *l)
{
	const struct shape *s = &p->m->shape;
	return (struct router_args){.logits = tensor_f32(l->logits, p->b->rows, s->experts), .kind = s->router, .chosen = (int)s->chosen,
				    .normalize = s->router_normalize, .scale = (float)s->router_scale, .probs = l->probs, .lse = l->router_lse,
				    .expert = l->expert, .weight = l->weight};
}

static void experts_forward(const struct pass *p, struct layer_acts *l, const struct layer_params *w, struct tensor x, struct tensor out)
{
	struct router_args r = router_of(p, l);
	r.bias = model_vector(p->m, w->router_bias);
	layer_project(p, x, w->router, r.logits, 0);
	p->m->ops->router_forward(p->m->backend, &r);
	struct experts_args e = experts_of(p, l, w, x);
	e.out = out;
	p->m->ops->experts_forward(p->m->backend, &e);
}

static void experts_back(const struct pass *p, int64_t layer, struct tensor x, struct tensor dout, struct tensor dx)
{
	const struct shape *s = &p->m->shape;
	const struct ops *o = p->m->ops;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	struct experts_args ex = experts_of(p, l, w, x);
	ex.dout = dout, ex.dx = dx, ex.dweight = p->a->dweight;
	ex.dgate = layer_grad(p, w->gate), ex.dup = layer_grad(p, w->up), ex.ddown = layer_grad(p, w->down);
	o->experts_backward(p->m->backend, &ex);
	struct router_args r = router_of(p, l);
	if (p->loss->balance) {
		o->upload(p->m->backend, p->a->balance, p->loss->balance + (layer - s->dense_layers) * s->experts, (size_t)s->experts * 4);
		r.dprob_balance = p->a->balance;
	}
	r.dweight = p->a->dweight, r.z_scale = p->loss->z_scale, r.dlogits = tensor_f32(p->a->dlogits, p->b->rows, s->experts);
	o->router_backward(p->m->backend, &r);
	layer_project_back(p, x, w->router, r.dlogits, dx);
}

void layer_feed_forward(const struct pass *p, int64_t layer, float *out_data)
{
	const struct shape *s = &p->m->shape;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	int64_t t = p->b->rows, c = s->width;
	struct tensor n2 = tensor_f32(l->n2, t, c), out = tensor_f32(out_data, t, c);
	if (!s->parallel) layer_norm(p, tensor_f32(l->mid, t, c), w->norm2, n2, l->rstd2);
	if (out_data != l->mid) p->m->ops->copy(p->m->backend, out_data, l->mid, (size_t)(t * c) * 4);
	if (!shape_is_moe(s, layer)) {
		dense_forward(p, l, dense_of(s, w, 0), n2, out);
		return;
	}
	if (s->shared_width) dense_forward(p, l, dense_of(s, w, 1), n2, out);
	experts_forward(p, l, w, n2, out);
}

void layer_feed_forward_back(const struct pass *p, int64_t layer)
{
	const struct shape *s = &p->m->shape;
	struct layer_acts *l = &p->a->layer[layer];
	const struct layer_params *w = &p->m->params.layer[layer];
	int64_t t = p->b->rows, c = s->width;
	struct tensor n2 = tensor_f32(l->n2, t, c), dx = tensor_f32(p->a->dx, t, c), dn = tensor_f32(p->a->dn, t, c);
	layer_clear(p, dn);
	if (shape_is_moe(s, layer)) {
		if (s->shared_width) dense_back(p, l, dense_of(s, w, 1), n2, dx, dn);
		experts_back(p, layer, n2, dx, dn);
	} else {
		dense_back(p, l, dense_of(s, w, 0), n2, dx, dn);
	}
	/* in a parallel layer dx stays the gradient by the output until attention has seen it; the norm's part waits in dn */
	if (!s->parallel) layer_norm_back(p, tensor_f32(l->mid, t, c), w->norm2, l->rstd2, dn, dx);
}
