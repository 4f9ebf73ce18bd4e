/* See eval_model.h. The i-th completions of start and end are drawn with the same
 * random numbers and compared as a pair; prompts are the independent units. */
#include "app/eval_model.h"

#include "core/base/fs.h"
#include "policy/model_folder.h"
#include "reward/reward_model.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { START, END };

struct scored {
	struct reward_model *judge;
	uint32_t prompts, size;
	double *score[2]; /* [prompts, size] */
	double tokens[2]; /* mean length */
	int which;
};

struct mean {
	double value, low, high; /* normal approximation over prompts, 95 % */
};

static int on_group(void *arg, const struct group *g, struct err *e)
{
	struct scored *t = arg;
	double *at = t->score[t->which] + (size_t)g->prompt * t->size;
	(void)e;
	reward_model_scores(t->judge, &g, 1, at, NULL);
	for (uint32_t i = 0; i < g->size; i++) t->tokens[t->which] += (double)g->length[i] / ((double)t->prompts * t->size);
	return 0;
}

static int score_model(struct session *s, struct scored *t, const char *folder, struct err *e)
{
	struct generate_options o;
	struct generator *g = NULL;
	struct model *m = NULL;
	struct generate_request *r = calloc(t->prompts, sizeof *r);
	int rc = 0;
	CHECK(r, "out of memory for %u prompts", t->prompts);
	for (uint32_t i = 0; i < t->prompts; i++) {
		const struct task_prompt *p = &s->task->prompt[TASK_HELDOUT][i];
		r[i] = (struct generate_request){.slot = i, .prompt = i, .tokens = p->tokens, .prompt_tokens = p->count, .prompt_text = p->text};
	}
	session_generation(s, &o);
	o.purpose = RNG_EVAL;
	TRY(model_folder_open_held(&m, folder, s->backend, HEAD_LM, e));
	TRY(generator_open(&g, m, &o, e));
	rc = generator_run(g, r, t->prompts, 0, on_group, t, s->stop, e);
out:
	generator_close(g);
	model_close(m);
	free(r);
	return rc;
}

/* Mean of a number per prompt. */
static struct mean mean_of(const double *v, uint32_t n)
{
	double sum = 0, square = 0;
	for (uint32_t i = 0; i < n; i++) sum += v[i];
	sum /= n;
	for (uint32_t i = 0; i < n; i++) square += (v[i] - sum) * (v[i] - sum);
	double half = n > 1 ? 1.959963984540054 * sqrt(square / ((double)n * (n - 1))) : INFINITY;
	return (struct mean){sum, sum - half, sum + half};
}

enum { SCORE_START, SCORE_END, DIFFERENCE, WINS, BEST, MEASURES };

static void measure(const struct scored *t, struct mean out[MEASURES])
{
	double *v[MEASURES];
	for (int k = 0; k < MEASURES; k++) {
		v[k] = calloc(t->prompts, sizeof **v);
		CHECK(v[k], "out of memory for %u prompts", t->prompts);
	}
	for (uint32_t p = 0; p < t->prompts; p++) {
		const double *a = t->score[START] + (size_t)p * t->size, *b = t->score[END] + (size_t)p * t->size;
		v[BEST][p] = -INFINITY;
		for (uint32_t i = 0; i < t->size; i++) {
			v[SCORE_START][p] += a[i] / t->size;
			v[SCORE_END][p] += b[i] / t->size;
			v[WINS][p] += (b[i] > a[i] ? 1.0 : b[i] == a[i] ? 0.5 : 0.0) / t->size;
			v[BEST][p] = fmax(v[BEST][p], a[i]);
		}
		v[DIFFERENCE][p] = v[SCORE_END][p] - v[SCORE_START][p];
	}
	for (int k = 0; k < MEASURES; k++) {
		out[k] = mean_of(v[k], t->prompts);
		free(v[k]);
	}
}

static int record(struct session *s, const struct scored *t, const struct mean m[MEASURES], json_t *out, struct err *e)
{
	static const char *const names[MEASURES] = {"start_model_score", "end_model_score", "model_score_gain", "win_rate_by_model", "best_of_model_score"};
	json_t *j = json_object();
	int rc = 0;
	for (int k = 0; k < MEASURES; k++) json_object_set_new(j, names[k], json_pack("{s:f,s:f,s:f}", "value", m[k].value, "low", m[k].low, "high", m[k].high));
	json_object_set_new(j, "prompts", json_integer(t->prompts));
	json_object_set_new(j, "completions", json_integer(t->size));
	json_object_set_new(j, "tokens", json_pack("[f,f]", t->tokens[START], t->tokens[END]));
	json_object_set_new(out, "by_model", j);
	for (int k = 0; k < MEASURES; k++) TRY(store_put_eval(s->store, 0, names[k], m[k].value, t->prompts, m[k].low, m[k].high, e));
	fprintf(stderr,
		"eval: %u held-out prompts, %u completions each, scored by the learned reward model (what PPO optimised; no judgement by people):\n"
		"eval: mean %.3f at the start, %.3f after PPO, gain %.3f [%.3f, %.3f]; after PPO wins %.1f %% [%.1f, %.1f] of the pairs; best of %u from the start %.3f\n"
		"eval: mean length %.1f tokens at the start, %.1f after PPO%s\n",
		t->prompts, t->size, m[SCORE_START].value, m[SCORE_END].value, m[DIFFERENCE].value, m[DIFFERENCE].low, m[DIFFERENCE].high, 100 * m[WINS].value,
		100 * m[WINS].low, 100 * m[WINS].high, t->size, m[BEST].value, t->tokens[START], t->tokens[END],
		m[DIFFERENCE].low > 0 ? "" : "; PPO has not raised the score beyond chance");
out:
	return rc;
}

int eval_by_model(struct session *s, struct json_t *out, struct err *e)
{
	char folder[3][PATH_MAX];
	struct mean m[MEASURES];
	struct scored t = {.prompts = s->task->prompts[TASK_HELDOUT], .size = (uint32_t)s->config.rollout.group_size};
	int rc = 0;
	if (s->config.eval.tasks > 0 && s->config.eval.tasks < t.prompts) t.prompts = (uint32_t)s->config.eval.tasks;
	TRY(session_path(s, "models/sft", folder[START], e));
	TRY(session_path(s, "models/ppo", folder[END], e));
	TRY(session_path(s, "models/reward", folder[2], e));
	if (t.prompts == 0 || !fs_exists(folder[START]) || !fs_exists(folder[END]) || !fs_exists(folder[2])) return 0;
	TRY(reward_model_open(&t.judge, folder[2], s->backend, e));
	for (t.which = START; t.which <= END; t.which++) {
		t.score[t.which] = calloc((size_t)t.prompts * t.size, sizeof **t.score);
		CHECK(t.score[t.which], "out of memory for %u prompts", t.prompts);
		TRY(score_model(s, &t, folder[t.which], e));
	}
	measure(&t, m);
	rc = record(s, &t, m, out, e);
out:
	for (int k = 0; k < 2; k++) free(t.score[k]);
	reward_model_close(t.judge);
	return rc;
}
