/* What adapters are made of: dropout by position, and experts whose matrices have
 * a low rank added, W + s·B·A. The experts' reference has that sum as its matrix;
 * by the chain rule dA = s·Bᵀ·dW and dB = s·dW·Aᵀ. */
#include "tests/ops_kit.h"
#include "tests/ops_reference.h"

static void test_dropout_scales(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++) {
		int64_t t = kit_sizes[i], c = 19;
		struct array x = kit_random(k, t * c, 1), y = kit_nan(k, t * c), z = kit_random(k, t * c, 1);
		struct dropout_args a = {.x = tensor_f32(x.d, t, c), .y = tensor_f32(y.d, t, c), .scale = 0.3f}, b = a;
		b.y = tensor_f32(z.d, t, c), b.add = 1;
		float *before = kit_host(k, (size_t)z.n * 4);
		memcpy(before, z.h, (size_t)z.n * 4);
		k->ops->dropout(k->b, &a);
		k->ops->dropout(k->b, &b);
		kit_pull(k, y), kit_pull(k, z);
		for (int64_t e = 0; e < t * c; e++) {
			assert_true(y.h[e] == 0.3f * x.h[e]);
			assert_true(z.h[e] == before[e] + 0.3f * x.h[e]);
		}
		kit_clear(k);
	}
}

/* The number of an element is that of its sequence, position and column, whatever rows are beside it. */
static void test_dropout_by_position(void **state)
{
	struct kit *k = *state;
	enum { T = 41, C = 37 };
	const float rate = 0.25f, kept = 2.0f / (1.0f - rate);
	struct array x = kit_random(k, T * C, 1), y = kit_nan(k, T * C), z = kit_nan(k, C);
	struct ints seq = kit_ints_below(k, T, 5), pos = kit_ints_below(k, T, 400);
	struct dropout_args a = {.x = tensor_f32(x.d, T, C), .y = tensor_f32(y.d, T, C), .scale = 2, .rate = rate, .seed = 9, .first = (uint64_t)1 << 40, .stream = 3,
				 .seq = seq.d, .pos = pos.d};
	k->ops->dropout(k->b, &a);
	kit_pull(k, y);
	int dropped = 0;
	for (int t = 0; t < T; t++)
		for (int c = 0; c < C; c++) {
			uint32_t word[4];
			rng_block((struct rng_key){9, RNG_DROPOUT}, 3, (((uint64_t)1 << 40) + (uint64_t)seq.h[t]) << 20 | (uint64_t)pos.h[t], (uint32_t)c / 4, word);
			int drop = (float)(word[c % 4] >> 8) * 0x1p-24f < rate;
			dropped += drop;
			assert_true(y.h[t * C + c] == (drop ? 0.0f : x.h[t * C + c] * kept));
		}
	assert_in_range(dropped, T * C / 5, T * C * 3 / 10);
	/* a row alone, in the place of another sequence */
	a.x = tensor_f32(x.d + 7 * C, 1, C), a.y = tensor_f32(z.d, 1, C), a.pos = pos.d + 7, a.seq = seq.d + 8, a.first += (uint64_t)(seq.h[7] - seq.h[8]);
	k->ops->dropout(k->b, &a);
	kit_pull(k, z);
	assert_memory_equal(z.h, y.h + 7 * C, C * 4);
	a.stream++;
	k->ops->dropout(k->b, &a);
	kit_pull(k, z);
	assert_memory_not_equal(z.h, y.h + 7 * C, C * 4);
	kit_clear(k);
}

enum { E = 5, CHOSEN = 2 };

struct low_case {
	int64_t t, c, in;
	int rank[EXPERTS_MATRICES]; /* gate, up, down; 0: none */
};

struct matrix {
	int64_t rows, cols; /* of one expert */
	struct array w, dw, a, b, da, db;
	double *sum, *dsum; /* [E·rows·cols]: W + s·B·A and its gradient */
};

static const float SCALE = 0.7f;

static void matrix_open(struct kit *k, struct matrix *m, int64_t rows, int64_t cols, int rank)
{
	int64_t n = E * rows * cols;
	m->rows = rows, m->cols = cols;
	m->w = kit_random(k, n, 1), m->dw = kit_random(k, n, 1);
	m->a = kit_random(k, E * rank * cols + 1, 1), m->b = kit_random(k, E * rows * rank + 1, 1);
	m->da = kit_random(k, E * rank * cols + 1, 1), m->db = kit_random(k, E * rows * rank + 1, 1);
	m->sum = kit_widen(k, m->w), m->dsum = kit_doubles(k, n);
	for (int64_t e = 0; e < E; e++)
		for (int64_t i = 0; i < rows; i++)
			for (int64_t j = 0; j < cols; j++)
				for (int64_t r = 0; r < rank; r++)
					m->sum[(e * rows + i) * cols + j] += (double)SCALE * (double)m->b.h[(e * rows + i) * rank + r] * (double)m->a.h[(e * rank + r) * cols + j];
}

static void matrix_expect(struct kit *k, const struct matrix *m, int rank, int which)
{
	double *da = kit_doubles(k, m->da.n), *db = kit_doubles(k, m->db.n);
	struct array a = m->da, b = m->db;
	for (int64_t e = 0; e < E; e++)
		for (int64_t i = 0; i < m->rows; i++)
			for (int64_t j = 0; j < m->cols; j++)
				for (int64_t r = 0; r < rank; r++) {
					double d = (double)SCALE * m->dsum[(e * m->rows + i) * m->cols + j];
					da[(e * rank + r) * m->cols + j] += d * (double)m->b.h[(e * m->rows + i) * rank + r];
					db[(e * m->rows + i) * rank + r] += d * (double)m->a.h[(e * rank + r) * m->cols + j];
				}
	kit_expect(k, m->dw, m->dw.h, m->dsum, "gradient of matrix %d", which);
	if (!rank) return;
	a.n--, b.n--; /* what is behind stays */
	kit_expect(k, a, m->da.h, da, "dA of matrix %d, rank %d", which, rank);
	kit_expect(k, b, m->db.h, db, "dB of matrix %d, rank %d", which, rank);
}

static void low_case(struct kit *k, struct low_case c)
{
	int64_t rows = c.t * CHOSEN, ranks = c.rank[0] + c.rank[1] + c.rank[2];
	struct matrix m[EXPERTS_MATRICES];
	for (int i = 0; i < EXPERTS_MATRICES; i++) matrix_open(k, &m[i], i == EXPERTS_DOWN ? c.c : c.in, i == EXPERTS_DOWN ? c.in : c.c, c.rank[i]);
	struct array x = kit_random(k, c.t * c.c, 1), weight = kit_random(k, rows, 1), out = kit_random(k, c.t * c.c, 1), dout = kit_random(k, c.t * c.c, 1);
	struct array dx = kit_random(k, c.t * c.c, 1), dweight = kit_nan(k, rows), g = kit_nan(k, rows * c.in), u = kit_nan(k, rows * c.in);
	struct array work = kit_nan(k, rows * (c.c + 3 * c.in + 2 * ranks));
	struct ints expert = kit_ints(k, rows), order = kit_ints(k, 3 * rows), offset = kit_ints(k, E + 1);
	for (int64_t i = 0; i < rows; i++) expert.h[i] = (int32_t)((i / CHOSEN * 3 + i % CHOSEN) % (E - 1)); /* the last one stays empty */
	kit_push_ints(k, expert);
	struct experts_args a = {.x = tensor_f32(x.d, c.t, c.c), .experts = E, .chosen = CHOSEN, .expert = expert.d, .weight = weight.d,
				 .gate = tensor_f32(m[0].w.d, E * c.in, c.c), .up = tensor_f32(m[1].w.d, E * c.in, c.c), .down = tensor_f32(m[2].w.d, E * c.c, c.in),
				 .out = tensor_f32(out.d, c.t, c.c), .order = order.d, .offset = offset.d, .g = tensor_f32(g.d, rows, c.in),
				 .u = tensor_f32(u.d, rows, c.in), .work = tensor_f32(work.d, rows, c.c + 3 * c.in + 2 * ranks), .dout = tensor_f32(dout.d, c.t, c.c),
				 .dx = tensor_f32(dx.d, c.t, c.c), .dweight = dweight.d, .dgate = tensor_f32(m[0].dw.d, E * c.in, c.c),
				 .dup = tensor_f32(m[1].dw.d, E * c.in, c.c), .ddown = tensor_f32(m[2].dw.d, E * c.c, c.in)};
	for (int i = 0; i < EXPERTS_MATRICES; i++)
		if (c.rank[i])
			a.low[i] = (struct low_rank){c.rank[i], SCALE, tensor_f32(m[i].a.d, E * c.rank[i], m[i].cols), tensor_f32(m[i].b.d, E * m[i].rows, c.rank[i]),
						     tensor_f32(m[i].da.d, E * c.rank[i], m[i].cols), tensor_f32(m[i].db.d, E * m[i].rows, c.rank[i])};
	double *wx = kit_widen(k, x), *wy = kit_doubles(k, c.t * c.c), *wd = kit_widen(k, dout), *wdx = kit_doubles(k, c.t * c.c), *wdw = kit_doubles(k, rows);
	double *wg = kit_doubles(k, c.in), *wu = kit_doubles(k, c.in);
	for (int64_t r = 0; r < rows; r++) {
		int64_t at = expert.h[r] * c.in * c.c, row = r / CHOSEN * c.c;
		ref_expert(wx + row, m[0].sum + at, m[1].sum + at, m[2].sum + at, (double)weight.h[r], wy + row, wg, wu, c.c, c.in);
		ref_expert_backward(wx + row, m[0].sum + at, m[1].sum + at, m[2].sum + at, (double)weight.h[r], wd + row, wg, wu, wdx + row, m[0].dsum + at,
				    m[1].dsum + at, m[2].dsum + at, wdw + r, c.c, c.in);
	}
	k->ops->experts_forward(k->b, &a);
	kit_expect(k, out, out.h, wy, "experts with ranks %d, %d, %d", c.rank[0], c.rank[1], c.rank[2]);
	k->ops->experts_backward(k->b, &a);
	k->typical = 0.25 * (double)c.c * sqrt((double)c.in);
	kit_expect(k, dweight, NULL, wdw, "dweight with ranks %d, %d, %d", c.rank[0], c.rank[1], c.rank[2]);
	k->typical = 0.05;
	kit_expect(k, dx, dx.h, wdx, "dx with ranks %d, %d, %d", c.rank[0], c.rank[1], c.rank[2]);
	for (int i = 0; i < EXPERTS_MATRICES; i++) matrix_expect(k, &m[i], c.rank[i], i);
	k->typical = 0;
	kit_clear(k);
}

static void test_experts(void **state)
{
	static const int ranks[][EXPERTS_MATRICES] = {{4, 4, 4}, {0, 0, 3}, {1, 0, 0}, {0, 33, 0}, {2, 16, 5}};
	for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			struct low_case c = {.t = kit_sizes[j], .c = 20, .in = 17};
			memcpy(c.rank, ranks[i], sizeof c.rank);
			low_case(*state, c);
		}
	low_case(*state, (struct low_case){.t = 129, .c = 64, .in = 33, .rank = {16, 16, 16}});
}

static struct array zeros(struct kit *k, int64_t n)
{
	struct array a = kit_nan(k, n);
	memset(a.h, 0, (size_t)n * 4);
	kit_push(k, a);
	return a;
}

/* Frozen matrices under a low rank that learns: the same factors' gradients without theirs. */
static void test_frozen_matrices(void **state)
{
	struct kit *k = *state;
	enum { T = 23, C = 20, I = 12, R = 4, ROWS = T * CHOSEN };
	struct array x = kit_random(k, T * C, 1), weight = kit_random(k, ROWS, 1), dout = kit_random(k, T * C, 1), out = kit_random(k, T * C, 0);
	struct array w[3], a[3], b[3], da[2][3], db[2][3], dx[2], dw = zeros(k, E * I * C), dweight = kit_nan(k, ROWS), g = kit_nan(k, ROWS * I), u = kit_nan(k, ROWS * I);
	struct array work = kit_nan(k, ROWS * (C + 3 * I + 6 * R));
	struct ints expert = kit_ints_below(k, ROWS, E), order = kit_ints(k, 3 * ROWS), offset = kit_ints(k, E + 1);
	for (int i = 0; i < 3; i++) {
		w[i] = kit_random(k, E * I * C, 1), a[i] = kit_random(k, E * R * C, 1), b[i] = kit_random(k, E * C * R, 1);
		for (int f = 0; f < 2; f++) da[f][i] = zeros(k, E * R * C), db[f][i] = zeros(k, E * C * R);
	}
	for (int f = 0; f < 2; f++) {
		float *none = NULL;
		dx[f] = zeros(k, T * C);
		struct experts_args e = {.x = tensor_f32(x.d, T, C), .experts = E, .chosen = CHOSEN, .expert = expert.d, .weight = weight.d,
					 .gate = tensor_f32(w[0].d, E * I, C), .up = tensor_f32(w[1].d, E * I, C), .down = tensor_f32(w[2].d, E * C, I),
					 .out = tensor_f32(out.d, T, C), .order = order.d, .offset = offset.d, .g = tensor_f32(g.d, ROWS, I), .u = tensor_f32(u.d, ROWS, I),
					 .work = tensor_f32(work.d, ROWS, C + 3 * I + 6 * R), .dout = tensor_f32(dout.d, T, C), .dx = tensor_f32(dx[f].d, T, C),
					 .dweight = dweight.d, .dgate = tensor_f32(f ? none : dw.d, E * I, C), .dup = tensor_f32(f ? none : dw.d, E * I, C),
					 .ddown = tensor_f32(f ? none : dw.d, E * C, I)};
		for (int i = 0; i < 3; i++) {
			int64_t rows = i == EXPERTS_DOWN ? C : I, cols = i == EXPERTS_DOWN ? I : C;
			e.low[i] = (struct low_rank){R, SCALE, tensor_f32(a[i].d, E * R, cols), tensor_f32(b[i].d, E * rows, R), tensor_f32(da[f][i].d, E * R, cols),
						     tensor_f32(db[f][i].d, E * rows, R)};
		}
		k->ops->experts_forward(k->b, &e);
		k->ops->experts_backward(k->b, &e);
		kit_pull(k, dx[f]);
		for (int i = 0; i < 3; i++) kit_pull(k, da[f][i]), kit_pull(k, db[f][i]);
	}
	assert_memory_equal(dx[0].h, dx[1].h, T * C * 4);
	for (int i = 0; i < 3; i++) {
		assert_memory_equal(da[0][i].h, da[1][i].h, E * R * C * 4);
		assert_memory_equal(db[0][i].h, db[1][i].h, E * R * C * 4);
	}
	kit_clear(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dropout_scales),
		cmocka_unit_test(test_dropout_by_position),
		cmocka_unit_test(test_experts),
		cmocka_unit_test(test_frozen_matrices),
	};
	return cmocka_run_group_tests_name("ops_low_rank", tests, kit_setup, kit_teardown);
}
