/* The account of a device's memory; see account.h. Pieces are few (some hundred
 * arrays a model), so they are looked for one by one, the newest first. */
#include "core/tensor/account.h"

#include "core/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB(bytes) ((double)(bytes) / 1048576.0)

void account_purpose(struct account *a, const char *what)
{
	if (a->purposes == 0) a->purpose[a->purposes++] = "other";
	for (a->now = 0; a->now < a->purposes; a->now++)
		if (!strcmp(a->purpose[a->now], what)) return;
	if (a->purposes == ACCOUNT_PURPOSES) a->now = 0;
	else a->purpose[a->purposes++] = what;
}

void account_take(struct account *a, void *p, size_t bytes)
{
	if (a->purposes == 0) account_purpose(a, "other");
	if (a->pieces == a->room) {
		a->room = a->room ? 2 * a->room : 64;
		a->piece = realloc(a->piece, a->room * sizeof *a->piece);
		CHECK(a->piece, "out of memory for the account of device memory");
	}
	a->piece[a->pieces++] = (struct account_piece){p, bytes, a->now};
	a->bytes[a->now] += bytes;
}

void account_give(struct account *a, void *p)
{
	for (size_t i = a->pieces; i-- > 0;)
		if (a->piece[i].p == p) {
			a->bytes[a->piece[i].purpose] -= a->piece[i].bytes;
			a->piece[i] = a->piece[--a->pieces];
			return;
		}
}

void account_short(struct account *a, size_t bytes, size_t left, size_t total)
{
	size_t at = (size_t)snprintf(a->shortage, sizeof a->shortage, "\n  %10.1f MiB wanted for %s\n  %10.1f MiB free of %.1f", MIB(bytes),
				     a->purposes ? a->purpose[a->now] : "other", MIB(left), MIB(total));
	for (int i = 0; i < a->purposes && at < sizeof a->shortage; i++)
		if (a->bytes[i]) at += (size_t)snprintf(a->shortage + at, sizeof a->shortage - at, "\n  %10.1f MiB %s", MIB(a->bytes[i]), a->purpose[i]);
}

void account_close(struct account *a)
{
	free(a->piece);
}
