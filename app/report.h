/* The report: what a run recorded, as one HTML page that needs nothing else.
 *
 * A page holds the data of one or several runs as JSON, a script that draws it
 * (app/report/report.js with Chart.js), and a style sheet; all embedded in the
 * program. It loads nothing from anywhere, and its content security policy
 * allows only the scripts with this page's nonce. Model output is hostile until
 * proven otherwise: it reaches the page only inside the JSON, where <, > and &
 * are escaped, and is shown through textContent. */
#ifndef TENFOLD_APP_REPORT_H
#define TENFOLD_APP_REPORT_H

#include "core/base/err.h"

#include <jansson.h>

enum { REPORT_RUNS_MAX = 16 };

/* The metrics and evaluations that the report knows by name; others are shown below the main charts. */
#define REPORT_REWARD "objective/scores"   /* metric of each PPO step: mean score */
#define REPORT_PROXY "reward/model"        /* metric: mean score of the learned reward model */
#define REPORT_GOLD "reward/verifier"      /* metric: mean score of the verifier, beside it */
#define REPORT_PASS_RATE "pass_rate"       /* evaluation: held-out pass rate, greedy, with its interval */
#define REPORT_BEST_OF "best_of_pass_rate" /* evaluation: best-of-n from the start, drawn as a level line */
#define REPORT_CONTINUED "continued_sft_pass_rate" /* evaluation: supervised training continued instead of PPO, a level line too */

/* Writes `out` from the runs' folders. */
int report_write(const char *const *runs, int count, const char *out, struct err *e);
/* The reward curves (with a learned reward model proxy, gold and divergence) and the held-out pass rate as a static picture
 * (SVG), for docs/ and the README. */
int report_write_svg(const char *const *runs, int count, const char *out, struct err *e);
/* One run as JSON, as the page's script reads it (warning: the configuration's task.content_warning, when it has one):
 * {name, warning, folder, seed, fingerprint, program, config, summary, stages: [{stage, metrics: {name: [[step…], [value…]]}}],
 *  evals: [{stage, step, name, n, value, low, high}], events: […], events_total, checkpoints: […],
 *  groups: [{stage, step, slot, why, prompt, mean, terms, candidates: […]}],
 *  loads: [{stage, layers, experts, steps: […], counts: [step][layer][expert]}]}.
 * The caller drops the reference. */
int report_load(const char *run, json_t **out, struct err *e);

#endif
