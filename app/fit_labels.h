/* Human labels for a reward model, as the stage fit-reward and a live run take
 * them: the file that fit.labels names, read up to an event that the run records
 * with the file's digest, so that whatever is done again is done with the same
 * labels. */
#ifndef TENFOLD_APP_FIT_LABELS_H
#define TENFOLD_APP_FIT_LABELS_H

#include "app/session.h"
#include "reward/label_set.h"
#include "reward/reward_model.h"

struct json_t;

/* A recorded use of the labels. */
struct labels_used {
	int64_t event;             /* 0: not recorded yet */
	char digest[HASH_HEX];
	char version[GROUP_VERSION]; /* of the model that came of it; "" where it is not part of the record */
};
/* The event row (step, kind, subject); stage: of the session, whose rows are written. */
int labels_used_get(struct session *s, const char *stage, uint64_t step, const char *kind, int64_t subject, struct labels_used *u, struct err *e);
int labels_used_put(struct session *s, uint64_t step, const char *kind, int64_t subject, const struct labels_used *u, struct err *e);

/* The labels up to used->event (0: fit.labels_event, or the newest), which becomes set->event; ERR_MISMATCH when used has a
 * digest and the file now has another. m: the model that is to read them. */
int fit_labels_read(struct label_set *set, struct session *s, const struct reward_model *m, const struct labels_used *used, struct arena *arena,
		    struct err *e);
/* What the groups of a prompt are for, whatever order they came in; SELECTING: they choose the best step. */
enum fit_side { FITTED, HELD_OUT, SELECTING, SIDES };
enum fit_side fit_side_of(const struct session *s, uint32_t prompt);
/* Accuracy of the model on the answers about the held-out groups, arm by arm: as evaluations of this step, as a member of
 * summary.json, as a line of text. */
struct fit_labels_report {
	struct label_accuracy uniform, gain, quads;
};
void fit_labels_measure(struct fit_labels_report *r, const struct label_set *set, struct reward_model *m, const struct ranked_group *heldout, uint32_t n);
int fit_labels_put(struct session *s, uint64_t step, const struct fit_labels_report *r, struct err *e);
void fit_labels_text(const struct fit_labels_report *r, char *out, size_t bytes);
struct json_t *fit_labels_json(const struct label_set *set, const struct fit_labels_report *r);

#endif
