/* The kernel fingerprint: one hash over the results of every operation on fixed
 * awkward inputs (odd sizes, tails, ties, values far apart).
 *
 * Two processes that promise each other equal bits compare it when they first
 * meet, before any work is done. The name of the instruction set is left out on
 * purpose: equal bits everywhere is the aim, and what is hashed is what was
 * computed. A GPU adds its name, compute capability and library version: its
 * results are promised for one type of device. Inputs come from the counter-based generator and integer arithmetic,
 * never from the C library's math. It costs a few milliseconds. */
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/tensor/backend.h"
#include "core/tensor/bf16.h"

#include <stdlib.h>
#include <string.h>

enum { PROBE_ARRAYS = 64, ROWS = 21, WIDTH = 37, INNER = 19, EXPERTS = 6, CHOSEN = 2, VOCAB = 83, HEADS = 4, KV_HEADS = 2, DK = 18, DV = 20, KEYS = 70, RANK = 3 };

struct probe {
	struct backend *b;
	const struct ops *ops;
	struct hash_stream *hash;
	uint32_t draws;
	int arrays;
	void *array[PROBE_ARRAYS];
};

/* Backend memory of `bytes`, filled from `host` when given, else zero. */
static void *probe_memory(struct probe *p, const void *host, size_t bytes)
{
	CHECK(p->arrays < PROBE_ARRAYS, "too many arrays in a fingerprint");
	void *d = p->ops->alloc(p->b, bytes);
	CHECK(d, "out of memory: %zu bytes for the kernel fingerprint", bytes);
	if (host) p->ops->upload(p->b, d, host, bytes);
	p->array[p->arrays++] = d;
	return d;
}

/* n numbers in ±scale. */
static float *probe_random(struct probe *p, int64_t n, float scale)
{
	float *host = malloc((size_t)n * sizeof *host);
	CHECK(host, "out of memory for the kernel fingerprint");
	uint32_t draw = p->draws++;
	for (int64_t i = 0; i < n; i++) host[i] = (2.0f * rng_uniform((struct rng_key){1, RNG_TEST}, draw, (uint64_t)i, 0) - 1.0f) * scale;
	float *d = probe_memory(p, host, (size_t)n * sizeof *host);
	free(host);
	return d;
}

static float *probe_zeros(struct probe *p, int64_t n)
{
	return probe_memory(p, NULL, (size_t)n * sizeof(float));
}

static struct tensor probe_tensor(struct probe *p, int64_t rows, int64_t cols, float scale)
{
	return tensor_f32(probe_random(p, rows * cols, scale), rows, cols);
}

/* start + i·step, modulo `below`. */
static int32_t *probe_ints(struct probe *p, int64_t n, int start, int step, int below)
{
	int32_t host[ROWS * CHOSEN + KEYS];
	CHECK(n <= (int64_t)(sizeof host / sizeof *host), "%lld integers in a fingerprint", (long long)n);
	for (int64_t i = 0; i < n; i++) host[i] = (start + (int32_t)i * step) % below;
	return probe_memory(p, host, (size_t)n * sizeof *host);
}

/* Adds n results of 4 bytes to the hash. */
static void probe_take(struct probe *p, const void *d, int64_t n)
{
	void *host = malloc((size_t)n * 4);
	CHECK(host, "out of memory for the kernel fingerprint");
	p->ops->download(p->b, host, d, (size_t)n * 4);
	hash_stream_add(p->hash, host, (size_t)n * 4);
	free(host);
}

static void probe_end(struct probe *p)
{
	for (int i = 0; i < p->arrays; i++) p->ops->release(p->b, p->array[i]);
	p->arrays = 0;
}

static void probe_linear(struct probe *p)
{
	static const int in[] = {WIDTH, 600};
	for (int i = 0; i < 2; i++) {
		struct linear_args a = {.x = probe_tensor(p, ROWS, in[i], 1), .w = probe_tensor(p, INNER * 3, in[i], 1), .bias = probe_random(p, INNER * 3, 1),
					.y = probe_tensor(p, ROWS, INNER * 3, 1), .add = i, .dy = probe_tensor(p, ROWS, INNER * 3, 1),
					.dx = probe_tensor(p, ROWS, in[i], 1), .dw = probe_tensor(p, INNER * 3, in[i], 1), .dbias = probe_random(p, INNER * 3, 1)};
		p->ops->linear_forward(p->b, &a);
		p->ops->linear_backward(p->b, &a);
		probe_take(p, a.y.data, ROWS * INNER * 3);
		probe_take(p, a.dx.data, ROWS * in[i]);
		probe_take(p, a.dw.data, (int64_t)INNER * 3 * in[i]);
		probe_take(p, a.dbias, INNER * 3);
		probe_end(p);
	}
}

/* Weights that are bf16 as they lie, where a model's are. */
static void probe_stored(struct probe *p)
{
	enum { OUT = INNER * 3, IN = 600 };
	static const struct rng_key key = {1, RNG_TEST};
	uint16_t half[OUT * IN];
	for (int i = 0; i < OUT * IN; i++) half[i] = bf16_round(2.0f * rng_uniform(key, p->draws, (uint64_t)i, 0) - 1.0f);
	p->draws++;
	struct linear_args a = {.x = probe_tensor(p, ROWS, IN, 1), .w = {probe_memory(p, half, sizeof half), DTYPE_BF16, OUT, IN}, .y = probe_tensor(p, ROWS, OUT, 1),
				.dy = probe_tensor(p, ROWS, OUT, 1), .dx = probe_tensor(p, ROWS, IN, 1)};
	p->ops->linear_forward(p->b, &a);
	p->ops->linear_backward(p->b, &a);
	probe_take(p, a.y.data, ROWS * OUT);
	probe_take(p, a.dx.data, ROWS * IN);
	probe_end(p);
}

static void probe_rows(struct probe *p)
{
	struct norm_args n = {.x = probe_tensor(p, ROWS, WIDTH, 3), .w = probe_random(p, WIDTH, 1), .eps = 1e-6f, .y = probe_tensor(p, ROWS, WIDTH, 1),
			      .rstd = probe_zeros(p, ROWS), .dy = probe_tensor(p, ROWS, WIDTH, 1), .dx = probe_tensor(p, ROWS, WIDTH, 1), .dw = probe_random(p, WIDTH, 1)};
	p->ops->norm_forward(p->b, &n);
	p->ops->norm_backward(p->b, &n);
	probe_take(p, n.y.data, ROWS * WIDTH);
	probe_take(p, n.rstd, ROWS);
	probe_take(p, n.dx.data, ROWS * WIDTH);
	probe_take(p, n.dw, WIDTH);
	for (int i = 0; i < 2; i++) {
		struct rope_args r = {.x = probe_tensor(p, ROWS, 2 * DK, 1), .heads = 2, .head_dim = DK, .first = 2 * i, .dims = DK - 2 * i, .interleaved = i,
				      .pos = probe_ints(p, ROWS, 1, 5, 9), .cos = probe_random(p, 9 * DK / 2, 1), .sin = probe_random(p, 9 * DK / 2, 1), .inverse = i};
		p->ops->rope(p->b, &r);
		probe_take(p, r.x.data, ROWS * 2 * DK);
	}
	struct swiglu_args s = {probe_tensor(p, ROWS, INNER, 90), probe_tensor(p, ROWS, INNER, 1), probe_tensor(p, ROWS, INNER, 1), probe_tensor(p, ROWS, INNER, 1),
				probe_tensor(p, ROWS, INNER, 1), probe_tensor(p, ROWS, INNER, 1)};
	p->ops->swiglu_forward(p->b, &s);
	p->ops->swiglu_backward(p->b, &s);
	probe_take(p, s.a.data, ROWS * INNER);
	probe_take(p, s.dg.data, ROWS * INNER);
	probe_take(p, s.du.data, ROWS * INNER);
	int32_t *ids = probe_ints(p, ROWS, 3, 4, 7);
	struct tensor table = probe_tensor(p, 7, WIDTH, 1), y = probe_tensor(p, ROWS, WIDTH, 1), back = probe_tensor(p, 7, WIDTH, 1);
	p->ops->embedding_forward(p->b, table, ids, y);
	p->ops->add(p->b, y.data, n.y.data, ROWS * WIDTH);
	p->ops->embedding_backward(p->b, back, ids, y);
	p->ops->gather_rows(p->b, y, back, ids);
	p->ops->scatter_add_rows(p->b, table, y, ids);
	probe_take(p, back.data, 7 * WIDTH);
	probe_take(p, table.data, 7 * WIDTH);
	double squares = p->ops->sum_squares(p->b, y.data, ROWS * WIDTH);
	hash_stream_add(p->hash, &squares, sizeof squares);
	probe_end(p);
}

/* LayerNorm, both forms of GELU, columns. */
static void probe_dense(struct probe *p)
{
	struct norm_args n = {.x = probe_tensor(p, ROWS, WIDTH, 3), .w = probe_random(p, WIDTH, 1), .bias = probe_random(p, WIDTH, 1), .eps = 1e-5f,
			      .y = probe_tensor(p, ROWS, WIDTH, 1), .rstd = probe_zeros(p, ROWS), .mean = probe_zeros(p, ROWS),
			      .dy = probe_tensor(p, ROWS, WIDTH, 1), .dx = probe_tensor(p, ROWS, WIDTH, 1), .dw = probe_random(p, WIDTH, 1),
			      .dbias = probe_random(p, WIDTH, 1)};
	p->ops->norm_forward(p->b, &n);
	p->ops->norm_backward(p->b, &n);
	probe_take(p, n.y.data, ROWS * WIDTH);
	probe_take(p, n.mean, ROWS);
	probe_take(p, n.dx.data, ROWS * WIDTH);
	probe_take(p, n.dw, WIDTH);
	probe_take(p, n.dbias, WIDTH);
	for (int i = 0; i < 2; i++) {
		struct gelu_args g = {probe_tensor(p, ROWS, INNER, 6), probe_tensor(p, ROWS, INNER, 1), i, probe_tensor(p, ROWS, INNER, 1),
				      probe_tensor(p, ROWS, INNER, 1)};
		p->ops->gelu_forward(p->b, &g);
		p->ops->gelu_backward(p->b, &g);
		probe_take(p, g.a.data, ROWS * INNER);
		probe_take(p, g.dx.data, ROWS * INNER);
		struct columns_args c = {.x = n.x, .y = n.y, .heads = 3, .count = 5, .x_first = 2, .x_step = 11, .y_first = 1, .y_step = i ? 0 : 7, .add = i};
		p->ops->columns(p->b, &c);
		probe_take(p, n.y.data, ROWS * WIDTH);
	}
	probe_end(p);
}

static void probe_attention(struct probe *p, enum dtype type)
{
	/* two sequences on one first page, each with its own second one; rows near and beyond the page's edge */
	const int32_t tables[4] = {0, 1, 0, 2};
	const int64_t sets[2] = {0, ROWS};
	struct kv_args kv = {probe_zeros(p, 3 * KV_HEADS * DK * KV_PAGE), probe_zeros(p, 3 * KV_HEADS * DV * KV_PAGE), KV_HEADS, DK, DV,
			     probe_tensor(p, KEYS, KV_HEADS * DK, 2), probe_tensor(p, KEYS, KV_HEADS * DV, 1), KEYS, probe_ints(p, KEYS, 0, 1, KEYS),
			     probe_ints(p, KEYS, 0, 0, 1), probe_ints(p, KEYS, 0, 1, KV_PAGE), type};
	kv.writes = KV_PAGE;
	p->ops->kv_write(p->b, &kv);
	kv.writes = KEYS - KV_PAGE;
	struct kv_args second = kv;
	second.row = probe_ints(p, KEYS - KV_PAGE, KV_PAGE, 1, KEYS);
	second.page = probe_ints(p, KEYS - KV_PAGE, 1, 0, 3);
	p->ops->kv_write(p->b, &second);
	second.page = probe_ints(p, KEYS - KV_PAGE, 2, 0, 3);
	p->ops->kv_write(p->b, &second);
	struct attention_args a = {.q = probe_tensor(p, ROWS, HEADS * DK, 2), .heads = HEADS, .kv_heads = KV_HEADS, .dk = DK, .dv = DV, .scale = 0.25f,
				   .k_pages = kv.k_pages, .v_pages = kv.v_pages, .pages = type, .tables = probe_memory(p, tables, sizeof tables), .table_stride = 2,
				   .row_seq = probe_ints(p, ROWS, 0, 1, 2), .row_pos = probe_ints(p, ROWS, 3, 11, KEYS), .out = probe_tensor(p, ROWS, HEADS * DV, 1),
				   .lse = probe_zeros(p, ROWS * HEADS), .dout = probe_tensor(p, ROWS, HEADS * DV, 1), .dq = probe_tensor(p, ROWS, HEADS * DK, 1),
				   .dk_pages = probe_zeros(p, 3 * KV_HEADS * DK * KV_PAGE), .dv_pages = probe_zeros(p, 3 * KV_HEADS * DV * KV_PAGE), .sets = 1,
				   .set_rows = sets};
	p->ops->attention_forward(p->b, &a);
	p->ops->attention_backward(p->b, &a);
	probe_take(p, a.out.data, ROWS * HEADS * DV);
	probe_take(p, a.lse, ROWS * HEADS);
	probe_take(p, a.dq.data, ROWS * HEADS * DK);
	second.k_pages = a.dk_pages, second.v_pages = a.dv_pages, second.pages = DTYPE_F32;
	p->ops->kv_read_add(p->b, &second);
	probe_take(p, second.k.data, KEYS * KV_HEADS * DK);
	probe_take(p, second.v.data, KEYS * KV_HEADS * DV);
	probe_take(p, a.dk_pages, 3 * KV_HEADS * DK * KV_PAGE);
	probe_take(p, a.dv_pages, 3 * KV_HEADS * DV * KV_PAGE);
	probe_end(p);
}

static void probe_router(struct probe *p)
{
	for (int i = 0; i < 4; i++) {
		struct router_args a = {.logits = probe_tensor(p, ROWS, INNER, i ? 4 : 0), .kind = i & 1 ? ROUTER_SIGMOID : ROUTER_SOFTMAX, .chosen = 5,
					.normalize = i >> 1, .scale = 1.25f, .bias = i ? probe_random(p, INNER, 1) : NULL, .probs = probe_zeros(p, ROWS * INNER),
					.lse = probe_zeros(p, ROWS), .expert = probe_memory(p, NULL, ROWS * 5 * 4), .weight = probe_zeros(p, ROWS * 5),
					.dweight = probe_random(p, ROWS * 5, 1), .dprob_balance = probe_random(p, INNER, 1), .z_scale = 0.1f,
					.dlogits = probe_tensor(p, ROWS, INNER, 1)};
		p->ops->router_forward(p->b, &a);
		p->ops->router_backward(p->b, &a);
		probe_take(p, a.probs, ROWS * INNER);
		probe_take(p, a.lse, ROWS);
		probe_take(p, a.expert, ROWS * 5);
		probe_take(p, a.weight, ROWS * 5);
		probe_take(p, a.dlogits.data, ROWS * INNER);
		probe_end(p);
	}
}

static void probe_experts_once(struct probe *p, const struct experts_args *a)
{
	const int64_t w = (int64_t)EXPERTS * INNER * WIDTH;
	p->ops->experts_forward(p->b, a);
	p->ops->experts_backward(p->b, a);
	probe_take(p, a->out.data, ROWS * WIDTH);
	probe_take(p, a->dx.data, ROWS * WIDTH);
	probe_take(p, a->dweight, ROWS * CHOSEN);
	probe_take(p, a->dgate.data, w);
	probe_take(p, a->dup.data, w);
	probe_take(p, a->ddown.data, w);
}

/* With and without low ranks on each matrix; dropout. */
static void probe_experts(struct probe *p)
{
	const int64_t rows = ROWS * CHOSEN;
	struct experts_args a = {.x = probe_tensor(p, ROWS, WIDTH, 1), .experts = EXPERTS, .chosen = CHOSEN, .expert = probe_ints(p, rows, 1, 3, EXPERTS - 1),
				 .weight = probe_random(p, rows, 1), .gate = probe_tensor(p, EXPERTS * INNER, WIDTH, 1), .up = probe_tensor(p, EXPERTS * INNER, WIDTH, 1),
				 .down = probe_tensor(p, EXPERTS * WIDTH, INNER, 1), .out = probe_tensor(p, ROWS, WIDTH, 1), .order = probe_memory(p, NULL, 3 * ROWS * CHOSEN * 4),
				 .offset = probe_memory(p, NULL, (EXPERTS + 1) * 4), .g = probe_tensor(p, rows, INNER, 0), .u = probe_tensor(p, rows, INNER, 0),
				 .work = probe_tensor(p, rows, WIDTH + 3 * INNER + 6 * RANK, 0), .dout = probe_tensor(p, ROWS, WIDTH, 1), .dx = probe_tensor(p, ROWS, WIDTH, 1),
				 .dweight = probe_zeros(p, rows), .dgate = probe_tensor(p, EXPERTS * INNER, WIDTH, 1), .dup = probe_tensor(p, EXPERTS * INNER, WIDTH, 1),
				 .ddown = probe_tensor(p, EXPERTS * WIDTH, INNER, 1)};
	probe_experts_once(p, &a);
	for (int i = 0; i < EXPERTS_MATRICES; i++) {
		int out = i == EXPERTS_DOWN ? WIDTH : INNER, in = i == EXPERTS_DOWN ? INNER : WIDTH;
		a.low[i] = (struct low_rank){RANK, 0.7f, probe_tensor(p, EXPERTS * RANK, in, 1), probe_tensor(p, EXPERTS * out, RANK, 1), probe_tensor(p, EXPERTS * RANK, in, 1),
					     probe_tensor(p, EXPERTS * out, RANK, 1)};
	}
	probe_experts_once(p, &a);
	for (int i = 0; i < EXPERTS_MATRICES; i++) {
		probe_take(p, a.low[i].da.data, a.low[i].da.rows * a.low[i].da.cols);
		probe_take(p, a.low[i].db.data, a.low[i].db.rows * a.low[i].db.cols);
	}
	struct dropout_args d = {.x = a.x, .y = a.out, .add = 1, .scale = 0.7f, .rate = 0.1f, .seed = 7, .first = 2, .stream = 3, .seq = probe_ints(p, ROWS, 0, 1, 4),
				 .pos = probe_ints(p, ROWS, 5, 3, 50)};
	p->ops->dropout(p->b, &d);
	probe_take(p, d.y.data, ROWS * WIDTH);
	probe_end(p);
}

static void probe_vocabulary(struct probe *p)
{
	for (int i = 0; i < 4; i++) {
		struct head_args h = {.x = probe_tensor(p, ROWS, WIDTH, 1), .w = probe_tensor(p, VOCAB, WIDTH, 1), .target = probe_ints(p, ROWS, 5, 17, VOCAB),
				      .temperature = 0.8f, .top_k = i == 1 ? 40 : 0, .top_p = i == 2 ? 0.9f : 1, .logprob = probe_zeros(p, ROWS),
				      .entropy = probe_zeros(p, ROWS), .work = probe_zeros(p, 8 * VOCAB), .work_rows = 8, .dlogprob = probe_random(p, ROWS, 1),
				      .dentropy = probe_random(p, ROWS, 1), .dx = probe_tensor(p, ROWS, WIDTH, 1), .dw = probe_tensor(p, VOCAB, WIDTH, 1)};
		p->ops->head_forward(p->b, &h);
		p->ops->head_backward(p->b, &h);
		probe_take(p, h.logprob, ROWS);
		probe_take(p, h.entropy, ROWS);
		probe_take(p, h.dx.data, ROWS * WIDTH);
		probe_take(p, h.dw.data, VOCAB * WIDTH);
		struct uniforms_args u = {.seed = 11, .purpose = RNG_TEST, .n = ROWS, .counter = (const uint32_t *)probe_ints(p, 4 * ROWS, 3, 7, 91),
					  .out = probe_zeros(p, ROWS)};
		p->ops->uniforms(p->b, &u);
		struct sample_args s = {.logits = probe_tensor(p, ROWS, VOCAB, 5), .temperature = i == 3 ? 0 : 0.8f, .top_k = h.top_k, .top_p = h.top_p,
					.uniform = u.out, .token = probe_memory(p, NULL, ROWS * 4), .logprob = h.logprob};
		p->ops->sample(p->b, &s);
		probe_take(p, s.token, ROWS);
		probe_take(p, s.logprob, ROWS);
		p->ops->place_rows(p->b, tensor_f32(h.entropy, ROWS, 1), tensor_f32(s.logprob, ROWS, 1), NULL, probe_ints(p, ROWS, 5, 1, ROWS), ROWS);
		probe_take(p, h.entropy, ROWS);
		probe_end(p);
	}
	for (int i = 0; i < 2; i++) {
		struct adamw_args a = {probe_random(p, VOCAB, 1), probe_random(p, VOCAB, 1), probe_random(p, VOCAB, 1), probe_zeros(p, VOCAB), VOCAB,
				       1e-3f, 0.9f, 0.95f, 1e-5f, 0.01f, 0.5f, 3, i};
		p->ops->adamw(p->b, &a);
		probe_take(p, a.w, VOCAB);
		probe_take(p, a.m, VOCAB);
		probe_take(p, a.v, VOCAB);
		probe_end(p);
	}
}

void backend_fingerprint(struct backend *b, char hex[33])
{
	struct probe p = {.b = b, .ops = backend_ops(b), .hash = hash_stream_open()};
	if (b->identity) hash_stream_add(p.hash, b->identity, strlen(b->identity));
	probe_linear(&p);
	probe_rows(&p);
	probe_dense(&p);
	probe_attention(&p, DTYPE_F32);
	probe_router(&p);
	probe_experts(&p);
	probe_vocabulary(&p);
	if (b->weights == DTYPE_BF16) probe_stored(&p);
	if (b->keys == DTYPE_BF16) probe_attention(&p, DTYPE_BF16);
	hash_stream_finish(p.hash, hex);
}
