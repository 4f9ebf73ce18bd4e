/* Versions of a live reward model; see live.h. */
#include "app/live.h"

#include "app/fit_labels.h"
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "reward/reward_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char KIND[] = "reward_live", STAGE[] = "ppo";

struct live {
	struct session *s;
	struct arena *arena;
	int64_t known; /* newest version that was made sure of */
};

int live_open(struct live **out, struct session *s, struct err *e)
{
	struct live *l = calloc(1, sizeof *l);
	*out = l;
	if (!l) return err_set(e, ERR_MEMORY, "no memory for a live reward model");
	l->s = s;
	l->arena = arena_open(0);
	return 0;
}

void live_close(struct live *l)
{
	if (!l) return;
	arena_close(l->arena);
	free(l);
}

struct sides {
	struct ranked_group *list[SIDES];
	uint32_t count[SIDES];
};

static int split(struct sides *d, const struct label_set *set, const struct session *s, struct err *e)
{
	for (int i = 0; i < SIDES; i++) {
		d->list[i] = calloc((size_t)set->groups + 1, sizeof *d->list[i]);
		if (!d->list[i]) return err_set(e, ERR_MEMORY, "no memory for %u groups", set->groups);
	}
	for (uint32_t i = 0; i < set->groups; i++) {
		enum fit_side side = fit_side_of(s, set->group[i].group.prompt);
		d->list[side][d->count[side]++] = set->group[i];
	}
	if (d->count[FITTED] && d->count[HELD_OUT] && (s->config.fit.selection == 0 || d->count[SELECTING])) return 0;
	return err_set(e, ERR_RANGE, "%u labelled prompts to fit, %u held out and %u to choose the best step: more must be labelled", d->count[FITTED], d->count[HELD_OUT],
		       d->count[SELECTING]);
}

static int record(struct live *l, int64_t step, int64_t version, struct reward_model *m, const struct label_set *set, const struct labels_used *before,
		  const struct sides *d, struct err *e)
{
	struct labels_used now = {.event = set->event};
	struct fit_labels_report r;
	char text[256];
	int rc = 0;
	memcpy(now.digest, set->digest, sizeof now.digest);
	memcpy(now.version, m->version, sizeof now.version);
	if (before->event && strcmp(before->version, now.version))
		TRY(err_set(e, ERR_MISMATCH, "the reward model of step %lld, fitted again to the labels up to event %lld, is %s; the record has %s", (long long)step,
			    (long long)now.event, now.version, before->version));
	fit_labels_measure(&r, set, m, d->list[HELD_OUT], d->count[HELD_OUT]);
	TRY(fit_labels_put(l->s, (uint64_t)step, &r, e));
	TRY(labels_used_put(l->s, (uint64_t)step, KIND, version, &now, e));
	FAULT_POINT("live.after_record", "a version of the live reward model is recorded, nothing scored by it");
	fit_labels_text(&r, text, sizeof text);
	fprintf(stderr, "ppo: step %lld: reward model %lld from %lld labels up to event %lld; held-out answers right: %s\n", (long long)step, (long long)version,
		(long long)set->labels, (long long)set->event, text);
out:
	return rc;
}

static int fit(struct live *l, int64_t step, int64_t version, const char *folder, const struct labels_used *used, struct err *e)
{
	struct session *s = l->s;
	const struct config *c = &s->config;
	struct reward_model *m = NULL;
	struct label_set set = {0};
	struct sides d = {0};
	struct reward_fit_options o = {.fit = &c->fit, .seed = (uint64_t)c->run.seed, .stop = s->stop};
	char start[PATH_MAX];
	int rc = 0;
	arena_reset(l->arena);
	TRY(session_start_folder(s, "fit-reward", start, e));
	TRY(reward_model_start(&m, start, s->backend, !strcmp(c->reward.scorer, "group"), (uint32_t)c->fit.ensemble, (uint64_t)c->run.seed, config_lora(c, "fit-reward"), e));
	TRY(fit_labels_read(&set, s, m, used, l->arena, e));
	TRY(split(&d, &set, s, e));
	o.selection = d.list[SELECTING];
	o.selections = d.count[SELECTING];
	TRY(reward_fit(m, d.list[FITTED], d.count[FITTED], &o, e));
	FAULT_POINT("live.before_save", "a version of the live reward model is fitted in memory only");
	TRY(reward_model_save(m, folder, s->task->tokenizer, e));
	FAULT_POINT("live.before_record", "a version of the live reward model is written, not recorded");
	TRY(record(l, step, version, m, &set, used, &d, e));
out:
	for (int i = 0; i < SIDES; i++) free(d.list[i]);
	label_set_free(&set);
	reward_model_close(m);
	return rc;
}

/* Whether the folder has the model that the record names. */
static int is_there(struct live *l, const char *folder, const char *version)
{
	struct reward_model *m = NULL;
	struct err ignored;
	int there = reward_model_open(&m, folder, l->s->backend, &ignored) == 0 && !strcmp(m->version, version);
	reward_model_close(m);
	return there;
}

int live_open_step(struct live *l, int64_t step, struct err *e)
{
	int64_t every = l->s->config.reward.live_every, version = step / every;
	struct labels_used used;
	char place[PATH_MAX], folder[PATH_MAX];
	int rc = 0;
	if (version <= l->known) return 0;
	TRY(session_path(l->s, "models/reward-live", place, e));
	TRY(fs_mkdirs(place, e));
	TRY(reward_live_path(place, (uint64_t)version, folder, sizeof folder, e));
	TRY(labels_used_get(l->s, STAGE, (uint64_t)(version * every), KIND, version, &used, e));
	if (!used.event || !is_there(l, folder, used.version)) TRY(fit(l, version * every, version, folder, &used, e));
	l->known = version;
out:
	return rc < 0 ? err_prefix(e, "the live reward model of step %lld", (long long)step) : 0;
}
