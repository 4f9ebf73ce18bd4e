/* Held-out pass rates: every hidden test passed, greedy or best of n samples. */
#include "app/session.h"

#include <math.h>
#include <stdlib.h>

struct count {
	const struct task *task;
	struct pass_rate *out;
};

static int count_group(void *arg, const struct group *g, struct err *e)
{
	(void)e;
	struct count *c = arg;
	float best = 0;
	int passes = 0;
	for (uint32_t i = 0; i < g->size; i++) {
		float r = task_reward(c->task, TASK_HELDOUT, g->prompt, g->text[i]);
		best = r > best ? r : best;
		passes |= task_passes(c->task, TASK_HELDOUT, g->prompt, g->text[i]);
	}
	c->out->passed += passes;
	c->out->reward += (double)best;
	c->out->n++;
	return 0;
}

/* Wilson 1927 score interval, 95 %. */
static void wilson(struct pass_rate *p)
{
	const double z = 1.959963984540054, n = (double)p->n;
	if (p->n == 0) return;
	p->rate = (double)p->passed / n;
	double centre = (p->rate + z * z / (2 * n)) / (1 + z * z / n);
	double half = z / (1 + z * z / n) * sqrt(p->rate * (1 - p->rate) / n + z * z / (4 * n * n));
	p->low = centre - half;
	p->high = centre + half;
	p->reward /= n;
}

static uint32_t prompts_measured(const struct session *s)
{
	uint32_t n = s->task->prompts[TASK_HELDOUT];
	return s->config.eval.tasks > 0 && (uint32_t)s->config.eval.tasks < n ? (uint32_t)s->config.eval.tasks : n;
}

void session_pass_rate_options(const struct session *s, int completions, struct generate_options *o)
{
	int n = (int)prompts_measured(s);
	session_generation(s, o);
	/* as many sequences at once as a worker has, so that memory for a worker is memory for this */
	int most = o->batch_groups * o->completions < 320 ? o->batch_groups * o->completions : 320;
	o->purpose = RNG_EVAL;
	o->completions = completions;
	o->batch_groups = most / completions < n ? most / completions : n;
	if (o->batch_groups < 1) o->batch_groups = 1;
	if (completions == 1) o->sampling = (struct sampling){0.0f, 1.0f, 0};
}

static int measure(struct session *s, const struct model *m, int completions, struct pass_rate *out, struct err *e)
{
	*out = (struct pass_rate){0};
	uint32_t n = prompts_measured(s);
	if (!task_verifiable(s->task) || n == 0) return 0;
	struct generate_options o;
	session_pass_rate_options(s, completions, &o);
	struct generator *g = NULL;
	struct generate_request *r = calloc(n, sizeof *r);
	CHECK(r, "out of memory for %u prompts", n);
	for (uint32_t i = 0; i < n; i++) {
		const struct task_prompt *p = &s->task->prompt[TASK_HELDOUT][i];
		r[i] = (struct generate_request){.slot = i, .prompt = i, .tokens = p->tokens, .prompt_tokens = p->count, .prompt_text = p->text};
	}
	struct count c = {s->task, out};
	int rc = 0;
	TRY(generator_open(&g, m, &o, e));
	TRY(generator_run(g, r, n, 0, count_group, &c, s->stop, e));
	wilson(out);
out:
	generator_close(g);
	free(r);
	return rc;
}

int session_pass_rate(struct session *s, const struct model *m, struct pass_rate *out, struct err *e)
{
	return measure(s, m, 1, out, e);
}

int session_best_of(struct session *s, const struct model *m, int n, struct pass_rate *out, struct err *e)
{
	return measure(s, m, n, out, e);
}
