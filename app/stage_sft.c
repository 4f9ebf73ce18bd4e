/* The stage sft: supervised training from scratch or from a model, and the
 * start's pass rate. `tenfold sft` by hand, or as the first stage of a run. */
#include "app/commands.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/stages.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "policy/checkpoint.h"
#include "policy/model_folder.h"
#include "policy/training_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char PLACE[] = "checkpoints/sft";

struct stage {
	struct session s;
	struct model *model;
	struct sft *sft;
	double began;
};

static void warn(void *arg, const char *text)
{
	(void)arg;
	log_warn("%s", text);
}

static int save(struct stage *t, struct err *e)
{
	struct checkpoint *c = NULL;
	struct sft_state *st = sft_state(t->sft);
	char path[PATH_MAX];
	int rc = 0;
	int64_t items = shape_moe_layers(&t->model->shape) * t->model->shape.experts;
	json_t *j = json_pack("{s:I,s:I,s:[]}", "step", (json_int_t)st->step, "updates", (json_int_t)sft_optimizer(t->sft)->updates, "expert_counts");
	for (int64_t i = 0; i < items; i++) json_array_append_new(json_object_get(j, "expert_counts"), json_integer(st->counts[i]));
	TRY(checkpoint_begin(&c, t->s.folder, PLACE, (uint64_t)st->step, e));
	snprintf(path, sizeof path, "%s/training.safetensors", checkpoint_folder(c));
	TRY(training_save(sft_optimizer(t->sft), path, e));
	FAULT_POINT("sft.before_state", "a supervised checkpoint has its weights, not its counters");
	snprintf(path, sizeof path, "%s/state.json", checkpoint_folder(c));
	if (json_dump_file(j, path, JSON_COMPACT) != 0) TRY(err_set(e, ERR_IO, "cannot write %s", path));
	struct checkpoint *done = c;
	c = NULL;
	TRY(checkpoint_commit(done, t->s.config.run.keep_checkpoints, NULL, e));
out:
	checkpoint_abort(c);
	json_decref(j);
	return rc;
}

static int restore(struct stage *t, struct err *e)
{
	struct checkpoint_entry at;
	char path[CHECKPOINT_PATH + 32];
	int rc = checkpoint_recover(t->s.folder, PLACE, &at, warn, NULL, e);
	if (rc == ERR_NOT_FOUND) return 0;
	if (rc < 0) return rc;
	struct sft_state *st = sft_state(t->sft);
	snprintf(path, sizeof path, "%s/training.safetensors", at.path);
	TRY(training_load(sft_optimizer(t->sft), path, e));
	FAULT_POINT("sft.within_restore", "a supervised checkpoint is partly read back");
	snprintf(path, sizeof path, "%s/state.json", at.path);
	json_t *j = json_load_file(path, 0, NULL), *counts = json_object_get(j, "expert_counts");
	if (!j) return err_set(e, ERR_FORMAT, "%s is not JSON", path);
	st->step = json_integer_value(json_object_get(j, "step"));
	sft_optimizer(t->sft)->updates = json_integer_value(json_object_get(j, "updates"));
	for (size_t i = 0; i < json_array_size(counts); i++) st->counts[i] = json_integer_value(json_array_get(counts, i));
	json_decref(j);
	log_info("supervised training goes on at step %lld", (long long)st->step);
out:
	return rc;
}

static int record(struct stage *t, const struct sft_report *r, double heldout, struct err *e)
{
	const char *names[] = {"sft/loss", "actor/grad_norm", "lr", "load/max", "perf/throughput", "sft/heldout_loss"};
	double values[] = {r->loss, r->grad_norm, r->lr, r->load_max, r->tokens_per_second, heldout};
	return store_put_metrics(t->s.store, (uint64_t)r->step - 1, names, values, heldout >= 0 ? 6 : 5, e);
}

static int train(struct stage *t, struct err *e)
{
	const struct config_sft *c = &t->s.config.sft;
	struct progress p;
	struct sft_report r;
	int rc = 0;
	char note[64];
	progress_open(&p, stderr, "sft", "steps", c->steps, sft_state(t->sft)->step);
	while (sft_state(t->sft)->step < c->steps) {
		if (atomic_load(t->s.stop)) {
			TRY(save(t, e));
			TRY(err_set(e, ERR_STOPPED, "stopped at supervised step %lld; --resume goes on", (long long)sft_state(t->sft)->step));
		}
		TRY(sft_step(t->sft, &r, e));
		int last = r.step == c->steps, eval = last || (c->eval_every > 0 && r.step % c->eval_every == 0);
		FAULT_POINT("sft.before_record", "a supervised step is made in memory only");
		double heldout = eval ? sft_loss(t->sft, t->s.task->reference, t->s.task->references) : -1;
		TRY(record(t, &r, heldout, e));
		if (eval && !last) TRY(save(t, e));
		snprintf(note, sizeof note, "loss %.3f  %.0f tok/s", r.loss, r.tokens_per_second);
		progress_show(&p, r.step, note);
		if (eval) progress_line(&p, "sft step %lld: loss %.4f, held-out loss %.4f", (long long)r.step, r.loss, heldout);
	}
out:
	progress_close(&p, sft_state(t->sft)->step);
	return rc;
}

static int finish(struct stage *t, struct err *e)
{
	struct pass_rate p;
	char folder[PATH_MAX];
	int rc = 0;
	json_t *j = json_object();
	TRY(session_path(&t->s, "models/sft", folder, e));
	TRY(model_folder_write(folder, t->model, t->s.task->tokenizer, e));
	FAULT_POINT("sft.before_measure", "the supervised model is written, not measured");
	TRY(session_pass_rate(&t->s, t->model, &p, e));
	json_object_set_new(j, "steps", json_integer(t->s.config.sft.steps));
	json_object_set_new(j, "parameters", json_integer(t->model->params.parameters));
	json_object_set_new(j, "active_parameters", json_integer(t->model->params.active));
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
	if (c->model.init[0]) {
		TRY(model_folder_open(&t.model, c->model.init, t.s.backend, HEAD_LM, e));
	} else {
		struct shape shape;
		shape_from_config(&shape, c, tokenizer_vocab_size(t.s.task->tokenizer), HEAD_LM);
		TRY(model_open(&t.model, t.s.backend, &shape, e));
		model_init(t.model, (uint64_t)c->run.seed);
	}
	fprintf(stderr, "sft: %.2f M parameters, %.2f M active per token, %u examples, %s, %d threads\n", (double)t.model->params.parameters / 1e6,
		(double)t.model->params.active / 1e6, t.s.task->examples, t.model->ops->name, backend_threads(t.s.backend));
	TRY(sft_open(&t.sft, t.model, &c->sft, (uint64_t)c->run.seed, t.s.task->example, t.s.task->examples, e));
	TRY(restore(&t, e));
	TRY(train(&t, e));
	TRY(finish(&t, e));
out:
	sft_close(t.sft);
	model_close(t.model);
	session_close(&t.s);
	return rc;
}
