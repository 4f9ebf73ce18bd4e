/* What the worker's parts share. Steps of the loop return a turn: a negative
 * error ends the worker. */
#ifndef TENFOLD_ROLLOUT_WORKER_INTERNAL_H
#define TENFOLD_ROLLOUT_WORKER_INTERNAL_H

#include "core/wire/message.h"
#include "rollout/worker.h"

#include <limits.h>

enum worker_turn {
	TURN_GO_ON = 0,
	TURN_REJOIN = 1, /* forget the lease and say hello again */
	TURN_STOP = 2,   /* the learner says stop */
};

enum hand_state { HAND_NONE, HAND_SCORING, HAND_SENT, HAND_DONE };

struct hand { /* a group of the lease on its way */
	enum hand_state state;
	struct group group;
	double sent;
};

struct worker {
	struct worker_options options; /* with defaults filled in */
	char run[MESSAGE_RUN];
	struct wire *wire;
	struct wire_socket *socket;    /* to the learner; a new one for each hello */
	struct reward_client *client;
	struct generator *generator;
	struct message_limits limits;
	struct message_buffer buffer;
	struct arena *arena;           /* of a message */
	struct arena *lease_arena;     /* of the lease and its groups */
	/* weights in the model */
	int loaded;
	uint64_t version;
	char hash[HASH_HEX];
	char fetched[PATH_MAX];        /* file of this worker's folder, "" when none */
	int bad_loads;                 /* in a row */
	/* the lease */
	struct message_lease lease;
	struct hand *hands;            /* [lease.count] */
	uint32_t finished;             /* HAND_DONE */
	int refused;                   /* a group of this lease was refused */
	int refused_leases;            /* in a row */
	enum worker_turn turn;         /* asked for while generating */
	char reason[MESSAGE_REASON];   /* of the last refusal */
	struct worker_counters counters;
};

/* worker.c */
int worker_send(struct worker *w, const struct message *m, struct err *e);
/* Takes one message within `seconds` (decoded in w->arena). 0: *m is it (TURN_GO_ON) or MESSAGE_NONE when none came or
 * it could not be read; TURN_STOP; ERR_STOPPED, ERR_NET, ERR_MEMORY. */
int worker_receive(struct worker *w, double seconds, struct message *m, struct err *e);
int worker_is_stopped(const struct worker *w);

/* worker_weights.c: the lease's weights into the model; a turn or an error. */
int worker_load(struct worker *w, struct err *e);

/* worker_lease.c: generates, has scored and hands in w->lease; a turn or an error. */
int worker_do_lease(struct worker *w, const struct message_lease *lease, struct err *e);
int worker_open_client(struct worker *w, struct err *e);

#endif
