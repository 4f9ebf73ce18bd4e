/* Fibers and the scheduler of a block; see host.h. x86-64 (System V) only: the
 * switch is its nine registers. The address sanitizer is told of every switch. */
#include "core/tensor/cuda/host/host.h"

#include "core/base/err.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define SWITCH_START(fake, bottom, size) __sanitizer_start_switch_fiber(fake, bottom, size)
#define SWITCH_FINISH(fake, bottom, size) __sanitizer_finish_switch_fiber(fake, bottom, size)
#else
#define SWITCH_START(fake, bottom, size) ((void)(bottom))
#define SWITCH_FINISH(fake, bottom, size) ((void)(fake))
#endif

enum { THREADS_MAX = 1024, WARP = 32, STACK = 128 << 10, SHARED_MAX = 227 << 10 };
enum state { READY, WAIT_WARP, WAIT_BLOCK, DONE };

struct fiber {
	struct host_lane lane; /* first: host_lane points here */
	void *stack_pointer, *stack, *fake;
	enum state state;
	unsigned shuffles; /* so far; its parity chooses the slot */
};

struct host_machine {
	struct fiber fiber[THREADS_MAX];
	char *stacks;
	unsigned made; /* fibers that have a stack set up */
	void *home, *home_fake;
	const void *home_bottom;
	size_t home_size;
	void (*kernel)(const void *);
	const void *arg;
	uint32_t slot[THREADS_MAX / WARP][2][WARP];
	uint32_t fragment[THREADS_MAX / WARP][2][WARP][6];
	float *shared;
	unsigned launches;
};

_Thread_local struct host_lane *host_lane;

void host_switch(void **save, void *to);
__asm__(".text\n.globl host_switch\n.type host_switch, @function\nhost_switch:\n"
	"\tpushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n"
	"\tmovq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n"
	"\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret\n"
	".size host_switch, .-host_switch\n");

static struct fiber *current(void)
{
	return (struct fiber *)host_lane;
}

static void leave(enum state s)
{
	struct fiber *f = current();
	struct host_machine *m = f->lane.machine;
	f->state = s;
	SWITCH_START(&f->fake, m->home_bottom, m->home_size);
	host_switch(&f->stack_pointer, m->home);
	SWITCH_FINISH(f->fake, NULL, NULL);
}

static void fiber_main(void)
{
	SWITCH_FINISH(NULL, &current()->lane.machine->home_bottom, &current()->lane.machine->home_size);
	for (;;) {
		struct host_machine *m = current()->lane.machine;
		m->kernel(m->arg);
		leave(DONE);
	}
}

static void enter(struct host_machine *m, struct fiber *f)
{
	host_lane = &f->lane;
	SWITCH_START(&m->home_fake, f->stack, STACK);
	host_switch(&m->home, f->stack_pointer);
	SWITCH_FINISH(m->home_fake, NULL, NULL);
	host_lane = NULL;
}

void block_sync(void)
{
	leave(WAIT_BLOCK);
}

void warp_sync(void)
{
	leave(WAIT_WARP);
}

/* Publishes a word, waits for the warp; two slots in turn, since no lane can be two exchanges ahead. */
static const uint32_t *exchange(uint32_t word)
{
	struct fiber *f = current();
	uint32_t *slot = f->lane.machine->slot[f->lane.thread.x / WARP][f->shuffles++ & 1];
	slot[f->lane.thread.x % WARP] = word;
	leave(WAIT_WARP);
	return slot;
}

float shuffle(float x, int lane)
{
	return d_float_of((int)exchange((uint32_t)d_bits_of(x))[lane & (WARP - 1)]);
}

float shuffle_xor(float x, int mask)
{
	return shuffle(x, (int)(current()->lane.thread.x % WARP) ^ mask);
}

unsigned ballot(int yes)
{
	const uint32_t *slot = exchange(yes != 0);
	unsigned bits = 0;
	for (int i = 0; i < WARP; i++) bits |= slot[i] << i;
	return bits;
}

static double half(uint32_t word, int k)
{
	return (double)d_float_of((int)((k & 1 ? word >> 16 : word & 0xffff) << 16));
}

void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	struct fiber *f = current();
	uint32_t(*all)[6] = f->lane.machine->fragment[f->lane.thread.x / WARP][f->shuffles++ & 1];
	int lane = (int)(f->lane.thread.x % WARP);
	memcpy(all[lane], a, 4 * sizeof *a);
	memcpy(all[lane] + 4, b, 2 * sizeof *b);
	leave(WAIT_WARP);
	for (int e = 0; e < 4; e++) {
		int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
		double sum = 0;
		for (int k = 0; k < 16; k++)
			sum += half(all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k) * half(all[column * 4 + k % 8 / 2][4 + k / 8], k);
		c[e] = (float)(c[e] + sum);
	}
}

void device_trap(void)
{
	check_failed("a kernel", 0, "device check", "block %u, thread %u", blockIdx.x, threadIdx.x);
}

struct host_machine *host_machine_open(void)
{
	struct host_machine *m = (struct host_machine *)calloc(1, sizeof *m);
	CHECK(m, "out of memory for kernels on the host");
	m->stacks = (char *)mmap(NULL, (size_t)THREADS_MAX * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m->shared = (float *)malloc(SHARED_MAX);
	CHECK(m->stacks != MAP_FAILED && m->shared, "out of memory for kernels on the host");
	return m;
}

void host_machine_close(struct host_machine *m)
{
	if (!m) return;
	munmap(m->stacks, (size_t)THREADS_MAX * STACK);
	free(m->shared);
	free(m);
}

static void fiber_make(struct host_machine *m, unsigned i)
{
	struct fiber *f = &m->fiber[i];
	f->stack = m->stacks + (size_t)i * STACK;
	void **top = (void **)((char *)f->stack + STACK - 64); /* 16-byte aligned after the return address is taken */
	memset(f->stack, 0, 0);
	*--top = NULL;
	*--top = (void *)fiber_main;
	for (int r = 0; r < 6; r++) *--top = NULL;
	f->stack_pointer = top;
}

/* A warp whose lanes all wait for each other goes on; else the block, when all of it waits. Returns 0 when nothing can. */
static int release(struct host_machine *m, unsigned threads)
{
	int any = 0, blocked = 1;
	for (unsigned w = 0; w < threads; w += WARP) {
		int live = 0, waiting = 0;
		for (unsigned i = w; i < w + WARP; i++) {
			live += m->fiber[i].state != DONE;
			waiting += m->fiber[i].state == WAIT_WARP;
			blocked &= m->fiber[i].state == WAIT_BLOCK || m->fiber[i].state == DONE;
		}
		for (unsigned i = w; waiting && waiting == live && i < w + WARP; i++)
			if (m->fiber[i].state == WAIT_WARP) m->fiber[i].state = READY, any = 1;
	}
	for (unsigned i = 0; blocked && i < threads; i++)
		if (m->fiber[i].state == WAIT_BLOCK) m->fiber[i].state = READY, any = 1;
	return any;
}

static void run_block(struct host_machine *m, unsigned threads, int down)
{
	unsigned done = 0;
	for (unsigned i = 0; i < threads; i++) m->fiber[i].state = READY, m->fiber[i].shuffles = 0;
	for (;; down = !down) {
		for (unsigned n = 0; n < threads; n++) {
			struct fiber *f = &m->fiber[down ? threads - 1 - n : n];
			if (f->state != READY) continue;
			enter(m, f);
			done += f->state == DONE;
		}
		if (done == threads) return;
		CHECK(release(m, threads), "a block stands still: some of its %u threads wait at a barrier that others never reach", threads);
	}
}

void host_launch(struct host_machine *m, void (*kernel)(const void *), const void *arg, struct host_index grid, unsigned threads, size_t shared)
{
	CHECK(threads > 0 && threads <= THREADS_MAX && threads % WARP == 0 && shared <= SHARED_MAX, "a launch of %u threads, %zu bytes", threads, shared);
	CHECK(grid.y <= 65535 && grid.z <= 65535 && !host_lane, "a launch of %u x %u x %u blocks", grid.x, grid.y, grid.z);
	for (; m->made < threads; m->made++) fiber_make(m, m->made);
	m->kernel = kernel;
	m->arg = arg;
	int64_t blocks = (int64_t)grid.x * grid.y * grid.z;
	int down = m->launches++ & 1;
	for (int64_t n = 0; n < blocks; n++) {
		int64_t b = down ? blocks - 1 - n : n;
		memset(m->shared, 0xff, shared);
		struct host_index at = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
		for (unsigned i = 0; i < threads; i++)
			m->fiber[i].lane = (struct host_lane){{i, 0, 0}, at, {threads, 1, 1}, grid, m->shared, m};
		run_block(m, threads, (int)(n & 1) ^ down);
	}
}
