/* Fitting; see reward_fit.h. */
#include "reward/reward_fit.h"

#include "core/base/fault.h"
#include "core/base/rng.h"
#include "policy/optimizer.h"
#include "reward/rank_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIT_BLOCK = 4 }; /* groups whose gradient is reduced alone; part of the result's bits */

struct fit {
	struct reward_model *m;
	uint32_t member;
	const struct ranked_group *g;
	const struct group **groups; /* [n], those of g */
	uint32_t n;
	const struct reward_fit_options *o;
	struct rank_loss_options loss;
	struct optimizer *opt;
	struct activations *acts;
	struct batch batch;
	struct distinct distinct; /* of the batch */
	uint32_t *order;         /* [n], of the epoch */
	float *head, *dhead;     /* [FIT_BLOCK·GROUP_MAX] */
	int64_t longest;         /* tokens of a sequence */
};

static int64_t member_steps(const struct config_fit *c, uint32_t n)
{
	return c->epochs * ((n + c->batch - 1) / c->batch);
}

int64_t reward_fit_steps(const struct config_fit *c, uint32_t n)
{
	return c->ensemble * member_steps(c, n);
}

/* Adds the gradient of groups order[begin..end), weighted for a step of `size` groups; returns the sum of their losses. */
static double block(struct fit *f, int64_t begin, int64_t end, int64_t size)
{
	struct reward_member *b = &f->m->member[f->member];
	const struct group *groups[FIT_BLOCK];
	double loss = 0, score[GROUP_MAX], dscore[GROUP_MAX];
	batch_reset(&f->batch, f->longest / KV_PAGE + 1);
	for (int64_t i = begin; i < end; i++) groups[i - begin] = f->groups[f->order[i]];
	distinct_add(&f->distinct, &f->batch, groups, (uint32_t)(end - begin), !f->m->group);
	batch_upload(&f->batch);
	model_forward(b->model, f->acts, &f->batch, NULL);
	reward_member_heads(b, f->acts, &f->batch, groups, (uint32_t)(end - begin), f->head);
	distinct_expand(&f->distinct, f->head);
	int64_t at = 0;
	for (int64_t i = begin; i < end; i++) {
		const struct ranked_group *r = &f->g[f->order[i]];
		uint32_t n = r->group.size;
		for (uint32_t c = 0; c < n; c++) score[c] = b->gain * (double)f->head[at + c] + b->bias;
		loss += rank_loss(&f->loss, &r->ranking, score, dscore, n);
		for (uint32_t c = 0; c < n; c++) f->dhead[at + c] = (float)(dscore[c] * b->gain / (double)size);
		at += n;
	}
	distinct_fold(&f->distinct, f->dhead);
	optimizer_block_begin(f->opt);
	reward_member_backward(b, f->acts, &f->batch, f->dhead, f->opt->block);
	optimizer_block_end(f->opt);
	FAULT_POINT("fit.after_block", "a part of a step's gradient of the reward model is there");
	return loss;
}

static int step(struct fit *f, int64_t begin, int64_t end, struct reward_fit_report *r, struct err *e)
{
	double loss = 0;
	optimizer_begin(f->opt);
	for (int64_t i = begin; i < end; i += FIT_BLOCK) loss += block(f, i, i + FIT_BLOCK < end ? i + FIT_BLOCK : end, end - begin);
	double norm = optimizer_norm(f->opt), lr = optimizer_rate(f->opt, f->opt->updates);
	r->loss = loss / (double)(end - begin);
	r->grad_norm = norm;
	r->lr = lr;
	if (!isfinite(norm) || !isfinite(loss))
		return err_set(e, ERR_RANGE, "reward model, member %u, step %lld: the gradient is not finite; lower fit.optim.lr", f->member + 1, (long long)r->step);
	optimizer_update(f->opt, lr, norm);
	return 0;
}

static int fit_member(struct fit *f, struct reward_fit_report *r, struct err *e)
{
	const struct config_fit *c = f->o->fit;
	struct reward_member *b = &f->m->member[f->member];
	int rc = 0;
	reward_model_normalise(f->m, f->member, f->groups, f->n, c->reference);
	double gain = b->gain;
	TRY(optimizer_open(&f->opt, b->model, &c->optim, member_steps(c, f->n), e));
	f->acts = activations_open(b->model, 1);
	r->member = f->member;
	for (int64_t epoch = 0; epoch < c->epochs; epoch++) {
		rng_permutation((struct rng_key){f->o->seed, RNG_FIT}, (uint32_t)epoch, f->member, f->n, f->order);
		for (int64_t i = 0; i < f->n; i += c->batch) {
			if (f->o->stop && atomic_load(f->o->stop)) TRY(err_set(e, ERR_STOPPED, "stopped while fitting the reward model; --resume fits it anew"));
			r->step++;
			TRY(step(f, i, i + c->batch < f->n ? i + c->batch : f->n, r, e));
			FAULT_POINT("fit.after_step", "a step of the reward model is made in memory only");
			if (f->o->report) TRY(f->o->report(f->o->arg, r, e));
		}
	}
	reward_model_normalise(f->m, f->member, f->groups, f->n, c->reference);
	b->logit = gain / b->gain;
out:
	activations_close(f->acts);
	optimizer_close(f->opt);
	f->acts = NULL;
	f->opt = NULL;
	return rc;
}

int reward_fit(struct reward_model *m, const struct ranked_group *g, uint32_t n, const struct reward_fit_options *o, struct err *e)
{
	struct fit f = {.m = m, .g = g, .n = n, .o = o, .loss = {.label_smoothing = o->fit->label_smoothing, .margin = o->fit->margin}};
	struct reward_fit_report r = {.steps = reward_fit_steps(o->fit, n)};
	int rc = rank_loss_kind_parse(&f.loss.kind, o->fit->loss, e);
	if (rc < 0) return rc;
	if (n == 0) return err_set(e, ERR_RANGE, "no ranked groups to fit a reward model to");
	f.groups = calloc(n, sizeof *f.groups);
	f.order = calloc(n, sizeof *f.order);
	f.head = calloc(FIT_BLOCK * GROUP_MAX, sizeof *f.head);
	f.dhead = calloc(FIT_BLOCK * GROUP_MAX, sizeof *f.dhead);
	CHECK(f.groups && f.order && f.head && f.dhead, "out of memory for a fit of %u groups", n);
	for (uint32_t i = 0; i < n; i++) {
		f.groups[i] = &g[i].group;
		for (uint32_t c = 0; c < g[i].group.size; c++)
			if ((int64_t)g[i].group.prompt_tokens + g[i].group.length[c] > f.longest) f.longest = (int64_t)g[i].group.prompt_tokens + g[i].group.length[c];
	}
	batch_open(&f.batch, m->backend);
	for (f.member = 0; f.member < m->members; f.member++) TRY(fit_member(&f, &r, e));
out:
	batch_close(&f.batch);
	distinct_close(&f.distinct);
	free(f.groups);
	free(f.order);
	free(f.head);
	free(f.dhead);
	return rc;
}

void reward_fit_evaluate(struct reward_model *m, const struct ranked_group *g, uint32_t n, struct rank_eval *out)
{
	size_t total = 0;
	const struct group **groups = calloc((size_t)n + 1, sizeof *groups);
	for (uint32_t i = 0; groups && i < n; i++) {
		groups[i] = &g[i].group;
		total += g[i].group.size;
	}
	double *score = calloc(total + 1, sizeof *score);
	CHECK(groups && score, "out of memory for %zu scores", total);
	reward_model_scores(m, groups, n, score, NULL);
	rank_eval(out, g, n, score, reward_model_logit(m));
	free(score);
	free(groups);
}
