/* Decoding at the shape of a published model, against what memory and arithmetic
 * allow; see bench_sections.h.
 *
 * Weights are random numbers from a short list that is laid over them again and
 * again: making 7 billion of them one by one takes minutes, and nothing here
 * depends on what they are but that they are not zero and that tokens choose
 * different experts. Prompts are random tokens. */
#include "app/bench_sections.h"

#include "core/base/fs.h"
#include "core/base/rng.h"
#include "policy/generate.h"

#include <stdlib.h>
#include <string.h>

enum { LIST = (1 << 20) + 7 }; /* odd, so that rows of a matrix differ */

static void fill(struct model *m)
{
	int64_t most = 0;
	for (int i = 0; i < m->params.count; i++) most = m->params.list[i].size > most ? m->params.list[i].size : most;
	float *list = malloc(LIST * sizeof *list), *host = malloc((size_t)most * sizeof *host);
	CHECK(list && host, "out of memory for a benchmark's weights");
	for (int i = 0; i < LIST; i++) list[i] = (float)(m->shape.init_std * 3.4641) * (rng_uniform((struct rng_key){9, RNG_TEST}, 0, (uint64_t)i, 0) - 0.5f);
	for (int i = 0; i < m->params.count; i++) {
		const struct param *p = &m->params.list[i];
		for (int64_t k = 0; k < p->size; k++) host[k] = p->cols == 0 ? 1 : list[k % LIST];
		model_put_param(m, i, host);
	}
	free(list);
	free(host);
}

int bench_decode_open(struct model **out, struct backend *b, const struct shape *s, struct err *e)
{
	int rc = model_open_held(out, b, s, e);
	if (rc == 0) fill(*out);
	return rc;
}

struct run {
	const struct limits_machine *machine;
	const struct limits_model *cost;
	struct limits_work work;
	struct group *group;
	int64_t groups;
};

/* Only the lengths are needed. */
static int note(void *arg, const struct group *g, struct err *e)
{
	(void)e;
	struct run *r = arg;
	r->group[r->groups++] = *g;
	return 0;
}

/* Seconds of the whole generation to max_new tokens, the median of `times`. */
static int generate(const struct model *m, const struct bench_decode *d, int max_new, int times, const struct generate_request *requests, struct run *r, double *seconds,
		    struct err *e)
{
	struct generator *g = NULL;
	struct bench_time t;
	double sample[16];
	struct generate_options o = {.completions = d->completions, .max_new = max_new, .max_prompt = d->prompt, .batch_groups = d->groups, .sampling = {1, 1, 0},
				     .end_token = -1, .seed = 1, .purpose = RNG_SAMPLE};
	int rc = generator_open(&g, m, &o, e);
	CHECK(times <= 16, "%d times", times);
	for (int i = -1; i < times && rc == 0; i++) { /* the first, which records the steps, is not counted */
		double start = fs_now();
		r->groups = 0;
		rc = generator_run(g, requests, (uint32_t)d->groups, 0, note, r, NULL, e);
		if (i >= 0) sample[i] = fs_now() - start;
	}
	generator_close(g);
	if (rc < 0) return rc;
	bench_time_of(sample, times, &t);
	*seconds = t.median;
	return 0;
}

int bench_decode(const struct model *m, const struct limits_machine *machine, int times, struct bench_decode *d, struct err *e)
{
	struct limits_model cost;
	struct limits_machine half = {machine->flops, machine->bytes * (backend_weights(m->backend) == DTYPE_F32 ? 2 : 1)};
	struct run r = {.machine = machine, .cost = &cost};
	int64_t n = (int64_t)d->groups * d->prompt;
	int32_t *tokens = malloc((size_t)n * sizeof *tokens);
	struct generate_request *requests = calloc((size_t)d->groups, sizeof *requests);
	double whole = 0, prefill = 0;
	int rc = 0;
	r.group = calloc((size_t)d->groups, sizeof *r.group);
	CHECK(tokens && requests && r.group, "out of memory for a benchmark's prompts");
	for (int64_t i = 0; i < n; i++) tokens[i] = (int32_t)rng_below((struct rng_key){9, RNG_TEST}, 1, (uint64_t)i, 0, (uint32_t)m->shape.vocab);
	for (int i = 0; i < d->groups; i++)
		requests[i] = (struct generate_request){.slot = (uint32_t)i, .tokens = tokens + (int64_t)i * d->prompt, .prompt_tokens = (uint32_t)d->prompt};
	TRY(generate(m, d, 1, times, requests, &r, &prefill, e));
	TRY(generate(m, d, 1 + d->steps, times, requests, &r, &whole, e));
	limits_model(&cost, m);
	limits_work(&r.work, machine, &cost, r.group, r.groups);
	d->step_seconds = (whole - prefill) / d->steps;
	d->limit_seconds = r.work.decode_seconds / d->steps;
	limits_work(&r.work, &half, &cost, r.group, r.groups);
	d->limit_seconds_half = r.work.decode_seconds / d->steps;
out:
	free(tokens);
	free(requests);
	free(r.group);
	return rc;
}
