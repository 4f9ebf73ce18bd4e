/* The thread pool; see pool.h.
 *
 * One counter holds the tasks still to be handed out; a thread takes one by
 * lowering it, and only then reads what to run, which cannot change before all
 * taken tasks are done. So the caller waits for tasks, never for threads: a
 * worker that wakes up late, because the machine is busy, finds nothing to do and
 * holds nobody up. Idle threads spin briefly before they sleep, because
 * operations of a small model follow each other within microseconds. */
#include "core/base/pool.h"

#include "core/base/err.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 20000, /* of an idle worker */ WAIT_ROUNDS = 2000 /* of the caller, before it offers its processor */ };

struct worker {
	struct pool *pool;
	pthread_t thread;
	int index;
};

struct pool {
	int threads;
	struct worker *workers; /* threads-1 of them, index 1.. */
	void (*fn)(void *, int, int);
	void *arg;
	int tasks;
	atomic_int left; /* tasks not handed out yet */
	atomic_int done; /* tasks finished */
	atomic_int sleeping;
	atomic_int closing;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
};

static void pool_work(struct pool *p, int thread)
{
	int left = atomic_load_explicit(&p->left, memory_order_acquire);
	while (left > 0) {
		if (!atomic_compare_exchange_weak_explicit(&p->left, &left, left - 1, memory_order_acq_rel, memory_order_acquire)) continue;
		p->fn(p->arg, p->tasks - left, thread);
		atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
		left = atomic_load_explicit(&p->left, memory_order_acquire);
	}
}

static int pool_idle(struct pool *p)
{
	return atomic_load(&p->left) == 0 && !atomic_load(&p->closing);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	while (!atomic_load(&p->closing)) {
		for (int i = 0; i < SPIN_ROUNDS && pool_idle(p); i++) __builtin_ia32_pause();
		if (pool_idle(p)) {
			pthread_mutex_lock(&p->mutex);
			atomic_fetch_add(&p->sleeping, 1);
			while (pool_idle(p)) pthread_cond_wait(&p->wake, &p->mutex);
			atomic_fetch_sub(&p->sleeping, 1);
			pthread_mutex_unlock(&p->mutex);
		}
		pool_work(p, w->index);
	}
	return NULL;
}

struct pool *pool_open(int threads)
{
	if (threads == 0) {
		cpu_set_t set;
		threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	}
	CHECK(threads >= 1 && threads <= 256, "a pool of %d threads", threads);
	struct pool *p = calloc(1, sizeof *p);
	CHECK(p, "out of memory for a thread pool");
	p->threads = threads;
	p->workers = calloc((size_t)threads, sizeof *p->workers);
	CHECK(p->workers, "out of memory for a thread pool");
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->wake, NULL);
	for (int i = 1; i < threads; i++) {
		struct worker *w = &p->workers[i];
		w->pool = p;
		w->index = i;
		CHECK(pthread_create(&w->thread, NULL, worker_main, w) == 0, "cannot start thread %d of %d", i, threads);
	}
	return p;
}

/* After `left` or `closing` has been set. */
static void pool_wake(struct pool *p)
{
	if (atomic_load(&p->sleeping) == 0) return;
	pthread_mutex_lock(&p->mutex);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->mutex);
}

void pool_close(struct pool *p)
{
	if (!p) return;
	atomic_store(&p->closing, 1);
	pool_wake(p);
	for (int i = 1; i < p->threads; i++) pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->mutex);
	free(p->workers);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->threads;
}

void pool_run(struct pool *p, int tasks, void (*fn)(void *, int, int), void *arg)
{
	if (p->threads == 1 || tasks <= 1) {
		for (int i = 0; i < tasks; i++) fn(arg, i, 0);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	p->tasks = tasks;
	atomic_store(&p->done, 0);
	atomic_store(&p->left, tasks);
	pool_wake(p);
	pool_work(p, 0);
	for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < tasks; i++) {
		if (i < WAIT_ROUNDS) __builtin_ia32_pause();
		else sched_yield(); /* the task's thread may be waiting for this processor */
	}
}
