/* A session: one stage or role of a run, with what it works on: configuration,
 * run folder and its lock, database, backend, task. Commands open one, do their
 * work and close it.
 *
 * The run's folder: run.db, config.yaml (complete, as used at the first start),
 * checkpoints/, weights/ (published versions), models/STAGE/, report.html,
 * summary.json, metrics.jsonl, log, lock. Nothing is written outside it. */
#ifndef TENFOLD_APP_SESSION_H
#define TENFOLD_APP_SESSION_H

#include "core/base/config.h"
#include "core/base/lock.h"
#include "core/wire/message.h"
#include "policy/generate.h"
#include "policy/model.h"
#include "reward/task.h"
#include "store/store.h"

#include <limits.h>
#include <stdatomic.h>

enum session_parts {
	SESSION_RUN = 1,     /* the run's folder, locked, with its database */
	SESSION_BACKEND = 2,
	SESSION_TASK = 4,
};

struct session {
	struct config config;
	char folder[PATH_MAX]; /* absolute; "" without SESSION_RUN and without --out */
	char run_id[MESSAGE_RUN];
	char fingerprint[HASH_HEX];
	int resumed;           /* the folder had a run already */
	struct lock *lock;
	struct store *store;
	struct backend *backend;
	struct task *task;
	atomic_int *stop;      /* becomes 1 at SIGINT or SIGTERM */
};

struct option_list;

struct session_options {
	const char *config;        /* YAML file; may be the folder of a run (its config.yaml is taken) */
	const struct option_list *sets;
	const char *folder;        /* --out */
	const char *stage;         /* of the rows written, and of the log */
	int resume;                /* an existing run is gone on with; else it is refused */
	int parts;
};

int session_open(struct session *s, const struct session_options *o, struct err *e);
/* For workers and services: no lock and no database; threads are shared among run.workers; the log goes to the run's
 * folder when that is given. */
int session_open_role(struct session *s, const struct session_options *o, struct err *e);
void session_close(struct session *s);
/* folder/name into out. */
int session_path(const struct session *s, const char *name, char out[PATH_MAX], struct err *e);
/* The folder of the model that a stage after sft starts from: models/sft, or model.init when there is no stage sft. */
int session_start_folder(const struct session *s, const char *stage, char out[PATH_MAX], struct err *e);
/* The shape of the run's models: that of model.init, whose config.json every role on every machine needs, or the
 * configuration's. ERR_MISMATCH when the tokenizer has more tokens than model.init. */
int session_shape(const struct session *s, int heads_kind, struct shape *shape, struct err *e);
/* Writes a stage's model in the layout of its family, with the run's tokenizer and what else model.init has beside its weights. */
int session_export(const struct session *s, const char *folder, const struct model *m, struct err *e);
/* The backend of a role that was opened without one and finds that it needs it; threads are shared as for workers. */
int session_open_backend(struct session *s, struct err *e);
/* Puts `value` (stolen) under "part.key…" of summary.json: part is the stage's object; and brings the models' cards up to it. */
struct json_t;
int session_summary(struct session *s, const char *part, struct json_t *value, struct err *e);
/* The private endpoint of this run for a role ("learner", "reward-0"), or the configured one. */
void session_endpoint(const struct session *s, const char *role, char out[256]);
/* Options of a generator for this task and configuration. */
void session_generation(const struct session *s, struct generate_options *o);

/* Options of the generator that measures pass rates, of so many completions a prompt. */
void session_pass_rate_options(const struct session *s, int completions, struct generate_options *o);

/* Greedy pass rate over held-out prompts (eval.tasks of them; 0: all). */
struct pass_rate {
	int64_t passed, n;
	double rate, low, high; /* Wilson score interval, 95 % */
	double reward;          /* mean share of hidden tests passed */
};
int session_pass_rate(struct session *s, const struct model *m, struct pass_rate *out, struct err *e);
/* Share of held-out prompts of which the best of n samples (by the verifier) passes. */
int session_best_of(struct session *s, const struct model *m, int n, struct pass_rate *out, struct err *e);
/* Trains the start eval.continued_sft steps more, as the stage sft would have gone on, and measures it. */
int baseline_continued_sft(struct session *s, struct model *start, struct pass_rate *out, struct err *e);

#endif
