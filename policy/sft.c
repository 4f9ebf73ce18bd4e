/* Supervised training; see sft.h. An example is a group of one completion.
 * Blocks of SFT_BLOCK examples are reduced alone and added in order. The
 * balance loss uses the expert counts of the step before: they are known before
 * the backward and cost nothing. */
#include "policy/sft.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "policy/activations.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SFT_BLOCK = 16, SFT_EVAL_BLOCK = 64 };

struct sft {
	struct model *m;
	struct config_sft c;
	uint64_t seed;
	const struct sft_example *examples;
	uint32_t count;
	struct sft_source source; /* of every step's examples: those above, or the caller's */
	struct optimizer *opt;
	struct activations *acts;
	struct batch batch;
	struct sft_state state;
	int64_t *counts; /* of the running step */
	float *balance, *logprob, *dlogprob;
	int64_t room;
	uint32_t *order; /* permutation of the epoch in order_epoch */
	int64_t order_epoch;
};

static int64_t longest(const struct sft_example *x, uint32_t n)
{
	int64_t most = 1;
	for (uint32_t i = 0; i < n; i++)
		if ((int64_t)x[i].prompt + x[i].completion > most) most = (int64_t)x[i].prompt + x[i].completion;
	return most;
}

/* The i-th example ever seen: epoch after epoch, each in its own order. */
static void permuted(void *arg, int64_t i, struct sft_example *x)
{
	struct sft *s = arg;
	int64_t epoch = i / s->count;
	if (epoch != s->order_epoch) {
		rng_permutation((struct rng_key){s->seed, RNG_SFT}, (uint32_t)epoch, 0, s->count, s->order);
		s->order_epoch = epoch;
	}
	*x = s->examples[s->order[i % s->count]];
}

static void host_room(struct sft *s, int64_t n)
{
	if (n <= s->room) return;
	s->room = n + n / 4;
	s->logprob = realloc(s->logprob, (size_t)s->room * sizeof *s->logprob);
	s->dlogprob = realloc(s->dlogprob, (size_t)s->room * sizeof *s->dlogprob);
	CHECK(s->logprob && s->dlogprob, "out of memory for %lld targets", (long long)n);
}

int sft_open_source(struct sft **out, struct model *m, const struct config_sft *c, const struct sft_source *source, struct err *e)
{
	*out = NULL;
	struct sft *s = calloc(1, sizeof *s);
	CHECK(s, "out of memory for supervised training");
	s->m = m;
	s->c = *c;
	s->source = *source;
	int64_t items = shape_moe_layers(&m->shape) * m->shape.experts + 1;
	s->state.counts = calloc((size_t)items, sizeof *s->state.counts);
	s->counts = calloc((size_t)items, sizeof *s->counts);
	s->balance = calloc((size_t)items, sizeof *s->balance);
	CHECK(s->state.counts && s->counts && s->balance, "out of memory for supervised training");
	int rc = optimizer_open(&s->opt, m, &c->optim, c->steps, e);
	if (rc < 0) {
		sft_close(s);
		return rc;
	}
	s->acts = activations_open(m, 1);
	batch_open(&s->batch, m->backend);
	int64_t block = c->batch < SFT_BLOCK ? c->batch : SFT_BLOCK;
	struct batch_sizes most = batch_most(block, source->longest, 1, 0);
	rc = activations_prepare(s->acts, &most, 0, 0, e);
	if (rc == 0) rc = batch_plan(&s->batch, &most, e);
	if (rc < 0) {
		sft_close(s);
		return rc;
	}
	host_room(s, most.outs);
	*out = s;
	return 0;
}

int sft_open(struct sft **out, struct model *m, const struct config_sft *c, uint64_t seed, const struct sft_example *x, uint32_t n, struct err *e)
{
	*out = NULL;
	if (n == 0) return err_set(e, ERR_RANGE, "no supervised examples: set task.supervised, or task.completions to a file that has some");
	const struct sft_source source = {permuted, NULL, longest(x, n)};
	int rc = sft_open_source(out, m, c, &source, e);
	if (rc < 0) return rc;
	struct sft *s = *out;
	s->source.arg = s;
	s->seed = seed;
	s->examples = x;
	s->count = n;
	s->order_epoch = -1;
	s->order = calloc(n, sizeof *s->order);
	CHECK(s->order, "out of memory for supervised training");
	return 0;
}

void sft_close(struct sft *s)
{
	if (!s) return;
	optimizer_close(s->opt);
	activations_close(s->acts);
	batch_close(&s->batch);
	free(s->state.counts);
	free(s->counts);
	free(s->balance);
	free(s->logprob);
	free(s->dlogprob);
	free(s->order);
	free(s);
}

struct optimizer *sft_optimizer(struct sft *s)
{
	return s->opt;
}

struct sft_state *sft_state(struct sft *s)
{
	return &s->state;
}

static void add_example(struct sft *s, const struct sft_example *x, int flags)
{
	batch_add(&s->batch, x->tokens, x->prompt, &x->completion, 1, flags, -1, 0, 0);
}

static const struct sampling plain = {1.0f, 1.0f, 0};

static int skip(struct sft *s, struct sft_report *r, const char *what, struct err *e)
{
	r->skipped = what;
	log_warn("supervised step %lld: %s is not finite; the update is skipped", (long long)r->step, what);
	if (++s->state.skipped < SFT_SKIPS) return 0;
	return err_set(e, ERR_RANGE, "supervised step %lld: %s is not finite, and it was update number %d in a row that could not be made; lower the learning rate in a new run",
		       (long long)r->step, what, SFT_SKIPS);
}

int sft_step(struct sft *s, struct sft_report *r, struct err *e)
{
	int all = !strcmp(s->c.loss_on, "all"), flags = all ? BATCH_PROMPT_LOSS : 0;
	int64_t first = s->state.step * s->c.batch, targets = 0, rows = 0, items = shape_moe_layers(&s->m->shape) * s->m->shape.experts;
	double began = fs_now(), loss = 0;
	struct err planted;
	for (int64_t i = 0; i < s->c.batch; i++) {
		struct sft_example x;
		s->source.example(s->source.arg, first + i, &x);
		targets += x.completion + (all ? x.prompt - 1 : 0);
		rows += (int64_t)x.prompt + x.completion - 1;
	}
	memset(s->counts, 0, (size_t)items * sizeof *s->counts);
	model_balance_gradient(s->m, s->state.counts, s->c.load_balance_coef, rows, s->balance);
	optimizer_begin(s->opt);
	for (int64_t i = 0; i < s->c.batch; i += SFT_BLOCK) {
		batch_reset(&s->batch, s->source.longest / KV_PAGE + 1);
		for (int64_t j = i; j < i + SFT_BLOCK && j < s->c.batch; j++) {
			struct sft_example x;
			s->source.example(s->source.arg, first + j, &x);
			add_example(s, &x, flags);
		}
		batch_upload(&s->batch);
		model_dropout(s->acts, s->seed, 2 * (uint64_t)(first + i)); /* two sequences an example: its prompt's and its own */
		model_forward(s->m, s->acts, &s->batch, NULL);
		model_count_experts(s->m, s->acts, &s->batch, s->counts);
		host_room(s, s->batch.outs);
		model_logprobs(s->m, s->acts, &s->batch, &plain, s->logprob, NULL);
		for (int64_t j = 0; j < s->batch.outs; j++) {
			loss -= (double)s->logprob[j];
			s->dlogprob[j] = -1.0f / (float)targets;
		}
		struct model_loss l = {.dlogprob = s->dlogprob, .balance = s->c.load_balance_coef != 0 ? s->balance : NULL,
				       .z_scale = (float)(s->c.z_loss_coef / ((double)rows * (double)(items ? shape_moe_layers(&s->m->shape) : 1)))};
		optimizer_block_begin(s->opt);
		model_backward(s->m, s->acts, &s->batch, &plain, &l, s->opt->block);
		optimizer_block_end(s->opt);
		model_dropout_end(s->acts);
		FAULT_POINT("sft.after_block", "a part of a supervised step's gradient is there");
	}
	double norm = optimizer_norm(s->opt), lr = optimizer_rate(s->opt, s->state.step);
	*r = (struct sft_report){.step = s->state.step + 1, .steps = s->c.steps, .loss = loss / (double)targets, .grad_norm = norm, .lr = lr};
	s->state.step++;
	int64_t most = 0, sum = 0;
	for (int64_t i = 0; i < items; i++) {
		sum += s->counts[i];
		most = s->counts[i] > most ? s->counts[i] : most;
	}
	r->load_max = sum ? (double)most * (double)items / (double)sum : 0;
	if (FAULT_ERROR("sft.gradient", "a supervised step's gradient is complete; an error makes it NaN", &planted) < 0) norm = NAN;
	r->tokens_per_second = (double)rows / (fs_now() - began);
	if (!isfinite(norm) || !isfinite(loss)) return skip(s, r, isfinite(loss) ? "the gradient" : "the loss", e);
	s->state.skipped = 0;
	memcpy(s->state.counts, s->counts, (size_t)items * sizeof *s->counts);
	optimizer_update(s->opt, lr, norm);
	model_balance_bias(s->m, s->counts, s->c.router_bias_rate);
	return 0;
}

double sft_loss(struct sft *s, const struct sft_example *x, uint32_t n)
{
	double loss = 0, targets = 0;
	int64_t stride = longest(x, n) / KV_PAGE + 1;
	for (uint32_t i = 0; i < n; i += SFT_EVAL_BLOCK) {
		batch_reset(&s->batch, stride);
		for (uint32_t j = i; j < i + SFT_EVAL_BLOCK && j < n; j++) add_example(s, &x[j], 0);
		batch_upload(&s->batch);
		model_forward(s->m, s->acts, &s->batch, NULL);
		host_room(s, s->batch.outs);
		model_logprobs(s->m, s->acts, &s->batch, &plain, s->logprob, NULL);
		for (int64_t j = 0; j < s->batch.outs; j++) loss -= (double)s->logprob[j];
		targets += (double)s->batch.outs;
	}
	return targets > 0 ? loss / targets : 0;
}
