/* Projections and norms with their parameters; see layer.h. */
#include "policy/layer.h"

void layer_clear(const struct pass *p, struct tensor t)
{
	p->m->ops->zero(p->m->backend, t.data, tensor_bytes(t));
}

void layer_project(const struct pass *p, struct tensor x, int param, struct tensor y, int add)
{
	const struct params *q = &p->m->params;
	struct linear_args l = {.x = x, .w = layer_weight(p, param), .bias = model_vector(p->m, q->list[param].bias), .y = y, .add = add};
	p->m->ops->linear_forward(p->m->backend, &l);
}

void layer_project_back(const struct pass *p, struct tensor x, int param, struct tensor dy, struct tensor dx)
{
	const struct params *q = &p->m->params;
	struct linear_args l = {.x = x, .w = layer_weight(p, param), .dy = dy, .dx = dx, .dw = layer_grad(p, param),
				.dbias = model_grad_vector(p->m, q->list[param].bias, p->grads)};
	p->m->ops->linear_backward(p->m->backend, &l);
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
