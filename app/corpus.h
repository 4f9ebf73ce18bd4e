/* The texts of a pretraining: read from the sources of pretrain.sources, divided
 * into training and held-out documents, tokenised. */
#ifndef TENFOLD_APP_CORPUS_H
#define TENFOLD_APP_CORPUS_H

#include "core/base/config.h"
#include "policy/mixture.h"
#include "policy/sft.h"
#include "policy/tokenizer.h"

struct corpus;

/* The tokenizer is that of tokenizer.path, or trained on the training documents. A document is its tokens, with the special
 * tokens that the tokenizer puts in front of a text, and the end token. Bad records and sources without text are errors. */
int corpus_open(struct corpus **out, const struct config *c, struct err *e);
void corpus_close(struct corpus *k);
struct tokenizer *corpus_tokenizer(struct corpus *k);
/* Training documents, as a mixture takes them; *n sources. */
const struct mixture_source *corpus_sources(const struct corpus *k, int *n);
/* Held-out documents of a source, cut into sequences of pretrain.sequence: as many as pretrain.eval_sequences allows each
 * source, in order; *count may be 0. */
const struct sft_example *corpus_heldout(const struct corpus *k, int source, uint32_t *count);

#endif
