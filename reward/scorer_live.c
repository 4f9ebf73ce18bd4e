/* A reward model that is fitted anew while it scores: which version scores a
 * group follows from the group's step alone, so it does not depend on when a
 * service hears of a new one. The last few versions stay open, as steps overlap;
 * the learner gives a step out only when the version of it is on disk. */
#include "reward/reward_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct version {
	uint64_t number; /* 0: this place is free */
	struct reward_model *model;
	struct scorer *scorer;
};

struct live {
	struct scorer *start;
	struct batch_sizes most; /* as the start was prepared */
	char *folder;
	uint64_t every, turn;
	struct backend *backend;
	struct version open[REWARD_LIVE_OPEN];
};

int reward_live_path(const char *folder, uint64_t version, char *out, size_t bytes, struct err *e)
{
	int n = snprintf(out, bytes, "%s/%08llu", folder, (unsigned long long)version);
	return n > 0 && (size_t)n < bytes ? 0 : err_set(e, ERR_RANGE, "path too long: %s", folder);
}

static void version_close(struct version *v)
{
	scorer_close(v->scorer);
	reward_model_close(v->model);
	memset(v, 0, sizeof *v);
}

/* The scorer of a step's version. */
static int version_of(struct live *l, uint64_t step, struct scorer **out, struct err *e)
{
	uint64_t number = step / l->every;
	char path[4096];
	int rc = 0;
	*out = l->start;
	if (number == 0) return 0;
	for (int i = 0; i < REWARD_LIVE_OPEN; i++)
		if (l->open[i].number == number) {
			*out = l->open[i].scorer;
			return 0;
		}
	struct version *v = &l->open[l->turn++ % REWARD_LIVE_OPEN];
	version_close(v);
	TRY(reward_live_path(l->folder, number, path, sizeof path, e));
	TRY(reward_model_open(&v->model, path, l->backend, e));
	if (l->most.rows) TRY(reward_model_prepare(v->model, &l->most, e));
	TRY(reward_model_scorer_open(&v->scorer, v->model, e));
	if (v->scorer->terms != l->start->terms) TRY(err_set(e, ERR_MISMATCH, "%s has %u terms, the model that it follows %u", path, v->scorer->terms, l->start->terms));
	v->number = number;
	*out = v->scorer;
out:
	if (rc < 0) version_close(v);
	return rc;
}

static int live_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct live *l = self;
	for (uint32_t first = 0, next; first < n; first = next) { /* runs of groups of one version */
		struct scorer *s;
		int rc = version_of(l, groups[first]->step, &s, e);
		for (next = first + 1; next < n && groups[next]->step / l->every == groups[first]->step / l->every; next++) continue;
		if (rc == 0) rc = s->score(s->self, groups + first, next - first, out, e);
		if (rc < 0) return rc;
		out += scorer_offset(s, groups + first, next - first);
	}
	return 0;
}

static int live_version_at(void *self, uint64_t step, char version[GROUP_VERSION], struct err *e)
{
	struct scorer *s;
	int rc = version_of(self, step, &s, e);
	if (rc == 0) memcpy(version, s->version, GROUP_VERSION);
	return rc;
}

static void live_close(struct scorer *s)
{
	struct live *l = s->self;
	for (int i = 0; i < REWARD_LIVE_OPEN; i++) version_close(&l->open[i]);
	scorer_close(l->start);
	free(l->folder);
	free(l);
	free(s);
}

int reward_live_scorer_open(struct scorer **out, struct reward_model *start, const char *folder, uint64_t every, struct backend *backend, struct err *e)
{
	struct scorer *s = calloc(1, sizeof *s);
	struct live *l = calloc(1, sizeof *l);
	char *copy = strdup(folder);
	*out = NULL;
	CHECK(every > 0, "a live reward model that changes every 0 steps");
	if (!s || !l || !copy) {
		free(s);
		free(l);
		free(copy);
		return err_set(e, ERR_MEMORY, "no memory for a scorer");
	}
	int rc = reward_model_scorer_open(&l->start, start, e);
	l->folder = copy;
	l->every = every;
	l->most = start->most;
	l->backend = backend;
	s->self = l;
	s->close = live_close;
	if (rc < 0) {
		live_close(s);
		return rc;
	}
	memcpy(s->name, l->start->name, sizeof s->name);
	memcpy(s->version, l->start->version, sizeof s->version);
	s->terms = l->start->terms;
	memcpy(s->term_name, l->start->term_name, sizeof s->term_name);
	s->score = live_score;
	s->version_at = live_version_at;
	*out = s;
	return 0;
}
