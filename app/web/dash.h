/* The dashboard: the runs below DIR, read while they go on.
 *
 * A run is a folder with a run.db: DIR itself (".") or a folder one or two levels
 * below it ("seed1", "sweep/seed1"); that path is its id here. Nothing of a run is
 * kept by the server: each request opens the database to read, in one snapshot,
 * and closes it, so the learner is neither waited for nor held up (store.h).
 *
 * The serving thread looks twice a second, while a page is open, whether files of a run have changed, and
 * says so on the topic "owner" as event "run" with {"run": id}; pages then ask for
 * what is new since the last step that they have. */
#ifndef TENFOLD_APP_WEB_DASH_H
#define TENFOLD_APP_WEB_DASH_H

#include "app/run_folder.h"
#include "app/web/web.h"

enum { DASH_ID = 256, DASH_RUNS_MAX = 512 };

/* Each run's id and folder, in alphabetical order. */
int dash_each_run(const char *dir, int (*fn)(void *ctx, const char *id, const char *folder), void *ctx, struct err *e);
/* The run that ?run= names, opened to read. ERR_NOT_FOUND. The caller closes it. */
int dash_open(struct web *w, const struct http_request *q, struct run_folder *r, struct err *e);
/* The number that ?name= gives; `otherwise` when it is not there. ERR_NOT_FOUND when it is none. */
int dash_number(const struct http_request *q, const char *name, int64_t otherwise, int64_t *n, struct err *e);
/* ?stage=, "ppo" when it is not there. */
const char *dash_stage(const struct http_request *q);

/* What of a run can be known without reading its steps, as the list shows it:
 * {run, name, state, role, why, stage, step, steps, seed, time, group, warning, digest, reward, pass_rate, labels, stages: [{stage, last}]}.
 * state: running (a stage has the folder), between (a run's next stage is about to begin), finished, failed (it said why, or
 * died), stopped; group: a hash over everything in the configuration that changes results, but the seeds. */
int dash_run_json(const char *id, const char *folder, json_t **out, struct err *e);

struct dash_watch;
struct dash_watch *dash_watch_open(void); /* NULL: no memory */
void dash_watch_close(struct dash_watch *d);
/* Publishes which runs have changed since the last call. */
void dash_watch_look(struct dash_watch *d, struct web *w);

#endif
