/* See standing.h. */
#include "app/web/standing.h"

#include "core/base/fs.h"

#include <stdlib.h>

enum { REST = 20 }; /* seconds of rest for one of work */

struct one {
	struct one *next;
	int64_t campaign, event; /* event: the newest that `now` knows */
	double again;            /* earliest time of the next computation */
	struct standing value;
};

struct standing_list {
	struct one *first;
};

struct standing_list *standing_open(void) { return calloc(1, sizeof(struct standing_list)); }

void standing_close(struct standing_list *s)
{
	while (s && s->first) {
		struct one *o = s->first;
		s->first = o->next;
		free(o);
	}
	free(s);
}

static int find(struct standing_list *s, struct labels *l, int64_t campaign, const struct campaign_options *o, struct one **out, struct err *e)
{
	for (*out = s->first; *out; *out = (*out)->next)
		if ((*out)->campaign == campaign) return 0;
	struct one *x = calloc(1, sizeof *x);
	int rc = x ? campaign_estimate(l, campaign, o, &x->value.before, e) : err_set(e, ERR_MEMORY, "no memory for a campaign");
	if (rc < 0) {
		free(x);
		return rc;
	}
	x->campaign = campaign;
	x->event = -1;
	x->next = s->first;
	*out = s->first = x;
	return 0;
}

int standing_get(struct standing_list *s, struct labels *l, int64_t campaign, const struct campaign_options *o, const struct standing **out, struct err *e)
{
	struct one *x;
	int64_t newest;
	double began = fs_now();
	int rc = find(s, l, campaign, o, &x, e);
	if (rc == 0) rc = labels_last_event(l, &newest, e);
	if (rc < 0) return rc;
	*out = &x->value;
	if (newest == x->event || began < x->again) return 0;
	rc = campaign_progress(l, campaign, o, &x->value.now, e);
	x->event = newest;
	x->again = fs_now() + REST * (fs_now() - began);
	return rc;
}
