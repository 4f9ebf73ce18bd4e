/* Life cycle, sending and waiting of the client; see client.h. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "reward/client_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int add_service(struct reward_client *c, struct wire *wire, const char *text, size_t n, struct err *e)
{
	char endpoint[WIRE_ENDPOINT];
	while (n && isspace((unsigned char)text[0])) text++, n--;
	while (n && isspace((unsigned char)text[n - 1])) n--;
	if (n == 0 || n >= sizeof endpoint) return err_set(e, ERR_FORMAT, "net.rewards: an endpoint of %zu bytes between two commas", n);
	if (c->n == WIRE_POLL_MAX) return err_set(e, ERR_RANGE, "net.rewards: more than %d services", WIRE_POLL_MAX);
	memcpy(endpoint, text, n);
	endpoint[n] = 0;
	struct service *s = &c->services[c->n];
	int rc = wire_connect(&s->socket, wire, endpoint, e);
	if (rc < 0) return rc;
	c->sockets[c->n] = s->socket;
	client_hello(c, c->n++);
	return 0;
}

static void copy_text(char *out, size_t size, const char *text, const char *what)
{
	CHECK(strlen(text) < size, "%s of %zu bytes, at most %zu", what, strlen(text), size - 1);
	strcpy(out, text);
}

int reward_client_open(struct reward_client **out, struct wire *wire, const struct reward_client_options *o, struct err *e)
{
	int rc = 0;
	struct reward_client *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c) return err_set(e, ERR_MEMORY, "no memory for a reward client");
	copy_text(c->run, sizeof c->run, o->run, "run id");
	copy_text(c->fingerprint, sizeof c->fingerprint, o->fingerprint ? o->fingerprint : "", "fingerprint");
	copy_text(c->name, sizeof c->name, o->name ? o->name : "client", "name");
	c->live_every = o->live_every;
	copy_text(c->version, sizeof c->version, o->scorer_version ? o->scorer_version : "", "scorer version");
	c->timeout = o->timeout_seconds > 0 ? o->timeout_seconds : 2.5;
	c->backoff_max = o->backoff_max_seconds > 0 ? o->backoff_max_seconds : 32;
	c->retries = o->retries > 0 ? o->retries : 3;
	if (o->rule) c->rule = *o->rule;
	c->combine = o->rule != NULL;
	c->arena = arena_open(1 << 16);
	c->services = calloc(WIRE_POLL_MAX, sizeof c->services[0]);
	c->sockets = calloc(WIRE_POLL_MAX, sizeof c->sockets[0]);
	if (!c->services || !c->sockets) {
		rc = err_set(e, ERR_MEMORY, "no memory for a reward client");
		goto out;
	}
	for (const char *p = o->endpoints;;) {
		size_t n = strcspn(p, ",");
		TRY(add_service(c, wire, p, n, e));
		if (!p[n]) break;
		p += n + 1;
	}
out:
	if (rc == 0) *out = c;
	else reward_client_close(c);
	return rc;
}

void reward_client_close(struct reward_client *c)
{
	if (!c) return;
	for (uint32_t i = 0; i < c->n; i++) wire_socket_close(c->services[i].socket);
	for (uint32_t i = 0; i < c->slots; i++) message_buffer_free(&c->pending[i].frame);
	message_buffer_free(&c->buffer);
	arena_close(c->arena);
	free(c->services);
	free(c->sockets);
	free(c->pending);
	free(c);
}

void client_hello(struct reward_client *c, uint32_t service)
{
	struct message m;
	struct err e;
	message_init(&m, MESSAGE_HELLO, c->run);
	strcpy(m.hello.name, c->name);
	strcpy(m.hello.fingerprint, c->fingerprint);
	m.hello.pid = (uint64_t)getpid();
	if (message_encode(&c->buffer, &m, &e) < 0 || wire_send(c->services[service].socket, NULL, c->buffer.data, c->buffer.bytes, &e) < 0)
		log_debug("hello not sent: %s", e.msg);
	struct service *s = &c->services[service];
	s->pause = s->pause > 0 ? s->pause * 2 : c->timeout;
	if (s->pause > c->backoff_max) s->pause = c->backoff_max;
	s->probe = fs_now() + s->pause;
}

/* The service for the next attempt: in turn from the group's own, silent ones only when no other is left. */
static int choose(const struct reward_client *c, const struct pending *p)
{
	uint32_t first = (uint32_t)((p->group->step + p->group->slot + (uint64_t)p->attempts) % c->n);
	for (int silent = 0; silent < 2; silent++)
		for (uint32_t k = 0; k < c->n; k++) {
			uint32_t i = (first + k) % c->n;
			if (!c->services[i].aside && !(p->refused >> i & 1) && c->services[i].silent <= silent) return (int)i;
		}
	return -1;
}

int client_send(struct reward_client *c, struct pending *p, struct err *e)
{
	int i = choose(c, p);
	if (i < 0) {
		uint32_t k = 0; /* whose reason: one that refused this very group, else one set aside */
		while (k < c->n && !(p->refused >> k & 1)) k++;
		if (k == c->n) k = 0;
		int rc = p->refused ? ERR_STATE : ERR_MISMATCH;
		return err_set(e, rc, "no scoring service takes group %llu/%u (prompt %u): %s", (unsigned long long)p->group->step,
		               p->group->slot, p->group->prompt, c->services[k].reason);
	}
	struct err lost;
	if (wire_send(c->services[i].socket, NULL, p->frame.data, p->frame.bytes, &lost) < 0)
		log_debug("group %llu/%u not sent: %s", (unsigned long long)p->group->step, p->group->slot, lost.msg); /* its deadline brings it again */
	p->at = (uint32_t)i;
	if (p->attempts++ > 0) c->counters.retries++;
	double pause = c->timeout;
	for (int k = c->retries; k < p->attempts && pause < c->backoff_max; k++) pause *= 2;
	p->deadline = fs_now() + (pause > c->backoff_max && p->attempts > c->retries ? c->backoff_max : pause);
	return 0;
}

void client_release(struct reward_client *c, struct pending *p)
{
	p->group = NULL;
	c->count--;
}

static struct pending *free_place(struct reward_client *c)
{
	if (c->count == c->slots) {
		uint32_t n = c->slots ? c->slots * 2 : 64;
		struct pending *p = realloc(c->pending, n * sizeof *p);
		if (!p) return NULL;
		memset(p + c->slots, 0, (n - c->slots) * sizeof *p);
		c->pending = p;
		c->slots = n;
	}
	uint32_t i = 0;
	while (c->pending[i].group) i++;
	return &c->pending[i];
}

int reward_client_submit(struct reward_client *c, struct group *g, struct arena *arena, struct err *e)
{
	for (uint32_t i = 0; i < c->slots; i++) {
		const struct group *other = c->pending[i].group;
		if (other && other->step == g->step && other->slot == g->slot)
			return err_set(e, ERR_STATE, "group %llu/%u is being scored already", (unsigned long long)g->step, g->slot);
	}
	struct pending *p = free_place(c);
	if (!p) return err_set(e, ERR_MEMORY, "no memory for another group to be scored");
	struct message m;
	message_init(&m, MESSAGE_SCORE, c->run);
	m.score.group = *g;
	strcpy(m.score.fingerprint, c->fingerprint);
	int rc = message_encode(&p->frame, &m, e);
	if (rc < 0) return rc;
	p->group = g;
	p->arena = arena;
	p->attempts = 0;
	p->refused = 0;
	c->count++;
	c->counters.submitted++;
	rc = client_send(c, p, e);
	FAULT_POINT("client.after_send", "a group is on its way to a service");
	if (rc < 0) client_release(c, p);
	return rc;
}

uint32_t reward_client_pending(const struct reward_client *c)
{
	return c->count;
}

void reward_client_counters(const struct reward_client *c, struct reward_client_counters *out)
{
	*out = c->counters;
}

/* What waits at the sockets, from c->turn on: 1, 0 or an error as poll's. */
static int take_waiting(struct reward_client *c, struct group **scored, struct err *e)
{
	for (uint32_t k = 0; k < c->n; k++) {
		uint32_t i = (c->turn + k) % c->n;
		for (;;) {
			struct wire_frame f;
			struct err bad;
			int rc = wire_receive(c->services[i].socket, 0, &f, &bad);
			if (rc == ERR_TIMEOUT) break;
			if (rc == ERR_FORMAT) {
				log_warn("%s", bad.msg);
				continue;
			}
			if (rc < 0) return err_set(e, rc, "%s", bad.msg);
			rc = client_take(c, i, &f, scored, e);
			if (rc == 0) continue;
			c->turn = (i + 1) % c->n;
			return rc;
		}
	}
	return 0;
}

/* Repeats what is overdue; *next becomes the time of the next thing to do. */
static int send_overdue(struct reward_client *c, double *next, struct group **scored, struct err *e)
{
	double now = fs_now();
	for (uint32_t i = 0; i < c->slots; i++) {
		struct pending *p = &c->pending[i];
		if (!p->group) continue;
		if (p->deadline <= now) {
			struct service *s = &c->services[p->at];
			if (!s->silent && !s->aside) {
				log_warn("the scoring service %s did not answer in time, asking again", wire_endpoint(s->socket));
				s->silent = 1;
				s->pause = 0;
				client_hello(c, p->at);
			}
			int rc = client_send(c, p, e);
			if (rc < 0) {
				*scored = p->group;
				client_release(c, p);
				return rc;
			}
		}
		if (p->deadline < *next) *next = p->deadline;
	}
	for (uint32_t i = 0; i < c->n; i++) {
		struct service *s = &c->services[i];
		if (!s->silent && !s->aside) continue;
		if (s->probe <= now) client_hello(c, i);
		if (s->probe < *next) *next = s->probe;
	}
	return 0;
}

int reward_client_poll(struct reward_client *c, double seconds, struct group **scored, struct err *e)
{
	double end = seconds < 0 ? 1e300 : fs_now() + seconds;
	*scored = NULL;
	while (c->count > 0) {
		unsigned ready;
		double next = end;
		int rc = take_waiting(c, scored, e);
		if (rc == 0) rc = send_overdue(c, &next, scored, e);
		if (rc != 0) return rc;
		double wait = next - fs_now();
		rc = wire_poll(c->sockets, (int)c->n, wait > 0 ? (wait < 3600 ? wait : 3600) : 0, &ready, e);
		if (rc == ERR_TIMEOUT && fs_now() >= end) return 0;
		if (rc < 0 && rc != ERR_TIMEOUT) return rc;
	}
	return 0;
}

int reward_client_score(struct reward_client *c, struct group *const *groups, uint32_t n, struct arena *arena, struct err *e)
{
	for (uint32_t i = 0; i < n; i++) {
		int rc = reward_client_submit(c, groups[i], arena, e);
		if (rc < 0) return rc;
	}
	for (uint32_t got = 0; got < n; got++) {
		struct group *g;
		int rc = reward_client_poll(c, -1, &g, e);
		if (rc < 0) return rc;
	}
	return 0;
}
