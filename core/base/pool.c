/* The thread pool; see pool.h. Idle threads spin briefly before they sleep,
 * because operations of a small model follow each other within microseconds. */
#include "core/base/pool.h"

#include "core/base/err.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 20000 };

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
	atomic_int next;         /* task to hand out */
	atomic_int busy;         /* workers not yet back */
	atomic_uint generation;  /* rises with every pool_run, and at close */
	atomic_int sleeping;
	int closing;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
};

static void pool_work(struct pool *p, int thread)
{
	for (;;) {
		int task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
		if (task >= p->tasks) return;
		p->fn(p->arg, task, thread);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	unsigned seen = 0;
	for (;;) {
		unsigned now = 0;
		for (int i = 0; i < SPIN_ROUNDS; i++) {
			now = atomic_load_explicit(&p->generation, memory_order_acquire);
			if (now != seen) break;
			__builtin_ia32_pause();
		}
		if (now == seen) {
			pthread_mutex_lock(&p->mutex);
			atomic_fetch_add(&p->sleeping, 1);
			while ((now = atomic_load(&p->generation)) == seen) pthread_cond_wait(&p->wake, &p->mutex);
			atomic_fetch_sub(&p->sleeping, 1);
			pthread_mutex_unlock(&p->mutex);
		}
		seen = now;
		if (p->closing) return NULL;
		pool_work(p, w->index);
		atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
	}
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

static void pool_wake(struct pool *p)
{
	atomic_fetch_add(&p->generation, 1);
	if (atomic_load(&p->sleeping) > 0) {
		pthread_mutex_lock(&p->mutex);
		pthread_cond_broadcast(&p->wake);
		pthread_mutex_unlock(&p->mutex);
	}
}

void pool_close(struct pool *p)
{
	if (!p) return;
	p->closing = 1;
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
	atomic_store(&p->next, 0);
	atomic_store(&p->busy, p->threads - 1);
	pool_wake(p);
	pool_work(p, 0);
	while (atomic_load_explicit(&p->busy, memory_order_acquire) > 0) __builtin_ia32_pause();
}
