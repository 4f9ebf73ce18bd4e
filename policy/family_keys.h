/* The tables behind family_read and family_write; internal to policy/family*.c. */
#ifndef TENFOLD_POLICY_FAMILY_KEYS_H
#define TENFOLD_POLICY_FAMILY_KEYS_H

#include "policy/family.h"

enum key_kind {
	KEY_INT,  /* to an int64_t */
	KEY_OPTIONAL, /* the same; 0 and null are the same and mean none, or what follows from others */
	KEY_FLAG, /* to an int */
	KEY_REAL, /* to a double */
	KEY_ID,   /* a token id to an int64_t; null: -1; of a list the first */
	KEY_ACTIVATION,
	KEY_MUST, /* no field: every value but the standard is refused; null is the standard */
};

struct key {
	const char *name, *alias; /* alias: another spelling, or NULL */
	enum key_kind kind;
	size_t offset;            /* in struct shape */
	const char *standard;     /* class default as JSON; NULL: there is none, the key must be there */
};

struct family_row {
	const char *type;          /* model_type */
	const char *lm, *classify; /* architectures with each head */
	const struct key *keys;
	int count;
	const char *const *ignored; /* further keys that change nothing here; NULL-terminated, may be NULL */
	double rope_theta;          /* class default; 0: the family does not rotate */
	double rotary;              /* default share of a head that is rotated */
	struct shape fixed;         /* options that all members have */
	const char *theta_key, *rotary_key; /* spellings of the family for writing; rotary_key NULL: always all */
};

extern const struct family_row family_rows[FAMILIES];

#endif
