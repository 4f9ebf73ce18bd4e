/* A ring of entries with a chained hash table over it; see service_cache.h. */
#include "reward/service_cache.h"

#include <stdlib.h>
#include <string.h>

struct cache {
	uint32_t entries, buckets, next; /* next: the ring's place to be used */
	struct cache_entry *entry;
	uint32_t *bucket; /* index + 1 of the first in the chain */
};

struct cache *cache_open(uint32_t entries)
{
	struct cache *c = calloc(1, sizeof *c);
	if (!c) return NULL;
	c->entries = entries;
	c->buckets = 64;
	while (c->buckets < entries) c->buckets *= 2;
	c->entry = calloc(entries, sizeof c->entry[0]);
	c->bucket = calloc(c->buckets, sizeof c->bucket[0]);
	if (c->entry && c->bucket) return c;
	cache_close(c);
	return NULL;
}

void cache_close(struct cache *c)
{
	if (!c) return;
	for (uint32_t i = 0; c->entry && i < c->entries; i++) free(c->entry[i].answer);
	free(c->entry);
	free(c->bucket);
	free(c);
}

static uint32_t *chain(struct cache *c, uint64_t run, uint64_t step, uint32_t slot)
{
	uint64_t h = (run ^ step * 0x9E3779B97F4A7C15u ^ (uint64_t)slot << 20) * 0xD6E8FEB86659FD93u;
	return &c->bucket[(h >> 32) & (c->buckets - 1)];
}

struct cache_entry *cache_find(struct cache *c, uint64_t run, uint64_t step, uint32_t slot)
{
	for (uint32_t i = *chain(c, run, step, slot); i; i = c->entry[i - 1].next) {
		struct cache_entry *n = &c->entry[i - 1];
		if (n->run == run && n->step == step && n->slot == slot) return n;
	}
	return NULL;
}

void cache_drop(struct cache *c, struct cache_entry *entry)
{
	uint32_t me = (uint32_t)(entry - c->entry) + 1, *at = chain(c, entry->run, entry->step, entry->slot);
	while (*at != me) {
		CHECK(*at, "an entry is not in its chain");
		at = &c->entry[*at - 1].next;
	}
	*at = entry->next;
	free(entry->answer);
	memset(entry, 0, sizeof *entry);
}

struct cache_entry *cache_add(struct cache *c, uint64_t run, uint64_t step, uint32_t slot, uint64_t payload)
{
	struct cache_entry *n = &c->entry[c->next];
	c->next = (c->next + 1) % c->entries;
	if (n->used) cache_drop(c, n);
	uint32_t *first = chain(c, run, step, slot);
	*n = (struct cache_entry){.run = run, .step = step, .payload = payload, .slot = slot, .used = 1, .next = *first};
	*first = (uint32_t)(n - c->entry) + 1;
	return n;
}
