/* `tenfold generate`: a prompt in, a group of completions out, with
 * log-probabilities and, where the task can check them, scores. */
#include "app/commands.h"
#include "app/options.h"
#include "app/session.h"

#include "policy/model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct output {
	const struct task *task;
	int json, known; /* known: the prompt's index among the training prompts, or -1 */
};

static double sum_logprobs(const struct group *g, uint32_t c)
{
	const float *lp = g->logprobs;
	double sum = 0;
	for (uint32_t i = 0; i < c; i++) lp += g->length[i];
	for (uint32_t i = 0; i < g->length[c]; i++) sum += (double)lp[i];
	return sum;
}

static json_t *completion_json(const struct output *o, const struct group *g, uint32_t c)
{
	static const char *const finish[] = {"end", "stop", "length"};
	const float *lp = g->logprobs;
	const int32_t *tokens = g->tokens + g->prompt_tokens;
	for (uint32_t i = 0; i < c; i++) lp += g->length[i], tokens += g->length[i];
	json_t *ids = json_array(), *logprobs = json_array();
	for (uint32_t i = 0; i < g->length[c]; i++) {
		json_array_append_new(ids, json_integer(tokens[i]));
		json_array_append_new(logprobs, json_real((double)lp[i]));
	}
	json_t *j = json_pack("{s:s,s:s,s:o,s:o}", "text", g->text[c], "finish", finish[g->finish[c]], "tokens", ids, "logprobs", logprobs);
	if (o->known >= 0) json_object_set_new(j, "score", json_real((double)task_reward(o->task, TASK_TRAIN, (uint32_t)o->known, g->text[c])));
	return j;
}

static int print_group(void *arg, const struct group *g, struct err *e)
{
	(void)e;
	const struct output *o = arg;
	if (o->json) {
		json_t *list = json_array();
		for (uint32_t c = 0; c < g->size; c++) json_array_append_new(list, completion_json(o, g, c));
		json_t *j = json_pack("{s:s,s:o}", "prompt", g->prompt_text, "completions", list);
		char *text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
		puts(text ? text : "{}");
		free(text);
		json_decref(j);
		return 0;
	}
	for (uint32_t c = 0; c < g->size; c++) {
		if (o->known >= 0) printf("%6.3f  ", (double)task_reward(o->task, TASK_TRAIN, (uint32_t)o->known, g->text[c]));
		printf("%9.4f  %s\n", sum_logprobs(g, c), g->text[c]);
	}
	return 0;
}

/* The training prompt with this text, or -1. */
static int find_prompt(const struct task *t, const char *text)
{
	if (!task_verifiable(t)) return -1;
	for (uint32_t i = 0; i < t->prompts[TASK_TRAIN]; i++)
		if (!strcmp(t->prompt[TASK_TRAIN][i].text, text)) return (int)i;
	return -1;
}

static int generate(struct session *s, const char *stage, const char *prompt, int json, struct err *e)
{
	struct model *m = NULL;
	struct generator *g = NULL;
	struct generate_options o;
	struct output out = {s->task, json, -1};
	char folder[PATH_MAX], *text = NULL;
	int32_t *ids = NULL;
	uint32_t count = 0;
	int rc = 0;
	size_t n = strlen(prompt);
	/* the task's prompts end in a line feed, which a shell's argument has lost */
	text = malloc(n + 2);
	CHECK(text, "out of memory for the prompt");
	memcpy(text, prompt, n + 1);
	if (n && text[n - 1] != '\n' && s->task->stack) memcpy(text + n, "\n", 2);
	snprintf(folder, sizeof folder, "%.*s/models/%s", PATH_MAX - 64, s->folder, stage);
	TRY(model_folder_open_held(&m, folder, s->backend, HEAD_LM, e));
	TRY(task_encode_prompt(s->task, s->task->arena, text, &ids, &count, e));
	if (count == 0) TRY(err_set(e, ERR_RANGE, "the prompt is empty"));
	session_generation(s, &o);
	o.max_prompt = (int)count;
	o.batch_groups = 1;
	out.known = find_prompt(s->task, text);
	TRY(generator_open(&g, m, &o, e));
	struct generate_request r = {.tokens = ids, .prompt_tokens = count, .prompt_text = text};
	TRY(generator_run(g, &r, 1, 0, print_group, &out, s->stop, e));
out:
	generator_close(g);
	model_close(m);
	free(text);
	return rc;
}

int command_generate(int argc, char **argv, struct err *e)
{
	struct option_list sets = {0}, rest;
	const char *stage = "ppo";
	int json = 0, rc;
	const struct option table[] = {{"stage", OPTION_TEXT, &stage, "STAGE", "Whose model: sft or ppo (default)."}, OPTION_JSON(&json), OPTION_SET(&sets)};
	const struct options_use use = {
		.line = "generate RUN PROMPT [--stage STAGE] [--json] [--set KEY=VALUE]…",
		.about = "A group of completions for one prompt from a run's model: score (when the prompt is one of the task's), summed\n"
			 "log-probability, text. --set changes the sampling: rollout.group_size, rollout.temperature, rollout.top_p, run.seed.",
		.table = table, .count = 3, .at_least = 2, .at_most = 2};
	struct session s;
	rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	struct session_options so = {.config = rest.item[0], .sets = &sets, .folder = rest.item[0], .stage = "generate", .parts = SESSION_BACKEND | SESSION_TASK};
	TRY(session_open(&s, &so, e));
	rc = generate(&s, stage, rest.item[1], json, e);
	session_close(&s);
out:
	return rc;
}
