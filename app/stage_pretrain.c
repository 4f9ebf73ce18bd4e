/* The stage pretrain: training on plain text from a weighted mixture of sources,
 * in an order that is the same on every machine and after every resumption.
 * `tenfold pretrain` by hand; the model that it leaves is what model.init and
 * tokenizer.path of later runs name. */
#include "app/corpus.h"
#include "app/stages.h"
#include "app/supervised.h"

#include "core/base/fs.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct stage {
	struct session s;
	struct supervised t;
	struct corpus *corpus;
	struct mixture *mixture;
	int32_t *sequence; /* [length+1] */
	int64_t length;
	double began;
};

static void next_sequence(void *arg, int64_t i, struct sft_example *x)
{
	struct stage *t = arg;
	mixture_sequence(t->mixture, i, t->sequence);
	*x = (struct sft_example){t->sequence, 1, (uint32_t)t->length};
}

/* Mean over all held-out tokens of all sources. */
static double heldout_loss(void *arg)
{
	struct stage *t = arg;
	double loss = 0, tokens = 0;
	int n;
	corpus_sources(t->corpus, &n);
	for (int i = 0; i < n; i++) {
		uint32_t count;
		const struct sft_example *x = corpus_heldout(t->corpus, i, &count);
		if (!count) continue;
		double here = (double)count * x[0].completion;
		loss += here * sft_loss(t->t.sft, x, count);
		tokens += here;
	}
	return tokens > 0 ? loss / tokens : 0;
}

static int start(struct stage *t, struct err *e)
{
	const struct config *c = &t->s.config;
	int n, rc = 0;
	TRY(corpus_open(&t->corpus, c, e));
	const struct mixture_source *sources = corpus_sources(t->corpus, &n);
	t->length = c->pretrain.sequence;
	TRY(mixture_open(&t->mixture, sources, n, t->length, (uint64_t)c->run.seed, e));
	t->sequence = malloc(((size_t)t->length + 1) * sizeof *t->sequence);
	CHECK(t->sequence, "out of memory for a sequence");
	if (c->model.init[0]) {
		TRY(model_folder_open(&t->t.model, c->model.init, t->s.backend, HEAD_LM, e));
	} else {
		struct shape shape;
		shape_from_config(&shape, c, tokenizer_vocab_size(corpus_tokenizer(t->corpus)), HEAD_LM);
		TRY(model_open(&t->t.model, t->s.backend, &shape, e));
		model_init(t->t.model, (uint64_t)c->run.seed);
	}
	const struct shape *shape = &t->t.model->shape;
	if (shape->vocab < tokenizer_vocab_size(corpus_tokenizer(t->corpus)))
		TRY(err_set(e, ERR_MISMATCH, "model.init %s has %lld tokens, the tokenizer %d: set tokenizer.path to the model's own", c->model.init,
			    (long long)shape->vocab, tokenizer_vocab_size(corpus_tokenizer(t->corpus))));
	if (!c->model.init[0] && c->model.max_positions < t->length)
		TRY(err_set(e, ERR_RANGE, "pretrain.sequence (%lld) is longer than model.max_positions (%lld)", (long long)t->length, (long long)c->model.max_positions));
	fprintf(stderr, "pretrain: %.2f M parameters, %.2f M active per token, %s, %d threads\n", (double)t->t.model->params.parameters / 1e6,
		(double)t->t.model->params.active / 1e6, t->t.model->ops->name, backend_threads(t->s.backend));
	for (int i = 0; i < n; i++)
		fprintf(stderr, "pretrain: %s: weight %g, %u documents, %llu tokens\n", sources[i].name, sources[i].weight, sources[i].documents,
			(unsigned long long)sources[i].end[sources[i].documents - 1]);
out:
	return rc;
}

static int finish(struct stage *t, struct err *e)
{
	const struct config *c = &t->s.config;
	char folder[PATH_MAX];
	int n, rc = 0;
	int64_t sequences[MIXTURE_SOURCES_MAX];
	double epochs[MIXTURE_SOURCES_MAX];
	json_t *j = json_object(), *list = json_array();
	const struct mixture_source *sources = corpus_sources(t->corpus, &n);
	json_object_set_new(j, "sources", list);
	TRY(session_path(&t->s, "models/pretrain", folder, e));
	TRY(model_folder_write_as(folder, t->t.model, corpus_tokenizer(t->corpus), (enum safetensors_dtype)model_folder_dtype(c->model.save_dtype), e));
	mixture_shares(t->mixture, c->pretrain.steps * c->pretrain.batch, sequences, epochs);
	for (int i = 0; i < n; i++) {
		uint32_t count;
		const struct sft_example *x = corpus_heldout(t->corpus, i, &count);
		json_t *one = json_pack("{s:s, s:f, s:I, s:f}", "name", sources[i].name, "weight", sources[i].weight, "sequences", (json_int_t)sequences[i],
					"epochs", epochs[i]);
		if (count) json_object_set_new(one, "heldout_loss", json_real(sft_loss(t->t.sft, x, count)));
		json_array_append_new(list, one);
	}
	json_object_set_new(j, "steps", json_integer(c->pretrain.steps));
	json_object_set_new(j, "tokens", json_integer(c->pretrain.steps * c->pretrain.batch * t->length));
	json_object_set_new(j, "parameters", json_integer(t->t.model->params.parameters));
	json_object_set_new(j, "active_parameters", json_integer(t->t.model->params.active));
	json_object_set_new(j, "heldout_loss", json_real(heldout_loss(t)));
	json_object_set_new(j, "seconds", json_real(fs_now() - t->began));
	rc = session_summary(&t->s, "pretrain", j, e);
	j = NULL;
out:
	json_decref(j);
	return rc;
}

int stage_pretrain(const struct stage_options *o, struct err *e)
{
	struct stage t = {.began = fs_now()};
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "pretrain", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND};
	TRY(session_open(&t.s, &so, e));
	const struct config_pretrain *c = &t.s.config.pretrain;
	struct config_sft train = {.optim = c->optim, .steps = c->steps, .batch = c->batch, .loss_on = "all", .load_balance_coef = c->load_balance_coef,
				   .z_loss_coef = c->z_loss_coef, .router_bias_rate = c->router_bias_rate, .eval_every = c->eval_every};
	t.t = (struct supervised){.s = &t.s, .c = &train, .name = "pretrain", .heldout = heldout_loss, .arg = &t};
	TRY(start(&t, e));
	TRY(sft_open_source(&t.t.sft, t.t.model, &train, &(struct sft_source){next_sequence, &t, t.length + 1}, e));
	TRY(supervised_restore(&t.t, e));
	TRY(supervised_train(&t.t, e));
	TRY(finish(&t, e));
out:
	sft_close(t.t.sft);
	model_close(t.t.model);
	mixture_close(t.mixture);
	free(t.sequence);
	corpus_close(t.corpus);
	session_close(&t.s);
	return rc;
}
