/* The human labels of labels.db as a reward model is fitted to them: every prompt
 * that somebody answered as a ranked group, the people weighed by crowd.h.
 *
 * What counts is what store/labels.h says as of an event; the same file and event
 * give the same set, bit for bit, however much was labelled since. Repeats (which
 * measure people against themselves) are left out; gold and qualification items
 * say how far a person is to be trusted and are not fitted. A group's ranking is
 * the order of the posterior means, its margins their differences, in log odds of
 * an average honest person; the answers themselves stand beside it, for the loss
 * `answers`. Prompts whose answers all come from people who are not trusted, and
 * those too long for the model, are left out and counted. */
#ifndef TENFOLD_REWARD_LABEL_SET_H
#define TENFOLD_REWARD_LABEL_SET_H

#include "core/base/arena.h"
#include "reward/crowd.h"
#include "reward/rank_eval.h"
#include "reward/task.h"
#include "store/labels.h"

struct label_set_options {
	const char *campaign;  /* name; "": all */
	uint32_t criterion;    /* number of the criterion, from 0 */
	int64_t through;       /* last event that is looked at; 0: the newest */
	const struct task *task; /* says how a prompt is read, and the end token, put after every candidate */
	int64_t max_tokens;    /* of prompt and candidate together */
};

struct label_set {
	int64_t event;         /* the last one looked at */
	char digest[HASH_HEX]; /* of the file as of that event */
	struct ranked_group *group; /* [groups]; group.prompt and group.slot: the item's id */
	uint32_t groups;
	struct crowd crowd;    /* person i is person_id[i]; the last one is the owner's knowledge of gold items */
	struct posterior_model model; /* of crowd */
	int64_t *person_id;
	uint32_t people;       /* without the owner */
	int64_t labels;        /* with a ranking, of what counts */
	int64_t unranked, changed; /* skipped, all bad, …; text changed since */
	int64_t untrusted, too_long; /* prompts left out */
	/* inside */
	struct judgement *judgement; /* [answers], prompt by prompt */
	uint8_t *arm;                /* [answers] 0 none, 1 uniform, 2 gain */
	struct crowd_item *item;     /* [items] */
	int64_t *item_id;            /* [items] in labels.db, rising */
	size_t answers;
	uint32_t items;
};

/* Texts and tokens are put into `arena`. ERR_NOT_FOUND: no such campaign, or no label with a ranking; ERR_NOT_FOUND too: a dialogue and a tokenizer
 * without a chat template. */
int label_set_read(struct label_set *out, struct labels *l, const struct label_set_options *o, struct arena *arena, struct err *e);
/* Without groups: item, item_id, judgement, people and the model. Of o: campaign, criterion, through. telling: only that many of
 * the newest prompts that several people answered or whose answer is known, which is what tells how far people are to be
 * trusted; 0: all. ERR_NOT_FOUND: no such campaign, or nothing to fit to. */
int label_set_people(struct label_set *out, struct labels *l, const struct label_set_options *o, uint32_t telling, struct err *e);
void label_set_free(struct label_set *s);

/* How often the scores agree with answers, one by one, ties aside; people who are not trusted are left out. */
struct label_accuracy {
	double value, low, high; /* 95 %, prompts as the independent units; NaN of none */
	int64_t pairs, prompts;
};
enum label_arm {
	LABEL_UNIFORM = 1, /* duels drawn uniformly, whatever was answered: an unbiased sample of pairs */
	LABEL_GAIN = 2,    /* duels chosen by information: the hard pairs */
	LABEL_QUADS = 3,   /* pairs that best and worst decide: the two in the middle, which are hard, are missing */
};
/* groups: of this set, in any order; score: by candidate, group after group. */
struct label_accuracy label_set_accuracy(const struct label_set *s, const struct ranked_group *groups, uint32_t n, const double *score, enum label_arm arm);

#endif
