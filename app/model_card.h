/* Model cards: README.md with the YAML header that model hubs read, beside every model of a run. */
#ifndef TENFOLD_APP_MODEL_CARD_H
#define TENFOLD_APP_MODEL_CARD_H

#include "app/session.h"

struct json_t;
/* Writes (again) the card of each model under models/ of the run's folder, with the figures of `summary`. The session has a
 * task and a backend. */
int model_cards_write(const struct session *s, const struct json_t *summary, struct err *e);

#endif
