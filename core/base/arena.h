/* Arenas: memory with one life (a run, a step, a message), freed at once.
 *
 * An arena grows by chunks, so pointers stay valid until reset. Allocation of
 * data that does not fit in memory is reported by arena_alloc returning NULL;
 * arena_must aborts instead (for sizes that the configuration has bounded). */
#ifndef TENFOLD_BASE_ARENA_H
#define TENFOLD_BASE_ARENA_H

#include <stddef.h>

struct arena;

/* chunk: bytes asked from the system at a time (0: 1 MiB). Aborts when even the handle cannot be had. */
struct arena *arena_open(size_t chunk);
void arena_close(struct arena *a);
/* 64-byte aligned, not zeroed; NULL when memory is out. */
void *arena_alloc(struct arena *a, size_t bytes);
/* The same, zeroed; aborts when memory is out or count*size overflows. */
void *arena_must(struct arena *a, size_t count, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Forgets everything, keeps the memory for the next use. */
void arena_reset(struct arena *a);
size_t arena_used(const struct arena *a);

#endif
