/* Equal completions once; see distinct.h. */
#include "reward/distinct.h"

#include "core/base/err.h"

#include <stdlib.h>
#include <string.h>

void distinct_close(struct distinct *d)
{
	free(d->size);
	free(d->count);
	free(d->of);
	free(d->tokens);
	*d = (struct distinct){0};
}

static void room_for(struct distinct *d, uint32_t n, size_t tokens)
{
	if (n > d->room) {
		d->room = n;
		d->size = realloc(d->size, n * sizeof *d->size);
		d->count = realloc(d->count, n * sizeof *d->count);
		d->of = realloc(d->of, n * sizeof *d->of);
		CHECK(d->size && d->count && d->of, "out of memory for %u groups", n);
	}
	if (tokens > d->token_room) {
		d->token_room = tokens;
		d->tokens = realloc(d->tokens, tokens * sizeof *d->tokens);
		CHECK(d->tokens, "out of memory for a group of %zu tokens", tokens);
	}
}

/* Packs prompt and first occurrences into d->tokens, their lengths into length; returns how many. */
static uint32_t pack(struct distinct *d, const struct group *g, uint8_t of[GROUP_MAX], uint32_t length[GROUP_MAX])
{
	const int32_t *first[GROUP_MAX], *t = g->tokens + g->prompt_tokens;
	int32_t *to = d->tokens + g->prompt_tokens;
	uint32_t count = 0;
	memcpy(d->tokens, g->tokens, g->prompt_tokens * sizeof *d->tokens);
	for (uint32_t c = 0; c < g->size; t += g->length[c++]) {
		uint32_t i = 0;
		while (i < count && (length[i] != g->length[c] || memcmp(first[i], t, length[i] * sizeof *t))) i++;
		of[c] = (uint8_t)i;
		if (i < count) continue;
		first[count] = t;
		length[count++] = g->length[c];
		memcpy(to, t, g->length[c] * sizeof *t);
		to += g->length[c];
	}
	return count;
}

void distinct_add(struct distinct *d, struct batch *b, const struct group *const *groups, uint32_t n, int merge)
{
	room_for(d, n, 0);
	d->n = n;
	for (uint32_t i = 0; i < n; i++) {
		const struct group *g = groups[i];
		uint32_t length[GROUP_MAX];
		d->size[i] = d->count[i] = g->size;
		if (merge) {
			room_for(d, n, g->prompt_tokens + group_response_tokens(g));
			d->count[i] = pack(d, g, d->of[i], length);
			batch_add(b, d->tokens, g->prompt_tokens, length, d->count[i], BATCH_LAST, -1, 0, 0);
		} else {
			for (uint32_t c = 0; c < g->size; c++) d->of[i][c] = (uint8_t)c;
			batch_add(b, g->tokens, g->prompt_tokens, g->length, g->size, BATCH_LAST, -1, 0, 0);
		}
	}
}

void distinct_expand(const struct distinct *d, float *value)
{
	size_t from = 0, to = 0;
	for (uint32_t i = 0; i < d->n; i++) from += d->count[i], to += d->size[i];
	/* From the end: what is written lies behind all that is still to be read. */
	for (uint32_t i = d->n; i-- > 0;) {
		from -= d->count[i], to -= d->size[i];
		for (uint32_t c = d->size[i]; c-- > 0;) value[to + c] = value[from + d->of[i][c]];
	}
}

void distinct_fold(const struct distinct *d, float *dvalue)
{
	size_t from = 0, to = 0;
	for (uint32_t i = 0; i < d->n; i++) {
		float sum[GROUP_MAX] = {0};
		for (uint32_t c = 0; c < d->size[i]; c++) sum[d->of[i][c]] += dvalue[from + c];
		memcpy(dvalue + to, sum, d->count[i] * sizeof *sum);
		from += d->size[i], to += d->count[i];
	}
}
