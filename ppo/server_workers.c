/* Who works for the learner: joining, leaving, being counted, and what is to be
 * told about it. A worker is its name: one that comes back on another connection
 * (restarted, or after a silence) takes its record over, and what it held is free
 * again. Names of a run are therefore unique. */
#include "core/base/fault.h"
#include "ppo/server_internal.h"

#include <string.h>

int server_find_peer(const struct ppo_server *s, const struct wire_peer *peer)
{
	for (int i = 0; i < s->worker_count; i++)
		if (s->workers[i].info.live && wire_peer_equal(&s->workers[i].peer, peer)) return i;
	return SERVER_NOBODY;
}

int server_is_live(const struct ppo_server *s, const struct server_worker *w, double now)
{
	return w->info.live && (w->parked || now - w->seen < s->options.lease_seconds);
}

/* A record for this name: its own, a new one, or that of the worker that has been away longest. */
static int place_for(struct ppo_server *s, const char *name)
{
	int oldest = SERVER_NOBODY;
	double now = fs_now();
	for (int i = 0; i < s->worker_count; i++) {
		if (!strcmp(s->workers[i].info.name, name)) return i;
		if (!server_is_live(s, &s->workers[i], now) && (oldest < 0 || s->workers[i].seen < s->workers[oldest].seen)) oldest = i;
	}
	if (s->worker_count < PPO_SERVER_WORKERS) oldest = s->worker_count++;
	else if (oldest >= 0) server_free_leases(s, oldest, 1);
	else return SERVER_NOBODY;
	s->workers[oldest] = (struct server_worker){0};
	strcpy(s->workers[oldest].info.name, name);
	s->joined++;
	return oldest;
}

static int check_hello(const struct ppo_server *s, const struct message *m, struct err *e)
{
	const char *theirs = m->hello.fingerprint;
	if (!m->hello.name[0]) return err_set(e, ERR_RANGE, "a worker without a name");
	if (s->fingerprint[0] && strcmp(s->fingerprint, theirs) != 0)
		return err_set(e, ERR_MISMATCH,
			       "worker %s has kernel fingerprint %s, the learner %s: both must compute the same bits; start the same build with the same "
			       "options on both sides",
			       m->hello.name, theirs[0] ? theirs : "(none)", s->fingerprint);
	return 0;
}

void server_take_hello(struct ppo_server *s, const struct wire_frame *f, const struct message *m)
{
	struct err e;
	struct message reply;
	int w = SERVER_NOBODY, rc = check_hello(s, m, &e);
	if (rc == 0) {
		w = place_for(s, m->hello.name);
		if (w < 0) err_set(&e, ERR_STATE, "there are %d workers already", PPO_SERVER_WORKERS);
	}
	if (w < 0) {
		server_event(s, PPO_EVENT_REFUSED, 0, NULL, w, e.msg);
		server_refuse(s, &f->peer, m, w, &e);
		return;
	}
	struct server_worker *p = &s->workers[w];
	int again = p->info.live && wire_peer_equal(&p->peer, &f->peer);
	server_free_leases(s, w, 1);
	p->peer = f->peer;
	p->info.pid = m->hello.pid;
	p->info.live = 1;
	p->seen = fs_now();
	p->parked = 0;
	if (!again) server_event(s, PPO_EVENT_JOINED, 0, NULL, w, "");
	FAULT_POINT("server.before_welcome", "a worker is known, it has no answer");
	message_init(&reply, s->stopping ? MESSAGE_STOP : MESSAGE_WELCOME, s->run);
	if (!s->stopping) reply.welcome.version = s->weights ? s->weights->version : 0;
	server_send(s, &p->peer, &reply);
}

void server_take_bye(struct ppo_server *s, int w)
{
	server_free_leases(s, w, 0);
	s->workers[w].info.live = 0;
	s->workers[w].parked = 0;
	server_event(s, PPO_EVENT_LEFT, 0, NULL, w, "");
}

int ppo_server_workers(struct ppo_server *s, struct ppo_worker_info *out, int max)
{
	pthread_mutex_lock(&s->mutex);
	double now = fs_now();
	int n = s->worker_count;
	for (int i = 0; i < n && i < max; i++) {
		out[i] = s->workers[i].info;
		out[i].live = server_is_live(s, &s->workers[i], now);
		out[i].seen_seconds = now - s->workers[i].seen;
	}
	pthread_mutex_unlock(&s->mutex);
	return n;
}

int ppo_server_live(struct ppo_server *s)
{
	pthread_mutex_lock(&s->mutex);
	double now = fs_now();
	int live = 0;
	for (int i = 0; i < s->worker_count; i++) live += server_is_live(s, &s->workers[i], now);
	pthread_mutex_unlock(&s->mutex);
	return live;
}

void ppo_server_counters(struct ppo_server *s, struct ppo_server_counters *out)
{
	pthread_mutex_lock(&s->mutex);
	*out = s->counters;
	pthread_mutex_unlock(&s->mutex);
}

int ppo_server_event(struct ppo_server *s, struct ppo_server_event *out)
{
	pthread_mutex_lock(&s->mutex);
	int there = s->event_count > 0;
	if (there) {
		*out = s->events[s->event_first];
		s->event_first = (s->event_first + 1) % SERVER_EVENTS;
		s->event_count--;
	}
	pthread_mutex_unlock(&s->mutex);
	return there;
}
