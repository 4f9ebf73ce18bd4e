/* Joining and asking; see worker.h. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "rollout/worker_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int worker_is_stopped(const struct worker *w)
{
	return w->options.stop && atomic_load(w->options.stop);
}

int worker_send(struct worker *w, const struct message *m, struct err *e)
{
	struct err lost;
	int rc = message_encode(&w->buffer, m, e);
	if (rc < 0) return rc;
	rc = wire_send(w->socket, NULL, w->buffer.data, w->buffer.bytes, &lost);
	if (rc == ERR_TIMEOUT || rc == ERR_NET) { /* it is sent again when no answer comes */
		log_debug("%s not sent: %s", message_type_name(m->type), lost.msg);
		return 0;
	}
	if (rc < 0) return err_set(e, rc, "%s", lost.msg);
	return 0;
}

int worker_receive(struct worker *w, double seconds, struct message *m, struct err *e)
{
	struct wire_frame f;
	m->type = MESSAGE_NONE;
	arena_reset(w->arena);
	int rc = wire_receive(w->socket, seconds, &f, e);
	if (rc == ERR_TIMEOUT) return 0;
	if (rc == 0) {
		rc = message_decode(m, f.data, f.bytes, w->arena, &w->limits, e);
		if (rc == ERR_MISMATCH) return err_prefix(e, "the learner at %s", w->options.learner); /* another protocol: nothing can follow */
		if (rc == 0 && w->run[0] && m->type != MESSAGE_REFUSE) rc = message_check_run(m, w->run, e);
	}
	if (rc == ERR_FORMAT || rc == ERR_RANGE || rc == ERR_MISMATCH) {
		log_warn("WORKER %s: a message from the learner is passed over: %s", w->options.name, e->msg);
		m->type = MESSAGE_NONE;
		return 0;
	}
	if (rc < 0) return rc;
	return m->type == MESSAGE_STOP ? TURN_STOP : 0;
}

static int say_hello(struct worker *w, struct err *e)
{
	struct message m;
	wire_socket_close(w->socket);
	w->socket = NULL;
	int rc = wire_connect(&w->socket, w->wire, w->options.learner, e);
	if (rc < 0) return rc;
	message_init(&m, MESSAGE_HELLO, w->run);
	strcpy(m.hello.name, w->options.name);
	strcpy(m.hello.fingerprint, w->options.fingerprint ? w->options.fingerprint : "");
	m.hello.pid = (uint64_t)getpid();
	w->counters.joins++;
	return worker_send(w, &m, e);
}

/* One hello and its answer: 1 joined, 0 none came in time, TURN_STOP, or an error. */
static int try_join(struct worker *w, double seconds, struct err *e)
{
	struct message m;
	double end = fs_now() + seconds;
	int rc = say_hello(w, e);
	if (rc < 0) return rc;
	do {
		double left = end - fs_now();
		rc = worker_receive(w, left > 0 ? left : 0, &m, e);
		if (rc != 0) return rc;
		if (m.type == MESSAGE_REFUSE) {
			snprintf(w->reason, sizeof w->reason, "%s", m.refuse.reason);
			return err_set(e, ERR_MISMATCH, "the learner at %s refuses worker %s: %s", w->options.learner, w->options.name, m.refuse.reason);
		}
		if (m.type == MESSAGE_WELCOME) {
			if (!w->run[0]) memcpy(w->run, m.run, sizeof w->run);
			FAULT_POINT("worker.after_join", "a worker is welcome and has asked for nothing");
			log_info("WORKER %s joined run %s", w->options.name, w->run);
			return 1;
		}
	} while (fs_now() < end);
	return 0;
}

/* Says hello until the learner answers; each time on a new connection, so that nothing old is still under way. */
static int join(struct worker *w, struct err *e)
{
	double pause = w->options.backoff_min_seconds;
	for (;;) {
		int rc = try_join(w, pause, e);
		if (rc != 0) return rc == 1 ? TURN_GO_ON : rc;
		log_warn("WORKER %s: the learner at %s does not answer, asking again", w->options.name, w->options.learner);
		pause *= 2;
		if (pause > w->options.backoff_max_seconds) pause = w->options.backoff_max_seconds;
	}
}

static int pause_for(struct worker *w, double seconds, struct err *e)
{
	struct message m;
	double end = fs_now() + seconds;
	do {
		double left = end - fs_now();
		int rc = worker_receive(w, left > 0 ? left : 0, &m, e);
		if (rc != 0) return rc;
	} while (fs_now() < end);
	return TURN_GO_ON;
}

/* One ask and what comes of it. */
static int ask(struct worker *w, struct err *e)
{
	struct message m;
	message_init(&m, MESSAGE_ASK, w->run);
	m.ask.capacity = w->options.capacity;
	int rc = worker_send(w, &m, e);
	double end = fs_now() + w->options.silence_seconds;
	while (rc == 0) {
		double left = end - fs_now();
		if (left <= 0) {
			log_warn("WORKER %s: the learner is silent", w->options.name);
			return TURN_REJOIN;
		}
		rc = worker_receive(w, left, &m, e);
		if (rc != 0) break;
		if (m.type == MESSAGE_LEASE) {
			FAULT_POINT("worker.after_lease", "a worker has prompts and has done nothing");
			return worker_do_lease(w, &m.lease, e);
		}
		if (m.type == MESSAGE_WAIT) return pause_for(w, m.wait.seconds < 5 ? m.wait.seconds : 5, e);
		if (m.type == MESSAGE_REFUSE && strcmp(m.refuse.about, "ask") == 0) {
			log_info("WORKER %s: joining again: %s", w->options.name, m.refuse.reason);
			return TURN_REJOIN;
		}
	}
	return rc;
}

/* So that the learner need not wait for the lease to run out. */
static void say_bye(struct worker *w)
{
	struct err e;
	struct message m;
	if (!w->socket || !w->run[0]) return;
	FAULT_POINT("worker.before_bye", "a worker that ends has not said so");
	message_init(&m, MESSAGE_BYE, w->run);
	if (worker_send(w, &m, &e) < 0) log_debug("bye not sent: %s", e.msg);
}

static void set_options(struct worker *w, const struct worker_options *o)
{
	struct worker_options *p = &w->options;
	*p = *o;
	p->wire.stop = o->stop;
	if (!p->capacity) p->capacity = (uint32_t)o->generate.batch_groups;
	if (p->backoff_min_seconds <= 0) p->backoff_min_seconds = 1;
	if (p->backoff_max_seconds <= 0) p->backoff_max_seconds = 32;
	if (p->silence_seconds <= 0) p->silence_seconds = 10;
	if (p->resend_seconds <= 0) p->resend_seconds = 2;
	CHECK(strlen(o->name) < MESSAGE_NAME && (!o->run || strlen(o->run) < MESSAGE_RUN) && (!o->fingerprint || strlen(o->fingerprint) < HASH_HEX),
	      "name, run id or fingerprint too long");
	strcpy(w->run, o->run ? o->run : "");
	w->limits = (struct message_limits){.vocab = (int32_t)o->model->shape.vocab};
}

static int work(struct worker *w, struct err *e)
{
	int turn = TURN_REJOIN;
	do {
		if (turn == TURN_REJOIN) turn = join(w, e);
		if (turn == TURN_GO_ON) turn = ask(w, e);
		if (turn == TURN_GO_ON && worker_is_stopped(w)) turn = err_set(e, ERR_STOPPED, "stopped");
	} while (turn == TURN_GO_ON || turn == TURN_REJOIN);
	return turn;
}

int worker_run(const struct worker_options *o, struct worker_counters *counters, struct err *e)
{
	struct worker *w = calloc(1, sizeof *w);
	int rc;
	if (!w) return err_set(e, ERR_MEMORY, "no memory for a worker");
	set_options(w, o);
	w->arena = arena_open(0);
	w->lease_arena = arena_open(0);
	TRY(wire_open(&w->wire, &w->options.wire, e));
	w->limits.bytes = wire_max_message(w->wire);
	TRY(generator_open(&w->generator, o->model, &w->options.generate, e));
	rc = work(w, e);
	if (rc == TURN_STOP) log_info("WORKER %s: the learner says stop", o->name);
	say_bye(w);
out:
	if (counters) *counters = w->counters;
	reward_client_close(w->client);
	wire_socket_close(w->socket);
	wire_close(w->wire);
	generator_close(w->generator);
	if (w->fetched[0]) unlink(w->fetched);
	message_buffer_free(&w->buffer);
	arena_close(w->arena);
	arena_close(w->lease_arena);
	free(w);
	return rc < 0 ? rc : 0;
}
