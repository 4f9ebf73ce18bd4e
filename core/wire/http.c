/* The server itself: opening, the checks every request passes, handing it to its
 * route. See http.h for the order of the checks.
 *
 * libmicrohttpd runs a pool of threads, each with its own epoll set; a handler
 * runs on one of them. A refusal that can be given before the body is read closes
 * the connection: the rest of the body is never taken in. Bodies in chunks are
 * refused (browsers never send them for what these pages post), so the length is
 * known, and checked, before the first byte is stored. Where many have connected
 * and said nothing, further ones are cut off after SILENT_SECONDS; a few may rest,
 * for browsers connect ahead of what they will ask. */
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/wire/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_LIMIT = 256 << 10, HEADER_MEMORY = 32 << 10, STARTING_ROOM = 4096, SILENT_SECONDS = 3 };

uint16_t http_port(const struct http *h) { return h->port; }
const char *http_url(const struct http *h) { return h->url; }

const char *http_request_query(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->exchange->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_request_header(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->exchange->connection, MHD_HEADER_KIND, name);
}

int http_request_json(const struct http_request *q, json_t **out, struct err *e)
{
	json_error_t why;
	*out = json_loadb(q->body, q->body_bytes, JSON_REJECT_DUPLICATES, &why);
	if (!*out) return err_set(e, ERR_FORMAT, "the body is not valid JSON: %s (line %d)", why.text, why.line);
	if (json_is_object(*out)) return 0;
	json_decref(*out);
	*out = NULL;
	return err_set(e, ERR_FORMAT, "the body must be a JSON object");
}

/* ---- checks ---- */

static int unsafe_method(const char *method) { return strcmp(method, "GET") && strcmp(method, "HEAD"); }

static int in_list(const char *value, char *const *list, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcasecmp(value, list[i])) return 1;
	return 0;
}

struct header_count {
	const char *name;
	int count;
};

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct header_count *c = cls;
	(void)kind;
	(void)value;
	c->count += !strcasecmp(key, c->name);
	return MHD_YES;
}

static int header_times(struct MHD_Connection *c, const char *name)
{
	struct header_count n = {name, 0};
	MHD_get_connection_values(c, MHD_HEADER_KIND, count_header, &n);
	return n.count;
}

/* Whether the request was meant for this server by a page of this server. */
static int check_origin(struct http *h, struct MHD_Connection *c, struct http_response *r)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
	const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
	const char *site = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Sec-Fetch-Site");
	if (header_times(c, "Host") != 1 || !host || !in_list(host, h->hosts, h->host_count))
		http_reply_error(r, 403, "this server does not go by that name; behind a proxy, set web.public_url");
	else if (header_times(c, "Origin") > 1 || (origin && !in_list(origin, h->origins, h->origin_count)))
		http_reply_error(r, 403, "requests from pages of another origin are refused");
	else if (site && !origin && strcmp(site, "same-origin") && strcmp(site, "none"))
		/* a link from elsewhere may open a page, and nothing more */
		return !strcmp(site, "same-site") || !strcmp(site, "cross-site") ? 2 : 0;
	else return 0;
	return 1;
}

/* Matches path against the pattern; the parts that stand for {} are ended with NUL only when it matches. */
static int match(const char *pattern, char *path, const char *param[HTTP_PARAMS_MAX])
{
	char *end[HTTP_PARAMS_MAX] = {0};
	int n = 0;
	char *p = path;
	for (const char *t = pattern; *t;) {
		if (t[0] == '{' && t[1] == '}') {
			size_t len = strcspn(p, "/");
			if (!len || n == HTTP_PARAMS_MAX) return 0;
			param[n] = p;
			end[n++] = p += len;
			t += 2;
		} else if (*t++ != *p++) {
			return 0;
		}
	}
	if (*p) return 0;
	for (int i = n; i < HTTP_PARAMS_MAX; i++) param[i] = NULL;
	for (int i = 0; i < n; i++) *end[i] = 0;
	return 1;
}

static int find_route(struct http *h, struct http_exchange *x, struct http_response *r)
{
	int other = 0;
	for (const struct http_route *const *t = h->o.tables; *t; t++) {
		for (const struct http_route *route = *t; route->method; route++) {
			char *copy = strdup(x->q.path);
			if (!copy) return http_reply_error(r, 500, "no memory"), 1;
			if (!match(route->path, copy, x->q.param)) {
				free(copy);
				continue;
			}
			if (strcmp(route->method, x->q.method)) {
				other = 1;
				free(copy);
				continue;
			}
			x->path = copy;
			x->route = route;
			return 0;
		}
	}
	if (other) http_reply_error(r, 405, "%.200s does not take %s", x->q.path, x->q.method);
	else http_reply_error(r, 404, "there is no %.200s here", x->q.path);
	return 1;
}

static int check_body(struct http *h, struct http_exchange *x, struct http_response *r)
{
	struct MHD_Connection *c = x->connection;
	const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
	const char *type = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Type");
	size_t limit = x->route->body_limit ? x->route->body_limit : BODY_LIMIT;
	(void)h;
	if (MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Transfer-Encoding")) return http_reply_error(r, 411, "a body in chunks is refused; send Content-Length"), 1;
	if (!length) return unsafe_method(x->q.method) ? (http_reply_error(r, 411, "Content-Length is missing"), 1) : 0;
	if (header_times(c, "Content-Length") != 1 || !*length || strspn(length, "0123456789") != strlen(length) || strlen(length) > 18)
		return http_reply_error(r, 400, "Content-Length is not one whole number"), 1;
	long long n = atoll(length);
	if (n > (long long)limit) return http_reply_error(r, 413, "the body has %lld bytes; %zu is the limit here", n, limit), 1;
	if (!unsafe_method(x->q.method)) return n ? (http_reply_error(r, 400, "a %s has no body", x->q.method), 1) : 0;
	if (!type || strncasecmp(type, "application/json", 16) || (type[16] && type[16] != ';' && type[16] != ' '))
		return http_reply_error(r, 415, "send the body as application/json"), 1;
	return 0;
}

static int check_session(struct http *h, struct http_exchange *x, struct http_response *r)
{
	http_session_read(h, x);
	x->q.subject = x->subject;
	x->q.csrf = x->csrf;
	if (x->route->access) {
		if (!*x->subject) return http_reply_error(r, 403, "sign in with the link that you were given"), 1;
		enum http_authority may = h->o.authorize ? h->o.authorize(h->o.ctx, x->route, &x->q) : HTTP_ALLOWED;
		if (may != HTTP_ALLOWED) return http_reply_error(r, 403, may == HTTP_ENDED ? "this link does not work any more; ask for a new one" : "that is not open to you"), 1;
	}
	if (!unsafe_method(x->q.method) || (x->route->flags & HTTP_NO_CSRF)) return 0;
	const char *token = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "X-CSRF-Token");
	if (!*x->csrf || !token || !http_token_equal(token, x->csrf)) return http_reply_error(r, 403, "the token of this session is missing; load the page again"), 1;
	return 0;
}

/* Who asks, for limits and the log. */
static void find_client(struct http *h, struct http_exchange *x)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (!info || getnameinfo(info->client_addr, info->client_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6),
			x->client, sizeof x->client, NULL, 0, NI_NUMERICHOST))
		strcpy(x->client, "?");
	x->q.client = x->client;
	const char *via = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "X-Forwarded-For");
	if (!via || !h->proxy || strcmp(h->proxy, x->client)) return;
	/* the last one was written by the proxy; what stands before it, anyone can have sent */
	const char *last = strrchr(via, ',');
	last = last ? last + 1 : via;
	last += strspn(last, " ");
	unsigned char raw[16];
	if (inet_pton(AF_INET, last, raw) == 1 || inet_pton(AF_INET6, last, raw) == 1) snprintf(x->client, sizeof x->client, "%s", last);
}

/* 0: go on; else *r is filled. */
static int check_request(struct http *h, struct http_exchange *x, struct http_response *r)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE"};
	int known = 0;
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) known |= !strcmp(x->q.method, methods[i]);
	if (x->raw_bad) return http_reply_error(r, 400, "the path is not valid"), 1;
	int origin = check_origin(h, x->connection, r);
	if (origin == 1) return 1;
	if (!known) return http_reply_error(r, 405, "there is no method %.20s here", x->q.method), 1;
	if (!strcmp(x->q.method, "HEAD")) x->q.method = "GET";
	if (find_route(h, x, r)) return 1;
	if (origin == 2 && (x->route->access || unsafe_method(x->q.method)))
		return http_reply_error(r, 403, "requests from pages of another origin are refused"), 1;
	if (check_body(h, x, r)) return 1;
	find_client(h, x);
	return check_session(h, x, r);
}

/* ---- libmicrohttpd's side ---- */

static int connections(const struct http *h) { return h->o.connections > 0 ? h->o.connections : 256; }

/* A connection's own word: 1 until it has asked for something. */
static int *silence(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info ? info->socket_context : NULL;
}

static void has_spoken(struct http *h, int *silent)
{
	if (!silent || !*silent) return;
	*silent = 0;
	atomic_fetch_sub(&h->silent, 1);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
	struct http *h = cls;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		int *silent = malloc(sizeof *silent);
		if (silent) *silent = 1;
		*context = silent;
		int before = silent ? atomic_fetch_add(&h->silent, 1) : connections(h);
		if (before >= connections(h) / 4 && h->idle > SILENT_SECONDS) MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)SILENT_SECONDS);
		return;
	}
	has_spoken(h, *context);
	free(*context);
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *c)
{
	struct http *h = cls;
	has_spoken(h, silence(c));
	struct http_exchange *x = calloc(1, sizeof *x);
	if (!x) return NULL;
	x->connection = c;
	MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, h->idle);
	for (const unsigned char *p = (const unsigned char *)target; *p; p++) x->raw_bad |= *p < 0x21 || *p > 0x7e;
	x->raw_bad |= *target != '/' || strstr(target, "%00") != NULL;
	return x;
}

static void on_completed(void *cls, struct MHD_Connection *c, void **context, enum MHD_RequestTerminationCode code)
{
	(void)cls;
	(void)c;
	(void)code;
	struct http_exchange *x = *context;
	if (!x) return;
	free(x->path);
	free(x->body);
	free(x);
	*context = NULL;
}

static int body_take(struct http_exchange *x, const char *data, size_t n)
{
	size_t limit = x->route->body_limit ? x->route->body_limit : BODY_LIMIT;
	if (x->bytes + n > limit) return -1; /* more than Content-Length said: cannot be */
	if (x->bytes + n + 1 > x->room) {
		size_t room = 2 * (x->bytes + n) + STARTING_ROOM;
		char *body = realloc(x->body, room);
		if (!body) return -1;
		x->body = body;
		x->room = room;
	}
	memcpy(x->body + x->bytes, data, n);
	x->bytes += n;
	x->body[x->bytes] = 0;
	return 0;
}

static int status_of(int code)
{
	switch (code) {
	case ERR_FORMAT:
	case ERR_RANGE: return 400;
	case ERR_NOT_FOUND: return 404;
	case ERR_STATE:
	case ERR_MISMATCH: return 409;
	default: return 500;
	}
}

static void call_handler(struct http *h, struct http_exchange *x, struct http_response *r)
{
	struct err e = {0};
	x->q.body = x->body ? x->body : "";
	x->q.body_bytes = x->bytes;
	int rc = x->route->handler(h->o.ctx, &x->q, r, &e);
	if (rc < 0) {
		int status = status_of(rc);
		if (status == 500) log_error("%s %s: %s", x->q.method, x->q.path, e.msg);
		http_reply_error(r, status, "%s", e.msg);
	}
	CHECK(r->body, "the handler of %s %s gave no answer", x->route->method, x->route->path);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                  const char *data, size_t *bytes, void **context)
{
	(void)version;
	struct http *h = cls;
	struct http_exchange *x = *context;
	if (!x) return MHD_NO;
	struct http_response r = {.h = h};
	if (!x->begun) {
		x->begun = 1;
		x->q.exchange = x;
		x->q.method = method;
		x->q.path = url;
		x->q.subject = x->q.csrf = x->q.client = x->q.body = "";
		if (check_request(h, x, &r)) return http_response_queue(&r, c, unsafe_method(method));
		return MHD_YES;
	}
	if (*bytes) {
		if (body_take(x, data, *bytes) < 0) return MHD_NO;
		*bytes = 0;
		return MHD_YES;
	}
	x->q.path = url; /* the one of the first call need not be there any more */
	call_handler(h, x, &r);
	return http_response_queue(&r, c, 0);
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
	struct http *h = cls;
	char text[512];
	vsnprintf(text, sizeof text, fmt, ap);
	text[strcspn(text, "\n")] = 0;
	log_debug("http: %s", text);
	if (pthread_equal(pthread_self(), h->starter)) snprintf(h->why, sizeof h->why, ": %.150s", text);
}

/* ---- opening ---- */

static int listen_on(struct http *h, const char *address, int *out, struct err *e)
{
	char port[8];
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *a = NULL;
	struct sockaddr_storage bound;
	socklen_t n = sizeof bound;
	int one = 1;
	snprintf(port, sizeof port, "%u", h->o.port);
	if (getaddrinfo(address, port, &hints, &a)) return err_set(e, ERR_RANGE, "'%s' is not a numeric address to listen on", address);
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int bad = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 128) ||
		  getsockname(fd, (struct sockaddr *)&bound, &n);
	int why = errno;
	freeaddrinfo(a);
	if (bad) {
		if (fd >= 0) close(fd);
		return err_set(e, ERR_NET, "cannot listen on %s port %u: %s%s", address, h->o.port, strerror(why),
			why == EADDRINUSE ? "; choose another with --port" : "");
	}
	h->port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port : ((struct sockaddr_in6 *)&bound)->sin6_port);
	*out = fd;
	return 0;
}

static int add_name(struct http *h, const char *scheme, const char *authority, struct err *e)
{
	char origin[600];
	CHECK(h->host_count < HTTP_HOSTS_MAX, "too many names of a server");
	snprintf(origin, sizeof origin, "%s://%s", scheme, authority);
	h->hosts[h->host_count] = strdup(authority);
	h->origins[h->origin_count] = strdup(origin);
	return h->hosts[h->host_count++] && h->origins[h->origin_count++] ? 0 : err_set(e, ERR_MEMORY, "no memory for a server");
}

static int add_public(struct http *h, const char *url, struct err *e)
{
	const char *scheme = !strncmp(url, "https://", 8) ? "https" : !strncmp(url, "http://", 7) ? "http" : NULL;
	const char *authority = scheme ? url + strlen(scheme) + 3 : url;
	size_t n = strlen(authority);
	if (scheme && n && authority[n - 1] == '/') n--;
	if (!scheme || !n || n > 255 || strcspn(authority, "/?#@ ") < n)
		return err_set(e, ERR_RANGE, "the public URL '%.200s' must be https://NAME (or http://NAME[:PORT]), without a path", url);
	char name[256];
	snprintf(name, sizeof name, "%.*s", (int)n, authority);
	snprintf(h->url, sizeof h->url, "%s://%s", scheme, name);
	h->secure = !strcmp(scheme, "https");
	return add_name(h, scheme, name, e);
}

static int add_names(struct http *h, const char *address, struct err *e)
{
	char name[128];
	const char *scheme = h->o.certificate ? "https" : "http";
	const char *local[] = {"127.0.0.1", "localhost", strcmp(address, "127.0.0.1") ? address : NULL};
	for (int i = 0; i < 3; i++) {
		if (!local[i]) continue;
		snprintf(name, sizeof name, strchr(local[i], ':') ? "[%s]:%u" : "%s:%u", local[i], h->port);
		int rc = add_name(h, scheme, name, e);
		if (rc < 0) return rc;
		if (!strcmp(local[i], address)) snprintf(h->url, sizeof h->url, "%s://%s", scheme, name);
	}
	h->secure = h->o.certificate != NULL;
	if (h->o.public_url && *h->o.public_url) return add_public(h, h->o.public_url, e);
	return 0;
}

static int start(struct http *h, int fd, struct err *e)
{
	unsigned flags = MHD_USE_EPOLL_INTERNALLY | MHD_USE_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)h->o.certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)h->o.private_key},
		{MHD_OPTION_END, 0, NULL},
	};
	if (h->o.certificate) flags |= MHD_USE_TLS;
	else tls[0].option = MHD_OPTION_END;
	h->starter = pthread_self();
	h->idle = (unsigned)(h->o.idle_seconds > 0 ? h->o.idle_seconds + 0.5 : 20);
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_THREAD_POOL_SIZE,
		(unsigned)(h->o.threads > 0 ? h->o.threads : 4), MHD_OPTION_CONNECTION_LIMIT, (unsigned)connections(h),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, h->idle,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
	if (h->daemon) return 0;
	close(fd);
	return err_set(e, ERR_NET, "the server does not start on %s%s%s", h->url, h->o.certificate ? ": web.certificate and web.private_key must be PEM files that belong together" : "", h->why);
}

int http_open(struct http **out, const struct http_options *o, struct err *e)
{
	*out = NULL;
	const char *address = o->address && *o->address ? o->address : "127.0.0.1";
	if (!o->certificate != !o->private_key) return err_set(e, ERR_RANGE, "a certificate and its private key (web.certificate, web.private_key) are given together");
	struct http *h = calloc(1, sizeof *h);
	if (!h) return err_set(e, ERR_MEMORY, "no memory for a server");
	int rc, fd = -1;
	h->o = *o;
	pthread_mutex_init(&h->lock, NULL);
	TRY(listen_on(h, address, &fd, e));
	TRY(add_names(h, address, e));
	snprintf(h->cookie, sizeof h->cookie, "%stenfold", h->secure ? "__Host-" : "");
	if (o->trusted_proxy && *o->trusted_proxy && !(h->proxy = strdup(o->trusted_proxy))) {
		rc = err_set(e, ERR_MEMORY, "no memory for a server");
		goto out;
	}
	int listening = fd;
	fd = -1; /* libmicrohttpd closes it from here on */
	TRY(start(h, listening, e));
	*out = h;
out:
	if (fd >= 0) close(fd);
	if (rc < 0) http_close(h);
	return rc;
}

void http_close(struct http *h)
{
	if (!h) return;
	pthread_mutex_lock(&h->lock);
	h->closing = 1;
	for (struct http_stream *s = h->streams; s; s = s->next) {
		if (!s->suspended) continue;
		s->suspended = 0;
		MHD_resume_connection(s->connection);
	}
	pthread_mutex_unlock(&h->lock);
	if (h->daemon) MHD_stop_daemon(h->daemon);
	for (int i = 0; i < HTTP_HOSTS_MAX; i++) {
		free(h->hosts[i]);
		free(h->origins[i]);
	}
	free(h->proxy);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
