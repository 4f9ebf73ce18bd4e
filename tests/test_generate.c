/* The generator: what it says about a group must be what the training forward
 * says, and must not depend on who else is in flight.
 *
 * Its promises are equalities of bits, so nothing here has a tolerance. */
#include "model_kit.h"

#include "core/base/group_copy.h"
#include "policy/generate.h"

enum { G = 6, REQUESTS = 8, MAX_NEW = 24, MIN_NEW = 3, LONGEST = 130, ROWS = LONGEST + G * MAX_NEW };
static const uint32_t prompt_length[REQUESTS] = {1, 32, 63, 64, 65, 125, 7, 130};

/* Finished groups by slot, in the order of finishing. */
struct taken {
	struct arena *arena;
	struct group group[REQUESTS];
	int count, order[REQUESTS];
};

static int take(void *arg, const struct group *g, struct err *e)
{
	struct taken *t = arg;
	t->order[t->count++] = (int)g->slot;
	return group_copy(&t->group[g->slot], g, t->arena, e);
}

struct fixture {
	struct backend *b;
	struct model *m;
	int32_t tokens[REQUESTS][LONGEST];
	struct generate_request request[REQUESTS];
	struct generate_options o;
};

static void fixture_open(struct fixture *f, int variant)
{
	struct shape s = kit_shape(variant);
	memset(f, 0, sizeof *f);
	f->b = kit_backend(2);
	f->m = kit_model(f->b, &s, 11);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		kit_tokens(f->tokens[i], prompt_length[i], 60 + i);
		f->request[i] = (struct generate_request){.step = 3, .slot = i, .prompt = 100 + i, .tokens = f->tokens[i], .prompt_tokens = prompt_length[i]};
	}
	f->o = (struct generate_options){.completions = G, .max_new = MAX_NEW, .min_new = MIN_NEW, .max_prompt = LONGEST, .batch_groups = 3,
					 .sampling = {0.7f, 0.8f, 5}, .end_token = KIT_END, .seed = 8, .purpose = RNG_SAMPLE};
}

static void fixture_close(struct fixture *f)
{
	model_close(f->m);
	backend_close(f->b);
}

static void generate(struct fixture *f, const struct generate_options *o, const struct generate_request *r, uint32_t n, struct taken *t)
{
	struct generator *g;
	struct err e;
	memset(t, 0, sizeof *t);
	t->arena = arena_open(0);
	if (generator_open(&g, f->m, o, &e) < 0) fail_msg("%s", e.msg);
	if (generator_run(g, r, n, 42, take, t, NULL, &e) < 0) fail_msg("%s", e.msg);
	assert_int_equal(t->count, n);
	generator_close(g);
}

static void same(const struct group *x, const struct group *y)
{
	char text[200];
	if (group_difference(x, y, text, sizeof text)) fail_msg("slot %u: %s", x->slot, text);
}

/* Log-probabilities of a group's tokens and the experts of their rows by the training forward. */
static void recompute(struct fixture *f, const struct group *g, const struct sampling *s, float *logprob, uint16_t *experts)
{
	struct activations *a = activations_open(f->m, 1);
	struct batch b;
	int64_t layers = shape_moe_layers(&f->m->shape), k = f->m->shape.chosen;
	batch_open(&b, f->b);
	batch_reset(&b, 4);
	batch_add(&b, g->tokens, g->prompt_tokens, g->length, g->size, 0, KIT_END, f->o.min_new, 0);
	batch_upload(&b);
	model_forward(f->m, a, &b, NULL);
	model_logprobs(f->m, a, &b, s, logprob, NULL);
	for (int64_t i = 0; i < b.outs; i++)
		for (int64_t l = 0; l < layers; l++)
			for (int64_t j = 0; j < k; j++)
				experts[(i * layers + l) * k + j] = (uint16_t)activations_experts(a, l)[b.host.out_row[i] * k + j];
	batch_close(&b);
	activations_close(a);
}

static void expect_recomputed(struct fixture *f, const struct group *g, const struct sampling *s)
{
	float logprob[G * MAX_NEW];
	uint16_t experts[G * MAX_NEW * 2 * 2];
	uint32_t n = group_response_tokens(g);
	recompute(f, g, s, logprob, experts);
	assert_memory_equal(logprob, g->logprobs, n * sizeof *logprob);
	assert_int_equal(g->moe_layers, shape_moe_layers(&f->m->shape));
	assert_memory_equal(experts, g->experts, (size_t)n * g->moe_layers * g->experts_per_token * sizeof *experts);
}

/* Lengths and ends as the options promise. */
static void expect_well_formed(const struct group *g, const struct generate_options *o)
{
	const int32_t *t = g->tokens + g->prompt_tokens;
	for (uint32_t c = 0; c < g->size; t += g->length[c++]) {
		assert_in_range(g->length[c], 1, MAX_NEW);
		for (uint32_t i = 0; i + 1 < g->length[c]; i++) assert_int_not_equal(t[i], o->end_token);
		assert_int_equal(g->finish[c] == GROUP_FINISH_END, t[g->length[c] - 1] == o->end_token);
		if (g->finish[c] == GROUP_FINISH_END) assert_true((int)g->length[c] > o->min_new);
		if (g->finish[c] == GROUP_FINISH_LENGTH) assert_int_equal(g->length[c], MAX_NEW);
	}
}

static void test_sampler_and_training_forward_agree(void **state)
{
	(void)state;
	for (int v = 0; v < KIT_VARIANTS; v++) {
		struct fixture f;
		struct taken t;
		int ends = 0;
		fixture_open(&f, v);
		generate(&f, &f.o, f.request, REQUESTS, &t);
		for (int i = 0; i < REQUESTS; i++) {
			assert_int_equal(t.group[i].policy_version, 42);
			expect_well_formed(&t.group[i], &f.o);
			expect_recomputed(&f, &t.group[i], &f.o.sampling);
			for (uint32_t c = 0; c < G; c++) ends += t.group[i].finish[c] == GROUP_FINISH_END;
		}
		assert_true(ends > 2);
		arena_close(t.arena);
		fixture_close(&f);
	}
}

/* One weight moved by one unit in its last place is seen in the log-probabilities. */
static void test_another_weight_is_seen(void **state)
{
	(void)state;
	struct fixture f;
	struct taken t;
	fixture_open(&f, 1);
	generate(&f, &f.o, f.request, 2, &t);
	float *host = malloc((size_t)f.m->params.floats * sizeof *host), logprob[G * MAX_NEW];
	uint16_t experts[G * MAX_NEW * 2 * 2];
	model_get(f.m, host);
	float *w = host + f.m->params.list[f.m->params.norm].offset;
	*w = nextafterf(*w, 100);
	model_put(f.m, host);
	free(host);
	recompute(&f, &t.group[1], &f.o.sampling, logprob, experts);
	assert_memory_not_equal(logprob, t.group[1].logprobs, group_response_tokens(&t.group[1]) * sizeof *logprob);
	arena_close(t.arena);
	fixture_close(&f);
}

static void test_neighbours_change_nothing(void **state)
{
	(void)state;
	static const int in_flight[] = {1, 3, 8};
	struct fixture f;
	struct taken t[3], one, back;
	fixture_open(&f, 2);
	for (int i = 0; i < 3; i++) {
		struct generate_options o = f.o;
		o.batch_groups = in_flight[i];
		generate(&f, &o, f.request, REQUESTS, &t[i]);
		for (int s = 0; i && s < REQUESTS; s++) same(&t[0].group[s], &t[i].group[s]);
	}
	/* one at a time they finish in their order; together the short ones finish first */
	for (int s = 0; s < REQUESTS; s++) assert_int_equal(t[0].order[s], s);
	struct generate_request reversed[REQUESTS];
	for (int s = 0; s < REQUESTS; s++) reversed[s] = f.request[REQUESTS - 1 - s];
	generate(&f, &f.o, reversed, REQUESTS, &back);
	for (int s = 0; s < REQUESTS; s++) {
		same(&t[0].group[s], &back.group[s]);
		generate(&f, &f.o, &f.request[s], 1, &one);
		same(&t[0].group[s], &one.group[s]);
		arena_close(one.arena);
	}
	/* and what should matter does */
	struct generate_request other = f.request[0];
	char text[200];
	other.step++;
	generate(&f, &f.o, &other, 1, &one);
	one.group[0].step--;
	assert_int_equal(group_difference(&t[0].group[0], &one.group[0], text, sizeof text), 1);
	for (int i = 0; i < 3; i++) arena_close(t[i].arena);
	arena_close(one.arena), arena_close(back.arena);
	fixture_close(&f);
}

/* Greedy: the most probable token that is allowed, the lower one of equals; the log-probability is that of temperature 1. */
static void test_greedy(void **state)
{
	(void)state;
	struct fixture f;
	struct taken t;
	fixture_open(&f, 0);
	f.o.sampling = (struct sampling){0.0f, 1.0f, 0};
	generate(&f, &f.o, f.request, REQUESTS, &t);
	for (int i = 0; i < REQUESTS; i++) {
		const struct group *g = &t.group[i];
		struct activations *a = activations_open(f.m, 0);
		struct batch b;
		float *logits = calloc(G * MAX_NEW * KIT_VOCAB, sizeof *logits);
		expect_recomputed(&f, g, &(struct sampling){1.0f, 1.0f, 0});
		batch_open(&b, f.b);
		batch_reset(&b, 4);
		batch_add(&b, g->tokens, g->prompt_tokens, g->length, g->size, 0, KIT_END, MIN_NEW, 0);
		batch_upload(&b);
		model_forward(f.m, a, &b, NULL);
		float *device = f.m->ops->alloc(f.b, G * MAX_NEW * KIT_VOCAB * sizeof *device);
		struct linear_args l = {.x = model_outs(f.m, a, &b), .w = params_view(&f.m->params, f.m->params.lm_head, f.m->weights),
					.y = tensor_f32(device, b.outs, KIT_VOCAB)};
		f.m->ops->linear_forward(f.b, &l);
		f.m->ops->download(f.b, logits, device, (size_t)(b.outs * KIT_VOCAB) * sizeof *logits);
		for (int64_t r = 0; r < b.outs; r++) {
			int32_t best = -1;
			for (int32_t w = 0; w < KIT_VOCAB; w++)
				if (w != b.host.forbidden[r] && (best < 0 || logits[r * KIT_VOCAB + w] > logits[r * KIT_VOCAB + best])) best = w;
			assert_int_equal(b.host.target[r], best);
		}
		for (uint32_t c = 1; c < G; c++) assert_int_equal(g->length[c], g->length[0]);
		f.m->ops->release(f.b, device);
		free(logits);
		batch_close(&b);
		activations_close(a);
	}
	arena_close(t.arena);
	fixture_close(&f);
}

static struct tokenizer *letters(void)
{
	static const char text[] = "stop at the top or stop to hop, then stop the shop at the stop";
	static const char *const specials[] = {"<pad>", "<end>"};
	struct tokenizer *t;
	struct err e;
	if (tokenizer_train(&t, &(struct tokenizer_text){text, sizeof text - 1}, 1, 270, specials, 2, &e) < 0) fail_msg("%s", e.msg);
	return t;
}

static int holds(const struct tokenizer *t, const int32_t *ids, uint32_t n, const char *what)
{
	char text[2048];
	int64_t bytes = tokenizer_decode(t, ids, n, TOKENIZER_SKIP_SPECIAL, text, sizeof text, NULL);
	assert_true(bytes >= 0 && bytes < (int64_t)sizeof text);
	return strstr(text, what) != NULL;
}

/* A stop text ends a completion at the token that completes it, and is not part of its text. */
static void test_stop_texts(void **state)
{
	(void)state;
	struct shape s = kit_shape(0);
	struct fixture f;
	struct taken t;
	int stopped = 0, others = 0;
	fixture_open(&f, 0);
	model_close(f.m);
	struct tokenizer *k = letters();
	s.vocab = tokenizer_vocab_size(k);
	f.m = kit_model(f.b, &s, 12);
	f.o.tokenizer = k;
	f.o.stop = "op";
	f.o.sampling = (struct sampling){2.0f, 1.0f, 0};
	generate(&f, &f.o, f.request, REQUESTS, &t);
	for (int i = 0; i < REQUESTS; i++) {
		const struct group *g = &t.group[i];
		const int32_t *ids = g->tokens + g->prompt_tokens;
		for (uint32_t c = 0; c < G; ids += g->length[c++]) {
			assert_null(strstr(g->text[c], f.o.stop));
			assert_int_equal(holds(k, ids, g->length[c], f.o.stop), g->finish[c] == GROUP_FINISH_STOP);
			assert_false(holds(k, ids, g->length[c] - 1, f.o.stop));
			if (g->finish[c] == GROUP_FINISH_STOP) stopped++;
			else others++;
		}
		expect_recomputed(&f, g, &f.o.sampling);
	}
	print_message("%d stopped, %d not\n", stopped, others);
	assert_true(stopped >= 2 && others >= 2);
	arena_close(t.arena);
	tokenizer_close(k);
	fixture_close(&f);
}

/* A model that draws three tokens only, with equal chances, whatever came before: the first element of every
 * embedding outweighs all else, and only their rows of the output layer look at it. */
static void draw_only(struct model *m, const int32_t ids[3])
{
	const struct param *embed = &m->params.list[m->params.embed], *head = &m->params.list[m->params.lm_head];
	float *host = malloc((size_t)m->params.floats * sizeof *host);
	assert_non_null(host);
	model_get(m, host);
	for (int64_t i = 0; i < embed->rows; i++) host[embed->offset + i * embed->cols] = 1000;
	memset(host + head->offset, 0, (size_t)head->size * sizeof *host);
	for (int i = 0; i < 3; i++) host[head->offset + ids[i] * head->cols] = 20;
	model_put(m, host);
	free(host);
}

/* The stop text is looked for in the text without special tokens: one in its middle does not hide it. */
static void test_a_special_token_within_a_stop_text(void **state)
{
	(void)state;
	struct shape s = kit_shape(0);
	struct fixture f;
	struct taken t;
	int within = 0;
	fixture_open(&f, 0);
	model_close(f.m);
	struct tokenizer *k = letters();
	s.vocab = tokenizer_vocab_size(k);
	f.m = kit_model(f.b, &s, 13);
	const int32_t ids[] = {tokenizer_id(k, "<pad>"), tokenizer_id(k, "o"), tokenizer_id(k, "p")};
	draw_only(f.m, ids);
	f.o.tokenizer = k;
	f.o.stop = "op";
	f.o.sampling = (struct sampling){1.0f, 1.0f, 0};
	generate(&f, &f.o, f.request, REQUESTS, &t);
	for (int i = 0; i < REQUESTS; i++) {
		const struct group *g = &t.group[i];
		const int32_t *at = g->tokens + g->prompt_tokens;
		for (uint32_t c = 0; c < G; at += g->length[c++]) {
			assert_int_equal(holds(k, at, g->length[c], f.o.stop), g->finish[c] == GROUP_FINISH_STOP);
			assert_null(strstr(g->text[c], f.o.stop));
			within += g->finish[c] == GROUP_FINISH_STOP && at[g->length[c] - 2] == ids[0];
		}
	}
	assert_true(within > 2);
	arena_close(t.arena);
	tokenizer_close(k);
	fixture_close(&f);
}

static int refuse(void *arg, const struct group *g, struct err *e)
{
	(void)g;
	return ++*(int *)arg == 2 ? err_set(e, ERR_RANGE, "enough") : 0;
}

/* A run that ends early leaves a generator that can be used again, with all its pages. */
static void test_stopped_and_used_again(void **state)
{
	(void)state;
	struct fixture f;
	struct generator *g;
	struct taken fresh, again = {.arena = arena_open(0)};
	struct err e;
	atomic_int stop = 1;
	fixture_open(&f, 0);
	generate(&f, &f.o, f.request, REQUESTS, &fresh);
	assert_int_equal(generator_open(&g, f.m, &f.o, &e), 0);
	for (int i = 0; i < 20; i++) {
		int calls = 0;
		assert_int_equal(generator_run(g, f.request, REQUESTS, 42, refuse, &calls, NULL, &e), ERR_RANGE);
		assert_int_equal(generator_run(g, f.request, REQUESTS, 42, refuse, &calls, &stop, &e), ERR_STOPPED);
	}
	assert_int_equal(generator_run(g, f.request, REQUESTS, 42, take, &again, NULL, &e), 0);
	for (int i = 0; i < REQUESTS; i++) same(&fresh.group[i], &again.group[i]);
	generator_close(g);
	arena_close(fresh.arena), arena_close(again.arena);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sampler_and_training_forward_agree),
		cmocka_unit_test(test_another_weight_is_seen),
		cmocka_unit_test(test_neighbours_change_nothing),
		cmocka_unit_test(test_greedy),
		cmocka_unit_test(test_stop_texts),
		cmocka_unit_test(test_a_special_token_within_a_stop_text),
		cmocka_unit_test(test_stopped_and_used_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
