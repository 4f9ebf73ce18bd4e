/* Model cards; see model_card.h. A card says what a stranger has to know before use:
 * where the weights come from, what was done to them with which data, what was
 * measured, what they are not good for, and whose licence holds. It states only
 * what the run's configuration and records say; times and paths are left out. */
#include "app/model_card.h"

#include "core/base/fs.h"
#include "policy/family.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The last part of a path, since the rest is somebody's machine. */
static const char *last_part(const char *path)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/') n--;
	const char *at = path + n;
	while (at > path && at[-1] != '/') at--;
	return at;
}

static const struct stage_text {
	const char *stage, *title, *method;
} stages[] = {
	{"pretrain", "pretrained", "Trained from text: the mean cross entropy of every token."},
	{"sft", "supervised", "Supervised training: cross entropy of the examples' completions."},
	{"reward", "reward model", "A reward model: the trunk of a supervised model with a scalar head, fitted to rankings of completions."},
	{"ppo", "PPO", "Proximal policy optimisation (1707.06347) on groups of completions of one prompt, with a penalty on the divergence from the start."},
};

static void header(FILE *f, const struct session *s, const struct stage_text *t, const struct shape *shape)
{
	const char *base = s->config.model.init;
	int reward = !strcmp(t->stage, "reward");
	fputs("---\n", f);
	if (shape->family != FAMILY_TENFOLD) fputs("library_name: transformers\n", f);
	fprintf(f, "pipeline_tag: %s\n", reward ? "text-classification" : "text-generation");
	if (base[0]) fprintf(f, "base_model: \"%s\"\nlicense: other\nlicense_name: as-the-base-model\n", last_part(base));
	else fputs("license: mit\n", f);
	fprintf(f, "tags:\n- tenfold\n- %s\n- %s\n---\n\n", t->stage, family_type(shape->family));
}

static void data(FILE *f, const struct session *s)
{
	const struct config_task *t = &s->config.task;
	fprintf(f, "## Data\n\nTask `%s`", t->name);
	if (t->prompts[0]) fprintf(f, ", prompts of `%s`", last_part(t->prompts));
	if (t->completions[0]) fprintf(f, ", examples of `%s`", last_part(t->completions));
	fprintf(f, ": %u training prompts, %u held out, %u examples", s->task->prompts[TASK_TRAIN], s->task->prompts[TASK_HELDOUT], s->task->examples);
	fprintf(f, ".\nRewards: `%s`.\n\n", s->config.reward.terms);
}

/* Numbers of a stage, but for times, which are no property of the model. */
static void figures(FILE *f, const json_t *part)
{
	const char *key;
	json_t *value;
	int rows = 0;
	json_object_foreach((json_t *)(uintptr_t)part, key, value) {
		if (!json_is_number(value) || strstr(key, "seconds") || strstr(key, "tok")) continue;
		if (rows++ == 0) fputs("| figure | value |\n|---|---|\n", f);
		fprintf(f, "| %s | %.6g |\n", key, json_number_value(value));
	}
	if (rows == 0) fputs("Not measured yet.\n", f);
	fputc('\n', f);
}

static void card(FILE *f, const struct session *s, const struct stage_text *t, const struct shape *shape, const json_t *summary)
{
	const char *base = s->config.model.init;
	const json_t *eval = json_object_get(json_object_get(summary, "eval"), t->stage);
	header(f, s, t, shape);
	fprintf(f, "# %s: %s\n\n%s\n\n", s->config.run.name[0] ? s->config.run.name : "tenfold", t->title, t->method);
	fputs("## Base\n\n", f);
	if (base[0]) fprintf(f, "`%s`, layout `%s`; its licence and its limits hold here too.\n\n", last_part(base), family_type(shape->family));
	else fputs("None: trained from random weights.\n\n", f);
	data(f, s);
	fprintf(f, "## Method\n\nSeed %lld; every setting is in the run's `config.yaml`, every step in its records. Kernels: fingerprint `%s`.\n\n",
		(long long)s->config.run.seed, s->fingerprint);
	fputs("## Figures\n\n", f);
	figures(f, json_object_get(summary, t->stage));
	if (eval) fputs("On held-out prompts:\n\n", f), figures(f, eval);
	fprintf(f, "## Changes\n\n%s was changed by the training above%s.\n\n", base[0] ? "The base model" : "Nothing of another model",
		base[0] ? ", all weights of it; they are stored as F32" : " is in it");
	fputs("## Limits\n\nMeasured on the task above only. Rewards are what was optimised, not what is true: text that scores well may be wrong, biased\n"
	      "or harmful. Check it for the use you have in mind; who uses the model answers for its output.\n\n", f);
	fprintf(f, "## Licence\n\n%s\n", base[0] ? "That of the base model; this card changes nothing of it." : "MIT.");
}

/* The card of what lies beside a stage's model for the base alone. */
static int write_adapter(const struct session *s, const struct stage_text *t, const char *folder, const struct shape *shape, struct err *e)
{
	const struct config_lora *c = &s->config.lora;
	const char *base = !strcmp(t->stage, "sft") || !config_has_stage(&s->config, "sft") ? s->config.model.init : "../../sft";
	char path[PATH_MAX], *text = NULL;
	size_t bytes = 0;
	if (snprintf(path, sizeof path, "%s/adapter/adapter_config.json", folder) >= PATH_MAX || !fs_exists(path)) return 0;
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for a model card");
	fprintf(f, "---\nlibrary_name: peft\nbase_model: \"%s\"\nlicense: other\nlicense_name: as-the-base-model\ntags:\n- tenfold\n- lora\n- %s\n- %s\n---\n\n",
		last_part(base), t->stage, family_type(shape->family));
	fprintf(f, "# %s: %s, adapters\n\n%s\n\n", s->config.run.name[0] ? s->config.run.name : "tenfold", t->title, t->method);
	fprintf(f, "Adapters (LoRA, 2106.09685) of rank %lld, alpha %g%s, on %s, for the base `%s`, which is frozen; the same model merged, with data, figures\n"
		   "and limits, is in the folder above.\n\n", (long long)c->r, c->alpha, c->rslora ? " (rsLoRA)" : "", c->targets, last_part(base));
	fputs("## Licence\n\nThat of the base model; its limits hold here too.\n", f);
	fclose(f);
	int rc = snprintf(path, sizeof path, "%s/adapter/README.md", folder) < PATH_MAX ? fs_write_atomic(path, text, bytes, e) : 0;
	free(text);
	return rc;
}

static int write_one(const struct session *s, const struct stage_text *t, const json_t *summary, struct err *e)
{
	char name[64], folder[PATH_MAX], path[PATH_MAX], *text = NULL;
	size_t bytes = 0;
	struct shape shape;
	snprintf(name, sizeof name, "models/%s", t->stage);
	int rc = session_path(s, name, folder, e);
	if (rc < 0) return rc;
	if (snprintf(path, sizeof path, "%s/config.json", folder) >= PATH_MAX || !fs_exists(path)) return 0;
	rc = model_folder_shape(folder, &shape, e);
	if (rc < 0) return rc;
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for a model card");
	card(f, s, t, &shape, summary);
	fclose(f);
	if (snprintf(path, sizeof path, "%s/README.md", folder) < PATH_MAX) rc = fs_write_atomic(path, text, bytes, e);
	free(text);
	return rc < 0 ? rc : write_adapter(s, t, folder, &shape, e);
}

int model_cards_write(const struct session *s, const json_t *summary, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < sizeof stages / sizeof *stages && rc == 0; i++) rc = write_one(s, &stages[i], summary, e);
	return rc;
}
