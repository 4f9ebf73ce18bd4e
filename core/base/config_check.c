/* Rules that tie several keys together, checked once when everything is read,
 * before any process starts: a mistake is found in the first second, not when
 * the first step needs the value. A message names both keys and the way out. */
#include "core/base/config_internal.h"
#include "core/base/fs.h"
#include "core/base/group.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The next item of a comma separated list, without blanks around it; 0 at the end. An item that does not fit is cut. */
static int next_item(const char **list, char *item, size_t bytes)
{
	const char *p = *list;
	if (!*p) return 0;
	size_t n = strcspn(p, ",");
	*list = p + n + (p[n] == ',');
	while (n && isspace((unsigned char)*p)) p++, n--;
	while (n && isspace((unsigned char)p[n - 1])) n--;
	snprintf(item, bytes, "%.*s", (int)n, p);
	return 1;
}


static int is_listed(const char *list, const char *name)
{
	char item[64];
	while (next_item(&list, item, sizeof item))
		if (!strcmp(item, name)) return 1;
	return 0;
}

int config_has_stage(const struct config *c, const char *stage)
{
	return is_listed(c->run.stages, stage);
}

const struct config_lora *config_lora(const struct config *c, const char *stage)
{
	return c->lora.r > 0 && is_listed(c->lora.stages, stage) ? &c->lora : NULL;
}

static int check_lora(const struct config *c, struct err *e)
{
	const char *p = c->lora.stages;
	char item[64];
	if (c->lora.r == 0) return 0;
	while (next_item(&p, item, sizeof item))
		if (strcmp(item, "sft") && strcmp(item, "fit-reward") && strcmp(item, "ppo"))
			return err_set(e, ERR_RANGE, "lora.stages: '%s' trains no adapters; sft, fit-reward and ppo do", item);
	if (!*c->lora.targets) return err_set(e, ERR_RANGE, "lora.targets is empty: name the modules with adapters (q_proj, v_proj), or all-linear");
	if (config_lora(c, "sft") && config_has_stage(c, "sft") && !*c->model.init)
		return err_set(e, ERR_RANGE, "lora.r is %lld, but the stage sft starts from random weights (model.init is empty), which adapters would leave as they are: "
			       "set model.init, or lora.stages without sft", (long long)c->lora.r);
	if ((config_lora(c, "sft") && c->sft.router_bias_rate > 0) || (config_lora(c, "ppo") && c->ppo.router_bias_rate > 0))
		return err_set(e, ERR_RANGE, "router_bias_rate moves a bias of the frozen base: set it to 0 with lora.r, or take the stage out of lora.stages");
	return 0;
}

static int check_stages(const struct config *c, struct err *e)
{
	static const char *const known[] = {"sft", "collect", "fit-reward", "ppo", "eval"};
	enum { KNOWN = sizeof known / sizeof known[0] };
	int seen[KNOWN] = {0}, any = 0;
	const char *p = c->run.stages;
	char item[64];
	while (next_item(&p, item, sizeof item)) {
		int k = 0;
		while (k < KNOWN && strcmp(item, known[k])) k++;
		if (k == KNOWN) return err_set(e, ERR_RANGE, "run.stages: there is no stage '%s'; there are sft, collect, fit-reward, ppo and eval", item);
		if (seen[k]++) return err_set(e, ERR_RANGE, "run.stages names %s twice; each stage runs once", item);
		any = 1;
	}
	return any ? 0 : err_set(e, ERR_RANGE, "run.stages is empty: name at least one of sft, collect, fit-reward, ppo, eval");
}

static int check_model(const struct config_model *m, struct err *e)
{
	if (*m->init) {
		if (!fs_exists(m->init)) return err_set(e, ERR_NOT_FOUND, "model.init: there is no folder %s", m->init);
		return 0;
	}
	if (m->heads % m->kv_heads)
		return err_set(e, ERR_RANGE, "model.heads (%lld) is not a multiple of model.kv_heads (%lld)", (long long)m->heads, (long long)m->kv_heads);
	if (m->head_dim % 2)
		return err_set(e, ERR_RANGE, "model.head_dim (%lld) is odd; rotary positions turn pairs of values", (long long)m->head_dim);
	if (m->experts_per_token > m->experts)
		return err_set(e, ERR_RANGE, "model.experts_per_token (%lld) is more than model.experts (%lld)", (long long)m->experts_per_token,
			(long long)m->experts);
	if (m->dense_layers > m->layers)
		return err_set(e, ERR_RANGE, "model.dense_layers (%lld) is more than model.layers (%lld)", (long long)m->dense_layers, (long long)m->layers);
	return 0;
}

static int check_file(const char *key, const char *path, struct err *e)
{
	return !*path || fs_exists(path) ? 0 : err_set(e, ERR_NOT_FOUND, "%s: there is no %s", key, path);
}

/* A list of files; patterns are looked up when the files are read. */
static int check_files(const char *key, const char *list, struct err *e)
{
	char item[CONFIG_STRING];
	int rc = 0;
	while (rc == 0 && next_item(&list, item, sizeof item))
		if (*item && !strpbrk(item, "*?[") && !fs_exists(item))
			rc = err_set(e, ERR_NOT_FOUND, "%s: there is no %s (scripts/get-data gets the sets that configurations name)", key, item);
	return rc;
}

/* Whether records of the format can hold a ranking, or a number to verify with. */
static int format_can(const char *format, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(format, *list)) return 1;
	return 0;
}

static int check_judge(const struct config *c, struct err *e)
{
	static const char *const ranked[] = {"tenfold", "hh", "trl", "csv", "tsv", "export", NULL}, *const verified[] = {"tenfold", "gsm8k", "csv", "tsv", NULL};
	int own = !strcmp(c->task.name, "prompts"), command = !strcmp(c->collect.judge, "command");
	if (command != (*c->collect.command != 0))
		return err_set(e, ERR_RANGE, command ? "collect.judge is command: collect.command must name a program" : "collect.command is used with collect.judge command only");
	if (!config_has_stage(c, "collect")) return 0;
	if (!strcmp(c->collect.judge, "stored") && (!own || !format_can(c->task.format, ranked)))
		return err_set(e, ERR_RANGE, "collect.judge stored takes ranked groups from the task's files: %s has none",
			own ? "this task.format" : "task.name stack");
	if (!strcmp(c->collect.judge, "verifier") && own && !format_can(c->task.format, verified))
		return err_set(e, ERR_RANGE, "collect.judge verifier: records of task.format %s have nothing to verify; take stored (where they are ranked) or command",
			c->task.format);
	return 0;
}

static int check_task(const struct config *c, struct err *e)
{
	int rc = 0;
	TRY(check_files("task.prompts", c->task.prompts, e));
	TRY(check_files("task.completions", c->task.completions, e));
	TRY(check_files("task.heldout_files", c->task.heldout_files, e));
	TRY(check_file("tokenizer.path", c->tokenizer.path, e));
	int own = !strcmp(c->task.name, "prompts");
	if (own && !*c->task.prompts) return err_set(e, ERR_RANGE, "task.name is prompts: task.prompts must name their files");
	if (own && *c->task.heldout_files && c->task.heldout_share > 0)
		return err_set(e, ERR_RANGE, "task.heldout_files and task.heldout_share exclude each other; set one of them");
	if (!own && *c->task.prompts) return err_set(e, ERR_RANGE, "task.prompts is used with task.name prompts only; it is %s", c->task.name);
	if (!own && config_has_stage(c, "sft") && c->task.supervised < 1)
		return err_set(e, ERR_RANGE, "the stage sft needs examples: task.supervised is 0");
out:
	return rc;
}

/* "name:weight", or a name alone, with weight 1. */
static int check_term(char *item, char names[][GROUP_TERM_NAME], int count, struct err *e)
{
	char *colon = strchr(item, ':'), *end;
	if (colon) *colon = 0;
	size_t n = strlen(item);
	while (n && isspace((unsigned char)item[n - 1])) item[--n] = 0;
	if (n == 0 || n >= GROUP_TERM_NAME || strspn(item, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n)
		return err_set(e, ERR_FORMAT, "reward.terms: '%s' is no name: 1 to %d of a-z, 0-9, _ and -", item, GROUP_TERM_NAME - 1);
	const char *weight = colon ? colon + 1 : "1";
	while (isspace((unsigned char)*weight)) weight++;
	double v = strtod(weight, &end);
	if (end == weight || *end || !(v >= -1e9 && v <= 1e9))
		return err_set(e, ERR_FORMAT, "reward.terms: the weight of %s, '%s', is not a finite number", item, weight);
	for (int i = 0; i < count; i++)
		if (!strcmp(names[i], item)) return err_set(e, ERR_RANGE, "reward.terms names %s twice; add the weights", item);
	snprintf(names[count], GROUP_TERM_NAME, "%s", item);
	return 0;
}

static int check_reward(const struct config_reward *r, struct err *e)
{
	char names[GROUP_TERMS_MAX][GROUP_TERM_NAME], item[128];
	int count = 0, command = 0;
	const char *p = r->terms;
	while (next_item(&p, item, sizeof item)) {
		if (count == GROUP_TERMS_MAX) return err_set(e, ERR_RANGE, "reward.terms has more than %d terms", GROUP_TERMS_MAX);
		int rc = check_term(item, names, count, e);
		if (rc < 0) return rc;
		command |= !strcmp(names[count++], "command");
	}
	if (count == 0) return err_set(e, ERR_RANGE, "reward.terms is empty; for example \"verifier:1.0\"");
	if (command && !*r->command) return err_set(e, ERR_RANGE, "reward.terms has the term command: reward.command must name a program");
	if (!command && *r->command)
		return err_set(e, ERR_RANGE, "reward.command is set and reward.terms has no term command; add \"command:1.0\"");
	return 0;
}

static int check_fit(const struct config *c, struct err *e)
{
	const struct config_fit *f = &c->fit;
	if (f->heldout + f->selection >= 1)
		return err_set(e, ERR_RANGE, "fit.heldout (%g) and fit.selection (%g) leave no prompts to fit to; lower one", f->heldout, f->selection);
	if (f->label_smoothing > 0 && !strcmp(f->loss, "plackett_luce"))
		return err_set(e, ERR_RANGE, "fit.label_smoothing (%g) has no meaning in fit.loss plackett_luce; set it to 0, or take pairs or best_of", f->label_smoothing);
	if (f->margin > 0 && strcmp(f->loss, "pairs"))
		return err_set(e, ERR_RANGE, "fit.margin (%g) is of fit.loss pairs only (it is %s); set it to 0", f->margin, f->loss);
	if (!strcmp(f->loss, "answers") && !*f->labels)
		return err_set(e, ERR_RANGE, "fit.loss answers is the likelihood of human answers: fit.labels must name a labels.db");
	if (!*f->labels && (*f->campaign || f->labels_event || f->criterion))
		return err_set(e, ERR_RANGE, "fit.campaign, fit.criterion and fit.labels_event say which labels of fit.labels, which is empty");
	if (c->reward.live && !*f->labels) return err_set(e, ERR_RANGE, "reward.live fits the reward model to the labels that come in: fit.labels must name a labels.db");
	if (c->reward.live && !strstr(c->reward.terms, "model"))
		return err_set(e, ERR_RANGE, "reward.live is set and reward.terms has no term model; add \"model:1.0\"");
	if (c->reward.live && (*c->net.rewards || *c->reward.model))
		return err_set(e, ERR_RANGE, "reward.live needs the run's own services and its own reward model: leave net.rewards and reward.model empty");
	return *c->reward.model ? check_file("reward.model", c->reward.model, e) : 0;
}

static int check_rollout(const struct config *c, struct err *e)
{
	const struct config_rollout *r = &c->rollout;
	if (r->min_new_tokens > r->max_new_tokens)
		return err_set(e, ERR_RANGE, "rollout.min_new_tokens (%lld) is more than rollout.max_new_tokens (%lld)", (long long)r->min_new_tokens,
			(long long)r->max_new_tokens);
	if (!*c->model.init && r->max_new_tokens >= c->model.max_positions)
		return err_set(e, ERR_RANGE, "rollout.max_new_tokens (%lld) leaves no room for a prompt in model.max_positions (%lld)",
			(long long)r->max_new_tokens, (long long)c->model.max_positions);
	return 0;
}

static int check_ppo(const struct config_ppo *p, struct err *e)
{
	int gae = !strcmp(p->advantage, "gae"), critic = strcmp(p->critic, "none") != 0;
	if (p->prompts % p->minibatches)
		return err_set(e, ERR_RANGE, "ppo.prompts (%lld) is not a multiple of ppo.minibatches (%lld)", (long long)p->prompts, (long long)p->minibatches);
	if (gae && !critic) return err_set(e, ERR_RANGE, "ppo.advantage gae needs a critic; ppo.critic is none (head and separate are possible)");
	if (!gae && critic)
		return err_set(e, ERR_RANGE, "ppo.advantage %s uses no critic; set ppo.critic to none (it is %s)", p->advantage, p->critic);
	if (!strcmp(p->critic_init, "reward") && strcmp(p->critic, "separate"))
		return err_set(e, ERR_RANGE, "ppo.critic_init is reward, but ppo.critic is %s: only a critic of its own can start from the reward model; set ppo.critic to separate",
			p->critic);
	if (!strcmp(p->kl_control, "adaptive") && p->kl_coef <= 0)
		return err_set(e, ERR_RANGE, "ppo.kl_control adaptive multiplies ppo.kl_coef, which is 0: start above it");
	if (p->dual_clip > 0 && p->dual_clip <= 1)
		return err_set(e, ERR_RANGE, "ppo.dual_clip is %g; it limits only above 1 (0 is off)", p->dual_clip);
	if (p->stale_steps <= p->lag)
		return err_set(e, ERR_RANGE, "ppo.stale_steps (%lld) must be above ppo.lag (%lld), or every group is dropped as late", (long long)p->stale_steps,
			(long long)p->lag);
	return 0;
}

static int check_optim(const char *stage, const struct config_optim *o, int64_t steps, struct err *e)
{
	if (strcmp(o->schedule, "constant") && o->warmup >= steps)
		return err_set(e, ERR_RANGE, "%s.optim.warmup (%lld) leaves nothing of the stage's %lld steps for the %s schedule", stage,
			(long long)o->warmup, (long long)steps, o->schedule);
	return 0;
}

static int check_endpoints(const char *key, const char *list, struct err *e)
{
	static const char *const known[] = {"tcp://", "ipc://", "inproc://"};
	char item[CONFIG_STRING];
	while (next_item(&list, item, sizeof item)) {
		int ok = 0;
		for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) ok |= !strncmp(item, known[i], strlen(known[i])) && item[strlen(known[i])];
		if (!ok) return err_set(e, ERR_FORMAT, "%s: '%s' is no endpoint; write tcp://HOST:PORT or ipc://FILE", key, item);
	}
	return 0;
}

int config_check(const struct config *c, struct err *e)
{
	int rc = 0;
	TRY(check_stages(c, e));
	TRY(check_model(&c->model, e));
	TRY(check_lora(c, e));
	TRY(check_task(c, e));
	TRY(check_judge(c, e));
	TRY(check_rollout(c, e));
	TRY(check_reward(&c->reward, e));
	TRY(check_fit(c, e));
	TRY(check_ppo(&c->ppo, e));
	/* optimiser steps of PPO are counted in steps of the run, as the schedule is */
	if (config_has_stage(c, "sft")) TRY(check_optim("sft", &c->sft.optim, c->sft.steps, e));
	if (*c->pretrain.sources) TRY(check_optim("pretrain", &c->pretrain.optim, c->pretrain.steps, e));
	if (config_has_stage(c, "ppo")) TRY(check_optim("ppo", &c->ppo.optim, c->ppo.steps, e));
	TRY(check_endpoints("net.learner", c->net.learner, e));
	TRY(check_endpoints("net.rewards", c->net.rewards, e));
out:
	return rc;
}
