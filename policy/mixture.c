/* Mixtures; see mixture.h. */
#include "policy/mixture.h"

#include "core/base/rng.h"

#include <stdlib.h>
#include <string.h>

/* How many sequences each source has given before sequence `at`. */
struct cursor {
	int64_t at;
	int64_t given[MIXTURE_SOURCES_MAX];
};

enum { MARK_EVERY = 4096 };

struct stream {
	struct mixture_source s;
	uint64_t tokens;
	double upto;       /* share of this source and those before it */
	int64_t epoch;     /* of `order`; -1: none */
	uint32_t *order;   /* documents of the epoch */
	uint64_t *start;   /* [documents+1]: where each begins in the epoch */
};

struct mixture {
	struct stream stream[MIXTURE_SOURCES_MAX];
	int n;
	int64_t length;
	uint64_t seed;
	struct cursor now, mark[2]; /* marks: the two last multiples of MARK_EVERY that were passed */
};

static uint64_t document_tokens(const struct mixture_source *s, uint32_t d)
{
	return s->end[d] - (d ? s->end[d - 1] : 0);
}

int mixture_open(struct mixture **out, const struct mixture_source *sources, int n, int64_t length, uint64_t seed, struct err *e)
{
	double sum = 0, upto = 0;
	*out = NULL;
	if (n < 1 || n > MIXTURE_SOURCES_MAX) return err_set(e, ERR_RANGE, "a mixture has 1 to %d sources, not %d", MIXTURE_SOURCES_MAX, n);
	for (int i = 0; i < n; i++) {
		if (!(sources[i].weight > 0)) return err_set(e, ERR_RANGE, "the source %s has the weight %g; weights are above 0", sources[i].name, sources[i].weight);
		if (!sources[i].documents || !sources[i].end[sources[i].documents - 1]) return err_set(e, ERR_RANGE, "the source %s has no text", sources[i].name);
		sum += sources[i].weight;
	}
	struct mixture *m = calloc(1, sizeof *m);
	CHECK(m, "out of memory for a mixture");
	m->n = n;
	m->length = length;
	m->seed = seed;
	for (int i = 0; i < n; i++) {
		struct stream *t = &m->stream[i];
		t->s = sources[i];
		t->tokens = sources[i].end[sources[i].documents - 1];
		t->upto = i + 1 == n ? 2 : (upto += sources[i].weight / sum);
		t->epoch = -1;
		t->order = malloc(sources[i].documents * sizeof *t->order);
		t->start = malloc(((size_t)sources[i].documents + 1) * sizeof *t->start);
		CHECK(t->order && t->start, "out of memory for the source %s", sources[i].name);
	}
	*out = m;
	return 0;
}

void mixture_close(struct mixture *m)
{
	if (!m) return;
	for (int i = 0; i < m->n; i++) {
		free(m->stream[i].order);
		free(m->stream[i].start);
	}
	free(m);
}

/* ---- which source ---- */

static int pick(const struct mixture *m, int64_t i)
{
	double u = (double)rng_uniform((struct rng_key){m->seed, RNG_MIXTURE}, 0, (uint64_t)i, 0);
	int k = 0;
	while (u >= m->stream[k].upto) k++;
	return k;
}

/* Brings the cursor to sequence i. */
static void seek(struct mixture *m, int64_t i)
{
	if (i < m->now.at) {
		const struct cursor *from = NULL;
		for (int k = 0; k < 2; k++)
			if (m->mark[k].at <= i && (!from || m->mark[k].at > from->at)) from = &m->mark[k];
		if (from) m->now = *from;
		else memset(&m->now, 0, sizeof m->now);
	}
	while (m->now.at < i) {
		if (m->now.at % MARK_EVERY == 0) m->mark[m->now.at / MARK_EVERY % 2] = m->now;
		m->now.given[pick(m, m->now.at)]++;
		m->now.at++;
	}
}

/* ---- what is in it ---- */

static void order_epoch(struct mixture *m, int source, int64_t epoch)
{
	struct stream *t = &m->stream[source];
	if (t->epoch == epoch) return;
	rng_permutation((struct rng_key){m->seed, RNG_DOCUMENTS}, (uint32_t)epoch, (uint32_t)source, t->s.documents, t->order);
	t->start[0] = 0;
	for (uint32_t d = 0; d < t->s.documents; d++) t->start[d + 1] = t->start[d] + document_tokens(&t->s, t->order[d]);
	t->epoch = epoch;
}

/* Tokens [from, from + n) of a source's endless text. */
static void read_stream(struct mixture *m, int source, uint64_t from, uint64_t n, int32_t *out)
{
	const struct stream *t = &m->stream[source];
	while (n) {
		order_epoch(m, source, (int64_t)(from / t->tokens));
		uint64_t at = from % t->tokens;
		uint32_t low = 0, high = t->s.documents; /* the document with start[low] <= at < start[low+1] */
		while (high - low > 1) {
			uint32_t mid = low + (high - low) / 2;
			if (t->start[mid] <= at) low = mid;
			else high = mid;
		}
		uint32_t d = t->order[low];
		uint64_t left = t->start[low + 1] - at, take = left < n ? left : n;
		memcpy(out, t->s.tokens + t->s.end[d] - left, take * sizeof *out);
		out += take;
		from += take;
		n -= take;
	}
}

int mixture_sequence(struct mixture *m, int64_t i, int32_t *tokens)
{
	CHECK(i >= 0, "sequence %lld of a mixture", (long long)i);
	seek(m, i);
	int source = pick(m, i);
	read_stream(m, source, (uint64_t)m->now.given[source] * (uint64_t)m->length, (uint64_t)m->length + 1, tokens);
	return source;
}

void mixture_shares(struct mixture *m, int64_t i, int64_t *sequences, double *epochs)
{
	seek(m, i);
	for (int k = 0; k < m->n; k++) {
		sequences[k] = m->now.given[k];
		epochs[k] = (double)m->now.given[k] * (double)m->length / (double)m->stream[k].tokens;
	}
}
