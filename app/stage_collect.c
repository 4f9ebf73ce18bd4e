/* The stage collect: ranked groups, as what a reward model is fitted to. They are
 * sampled from the start's policy and ranked by the task's verifier or by an
 * external command; or (judge `stored`) they come ranked from the task's files,
 * and nothing is sampled: training groups first, then the held-out ones.
 *
 * A step is collect.step_groups groups: sampled, scored, stored with their
 * rankings in one transaction. What is stored is not made again, so a resumed
 * collection goes on after the last step. Groups in which all candidates tie are
 * kept: their ranking says so, and the share of them is worth knowing. */
#include "app/options.h"
#include "app/progress.h"
#include "app/stages.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct collect {
	struct session s;
	struct model *model;
	struct generator *generator;
	struct scorer *judge;            /* NULL: stored */
	struct arena *arena;             /* the step's groups */
	struct group *group;             /* [step_groups], by slot */
	const struct group **groups;     /* [step_groups], those of group */
	struct generate_request *request; /* [step_groups] */
	float *score;                    /* [step_groups·GROUP_MAX] */
	uint32_t *order;                 /* prompts of the epoch */
	int64_t order_epoch;
};

/* The prompt of the i-th group ever: epoch after epoch, each in its own order. */
static uint32_t pick(struct collect *t, int64_t i)
{
	uint32_t n = t->s.task->prompts[TASK_TRAIN];
	int64_t epoch = i / n;
	if (epoch != t->order_epoch) {
		rng_permutation((struct rng_key){(uint64_t)t->s.config.run.seed, RNG_COLLECT_PROMPTS}, (uint32_t)epoch, 0, n, t->order);
		t->order_epoch = epoch;
	}
	return t->order[i % n];
}

static int keep(void *arg, const struct group *g, struct err *e)
{
	struct collect *t = arg;
	return group_copy(&t->group[g->slot], g, t->arena, e);
}

/* Scores and ranking of one group, inside the open step. */
static int put(struct collect *t, struct group *g, const float *score, struct err *e)
{
	struct store_comparison c;
	int rc = 0;
	g->terms = 1;
	memcpy(g->term_name[0], t->judge->term_name[0], GROUP_TERM_NAME);
	memcpy(g->scorer_version, t->judge->version, GROUP_VERSION);
	g->scores = g->reward = score;
	store_comparison_from_reward(&c, g);
	c.source = t->judge->name;
	g->reward = NULL; /* a label, not a reward of a policy step */
	TRY(store_put_group(t->s.store, g, e));
	TRY(store_put_comparison(t->s.store, g->step, g->slot, &c, e));
out:
	return rc;
}

static int collect_step(struct collect *t, int64_t step, uint32_t n, struct err *e)
{
	int rc = 0;
	arena_reset(t->arena);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t prompt = pick(t, step * t->s.config.collect.step_groups + i);
		const struct task_prompt *p = &t->s.task->prompt[TASK_TRAIN][prompt];
		t->request[i] = (struct generate_request){(uint64_t)step, i, prompt, p->tokens, p->count, p->text};
		t->groups[i] = &t->group[i];
	}
	TRY(generator_run(t->generator, t->request, n, 0, keep, t, t->s.stop, e));
	FAULT_POINT("collect.before_judge", "groups are generated, none is ranked");
	TRY(t->judge->score(t->judge->self, t->groups, n, t->score, e));
	FAULT_POINT("collect.before_record", "groups are ranked, none is recorded");
	TRY(store_step_begin(t->s.store, (uint64_t)step, 0, e));
	const float *score = t->score;
	for (uint32_t i = 0; i < n; score += t->group[i++].size) {
		rc = put(t, &t->group[i], score, e);
		if (rc < 0) {
			store_step_abort(t->s.store);
			goto out;
		}
	}
	TRY(store_step_commit(t->s.store, e));
out:
	return rc;
}

/* Groups from..from+n-1 of the files, training side first. */
static int store_stored(struct collect *t, int64_t step, int64_t from, uint32_t n, struct err *e)
{
	const struct task *task = t->s.task;
	struct store_comparison c;
	struct group g;
	int rc = 0;
	arena_reset(t->arena);
	TRY(store_step_begin(t->s.store, (uint64_t)step, 0, e));
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		uint32_t at = (uint32_t)(from + i), train = task->groups[TASK_TRAIN];
		rc = task_group_get(task, at < train ? TASK_TRAIN : TASK_HELDOUT, at < train ? at : at - train, t->arena, &g, &c, e);
		g.step = (uint64_t)step;
		g.slot = i;
		snprintf(g.scorer_version, sizeof g.scorer_version, "%.*s", GROUP_VERSION - 1, task->digest);
		c.scorer_version = g.scorer_version;
		if (rc == 0) rc = store_put_group(t->s.store, &g, e);
		if (rc == 0) rc = store_put_comparison(t->s.store, g.step, g.slot, &c, e);
	}
	if (rc < 0) store_step_abort(t->s.store);
	else rc = store_step_commit(t->s.store, e);
out:
	return rc;
}

static int collect_all(struct collect *t, struct err *e)
{
	const struct config_collect *c = &t->s.config.collect;
	struct progress p;
	int64_t last = -1;
	int rc = 0;
	TRY(store_last_step(t->s.store, "collect", &last, e));
	int64_t all = t->judge ? c->prompts : (int64_t)t->s.task->groups[TASK_TRAIN] + t->s.task->groups[TASK_HELDOUT];
	int64_t done = (last + 1) * c->step_groups;
	progress_open(&p, stderr, "collect", "groups", all, done < all ? done : all);
	for (int64_t step = last + 1; done < all; step++) {
		uint32_t n = (uint32_t)(all - done < c->step_groups ? all - done : c->step_groups);
		rc = atomic_load(t->s.stop) ? ERR_STOPPED : t->judge ? collect_step(t, step, n, e) : store_stored(t, step, done, n, e);
		if (rc < 0) break;
		done += n;
		progress_show(&p, done, NULL);
	}
	progress_close(&p, done);
	if (rc == ERR_STOPPED) err_set(e, rc, "stopped after %lld collected groups; --resume goes on", (long long)done);
out:
	return rc;
}

struct tally {
	int64_t groups, tied;
};

static int tally_one(void *ctx, uint32_t slot, const struct store_comparison *c)
{
	struct tally *t = ctx;
	(void)slot;
	t->groups++;
	t->tied += c->rank[c->count - 1] == 1;
	return 0;
}

/* From the record, so that an interrupted collection counts whole. */
static int finish(struct collect *t, double began, struct err *e)
{
	struct tally all = {0};
	const char *judge = t->s.config.collect.judge;
	int64_t last;
	int rc = 0;
	TRY(store_last_step(t->s.store, "collect", &last, e));
	for (int64_t i = 0; i <= last; i++) TRY(store_each_comparison(t->s.store, "collect", (uint64_t)i, judge, tally_one, &all, e));
	fprintf(stderr, "collect: %lld groups, %s%s; in %lld all candidates tie\n", (long long)all.groups, t->judge ? "ranked by the " : "ranked in the task's files",
		t->judge ? judge : "", (long long)all.tied);
	json_t *j = json_pack("{s:I,s:I,s:s,s:f}", "groups", (json_int_t)all.groups, "tied_groups", (json_int_t)all.tied, "judge", judge, "seconds",
			      fs_now() - began);
	TRY(session_summary(&t->s, "collect", j, e));
out:
	return rc;
}

static int open_parts(struct collect *t, struct err *e)
{
	struct generate_options o;
	char folder[PATH_MAX];
	size_t n = (size_t)t->s.config.collect.step_groups;
	int rc = 0;
	t->arena = arena_open(0);
	if (!strcmp(t->s.config.collect.judge, "stored")) {
		if (t->s.task->groups[TASK_TRAIN]) return 0;
		return err_set(e, ERR_RANGE, "collect.judge is stored, and the task's files hold no ranked group for training");
	}
	if (t->s.task->prompts[TASK_TRAIN] == 0) return err_set(e, ERR_RANGE, "the task has no prompt to sample from");
	if (t->s.config.collect.command[0]) TRY(scorer_command_open(&t->judge, t->s.config.collect.command, 0, e));
	else TRY(task_scorer_open(&t->judge, t->s.task, e));
	TRY(session_start_folder(&t->s, "collect", folder, e));
	TRY(model_folder_open_held(&t->model, folder, t->s.backend, HEAD_LM, e));
	session_generation(&t->s, &o);
	o.purpose = RNG_COLLECT;
	TRY(generator_open(&t->generator, t->model, &o, e));
	t->group = calloc(n, sizeof *t->group);
	t->groups = calloc(n, sizeof *t->groups);
	t->request = calloc(n, sizeof *t->request);
	t->score = calloc(n * GROUP_MAX, sizeof *t->score);
	t->order = calloc(t->s.task->prompts[TASK_TRAIN], sizeof *t->order);
	t->order_epoch = -1;
	CHECK(t->group && t->groups && t->request && t->score && t->order, "out of memory for %zu groups", n);
out:
	return rc;
}

int stage_collect(const struct stage_options *o, struct err *e)
{
	struct collect t = {0};
	double began = fs_now();
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "collect", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND | SESSION_TASK};
	TRY(session_open(&t.s, &so, e));
	TRY(open_parts(&t, e));
	TRY(collect_all(&t, e));
	TRY(finish(&t, began, e));
out:
	generator_close(t.generator);
	model_close(t.model);
	scorer_close(t.judge);
	arena_close(t.arena);
	free(t.group);
	free(t.groups);
	free(t.request);
	free(t.score);
	free(t.order);
	session_close(&t.s);
	return rc;
}
