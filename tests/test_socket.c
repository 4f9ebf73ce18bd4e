/* Sockets and the transfer of weights over them: all transports, limits, keys,
 * a link that loses and damages. Numbers in comments are those of the list of
 * faults that the design answers to. */
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/wire/transfer.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct message_buffer buffer;
static struct err err;

static int setup(void **state)
{
	(void)state;
	log_setup("test", LOG_SILENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	message_buffer_free(&buffer);
	return 0;
}

#define assert_said(text)                                                                                              \
	do {                                                                                                           \
		if (!strstr(err.msg, text)) fail_msg("\"%s\" does not say \"%s\"", err.msg, text);                     \
	} while (0)

struct pair {
	struct wire *wire;
	struct wire_socket *listener, *peer;
	atomic_int stop;
};

static void pair_open(struct pair *p, const char *endpoint, size_t max)
{
	p->stop = 0;
	assert_int_equal(wire_open(&p->wire, &(struct wire_options){.max_message = max, .stop = &p->stop}, &err), 0);
	assert_int_equal(wire_listen(&p->listener, p->wire, endpoint, &err), 0);
	assert_int_equal(wire_connect(&p->peer, p->wire, wire_endpoint(p->listener), &err), 0);
}

static void pair_close(struct pair *p)
{
	wire_socket_close(p->peer);
	wire_socket_close(p->listener);
	wire_close(p->wire);
}

static void test_sockets(void **state)
{
	(void)state;
	static const char *const endpoints[] = {"inproc://test", "ipc://@tenfold-test-wire", "tcp://127.0.0.1:*"};
	for (int i = 0; i < 3; i++) {
		struct pair p;
		struct wire_frame f;
		unsigned ready;
		pair_open(&p, endpoints[i], 0);
		assert_int_equal(wire_send(p.peer, NULL, "ping", 4, &err), 0);
		assert_int_equal(wire_poll(&p.listener, 1, 5, &ready, &err), 1);
		assert_int_equal(wire_receive(p.listener, 5, &f, &err), 0);
		assert_int_equal(f.bytes, 4);
		assert_memory_equal(f.data, "ping", 4);
		assert_int_equal(wire_send(p.listener, &f.peer, "pong", 4, &err), 0);
		assert_int_equal(wire_receive(p.peer, 5, &f, &err), 0);
		assert_memory_equal(f.data, "pong", 4);
		assert_int_equal(wire_receive(p.peer, 0, &f, &err), ERR_TIMEOUT);
		double start = fs_now();
		assert_int_equal(wire_receive(p.peer, 0.1, &f, &err), ERR_TIMEOUT);
		assert_true(fs_now() - start >= 0.1 && fs_now() - start < 5);
		struct wire_peer nobody = {.bytes = 5, .id = "\0abc"};
		assert_int_equal(wire_send(p.listener, &nobody, "x", 1, &err), ERR_NET);
		p.stop = 1;
		assert_int_equal(wire_receive(p.peer, -1, &f, &err), ERR_STOPPED);
		assert_int_equal(wire_poll(&p.peer, 1, -1, &ready, &err), ERR_STOPPED);
		pair_close(&p);
	}
	struct wire *w;
	struct wire_socket *s;
	assert_int_equal(wire_open(&w, &(struct wire_options){0}, &err), 0);
	assert_int_equal(wire_listen(&s, w, "tcp://203.0.113.1:5555", &err), ERR_NET);
	assert_said("tcp://203.0.113.1:5555");
	assert_int_equal(wire_connect(&s, w, "nonsense", &err), ERR_NET);
	wire_close(w);
}

/* 10: a frame over the limit costs its sender the connection; others go on. */
static void test_frame_limit(void **state)
{
	(void)state;
	struct pair p;
	struct wire *liberal;
	struct wire_socket *big;
	struct wire_frame f;
	pair_open(&p, "tcp://127.0.0.1:*", 1000);
	assert_int_equal(wire_open(&liberal, &(struct wire_options){0}, &err), 0);
	assert_int_equal(wire_connect(&big, liberal, wire_endpoint(p.listener), &err), 0);
	char *data = calloc(1, 100000);
	assert_int_equal(wire_send(big, NULL, data, 100000, &err), 0);
	assert_int_equal(wire_send(p.peer, NULL, data, 1001, &err), ERR_RANGE);
	assert_int_equal(wire_send(p.peer, NULL, data, 1000, &err), 0);
	assert_int_equal(wire_receive(p.listener, 5, &f, &err), 0);
	assert_int_equal(f.bytes, 1000);
	assert_int_equal(wire_receive(p.listener, 0.3, &f, &err), ERR_TIMEOUT);
	free(data);
	wire_socket_close(big);
	wire_close(liberal);
	pair_close(&p);
}

/* 11: a peer that speaks the wire protocol (ZMTP 3.0) by hand sends two parts, an empty frame, a request as a REQ
 * socket makes it: refused, and the next good frame is taken. */
static void test_parts(void **state)
{
	(void)state;
	static const char greeting[64] = "\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL";
	static const char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06" "DEALER";
	static const char frames[] = "\x01\x01" "a\0\x01" "b" "\0\0" "\x01\0\0\x03req" "\0\x04good";
	struct pair p;
	struct wire_frame f;
	pair_open(&p, "tcp://127.0.0.1:*", 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	to.sin_port = htons((uint16_t)atoi(strrchr(wire_endpoint(p.listener), ':') + 1));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
	char theirs[64];
	assert_int_equal(recv(fd, theirs, sizeof theirs, MSG_WAITALL), sizeof theirs);
	assert_int_equal(send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL), sizeof ready - 1);
	assert_int_equal(recv(fd, theirs, 8, MSG_WAITALL), 8); /* the listener's own READY */
	assert_int_equal(send(fd, frames, sizeof frames - 1, MSG_NOSIGNAL), sizeof frames - 1);
	static const char *const says[] = {"2 parts", "the frame is empty", "2 parts"};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wire_receive(p.listener, 5, &f, &err), ERR_FORMAT);
		assert_said(says[i]);
		assert_true(f.peer.bytes > 0);
	}
	assert_int_equal(wire_receive(p.listener, 5, &f, &err), 0);
	assert_int_equal(f.bytes, 4);
	assert_memory_equal(f.data, "good", 4);
	close(fd);
	pair_close(&p);
}

/* 20: strangers without the key get nothing through; the pair's holders do. */
static void test_curve(void **state)
{
	(void)state;
	char pub[WIRE_KEY], sec[WIRE_KEY], pub2[WIRE_KEY], sec2[WIRE_KEY];
	if (wire_make_keys(pub, sec, &err) < 0) skip();
	assert_int_equal(wire_make_keys(pub2, sec2, &err), 0);
	struct wire *w[3];
	struct wire_socket *listener, *peer[3];
	struct wire_frame f;
	assert_int_equal(wire_open(&w[0], &(struct wire_options){.curve_public = pub, .curve_secret = sec}, &err), 0);
	assert_int_equal(wire_open(&w[1], &(struct wire_options){.curve_public = pub2, .curve_secret = sec2}, &err), 0);
	assert_int_equal(wire_open(&w[2], &(struct wire_options){0}, &err), 0);
	assert_int_equal(wire_listen(&listener, w[0], "tcp://127.0.0.1:*", &err), 0);
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(wire_connect(&peer[i], w[i], wire_endpoint(listener), &err), 0);
		assert_int_equal(wire_send(peer[i], NULL, i ? "stranger" : "friend..", 8, &err), 0);
	}
	assert_int_equal(wire_receive(listener, 5, &f, &err), 0);
	assert_memory_equal(f.data, "friend..", 8);
	assert_int_equal(wire_receive(listener, 0.5, &f, &err), ERR_TIMEOUT);
	for (int i = 0; i < 3; i++) wire_socket_close(peer[i]);
	wire_socket_close(listener);
	for (int i = 0; i < 3; i++) wire_close(w[i]);
	struct wire *none;
	assert_int_equal(wire_open(&none, &(struct wire_options){.curve_public = "short", .curve_secret = sec}, &err), ERR_FORMAT);
	assert_int_equal(wire_open(&none, &(struct wire_options){.curve_public = pub}, &err), ERR_STATE);
}

enum { FILE_BYTES = 3 * TRANSFER_CHUNK + 12345 };

struct sender {
	struct wire_socket *socket;
	const unsigned char *file;
	char hash[HASH_HEX];
	int damage;      /* times that the first chunk is damaged, with a fitting chunk hash */
	int drop;        /* requests to be left unanswered */
	int answered;
};

/* Serves weights until the peer says bye. */
static void *send_file(void *arg)
{
	struct sender *s = arg;
	struct arena *a = arena_open(0);
	struct message_buffer b = {0};
	struct err e;
	for (;;) {
		struct wire_frame f;
		struct message m, reply;
		if (wire_receive(s->socket, 20, &f, &e) < 0) break;
		arena_reset(a);
		if (message_decode(&m, f.data, f.bytes, a, NULL, &e) < 0 || m.type == MESSAGE_BYE) break;
		if (s->drop > 0 && s->drop--) continue;
		transfer_answer(&reply, &m, "r", 4, s->hash, s->file, FILE_BYTES);
		if (s->damage > 0 && reply.type == MESSAGE_WEIGHTS_CHUNK && m.weights_get.offset == 0 && s->damage--) {
			unsigned char *bad = arena_must(a, reply.weights_chunk.bytes, 1);
			memcpy(bad, reply.weights_chunk.data, reply.weights_chunk.bytes);
			bad[17] ^= 1;
			reply.weights_chunk.data = bad;
			hash_bytes(bad, reply.weights_chunk.bytes, reply.weights_chunk.hash);
		}
		if (message_encode(&b, &reply, &e) < 0 || wire_send(s->socket, &f.peer, b.data, b.bytes, &e) < 0) break;
		s->answered++;
	}
	message_buffer_free(&b);
	arena_close(a);
	return NULL;
}

/* 25, 26: over a link that loses and damages, the file arrives whole or not at all. */
static void test_transfer(void **state)
{
	(void)state;
	struct pair p;
	struct sender s = {.drop = 2, .damage = 1};
	char folder[] = "/tmp/tenfold-test-XXXXXX", path[64], part[80];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/weights", folder);
	snprintf(part, sizeof part, "%s.part", path);
	unsigned char *file = malloc(FILE_BYTES);
	for (size_t i = 0; i < FILE_BYTES; i++) file[i] = (unsigned char)(i * 2654435761u >> 13);
	s.file = file;
	hash_bytes(file, FILE_BYTES, s.hash);
	pair_open(&p, "ipc://@tenfold-test-transfer", 0);
	s.socket = p.listener;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, send_file, &s), 0);
	if (transfer_fetch(p.peer, "r", path, 4, s.hash, FILE_BYTES, 0.3, &err) != 0) fail_msg("%s", err.msg);
	char *got;
	size_t bytes;
	assert_int_equal(fs_read(path, 1 << 24, &got, &bytes, &err), 0);
	assert_int_equal(bytes, FILE_BYTES);
	assert_memory_equal(got, file, FILE_BYTES);
	free(got);
	unlink(path);
	/* another version is refused with its reason; nothing is left behind */
	assert_int_equal(transfer_fetch(p.peer, "r", path, 5, s.hash, FILE_BYTES, 0.3, &err), ERR_STATE);
	assert_said("version 5");
	assert_false(fs_exists(path) || fs_exists(part));
	struct message m;
	message_init(&m, MESSAGE_BYE, "r");
	assert_int_equal(message_encode(&buffer, &m, &err), 0);
	assert_int_equal(wire_send(p.peer, NULL, buffer.data, buffer.bytes, &err), 0);
	pthread_join(thread, NULL);
	assert_true(s.answered > 4);
	/* nobody answers */
	assert_int_equal(transfer_fetch(p.peer, "r", path, 4, s.hash, FILE_BYTES, 0.05, &err), ERR_TIMEOUT);
	assert_false(fs_exists(path) || fs_exists(part));
	pair_close(&p);
	free(file);
	fs_remove_tree(folder, NULL);
}

/* The receiver alone: wrong chunk hash, wrong total, chunks out of turn. */
static void test_transfer_chunks(void **state)
{
	(void)state;
	char folder[] = "/tmp/tenfold-test-XXXXXX", path[64];
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/weights", folder);
	struct transfer *t;
	struct message_weights_get get;
	char hash[HASH_HEX];
	hash_bytes("abcdef", 6, hash);
	assert_int_equal(transfer_open(&t, path, 1, hash, 6, &err), 0);
	assert_int_equal(transfer_ask(t, &get), 1);
	assert_int_equal(get.bytes, 6);
	assert_int_equal(transfer_ask(t, &get), 0);
	struct message_weights_chunk c = {.version = 1, .offset = 0, .total = 6, .data = "abc", .bytes = 3};
	assert_int_equal(transfer_take(t, &c, &err), ERR_MISMATCH);
	hash_bytes("abc", 3, c.hash);
	c.total = 7;
	assert_int_equal(transfer_take(t, &c, &err), ERR_MISMATCH);
	c.total = 6;
	assert_int_equal(transfer_take(t, &c, &err), 0);
	assert_int_equal(transfer_take(t, &c, &err), 0); /* again: ignored */
	transfer_retry(t);
	assert_int_equal(transfer_ask(t, &get), 1);
	assert_int_equal(get.offset, 3);
	struct message_weights_chunk d = {.version = 1, .offset = 3, .total = 6, .data = "def", .bytes = 3};
	hash_bytes("def", 3, d.hash);
	assert_false(fs_exists(path));
	assert_int_equal(transfer_take(t, &d, &err), 1);
	assert_true(fs_exists(path));
	transfer_close(t);
	fs_remove_tree(folder, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),  cmocka_unit_test(test_frame_limit),     cmocka_unit_test(test_parts), cmocka_unit_test(test_curve),
		cmocka_unit_test(test_transfer), cmocka_unit_test(test_transfer_chunks),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
