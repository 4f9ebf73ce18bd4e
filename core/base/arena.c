/* Chunked arenas; see arena.h. Chunks are kept in a list and refilled in order after a reset. */
#include "core/base/arena.h"

#include "core/base/err.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 64 };

struct chunk {
	struct chunk *next;
	size_t size, used; /* bytes of data[] */
	unsigned char *data;
};

struct arena {
	size_t chunk_size;
	struct chunk *first, *now;
};

struct arena *arena_open(size_t chunk)
{
	struct arena *a = calloc(1, sizeof *a);
	CHECK(a, "out of memory for an arena handle");
	a->chunk_size = chunk ? chunk : (size_t)1 << 20;
	return a;
}

void arena_close(struct arena *a)
{
	if (!a) return;
	for (struct chunk *c = a->first; c;) {
		struct chunk *next = c->next;
		free(c->data);
		free(c);
		c = next;
	}
	free(a);
}

static struct chunk *chunk_new(size_t size)
{
	struct chunk *c = calloc(1, sizeof *c);
	if (!c) return NULL;
	c->data = aligned_alloc(ARENA_ALIGN, size);
	if (!c->data) {
		free(c);
		return NULL;
	}
	c->size = size;
	return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	if (bytes > SIZE_MAX / 2) return NULL;
	bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	if (bytes == 0) bytes = ARENA_ALIGN;
	while (a->now && a->now->size - a->now->used < bytes && a->now->next) a->now = a->now->next;
	if (!a->now || a->now->size - a->now->used < bytes) {
		size_t size = bytes > a->chunk_size ? bytes : (a->chunk_size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
		struct chunk *c = chunk_new(size);
		if (!c) return NULL;
		if (a->now) {
			c->next = a->now->next;
			a->now->next = c;
		} else {
			a->first = c;
		}
		a->now = c;
	}
	void *p = a->now->data + a->now->used;
	a->now->used += bytes;
	return p;
}

void *arena_must(struct arena *a, size_t count, size_t size)
{
	CHECK(size == 0 || count <= SIZE_MAX / 2 / (size ? size : 1), "%zu items of %zu bytes overflow", count, size);
	void *p = arena_alloc(a, count * size);
	CHECK(p, "out of memory: %zu items of %zu bytes", count, size);
	memset(p, 0, count * size);
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = arena_must(a, n, 1);
	memcpy(p, s, n);
	return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	CHECK(n >= 0, "bad format %s", fmt);
	char *p = arena_must(a, (size_t)n + 1, 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}

void arena_reset(struct arena *a)
{
	for (struct chunk *c = a->first; c; c = c->next) c->used = 0;
	a->now = a->first;
}

size_t arena_used(const struct arena *a)
{
	size_t n = 0;
	for (const struct chunk *c = a->first; c; c = c->next) n += c->used;
	return n;
}
