/* The learner's loop; see loop.h. */
#include "ppo/loop_internal.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Waits for the step's groups. */
static int collect(struct loop *l, int64_t step, struct err *e)
{
	const struct loop_options *o = l->o;
	for (;;) {
		int got = ppo_server_wait(o->server, (uint64_t)step, 1.0, l->groups, l->arena, e);
		if (got < 0) return got;
		if (got > 0) break;
		got = loop_refill(l, step, e);
		if (got < 0) return got;
		uint32_t done, total;
		ppo_server_progress(o->server, (uint64_t)step, &done, &total);
		if (o->waiting) o->waiting(o->arg, step, done, total);
	}
	ppo_server_close_step(o->server, (uint64_t)step);
	FAULT_POINT("loop.after_groups", "all groups of a step have come, none is recorded");
	return 0;
}

/* One transaction, before anything is learned from it. */
static int record(struct loop *l, int64_t step, struct err *e)
{
	const struct loop_options *o = l->o;
	int64_t n = o->config->ppo.prompts;
	int rc = 0;
	TRY(store_step_begin(o->store, (uint64_t)step, l->groups[0].policy_version, e));
	for (int64_t i = 0; i < n; i++) TRY(store_put_group(o->store, &l->groups[i], e));
	TRY(loop_put_aside(l, step, e));
	TRY(store_step_commit(o->store, e));
out:
	return rc;
}

/* What the reference says of each token, beside what the policy said: the two make the KL term. */
static int record_reference(struct loop *l, int64_t step, struct err *e)
{
	const struct ppo_batch *b = &l->o->learner->batch;
	struct store_reference *r = arena_must(l->arena, (size_t)b->groups, sizeof *r);
	for (int64_t g = 0; g < b->groups; g++) {
		float *logprobs = arena_must(l->arena, (size_t)group_response_tokens(&b->group[g]) + 1, sizeof *logprobs);
		size_t n = 0;
		for (int64_t i = b->first[g * b->size]; i < b->first[(g + 1) * b->size]; i++)
			if (b->chosen[i]) logprobs[n++] = b->ref[i];
		r[g] = (struct store_reference){b->group[g].slot, logprobs, n};
	}
	return store_put_references(l->o->store, (uint64_t)step, r, (size_t)b->groups, e);
}

/* The update, and a row for each part of it that had to be left out. One that leaves a bad state ends the run before that
 * state is published or saved. */
static int learn(struct loop *l, int64_t step, struct err *e)
{
	struct learner *a = l->o->learner;
	struct err why;
	int rc = 0, done = learner_update(a, l->arena, &why);
	for (int64_t i = 0; i < a->skips; i++) TRY(store_put_event(l->o->store, (uint64_t)step, "skipped_update", a->skip[i].minibatch, a->skip[i].what, e));
	if (done == 0) return 0;
	if (l->saved < 0) return err_set(e, done, "%s. Nothing of it is kept, and there is no checkpoint yet: change what makes it so (ppo.optim, reward.terms) in a new run", why.msg);
	return err_set(e, done, "%s. Nothing of it is kept: the last checkpoint is of step %lld; go on from a model before it, with other ppo.optim or reward.terms, in a new run",
		       why.msg, (long long)l->saved);
out:
	return rc;
}

/* With lag the step was sampled from older weights; the learner looks at it with those. */
static int behave(struct loop *l, int64_t step, struct err *e)
{
	if (l->o->learner->behaviour == l->o->learner->policy) return 0;
	int64_t version = step > l->o->config->ppo.lag ? step - l->o->config->ppo.lag : 0;
	return loop_load_version(l, l->o->learner->behaviour, version, e);
}

static int measure(struct loop *l, int64_t done, double *value, struct err *e)
{
	const struct loop_options *o = l->o;
	*value = NAN;
	int turn = done == o->config->ppo.steps || (o->config->ppo.eval_every > 0 && done % o->config->ppo.eval_every == 0);
	return turn && o->measure ? o->measure(o->arg, done, value, e) : 0;
}

/* The clock's part of a step's metrics. */
struct times {
	double began, generated, recorded, evaluated, updated;
};

static int put_metrics(struct loop *l, int64_t step, const struct times *t, double *rate, struct err *e)
{
	struct metrics *m = &l->o->learner->metrics;
	double tokens = 0;
	for (int64_t i = 0; i < l->o->config->ppo.prompts; i++) tokens += group_response_tokens(&l->groups[i]);
	*rate = tokens / (t->updated - t->began);
	metrics_put(m, *rate, "perf/throughput");
	metrics_put(m, t->generated - t->began, "timing/rollout");
	metrics_put(m, t->recorded - t->generated, "timing/store");
	metrics_put(m, t->evaluated - t->recorded, "timing/evaluate");
	metrics_put(m, t->updated - t->evaluated, "timing/update");
	struct ppo_worker_info w[PPO_SERVER_WORKERS];
	int n = ppo_server_workers(l->o->server, w, PPO_SERVER_WORKERS);
	for (int i = 0; i < n && i < PPO_SERVER_WORKERS; i++) metrics_put(m, (double)w[i].groups, "perf/worker_groups/%.40s", w[i].name);
	return store_put_metrics(l->o->store, (uint64_t)step, m->name, m->value, (size_t)m->count, e);
}

/* One step, from open prompts to new weights. */
static int step_once(struct loop *l, int64_t step, struct err *e)
{
	const struct loop_options *o = l->o;
	struct learner *learner = o->learner;
	struct times t = {.began = fs_now()};
	struct loop_report r = {.step = step + 1, .steps = o->config->ppo.steps, .metrics = &learner->metrics};
	int rc = 0;
	arena_reset(l->arena);
	TRY(loop_open_step(l, step + o->config->ppo.lag, e)); /* those before it are open already */
	TRY(collect(l, step, e));
	t.generated = fs_now();
	TRY(record(l, step, e));
	t.recorded = fs_now();
	TRY(behave(l, step, e));
	TRY(learner_evaluate(learner, l->groups, o->config->ppo.prompts, l->arena, e));
	TRY(record_reference(l, step, e));
	learner_prepare(learner);
	FAULT_POINT("loop.before_update", "a step is evaluated, nothing learned from it");
	t.evaluated = fs_now();
	TRY(learn(l, step, e));
	FAULT_POINT("loop.after_update", "a step's update is made in memory only");
	TRY(loop_publish(l, step + 1, e));
	FAULT_POINT("loop.before_metrics", "a step's weights are published, its metrics not recorded");
	t.updated = fs_now();
	TRY(put_metrics(l, step, &t, &r.tokens_per_second, e));
	TRY(measure(l, step + 1, &r.heldout, e));
	FAULT_POINT("loop.before_report", "a step is recorded and measured, metrics.jsonl not written");
	r.seconds = fs_now() - t.began;
	o->report(o->arg, &r);
	if ((step + 1) % o->config->ppo.checkpoint_every == 0 || step + 1 == o->config->ppo.steps) TRY(loop_save(l, e));
out:
	return rc;
}

static void loop_close(struct loop *l)
{
	arena_close(l->arena);
	free(l->order);
	free(l->items);
	free(l->aside);
	free(l->groups);
}

int loop_run(const struct loop_options *o, struct err *e)
{
	struct loop l = {.o = o, .order_epoch = -1, .published = -1, .oldest = 0, .saved = -1};
	double first;
	int rc = 0;
	l.arena = arena_open((size_t)8 << 20);
	l.order = calloc(o->prompt_count, sizeof *l.order);
	l.items = calloc((size_t)o->config->ppo.prompts, sizeof *l.items);
	l.groups = calloc((size_t)o->config->ppo.prompts, sizeof *l.groups);
	CHECK(l.order && l.items && l.groups, "out of memory for the prompts of a step");
	TRY(loop_read_aside(&l, e));
	TRY(loop_restore(&l, e));
	int64_t step = o->learner->step;
	l.opened = step;
	TRY(loop_publish(&l, step, e));
	if (step == 0 && o->measure) TRY(o->measure(o->arg, 0, &first, e));
	for (int64_t s = step; s < step + o->config->ppo.lag; s++) TRY(loop_open_step(&l, s, e));
	for (; step < o->config->ppo.steps; step++) {
		rc = o->stop && atomic_load(o->stop) ? err_set(e, ERR_STOPPED, "stopped") : step_once(&l, step, e);
		if (rc == ERR_STOPPED) {
			struct err ignored;
			/* a stop while waiting: the step was not begun, the state is that after the step before */
			if (o->learner->step == step && loop_save(&l, &ignored) < 0) log_warn("no checkpoint at the stop: %s", ignored.msg);
			err_set(e, ERR_STOPPED, "stopped after step %lld of %lld; --resume goes on", (long long)step, (long long)o->config->ppo.steps);
		}
		if (rc < 0) break;
	}
out:
	loop_close(&l);
	return rc;
}
