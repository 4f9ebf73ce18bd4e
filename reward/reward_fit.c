/* Fitting; see reward_fit.h. */
#include "reward/reward_fit.h"

#include "core/base/fault.h"
#include "core/base/rng.h"
#include "policy/optimizer.h"
#include "reward/rank_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIT_SEQUENCES = 23 }; /* bits of the number of a sequence in a step, for dropout */

struct fit {
	struct reward_model *m;
	uint32_t member;
	const struct ranked_group *g;
	const struct group **groups; /* [n], those of g */
	const struct group **block;  /* [gradient_block], those of a block */
	uint32_t n;
	const struct reward_fit_options *o;
	struct rank_loss_options loss;
	int answers;             /* the loss is that of the answers themselves */
	struct optimizer *opt;
	struct activations *acts;
	struct batch batch;
	struct distinct distinct; /* of the batch */
	uint32_t *order;         /* [n], of the epoch */
	int64_t step;            /* over all members, from 1 */
	int skipped;             /* updates in a row */
	float *head, *dhead;     /* [gradient_block·GROUP_MAX] */
	int64_t longest;         /* tokens of a sequence */
	struct batch_sizes most; /* of a block */
	const struct group **selection; /* [selections] */
	float *selection_head, *best;   /* their heads; weights of the member's best step so far */
	double *selection_score, best_loss;
};

static int64_t member_steps(const struct config_fit *c, uint32_t n)
{
	return c->epochs * ((n + c->batch - 1) / c->batch);
}

int64_t reward_fit_steps(const struct config_fit *c, uint32_t n)
{
	return c->ensemble * member_steps(c, n);
}

/* Minus the mean log-likelihood of a group's answers, each weighed by how far its person is trusted. */
static double answers_loss(const struct ranked_group *r, const double *score, double *dscore)
{
	const struct posterior_model *m = r->people;
	double loglik = 0, total = 0;
	uint32_t n = r->group.size;
	memset(dscore, 0, n * sizeof *dscore);
	for (size_t i = 0; i < r->answers; i++) {
		uint32_t person = r->answer[i].person;
		if (!judgement_ranked(&r->answer[i])) continue;
		loglik += judgement_loglik(&r->answer[i], &m->scale, m->beta[person], m->weight[person], score, n, dscore, NULL);
		total += m->weight[person];
	}
	for (uint32_t i = 0; i < n; i++) dscore[i] /= -total;
	return -loglik / total;
}

/* Adds the gradient of groups order[begin..end), weighted for a step of `size` groups; returns the sum of their losses. */
static double block(struct fit *f, int64_t begin, int64_t end, int64_t size)
{
	struct reward_member *b = &f->m->member[f->member];
	double loss = 0, score[GROUP_MAX], dscore[GROUP_MAX];
	batch_reset(&f->batch, f->longest / KV_PAGE + 1);
	for (int64_t i = begin; i < end; i++) f->block[i - begin] = f->groups[f->order[i]];
	distinct_add(&f->distinct, &f->batch, f->block, (uint32_t)(end - begin), !f->m->group);
	batch_upload(&f->batch);
	model_dropout(f->acts, f->o->seed + f->member, (uint64_t)f->step << FIT_SEQUENCES | (uint64_t)begin * (GROUP_MAX + 1));
	model_forward(b->model, f->acts, &f->batch, NULL);
	reward_member_heads(b, f->acts, &f->batch, f->block, (uint32_t)(end - begin), f->head);
	distinct_expand(&f->distinct, f->head);
	int64_t at = 0;
	for (int64_t i = begin; i < end; i++) {
		const struct ranked_group *r = &f->g[f->order[i]];
		uint32_t n = r->group.size;
		for (uint32_t c = 0; c < n; c++) score[c] = b->gain * (double)f->head[at + c] + b->bias;
		loss += f->answers ? answers_loss(r, score, dscore) : rank_loss(&f->loss, &r->ranking, score, dscore, n);
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
	int64_t size = f->o->fit->gradient_block;
	struct err planted;
	f->step = r->step;
	optimizer_begin(f->opt);
	for (int64_t i = begin; i < end; i += size) loss += block(f, i, i + size < end ? i + size : end, end - begin);
	double norm = optimizer_norm(f->opt), lr = optimizer_rate(f->opt, f->opt->updates);
	r->loss = loss / (double)(end - begin);
	r->grad_norm = norm;
	r->lr = lr;
	if (FAULT_ERROR("fit.gradient", "a step's gradient of the reward model is complete; an error makes it NaN", &planted) < 0) norm = NAN;
	r->skipped = !isfinite(loss) ? "the loss" : !isfinite(norm) ? "the gradient" : NULL;
	if (r->skipped && ++f->skipped >= REWARD_FIT_SKIPS)
		return err_set(e, ERR_RANGE, "reward model, member %u, step %lld: %s is not finite, and it was update number %d in a row that could not be made; lower fit.optim.lr",
			       f->member + 1, (long long)r->step, r->skipped, REWARD_FIT_SKIPS);
	if (r->skipped) return 0;
	f->skipped = 0;
	optimizer_update(f->opt, lr, norm);
	return 0;
}

/* Mean loss and pair accuracy of the selection groups. */
static void select_measure(struct fit *f, struct reward_fit_report *r)
{
	const struct reward_member *b = &f->m->member[f->member];
	struct rank_eval v;
	size_t at = 0;
	double dscore[GROUP_MAX];
	reward_model_heads(f->m, f->member, f->selection, f->o->selections, f->selection_head);
	r->selection_loss = 0;
	for (uint32_t i = 0; i < f->o->selections; i++) {
		const struct ranked_group *g = &f->o->selection[i];
		for (uint32_t c = 0; c < g->group.size; c++) f->selection_score[at + c] = b->gain * (double)f->selection_head[at + c] + b->bias;
		r->selection_loss += rank_loss(&f->loss, &g->ranking, f->selection_score + at, dscore, g->group.size) / f->o->selections;
		at += g->group.size;
	}
	rank_eval(&v, f->o->selection, f->o->selections, f->selection_score, 1);
	r->selection_accuracy = v.accuracy;
}

/* Keeps the weights when they are the best so far. */
static void select_step(struct fit *f, struct reward_fit_report *r, int64_t step)
{
	struct reward_member *b = &f->m->member[f->member];
	r->selection_loss = r->selection_accuracy = NAN;
	if (f->o->selections == 0) {
		b->step = step;
		return;
	}
	if (step % f->o->fit->select_every && step != member_steps(f->o->fit, f->n)) return;
	select_measure(f, r);
	if (b->step && !(r->selection_loss < f->best_loss)) return;
	b->step = step;
	f->best_loss = r->selection_loss;
	model_get_learned(b->model, f->best);
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
	TRY(activations_prepare(f->acts, &f->most, 0, 0, e));
	if (f->o->selections) {
		free(f->best);
		f->best = malloc((size_t)b->model->learned->floats * sizeof *f->best);
		CHECK(f->best, "out of memory for %lld weights", (long long)b->model->learned->floats);
	}
	b->step = 0;
	r->member = f->member;
	for (int64_t epoch = 0; epoch < c->epochs; epoch++) {
		rng_permutation((struct rng_key){f->o->seed, RNG_FIT}, (uint32_t)epoch, f->member, f->n, f->order);
		for (int64_t i = 0; i < f->n; i += c->batch) {
			if (f->o->stop && atomic_load(f->o->stop)) TRY(err_set(e, ERR_STOPPED, "stopped while fitting the reward model; --resume fits it anew"));
			r->step++;
			TRY(step(f, i, i + c->batch < f->n ? i + c->batch : f->n, r, e));
			select_step(f, r, epoch * ((f->n + c->batch - 1) / c->batch) + i / c->batch + 1);
			FAULT_POINT("fit.after_step", "a step of the reward model is made in memory only");
			if (f->o->report) TRY(f->o->report(f->o->arg, r, e));
		}
	}
	if (f->o->selections) model_put_learned(b->model, f->best);
	if (!optimizer_is_finite(f->opt)) TRY(err_set(e, ERR_RANGE, "reward model, member %u: its weights are not finite after the fit; lower fit.optim.lr", f->member + 1));
	reward_model_normalise(f->m, f->member, f->groups, f->n, c->reference);
	b->logit = gain / b->gain;
out:
	activations_close(f->acts);
	optimizer_close(f->opt);
	f->acts = NULL;
	f->opt = NULL;
	return rc;
}

/* The longest sequence, and what a block of `size` groups can be; makes room for its batch. */
static int measure(struct fit *f, int64_t size, struct err *e)
{
	int64_t prompt = 0, response = 0, completions = 0;
	for (uint32_t i = 0; i < f->n; i++) {
		const struct group *g = f->groups[i];
		prompt = g->prompt_tokens > prompt ? g->prompt_tokens : prompt;
		completions = g->size > completions ? g->size : completions;
		for (uint32_t c = 0; c < g->size; c++) {
			int64_t whole = (int64_t)g->prompt_tokens + g->length[c];
			response = g->length[c] > response ? g->length[c] : response;
			f->longest = whole > f->longest ? whole : f->longest;
		}
	}
	f->most = batch_most(size < f->n ? size : f->n, prompt, completions, response);
	int rc = batch_plan(&f->batch, &f->most, e);
	f->most.outs = f->most.sets * completions; /* one for each completion */
	return rc;
}

int reward_fit(struct reward_model *m, const struct ranked_group *g, uint32_t n, const struct reward_fit_options *o, struct err *e)
{
	struct fit f = {.m = m, .g = g, .n = n, .o = o, .loss = {.label_smoothing = o->fit->label_smoothing, .margin = o->fit->margin}};
	struct reward_fit_report r = {.steps = reward_fit_steps(o->fit, n)};
	f.answers = !strcmp(o->fit->loss, "answers");
	int rc = f.answers ? 0 : rank_loss_kind_parse(&f.loss.kind, o->fit->loss, e);
	if (rc < 0) return rc;
	for (uint32_t i = 0; f.answers && i < n; i++)
		if (g[i].answers == 0) return err_set(e, ERR_RANGE, "fit.loss answers is that of human labels, and a group has none; take pairs, plackett_luce or best_of");
	if (n == 0) return err_set(e, ERR_RANGE, "no ranked groups to fit a reward model to");
	f.groups = calloc(n, sizeof *f.groups);
	f.order = calloc(n, sizeof *f.order);
	size_t size = (size_t)(o->fit->gradient_block < o->fit->batch ? o->fit->gradient_block : o->fit->batch);
	f.block = calloc(size, sizeof *f.block);
	f.head = calloc(size * GROUP_MAX, sizeof *f.head);
	f.dhead = calloc(size * GROUP_MAX, sizeof *f.dhead);
	CHECK(f.groups && f.block && f.order && f.head && f.dhead, "out of memory for a fit of %u groups", n);
	for (uint32_t i = 0; i < n; i++) f.groups[i] = &g[i].group;
	size_t candidates = 0;
	f.selection = calloc((size_t)o->selections + 1, sizeof *f.selection);
	CHECK(f.selection, "out of memory for %u groups", o->selections);
	for (uint32_t i = 0; i < o->selections; i++) {
		f.selection[i] = &o->selection[i].group;
		candidates += o->selection[i].group.size;
	}
	f.selection_head = calloc(candidates + 1, sizeof *f.selection_head);
	f.selection_score = calloc(candidates + 1, sizeof *f.selection_score);
	CHECK(f.selection_head && f.selection_score, "out of memory for %zu scores", candidates);
	batch_open(&f.batch, m->backend);
	TRY(measure(&f, (int64_t)size, e));
	for (f.member = 0; f.member < m->members; f.member++) TRY(fit_member(&f, &r, e));
out:
	batch_close(&f.batch);
	distinct_close(&f.distinct);
	free(f.groups);
	free(f.block);
	free(f.order);
	free(f.head);
	free(f.dhead);
	free(f.selection);
	free(f.selection_head);
	free(f.selection_score);
	free(f.best);
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
