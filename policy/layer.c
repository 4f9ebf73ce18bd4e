/* Projections and norms with their parameters; see layer.h. */
#include "policy/layer.h"

#include "policy/adapter.h"

void layer_clear(const struct pass *p, struct tensor t)
{
	p->m->ops->zero(p->m->backend, t.data, tensor_bytes(t));
}

/* A low rank beside a matrix, in a pass on t rows. */
struct low {
	struct tensor a, b, da, db; /* factors and their gradients */
	struct tensor x, h;         /* what A sees, [t, in]; scale·A·x, [t, r] */
	float scale;
};

static void scale_drop(const struct pass *p, struct tensor x, struct tensor y, float scale, float rate, uint32_t stream, int add)
{
	struct dropout_args d = {.x = x, .y = y, .add = add, .scale = scale, .rate = rate, .seed = p->a->drop_seed, .first = p->a->drop_first, .stream = stream,
				 .seq = p->b->device.seq, .pos = p->b->device.pos};
	p->m->ops->dropout(p->m->backend, &d);
}

static float rate_of(const struct pass *p)
{
	return p->a->drops ? (float)p->m->adapter->rate : 0;
}

/* Fills l and computes h; 0: there is none beside this matrix. */
static int low_open(const struct pass *p, struct low *l, struct tensor x, int param)
{
	const struct adapter *ad = p->m->adapter;
	if (!ad || ad->slot[param].a < 0) return 0;
	const struct adapter_slot *s = &ad->slot[param];
	*l = (struct low){.a = params_view(&ad->params, s->a, ad->weights), .b = params_view(&ad->params, s->b, ad->weights), .da = params_view(&ad->params, s->a, p->grads),
			  .db = params_view(&ad->params, s->b, p->grads), .x = x, .scale = s->scale};
	l->h = tensor_f32(p->a->low, x.rows, l->a.rows);
	if (rate_of(p) > 0) {
		l->x = tensor_f32(p->a->low_x, x.rows, x.cols);
		scale_drop(p, x, l->x, 1, rate_of(p), (uint32_t)s->a, 0);
	}
	struct linear_args f = {.x = l->x, .w = l->a, .y = l->h};
	p->m->ops->linear_forward(p->m->backend, &f);
	scale_drop(p, l->h, l->h, l->scale, 0, 0, 0);
	return 1;
}

/* y += B·scale·A·x */
static void low_forward(const struct pass *p, struct tensor x, int param, struct tensor y)
{
	struct low l;
	if (!low_open(p, &l, x, param)) return;
	struct linear_args f = {.x = l.h, .w = l.b, .y = y, .add = 1};
	p->m->ops->linear_forward(p->m->backend, &f);
}

/* h is computed again: it is small, and keeping it of every matrix is not. */
static void low_back(const struct pass *p, struct tensor x, int param, struct tensor dy, struct tensor dx)
{
	struct low l;
	if (!low_open(p, &l, x, param)) return;
	int drops = rate_of(p) > 0;
	struct tensor dh = tensor_f32(p->a->dlow, l.h.rows, l.h.cols), to = drops ? tensor_f32(p->a->dlow_x, x.rows, x.cols) : dx;
	layer_clear(p, dh);
	struct linear_args b = {.x = l.h, .w = l.b, .dy = dy, .dx = dh, .dw = l.db};
	p->m->ops->linear_backward(p->m->backend, &b);
	scale_drop(p, dh, dh, l.scale, 0, 0, 0);
	if (drops) layer_clear(p, to);
	struct linear_args a = {.x = l.x, .w = l.a, .dy = dh, .dx = to, .dw = l.da};
	p->m->ops->linear_backward(p->m->backend, &a);
	if (drops) scale_drop(p, to, dx, 1, rate_of(p), (uint32_t)p->m->adapter->slot[param].a, 1);
}

void layer_project(const struct pass *p, struct tensor x, int param, struct tensor y, int add)
{
	const struct params *q = &p->m->params;
	struct linear_args l = {.x = x, .w = layer_weight(p, param), .bias = model_vector(p->m, q->list[param].bias), .y = y, .add = add};
	p->m->ops->linear_forward(p->m->backend, &l);
	low_forward(p, x, param, y);
}

void layer_project_back(const struct pass *p, struct tensor x, int param, struct tensor dy, struct tensor dx)
{
	const struct params *q = &p->m->params;
	struct linear_args l = {.x = x, .w = layer_weight(p, param), .dy = dy, .dx = dx, .dw = layer_grad(p, param),
				.dbias = model_grad_vector(p->m, q->list[param].bias, p->grads)};
	p->m->ops->linear_backward(p->m->backend, &l);
	low_back(p, x, param, dy, dx);
}

/* mean NULL: RMSNorm */
static void norm(const struct pass *p, struct tensor x, int param, double eps, struct tensor y, float *rstd, float *mean)
{
	const struct params *q = &p->m->params;
	struct norm_args n = {.x = x, .w = model_vector(p->m, param), .bias = model_vector(p->m, q->list[param].bias),
			      .eps = (float)eps, .y = y, .rstd = rstd, .mean = mean};
	p->m->ops->norm_forward(p->m->backend, &n);
}

static void norm_back(const struct pass *p, struct tensor x, int param, double eps, float *rstd, float *mean, struct tensor dy, struct tensor dx)
{
	const struct params *q = &p->m->params;
	struct norm_args n = {.x = x, .w = model_vector(p->m, param), .eps = (float)eps, .rstd = rstd, .mean = mean, .dy = dy, .dx = dx,
			      .dw = model_grad_vector(p->m, param, p->grads), .dbias = model_grad_vector(p->m, q->list[param].bias, p->grads)};
	p->m->ops->norm_backward(p->m->backend, &n);
}

static float *mean_of(const struct pass *p, struct tensor x, float *statistics)
{
	return p->m->shape.norm == NORM_LAYER ? statistics + x.rows : NULL;
}

void layer_norm(const struct pass *p, struct tensor x, int param, struct tensor y, float *statistics)
{
	norm(p, x, param, p->m->shape.norm_eps, y, statistics, mean_of(p, x, statistics));
}

void layer_norm_back(const struct pass *p, struct tensor x, int param, float *statistics, struct tensor dy, struct tensor dx)
{
	norm_back(p, x, param, p->m->shape.norm_eps, statistics, mean_of(p, x, statistics), dy, dx);
}

void layer_rms(const struct pass *p, struct tensor x, int param, double eps, struct tensor y, float *rstd)
{
	norm(p, x, param, eps, y, rstd, NULL);
}

void layer_rms_back(const struct pass *p, struct tensor x, int param, double eps, float *rstd, struct tensor dy, struct tensor dx)
{
	norm_back(p, x, param, eps, rstd, NULL, dy, dx);
}
