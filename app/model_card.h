/* Model cards: README.md with the YAML header that model hubs read, beside every model of a run. */
#ifndef TENFOLD_APP_MODEL_CARD_H
#define TENFOLD_APP_MODEL_CARD_H

#include "app/session.h"

struct json_t;
/* Writes (again) the card of each model under models/ of the run's folder, with the figures of `summary`. The session has a
 * backend; without a task it is that of `tenfold pretrain`. */
int model_cards_write(const struct session *s, const struct json_t *summary, struct err *e);
/* The card of the checkpoint `to` that was made of the one in `from` without training: as dtype ("f32", "f16", "bf16"), and with the
 * adapters of a PEFT folder (NULL: none). The card of `from` is kept beside it as README-base.md. */
int model_card_derived(const char *to, const char *from, const char *adapter, const char *dtype, struct err *e);

#endif
