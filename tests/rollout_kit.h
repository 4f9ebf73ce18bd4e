/* What the tests of learner's server and workers share: a tiny random model, the
 * groups it generates when nobody interferes (the oracle), a scoring service and
 * workers in threads, and a peer that says whatever a test wants. */
#ifndef TENFOLD_TESTS_ROLLOUT_KIT_H
#define TENFOLD_TESTS_ROLLOUT_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/group_copy.h"
#include "core/base/log.h"
#include "policy/model_file.h"
#include "ppo/server.h"
#include "reward/scorer.h"
#include "reward/service.h"
#include "rollout/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIT_G = 4, KIT_PROMPTS = 12, KIT_STEPS = 2, KIT_NEW = 10, KIT_PROMPT = 9, KIT_VOCAB = 40, KIT_END = 1, KIT_WORKERS = 3, KIT_ASIDE = 3 };

#define KIT_UNUSED __attribute__((unused))
#define KIT_RUN "run-of-the-tests"

#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		if ((call) < 0) fail_msg("%s: %s", #call, kit.err.msg);                                                \
	} while (0)
#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(kit.err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", kit.err.msg, text);             \
	} while (0)

/* About 1 MiB of weights, so that a transfer has several chunks. */
static const struct shape kit_shape = {.vocab = KIT_VOCAB, .width = 64, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 16,
				       .experts = 8, .chosen = 2, .expert_width = 72, .router = ROUTER_SOFTMAX, .router_normalize = 1, .router_scale = 1,
				       .rope_theta = 10000, .norm_eps = 1e-6, .init_std = 0.08, .qk_norm = 1, .max_positions = 64, .heads_kind = HEAD_LM};

static struct {
	struct err err;
	struct arena *arena;
	char folder[64];
	struct backend *backend;
	char fingerprint[HASH_HEX];
	struct reward_rule rule;
	/* weights version 1+k, for k = 0, 1 */
	char weights[KIT_STEPS][128], hash[KIT_STEPS][HASH_HEX];
	struct ppo_prompt prompts[KIT_STEPS][KIT_PROMPTS];
	struct group oracle[KIT_STEPS][KIT_PROMPTS]; /* step k from version 1+k, scored */
	int endpoints;
} kit;

static inline struct generate_options kit_generate(void)
{
	return (struct generate_options){.completions = KIT_G, .max_new = KIT_NEW, .max_prompt = KIT_PROMPT, .batch_groups = 3,
					 .sampling = {.temperature = 1, .top_p = 1}, .end_token = KIT_END, .seed = 77, .purpose = RNG_SAMPLE};
}

static inline void kit_endpoint(char out[WIRE_ENDPOINT])
{
	snprintf(out, WIRE_ENDPOINT, "ipc://@tenfold-test-%d-%d", (int)getpid(), kit.endpoints++);
}

static int kit_keep(void *arg, const struct group *g, struct err *e)
{
	struct group *out = (struct group *)arg + g->slot;
	int rc = group_copy(out, g, kit.arena, e);
	if (rc < 0) return rc;
	float *score = arena_must(kit.arena, KIT_G, sizeof *score);
	for (uint32_t i = 0; i < KIT_G; i++) score[i] = (float)g->length[i];
	out->terms = 1;
	strcpy(out->term_name[0], "length");
	out->scores = score;
	out->reward = arena_must(kit.arena, KIT_G, sizeof *score);
	return reward_combine(out, (float *)out->reward, &kit.rule, e);
}

/* Prompts, weights and oracle of both steps. */
static void kit_make(void)
{
	struct generate_options o = kit_generate();
	struct model *m;
	struct scorer *scorer;
	struct generate_request r[KIT_PROMPTS];
	struct rng_key key = {5, RNG_TEST};
	assert_ok(scorer_length_open(&scorer, &kit.err));
	assert_ok(model_open(&m, kit.backend, &kit_shape, &kit.err));
	for (uint32_t k = 0; k < KIT_STEPS; k++) {
		struct generator *g;
		model_init(m, 100 + k);
		snprintf(kit.weights[k], sizeof kit.weights[k], "%s/v%u.safetensors", kit.folder, k + 1);
		assert_ok(model_save(m, kit.weights[k], 0, kit.hash[k], &kit.err));
		for (uint32_t i = 0; i < KIT_PROMPTS; i++) {
			uint32_t n = 1 + (i + k) % KIT_PROMPT;
			int32_t *tokens = arena_must(kit.arena, n, sizeof *tokens);
			for (uint32_t t = 0; t < n; t++) tokens[t] = 2 + (int32_t)rng_below(key, k, i, t, KIT_VOCAB - 2);
			kit.prompts[k][i] = (struct ppo_prompt){i, i * 3 + k, n, tokens, arena_printf(kit.arena, "prompt %u of step %u", i, k)};
			r[i] = (struct generate_request){.step = k, .slot = i, .prompt = i * 3 + k, .tokens = tokens, .prompt_tokens = n,
							 .prompt_text = kit.prompts[k][i].text};
		}
		assert_ok(generator_open(&g, m, &o, &kit.err));
		assert_ok(generator_run(g, r, KIT_PROMPTS, k + 1, kit_keep, kit.oracle[k], NULL, &kit.err));
		generator_close(g);
		for (uint32_t i = 0; i < KIT_PROMPTS; i++) strcpy(kit.oracle[k][i].scorer_version, scorer->version);
	}
	scorer_close(scorer);
	model_close(m);
}

static int kit_setup(void **state)
{
	(void)state;
	log_setup("test", LOG_SILENT);
	strcpy(kit.folder, "/tmp/tenfold-rollout-XXXXXX");
	if (!mkdtemp(kit.folder)) return -1;
	kit.arena = arena_open(0);
	if (reward_terms_parse(&kit.rule.terms, "length:-0.25", &kit.err) < 0) return -1;
	if (backend_open(&kit.backend, &(struct backend_options){.device = "cpu", .isa = "auto", .threads = 1}, &kit.err) < 0) return -1;
	backend_fingerprint(kit.backend, kit.fingerprint);
	kit_make();
	return 0;
}

static int kit_teardown(void **state)
{
	(void)state;
	backend_close(kit.backend);
	arena_close(kit.arena);
	return fs_remove_tree(kit.folder, &kit.err);
}

/* The server with the kit's defaults. */
static struct ppo_server *kit_server(const char *endpoint, double lease_seconds, int expected)
{
	struct ppo_server *s;
	assert_ok(ppo_server_open(&s,
				  &(struct ppo_server_options){.endpoint = endpoint, .run = KIT_RUN, .fingerprint = kit.fingerprint,
							       .lease_seconds = lease_seconds, .set_aside = KIT_ASIDE, .expected_workers = expected, .group_size = KIT_G,
							       .max_new = KIT_NEW, .limits = {.vocab = KIT_VOCAB, .experts = 8}, .rule = &kit.rule},
				  &kit.err));
	return s;
}

/* Publishes version 1+k and opens step k. */
KIT_UNUSED static void kit_open_step(struct ppo_server *s, uint32_t k)
{
	assert_ok(ppo_server_publish(s, k + 1, kit.weights[k], kit.hash[k], &kit.err));
	ppo_server_open_step(s, k, k + 1, kit.prompts[k], KIT_PROMPTS);
}

/* Waits for step k and compares it with the oracle to the bit. */
KIT_UNUSED static void kit_check_step(struct ppo_server *s, uint32_t k)
{
	char text[200];
	struct group got[KIT_PROMPTS];
	int rc = ppo_server_wait(s, k, 60, got, kit.arena, &kit.err);
	if (rc != 1) fail_msg("step %u: %d %s", k, rc, rc < 0 ? kit.err.msg : "did not come");
	for (uint32_t i = 0; i < KIT_PROMPTS; i++) {
		assert_int_equal(got[i].slot, i);
		if (group_difference(&kit.oracle[k][i], &got[i], text, sizeof text)) fail_msg("group %u/%u: %s", k, i, text);
	}
}

/* ---- a scoring service in a thread ---- */

struct kit_service {
	char endpoint[WIRE_ENDPOINT];
	atomic_int stop;
	struct wire *wire;
	struct scorer *scorer;
	struct reward_service *service;
	pthread_t thread;
};

static void *kit_serve(void *arg)
{
	struct err e;
	struct kit_service *s = arg;
	reward_service_run(s->service, &e);
	return NULL;
}

static void kit_service_start(struct kit_service *s)
{
	memset(s, 0, sizeof *s);
	kit_endpoint(s->endpoint);
	assert_ok(scorer_length_open(&s->scorer, &kit.err));
	assert_ok(wire_open(&s->wire, &(struct wire_options){.stop = &s->stop}, &kit.err));
	assert_ok(reward_service_open(&s->service, s->wire,
				      &(struct reward_service_options){.endpoint = s->endpoint, .run = KIT_RUN, .scorer = s->scorer}, &kit.err));
	assert_int_equal(pthread_create(&s->thread, NULL, kit_serve, s), 0);
}

static void kit_service_stop(struct kit_service *s)
{
	atomic_store(&s->stop, 1);
	pthread_join(s->thread, NULL);
	reward_service_close(s->service);
	wire_close(s->wire);
	scorer_close(s->scorer);
}

/* ---- a worker in a thread, with its own backend and model ---- */

struct kit_worker {
	struct worker_options options;
	struct worker_counters counters;
	char name[MESSAGE_NAME], folder[160], learner[WIRE_ENDPOINT];
	atomic_int stop;
	struct backend *backend;
	struct model *model;
	pthread_t thread;
	int rc;
	struct err err;
};

static void *kit_work(void *arg)
{
	struct kit_worker *w = arg;
	w->rc = worker_run(&w->options, &w->counters, &w->err);
	return NULL;
}

static void kit_worker_prepare(struct kit_worker *w, const char *learner, const struct kit_service *service, int number)
{
	memset(w, 0, sizeof *w);
	snprintf(w->name, sizeof w->name, "worker-%d", number);
	snprintf(w->folder, sizeof w->folder, "%s/weights-%s", kit.folder, w->name);
	strcpy(w->learner, learner);
	assert_ok(backend_open(&w->backend, &(struct backend_options){.device = "cpu", .isa = "auto", .threads = 1}, &kit.err));
	assert_ok(model_open(&w->model, w->backend, &kit_shape, &kit.err));
	w->options = (struct worker_options){.learner = w->learner, .run = KIT_RUN, .name = w->name, .fingerprint = kit.fingerprint, .folder = w->folder,
					     .model = w->model, .generate = kit_generate(),
					     .reward = {.endpoints = service ? service->endpoint : NULL, .rule = &kit.rule}, .stop = &w->stop,
					     .backoff_min_seconds = 0.2, .backoff_max_seconds = 0.8, .silence_seconds = 2, .resend_seconds = 0.5};
}

static void kit_worker_start(struct kit_worker *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, kit_work, w), 0);
}

/* Waits for its end; what it returned is in rc and err. */
static void kit_worker_join(struct kit_worker *w)
{
	pthread_join(w->thread, NULL);
	model_close(w->model);
	backend_close(w->backend);
}

KIT_UNUSED static void kit_worker_expect(struct kit_worker *w, int rc)
{
	kit_worker_join(w);
	if (w->rc != rc) fail_msg("%s ended with %d: %s", w->name, w->rc, w->rc < 0 ? w->err.msg : "");
}

/* ---- a peer that says what the test wants ---- */

struct kit_peer {
	struct wire *wire;
	struct wire_socket *socket;
	struct message_buffer buffer;
	struct arena *arena;
};

KIT_UNUSED static void kit_peer_open(struct kit_peer *p, const char *endpoint)
{
	memset(p, 0, sizeof *p);
	p->arena = arena_open(0);
	assert_ok(wire_open(&p->wire, &(struct wire_options){0}, &kit.err));
	assert_ok(wire_connect(&p->socket, p->wire, endpoint, &kit.err));
}

KIT_UNUSED static void kit_peer_close(struct kit_peer *p)
{
	wire_socket_close(p->socket);
	wire_close(p->wire);
	message_buffer_free(&p->buffer);
	arena_close(p->arena);
}

KIT_UNUSED static void kit_peer_send(struct kit_peer *p, const struct message *m)
{
	assert_ok(message_encode(&p->buffer, m, &kit.err));
	assert_ok(wire_send(p->socket, NULL, p->buffer.data, p->buffer.bytes, &kit.err));
}

/* Sends m and returns the answer, which lives until the next call. */
KIT_UNUSED static struct message kit_peer_ask(struct kit_peer *p, const struct message *m)
{
	struct wire_frame f;
	struct message reply;
	kit_peer_send(p, m);
	arena_reset(p->arena);
	assert_ok(wire_receive(p->socket, 10, &f, &kit.err));
	assert_ok(message_decode(&reply, f.data, f.bytes, p->arena, NULL, &kit.err));
	if (reply.type == MESSAGE_REFUSE) err_set(&kit.err, ERR_STATE, "%s", reply.refuse.reason);
	return reply;
}

KIT_UNUSED static struct message kit_peer_hello(struct kit_peer *p, const char *name, const char *run, const char *fingerprint)
{
	struct message m;
	message_init(&m, MESSAGE_HELLO, run);
	strcpy(m.hello.name, name);
	strcpy(m.hello.fingerprint, fingerprint);
	return kit_peer_ask(p, &m);
}

KIT_UNUSED static struct message kit_peer_lease(struct kit_peer *p, uint32_t capacity)
{
	struct message m;
	message_init(&m, MESSAGE_ASK, KIT_RUN);
	m.ask.capacity = capacity;
	return kit_peer_ask(p, &m);
}

KIT_UNUSED static struct message kit_peer_group(struct kit_peer *p, const struct group *g)
{
	struct message m;
	message_init(&m, MESSAGE_GROUP, KIT_RUN);
	m.group = *g;
	return kit_peer_ask(p, &m);
}

#endif
