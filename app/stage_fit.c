/* The stage fit-reward: reads the ranked groups of the stage collect back from
 * the record, or human labels (fit.labels), keeps those of some prompts apart,
 * fits the reward model to the others (some may choose its best step), measures
 * it on those kept, leaves models/reward. Of labels it records the last event and
 * the digest first.
 *
 * An interrupted fit is made anew: it takes seconds to minutes, its steps'
 * metrics are compared with the stored ones, and so it cannot come out otherwise. */
#include "app/fit_labels.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/stages.h"
#include "app/trained.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "policy/adapter.h"
#include "reward/reward_fit.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct side {
	struct ranked_group *list;
	uint32_t count, room;
};

struct fit {
	struct session s;
	struct reward_model *model;
	struct arena *arena;
	struct side side[SIDES];
	struct ranked_group *step; /* [step_groups], of the step being read */
	uint32_t step_count;
	struct label_set labels;   /* empty without fit.labels */
	struct progress progress;
	double loss;         /* of the last step */
	double began;
	struct err *e;
};

/* ---- reading ---- */

static int on_group(void *ctx, const struct group *g)
{
	struct fit *t = ctx;
	if (t->step_count >= (uint32_t)t->s.config.collect.step_groups) return err_set(t->e, ERR_FORMAT, "a step of the stage collect has more groups than collect.step_groups");
	return group_copy(&t->step[t->step_count++].group, g, t->arena, t->e);
}

static int on_comparison(void *ctx, uint32_t slot, const struct store_comparison *c)
{
	struct fit *t = ctx;
	for (uint32_t i = 0; i < t->step_count; i++) {
		if (t->step[i].group.slot != slot) continue;
		t->step[i].ranking = *c;
		t->step[i].ranking.source = t->step[i].ranking.scorer_version = NULL; /* they live until this returns */
		return 0;
	}
	return err_set(t->e, ERR_FORMAT, "a comparison of slot %u, which the stage collect does not have", slot);
}

static void side_add(struct side *d, const struct ranked_group *g)
{
	if (d->count == d->room) {
		d->room = d->room ? d->room * 2 : 256;
		d->list = realloc(d->list, d->room * sizeof *d->list);
		CHECK(d->list, "out of memory for %u groups", d->room);
	}
	d->list[d->count++] = *g;
}

/* Stored groups are held out as the files say. */
static enum fit_side side_of(const struct fit *t, uint32_t prompt)
{
	if (!t->s.task->groups[TASK_HELDOUT] || strcmp(t->s.config.collect.judge, "stored")) return fit_side_of(&t->s, prompt);
	if (prompt >= t->s.task->prompts[TASK_TRAIN]) return HELD_OUT;
	double u = (double)rng_uniform((struct rng_key){(uint64_t)t->s.config.run.seed, RNG_SPLIT}, 0, prompt, 0);
	return u < t->s.config.fit.selection ? SELECTING : FITTED;
}

static int read_groups(struct fit *t, struct err *e)
{
	int64_t last;
	int rc = 0;
	TRY(store_last_step(t->s.store, "collect", &last, e));
	if (last < 0) TRY(err_set(e, ERR_NOT_FOUND, "%s has no ranked groups: run the stage collect first", t->s.folder));
	for (int64_t i = 0; i <= last; i++) {
		t->step_count = 0;
		TRY(store_each_group(t->s.store, "collect", (uint64_t)i, on_group, t, e));
		for (uint32_t k = 0; k < t->step_count; k++) t->step[k].ranking.count = 0;
		TRY(store_each_comparison(t->s.store, "collect", (uint64_t)i, t->s.config.collect.judge, on_comparison, t, e));
		for (uint32_t k = 0; k < t->step_count; k++)
			if (t->step[k].ranking.count >= 2) side_add(&t->side[side_of(t, t->step[k].group.prompt)], &t->step[k]);
	}
out:
	return rc;
}

/* The labels as of the event that the record names, which is the newest one at the stage's first start. */
static int read_labels(struct fit *t, struct err *e)
{
	struct labels_used used;
	int rc = 0;
	TRY(labels_used_get(&t->s, "fit-reward", 0, "labels", 0, &used, e));
	TRY(fit_labels_read(&t->labels, &t->s, t->model, &used, t->arena, e));
	used.event = t->labels.event;
	memcpy(used.digest, t->labels.digest, sizeof used.digest);
	TRY(labels_used_put(&t->s, 0, "labels", 0, &used, e));
	for (uint32_t i = 0; i < t->labels.groups; i++) side_add(&t->side[fit_side_of(&t->s, t->labels.group[i].group.prompt)], &t->labels.group[i]);
out:
	return rc;
}

static int read_ranked(struct fit *t, struct err *e)
{
	int labels = t->s.config.fit.labels[0] != 0, rc = labels ? read_labels(t, e) : read_groups(t, e);
	const char *more = labels ? "more prompts must be labelled" : "collect more (collect.prompts)";
	if (rc < 0) return rc;
	if (t->s.config.fit.selection > 0 && t->side[SELECTING].count == 0)
		return err_set(e, ERR_RANGE, "no groups to choose the best step: %s, or change fit.selection", more);
	if (t->side[FITTED].count && t->side[HELD_OUT].count) return 0;
	return err_set(e, ERR_RANGE, "%u groups to fit and %u held out: %s, or change fit.heldout", t->side[FITTED].count, t->side[HELD_OUT].count, more);
}

/* ---- fitting ---- */

static int report(void *arg, const struct reward_fit_report *r, struct err *e)
{
	struct fit *t = arg;
	const char *names[] = {"reward/loss", "reward/grad_norm", "lr", "reward/selection_loss", "reward/selection_accuracy"};
	double values[] = {r->loss, r->grad_norm, r->lr, r->selection_loss, r->selection_accuracy};
	char note[64];
	int rc = store_put_metrics(t->s.store, (uint64_t)r->step - 1, names, values, isnan(r->selection_loss) ? 3 : 5, e);
	if (rc == 0 && r->skipped) rc = store_put_event(t->s.store, (uint64_t)r->step - 1, "skipped_update", r->member, r->skipped, e);
	if (rc < 0) return rc;
	t->loss = r->loss;
	snprintf(note, sizeof note, "loss %.4f", r->loss);
	progress_show(&t->progress, r->step, note);
	return 0;
}

static int fit(struct fit *t, struct err *e)
{
	const struct config *c = &t->s.config;
	struct reward_fit_options o = {.fit = &c->fit, .seed = (uint64_t)c->run.seed, .stop = t->s.stop, .report = report, .arg = t,
				      .selection = t->side[SELECTING].list, .selections = t->side[SELECTING].count};
	progress_open(&t->progress, stderr, "fit-reward", "steps", reward_fit_steps(&c->fit, t->side[FITTED].count), 0);
	int rc = reward_fit(t->model, t->side[FITTED].list, t->side[FITTED].count, &o, e);
	progress_close(&t->progress, reward_fit_steps(&c->fit, t->side[FITTED].count));
	return rc;
}

/* ---- what came of it ---- */

static json_t *calibration_json(const struct rank_eval *v)
{
	json_t *list = json_array();
	for (int i = 0; i < RANK_BINS; i++)
		json_array_append_new(list, json_pack("{s:f,s:f,s:I,s:f,s:f}", "from", (double)i / RANK_BINS, "to", (double)(i + 1) / RANK_BINS, "n", (json_int_t)v->bin[i].n,
						      "predicted", v->bin[i].predicted, "observed", v->bin[i].observed));
	return list;
}

static json_t *margins_json(const struct rank_eval *v)
{
	json_t *list = json_array();
	for (int i = 0; i < RANK_MARGINS; i++)
		json_array_append_new(list, json_pack("{s:f,s:f,s:I,s:f}", "above", v->margin[i].low, "to", v->margin[i].high, "n", (json_int_t)v->margin[i].n, "accuracy",
						      v->margin[i].accuracy));
	return list;
}

static int put_rates(struct fit *t, const struct rank_eval *v, const struct rank_eval *fitted, struct err *e)
{
	uint64_t step = (uint64_t)reward_fit_steps(&t->s.config.fit, t->side[FITTED].count), n = (uint64_t)v->pairs;
	double best = v->shorter > v->longer ? v->shorter : v->longer;
	int rc = 0;
	TRY(store_put_eval(t->s.store, step, "reward_pair_accuracy", v->accuracy, n, v->low, v->high, e));
	TRY(store_put_eval(t->s.store, step, "reward_pair_accuracy_fitted", fitted->accuracy, (uint64_t)fitted->pairs, fitted->low, fitted->high, e));
	TRY(store_put_eval(t->s.store, step, "reward_length_baseline", best, n, NAN, NAN, e));
	TRY(store_put_eval(t->s.store, step, "reward_brier", v->brier, n, NAN, NAN, e));
out:
	return rc;
}

/* Chance, and the better of the two rules that read only the length. */
static int beats_baselines(const struct rank_eval *v)
{
	return v->pairs > 0 && v->group_low > 0.5 && v->over_low > 0;
}

/* The same in words, for people. */
static const char *verdict(const struct rank_eval *v)
{
	if (v->pairs == 0) return "there is no pair to measure it on";
	if (v->group_low > 0.5) {
		if (v->over_low > 0) return "better than chance and than the rule of length";
		return v->over_high < 0 ? "better than chance, but worse than the rule of length" : "better than chance, not shown to be better than the rule of length";
	}
	return v->over_high < 0 ? "not shown to be better than chance, and worse than the rule of length" : "not shown to be better than chance";
}

/* The step that each member is of. */
static json_t *steps_json(const struct reward_model *m)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < m->members; i++) json_array_append_new(list, json_integer((json_int_t)m->member[i].step));
	return list;
}

static json_t *result_json(const struct reward_model *m, const struct rank_eval *v, const struct rank_eval *fitted)
{
	int longer = v->longer > v->shorter;
	json_t *j = json_pack("{s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:f}", "pair_accuracy", v->accuracy, "low", v->low, "high", v->high, "group_low", v->group_low,
			      "group_high", v->group_high, "n", (json_int_t)v->pairs, "groups", (json_int_t)v->groups, "tied_groups",
			      (json_int_t)v->tied_groups, "prompts", (json_int_t)v->prompts, "chance", 0.5);
	json_t *k = json_pack("{s:f,s:s,s:f,s:f,s:b,s:s,s:f,s:f,s:f}", "length_baseline", longer ? v->longer : v->shorter, "length_rule",
			      longer ? "longer wins" : "shorter wins", "over_length_low", v->over_low, "over_length_high", v->over_high, "beats_baselines",
			      beats_baselines(v), "verdict", verdict(v), "fitted_pair_accuracy", fitted->accuracy, "brier", v->brier, "calibration_error", v->calibration);
	json_object_update(j, k);
	json_decref(k);
	k = json_pack("{s:s,s:I,s:s,s:o,s:o,s:o}", "scorer", m->group ? "group" : "pointwise", "members", (json_int_t)m->members, "version", m->version, "steps",
		      steps_json(m), "calibration", calibration_json(v), "by_margin", margins_json(v));
	json_object_update(j, k);
	json_decref(k);
	return j;
}

/* What the answers of people say, arm by arm. */
static int finish_labels(struct fit *t, struct err *e)
{
	struct fit_labels_report r;
	char text[256];
	int rc = 0;
	if (t->labels.groups == 0) return 0;
	fit_labels_measure(&r, &t->labels, t->model, t->side[HELD_OUT].list, t->side[HELD_OUT].count);
	TRY(fit_labels_put(&t->s, (uint64_t)reward_fit_steps(&t->s.config.fit, t->side[FITTED].count), &r, e));
	TRY(session_summary(&t->s, "labels", fit_labels_json(&t->labels, &r), e));
	fit_labels_text(&r, text, sizeof text);
	fprintf(stderr, "fit-reward: %lld labels up to event %lld; held-out answers right: %s\n", (long long)t->labels.labels, (long long)t->labels.event, text);
out:
	return rc;
}

static int finish(struct fit *t, struct err *e)
{
	struct rank_eval v, fitted;
	char folder[PATH_MAX];
	int rc = 0;
	reward_fit_evaluate(t->model, t->side[HELD_OUT].list, t->side[HELD_OUT].count, &v);
	/* as many of the fitted ones, for the distance between the two */
	reward_fit_evaluate(t->model, t->side[FITTED].list, t->side[FITTED].count < t->side[HELD_OUT].count ? t->side[FITTED].count : t->side[HELD_OUT].count, &fitted);
	TRY(session_path(&t->s, "models/reward", folder, e));
	TRY(reward_model_save(t->model, folder, t->s.task->tokenizer, e));
	if (t->model->base && !t->model->group) {
		TRY(session_start_folder(&t->s, "fit-reward", folder, e));
		TRY(trained_export_adapter(&t->s, "reward", t->model->member[0].model, folder, e));
	}
	FAULT_POINT("fit.before_record", "the reward model is written, its accuracy not recorded");
	TRY(put_rates(t, &v, &fitted, e));
	TRY(finish_labels(t, e));
	json_t *j = result_json(t->model, &v, &fitted);
	TRY(session_summary(&t->s, "reward", j, e));
	j = json_pack("{s:I,s:I,s:I,s:f,s:f}", "groups", (json_int_t)t->side[FITTED].count, "heldout_groups", (json_int_t)t->side[HELD_OUT].count,
		      "selection_groups", (json_int_t)t->side[SELECTING].count, "loss", t->loss, "seconds",
		      fs_now() - t->began);
	TRY(session_summary(&t->s, "fit-reward", j, e));
	fprintf(stderr, "fit-reward: held-out pair accuracy %.1f %% [%.1f, %.1f over prompts] of %lld pairs of %lld prompts; chance 50, %s %.1f %%: %s\n", 100 * v.accuracy,
		100 * v.group_low, 100 * v.group_high, (long long)v.pairs, (long long)v.prompts,
		v.longer > v.shorter ? "the longer wins" : "the shorter wins", 100 * fmax(v.longer, v.shorter),
		verdict(&v));
out:
	return rc;
}

int stage_fit(const struct stage_options *o, struct err *e)
{
	struct fit t = {.began = fs_now(), .e = e};
	char folder[PATH_MAX];
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "fit-reward", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND | SESSION_TASK};
	TRY(session_open(&t.s, &so, e));
	const struct config *c = &t.s.config;
	t.arena = arena_open(0);
	t.step = calloc((size_t)c->collect.step_groups, sizeof *t.step);
	CHECK(t.step, "out of memory for %lld groups", (long long)c->collect.step_groups);
	TRY(session_start_folder(&t.s, "fit-reward", folder, e));
	TRY(reward_model_start(&t.model, folder, t.s.backend, !strcmp(c->reward.scorer, "group"), (uint32_t)c->fit.ensemble, (uint64_t)c->run.seed, config_lora(c, "fit-reward"), e));
	if (t.model->base) {
		char text[128];
		adapter_describe(t.model->member[0].model, text, sizeof text);
		fprintf(stderr, "fit-reward: %s\n", text);
	}
	TRY(read_ranked(&t, e));
	TRY(fit(&t, e));
	TRY(finish(&t, e));
out:
	reward_model_close(t.model);
	arena_close(t.arena);
	label_set_free(&t.labels);
	for (int i = 0; i < SIDES; i++) free(t.side[i].list);
	free(t.step);
	session_close(&t.s);
	return rc;
}
