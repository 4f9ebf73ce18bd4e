/* Who has how much of a device's memory: what an allocation that fails can tell. */
#ifndef TENFOLD_TENSOR_ACCOUNT_H
#define TENFOLD_TENSOR_ACCOUNT_H

#include <stddef.h>

enum { ACCOUNT_PURPOSES = 12 };

struct account_piece {
	void *p;
	size_t bytes;
	int purpose;
};

struct account {
	const char *purpose[ACCOUNT_PURPOSES]; /* string constants; [0]: everything else */
	size_t bytes[ACCOUNT_PURPOSES];
	int purposes, now;                     /* now: the purpose of what comes next */
	struct account_piece *piece;
	size_t pieces, room;
	char shortage[768];                    /* the table when memory was last missing; "" before */
};

/* What the next allocations are for; a string constant. More purposes than there is room for count as "other". */
void account_purpose(struct account *, const char *what);
void account_take(struct account *, void *p, size_t bytes);
void account_give(struct account *, void *p);
/* An allocation of `bytes` failed with `left` of `total` bytes left: writes the table. */
void account_short(struct account *, size_t bytes, size_t left, size_t total);
void account_close(struct account *);

#endif
