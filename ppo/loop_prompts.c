/* Which prompt is in which slot of a step.
 *
 * Epoch after epoch over all prompts, each in its own seeded order. A prompt that
 * crashed its workers again and again is set aside: its slot gets another one, and
 * so do the slots that it would have in later steps. That it happened depends on
 * time, so it is a row of the record ("set_aside", by step and slot) that a replay
 * takes as given. What follows from it does not: the next prompt of a slot is a
 * function of seed, step, slot, of what was set aside in that slot before it, and
 * of what was set aside in steps that were over before the slot's step was opened,
 * counted in steps (lag), not in time. */
#include "ppo/loop_internal.h"

#include "core/base/log.h"
#include "core/base/rng.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void aside_add(struct loop *l, int64_t step, uint32_t slot, uint32_t prompt)
{
	if (l->asides == l->aside_room) {
		l->aside_room = l->aside_room ? 2 * l->aside_room : 64;
		l->aside = realloc(l->aside, (size_t)l->aside_room * sizeof *l->aside);
		CHECK(l->aside, "out of memory for %lld prompts set aside", (long long)l->aside_room);
	}
	l->aside[l->asides++] = (struct loop_aside){step, slot, prompt};
}

/* 1 when the prompt may not be in this slot. */
static int is_aside(const struct loop *l, int64_t step, uint32_t slot, uint32_t prompt)
{
	for (int64_t i = 0; i < l->asides; i++) {
		const struct loop_aside *a = &l->aside[i];
		if (a->prompt != prompt) continue;
		if (a->step + l->o->config->ppo.lag < step || (a->step == step && a->slot == slot)) return 1;
	}
	return 0;
}

static uint32_t planned(struct loop *l, int64_t step, uint32_t slot)
{
	const struct loop_options *o = l->o;
	int64_t at = step * o->config->ppo.prompts + slot, epoch = at / o->prompt_count;
	if (epoch != l->order_epoch) {
		rng_permutation((struct rng_key){(uint64_t)o->config->run.seed, RNG_PROMPTS}, (uint32_t)epoch, 0, o->prompt_count, l->order);
		l->order_epoch = epoch;
	}
	return l->order[at % o->prompt_count];
}

/* The planned prompt, or the first of a seeded sequence that is not set aside. */
static int choose(struct loop *l, int64_t step, uint32_t slot, struct ppo_prompt *out, struct err *e)
{
	const struct loop_options *o = l->o;
	struct rng_key key = {(uint64_t)o->config->run.seed, RNG_REFILL};
	uint32_t p = planned(l, step, slot);
	for (uint32_t k = 0; is_aside(l, step, slot, p); k++) {
		if (k == 16 * o->prompt_count)
			return err_set(e, ERR_STATE, "step %lld: no prompt is left for slot %u: workers crash on all of them; look at the workers' log, then resume", (long long)step, slot);
		p = rng_below(key, (uint32_t)step, slot, k, o->prompt_count);
	}
	*out = (struct ppo_prompt){slot, p, o->prompts[p].count, o->prompts[p].tokens, o->prompts[p].text};
	return 0;
}

int loop_open_step(struct loop *l, int64_t step, struct err *e)
{
	const struct config *c = l->o->config;
	uint32_t n = (uint32_t)c->ppo.prompts;
	int rc = 0;
	if (step >= c->ppo.steps || step < l->opened) return 0;
	if (l->o->open) TRY(l->o->open(l->o->arg, step, e));
	for (uint32_t i = 0; i < n; i++) TRY(choose(l, step, i, &l->items[i], e));
	int64_t version = step > c->ppo.lag ? step - c->ppo.lag : 0;
	ppo_server_open_step(l->o->server, (uint64_t)step, (uint64_t)version, l->items, n);
	l->opened = step + 1;
out:
	return rc;
}

int loop_refill(struct loop *l, int64_t step, struct err *e)
{
	uint32_t slots[64], n = ppo_server_aside(l->o->server, (uint64_t)step, slots, 64);
	struct ppo_prompt before, now;
	int rc = 0;
	for (uint32_t i = 0; i < n && i < 64; i++) {
		TRY(choose(l, step, slots[i], &before, e));
		if (step > l->recorded) aside_add(l, step, slots[i], before.prompt); /* else the record has its group: it is made again */
		TRY(choose(l, step, slots[i], &now, e));
		log_error("step %lld: prompt %u of slot %u was lost %lld times; the slot gets prompt %u", (long long)step, before.prompt, slots[i],
			  (long long)l->o->config->rollout.set_aside, now.prompt);
		ppo_server_refill(l->o->server, (uint64_t)step, &now);
	}
out:
	return rc;
}

int loop_put_aside(struct loop *l, int64_t step, struct err *e)
{
	int rc = 0;
	for (uint32_t slot = 0; l->asides && slot < (uint32_t)l->o->config->ppo.prompts; slot++) {
		uint32_t plan = planned(l, step, slot), got = l->groups[slot].prompt;
		json_t *list = json_array();
		for (int64_t i = 0; i < l->asides; i++)
			if (l->aside[i].step == step && l->aside[i].slot == slot) json_array_append_new(list, json_integer(l->aside[i].prompt));
		char *text = json_array_size(list) ? json_dumps(list, JSON_COMPACT) : NULL, refilled[80];
		json_decref(list);
		if (text) rc = store_put_event(l->o->store, (uint64_t)step, "set_aside", slot, text, e);
		free(text);
		snprintf(refilled, sizeof refilled, "{\"instead_of\":%u,\"prompt\":%u}", plan, got);
		if (rc == 0 && got != plan) rc = store_put_event(l->o->store, (uint64_t)step, "refilled", slot, refilled, e);
		TRY(rc);
	}
out:
	return rc;
}

struct reading {
	struct loop *l;
	struct err *e;
};

static int take_event(void *ctx, const struct store_event *v)
{
	struct reading *r = ctx;
	size_t i;
	json_t *list, *x;
	if (strcmp(v->kind, "set_aside")) return 0;
	list = json_loads(v->body, 0, NULL);
	int bad = !json_is_array(list) || v->subject < 0 || v->subject >= r->l->o->config->ppo.prompts;
	json_array_foreach(list, i, x)
	{
		int64_t p = json_integer_value(x);
		bad |= !json_is_integer(x) || p < 0 || p >= r->l->o->prompt_count;
		if (!bad) aside_add(r->l, (int64_t)v->step, (uint32_t)v->subject, (uint32_t)p);
	}
	json_decref(list);
	return bad ? err_set(r->e, ERR_FORMAT, "the record's event set_aside of step %llu, slot %lld is not a list of prompts: %.60s", (unsigned long long)v->step,
			     (long long)v->subject, v->body)
		   : 0;
}

int loop_read_aside(struct loop *l, struct err *e)
{
	struct reading r = {l, e};
	int rc = store_last_step(l->o->store, "ppo", &l->recorded, e);
	return rc < 0 ? rc : store_each_event(l->o->store, "ppo", 0, take_event, &r, e);
}
