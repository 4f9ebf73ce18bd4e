/* The roles of a run by hand: learner, rollout worker, reward service. */
#include "app/commands.h"
#include "app/options.h"
#include "app/stages.h"

#include "core/base/log.h"
#include "policy/adapter.h"
#include "policy/model_folder.h"
#include "reward/reward_model.h"
#include "reward/service.h"
#include "reward/terms.h"
#include "rollout/worker.h"

#include <string.h>
#include <unistd.h>

enum { ROLE_OPTIONS = 5 };

struct role_arguments {
	struct option_list sets, rest;
	const char *folder, *name, *endpoint;
	int resume, plant_ulp;
};

static int parse(const struct options_use *use, int argc, char **argv, struct role_arguments *a, struct err *e)
{
	return options_parse(use, argc, argv, &a->rest, e);
}

int command_learner(int argc, char **argv, struct err *e)
{
	struct role_arguments a = {0};
	const struct option table[] = {{"out", OPTION_TEXT, &a.folder, "DIR", "Folder of the run."},
				       {"resume", OPTION_FLAG, &a.resume, NULL, "Go on with the run that is in the folder."}, OPTION_SET(&a.sets)};
	const struct options_use use = {
		.line = "learner CONFIG --out DIR [--resume] [--set KEY=VALUE]…",
		.about = "The learner of the stage ppo alone: serves workers at net.learner (empty: a private endpoint of the folder), learns,\n"
			 "writes the run's folder. Start workers with `tenfold rollout` and services with `tenfold reward`.",
		.table = table, .count = 3, .at_least = 1, .at_most = 1};
	int rc = parse(&use, argc, argv, &a, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!a.folder) return err_set(e, ERR_FORMAT, "learner needs --out DIR: the folder of the run");
	struct stage_options o = {a.rest.item[0], &a.sets, a.folder, a.resume};
	log_setup("learner", LOG_WARN);
	return stage_learner(&o, e);
}

/* Comma separated endpoints of the services: those configured, or the private ones of the run. */
static void service_endpoints(const struct session *s, char *out, size_t bytes)
{
	size_t n = 0;
	if (s->config.net.rewards[0]) {
		snprintf(out, bytes, "%s", s->config.net.rewards);
		return;
	}
	for (int64_t i = 0; i < s->config.run.services && n < bytes; i++) {
		char role[32], endpoint[256];
		snprintf(role, sizeof role, "reward-%lld", (long long)i);
		session_endpoint(s, role, endpoint);
		n += (size_t)snprintf(out + n, bytes - n, "%s%s", i ? "," : "", endpoint);
	}
}

static int need_folder(const struct session *s, const char *key, const char *value, struct err *e)
{
	if (s->folder[0] || value[0]) return 0;
	return err_set(e, ERR_FORMAT, "set %s to an address, or give --out DIR of a run on this machine, whose private endpoint is used then", key);
}

static int rollout_run(struct session *s, const struct role_arguments *a, struct err *e)
{
	const struct config *c = &s->config;
	struct model *m = NULL, *base = NULL;
	struct reward_rule rule = {.clip = c->reward.clip, .shuffle = (int)c->reward.shuffle, .seed = (uint64_t)c->run.seed};
	struct generate_options g;
	char learner[256], services[4096], folder[PATH_MAX], name[MESSAGE_NAME];
	int rc = 0, head = strcmp(c->ppo.critic, "head") == 0 ? HEAD_SCALAR : 0;
	struct shape shape;
	TRY(need_folder(s, "net.learner", c->net.learner, e));
	TRY(reward_terms_parse(&rule.terms, c->reward.terms, e));
	if (config_lora(c, "ppo")) {
		/* what is published are adapters: the frozen weights are the start's, which must be on this machine */
		TRY(session_start_folder(s, "rollout", folder, e));
		TRY(model_folder_open(&base, folder, s->backend, HEAD_LM | head, e));
		TRY(adapter_open(&m, base, HEAD_LM | head, &c->lora, (uint64_t)c->run.seed, STREAM_POLICY, e));
	} else {
		TRY(session_shape(s, HEAD_LM | head, &shape, e));
		TRY(model_open_held(&m, s->backend, &shape, e));
	}
	session_endpoint(s, "learner", learner);
	service_endpoints(s, services, sizeof services);
	session_generation(s, &g);
	if (a->name) snprintf(name, sizeof name, "%s", a->name);
	else snprintf(name, sizeof name, "worker-%d", (int)getpid());
	snprintf(folder, sizeof folder, "%.*s/weights-%s", PATH_MAX - 100, s->folder[0] ? s->folder : ".", name);
	struct worker_options w = {
		.wire = {.max_message = (size_t)c->net.max_message_mib << 20, .heartbeat_seconds = c->net.heartbeat_seconds}, .learner = learner, .run = "",
		.name = name, .fingerprint = s->fingerprint, .folder = folder, .model = m, .generate = g, .stop = s->stop, .plant_ulp = a->plant_ulp, .fetch_weights = (int)c->rollout.fetch_weights,
		.reward = {.endpoints = services, .timeout_seconds = c->reward.timeout_seconds, .retries = (int)c->reward.retries,
			   .backoff_max_seconds = c->reward.backoff_max_seconds, .live_every = c->reward.live ? (uint64_t)c->reward.live_every : 0,
			   .rule = &rule}};
	rc = worker_run(&w, NULL, e);
	if (rc == ERR_STOPPED) rc = 0; /* it said goodbye: nothing is lost, nothing failed */
out:
	model_close(m);
	model_close(base);
	return rc;
}

int command_rollout(int argc, char **argv, struct err *e)
{
	struct role_arguments a = {0};
	const struct option table[ROLE_OPTIONS] = {
		{"out", OPTION_TEXT, &a.folder, "DIR", "Folder of the run when it is on this machine; else a folder for fetched weights."},
		{"name", OPTION_TEXT, &a.name, "NAME", "Name of this worker, unique in the run; default worker-PID."},
		{"plant-ulp", OPTION_FLAG, &a.plant_ulp, NULL, "Make one weight wrong by one unit in the last place: the learner must notice (a test)."},
		OPTION_SET(&a.sets)};
	const struct options_use use = {
		.line = "rollout CONFIG [--out DIR] [--name NAME] [--set KEY=VALUE]…",
		.about = "One rollout worker: takes prompts from the learner at net.learner, generates groups, has them scored at net.rewards.\n"
			 "Workers may join and leave at any time. The configuration must be the learner's.",
		.table = table, .count = 4, .at_least = 1, .at_most = 1};
	struct session s;
	int rc = parse(&use, argc, argv, &a, e);
	if (rc) return rc < 0 ? rc : 0;
	log_setup(a.name ? a.name : "rollout", LOG_WARN);
	struct session_options so = {.config = a.rest.item[0], .sets = &a.sets, .folder = a.folder, .stage = "rollout", .parts = SESSION_BACKEND | SESSION_TASK};
	TRY(session_open_role(&s, &so, e));
	rc = rollout_run(&s, &a, e);
	session_close(&s);
out:
	return rc;
}

/* The scorers that reward.terms may take its terms from, beside those built in. */
struct reward_parts {
	struct scorer *verifier, *learned;
	struct reward_model *model;
};

static void reward_parts_close(struct reward_parts *p)
{
	scorer_close(p->learned);
	scorer_close(p->verifier);
	reward_model_close(p->model);
}

/* The sum of reward.terms; a reward model is opened only when a term asks for it. */
static int reward_scorer(struct session *s, struct reward_parts *p, struct scorer **out, struct err *e)
{
	const struct config *c = &s->config;
	struct reward_terms terms;
	struct scorer *given[2];
	uint32_t n = 0;
	char folder[PATH_MAX];
	int rc = 0;
	TRY(reward_terms_parse(&terms, c->reward.terms, e));
	if (task_verifiable(s->task)) {
		TRY(task_scorer_open(&p->verifier, s->task, e));
		given[n++] = p->verifier;
	}
	if (reward_terms_learned(&terms)) {
		if (c->reward.model[0]) snprintf(folder, sizeof folder, "%s", c->reward.model);
		else if (s->folder[0]) TRY(session_path(s, "models/reward", folder, e));
		else TRY(err_set(e, ERR_FORMAT, "reward.terms names the term model: set reward.model to its folder, or give --out DIR of the run that fitted it"));
		TRY(session_open_backend(s, e));
		TRY(reward_model_open(&p->model, folder, s->backend, e));
		struct batch_sizes most = reward_model_largest_batch(c->reward.batch_groups, s->task->longest_prompt, c->rollout.group_size, c->rollout.max_new_tokens);
		TRY(reward_model_prepare(p->model, &most, e));
		if (c->reward.live) {
			TRY(session_path(s, "models/reward-live", folder, e));
			TRY(reward_live_scorer_open(&p->learned, p->model, folder, (uint64_t)c->reward.live_every, s->backend, e));
		} else TRY(reward_model_scorer_open(&p->learned, p->model, e));
		given[n++] = p->learned;
	}
	TRY(scorer_terms_open(out, &terms, given, n, c->reward.command, 0, e));
out:
	return rc;
}

static int reward_run(struct session *s, const struct role_arguments *a, struct err *e)
{
	const struct config *c = &s->config;
	struct reward_parts parts = {0};
	struct scorer *scorer = NULL;
	struct wire *wire = NULL;
	struct reward_service *service = NULL;
	struct shape shape;
	char endpoint[256];
	int rc = 0;
	TRY(session_shape(s, HEAD_LM, &shape, e));
	TRY(need_folder(s, "--endpoint", a->endpoint ? a->endpoint : "", e));
	TRY(reward_scorer(s, &parts, &scorer, e));
	if (a->endpoint) snprintf(endpoint, sizeof endpoint, "%s", a->endpoint);
	else session_endpoint(s, a->name ? a->name : "reward-0", endpoint);
	struct wire_options w = {.max_message = (size_t)c->net.max_message_mib << 20, .heartbeat_seconds = c->net.heartbeat_seconds, .stop = s->stop};
	TRY(wire_open(&wire, &w, e));
	struct reward_service_options o = {.endpoint = endpoint, .run = "", .fingerprint = parts.model ? s->fingerprint : NULL,
					   .batch_groups = (uint32_t)c->reward.batch_groups,
					   .limits = {w.max_message, (int32_t)shape.vocab, 0}, .scorer = scorer};
	TRY(reward_service_open(&service, wire, &o, e));
	log_info("scoring at %s", reward_service_endpoint(service));
	TRY(reward_service_run(service, e));
out:
	reward_service_close(service);
	wire_close(wire);
	scorer_close(scorer);
	reward_parts_close(&parts);
	return rc;
}

int command_reward(int argc, char **argv, struct err *e)
{
	struct role_arguments a = {0};
	const struct option table[] = {
		{"out", OPTION_TEXT, &a.folder, "DIR", "Folder of the run when it is on this machine."},
		{"name", OPTION_TEXT, &a.name, "NAME", "reward-0, reward-1, …: which private endpoint of the run to serve; default reward-0."},
		{"endpoint", OPTION_TEXT, &a.endpoint, "ADDRESS", "Address to serve, such as tcp://127.0.0.1:5600; default the private one."},
		OPTION_SET(&a.sets)};
	const struct options_use use = {
		.line = "reward CONFIG (--out DIR | --endpoint ADDRESS) [--name NAME] [--set KEY=VALUE]…",
		.about = "One scoring service: scores groups of completions by reward.terms for any number of workers (docs/messages.md).",
		.table = table, .count = 4, .at_least = 1, .at_most = 1};
	struct session s;
	int rc = parse(&use, argc, argv, &a, e);
	if (rc) return rc < 0 ? rc : 0;
	log_setup(a.name ? a.name : "reward", LOG_WARN);
	struct session_options so = {.config = a.rest.item[0], .sets = &a.sets, .folder = a.folder, .stage = "reward", .parts = SESSION_TASK};
	TRY(session_open_role(&s, &so, e));
	rc = reward_run(&s, &a, e);
	session_close(&s);
out:
	return rc;
}
