/* Families: models in the layouts of Hugging Face's `transformers`, told apart by
 * model_type in config.json. A family is rows in tables: which key of config.json
 * is which field of the shape and what its class default is, and what its
 * tensors are called. There is one model code; a family only sets its options.
 *
 * A key that this program does not know, or whose value it cannot honour, is
 * refused by name when it could change numbers: docs/models.md lists them all.
 * Dropout is never applied; training coefficients of a config are not read (the
 * configuration of the run has them). */
#ifndef TENFOLD_POLICY_FAMILY_H
#define TENFOLD_POLICY_FAMILY_H

#include "policy/shape.h"

/* The parts that parameters play. */
enum role {
	ROLE_EMBED,
	ROLE_POSITIONS,
	ROLE_NORM1,
	ROLE_Q,
	ROLE_K,
	ROLE_V,
	ROLE_QKV,
	ROLE_LATENT_NORM,
	ROLE_WIDEN,
	ROLE_QUERY_DOWN,
	ROLE_QUERY_NORM,
	ROLE_QUERY_UP,
	ROLE_O,
	ROLE_Q_NORM,
	ROLE_K_NORM,
	ROLE_NORM2,
	ROLE_ROUTER,
	ROLE_GATE,
	ROLE_UP,
	ROLE_DOWN,
	ROLE_SHARED_GATE,
	ROLE_SHARED_UP,
	ROLE_SHARED_DOWN,
	ROLE_DENSE_GATE,
	ROLE_DENSE_UP,
	ROLE_DENSE_DOWN,
	ROLE_NORM,
	ROLE_LM_HEAD,
	ROLES
};

/* Module path of a role ("model.layers.%d.self_attn.q_proj"): the first "%d" is the layer, a second one the expert. */
const char *family_name(enum family, enum role);
/* "model.", "transformer." …: what a file saved without heads leaves off. */
const char *family_prefix(enum family);
/* model_type. */
const char *family_type(enum family);

struct json_t;
/* Fills the shape from a parsed config.json; path is for messages. ERR_FORMAT: a key that is missing without a class
 * default, of the wrong type, unknown, or of a value that cannot be honoured. */
int family_read(struct shape *s, const struct json_t *config, const char *path, struct err *e);
/* A config.json that family_read and `transformers` read to the same model. dtype: of the weights beside it. */
struct json_t *family_write(const struct shape *s, const char *dtype);
/* The key of config.json in which two shapes differ, heads and token ids aside; NULL: none. */
const char *family_difference(const struct shape *a, const struct shape *b);

#endif
