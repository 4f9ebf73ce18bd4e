/* Generation: continuous batching over groups of completions.
 *
 * A prompt's keys and values are computed once and shared by its completions;
 * completions leave the batch as they finish and waiting prompts enter in their
 * order when there is room. Because kernels are batch-invariant and random
 * numbers are keyed by (seed, purpose, step, slot, candidate, position), a group
 * comes out the same whoever generates it, with whatever neighbours.
 *
 * Log-probabilities are those of the distribution sampled from (temperature,
 * top-k, top-p and min_new applied). */
#ifndef TENFOLD_POLICY_GENERATE_H
#define TENFOLD_POLICY_GENERATE_H

#include "core/base/arena.h"
#include "core/base/group.h"
#include "core/base/rng.h"
#include "policy/model.h"
#include "policy/tokenizer.h"

#include <stdatomic.h>

struct generate_options {
	int completions;         /* a prompt, 1..GROUP_MAX */
	int max_new, min_new;    /* response tokens */
	int max_prompt;          /* tokens of the longest prompt */
	int batch_groups;        /* groups in flight */
	struct sampling sampling; /* temperature 0: greedy */
	int32_t end_token;
	const char *stop;        /* ends a completion when its text contains it; NULL or "": none */
	uint64_t seed;
	enum rng_purpose purpose;
	struct tokenizer *tokenizer; /* to read stop texts and to fill group.text */
};

struct generate_request {
	uint64_t step;
	uint32_t slot, prompt;
	const int32_t *tokens; /* [prompt_tokens] */
	uint32_t prompt_tokens;
	const char *prompt_text;
};

/* Called when a group is finished, in order of finishing; g lives until the call returns.
 * A negative return ends the generation with that code. */
typedef int generate_sink(void *arg, const struct group *g, struct err *e);

/* Bytes that a generator takes from a backend. */
struct generate_bytes {
	size_t activations, cache; /* what passes work in, logits included; keys and values */
};
void generate_plan(const struct shape *, struct backend *, const struct generate_options *, struct generate_bytes *out);

struct generator;
int generator_open(struct generator **out, const struct model *m, const struct generate_options *, struct err *e);
void generator_close(struct generator *);
/* stop may be NULL; when it becomes non-zero the call returns ERR_STOPPED. */
int generator_run(struct generator *, const struct generate_request *requests, uint32_t n, uint64_t policy_version, generate_sink *, void *arg,
		  atomic_int *stop, struct err *e);
/* Tokens generated and forward passes so far (for rates). */
void generator_counts(const struct generator *, uint64_t *tokens, uint64_t *passes);

#endif
