/* What the files of the configuration share among themselves; everyone else
 * uses config.h. The table is in config_table.c, presets in config_preset.c,
 * the YAML reader in config_read.c, cross-field rules in config_check.c, the
 * writers in config_write.c. */
#ifndef TENFOLD_BASE_CONFIG_INTERNAL_H
#define TENFOLD_BASE_CONFIG_INTERNAL_H

#include "core/base/config.h"

/* Writes `text` into the field of a row and marks it as given; `where` opens the message ("file:line"). quoted: the
 * YAML scalar stood in quotes, so it is text and refused for numbers and booleans. */
int config_assign(struct config *c, const struct config_key *key, const char *text, int quoted, const char *where,
	struct err *e);
/* The known key nearest to a name that is not one; a key with the same last part wins (sft.lr: sft.optim.lr). */
const char *config_nearest(const char *name);
/* 1 when some key starts with "prefix.". */
int config_is_section(const char *prefix);

/* Presets: names in the order of columns, and rows of values as text. */
enum { CONFIG_PRESETS = 3 };
struct config_preset_row {
	const char *key;
	const char *value[CONFIG_PRESETS];
};
const char *config_preset_name(int column);
const struct config_preset_row *config_preset_rows(size_t *count);
/* Fills the keys of all presets that are not given: with the chosen preset's values, or the defaults for none. */
void config_preset_apply(struct config *c);

#endif
