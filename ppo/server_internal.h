/* What the server's parts share. The mutex guards everything but the socket,
 * which belongs to the thread; a send happens on the thread, with the mutex held
 * (sending never waits). */
#ifndef TENFOLD_PPO_SERVER_INTERNAL_H
#define TENFOLD_PPO_SERVER_INTERNAL_H

#include "core/base/fs.h"
#include "ppo/server.h"

#include <pthread.h>

enum { SERVER_EVENTS = 256, SERVER_NOBODY = -1 };

enum slot_state { SLOT_FREE, SLOT_LEASED, SLOT_DONE, SLOT_ASIDE };

struct server_slot {
	struct message_lease_item item; /* in the step's arena */
	enum slot_state state;
	int worker;         /* that has it on lease */
	double deadline;
	uint32_t leases, losses; /* of this prompt */
	uint32_t refills;
	struct group group; /* once done, in the step's arena */
};

struct server_step {
	struct server_step *next;
	uint64_t step, policy_version;
	struct arena *arena;
	uint32_t n, done, aside;
	struct server_slot *slots; /* [n] */
	char scorer_version[GROUP_VERSION]; /* of the first group: all must have it */
};

struct server_worker {
	struct ppo_worker_info info; /* live: joined and not gone */
	struct wire_peer peer;
	double seen;
	int parked;                  /* its ask waits for prompts until `until` */
	double until;
	uint32_t capacity;
};

struct server_weights {
	struct server_weights *next; /* newest first */
	uint64_t version;
	char *path, hash[HASH_HEX];
	struct fs_map map;
};

struct ppo_server {
	/* fixed */
	struct ppo_server_options options; /* texts point to the copies below */
	char run[MESSAGE_RUN], fingerprint[HASH_HEX];
	struct reward_rule rule;
	struct wire *wire;
	struct wire_socket *socket, *wake_in; /* the thread's */
	struct arena *arena;                  /* the thread's: of a frame */
	struct message_buffer buffer;         /* the thread's */
	pthread_t thread;
	int started;
	/* guarded */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct wire_socket *wake_out;
	int closing, stopping, stops_due, failed;
	struct err failure;
	struct server_step *steps; /* in order */
	int any_step;
	uint64_t last_step;        /* opened */
	struct server_weights *weights;
	struct server_worker workers[PPO_SERVER_WORKERS];
	int worker_count, joined;  /* joined: different names so far */
	struct ppo_server_counters counters;
	struct ppo_server_event events[SERVER_EVENTS];
	uint32_t event_first, event_count;
	uint64_t refusals;         /* events of that kind */
};

/* server.c */
void server_send(struct ppo_server *s, const struct wire_peer *peer, const struct message *m);
/* Wakes the thread; with the mutex held. */
void server_wake(struct ppo_server *s);
/* A copy of a prompt in a step's arena. */
struct message_lease_item server_item(struct arena *a, const struct ppo_prompt *p);
/* The same; negative when it did not go out. */
int server_try_send(struct ppo_server *s, const struct wire_peer *peer, const struct message *m);
/* slot may be NULL; w: worker or SERVER_NOBODY. Logs the event, too. */
void server_event(struct ppo_server *s, enum ppo_server_event_kind kind, uint64_t step, const struct server_slot *slot, int w, const char *text);
void server_refuse(struct ppo_server *s, const struct wire_peer *peer, const struct message *about, int w, const struct err *e);

/* server_workers.c */
int server_find_peer(const struct ppo_server *s, const struct wire_peer *peer);
int server_is_live(const struct ppo_server *s, const struct server_worker *w, double now);
void server_take_hello(struct ppo_server *s, const struct wire_frame *f, const struct message *m);
void server_take_bye(struct ppo_server *s, int w);

/* server_lease.c */
struct server_step *server_find_step(const struct ppo_server *s, uint64_t step);
struct server_slot *server_find_slot(struct server_step *t, uint32_t slot);
struct server_weights *server_find_weights(const struct ppo_server *s, uint64_t version);
void server_take_ask(struct ppo_server *s, int w, const struct message *m, double now);
/* Frees what worker w holds; lost: it counts as a loss of the prompts. */
void server_free_leases(struct ppo_server *s, int w, int lost);
void server_expire(struct ppo_server *s, double now);
/* blame: the prompt may be what its worker crashed on or hung at; so many such losses set it aside. */
void server_lose_slot(struct ppo_server *s, struct server_step *t, struct server_slot *slot, int blame, const char *why);
/* Gives what is free to those who wait for it. */
void server_serve_parked(struct ppo_server *s, double now);

/* server_group.c */
void server_take_group(struct ppo_server *s, const struct wire_frame *f, int w, const struct message *m, double now);

#endif
