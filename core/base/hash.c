/* XXH3-128; see hash.h. */
#include "core/base/hash.h"

#include "core/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

static void hash_format(XXH128_hash_t h, char hex[HASH_HEX])
{
	snprintf(hex, HASH_HEX, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

void hash_bytes(const void *data, size_t bytes, char hex[HASH_HEX])
{
	hash_format(XXH3_128bits(data, bytes), hex);
}

uint64_t hash_u64(const void *data, size_t bytes)
{
	return XXH3_64bits(data, bytes);
}

struct hash_stream *hash_stream_open(void)
{
	XXH3_state_t *s = XXH3_createState();
	CHECK(s, "out of memory for a hash state");
	XXH3_128bits_reset(s);
	return (struct hash_stream *)s;
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t bytes)
{
	XXH3_128bits_update((XXH3_state_t *)s, data, bytes);
}

void hash_stream_finish(struct hash_stream *s, char hex[HASH_HEX])
{
	hash_format(XXH3_128bits_digest((XXH3_state_t *)s), hex);
	XXH3_freeState((XXH3_state_t *)s);
}
