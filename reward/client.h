/* The client of the scoring services: gives groups, collects them scored, and
 * does not care which service did it.
 *
 * A group goes to service (step + slot) mod n. Without an answer in
 * `timeout_seconds` it goes to the next one that is heard of, `retries` times at
 * that pace, then with pauses doubling to `backoff_max_seconds`, without end:
 * services may come back. Asking twice is harmless (service.h). Services of
 * another run, fingerprint, set of terms or scorer version are set aside by name,
 * so the result does not depend on who answered. One thread at a time. */
#ifndef TENFOLD_REWARD_CLIENT_H
#define TENFOLD_REWARD_CLIENT_H

#include "core/base/arena.h"
#include "core/base/group.h"
#include "core/wire/socket.h"
#include "reward/terms.h"

struct reward_client;

struct reward_client_options {
	const char *endpoints; /* separated by commas, at most WIRE_POLL_MAX */
	const char *run;
	const char *fingerprint;    /* of this process's kernels; "" or NULL: none */
	const char *name;           /* of this client, for the services' logs; NULL: "client" */
	const char *scorer_version; /* that must have given the scores; "" or NULL: the first one heard of */
	uint64_t live_every;        /* the version changes every so many steps of the groups; 0: it stays */
	double timeout_seconds;     /* 0: 2.5 */
	int retries;                /* 0: 3 */
	double backoff_max_seconds; /* 0: 32 */
	const struct reward_rule *rule; /* fills g->reward; NULL: raw scores only. Copied. */
};

struct reward_client_counters {
	uint64_t submitted, scored, retries, refusals, late; /* late: answers to what was answered before */
};

int reward_client_open(struct reward_client **out, struct wire *wire, const struct reward_client_options *options, struct err *e);
void reward_client_close(struct reward_client *c);
/* Sends g without waiting. g must stay as it is until poll gives it back; scores and rewards are put into `arena`.
 * ERR_STATE: its id is under way already; ERR_RANGE: not a valid group (message.h). */
int reward_client_submit(struct reward_client *c, struct group *g, struct arena *arena, struct err *e);
/* Groups submitted and not yet given back. */
uint32_t reward_client_pending(const struct reward_client *c);
/* Waits up to `seconds` (< 0: until one comes) and repeats what is overdue. 1: *scored is a group with terms, scores,
 * scorer_version and, with a rule, reward; 0: none yet, or none pending. Errors: ERR_STATE with *scored set: every
 * service refused that group (the reason is in the message), it is no longer pending; ERR_MISMATCH: every service is
 * set aside; ERR_STOPPED; ERR_RANGE, ERR_NOT_FOUND with *scored set: its scores cannot be combined. */
int reward_client_poll(struct reward_client *c, double seconds, struct group **scored, struct err *e);
/* Submits all and waits for all; for evaluation, where nothing else is to be done meanwhile. */
int reward_client_score(struct reward_client *c, struct group *const *groups, uint32_t n, struct arena *arena, struct err *e);
void reward_client_counters(const struct reward_client *c, struct reward_client_counters *out);

#endif
