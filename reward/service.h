/* The scoring service: hears groups from any number of clients, scores what
 * waits as one batch, answers each by its id.
 *
 * An id is (run, step, slot). The same id with the same bytes is answered from
 * memory and counted once, however often and from whomever it comes, so clients
 * may repeat themselves. The same id with other bytes is a conflict: logged,
 * refused, the first stays. The memory holds the last `cache_groups` answers;
 * what is older is scored anew, with the same result.
 *
 * Refused by name: another protocol version, another run, another kernel
 * fingerprint (when both sides have one), malformed frames, groups the scorer
 * cannot score. None of these stops the service. */
#ifndef TENFOLD_REWARD_SERVICE_H
#define TENFOLD_REWARD_SERVICE_H

#include "core/wire/message.h"
#include "core/wire/socket.h"
#include "reward/scorer.h"

struct reward_service;

struct reward_service_options {
	const char *endpoint;
	const char *run;         /* "": serves any run, for a service started by hand */
	const char *fingerprint; /* of this process's kernels; "" or NULL: the scorer does not depend on it */
	uint32_t batch_groups;   /* scored at once; 0: 64 */
	uint32_t cache_groups;   /* answers remembered; 0: 16384 */
	struct message_limits limits;
	struct scorer *scorer;   /* the caller's */
};

int reward_service_open(struct reward_service **out, struct wire *wire, const struct reward_service_options *options,
                        struct err *e);
void reward_service_close(struct reward_service *s);
/* Where it listens, with the port chosen. */
const char *reward_service_endpoint(const struct reward_service *s);
/* One round: waits up to `seconds` for a frame, takes what waits up to a batch, scores, answers. The number of frames
 * taken, 0 when none came; ERR_STOPPED; ERR_NET. */
int reward_service_step(struct reward_service *s, double seconds, struct err *e);
/* Rounds until the wire's stop flag is set (0), or the socket fails. */
int reward_service_run(struct reward_service *s, struct err *e);
void reward_service_counters(const struct reward_service *s, struct message_counters *c);

#endif
