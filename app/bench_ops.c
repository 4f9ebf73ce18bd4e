/* The operations timed at a model's shapes; see bench.h.
 *
 * FLOP counts are those of the mathematics (2·m·n·k a product; attention counts the visible keys
 * only), so the share of peak charges masking, sorting and gathering to the kernel. */
#include "app/bench.h"
#include "core/base/fs.h"
#include "core/base/rng.h"

#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 64 };

struct timing {
	struct backend *b;
	const struct ops *ops;
	int arrays;
	void *array[ARRAYS];
};

static void *take(struct timing *t, size_t bytes)
{
	CHECK(t->arrays < ARRAYS, "too many arrays in a benchmark");
	void *p = t->ops->alloc(t->b, bytes);
	CHECK(p, "out of memory: %zu bytes for a benchmark", bytes);
	t->array[t->arrays++] = p;
	return p;
}

static float *take_random(struct timing *t, int64_t n)
{
	float *host = malloc((size_t)n * sizeof *host), *d = take(t, (size_t)n * sizeof *host);
	CHECK(host, "out of memory for a benchmark");
	for (int64_t i = 0; i < n; i++) host[i] = rng_uniform((struct rng_key){3, RNG_TEST}, (uint32_t)t->arrays, (uint64_t)i, 0) - 0.5f;
	t->ops->upload(t->b, d, host, (size_t)n * sizeof *host);
	free(host);
	return d;
}

static struct tensor take_tensor(struct timing *t, int64_t rows, int64_t cols)
{
	return tensor_f32(take_random(t, rows * cols), rows, cols);
}

static int32_t *take_ints(struct timing *t, const int32_t *host, int64_t n)
{
	int32_t *d = take(t, (size_t)n * sizeof *d);
	t->ops->upload(t->b, d, host, (size_t)n * sizeof *d);
	return d;
}

static int32_t *take_below(struct timing *t, int64_t n, uint32_t below)
{
	int32_t *host = malloc((size_t)n * sizeof *host);
	CHECK(host, "out of memory for a benchmark");
	for (int64_t i = 0; i < n; i++) host[i] = (int32_t)rng_below((struct rng_key){4, RNG_TEST}, (uint32_t)t->arrays, (uint64_t)i, 0, below);
	int32_t *d = take_ints(t, host, n);
	free(host);
	return d;
}

static void give(struct timing *t)
{
	for (int i = 0; i < t->arrays; i++) t->ops->release(t->b, t->array[i]);
	t->arrays = 0;
}

struct call {
	struct backend *b;
	void (*fn)(struct backend *, const void *);
	const void *args;
	int inner;
};

static void call_once(void *arg)
{
	struct call *c = arg;
	for (int i = 0; i < c->inner; i++) c->fn(c->b, c->args);
	backend_ops(c->b)->wait(c->b);
}

/* Seconds of one call of fn(b, args); short ones are timed several at a time. */
static struct bench_time time_call(struct backend *b, const struct bench_peak *p, void (*fn)(struct backend *, const void *), const void *args)
{
	fn(b, args);
	double start = fs_now();
	fn(b, args);
	double once = fs_now() - start;
	struct call c = {b, fn, args, once > 2e-4 ? 1 : 1 + (int)(2e-4 / (once + 1e-9))};
	struct bench_time t;
	bench_repeat(p->seconds, call_once, &c, &t);
	return (struct bench_time){t.median / c.inner, t.least / c.inner, t.greatest / c.inner};
}

#define CALL(op, type)                                                                                                 \
	static void call_##op(struct backend *b, const void *a)                                                        \
	{                                                                                                              \
		backend_ops(b)->op(b, (const struct type *)a);                                                         \
	}
CALL(linear_forward, linear_args)
CALL(linear_backward, linear_args)
CALL(experts_forward, experts_args)
CALL(experts_backward, experts_args)
CALL(attention_forward, attention_args)
CALL(attention_backward, attention_args)
CALL(norm_forward, norm_args)
CALL(norm_backward, norm_args)
CALL(rope, rope_args)
CALL(router_forward, router_args)
CALL(router_backward, router_args)
CALL(kv_write, kv_args)
CALL(kv_read_add, kv_args)
CALL(head_forward, head_args)
CALL(head_backward, head_args)
CALL(sample, sample_args)
CALL(adamw, adamw_args)

struct embedding_call {
	struct tensor table, y;
	const int32_t *ids;
};
static void call_embedding_forward(struct backend *b, const void *arg)
{
	const struct embedding_call *e = arg;
	backend_ops(b)->embedding_forward(b, e->table, e->ids, e->y);
}
static void call_embedding_backward(struct backend *b, const void *arg)
{
	const struct embedding_call *e = arg;
	backend_ops(b)->embedding_backward(b, e->table, e->ids, e->y);
}

static double peak_of(const struct backend *b, const struct bench_peak *p)
{
	return backend_threads(b) == 1 ? p->gflops_one : p->gflops_all * backend_threads(b) / p->threads;
}

static struct bench_rate rate(const struct backend *b, const struct bench_peak *p, struct bench_time t, double flop)
{
	double peak = peak_of(b, p);
	return (struct bench_rate){t, flop / t.median * 1e-9, flop / t.median * 1e-9 / peak, flop / t.least * 1e-9 / peak};
}

void bench_linear(struct backend *b, const struct bench_peak *p, int64_t m, int64_t n, int64_t k, struct bench_linear *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	double flop = 2.0 * (double)m * (double)n * (double)k;
	struct linear_args f = {.x = take_tensor(&t, m, k), .w = take_tensor(&t, n, k), .y = take_tensor(&t, m, n), .dy = take_tensor(&t, m, n)};
	struct linear_args dx = f, dw = f;
	dx.dx = take_tensor(&t, m, k);
	dw.dw = take_tensor(&t, n, k);
	*out = (struct bench_linear){.m = m, .n = n, .k = k};
	out->forward = rate(b, p, time_call(b, p, call_linear_forward, &f), flop);
	out->dx = rate(b, p, time_call(b, p, call_linear_backward, &dx), flop);
	out->dw = rate(b, p, time_call(b, p, call_linear_backward, &dw), flop);
	struct bench_time bar;
	if (bench_onednn(m, n, k, backend_threads(b), p->seconds, &bar)) out->onednn = rate(b, p, bar, flop);
	give(&t);
}

static void experts_make(struct timing *t, const struct bench_model *s, struct experts_args *a)
{
	const int64_t rows = s->rows * s->chosen, c = s->width, i = s->expert_width, e = s->experts;
	int32_t *host = malloc((size_t)rows * sizeof *host);
	CHECK(host, "out of memory for a benchmark");
	for (int64_t r = 0; r < s->rows; r++) { /* distinct experts, as a router chooses */
		uint32_t at = rng_u32((struct rng_key){5, RNG_TEST}, 0, (uint64_t)r, 0);
		for (int k = 0; k < s->chosen; k++) host[r * s->chosen + k] = (int32_t)((at + (uint32_t)k * (uint32_t)(e / s->chosen + (at >> 8) % 3)) % (uint32_t)e);
	}
	*a = (struct experts_args){.x = take_tensor(t, s->rows, c), .experts = s->experts, .chosen = s->chosen, .expert = take_ints(t, host, rows),
				   .weight = take_random(t, rows), .gate = take_tensor(t, e * i, c), .up = take_tensor(t, e * i, c), .down = take_tensor(t, e * c, i),
				   .out = take_tensor(t, s->rows, c), .order = take(t, (size_t)(3 * rows) * 4), .offset = take(t, (size_t)(e + 1) * 4),
				   .g = take_tensor(t, rows, i), .u = take_tensor(t, rows, i), .work = take_tensor(t, rows, c + 3 * i), .dout = take_tensor(t, s->rows, c),
				   .dx = take_tensor(t, s->rows, c), .dweight = take_random(t, rows), .dgate = take_tensor(t, e * i, c), .dup = take_tensor(t, e * i, c),
				   .ddown = take_tensor(t, e * c, i)};
	free(host);
}

void bench_experts(struct backend *b, const struct bench_peak *p, const struct bench_model *s, struct bench_pair *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	struct experts_args a;
	double flop = 6.0 * (double)s->rows * s->chosen * s->width * s->expert_width;
	experts_make(&t, s, &a);
	out->forward = rate(b, p, time_call(b, p, call_experts_forward, &a), flop);
	out->backward = rate(b, p, time_call(b, p, call_experts_backward, &a), 2 * flop);
	give(&t);
}

struct layer_call {
	struct experts_args experts;
	struct linear_args gate, up, down; /* shared */
	struct swiglu_args swiglu;
	int64_t shared;
};

static void call_layer_forward(struct backend *b, const void *arg)
{
	const struct layer_call *l = arg;
	const struct ops *o = backend_ops(b);
	if (l->shared) {
		o->linear_forward(b, &l->gate);
		o->linear_forward(b, &l->up);
		o->swiglu_forward(b, &l->swiglu);
		o->linear_forward(b, &l->down);
	}
	o->experts_forward(b, &l->experts);
}

static void call_layer_backward(struct backend *b, const void *arg)
{
	const struct layer_call *l = arg;
	const struct ops *o = backend_ops(b);
	if (l->shared) {
		o->zero(b, l->swiglu.da.data, tensor_bytes(l->swiglu.da));
		o->linear_backward(b, &l->down);
		o->swiglu_backward(b, &l->swiglu);
		o->linear_backward(b, &l->gate);
		o->linear_backward(b, &l->up);
	}
	o->experts_backward(b, &l->experts);
}

static void shared_make(struct timing *t, const struct bench_layer *s, struct layer_call *l)
{
	const struct experts_args *e = &l->experts;
	int64_t n = s->rows, c = s->width, w = s->shared;
	l->shared = w;
	l->swiglu = (struct swiglu_args){take_tensor(t, n, w), take_tensor(t, n, w), take_tensor(t, n, w), take_tensor(t, n, w), take_tensor(t, n, w), take_tensor(t, n, w)};
	l->gate = (struct linear_args){.x = e->x, .w = take_tensor(t, w, c), .y = l->swiglu.g, .dy = l->swiglu.dg, .dx = e->dx, .dw = take_tensor(t, w, c)};
	l->up = (struct linear_args){.x = e->x, .w = take_tensor(t, w, c), .y = l->swiglu.u, .dy = l->swiglu.du, .dx = e->dx, .dw = take_tensor(t, w, c)};
	l->down = (struct linear_args){.x = l->swiglu.a, .w = take_tensor(t, c, w), .y = e->out, .dy = e->dout, .dx = l->swiglu.da, .dw = take_tensor(t, c, w)};
}

void bench_layer(struct backend *b, const struct bench_peak *p, const struct bench_layer *s, struct bench_pair *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	struct bench_model m = {.rows = s->rows, .width = s->width, .experts = s->experts, .chosen = s->chosen, .expert_width = s->expert_width};
	struct layer_call l = {.shared = 0};
	double flop = 6.0 * (double)s->rows * s->width * ((double)s->chosen * s->expert_width + s->shared);
	experts_make(&t, &m, &l.experts);
	if (s->shared) shared_make(&t, s, &l);
	out->forward = rate(b, p, time_call(b, p, call_layer_forward, &l), flop);
	out->backward = rate(b, p, time_call(b, p, call_layer_backward, &l), 2 * flop);
	give(&t);
}

/* Groups of [prompt][completions]: completions see the prompt's whole pages and a copy of its last one. */
struct groups {
	int64_t rows, sets, *set_rows, writes, visible; /* visible: keys over all rows */
	int stride;
	int32_t *tables, *row_seq, *row_pos, *write_row, *write_page, *write_slot, pages, sequences;
};

static void groups_row(struct groups *g, int32_t sequence, int32_t pos)
{
	g->row_seq[g->rows] = sequence;
	g->row_pos[g->rows++] = pos;
	g->visible += pos + 1;
}

static void groups_write(struct groups *g, int64_t row, int32_t sequence)
{
	g->write_row[g->writes] = (int32_t)row;
	g->write_page[g->writes] = g->tables[sequence * g->stride + g->row_pos[row] / KV_PAGE];
	g->write_slot[g->writes++] = g->row_pos[row] % KV_PAGE;
}

static void groups_add(struct groups *g, const struct bench_model *s)
{
	int32_t first = g->sequences, shared = s->prompt / KV_PAGE;
	for (int c = 0; c <= s->completions; c++, g->sequences++)
		for (int k = 0; k < g->stride; k++)
			g->tables[g->sequences * g->stride + k] = c && k < shared ? g->tables[first * g->stride + k] : g->pages++;
	for (int i = 0; i < s->prompt; i++) {
		groups_row(g, first, i);
		groups_write(g, g->rows - 1, first);
		for (int c = 1; i / KV_PAGE >= shared && c <= s->completions; c++) groups_write(g, g->rows - 1, first + c);
	}
	for (int c = 1; c <= s->completions; c++)
		for (int i = 0; i < s->response; i++) {
			groups_row(g, first + c, s->prompt + i);
			groups_write(g, g->rows - 1, first + c);
		}
	g->set_rows[++g->sets] = g->rows;
}

static void groups_make(struct timing *t, const struct bench_model *s, struct groups *g)
{
	int64_t each = s->prompt + (int64_t)s->completions * s->response, sets = s->rows < each ? 1 : s->rows / each;
	int64_t rows = sets * each, writes = rows + sets * KV_PAGE * s->completions, sequences = sets * (s->completions + 1);
	*g = (struct groups){.stride = (s->prompt + s->response) / KV_PAGE + 1};
	int32_t *mem = calloc((size_t)(2 * rows + 3 * writes + sequences * g->stride), sizeof *mem);
	g->set_rows = calloc((size_t)sets + 1, sizeof *g->set_rows);
	CHECK(mem && g->set_rows, "out of memory for a benchmark");
	g->row_seq = mem, g->row_pos = mem + rows, g->write_row = mem + 2 * rows, g->write_page = g->write_row + writes;
	g->write_slot = g->write_page + writes, g->tables = g->write_slot + writes;
	for (int64_t i = 0; i < sets; i++) groups_add(g, s);
	g->row_seq = take_ints(t, g->row_seq, rows), g->row_pos = take_ints(t, g->row_pos, rows), g->write_row = take_ints(t, g->write_row, writes);
	g->write_page = take_ints(t, g->write_page, writes), g->write_slot = take_ints(t, g->write_slot, writes);
	g->tables = take_ints(t, g->tables, sequences * g->stride);
	free(mem);
}

static void kv_make(struct timing *t, const struct bench_model *s, const struct groups *g, struct kv_args *kv)
{
	int64_t page = (int64_t)s->kv_heads * s->head_dim * KV_PAGE, c = (int64_t)s->kv_heads * s->head_dim;
	*kv = (struct kv_args){take_random(t, g->pages * page), take_random(t, g->pages * page), s->kv_heads, s->head_dim, s->head_dim, take_tensor(t, g->rows, c),
			       take_tensor(t, g->rows, c), g->writes, g->write_row, g->write_page, g->write_slot, backend_keys(t->b)};
}

void bench_attention(struct backend *b, const struct bench_peak *p, const struct bench_model *s, struct bench_pair *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	struct groups g;
	struct kv_args kv;
	groups_make(&t, s, &g);
	kv_make(&t, s, &g, &kv);
	int64_t c = (int64_t)s->heads * s->head_dim, page = (int64_t)s->kv_heads * s->head_dim * KV_PAGE;
	struct attention_args a = {.q = take_tensor(&t, g.rows, c), .heads = s->heads, .kv_heads = s->kv_heads, .dk = s->head_dim, .dv = s->head_dim, .scale = 0.2f,
				   .k_pages = kv.k_pages, .v_pages = kv.v_pages, .pages = kv.pages, .tables = g.tables, .table_stride = g.stride, .row_seq = g.row_seq, .row_pos = g.row_pos,
				   .out = take_tensor(&t, g.rows, c), .lse = take_random(&t, g.rows * s->heads), .dout = take_tensor(&t, g.rows, c),
				   .dq = take_tensor(&t, g.rows, c), .dk_pages = take_random(&t, g.pages * page), .dv_pages = take_random(&t, g.pages * page),
				   .sets = g.sets, .set_rows = g.set_rows};
	double flop = 4.0 * (double)g.visible * s->heads * s->head_dim;
	t.ops->kv_write(b, &kv);
	out->forward = rate(b, p, time_call(b, p, call_attention_forward, &a), flop);
	out->backward = rate(b, p, time_call(b, p, call_attention_backward, &a), 2.5 * flop);
	free(g.set_rows);
	give(&t);
}

static void small_rows(struct timing *t, const struct bench_peak *p, const struct bench_model *s, struct bench_small *out)
{
	struct backend *b = t->b;
	int64_t n = s->rows, c = s->width, e = s->experts;
	struct norm_args norm = {.x = take_tensor(t, n, c), .w = take_random(t, c), .eps = 1e-6f, .y = take_tensor(t, n, c), .rstd = take_random(t, n),
				 .dy = take_tensor(t, n, c), .dx = take_tensor(t, n, c), .dw = take_random(t, c)};
	struct rope_args rope = {.x = take_tensor(t, n, (int64_t)s->heads * s->head_dim), .heads = s->heads, .head_dim = s->head_dim, .dims = s->head_dim,
				 .pos = take_below(t, n, 64), .cos = take_random(t, 64 * s->head_dim / 2), .sin = take_random(t, 64 * s->head_dim / 2)};
	struct router_args router = {.logits = take_tensor(t, n, e), .chosen = s->chosen, .normalize = 1, .scale = 1, .probs = take_random(t, n * e),
				     .lse = take_random(t, n), .expert = take_below(t, n * s->chosen, 1), .weight = take_random(t, n * s->chosen),
				     .dweight = take_random(t, n * s->chosen), .dprob_balance = take_random(t, e), .z_scale = 1e-3f, .dlogits = take_tensor(t, n, e)};
	struct embedding_call emb = {take_tensor(t, s->vocab, c), take_tensor(t, n, c), take_below(t, n, (uint32_t)s->vocab)};
	out->norm = 1e6 * time_call(b, p, call_norm_forward, &norm).median;
	out->norm_backward = 1e6 * time_call(b, p, call_norm_backward, &norm).median;
	out->rope = 1e6 * time_call(b, p, call_rope, &rope).median;
	out->router = 1e6 * time_call(b, p, call_router_forward, &router).median;
	out->router_backward = 1e6 * time_call(b, p, call_router_backward, &router).median;
	out->embedding = 1e6 * time_call(b, p, call_embedding_forward, &emb).median;
	out->embedding_backward = 1e6 * time_call(b, p, call_embedding_backward, &emb).median;
	give(t);
}

void bench_small(struct backend *b, const struct bench_peak *p, const struct bench_model *s, struct bench_small *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	*out = (struct bench_small){.rows = s->rows};
	small_rows(&t, p, s, out);
	struct groups g;
	struct kv_args kv;
	groups_make(&t, s, &g);
	kv_make(&t, s, &g, &kv);
	out->kv_write = 1e6 * time_call(b, p, call_kv_write, &kv).median;
	out->kv_read_add = 1e6 * time_call(b, p, call_kv_read_add, &kv).median;
	free(g.set_rows);
	give(&t);
	int64_t n = s->rows, c = s->width, v = s->vocab;
	struct head_args head = {.x = take_tensor(&t, n, c), .w = take_tensor(&t, v, c), .target = take_below(&t, n, (uint32_t)v), .temperature = 1, .top_p = 1,
				 .logprob = take_random(&t, n), .entropy = take_random(&t, n), .work = take_random(&t, 512 * v), .work_rows = 512,
				 .dlogprob = take_random(&t, n), .dentropy = take_random(&t, n), .dx = take_tensor(&t, n, c), .dw = take_tensor(&t, v, c)};
	struct sample_args sample = {.logits = take_tensor(&t, n, v), .temperature = 1, .top_p = 1, .uniform = take_random(&t, n), .token = take_below(&t, n, 1),
				     .logprob = take_random(&t, n)};
	out->head = 1e6 * time_call(b, p, call_head_forward, &head).median;
	out->head_backward = 1e6 * time_call(b, p, call_head_backward, &head).median;
	out->sample = 1e6 * time_call(b, p, call_sample, &sample).median;
	give(&t);
}

void bench_adamw(struct backend *b, const struct bench_peak *p, int64_t n, struct bench_adamw *out)
{
	struct timing t = {.b = b, .ops = backend_ops(b)};
	size_t bytes = (size_t)n * sizeof(float);
	struct adamw_args a = {.w = take(&t, bytes), .g = take(&t, bytes), .m = take(&t, bytes), .v = take(&t, bytes), .n = n, .lr = 1e-4f, .beta1 = 0.9f,
			       .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.01f, .grad_scale = 1, .step = 10};
	struct bench_time time = time_call(b, p, call_adamw, &a);
	double gparams = (double)n / time.median * 1e-9;
	double one = p->read_one > p->mixed_one ? p->read_one : p->mixed_one;
	*out = (struct bench_adamw){n, time, gparams, 28.0 * gparams / (backend_threads(b) == 1 ? one : p->memory_gbs)};
	give(&t);
}
