/* The generation engine; see generate.h.
 *
 * Every pass runs one batch: a row for each unfinished completion, and all rows
 * of the prompts that just entered. Pages come from one pool; a completion's
 * first private page is a copy of the page where its prompt ends. */
#include "policy/generate.h"

#include "core/base/fault.h"

#include <stdlib.h>
#include <string.h>

struct candidate {
	int32_t *tokens;    /* [max_new] */
	float *logprobs;    /* [max_new] */
	uint16_t *experts;  /* [max_new, moe layers, K] */
	int32_t *pages;     /* [stride]: page table, prompt pages first */
	uint32_t length;
	int done;
	uint8_t finish;
};

struct flight { /* one group in generation */
	const struct generate_request *request; /* NULL: free */
	int prefilled;
	int32_t *pages;     /* [stride] the prompt's own */
	struct candidate *candidate;
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
	struct flight *flights;
	struct arena *arena;     /* of the flights' arrays */
	struct arena *scratch;   /* of a finished group */
	float *logits;           /* backend, [batch_groups*completions, V] */
	float *uniform, *logprob; /* backend, [batch_groups*completions] */
	int32_t *token;
	float *host_uniform, *host_logprob;
	int32_t *host_token;
	struct candidate **out_of; /* candidate of each out of the pass */
	struct flight **out_flight;
	int32_t *chosen; /* host, experts of the pass's rows */
	int64_t chosen_room;
	uint64_t tokens, passes;
};

static int64_t expert_items(const struct generator *g)
{
	return shape_moe_layers(&g->m->shape) * g->m->shape.chosen;
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
			d->logprobs = arena_must(g->arena, (size_t)o->max_new, sizeof *d->logprobs);
			d->experts = arena_must(g->arena, (size_t)(o->max_new * expert_items(g)) + 1, sizeof *d->experts);
			d->pages = arena_must(g->arena, (size_t)g->stride, sizeof *d->pages);
		}
	}
}

static int64_t stride_of(const struct generate_options *o)
{
	return (o->max_prompt + o->max_new + KV_PAGE - 1) / KV_PAGE + 1;
}

static int64_t pages_of(const struct generate_options *o)
{
	return (int64_t)o->batch_groups * stride_of(o) * (o->completions + 1);
}

/* The largest pass: prompts that enter, or completions under way. */
static struct batch_sizes largest_pass(const struct generate_options *o)
{
	int64_t group = o->max_prompt > o->completions ? o->max_prompt : o->completions, rows = o->batch_groups * group;
	int64_t outs = (int64_t)o->batch_groups * o->completions;
	return (struct batch_sizes){.rows = rows, .seqs = outs, .stride = stride_of(o), .writes = rows, .outs = outs, .sets = 1};
}

static int truncates(const struct generate_options *o)
{
	return o->sampling.top_k > 0 || o->sampling.top_p < 1;
}

void generate_plan(const struct shape *s, struct backend *b, const struct generate_options *o, struct generate_bytes *out)
{
	struct batch_sizes most = largest_pass(o);
	struct ops_sizes ops = activations_operations(s, 0, &most, truncates(o));
	out->activations = activations_plan(s, 0, most.rows, 0, most.outs) + (size_t)(most.outs * s->vocab) * 4 + backend_scratch(b, &ops);
	out->cache = (size_t)(pages_of(o) * s->layers * s->kv_heads * (s->head_dim + s->value_dim) * KV_PAGE) * 4;
}

/* What a pass samples into. */
static int open_outs(struct generator *g, int64_t rows, struct err *e)
{
	const struct model *m = g->m;
	backend_purpose(m->backend, "logits in generation");
	g->logits = m->ops->alloc(m->backend, (size_t)(rows * m->shape.vocab) * 4);
	g->uniform = m->ops->alloc(m->backend, (size_t)rows * 4);
	g->logprob = m->ops->alloc(m->backend, (size_t)rows * 4);
	g->token = m->ops->alloc(m->backend, (size_t)rows * 4);
	if (!g->logits || !g->uniform || !g->logprob || !g->token)
		return err_set(e, ERR_MEMORY, "out of memory for %lld rows of logits; lower rollout.batch_groups%s", (long long)rows, backend_shortage(m->backend));
	g->host_uniform = arena_must(g->arena, (size_t)rows, 4);
	g->host_logprob = arena_must(g->arena, (size_t)rows, 4);
	g->host_token = arena_must(g->arena, (size_t)rows, 4);
	g->out_of = arena_must(g->arena, (size_t)rows, sizeof *g->out_of);
	g->out_flight = arena_must(g->arena, (size_t)rows, sizeof *g->out_flight);
	return 0;
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
	g->acts = activations_open(m, 0);
	batch_open(&g->batch, m->backend);
	g->free_pages = arena_must(g->arena, (size_t)pages, sizeof *g->free_pages);
	for (int64_t i = 0; i < pages; i++) g->free_pages[g->free_count++] = (int32_t)(pages - 1 - i);
	flights_build(g);
	TRY(kv_cache_open(&g->cache, m, pages, e));
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
	void *p[] = {g->logits, g->uniform, g->logprob, g->token};
	for (size_t i = 0; i < sizeof p / sizeof *p; i++)
		if (p[i]) g->m->ops->release(g->m->backend, p[i]);
	kv_cache_close(&g->cache, g->m);
	batch_close(&g->batch);
	activations_close(g->acts);
	arena_close(g->arena);
	arena_close(g->scratch);
	free(g->chosen);
	free(g);
}

void generator_set_sampling(struct generator *g, const struct sampling *s, enum rng_purpose purpose)
{
	g->o.sampling = *s;
	g->o.purpose = purpose;
}

void generator_counts(const struct generator *g, uint64_t *tokens, uint64_t *passes)
{
	*tokens = g->tokens;
	*passes = g->passes;
}

static int32_t page_take(struct generator *g)
{
	CHECK(g->free_count > 0, "the pool of %lld pages is empty", (long long)g->cache.pages);
	return g->free_pages[--g->free_count];
}

static void put_out(struct generator *g, struct flight *f, struct candidate *c, int64_t row)
{
	struct batch *b = &g->batch;
	b->host.out_row[b->outs] = (int32_t)row;
	b->host.forbidden[b->outs] = (int)c->length < g->o.min_new ? g->o.end_token : -1;
	b->any_forbidden |= b->host.forbidden[b->outs] >= 0;
	g->out_of[b->outs] = c;
	g->out_flight[b->outs] = f;
	b->outs++;
}

static void put_row(struct batch *b, int32_t id, int64_t pos, int32_t page)
{
	int64_t r = b->rows++;
	b->host.ids[r] = id;
	b->host.pos[r] = (int32_t)pos;
	b->host.seq[r] = (int32_t)b->seqs;
	b->host.write_row[b->writes] = (int32_t)r;
	b->host.write_page[b->writes] = page;
	b->host.write_slot[b->writes] = (int32_t)(pos % KV_PAGE);
	b->writes++;
}

static void put_table(struct generator *g, const int32_t *pages)
{
	struct batch *b = &g->batch;
	memcpy(b->host.tables + b->seqs * g->stride, pages, (size_t)g->stride * sizeof *pages);
	b->seqs++;
}

/* A prompt enters: all its rows, and one out for each completion at its last row. */
static void put_prompt(struct generator *g, struct flight *f)
{
	struct batch *b = &g->batch;
	const struct generate_request *r = f->request;
	batch_reserve(b, b->rows + r->prompt_tokens, b->seqs + 1, b->writes + r->prompt_tokens, b->outs + g->o.completions, 1);
	for (uint32_t i = 0; i < r->prompt_tokens; i++) {
		if (i % KV_PAGE == 0) f->pages[i / KV_PAGE] = page_take(g);
		put_row(b, r->tokens[i], i, f->pages[i / KV_PAGE]);
	}
	put_table(g, f->pages);
	for (int c = 0; c < g->o.completions; c++) put_out(g, f, &f->candidate[c], b->rows - 1);
}

/* One more token of a completion. */
static void put_candidate(struct generator *g, struct flight *f, struct candidate *c)
{
	struct batch *b = &g->batch;
	int64_t pos = f->request->prompt_tokens + c->length - 1;
	if (pos % KV_PAGE == 0) c->pages[pos / KV_PAGE] = page_take(g);
	put_row(b, c->tokens[c->length - 1], pos, c->pages[pos / KV_PAGE]);
	put_table(g, c->pages);
	put_out(g, f, c, b->rows - 1);
}

static void build_pass(struct generator *g)
{
	struct batch *b = &g->batch;
	int64_t most = (int64_t)g->o.batch_groups * g->o.completions;
	batch_reset(b, g->stride);
	batch_reserve(b, most, most, most, most, 1);
	for (int i = 0; i < g->o.batch_groups; i++) {
		struct flight *f = &g->flights[i];
		if (!f->request) continue;
		if (!f->prefilled) {
			put_prompt(g, f);
			continue;
		}
		for (int c = 0; c < g->o.completions; c++)
			if (!f->candidate[c].done) put_candidate(g, f, &f->candidate[c]);
	}
}

static void sample_pass(struct generator *g)
{
	const struct model *m = g->m;
	struct batch *b = &g->batch;
	struct rng_key key = {g->o.seed, g->o.purpose};
	for (int64_t i = 0; i < b->outs; i++) {
		const struct generate_request *r = g->out_flight[i]->request;
		uint64_t candidate = (uint64_t)r->slot * GROUP_MAX + (uint64_t)(g->out_of[i] - g->out_flight[i]->candidate);
		g->host_uniform[i] = rng_uniform(key, (uint32_t)r->step, candidate, g->out_of[i]->length);
	}
	m->ops->upload(m->backend, g->uniform, g->host_uniform, (size_t)b->outs * 4);
	struct linear_args l = {.x = model_outs(m, g->acts, b), .w = model_view(m, m->params.lm_head),
				.y = tensor_f32(g->logits, b->outs, m->shape.vocab)};
	m->ops->linear_forward(m->backend, &l);
	struct sample_args s = {.logits = l.y, .temperature = g->o.sampling.temperature, .top_k = g->o.sampling.top_k, .top_p = g->o.sampling.top_p,
				.uniform = g->uniform, .forbidden = b->any_forbidden ? b->device.forbidden : NULL, .token = g->token, .logprob = g->logprob};
	m->ops->sample(m->backend, &s);
	m->ops->download(m->backend, g->host_token, g->token, (size_t)b->outs * 4);
	m->ops->download(m->backend, g->host_logprob, g->logprob, (size_t)b->outs * 4);
}

/* Text of n tokens, in the scratch arena. Ids without a token, the padding rows of a vocabulary, are nothing, as `tokenizers` has it. */
static char *text_of(struct generator *g, const int32_t *tokens, size_t n, int flags)
{
	int32_t *known = arena_must(g->scratch, n + 1, sizeof *known);
	size_t k = 0;
	for (size_t i = 0; i < n; i++)
		if (tokenizer_token(g->o.tokenizer, tokens[i])) known[k++] = tokens[i];
	int64_t bytes = tokenizer_decode(g->o.tokenizer, known, k, flags, NULL, 0, NULL);
	CHECK(bytes >= 0, "generated tokens do not decode");
	char *text = arena_must(g->scratch, (size_t)bytes + 1, 1);
	tokenizer_decode(g->o.tokenizer, known, k, flags, text, (size_t)bytes + 1, NULL);
	return text;
}

static int stops(struct generator *g, const struct candidate *c)
{
	if (!g->o.stop || !g->o.stop[0]) return 0;
	arena_reset(g->scratch);
	return strstr(text_of(g, c->tokens, c->length, TOKENIZER_SKIP_SPECIAL), g->o.stop) != NULL;
}

/* Takes in the sampled tokens. */
static void accept_pass(struct generator *g)
{
	const struct shape *s = &g->m->shape;
	struct batch *b = &g->batch;
	int64_t layers = shape_moe_layers(s), k = s->chosen;
	if (b->rows * k > g->chosen_room) {
		g->chosen_room = b->rows * k;
		g->chosen = realloc(g->chosen, (size_t)g->chosen_room * sizeof *g->chosen);
		CHECK(g->chosen, "out of memory for the chosen experts");
	}
	int32_t *chosen = g->chosen;
	for (int64_t l = 0; l < layers; l++) {
		g->m->ops->download(g->m->backend, chosen, activations_experts(g->acts, l), (size_t)(b->rows * k) * sizeof *chosen);
		for (int64_t i = 0; i < b->outs; i++) {
			struct candidate *c = g->out_of[i];
			for (int64_t j = 0; j < k; j++)
				c->experts[((int64_t)c->length * layers + l) * k + j] = (uint16_t)chosen[b->host.out_row[i] * k + j];
		}
	}
	for (int64_t i = 0; i < b->outs; i++) {
		struct candidate *c = g->out_of[i];
		c->logprobs[c->length] = g->host_logprob[i];
		c->tokens[c->length++] = g->host_token[i];
		c->done = 1;
		if (g->host_token[i] == g->o.end_token) c->finish = GROUP_FINISH_END;
		else if (stops(g, c)) c->finish = GROUP_FINISH_STOP;
		else if ((int)c->length == g->o.max_new) c->finish = GROUP_FINISH_LENGTH;
		else c->done = 0;
	}
	g->tokens += (uint64_t)b->outs;
	g->passes++;
}

/* After a prompt's first pass its completions get their tables, and copies of the page where it ends. */
static void fork_candidates(struct generator *g, struct flight *f)
{
	const struct shape *s = &g->m->shape;
	int64_t p = f->request->prompt_tokens, full = p / KV_PAGE;
	f->prefilled = 1;
	for (int c = 0; c < g->o.completions; c++) {
		struct candidate *d = &f->candidate[c];
		memcpy(d->pages, f->pages, (size_t)full * sizeof *d->pages);
		if (p % KV_PAGE == 0 || d->done) continue;
		d->pages[full] = page_take(g);
		for (int64_t l = 0; l < s->layers; l++) {
			struct kv_args kv = {.k_pages = g->cache.k[l], .v_pages = g->cache.v[l], .kv_heads = (int)s->kv_heads, .dk = (int)s->head_dim,
					     .dv = (int)s->value_dim};
			g->m->ops->kv_copy(g->m->backend, &kv, f->pages[full], d->pages[full]);
		}
	}
}

static void release_pages(struct generator *g, struct flight *f)
{
	int64_t p = f->request->prompt_tokens, full = p / KV_PAGE;
	for (int c = 0; c < g->o.completions; c++) {
		struct candidate *d = &f->candidate[c];
		/* positions held: prompt and all but the last token; nothing private when the completion ended at once */
		int64_t held = p + (int64_t)d->length - 1, used = (held + KV_PAGE - 1) / KV_PAGE;
		if (d->length <= 1 && (d->done || p % KV_PAGE == 0)) used = full;
		for (int64_t i = full; i < used; i++) g->free_pages[g->free_count++] = d->pages[i];
	}
	for (int64_t i = 0; i < (p + KV_PAGE - 1) / KV_PAGE; i++) g->free_pages[g->free_count++] = f->pages[i];
}

static const char *decoded(struct generator *g, const struct candidate *c)
{
	if (!g->o.tokenizer) return "";
	size_t n = c->length;
	/* a stop text was found in the text without special tokens, so it is cut off there */
	int flags = TOKENIZER_UTF8 | (c->finish == GROUP_FINISH_STOP ? TOKENIZER_SKIP_SPECIAL : 0);
	if (c->finish == GROUP_FINISH_END && n > 0) n--;
	char *text = text_of(g, c->tokens, n, flags);
	if (c->finish == GROUP_FINISH_STOP) *strstr(text, g->o.stop) = 0;
	return text;
}

static int finish_group(struct generator *g, struct flight *f, uint64_t version, generate_sink *sink, void *arg, struct err *e)
{
	const struct generate_request *r = f->request;
	int64_t items = expert_items(g);
	struct group out = {.step = r->step, .slot = r->slot, .prompt = r->prompt, .policy_version = version, .size = (uint32_t)g->o.completions,
			    .prompt_tokens = r->prompt_tokens, .moe_layers = (uint32_t)shape_moe_layers(&g->m->shape),
			    .experts_per_token = (uint32_t)g->m->shape.chosen, .prompt_text = r->prompt_text ? r->prompt_text : ""};
	arena_reset(g->scratch);
	for (int c = 0; c < g->o.completions; c++) {
		out.length[c] = f->candidate[c].length;
		out.finish[c] = f->candidate[c].finish;
		out.text[c] = decoded(g, &f->candidate[c]);
	}
	uint32_t n = group_response_tokens(&out);
	int32_t *tokens = arena_must(g->scratch, r->prompt_tokens + n, sizeof *tokens);
	float *logprobs = arena_must(g->scratch, n, sizeof *logprobs);
	uint16_t *experts = arena_must(g->scratch, (size_t)(n * items) + 1, sizeof *experts);
	memcpy(tokens, r->tokens, r->prompt_tokens * sizeof *tokens);
	for (uint32_t c = 0, at = 0; c < out.size; at += out.length[c++]) {
		const struct candidate *d = &f->candidate[c];
		memcpy(tokens + r->prompt_tokens + at, d->tokens, d->length * sizeof *tokens);
		memcpy(logprobs + at, d->logprobs, d->length * sizeof *logprobs);
		memcpy(experts + at * items, d->experts, (size_t)(d->length * items) * sizeof *experts);
	}
	out.tokens = tokens;
	out.logprobs = logprobs;
	out.experts = items > 0 ? experts : NULL;
	release_pages(g, f);
	f->request = NULL;
	FAULT_POINT("generate.after_group", "a group is complete, nobody has it");
	return sink(arg, &out, e);
}

static int finished(const struct generator *g, const struct flight *f)
{
	for (int c = 0; c < g->o.completions; c++)
		if (!f->candidate[c].done) return 0;
	return 1;
}

static void admit(struct flight *f, const struct generate_request *r, int completions)
{
	f->request = r;
	f->prefilled = 0;
	for (int c = 0; c < completions; c++) f->candidate[c].length = 0, f->candidate[c].done = 0;
}

int generator_run(struct generator *g, const struct generate_request *requests, uint32_t n, uint64_t version, generate_sink *sink, void *arg,
		  atomic_int *stop, struct err *e)
{
	uint32_t next = 0, done = 0;
	int rc = 0;
	while (done < n) {
		if (stop && atomic_load(stop)) {
			rc = err_set(e, ERR_STOPPED, "stopped during generation");
			break;
		}
		for (int i = 0; i < g->o.batch_groups && next < n; i++) {
			if (g->flights[i].request) continue;
			CHECK(requests[next].prompt_tokens >= 1 && (int)requests[next].prompt_tokens <= g->o.max_prompt, "prompt of %u tokens, room for %d",
			      requests[next].prompt_tokens, g->o.max_prompt);
			admit(&g->flights[i], &requests[next++], g->o.completions);
		}
		build_pass(g);
		batch_upload(&g->batch);
		model_forward(g->m, g->acts, &g->batch, &g->cache);
		sample_pass(g);
		accept_pass(g);
		FAULT_POINT("generate.after_token", "each completion under way has one more token");
		for (int i = 0; i < g->o.batch_groups; i++) {
			struct flight *f = &g->flights[i];
			if (!f->request) continue;
			if (!f->prefilled) fork_candidates(g, f);
			if (!finished(g, f)) continue;
			done++;
			rc = finish_group(g, f, version, sink, arg, e);
			if (rc < 0) goto out;
		}
	}
out:
	for (int i = 0; i < g->o.batch_groups; i++)
		if (g->flights[i].request) {
			release_pages(g, &g->flights[i]);
			g->flights[i].request = NULL;
		}
	return rc;
}
