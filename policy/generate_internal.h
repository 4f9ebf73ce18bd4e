/* The inside of the generator: groups in flight, pages, what a pass works in.
 * Internal to policy/. */
#ifndef TENFOLD_POLICY_GENERATE_INTERNAL_H
#define TENFOLD_POLICY_GENERATE_INTERNAL_H

#include "policy/generate.h"

enum { GENERATE_BUCKETS = 64 };

struct candidate {
	int32_t *tokens;    /* [max_new] */
	int32_t *pages;     /* [stride]: page table, the prompt's whole pages first */
	int64_t held;       /* pages in the table */
	uint32_t length;
	int done;
	uint8_t finish;
};

struct flight { /* one group in generation */
	const struct generate_request *request; /* NULL: free */
	int prefilled;
	int32_t *pages;     /* [stride] the prompt's own */
	int64_t held;
	struct candidate *candidate;
};

/* A decoding step of so many rows, recorded. */
struct bucket {
	int64_t rows;
	int ran;                     /* once, kernel by kernel */
	struct backend_graph *graph; /* NULL: not yet */
};

/* What the backend keeps of the groups in flight, so that the host need not see it token by token. A place is
 * ((flight · layers + layer) · completions + completion) · max_new + position, the layer being 0 for a log-probability;
 * behind them all are places for the rows that only fill up a bucket. */
struct kept {
	float *logprob;  /* [places] */
	int32_t *expert; /* [places + layers, K], of layer l from place l·completions·max_new on */
	int64_t places, layer_places, flight_places, layers;
};

struct generator {
	const struct model *m;
	struct generate_options o;
	struct activations *acts;
	struct batch batch;
	struct kv_cache cache;
	int64_t stride;
	int32_t *free_pages;
	int64_t free_count;
	int32_t first_pad; /* page of rows that fill up a bucket; behind the pool */
	struct flight *flights;
	struct arena *arena;     /* of the flights' arrays */
	struct arena *scratch;   /* of a finished group */
	float *logits;           /* backend, [batch_groups*completions, V] */
	float *uniform, *logprob; /* backend, [batch_groups*completions] */
	int32_t *token;
	struct kept kept;
	int32_t *draw, *host_draw; /* backend, host, [5*batch_groups*completions]: counters [outs, 4], then places [outs] */
	int32_t *host_token;
	struct candidate **out_of; /* candidate of each out of the pass */
	struct flight **out_flight;
	int64_t outs;            /* of the pass that are candidates' */
	struct bucket bucket[GENERATE_BUCKETS];
	uint64_t tokens, passes;
};

#endif
