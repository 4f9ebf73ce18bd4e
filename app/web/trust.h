/* How far the people of a labels.db are to be trusted, as of lately: for the choice
 * of the next question and for the owner's page. A thread of its own, with a
 * reading connection of its own, fits reward/crowd.h to the newest prompts that
 * several people answered or whose answer is known (the others say nothing about
 * a person), whenever there are new answers, and takes a twentieth of one core at
 * most. Until the first fit everybody is honest and alike.
 *
 * The fit that counts for a reward model is that of fit-reward, over everything. */
#ifndef TENFOLD_APP_WEB_TRUST_H
#define TENFOLD_APP_WEB_TRUST_H

#include "core/base/err.h"

#include <stdint.h>

struct trust;

struct trust_person {
	double beta, weight; /* inverse temperature, probability of being honest; 1 and 1 of somebody unknown */
	int flagged;
	int known;           /* there was something to judge by */
};

/* path: labels.db, which is there. */
int trust_open(struct trust **out, const char *path, struct err *e);
void trust_close(struct trust *t);
/* Any thread. t NULL is legal. */
struct trust_person trust_of(struct trust *t, int64_t person);

#endif
