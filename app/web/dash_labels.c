/* The dashboard's statistics of a campaign: how fast people answer, how far they
 * agree, what sways them that should not. The functions are those of agreement.h;
 * what counts is what counts everywhere (store/labels.h), by the first criterion.
 * Labels are read under the reader's lock, figures are computed outside it, so
 * that nobody who labels waits for a bootstrap. */
#include "app/web/agreement.h"
#include "app/web/campaign.h"
#include "app/web/flow.h"
#include "app/web/web.h"

#include "app/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 400, HOURS = 24 * 14 };

struct counted {
	struct judgement *j;
	size_t n;
	uint32_t *length; /* [items, GROUP_MAX], bytes of the texts */
	uint32_t room;    /* items */
	json_t *hours, *outcomes;
	double median;
	int64_t last, gold;
	double gold_share;
	struct err *e;
};

static int add_lengths(void *ctx, const struct labels_item *it)
{
	struct counted *c = ctx;
	if (it->number >= c->room) {
		uint32_t room = it->number * 2 + 256;
		uint32_t *grown = realloc(c->length, (size_t)room * GROUP_MAX * sizeof *grown);
		if (!grown) return report_memory(c->e);
		memset(grown + (size_t)c->room * GROUP_MAX, 0, (size_t)(room - c->room) * GROUP_MAX * sizeof *grown);
		c->length = grown;
		c->room = room;
	}
	for (uint32_t k = 0; k < it->size; k++) c->length[(size_t)it->number * GROUP_MAX + k] = (uint32_t)strlen(it->candidate[k].text);
	return 0;
}

static uint32_t length_of(const void *ctx, uint32_t item, uint32_t candidate)
{
	const struct counted *c = ctx;
	return item < c->room ? c->length[(size_t)item * GROUP_MAX + candidate] : 0;
}

static int add_hour(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	json_array_append_new(ctx, json_pack("[I,I]", (json_int_t)atoll(values[0]), (json_int_t)atoll(values[1])));
	return 0;
}

static int add_outcome(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	json_object_set_new(ctx, values[0], json_integer((json_int_t)atoll(values[1])));
	return 0;
}

static int take_median(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	if (values[0]) *(double *)ctx = atof(values[0]) / 1000;
	return 0;
}

/* Under the reader's lock. */
static int count(struct labels *l, int64_t campaign, struct counted *c, struct err *e)
{
	char sql[400];
	struct flow_campaign known;
	int rc;
	TRY(flow_campaign_load(l, campaign, &known, e));
	TRY(labels_last_event(l, &c->last, e));
	TRY(campaign_judgements(l, campaign, 0, &c->j, &c->n, e));
	TRY(labels_each_item(l, campaign, add_lengths, c, e));
	TRY(flow_expected_share(l, campaign, 0, "gold", &c->gold, &c->gold_share, e));
	snprintf(sql, sizeof sql, "SELECT CAST(time / 3600 AS INTEGER) AS hour, count(*) FROM labels WHERE campaign = %lld GROUP BY hour ORDER BY hour DESC LIMIT %d",
		(long long)campaign, HOURS);
	TRY(labels_query(l, sql, add_hour, c->hours, e));
	snprintf(sql, sizeof sql, "SELECT outcome, count(*) FROM labels WHERE campaign = %lld GROUP BY outcome ORDER BY outcome", (long long)campaign);
	TRY(labels_query(l, sql, add_outcome, c->outcomes, e));
	snprintf(sql, sizeof sql, "SELECT visible_ms FROM labels WHERE campaign = %lld AND visible_ms > 0 ORDER BY visible_ms"
		" LIMIT 1 OFFSET (SELECT count(*) / 2 FROM labels WHERE campaign = %lld AND visible_ms > 0)", (long long)campaign, (long long)campaign);
	TRY(labels_query(l, sql, take_median, &c->median, e));
out:
	return rc;
}

static json_t *value_json(const struct agreement_value *v)
{
	return json_pack("{s:o,s:o,s:o}", "value", report_number(v->value), "low", report_number(v->low), "high", report_number(v->high));
}

static json_t *share_json(struct agreement_share s)
{
	return json_pack("{s:o,s:o,s:o,s:I}", "value", report_number(s.value), "low", report_number(s.low), "high", report_number(s.high), "n", (json_int_t)s.n);
}

static int agree(const struct counted *c, json_t **out, struct err *e)
{
	struct agreement a = {0};
	struct agreement_rating *r = malloc((agreement_ratings_most(c->j, c->n) + 1) * sizeof *r);
	if (!r) return report_memory(e);
	size_t n = agreement_ratings(r, c->j, c->n);
	int rc = agreement_compute(&a, r, n, AGREEMENT_ORDINAL, 1, RESAMPLES, e);
	free(r);
	if (rc < 0) return rc;
	*out = json_pack("{s:I,s:I,s:i,s:o,s:o,s:o,s:o,s:o}", "units", (json_int_t)a.units, "ratings", (json_int_t)a.ratings, "raters", (int)a.raters, "raw",
		value_json(&a.raw), "cohen", value_json(&a.cohen), "fleiss", value_json(&a.fleiss), "alpha", value_json(&a.alpha), "ceiling",
		report_number(agreement_ceiling(a.raw.value)));
	return 0;
}

/* {last_event, hours: [[hour since 1970, answers]…] newest first, outcomes, median_seconds, gold, agreement, left, place, length}. */
static int on_statistics(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct web *w = ctx;
	struct counted c = {.hours = json_array(), .outcomes = json_object(), .median = NAN, .e = e};
	json_t *agreement = NULL, *places = json_array();
	int64_t campaign;
	int rc;
	TRY(web_number(q->param[0], &campaign, e));
	web_read_lock(w);
	rc = count(w->reader, campaign, &c, e);
	web_read_unlock(w);
	TRY(rc);
	TRY(agree(&c, &agreement, e));
	for (uint32_t k = 0; k < 4; k++) json_array_append_new(places, share_json(agreement_place_wins(c.j, c.n, k)));
	http_reply_json(r, 200, json_pack("{s:I,s:I,s:O,s:O,s:o,s:{s:I,s:o},s:O,s:o,s:O,s:o}", "last_event", (json_int_t)c.last, "answers", (json_int_t)c.n, "hours",
		c.hours, "outcomes", c.outcomes, "median_seconds", report_number(c.median), "gold", "n", (json_int_t)c.gold, "value", report_number(c.gold_share),
		"agreement", agreement, "left", share_json(agreement_left_wins(c.j, c.n)), "places", places, "length",
		share_json(agreement_length_wins(c.j, c.n, length_of, &c))));
out:
	free(c.j);
	free(c.length);
	json_decref(c.hours);
	json_decref(c.outcomes);
	json_decref(agreement);
	json_decref(places);
	return rc;
}

const struct http_route web_statistics_routes[] = {
	{"GET", "/api/owner/campaigns/{}/statistics", WEB_OWNER, 0, on_statistics, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
