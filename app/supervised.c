/* Supervised training as a stage; see supervised.h. */
#include "app/supervised.h"

#include "app/progress.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "policy/checkpoint.h"
#include "policy/training_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void place_of(const struct supervised *t, char place[64])
{
	snprintf(place, 64, "checkpoints/%s", t->name);
}

static void warn(void *arg, const char *text)
{
	(void)arg;
	log_warn("%s", text);
}

static int check_state(const struct supervised *t, struct err *e)
{
	char place[64];
	if (optimizer_is_finite(sft_optimizer(t->sft))) return 0;
	place_of(t, place);
	return err_set(e, ERR_RANGE, "step %lld of %s: weights or moments are not finite; what is in %s is good; lower %s.optim.lr in a new run",
		       (long long)sft_state(t->sft)->step, t->name, place, t->name);
}

static int save(struct supervised *t, struct err *e)
{
	struct checkpoint *c = NULL;
	struct sft_state *st = sft_state(t->sft);
	char path[PATH_MAX], place[64];
	int rc = 0;
	int64_t items = shape_moe_layers(&t->model->shape) * t->model->shape.experts;
	json_t *j = json_pack("{s:I,s:I,s:I,s:[]}", "step", (json_int_t)st->step, "updates", (json_int_t)sft_optimizer(t->sft)->updates, "skipped",
			      (json_int_t)st->skipped, "expert_counts");
	for (int64_t i = 0; i < items; i++) json_array_append_new(json_object_get(j, "expert_counts"), json_integer(st->counts[i]));
	place_of(t, place);
	TRY(check_state(t, e));
	TRY(checkpoint_begin(&c, t->s->folder, place, (uint64_t)st->step, e));
	snprintf(path, sizeof path, "%s/training.safetensors", checkpoint_folder(c));
	TRY(training_save(sft_optimizer(t->sft), path, e));
	FAULT_POINT("sft.before_state", "a supervised checkpoint has its weights, not its counters");
	snprintf(path, sizeof path, "%s/state.json", checkpoint_folder(c));
	if (json_dump_file(j, path, JSON_COMPACT) != 0) TRY(err_set(e, ERR_IO, "cannot write %s", path));
	struct checkpoint *done = c;
	c = NULL;
	TRY(checkpoint_commit(done, t->s->config.run.keep_checkpoints, NULL, e));
out:
	checkpoint_abort(c);
	json_decref(j);
	return rc;
}

int supervised_restore(struct supervised *t, struct err *e)
{
	struct checkpoint_entry at;
	char path[CHECKPOINT_PATH + 32], place[64];
	place_of(t, place);
	int rc = checkpoint_recover(t->s->folder, place, &at, warn, NULL, e);
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
	st->skipped = json_integer_value(json_object_get(j, "skipped"));
	sft_optimizer(t->sft)->updates = json_integer_value(json_object_get(j, "updates"));
	for (size_t i = 0; i < json_array_size(counts); i++) st->counts[i] = json_integer_value(json_array_get(counts, i));
	json_decref(j);
	log_info("%s goes on at step %lld", t->name, (long long)st->step);
out:
	return rc;
}

static int record(struct supervised *t, const struct sft_report *r, double heldout, struct err *e)
{
	char loss[64], kept[64];
	snprintf(loss, sizeof loss, "%s/loss", t->name);
	snprintf(kept, sizeof kept, "%s/heldout_loss", t->name);
	const char *names[] = {loss, "actor/grad_norm", "lr", "load/max", "perf/throughput", kept};
	double values[] = {r->loss, r->grad_norm, r->lr, r->load_max, r->tokens_per_second, heldout};
	return store_put_metrics(t->s->store, (uint64_t)r->step - 1, names, values, heldout >= 0 ? 6 : 5, e);
}

/* One step, and a row when its update was left out, the last one of a run included. */
static int step(struct supervised *t, struct sft_report *r, struct err *e)
{
	struct err why;
	int rc = 0, done = sft_step(t->sft, r, &why);
	if (r->skipped) t->skipped++;
	if (r->skipped) TRY(store_put_event(t->s->store, (uint64_t)r->step - 1, "skipped_update", 0, r->skipped, e));
	if (done < 0) rc = err_set(e, done, "%s", why.msg);
out:
	return rc;
}

int supervised_train(struct supervised *t, struct err *e)
{
	const struct config_sft *c = t->c;
	struct progress p;
	struct sft_report r;
	int rc = 0;
	char note[64];
	progress_open(&p, stderr, t->name, "steps", c->steps, sft_state(t->sft)->step);
	while (sft_state(t->sft)->step < c->steps) {
		if (atomic_load(t->s->stop)) {
			TRY(save(t, e));
			TRY(err_set(e, ERR_STOPPED, "stopped at step %lld of %s; --resume goes on", (long long)sft_state(t->sft)->step, t->name));
		}
		TRY(step(t, &r, e));
		int last = r.step == c->steps, eval = last || (c->eval_every > 0 && r.step % c->eval_every == 0);
		FAULT_POINT("sft.before_record", "a supervised step is made in memory only");
		double heldout = eval ? t->heldout(t->arg) : -1;
		TRY(record(t, &r, heldout, e));
		if (eval && !last) TRY(save(t, e));
		snprintf(note, sizeof note, "loss %.3f  %.0f tok/s", r.loss, r.tokens_per_second);
		progress_show(&p, r.step, note);
		if (eval) progress_line(&p, "%s step %lld: loss %.4f, held-out loss %.4f", t->name, (long long)r.step, r.loss, heldout);
	}
	TRY(check_state(t, e));
out:
	progress_close(&p, sft_state(t->sft)->step);
	return rc;
}
