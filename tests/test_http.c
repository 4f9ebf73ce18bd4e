/* The HTTP server by its bytes: routes, limits, names, sessions, CSRF, streams.
 * Each attack has the status that it must get. */
#include "tests/http_kit.h"

#include "core/base/fs.h"
#include "core/wire/http.h"

#include <stdatomic.h>

struct world {
	struct http *h;
	uint16_t port;
	atomic_int posted;
	struct kit_answer a;
};

static int on_hello(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	(void)e;
	const char *name = http_request_query(q, "name");
	http_reply_json(r, 200, json_pack("{s:s,s:s,s:s}", "subject", q->subject, "name", name ? name : "", "client", q->client));
	return 0;
}

static int on_item(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	if (!strcmp(q->param[0], "missing")) return err_set(e, ERR_NOT_FOUND, "there is no item %s", q->param[0]);
	http_reply_json(r, 200, json_pack("{s:s,s:s}", "item", q->param[0], "part", q->param[1]));
	return 0;
}

static int on_login(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	json_t *j;
	char csrf[HTTP_CSRF];
	int rc = http_request_json(q, &j, e);
	if (rc < 0) return rc;
	const char *who = json_string_value(json_object_get(j, "who"));
	http_reply_login(r, who ? who : "nobody", csrf);
	http_reply_json(r, 200, json_pack("{s:s}", "csrf", csrf));
	json_decref(j);
	return 0;
}

static int on_post(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)e;
	atomic_fetch_add(&((struct world *)ctx)->posted, 1);
	http_reply_json(r, 200, json_pack("{s:I}", "bytes", (json_int_t)q->body_bytes));
	return 0;
}

static int on_events(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	(void)ctx;
	(void)q;
	(void)e;
	http_reply_events(r, "news");
	return 0;
}

static enum http_authority authorize(void *ctx, const struct http_route *route, const struct http_request *q)
{
	(void)ctx;
	return route->access == 2 && strcmp(q->subject, "owner") ? HTTP_FORBIDDEN : HTTP_ALLOWED;
}

static const struct http_route routes[] = {
	{"GET", "/hello", 0, 0, on_hello, 0},
	{"GET", "/private", 1, 0, on_hello, 0},
	{"GET", "/owner", 2, 0, on_hello, 0},
	{"GET", "/item/{}/part/{}", 0, 0, on_item, 0},
	{"POST", "/login", 0, HTTP_NO_CSRF, on_login, 0},
	{"POST", "/post", 1, 0, on_post, 1000},
	{"GET", "/events", 0, 0, on_events, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
static const struct http_route *const tables[] = {routes, NULL};

static void open_with(struct world *w, struct http_options *o)
{
	struct err e = {0};
	o->tables = tables;
	o->ctx = w;
	o->authorize = authorize;
	memset(o->key, 7, sizeof o->key);
	if (http_open(&w->h, o, &e) < 0) fail_msg("%s", e.msg);
	w->port = http_port(w->h);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct http_options o = {.streams = 2, .connections = 64, .idle_seconds = 1};
	open_with(w, &o);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	http_close(w->h);
	free(w);
	return 0;
}

static void test_routes(void **state)
{
	struct world *w = *state;
	assert_int_equal(kit_ask(w->port, "GET", "/hello?name=a%20b", "", NULL, &w->a), 200);
	assert_non_null(strstr(w->a.text, "\"name\":\"a b\""));
	assert_non_null(strstr(w->a.text, "Content-Security-Policy: default-src 'none'; script-src 'self'"));
	assert_non_null(strstr(w->a.text, "X-Content-Type-Options: nosniff"));
	assert_int_equal(kit_ask(w->port, "GET", "/item/17/part/x%2Fy", "", NULL, &w->a), 404); /* a decoded slash is one */
	assert_int_equal(kit_ask(w->port, "GET", "/item/17/part/xy", "", NULL, &w->a), 200);
	assert_non_null(strstr(w->a.text, "{\"item\":\"17\",\"part\":\"xy\"}"));
	assert_int_equal(kit_ask(w->port, "GET", "/item/missing/part/1", "", NULL, &w->a), 404);
	assert_non_null(strstr(w->a.text, "there is no item missing"));
	assert_int_equal(kit_ask(w->port, "GET", "/item//part/1", "", NULL, &w->a), 404);
	assert_int_equal(kit_ask(w->port, "HEAD", "/hello", "", NULL, &w->a), 200);
	assert_null(strstr(w->a.text, "subject"));
	assert_int_equal(kit_ask(w->port, "DELETE", "/hello", "", "{}", &w->a), 405);
	assert_int_equal(kit_ask(w->port, "TRACE", "/hello", "", NULL, &w->a), 405);
}

/* faults.md 49 */
static void test_malformed(void **state)
{
	struct world *w = *state;
	static const char *const paths[] = {"/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/hello/..", "/hello/", "/HELLO"};
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) assert_int_equal(kit_ask(w->port, "GET", paths[i], "", NULL, &w->a), 404);
	assert_int_equal(kit_ask(w->port, "GET", "/hello%00x", "", NULL, &w->a), 400);
	assert_int_equal(kit_ask(w->port, "GET", "http://127.0.0.1/hello", "", NULL, &w->a), 400);
	assert_int_equal(kit_ask(w->port, "GET", "/hel\x01lo", "", NULL, &w->a), 400);
	char host[64];
	static const char *const lengths[] = {"-1", "12x", "99999999999999999999", "0x10", "1, 2", ""};
	snprintf(host, sizeof host, "Host: 127.0.0.1:%u\r\n", w->port);
	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		char text[512];
		int n = snprintf(text, sizeof text, "POST /login HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n{}",
			host, lengths[i]);
		kit_raw(w->port, text, (size_t)n, &w->a);
		if (w->a.status < 400 || w->a.status > 499) fail_msg("Content-Length '%s' gave %d", lengths[i], w->a.status);
	}
	char chunks[512];
	int n = snprintf(chunks, sizeof chunks, "POST /login HTTP/1.1\r\n%sContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", host);
	kit_raw(w->port, chunks, (size_t)n, &w->a);
	assert_int_equal(w->a.status, 411);
	n = snprintf(chunks, sizeof chunks, "POST /login HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n", host);
	kit_raw(w->port, chunks, (size_t)n, &w->a);
	assert_int_equal(w->a.status, 413);
	char *big = malloc(80 << 10);
	memset(big, 'a', 80 << 10);
	memcpy(big, "GET /", 5);
	memcpy(big + (79 << 10), " HTTP/1.1\r\n\r\n", 14);
	kit_raw(w->port, big, (79 << 10) + 13, &w->a);
	assert_true(w->a.status == 414 || w->a.status == 431);
	memcpy(big, "GET /hello HTTP/1.1\r\nX: ", 24);
	kit_raw(w->port, big, 80 << 10, &w->a);
	assert_true(w->a.status == 431 || w->a.status == 413);
	free(big);
	kit_raw(w->port, "\x16\x03\x01\x02\x00\x01", 6, &w->a);
	assert_true(w->a.status == 0 || w->a.status == 400);
	/* and the server goes on */
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "", NULL, &w->a), 200);
}

/* faults.md 48: names of others */
static void test_foreign(void **state)
{
	struct world *w = *state;
	char own[160];
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Host: evil.example\r\n", NULL, &w->a), 403);
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Host: 127.0.0.1\r\n", NULL, &w->a), 403); /* another port's */
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Host:\r\n", NULL, &w->a), 403);
	snprintf(own, sizeof own, "Host: localhost:%u\r\n", w->port);
	assert_int_equal(kit_ask(w->port, "GET", "/hello", own, NULL, &w->a), 200);
	snprintf(own, sizeof own, "Host: localhost:%u\r\nHost: evil.example\r\n", w->port);
	kit_ask(w->port, "GET", "/hello", own, NULL, &w->a);
	assert_true(w->a.status == 400 || w->a.status == 403);
	kit_raw(w->port, "GET /hello HTTP/1.0\r\n\r\n", 23, &w->a); /* none */
	assert_int_equal(w->a.status, 403);
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Origin: http://evil.example\r\n", NULL, &w->a), 403);
	assert_int_equal(kit_ask(w->port, "POST", "/login", "Origin: null\r\n", "{}", &w->a), 403);
	snprintf(own, sizeof own, "Origin: http://127.0.0.1:%u\r\n", w->port);
	assert_int_equal(kit_ask(w->port, "POST", "/login", own, "{}", &w->a), 200);
	assert_int_equal(kit_ask(w->port, "POST", "/login", "Sec-Fetch-Site: cross-site\r\n", "{}", &w->a), 403);
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Sec-Fetch-Site: cross-site\r\n", NULL, &w->a), 200); /* a link may open a page */
	assert_int_equal(kit_ask(w->port, "GET", "/private", "Sec-Fetch-Site: cross-site\r\n", NULL, &w->a), 403);
}

static void login(struct world *w, const char *who, char cookie[300], char csrf[80])
{
	char body[100], token[HTTP_CSRF];
	snprintf(body, sizeof body, "{\"who\":\"%s\"}", who);
	assert_int_equal(kit_ask(w->port, "POST", "/login", "", body, &w->a), 200);
	assert_non_null(strstr(w->a.text, "HttpOnly; SameSite=Strict"));
	kit_cookie(&w->a, cookie, 300);
	kit_json_text(&w->a, "csrf", token, sizeof token);
	snprintf(csrf, 80, "X-CSRF-Token: %s\r\n", token);
}

static void test_sessions(void **state)
{
	struct world *w = *state;
	char cookie[300], other[300], csrf[80], csrf_other[80], both[600];
	assert_int_equal(kit_ask(w->port, "GET", "/private", "", NULL, &w->a), 403);
	login(w, "p1", cookie, csrf);
	login(w, "p1", other, csrf_other);
	assert_string_not_equal(cookie, other); /* each login its own nonce */
	assert_int_equal(kit_ask(w->port, "GET", "/private", cookie, NULL, &w->a), 200);
	assert_non_null(strstr(w->a.text, "\"subject\":\"p1\""));
	assert_int_equal(kit_ask(w->port, "GET", "/owner", cookie, NULL, &w->a), 403);
	/* CSRF: none, of another session, right */
	assert_int_equal(kit_ask(w->port, "POST", "/post", cookie, "{}", &w->a), 403);
	snprintf(both, sizeof both, "%s%s", cookie, csrf_other);
	assert_int_equal(kit_ask(w->port, "POST", "/post", both, "{}", &w->a), 403);
	assert_int_equal(kit_ask(w->port, "POST", "/post", csrf, "{}", &w->a), 403);
	assert_int_equal(atomic_load(&w->posted), 0);
	snprintf(both, sizeof both, "%s%s", cookie, csrf);
	assert_int_equal(kit_ask(w->port, "POST", "/post", both, "{}", &w->a), 200);
	assert_int_equal(atomic_load(&w->posted), 1);
	snprintf(both, sizeof both, "%s%sContent-Type: text/plain\r\nContent-Length: 2\r\n", cookie, csrf);
	char text[1200];
	int n = snprintf(text, sizeof text, "POST /post HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n{}", w->port, both);
	kit_raw(w->port, text, (size_t)n, &w->a);
	assert_int_equal(w->a.status, 415);
	/* fixation: a cookie that was not signed here is none, and a login replaces it */
	assert_int_equal(kit_ask(w->port, "GET", "/private", "Cookie: tenfold=p1.9999999999.abc.def\r\n", NULL, &w->a), 403);
	for (size_t i = 17; cookie[i] != '\r'; i += 5) { /* any byte changed */
		char bent[300];
		strcpy(bent, cookie);
		bent[i] = bent[i] == 'A' ? 'B' : 'A';
		if (kit_ask(w->port, "GET", "/private", bent, NULL, &w->a) != 403) fail_msg("byte %zu of the cookie does not matter", i);
	}
	assert_int_equal(kit_ask(w->port, "POST", "/login", other, "{\"who\":\"p2\"}", &w->a), 200);
	kit_cookie(&w->a, both, sizeof both);
	assert_null(strstr(both, strrchr(other, '.')));
}

static void test_streams(void **state)
{
	struct world *w = *state;
	struct kit_answer *late = malloc(sizeof *late);
	char ask[128];
	int fd[3];
	int n = snprintf(ask, sizeof ask, "GET /events HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", w->port);
	for (int i = 0; i < 3; i++) {
		fd[i] = kit_connect(w->port);
		kit_write(fd[i], ask, (size_t)n);
		kit_read(fd[i], &w->a, i < 2 ? "retry: 2000" : "\r\n\r\n");
		assert_int_equal(w->a.status, i < 2 ? 200 : 503); /* the limit of this server is two */
	}
	assert_int_equal(http_streams(w->h), 2);
	usleep(1500 * 1000); /* longer than an idle connection may live: streams sleep, and stay */
	http_publish(w->h, "other", "no", "not for you");
	http_publish(w->h, "news", "label", "one\ntwo");
	for (int i = 0; i < 2; i++) {
		kit_read(fd[i], late, "data: two");
		assert_non_null(strstr(late->text, "event: label\ndata: one\ndata: two\n\n"));
		assert_null(strstr(late->text, "not for you"));
	}
	close(fd[0]); /* gone: found at one of the next messages */
	for (int i = 0; i < 100 && http_streams(w->h) > 1; i++) {
		http_publish(w->h, "news", "label", "still here");
		usleep(20000);
	}
	assert_int_equal(http_streams(w->h), 1);
	close(fd[1]);
	close(fd[2]);
	free(late);
}

/* faults.md 49: many idle sockets are closed; those who come later are served. */
static void test_idle(void **state)
{
	struct world *w = *state;
	enum { IDLE = 300 };
	int fd[IDLE];
	for (int i = 0; i < IDLE; i++) fd[i] = kit_connect(w->port);
	double start = fs_now();
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "", NULL, &w->a), 200);
	assert_true(fs_now() - start < 9);
	for (int i = 0; i < IDLE; i++) close(fd[i]);
}

/* A browser connects ahead of what it asks: where few are silent, none of them is cut off. Where many are, those that come
 * after them are. */
static void test_silent(void **state)
{
	(void)state;
	enum { FEW = 16, IDLE = 40 };
	struct world *w = calloc(1, sizeof *w);
	struct http_options o = {.connections = 4 * FEW, .idle_seconds = 30};
	int fd[IDLE];
	char byte;
	open_with(w, &o);
	for (int i = 0; i < IDLE; i++) {
		fd[i] = kit_connect(w->port);
		usleep(2000); /* accepted in this order */
	}
	sleep(5);
	assert_int_equal(recv(fd[0], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(recv(fd[IDLE - 1], &byte, 1, MSG_DONTWAIT), 0);
	static const char request[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
	kit_write(fd[0], request, sizeof request - 1);
	kit_read(fd[0], &w->a, "\r\n\r\n");
	assert_true(w->a.status > 0);
	for (int i = 0; i < IDLE; i++) close(fd[i]);
	http_close(w->h);
	free(w);
}

static void test_public(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof *w);
	struct http_options o = {.public_url = "https://labels.example.org/", .trusted_proxy = "127.0.0.1"};
	struct err e = {0};
	open_with(w, &o);
	assert_string_equal(http_url(w->h), "https://labels.example.org");
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Host: labels.example.org\r\nX-Forwarded-For: 10.0.0.9, 192.0.2.7\r\n", NULL, &w->a), 200);
	assert_non_null(strstr(w->a.text, "\"client\":\"192.0.2.7\"")); /* only what the proxy itself wrote */
	assert_int_equal(kit_ask(w->port, "GET", "/hello", "Host: labels.example.com\r\n", NULL, &w->a), 403);
	assert_int_equal(kit_ask(w->port, "POST", "/login", "Host: labels.example.org\r\nOrigin: https://labels.example.org\r\n", "{}", &w->a), 200);
	assert_non_null(strstr(w->a.text, "Set-Cookie: __Host-tenfold="));
	assert_non_null(strstr(w->a.text, "; Secure"));
	assert_int_equal(kit_ask(w->port, "POST", "/login", "Host: labels.example.org\r\nOrigin: http://labels.example.org\r\n", "{}", &w->a), 403);
	struct http *second = NULL;
	o.port = w->port;
	assert_int_equal(http_open(&second, &o, &e), ERR_NET);
	assert_non_null(strstr(e.msg, "--port"));
	o.port = 0;
	o.public_url = "labels.example.org";
	assert_int_equal(http_open(&second, &o, &e), ERR_RANGE);
	http_close(w->h);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_routes, setup, teardown),  cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown), cmocka_unit_test_setup_teardown(test_sessions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_streams, setup, teardown), cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
		cmocka_unit_test(test_silent), cmocka_unit_test(test_public),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
