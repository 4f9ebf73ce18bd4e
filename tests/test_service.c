/* Scoring: services and clients in threads over ipc and tcp. Whoever scores,
 * however often it is asked, whatever else arrives: the same rewards, counted
 * once. The last part runs the command scorer and the example programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "reward/bench.h"
#include "reward/client.h"
#include "reward/service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { G = 4, GROUPS = 40 };

static struct arena *arena;
static struct err err;

static int setup(void **state)
{
	(void)state;
	arena = arena_open(0);
	log_setup("test", LOG_SILENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_close(arena);
	return 0;
}

#define assert_ok(call)                                                                                                \
	do {                                                                                                           \
		if ((call) < 0) fail_msg("%s: %s", #call, err.msg);                                                    \
	} while (0)

#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

/* A scorer whose result is easy to foretell and that can be slow, or broken for one prompt. */
struct fake {
	struct scorer scorer;
	double delay;
	int broken; /* prompt that fails; -1: none */
	int given_nan;
	uint32_t largest, calls; /* batch */
};

static float fake_value(const struct group *g, uint32_t i)
{
	return (float)(g->prompt * 10 + i) + (float)strlen(g->text[i]) / 16;
}

static int fake_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct fake *f = self;
	f->calls++;
	if (n > f->largest) f->largest = n;
	if (f->delay > 0) usleep((useconds_t)(f->delay * 1e6));
	for (uint32_t g = 0; g < n; g++) {
		if ((int)groups[g]->prompt == f->broken) return err_set(e, ERR_RANGE, "prompt %d breaks this scorer", f->broken);
		for (uint32_t i = 0; i < groups[g]->size; i++) *out++ = f->given_nan ? NAN : fake_value(groups[g], i);
	}
	return 0;
}

static void fake_close(struct scorer *s)
{
	(void)s;
}

static void fake_init(struct fake *f, const char *version)
{
	*f = (struct fake){.scorer = {.self = f, .name = "fake", .terms = 1, .term_name = {"fake"}, .score = fake_score, .close = fake_close},
	                   .broken = -1};
	strcpy(f->scorer.version, version);
}

struct running {
	struct wire *wire;
	struct reward_service *service;
	struct fake fake;
	atomic_int stop;
	pthread_t thread;
	int on;
};

static void *serve(void *arg)
{
	struct err e;
	struct running *r = arg;
	int rc = reward_service_run(r->service, &e);
	if (rc < 0) fprintf(stderr, "service: %s\n", e.msg);
	return NULL;
}

static void service_prepare(struct running *r, const char *version)
{
	memset(r, 0, sizeof *r);
	fake_init(&r->fake, version);
}

static void service_start(struct running *r, const char *endpoint, const char *run, const char *fingerprint, struct scorer *scorer)
{
	atomic_store(&r->stop, 0);
	assert_ok(wire_open(&r->wire, &(struct wire_options){.stop = &r->stop, .max_message = 1 << 20}, &err));
	assert_ok(reward_service_open(&r->service, r->wire,
	                              &(struct reward_service_options){.endpoint = endpoint, .run = run, .fingerprint = fingerprint,
	                                                               .batch_groups = 8, .scorer = scorer ? scorer : &r->fake.scorer},
	                              &err));
	assert_int_equal(pthread_create(&r->thread, NULL, serve, r), 0);
	r->on = 1;
}

static void service_stop(struct running *r)
{
	if (!r->on) return;
	atomic_store(&r->stop, 1);
	pthread_join(r->thread, NULL);
	r->on = 0;
}

static void service_close(struct running *r)
{
	service_stop(r);
	reward_service_close(r->service);
	wire_close(r->wire);
}

static struct group make_group(uint32_t i)
{
	static const char *const texts[] = {"", "a", "ab", "abc", "abcd", "abcde", "abcdef"};
	struct group g = {.step = 3, .slot = i, .prompt = i % 7, .size = G, .prompt_text = "prompt with words"};
	for (uint32_t k = 0; k < G; k++) {
		g.text[k] = texts[(i + k) % 7];
		g.length[k] = (i + k) % 7 + 1;
	}
	return g;
}

static void check_group(const struct group *g, const char *version)
{
	assert_int_equal(g->terms, 1);
	assert_string_equal(g->term_name[0], "fake");
	assert_string_equal(g->scorer_version, version);
	for (uint32_t k = 0; k < G; k++) assert_true(g->scores[k] == fake_value(g, k));
}

static struct reward_client *client_start(struct wire *w, const char *endpoints, const char *run, const char *fingerprint)
{
	struct reward_client *c;
	assert_ok(reward_client_open(&c, w,
	                             &(struct reward_client_options){.endpoints = endpoints, .run = run, .fingerprint = fingerprint,
	                                                             .timeout_seconds = 0.2, .backoff_max_seconds = 0.8},
	                             &err));
	return c;
}

static struct wire *wire_start(void)
{
	struct wire *w;
	assert_ok(wire_open(&w, &(struct wire_options){0}, &err));
	return w;
}

/* Submits `n` groups and collects them; every one comes back once. */
static void score_all(struct reward_client *c, uint32_t n, const char *version)
{
	struct group *g = arena_must(arena, n, sizeof *g), *got;
	char *seen = arena_must(arena, n, 1);
	for (uint32_t i = 0; i < n; i++) {
		g[i] = make_group(i);
		assert_ok(reward_client_submit(c, &g[i], arena, &err));
	}
	for (uint32_t k = 0; k < n; k++) {
		int rc = reward_client_poll(c, 20, &got, &err);
		if (rc != 1) fail_msg("poll: %d, %s", rc, rc < 0 ? err.msg : "nothing came");
		check_group(got, version);
		assert_false(seen[got->slot]);
		seen[got->slot] = 1;
	}
	assert_int_equal(reward_client_pending(c), 0);
	assert_int_equal(reward_client_poll(c, 0, &got, &err), 0);
}

static void test_scores(void **state)
{
	(void)state;
	static const char *const endpoints[] = {"ipc://@tenfold-test-service", "tcp://127.0.0.1:*"};
	for (int t = 0; t < 2; t++) {
		struct running r;
		struct message_counters n;
		service_prepare(&r, "fake-1");
		service_start(&r, endpoints[t], "run", "", NULL);
		struct wire *w = wire_start();
		struct reward_client *c = client_start(w, reward_service_endpoint(r.service), "run", "");
		score_all(c, GROUPS, "fake-1");
		score_all(c, GROUPS, "fake-1"); /* the same ids and bytes: from memory, counted once */
		struct group g = make_group(0), other = make_group(1);
		other.slot = 0;
		g.text[2] = "changed";
		/* 14: the same id with other content */
		assert_ok(reward_client_submit(c, &g, arena, &err));
		assert_int_equal(reward_client_submit(c, &other, arena, &err), ERR_STATE);
		struct group *got;
		assert_int_equal(reward_client_poll(c, 20, &got, &err), ERR_STATE);
		assert_said("conflict");
		assert_ptr_equal(got, &g);
		assert_int_equal(reward_client_pending(c), 0);
		reward_client_close(c);
		wire_close(w);
		service_stop(&r);
		reward_service_counters(r.service, &n);
		assert_int_equal(n.scored, GROUPS);
		assert_true(n.repeated >= GROUPS);
		assert_int_equal(n.conflicts, 1);
		assert_int_equal(n.malformed, 0);
		service_close(&r);
	}
}

struct client_thread {
	const char *endpoint;
	uint32_t first;
	pthread_t thread;
	int failed;
};

static void *score_some(void *arg)
{
	struct client_thread *t = arg;
	struct arena *a = arena_open(0);
	struct wire *w = NULL;
	struct reward_client *c = NULL;
	struct group g[16];
	struct err e;
	t->failed = 1;
	if (wire_open(&w, &(struct wire_options){0}, &e) < 0 ||
	    reward_client_open(&c, w, &(struct reward_client_options){.endpoints = t->endpoint, .run = "run"}, &e) < 0)
		goto out;
	struct group *list[16];
	for (uint32_t i = 0; i < 16; i++) {
		g[i] = make_group(t->first + i);
		list[i] = &g[i];
	}
	if (reward_client_score(c, list, 16, a, &e) < 0) goto out;
	t->failed = 0;
	for (uint32_t i = 0; i < 16; i++)
		for (uint32_t k = 0; k < G; k++) t->failed |= g[i].scores[k] != fake_value(&g[i], k);
out:
	reward_client_close(c);
	wire_close(w);
	arena_close(a);
	return NULL;
}

/* Several clients at once, half of whose groups are the same; what waits is scored as batches. */
static void test_clients_and_batches(void **state)
{
	(void)state;
	struct running r;
	struct client_thread t[4];
	service_prepare(&r, "fake-1");
	r.fake.delay = 0.02;
	service_start(&r, "tcp://127.0.0.1:*", "", "", NULL);
	for (int i = 0; i < 4; i++) {
		t[i] = (struct client_thread){.endpoint = reward_service_endpoint(r.service), .first = (uint32_t)i * 8};
		assert_int_equal(pthread_create(&t[i].thread, NULL, score_some, &t[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i].thread, NULL);
		assert_false(t[i].failed);
	}
	service_stop(&r);
	struct message_counters n;
	reward_service_counters(r.service, &n);
	assert_int_equal(n.scored, 40);
	assert_int_equal(n.repeated, 24);
	assert_true(r.fake.largest > 1 && r.fake.largest <= 8);
	assert_true(n.batches < 40);
	service_close(&r);
}

/* A slow service is asked again, answers once; a stopped one is replaced by the other; it comes back. */
static void test_retry_and_failover(void **state)
{
	(void)state;
	struct running a, b;
	char both[2 * WIRE_ENDPOINT];
	struct reward_client_counters n;
	service_prepare(&a, "fake-1");
	service_prepare(&b, "fake-1");
	a.fake.delay = 0.5;
	service_start(&a, "tcp://127.0.0.1:*", "run", "", NULL);
	struct wire *w = wire_start();
	struct reward_client *c = client_start(w, reward_service_endpoint(a.service), "run", "");
	score_all(c, 1, "fake-1");
	reward_client_counters(c, &n);
	assert_true(n.retries >= 1);
	reward_client_close(c);
	a.fake.delay = 0;
	service_start(&b, "ipc://@tenfold-test-failover", "run", "", NULL);
	snprintf(both, sizeof both, "%s, %s", reward_service_endpoint(a.service), reward_service_endpoint(b.service));
	service_stop(&a);
	c = client_start(w, both, "run", "");
	double start = fs_now();
	score_all(c, GROUPS, "fake-1");
	assert_true(fs_now() - start < 5);
	service_stop(&b);
	struct message_counters counters;
	reward_service_counters(b.service, &counters);
	assert_int_equal(counters.scored, GROUPS);
	/* both are gone: nothing is lost, and the first that is back does it */
	struct group g = make_group(100), *got;
	assert_ok(reward_client_submit(c, &g, arena, &err));
	assert_int_equal(reward_client_poll(c, 0.5, &got, &err), 0);
	assert_int_equal(reward_client_pending(c), 1);
	atomic_store(&a.stop, 0);
	assert_int_equal(pthread_create(&a.thread, NULL, serve, &a), 0);
	a.on = 1;
	assert_int_equal(reward_client_poll(c, 20, &got, &err), 1);
	check_group(got, "fake-1");
	reward_client_close(c);
	wire_close(w);
	service_close(&a);
	service_close(&b);
}

/* 17: another run; another fingerprint; another scorer version: set aside by name. */
static void test_unsuitable(void **state)
{
	(void)state;
	struct running a, b;
	char both[2 * WIRE_ENDPOINT];
	struct group g = make_group(1), *got;
	service_prepare(&a, "fake-1");
	service_prepare(&b, "fake-1");
	service_start(&a, "ipc://@tenfold-test-run", "this", "aaaa", NULL);
	service_start(&b, "ipc://@tenfold-test-other", "that", "aaaa", NULL);
	struct wire *w = wire_start();
	struct reward_client *c = client_start(w, reward_service_endpoint(b.service), "this", "aaaa");
	assert_ok(reward_client_submit(c, &g, arena, &err));
	assert_true(reward_client_poll(c, 10, &got, &err) < 0);
	assert_said("run \"this\"");
	assert_said("run \"that\"");
	assert_ptr_equal(got, &g);
	reward_client_close(c);
	c = client_start(w, reward_service_endpoint(a.service), "this", "bbbb");
	assert_ok(reward_client_submit(c, &g, arena, &err));
	assert_true(reward_client_poll(c, 10, &got, &err) < 0);
	assert_said("fingerprint bbbb");
	reward_client_close(c);
	/* beside a suitable one the run goes on */
	snprintf(both, sizeof both, "%s,%s", reward_service_endpoint(b.service), reward_service_endpoint(a.service));
	c = client_start(w, both, "this", "aaaa");
	score_all(c, GROUPS, "fake-1");
	reward_client_close(c);
	/* versions are not mixed */
	struct running other;
	service_prepare(&other, "fake-2");
	service_start(&other, "ipc://@tenfold-test-version", "this", "aaaa", NULL);
	snprintf(both, sizeof both, "%s,%s", reward_service_endpoint(other.service), reward_service_endpoint(a.service));
	assert_ok(reward_client_open(&c, w,
	                             &(struct reward_client_options){.endpoints = both, .run = "this", .fingerprint = "aaaa",
	                                                             .scorer_version = "fake-1", .timeout_seconds = 0.5},
	                             &err));
	score_all(c, GROUPS, "fake-1");
	reward_client_close(c);
	/* nor is a scorer taken that lacks a term */
	struct reward_rule rule = {0};
	assert_ok(reward_terms_parse(&rule.terms, "gold", &err));
	assert_ok(reward_client_open(&c, w,
	                             &(struct reward_client_options){.endpoints = reward_service_endpoint(a.service), .run = "this",
	                                                             .rule = &rule, .timeout_seconds = 0.5},
	                             &err));
	assert_ok(reward_client_submit(c, &g, arena, &err));
	assert_int_equal(reward_client_poll(c, 10, &got, &err), ERR_MISMATCH);
	assert_said("\"gold\"");
	reward_client_close(c);
	wire_close(w);
	service_close(&a);
	service_close(&b);
	service_close(&other);
}

static void send_raw(const char *endpoint, const void *data, size_t bytes)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	to.sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
	/* 12: closed by the service within 5 s, whatever was sent */
	char sink[256];
	struct timeval limit = {.tv_sec = 5};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	ssize_t n;
	while ((n = recv(fd, sink, sizeof sink, 0)) > 0) continue;
	assert_true(n == 0 || errno == ECONNRESET);
	close(fd);
}

static struct message_counters ask_health(struct wire_socket *s)
{
	struct message_buffer b = {0};
	struct wire_frame f;
	struct message m;
	message_init(&m, MESSAGE_HEALTH, "");
	assert_ok(message_encode(&b, &m, &err));
	assert_ok(wire_send(s, NULL, b.data, b.bytes, &err));
	assert_ok(wire_receive(s, 5, &f, &err));
	assert_ok(message_decode(&m, f.data, f.bytes, arena, NULL, &err));
	assert_int_equal(m.type, MESSAGE_COUNTERS);
	message_buffer_free(&b);
	return m.counters;
}

/* 12, and malformed frames from a peer that speaks ZeroMQ: refused, the service goes on. */
static void test_garbage(void **state)
{
	(void)state;
	struct running r;
	char noise[4096];
	service_prepare(&r, "fake-1");
	service_start(&r, "tcp://127.0.0.1:*", "run", "", NULL);
	const char *endpoint = reward_service_endpoint(r.service);
	for (uint32_t i = 0; i < sizeof noise; i++) noise[i] = (char)rng_u32((struct rng_key){1, RNG_TEST}, 0, i, 0);
	send_raw(endpoint, noise, sizeof noise);
	send_raw(endpoint, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	send_raw(endpoint, "\xff\0\0\0\0\0\0\0\x01\x7f", 10); /* the greeting's start, then silence */
	struct wire *w = wire_start();
	struct wire_socket *s;
	struct wire_frame f;
	struct message m;
	assert_ok(wire_connect(&s, w, endpoint, &err));
	struct message_counters before = ask_health(s); /* noise may look like frames of ZeroMQ's oldest protocol */
	static const char *const frames[] = {"\xdd\xff\0\0\0", "\x80\x80\x80\x80\x80", "\xc1\xc1\xc1\xc1\xc1", "text.", "\x91\x91\x91\x91\x91"};
	for (int i = 0; i < 5; i++) {
		assert_ok(wire_send(s, NULL, frames[i], 5, &err));
		assert_ok(wire_receive(s, 5, &f, &err));
		assert_ok(message_decode(&m, f.data, f.bytes, arena, NULL, &err));
		assert_int_equal(m.type, MESSAGE_REFUSE);
		assert_non_null(strstr(m.refuse.reason, "malformed"));
	}
	/* a message a service does not take, and a group that is not one */
	struct message_buffer b = {0};
	message_init(&m, MESSAGE_ASK, "run");
	assert_ok(message_encode(&b, &m, &err));
	assert_ok(wire_send(s, NULL, b.data, b.bytes, &err));
	assert_ok(wire_receive(s, 5, &f, &err));
	assert_ok(message_decode(&m, f.data, f.bytes, arena, NULL, &err));
	assert_string_equal(m.refuse.about, "ask");
	message_init(&m, MESSAGE_SCORE, "run");
	m.score.group = make_group(6);
	assert_ok(message_encode(&b, &m, &err));
	b.data[(unsigned char *)memmem(b.data, b.bytes, "\xa4size", 5) - b.data + 5] = 5;
	assert_ok(wire_send(s, NULL, b.data, b.bytes, &err));
	assert_ok(wire_receive(s, 5, &f, &err));
	assert_ok(message_decode(&m, f.data, f.bytes, arena, NULL, &err));
	assert_string_equal(m.refuse.about, "score");
	assert_int_equal(m.refuse.slot, 6);
	message_buffer_free(&b);
	struct message_counters after = ask_health(s);
	assert_int_equal(after.malformed, before.malformed + 6);
	assert_int_equal(after.refused, before.refused + 7);
	assert_int_equal(after.received, before.received + 8);
	wire_socket_close(s);
	struct reward_client *c = client_start(w, endpoint, "run", "");
	score_all(c, GROUPS, "fake-1");
	reward_client_close(c);
	wire_close(w);
	service_close(&r);
}

/* A group that breaks the scorer is refused with the reason and takes no other with it; so is a NaN. */
static void test_failing_scorer(void **state)
{
	(void)state;
	struct running r;
	struct group g[8], *got;
	int broken = 0, good = 0;
	service_prepare(&r, "fake-1");
	r.fake.broken = 5;
	service_start(&r, "ipc://@tenfold-test-broken", "run", "", NULL);
	struct wire *w = wire_start();
	struct reward_client *c = client_start(w, reward_service_endpoint(r.service), "run", "");
	for (uint32_t i = 0; i < 7; i++) {
		g[i] = make_group(i);
		assert_ok(reward_client_submit(c, &g[i], arena, &err));
	}
	while (reward_client_pending(c)) {
		int rc = reward_client_poll(c, 10, &got, &err);
		if (rc == 1) {
			check_group(got, "fake-1");
			good++;
			continue;
		}
		assert_int_equal(rc, ERR_STATE);
		assert_ptr_equal(got, &g[5]);
		assert_said("prompt 5 breaks this scorer");
		broken++;
	}
	assert_int_equal(good, 6);
	assert_int_equal(broken, 1);
	service_stop(&r);
	r.fake.given_nan = 1;
	atomic_store(&r.stop, 0);
	assert_int_equal(pthread_create(&r.thread, NULL, serve, &r), 0);
	r.on = 1;
	g[7] = make_group(7);
	assert_ok(reward_client_submit(c, &g[7], arena, &err));
	assert_int_equal(reward_client_poll(c, 10, &got, &err), ERR_STATE);
	assert_said("\"values\": element 0 is");
	reward_client_close(c);
	wire_close(w);
	service_close(&r);
}

static void test_terms(void **state)
{
	(void)state;
	struct reward_rule rule = {0};
	assert_ok(reward_terms_parse(&rule.terms, " verifier:1.0, length : -0.001 ,x", &err));
	assert_int_equal(rule.terms.count, 3);
	assert_string_equal(rule.terms.name[1], "length");
	assert_true(rule.terms.weight[1] == -0.001 && rule.terms.weight[2] == 1);
	struct reward_terms bad;
	static const char *const wrong[] = {"", "a:", "a:1x", "a:1,,b", "a,a", ":1", "a:inf", "name-that-is-longer-than-31-bytes"};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) assert_int_equal(reward_terms_parse(&bad, wrong[i], &err), ERR_FORMAT);
	/* weighted sum by name, whatever the order of the group's terms */
	float scores[] = {10, 20, 30, 1, 0.5f, -2}, reward[3], same[3];
	struct group g = {.step = 4, .slot = 9, .size = 3, .terms = 2, .term_name = {"length", "verifier"}, .scores = scores};
	assert_ok(reward_terms_parse(&rule.terms, "verifier:2, length:-0.1", &err));
	assert_ok(reward_combine(&g, reward, &rule, &err));
	assert_ptr_equal(g.reward, reward);
	assert_true(reward[0] == 1 && reward[1] == -1 && reward[2] == -7);
	rule.clip = 1.5;
	assert_ok(reward_combine(&g, reward, &rule, &err));
	assert_true(reward[0] == 1 && reward[1] == -1 && reward[2] == -1.5f);
	/* the control: a permutation that depends on seed, step and slot only */
	rule.clip = 0;
	rule.shuffle = 1;
	int moved = 0, differ = 0;
	for (uint32_t slot = 0; slot < 20; slot++) {
		g.slot = slot;
		rule.seed = 1;
		assert_ok(reward_combine(&g, reward, &rule, &err));
		assert_ok(reward_combine(&g, same, &rule, &err));
		assert_memory_equal(reward, same, sizeof same);
		assert_true(reward[0] + reward[1] + reward[2] == -7);
		moved += reward[0] != 1;
		rule.seed = 2;
		assert_ok(reward_combine(&g, same, &rule, &err));
		differ += memcmp(reward, same, sizeof same) != 0;
	}
	assert_true(moved > 3 && differ > 3);
	scores[4] = NAN;
	assert_int_equal(reward_combine(&g, reward, &rule, &err), ERR_RANGE);
	assert_ok(reward_terms_parse(&rule.terms, "gold", &err));
	assert_int_equal(reward_combine(&g, reward, &rule, &err), ERR_NOT_FOUND);
	assert_said("\"gold\"");
}

static void test_scorer_terms(void **state)
{
	(void)state;
	struct fake f;
	struct scorer *given[1], *s;
	struct reward_terms terms;
	fake_init(&f, "fake-1");
	given[0] = &f.scorer;
	assert_ok(reward_terms_parse(&terms, "length:-1, fake", &err));
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	struct group g[2] = {make_group(1), make_group(2)};
	g[1].size = 3;
	const struct group *list[2] = {&g[0], &g[1]};
	float out[2 * 4 + 2 * 3];
	assert_int_equal(scorer_offset(s, list, 2), 14);
	assert_ok(s->score(s->self, list, 2, out, &err));
	for (uint32_t i = 0; i < 4; i++) assert_true(out[i] == (float)g[0].length[i] && out[4 + i] == fake_value(&g[0], i));
	for (uint32_t i = 0; i < 3; i++) assert_true(out[8 + i] == (float)g[1].length[i] && out[11 + i] == fake_value(&g[1], i));
	char version[GROUP_VERSION];
	strcpy(version, s->version);
	scorer_close(s);
	fake_init(&f, "fake-2");
	assert_ok(scorer_terms_open(&s, &terms, given, 1, "", 1, &err));
	assert_string_not_equal(version, s->version);
	scorer_close(s);
	assert_ok(reward_terms_parse(&terms, "gold", &err));
	assert_int_equal(scorer_terms_open(&s, &terms, given, 1, "", 1, &err), ERR_NOT_FOUND);
	assert_said("length, command, fake");
	assert_ok(reward_terms_parse(&terms, "command", &err));
	assert_int_equal(scorer_terms_open(&s, &terms, given, 1, "", 1, &err), ERR_NOT_FOUND);
	assert_said("reward.command");
}

/* Runs a command over three groups; the result of score, values in out. */
static int run_command(const char *command, double timeout, float *out)
{
	struct scorer *s;
	struct group g[3] = {make_group(0), make_group(1), make_group(2)};
	const struct group *list[3] = {&g[0], &g[1], &g[2]};
	assert_ok(scorer_command_open(&s, command, timeout, &err));
	int rc = s->score(s->self, list, 3, out, &err);
	if (rc == 0) rc = s->score(s->self, list, 3, out, &err); /* the same process, a second time */
	scorer_close(s);
	return rc;
}

/* sed turns a group's line into an answer: no interpreter is needed. */
#define ANSWER "s/.*\"id\":\"\\([^\"]*\\)\".*/{\"id\":\"\\1\",\"scores\":[1,2.5,-3,4e0]}/"

static void check_answers(const float *out)
{
	static const float want[4] = {1, 2.5f, -3, 4};
	for (int i = 0; i < 12; i++) assert_true(out[i] == want[i % 4]);
}

static void test_command(void **state)
{
	(void)state;
	float out[12];
	assert_ok(run_command("sed -u '" ANSWER "'", 10, out));
	check_answers(out);
	/* wrong lines: by number, with the text */
	assert_int_equal(run_command("sed -u '2s/.*/nonsense/;" ANSWER "'", 10, out), ERR_FORMAT);
	assert_said("line 2 of the output");
	assert_said("nonsense");
	assert_int_equal(run_command("sed -u '" ANSWER ";3s/,4e0//'", 10, out), ERR_FORMAT);
	assert_said("line 3 of the output");
	assert_said("not a list of 4 numbers");
	assert_int_equal(run_command("sed -u '" ANSWER ";s/2.5/\"x\"/'", 10, out), ERR_FORMAT);
	assert_said("score 1 is not a finite number");
	assert_int_equal(run_command("sed -u '" ANSWER ";s/2.5/1e60/'", 10, out), ERR_FORMAT);
	assert_int_equal(run_command("sed -u '" ANSWER ";s/3./9/'", 10, out), ERR_FORMAT);
	assert_said("\"id\"");
	/* not there; ends; hangs */
	assert_int_equal(run_command("exec 2>&-; ./no-such-program-here", 10, out), ERR_NET);
	assert_said("ended 3 times, at group 3/0 (prompt 0)");
	assert_int_equal(run_command("head -n 1 >/dev/null", 10, out), ERR_NET);
	double start = fs_now();
	assert_int_equal(run_command("cat >/dev/null; sleep 1000", 0.2, out), ERR_NET);
	assert_said("gave no line in time 3 times");
	assert_true(fs_now() - start < 10);
}

/* Crashes in the middle: started again, the open groups are given again. */
static void test_command_crash(void **state)
{
	(void)state;
	float out[12];
	char folder[] = "/tmp/tenfold-test-XXXXXX", command[512], path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/count", folder);
	/* the first process answers one line and ends, the next answers all */
	snprintf(command, sizeof command, "echo x >>%s; if [ $(wc -l <%s) = 1 ]; then sed -u -n '" ANSWER ";p;q'; else sed -u '" ANSWER "'; fi",
	         path, path);
	assert_ok(run_command(command, 10, out));
	check_answers(out);
	char *text;
	size_t bytes;
	assert_ok(fs_read(path, 100, &text, &bytes, &err));
	assert_string_equal(text, "x\nx\n");
	free(text);
	/* an edited script is another version */
	struct scorer *s;
	char version[GROUP_VERSION];
	snprintf(path, sizeof path, "%s/score", folder);
	assert_ok(fs_write_atomic(path, "one", 3, &err));
	assert_ok(scorer_command_open(&s, path, 1, &err));
	strcpy(version, s->version);
	scorer_close(s);
	assert_ok(fs_write_atomic(path, "two", 3, &err));
	assert_ok(scorer_command_open(&s, path, 1, &err));
	assert_string_not_equal(version, s->version);
	scorer_close(s);
	fs_remove_tree(folder, NULL);
}

static int process_lives(pid_t pid)
{
	char path[64], state = 'Z';
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f) return 0;
	int n = fscanf(f, "%*d %*s %c", &state);
	fclose(f);
	return n == 1 && state != 'Z';
}

/* The command and what it started end with the process, also when that is killed. */
static void test_command_dies_with_us(void **state)
{
	(void)state;
#if defined(__SANITIZE_THREAD__)
	skip(); /* a fork of a process with threads cannot start further ones under this sanitizer */
#endif
	char folder[] = "/tmp/tenfold-test-XXXXXX", command[256], path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/pid", folder);
	snprintf(command, sizeof command, "sleep 300 & echo $! >%s.tmp; mv %s.tmp %s; sed -u '" ANSWER "'; sleep 300", path, path, path);
	pid_t us = fork();
	if (us == 0) {
		float out[12];
		struct scorer *s;
		struct group g = make_group(0);
		const struct group *list[1] = {&g};
		if (scorer_command_open(&s, command, 10, &err) == 0) s->score(s->self, list, 1, out, &err);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(us, &status, 0), us);
	assert_true(WIFSIGNALED(status));
	char *text;
	size_t bytes;
	assert_ok(fs_read(path, 100, &text, &bytes, &err));
	pid_t sleeper = atoi(text);
	free(text);
	assert_true(sleeper > 1);
	int alive = 1;
	for (int i = 0; i < 100 && (alive = process_lives(sleeper)); i++) usleep(50000);
	assert_false(alive);
	fs_remove_tree(folder, NULL);
}

/* The first interpreter that runs this; NULL: none. */
static const char *find_python(const char *imports)
{
	static const char *const names[] = {"python3", "/usr/bin/python3"};
	char command[256];
	for (int i = 0; i < 2; i++) {
		snprintf(command, sizeof command, "%s -c 'import %s' >/dev/null 2>&1", names[i], imports);
		if (system(command) == 0) return names[i];
	}
	return NULL;
}

static void test_example_command(void **state)
{
	(void)state;
	const char *python = find_python("json");
	float out[12];
	char command[512];
	if (!python) skip();
	snprintf(command, sizeof command, "%s %s/examples/score.py", python, TENFOLD_SOURCE);
	struct scorer *s;
	struct group g = make_group(0);
	const struct group *list[1] = {&g};
	g.text[0] = "words";
	g.text[1] = "words prompt \"quoted\"\n words";
	g.text[2] = "";
	g.text[3] = "\xff with \xf0\x9f\x99\x82";
	assert_ok(scorer_command_open(&s, command, 20, &err));
	assert_ok(s->score(s->self, list, 1, out, &err));
	assert_true(out[0] == 1 && out[1] == 2 && out[2] == 0 && out[3] == 1);
	scorer_close(s);
}

/* The service written in Python from docs/messages.md, driven by the client. */
static void test_example_service(void **state)
{
	(void)state;
	const char *python = find_python("zmq, msgpack");
	if (!python) skip();
	char folder[] = "/tmp/tenfold-test-XXXXXX", endpoint[64];
	assert_non_null(mkdtemp(folder));
	snprintf(endpoint, sizeof endpoint, "ipc://%s/service", folder);
	pid_t child = fork();
	if (child == 0) {
		execlp(python, python, TENFOLD_SOURCE "/examples/reward_service.py", endpoint, (char *)NULL);
		_exit(127);
	}
	struct wire *w = wire_start();
	struct reward_client *c;
	struct reward_rule rule = {0};
	assert_ok(reward_terms_parse(&rule.terms, "short:2", &err));
	assert_ok(reward_client_open(&c, w, &(struct reward_client_options){.endpoints = endpoint, .run = "run", .rule = &rule}, &err));
	struct group g[5], *got;
	for (uint32_t i = 0; i < 5; i++) {
		g[i] = make_group(i);
		assert_ok(reward_client_submit(c, &g[i], arena, &err));
	}
	for (int i = 0; i < 5; i++) {
		int rc = reward_client_poll(c, 30, &got, &err);
		if (rc != 1) fail_msg("%s", rc < 0 ? err.msg : "no answer");
		assert_string_equal(got->scorer_version, "short-1");
		for (uint32_t k = 0; k < G; k++) assert_true(got->reward[k] == (float)(2.0 * (double)(float)(-(double)strlen(got->text[k]) / 200)));
	}
	reward_client_close(c);
	wire_close(w);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	fs_remove_tree(folder, NULL);
}

static void test_bench(void **state)
{
	(void)state;
	struct reward_bench b;
	assert_ok(reward_bench_run(&b, 50, &err));
	for (int t = 0; t < REWARD_BENCH_TRANSPORTS; t++) {
		assert_true(b.transport[t].p50_us > 0 && b.transport[t].p99_us >= b.transport[t].p50_us);
		assert_true(b.transport[t].groups_per_second > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command_dies_with_us), /* first: it forks, and no thread has been started yet */
		cmocka_unit_test(test_scores),
		cmocka_unit_test(test_clients_and_batches),
		cmocka_unit_test(test_retry_and_failover),
		cmocka_unit_test(test_unsuitable),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_failing_scorer),
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_scorer_terms),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_command_crash),
		cmocka_unit_test(test_example_command),
		cmocka_unit_test(test_example_service),
		cmocka_unit_test(test_bench),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
