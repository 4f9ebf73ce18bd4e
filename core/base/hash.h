/* Hashes: XXH3-128 of bytes, as 32 hexadecimal digits. Fast (not cryptographic):
 * they guard against damage and mix-ups and name versions; they prove nothing
 * against someone who forges on purpose. */
#ifndef TENFOLD_BASE_HASH_H
#define TENFOLD_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { HASH_HEX = 33 }; /* with the final NUL */

struct hash_stream;

void hash_bytes(const void *data, size_t bytes, char hex[HASH_HEX]);
uint64_t hash_u64(const void *data, size_t bytes);
struct hash_stream *hash_stream_open(void);
void hash_stream_add(struct hash_stream *s, const void *data, size_t bytes);
/* Writes the hash of everything added so far and closes the stream. */
void hash_stream_finish(struct hash_stream *s, char hex[HASH_HEX]);

#endif
