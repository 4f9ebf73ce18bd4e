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

/* base "": none. */
static void header(FILE *f, const char *base, const char *what, const struct shape *shape)
{
	fputs("---\n", f);
	if (shape->family != FAMILY_TENFOLD) fputs("library_name: transformers\n", f);
	fprintf(f, "pipeline_tag: %s\n", shape->heads_kind & HEAD_LM ? "text-generation" : "text-classification");
	if (base[0]) fprintf(f, "base_model: \"%s\"\nlicense: other\nlicense_name: as-the-base-model\n", last_part(base));
	else fputs("license: mit\n", f);
	fprintf(f, "tags:\n- tenfold\n- %s\n- %s\n---\n\n", what, family_type(shape->family));
}

static void sources(FILE *f, const json_t *list)
{
	size_t i;
	json_t *x;
	fputs("## Data\n\nText, mixed by weight:\n\n| source | weight | times read |\n|---|---|---|\n", f);
	json_array_foreach(list, i, x) {
		const char *name = json_string_value(json_object_get(x, "name"));
		if (name) fprintf(f, "| `%s` | %.6g | %.6g |\n", last_part(name), json_number_value(json_object_get(x, "weight")), json_number_value(json_object_get(x, "epochs")));
	}
	fputc('\n', f);
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

/* "BF16" of "bf16". */
static const char *type_name(const char *dtype)
{
	return safetensors_dtype_name((enum safetensors_dtype)model_folder_dtype(dtype));
}

/* adapters: what learned was beside the weights, and is merged now. */
static void card(FILE *f, const struct session *s, const struct stage_text *t, const struct shape *shape, int adapters, const json_t *summary)
{
	const char *base = s->config.model.init, *type = strcmp(t->stage, "reward") ? type_name(s->config.model.save_dtype) : "F32";
	const json_t *eval = json_object_get(json_object_get(summary, "eval"), t->stage), *part = json_object_get(summary, t->stage);
	header(f, base, t->stage, shape);
	fprintf(f, "# %s: %s\n\n%s\n\n", s->config.run.name[0] ? s->config.run.name : "tenfold", t->title, t->method);
	fputs("## Base\n\n", f);
	if (base[0]) fprintf(f, "`%s`, layout `%s`; its licence and its limits hold here too.\n\n", last_part(base), family_type(shape->family));
	else fputs("None: trained from random weights.\n\n", f);
	if (!strcmp(t->stage, "pretrain")) sources(f, json_object_get(part, "sources"));
	else data(f, s);
	fprintf(f, "## Method\n\nSeed %lld; every setting is in the run's `config.yaml`, every step in its records. Kernels: fingerprint `%s`.\n\n",
		(long long)s->config.run.seed, s->fingerprint);
	fputs("## Figures\n\n", f);
	figures(f, part);
	if (eval) fputs("On held-out prompts:\n\n", f), figures(f, eval);
	if (!base[0]) fprintf(f, "## Changes\n\nNothing of another model is in it. Weights are stored as %s.\n\n", type);
	else if (adapters) fprintf(f, "## Changes\n\nThe base model with the adapters of the training above merged in (%s); stored as %s.\n\n", s->config.lora.targets, type);
	else fprintf(f, "## Changes\n\nAll weights of the base model were changed by the training above; they are stored as %s.\n\n", type);
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
	int adapters = snprintf(path, sizeof path, "%s/adapter/adapter_config.json", folder) < PATH_MAX && fs_exists(path);
	if (strcmp(t->stage, "pretrain") && !s->task) return 0; /* of another stage in this folder, which wrote it */
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for a model card");
	card(f, s, t, &shape, adapters, summary);
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

/* The card of the folder that weights came from, kept beside the new one. */
static int keep_card(const char *from, const char *to, int *kept, struct err *e)
{
	char a[PATH_MAX], b[PATH_MAX], *text;
	size_t bytes;
	if (snprintf(a, sizeof a, "%s/README.md", from) >= PATH_MAX || snprintf(b, sizeof b, "%s/README-base.md", to) >= PATH_MAX || !fs_exists(a)) return 0;
	int rc = fs_read(a, (size_t)16 << 20, &text, &bytes, e);
	if (rc < 0) return rc;
	rc = fs_write_atomic(b, text, bytes, e);
	free(text);
	*kept = 1;
	return rc;
}

/* Without slashes at the end. */
static const char *trimmed(const char *path, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s", path);
	for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--) out[n - 1] = 0;
	return out;
}

int model_card_derived(const char *to, const char *from, const char *adapter, const char *dtype, struct err *e)
{
	char path[PATH_MAX], base[PATH_MAX], added[PATH_MAX], *text = NULL;
	size_t bytes = 0;
	struct shape shape;
	int kept = 0, rc = model_folder_shape(to, &shape, e);
	if (rc == 0) rc = keep_card(from, to, &kept, e);
	if (rc < 0) return rc;
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for a model card");
	header(f, trimmed(from, base), adapter ? "merged" : "converted", &shape);
	fprintf(f, "# %s%s, as %s\n\n## Base\n\n`%s`, layout `%s`", last_part(base), adapter ? ", merged" : "", type_name(dtype), last_part(base), family_type(shape.family));
	fputs(kept ? ": what its card, `README-base.md`, says of data, method, figures, limits and licence holds here too.\n\n"
		   : ", which had no card: its data, method, figures and limits are those of its origin.\n\n", f);
	fprintf(f, "## Changes\n\nWritten by `tenfold model %s`: ", adapter ? "merge" : "convert");
	if (adapter) fprintf(f, "the adapters of `%s` were added to the weights; ", last_part(trimmed(adapter, added)));
	fprintf(f, "stored as %s%s. Nothing was trained or measured.\n\n## Licence\n\nThat of the base model%s; this card changes nothing of it.\n", type_name(dtype),
		strcmp(dtype, "f32") ? ", rounded to nearest" : "", adapter ? " and of the adapters" : "");
	fclose(f);
	if (snprintf(path, sizeof path, "%s/README.md", to) < PATH_MAX) rc = fs_write_atomic(path, text, bytes, e);
	free(text);
	return rc;
}
