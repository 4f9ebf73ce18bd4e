/* What the files of the HTTP server share; see http.h. */
#ifndef TENFOLD_WIRE_HTTP_INTERNAL_H
#define TENFOLD_WIRE_HTTP_INTERNAL_H

#include "core/wire/http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

enum { HTTP_HEADERS_MAX = 8, HTTP_COOKIE = 256, HTTP_STREAM_LIMIT = 256 << 10 };

/* One open event stream; in the server's list from the reply until its connection ends. */
struct http_stream {
	struct http *h;
	struct MHD_Connection *connection;
	char topic[HTTP_TOPIC];
	char *data; /* waiting: data[sent, bytes) */
	size_t bytes, sent, room;
	int suspended, ended;
	struct http_stream *next;
};

struct http {
	struct MHD_Daemon *daemon;
	unsigned idle; /* seconds that a connection may rest */
	atomic_int silent; /* connections that have not asked for anything yet */
	pthread_t starter;
	char why[160]; /* what libmicrohttpd said last to the thread that started it */
	struct http_options o;
	uint16_t port;
	int secure; /* the browser sees https */
	char url[512], cookie[32];
	char *hosts[HTTP_HOSTS_MAX], *origins[HTTP_HOSTS_MAX];
	int host_count, origin_count;
	char *proxy;
	pthread_mutex_t lock; /* streams */
	struct http_stream *streams;
	int stream_count, closing;
	double ticked;
};

struct http_header {
	char name[64], value[512];
};

struct http_response {
	struct http *h;
	int status;
	struct MHD_Response *body;
	struct http_stream *stream;
	struct http_header header[HTTP_HEADERS_MAX];
	int headers;
};

/* One request from its first line to the end of its answer. */
struct http_exchange {
	struct MHD_Connection *connection;
	int begun, raw_bad;
	const struct http_route *route;
	struct http_request q;
	char *path;
	char subject[HTTP_SUBJECT], csrf[HTTP_CSRF], client[64];
	char *body;
	size_t bytes, room;
};

/* session.c */
/* Reads and verifies the cookie: subject and token into *x ("" both when it is none of ours or over). */
void http_session_read(struct http *h, struct http_exchange *x);
int http_token_equal(const char *a, const char *b);

/* reply.c */
enum MHD_Result http_response_queue(struct http_response *r, struct MHD_Connection *c, int close_after);

#endif
