/* Scoring: services and clients in threads over ipc and tcp. Whoever scores,
 * however often it is asked, whatever else arrives: the same rewards, counted
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "reward/client.h"
#include "reward/service.h"
#include "tests/fake_scorer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { GROUPS = 40 };

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
	assert_true(n.repeated >= 24); /* more when a slow machine makes a client ask again */
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
	service_start(&b, "ipc://@tenfold-test-failover", "run", "", NULL);
	snprintf(both, sizeof both, "%s, %s", reward_service_endpoint(a.service), reward_service_endpoint(b.service));
	service_stop(&a);
	a.fake.delay = 0;
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

/* 17: another run; another fingerprint: set aside by name. */
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
	wire_close(w);
	service_close(&a);
	service_close(&b);
}

/* Scorer versions are not mixed; a scorer that lacks a term is not taken. */
static void test_versions_and_terms(void **state)
{
	(void)state;
	struct running a, other;
	struct reward_client *c;
	char both[2 * WIRE_ENDPOINT];
	struct group g = make_group(1), *got;
	struct wire *w = wire_start();
	service_prepare(&a, "fake-1");
	service_start(&a, "ipc://@tenfold-test-run", "this", "aaaa", NULL);
	service_prepare(&other, "fake-2");
	service_start(&other, "ipc://@tenfold-test-version", "this", "aaaa", NULL);
	snprintf(both, sizeof both, "%s,%s", reward_service_endpoint(other.service), reward_service_endpoint(a.service));
	assert_ok(reward_client_open(&c, w,
	                             &(struct reward_client_options){.endpoints = both, .run = "this", .fingerprint = "aaaa",
	                                                             .scorer_version = "fake-1", .timeout_seconds = 0.5},
	                             &err));
	score_all(c, GROUPS, "fake-1");
	reward_client_close(c);
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

/* 12: noise on the port is cut off, the service goes on. */
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
	struct reward_client *c = client_start(w, endpoint, "run", "");
	score_all(c, GROUPS, "fake-1");
	reward_client_close(c);
	wire_close(w);
	service_close(&r);
}

/* Sends a frame and decodes the answer, which stays valid until the arena's end. */
static void exchange(struct wire_socket *s, const void *data, size_t bytes, struct message *m)
{
	struct wire_frame f;
	assert_ok(wire_send(s, NULL, data, bytes, &err));
	assert_ok(wire_receive(s, 5, &f, &err));
	assert_ok(message_decode(m, f.data, f.bytes, arena, NULL, &err));
}

static struct message_counters ask_health(struct wire_socket *s)
{
	struct message_buffer b = {0};
	struct message m;
	message_init(&m, MESSAGE_HEALTH, "");
	assert_ok(message_encode(&b, &m, &err));
	exchange(s, b.data, b.bytes, &m);
	assert_int_equal(m.type, MESSAGE_COUNTERS);
	message_buffer_free(&b);
	return m.counters;
}

/* Frames that are no messages, messages a service has no use for, a group that does not add up: each is refused with
 * the reason, and counted. */
static void test_bad_requests(void **state)
{
	(void)state;
	struct running r;
	struct wire_socket *s;
	struct message m;
	struct message_buffer b = {0};
	service_prepare(&r, "fake-1");
	service_start(&r, "ipc://@tenfold-test-bad", "run", "", NULL);
	struct wire *w = wire_start();
	assert_ok(wire_connect(&s, w, reward_service_endpoint(r.service), &err));
	static const char *const frames[] = {"\xdd\xff\0\0\0", "\x80\x80\x80\x80\x80", "\xc1\xc1\xc1\xc1\xc1", "text.", "\x91\x91\x91\x91\x91"};
	for (int i = 0; i < 5; i++) {
		exchange(s, frames[i], 5, &m);
		assert_int_equal(m.type, MESSAGE_REFUSE);
		assert_non_null(strstr(m.refuse.reason, "malformed"));
	}
	message_init(&m, MESSAGE_ASK, "run");
	assert_ok(message_encode(&b, &m, &err));
	exchange(s, b.data, b.bytes, &m);
	assert_string_equal(m.refuse.about, "ask");
	message_init(&m, MESSAGE_SCORE, "run");
	m.score.group = make_group(6);
	assert_ok(message_encode(&b, &m, &err));
	b.data[(unsigned char *)memmem(b.data, b.bytes, "\xa4size", 5) - b.data + 5] = 5;
	exchange(s, b.data, b.bytes, &m);
	assert_string_equal(m.refuse.about, "score");
	assert_int_equal(m.refuse.slot, 6);
	message_buffer_free(&b);
	struct message_counters n = ask_health(s);
	assert_int_equal(n.malformed, 6);
	assert_int_equal(n.refused, 7);
	assert_int_equal(n.received, 8);
	wire_socket_close(s);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scores),
		cmocka_unit_test(test_clients_and_batches),
		cmocka_unit_test(test_retry_and_failover),
		cmocka_unit_test(test_unsuitable),
		cmocka_unit_test(test_versions_and_terms),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_failing_scorer),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
