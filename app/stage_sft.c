/* The stage sft: supervised training from scratch or from a model, and the
 * start's pass rate. `tenfold sft` by hand, or as the first stage of a run. */
#include "app/commands.h"
#include "app/options.h"
#include "app/stages.h"
#include "app/supervised.h"
#include "app/trained.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct stage {
	struct session s;
	struct supervised t;
	struct model *base; /* of adapters */
	double began;
};

static double heldout_loss(void *arg)
{
	struct stage *t = arg;
	return sft_loss(t->t.sft, t->s.task->reference, t->s.task->references);
}

static int finish(struct stage *t, struct err *e)
{
	struct pass_rate p;
	int rc = 0;
	json_t *j = json_object();
	TRY(trained_export(&t->s, "sft", t->t.model, t->s.config.model.init, e));
	FAULT_POINT("sft.before_measure", "the supervised model is written, not measured");
	TRY(session_pass_rate(&t->s, t->t.model, &p, e));
	json_object_set_new(j, "steps", json_integer(t->s.config.sft.steps));
	if (t->t.skipped) json_object_set_new(j, "skipped_updates", json_integer(t->t.skipped));
	json_object_set_new(j, "parameters", json_integer(t->t.model->params.parameters));
	json_object_set_new(j, "active_parameters", json_integer(t->t.model->params.active));
	json_object_set_new(j, "seconds", json_real(fs_now() - t->began));
	if (p.n) {
		TRY(store_put_eval(t->s.store, (uint64_t)t->s.config.sft.steps, "pass_rate", p.rate, (uint64_t)p.n, p.low, p.high, e));
		json_object_set_new(j, "pass_rate", json_real(p.rate));
		json_object_set_new(j, "reward", json_real(p.reward));
		fprintf(stderr, "sft: held-out pass rate %.1f %% [%.1f, %.1f] of %lld\n", 100 * p.rate, 100 * p.low, 100 * p.high, (long long)p.n);
	}
	rc = session_summary(&t->s, "sft", j, e);
	j = NULL;
out:
	json_decref(j);
	return rc;
}

int stage_sft(const struct stage_options *o, struct err *e)
{
	struct stage t = {.began = fs_now()};
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "sft", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND | SESSION_TASK};
	TRY(session_open(&t.s, &so, e));
	const struct config *c = &t.s.config;
	t.t = (struct supervised){.s = &t.s, .c = &c->sft, .name = "sft", .heldout = heldout_loss, .arg = &t};
	struct shape shape;
	TRY(session_shape(&t.s, HEAD_LM, &shape, e));
	if (c->model.init[0]) {
		TRY(trained_open(&t.t.model, &t.base, &t.s, "sft", c->model.init, HEAD_LM, e));
	} else {
		TRY(model_open(&t.t.model, t.s.backend, &shape, e));
		model_init(t.t.model, (uint64_t)c->run.seed);
	}
	fprintf(stderr, "sft: %.2f M parameters, %.2f M active per token, %u examples, %s, %d threads\n", (double)t.t.model->params.parameters / 1e6,
		(double)t.t.model->params.active / 1e6, t.s.task->examples, t.t.model->ops->name, backend_threads(t.s.backend));
	TRY(sft_open(&t.t.sft, t.t.model, &c->sft, (uint64_t)c->run.seed, t.s.task->example, t.s.task->examples, e));
	TRY(supervised_restore(&t.t, e));
	TRY(supervised_train(&t.t, e));
	TRY(finish(&t, e));
out:
	sft_close(t.t.sft);
	model_close(t.t.model);
	model_close(t.base);
	session_close(&t.s);
	return rc;
}
