/* What tests of the HTTP server and of what stands on it share: raw requests over
 * a socket, so that a test sends exactly the bytes it means to. */
#ifndef TENFOLD_TESTS_HTTP_KIT_H
#define TENFOLD_TESTS_HTTP_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/wire/http.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { KIT_ANSWER = 64 << 10 };

struct kit_answer {
	int status; /* 0: closed without an answer */
	char text[KIT_ANSWER];
};

static inline int kit_connect(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {10, 0};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static inline void kit_write(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t k = send(fd, data, n, MSG_NOSIGNAL);
		if (k <= 0) return;
		data += k;
		n -= (size_t)k;
	}
}

/* Until the end of the connection, or until `until` has been seen. */
static inline void kit_read(int fd, struct kit_answer *a, const char *until)
{
	size_t at = 0;
	a->status = 0;
	a->text[0] = 0;
	while (at + 1 < sizeof a->text) {
		ssize_t n = recv(fd, a->text + at, sizeof a->text - 1 - at, 0);
		if (n <= 0) break;
		a->text[at += (size_t)n] = 0;
		if (until && strstr(a->text, until)) break;
	}
	if (!strncmp(a->text, "HTTP/1.", 7)) a->status = atoi(a->text + 9);
}

static inline void kit_raw(uint16_t port, const char *request, size_t n, struct kit_answer *a)
{
	int fd = kit_connect(port);
	kit_write(fd, request, n);
	kit_read(fd, a, NULL);
	close(fd);
}

/* A whole request that is right but for what is asked. headers: lines ending in \r\n, or "". body NULL: none. */
static inline int kit_ask(uint16_t port, const char *method, const char *path, const char *headers, const char *body, struct kit_answer *a)
{
	size_t room = strlen(path) + strlen(headers) + (body ? strlen(body) : 0) + 512;
	char *text = malloc(room), length[128] = "";
	assert_non_null(text);
	if (body) snprintf(length, sizeof length, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	int n = snprintf(text, room, "%s %s HTTP/1.1\r\n%s%sConnection: close\r\n", method, path, headers, length);
	if (!strstr(headers, "Host:")) n += snprintf(text + n, room - (size_t)n, "Host: 127.0.0.1:%u\r\n", port);
	n += snprintf(text + n, room - (size_t)n, "\r\n%s", body ? body : "");
	kit_raw(port, text, (size_t)n, a);
	free(text);
	return a->status;
}

/* "tenfold=…" of Set-Cookie as a Cookie header line. */
static inline void kit_cookie(const struct kit_answer *a, char *line, size_t bytes)
{
	const char *p = strstr(a->text, "Set-Cookie: ");
	assert_non_null(p);
	p += 12;
	snprintf(line, bytes, "Cookie: %.*s\r\n", (int)strcspn(p, ";"), p);
}

/* The text value of a key in the JSON of the answer. */
static inline void kit_json_text(const struct kit_answer *a, const char *key, char *out, size_t bytes)
{
	char find[80];
	snprintf(find, sizeof find, "\"%s\":\"", key);
	const char *p = strstr(a->text, find);
	assert_non_null(p);
	p += strlen(find);
	snprintf(out, bytes, "%.*s", (int)strcspn(p, "\""), p);
}

#endif
