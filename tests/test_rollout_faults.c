/* What must go wrong harmlessly between learner and workers: lost leases, late,
 * doubled, differing and forged hand-ins, strangers, floods (faults.md 13 to 27). */
#include "rollout_kit.h"
#include "rollout/worker.h"

static struct group oracle(uint32_t k, uint32_t slot)
{
	return kit.oracle[k][slot];
}

/* Takes events until one of this kind; fails when there is none. */
static struct ppo_server_event event(struct ppo_server *s, enum ppo_server_event_kind kind)
{
	struct ppo_server_event v;
	while (ppo_server_event(s, &v) == 1)
		if (v.kind == kind) return v;
	fail_msg("no event of kind %d", (int)kind);
	return v;
}

static struct ppo_server_counters counters(struct ppo_server *s)
{
	struct ppo_server_counters c;
	ppo_server_counters(s, &c);
	return c;
}

static void a_lost_lease_goes_to_another(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w;
	struct kit_peer p;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 0.4, 2);
	kit_service_start(&service);
	kit_open_step(s, 0);
	kit_peer_open(&p, endpoint);
	assert_int_equal(kit_peer_hello(&p, "sleeper", KIT_RUN, kit.fingerprint).type, MESSAGE_WELCOME);
	struct message lease = kit_peer_lease(&p, 100);
	assert_int_equal(lease.type, MESSAGE_LEASE);
	assert_int_equal(lease.lease.count, KIT_PROMPTS / 2); /* its share of two */
	assert_int_equal(lease.lease.items[0].slot, 0);
	kit_worker_prepare(&w, endpoint, &service, 0);
	kit_worker_start(&w);
	kit_check_step(s, 0);
	struct ppo_server_counters c = counters(s);
	assert_int_equal(c.expired, KIT_PROMPTS / 2);
	assert_int_equal(c.groups, KIT_PROMPTS);
	assert_string_equal(event(s, PPO_EVENT_EXPIRED).worker, "sleeper");

	/* it wakes up: the same group is a duplicate, another one a conflict, and nothing changes */
	struct group g = oracle(0, 2);
	struct message reply = kit_peer_group(&p, &g);
	assert_int_equal(reply.type, MESSAGE_GOT);
	assert_int_equal(reply.got.duplicate, 1);
	assert_int_equal(counters(s).conflicts, 0);
	float changed[KIT_G * KIT_NEW];
	memcpy(changed, g.logprobs, group_response_tokens(&g) * sizeof(float));
	uint32_t bits;
	memcpy(&bits, &changed[3], 4);
	bits ^= 1;
	memcpy(&changed[3], &bits, 4);
	g.logprobs = changed;
	reply = kit_peer_group(&p, &g);
	assert_int_equal(reply.type, MESSAGE_GOT);
	assert_int_equal(reply.got.duplicate, 1);
	c = counters(s);
	assert_int_equal(c.conflicts, 1);
	assert_int_equal(c.duplicates, 2);
	assert_int_equal(c.groups, KIT_PROMPTS);
	struct ppo_server_event v = event(s, PPO_EVENT_CONFLICT);
	assert_int_equal(v.slot, 2);
	assert_non_null(strstr(v.text, "logprobs: element 3"));
	kit_check_step(s, 0);

	/* after the step is over: late, still a duplicate */
	ppo_server_close_step(s, 0);
	reply = kit_peer_group(&p, &g);
	assert_int_equal(reply.got.duplicate, 1);
	assert_int_equal(counters(s).late, 1);
	assert_int_equal(event(s, PPO_EVENT_LATE).slot, 2);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	kit_peer_close(&p);
	kit_service_stop(&service);
	ppo_server_close(s);
}

/* A crash takes the whole lease with it; from then on each prompt of it is leased alone, and the one that does it is set aside. */
static void a_prompt_lost_three_times_is_set_aside(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_peer p;
	struct group none[KIT_PROMPTS];
	uint32_t slots[4];
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_open_step(s, 0);
	for (int i = 0; i < KIT_ASIDE; i++) { /* crashes and comes back under its name */
		kit_peer_open(&p, endpoint);
		assert_int_equal(kit_peer_hello(&p, "crasher", KIT_RUN, kit.fingerprint).type, MESSAGE_WELCOME);
		struct message m = kit_peer_lease(&p, 3);
		assert_int_equal(m.type, MESSAGE_LEASE);
		assert_int_equal(m.lease.items[0].slot, 0);
		assert_int_equal(m.lease.count, i == 0 ? 3 : 1);
		assert_int_equal(ppo_server_aside(s, 0, slots, 4), 0);
		kit_peer_close(&p);
	}
	kit_peer_open(&p, endpoint);
	kit_peer_hello(&p, "crasher", KIT_RUN, kit.fingerprint);
	struct ppo_server_event v = event(s, PPO_EVENT_LOST);
	assert_int_equal(v.slot, 0);
	assert_int_equal(v.prompt, kit.prompts[0][0].prompt);
	assert_int_equal(v.count, KIT_ASIDE);
	assert_int_equal(ppo_server_aside(s, 0, slots, 4), 1);
	assert_int_equal(slots[0], 0);
	double start = fs_now();
	assert_int_equal(ppo_server_wait(s, 0, 30, none, kit.arena, &kit.err), 0); /* at once: someone has to do something */
	assert_true(fs_now() - start < 5);

	/* nobody gets it any more; the two that were lost with it come one by one */
	for (uint32_t slot = 1; slot <= 2; slot++) {
		struct message m = kit_peer_lease(&p, 3);
		assert_int_equal(m.lease.count, 1);
		assert_int_equal(m.lease.items[0].slot, slot);
		assert_int_equal(kit_peer_group(&p, &kit.oracle[0][slot]).got.duplicate, 0);
	}
	assert_int_equal(kit_peer_lease(&p, 3).lease.items[0].slot, 3);
	assert_int_equal(kit_peer_group(&p, &kit.oracle[0][0]).got.duplicate, 1); /* of the prompt that was set aside: late */
	assert_int_equal(event(s, PPO_EVENT_LATE).slot, 0);

	/* another prompt in its place: leased, and its group counts */
	struct ppo_prompt other = kit.prompts[0][5];
	struct group g = kit.oracle[0][5];
	other.slot = g.slot = 0;
	ppo_server_refill(s, 0, &other);
	assert_int_equal(ppo_server_aside(s, 0, slots, 4), 0);
	struct message m = kit_peer_lease(&p, 1);
	assert_int_equal(m.lease.items[0].slot, 0);
	assert_int_equal(m.lease.items[0].prompt, other.prompt);
	assert_int_equal(kit_peer_group(&p, &kit.oracle[0][0]).got.duplicate, 1);
	struct message got = kit_peer_group(&p, &g);
	assert_int_equal(got.type, MESSAGE_GOT);
	assert_int_equal(got.got.duplicate, 0);
	assert_int_equal(counters(s).late, 2);
	kit_peer_close(&p);
	ppo_server_close(s);
}

static void an_ask_repeated_gets_the_same(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_peer p;
	struct message m;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_peer_open(&p, endpoint);
	kit_peer_hello(&p, "a", KIT_RUN, kit.fingerprint);
	double start = fs_now();
	m = kit_peer_lease(&p, 2); /* nothing is open */
	assert_int_equal(m.type, MESSAGE_WAIT);
	assert_true(fs_now() - start < 5);
	kit_open_step(s, 0);
	for (int i = 0; i < 2; i++) {
		m = kit_peer_lease(&p, 2);
		assert_int_equal(m.type, MESSAGE_LEASE);
		assert_int_equal(m.lease.count, 2);
		assert_int_equal(m.lease.items[1].slot, 1);
		assert_string_equal(m.lease.items[1].text, kit.prompts[0][1].text);
	}
	assert_int_equal(counters(s).expired, 0);
	message_init(&m, MESSAGE_BYE, KIT_RUN);
	kit_peer_send(&p, &m);
	kit_peer_hello(&p, "b", KIT_RUN, kit.fingerprint); /* what the one that left had is free at once */
	m = kit_peer_lease(&p, 1);
	assert_int_equal(m.lease.items[0].slot, 0);
	assert_int_equal(counters(s).expired, 0);
	kit_peer_close(&p);
	ppo_server_close(s);
}

static void strangers_are_refused(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT], other[] = "00000000000000000000000000000bad";
	struct kit_peer p;
	struct message m;
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_open_step(s, 0);
	kit_worker_prepare(&w, endpoint, NULL, 7);
	w.options.fingerprint = other;
	kit_worker_start(&w);
	kit_worker_expect(&w, ERR_MISMATCH);
	assert_non_null(strstr(w.err.msg, other));
	assert_non_null(strstr(w.err.msg, kit.fingerprint));
	kit_worker_prepare(&w, endpoint, NULL, 8);
	w.options.run = "another-run";
	kit_worker_start(&w);
	kit_worker_expect(&w, ERR_MISMATCH);
	assert_non_null(strstr(w.err.msg, "another-run"));
	assert_non_null(strstr(w.err.msg, KIT_RUN));

	kit_peer_open(&p, endpoint);
	assert_int_equal(kit_peer_hello(&p, "no-kernels", KIT_RUN, "").type, MESSAGE_REFUSE);
	assert_int_equal(kit_peer_lease(&p, 1).type, MESSAGE_REFUSE);
	assert_said("say hello first");
	struct group g = oracle(0, 0);
	assert_int_equal(kit_peer_group(&p, &g).type, MESSAGE_REFUSE);
	message_init(&m, MESSAGE_HEALTH, KIT_RUN);
	assert_int_equal(kit_peer_ask(&p, &m).type, MESSAGE_REFUSE);
	assert_int_equal(ppo_server_live(s), 0);
	assert_int_equal(counters(s).groups, 0);
	kit_peer_close(&p);
	ppo_server_close(s);
}

struct forgery {
	struct group group;
	int32_t tokens[KIT_PROMPT + KIT_G * KIT_NEW + 8];
	float logprobs[KIT_G * KIT_NEW + 8];
	uint16_t experts[(KIT_G * KIT_NEW + 8) * 4];
	float reward[GROUP_MAX], scores[GROUP_MAX];
};

/* A copy of the oracle's group in memory that may be changed. */
static void forge(struct forgery *f, uint32_t slot)
{
	const struct group *g = &kit.oracle[0][slot];
	uint32_t n = group_response_tokens(g);
	memset(f, 0, sizeof *f);
	f->group = *g;
	memcpy(f->tokens, g->tokens, (g->prompt_tokens + n) * sizeof *g->tokens);
	memcpy(f->logprobs, g->logprobs, n * sizeof *g->logprobs);
	memcpy(f->experts, g->experts, (size_t)n * 4 * sizeof *g->experts);
	memcpy(f->reward, g->reward, g->size * sizeof *g->reward);
	memcpy(f->scores, g->scores, g->size * sizeof *g->scores);
	f->group.tokens = f->tokens;
	f->group.logprobs = f->logprobs;
	f->group.experts = f->experts;
	f->group.reward = f->reward;
	f->group.scores = f->scores;
}

static void refused(struct kit_peer *p, struct forgery *f, const char *reason)
{
	struct message m = kit_peer_group(p, &f->group);
	if (m.type != MESSAGE_REFUSE) fail_msg("not refused, should be: %s", reason);
	assert_string_equal(m.refuse.about, "group");
	assert_int_equal(m.refuse.slot, f->group.slot);
	assert_said(reason);
	forge(f, 0);
	assert_int_equal(kit_peer_lease(p, 1).type, MESSAGE_LEASE); /* slot 0 again */
}

static void forged_groups_are_refused(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_peer p;
	struct forgery f;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_open_step(s, 0);
	kit_peer_open(&p, endpoint);
	kit_peer_hello(&p, "forger", KIT_RUN, kit.fingerprint);
	forge(&f, 5);
	refused(&p, &f, "never leased");
	f.group.policy_version = 2;
	refused(&p, &f, "weights version 2");
	f.group.policy_version = 0;
	refused(&p, &f, "weights version 0");
	f.group.prompt++;
	refused(&p, &f, "answers prompt");
	f.tokens[0] ^= 1;
	refused(&p, &f, "tokens are not those that were leased");
	f.group.slot = 99;
	refused(&p, &f, "no slot 99");
	f.group.step = 4;
	refused(&p, &f, "not open yet");
	f.group.terms = 0;
	f.group.scores = f.group.reward = NULL;
	refused(&p, &f, "no scores");
	f.reward[1] += 0.5f;
	refused(&p, &f, "completion 1 has reward");
	strcpy(f.group.term_name[0], "elegance");
	refused(&p, &f, "length");
	f.tokens[f.group.prompt_tokens] = KIT_VOCAB;
	refused(&p, &f, "vocabulary");
	f.experts[2] = 8;
	refused(&p, &f, "expert 8");
	f.group.length[0] = KIT_NEW + 1;
	for (uint32_t i = 1; i < KIT_G; i++) f.group.length[i] = 1;
	refused(&p, &f, "11 tokens, at most 10");
	f.group.size = 3;
	f.group.length[2] += f.group.length[3];
	f.group.length[2] = f.group.length[2] > KIT_NEW ? KIT_NEW : f.group.length[2];
	refused(&p, &f, "3 completions");
	assert_int_equal(counters(s).groups, 0);
	assert_int_equal(kit_peer_group(&p, &f.group).type, MESSAGE_GOT); /* and the true one is taken */
	assert_int_equal(counters(s).groups, 1);
	struct ppo_worker_info info;
	assert_int_equal(ppo_server_workers(s, &info, 1), 1);
	assert_int_equal(info.groups, 1);
	assert_true(info.refused >= 11);
	kit_peer_close(&p);
	ppo_server_close(s);
}

static void scorer_versions_do_not_mix(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_peer p;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_open_step(s, 0);
	kit_peer_open(&p, endpoint);
	kit_peer_hello(&p, "a", KIT_RUN, kit.fingerprint);
	assert_int_equal(kit_peer_lease(&p, 2).type, MESSAGE_LEASE);
	struct group g = oracle(0, 0);
	assert_int_equal(kit_peer_group(&p, &g).type, MESSAGE_GOT);
	g = oracle(0, 1);
	strcpy(g.scorer_version, "newer");
	assert_int_equal(kit_peer_group(&p, &g).type, MESSAGE_REFUSE);
	assert_said("\"newer\"");
	kit_peer_close(&p);
	ppo_server_close(s);
}

/* A worker whose groups are refused again and again ends instead of turning forever. */
static void a_refused_worker_gives_up(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 0);
	kit_open_step(s, 0);
	kit_worker_prepare(&w, endpoint, NULL, 0); /* no service: its groups have no scores */
	kit_worker_start(&w);
	kit_worker_expect(&w, ERR_STATE);
	assert_non_null(strstr(w.err.msg, "no scores"));
	assert_int_equal(counters(s).groups, 0);
	ppo_server_close(s);
}

static void garbage_and_floods_are_survived(void **state)
{
	(void)state;
	static const unsigned char bomb[] = {0xdd, 0xff, 0, 0, 0};
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w;
	struct kit_peer p;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	kit_service_start(&service);
	kit_open_step(s, 0);
	kit_peer_open(&p, endpoint);
	int sent = 0;
	for (int i = 0; i < 3000; i++) sent += wire_send(p.socket, NULL, bomb, sizeof bomb, &kit.err) == 0; /* its answers are not read */
	kit_worker_prepare(&w, endpoint, &service, 0);
	kit_worker_start(&w);
	kit_check_step(s, 0);
	for (int i = 0; i < 500 && counters(s).malformed < (uint64_t)sent; i++) usleep(10000);
	assert_int_equal(counters(s).malformed, sent);
	assert_int_equal(counters(s).groups, KIT_PROMPTS);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	kit_peer_close(&p);
	kit_service_stop(&service);
	ppo_server_close(s);
}

static void the_learner_can_be_stopped_while_it_waits(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct ppo_server *s;
	struct group got[KIT_PROMPTS];
	uint32_t done, total;
	atomic_int stop = 0;
	kit_endpoint(endpoint);
	assert_ok(ppo_server_open(&s, &(struct ppo_server_options){.endpoint = endpoint, .run = KIT_RUN, .group_size = KIT_G, .stop = &stop}, &kit.err));
	kit_open_step(s, 0);
	double start = fs_now();
	assert_int_equal(ppo_server_wait(s, 0, 0.2, got, kit.arena, &kit.err), 0);
	assert_true(fs_now() - start >= 0.2);
	ppo_server_progress(s, 0, &done, &total);
	assert_int_equal(done, 0);
	assert_int_equal(total, KIT_PROMPTS);
	atomic_store(&stop, 1);
	assert_int_equal(ppo_server_wait(s, 0, 60, got, kit.arena, &kit.err), ERR_STOPPED);
	struct ppo_server *second = NULL;
	assert_int_equal(ppo_server_open(&second, &(struct ppo_server_options){.endpoint = endpoint, .run = KIT_RUN, .group_size = KIT_G}, &kit.err), ERR_NET);
	assert_said(endpoint);
	assert_null(second);
	ppo_server_close(s);
	ppo_server_close(NULL);
}

/* A learner that loses the first copy of each group; the worker sends it again. */
struct deaf_learner {
	struct wire *wire;
	struct wire_socket *socket;
	struct message_buffer buffer;
	struct arena *arena;
	uint32_t heard[KIT_PROMPTS], asks, byes;
	uint64_t first[KIT_PROMPTS]; /* hash of the first copy */
	int differ;
};

static void deaf_answer(struct deaf_learner *d, const struct wire_frame *f)
{
	struct message m, reply;
	struct message_lease_item items[2];
	assert_ok(message_decode(&m, f->data, f->bytes, d->arena, NULL, &kit.err));
	message_init(&reply, MESSAGE_WELCOME, KIT_RUN);
	if (m.type == MESSAGE_ASK && d->asks++ == 0) {
		for (uint32_t i = 0; i < 2; i++) {
			const struct ppo_prompt *p = &kit.prompts[0][i];
			items[i] = (struct message_lease_item){p->slot, p->prompt, p->token_count, p->tokens, p->text};
		}
		struct fs_map map;
		assert_ok(fs_map_open(&map, kit.weights[0], &kit.err));
		message_init(&reply, MESSAGE_LEASE, KIT_RUN);
		reply.lease = (struct message_lease){.policy_version = 1, .weights_path = kit.weights[0], .weights_bytes = map.bytes, .seconds = 60,
						     .count = 2, .items = items};
		memcpy(reply.lease.weights_hash, kit.hash[0], HASH_HEX);
		fs_map_close(&map);
	} else if (m.type == MESSAGE_ASK) {
		message_init(&reply, MESSAGE_STOP, KIT_RUN);
	} else if (m.type == MESSAGE_GROUP) {
		uint64_t hash = hash_u64(f->data, f->bytes);
		if (d->heard[m.group.slot]++ == 0) {
			d->first[m.group.slot] = hash;
			return;
		}
		d->differ |= hash != d->first[m.group.slot];
		message_init(&reply, MESSAGE_GOT, KIT_RUN);
		reply.got = (struct message_got){m.group.step, m.group.slot, 0};
	} else if (m.type == MESSAGE_BYE) {
		d->byes++;
		return;
	}
	assert_ok(message_encode(&d->buffer, &reply, &kit.err));
	assert_ok(wire_send(d->socket, &f->peer, d->buffer.data, d->buffer.bytes, &kit.err));
}

static void unanswered_groups_are_sent_again(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct deaf_learner d = {.arena = arena_open(0)};
	struct kit_worker w;
	struct wire_frame f;
	kit_endpoint(endpoint);
	assert_ok(wire_open(&d.wire, &(struct wire_options){0}, &kit.err));
	assert_ok(wire_listen(&d.socket, d.wire, endpoint, &kit.err));
	kit_worker_prepare(&w, endpoint, NULL, 0);
	w.options.resend_seconds = 0.1;
	kit_worker_start(&w);
	while (d.byes == 0) {
		assert_ok(wire_receive(d.socket, 20, &f, &kit.err));
		deaf_answer(&d, &f);
		arena_reset(d.arena);
	}
	kit_worker_expect(&w, 0);
	assert_int_equal(w.counters.groups, 2);
	assert_true(w.counters.resends >= 2 && d.heard[0] >= 2 && d.heard[1] >= 2);
	assert_int_equal(d.differ, 0);
	wire_socket_close(d.socket);
	wire_close(d.wire);
	message_buffer_free(&d.buffer);
	arena_close(d.arena);
}

/* Leases run out while nobody can score; then someone can. */
static void no_service_then_one(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 0.5, 1); /* leases run out meanwhile */
	kit_service_start(&service);
	kit_service_stop(&service);
	kit_worker_prepare(&w, endpoint, &service, 0);
	w.options.reward.timeout_seconds = 0.1;
	w.options.reward.backoff_max_seconds = 0.3;
	kit_open_step(s, 0);
	kit_worker_start(&w);
	while (counters(s).expired == 0) usleep(10000);
	char kept[WIRE_ENDPOINT];
	strcpy(kept, service.endpoint);
	assert_ok(scorer_length_open(&service.scorer, &kit.err));
	atomic_store(&service.stop, 0);
	assert_ok(wire_open(&service.wire, &(struct wire_options){.stop = &service.stop}, &kit.err));
	assert_ok(reward_service_open(&service.service, service.wire,
				      &(struct reward_service_options){.endpoint = kept, .run = KIT_RUN, .scorer = service.scorer}, &kit.err));
	assert_int_equal(pthread_create(&service.thread, NULL, kit_serve, &service), 0);
	kit_check_step(s, 0);
	assert_int_equal(counters(s).groups, KIT_PROMPTS);
	assert_int_equal(counters(s).conflicts, 0);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	kit_service_stop(&service);
	ppo_server_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lost_lease_goes_to_another),   cmocka_unit_test(a_prompt_lost_three_times_is_set_aside),
		cmocka_unit_test(an_ask_repeated_gets_the_same),  cmocka_unit_test(strangers_are_refused),
		cmocka_unit_test(forged_groups_are_refused),      cmocka_unit_test(scorer_versions_do_not_mix),
		cmocka_unit_test(a_refused_worker_gives_up),      cmocka_unit_test(garbage_and_floods_are_survived),
		cmocka_unit_test(the_learner_can_be_stopped_while_it_waits), cmocka_unit_test(no_service_then_one),
		cmocka_unit_test(unanswered_groups_are_sent_again),
	};
	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
