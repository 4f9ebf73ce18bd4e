/* The router and its experts against naive references: softmax and sigmoid, bias,
 * normalised or not, ties, load-balance and z-loss gradients; experts with odd
 * shapes, empty experts, everything to one expert, frozen weights. */
#include "tests/ops_kit.h"
#include "tests/ops_reference.h"

struct router_case {
	struct ref_router r;
	int64_t t;
	double *x, *dw, *balance;
	double z;
	double *p, *weight;
	int32_t *expert;
};

/* Σ dweight·weight + Σ balance·p + z Σ lse², with the choice held. */
static double router_loss(void *arg)
{
	struct router_case *c = arg;
	double loss = 0;
	for (int64_t t = 0; t < c->t; t++) {
		const double *x = c->x + t * c->r.experts;
		ref_router_row(&c->r, x, c->p, c->expert + t * c->r.chosen, c->weight, 0);
		double lse = ref_lse(x, c->r.experts);
		loss += kit_dot(c->weight, c->dw + t * c->r.chosen, c->r.chosen) + c->z * lse * lse;
		if (c->balance) loss += kit_dot(c->p, c->balance, c->r.experts);
	}
	return loss;
}

static void router_gradient(struct router_case *c, double *out)
{
	for (int64_t i = 0; i < c->t * c->r.experts; i++) {
		double keep = c->x[i], h = 1e-5;
		int64_t row = i / c->r.experts;
		struct router_case one = *c;
		one.t = 1, one.x += row * c->r.experts, one.dw += row * c->r.chosen, one.expert += row * c->r.chosen;
		c->x[i] = keep + h;
		double up = router_loss(&one);
		c->x[i] = keep - h;
		double down = router_loss(&one);
		c->x[i] = keep;
		out[i] = (up - down) / (2 * h);
	}
}

static void router_case(struct kit *k, int64_t t, int64_t experts, int chosen, int flags)
{
	struct array x = kit_random(k, t * experts, 3), bias = kit_random(k, experts, 0.1f), p = kit_nan(k, t * experts), lse = kit_nan(k, t);
	struct array weight = kit_nan(k, t * chosen), dw = kit_random(k, t * chosen, 1), balance = kit_random(k, experts, 0.3f), dx = kit_nan(k, t * experts);
	struct ints expert = kit_ints(k, t * chosen);
	struct router_args a = {.logits = tensor_f32(x.d, t, experts), .kind = flags & 1 ? ROUTER_SIGMOID : ROUTER_SOFTMAX, .chosen = chosen,
				.normalize = flags >> 1 & 1, .scale = 1.5f, .bias = flags & 4 ? bias.d : NULL, .probs = p.d, .lse = lse.d,
				.expert = expert.d, .weight = weight.d, .dweight = dw.d, .dprob_balance = flags & 8 ? balance.d : NULL,
				.z_scale = flags & 8 ? 0.25f : 0, .dlogits = tensor_f32(dx.d, t, experts)};
	struct router_case c = {{flags & 1, flags >> 1 & 1, chosen, experts, 1.5, flags & 4 ? kit_widen(k, bias) : NULL}, t, kit_widen(k, x), kit_widen(k, dw),
				flags & 8 ? kit_widen(k, balance) : NULL, flags & 8 ? 0.25 : 0, kit_doubles(k, experts), kit_doubles(k, chosen),
				kit_host(k, (size_t)(t * chosen) * 4)};
	double *wp = kit_doubles(k, t * experts), *wl = kit_doubles(k, t), *ww = kit_doubles(k, t * chosen), *wd = kit_doubles(k, t * experts);
	for (int64_t i = 0; i < t; i++) {
		ref_router_row(&c.r, c.x + i * experts, wp + i * experts, c.expert + i * chosen, ww + i * chosen, 1);
		wl[i] = ref_lse(c.x + i * experts, experts);
	}
	k->ops->router_forward(k->b, &a);
	k->ops->download(k->b, expert.h, expert.d, (size_t)(t * chosen) * 4);
	assert_memory_equal(expert.h, c.expert, (size_t)(t * chosen) * 4);
	kit_expect(k, p, NULL, wp, "router probabilities, flags %d", flags);
	k->typical = 1e-2;
	kit_expect(k, lse, NULL, wl, "router lse");
	kit_expect(k, weight, NULL, ww, "router weights of %d of %lld, flags %d", chosen, (long long)experts, flags);
	router_gradient(&c, wd);
	k->ops->router_backward(k->b, &a);
	k->typical = 1e-1; /* softmax over few experts: the gradient is a difference of nearly equal terms */
	kit_expect(k, dx, NULL, wd, "router gradient of %d of %lld, flags %d", chosen, (long long)experts, flags);
	k->typical = 0;
	kit_clear(k);
}

static void test_router(void **state)
{
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++)
			for (int f = 0; f < 16; f++) {
				int64_t e = kit_sizes[j];
				router_case(*state, kit_sizes[i], e, e < 4 ? 1 : 4, f);
			}
	for (int f = 0; f < 16; f++) {
		router_case(*state, 5, 3, 3, f); /* all of them */
		router_case(*state, 5, 64, 8, f);
	}
}

/* Equal scores: the lower experts, in order. */
static void test_router_ties(void **state)
{
	struct kit *k = *state;
	struct array x = kit_random(k, 2 * 40, 0), p = kit_nan(k, 80), lse = kit_nan(k, 2), weight = kit_nan(k, 10);
	struct ints expert = kit_ints(k, 10);
	for (int i = 40; i < 80; i++) x.h[i] = i % 3 ? 1.0f : 2.0f;
	kit_push(k, x);
	struct router_args a = {.logits = tensor_f32(x.d, 2, 40), .chosen = 5, .scale = 1, .probs = p.d, .lse = lse.d, .expert = expert.d, .weight = weight.d};
	k->ops->router_forward(k->b, &a);
	k->ops->download(k->b, expert.h, expert.d, 40);
	const int32_t want[10] = {0, 1, 2, 3, 4, 2, 5, 8, 11, 14};
	assert_memory_equal(expert.h, want, 40);
	/* the bias chooses, the scores weigh and order */
	struct array bias = kit_random(k, 40, 0);
	bias.h[39] = bias.h[20] = 10;
	kit_push(k, bias);
	a.bias = bias.d, a.chosen = 2;
	k->ops->router_forward(k->b, &a);
	k->ops->download(k->b, expert.h, expert.d, 16);
	const int32_t biased[4] = {20, 39, 20, 39};
	assert_memory_equal(expert.h, biased, 16);
	kit_clear(k);
}

struct moe_case {
	int64_t t, c, in;
	int experts, chosen;
	const int32_t *expert;
	double *x, *weight, *gate, *up, *down, *dout, *g, *u, *out;
};

static double moe_loss(void *arg)
{
	struct moe_case *m = arg;
	for (int64_t i = 0; i < m->t * m->c; i++) m->out[i] = 0;
	for (int64_t r = 0; r < m->t * m->chosen; r++) {
		int64_t at = m->expert[r] * m->in * m->c;
		ref_expert(m->x + r / m->chosen * m->c, m->gate + at, m->up + at, m->down + at, m->weight[r], m->out + r / m->chosen * m->c, m->g + r * m->in,
			   m->u + r * m->in, m->c, m->in);
	}
	return kit_dot(m->out, m->dout, m->t * m->c);
}

struct moe_gradient {
	double *x, *weight, *gate, *up, *down;
};

static void moe_backward(struct moe_case *m, struct moe_gradient *d)
{
	for (int64_t r = 0; r < m->t * m->chosen; r++) {
		int64_t at = m->expert[r] * m->in * m->c, row = r / m->chosen * m->c;
		ref_expert_backward(m->x + row, m->gate + at, m->up + at, m->down + at, m->weight[r], m->dout + row, m->g + r * m->in, m->u + r * m->in,
				    d->x + row, d->gate + at, d->up + at, d->down + at, d->weight + r, m->c, m->in);
	}
}

enum { SPREAD, ONE_EXPERT, HALF_EMPTY, FROZEN };

static void choose(struct kit *k, struct ints expert, struct moe_case *m, int kind)
{
	for (int64_t i = 0; i < expert.n; i++) {
		int64_t t = i / m->chosen, n = i % m->chosen;
		uint32_t first = rng_below((struct rng_key){11, RNG_TEST}, 0, (uint64_t)t, 0, (uint32_t)m->experts);
		if (kind == ONE_EXPERT) first = (uint32_t)m->experts - 1;
		expert.h[i] = (int32_t)((first + n) % (kind == HALF_EMPTY ? (m->experts + 1) / 2 : m->experts));
	}
	kit_push_ints(k, expert);
}

static void moe_case(struct kit *k, struct moe_case m, int kind)
{
	int64_t rows = m.t * m.chosen, w = m.experts * m.in * m.c;
	struct array x = kit_random(k, m.t * m.c, 1), gate = kit_random(k, w, 1), up = kit_random(k, w, 1), down = kit_random(k, w, 1), weight = kit_random(k, rows, 1);
	struct array out = kit_random(k, m.t * m.c, 1), dout = kit_random(k, m.t * m.c, 1), dx = kit_random(k, m.t * m.c, 1), dweight = kit_nan(k, rows);
	struct array dg = kit_random(k, w, 0.5f), du = kit_random(k, w, 0.5f), dd = kit_random(k, w, 0.5f);
	struct array g = kit_nan(k, rows * m.in), u = kit_nan(k, rows * m.in), work = kit_nan(k, rows * (m.c + 3 * m.in));
	struct ints expert = kit_ints(k, rows), order = kit_ints(k, 3 * rows), offset = kit_ints(k, m.experts + 1);
	choose(k, expert, &m, kind);
	float *no = NULL;
	struct experts_args a = {.x = tensor_f32(x.d, m.t, m.c), .experts = m.experts, .chosen = m.chosen, .expert = expert.d, .weight = weight.d,
				 .gate = tensor_f32(gate.d, m.experts * m.in, m.c), .up = tensor_f32(up.d, m.experts * m.in, m.c),
				 .down = tensor_f32(down.d, m.experts * m.c, m.in), .out = tensor_f32(out.d, m.t, m.c), .order = order.d, .offset = offset.d,
				 .g = tensor_f32(g.d, rows, m.in), .u = tensor_f32(u.d, rows, m.in), .work = tensor_f32(work.d, rows, m.c + 3 * m.in),
				 .dout = tensor_f32(dout.d, m.t, m.c), .dx = tensor_f32(kind == FROZEN ? no : dx.d, m.t, m.c), .dweight = dweight.d,
				 .dgate = tensor_f32(kind == FROZEN ? no : dg.d, m.experts * m.in, m.c), .dup = tensor_f32(du.d, m.experts * m.in, m.c),
				 .ddown = tensor_f32(kind == FROZEN ? no : dd.d, m.experts * m.c, m.in)};
	m.expert = expert.h, m.x = kit_widen(k, x), m.weight = kit_widen(k, weight), m.gate = kit_widen(k, gate), m.up = kit_widen(k, up);
	m.down = kit_widen(k, down), m.dout = kit_widen(k, dout), m.g = kit_doubles(k, rows * m.in), m.u = kit_doubles(k, rows * m.in), m.out = kit_doubles(k, m.t * m.c);
	struct moe_gradient d = {kit_doubles(k, m.t * m.c), kit_doubles(k, rows), kit_doubles(k, w), kit_doubles(k, w), kit_doubles(k, w)};
	moe_loss(&m);
	moe_backward(&m, &d);
	k->ops->experts_forward(k->b, &a);
	kit_expect(k, out, out.h, m.out, "experts of %lld rows, %lld wide, %d of %lld", (long long)m.t, (long long)m.c, m.experts, (long long)m.in);
	k->ops->experts_backward(k->b, &a);
	k->typical = 0.25 * (double)m.c * sqrt((double)m.in); /* a sum of products of chains over the width, which may end near zero */
	kit_expect(k, dweight, NULL, d.weight, "experts dweight of %lld rows, %lld wide, %d of %lld", (long long)m.t, (long long)m.c, m.experts, (long long)m.in);
	k->typical = 0.05;
	kit_expect(k, du, du.h, d.up, "experts dup");
	if (kind != FROZEN) {
		kit_expect(k, dx, dx.h, d.x, "experts dx of %lld rows, %lld wide, %d of %lld", (long long)m.t, (long long)m.c, m.experts, (long long)m.in);
		kit_expect(k, dg, dg.h, d.gate, "experts dgate");
		kit_expect(k, dd, dd.h, d.down, "experts ddown");
	}
	k->typical = 0;
	if (w * rows < 40000) {
		kit_differences(moe_loss, &m, m.x, d.x, m.t * m.c, 6, "experts dx");
		kit_differences(moe_loss, &m, m.weight, d.weight, rows, 6, "experts dweight");
		kit_differences(moe_loss, &m, m.gate, d.gate, w, 6, "experts dgate");
		kit_differences(moe_loss, &m, m.up, d.up, w, 6, "experts dup");
		kit_differences(moe_loss, &m, m.down, d.down, w, 6, "experts ddown");
	}
	kit_clear(k);
}

static void test_experts(void **state)
{
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			moe_case(*state, (struct moe_case){.t = kit_sizes[i], .c = kit_sizes[j], .in = 17, .experts = 5, .chosen = 2}, SPREAD);
			moe_case(*state, (struct moe_case){.t = kit_sizes[i], .c = 33, .in = kit_sizes[j], .experts = 4, .chosen = 4}, SPREAD);
		}
	moe_case(*state, (struct moe_case){.t = 127, .c = 64, .in = 32, .experts = 64, .chosen = 4}, SPREAD);
}

static void test_experts_uneven(void **state)
{
	for (int i = 0; i < KIT_SIZES; i++) {
		moe_case(*state, (struct moe_case){.t = kit_sizes[i], .c = 33, .in = 16, .experts = 7, .chosen = 1}, ONE_EXPERT);
		moe_case(*state, (struct moe_case){.t = kit_sizes[i], .c = 16, .in = 33, .experts = 8, .chosen = 2}, HALF_EMPTY);
		moe_case(*state, (struct moe_case){.t = kit_sizes[i], .c = 20, .in = 12, .experts = 3, .chosen = 2}, FROZEN);
	}
	/* more rows of one expert than a strip of the weight gradient takes */
	moe_case(*state, (struct moe_case){.t = 700, .c = 33, .in = 17, .experts = 2, .chosen = 1}, ONE_EXPERT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_router),
		cmocka_unit_test(test_router_ties),
		cmocka_unit_test(test_experts),
		cmocka_unit_test(test_experts_uneven),
	};
	return cmocka_run_group_tests_name("ops_experts", tests, kit_setup, kit_teardown);
}
