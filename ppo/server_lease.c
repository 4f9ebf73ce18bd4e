/* Leases: which prompts go to whom, and what becomes of those that do not come
 * back.
 *
 * An ask that finds nothing free is kept (parked) and answered as soon as a step
 * opens or a lease runs out, or with `wait` after PARK_SECONDS: so a step begins
 * without the delay of polling. A worker asks when it has nothing left to do;
 * what it then still holds (an answer that was lost on the way) is free again.
 * A lease runs from the last group its worker handed in. */
#include "core/base/fault.h"
#include "ppo/server_internal.h"

#include <stdio.h>
#include <string.h>

#define PARK_SECONDS 0.5
#define WAIT_SECONDS 0.05

struct server_step *server_find_step(const struct ppo_server *s, uint64_t step)
{
	struct server_step *t = s->steps;
	while (t && t->step != step) t = t->next;
	return t;
}

struct server_slot *server_find_slot(struct server_step *t, uint32_t slot)
{
	uint32_t low = 0, high = t->n;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (t->slots[mid].item.slot == slot) return &t->slots[mid];
		if (t->slots[mid].item.slot < slot) low = mid + 1;
		else high = mid;
	}
	return NULL;
}

struct server_weights *server_find_weights(const struct ppo_server *s, uint64_t version)
{
	struct server_weights *v = s->weights;
	while (v && v->version != version) v = v->next;
	return v;
}

void server_lose_slot(struct ppo_server *s, struct server_step *t, struct server_slot *slot, int blame, const char *why)
{
	int w = slot->worker, last = 0;
	if (blame) last = ++slot->losses == s->options.set_aside;
	slot->state = last ? SLOT_ASIDE : SLOT_FREE;
	s->counters.expired++;
	s->workers[w].info.expired++;
	server_event(s, last ? PPO_EVENT_LOST : PPO_EVENT_EXPIRED, t->step, slot, w, why);
	if (!last) return;
	t->aside++;
	pthread_cond_broadcast(&s->changed);
}

void server_free_leases(struct ppo_server *s, int w, int lost)
{
	for (struct server_step *t = s->steps; t; t = t->next)
		for (uint32_t i = 0; i < t->n; i++) {
			struct server_slot *slot = &t->slots[i];
			if (slot->state != SLOT_LEASED || slot->worker != w) continue;
			if (lost) server_lose_slot(s, t, slot, 1, "the worker came back without it");
			else slot->state = SLOT_FREE;
		}
}

void server_expire(struct ppo_server *s, double now)
{
	char why[64];
	for (struct server_step *t = s->steps; t; t = t->next)
		for (uint32_t i = 0; i < t->n; i++) {
			struct server_slot *slot = &t->slots[i];
			if (slot->state != SLOT_LEASED || slot->deadline > now) continue;
			snprintf(why, sizeof why, "nothing came for %.3g s", s->options.lease_seconds);
			server_lose_slot(s, t, slot, 1, why);
		}
}

/* Prompts of a step for one worker: an equal share, so that all begin. */
static uint32_t share(const struct ppo_server *s, const struct server_step *t, double now)
{
	uint32_t helpers = 0;
	for (int i = 0; i < s->worker_count; i++) helpers += (uint32_t)server_is_live(s, &s->workers[i], now);
	if (s->joined < s->options.expected_workers && helpers < (uint32_t)s->options.expected_workers) helpers = (uint32_t)s->options.expected_workers;
	if (helpers == 0) helpers = 1;
	return (t->n + helpers - 1) / helpers;
}

static int has_free(const struct server_step *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->slots[i].state == SLOT_FREE) return 1;
	return 0;
}

/* Leases prompts of the oldest step that has any to worker w; 1, or 0 when nothing was free or the worker is gone. */
static int give(struct ppo_server *s, int w, double now)
{
	struct server_worker *p = &s->workers[w];
	struct server_step *t = s->steps;
	const struct server_weights *v = NULL;
	for (; t; t = t->next)
		if (has_free(t) && (v = server_find_weights(s, t->policy_version))) break;
	if (!t) return 0;
	uint32_t most = share(s, t, now), count = 0;
	if (most > p->capacity) most = p->capacity;
	if (most > MESSAGE_LEASE_MAX) most = MESSAGE_LEASE_MAX;
	struct message_lease_item *items = arena_must(s->arena, most, sizeof *items);
	size_t bytes = 0;
	for (uint32_t i = 0; i < t->n && count < most; i++) {
		struct server_slot *slot = &t->slots[i];
		if (slot->state != SLOT_FREE || (slot->losses && count)) continue;
		bytes += slot->item.token_count * sizeof(int32_t) + strlen(slot->item.text) + 32;
		if (count > 0 && bytes > s->options.limits.bytes / 2) break;
		items[count++] = slot->item;
		slot->state = SLOT_LEASED;
		slot->worker = w;
		slot->deadline = now + s->options.lease_seconds;
		slot->leases++;
		if (slot->losses) break; /* alone */
	}
	struct message m;
	message_init(&m, MESSAGE_LEASE, s->run);
	m.lease = (struct message_lease){.step = t->step, .policy_version = t->policy_version, .weights_path = v->path, .weights_bytes = v->map.bytes,
					 .seconds = s->options.lease_seconds, .count = count, .items = items};
	memcpy(m.lease.weights_hash, v->hash, HASH_HEX);
	FAULT_POINT("server.before_lease", "prompts are taken for a worker that does not know yet");
	if (server_try_send(s, &p->peer, &m) < 0) { /* it comes back with a hello, if it comes back */
		server_free_leases(s, w, 0);
		p->info.live = 0;
		p->parked = 0;
		return 0;
	}
	p->info.leased += count;
	p->parked = 0;
	return 1;
}

void server_take_ask(struct ppo_server *s, int w, const struct message *m, double now)
{
	struct server_worker *p = &s->workers[w];
	struct message stop;
	server_free_leases(s, w, 0);
	if (s->stopping) {
		message_init(&stop, MESSAGE_STOP, s->run);
		server_send(s, &p->peer, &stop);
		return;
	}
	p->capacity = m->ask.capacity ? m->ask.capacity : 1;
	p->parked = 1;
	p->until = now + PARK_SECONDS;
	server_expire(s, now);
	give(s, w, now);
}

void server_serve_parked(struct ppo_server *s, double now)
{
	struct message wait;
	message_init(&wait, MESSAGE_WAIT, s->run);
	wait.wait.seconds = WAIT_SECONDS;
	arena_reset(s->arena);
	for (int i = 0; i < s->worker_count; i++) {
		struct server_worker *p = &s->workers[i];
		if (!p->parked || (!s->stopping && give(s, i, now)) || !p->parked) continue;
		if (p->until > now && !s->stopping) continue;
		p->parked = 0; /* stopping: it gets its stop beside this */
		if (!s->stopping) server_send(s, &p->peer, &wait);
	}
}

uint32_t ppo_server_aside(struct ppo_server *s, uint64_t step, uint32_t *slots, uint32_t max)
{
	uint32_t n = 0;
	pthread_mutex_lock(&s->mutex);
	const struct server_step *t = server_find_step(s, step);
	CHECK(t, "step %llu is not open", (unsigned long long)step);
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->slots[i].state != SLOT_ASIDE) continue;
		if (n < max) slots[n] = t->slots[i].item.slot;
		n++;
	}
	pthread_mutex_unlock(&s->mutex);
	return n;
}

void ppo_server_refill(struct ppo_server *s, uint64_t step, const struct ppo_prompt *item)
{
	pthread_mutex_lock(&s->mutex);
	struct server_step *t = server_find_step(s, step);
	struct server_slot *slot = t ? server_find_slot(t, item->slot) : NULL;
	CHECK(slot && slot->state == SLOT_ASIDE, "slot %u of step %llu was not set aside", item->slot, (unsigned long long)step);
	slot->item = server_item(t->arena, item);
	slot->state = SLOT_FREE;
	slot->worker = SERVER_NOBODY;
	slot->leases = slot->losses = 0;
	slot->refills++;
	t->aside--;
	server_wake(s);
	pthread_mutex_unlock(&s->mutex);
}
