/* A live run (reward.live): before step V·reward.live_every is given out, the
 * learner fits the reward model anew to the human labels so far, from the same
 * start and seeds as the stage fit-reward, and keeps it as
 * models/reward-live/0000000V. The last label event, the labels' digest and the
 * model's version are an event row of that step, recorded before anything is
 * scored by it: a resumed or replayed run uses the recorded event, however much
 * was labelled since, and so comes to the same bits or stops with the difference. */
#ifndef TENFOLD_APP_LIVE_H
#define TENFOLD_APP_LIVE_H

#include "app/session.h"

struct live;

int live_open(struct live **out, struct session *s, struct err *e);
void live_close(struct live *l);
/* Makes sure that the version of this step is there. */
int live_open_step(struct live *l, int64_t step, struct err *e);

#endif
