/* The learner of the stage ppo: what it works on, the loop (ppo/loop.h), and
 * what people see of it. */
#include "app/limits.h"
#include "app/live.h"
#include "app/memory.h"
#include "app/metrics_file.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/stages.h"
#include "app/trained.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "policy/model_folder.h"
#include "ppo/loop.h"
#include "reward/reward_model.h"
#include "reward/terms.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct stage {
	struct session s;
	struct model *policy, *reference; /* with adapters: on the reference's weights */
	struct learner *learner;
	struct ppo_server *server;
	struct live *live;   /* NULL: the reward model stays */
	struct loop_prompt *prompts;
	struct progress progress;
	struct metrics_file file;
	struct pass_rate last;
	struct limits_eta eta;
	double began, probs_diff_max, ratio_deviation_max;
};

/* ppo.critic_init: reward. The model is needed for its weights alone. */
static int start_critic(struct stage *t, struct err *e)
{
	const struct config *c = &t->s.config;
	struct reward_terms terms;
	struct reward_model *m = NULL;
	char folder[PATH_MAX];
	double weight = 0;
	int rc = 0;
	TRY(reward_terms_parse(&terms, c->reward.terms, e));
	for (uint32_t i = 0; i < terms.count; i++)
		if (!strcmp(terms.name[i], "model")) weight = terms.weight[i];
	if (weight == 0) TRY(err_set(e, ERR_RANGE, "ppo.critic_init is reward, but the term model has no weight in reward.terms (%s): set ppo.critic_init to policy", c->reward.terms));
	if (c->reward.model[0]) snprintf(folder, sizeof folder, "%s", c->reward.model);
	else TRY(session_path(&t->s, "models/reward", folder, e));
	TRY(reward_model_open(&m, folder, t->s.backend, e));
	TRY(learner_critic_from_reward(t->learner, m, weight, e));
out:
	reward_model_close(m);
	return rc;
}

static int open_models(struct stage *t, struct err *e)
{
	char folder[PATH_MAX];
	int rc = 0, head = strcmp(t->s.config.ppo.critic, "head") == 0 ? HEAD_SCALAR : 0;
	TRY(session_start_folder(&t->s, "ppo", folder, e));
	TRY(trained_open(&t->policy, &t->reference, &t->s, "ppo", folder, HEAD_LM | head, e));
	if (!t->reference) TRY(model_folder_open_held(&t->reference, folder, t->s.backend, HEAD_LM, e));
	if (t->policy->shape.vocab < tokenizer_vocab_size(t->s.task->tokenizer))
		TRY(err_set(e, ERR_MISMATCH, "the model %s has %lld tokens, the task's tokenizer %d", folder, (long long)t->policy->shape.vocab,
			    tokenizer_vocab_size(t->s.task->tokenizer)));
	TRY(learner_open(&t->learner, &t->s.config, t->policy, t->reference, t->s.task->end_token, e));
	if (!strcmp(t->s.config.ppo.critic_init, "reward")) TRY(start_critic(t, e));
out:
	return rc;
}

/* A term that no service of this run could score is found here, not by waiting for services that refuse to start.
 * With net.rewards the services are someone else's and say themselves what they score. */
static int check_terms(const struct session *s, const struct reward_terms *terms, struct err *e)
{
	char folder[PATH_MAX];
	for (uint32_t i = 0; !s->config.net.rewards[0] && i < terms->count; i++) {
		const char *name = terms->name[i];
		if (!strcmp(name, "length")) continue;
		if (!strcmp(name, "verifier")) {
			if (!task_verifiable(s->task)) return err_set(e, ERR_RANGE, "reward.terms names the verifier, but task.name %s has none", s->config.task.name);
		} else if (!strcmp(name, "command")) {
			if (!s->config.reward.command[0]) return err_set(e, ERR_RANGE, "reward.terms names the term command, but reward.command is not set");
		} else if (!strcmp(name, "model") || !strcmp(name, "model_std")) {
			int rc = session_path(s, "models/reward", folder, e);
			if (rc < 0) return rc;
			if (!s->config.reward.model[0] && !fs_exists(folder))
				return err_set(e, ERR_NOT_FOUND, "reward.terms names the term %s, but there is no %s: run the stages collect and fit-reward first, or set reward.model", name, folder);
		} else {
			return err_set(e, ERR_RANGE, "reward.terms: there is no term %s here; there are verifier, length, command, model and model_std (a service at net.rewards may have others)", name);
		}
	}
	return 0;
}

static int open_server(struct stage *t, struct err *e)
{
	const struct config *c = &t->s.config;
	struct reward_rule rule = {.clip = c->reward.clip, .shuffle = (int)c->reward.shuffle, .seed = (uint64_t)c->run.seed};
	char endpoint[256];
	int rc = reward_terms_parse(&rule.terms, c->reward.terms, e);
	if (rc == 0) rc = check_terms(&t->s, &rule.terms, e);
	if (rc < 0) return rc;
	session_endpoint(&t->s, "learner", endpoint);
	struct ppo_server_options o = {
		.wire = {.max_message = (size_t)c->net.max_message_mib << 20, .heartbeat_seconds = c->net.heartbeat_seconds},
		.endpoint = endpoint, .run = t->s.run_id, .fingerprint = t->s.fingerprint, .lease_seconds = c->rollout.lease_seconds, .set_aside = (uint32_t)c->rollout.set_aside,
		.expected_workers = (int)c->run.workers, .group_size = (uint32_t)c->rollout.group_size, .max_new = (uint32_t)c->rollout.max_new_tokens,
		.limits = {(size_t)c->net.max_message_mib << 20, (int32_t)t->policy->shape.vocab, (uint32_t)t->policy->shape.experts},
		.rule = &rule, .stop = t->s.stop};
	return ppo_server_open(&t->server, &o, e);
}

static int measure(void *arg, int64_t step, double *value, struct err *e)
{
	struct stage *t = arg;
	*value = NAN;
	int rc = session_pass_rate(&t->s, t->policy, &t->last, e);
	if (rc < 0 || t->last.n == 0) return rc;
	*value = t->last.rate;
	return store_put_eval(t->s.store, (uint64_t)step, "pass_rate", t->last.rate, (uint64_t)t->last.n, t->last.low, t->last.high, e);
}

static void report(void *arg, const struct loop_report *r)
{
	struct stage *t = arg;
	const struct metrics *m = r->metrics;
	char heldout[48] = "";
	t->probs_diff_max = fmax(t->probs_diff_max, metrics_get(m, "training/rollout_probs_diff_max"));
	t->ratio_deviation_max = fmax(t->ratio_deviation_max, metrics_get(m, "training/first_minibatch_ratio_max_deviation"));
	metrics_file_put(&t->file, r->step, m);
	limits_eta_add(&t->eta, t->learner);
	if (!isnan(r->heldout)) snprintf(heldout, sizeof heldout, "  held-out %.1f %%", 100 * r->heldout);
	progress_line(&t->progress, "ppo %lld/%lld  reward %.3f  kl %.2f  entropy %.2f  clip %.3f  length %.1f  %.0f tok/s%s", (long long)r->step,
		      (long long)r->steps, metrics_get(m, "objective/scores"), metrics_get(m, "objective/kl"), metrics_get(m, "policy/entropy_avg"),
		      metrics_get(m, "policy/clipfrac_avg"), metrics_get(m, "response_length/mean"), r->tokens_per_second, heldout);
	progress_show(&t->progress, r->step, NULL);
}

static int open_step(void *arg, int64_t step, struct err *e)
{
	struct stage *t = arg;
	return live_open_step(t->live, step, e);
}

static void waiting(void *arg, int64_t step, uint32_t done, uint32_t total)
{
	struct stage *t = arg;
	char note[64];
	snprintf(note, sizeof note, "%u of %u groups", done, total);
	progress_show(&t->progress, step, note);
}

/* What happened on the network is worth knowing, and depends on the clock. */
static int store_server_events(struct stage *t, struct err *e)
{
	static const char *const names[] = {"timing/worker_joined", "timing/worker_left", "timing/refused", "timing/lease_expired", "timing/prompt_lost",
					    "timing/late", "timing/conflict"};
	struct ppo_server_event v;
	while (ppo_server_event(t->server, &v)) {
		char text[400];
		snprintf(text, sizeof text, "%s%s%s", v.worker, v.worker[0] && v.text[0] ? ": " : "", v.text);
		int rc = store_put_event(t->s.store, v.step, names[v.kind], v.slot, text, e);
		if (rc < 0) return rc;
	}
	return 0;
}

static int finish(struct stage *t, struct err *e)
{
	char folder[PATH_MAX];
	const struct metrics *m = &t->learner->metrics;
	int rc = 0;
	TRY(session_start_folder(&t->s, "ppo", folder, e));
	TRY(trained_export(&t->s, "ppo", t->policy, folder, e));
	FAULT_POINT("ppo.before_summary", "the model is written, the summary not");
	TRY(store_server_events(t, e));
	json_t *j = json_pack("{s:I,s:f,s:f,s:f,s:f,s:f}", "steps", (json_int_t)t->learner->step, "seconds", fs_now() - t->began, "kl",
			      metrics_get(m, "objective/kl"), "reward", metrics_get(m, "objective/scores"), "probs_diff_max", t->probs_diff_max,
			      "first_minibatch_ratio_max_deviation", t->ratio_deviation_max);
	if (t->last.n) json_object_set_new(j, "pass_rate", json_real(t->last.rate));
	TRY(session_summary(&t->s, "ppo", j, e));
	double eta = limits_eta(&t->eta);
	if (isfinite(eta)) TRY(session_summary(&t->s, "eta", json_real(eta), e));
out:
	return rc;
}

static int train(struct stage *t, struct err *e)
{
	struct session *s = &t->s;
	char path[PATH_MAX];
	int rc = 0;
	t->prompts = calloc(s->task->prompts[TASK_TRAIN], sizeof *t->prompts);
	CHECK(t->prompts, "out of memory for the prompts");
	for (uint32_t i = 0; i < s->task->prompts[TASK_TRAIN]; i++) {
		const struct task_prompt *p = &s->task->prompt[TASK_TRAIN][i];
		t->prompts[i] = (struct loop_prompt){p->text, p->tokens, p->count};
	}
	TRY(session_path(s, "metrics.jsonl", path, e));
	TRY(metrics_file_open(&t->file, path, e));
	progress_open(&t->progress, stderr, "ppo", "steps", s->config.ppo.steps, t->learner->step);
	struct loop_options o = {.config = &s->config, .folder = s->folder, .store = s->store, .server = t->server, .learner = t->learner,
				 .prompts = t->prompts, .prompt_count = s->task->prompts[TASK_TRAIN], .stop = s->stop, .open = t->live ? open_step : NULL,
				 .measure = task_verifiable(s->task) ? measure : NULL, .report = report, .waiting = waiting, .arg = t};
	rc = loop_run(&o, e);
	progress_close(&t->progress, t->learner->step);
out:
	return rc;
}

int stage_learner(const struct stage_options *o, struct err *e)
{
	struct stage t = {.began = fs_now()};
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "ppo", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND | SESSION_TASK};
	TRY(session_open(&t.s, &so, e));
	TRY(memory_check(&t.s, stderr, e));
	TRY(open_models(&t, e));
	TRY(learner_prepare_memory(t.learner, t.s.task->longest_prompt, e));
	TRY(open_server(&t, e));
	if (t.s.config.reward.live) TRY(live_open(&t.live, &t.s, e));
	fprintf(stderr, "ppo: %lld steps of %lld prompts × %lld completions, %s, %d threads, workers at %s\n", (long long)t.s.config.ppo.steps,
		(long long)t.s.config.ppo.prompts, (long long)t.s.config.rollout.group_size, t.policy->ops->name, backend_threads(t.s.backend),
		ppo_server_endpoint(t.server));
	rc = train(&t, e);
	if (rc == 0) rc = finish(&t, e);
	else if (t.s.store) store_server_events(&t, &(struct err){0});
	ppo_server_stop_workers(t.server);
out:
	live_close(t.live);
	ppo_server_close(t.server);
	metrics_file_close(&t.file);
	learner_close(t.learner);
	model_close(t.policy);
	model_close(t.reference);
	free(t.prompts);
	session_close(&t.s);
	return rc;
}
