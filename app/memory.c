/* The memory table; see memory.h. Parameters are counted by the parameter table and
 * activations by the code that allocates them, for the largest batches that the
 * configuration allows. On the CPU in f32 every weight has a packed copy for
 * products, and a second one where gradients pass (core/tensor/cpu/cpu.c); in
 * bf16 products read the weights as they lie, what learns has a rounded copy and
 * what does not is bf16 alone (policy/weights.h). Services count when a term asks
 * for a reward model and they are this run's own. Left out is what is small beside
 * that (messages, records, the tokenizer, the program) and what is there for a
 * moment before the steps (the reward model that a critic starts from). */
#include "app/memory.h"

#include "policy/adapter.h"
#include "policy/generate.h"
#include "ppo/learner.h"
#include "reward/reward_model.h"
#include "reward/terms.h"

#include <string.h>
#include <unistd.h>

enum { ROWS = 6 };

struct row {
	const char *what;
	int64_t times;
	double weights, optimiser, packed, activations, cache;
};

static double sum(const struct row *r)
{
	return r->weights + r->optimiser + r->packed + r->activations + r->cache;
}

static double parameter_bytes(struct shape s, int heads)
{
	struct params p;
	struct arena *a = arena_open(0);
	s.heads_kind = heads;
	params_build(&p, &s, a);
	double bytes = 4.0 * (double)(p.floats + p.apart);
	arena_close(a);
	return bytes;
}

/* Bytes of weights that are only computed with, from their bytes in f32. */
static double held(const struct session *s, double bytes)
{
	return backend_weights(s->backend) == DTYPE_BF16 ? bytes / 2 : bytes;
}

/* Bytes of what learns in a stage with adapters, and of the work they take on so many rows. */
static int adapter_bytes(const struct session *s, struct shape shape, int heads, int keep, int64_t rows, double *learned, double *work, struct err *e)
{
	struct config_lora c = s->config.lora;
	struct adapter a;
	struct arena *arena = arena_open(0);
	shape.heads_kind = heads;
	if (!(heads & HEAD_LM)) c.modules_to_save[0] = 0;
	int rc = adapter_plan(&a, &shape, &c, arena, e);
	*learned = rc < 0 ? 0 : 4.0 * (double)a.params.floats;
	*work = rc < 0 ? 0 : (double)adapter_activations(&a, &shape, keep, rows);
	arena_close(arena);
	return rc;
}

/* With adapters, policy, reference, critic and behaviour are on one base, of which the CPU packs one copy for each direction; a
 * critic that starts from a reward model has a base of its own. */
static int share_base(struct row *r, const struct session *s, const struct shape *shape, int keep, int64_t rows, int cpu, struct err *e)
{
	const struct config *c = &s->config;
	int critic = !strcmp(c->ppo.critic, "separate");
	double base = parameter_bytes(*shape, HEAD_LM), learned[2] = {0}, work[2] = {0};
	double bases = critic && !strcmp(c->ppo.critic_init, "reward") ? 2 * base : base;
	int rc = adapter_bytes(s, *shape, HEAD_LM | (!strcmp(c->ppo.critic, "head") ? HEAD_SCALAR : 0), keep, rows, &learned[0], &work[0], e);
	if (rc == 0 && critic) rc = adapter_bytes(s, *shape, HEAD_SCALAR, keep, rows, &learned[1], &work[1], e);
	double models = learned[0] * (c->ppo.lag > 0 ? 2 : 1) + learned[1];
	int bf16 = backend_weights(s->backend) == DTYPE_BF16;
	r->weights = bases + models + (bf16 ? held(s, bases) : 0); /* in bf16 the base has its rounded copy */
	r->optimiser = 4 * (learned[0] + learned[1]);
	r->packed = cpu && !bf16 ? 2 * (bases + models) : 0;
	r->activations += work[0] * (c->ppo.lag > 0 ? 2 : 1) + work[1];
	return rc;
}

static struct row learner_row(const struct session *s, const struct shape *shape, int cpu)
{
	const struct config *c = &s->config;
	int head = !strcmp(c->ppo.critic, "head") ? HEAD_SCALAR : 0, critic = !strcmp(c->ppo.critic, "separate");
	struct row r = {.what = critic ? "learner and critic" : "learner", .times = 1};
	int truncates = c->rollout.top_k > 0 || c->rollout.top_p < 1;
	struct batch_sizes b = learner_largest_batch(c, s->task->longest_prompt);
	double policy = parameter_bytes(*shape, HEAD_LM | head), reference = parameter_bytes(*shape, HEAD_LM), value = critic ? parameter_bytes(*shape, HEAD_SCALAR) : 0;
	double behaviour = c->ppo.lag > 0 ? policy : 0;
	int bf16 = backend_weights(s->backend) == DTYPE_BF16;
	r.weights = policy + value + (bf16 ? held(s, policy + value) : 0) + held(s, reference + behaviour);
	r.optimiser = 4 * (policy + value);
	r.packed = cpu && !bf16 ? 2 * (policy + value) + reference + behaviour : 0;
	struct shape only = *shape;
	only.heads_kind = HEAD_LM | head;
	int keep = c->run.recompute ? ACTIVATIONS_AGAIN : ACTIVATIONS_KEEP;
	struct ops_sizes o = activations_operations(&only, keep, &b, truncates);
	o.parameters = (int64_t)(policy / 4);
	r.activations = (double)activations_plan(s->backend, &only, keep, b.rows, b.pages, b.outs) + (double)activations_plan(s->backend, &only, 0, b.rows, b.pages, b.outs) +
			(double)backend_scratch(s->backend, &o);
	if (behaviour > 0) r.activations += (double)activations_plan(s->backend, &only, 0, b.rows, b.pages, b.outs);
	only.heads_kind = HEAD_SCALAR;
	if (critic) r.activations += (double)activations_plan(s->backend, &only, keep, b.rows, b.pages, b.outs);
	return r;
}

/* What a generator of such options takes. */
static void add_generator(struct row *r, const struct session *s, const struct shape *shape, const struct generate_options *o)
{
	struct generate_bytes b;
	struct shape only = *shape;
	only.heads_kind = HEAD_LM;
	generate_plan(&only, s->backend, o, &b);
	r->activations += (double)b.activations;
	r->cache += (double)b.cache;
}

/* Whether services of this machine score with a reward model: its shape and members, and the largest batch it is prepared for. */
static int scores_with_model(const struct session *s, struct shape *shape, uint32_t *members, struct batch_sizes *most, struct err *e)
{
	const struct config *c = &s->config;
	struct reward_terms terms;
	char folder[PATH_MAX];
	int group, rc = reward_terms_parse(&terms, c->reward.terms, e);
	if (rc < 0 || c->net.rewards[0] || !reward_terms_learned(&terms)) return rc;
	if (c->reward.model[0]) snprintf(folder, sizeof folder, "%s", c->reward.model);
	else rc = session_path(s, "models/reward", folder, e);
	if (rc == 0) rc = reward_model_describe(folder, shape, members, &group, e);
	*most = reward_model_largest_batch(c->reward.batch_groups, s->task->longest_prompt, c->rollout.group_size, c->rollout.max_new_tokens);
	return rc == ERR_NOT_FOUND ? 0 : rc < 0 ? rc : 1; /* one that is missing is refused where terms are checked */
}

/* A scoring service: the model it starts with, and a live one's versions that stay open. */
static struct row service_row(const struct session *s, const struct shape *shape, uint32_t members, const struct batch_sizes *b, int cpu)
{
	const struct config *c = &s->config;
	struct row r = {.what = "scoring service", .times = c->run.services};
	double models = (double)members * (c->reward.live ? 1 + REWARD_LIVE_OPEN : 1), weights = parameter_bytes(*shape, shape->heads_kind);
	r.weights = models * held(s, weights);
	r.packed = cpu && backend_weights(s->backend) == DTYPE_F32 ? models * weights : 0;
	r.activations = (double)activations_plan(s->backend, shape, ACTIVATIONS_NONE, b->rows, b->pages, b->outs);
	if (shape->heads_kind & HEAD_GROUP) r.activations += (double)group_block_plan(shape, b->outs, b->sets);
	r.activations *= models;
	return r;
}

/* The learner, while it fits a live reward model: its members side by side, one of them in training; without adapters, which take
 * less. */
static struct row fit_row(const struct session *s, const struct shape *policy, int cpu)
{
	const struct config *c = &s->config;
	struct row r = {.what = "live reward fit", .times = 1};
	struct shape only = *policy;
	int group = !strcmp(c->reward.scorer, "group"), bf16 = backend_weights(s->backend) == DTYPE_BF16;
	int64_t n = c->fit.gradient_block < c->fit.batch ? c->fit.gradient_block : c->fit.batch;
	only.heads_kind = HEAD_SCALAR | (group ? HEAD_GROUP : 0);
	struct batch_sizes b = batch_most(n, s->task->longest_prompt, c->rollout.group_size, c->rollout.max_new_tokens);
	double weights = parameter_bytes(only, only.heads_kind), all = (double)c->fit.ensemble * weights;
	r.weights = all + (bf16 ? held(s, all) : 0);
	r.optimiser = 4 * weights;
	r.packed = cpu && !bf16 ? 2 * all : 0;
	r.activations = (double)activations_plan(s->backend, &only, ACTIVATIONS_KEEP, b.rows, b.pages, b.outs);
	if (group) r.activations += (double)c->fit.ensemble * (double)group_block_plan(&only, b.seqs, b.sets);
	return r;
}

/* The learner's own generator, while it measures the policy on held-out prompts. */
static struct row evaluation_row(const struct session *s, const struct shape *shape)
{
	struct row r = {.what = "evaluation", .times = 1};
	struct generate_options o;
	session_pass_rate_options(s, 1, &o);
	if (task_verifiable(s->task) && s->task->prompts[TASK_HELDOUT]) add_generator(&r, s, shape, &o);
	return r;
}

static struct row worker_row(const struct session *s, const struct shape *shape, double learned, int cpu)
{
	const struct config *c = &s->config;
	struct row r = {.what = "worker", .times = c->run.workers};
	struct generate_options o;
	double weights = parameter_bytes(*shape, HEAD_LM);
	int bf16 = backend_weights(s->backend) == DTYPE_BF16;
	r.weights = learned > 0 && bf16 ? 1.5 * weights + learned : held(s, weights) + learned;
	r.packed = cpu && !bf16 ? weights + learned : 0;
	session_generation(s, &o);
	add_generator(&r, s, shape, &o);
	return r;
}

/* Bytes of this machine, or of the control group that the process is in. */
static double machine_bytes(void)
{
	double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), limit = 0;
	FILE *f = fopen("/sys/fs/cgroup/memory.max", "r"); /* a number, or "max" */
	if (f) {
		if (fscanf(f, "%lf", &limit) != 1) limit = 0;
		fclose(f);
	}
	return limit > 0 && limit < bytes ? limit : bytes;
}

static void print_row(FILE *f, const struct row *r)
{
	static const double MIB = 1048576.0;
	char what[48];
	snprintf(what, sizeof what, r->times > 1 ? "%s, each of %lld" : "%s", r->what, (long long)r->times);
	fprintf(f, "%-32s %10.1f %10.1f %10.1f %12.1f %10.1f %10.1f\n", what, r->weights / MIB, r->optimiser / MIB, r->packed / MIB, r->activations / MIB,
		r->cache / MIB, sum(r) / MIB);
}

/* What no process asks for: a device's own share of each, of which the learner has taken its one already. */
static struct row process_row(const struct session *s, int64_t services)
{
	struct row r = {.what = "context", .times = s->config.run.workers + services};
	r.weights = (double)backend_process_bytes(s->backend);
	return r;
}

/* Rows of all roles on this machine; how many, or an error. */
static int make_rows(struct row rows[ROWS], const struct session *s, int cpu, struct err *e)
{
	struct shape shape, scoring;
	struct batch_sizes most;
	uint32_t members = 0;
	int n = 3, rc = session_shape(s, HEAD_LM, &shape, e);
	if (rc < 0) return rc;
	rows[0] = learner_row(s, &shape, cpu), rows[1] = evaluation_row(s, &shape);
	double learned = 0, work = 0;
	if (config_lora(&s->config, "ppo")) {
		struct batch_sizes b = learner_largest_batch(&s->config, s->task->longest_prompt);
		rc = share_base(&rows[0], s, &shape, s->config.run.recompute ? ACTIVATIONS_AGAIN : ACTIVATIONS_KEEP, b.rows, cpu, e);
		if (rc == 0) rc = adapter_bytes(s, shape, HEAD_LM, ACTIVATIONS_NONE, 0, &learned, &work, e);
		if (rc < 0) return rc;
	}
	rows[2] = worker_row(s, &shape, learned, cpu);
	int services = scores_with_model(s, &scoring, &members, &most, e);
	if (services < 0) return services;
	if (services && s->config.run.services) rows[n++] = service_row(s, &scoring, members, &most, cpu);
	if (s->config.reward.live) rows[n++] = fit_row(s, &shape, cpu);
	if (backend_process_bytes(s->backend)) rows[n++] = process_row(s, services ? s->config.run.services : 0);
	return n;
}

int memory_check(const struct session *s, FILE *f, struct err *e)
{
	struct row rows[ROWS];
	size_t left = 0, total = 0;
	int cpu = !backend_memory(s->backend, &left, &total), n = make_rows(rows, s, cpu, e);
	if (n < 0) return n;
	double need = 0, have = cpu ? machine_bytes() : (double)left, gib = 1024.0 * 1048576.0;
	fprintf(f, "%-32s %10s %10s %10s %12s %10s %10s\n", "memory, MiB", "weights", "optimiser", "packed", "activations", "cache", "sum");
	for (int i = 0; i < n; i++) {
		print_row(f, &rows[i]);
		need += sum(&rows[i]) * (double)rows[i].times;
	}
	fprintf(f, "%-32s %10.1f of %.1f%s\n", "together, at most", need / 1048576.0, have / 1048576.0, cpu ? "" : " free on the device");
	if (need <= have) return 0;
	return err_set(e, ERR_MEMORY, "this run needs up to %.1f GiB, the %s: lower ppo.micro_batch (activations of the learner, %.1f GiB; "
		       "run.recompute: true needs less), rollout.batch_groups (cache of a worker, %.1f GiB), rollout.max_new_tokens, reward.batch_groups, run.workers, %sor take a smaller model",
		       need / gib, cpu ? "machine has less" : "device has less free", rows[0].activations / gib, rows[2].cache / gib,
		       cpu && backend_weights(s->backend) == DTYPE_F32 ? "set run.precision: bf16 (weights in less memory, other numbers), " : "");
}
