/* Writers of the configuration: YAML that reads back to the same value, and the
 * reference page docs/configuration.md. Both walk the table in its order. */
#include "core/base/config_internal.h"

#include <string.h>

static const struct {
	const char *name, *about;
} sections[] = {
	{"run", "What `tenfold run` does and with how many processes."},
	{"model", "The shape of a model made from scratch. With `model.init` the shape comes from that folder."},
	{"tokenizer", "Where the tokens come from."},
	{"task", "What the model is asked."},
	{"pretrain", "Training on plain text, by `tenfold pretrain`."},
	{"sft", "The supervised start."},
	{"rollout", "How completions are drawn."},
	{"reward", "How they are scored."},
	{"ppo", "How the policy learns from the scores."},
	{"eval", "Measuring held-out prompts."},
	{"net", "Where roles on other machines meet."},
	{"web", "Where `tenfold web` is reached; these keys are its own and may stand in a file of their own."},
};

static const char *about(const char *section, size_t n)
{
	for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
		if (strlen(sections[i].name) == n && !memcmp(sections[i].name, section, n)) return sections[i].about;
	return "";
}

static void write_quoted(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		unsigned char ch = (unsigned char)*s;
		if (ch == '"' || ch == '\\') fprintf(f, "\\%c", ch);
		else if (ch == '\n') fputs("\\n", f);
		else if (ch < 32 || ch == 127) fprintf(f, "\\x%02x", ch);
		else fputc(ch, f);
	}
	fputc('"', f);
}

void config_write(const struct config *c, FILE *f)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	char open[64] = "", value[CONFIG_STRING];
	for (size_t i = 0; i < count; i++) {
		/* sections that this key opens beyond those open already */
		const char *name = keys[i].name, *last = strrchr(name, '.');
		int depth = 0;
		for (const char *p = name; (p = strchr(p, '.')); p++) {
			size_t n = (size_t)(p - name);
			if (strncmp(open, name, n) || (open[n] && open[n] != '.')) {
				const char *from = name;
				for (const char *q = name; q < p; q++)
					if (*q == '.') from = q + 1;
				fprintf(f, "%*s%.*s:\n", 2 * depth, "", (int)(p - from), from);
			}
			depth++;
		}
		snprintf(open, sizeof open, "%.*s", (int)(last - name), name);
		fprintf(f, "%*s%s: ", 2 * depth, "", last + 1);
		config_value(c, &keys[i], value, sizeof value);
		if (keys[i].type == CONFIG_TEXT) write_quoted(f, value);
		else fputs(value, f);
		fputc('\n', f);
	}
}

/* "1", "0.001", "2^53": a bound as people read it. */
static void write_bound(FILE *f, double v)
{
	if (v == 9007199254740992.0) fputs("2^53", f);
	else fprintf(f, "%.7g", v);
}

static void write_row(FILE *f, const struct config_key *key)
{
	static const char *const types[] = {"whole number", "number", "true, false", "text", "choice"};
	fprintf(f, "| `%s` | ", key->name);
	if (key->type == CONFIG_CHOICE) {
		for (const char *p = key->choices; *p;) {
			size_t n = strcspn(p, "|");
			fprintf(f, "`%.*s`%s", (int)n, p, p[n] ? ", " : "");
			p += n + (p[n] == '|');
		}
	} else {
		fputs(types[key->type], f);
		if (key->type == CONFIG_INT || key->type == CONFIG_FLOAT) {
			fputs(", ", f);
			write_bound(f, key->low);
			fputs(" to ", f);
			write_bound(f, key->high);
		}
	}
	fprintf(f, " | ");
	if (*key->standard) fprintf(f, "`%s`", key->standard);
	fprintf(f, " | %s |\n", key->help);
}

static void write_presets(FILE *f)
{
	size_t count;
	const struct config_preset_row *rows = config_preset_rows(&count);
	fputs("\n## Presets\n\n`ppo.preset` sets the details of a published system: `oai2019` is the code of \"Fine-Tuning Language Models\n"
	      "from Human Preferences\" (Ziegler et al. 2019), `nplus2024` that of \"The N+ Implementation Details of RLHF with PPO\"\n"
	      "(Huang et al. 2024), `trl` the defaults of TRL's PPO trainer (version 2 on) with the end-token penalty of its\n"
	      "summarisation example. A preset fills only keys that neither the file nor `--set` writes, whatever their order, and\n"
	      "never sizes: model, steps, prompts, lengths stay yours. The learning rates belong to pretrained models; a small model\n"
	      "from scratch needs its own `ppo.optim.lr`.\n\n| key |",
		f);
	for (int i = 0; i < CONFIG_PRESETS; i++) fprintf(f, " `%s` |", config_preset_name(i));
	fputs("\n|---|", f);
	for (int i = 0; i < CONFIG_PRESETS; i++) fputs("---|", f);
	fputc('\n', f);
	for (size_t k = 0; k < count; k++) {
		fprintf(f, "| `%s` |", rows[k].key);
		for (int i = 0; i < CONFIG_PRESETS; i++) fprintf(f, " %s |", rows[k].value[i]);
		fputc('\n', f);
	}
}

void config_write_docs(FILE *f)
{
	size_t count;
	const struct config_key *keys = config_keys(&count);
	fputs("# Configuration\n\n"
	      "<!-- Written by `tenfold config --docs`; a test compares. Change core/base/config_table.c instead. -->\n\n"
	      "A configuration is a YAML file of sections and keys; what it leaves out has the default below. On the command line\n"
	      "`--set section.key=value` comes after the file and wins. Unknown or doubled keys, wrong types and values out of range\n"
	      "are errors that name the file and the line. `tenfold config FILE` prints the complete configuration as it would be\n"
	      "used; every run keeps that as `config.yaml` in its folder.\n\n"
	      "A key of three parts is nested: `ppo.optim.lr` is written\n\n"
	      "```yaml\nppo:\n  optim:\n    lr: 0.0003\n```\n\n"
	      "Paths are taken from the folder in which the command runs. Text keys also take a list: `stages: [sft, ppo]`.\n",
		f);
	const char *open = "";
	size_t open_n = 0;
	for (size_t i = 0; i < count; i++) {
		size_t n = strcspn(keys[i].name, ".");
		if (n != open_n || memcmp(open, keys[i].name, n)) {
			open = keys[i].name;
			open_n = n;
			fprintf(f, "\n## %.*s\n\n%s\n\n| key | values | default | meaning |\n|---|---|---|---|\n", (int)n, open, about(open, n));
		}
		write_row(f, &keys[i]);
	}
	write_presets(f);
}
