/* A weighted mixture of tokenised text sources as an endless list of sequences.
 *
 * Sequence i is a pure function of (seed, sources, i): a counter-based random
 * number chooses its source by weight; within the source, documents come epoch
 * after epoch, each epoch in an order of its own, one behind the other without
 * gaps, and are cut into sequences. So the order is the same whoever asks, from
 * wherever one begins, and a resumed training needs no state but its step.
 *
 * A sequence of length T has T + 1 tokens: its last is the first of the source's
 * next one, so that every token but a source's very first is predicted once an
 * epoch. Documents do not hide each other: what stands before in the sequence is
 * seen, as is usual in pretraining. */
#ifndef TENFOLD_POLICY_MIXTURE_H
#define TENFOLD_POLICY_MIXTURE_H

#include "core/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct mixture_source {
	const char *name;
	double weight;         /* > 0; shares are weights divided by their sum */
	const int32_t *tokens; /* all documents one behind the other, each with its end token */
	const uint64_t *end;   /* [documents]: where each ends in tokens; none is empty */
	uint32_t documents;
};

enum { MIXTURE_SOURCES_MAX = 64 };

struct mixture;

/* The sources' arrays are kept, not copied. ERR_RANGE for weights or sources that are empty. */
int mixture_open(struct mixture **out, const struct mixture_source *sources, int n, int64_t length, uint64_t seed, struct err *e);
void mixture_close(struct mixture *m);
/* Writes the length + 1 tokens of sequence i >= 0; returns its source. Any order of calls gives the same; rising i is fast. */
int mixture_sequence(struct mixture *m, int64_t i, int32_t *tokens);
/* Sequences of each source among the first i, and how often each source's text has been gone through by then. */
void mixture_shares(struct mixture *m, int64_t i, int64_t *sequences, double *epochs);

#endif
