/* Taking a hand-in: what is checked before a group counts; see server.h. */
#include "core/base/fault.h"
#include "core/base/group_copy.h"
#include "ppo/server_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The group against the prompt it answers. */
static int check_prompt(const struct server_step *t, const struct server_slot *slot, const struct group *g, struct err *e)
{
	const struct message_lease_item *it = &slot->item;
	if (slot->leases == 0) return err_set(e, ERR_STATE, "prompt %u was never leased", it->prompt);
	if (g->policy_version != t->policy_version)
		return err_set(e, ERR_STATE, "it was sampled from weights version %llu, this step samples from %llu", (unsigned long long)g->policy_version,
			       (unsigned long long)t->policy_version);
	if (g->prompt != it->prompt) return err_set(e, ERR_MISMATCH, "it answers prompt %u, the slot has prompt %u", g->prompt, it->prompt);
	if (g->prompt_tokens != it->token_count || memcmp(g->tokens, it->tokens, it->token_count * sizeof *it->tokens) != 0)
		return err_set(e, ERR_MISMATCH, "its prompt's tokens are not those that were leased");
	return 0;
}

static int check_rewards(const struct ppo_server *s, const struct server_step *t, const struct group *g, struct err *e)
{
	float reward[GROUP_MAX];
	struct group copy = *g;
	if (s->options.unscored) return 0;
	if (g->terms == 0) return err_set(e, ERR_STATE, "it has no scores");
	if (t->scorer_version[0] && strcmp(t->scorer_version, g->scorer_version) != 0)
		return err_set(e, ERR_MISMATCH, "its scores are of version \"%s\", this step's of \"%s\": start all services alike", g->scorer_version,
			       t->scorer_version);
	if (!s->options.rule) return 0;
	int rc = reward_combine(&copy, reward, s->options.rule, e);
	if (rc < 0) return rc;
	for (uint32_t i = 0; i < g->size; i++)
		if (memcmp(&reward[i], &g->reward[i], sizeof reward[i]) != 0)
			return err_set(e, ERR_MISMATCH, "completion %u has reward %.9g, the learner's rule makes it %.9g of its scores: worker and learner need "
				       "the same reward.terms", i, (double)g->reward[i], (double)reward[i]);
	return 0;
}

static int check_group(const struct ppo_server *s, const struct server_step *t, const struct server_slot *slot, const struct group *g, struct err *e)
{
	int rc = 0;
	TRY(check_prompt(t, slot, g, e));
	if (g->size != s->options.group_size)
		return err_set(e, ERR_RANGE, "it has %u completions, groups of this run have %u", g->size, s->options.group_size);
	for (uint32_t i = 0; i < g->size && s->options.max_new; i++)
		if (g->length[i] > s->options.max_new)
			return err_set(e, ERR_RANGE, "completion %u has %u tokens, at most %u are allowed", i, g->length[i], s->options.max_new);
	TRY(check_rewards(s, t, g, e));
out:
	return rc;
}

static void answer(struct ppo_server *s, const struct wire_frame *f, const struct group *g, int duplicate)
{
	struct message reply;
	message_init(&reply, MESSAGE_GOT, s->run);
	reply.got = (struct message_got){g->step, g->slot, (uint32_t)duplicate};
	server_send(s, &f->peer, &reply);
}

static void take_again(struct ppo_server *s, const struct wire_frame *f, int w, struct server_step *t, const struct server_slot *slot, const struct group *g)
{
	char text[200];
	s->counters.duplicates++;
	s->workers[w].info.duplicates++;
	if (group_difference(&slot->group, g, text, sizeof text)) {
		s->counters.conflicts++;
		server_event(s, PPO_EVENT_CONFLICT, t->step, slot, w, text);
	}
	answer(s, f, g, 1);
}

static void take_late(struct ppo_server *s, const struct wire_frame *f, int w, const struct group *g, const char *why)
{
	struct server_slot late = {.item = {.slot = g->slot, .prompt = g->prompt}};
	s->counters.late++;
	s->workers[w].info.duplicates++;
	server_event(s, PPO_EVENT_LATE, g->step, &late, w, why);
	answer(s, f, g, 1);
}

static int accept(struct ppo_server *s, int w, struct server_step *t, struct server_slot *slot, const struct group *g, double now, struct err *e)
{
	int rc = group_copy(&slot->group, g, t->arena, e);
	if (rc < 0) return rc;
	struct server_worker *p = &s->workers[w];
	memcpy(t->scorer_version, g->scorer_version, sizeof t->scorer_version);
	slot->state = SLOT_DONE;
	slot->worker = w;
	t->done++;
	s->counters.groups++;
	p->info.groups++;
	p->info.tokens += group_response_tokens(g);
	for (struct server_step *x = s->steps; x; x = x->next) /* a sign of life for what else it holds */
		for (uint32_t i = 0; i < x->n; i++)
			if (x->slots[i].state == SLOT_LEASED && x->slots[i].worker == w) x->slots[i].deadline = now + s->options.lease_seconds;
	if (t->done == t->n) pthread_cond_broadcast(&s->changed);
	return 0;
}

void server_take_group(struct ppo_server *s, const struct wire_frame *f, int w, const struct message *m, double now)
{
	struct err e;
	const struct group *g = &m->group;
	struct server_step *t = server_find_step(s, g->step);
	struct server_slot *slot = t ? server_find_slot(t, g->slot) : NULL;
	int rc = 0;
	if (!t && s->any_step && g->step <= s->last_step) {
		take_late(s, f, w, g, "the step is over");
		return;
	}
	if (slot && (slot->state == SLOT_ASIDE || (slot->refills && g->prompt != slot->item.prompt))) {
		take_late(s, f, w, g, "the prompt was set aside");
		return;
	}
	if (slot && slot->state == SLOT_DONE) {
		take_again(s, f, w, t, slot, g);
		return;
	}
	if (!t) rc = err_set(&e, ERR_STATE, "step %llu is not open yet", (unsigned long long)g->step);
	else if (!slot) rc = err_set(&e, ERR_RANGE, "step %llu has no slot %u", (unsigned long long)g->step, g->slot);
	else rc = check_group(s, t, slot, g, &e);
	FAULT_POINT("server.before_accept", "a handed-in group is checked, not kept");
	if (rc == 0) rc = accept(s, w, t, slot, g, now, &e);
	FAULT_POINT("server.before_got", "a handed-in group is kept in memory, its worker has no answer");
	if (rc == 0) {
		answer(s, f, g, 0);
		return;
	}
	err_prefix(&e, "group %llu/%u", (unsigned long long)g->step, g->slot);
	server_event(s, PPO_EVENT_REFUSED, g->step, slot, w, e.msg);
	server_refuse(s, &f->peer, m, w, &e);
	if (slot && slot->state == SLOT_LEASED && slot->worker == w) server_lose_slot(s, t, slot, 0, "its group was refused");
}
