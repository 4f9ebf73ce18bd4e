/* Answers and event streams. Every answer carries the same strict headers: a page
 * may load scripts and styles from here alone, none inline, no picture from
 * anywhere else, and cannot be framed.
 *
 * A stream's connection sleeps (suspended) while nothing waits for it; whoever
 * publishes puts text into its buffer and wakes it. The list, the buffers and the
 * two flags belong to the server's lock. */
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/wire/http_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_SECONDS = 15, STREAM_BLOCK = 16 << 10 };

static const char *const headers[][2] = {
	{"Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
				    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Cache-Control", "no-store"},
};

static void set_body(struct http_response *r, int status, const char *type, struct MHD_Response *body)
{
	if (r->body) MHD_destroy_response(r->body);
	r->status = status;
	r->body = body;
	if (!body) return;
	MHD_add_response_header(body, "Content-Type", type);
}

void http_reply(struct http_response *r, int status, const char *type, const void *body, size_t bytes)
{
	set_body(r, status, type, MHD_create_response_from_buffer(bytes, (void *)body, MHD_RESPMEM_MUST_COPY));
}

void http_reply_static(struct http_response *r, const char *type, const void *body, size_t bytes)
{
	set_body(r, 200, type, MHD_create_response_from_buffer(bytes, (void *)body, MHD_RESPMEM_PERSISTENT));
}

void http_reply_json(struct http_response *r, int status, json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (text) set_body(r, status, "application/json", MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
	else http_reply(r, 500, "application/json", "{\"error\":\"no memory\"}", 21);
}

int http_reply_error(struct http_response *r, int status, const char *fmt, ...)
{
	char text[1100];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	json_t *j = json_pack("{s:s}", "error", text);
	if (!j) j = json_pack("{s:s}", "error", "the message is not valid text");
	http_reply_json(r, status, j);
	return 0;
}

void http_reply_header(struct http_response *r, const char *name, const char *value)
{
	CHECK(r->headers < HTTP_HEADERS_MAX, "more than %d headers", HTTP_HEADERS_MAX);
	struct http_header *h = &r->header[r->headers++];
	snprintf(h->name, sizeof h->name, "%s", name);
	snprintf(h->value, sizeof h->value, "%s", value);
}

enum MHD_Result http_response_queue(struct http_response *r, struct MHD_Connection *c, int close_after)
{
	if (!r->body) return MHD_NO;
	for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) MHD_add_response_header(r->body, headers[i][0], headers[i][1]);
	for (int i = 0; i < r->headers; i++) MHD_add_response_header(r->body, r->header[i].name, r->header[i].value);
	if (r->h->secure) MHD_add_response_header(r->body, "Strict-Transport-Security", "max-age=31536000");
	if (close_after) MHD_add_response_header(r->body, "Connection", "close");
	if (r->stream) r->stream->connection = c;
	enum MHD_Result ok = MHD_queue_response(c, (unsigned)r->status, r->body);
	MHD_destroy_response(r->body);
	r->body = NULL;
	return ok;
}

/* ---- event streams ---- */

static ssize_t stream_read(void *cls, uint64_t at, char *out, size_t max)
{
	(void)at;
	struct http_stream *s = cls;
	ssize_t n = 0;
	pthread_mutex_lock(&s->h->lock);
	size_t left = s->bytes - s->sent;
	if (left) {
		n = (ssize_t)(left < max ? left : max);
		memcpy(out, s->data + s->sent, (size_t)n);
		s->sent += (size_t)n;
		if (s->sent == s->bytes) s->sent = s->bytes = 0;
	} else if (s->ended || s->h->closing) {
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		s->suspended = 1;
		MHD_suspend_connection(s->connection);
	}
	pthread_mutex_unlock(&s->h->lock);
	return n;
}

static void stream_free(void *cls)
{
	struct http_stream *s = cls;
	struct http *h = s->h;
	pthread_mutex_lock(&h->lock);
	struct http_stream **at = &h->streams;
	while (*at && *at != s) at = &(*at)->next;
	if (*at) {
		*at = s->next;
		h->stream_count--;
	}
	pthread_mutex_unlock(&h->lock);
	free(s->data);
	free(s);
}

static void stream_wake(struct http_stream *s)
{
	if (!s->suspended) return;
	s->suspended = 0;
	MHD_resume_connection(s->connection);
}

static void stream_append(struct http_stream *s, const char *text, size_t n)
{
	if (s->ended) return;
	if (s->sent) {
		memmove(s->data, s->data + s->sent, s->bytes - s->sent);
		s->bytes -= s->sent;
		s->sent = 0;
	}
	if (s->bytes + n > HTTP_STREAM_LIMIT) {
		s->ended = 1;
	} else if (s->bytes + n > s->room) {
		size_t room = 2 * (s->bytes + n);
		char *data = realloc(s->data, room);
		if (data) s->data = data, s->room = room;
		else s->ended = 1;
	}
	if (!s->ended) {
		memcpy(s->data + s->bytes, text, n);
		s->bytes += n;
	}
	stream_wake(s);
}

void http_reply_events(struct http_response *r, const char *topic)
{
	struct http *h = r->h;
	CHECK(strlen(topic) < HTTP_TOPIC, "the topic '%s' is too long", topic);
	struct http_stream *s = calloc(1, sizeof *s);
	int limit = h->o.streams > 0 ? h->o.streams : 64;
	if (!s) {
		http_reply_error(r, 500, "no memory");
		return;
	}
	s->h = h;
	strcpy(s->topic, topic);
	pthread_mutex_lock(&h->lock);
	int full = h->stream_count >= limit || h->closing;
	if (!full) {
		s->next = h->streams;
		h->streams = s;
		h->stream_count++;
		/* a first line: the browser then knows that it is connected */
		stream_append(s, "retry: 2000\n\n", 13);
	}
	pthread_mutex_unlock(&h->lock);
	if (full) {
		free(s);
		http_reply_error(r, 503, "too many event streams are open; close a page");
		return;
	}
	struct MHD_Response *body = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_read, s, stream_free);
	if (!body) {
		stream_free(s);
		http_reply_error(r, 500, "no memory");
		return;
	}
	r->stream = s;
	set_body(r, 200, "text/event-stream", body);
	http_reply_header(r, "X-Accel-Buffering", "no");
}

void http_publish(struct http *h, const char *topic, const char *event, const char *data)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);
	if (!f) return;
	fprintf(f, "event: %s\n", event);
	for (const char *p = data;;) {
		size_t n = strcspn(p, "\n");
		fprintf(f, "data: %.*s\n", (int)n, p);
		if (!p[n]) break;
		p += n + 1;
	}
	fputc('\n', f);
	if (fclose(f) == 0) {
		pthread_mutex_lock(&h->lock);
		for (struct http_stream *s = h->streams; s; s = s->next)
			if (!strcmp(s->topic, topic)) stream_append(s, text, bytes);
		pthread_mutex_unlock(&h->lock);
	}
	free(text);
}

void http_tick(struct http *h)
{
	double now = fs_now();
	pthread_mutex_lock(&h->lock);
	if (now - h->ticked >= TICK_SECONDS) {
		h->ticked = now;
		for (struct http_stream *s = h->streams; s; s = s->next) stream_append(s, ":\n\n", 3);
	}
	pthread_mutex_unlock(&h->lock);
}

int http_streams(struct http *h)
{
	pthread_mutex_lock(&h->lock);
	int n = h->stream_count;
	pthread_mutex_unlock(&h->lock);
	return n;
}
