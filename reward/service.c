/* The scoring service's loop; see service.h. A round has three parts: take
 * frames until none waits or the batch is full, score the new groups together,
 * answer everyone who asked. Frames beyond a batch stay in ZeroMQ's bounded
 * queues, which is the back-pressure on a client that floods. */
#include "reward/service.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "reward/service_cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64, CACHE = 16384 };

/* Someone who waits for the answer to an entry. */
struct waiter {
	struct wire_peer peer;
	struct cache_entry *entry;
};

struct reward_service {
	struct wire_socket *socket;
	struct scorer *scorer;
	struct message_limits limits;
	char run[MESSAGE_RUN], fingerprint[HASH_HEX];
	uint32_t batch;
	struct cache *cache;
	struct arena *arena; /* of a round */
	struct message_buffer buffer;
	struct message_counters counters;
	double started;
	struct waiter *waiters; /* [2 * batch] */
	uint32_t waiting;
	const struct group **fresh; /* [batch] the new groups of the round */
	struct cache_entry **entry; /* [batch] theirs */
	struct message *fresh_message; /* [batch] whose groups those are */
	uint32_t fresh_count;
};

int reward_service_open(struct reward_service **out, struct wire *wire, const struct reward_service_options *o, struct err *e)
{
	int rc = 0;
	struct reward_service *s = calloc(1, sizeof *s);
	*out = NULL;
	if (!s) return err_set(e, ERR_MEMORY, "no memory for a scoring service");
	const char *fingerprint = o->fingerprint ? o->fingerprint : "";
	CHECK(strlen(o->run) < MESSAGE_RUN && strlen(fingerprint) < HASH_HEX, "run id or fingerprint too long");
	strcpy(s->run, o->run);
	strcpy(s->fingerprint, fingerprint);
	s->scorer = o->scorer;
	s->limits = o->limits;
	if (s->limits.bytes == 0) s->limits.bytes = wire_max_message(wire);
	s->batch = o->batch_groups ? o->batch_groups : BATCH;
	uint32_t entries = o->cache_groups ? o->cache_groups : CACHE;
	if (entries < 2 * s->batch) entries = 2 * s->batch; /* a round never pushes out its own entries */
	s->cache = cache_open(entries);
	s->arena = arena_open(0);
	s->started = fs_now();
	memcpy(s->counters.scorer_version, o->scorer->version, GROUP_VERSION);
	s->waiters = calloc(2 * (size_t)s->batch, sizeof s->waiters[0]);
	s->fresh = calloc(s->batch, sizeof s->fresh[0]);
	s->entry = calloc(s->batch, sizeof s->entry[0]);
	s->fresh_message = calloc(s->batch, sizeof s->fresh_message[0]);
	if (!s->cache || !s->waiters || !s->fresh || !s->entry || !s->fresh_message)
		rc = err_set(e, ERR_MEMORY, "no memory for a scoring service with batches of %u groups", s->batch);
	if (rc == 0) rc = wire_listen(&s->socket, wire, o->endpoint, e);
	if (rc == 0) *out = s;
	else reward_service_close(s);
	return rc;
}

void reward_service_close(struct reward_service *s)
{
	if (!s) return;
	wire_socket_close(s->socket);
	cache_close(s->cache);
	arena_close(s->arena);
	message_buffer_free(&s->buffer);
	free(s->waiters);
	free(s->fresh);
	free(s->entry);
	free(s->fresh_message);
	free(s);
}

const char *reward_service_endpoint(const struct reward_service *s)
{
	return wire_endpoint(s->socket);
}

void reward_service_counters(const struct reward_service *s, struct message_counters *c)
{
	*c = s->counters;
	c->seconds = fs_now() - s->started;
}

/* Sends; a peer that is gone or does not read will ask again. */
static void send_bytes(struct reward_service *s, const struct wire_peer *peer, const void *data, size_t bytes)
{
	struct err e;
	if (wire_send(s->socket, peer, data, bytes, &e) < 0) log_debug("answer not sent: %s", e.msg);
}

static void send_message(struct reward_service *s, const struct wire_peer *peer, const struct message *m)
{
	struct err e;
	if (message_encode(&s->buffer, m, &e) < 0) log_error("%s", e.msg);
	else send_bytes(s, peer, s->buffer.data, s->buffer.bytes);
}

static void refuse(struct reward_service *s, const struct wire_peer *peer, const struct message *about, const struct err *e)
{
	struct message reply;
	s->counters.refused++;
	log_warn("refused: %s", e->msg);
	message_refuse(&reply, about, about->run[0] ? about->run : s->run, e);
	send_message(s, peer, &reply);
}

static int check_fingerprint(const struct reward_service *s, const char *theirs, struct err *e)
{
	if (!s->fingerprint[0] || !theirs[0] || strcmp(s->fingerprint, theirs) == 0) return 0;
	return err_set(e, ERR_MISMATCH, "kernel fingerprint %s differs from this service's %s: both sides must run the same build on the same instruction set",
	               theirs, s->fingerprint);
}

/* A group to be scored: known, open, in conflict, or new. */
static void take_score(struct reward_service *s, const struct wire_frame *f, const struct message *m)
{
	struct err e;
	const struct group *g = &m->score.group;
	if (check_fingerprint(s, m->score.fingerprint, &e) < 0) {
		refuse(s, &f->peer, m, &e);
		return;
	}
	uint64_t run = hash_u64(m->run, strlen(m->run)), payload = hash_u64(f->data, f->bytes);
	struct cache_entry *n = cache_find(s->cache, run, g->step, g->slot);
	if (n && n->payload != payload) {
		s->counters.conflicts++;
		err_set(&e, ERR_MISMATCH, "conflict: group %llu/%u was given before with other content; the first stays",
		        (unsigned long long)g->step, g->slot);
		refuse(s, &f->peer, m, &e);
		return;
	}
	if (n) s->counters.repeated++;
	if (n && n->answer) {
		send_bytes(s, &f->peer, n->answer, n->bytes);
		return;
	}
	if (!n) {
		uint32_t k = s->fresh_count++;
		n = cache_add(s->cache, run, g->step, g->slot, payload);
		s->fresh_message[k] = *m;
		s->fresh[k] = &s->fresh_message[k].score.group;
		s->entry[k] = n;
	}
	s->waiters[s->waiting++] = (struct waiter){f->peer, n};
}

static void take_hello(struct reward_service *s, const struct wire_frame *f, const struct message *m)
{
	struct err e;
	struct message reply;
	if (check_fingerprint(s, m->hello.fingerprint, &e) < 0) {
		refuse(s, &f->peer, m, &e);
		return;
	}
	log_debug("client %s (process %llu)", m->hello.name, (unsigned long long)m->hello.pid);
	message_init(&reply, MESSAGE_READY, m->run[0] ? m->run : s->run);
	reply.ready.terms = s->scorer->terms;
	memcpy(reply.ready.term_name, s->scorer->term_name, sizeof reply.ready.term_name);
	memcpy(reply.ready.scorer_version, s->scorer->version, GROUP_VERSION);
	send_message(s, &f->peer, &reply);
}

static void take_frame(struct reward_service *s, const struct wire_frame *f)
{
	struct err e;
	struct message m;
	s->counters.received++;
	int rc = message_decode(&m, f->data, f->bytes, s->arena, &s->limits, &e);
	if (rc == ERR_FORMAT || rc == ERR_RANGE) s->counters.malformed++;
	if (rc == 0 && s->run[0]) rc = message_check_run(&m, s->run, &e);
	if (rc < 0) {
		if (m.type != MESSAGE_REFUSE) refuse(s, &f->peer, &m, &e);
		return;
	}
	struct message reply;
	switch (m.type) {
	case MESSAGE_SCORE: take_score(s, f, &m); break;
	case MESSAGE_HELLO: take_hello(s, f, &m); break;
	case MESSAGE_HEALTH:
		message_init(&reply, MESSAGE_COUNTERS, m.run[0] ? m.run : s->run);
		reward_service_counters(s, &reply.counters);
		send_message(s, &f->peer, &reply);
		break;
	case MESSAGE_REFUSE: log_warn("a client refused: %s", m.refuse.reason); break;
	default:
		err_set(&e, ERR_FORMAT, "a scoring service takes hello, score and health, not %s", message_type_name(m.type));
		refuse(s, &f->peer, &m, &e);
	}
}

static int remember(struct reward_service *s, uint32_t k, const float *values, struct err *e)
{
	const struct group *g = s->fresh[k];
	struct message m;
	message_init(&m, MESSAGE_SCORES, s->fresh_message[k].run);
	m.scores = (struct message_scores){.step = g->step, .slot = g->slot, .terms = s->scorer->terms, .size = g->size, .values = values};
	memcpy(m.scores.term_name, s->scorer->term_name, sizeof m.scores.term_name);
	memcpy(m.scores.scorer_version, s->scorer->version, GROUP_VERSION);
	int rc = s->scorer->version_at ? s->scorer->version_at(s->scorer->self, g->step, m.scores.scorer_version, e) : 0;
	if (rc == 0) rc = message_encode(&s->buffer, &m, e); /* refuses what is not finite */
	if (rc < 0) return rc;
	unsigned char *copy = malloc(s->buffer.bytes);
	if (!copy) return err_set(e, ERR_MEMORY, "no memory for an answer");
	memcpy(copy, s->buffer.data, s->buffer.bytes);
	s->entry[k]->answer = copy;
	s->entry[k]->bytes = s->buffer.bytes;
	s->counters.scored++;
	return 0;
}

/* The groups first..first+n of the round; those that fail are refused to all who wait for them, and forgotten. */
static void score_part(struct reward_service *s, uint32_t first, uint32_t n)
{
	struct err e = {0};
	size_t count = scorer_offset(s->scorer, s->fresh + first, n), at = 0;
	float *out = arena_alloc(s->arena, count * sizeof *out);
	for (size_t i = 0; out && i < count; i++) out[i] = NAN; /* what a scorer leaves out is not taken for a score */
	int rc = out ? s->scorer->score(s->scorer->self, s->fresh + first, n, out, &e)
	             : err_set(&e, ERR_MEMORY, "no memory for %zu scores", count);
	if (rc < 0 && n > 1) { /* one bad group does not take the others with it */
		for (uint32_t k = 0; k < n; k++) score_part(s, first + k, 1);
		return;
	}
	for (uint32_t k = first; k < first + n; k++) {
		int bad = rc < 0 ? rc : remember(s, k, out + at, &e);
		at += (size_t)s->scorer->terms * s->fresh[k]->size;
		for (uint32_t w = 0; bad < 0 && w < s->waiting; w++)
			if (s->waiters[w].entry == s->entry[k]) refuse(s, &s->waiters[w].peer, &s->fresh_message[k], &e);
		for (uint32_t w = 0; bad < 0 && w < s->waiting; w++)
			if (s->waiters[w].entry == s->entry[k]) s->waiters[w].entry = NULL;
		if (bad < 0) cache_drop(s->cache, s->entry[k]);
	}
}

int reward_service_step(struct reward_service *s, double seconds, struct err *e)
{
	uint32_t taken = 0;
	s->waiting = s->fresh_count = 0;
	arena_reset(s->arena);
	while (s->fresh_count < s->batch && s->waiting < 2 * s->batch && taken < 4 * s->batch) {
		struct wire_frame f;
		int rc = wire_receive(s->socket, taken ? 0 : seconds, &f, e);
		if (rc == ERR_TIMEOUT) break;
		if (rc == ERR_FORMAT) {
			s->counters.received++;
			s->counters.malformed++;
			struct message none;
			message_init(&none, MESSAGE_NONE, s->run);
			if (f.peer.bytes) refuse(s, &f.peer, &none, e);
			taken++;
			continue;
		}
		if (rc < 0) return rc;
		taken++;
		take_frame(s, &f);
	}
	if (s->fresh_count) {
		FAULT_POINT("service.before_score", "a service has taken groups and scored none");
		s->counters.batches++;
		score_part(s, 0, s->fresh_count);
		FAULT_POINT("service.before_answer", "groups are scored, nobody has an answer");
	}
	for (uint32_t w = 0; w < s->waiting; w++)
		if (s->waiters[w].entry) {
			send_bytes(s, &s->waiters[w].peer, s->waiters[w].entry->answer, s->waiters[w].entry->bytes);
			FAULT_POINT("service.after_answer", "one of those who wait has an answer");
		}
	return (int)taken;
}

int reward_service_run(struct reward_service *s, struct err *e)
{
	int rc;
	do rc = reward_service_step(s, 1.0, e);
	while (rc >= 0);
	return rc == ERR_STOPPED ? 0 : rc;
}
