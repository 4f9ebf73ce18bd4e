/* The memory table; see memory.h. Parameters are counted by the parameter table and
 * activations by the code that allocates them, for the largest batches that the
 * configuration allows. On the CPU every weight has a packed copy for products,
 * and a second one where gradients pass (core/tensor/cpu/cpu.c). Left out is what
 * is small beside that: messages, records, the tokenizer, the program. */
#include "app/memory.h"

#include "policy/batch.h"

#include <string.h>
#include <unistd.h>

struct row {
	const char *what;
	int64_t times;
	double weights, optimiser, packed, activations, cache;
};

static double sum(const struct row *r)
{
	return r->weights + r->optimiser + r->packed + r->activations + r->cache;
}

static double parameter_bytes(struct shape s, int heads)
{
	struct params p;
	struct arena *a = arena_open(0);
	s.heads_kind = heads;
	params_build(&p, &s, a);
	double bytes = 4.0 * (double)(p.floats + p.apart);
	arena_close(a);
	return bytes;
}

/* Sizes of the largest batch of n groups. */
struct batch_size {
	int64_t rows, pages, outs;
};

static struct batch_size batch_of(const struct session *s, int64_t n)
{
	int64_t prompt = s->task->longest_prompt, group = s->config.rollout.group_size, more = s->config.rollout.max_new_tokens;
	int64_t shared = prompt / KV_PAGE, own = (prompt + more + KV_PAGE - 1) / KV_PAGE - shared;
	return (struct batch_size){n * (prompt + group * more), n * (shared + 1 + group * own), n * group * more};
}

static struct row learner_row(const struct session *s, const struct shape *shape, int cpu)
{
	const struct config *c = &s->config;
	struct row r = {.what = "learner", .times = 1};
	int head = !strcmp(c->ppo.critic, "head") ? HEAD_SCALAR : 0, critic = !strcmp(c->ppo.critic, "separate");
	int64_t groups = c->ppo.micro_batch < c->ppo.gradient_block ? c->ppo.micro_batch : c->ppo.gradient_block;
	struct batch_size b = batch_of(s, groups < c->ppo.prompts ? groups : c->ppo.prompts);
	double policy = parameter_bytes(*shape, HEAD_LM | head), reference = parameter_bytes(*shape, HEAD_LM), value = critic ? parameter_bytes(*shape, HEAD_SCALAR) : 0;
	double behaviour = c->ppo.lag > 0 ? policy : 0;
	r.weights = policy + reference + value + behaviour + policy; /* and once more while a file is read or written */
	r.optimiser = 4 * (policy + value);
	r.packed = cpu ? 2 * (policy + value) + reference + behaviour : 0;
	struct shape only = *shape;
	only.heads_kind = HEAD_LM | head;
	int keep = c->run.recompute ? ACTIVATIONS_AGAIN : ACTIVATIONS_KEEP;
	r.activations = (double)activations_plan(&only, keep, b.rows, b.pages, b.outs) + (double)activations_plan(&only, 0, b.rows, b.pages, b.outs);
	if (behaviour > 0) r.activations += (double)activations_plan(&only, 0, b.rows, b.pages, b.outs);
	only.heads_kind = HEAD_SCALAR;
	if (critic) r.activations += (double)activations_plan(&only, keep, b.rows, b.pages, b.outs);
	return r;
}

static struct row worker_row(const struct session *s, const struct shape *shape, int cpu)
{
	const struct config *c = &s->config;
	struct row r = {.what = "worker", .times = c->run.workers};
	struct shape only = *shape;
	int64_t prompt = s->task->longest_prompt, most = c->rollout.batch_groups * c->rollout.group_size, prefill = c->rollout.batch_groups * prompt;
	int64_t stride = (prompt + c->rollout.max_new_tokens + KV_PAGE - 1) / KV_PAGE + 1;
	double pages = (double)c->rollout.batch_groups * (double)stride * (double)(c->rollout.group_size + 1);
	only.heads_kind = HEAD_LM;
	double weights = parameter_bytes(only, HEAD_LM);
	r.weights = 2 * weights; /* once more while a version is read */
	r.packed = cpu ? weights : 0;
	r.activations = (double)activations_plan(&only, 0, most > prefill ? most : prefill, 0, most) + 4.0 * (double)most * (double)shape->vocab;
	r.cache = 4.0 * pages * (double)(shape->layers * shape->kv_heads * (shape->head_dim + shape->value_dim) * KV_PAGE);
	return r;
}

/* Bytes of this machine, or of the control group that the process is in. */
static double machine_bytes(void)
{
	double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), limit = 0;
	FILE *f = fopen("/sys/fs/cgroup/memory.max", "r"); /* a number, or "max" */
	if (f) {
		if (fscanf(f, "%lf", &limit) != 1) limit = 0;
		fclose(f);
	}
	return limit > 0 && limit < bytes ? limit : bytes;
}

static void print_row(FILE *f, const struct row *r)
{
	static const double MIB = 1048576.0;
	char what[32];
	snprintf(what, sizeof what, r->times > 1 ? "%s, each of %lld" : "%s", r->what, (long long)r->times);
	fprintf(f, "%-20s %10.1f %10.1f %10.1f %12.1f %10.1f %10.1f\n", what, r->weights / MIB, r->optimiser / MIB, r->packed / MIB, r->activations / MIB,
		r->cache / MIB, sum(r) / MIB);
}

int memory_check(const struct session *s, FILE *f, struct err *e)
{
	struct shape shape;
	int rc = session_shape(s, HEAD_LM, &shape, e), cpu = !strncmp(backend_ops(s->backend)->name, "cpu", 3);
	if (rc < 0) return rc;
	struct row rows[2] = {learner_row(s, &shape, cpu), worker_row(s, &shape, cpu)};
	double need = 0, have = machine_bytes(), gib = 1024.0 * 1048576.0;
	fprintf(f, "%-20s %10s %10s %10s %12s %10s %10s\n", "memory, MiB", "weights", "optimiser", "packed", "activations", "cache", "sum");
	for (int i = 0; i < 2; i++) {
		print_row(f, &rows[i]);
		need += sum(&rows[i]) * (double)rows[i].times;
	}
	if (!cpu) return 0; /* a device says itself when it is full, and what is on it is not taken from the machine */
	fprintf(f, "%-20s %10.1f of %.1f\n", "together, at most", need / 1048576.0, have / 1048576.0);
	if (need <= have) return 0;
	return err_set(e, ERR_MEMORY, "this run needs up to %.1f GiB, the machine has %.1f: lower ppo.micro_batch (activations of the learner, %.1f GiB; "
		       "run.recompute: true needs less), rollout.batch_groups (cache of a worker, %.1f GiB), rollout.max_new_tokens, run.workers, or take a smaller model", need / gib, have / gib,
		       rows[0].activations / gib, rows[1].cache / gib);
}
