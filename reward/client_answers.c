/* What a service sends back, and what it means for the groups under way. A
 * service that turns out unsuitable is set aside with a reason, and what it held
 * goes elsewhere at once; it is asked again from time to time, and a fitting
 * answer takes it back. */
#include "core/base/log.h"
#include "reward/client_internal.h"

#include <stdio.h>
#include <string.h>

static struct pending *find(struct reward_client *c, uint64_t step, uint32_t slot)
{
	for (uint32_t i = 0; i < c->slots; i++) {
		struct group *g = c->pending[i].group;
		if (g && g->step == step && g->slot == slot) return &c->pending[i];
	}
	return NULL;
}

static void set_reason(struct service *s, const char *reason)
{
	snprintf(s->reason, sizeof s->reason, "%s: %s", wire_endpoint(s->socket), reason);
}

/* Sends everything that waits for `service` elsewhere; the first that nobody takes is given back with an error. */
static int move_away(struct reward_client *c, uint32_t service, struct group **scored, struct err *e)
{
	for (uint32_t i = 0; i < c->slots; i++) {
		struct pending *p = &c->pending[i];
		if (!p->group || p->at != service) continue;
		int rc = client_send(c, p, e);
		if (rc < 0) {
			*scored = p->group;
			client_release(c, p);
			return rc;
		}
	}
	return 0;
}

static int set_aside(struct reward_client *c, uint32_t service, const char *reason, struct group **scored, struct err *e)
{
	struct service *s = &c->services[service];
	set_reason(s, reason);
	if (!s->aside) log_error("scoring service set aside: %s", s->reason);
	s->aside = 1;
	s->pause = c->backoff_max;
	return move_away(c, service, scored, e);
}

/* Where the version of a group's scores is kept: one for the run, or one for each period of a live reward model. */
static char *pinned_version(struct reward_client *c, uint64_t step)
{
	if (!c->live_every) return c->version;
	uint64_t period = step / c->live_every, at = period % CLIENT_LIVE;
	if (c->live[at].period != period) c->live[at].version[0] = 0;
	c->live[at].period = period;
	return c->live[at].version;
}

/* Writes why a service with this version and these terms does not fit, or nothing. pinned: the version it must have, which it
 * gives when it is empty; NULL: any. */
static void check_offer(struct reward_client *c, char *pinned, const char *version, const char (*term)[GROUP_TERM_NAME], uint32_t terms,
                        char *why, size_t room)
{
	why[0] = 0;
	if (pinned && pinned[0] && strcmp(pinned, version) != 0) {
		snprintf(why, room, "it scores with version \"%s\", this run with \"%s\": start all services alike", version, pinned);
		return;
	}
	for (uint32_t t = 0; c->combine && t < c->rule.terms.count; t++) {
		uint32_t k = 0;
		while (k < terms && strcmp(term[k], c->rule.terms.name[t]) != 0) k++;
		if (k < terms) continue;
		snprintf(why, room, "it does not give the term \"%s\" that reward.terms names", c->rule.terms.name[t]);
		return;
	}
	if (pinned) strcpy(pinned, version);
}

static int take_ready(struct reward_client *c, uint32_t service, const struct message *m, struct group **scored, struct err *e)
{
	char why[256];
	struct service *s = &c->services[service];
	check_offer(c, c->live_every ? NULL : c->version, m->ready.scorer_version, m->ready.term_name, m->ready.terms, why, sizeof why);
	if (why[0]) return set_aside(c, service, why, scored, e);
	if (s->aside) log_info("scoring service %s fits again", wire_endpoint(s->socket));
	s->aside = 0;
	s->reason[0] = 0;
	return 0;
}

static int take_scores(struct reward_client *c, uint32_t service, const struct message *m, struct group **scored, struct err *e)
{
	const struct message_scores *v = &m->scores;
	char why[256];
	struct pending *p = find(c, v->step, v->slot);
	if (!p) {
		c->counters.late++;
		return 0;
	}
	check_offer(c, pinned_version(c, v->step), v->scorer_version, v->term_name, v->terms, why, sizeof why);
	if (!why[0] && v->size != p->group->size)
		snprintf(why, sizeof why, "it gave %u scores for a group of %u", v->size, p->group->size);
	if (why[0]) return set_aside(c, service, why, scored, e);
	struct group *g = p->group;
	size_t count = (size_t)v->terms * v->size;
	float *scores = arena_alloc(p->arena, count * sizeof *scores), *reward = arena_alloc(p->arena, v->size * sizeof *reward);
	if (!scores || !reward) return err_set(e, ERR_MEMORY, "no memory for the scores of a group");
	memcpy(scores, v->values, count * sizeof *scores);
	g->terms = v->terms;
	g->scores = scores;
	memcpy(g->term_name, v->term_name, sizeof g->term_name);
	memcpy(g->scorer_version, v->scorer_version, sizeof g->scorer_version);
	client_release(c, p);
	c->counters.scored++;
	*scored = g;
	int rc = c->combine ? reward_combine(g, reward, &c->rule, e) : 0;
	return rc < 0 ? rc : 1;
}

static int take_refusal(struct reward_client *c, uint32_t service, const struct message *m, struct group **scored, struct err *e)
{
	struct service *s = &c->services[service];
	c->counters.refusals++;
	if (strcmp(m->refuse.about, "health") == 0) return 0; /* it need not keep counters */
	if (strcmp(m->refuse.about, "score") != 0) return set_aside(c, service, m->refuse.reason, scored, e);
	struct pending *p = find(c, m->refuse.step, m->refuse.slot);
	if (!p) return 0;
	set_reason(s, m->refuse.reason);
	log_warn("group %llu/%u refused by %s", (unsigned long long)m->refuse.step, m->refuse.slot, s->reason);
	p->refused |= 1u << service;
	if (p->at != service) return 0; /* under way elsewhere */
	int rc = client_send(c, p, e);
	if (rc < 0) {
		*scored = p->group;
		client_release(c, p);
	}
	return rc;
}

int client_take(struct reward_client *c, uint32_t service, const struct wire_frame *f, struct group **scored, struct err *e)
{
	struct service *s = &c->services[service];
	struct message m;
	struct err bad;
	arena_reset(c->arena);
	s->silent = 0;
	int rc = message_decode(&m, f->data, f->bytes, c->arena, NULL, &bad);
	if (rc == ERR_MEMORY) return err_set(e, rc, "%s", bad.msg);
	if (rc == 0 && m.type != MESSAGE_REFUSE) rc = message_check_run(&m, c->run, &bad);
	if (rc < 0) return set_aside(c, service, bad.msg, scored, e);
	switch (m.type) {
	case MESSAGE_READY: return take_ready(c, service, &m, scored, e);
	case MESSAGE_SCORES: return take_scores(c, service, &m, scored, e);
	case MESSAGE_REFUSE: return take_refusal(c, service, &m, scored, e);
	default: log_warn("%s sent a message %s, which a client has no use for", wire_endpoint(s->socket), message_type_name(m.type)); return 0;
	}
}
