/* A lease from its weights to the last `got`. While the generator runs, each
 * group it finishes is submitted for scoring, and what has come back meanwhile is
 * passed on; the rest is waited for afterwards. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "core/base/log.h"
#include "rollout/worker_internal.h"

#include <string.h>

enum { REFUSED_LEASES = 3, SENDS_IN_SILENCE = 5 };
#define SLICE_SECONDS 0.02

int worker_open_client(struct worker *w, struct err *e)
{
	struct reward_client_options o = w->options.reward;
	reward_client_close(w->client);
	w->client = NULL;
	if (!o.endpoints) return 0;
	o.run = w->run;
	o.fingerprint = w->options.fingerprint;
	o.name = w->options.name;
	return reward_client_open(&w->client, w->wire, &o, e);
}

/* Copies the lease out of the message's arena. Refuses what the generator could not take. */
static int take_lease(struct worker *w, const struct message_lease *l, struct err *e)
{
	struct arena *a = w->lease_arena;
	arena_reset(a);
	struct message_lease_item *items = arena_must(a, l->count, sizeof *items);
	for (uint32_t i = 0; i < l->count; i++) {
		if ((int64_t)l->items[i].token_count > w->options.generate.max_prompt)
			return err_set(e, ERR_RANGE, "prompt %u has %u tokens, this worker takes %d: learner and worker need the same configuration",
				       l->items[i].prompt, l->items[i].token_count, w->options.generate.max_prompt);
		int32_t *tokens = arena_must(a, l->items[i].token_count, sizeof *tokens);
		memcpy(tokens, l->items[i].tokens, l->items[i].token_count * sizeof *tokens);
		items[i] = l->items[i];
		items[i].tokens = tokens;
		items[i].text = arena_strdup(a, l->items[i].text);
	}
	w->lease = *l;
	w->lease.items = items;
	w->lease.weights_path = arena_strdup(a, l->weights_path);
	w->hands = arena_must(a, l->count, sizeof *w->hands);
	w->finished = 0;
	w->refused = 0;
	w->turn = TURN_GO_ON;
	w->counters.leases++;
	w->counters.prompts += l->count;
	return 0;
}

static struct hand *find_hand(struct worker *w, uint64_t step, uint32_t slot)
{
	for (uint32_t i = 0; i < w->lease.count && step == w->lease.step; i++)
		if (w->lease.items[i].slot == slot) return &w->hands[i];
	return NULL;
}

static int hand_in(struct worker *w, struct hand *h, struct err *e)
{
	struct message m;
	message_init(&m, MESSAGE_GROUP, w->run);
	m.group = h->group;
	h->state = HAND_SENT;
	h->sent = fs_now();
	FAULT_POINT("worker.before_hand_in", "a group is scored, not handed in");
	int rc = worker_send(w, &m, e);
	FAULT_POINT("worker.after_hand_in", "a group is handed in, nobody said got");
	return rc;
}

/* Passes on what the services have scored, waiting for one up to `seconds`. */
static int pass_on(struct worker *w, double seconds, struct err *e)
{
	while (w->client && reward_client_pending(w->client) > 0) {
		struct group *g;
		int rc = reward_client_poll(w->client, seconds, &g, e);
		if (rc < 0) return rc;
		if (rc == 0) break;
		struct hand *h = find_hand(w, g->step, g->slot);
		CHECK(h && h->state == HAND_SCORING, "group %llu/%u was not being scored", (unsigned long long)g->step, g->slot);
		rc = hand_in(w, h, e);
		if (rc < 0) return rc;
		seconds = 0;
	}
	return 0;
}

static void take_answer(struct worker *w, const struct message *m)
{
	if (m->type == MESSAGE_GOT) {
		struct hand *h = find_hand(w, m->got.step, m->got.slot);
		if (!h || h->state != HAND_SENT) return;
		FAULT_POINT("worker.after_got", "the learner has a group, its worker has not noted it");
		h->state = HAND_DONE;
		w->finished++;
		w->counters.groups++;
		w->counters.duplicates += m->got.duplicate;
		w->refused_leases = 0;
	} else if (m->type == MESSAGE_REFUSE && strcmp(m->refuse.about, "group") == 0 && find_hand(w, m->refuse.step, m->refuse.slot)) {
		w->counters.refusals++;
		w->refused = 1;
		strcpy(w->reason, m->refuse.reason);
		log_warn("WORKER %s: the learner refuses: %s", w->options.name, m->refuse.reason);
	}
}

/* Takes what the learner has sent, waiting for the first up to `seconds`. */
static int hear(struct worker *w, double seconds, struct err *e)
{
	for (;;) {
		struct message m;
		int rc = worker_receive(w, seconds, &m, e);
		if (rc != 0) return rc;
		if (m.type == MESSAGE_NONE) return TURN_GO_ON;
		take_answer(w, &m);
		seconds = 0;
	}
}

/* The generator's sink. */
static int take_group(void *arg, const struct group *g, struct err *e)
{
	struct worker *w = arg;
	struct hand *h = find_hand(w, g->step, g->slot);
	CHECK(h && h->state == HAND_NONE, "group %llu/%u is not of this lease", (unsigned long long)g->step, g->slot);
	int rc = group_copy(&h->group, g, w->lease_arena, e);
	if (rc < 0) return rc;
	h->state = HAND_SCORING;
	FAULT_POINT("worker.before_scoring", "a group is generated, not sent for scoring");
	rc = w->client ? reward_client_submit(w->client, &h->group, w->lease_arena, e) : hand_in(w, h, e);
	if (rc == 0) rc = pass_on(w, 0, e);
	if (rc == 0) rc = hear(w, 0, e);
	if (rc > 0 || (rc == 0 && w->refused)) { /* ends the generation; worker_do_lease looks at `turn` */
		w->turn = rc > 0 ? (enum worker_turn)rc : TURN_REJOIN;
		return err_set(e, ERR_STATE, "the lease ends early");
	}
	return rc;
}

static int generate(struct worker *w, struct err *e)
{
	struct generate_request *r = arena_must(w->lease_arena, w->lease.count, sizeof *r);
	uint64_t before, after, passes;
	double start = fs_now();
	for (uint32_t i = 0; i < w->lease.count; i++) {
		const struct message_lease_item *it = &w->lease.items[i];
		r[i] = (struct generate_request){.step = w->lease.step, .slot = it->slot, .prompt = it->prompt, .tokens = it->tokens,
						 .prompt_tokens = it->token_count, .prompt_text = it->text};
	}
	generator_counts(w->generator, &before, &passes);
	int rc = generator_run(w->generator, r, w->lease.count, w->lease.policy_version, take_group, w, w->options.stop, e);
	generator_counts(w->generator, &after, &passes);
	w->counters.tokens += after - before;
	double seconds = fs_now() - start;
	if (rc == 0)
		log_info("WORKER %s: step %llu, %u groups, %llu tokens, %.0f tokens/s", w->options.name, (unsigned long long)w->lease.step, w->lease.count,
			 (unsigned long long)(after - before), seconds > 0 ? (double)(after - before) / seconds : 0);
	return w->turn ? (int)w->turn : rc;
}

/* Sends again what has no answer; TURN_REJOIN when `silent` says that the learner does not answer at all. */
static int resend(struct worker *w, int *silent, struct err *e)
{
	double now = fs_now();
	int any = 0;
	for (uint32_t i = 0; i < w->lease.count; i++) {
		struct hand *h = &w->hands[i];
		if (h->state != HAND_SENT || now - h->sent < w->options.resend_seconds) continue;
		int rc = hand_in(w, h, e);
		if (rc < 0) return rc;
		w->counters.resends++;
		any = 1;
	}
	*silent += any;
	return *silent > SENDS_IN_SILENCE ? TURN_REJOIN : TURN_GO_ON;
}

/* Until each group is acknowledged. */
static int finish(struct worker *w, struct err *e)
{
	int silent = 0;
	while (w->finished < w->lease.count) {
		int scoring = w->client && reward_client_pending(w->client) > 0;
		uint32_t before = w->finished;
		int rc = pass_on(w, SLICE_SECONDS, e);
		if (rc == 0) rc = hear(w, scoring ? 0 : 0.1, e);
		if (w->finished > before) silent = 0;
		if (rc == 0 && w->refused) rc = TURN_REJOIN;
		if (rc == 0) rc = resend(w, &silent, e);
		if (rc != 0) return rc;
	}
	return TURN_GO_ON;
}

/* A lease that ended before its time. */
static int give_up(struct worker *w, int turn, struct err *e)
{
	if (turn != TURN_REJOIN) return turn;
	reward_client_close(w->client); /* what it has under way points into the lease */
	w->client = NULL;
	if (w->refused && ++w->refused_leases >= REFUSED_LEASES)
		return err_set(e, ERR_STATE, "the learner refused groups of worker %s %d times in a row, at last: %s", w->options.name, REFUSED_LEASES,
			       w->reason);
	log_warn("WORKER %s: the lease of step %llu is given up", w->options.name, (unsigned long long)w->lease.step);
	return TURN_REJOIN;
}

int worker_do_lease(struct worker *w, const struct message_lease *lease, struct err *e)
{
	int turn = take_lease(w, lease, e);
	if (turn == 0 && !w->client) turn = worker_open_client(w, e);
	if (turn == TURN_GO_ON) turn = worker_load(w, e);
	if (turn == TURN_GO_ON) turn = generate(w, e);
	if (turn == TURN_GO_ON) turn = finish(w, e);
	return turn == TURN_GO_ON ? turn : give_up(w, turn, e);
}
