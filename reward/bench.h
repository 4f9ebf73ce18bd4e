/* What scoring costs without any scoring: the time from submitting a group to
 * having it back scored, with a service in a thread of its own whose scorer
 * does nothing, over each transport; and the codec alone. Called by `tenfold
 * bench`. Goals (p50): 100 µs inproc, 150 ipc, 200 tcp, p99 at most twice that. */
#ifndef TENFOLD_REWARD_BENCH_H
#define TENFOLD_REWARD_BENCH_H

#include "core/base/err.h"

#include <stdint.h>

enum { REWARD_BENCH_TRANSPORTS = 3 };

struct reward_bench {
	uint32_t completions, tokens; /* of the group: 10 of 256 tokens each */
	uint32_t groups;              /* measured, one at a time */
	uint64_t request_bytes, group_bytes; /* of the messages score and group */
	double encode_us, decode_us;  /* message group, median */
	struct {
		const char *name; /* inproc, ipc, tcp */
		double p50_us, p99_us;
		double goal_us;   /* of p50 */
		double groups_per_second; /* 64 under way at a time */
	} transport[REWARD_BENCH_TRANSPORTS];
};

/* groups: per transport; 0: 2000 (about a second in all). */
int reward_bench_run(struct reward_bench *out, uint32_t groups, struct err *e);

#endif
