/* The model that a stage trains: all its weights, or adapters on frozen ones
 * (lora.*), and what it leaves in models/STAGE. */
#ifndef TENFOLD_APP_TRAINED_H
#define TENFOLD_APP_TRAINED_H

#include "app/session.h"

/* Opens the model of a folder as a stage ("sft", "ppo") trains it, and says what learns. *base: with adapters the frozen model,
 * which must outlive *model and is itself the start; else NULL. */
int trained_open(struct model **model, struct model **base, const struct session *s, const char *stage, const char *folder, int heads_kind, struct err *e);
/* models/NAME: the model in the layout of its family, adapters merged; with adapters also models/NAME/adapter, as PEFT has
 * them. base: the folder that it was opened from. */
int trained_export(const struct session *s, const char *name, const struct model *m, const char *base, struct err *e);
/* models/NAME/adapter alone. */
int trained_export_adapter(const struct session *s, const char *name, const struct model *m, const char *base, struct err *e);

#endif
