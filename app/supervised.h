/* What the stages pretrain and sft share: a supervised training that is recorded,
 * saved and gone on with. */
#ifndef TENFOLD_APP_SUPERVISED_H
#define TENFOLD_APP_SUPERVISED_H

#include "app/session.h"

struct supervised {
	struct session *s;
	struct model *model;
	struct sft *sft;
	const struct config_sft *c;
	const char *name;  /* of the stage; checkpoints are in checkpoints/NAME, metrics are NAME/loss, … */
	double (*heldout)(void *arg); /* held-out loss, nats a token */
	void *arg;
	int64_t skipped;   /* updates left out by this process, as they were not finite */
};

/* Brings the training to its last checkpoint, if there is one. */
int supervised_restore(struct supervised *t, struct err *e);
/* All steps that are left, with metrics, measurements and checkpoints every c->eval_every steps. An update that had to be
 * left out is a row. ERR_STOPPED after a checkpoint when the user asked to stop; ERR_RANGE when the state is one that must
 * be neither saved nor made into a model. */
int supervised_train(struct supervised *t, struct err *e);

#endif
