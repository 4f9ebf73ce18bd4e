/* The vocabulary: log-probability, entropy and their gradients against the naive
 * reference (temperature, top-k, top-p, forbidden tokens, ignored rows, chunks),
 * sampling by inverse CDF and greedy, and that the sampler's log-probability is
 * the head's bit for bit. */
#include "tests/ops_kit.h"
#include "tests/ops_reference.h"

struct head_case {
	int64_t t, c, v, work_rows;
	double temperature, top_p;
	int top_k, forbid, ignore;
	const int32_t *target, *forbidden;
	const uint8_t *keep; /* [T, V] */
	double *x, *w, *dl, *dh, *logits;
};

static double head_loss(void *arg)
{
	struct head_case *h = arg;
	double loss = 0;
	for (int64_t i = 0; i < h->t * h->v; i++) h->logits[i] = 0;
	ref_linear(h->x, h->w, h->logits, h->t, h->c, h->v);
	for (int64_t t = 0; t < h->t; t++) {
		double lp, e;
		if (h->target[t] < 0) continue;
		ref_head_row(h->logits + t * h->v, h->keep + t * h->v, h->v, h->temperature, h->target[t], &lp, &e);
		loss += h->dl[t] * lp + h->dh[t] * e;
	}
	return loss;
}

static void head_backward(struct head_case *h, double *dx, double *dw)
{
	double *dlogits = calloc((size_t)(h->t * h->v), sizeof *dlogits);
	for (int64_t t = 0; t < h->t; t++) {
		const double *x = h->logits + t * h->v;
		const uint8_t *keep = h->keep + t * h->v;
		double lp, e;
		if (h->target[t] < 0) continue;
		ref_head_row(x, keep, h->v, h->temperature, h->target[t], &lp, &e);
		double lse = x[h->target[t]] / h->temperature - lp;
		for (int64_t i = 0; i < h->v; i++) {
			double l = x[i] / h->temperature - lse, p = keep[i] ? exp(l) : 0;
			dlogits[t * h->v + i] = (h->dl[t] * ((i == h->target[t]) - p) - (p > 0 ? h->dh[t] * p * (l + e) : 0)) / h->temperature;
		}
	}
	ref_linear_backward(h->x, h->w, dlogits, dx, dw, h->t, h->c, h->v);
	free(dlogits);
}

/* Targets within the kept set (a sampled token always is), some ignored. */
static void head_targets(struct head_case *h, uint8_t *keep, int32_t *target, const int32_t *forbidden)
{
	for (int64_t t = 0; t < h->t; t++) {
		const double *x = h->logits + t * h->v;
		ref_kept(x, h->v, h->forbid ? forbidden[t] : -1, h->top_k, h->top_p, h->temperature, keep + t * h->v);
		int64_t at = rng_below((struct rng_key){13, RNG_TEST}, 0, (uint64_t)t, 0, (uint32_t)h->v);
		while (!keep[t * h->v + at]) at = (at + 1) % h->v;
		target[t] = h->ignore && t % 3 == 1 ? -1 : (int32_t)at;
	}
}

static void head_case(struct kit *k, struct head_case h)
{
	int64_t t = h.t, c = h.c, v = h.v;
	struct array x = kit_random(k, t * c, 1), w = kit_random(k, v * c, 1), dl = kit_random(k, t, 1), dh = kit_random(k, t, 0.5f);
	struct array lp = kit_nan(k, t), entropy = kit_nan(k, t), work = kit_nan(k, h.work_rows * v), dx = kit_random(k, t * c, 0.3f), dw = kit_random(k, v * c, 0.3f);
	struct ints target = kit_ints(k, t), forbidden = kit_ints_below(k, t, (uint32_t)v);
	uint8_t *keep = kit_host(k, (size_t)(t * v));
	double *wl = kit_doubles(k, t), *we = kit_doubles(k, t), *gx = kit_doubles(k, t * c), *gw = kit_doubles(k, v * c);
	h.x = kit_widen(k, x), h.w = kit_widen(k, w), h.dl = kit_widen(k, dl), h.dh = kit_widen(k, dh), h.logits = kit_doubles(k, t * v);
	ref_linear(h.x, h.w, h.logits, t, c, v);
	head_targets(&h, keep, target.h, forbidden.h);
	kit_push_ints(k, target);
	h.target = target.h, h.keep = keep;
	for (int64_t i = 0; i < t; i++)
		if (target.h[i] >= 0) ref_head_row(h.logits + i * v, keep + i * v, v, h.temperature, target.h[i], wl + i, we + i);
	head_loss(&h);
	head_backward(&h, gx, gw);
	struct head_args a = {.x = tensor_f32(x.d, t, c), .w = tensor_f32(w.d, v, c), .target = target.d, .forbidden = h.forbid ? forbidden.d : NULL,
			      .temperature = (float)h.temperature, .top_k = h.top_k, .top_p = (float)h.top_p, .logprob = lp.d, .entropy = entropy.d, .work = work.d,
			      .work_rows = h.work_rows, .dlogprob = dl.d, .dentropy = dh.d, .dx = tensor_f32(dx.d, t, c), .dw = tensor_f32(dw.d, v, c)};
	k->ops->head_forward(k->b, &a);
	k->typical = 1; /* both are differences of numbers of size 1 and more, and may be near zero */
	kit_expect(k, lp, NULL, wl, "head logprob %lld x %lld x %lld", (long long)t, (long long)c, (long long)v);
	kit_expect(k, entropy, NULL, we, "head entropy %lld x %lld x %lld", (long long)t, (long long)c, (long long)v);
	k->ops->head_backward(k->b, &a);
	kit_expect(k, dx, dx.h, gx, "head dx %lld x %lld x %lld", (long long)t, (long long)c, (long long)v);
	k->typical = 0.1;
	kit_expect(k, dw, dw.h, gw, "head dw %lld x %lld x %lld", (long long)t, (long long)c, (long long)v);
	k->typical = 0;
	if (t * c * v < 20000) {
		kit_differences(head_loss, &h, h.x, gx, t * c, 12, "head dx");
		kit_differences(head_loss, &h, h.w, gw, v * c, 12, "head dw");
	}
	kit_clear(k);
}

static void test_head(void **state)
{
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++) {
			head_case(*state, (struct head_case){.t = kit_sizes[i], .c = 17, .v = kit_sizes[j], .work_rows = 50, .temperature = 1, .top_p = 1});
			head_case(*state, (struct head_case){.t = 17, .c = kit_sizes[i], .v = kit_sizes[j], .work_rows = 5, .temperature = 0.7, .top_p = 1, .ignore = 1});
		}
}

static void test_head_truncated(void **state)
{
	for (int i = 2; i < KIT_SIZES; i++) {
		int64_t v = kit_sizes[i];
		head_case(*state, (struct head_case){.t = 17, .c = 9, .v = v, .work_rows = 17, .temperature = 0.8, .top_p = 1, .top_k = 5});
		head_case(*state, (struct head_case){.t = 17, .c = 9, .v = v, .work_rows = 8, .temperature = 1.3, .top_p = 0.9});
		head_case(*state, (struct head_case){.t = 17, .c = 9, .v = v, .work_rows = 8, .temperature = 1, .top_p = 0.6, .top_k = 7, .forbid = 1, .ignore = 1});
		head_case(*state, (struct head_case){.t = 17, .c = 9, .v = v, .work_rows = 8, .temperature = 1, .top_p = 1, .forbid = 1});
		head_case(*state, (struct head_case){.t = 17, .c = 9, .v = v, .work_rows = 8, .temperature = 1, .top_p = 1, .top_k = 1});
	}
}

struct sample_case {
	struct array logits, uniform, logprob;
	struct ints token, forbidden;
	struct sample_args a;
};

static void sample_make(struct kit *k, struct sample_case *s, int64_t n, int64_t v)
{
	s->logits = kit_random(k, n * v, 3);
	s->uniform = kit_random(k, n, 0.5f);
	s->logprob = kit_nan(k, n);
	s->token = kit_ints(k, n);
	s->forbidden = kit_ints_below(k, n, (uint32_t)v);
	for (int64_t i = 0; i < n; i++) s->uniform.h[i] += 0.5f;
	s->uniform.h[0] = 0;
	if (n > 1) s->uniform.h[1] = 0x1.fffffep-1f; /* the last number below 1 */
	kit_push(k, s->uniform);
	s->a = (struct sample_args){.logits = tensor_f32(s->logits.d, n, v), .temperature = 1, .top_p = 1, .uniform = s->uniform.d, .token = s->token.d,
				    .logprob = s->logprob.d};
}

static void sample_run(struct kit *k, struct sample_case *s)
{
	kit_push(k, s->logits); /* sampling overwrites them */
	k->ops->sample(k->b, &s->a);
	k->ops->download(k->b, s->token.h, s->token.d, (size_t)s->token.n * 4);
	kit_pull(k, s->logprob);
}

/* The token's interval of the cumulative sum holds the uniform number; its log-probability is the kept set's. */
static void sample_check(struct kit *k, struct sample_case *s)
{
	int64_t v = s->a.logits.cols;
	uint8_t *keep = kit_host(k, (size_t)v);
	double *x = kit_widen(k, s->logits), lp, e, t = s->a.temperature;
	for (int64_t i = 0; i < s->token.n; i++, x += v) {
		ref_kept(x, v, s->a.forbidden ? s->forbidden.h[i] : -1, s->a.top_k, s->a.top_p, t, keep);
		int32_t pick = s->token.h[i];
		assert_in_range(pick, 0, v - 1);
		assert_true(keep[pick]);
		ref_head_row(x, keep, v, t, pick, &lp, &e);
		assert_true(fabs(lp - (double)s->logprob.h[i]) < 3e-6);
		double below = 0, total = 0, u = s->uniform.h[i];
		for (int64_t j = 0; j < v; j++) {
			total += keep[j] ? exp(x[j] / t) : 0;
			below += keep[j] && j < pick ? exp(x[j] / t) : 0;
		}
		assert_true(below / total <= u + 1e-6 && u <= (below + exp(x[pick] / t)) / total + 1e-6);
	}
}

static void test_sample(void **state)
{
	struct kit *k = *state;
	for (int i = 0; i < KIT_SIZES; i++)
		for (int j = 0; j < KIT_SIZES; j++)
			for (int f = 0; f < 5; f++) {
				struct sample_case s;
				if (kit_sizes[j] == 1 && f == 4) continue; /* the only token cannot be forbidden */
				sample_make(k, &s, kit_sizes[i], kit_sizes[j]);
				s.a.temperature = f == 1 ? 0.6f : 1;
				s.a.top_k = f == 2 ? 4 : 0;
				s.a.top_p = f == 3 ? 0.7f : 1;
				s.a.forbidden = f == 4 ? s.forbidden.d : NULL;
				sample_run(k, &s);
				sample_check(k, &s);
				kit_clear(k);
			}
}

static void test_sample_greedy(void **state)
{
	struct kit *k = *state;
	struct sample_case s;
	sample_make(k, &s, 33, 127);
	for (int i = 0; i < 127; i++) s.logits.h[i] = i % 50 == 7 ? 2.0f : 1.0f; /* a tie: the lowest of 7, 57, 107 */
	s.a.temperature = 0;
	s.a.top_k = 3; /* does not count */
	sample_run(k, &s);
	double *x = kit_widen(k, s.logits), lp, e;
	uint8_t *keep = kit_host(k, 127);
	memset(keep, 1, 127);
	assert_int_equal(s.token.h[0], 7);
	for (int64_t i = 0; i < 33; i++, x += 127) {
		int best = 0;
		for (int j = 1; j < 127; j++)
			if (x[j] > x[best]) best = j;
		assert_int_equal(s.token.h[i], best);
		ref_head_row(x, keep, 127, 1, best, &lp, &e);
		assert_true(fabs(lp - (double)s.logprob.h[i]) < 3e-6);
	}
	kit_clear(k);
}

/* What was sampled has, in the learner's head, exactly the log-probability the sampler reported. */
static void test_sampler_is_head(void **state)
{
	struct kit *k = *state;
	for (int f = 0; f < 4; f++) {
		struct sample_case s;
		sample_make(k, &s, 65, 200);
		struct array x = kit_random(k, 65 * 33, 1), w = kit_random(k, 200 * 33, 0.7f), lp = kit_nan(k, 65), e = kit_nan(k, 65), work = kit_nan(k, 13 * 200);
		struct linear_args l = {.x = tensor_f32(x.d, 65, 33), .w = tensor_f32(w.d, 200, 33), .y = s.a.logits};
		k->ops->linear_forward(k->b, &l);
		s.a.temperature = 0.9f, s.a.top_k = f & 1 ? 20 : 0, s.a.top_p = f & 2 ? 0.8f : 1, s.a.forbidden = s.forbidden.d;
		k->ops->sample(k->b, &s.a);
		struct head_args h = {.x = l.x, .w = l.w, .target = s.token.d, .forbidden = s.forbidden.d, .temperature = 0.9f, .top_k = s.a.top_k, .top_p = s.a.top_p,
				      .logprob = lp.d, .entropy = e.d, .work = work.d, .work_rows = 13};
		k->ops->head_forward(k->b, &h);
		kit_pull(k, lp);
		kit_pull(k, s.logprob);
		assert_memory_equal(lp.h, s.logprob.h, 65 * 4);
		kit_clear(k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),	      cmocka_unit_test(test_head_truncated),  cmocka_unit_test(test_sample),
		cmocka_unit_test(test_sample_greedy), cmocka_unit_test(test_sampler_is_head),
	};
	return cmocka_run_group_tests_name("ops_head", tests, kit_setup, kit_teardown);
}
