/* The worker: takes prompts on lease, generates their groups, has them scored,
 * hands them in.
 *
 * One thread does all of it, in a loop that only ever holds one lease: ask; load
 * the lease's weights when they are not those in the model; generate; send each
 * group to the scoring services as it is finished and to the learner as it is
 * scored; wait until the learner has said `got` to each. What was asked is asked
 * again when no answer comes; a learner that stays silent is joined anew with
 * pauses of 1 to 32 s, and the lease is forgotten: someone else has it by then.
 *
 * Weights are taken from the learner's file where it can be opened here and has
 * the lease's hash, else fetched in chunks to the worker's folder. The model
 * never holds anything but a whole version whose hash was checked.
 *
 * The worker ends by itself when the learner says stop (0), when it was stopped
 * (ERR_STOPPED, having said bye), and with an error when going on makes no sense:
 * the learner refuses it, no service takes its groups, its weights do not load. */
#ifndef TENFOLD_ROLLOUT_WORKER_H
#define TENFOLD_ROLLOUT_WORKER_H

#include "core/wire/socket.h"
#include "policy/generate.h"
#include "reward/client.h"

struct worker_options {
	struct wire_options wire;      /* stop is taken from below */
	const char *learner;           /* endpoint */
	const char *run;               /* id; "" or NULL: the learner's, whichever it is */
	const char *name;              /* unique in the run */
	const char *fingerprint;       /* of this process's kernels */
	const char *folder;            /* for fetched weights, made when needed: <run>/weights-<name> */
	struct model *model;           /* the caller's; its weights are replaced */
	struct generate_options generate;
	struct reward_client_options reward; /* endpoints, timings and rule; run, fingerprint and name are filled in here.
	                                        endpoints NULL: groups are handed in without scores */
	atomic_int *stop;              /* may be NULL */
	uint32_t capacity;             /* prompts asked for at a time; 0: generate.batch_groups */
	double backoff_min_seconds, backoff_max_seconds; /* 0: 1 and 32 */
	double silence_seconds;        /* of the learner, after which it is joined anew; 0: 10 */
	double resend_seconds;         /* a group without `got` is sent again; 0: 2 */
	int fetch_weights;             /* over the wire even where the learner's file can be read */
	int plant_ulp;                 /* for tests of the learner's check: one weight is one ulp off after each load */
};

struct worker_counters {
	uint64_t leases, prompts, groups; /* groups: acknowledged */
	uint64_t duplicates, resends, refusals, joins;
	uint64_t loads, fetches;          /* weights; of those fetched in chunks */
	uint64_t tokens;                  /* generated */
};

/* Works until told to stop. counters may be NULL. */
int worker_run(const struct worker_options *options, struct worker_counters *counters, struct err *e);

#endif
