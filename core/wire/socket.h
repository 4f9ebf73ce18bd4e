/* Sockets: ZeroMQ behind two shapes. A listener (ROUTER) binds an endpoint,
 * hears from many peers and answers one of them by its address; a connection
 * (DEALER) talks to one listener and comes back by itself when that one was
 * away. A frame is one message (message.h); a message of several parts or of
 * none is refused.
 *
 * Endpoints: "tcp://HOST:PORT" (bound to what is asked, port * for any free
 * one), "ipc://PATH", "ipc://@NAME" (abstract, gone with its process: for the
 * private sockets of a run), "inproc://NAME" (within one struct wire).
 *
 * libzmq's defaults do not suit a long run, so all of these are set: frames are
 * limited in size (a peer that sends a larger one is cut off), heartbeats find
 * dead peers, a handshake that does not come is given up after 3 s, queues are
 * bounded, a lost connection is tried again after 0.1 s doubling to 8 s, and
 * closing waits at most 1 s for what is still to be sent.
 *
 * A struct wire may be shared by threads; a socket belongs to one thread at a
 * time. Nothing blocks without end: sending never waits, receiving takes a
 * timeout and returns ERR_STOPPED within 50 ms once *stop is non-zero. */
#ifndef TENFOLD_WIRE_SOCKET_H
#define TENFOLD_WIRE_SOCKET_H

#include "core/base/err.h"

#include <stdatomic.h>
#include <stddef.h>

struct wire;
struct wire_socket;

enum { WIRE_PEER = 64, WIRE_POLL_MAX = 32, WIRE_ENDPOINT = 256, WIRE_KEY = 41 };

struct wire_options {
	size_t max_message;       /* bytes of a frame; 0: 64 MiB */
	double heartbeat_seconds; /* between pings, a peer silent for four is given up; 0: 2 s */
	int queue;                /* frames queued a peer and direction; 0: 1000 */
	const atomic_int *stop;   /* may be NULL */
	/* CURVE (Z85, 40 characters): one pair for all roles of a run, encrypts and keeps strangers out; NULL: plain.
	 * For anything but this machine: a peer without the right public key gets no connection. */
	const char *curve_public, *curve_secret;
};

/* The address of a peer, as a listener sees it; a reconnected peer has a new one. */
struct wire_peer {
	unsigned char bytes; /* 0 on a connection */
	unsigned char id[WIRE_PEER];
};

struct wire_frame {
	struct wire_peer peer;
	const void *data; /* valid until the next receive on this socket, or its close */
	size_t bytes;
};

int wire_open(struct wire **out, const struct wire_options *options, struct err *e);
/* All sockets must be closed; waits for their unsent frames, at most 1 s. */
void wire_close(struct wire *w);
size_t wire_max_message(const struct wire *w);

/* ERR_NET naming the endpoint: in use, not an address of this machine, … */
int wire_listen(struct wire_socket **out, struct wire *w, const char *endpoint, struct err *e);
int wire_connect(struct wire_socket **out, struct wire *w, const char *endpoint, struct err *e);
void wire_socket_close(struct wire_socket *s);
/* As bound, with the port that was chosen; as given for a connection. */
const char *wire_endpoint(const struct wire_socket *s);

/* Never waits. peer: to whom on a listener, NULL on a connection. ERR_NET: that peer is gone; ERR_TIMEOUT: its queue
 * is full (it does not read), the frame is not sent. */
int wire_send(struct wire_socket *s, const struct wire_peer *peer, const void *data, size_t bytes, struct err *e);
/* seconds < 0: without end; 0: only what is there. ERR_TIMEOUT; ERR_STOPPED; ERR_FORMAT: a wrong number of parts, an
 * empty or too large frame (frame->peer tells from whom; go on receiving); ERR_NET. */
int wire_receive(struct wire_socket *s, double seconds, struct wire_frame *frame, struct err *e);
/* Waits until one of n (at most WIRE_POLL_MAX) sockets can be received from; the number of those, their bits in
 * *ready. ERR_TIMEOUT, ERR_STOPPED as above. */
int wire_poll(struct wire_socket *const *sockets, int n, double seconds, unsigned *ready, struct err *e);
int wire_peer_equal(const struct wire_peer *a, const struct wire_peer *b);
/* A new CURVE pair; ERR_STATE when libzmq was built without. */
int wire_make_keys(char public_key[WIRE_KEY], char secret_key[WIRE_KEY], struct err *e);

#endif
