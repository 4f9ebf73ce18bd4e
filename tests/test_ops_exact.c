/* Bits: the same for any split of the rows over calls (each row alone, odd
 * pieces, all at once), for 1, 2 and 3 threads, and for every build of the kernels
 * that this processor can run; weight gradients the same in one call and continued
 * over several; attention the same whether queries come one by one (decoding) or
 * all at once (training). Every operation leaves a hash of its results under its
 * name, and the hashes are compared with those of one thread and one call. */
#include "core/base/hash.h"
#include "tests/ops_groups.h"

enum { T = 67, C = 75, O = 45, LONG = 1100, E = 13, CHOSEN = 3, I = 21, V = 101, RESULTS = 96 };

struct results {
	int n;
	const char *name[RESULTS];
	uint64_t hash[RESULTS];
};

/* How many rows the next call takes when `at` are done. */
typedef int64_t (*split_fn)(int64_t at);
static int64_t split_whole(int64_t at) { (void)at; return 1 << 20; }
static int64_t split_single(int64_t at) { (void)at; return 1; }
static int64_t split_odd(int64_t at) { return at % 2 ? 14 : 17; }
static int64_t split_growing(int64_t at) { return 1 + at / 3; }

static void keep(struct kit *k, struct results *r, const char *name, const float *d, int64_t n)
{
	void *host = malloc((size_t)n * 4);
	assert_non_null(host);
	assert_true(r->n < RESULTS);
	k->ops->download(k->b, host, d, (size_t)n * 4);
	r->name[r->n] = name;
	r->hash[r->n++] = hash_u64(host, (size_t)n * 4);
	free(host);
}

#define EACH_PIECE(at, n, total) for (int64_t at = 0, n; at < (total) && (n = split(at) < (total) - at ? split(at) : (total) - at, 1); at += n)

static void run_linear(struct kit *k, struct results *r, split_fn split)
{
	static const int in[] = {C, LONG, 20};
	for (int i = 0; i < 3; i++) {
		struct array x = kit_random(k, T * in[i], 1), w = kit_random(k, O * in[i], 1), b = kit_random(k, O, 1), y = kit_random(k, T * O, 1), dy = kit_random(k, T * O, 1);
		struct array dx = kit_random(k, T * in[i], 1), dw = kit_random(k, O * in[i], 1), db = kit_random(k, O, 1);
		EACH_PIECE(at, n, T) {
			struct linear_args a = {.x = tensor_f32(x.d + at * in[i], n, in[i]), .w = tensor_f32(w.d, O, in[i]), .bias = i ? NULL : b.d,
						.y = tensor_f32(y.d + at * O, n, O), .add = i == 1, .dy = tensor_f32(dy.d + at * O, n, O),
						.dx = tensor_f32(dx.d + at * in[i], n, in[i]), .dw = tensor_f32(dw.d, O, in[i]), .dbias = db.d};
			k->ops->linear_forward(k->b, &a);
			k->ops->linear_backward(k->b, &a);
		}
		keep(k, r, "linear", y.d, y.n);
		keep(k, r, "linear dx", dx.d, dx.n);
		keep(k, r, "linear dw", dw.d, dw.n);
		keep(k, r, "linear dbias", db.d, db.n);
		kit_clear(k);
	}
}

static void run_rows(struct kit *k, struct results *r, split_fn split)
{
	struct array x = kit_random(k, T * C, 1), w = kit_random(k, C, 1), y = kit_nan(k, T * C), rs = kit_nan(k, T), dy = kit_random(k, T * C, 1), dx = kit_random(k, T * C, 1);
	struct array dw = kit_random(k, C, 1), rope = kit_random(k, T * 3 * 14, 1), cs = kit_random(k, 50 * 7, 1), sn = kit_random(k, 50 * 7, 1);
	struct array act = kit_nan(k, T * C), dg = kit_nan(k, T * C), du = kit_nan(k, T * C), table = kit_random(k, 9 * C, 1), dtable = kit_random(k, 9 * C, 1);
	struct array g = kit_random(k, T * C, 120); /* over the whole range of exp */
	struct ints pos = kit_ints_below(k, T, 50), ids = kit_ints_below(k, T, 9);
	EACH_PIECE(at, n, T) {
		int64_t o = at * C;
		struct norm_args a = {.x = tensor_f32(x.d + o, n, C), .w = w.d, .eps = 1e-6f, .y = tensor_f32(y.d + o, n, C), .rstd = rs.d + at,
				      .dy = tensor_f32(dy.d + o, n, C), .dx = tensor_f32(dx.d + o, n, C), .dw = dw.d};
		struct rope_args p = {.x = tensor_f32(rope.d + at * 42, n, 42), .heads = 3, .head_dim = 14, .dims = 14, .pos = pos.d + at, .cos = cs.d, .sin = sn.d};
		struct swiglu_args s = {tensor_f32(g.d + o, n, C), tensor_f32(dy.d + o, n, C), tensor_f32(act.d + o, n, C),
					tensor_f32(dy.d + o, n, C), tensor_f32(dg.d + o, n, C), tensor_f32(du.d + o, n, C)};
		k->ops->norm_forward(k->b, &a);
		k->ops->norm_backward(k->b, &a);
		k->ops->rope(k->b, &p);
		k->ops->swiglu_forward(k->b, &s);
		k->ops->swiglu_backward(k->b, &s);
		k->ops->embedding_backward(k->b, tensor_f32(dtable.d, 9, C), ids.d + at, a.dy);
		k->ops->embedding_forward(k->b, tensor_f32(table.d, 9, C), ids.d + at, a.y);
	}
	keep(k, r, "norm rstd", rs.d, rs.n);
	keep(k, r, "embedding", y.d, y.n);
	keep(k, r, "norm dx", dx.d, dx.n);
	keep(k, r, "norm dw", dw.d, dw.n);
	keep(k, r, "rope", rope.d, rope.n);
	keep(k, r, "swiglu", act.d, act.n);
	keep(k, r, "swiglu dg", dg.d, dg.n);
	keep(k, r, "swiglu du", du.d, du.n);
	keep(k, r, "embedding gradient", dtable.d, dtable.n);
	kit_clear(k);
}

static void run_dense(struct kit *k, struct results *r, split_fn split)
{
	struct array x = kit_random(k, T * C, 2), w = kit_random(k, C, 1), b = kit_random(k, C, 1), y = kit_nan(k, T * C), rs = kit_nan(k, T), m = kit_nan(k, T);
	struct array dy = kit_random(k, T * C, 1), dx = kit_random(k, T * C, 1), dw = kit_random(k, C, 1), db = kit_random(k, C, 1);
	struct array wide = kit_random(k, T * C, 9), act = kit_nan(k, T * C), du = kit_nan(k, T * C), sum = kit_random(k, T * 3, 1);
	for (int exact = 0; exact < 2; exact++) {
		EACH_PIECE(at, n, T) {
			int64_t o = at * C;
			struct norm_args a = {.x = tensor_f32(x.d + o, n, C), .w = w.d, .bias = b.d, .eps = 1e-6f, .y = tensor_f32(y.d + o, n, C), .rstd = rs.d + at,
					      .mean = m.d + at, .dy = tensor_f32(dy.d + o, n, C), .dx = tensor_f32(dx.d + o, n, C), .dw = dw.d, .dbias = db.d};
			struct gelu_args g = {tensor_f32(wide.d + o, n, C), tensor_f32(act.d + o, n, C), exact, a.dy, tensor_f32(du.d + o, n, C)};
			struct columns_args c = {.x = g.x, .y = tensor_f32(sum.d + at * 3, n, 3), .heads = 2, .count = 3, .x_first = 1, .x_step = 4, .add = 1};
			k->ops->norm_forward(k->b, &a);
			k->ops->norm_backward(k->b, &a);
			k->ops->gelu_forward(k->b, &g);
			k->ops->gelu_backward(k->b, &g);
			k->ops->columns(k->b, &c);
		}
		keep(k, r, "gelu", act.d, act.n);
		keep(k, r, "gelu dx", du.d, du.n);
	}
	keep(k, r, "layer norm", y.d, y.n);
	keep(k, r, "layer norm mean", m.d, m.n);
	keep(k, r, "layer norm rstd", rs.d, rs.n);
	keep(k, r, "layer norm dx", dx.d, dx.n);
	keep(k, r, "layer norm dw", dw.d, dw.n);
	keep(k, r, "layer norm dbias", db.d, db.n);
	keep(k, r, "columns", sum.d, sum.n);
	kit_clear(k);
}

static void run_norm_forward(struct kit *k, struct results *r, split_fn split)
{
	static const int cols[] = {1, 7, 13, 19, 25, 31, 37, 512, LONG, 2049}; /* the last two of LayerNorm */
	for (int i = 0; i < 10; i++) {
		int c = cols[i];
		struct array x = kit_random(k, T * c, 3), w = kit_random(k, c, 1), y = kit_nan(k, T * c), mean = kit_nan(k, T);
		EACH_PIECE(at, n, T) {
			struct norm_args a = {.x = tensor_f32(x.d + at * c, n, c), .w = w.d, .eps = 1e-6f, .y = tensor_f32(y.d + at * c, n, c), .mean = i < 8 ? NULL : mean.d + at};
			k->ops->norm_forward(k->b, &a);
		}
		keep(k, r, "norm", y.d, y.n);
		if (i >= 8) keep(k, r, "norm mean", mean.d, T);
		kit_clear(k);
	}
}

static void run_router(struct kit *k, struct results *r, split_fn split)
{
	for (int f = 0; f < 2; f++) {
		struct array x = kit_random(k, T * E, 3), p = kit_nan(k, T * E), lse = kit_nan(k, T), w = kit_nan(k, T * CHOSEN), dw = kit_random(k, T * CHOSEN, 1);
		struct array bal = kit_random(k, E, 1), dx = kit_nan(k, T * E);
		struct ints expert = kit_ints(k, T * CHOSEN);
		EACH_PIECE(at, n, T) {
			struct router_args a = {.logits = tensor_f32(x.d + at * E, n, E), .kind = f ? ROUTER_SIGMOID : ROUTER_SOFTMAX, .chosen = CHOSEN, .normalize = f,
						.scale = 1.5f, .bias = f ? bal.d : NULL, .probs = p.d + at * E, .lse = lse.d + at, .expert = expert.d + at * CHOSEN,
						.weight = w.d + at * CHOSEN, .dweight = dw.d + at * CHOSEN, .dprob_balance = bal.d, .z_scale = 0.1f,
						.dlogits = tensor_f32(dx.d + at * E, n, E)};
			k->ops->router_forward(k->b, &a);
			k->ops->router_backward(k->b, &a);
		}
		keep(k, r, "router probabilities", p.d, p.n);
		keep(k, r, "router lse", lse.d, lse.n);
		keep(k, r, "router choice", (float *)expert.d, expert.n);
		keep(k, r, "router weights", w.d, w.n);
		keep(k, r, "router gradient", dx.d, dx.n);
		kit_clear(k);
	}
}

/* low: a low rank on each matrix, and the matrices themselves frozen. */
static void run_experts_of(struct kit *k, struct results *r, split_fn split, int low)
{
	enum { R = 5 };
	const int64_t rows = T * CHOSEN, w = (int64_t)E * I * C;
	struct array x = kit_random(k, T * C, 1), gate = kit_random(k, w, 1), up = kit_random(k, w, 1), down = kit_random(k, w, 1), weight = kit_random(k, rows, 1);
	struct array out = kit_random(k, T * C, 1), dout = kit_random(k, T * C, 1), dx = kit_random(k, T * C, 1), dweight = kit_nan(k, rows), g = kit_nan(k, rows * I);
	struct array u = kit_nan(k, rows * I), work = kit_nan(k, rows * (C + 3 * I + 6 * R)), dg = kit_random(k, w, 1), du = kit_random(k, w, 1), dd = kit_random(k, w, 1);
	struct ints expert = kit_ints(k, rows), order = kit_ints(k, 3 * rows), offset = kit_ints(k, E + 1);
	for (int64_t i = 0; i < rows; i++) expert.h[i] = (int32_t)((i / CHOSEN * i / CHOSEN + i % CHOSEN * 4) % (E - 1)); /* the last stays empty */
	kit_push_ints(k, expert);
	struct array a3[3], b3[3], da[3], db[3];
	for (int i = 0; i < 3; i++)
		a3[i] = kit_random(k, E * R * C, 1), b3[i] = kit_random(k, E * C * R, 1), da[i] = kit_random(k, E * R * C, 1), db[i] = kit_random(k, E * C * R, 1);
	EACH_PIECE(at, n, T) {
		int64_t s = at * CHOSEN, m = n * CHOSEN;
		struct experts_args a = {.x = tensor_f32(x.d + at * C, n, C), .experts = E, .chosen = CHOSEN, .expert = expert.d + s, .weight = weight.d + s,
					 .gate = tensor_f32(gate.d, E * I, C), .up = tensor_f32(up.d, E * I, C), .down = tensor_f32(down.d, E * C, I),
					 .out = tensor_f32(out.d + at * C, n, C), .order = order.d, .offset = offset.d, .g = tensor_f32(g.d, m, I), .u = tensor_f32(u.d, m, I),
					 .work = tensor_f32(work.d, m, C + 3 * I + 6 * R), .dout = tensor_f32(dout.d + at * C, n, C), .dx = tensor_f32(dx.d + at * C, n, C),
					 .dweight = dweight.d + s, .dgate = tensor_f32(dg.d, E * I, C), .dup = tensor_f32(du.d, E * I, C), .ddown = tensor_f32(dd.d, E * C, I)};
		for (int i = 0; i < 3 && low; i++) {
			int64_t out_rows = i == EXPERTS_DOWN ? C : I, in = i == EXPERTS_DOWN ? I : C;
			a.low[i] = (struct low_rank){R, 0.7f, tensor_f32(a3[i].d, E * R, in), tensor_f32(b3[i].d, E * out_rows, R), tensor_f32(da[i].d, E * R, in),
						     tensor_f32(db[i].d, E * out_rows, R)};
			a.dgate.data = a.dup.data = a.ddown.data = NULL;
		}
		k->ops->experts_forward(k->b, &a);
		k->ops->experts_backward(k->b, &a);
	}
	keep(k, r, "experts", out.d, out.n);
	keep(k, r, "experts dx", dx.d, dx.n);
	keep(k, r, "experts dweight", dweight.d, dweight.n);
	keep(k, r, "experts dgate", dg.d, dg.n);
	keep(k, r, "experts dup", du.d, du.n);
	keep(k, r, "experts ddown", dd.d, dd.n);
	for (int i = 0; i < 3 && low; i++) {
		keep(k, r, "experts dA", da[i].d, da[i].n);
		keep(k, r, "experts dB", db[i].d, db[i].n);
	}
	kit_clear(k);
}

static void run_experts(struct kit *k, struct results *r, split_fn split)
{
	run_experts_of(k, r, split, 0);
	run_experts_of(k, r, split, 1);
}

static void run_dropout(struct kit *k, struct results *r, split_fn split)
{
	struct array x = kit_random(k, T * C, 1), y = kit_random(k, T * C, 1);
	struct ints seq = kit_ints_below(k, T, 9), pos = kit_ints_below(k, T, 99);
	EACH_PIECE(at, n, T) {
		struct dropout_args a = {.x = tensor_f32(x.d + at * C, n, C), .y = tensor_f32(y.d + at * C, n, C), .add = 1, .scale = 0.7f, .rate = 0.1f, .seed = 5, .first = 3,
					 .stream = 8, .seq = seq.d + at, .pos = pos.d + at};
		k->ops->dropout(k->b, &a);
	}
	keep(k, r, "dropout", y.d, y.n);
	kit_clear(k);
}

static void run_head(struct kit *k, struct results *r, split_fn split)
{
	for (int f = 0; f < 2; f++) {
		struct array x = kit_random(k, T * C, 1), w = kit_random(k, V * C, 1), lp = kit_nan(k, T), e = kit_nan(k, T), work = kit_nan(k, 9 * V), dl = kit_random(k, T, 1);
		struct array dx = kit_random(k, T * C, 1), dw = kit_random(k, V * C, 1), logits = kit_random(k, T * V, 4), u = kit_random(k, T, 0.99f), slp = kit_nan(k, T);
		struct ints target = kit_ints_below(k, T, V), token = kit_ints(k, T);
		EACH_PIECE(at, n, T) {
			struct head_args a = {.x = tensor_f32(x.d + at * C, n, C), .w = tensor_f32(w.d, V, C), .target = target.d + at, .temperature = 0.9f,
					      .top_k = f ? 30 : 0, .top_p = f ? 0.9f : 1, .logprob = lp.d + at, .entropy = e.d + at, .work = work.d, .work_rows = 9,
					      .dlogprob = dl.d + at, .dentropy = dl.d + at, .dx = tensor_f32(dx.d + at * C, n, C), .dw = tensor_f32(dw.d, V, C)};
			struct sample_args s = {.logits = tensor_f32(logits.d + at * V, n, V), .temperature = 0.9f, .top_k = a.top_k, .top_p = a.top_p, .uniform = u.d + at,
						.token = token.d + at, .logprob = slp.d + at};
			k->ops->head_forward(k->b, &a);
			k->ops->head_backward(k->b, &a);
			k->ops->sample(k->b, &s);
		}
		keep(k, r, "head logprob", lp.d, f ? 0 : T); /* a target outside the kept set has -inf, the same everywhere */
		keep(k, r, "head entropy", e.d, T);
		keep(k, r, "head dx", dx.d, dx.n);
		keep(k, r, "head dw", dw.d, dw.n);
		keep(k, r, "sample token", (float *)token.d, T);
		keep(k, r, "sample logprob", slp.d, T);
		kit_clear(k);
	}
}

static void run_attention(struct kit *k, struct results *r, split_fn split)
{
	enum { H = 4, J = 2, DK = 18, DV = 22 };
	struct layout l = {.groups = 2, .prompt = 75, .completions = 5, .response = 3};
	layout_make(k, &l);
	int64_t t = l.rows;
	struct array q = kit_random(k, t * H * DK, 2), key = kit_random(k, t * J * DK, 2), v = kit_random(k, t * J * DV, 1), out = kit_nan(k, t * H * DV), lse = kit_nan(k, t * H);
	struct array kp = kit_nan(k, l.pages * J * DK * KV_PAGE), vp = kit_nan(k, l.pages * J * DV * KV_PAGE), dout = kit_random(k, t * H * DV, 1), dq = kit_random(k, t * H * DK, 1);
	struct array dkp = kit_random(k, kp.n, 0), dvp = kit_random(k, vp.n, 0), dk = kit_random(k, key.n, 1), dv = kit_random(k, v.n, 1);
	struct kv_args kv = {kp.d, vp.d, J, DK, DV, tensor_f32(key.d, t, J * DK), tensor_f32(v.d, t, J * DV), l.writes, l.write_row.d, l.write_page.d, l.write_slot.d, DTYPE_F32};
	k->ops->kv_write(k->b, &kv);
	struct attention_args a = {.heads = H, .kv_heads = J, .dk = DK, .dv = DV, .scale = 0.3f, .k_pages = kp.d, .v_pages = vp.d, .tables = l.tables.d, .table_stride = l.stride};
	EACH_PIECE(at, n, t) {
		a.q = tensor_f32(q.d + at * H * DK, n, H * DK), a.out = tensor_f32(out.d + at * H * DV, n, H * DV), a.lse = lse.d + at * H;
		a.row_seq = l.row_seq.d + at, a.row_pos = l.row_pos.d + at;
		k->ops->attention_forward(k->b, &a);
	}
	a.q = tensor_f32(q.d, t, H * DK), a.out = tensor_f32(out.d, t, H * DV), a.lse = lse.d, a.row_seq = l.row_seq.d, a.row_pos = l.row_pos.d;
	a.dout = tensor_f32(dout.d, t, H * DV), a.dq = tensor_f32(dq.d, t, H * DK), a.dk_pages = dkp.d, a.dv_pages = dvp.d, a.sets = l.groups, a.set_rows = l.set_rows;
	k->ops->attention_backward(k->b, &a);
	kv.k_pages = dkp.d, kv.v_pages = dvp.d, kv.k.data = dk.d, kv.v.data = dv.d;
	k->ops->kv_read_add(k->b, &kv);
	keep(k, r, "attention", out.d, out.n);
	keep(k, r, "attention lse", lse.d, lse.n);
	keep(k, r, "attention dq", dq.d, dq.n);
	keep(k, r, "attention dk", dk.d, dk.n);
	keep(k, r, "attention dv", dv.d, dv.n);
	kit_clear(k);
}

static void run_whole_arrays(struct kit *k, struct results *r)
{
	for (int f = 0; f < 2; f++) {
		struct array w = kit_random(k, 40001, 1), g = kit_random(k, 40001, 1), m = kit_random(k, 40001, 1), v = kit_random(k, 40001, 0);
		struct adamw_args a = {w.d, g.d, m.d, v.d, w.n, 1e-2f, 0.9f, 0.98f, 1e-8f, 0.1f, 0.5f, 7, f};
		k->ops->adamw(k->b, &a);
		k->ops->add(k->b, g.d, m.d, g.n);
		float squares = (float)k->ops->sum_squares(k->b, g.d, g.n);
		k->ops->upload(k->b, g.d, &squares, 4);
		keep(k, r, "adamw w", w.d, w.n);
		keep(k, r, "adamw v", v.d, v.n);
		keep(k, r, "add, sum of squares", g.d, g.n);
		kit_clear(k);
	}
}

/* Everything on one backend, which is closed. */
static void run_kit(struct kit *k, struct results *r, split_fn split)
{
	r->n = 0;
	run_linear(k, r, split);
	run_rows(k, r, split);
	run_dense(k, r, split);
	run_dropout(k, r, split);
	run_norm_forward(k, r, split);
	run_router(k, r, split);
	run_experts(k, r, split);
	run_head(k, r, split);
	run_attention(k, r, split);
	run_whole_arrays(k, r);
	kit_close(k);
}

/* 0 when this processor has no such instructions. */
static int run_in(struct results *r, const char *isa, int threads, const char *precision, split_fn split)
{
	struct kit k;
	kit_open_in(&k, isa, threads, precision);
	if (!k.b) return 0;
	run_kit(&k, r, split);
	return 1;
}

static int run_all(struct results *r, const char *isa, int threads, split_fn split)
{
	return run_in(r, isa, threads, "f32", split);
}

static void compare(const struct results *a, const struct results *b, const char *what)
{
	assert_int_equal(a->n, b->n);
	assert_true(a->n > 40);
	for (int i = 0; i < a->n; i++)
		if (a->hash[i] != b->hash[i]) fail_msg("%s: %s (result %d) has other bits", what, a->name[i], i);
}

static void test_splits(void **state)
{
	(void)state;
	static const split_fn split[] = {split_single, split_odd, split_growing};
	static const char *const name[] = {"one row a call", "odd pieces", "growing pieces"};
	struct results want, got;
	assert_true(run_all(&want, "auto", 1, split_whole));
	for (int i = 0; i < 3; i++) {
		assert_true(run_all(&got, "auto", 2, split[i]));
		compare(&want, &got, name[i]);
	}
}

static void test_threads(void **state)
{
	(void)state;
	struct results want, got;
	assert_true(run_all(&want, "auto", 1, split_whole));
	for (int threads = 2; threads <= 3; threads++) {
		assert_true(run_all(&got, "auto", threads, split_whole));
		compare(&want, &got, threads == 2 ? "two threads" : "three threads");
	}
}

static KIT_UNUSED void fingerprint(const char *isa, int threads, const char *precision, char hex[33])
{
	struct kit k;
	kit_open_in(&k, isa, threads, precision);
	backend_fingerprint(k.b, hex);
	kit_close(&k);
}

static KIT_UNUSED void compare_isa(const char *isa, const char *precision)
{
	struct results want, got;
	char a[33], b[33];
	assert_true(run_in(&want, "generic", 1, precision, split_whole));
	if (!run_in(&got, isa, 2, precision, split_odd)) {
		print_message("this processor has no %s\n", isa);
		skip();
	}
	compare(&want, &got, isa);
	fingerprint(isa, 2, precision, a);
	fingerprint("generic", 1, precision, b);
	assert_string_equal(a, b);
}

#if KIT_ON_DEVICE
/* The device's f32 results are the CPU's, bit for bit, in every operation. */
static void test_same_as_cpu(void **state)
{
	(void)state;
	static struct results want, got;
	struct kit k = {0};
	struct err e;
	assert_int_equal(backend_open(&k.b, &(struct backend_options){"cpu", "generic", 1, NULL}, &e), 0);
	k.ops = backend_ops(k.b);
	run_kit(&k, &want, split_whole);
	assert_true(run_all(&got, "auto", 1, split_whole));
	compare(&want, &got, "the CPU against the device");
	assert_true(run_all(&got, "auto", 1, split_odd));
	compare(&want, &got, "the CPU against the device, odd pieces");
}

static int is_one_of(const char *name, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(name, list[i])) return 1;
	return 0;
}

/* In bf16 what multiplies no matrices has the bits of f32, and rows do not depend on how many come with them; sums over rows, which
 * begin anew with each call, may. */
static void test_bf16(void **state)
{
	(void)state;
	static const char *const product[] = {"linear", "linear dx", "linear dw", "experts", "experts dx", "experts dweight", "experts dgate", "experts dup",
					      "experts ddown", "experts dA", "experts dB", "head logprob", "head entropy", "head dx", "head dw"};
	static const char *const over_rows[] = {"linear dw", "experts dgate", "experts dup", "experts ddown", "experts dA", "experts dB", "head dw"};
	static struct results f32, whole, odd;
	int products = 0, differ = 0;
	assert_true(run_all(&f32, "auto", 1, split_whole));
	assert_true(run_in(&whole, "auto", 1, "bf16", split_whole));
	assert_true(run_in(&odd, "auto", 1, "bf16", split_odd));
	for (int i = 0; i < whole.n; i++) {
		int multiplies = is_one_of(whole.name[i], product, sizeof product / sizeof *product);
		products += multiplies;
		differ += whole.hash[i] != f32.hash[i];
		if (!multiplies && whole.hash[i] != f32.hash[i]) fail_msg("%s (result %d) is not that of f32", whole.name[i], i);
		if (!is_one_of(whole.name[i], over_rows, sizeof over_rows / sizeof *over_rows) && whole.hash[i] != odd.hash[i])
			fail_msg("bf16, odd pieces: %s (result %d) has other bits", whole.name[i], i);
	}
	assert_true(products > 20 && differ > products / 2);
}
#else
static void test_avx512(void **state)
{
	(void)state;
	compare_isa("avx512", "f32");
}

static void test_avx512_bf16(void **state)
{
	(void)state;
	compare_isa("avx512", "bf16");
}

static void test_avx2(void **state)
{
	(void)state;
	compare_isa("avx2", "f32");
}

static void test_avx2_bf16(void **state)
{
	(void)state;
	compare_isa("avx2", "bf16");
}

/* Rows alone and in growing pieces, sums over rows continued from call to call: what the CPU promises in bf16 too. */
static void test_splits_bf16(void **state)
{
	(void)state;
	struct results want, got;
	char f32[33], bf16[33];
	assert_true(run_in(&want, "auto", 1, "bf16", split_whole));
	assert_true(run_in(&got, "auto", 3, "bf16", split_single));
	compare(&want, &got, "bf16, one row a call");
	assert_true(run_in(&got, "auto", 2, "bf16", split_growing));
	compare(&want, &got, "bf16, growing pieces");
	fingerprint("auto", 1, "f32", f32);
	fingerprint("auto", 1, "bf16", bf16);
	assert_string_not_equal(f32, bf16);
}
#endif

/* One last bit in one input must show. */
static void test_planted_ulp(void **state)
{
	(void)state;
	struct kit k;
	struct results a = {0}, b = {0};
	kit_open(&k, "auto", 1);
	struct array x = kit_random(&k, 3, 1);
	keep(&k, &a, "x", x.d, 3);
	x.h[1] = nextafterf(x.h[1], 2);
	kit_push(&k, x);
	keep(&k, &b, "x", x.d, 3);
	assert_true(a.hash[0] != b.hash[0]);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splits), cmocka_unit_test(test_threads), cmocka_unit_test(test_planted_ulp),
#if KIT_ON_DEVICE
		cmocka_unit_test(test_same_as_cpu), cmocka_unit_test(test_bf16),
#else
		cmocka_unit_test(test_avx512), cmocka_unit_test(test_avx2), cmocka_unit_test(test_avx512_bf16), cmocka_unit_test(test_avx2_bf16),
		cmocka_unit_test(test_splits_bf16),
#endif
	};
	return cmocka_run_group_tests_name("ops_exact", tests, NULL, NULL);
}
