/* The learned reward model as a scorer: the term `model`, and `model_std` where
 * it is an ensemble. The version is the model's, a hash of its weights, so a
 * stored score says which weights gave it. */
#include "reward/reward_model.h"

#include <stdlib.h>
#include <string.h>

struct learned {
	struct reward_model *model;
	const struct scorer *scorer;
	double *score, *spread; /* [room] */
	size_t room;
};

static int make_room(struct learned *l, size_t n, struct err *e)
{
	if (n <= l->room) return 0;
	free(l->score);
	free(l->spread);
	l->score = malloc(n * sizeof *l->score);
	l->spread = malloc(n * sizeof *l->spread);
	l->room = l->score && l->spread ? n : 0;
	return l->room ? 0 : err_set(e, ERR_MEMORY, "no memory for %zu scores", n);
}

/* What came over the network must fit the model. */
static int check_group(const struct model *m, const struct group *g, struct err *e)
{
	if (!g->tokens)
		return err_set(e, ERR_FORMAT, "group %llu/%u comes without tokens, which the reward model reads", (unsigned long long)g->step, g->slot);
	int64_t tokens = (int64_t)g->prompt_tokens + group_response_tokens(g);
	for (int64_t i = 0; i < tokens; i++)
		if (g->tokens[i] < 0 || g->tokens[i] >= m->shape.vocab)
			return err_set(e, ERR_RANGE, "group %llu/%u has token %d; the reward model's vocabulary is %lld", (unsigned long long)g->step, g->slot,
				       g->tokens[i], (long long)m->shape.vocab);
	for (uint32_t i = 0; i < g->size; i++)
		if ((int64_t)g->prompt_tokens + g->length[i] > m->shape.max_positions)
			return err_set(e, ERR_RANGE, "group %llu/%u, completion %u: longer than the reward model's %lld positions", (unsigned long long)g->step,
				       g->slot, i, (long long)m->shape.max_positions);
	return 0;
}

static int learned_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct learned *l = self;
	size_t total = 0, at = 0;
	for (uint32_t i = 0; i < n; i++) {
		int rc = check_group(l->model->member[0].model, groups[i], e);
		if (rc < 0) return rc;
		total += groups[i]->size;
	}
	int rc = make_room(l, total, e);
	if (rc < 0) return rc;
	reward_model_scores(l->model, groups, n, l->score, l->spread);
	for (uint32_t i = 0; i < n; at += groups[i++]->size)
		for (uint32_t t = 0; t < l->scorer->terms; t++)
			for (uint32_t c = 0; c < groups[i]->size; c++) *out++ = (float)(t == 0 ? l->score : l->spread)[at + c];
	return 0;
}

static void learned_close(struct scorer *s)
{
	struct learned *l = s->self;
	free(l->score);
	free(l->spread);
	free(l);
	free(s);
}

int reward_model_scorer_open(struct scorer **out, struct reward_model *m, struct err *e)
{
	struct scorer *s = calloc(1, sizeof *s);
	struct learned *l = calloc(1, sizeof *l);
	*out = NULL;
	if (!s || !l) {
		free(s);
		free(l);
		return err_set(e, ERR_MEMORY, "no memory for a scorer");
	}
	l->model = m;
	l->scorer = s;
	s->self = l;
	memcpy(s->name, "model", 6);
	memcpy(s->version, m->version, sizeof s->version);
	s->terms = m->members > 1 ? 2 : 1;
	memcpy(s->term_name[0], "model", 6);
	if (s->terms > 1) memcpy(s->term_name[1], "model_std", 10);
	s->score = learned_score;
	s->close = learned_close;
	*out = s;
	return 0;
}
