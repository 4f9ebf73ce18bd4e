/* What the owner of a campaign chose, as kept in labels.db (campaigns.options, a
 * JSON object of the field names below; what is left out has its default). It
 * never changes once the campaign is made: what was asked follows from it. */
#ifndef TENFOLD_APP_WEB_CAMPAIGN_H
#define TENFOLD_APP_WEB_CAMPAIGN_H

#include "app/web/estimate.h"
#include "app/web/pick.h"
#include "core/base/err.h"
#include "store/labels.h"

#include <jansson.h>
#include <stdint.h>

enum { CAMPAIGN_CRITERIA = 8, CAMPAIGN_QUESTION = 256 };

struct campaign_criterion {
	char name[LABELS_NAME], question[CAMPAIGN_QUESTION];
};

struct campaign_options {
	struct pick_options pick;     /* seed, uniform, other_design, stop_gain, short_words, long_words, quads, duels, duels_alone */
	struct campaign_criterion criterion[CAMPAIGN_CRITERIA];
	uint32_t criteria;
	uint32_t labels_each;         /* people per prompt */
	double overlap;               /* share of the prompts that go to overlap_labels people */
	uint32_t overlap_labels;
	double gold, repeats;         /* chance that the next task is one: a gold item; an earlier question swapped */
	uint32_t qualification;       /* items of that role before the first task; 0: none */
	double pass;                  /* share of them that must be right */
	double lease_seconds;         /* one who took a prompt and does nothing keeps it so long */
	int64_t max_labels;           /* stop rule: the campaign is full with that many answers; 0: no limit */
	double accuracy;              /* of pairs that is aimed at */
	uint32_t stop;                /* 1: the server closes the campaign when its answers promise that accuracy */
	char warning[1024];           /* shown before the first task, with a way out; "": none */
};

void campaign_defaults(struct campaign_options *o);
/* ERR_RANGE, ERR_FORMAT naming the key. */
int campaign_read(struct campaign_options *o, const char *json, struct err *e);
int campaign_read_json(struct campaign_options *o, const json_t *j, struct err *e);
json_t *campaign_write(const struct campaign_options *o);
/* People for the prompt of that number; ctx for labels_next_item. */
uint32_t campaign_needs(void *options, uint32_t number);

/* How much work a campaign is, from its items and its options: questions at most, and hours by the assumed times of
 * docs/labelling.md (25 s a first reading, 7 s for a second look, 4 s to decide). */
struct campaign_estimate {
	int64_t items, people_items; /* prompts; prompts times people */
	int64_t questions;
	double hours, accuracy;      /* accuracy of pairs to expect from the design, by the simulated figures; NaN: not known */
};
int campaign_estimate(struct labels *l, int64_t campaign, const struct campaign_options *o, struct campaign_estimate *x, struct err *e);
/* What the answers so far are worth and how many are missing for the accuracy that is aimed at (estimate.h). */
int campaign_progress(struct labels *l, int64_t campaign, const struct campaign_options *o, struct estimate *x, struct err *e);

/* Answers to tasks and their adjudications by the first criterion, as judgements: item is the number in the campaign, person
 * the number in labels.db. *j is malloc'ed, ordered by event. item 0: all. */
int campaign_judgements(struct labels *l, int64_t campaign, int64_t item, struct judgement **j, size_t *count, struct err *e);

#endif
