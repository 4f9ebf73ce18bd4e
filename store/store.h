/* The record of a run: one SQLite file (run.db) that says what was asked,
 * generated, scored, ranked, learned and measured. docs/schema.md has the tables.
 *
 * One process writes a file, any number read it while it does (WAL). A writer
 * holds an exclusive flock on "PATH.lock"; a second one is refused with the
 * owner's process id. A handle belongs to one thread at a time.
 *
 * Rows are named by stage ("sft", "collect", "ppo", …), step, slot and
 * candidate; the stage is a property of the handle. What is there stays there:
 * to put a row again is to compare it with the stored one, every column, blobs
 * and doubles bit for bit, and a difference is ERR_MISMATCH naming table, stage,
 * step, slot, candidate and column. That is how a step replayed after a crash
 * is checked; it never makes a second row.
 *
 * Exempt from comparing, digest and difference: times, and metrics and events
 * whose name starts with "timing/" or "perf/", as they depend on the clock.
 * Doubles are kept bit for bit but for two: every NaN is one NaN (stored as
 * NULL), and -0.0 is stored as 0.0. Blobs keep both.
 *
 * Every function returns 0 or a negative err_code with *e filled. */
#ifndef TENFOLD_STORE_STORE_H
#define TENFOLD_STORE_STORE_H

#include "core/base/err.h"
#include "core/base/group.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { STORE_NAME = 64, STORE_STAGE = 32 };

struct store;

struct store_options {
	int writer;        /* 0: read only */
	const char *stage; /* of the rows this handle writes: 1 to 31 of a-z 0-9 _ -; NULL: "ppo" */
};

/* Opens the database at `path`. A writer creates it when it is missing or empty and migrates an older one (a copy is
 * left as PATH.backup-vN first). ERR_NOT_FOUND: nothing there to read; ERR_STATE: another writer has it, or it is newer
 * than this program; ERR_FORMAT: damaged, or not a run's database (then it is left untouched; a damaged one can still be
 * opened to read). A read-only folder is fine for reading. */
int store_open(struct store **out, const char *path, const struct store_options *o, struct err *e);
/* Rolls an open step back. NULL is fine. */
void store_close(struct store *s);
/* Later puts are rows of this stage. Not inside a step. */
int store_set_stage(struct store *s, const char *stage, struct err *e);
/* Reads the whole file and checks its structure; a writer's store_open does so itself up to 256 MiB. */
int store_check(struct store *s, struct err *e);

/* ---- writing ---- */

struct store_run {
	const char *id, *name;
	int64_t seed;
	const char *fingerprint; /* of the kernels */
	const char *program;     /* version */
	const char *config;      /* complete YAML, as used at the first start */
	double time;             /* set when read */
};
/* The run's one row. Put again (on resume), id, seed and fingerprint are compared; name, program, config are kept. */
int store_put_run(struct store *s, const struct store_run *r, struct err *e);

struct store_prompt {
	uint32_t prompt;   /* index in the run's prompt set: struct group's `prompt` */
	const char *text;  /* struct group's prompt_text */
	const char *extra; /* what the task knows of it, as JSON (tests, level, reference answer); NULL: nothing */
};
/* All prompts of the run in one transaction; put again, all are compared. */
int store_put_prompts(struct store *s, const struct store_prompt *p, size_t n, struct err *e);

/* A step: begin, groups in ascending slots, commit: one transaction, committed before the optimiser moves. When the
 * step is stored already, everything between is compared, commit checks that nothing stored is missing from the replay,
 * and no row of it is written. After any error inside a step it is rolled back and no step is open. */
int store_step_begin(struct store *s, uint64_t step, uint64_t policy_version, struct err *e);
/* Whether the open step is being compared rather than written. */
int store_step_is_replay(const struct store *s);
/* The group, its candidates, its scores and, where g->reward is set, its comparison with source "reward" (see
 * store_comparison_from_reward). The prompt must have been put, with the same text. */
int store_put_group(struct store *s, const struct group *g, struct err *e);
int store_step_commit(struct store *s, struct err *e);
void store_step_abort(struct store *s);

/* One ranking of a group. */
struct store_comparison {
	const char *source;         /* reward, verifier, command, label … */
	const char *scorer_version;
	uint32_t count;             /* candidates ranked, 2..GROUP_MAX; fewer than the group has: partial */
	uint8_t order[GROUP_MAX];   /* candidates, best first */
	uint8_t rank[GROUP_MAX];    /* of order[k]: 1 is best, equal numbers tie (1, 2, 2, 4) */
	int has_margins;
	double margin[GROUP_MAX];   /* [count-1]: how much better order[k] is than order[k+1], 0 in a tie; NaN: unknown */
};
/* Descending reward; equal rewards tie, in candidate order; NaN comes last, all NaN tied. Margins are the differences of
 * the rewards in double. */
void store_comparison_from_reward(struct store_comparison *c, const struct group *g);
/* A further ranking of a group: inside the open step of that number, or of a stored step as its own transaction. */
int store_put_comparison(struct store *s, uint64_t step, uint32_t slot, const struct store_comparison *c, struct err *e);

struct store_reference {
	uint32_t slot;
	const float *logprobs; /* [count] under the reference, of all response tokens of the group, packed as its own */
	size_t count;
};
/* Of groups of a stored step, in one transaction; put again, they are compared. Not in digest and difference: they follow
 * from what is, and their sum is the metric objective/kl. */
int store_put_references(struct store *s, uint64_t step, const struct store_reference *r, size_t n, struct err *e);

/* A step's metrics, all in one call and one transaction; the step needs no store_step_begin (supervised steps have none).
 * The metric "timing/wall" (seconds since 1970) is added. Put again, all but timing/ and perf/ are compared: the names
 * must be the same ones. */
int store_put_metrics(struct store *s, uint64_t step, const char *const *names, const double *values, size_t n, struct err *e);
/* Something that happened. kind, with subject (slot, prompt, minibatch: whatever tells two apart) names it in its step;
 * body is text or JSON. Put again it is compared, unless kind starts with timing/ or perf/: those are always added. What
 * a replay must repeat (a stale group dropped) must not start so; what is only worth knowing (a worker joined) must. */
int store_put_event(struct store *s, uint64_t step, const char *kind, int64_t subject, const char *body, struct err *e);
/* path: relative to the run's folder. */
int store_put_checkpoint(struct store *s, uint64_t step, uint64_t version, const char *path, const char *hash, struct err *e);
/* A measurement over n items with its interval (NaN: none); another n is another evaluation. */
int store_put_eval(struct store *s, uint64_t step, const char *name, double value, uint64_t n, double low, double high, struct err *e);

/* ---- reading (any handle) ----
 * Functions named each call fn per row in the stated order; strings and arrays live until fn returns. fn returning
 * other than 0 ends the reading, and that value is returned (a negative one should come with *e filled by fn). stage
 * NULL: all stages, in the order in which they began. */

struct store_stage {
	const char *stage;
	int64_t last_step;   /* of its committed steps, -1: none */
	int64_t last_metric; /* last step with metrics, -1: none */
};
int store_each_stage(struct store *s, int (*fn)(void *ctx, const struct store_stage *r), void *ctx, struct err *e);
/* ERR_NOT_FOUND when no run was put. */
int store_get_run(struct store *s, int (*fn)(void *ctx, const struct store_run *r), void *ctx, struct err *e);
int store_each_prompt(struct store *s, int (*fn)(void *ctx, const struct store_prompt *r), void *ctx, struct err *e);
/* -1 in *step when the stage has no committed step. */
int store_last_step(struct store *s, const char *stage, int64_t *step, struct err *e);

struct store_step {
	const char *stage;
	uint64_t step, policy_version;
	double time; /* when it was begun, seconds since 1970 */
};
int store_each_step(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_step *r), void *ctx, struct err *e);

struct store_metric {
	const char *stage;
	uint64_t step;
	const char *name;
	double value;
};
/* Curves: by stage, name, step. glob (SQLite's GLOB: "objective/?*") chooses names; NULL: all. */
int store_each_metric(struct store *s, const char *stage, const char *glob, int (*fn)(void *ctx, const struct store_metric *r), void *ctx,
                      struct err *e);
/* The same by stage, step, name; from the given step on. */
int store_each_step_metric(struct store *s, const char *stage, uint64_t from, int (*fn)(void *ctx, const struct store_metric *r), void *ctx,
                           struct err *e);

/* Groups of a step by slot, complete as they were put (terms in alphabetical order; reward NULL when it was). */
int store_each_group(struct store *s, const char *stage, uint64_t step, int (*fn)(void *ctx, const struct group *g), void *ctx,
                     struct err *e);

/* One of them. ERR_NOT_FOUND. */
int store_get_group(struct store *s, const char *stage, uint64_t step, uint32_t slot, int (*fn)(void *ctx, const struct group *g), void *ctx,
                    struct err *e);

/* What was put of it by store_put_references. ERR_NOT_FOUND: nothing, as in files of programs before version 2. */
int store_get_reference(struct store *s, const char *stage, uint64_t step, uint32_t slot, int (*fn)(void *ctx, const struct store_reference *r), void *ctx,
                        struct err *e);

struct store_outline { /* a group without its candidates */
	uint32_t slot, prompt, size;
	const char *prompt_text, *scorer_version;
	double reward, lowest, highest; /* over its candidates; NaN: not scored */
	double tokens;                  /* mean length */
};
/* Of a step, by slot. */
int store_each_outline(struct store *s, const char *stage, uint64_t step, int (*fn)(void *ctx, const struct store_outline *r), void *ctx,
                       struct err *e);

/* Looking for words, the newest first. */
struct store_search {
	const char *text;  /* found as it stands, ASCII letters in either case */
	const char *stage; /* NULL: all */
	int prompts;       /* 0: in completions; 1: in the prompts of groups */
	int64_t before;    /* 0: from the newest; else where an earlier search stopped: its *next */
	uint32_t limit;    /* hits */
	double seconds;    /* after which it stops where it is */
};
struct store_hit {
	const char *stage;
	uint64_t step;
	uint32_t slot;
	int32_t candidate;        /* -1: a prompt */
	double reward;            /* of the candidate, or the mean of the group; NaN: none */
	const char *prompt, *text; /* text: of the completion; "" for a prompt */
};
/* *next: 0 when all was looked at. ERR_RANGE: nothing to look for. */
int store_each_hit(struct store *s, const struct store_search *q, int (*fn)(void *ctx, const struct store_hit *r), void *ctx, int64_t *next,
                   struct err *e);

/* Comparisons of a step by slot, source (NULL: all) and version; margins are those of the record, NaN where unknown. */
int store_each_comparison(struct store *s, const char *stage, uint64_t step, const char *source,
                          int (*fn)(void *ctx, uint32_t slot, const struct store_comparison *c), void *ctx, struct err *e);

struct store_event {
	const char *stage;
	uint64_t step;
	const char *kind;
	int64_t subject;
	const char *body;
	double time;
};
/* In the order in which they were put, from the given step on. */
int store_each_event(struct store *s, const char *stage, uint64_t from, int (*fn)(void *ctx, const struct store_event *r), void *ctx,
                     struct err *e);

struct store_checkpoint {
	const char *stage;
	uint64_t step, version;
	const char *path, *hash;
	double time;
};
int store_each_checkpoint(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_checkpoint *r), void *ctx, struct err *e);

struct store_eval {
	const char *stage;
	uint64_t step, n;
	const char *name;
	double value, low, high;
	double time;
};
/* By stage, name, step, n. */
int store_each_eval(struct store *s, const char *stage, int (*fn)(void *ctx, const struct store_eval *r), void *ctx, struct err *e);

/* One SQL statement that only reads (any other is refused): values as text, NULL for NULL, names of the columns. */
int store_query(struct store *s, const char *sql, int (*fn)(void *ctx, int columns, const char *const *names, const char *const *values),
                void *ctx, struct err *e);

/* ---- equal or not ---- */

/* Hash over every exact row in key order: prompts, then stage by stage all the rest, but runs and paths. Two runs of one
 * seed have one digest. */
int store_digest(struct store *s, char hex[HASH_HEX], struct err *e);

struct store_difference {
	int found;
	char stage[STORE_STAGE];  /* "" for the prompts and the list of stages */
	int64_t step;             /* of the difference; -1: before any step */
	int64_t same_through;     /* last step of that stage before it, -1: none; when nothing was found: of the last stage */
	char table[STORE_NAME];
	char row[160];            /* "step 3, slot 2, candidate 7" */
	char column[STORE_NAME];  /* with the element in a blob, "logprobs[4]"; "" when one side lacks the row */
	char a[96], b[96];        /* the two values as text */
};
/* The first difference between the exact rows of two databases, in the order of the run: first by stage, then by step,
 * then by table. Finding one is not an error. */
int store_diff(struct store *a, struct store *b, struct store_difference *d, struct err *e);

/* ---- exports ---- */

enum store_pairs_format {
	STORE_PAIRS_CSV,      /* header line; texts that a spreadsheet would take for a formula, or that begin with ', get a leading ' */
	STORE_PAIRS_TRL,      /* JSONL of {"prompt", "chosen", "rejected"} */
	STORE_PAIRS_HH,       /* JSONL of {"chosen", "rejected"}, whole dialogues "\n\nHuman: …\n\nAssistant: …" */
};
/* The pairs of all comparisons of a stage and a source (NULL: all). JSONL leaves ties out and replaces what is not UTF-8
 * by U+FFFD; CSV has both. *pairs (may be NULL): lines written. The caller closes `out`. */
int store_export_pairs(struct store *s, enum store_pairs_format format, const char *stage, const char *source, FILE *out,
                       uint64_t *pairs, struct err *e);
/* stage,step,name,value; 17 digits; NaN as "nan". */
int store_export_metrics(struct store *s, FILE *out, struct err *e);
/* DIR/STAGE/events.out.tfevents.SECONDS.tenfold for each stage with metrics or evaluations (tags eval/NAME); a file of
 * the same run is replaced. */
int store_export_tensorboard(struct store *s, const char *dir, struct err *e);
/* CRC-32C (Castagnoli), as TFRecord files use it. */
uint32_t store_crc32c(const void *data, size_t bytes);

/* ---- benchmark ---- */

struct store_bench {
	uint32_t steps, groups, candidates; /* per run of it, step, group */
	double rows_per_step, bytes_per_step;
	double ms_per_step, ms_worst;       /* begin to commit and the metrics after it: median, worst */
	double rows_per_second;
	double ms_replay;                   /* the same step compared: median */
};
/* 64 steps of 32 groups of ten with 40 prompt and 12 response tokens each, two terms, experts of 4 layers × 6, and 40
 * metrics, in a new file in `dir` that is removed afterwards. */
int store_bench(const char *dir, struct store_bench *b, struct err *e);

#endif
