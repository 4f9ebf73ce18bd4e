/* Distances between held-out and training tasks; see stack_task.h.
 *
 * Edit distance in words by the bit-parallel algorithm of Myers (J. ACM 1999) in
 * the form of Hyyrö (2003): the held-out text is one 64-bit column, so a
 * training text costs one short pass over its words, and all pairs of the
 * default set take well under a second. Texts of more than 64 words do not
 * occur. */
#include "reward/stack_set.h"

#include <stdlib.h>
#include <string.h>

enum { NEAR_WORDS = 64, NEAR_SYMBOLS = 1024 };

/* Words numbered in the order seen. */
struct lexicon {
	uint32_t count;
	uint64_t hash[NEAR_SYMBOLS];
};

struct sentence {
	uint32_t n;
	uint16_t word[NEAR_WORDS];
};

static uint16_t lexicon_word(struct lexicon *l, const char *w, size_t n)
{
	uint64_t h = hash_u64(w, n);
	uint32_t i = 0;
	while (i < l->count && l->hash[i] != h) i++;
	CHECK(i < NEAR_SYMBOLS, "the stack task has more than %d words", NEAR_SYMBOLS);
	if (i == l->count) l->hash[l->count++] = h;
	return (uint16_t)i;
}

/* Words end at spaces and line ends; commas, semicolons and colons are words of their own. */
static void sentence_read(struct sentence *s, struct lexicon *l, const char *text)
{
	s->n = 0;
	while (*text) {
		size_t n = strcspn(text, " \n,;:");
		if (!n && *text != ' ' && *text != '\n') n = 1;
		CHECK(s->n < NEAR_WORDS, "a text of the stack task has more than %d words", NEAR_WORDS);
		if (n) s->word[s->n++] = lexicon_word(l, text, n);
		text += n ? n : 1;
	}
}

/* match[w]: the places of word w in the pattern of m words. */
static uint32_t edit_distance(const uint64_t *match, uint32_t m, const struct sentence *text)
{
	uint64_t up = ~0ull, down = 0, last = 1ull << (m - 1);
	uint32_t score = m;
	for (uint32_t j = 0; j < text->n; j++) {
		uint64_t eq = match[text->word[j]];
		uint64_t zero = (((eq & up) + up) ^ up) | eq | down;
		uint64_t right = down | ~(zero | up), left = up & zero;
		score += (right & last) != 0;
		score -= (left & last) != 0;
		right = right << 1 | 1;
		left <<= 1;
		up = left | ~(zero | right);
		down = right & zero;
	}
	return score;
}

/* The nearest of n sentences (the first of several) and its distance. */
static uint32_t nearest(const struct sentence *to, const struct sentence *all, uint32_t n, uint64_t *match, uint32_t *distance)
{
	uint32_t best = 0;
	*distance = UINT32_MAX;
	for (uint32_t i = 0; i < to->n; i++) match[to->word[i]] |= 1ull << i;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t d = edit_distance(match, to->n, &all[i]);
		if (d < *distance) *distance = d, best = i;
	}
	for (uint32_t i = 0; i < to->n; i++) match[to->word[i]] = 0;
	return best;
}

void stack_task_set_nearness(const struct stack_task_set *s, struct stack_nearness *out)
{
	uint32_t n = s->count[STACK_TRAIN], m = s->count[STACK_HELDOUT];
	struct arena *a = arena_open(0);
	struct lexicon *words = arena_must(a, 1, sizeof *words);
	struct sentence *prompts = arena_must(a, n, sizeof *prompts), *programs = arena_must(a, n, sizeof *programs);
	uint64_t *match = arena_must(a, NEAR_SYMBOLS, sizeof *match);
	memset(out, 0, sizeof *out);
	for (uint32_t i = 0; i < n; i++) {
		sentence_read(&prompts[i], words, s->task[STACK_TRAIN][i].prompt);
		sentence_read(&programs[i], words, s->task[STACK_TRAIN][i].program);
	}
	for (uint32_t i = 0; i < m; i++) {
		const struct stack_task *t = &s->task[STACK_HELDOUT][i];
		struct sentence x;
		uint32_t d;
		sentence_read(&x, words, t->program);
		nearest(&x, programs, n, match, &d);
		out->program[d < STACK_NEAR_BINS ? d : STACK_NEAR_BINS - 1]++;
		out->program_mean += d;
		sentence_read(&x, words, t->prompt);
		float share = stack_verify(t, s->task[STACK_TRAIN][nearest(&x, prompts, n, match, &d)].program);
		out->prompt_mean += d;
		out->copy_pass += share >= 1.0f;
		out->copy_reward += share;
	}
	if (m) out->program_mean /= m, out->prompt_mean /= m, out->copy_pass /= m, out->copy_reward /= m;
	arena_close(a);
}
