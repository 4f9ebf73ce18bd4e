/* A small HTTP server for pages of this program (libmicrohttpd behind it): a
 * table of routes, sessions in a cookie, server-sent events.
 *
 * It listens on 127.0.0.1 unless told otherwise, and loopback is no protection
 * by itself: any page in the browser can send requests there. So every request
 * passes these checks, in this order, before a handler sees it:
 *   414/431/400  the request line, headers or their form (libmicrohttpd's limits)
 *   403  Host is not a name of this server, or Origin / Sec-Fetch-Site is foreign
 *   404/405  no route; a route, but not with this method
 *   411/413/415  a body in chunks, a body over the route's limit, a POST that is not JSON
 *   403  the route needs a session and there is none, or `authorize` refuses it
 *   403  POST, PUT, DELETE without the session's CSRF token in the header X-CSRF-Token
 * Connections, streams and header bytes are limited; an idle connection is closed.
 * No file is ever served: pages are compiled in, so there is no path to climb out of.
 *
 * A session is a signed cookie (HMAC-SHA-512-256 under `key`): subject, end, nonce.
 * Nothing is stored, so sessions outlive a restart with the same key; a cookie that
 * was not signed here is no session, so none can be planted before a login. What a
 * subject may do, and whether it still may, is the caller's to decide in `authorize`.
 *
 * Handlers run on the server's threads, several at once: what they share needs a lock. */
#ifndef TENFOLD_WIRE_HTTP_H
#define TENFOLD_WIRE_HTTP_H

#include "core/base/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct http;
struct http_response;

enum { HTTP_PARAMS_MAX = 4, HTTP_SUBJECT = 64, HTTP_CSRF = 44, HTTP_KEY_BYTES = 32, HTTP_HOSTS_MAX = 8, HTTP_TOPIC = 64 };

struct http_request {
	const char *method;                 /* GET (also for HEAD), POST, PUT, DELETE */
	const char *path;                   /* percent-decoded, without the query */
	const char *param[HTTP_PARAMS_MAX]; /* what stands for each {} of the route */
	const char *subject;                /* of the session; "" when there is none */
	const char *csrf;                   /* the token of that session; "" when there is none */
	const char *client;                 /* address; behind a trusted proxy what that says in X-Forwarded-For */
	const char *body;                   /* with a NUL beyond */
	size_t body_bytes;
	struct http_exchange *exchange;
};
/* ?name=…, percent-decoded; NULL when it is not there. */
const char *http_request_query(const struct http_request *q, const char *name);
const char *http_request_header(const struct http_request *q, const char *name);
/* The body as JSON object (UTF-8, no NUL, no doubled keys). ERR_FORMAT. The caller releases *out. */
int http_request_json(const struct http_request *q, json_t **out, struct err *e);

/* Fills *r by one of the functions below and returns 0; or a negative code with *e, which becomes 400 (FORMAT, RANGE),
 * 404 (NOT_FOUND), 409 (STATE, MISMATCH), else 500, with the body {"error": message}. */
typedef int http_handler(void *ctx, const struct http_request *q, struct http_response *r, struct err *e);

enum http_flags {
	HTTP_NO_CSRF = 1, /* a POST before there is a session (login): Origin and content type are still checked */
};

struct http_route {
	const char *method, *path; /* "/api/items/{}/next": {} stands for one segment that is not empty */
	int access;                /* 0: anyone; else a session is needed, and what it means is up to `authorize` */
	unsigned flags;
	http_handler *handler;
	size_t body_limit;         /* bytes; 0: 256 KiB */
};

/* What a subject may: also that it is nobody any more. */
enum http_authority { HTTP_ALLOWED, HTTP_FORBIDDEN, HTTP_ENDED };

struct http_options {
	const char *address;                  /* NULL: 127.0.0.1; a numeric address */
	uint16_t port;                        /* 0: any free one */
	const char *public_url;               /* "https://labels.example.org" where a proxy stands before it; NULL: none */
	const char *trusted_proxy;            /* address whose X-Forwarded-For is believed; NULL: none */
	const char *certificate, *private_key; /* PEM text for HTTPS of its own; NULL: plain */
	unsigned char key[HTTP_KEY_BYTES];    /* signs cookies */
	int threads;                          /* 0: 4 */
	int connections;                      /* at once; 0: 256 */
	int streams;                          /* of those, event streams; 0: 64 */
	double idle_seconds;                  /* 0: 20 */
	double session_seconds;               /* 0: 30 days */
	const struct http_route *const *tables; /* each ends with a row whose method is NULL; the list ends with NULL */
	void *ctx;                            /* given to handlers and to authorize */
	/* Called when route->access is not 0, with a subject. */
	enum http_authority (*authorize)(void *ctx, const struct http_route *route, const struct http_request *q);
};

/* ERR_NET naming the address: in use, not ours. ERR_RANGE: an address, a URL, a certificate that cannot be. The tables
 * must live as long as the server. */
int http_open(struct http **out, const struct http_options *o, struct err *e);
/* Ends all streams, waits for running handlers. NULL is fine. */
void http_close(struct http *h);
uint16_t http_port(const struct http *h);
/* "http://127.0.0.1:8300", or the public URL: without a final slash. */
const char *http_url(const struct http *h);

/* ---- answers ---- */

/* Copies the body. */
void http_reply(struct http_response *r, int status, const char *type, const void *body, size_t bytes);
/* The same without a copy: it must live as long as the server (what is compiled in). */
void http_reply_static(struct http_response *r, const char *type, const void *body, size_t bytes);
/* Takes the reference. NULL (no memory): 500. */
void http_reply_json(struct http_response *r, int status, json_t *j);
/* {"error": …}; returns 0, so that a handler can end with it. */
int http_reply_error(struct http_response *r, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One more header. Value: printable ASCII. */
void http_reply_header(struct http_response *r, const char *name, const char *value);
/* A new session: 1 to 63 of A-Z a-z 0-9 : _ -. Always a new nonce. The CSRF token of it into `csrf`. */
void http_reply_login(struct http_response *r, const char *subject, char csrf[HTTP_CSRF]);
void http_reply_logout(struct http_response *r);
/* Keeps the answer open as text/event-stream of one topic (http_publish). 503 when there are too many streams. */
void http_reply_events(struct http_response *r, const char *topic);

/* Sends `data` (one line or several) to every stream of the topic; from any thread. A stream that does not read
 * (256 KiB waiting) is closed: the browser comes back by itself. */
void http_publish(struct http *h, const char *topic, const char *event, const char *data);
/* Comment lines that keep streams alive through proxies and find dead ones; call it every second. */
void http_tick(struct http *h);
/* Streams open now. */
int http_streams(struct http *h);

/* Cryptographic randomness as 43 characters of base64url (256 bits): for tokens. */
void http_random_token(char out[HTTP_CSRF]);
/* Reads the 32-byte key at `path`, or makes it there (mode 0600). ERR_FORMAT when the file is something else. */
int http_key_load(const char *path, unsigned char key[HTTP_KEY_BYTES], struct err *e);

#endif
