/* The learner's side of the network: a thread that owns the ROUTER socket and
 * serves workers while the learner computes.
 *
 * The learner opens a step (its prompts and the version of the weights to sample
 * from); workers ask, get prompts on lease, and hand in scored groups. Leases are
 * given in step order, so several steps may be open (fixed-lag overlap). What a
 * worker loses (its lease ran out, it said hello again) is given to another one:
 * groups are the same whoever makes them, so who made them, when, and how often
 * changes nothing. A prompt that was lost is leased alone from then on, so that it
 * takes no others with it, and after `set_aside` losses not at all: its slot waits
 * for another prompt (ppo_server_refill). The id of a group is (step, slot): the first hand-in counts,
 * the same again is answered "duplicate", another content under the same id is a
 * conflict that is logged with what differs, and the first stays.
 *
 * Refused by name: another run or protocol, another kernel fingerprint, groups
 * that were never leased, of other prompts, other weights (older or future),
 * another size, longer than allowed, without finite scores, or whose reward is
 * not what the run's rule makes of the scores. Nothing a peer sends ends the
 * thread. Memory is bounded by the open steps; everything beyond waits in
 * ZeroMQ's bounded queues.
 *
 * All functions may be called from any one thread at a time while the server's
 * own thread runs. Times are of the monotonic clock. */
#ifndef TENFOLD_PPO_SERVER_H
#define TENFOLD_PPO_SERVER_H

#include "core/base/arena.h"
#include "core/base/group.h"
#include "core/wire/message.h"
#include "core/wire/socket.h"
#include "reward/terms.h"

struct ppo_server;

enum { PPO_SERVER_WORKERS = 256 }; /* remembered at a time */

struct ppo_server_options {
	struct wire_options wire;    /* its stop flag is not used: workers are told to stop after it was set */
	const char *endpoint;
	const char *run;
	const char *fingerprint;     /* of the learner's kernels; "" or NULL: workers are not compared (tests) */
	double lease_seconds;        /* without a group from the worker; 0: 60 */
	uint32_t set_aside;          /* losses of a prompt that set it aside; 0: it is leased for ever */
	int expected_workers;        /* shares are made for at least so many until so many have joined; 0: those that live */
	uint32_t group_size;
	uint32_t max_new;            /* tokens of a completion; 0: not checked */
	struct message_limits limits; /* vocabulary and experts */
	const struct reward_rule *rule; /* recomputes and compares the rewards; NULL: scores are only checked to be there */
	int unscored;                /* groups need no scores */
	const atomic_int *stop;      /* ends ppo_server_wait; may be NULL */
};

int ppo_server_open(struct ppo_server **out, const struct ppo_server_options *options, struct err *e);
/* Ends the thread; what was sent (stop, got) has a second to leave. NULL is fine. */
void ppo_server_close(struct ppo_server *s);
/* As bound, with the port that was chosen. */
const char *ppo_server_endpoint(const struct ppo_server *s);

/* A new immutable weights file, `path` absolute, `hash` of the whole file. It is mapped, so it may be removed later. */
int ppo_server_publish(struct ppo_server *s, uint64_t version, const char *path, const char hash[HASH_HEX], struct err *e);
/* Forgets a version that no open step samples from. */
void ppo_server_retire(struct ppo_server *s, uint64_t version);

struct ppo_prompt {
	uint32_t slot;           /* place in the step, ascending over the items */
	uint32_t prompt;         /* index in the run's prompt set */
	uint32_t token_count;    /* >= 1 */
	const int32_t *tokens;   /* [token_count] */
	const char *text;
};

/* Copies the items and makes them leasable, from when weights `policy_version` are published. Steps are opened in
 * ascending order; step numbers up to the last opened that are not open are over. */
void ppo_server_open_step(struct ppo_server *s, uint64_t step, uint64_t policy_version, const struct ppo_prompt *items, uint32_t n);
/* Waits up to `seconds` for all groups of an open step. 1: they are copied to groups[n], in slot order, their data in
 * `arena`; 0: not yet, or a slot waits for another prompt; ERR_STOPPED; ERR_MEMORY; ERR_NET: the thread could not go on. */
int ppo_server_wait(struct ppo_server *s, uint64_t step, double seconds, struct group *groups, struct arena *arena, struct err *e);
void ppo_server_progress(struct ppo_server *s, uint64_t step, uint32_t *done, uint32_t *total);
/* Slots of an open step whose prompt was set aside, ascending, at most `max`; returns how many there are. */
uint32_t ppo_server_aside(struct ppo_server *s, uint64_t step, uint32_t *slots, uint32_t max);
/* Gives the slot item->slot, whose prompt was set aside, another prompt. What comes for the one before is answered
 * "duplicate" and counted as late. */
void ppo_server_refill(struct ppo_server *s, uint64_t step, const struct ppo_prompt *item);
/* Frees a step, whole or not; what comes for it later is answered "duplicate" and counted as late. */
void ppo_server_close_step(struct ppo_server *s, uint64_t step);
/* `stop` to all workers, now and to whoever asks later. */
void ppo_server_stop_workers(struct ppo_server *s);

struct ppo_worker_info {
	char name[MESSAGE_NAME];
	uint64_t pid;
	int live;               /* joined, not gone, heard of within the lease time */
	double seen_seconds;    /* since it was last heard of */
	uint64_t groups;        /* accepted from it */
	uint64_t tokens;        /* of their completions */
	uint64_t leased;        /* prompts */
	uint64_t expired;       /* prompts it lost by time or by a new hello */
	uint64_t duplicates, refused;
};

/* Copies at most `max`; returns how many there are, those that are gone included. */
int ppo_server_workers(struct ppo_server *s, struct ppo_worker_info *out, int max);
int ppo_server_live(struct ppo_server *s);

struct ppo_server_counters {
	uint64_t received, malformed, refused;
	uint64_t groups, duplicates, late, conflicts, expired;
	uint64_t chunks, chunk_bytes;
};
void ppo_server_counters(struct ppo_server *s, struct ppo_server_counters *out);

enum ppo_server_event_kind {
	PPO_EVENT_JOINED,
	PPO_EVENT_LEFT,     /* said bye */
	PPO_EVENT_REFUSED,  /* a worker or a hand-in, with the reason */
	PPO_EVENT_EXPIRED,  /* a lease ran out or was dropped by a new hello; count: losses of this prompt so far */
	PPO_EVENT_LOST,     /* the loss that sets a prompt aside, in place of PPO_EVENT_EXPIRED */
	PPO_EVENT_LATE,     /* handed in for a step that is over, or for a prompt that was set aside */
	PPO_EVENT_CONFLICT, /* another content under a known id; text: what differs */
};

struct ppo_server_event {
	enum ppo_server_event_kind kind;
	uint64_t step;
	uint32_t slot, prompt, count;
	char worker[MESSAGE_NAME]; /* "" when not known */
	char text[256];
};

/* Takes the oldest event: 1, or 0 when there is none. The last 256 are kept; the log has all but refusals beyond a flood of 200. */
int ppo_server_event(struct ppo_server *s, struct ppo_server_event *out);

#endif
