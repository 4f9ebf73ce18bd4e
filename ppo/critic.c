/* How a critic of its own starts; see learner.h. */
#include "policy/adapter.h"
#include "policy/family.h"
#include "ppo/learner.h"
#include "reward/reward_model.h"

#include <stdlib.h>
#include <string.h>

/* The parameters that both have by name, but for those of the scalar head. */
static void copy_trunk(struct model *to, const struct model *from)
{
	for (int i = 0; i < to->params.count; i++) {
		const struct param *p = &to->params.list[i];
		int j = params_find(&from->params, p->name);
		if (j < 0 || i == to->params.score || i == to->params.score_bias) continue;
		float *host = malloc((size_t)p->size * sizeof *host);
		CHECK(host, "out of memory for %lld weights", (long long)p->size);
		model_get_param(from, j, host);
		model_put_param(to, i, host);
		free(host);
	}
}

/* On the policy's base; one that is to start from a reward model, whose trunk is another, has a base of its own. */
static int open_adapted(struct learner *l, const struct shape *s, struct err *e)
{
	const struct model *base = l->policy->base;
	struct config_lora c = l->config.lora;
	int rc = 0;
	c.modules_to_save[0] = 0; /* the policy's output layer */
	if (!strcmp(l->config.ppo.critic_init, "reward")) {
		TRY(model_open(&l->critic_base, base->backend, s, e));
		copy_trunk(l->critic_base, base);
		base = l->critic_base;
	}
	TRY(adapter_open(&l->critic, base, s->heads_kind, &c, (uint64_t)l->config.run.seed, STREAM_CRITIC, e));
	/* the head starts at zero as above, whatever the base has */
	float *zeros = calloc((size_t)s->width, sizeof *zeros);
	CHECK(zeros, "out of memory for a head of %lld weights", (long long)s->width);
	model_put_param(l->critic, l->critic->params.score, zeros);
	model_put_param(l->critic, l->critic->params.score_bias, zeros);
	free(zeros);
out:
	return rc;
}

int learner_open_critic(struct learner *l, struct err *e)
{
	struct shape s = l->policy->shape;
	s.heads_kind = HEAD_SCALAR;
	int rc = l->policy->adapter ? open_adapted(l, &s, e) : model_open(&l->critic, l->policy->backend, &s, e);
	if (rc < 0) return rc;
	if (!l->policy->adapter) copy_trunk(l->critic, l->policy); /* the head stays zero, so that values start at 0 (1909.08593) */
	struct config_optim o = l->config.ppo.optim;
	if (l->config.ppo.critic_lr > 0) o.lr = l->config.ppo.critic_lr;
	return optimizer_open(&l->critic_opt, l->critic, &o, l->config.ppo.steps, e);
}

int learner_critic_from_reward(struct learner *l, const struct reward_model *r, double weight, struct err *e)
{
	const struct reward_member *b = &r->member[0];
	if (!l->critic) return err_set(e, ERR_STATE, "ppo.critic_init is reward, but ppo.critic is %s: only a critic of its own (separate) can start from a reward model", l->config.ppo.critic);
	if (r->group)
		return err_set(e, ERR_MISMATCH, "ppo.critic_init is reward, but the reward model compares the candidates of a group, and a critic sees one: "
						"fit it with reward.scorer pointwise, or set ppo.critic_init to policy");
	const char *other = family_difference(&l->critic->shape, &b->model->shape);
	if (other)
		return err_set(e, ERR_MISMATCH, "ppo.critic_init is reward, but the reward model has another shape than the policy (%s differs): "
						"fit one on this policy's trunk, or set ppo.critic_init to policy", other);
	copy_trunk(l->critic_base ? l->critic_base : l->critic, b->model);
	/* value = weight · (gain · head + bias) */
	const struct params *p = &l->critic->params, *q = &b->model->params;
	size_t n = (size_t)p->list[p->score].size;
	float bias, *head = malloc(n * sizeof *head);
	CHECK(head, "out of memory for a head of %zu weights", n);
	model_get_param(b->model, q->score, head);
	model_get_param(b->model, q->score_bias, &bias);
	for (size_t i = 0; i < n; i++) head[i] = (float)(weight * b->gain * (double)head[i]);
	bias = (float)(weight * (b->gain * (double)bias + b->bias));
	model_put_param(l->critic, p->score, head);
	model_put_param(l->critic, p->score_bias, &bias);
	free(head);
	return 0;
}
