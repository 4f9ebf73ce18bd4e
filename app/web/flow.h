/* What a person sees next in a campaign: guidelines to accept, a question, or why
 * there is none. Everything follows from labels.db and the campaign's seed, so a
 * reload, a second tab or a restart of the server shows the same question. One
 * thing does not: which duel is the most informative depends on how far people
 * are trusted at that moment (trust.h); once laid out, it is in the file with the
 * probability it was chosen with.
 *
 * A person takes prompts one after the other. Of each: the questions that
 * pick_next gives, one for each criterion over the same layout; a question that
 * was answered and taken back comes before any other. Between prompts, gold items
 * and swapped repeats are mixed in by chance; they look like any other. Before the
 * first prompt come the items of the qualification round, with the share that must
 * be right. */
#ifndef TENFOLD_APP_WEB_FLOW_H
#define TENFOLD_APP_WEB_FLOW_H

#include "app/web/campaign.h"
#include "app/web/trust.h"
#include "store/labels.h"

/* a of RNG_CAMPAIGN */
enum { FLOW_OVERLAP = 0, FLOW_GOLD = 1, FLOW_REPEAT = 2, FLOW_LAYOUT = 3 };

enum flow_state {
	FLOW_ASK = 1,
	FLOW_GUIDELINES, /* a version that was not accepted yet */
	FLOW_FINISHED,   /* nothing is left for this person */
	FLOW_FAILED,     /* the qualification round */
	FLOW_OPTED_OUT,
	FLOW_CLOSED,     /* the campaign is paused or closed, or full */
};
const char *flow_state_name(enum flow_state s);

struct flow {
	enum flow_state state;
	struct labels_ask ask;            /* of FLOW_ASK */
	char assigned[LABELS_WORD];       /* its assignment's kind */
	uint32_t most;                    /* questions of this prompt at most, criteria included */
	uint32_t answered;                /* of them so far */
	int full;                         /* the campaign has its max_labels: what was begun is finished, nothing more is given out */
};

struct flow_campaign {
	int64_t campaign;
	char state[LABELS_WORD];
	int guidelines; /* newest version */
	struct campaign_options options;
	struct trust *trust; /* NULL: everybody is trusted alike */
};
/* ERR_NOT_FOUND. trust is left as it is. */
int flow_campaign_load(struct labels *l, int64_t campaign, struct flow_campaign *c, struct err *e);

/* The person must be a member. Writes what it gives out (assignment, ask) in one transaction. */
int flow_next(struct labels *l, const struct flow_campaign *c, int64_t person, struct flow *f, struct err *e);
/* Takes back an answer of the person (labels_undo), whose prompt is then open again. */
int flow_undo(struct labels *l, const char *key, int64_t person, int64_t event, int64_t *undo, struct err *e);
/* Share of the person's gold or qualification questions (assigned) that are right; *n how many; NaN for none. */
int flow_expected_share(struct labels *l, int64_t campaign, int64_t person, const char *assigned, int64_t *n, double *share, struct err *e);
/* A duel of candidates a and b for whoever settles it. */
int flow_adjudicate(struct labels *l, int64_t item, int64_t person, int a, int b, struct err *e);

#endif
