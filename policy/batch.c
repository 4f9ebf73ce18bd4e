/* Batches; see batch.h. */
#include "policy/batch.h"

#include <stdlib.h>
#include <string.h>

void batch_open(struct batch *b, struct backend *backend)
{
	memset(b, 0, sizeof *b);
	b->backend = backend;
}

static int32_t *grow(int32_t *p, int64_t n)
{
	p = realloc(p, (size_t)n * sizeof *p);
	CHECK(p, "out of memory for a batch of %lld items", (long long)n);
	return p;
}

/* The next capacity for `need` items: the first as asked, since it may be a plan, then with slack. */
static int64_t room(int64_t cap, int64_t need)
{
	int64_t n = cap ? cap : need;
	while (n < need) n = n * 3 / 2 + 16;
	return n;
}

static int reserve_block(struct batch *b, struct err *e)
{
	const struct ops *o = backend_ops(b->backend);
	int64_t need = 3 * b->cap_rows + b->cap_seqs * b->cap_stride + 3 * b->cap_writes + 3 * b->cap_outs;
	if (need <= b->cap_block) return 0;
	if (b->block) o->release(b->backend, b->block);
	b->cap_block = 0;
	backend_purpose(b->backend, "rows of a batch");
	b->block = o->alloc(b->backend, (size_t)need * sizeof *b->block);
	if (!b->block) return err_set(e, ERR_MEMORY, "out of memory for a batch of %lld rows%s", (long long)b->cap_rows, backend_shortage(b->backend));
	b->stage = grow(b->stage, need);
	b->cap_block = need;
	return 0;
}

void batch_reserve(struct batch *b, int64_t rows, int64_t seqs, int64_t writes, int64_t outs, int64_t sets)
{
	struct batch_arrays *h = &b->host;
	if (rows > b->cap_rows) {
		b->cap_rows = room(b->cap_rows, rows);
		h->ids = grow(h->ids, b->cap_rows), h->pos = grow(h->pos, b->cap_rows), h->seq = grow(h->seq, b->cap_rows);
	}
	if (seqs > b->cap_seqs || b->stride > b->cap_stride) {
		if (seqs > b->cap_seqs) b->cap_seqs = room(b->cap_seqs, seqs);
		if (b->stride > b->cap_stride) b->cap_stride = b->stride;
		if (b->cap_seqs > 0) h->tables = grow(h->tables, b->cap_seqs * b->cap_stride);
	}
	if (writes > b->cap_writes) {
		b->cap_writes = room(b->cap_writes, writes);
		h->write_row = grow(h->write_row, b->cap_writes), h->write_page = grow(h->write_page, b->cap_writes);
		h->write_slot = grow(h->write_slot, b->cap_writes);
	}
	if (outs > b->cap_outs) {
		b->cap_outs = room(b->cap_outs, outs);
		h->out_row = grow(h->out_row, b->cap_outs), h->target = grow(h->target, b->cap_outs), h->forbidden = grow(h->forbidden, b->cap_outs);
	}
	if (sets + 1 > b->cap_sets) {
		b->cap_sets = room(b->cap_sets, sets + 1);
		b->set_rows = realloc(b->set_rows, (size_t)b->cap_sets * sizeof *b->set_rows);
		CHECK(b->set_rows, "out of memory for a batch");
	}
}

struct batch_sizes batch_most(int64_t groups, int64_t prompt, int64_t completions, int64_t response)
{
	/* a completion's own pages: most when its prompt ends at the end of a page, never more than the whole sequence has */
	int64_t own = (response + 2 * (KV_PAGE - 1)) / KV_PAGE, whole = (prompt + response + KV_PAGE - 1) / KV_PAGE;
	int64_t rows = groups * (prompt + completions * response);
	return (struct batch_sizes){.rows = rows, .seqs = groups * (completions + 1), .stride = (prompt + response) / KV_PAGE + 1,
				    .writes = rows + groups * completions * (KV_PAGE - 1), .outs = groups * (prompt + completions * (response + 1)),
				    .pages = groups * (prompt / KV_PAGE + 1 + completions * (own < whole ? own : whole)), .sets = groups};
}

int batch_plan(struct batch *b, const struct batch_sizes *s, struct err *e)
{
	batch_reset(b, s->stride);
	batch_reserve(b, s->rows, s->seqs, s->writes, s->outs, s->sets);
	return reserve_block(b, e);
}

void batch_close(struct batch *b)
{
	if (!b || !b->backend) return;
	int32_t *const *h = (int32_t *const *)&b->host;
	for (size_t i = 0; i < sizeof b->host / sizeof(int32_t *); i++) free(h[i]);
	if (b->block) backend_ops(b->backend)->release(b->backend, b->block);
	free(b->stage);
	free(b->set_rows);
	memset(b, 0, sizeof *b);
}

void batch_reset(struct batch *b, int64_t stride)
{
	b->rows = b->seqs = b->writes = b->outs = b->pages = b->sets = 0;
	b->any_forbidden = 0;
	b->stride = stride;
	if (b->cap_sets == 0) batch_reserve(b, 0, 0, 0, 0, 1);
	b->set_rows[0] = 0;
}

static void put_row(struct batch *b, int32_t id, int64_t pos, int64_t seq)
{
	b->host.ids[b->rows] = id;
	b->host.pos[b->rows] = (int32_t)pos;
	b->host.seq[b->rows] = (int32_t)seq;
	b->rows++;
}

static void put_write(struct batch *b, int64_t row, int64_t page, int64_t slot)
{
	b->host.write_row[b->writes] = (int32_t)row;
	b->host.write_page[b->writes] = (int32_t)page;
	b->host.write_slot[b->writes] = (int32_t)slot;
	b->writes++;
}

static void put_out(struct batch *b, int64_t row, int32_t target, int32_t forbidden)
{
	b->host.out_row[b->outs] = (int32_t)row;
	b->host.target[b->outs] = target;
	b->host.forbidden[b->outs] = forbidden;
	b->any_forbidden |= forbidden >= 0;
	b->outs++;
}

void batch_add(struct batch *b, const int32_t *tokens, int64_t prompt, const uint32_t *length, int64_t completions, int flags, int32_t end_token,
	       int64_t min_new, int64_t after_below)
{
	int64_t total = prompt, tail = prompt % KV_PAGE, full = prompt / KV_PAGE;
	for (int64_t i = 0; i < completions; i++) total += length[i];
	batch_reserve(b, b->rows + total, b->seqs + completions + 1, b->writes + total + tail * completions, b->outs + total + completions, b->sets + 1);
	int64_t first = b->rows, base = b->seqs, page0 = b->pages;
	int32_t *table = b->host.tables + base * b->stride;
	CHECK(prompt >= 1 && full < b->stride, "prompt of %lld tokens, room for %lld pages", (long long)prompt, (long long)b->stride);

	/* the prompt's own sequence */
	int64_t prompt_pages = full + (tail > 0);
	for (int64_t i = 0; i < prompt_pages; i++) table[i] = (int32_t)(page0 + i);
	b->pages += prompt_pages;
	b->seqs++;
	for (int64_t i = 0; i < prompt; i++) {
		put_write(b, b->rows, page0 + i / KV_PAGE, i % KV_PAGE);
		if (flags & BATCH_PROMPT_LOSS && i > 0) put_out(b, b->rows - 1, tokens[i], -1);
		put_row(b, tokens[i], i, base);
	}

	const int32_t *t = tokens + prompt;
	for (int64_t c = 0; c < completions; c++) {
		int64_t n = length[c], after = n > 0 && n < after_below, seq = b->seqs++;
		int64_t kept = flags & (BATCH_WHOLE | BATCH_LAST) || after || n == 0 ? n : n - 1;
		int64_t pages = (prompt + kept + KV_PAGE - 1) / KV_PAGE;
		CHECK(pages <= b->stride, "sequence of %lld tokens, room for %lld pages", (long long)(prompt + kept), (long long)b->stride);
		int32_t *own = b->host.tables + seq * b->stride;
		for (int64_t i = 0; i < full; i++) own[i] = table[i];
		for (int64_t i = full; i < pages; i++) own[i] = (int32_t)b->pages++;
		if (kept > 0)
			for (int64_t i = 0; i < tail; i++) put_write(b, first + full * KV_PAGE + i, own[full], i);
		for (int64_t i = 0; i < n; i++) {
			if (!(flags & BATCH_LAST)) put_out(b, i == 0 ? first + prompt - 1 : b->rows - 1, t[i], i < min_new ? end_token : -1);
			if (i >= kept) break;
			put_write(b, b->rows, own[(prompt + i) / KV_PAGE], (prompt + i) % KV_PAGE);
			put_row(b, t[i], prompt + i, seq);
		}
		if (after || flags & BATCH_LAST) put_out(b, n == 0 ? first + prompt - 1 : b->rows - 1, -1, -1);
		t += n;
	}
	b->set_rows[++b->sets] = b->rows;
}

void batch_upload(struct batch *b)
{
	const struct batch_arrays *h = &b->host;
	struct batch_arrays *d = &b->device;
	const struct { int32_t **to, *from; int64_t n; } part[] = {
		{&d->ids, h->ids, b->rows}, {&d->pos, h->pos, b->rows}, {&d->seq, h->seq, b->rows}, {&d->tables, h->tables, b->seqs * b->stride},
		{&d->write_row, h->write_row, b->writes}, {&d->write_page, h->write_page, b->writes}, {&d->write_slot, h->write_slot, b->writes},
		{&d->out_row, h->out_row, b->outs}, {&d->target, h->target, b->outs}, {&d->forbidden, h->forbidden, b->outs},
	};
	struct err e;
	int64_t at = 0;
	CHECK(reserve_block(b, &e) == 0, "%s", e.msg);
	for (size_t i = 0; i < sizeof part / sizeof *part; at += part[i++].n) {
		if (part[i].n) memcpy(b->stage + at, part[i].from, (size_t)part[i].n * sizeof(int32_t));
		*part[i].to = b->block + at;
	}
	if (at) backend_ops(b->backend)->upload(b->backend, b->block, b->stage, (size_t)at * sizeof(int32_t));
}
