/* The model's backward: the same layers in reverse, gradients added in the order
 * that docs/exactness.md lays down. */
#include "policy/layer.h"

/* Gradient at the outs, from both heads. */
static void heads_back(const struct pass *p, const struct sampling *s)
{
	const struct model *m = p->m;
	struct activations *a = p->a;
	const struct batch *b = p->b;
	int64_t n = b->outs, c = m->shape.width;
	struct tensor outs = model_outs(m, a, b), douts = tensor_f32(a->douts, n, c);
	layer_clear(p, douts);
	if (p->loss->douts) m->ops->add(m->backend, a->douts, p->loss->douts, n * c);
	if (p->loss->dlogprob) {
		m->ops->upload(m->backend, a->dlogprob, p->loss->dlogprob, (size_t)n * 4);
		if (p->loss->dentropy) m->ops->upload(m->backend, a->dentropy, p->loss->dentropy, (size_t)n * 4);
		struct head_args h = {.x = outs, .w = model_view(m, m->params.lm_head), .target = b->device.target,
				      .forbidden = b->any_forbidden ? b->device.forbidden : NULL, .temperature = s->temperature, .top_k = s->top_k,
				      .top_p = s->top_p, .logprob = a->logprob, .entropy = a->entropy, .work = a->head_work, .work_rows = a->head_rows,
				      .dlogprob = a->dlogprob, .dentropy = p->loss->dentropy ? a->dentropy : NULL, .dx = douts,
				      .dw = layer_grad(p, m->params.lm_head)};
		m->ops->head_backward(m->backend, &h);
	}
	if (p->loss->dvalue) {
		m->ops->upload(m->backend, a->dvalue, p->loss->dvalue, (size_t)n * 4);
		struct linear_args l = {.x = outs, .w = model_view(m, m->params.score), .dy = tensor_f32(a->dvalue, n, 1), .dx = douts,
					.dw = layer_grad(p, m->params.score), .dbias = model_grad_vector(m, m->params.score_bias, p->grads)};
		m->ops->linear_backward(m->backend, &l);
	}
	struct tensor dfinal = tensor_f32(a->dn, b->rows, c), dx = tensor_f32(a->dx, b->rows, c);
	layer_clear(p, dfinal);
	m->ops->scatter_add_rows(m->backend, dfinal, douts, b->device.out_row);
	layer_clear(p, dx);
	layer_norm_back(p, tensor_f32(a->last, b->rows, c), m->params.norm, a->rstd, dfinal, dx);
}

void model_backward(const struct model *m, struct activations *a, const struct batch *b, const struct sampling *s, const struct model_loss *loss,
		    float *grads)
{
	CHECK(a->keep, "backward needs activations opened with keep");
	struct pass p = {.m = m, .a = a, .b = b, .loss = loss, .grads = grads};
	heads_back(&p, s);
	for (int64_t l = m->shape.layers - 1; l >= 0; l--) {
		if (a->keep == ACTIVATIONS_AGAIN && l + 1 < m->shape.layers) { /* the last layer's are still there */
			layer_attention(&p, l);
			layer_feed_forward(&p, l, a->again);
		}
		layer_feed_forward_back(&p, l);
		layer_attention_back(&p, l);
	}
	struct tensor dembed = layer_grad(&p, m->params.embed), dpos = layer_grad(&p, m->params.positions), dx = tensor_f32(a->dx, b->rows, m->shape.width);
	if (m->learned->apart && dembed.data) dembed.data = grads + m->learned->floats;
	if (dembed.data) m->ops->embedding_backward(m->backend, dembed, b->device.ids, dx);
	if (dpos.data) m->ops->scatter_add_rows(m->backend, dpos, dx, b->device.pos);
}

void model_join(const struct model *m, float *grads)
{
	const struct params *q = m->learned;
	if (q->apart) m->ops->add(m->backend, grads + q->list[q->embed].offset, grads + q->floats, q->apart);
}
