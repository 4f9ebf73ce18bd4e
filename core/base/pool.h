/* A pool of threads that run numbered tasks. The caller works too, so a pool of
 * one has no threads. Tasks are handed out in order from a counter; what a task
 * computes may depend on its number only, never on the thread, so results do not
 * depend on the number of threads. Not reentrant: one pool_run at a time. */
#ifndef TENFOLD_BASE_POOL_H
#define TENFOLD_BASE_POOL_H

struct pool;

/* threads: 1 to 256 (0: one per processor available to this process). */
struct pool *pool_open(int threads);
void pool_close(struct pool *p);
int pool_threads(const struct pool *p);
/* Runs fn(arg, task, thread) for task = 0..tasks-1, thread in [0, pool_threads); returns when all are done. */
void pool_run(struct pool *p, int tasks, void (*fn)(void *arg, int task, int thread), void *arg);

#endif
