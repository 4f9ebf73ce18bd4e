/* What a generator takes: all of it when it is opened, nothing afterwards. */
#include "policy/generate_internal.h"

#include <stdlib.h>
#include <string.h>

static int64_t stride_of(const struct generate_options *o)
{
	return (o->max_prompt + o->max_new + KV_PAGE - 1) / KV_PAGE + 1;
}

static int64_t sequences(const struct generate_options *o)
{
	return (int64_t)o->batch_groups * o->completions;
}

/* A prompt's, and of each completion those from the page on in which its prompt ends, at worst at its last position. */
static int64_t pages_of(const struct generate_options *o)
{
	int64_t own = (o->max_new + 2 * (KV_PAGE - 1)) / KV_PAGE;
	return (int64_t)o->batch_groups * ((o->max_prompt + KV_PAGE - 1) / KV_PAGE + o->completions * own);
}

/* A row that fills up a bucket has a slot of its own. */
static int64_t pad_pages(const struct backend *b, const struct generate_options *o)
{
	return backend_has_graphs(b) ? (sequences(o) + KV_PAGE - 1) / KV_PAGE : 0;
}

/* The largest pass: prompts that enter, or completions under way. */
static struct batch_sizes largest_pass(const struct generate_options *o)
{
	int64_t group = o->max_prompt > o->completions ? o->max_prompt : o->completions, rows = o->batch_groups * group;
	return (struct batch_sizes){.rows = rows, .seqs = sequences(o), .stride = stride_of(o), .writes = rows + sequences(o) * (KV_PAGE - 1),
				    .outs = sequences(o), .sets = 1};
}

static int truncates(const struct generate_options *o)
{
	return o->sampling.top_k > 0 || o->sampling.top_p < 1;
}

static struct kept kept_of(const struct shape *s, const struct generate_options *o)
{
	struct kept k = {.layers = shape_moe_layers(s) > 0 ? shape_moe_layers(s) : 1, .layer_places = (int64_t)o->completions * o->max_new};
	k.flight_places = k.layers * k.layer_places;
	k.places = o->batch_groups * k.flight_places + sequences(o);
	return k;
}

/* Rows of kept.expert: those of the last layer lie furthest. */
static int64_t expert_places(const struct kept *k)
{
	return k->places + (k->layers - 1) * k->layer_places;
}

void generate_plan(const struct shape *s, struct backend *b, const struct generate_options *o, struct generate_bytes *out)
{
	struct batch_sizes most = largest_pass(o);
	struct ops_sizes ops = activations_operations(s, 0, &most, truncates(o));
	struct kept k = kept_of(s, o);
	out->activations = activations_plan(b, s, 0, most.rows, 0, most.outs) + (size_t)(most.outs * s->vocab) * 4 + backend_scratch(b, &ops) +
			   (size_t)(k.places + expert_places(&k) * s->chosen) * 4;
	out->cache = (size_t)((pages_of(o) + pad_pages(b, o)) * s->layers * s->kv_heads * (s->head_dim + s->value_dim) * KV_PAGE) * dtype_bytes(backend_keys(b));
}

static void flights_build(struct generator *g)
{
	const struct generate_options *o = &g->o;
	g->flights = arena_must(g->arena, (size_t)o->batch_groups, sizeof *g->flights);
	for (int i = 0; i < o->batch_groups; i++) {
		struct flight *f = &g->flights[i];
		f->pages = arena_must(g->arena, (size_t)g->stride, sizeof *f->pages);
		f->candidate = arena_must(g->arena, (size_t)o->completions, sizeof *f->candidate);
		for (int c = 0; c < o->completions; c++) {
			struct candidate *d = &f->candidate[c];
			d->tokens = arena_must(g->arena, (size_t)o->max_new, sizeof *d->tokens);
			d->pages = arena_must(g->arena, (size_t)g->stride, sizeof *d->pages);
		}
	}
}

/* What passes sample into and what is kept of them. */
static int open_outs(struct generator *g, int64_t rows, struct err *e)
{
	const struct model *m = g->m;
	struct kept *k = &g->kept;
	*k = kept_of(&m->shape, &g->o);
	const struct { void *at; int64_t words; } part[] = {
		{&g->logits, rows * m->shape.vocab}, {&g->uniform, rows}, {&g->logprob, rows}, {&g->token, rows}, {&g->draw, 5 * rows}, {&k->logprob, k->places},
		{&k->expert, expert_places(k) * m->shape.chosen}};
	backend_purpose(m->backend, "logits and what is kept of groups");
	for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
		void *p = m->ops->alloc(m->backend, (size_t)part[i].words * 4);
		memcpy(part[i].at, &p, sizeof p);
		if (!p)
			return err_set(e, ERR_MEMORY, "out of memory for %lld rows of logits; lower rollout.batch_groups%s", (long long)rows,
				       backend_shortage(m->backend));
	}
	g->host_draw = arena_must(g->arena, (size_t)(5 * rows), 4);
	g->host_token = arena_must(g->arena, (size_t)rows, 4);
	g->out_of = arena_must(g->arena, (size_t)rows, sizeof *g->out_of);
	g->out_flight = arena_must(g->arena, (size_t)rows, sizeof *g->out_flight);
	return 0;
}

/* 1, 2, 4, 8, then steps of an eighth to a half more, up to all sequences. */
static void buckets_build(struct generator *g)
{
	int64_t most = sequences(&g->o), rows = 1;
	int n = 0;
	for (; rows < most && n < GENERATE_BUCKETS - 1; rows = rows < 8 ? 2 * rows : rows < 32 ? rows + 8 : rows + rows / 4 / 8 * 8) g->bucket[n++].rows = rows;
	g->bucket[n].rows = most;
}

int generator_open(struct generator **out, const struct model *m, const struct generate_options *o, struct err *e)
{
	*out = NULL;
	if (o->completions < 1 || o->completions > GROUP_MAX) return err_set(e, ERR_RANGE, "%d completions a prompt: 1 to %d are possible", o->completions, GROUP_MAX);
	if (o->max_prompt + o->max_new > m->shape.max_positions)
		return err_set(e, ERR_RANGE, "prompts of up to %d tokens and rollout.max_new_tokens %d do not fit model.max_positions %lld", o->max_prompt,
			       o->max_new, (long long)m->shape.max_positions);
	struct generator *g = calloc(1, sizeof *g);
	CHECK(g, "out of memory for a generator");
	struct batch_sizes most = largest_pass(o);
	int64_t pages = pages_of(o);
	int rc = 0;
	g->m = m;
	g->o = *o;
	g->arena = arena_open(0);
	g->scratch = arena_open(0);
	g->stride = stride_of(o);
	g->first_pad = (int32_t)pages;
	g->acts = activations_open(m, 0);
	batch_open(&g->batch, m->backend);
	g->free_pages = arena_must(g->arena, (size_t)pages, sizeof *g->free_pages);
	for (int64_t i = 0; i < pages; i++) g->free_pages[g->free_count++] = (int32_t)(pages - 1 - i);
	flights_build(g);
	buckets_build(g);
	TRY(kv_cache_open(&g->cache, m, pages + pad_pages(m->backend, o), e));
	TRY(activations_prepare(g->acts, &most, 1, truncates(o), e));
	TRY(batch_plan(&g->batch, &most, e));
	TRY(open_outs(g, most.outs, e));
	*out = g;
	return 0;
out:
	generator_close(g);
	return rc;
}

void generator_close(struct generator *g)
{
	if (!g) return;
	for (int i = 0; i < GENERATE_BUCKETS; i++) backend_graph_close(g->m->backend, g->bucket[i].graph);
	void *p[] = {g->logits, g->uniform, g->logprob, g->token, g->draw, g->kept.logprob, g->kept.expert};
	for (size_t i = 0; i < sizeof p / sizeof *p; i++)
		if (p[i]) g->m->ops->release(g->m->backend, p[i]);
	kv_cache_close(&g->cache, g->m);
	batch_close(&g->batch);
	activations_close(g->acts);
	arena_close(g->arena);
	arena_close(g->scratch);
	free(g);
}

void generator_counts(const struct generator *g, uint64_t *tokens, uint64_t *passes)
{
	*tokens = g->tokens;
	*passes = g->passes;
}
