/* Which texts were there before, and on which side: an open-addressing table of
 * 64-bit hashes with the first place on each side. Two different texts have one
 * hash with a chance of 2^-64 for each pair, so the counts are exact for any
 * data set that fits a disk. */
#include "store/data_internal.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	uint64_t hash; /* 0: free */
	struct data_place place[2];
	uint32_t times;
	uint8_t sides; /* bit 0: train, bit 1: held out */
};

struct data_seen {
	struct entry *entry;
	size_t room, used; /* room: a power of two */
};

struct data_seen *data_seen_open(void)
{
	struct data_seen *s = calloc(1, sizeof *s);
	CHECK(s, "out of memory for a table of hashes");
	s->room = 1024;
	s->entry = calloc(s->room, sizeof *s->entry);
	CHECK(s->entry, "out of memory for a table of hashes");
	return s;
}

void data_seen_close(struct data_seen *s)
{
	if (!s) return;
	free(s->entry);
	free(s);
}

static struct entry *find(const struct data_seen *s, uint64_t hash)
{
	size_t i = hash & (s->room - 1);
	while (s->entry[i].hash && s->entry[i].hash != hash) i = (i + 1) & (s->room - 1);
	return &s->entry[i];
}

static void grow(struct data_seen *s)
{
	struct data_seen more = {.room = 2 * s->room, .used = s->used};
	more.entry = calloc(more.room, sizeof *more.entry);
	CHECK(more.entry, "out of memory for a table of %zu hashes", more.room);
	for (size_t i = 0; i < s->room; i++)
		if (s->entry[i].hash) *find(&more, s->entry[i].hash) = s->entry[i];
	free(s->entry);
	*s = more;
}

uint32_t data_seen_add(struct data_seen *s, uint64_t hash, enum data_side side, struct data_place place)
{
	if (hash == 0) hash = 1;
	if (2 * (s->used + 1) > s->room) grow(s);
	struct entry *x = find(s, hash);
	if (!x->hash) {
		x->hash = hash;
		s->used++;
	}
	if (!(x->sides & 1 << side)) x->place[side] = place;
	x->sides |= (uint8_t)(1 << side);
	return x->times == UINT32_MAX ? x->times : x->times++;
}

void data_seen_count(const struct data_seen *s, uint64_t *all, uint64_t *repeated, uint64_t *both)
{
	*all = s->used;
	*repeated = *both = 0;
	for (size_t i = 0; i < s->room; i++) {
		*repeated += s->entry[i].times > 1;
		*both += s->entry[i].sides == 3;
	}
}

static int after(struct data_place a, struct data_place b)
{
	return a.file != b.file ? a.file > b.file : a.line > b.line;
}

size_t data_seen_leaks(const struct data_seen *s, struct data_leak *out, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < s->room; i++) {
		if (s->entry[i].sides != 3) continue;
		struct data_leak x = {s->entry[i].place[DATA_TRAIN], s->entry[i].place[DATA_HELDOUT]};
		size_t k = count < n ? count++ : n;
		if (k == n && !after(out[n - 1].heldout, x.heldout)) continue;
		if (k == n) k--;
		for (; k > 0 && after(out[k - 1].heldout, x.heldout); k--) out[k] = out[k - 1];
		out[k] = x;
	}
	return count;
}
