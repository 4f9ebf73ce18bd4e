/* ZeroMQ sockets; see socket.h. Waiting is done in slices of 50 ms, so that a
 * stop flag set by a signal handler or another thread is seen; a frame that
 * arrives ends the slice at once.
 *
 * libzmq is not compiled with ThreadSanitizer, which sees its memcpy and free
 * but not what orders them. In such a build its own accesses are left out, and
 * two annotations say that a frame handed over was written before it is read. */
#include "core/wire/socket.h"

#include "core/base/fault.h"
#include "core/base/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define HANDED_OVER(w) __tsan_release(w)
#define TAKEN_OVER(w) __tsan_acquire(w)
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:libzmq.so\n";
}
#else
#define HANDED_OVER(w) ((void)(w))
#define TAKEN_OVER(w) ((void)(w))
#endif

enum {
	SLICE_MS = 50,
	HANDSHAKE_MS = 3000,
	RECONNECT_MS = 100,
	RECONNECT_MAX_MS = 8000,
	LINGER_MS = 1000,
	MAX_MESSAGE = 64 << 20,
	QUEUE = 1000,
};

struct wire {
	void *context;
	struct wire_options options;
	char curve_public[WIRE_KEY], curve_secret[WIRE_KEY];
};

struct wire_socket {
	struct wire *wire;
	void *zmq;
	int listener;
	zmq_msg_t payload;
	char endpoint[WIRE_ENDPOINT];
};

static int copy_key(char out[WIRE_KEY], const char *key, struct err *e)
{
	if (!key) return 0;
	if (strlen(key) != WIRE_KEY - 1) return err_set(e, ERR_FORMAT, "a CURVE key of %zu characters, it has %d (Z85)", strlen(key), WIRE_KEY - 1);
	memcpy(out, key, WIRE_KEY);
	return 0;
}

int wire_open(struct wire **out, const struct wire_options *options, struct err *e)
{
	int rc = 0;
	struct wire *w = calloc(1, sizeof *w);
	*out = NULL;
	if (!w) return err_set(e, ERR_MEMORY, "no memory for the network");
	w->options = *options;
	if (w->options.max_message == 0) w->options.max_message = MAX_MESSAGE;
	if (w->options.heartbeat_seconds <= 0) w->options.heartbeat_seconds = 2;
	if (w->options.queue <= 0) w->options.queue = QUEUE;
	if (!options->curve_public != !options->curve_secret) {
		rc = err_set(e, ERR_STATE, "CURVE needs both keys of the pair, public and secret");
		goto out;
	}
	TRY(copy_key(w->curve_public, options->curve_public, e));
	TRY(copy_key(w->curve_secret, options->curve_secret, e));
	w->context = zmq_ctx_new();
	if (!w->context) rc = err_set(e, ERR_NET, "cannot start ZeroMQ: %s", zmq_strerror(errno));
out:
	if (rc == 0) *out = w;
	else wire_close(w);
	return rc;
}

void wire_close(struct wire *w)
{
	if (!w) return;
	while (w->context && zmq_ctx_term(w->context) != 0 && errno == EINTR) continue;
	free(w);
}

size_t wire_max_message(const struct wire *w)
{
	return w->options.max_message;
}

static int set_int(struct wire_socket *s, int option, int value)
{
	return zmq_setsockopt(s->zmq, option, &value, sizeof value);
}

static int set_options(struct wire_socket *s)
{
	const struct wire *w = s->wire;
	int64_t max = (int64_t)w->options.max_message;
	int beat = (int)(w->options.heartbeat_seconds * 1000), bad = 0;
	bad |= zmq_setsockopt(s->zmq, ZMQ_MAXMSGSIZE, &max, sizeof max);
	bad |= set_int(s, ZMQ_SNDHWM, w->options.queue) | set_int(s, ZMQ_RCVHWM, w->options.queue);
	bad |= set_int(s, ZMQ_LINGER, LINGER_MS) | set_int(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
	bad |= set_int(s, ZMQ_HEARTBEAT_IVL, beat) | set_int(s, ZMQ_HEARTBEAT_TIMEOUT, 3 * beat);
	if (4 * beat <= 6553500) bad |= set_int(s, ZMQ_HEARTBEAT_TTL, 4 * beat); /* beyond it the protocol has no room */
	bad |= set_int(s, ZMQ_RECONNECT_IVL, RECONNECT_MS) | set_int(s, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
	if (s->listener) bad |= set_int(s, ZMQ_ROUTER_MANDATORY, 1);
	if (w->curve_public[0]) {
		if (s->listener) bad |= set_int(s, ZMQ_CURVE_SERVER, 1);
		else bad |= zmq_setsockopt(s->zmq, ZMQ_CURVE_SERVERKEY, w->curve_public, WIRE_KEY);
		bad |= zmq_setsockopt(s->zmq, ZMQ_CURVE_PUBLICKEY, w->curve_public, WIRE_KEY);
		bad |= zmq_setsockopt(s->zmq, ZMQ_CURVE_SECRETKEY, w->curve_secret, WIRE_KEY);
	}
	return bad;
}

static int socket_open(struct wire_socket **out, struct wire *w, const char *endpoint, int listener, struct err *e)
{
	int rc = 0;
	*out = NULL;
	size_t n = strlen(endpoint);
	if (n == 0 || n >= WIRE_ENDPOINT) return err_set(e, ERR_RANGE, "an endpoint of %zu bytes, between 1 and %d are possible", n, WIRE_ENDPOINT - 1);
	struct wire_socket *s = calloc(1, sizeof *s);
	if (!s) return err_set(e, ERR_MEMORY, "no memory for a socket at %s", endpoint);
	s->wire = w;
	s->listener = listener;
	memcpy(s->endpoint, endpoint, n + 1);
	zmq_msg_init(&s->payload);
	s->zmq = zmq_socket(w->context, listener ? ZMQ_ROUTER : ZMQ_DEALER);
	if (!s->zmq) {
		rc = err_set(e, ERR_NET, "cannot make a socket for %s: %s", endpoint, zmq_strerror(errno));
		goto out;
	}
	if (set_options(s) != 0) {
		rc = err_set(e, ERR_NET, "cannot set the options of the socket for %s: %s", endpoint, zmq_strerror(errno));
		goto out;
	}
	if ((listener ? zmq_bind(s->zmq, endpoint) : zmq_connect(s->zmq, endpoint)) != 0) {
		rc = err_set(e, ERR_NET, "cannot %s %s: %s", listener ? "listen on" : "connect to", endpoint, zmq_strerror(errno));
		goto out;
	}
	size_t room = sizeof s->endpoint;
	if (listener && zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, s->endpoint, &room) != 0) memcpy(s->endpoint, endpoint, n + 1);
out:
	if (rc == 0) *out = s;
	else wire_socket_close(s);
	return rc;
}

int wire_listen(struct wire_socket **out, struct wire *w, const char *endpoint, struct err *e)
{
	return socket_open(out, w, endpoint, 1, e);
}

int wire_connect(struct wire_socket **out, struct wire *w, const char *endpoint, struct err *e)
{
	return socket_open(out, w, endpoint, 0, e);
}

void wire_socket_close(struct wire_socket *s)
{
	if (!s) return;
	zmq_msg_close(&s->payload);
	if (s->zmq) zmq_close(s->zmq);
	free(s);
}

const char *wire_endpoint(const struct wire_socket *s)
{
	return s->endpoint;
}

static int send_error(struct wire_socket *s, struct err *e)
{
	if (errno == EAGAIN) return err_set(e, ERR_TIMEOUT, "the queue to a peer of %s is full: it does not read", s->endpoint);
	if (errno == EHOSTUNREACH) return err_set(e, ERR_NET, "a peer of %s is gone", s->endpoint);
	return err_set(e, ERR_NET, "cannot send at %s: %s", s->endpoint, zmq_strerror(errno));
}

static int send_part(struct wire_socket *s, const void *data, size_t bytes, int flags)
{
	int rc;
	do rc = zmq_send(s->zmq, data, bytes, ZMQ_DONTWAIT | flags);
	while (rc < 0 && errno == EINTR);
	return rc;
}

int wire_send(struct wire_socket *s, const struct wire_peer *peer, const void *data, size_t bytes, struct err *e)
{
	CHECK(!s->listener == !peer, "a listener's frame needs a peer, a connection's has none (%s)", s->endpoint);
	if (bytes == 0 || bytes > s->wire->options.max_message)
		return err_set(e, ERR_RANGE, "a frame of %zu bytes, between 1 and %zu are possible (net.max_message_mib)", bytes,
		               s->wire->options.max_message);
	HANDED_OVER(s->wire);
	if (peer && send_part(s, peer->id, peer->bytes, ZMQ_SNDMORE) < 0) return send_error(s, e);
	if (peer) FAULT_POINT("wire.between_parts", "the peer's name is sent, the message not");
	if (send_part(s, data, bytes, 0) < 0) return send_error(s, e);
	FAULT_POINT("wire.after_send", "a message is in the queue, perhaps partly on its way");
	return 0;
}

/* One part; 1 when there was one, 0 when nothing is there, or an error. */
static int receive_part(struct wire_socket *s, zmq_msg_t *part, struct err *e)
{
	while (zmq_msg_recv(part, s->zmq, ZMQ_DONTWAIT) < 0) {
		if (errno == EINTR) continue;
		if (errno == EAGAIN) return 0;
		return err_set(e, ERR_NET, "cannot receive at %s: %s", s->endpoint, zmq_strerror(errno));
	}
	return 1;
}

/* A whole message: 1 with *frame filled, 0 when nothing is there, or an error; parts too many are thrown away. */
static int receive_frame(struct wire_socket *s, struct wire_frame *frame, struct err *e)
{
	memset(frame, 0, sizeof *frame);
	int rc = receive_part(s, &s->payload, e), parts = 1;
	if (rc <= 0) return rc;
	if (s->listener) {
		size_t n = zmq_msg_size(&s->payload);
		if (n <= WIRE_PEER) {
			frame->peer.bytes = (unsigned char)n;
			memcpy(frame->peer.id, zmq_msg_data(&s->payload), n);
		}
		parts = 0;
		if (zmq_msg_more(&s->payload) && receive_part(s, &s->payload, e) == 1) parts = 1;
		if (n > WIRE_PEER) parts++;
	}
	while (zmq_msg_more(&s->payload) && receive_part(s, &s->payload, e) == 1) parts++;
	TAKEN_OVER(s->wire);
	frame->data = zmq_msg_data(&s->payload);
	frame->bytes = zmq_msg_size(&s->payload);
	if (parts != 1) return err_set(e, ERR_FORMAT, "malformed message at %s: %d parts, it has one", s->endpoint, parts);
	if (frame->bytes == 0) return err_set(e, ERR_FORMAT, "malformed message at %s: the frame is empty", s->endpoint);
	if (frame->bytes > s->wire->options.max_message) /* inproc knows no limit */
		return err_set(e, ERR_FORMAT, "a message of %zu bytes at %s, at most %zu (net.max_message_mib)", frame->bytes, s->endpoint,
		               s->wire->options.max_message);
	return 1;
}

static int stopped(const struct wire *w)
{
	return w->options.stop && atomic_load_explicit(w->options.stop, memory_order_acquire) != 0;
}

/* Waits for one of the items until `end` (< 0: no end); the number that is ready, or an error. */
static int wait_items(const struct wire *w, zmq_pollitem_t *items, int n, double end, struct err *e)
{
	for (;;) {
		if (stopped(w)) return err_set(e, ERR_STOPPED, "stopped while waiting for messages");
		double left = end < 0 ? 1 : end - fs_now();
		long ms = left <= 0 ? 0 : left * 1000 > SLICE_MS ? SLICE_MS : (long)(left * 1000) + 1;
		int k = zmq_poll(items, n, ms);
		if (k > 0) return k;
		if (k < 0 && errno != EINTR) return err_set(e, ERR_NET, "cannot wait for messages: %s", zmq_strerror(errno));
		if (left <= 0) return err_set(e, ERR_TIMEOUT, "no message arrived in time");
	}
}

int wire_receive(struct wire_socket *s, double seconds, struct wire_frame *frame, struct err *e)
{
	double end = seconds < 0 ? -1 : fs_now() + seconds;
	zmq_pollitem_t item = {.socket = s->zmq, .events = ZMQ_POLLIN};
	for (;;) {
		if (stopped(s->wire)) return err_set(e, ERR_STOPPED, "stopped while waiting for messages at %s", s->endpoint);
		int rc = receive_frame(s, frame, e);
		if (rc < 0) return rc;
		if (rc > 0) {
			FAULT_POINT("wire.after_receive", "a message is taken from the queue and not looked at");
			return 0;
		}
		rc = wait_items(s->wire, &item, 1, end, e);
		if (rc < 0) return rc;
	}
}

int wire_poll(struct wire_socket *const *sockets, int n, double seconds, unsigned *ready, struct err *e)
{
	zmq_pollitem_t items[WIRE_POLL_MAX];
	CHECK(n >= 1 && n <= WIRE_POLL_MAX, "poll of %d sockets", n);
	for (int i = 0; i < n; i++) items[i] = (zmq_pollitem_t){.socket = sockets[i]->zmq, .events = ZMQ_POLLIN};
	*ready = 0;
	int k = wait_items(sockets[0]->wire, items, n, seconds < 0 ? -1 : fs_now() + seconds, e);
	for (int i = 0; k > 0 && i < n; i++)
		if (items[i].revents & ZMQ_POLLIN) *ready |= 1u << i;
	return k;
}

int wire_peer_equal(const struct wire_peer *a, const struct wire_peer *b)
{
	return a->bytes == b->bytes && memcmp(a->id, b->id, a->bytes) == 0;
}

int wire_make_keys(char public_key[WIRE_KEY], char secret_key[WIRE_KEY], struct err *e)
{
	if (zmq_curve_keypair(public_key, secret_key) != 0) return err_set(e, ERR_STATE, "this libzmq was built without CURVE");
	return 0;
}
