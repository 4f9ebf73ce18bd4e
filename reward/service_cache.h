/* Inside the service: what was asked and answered, by id, the oldest forgotten
 * first. An entry is made when a group is first heard of, and gets its answer
 * when the batch is scored. */
#ifndef TENFOLD_REWARD_SERVICE_CACHE_H
#define TENFOLD_REWARD_SERVICE_CACHE_H

#include "core/wire/message.h"

struct cache;

struct cache_entry {
	uint64_t run, step, payload; /* hashes of run id and request */
	uint32_t slot;
	int used;
	unsigned char *answer; /* encoded; NULL until scored */
	size_t bytes;
	uint32_t next; /* in its bucket's chain, index + 1 */
};

/* NULL when memory is out. */
struct cache *cache_open(uint32_t entries);
void cache_close(struct cache *c);
struct cache_entry *cache_find(struct cache *c, uint64_t run, uint64_t step, uint32_t slot);
/* A new entry, in the place of the oldest when all are used. */
struct cache_entry *cache_add(struct cache *c, uint64_t run, uint64_t step, uint32_t slot, uint64_t payload);
/* Forgets an entry that could not be answered. */
void cache_drop(struct cache *c, struct cache_entry *entry);

#endif
