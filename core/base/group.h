/* The group: one prompt and its completions, the unit that is generated, sent,
 * scored, logged, ranked and learned from together.
 *
 * Tokens are one packed sequence [prompt][c0][c1]…[cG-1] without padding; a
 * completion attends to the prompt and to itself, its positions go on from the
 * prompt's end. Per-token results (log-probabilities, experts) exist for the
 * response tokens only and are packed the same way, starting at c0.
 *
 * The struct owns nothing: its pointers live in whatever arena or buffer the
 * maker chose, and the struct may be copied freely while that lives. */
#ifndef TENFOLD_BASE_GROUP_H
#define TENFOLD_BASE_GROUP_H

#include <stdint.h>

enum { GROUP_MAX = 64, GROUP_TERMS_MAX = 16, GROUP_TERM_NAME = 32, GROUP_VERSION = 40 };

enum group_finish { GROUP_FINISH_END = 0, GROUP_FINISH_STOP = 1, GROUP_FINISH_LENGTH = 2 };

struct group {
	uint64_t step;           /* learner step it was generated for, from 0 */
	uint32_t slot;           /* place in the step's batch: with step, the id of the group */
	uint32_t prompt;         /* index of the prompt in the run's prompt set */
	uint64_t policy_version; /* version of the weights that generated it */
	uint32_t size;           /* G, 2..GROUP_MAX */
	uint32_t prompt_tokens;  /* P >= 1 */
	uint32_t length[GROUP_MAX]; /* R_i: response tokens of completion i, the end token included when it came */
	uint8_t finish[GROUP_MAX];  /* enum group_finish */
	const int32_t *tokens;      /* [T], T = P + sum R_i */
	const float *logprobs;      /* [T-P] of the distribution sampled from (temperature, top-k, top-p applied) */
	uint32_t moe_layers, experts_per_token;
	const uint16_t *experts;    /* [T-P, moe_layers, experts_per_token]: chosen at the row that predicted the token; NULL: none */
	const char *prompt_text;          /* NUL-terminated UTF-8 */
	const char *text[GROUP_MAX];      /* decoded completions, end token and stop text removed, NUL-terminated */
	/* set once scored */
	uint32_t terms;                                   /* named reward terms, 0 before scoring */
	char term_name[GROUP_TERMS_MAX][GROUP_TERM_NAME];
	const float *scores;                              /* [terms, G], raw (before weights) */
	const float *reward;                              /* [G]: weighted sum */
	char scorer_version[GROUP_VERSION];               /* names what gave the scores */
};

static inline uint32_t group_response_tokens(const struct group *g)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < g->size; i++) n += g->length[i];
	return n;
}

#endif
