/* From labels to judgements, and what the answers of a campaign are worth so far. */
#include "app/web/campaign.h"
#include "reward/posterior.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gathering {
	struct judgement *j;
	size_t count, room;
	struct err *e;
};

static int gather(void *ctx, const struct labels_label *r)
{
	struct gathering *g = ctx;
	if (r->criterion || (strcmp(r->assigned, "task") && strcmp(r->assigned, "adjudication"))) return 0;
	if (g->count == g->room) {
		size_t room = 2 * g->room + 16;
		struct judgement *j = realloc(g->j, room * sizeof *j);
		if (!j) return err_set(g->e, ERR_MEMORY, "no memory for answers");
		g->j = j;
		g->room = room;
	}
	struct judgement *j = &g->j[g->count++];
	*j = (struct judgement){.item = r->number, .person = (uint32_t)r->person, .kind = (enum judgement_kind)r->kind, .count = r->count,
		.strength = (uint8_t)r->strength};
	memcpy(j->shown, r->shown, sizeof j->shown);
	memcpy(j->rank, r->rank, sizeof j->rank);
	return 0;
}

int campaign_judgements(struct labels *l, int64_t campaign, int64_t item, struct judgement **j, size_t *count, struct err *e)
{
	struct gathering g = {.e = e};
	int rc = labels_each_label(l, &(struct labels_query){.campaign = campaign, .item = item}, gather, &g, NULL, e);
	if (rc < 0) {
		free(g.j);
		return rc;
	}
	*j = g.j;
	*count = g.count;
	return 0;
}

struct summing {
	struct judgement *j; /* by item */
	size_t at, count;
	struct estimate *x;
	uint32_t size; /* of the last prompt */
};

/* Items come by number, as the judgements do: number, role, size. */
static int add_item(void *ctx, int columns, const char *const *names, const char *const *values)
{
	struct summing *s = ctx;
	struct posterior p;
	struct posterior_model m = posterior_model_default();
	size_t from = s->at, ranked = 0;
	uint32_t number = (uint32_t)atoll(values[0]), size = (uint32_t)atoll(values[2]);
	(void)columns;
	(void)names;
	while (s->at < s->count && s->j[s->at].item == number) ranked += (size_t)judgement_ranked(&s->j[s->at++]);
	if (strcmp(values[1], "task")) return 0;
	s->size = size;
	if (ranked) posterior_fit(&p, &m, s->j + from, s->at - from, size);
	estimate_add(s->x, ranked ? &p : NULL, ranked);
	return 0;
}

static int by_item(const void *x, const void *y)
{
	const struct judgement *a = x, *b = y;
	return (a->item > b->item) - (a->item < b->item);
}

int campaign_progress(struct labels *l, int64_t campaign, const struct campaign_options *o, struct estimate *x, struct err *e)
{
	struct summing s = {.x = x, .size = GROUP_MAX};
	char sql[120];
	estimate_begin(x);
	int rc = campaign_judgements(l, campaign, 0, &s.j, &s.count, e);
	if (rc < 0) return rc;
	if (s.count) qsort(s.j, s.count, sizeof *s.j, by_item);
	snprintf(sql, sizeof sql, "SELECT number, role, size FROM items WHERE campaign = %lld ORDER BY number", (long long)campaign);
	rc = labels_query(l, sql, add_item, &s, e);
	estimate_end(x, o->accuracy, 0, s.size);
	free(s.j);
	return rc;
}
