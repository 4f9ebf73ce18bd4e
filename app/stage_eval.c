/* The stage eval: what the run was for, measured on held-out prompts, beside
 * its baselines: best of n samples from the start, supervised training
 * continued, and the program of the nearest training prompt. Where nothing
 * verifies a completion, the learned reward model's score stands in
 * (eval_model.h). */
#include "app/eval_model.h"
#include "app/options.h"
#include "app/report.h"
#include "app/stages.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <string.h>

static json_t *rate_json(const struct pass_rate *p)
{
	return json_pack("{s:f,s:f,s:f,s:I,s:f}", "pass_rate", p->rate, "low", p->low, "high", p->high, "n", (json_int_t)p->n, "reward", p->reward);
}

enum { GREEDY = 1, CONTINUED = -1 };

/* One model: greedy, best of n, or greedy after more supervised training. */
static int measure(struct session *s, json_t *out, const char *stage, const char *name, int n, struct err *e)
{
	char folder[PATH_MAX], key[64];
	struct model *m = NULL;
	struct pass_rate p;
	int rc = 0;
	snprintf(folder, sizeof folder, "%.*s/models/%s", PATH_MAX - 64, s->folder, stage);
	if (!fs_exists(folder)) return 0;
	TRY(model_folder_open(&m, folder, s->backend, HEAD_LM, e));
	if (n == CONTINUED) TRY(baseline_continued_sft(s, m, &p, e));
	else TRY(n == GREEDY ? session_pass_rate(s, m, &p, e) : session_best_of(s, m, n, &p, e));
	if (p.n == 0) goto out;
	snprintf(key, sizeof key, n == GREEDY ? "%s" : n == CONTINUED ? "%s_continued" : "%s_best_of_%d", stage, n);
	json_object_set_new(out, key, rate_json(&p));
	FAULT_POINT("eval.before_record", "a model is measured, the measure not recorded");
	TRY(store_put_eval(s->store, 0, name, p.rate, (uint64_t)p.n, p.low, p.high, e));
	fprintf(stderr, "eval: %-16s %.1f %% [%.1f, %.1f] of %lld held-out prompts\n", key, 100 * p.rate, 100 * p.low, 100 * p.high, (long long)p.n);
out:
	model_close(m);
	return rc;
}

/* How near held-out programs are to training ones, and what copying gives. */
static void nearness(const struct session *s, json_t *out)
{
	struct stack_nearness n;
	if (!s->task->stack) return;
	stack_task_set_nearness(s->task->stack, &n);
	json_t *bins = json_array();
	for (int i = 0; i < STACK_NEAR_BINS; i++) json_array_append_new(bins, json_integer(n.program[i]));
	json_object_set_new(out, "copy_baseline", json_real(n.copy_pass));
	json_object_set_new(out, "nearest_training_program", json_pack("{s:f,s:o}", "mean_distance_words", n.program_mean, "histogram", bins));
	fprintf(stderr, "eval: copying the nearest training prompt's program passes %.1f %%; the nearest training program is %.1f words away\n",
		100 * n.copy_pass, n.program_mean);
}

int stage_eval(const struct stage_options *o, struct err *e)
{
	struct session s;
	double began = fs_now();
	int rc = 0;
	struct session_options so = {.config = o->config, .sets = o->sets, .folder = o->folder, .stage = "eval", .resume = o->resume,
				     .parts = SESSION_RUN | SESSION_BACKEND | SESSION_TASK};
	json_t *j = json_object();
	TRY(session_open(&s, &so, e));
	rc = measure(&s, j, "sft", "start_pass_rate", GREEDY, e);
	if (rc == 0) rc = measure(&s, j, "ppo", "end_pass_rate", GREEDY, e);
	if (rc == 0 && s.config.eval.best_of > 1) rc = measure(&s, j, "sft", "best_of_pass_rate", (int)s.config.eval.best_of, e);
	if (rc == 0 && s.config.eval.continued_sft > 0) rc = measure(&s, j, "sft", REPORT_CONTINUED, CONTINUED, e);
	if (rc == 0 && !task_verifiable(s.task)) rc = eval_by_model(&s, j, e);
	if (rc == 0) {
		nearness(&s, j);
		json_object_set_new(j, "seconds", json_real(fs_now() - began));
		rc = session_summary(&s, "eval", j, e);
		j = NULL;
	}
	session_close(&s);
out:
	json_decref(j);
	return rc;
}
