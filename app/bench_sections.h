/* The sections of `tenfold bench`: each measures one thing and returns rows of
 * named values, which JSON, terminal and docs/benchmarks.md all show. A new
 * section is one row in a table here and one function. */
#ifndef TENFOLD_APP_BENCH_SECTIONS_H
#define TENFOLD_APP_BENCH_SECTIONS_H

#include "app/bench_loop.h"

#include <jansson.h>
#include <stdio.h>

struct bench_column {
	const char *key, *head;
	const char *format; /* of a number, for people; texts are shown as they are */
};

/* What sections share while they run. */
struct bench_context {
	const struct config *config;
	int quick;                   /* a few repetitions of small sizes: to see that it works */
	struct bench_peak peak;
	struct backend *one, *all;   /* one thread, and run.threads; the same when that is 1 */
	struct bench_loop *loop;     /* opened by the first section that needs it */
	double iteration_seconds;    /* of 32 groups, 0 until measured */
	int64_t groups;              /* of an iteration */
};

struct bench_section {
	const char *key, *title;
	const char *text;            /* for docs/benchmarks.md: what is measured, and what is aimed at */
	const struct bench_column *columns;
	int count;
	int (*run)(struct bench_context *c, json_t *rows, struct err *e);
};

/* Operations (bench_sections.c), and the loop with its plumbing (bench_parts.c). */
extern const struct bench_section bench_operations[];
extern const int bench_operations_count;
extern const struct bench_section bench_parts[];
extern const int bench_parts_count;
/* What is run on a GPU only (bench_device.c). */
extern const struct bench_section bench_device[];
extern const int bench_device_count;

/* Decoding: groups·completions sequences at once, a step of one token each (bench_decode.c). */
struct bench_decode {
	int groups, completions, prompt, steps; /* what is run */
	double step_seconds;                    /* of one step */
	double limit_seconds, limit_seconds_half; /* the least by memory and arithmetic: with the bytes that numbers have here, with 2 */
};
int bench_decode_open(struct model **out, struct backend *, const struct shape *, struct err *);
int bench_decode(const struct model *, const struct limits_machine *, int times, struct bench_decode *, struct err *);

/* bench_models.c */
extern const struct bench_section bench_models;

/* c->loop, opened when it is not yet. */
int bench_context_loop(struct bench_context *c, struct err *e);
/* "0.123 (0.120–0.150)" of milliseconds, and the numbers under key_ms, key_ms_min, key_ms_max. */
void bench_put_time(json_t *row, const char *key, const struct bench_time *t);

/* bench_report.c. result: {"date", "version", "machine": {…}, "configuration", "sections": {key: [rows]}}. */
void bench_print_table(FILE *f, const struct bench_section *s, const json_t *rows);
void bench_print_head(FILE *f, const json_t *result);
/* "2026-01-01: PROCESSOR, 2 processors, …" */
void bench_print_machine(FILE *f, const json_t *machine);
/* Puts a section's text into the page at `path` in place of the one with this title, else at its end; title NULL: the head. The
 * rest of the page stays as it is. */
int bench_page_put(const char *path, const char *title, const char *text, struct err *e);
json_t *bench_machine(const struct bench_context *c);

#endif
