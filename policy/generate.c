/* The generation engine; see generate.h.
 *
 * Every pass runs one batch: a row for each unfinished completion, and all rows
 * of the prompts that just entered. Pages come from one pool; the page where a
 * prompt ends is written for each of its completions, who go on in it.
 *
 * A pass is an upload (rows, and where random numbers and results belong), a run of
 * operations without the host, and a download of the tokens. Where the backend
 * records operations, a pass in which no prompt enters is recorded once for each
 * bucket of sizes and run again: rows that are missing in the bucket are filled up
 * with rows of a page that nobody reads. Since a row does not depend on its
 * neighbours, that changes no bits. */
#include "policy/generate_internal.h"

#include "core/base/fault.h"

#include <string.h>

static int64_t expert_items(const struct generator *g)
{
	return shape_moe_layers(&g->m->shape) * g->m->shape.chosen;
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
	b->host.target[b->outs] = -1;
	b->host.forbidden[b->outs] = (int)c->length < g->o.min_new ? g->o.end_token : -1;
	g->out_of[b->outs] = c;
	g->out_flight[b->outs] = f;
	b->outs++;
}

static void put_write(struct batch *b, int64_t row, int64_t pos, int32_t page)
{
	b->host.write_row[b->writes] = (int32_t)row;
	b->host.write_page[b->writes] = page;
	b->host.write_slot[b->writes] = (int32_t)(pos % KV_PAGE);
	b->writes++;
}

static void put_row(struct batch *b, int32_t id, int64_t pos, int32_t page)
{
	int64_t r = b->rows++;
	b->host.ids[r] = id;
	b->host.pos[r] = (int32_t)pos;
	b->host.seq[r] = (int32_t)b->seqs;
	put_write(b, r, pos, page);
}

static void put_table(struct generator *g, const int32_t *pages)
{
	struct batch *b = &g->batch;
	memcpy(b->host.tables + b->seqs * g->stride, pages, (size_t)g->stride * sizeof *pages);
	b->seqs++;
}

/* A prompt enters: all its rows, and one out for each completion at its last row. The page where it ends is each
 * completion's own. */
static void put_prompt(struct generator *g, struct flight *f)
{
	struct batch *b = &g->batch;
	const struct generate_request *r = f->request;
	int64_t p = r->prompt_tokens, full = p / KV_PAGE, tail = p % KV_PAGE, first = b->rows;
	f->held = full + (tail > 0);
	for (int64_t i = 0; i < f->held; i++) f->pages[i] = page_take(g);
	for (int64_t i = 0; i < p; i++) put_row(b, r->tokens[i], i, f->pages[i / KV_PAGE]);
	put_table(g, f->pages);
	for (int c = 0; c < g->o.completions; c++) {
		struct candidate *d = &f->candidate[c];
		memcpy(d->pages, f->pages, (size_t)full * sizeof *d->pages);
		d->held = full;
		if (tail) d->pages[d->held++] = page_take(g);
		for (int64_t i = p - tail; i < p; i++) put_write(b, first + i, i, d->pages[full]);
		put_out(g, f, d, b->rows - 1);
	}
	f->prefilled = 1;
}

/* One more token of a completion. */
static void put_candidate(struct generator *g, struct flight *f, struct candidate *c)
{
	struct batch *b = &g->batch;
	int64_t pos = f->request->prompt_tokens + c->length - 1;
	if (pos / KV_PAGE == c->held) c->pages[c->held++] = page_take(g);
	put_row(b, c->tokens[c->length - 1], pos, c->pages[pos / KV_PAGE]);
	put_table(g, c->pages);
	put_out(g, f, c, b->rows - 1);
}

/* Returns 1 when no prompt enters. */
static int build_pass(struct generator *g)
{
	int decode = 1;
	batch_reset(&g->batch, g->stride);
	for (int i = 0; i < g->o.batch_groups; i++) {
		struct flight *f = &g->flights[i];
		if (!f->request) continue;
		if (!f->prefilled) {
			put_prompt(g, f);
			decode = 0;
			continue;
		}
		for (int c = 0; c < g->o.completions; c++)
			if (!f->candidate[c].done) put_candidate(g, f, &f->candidate[c]);
	}
	g->outs = g->batch.outs;
	return decode;
}

/* Rows until there are as many as the bucket has: the first token of a sequence of one page, which is theirs. */
static void fill_up(struct generator *g, int64_t rows)
{
	struct batch *b = &g->batch;
	for (int64_t i = 0; b->rows < rows; i++) {
		int32_t page = g->first_pad + (int32_t)(i / KV_PAGE), *table = b->host.tables + b->seqs * g->stride;
		put_row(b, 0, 0, page);
		b->host.write_slot[b->writes - 1] = (int32_t)(i % KV_PAGE);
		for (int64_t j = 0; j < g->stride; j++) table[j] = page;
		b->seqs++;
		b->host.out_row[b->outs] = (int32_t)(b->rows - 1);
		b->host.target[b->outs] = b->host.forbidden[b->outs] = -1;
		b->outs++;
	}
}

/* Counters of the random numbers, and where log-probabilities and experts are kept. */
static void send_draws(struct generator *g)
{
	const struct kept *k = &g->kept;
	int64_t n = g->batch.outs, pads = g->o.batch_groups * k->flight_places;
	int32_t *place = g->host_draw + 4 * n;
	for (int64_t i = 0; i < n; i++) {
		int32_t *counter = g->host_draw + 4 * i;
		memset(counter, 0, 4 * sizeof *counter);
		place[i] = (int32_t)(pads + i - g->outs);
		if (i >= g->outs) continue;
		const struct flight *f = g->out_flight[i];
		int64_t c = g->out_of[i] - f->candidate;
		uint64_t candidate = (uint64_t)f->request->slot * GROUP_MAX + (uint64_t)c;
		counter[0] = (int32_t)(uint32_t)f->request->step;
		counter[1] = (int32_t)(uint32_t)candidate;
		counter[2] = (int32_t)(uint32_t)(candidate >> 32);
		counter[3] = (int32_t)g->out_of[i]->length;
		place[i] = (int32_t)((f - g->flights) * k->flight_places + c * g->o.max_new + g->out_of[i]->length);
	}
	g->m->ops->upload(g->m->backend, g->draw, g->host_draw, (size_t)(5 * n) * sizeof *g->draw);
}

/* Everything between the upload and the download: sizes are the batch's, all else is read from the backend's memory. */
static void compute(struct generator *g)
{
	const struct model *m = g->m;
	const struct ops *o = m->ops;
	struct batch *b = &g->batch;
	const struct kept *k = &g->kept;
	int64_t n = b->outs, layers = shape_moe_layers(&m->shape), chosen = m->shape.chosen;
	const int32_t *place = g->draw + 4 * n;
	model_forward(m, g->acts, b, &g->cache);
	struct uniforms_args u = {.seed = g->o.seed, .purpose = g->o.purpose, .n = n, .counter = (const uint32_t *)g->draw, .out = g->uniform};
	o->uniforms(m->backend, &u);
	struct linear_args l = {.x = model_outs(m, g->acts, b), .w = model_view(m, m->params.lm_head), .y = tensor_f32(g->logits, n, m->shape.vocab)};
	o->linear_forward(m->backend, &l);
	struct sample_args s = {.logits = l.y, .temperature = g->o.sampling.temperature, .top_k = g->o.sampling.top_k, .top_p = g->o.sampling.top_p,
				.uniform = g->uniform, .forbidden = g->o.min_new > 0 ? b->device.forbidden : NULL, .token = g->token, .logprob = g->logprob};
	o->sample(m->backend, &s);
	o->place_rows(m->backend, tensor_f32(k->logprob, k->places, 1), tensor_f32(g->logprob, n, 1), NULL, place, n);
	for (int64_t i = 0; i < layers; i++) {
		struct tensor from = {(void *)(uintptr_t)activations_experts(g->acts, i), DTYPE_F32, b->rows, chosen};
		struct tensor to = {k->expert + i * k->layer_places * chosen, DTYPE_F32, k->places, chosen};
		o->place_rows(m->backend, to, from, b->device.out_row, place, n);
	}
}

/* The step recorded for a bucket, or recorded now; the first one is called as it is, since a driver may load a kernel when it is
 * first launched, which is no part of a recording. */
static void replay(struct generator *g, struct bucket *b)
{
	struct backend *backend = g->m->backend;
	if (!b->ran) {
		b->ran = 1;
		compute(g);
		return;
	}
	if (b->graph && backend_graph_run(backend, b->graph)) return;
	backend_graph_close(backend, b->graph);
	backend_graph_begin(backend);
	compute(g);
	b->graph = backend_graph_end(backend);
	CHECK(backend_graph_run(backend, b->graph), "a step of %lld rows cannot be run as it was recorded", (long long)b->rows);
}

static void run_pass(struct generator *g, int decode)
{
	struct bucket *b = g->bucket;
	int recorded = decode && backend_has_graphs(g->m->backend);
	if (recorded) {
		while (b->rows < g->batch.rows) b++;
		fill_up(g, b->rows);
	}
	const struct batch *p = &g->batch;
	CHECK(p->rows <= p->cap_rows && p->writes <= p->cap_writes && p->outs <= p->cap_outs && p->seqs <= p->cap_seqs, "a pass of %lld rows is beyond the plan",
	      (long long)p->rows);
	batch_upload(&g->batch);
	send_draws(g);
	if (recorded) replay(g, b);
	else compute(g);
	g->m->ops->download(g->m->backend, g->host_token, g->token, (size_t)g->outs * 4);
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
	for (int64_t i = 0; i < g->outs; i++) {
		struct candidate *c = g->out_of[i];
		c->tokens[c->length++] = g->host_token[i];
		c->done = 1;
		if (g->host_token[i] == g->o.end_token) c->finish = GROUP_FINISH_END;
		else if (stops(g, c)) c->finish = GROUP_FINISH_STOP;
		else if ((int)c->length == g->o.max_new) c->finish = GROUP_FINISH_LENGTH;
		else c->done = 0;
	}
	g->tokens += (uint64_t)g->outs;
	g->passes++;
}

static void release_pages(struct generator *g, struct flight *f)
{
	int64_t full = f->request->prompt_tokens / KV_PAGE;
	if (!f->prefilled) return;
	for (int c = 0; c < g->o.completions; c++)
		for (int64_t i = full; i < f->candidate[c].held; i++) g->free_pages[g->free_count++] = f->candidate[c].pages[i];
	for (int64_t i = 0; i < f->held; i++) g->free_pages[g->free_count++] = f->pages[i];
}

/* Log-probabilities and experts of a finished group come down at once; packed as its tokens are. */
static void collect(struct generator *g, const struct flight *f, float *logprobs, uint16_t *experts)
{
	const struct model *m = g->m;
	const struct kept *k = &g->kept;
	int64_t layers = shape_moe_layers(&m->shape), chosen = m->shape.chosen, first = (f - g->flights) * k->flight_places, most = g->o.max_new;
	float *lp = arena_must(g->scratch, (size_t)k->layer_places, sizeof *lp);
	int32_t *ex = arena_must(g->scratch, (size_t)(layers * k->layer_places * chosen) + 1, sizeof *ex);
	m->ops->download(m->backend, lp, k->logprob + first, (size_t)k->layer_places * sizeof *lp);
	if (layers) m->ops->download(m->backend, ex, k->expert + first * chosen, (size_t)(layers * k->layer_places * chosen) * sizeof *ex);
	for (int c = 0; c < g->o.completions; c++)
		for (int64_t i = 0; i < f->candidate[c].length; i++) {
			*logprobs++ = lp[c * most + i];
			for (int64_t l = 0; l < layers; l++)
				for (int64_t j = 0; j < chosen; j++) *experts++ = (uint16_t)ex[(l * k->layer_places + c * most + i) * chosen + j];
		}
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
	}
	collect(g, f, logprobs, experts);
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
		run_pass(g, build_pass(g));
		accept_pass(g);
		FAULT_POINT("generate.after_token", "each completion under way has one more token");
		for (int i = 0; i < g->o.batch_groups; i++) {
			struct flight *f = &g->flights[i];
			if (!f->request || !finished(g, f)) continue;
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
