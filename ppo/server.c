/* The thread, its life and its calls; see server.h. The learner's thread wakes
 * the server's by a frame over a private inproc pair, because a socket may only
 * be touched by its own thread. */
#include "core/base/group_copy.h"
#include "core/base/log.h"
#include "core/wire/transfer.h"
#include "ppo/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES_A_ROUND = 64, SAID = 200 };
#define IDLE_SECONDS 0.25

static const char wake_endpoint[] = "inproc://wake";

void server_event(struct ppo_server *s, enum ppo_server_event_kind kind, uint64_t step, const struct server_slot *slot, int w, const char *text)
{
	static const char *const word[] = {"joined", "left", "refused", "lease lost", "set aside", "late", "CONFLICT"};
	if (kind == PPO_EVENT_REFUSED && s->refusals++ > SAID && (s->refusals & (s->refusals - 1))) return; /* a flood is not echoed */
	if (s->event_count == SERVER_EVENTS) {
		s->event_first = (s->event_first + 1) % SERVER_EVENTS;
		s->event_count--;
	}
	struct ppo_server_event *v = &s->events[(s->event_first + s->event_count++) % SERVER_EVENTS];
	*v = (struct ppo_server_event){.kind = kind, .step = step};
	if (slot) v->slot = slot->item.slot, v->prompt = slot->item.prompt, v->count = slot->losses;
	if (w >= 0) memcpy(v->worker, s->workers[w].info.name, sizeof v->worker);
	snprintf(v->text, sizeof v->text, "%s", text);
	enum log_level level = kind == PPO_EVENT_CONFLICT || kind == PPO_EVENT_LOST ? LOG_ERROR : kind <= PPO_EVENT_LEFT ? LOG_INFO : LOG_WARN;
	if (slot)
		log_write(level, "WORKER %s: %s, group %llu/%u (prompt %u): %s", v->worker, word[kind], (unsigned long long)step, v->slot, v->prompt, text);
	else log_write(level, "WORKER %s: %s%s%s", v->worker, word[kind], text[0] ? ": " : "", text);
}

int server_try_send(struct ppo_server *s, const struct wire_peer *peer, const struct message *m)
{
	struct err e;
	int rc = message_encode(&s->buffer, m, &e);
	if (rc < 0) log_error("%s not encoded: %s", message_type_name(m->type), e.msg);
	else rc = wire_send(s->socket, peer, s->buffer.data, s->buffer.bytes, &e);
	if (rc < 0) log_debug("%s not sent: %s", message_type_name(m->type), e.msg);
	return rc;
}

/* What is lost on the way is asked for again. */
void server_send(struct ppo_server *s, const struct wire_peer *peer, const struct message *m)
{
	server_try_send(s, peer, m);
}

void server_refuse(struct ppo_server *s, const struct wire_peer *peer, const struct message *about, int w, const struct err *e)
{
	struct message reply;
	s->counters.refused++;
	if (w >= 0) s->workers[w].info.refused++;
	message_refuse(&reply, about, s->run, e);
	server_send(s, peer, &reply);
}

static void send_chunk(struct ppo_server *s, const struct wire_frame *f, const struct message *m)
{
	struct err e;
	struct message reply;
	const struct server_weights *v = server_find_weights(s, m->weights_get.version);
	if (v) {
		transfer_answer(&reply, m, s->run, v->version, v->hash, v->map.data, v->map.bytes);
	} else {
		err_set(&e, ERR_NOT_FOUND, "weights version %llu are not here (any more)", (unsigned long long)m->weights_get.version);
		message_refuse(&reply, m, s->run, &e);
		reply.refuse.step = m->weights_get.version;
	}
	if (reply.type == MESSAGE_WEIGHTS_CHUNK) {
		s->counters.chunks++;
		s->counters.chunk_bytes += reply.weights_chunk.bytes;
	} else {
		s->counters.refused++;
	}
	server_send(s, &f->peer, &reply);
}

static void take_message(struct ppo_server *s, const struct wire_frame *f, const struct message *m, double now)
{
	struct err e;
	int w = server_find_peer(s, &f->peer);
	if (w >= 0) s->workers[w].seen = now;
	if (m->type == MESSAGE_HELLO) {
		server_take_hello(s, f, m);
		return;
	}
	if (m->type == MESSAGE_REFUSE) return;
	if (w < 0) {
		err_set(&e, ERR_STATE, "%s from a peer that is not known here: say hello first", message_type_name(m->type));
		if (m->type != MESSAGE_BYE) server_refuse(s, &f->peer, m, w, &e);
		return;
	}
	switch (m->type) {
	case MESSAGE_ASK: server_take_ask(s, w, m, now); break;
	case MESSAGE_GROUP: server_take_group(s, f, w, m, now); break;
	case MESSAGE_WEIGHTS_GET: send_chunk(s, f, m); break;
	case MESSAGE_BYE: server_take_bye(s, w); break;
	default:
		err_set(&e, ERR_STATE, "a learner does not take %s", message_type_name(m->type));
		server_refuse(s, &f->peer, m, w, &e);
	}
}

static void take_frame(struct ppo_server *s, const struct wire_frame *f)
{
	struct err e;
	struct message m;
	arena_reset(s->arena);
	int rc = message_decode(&m, f->data, f->bytes, s->arena, &s->options.limits, &e);
	pthread_mutex_lock(&s->mutex);
	s->counters.received++;
	if (rc == ERR_FORMAT || rc == ERR_RANGE) s->counters.malformed++;
	if (rc == 0) rc = message_check_run(&m, s->run, &e);
	if (rc == 0) take_message(s, f, &m, fs_now());
	else if (m.type != MESSAGE_REFUSE) {
		int w = server_find_peer(s, &f->peer);
		server_event(s, PPO_EVENT_REFUSED, m.id_step, NULL, w, e.msg);
		server_refuse(s, &f->peer, &m, w, &e);
	}
	pthread_mutex_unlock(&s->mutex);
}

/* One round of what does not come from the network; the seconds until the next. */
static double tend(struct ppo_server *s)
{
	double now = fs_now(), next = now + IDLE_SECONDS;
	struct message stop;
	pthread_mutex_lock(&s->mutex);
	server_expire(s, now);
	server_serve_parked(s, now);
	message_init(&stop, MESSAGE_STOP, s->run);
	for (int i = 0; i < s->worker_count; i++) {
		struct server_worker *w = &s->workers[i];
		if (s->stops_due && w->info.live) server_send(s, &w->peer, &stop);
		if (w->parked && w->until < next) next = w->until;
	}
	s->stops_due = 0;
	int end = s->closing;
	pthread_mutex_unlock(&s->mutex);
	return end ? -1 : next > now ? next - now : 0;
}

static int take_waiting(struct ppo_server *s, unsigned ready, struct err *e)
{
	struct wire_frame f;
	struct err bad;
	if (ready & 2)
		while (wire_receive(s->wake_in, 0, &f, &bad) == 0) continue;
	for (int i = 0; (ready & 1) && i < FRAMES_A_ROUND; i++) {
		int rc = wire_receive(s->socket, 0, &f, &bad);
		if (rc == ERR_TIMEOUT) break;
		if (rc == ERR_FORMAT) {
			pthread_mutex_lock(&s->mutex);
			s->counters.received++;
			s->counters.malformed++;
			pthread_mutex_unlock(&s->mutex);
			log_warn("%s", bad.msg);
			continue;
		}
		if (rc < 0) return err_set(e, rc, "%s", bad.msg);
		take_frame(s, &f);
	}
	return 0;
}

static void *serve(void *arg)
{
	struct ppo_server *s = arg;
	struct wire_socket *sockets[2] = {s->socket, s->wake_in};
	struct err e;
	for (;;) {
		unsigned ready;
		double wait = tend(s);
		if (wait < 0) break;
		int rc = wire_poll(sockets, 2, wait, &ready, &e);
		if (rc >= 0) rc = take_waiting(s, ready, &e);
		if (rc >= 0 || rc == ERR_TIMEOUT) continue;
		log_error("the learner's server ends: %s", e.msg);
		pthread_mutex_lock(&s->mutex);
		s->failed = 1;
		s->failure = e;
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->mutex);
		break;
	}
	return NULL;
}

void server_wake(struct ppo_server *s)
{
	struct err e;
	wire_send(s->wake_out, NULL, "w", 1, &e); /* a full queue wakes as well */
}

static void init_lock(struct ppo_server *s)
{
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int ppo_server_open(struct ppo_server **out, const struct ppo_server_options *o, struct err *e)
{
	int rc = 0;
	struct ppo_server *s = calloc(1, sizeof *s);
	*out = NULL;
	if (!s) return err_set(e, ERR_MEMORY, "no memory for the learner's server");
	CHECK(strlen(o->run) < MESSAGE_RUN && (!o->fingerprint || strlen(o->fingerprint) < HASH_HEX), "run id or fingerprint too long");
	CHECK(o->group_size >= 2 && o->group_size <= GROUP_MAX, "groups of %u", o->group_size);
	init_lock(s);
	s->options = *o;
	strcpy(s->run, o->run);
	strcpy(s->fingerprint, o->fingerprint ? o->fingerprint : "");
	s->options.run = s->run;
	s->options.fingerprint = s->fingerprint;
	if (o->rule) s->rule = *o->rule, s->options.rule = &s->rule;
	if (s->options.lease_seconds <= 0) s->options.lease_seconds = 60;
	s->options.wire.stop = NULL;
	s->arena = arena_open(0);
	TRY(wire_open(&s->wire, &s->options.wire, e));
	if (s->options.limits.bytes == 0) s->options.limits.bytes = wire_max_message(s->wire);
	TRY(wire_listen(&s->wake_in, s->wire, wake_endpoint, e));
	TRY(wire_connect(&s->wake_out, s->wire, wake_endpoint, e));
	TRY(wire_listen(&s->socket, s->wire, o->endpoint, e));
	if (pthread_create(&s->thread, NULL, serve, s) != 0) rc = err_set(e, ERR_MEMORY, "cannot start the thread of the learner's server");
	else s->started = 1;
out:
	if (rc == 0) *out = s;
	else ppo_server_close(s);
	return rc;
}

static void free_weights(struct server_weights *v)
{
	fs_map_close(&v->map);
	free(v->path);
	free(v);
}

void ppo_server_close(struct ppo_server *s)
{
	if (!s) return;
	pthread_mutex_lock(&s->mutex);
	s->closing = 1;
	if (s->started) server_wake(s);
	pthread_mutex_unlock(&s->mutex);
	if (s->started) pthread_join(s->thread, NULL);
	wire_socket_close(s->socket);
	wire_socket_close(s->wake_out);
	wire_socket_close(s->wake_in);
	wire_close(s->wire);
	for (struct server_step *t = s->steps, *next; t; t = next) {
		next = t->next;
		arena_close(t->arena);
	}
	for (struct server_weights *v = s->weights, *next; v; v = next) {
		next = v->next;
		free_weights(v);
	}
	message_buffer_free(&s->buffer);
	arena_close(s->arena);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

const char *ppo_server_endpoint(const struct ppo_server *s)
{
	return wire_endpoint(s->socket);
}

int ppo_server_publish(struct ppo_server *s, uint64_t version, const char *path, const char hash[HASH_HEX], struct err *e)
{
	struct server_weights *v = calloc(1, sizeof *v);
	char *name = strdup(path);
	if (!v || !name) {
		free(v);
		free(name);
		return err_set(e, ERR_MEMORY, "no memory to publish %s", path);
	}
	int rc = fs_map_open(&v->map, path, e);
	if (rc < 0) {
		free(v);
		free(name);
		return err_prefix(e, "publishing weights version %llu", (unsigned long long)version);
	}
	v->version = version;
	v->path = name;
	memcpy(v->hash, hash, HASH_HEX);
	pthread_mutex_lock(&s->mutex);
	CHECK(!server_find_weights(s, version), "weights version %llu are published already", (unsigned long long)version);
	v->next = s->weights;
	s->weights = v;
	server_wake(s);
	pthread_mutex_unlock(&s->mutex);
	return 0;
}

void ppo_server_retire(struct ppo_server *s, uint64_t version)
{
	struct server_weights *gone = NULL;
	pthread_mutex_lock(&s->mutex);
	for (const struct server_step *t = s->steps; t; t = t->next)
		CHECK(t->policy_version != version || t->done == t->n, "step %llu still samples from weights version %llu", (unsigned long long)t->step,
		      (unsigned long long)version);
	for (struct server_weights **at = &s->weights; *at; at = &(*at)->next)
		if ((*at)->version == version) {
			gone = *at;
			*at = gone->next;
			break;
		}
	pthread_mutex_unlock(&s->mutex);
	if (gone) free_weights(gone);
}

struct message_lease_item server_item(struct arena *a, const struct ppo_prompt *p)
{
	CHECK(p->token_count >= 1, "prompt %u without tokens", p->prompt);
	int32_t *tokens = arena_must(a, p->token_count, sizeof *tokens);
	memcpy(tokens, p->tokens, p->token_count * sizeof *tokens);
	return (struct message_lease_item){.slot = p->slot, .prompt = p->prompt, .token_count = p->token_count, .tokens = tokens,
					   .text = arena_strdup(a, p->text ? p->text : "")};
}

void ppo_server_open_step(struct ppo_server *s, uint64_t step, uint64_t policy_version, const struct ppo_prompt *items, uint32_t n)
{
	struct arena *a = arena_open(0);
	struct server_step *t = arena_must(a, 1, sizeof *t);
	*t = (struct server_step){.step = step, .policy_version = policy_version, .arena = a, .n = n, .slots = arena_must(a, n, sizeof *t->slots)};
	for (uint32_t i = 0; i < n; i++) {
		CHECK(i == 0 || items[i].slot > items[i - 1].slot, "slot %u of step %llu", items[i].slot, (unsigned long long)step);
		t->slots[i].worker = SERVER_NOBODY;
		t->slots[i].item = server_item(a, &items[i]);
	}
	pthread_mutex_lock(&s->mutex);
	CHECK(!s->any_step || step > s->last_step, "step %llu is opened after step %llu", (unsigned long long)step, (unsigned long long)s->last_step);
	struct server_step **at = &s->steps;
	while (*at) at = &(*at)->next;
	*at = t;
	s->any_step = 1;
	s->last_step = step;
	server_wake(s);
	pthread_mutex_unlock(&s->mutex);
}

static struct server_step *must_find(const struct ppo_server *s, uint64_t step)
{
	struct server_step *t = server_find_step(s, step);
	CHECK(t, "step %llu is not open", (unsigned long long)step);
	return t;
}

/* With the mutex held: waits until something changed, at most 50 ms (so that a stop flag is seen) or until `end`. */
static void wait_change(struct ppo_server *s, double end)
{
	double until = fs_now() + 0.05;
	if (end < until) until = end;
	struct timespec at = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - (double)(time_t)until) * 1e9)};
	pthread_cond_timedwait(&s->changed, &s->mutex, &at);
}

int ppo_server_wait(struct ppo_server *s, uint64_t step, double seconds, struct group *groups, struct arena *arena, struct err *e)
{
	double end = fs_now() + seconds;
	int rc = 0;
	pthread_mutex_lock(&s->mutex);
	struct server_step *t = must_find(s, step);
	while (t->done < t->n) {
		if (s->failed) rc = err_set(e, ERR_NET, "the learner's server ended: %s", s->failure.msg);
		else if (s->options.stop && atomic_load(s->options.stop)) rc = err_set(e, ERR_STOPPED, "stopped while waiting for groups");
		if (rc < 0 || t->aside || fs_now() >= end) goto out;
		wait_change(s, end);
	}
	rc = 1;
	for (uint32_t i = 0; i < t->n && rc == 1; i++) {
		int bad = group_copy(&groups[i], &t->slots[i].group, arena, e);
		if (bad < 0) rc = bad;
	}
out:
	pthread_mutex_unlock(&s->mutex);
	return rc;
}

void ppo_server_progress(struct ppo_server *s, uint64_t step, uint32_t *done, uint32_t *total)
{
	pthread_mutex_lock(&s->mutex);
	const struct server_step *t = must_find(s, step);
	*done = t->done;
	*total = t->n;
	pthread_mutex_unlock(&s->mutex);
}

void ppo_server_close_step(struct ppo_server *s, uint64_t step)
{
	pthread_mutex_lock(&s->mutex);
	struct server_step *t = must_find(s, step), **at = &s->steps;
	while (*at != t) at = &(*at)->next;
	*at = t->next;
	pthread_mutex_unlock(&s->mutex);
	arena_close(t->arena);
}

void ppo_server_stop_workers(struct ppo_server *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stopping = s->stops_due = 1;
	server_wake(s);
	pthread_mutex_unlock(&s->mutex);
}
