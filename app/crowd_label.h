/* A simulated crowd labels what a run has generated: `tenfold crowd label`.
 * It asks as a campaign would (pick.h) and writes to a labels.db of its own or an
 * existing one, so that what follows on labels can be tried and tested without
 * people. */
#ifndef TENFOLD_APP_CROWD_LABEL_H
#define TENFOLD_APP_CROWD_LABEL_H

#include "core/base/err.h"

#include <stdint.h>

struct crowd_label_options {
	const char *labels;       /* labels.db, made when missing */
	const char *run;          /* folder of a run with groups of the stage collect or ppo */
	const char *campaign;     /* name; made when missing */
	const char *truth;        /* verifier: its recorded score; shorter: the share of the longest one's tokens that a candidate does without */
	uint32_t first, prompts;  /* groups of the run: skipped, labelled */
	uint32_t people, adversaries; /* the last ones answer the opposite */
	double overlap;           /* chance of a group to go to everybody */
	double temperature;       /* log odds of preferring a candidate of truth 1 to one of truth 0 */
	uint64_t seed;
};
/* *labels: given. */
int crowd_label(const struct crowd_label_options *o, int64_t *labels, struct err *e);

#endif
