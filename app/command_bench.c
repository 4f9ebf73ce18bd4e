/* `tenfold bench`: this machine's limits, and how near to them the program's
 * parts come at the shapes of a configuration. */
#include "app/bench_sections.h"
#include "app/commands.h"
#include "app/options.h"
#include "app/progress.h"

#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>

static const char STANDARD[] = "configs/verifier.yaml";

struct bench_options {
	const char *config, *only, *device, *update;
	struct option_list sets;
	int json, markdown, quick;
};

static const struct bench_section *section_at(int i)
{
	if (i < bench_operations_count) return &bench_operations[i];
	i -= bench_operations_count;
	if (i < bench_parts_count) return &bench_parts[i];
	i -= bench_parts_count;
	return i == 0 ? &bench_models : &bench_device[i - 1];
}

static int sections(void)
{
	return bench_operations_count + bench_parts_count + 1 + bench_device_count;
}

/* Sections that are run: a processor has none of a GPU's. */
static int sections_on(const struct bench_context *c)
{
	return sections() - (c->peak.device ? 0 : bench_device_count);
}

static int check_only(const struct bench_options *o, struct err *e)
{
	const char *names[64];
	for (int i = 0; i < sections(); i++) {
		names[i] = section_at(i)->key;
		if (!o->only || !strcmp(names[i], o->only)) return 0;
	}
	return err_set(e, ERR_FORMAT, "there is no section '%s'; the nearest is '%s' (bench --help lists them)", o->only, options_nearest(o->only, names, sections()));
}

static int context_open(struct bench_context *c, const struct bench_options *o, struct err *e)
{
	int rc = 0;
	struct backend_options b = {c->config->run.device, c->config->run.isa, (int)c->config->run.threads, c->config->run.precision};
	TRY(backend_open(&c->all, &b, e));
	b.threads = 1;
	if (backend_threads(c->all) == 1) c->one = c->all;
	else TRY(backend_open(&c->one, &b, e));
	bench_peak_of(&c->peak, c->all);
	c->quick = o->quick;
	c->peak.seconds = o->quick ? 0.01 : 0.12;
	c->groups = o->quick ? 4 : 32;
	int64_t m = c->config->ppo.minibatches;
	c->groups = (c->groups + m - 1) / m * m;
out:
	return rc;
}

static void context_close(struct bench_context *c)
{
	bench_loop_close(c->loop);
	if (c->one != c->all) backend_close(c->one);
	backend_close(c->all);
}

/* A section as a part of docs/benchmarks.md. */
static void write_section(FILE *f, const struct bench_options *o, const json_t *machine, const struct bench_section *s, const json_t *rows)
{
	fprintf(f, "## %s\n\n%s\n\n`tenfold bench --config %s", s->title, s->text, o->config ? o->config : STANDARD);
	if (o->device) fprintf(f, " --device %s", o->device);
	for (int i = 0; i < o->sets.count; i++) fprintf(f, " --set %s", o->sets.item[i]);
	fprintf(f, " --only %s`\n", s->key);
	bench_print_machine(f, machine);
	fputc('\n', f);
	bench_print_table(f, s, rows);
}

static int print_section(const struct bench_options *o, const json_t *machine, const struct bench_section *s, const json_t *rows, struct err *e)
{
	char *text = NULL;
	size_t bytes = 0;
	int rc = 0;
	if (o->update) {
		FILE *f = open_memstream(&text, &bytes);
		CHECK(f, "out of memory for a section");
		write_section(f, o, machine, s, rows);
		fclose(f);
		rc = bench_page_put(o->update, s->title, text, e);
		free(text);
		return rc;
	}
	putchar('\n');
	if (o->markdown) {
		write_section(stdout, o, machine, s, rows);
	} else {
		printf("%s\n", s->title);
		bench_print_table(stdout, s, rows);
	}
	fflush(stdout);
	return 0;
}

/* The head: of a whole run, or of a page that is new. */
static int print_head(const struct bench_options *o, const json_t *result, struct err *e)
{
	char *text = NULL;
	size_t bytes = 0;
	if (!o->update || (o->only && fs_exists(o->update))) {
		if (o->markdown) bench_print_head(stdout, result);
		return 0;
	}
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for a section");
	bench_print_head(f, result);
	fclose(f);
	/* the method is a section of its own */
	char *second = strstr(text, "## ");
	CHECK(second, "the head has no method");
	int rc = bench_page_put(o->update, "Method", second, e);
	*second = 0;
	if (rc == 0) rc = bench_page_put(o->update, NULL, text, e);
	free(text);
	return rc;
}

static int run_sections(struct bench_context *c, const struct bench_options *o, const json_t *machine, json_t *results, struct err *e)
{
	struct progress p;
	int rc = 0, done = 0;
	int count = sections_on(c);
	progress_open(&p, stderr, "bench", "sections", o->only ? 1 : count, 0);
	for (int i = 0; i < count && rc == 0; i++) {
		const struct bench_section *s = section_at(i);
		if (o->only && strcmp(o->only, s->key)) continue;
		json_t *rows = json_array();
		json_object_set_new(results, s->key, rows);
		progress_show(&p, done, s->key);
		rc = s->run(c, rows, e);
		done++;
		if (rc == 0 && !o->json) rc = print_section(o, machine, s, rows, e);
	}
	progress_close(&p, done);
	if (rc == 0 && done == 0) rc = err_set(e, ERR_RANGE, "the section %s is measured on a GPU only (--device cuda)", o->only);
	return rc;
}

static int bench(const struct config *config, const struct bench_options *o, struct err *e)
{
	struct bench_context c = {.config = config};
	json_t *result = NULL;
	int rc = 0;
	TRY(context_open(&c, o, e));
	result = json_pack("{s:s,s:b,s:o,s:{}}", "configuration", o->config ? o->config : STANDARD, "quick", o->quick, "machine", bench_machine(&c), "sections");
	CHECK(result, "out of memory for the result");
	TRY(print_head(o, result, e));
	if (!o->json && !o->markdown && !o->update) printf("%s, %d threads, kernels %s\n", json_string_value(json_object_get(json_object_get(result, "machine"), "processor")),
				  backend_threads(c.all), backend_ops(c.all)->name);
	TRY(run_sections(&c, o, json_object_get(result, "machine"), json_object_get(result, "sections"), e));
	if (o->json && json_dumpf(result, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6)) != 0)
		TRY(err_set(e, ERR_IO, "cannot write the result"));
	if (o->json) putchar('\n');
out:
	json_decref(result);
	context_close(&c);
	return rc;
}

int command_bench(int argc, char **argv, struct err *e)
{
	struct bench_options o = {0};
	struct option_list rest;
	struct config config;
	const struct option table[] = {
		{"config", OPTION_TEXT, &o.config, "FILE", "Whose model and PPO settings are measured; default configs/verifier.yaml."},
		{"only", OPTION_TEXT, &o.only, "SECTION", "One section: peak, linear, experts, attention, small, adamw, generation, scoring, iteration, overhead, store, models; on a GPU also layer, decode, price."},
		{"device", OPTION_TEXT, &o.device, "DEVICE", "cpu or cuda, instead of the configuration's run.device."},
		{"markdown", OPTION_FLAG, &o.markdown, NULL, "Print docs/benchmarks.md: method, formulas, tables."},
		{"update", OPTION_TEXT, &o.update, "FILE", "Put the sections that are measured into this page, in place of those of the same title; the others stay as they are."},
		{"quick", OPTION_FLAG, &o.quick, NULL, "Few repetitions of small sizes, to see that everything works; the figures mean little."},
		OPTION_JSON(&o.json), OPTION_SET(&o.sets)};
	const struct options_use use = {
		.line = "bench [--config FILE] [--device DEVICE] [--only SECTION] [--json | --markdown | --update FILE] [--quick]",
		.about = "Measures this machine's limits and how near to them matrix products, experts, attention, AdamW, generation, scoring,\n"
			 "update and the whole PPO iteration come, the overhead of a scored group and the cost of the record. About a minute, on a\n"
			 "machine that should do nothing else meanwhile.",
		.table = table, .count = sizeof table / sizeof table[0]};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (o.json + o.markdown + (o.update != NULL) > 1) return err_set(e, ERR_FORMAT, "--json, --markdown and --update are forms of one result: give one");
	TRY(check_only(&o, e));
	if (!o.config && !fs_exists(STANDARD)) return err_set(e, ERR_NOT_FOUND, "%s is not in this folder: give --config FILE", STANDARD);
	TRY(options_config(&config, o.config ? o.config : STANDARD, &o.sets, e));
	if (o.device) {
		char assignment[64];
		snprintf(assignment, sizeof assignment, "run.device=%s", o.device);
		TRY(config_set(&config, assignment, e));
	}
	rc = bench(&config, &o, e);
out:
	return rc;
}
