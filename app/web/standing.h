/* What a campaign is estimated to cost and what its answers are worth so far, kept
 * between requests: the first never changes, the second is computed again when
 * there are new answers and a twentieth of one core is not exceeded by it. So the
 * owner's page and the stop rule may ask as often as they like. */
#ifndef TENFOLD_APP_WEB_STANDING_H
#define TENFOLD_APP_WEB_STANDING_H

#include "app/web/campaign.h"

struct standing_list;

struct standing {
	struct campaign_estimate before;
	struct estimate now;
};

struct standing_list *standing_open(void);
void standing_close(struct standing_list *s);
/* *out lives until the list is closed, and changes at the next call. For one thread at a time, as l. */
int standing_get(struct standing_list *s, struct labels *l, int64_t campaign, const struct campaign_options *o, const struct standing **out, struct err *e);

#endif
