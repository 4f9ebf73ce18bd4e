/* Reward models that compare: permuted candidates have permuted scores bit for
 * bit, in the scorer and through the fit; the block against a naive reference in
 * double, its gradient against central differences of that; a rule that only a
 * comparison can learn; the files. */
#include "model_kit.h"

#include "core/base/fs.h"
#include "policy/model_folder.h"
#include "reward/reward_fit.h"

enum { PROMPT = 5, LONG = 9, TOKENS = PROMPT + GROUP_MAX * LONG, GROUPS = 48 };

struct world {
	struct backend *backend;
	char folder[64], policy[96], reward[96];
	int32_t tokens[2 * GROUPS][TOKENS];
	struct ranked_group g[2 * GROUPS];
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct err e;
	assert_non_null(w);
	strcpy(w->folder, "/tmp/tenfold-group-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	snprintf(w->policy, sizeof w->policy, "%s/policy", w->folder);
	snprintf(w->reward, sizeof w->reward, "%s/reward", w->folder);
	w->backend = kit_backend(2);
	struct shape s = kit_shape(1);
	s.heads_kind = HEAD_LM;
	struct model *m = kit_model(w->backend, &s, 3);
	if (model_folder_write(w->policy, m, NULL, &e) < 0) fail_msg("%s", e.msg);
	model_close(m);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct err e;
	fs_remove_tree(w->folder, &e);
	backend_close(w->backend);
	free(w);
	return 0;
}

static struct reward_model *start(struct world *w, int group, uint32_t members)
{
	struct reward_model *m;
	struct err e;
	if (reward_model_start(&m, w->policy, w->backend, group, members, 4, NULL, &e) < 0) fail_msg("%s", e.msg);
	return m;
}

/* Random completions of 0..LONG-1 tokens; some are twice in the group. */
static struct group *make_group(struct world *w, uint32_t i, uint32_t size)
{
	struct group *g = &w->g[i].group;
	*g = (struct group){.slot = i, .size = size, .prompt_tokens = PROMPT, .tokens = w->tokens[i], .prompt_text = ""};
	kit_tokens(w->tokens[i], TOKENS, 100 + i);
	uint32_t at = PROMPT, last = PROMPT;
	for (uint32_t c = 0; c < size; c++) {
		g->length[c] = (i + c * 5) % LONG;
		if (c % 4 == 3) {
			g->length[c] = g->length[c - 1];
			memcpy(w->tokens[i] + at, w->tokens[i] + last, g->length[c] * sizeof(int32_t));
		}
		last = at;
		at += g->length[c];
	}
	return g;
}

/* Candidate c of `to` is candidate order[c] of `from`. */
static void permute(struct group *to, int32_t *tokens, const struct group *from, const uint32_t *order)
{
	uint32_t begin[GROUP_MAX], at = from->prompt_tokens;
	for (uint32_t c = 0; c < from->size; at += from->length[c++]) begin[c] = at;
	*to = *from;
	memcpy(tokens, from->tokens, from->prompt_tokens * sizeof *tokens);
	at = from->prompt_tokens;
	for (uint32_t c = 0; c < from->size; at += to->length[c++]) {
		to->length[c] = from->length[order[c]];
		memcpy(tokens + at, from->tokens + begin[order[c]], to->length[c] * sizeof *tokens);
	}
	to->tokens = tokens;
}

static void test_permuted_candidates_have_permuted_scores(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 1, 2);
	static const uint32_t sizes[] = {2, 3, 10, 17, 33, 64};
	static int32_t tokens[TOKENS];
	for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint32_t n = sizes[i], order[GROUP_MAX];
		double score[GROUP_MAX], spread[GROUP_MAX], other[GROUP_MAX], other_spread[GROUP_MAX];
		const struct group *g = make_group(w, i, n);
		reward_model_scores(m, &g, 1, score, spread);
		assert_true(score[0] != score[1]);
		for (uint32_t round = 0; round < 20; round++) {
			struct group mixed;
			const struct group *list = &mixed;
			rng_permutation((struct rng_key){8, RNG_TEST}, i, round, n, order);
			permute(&mixed, tokens, g, order);
			reward_model_scores(m, &list, 1, other, other_spread);
			for (uint32_t c = 0; c < n; c++) {
				assert_memory_equal(&other[c], &score[order[c]], sizeof other[c]);
				assert_memory_equal(&other_spread[c], &spread[order[c]], sizeof other[c]);
			}
		}
	}
	reward_model_close(m);
}

static void test_sees_its_group_and_no_other(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 1, 1);
	const struct group *groups[8];
	double all[8 * GROUP_MAX], one[GROUP_MAX];
	for (uint32_t i = 0; i < 8; i++) groups[i] = make_group(w, i, 2 + i * 7);
	reward_model_scores(m, groups, 8, all, NULL);
	const double *at = all;
	for (uint32_t i = 0; i < 8; at += groups[i++]->size) {
		reward_model_scores(m, &groups[i], 1, one, NULL);
		assert_memory_equal(one, at, groups[i]->size * sizeof *one);
	}
	/* another last candidate: the first one's score is another */
	struct group fewer = *groups[3];
	const struct group *list = &fewer;
	fewer.size--;
	reward_model_scores(m, &list, 1, one, NULL);
	reward_model_scores(m, &groups[3], 1, all, NULL);
	assert_true(one[0] != all[0] && fabs(one[0] - all[0]) < 1);
	reward_model_close(m);
}

/* ---- the block against a reference ---- */

struct reference {
	const struct model *m;
	const double *w; /* the model's arena */
	int64_t c, a, f, heads, d;
};

static void linear(const struct reference *r, int param, const double *x, int64_t in, int64_t out, double *y, int add)
{
	const double *w = r->w + r->m->params.list[param].offset;
	for (int64_t o = 0; o < out; o++) {
		double s = add ? y[o] : 0;
		for (int64_t i = 0; i < in; i++) s += w[o * in + i] * x[i];
		y[o] = s;
	}
}

static void rms_norm(const struct reference *r, int param, const double *x, double *y)
{
	const double *w = r->w + r->m->params.list[param].offset;
	double s = 0;
	for (int64_t i = 0; i < r->c; i++) s += x[i] * x[i];
	for (int64_t i = 0; i < r->c; i++) y[i] = x[i] / sqrt(s / (double)r->c + r->m->shape.norm_eps) * w[i];
}

enum { RC = 32, RN = 16 }; /* width; candidates at most */

/* score [n] of one group's vectors x [n, C] */
static void reference_scores(const struct reference *r, const double *x, int n, double *score)
{
	const struct layer_params *p = &r->m->params.group;
	static double q[RN][RC], k[RN][RC], v[RN][RC];
	double n1[RC], att[RC], y[RC], g[2 * RC], u[2 * RC];
	for (int i = 0; i < n; i++) {
		rms_norm(r, p->norm1, x + i * r->c, n1);
		linear(r, p->q, n1, r->c, r->a, q[i], 0), linear(r, p->k, n1, r->c, r->a, k[i], 0), linear(r, p->v, n1, r->c, r->a, v[i], 0);
	}
	for (int i = 0; i < n; i++) {
		memset(att, 0, sizeof att);
		for (int64_t h = 0; h < r->heads; h++) {
			double e[RN], sum = 0;
			for (int j = 0; j < n; j++) {
				double dot = 0;
				for (int64_t d = h * r->d; d < (h + 1) * r->d; d++) dot += q[i][d] * k[j][d];
				sum += e[j] = exp(dot / sqrt((double)r->d));
			}
			for (int j = 0; j < n; j++)
				for (int64_t d = h * r->d; d < (h + 1) * r->d; d++) att[d] += e[j] / sum * v[j][d];
		}
		memcpy(y, x + i * r->c, sizeof y);
		linear(r, p->o, att, r->a, r->c, y, 1);
		rms_norm(r, p->norm2, y, n1);
		linear(r, p->dense_gate, n1, r->c, r->f, g, 0), linear(r, p->dense_up, n1, r->c, r->f, u, 0);
		for (int64_t d = 0; d < r->f; d++) g[d] = g[d] / (1 + exp(-g[d])) * u[d];
		linear(r, p->dense_down, g, r->f, r->c, y, 1);
		score[i] = r->w[r->m->params.list[r->m->params.score_bias].offset];
		linear(r, r->m->params.score, y, r->c, 1, &score[i], 1);
	}
}

/* Σ weight · score over two groups of 5 and 16 vectors. */
static double reference_loss(const struct reference *r, const double *x, double *score)
{
	double sum = 0;
	reference_scores(r, x, 5, score);
	reference_scores(r, x + 5 * r->c, 16, score + 5);
	for (int i = 0; i < 21; i++) sum += (double)kit_weight(40, i) * score[i];
	return sum;
}

/* `got` against central differences by `at[n]`, every one. Returns the largest error over the largest derivative. */
static double worst_slope(const struct reference *r, const double *x, double *at, int64_t n, const float *got)
{
	double worst = 0, most = 0, score[21];
	for (int64_t i = 0; i < n; i++) {
		double keep = at[i], step = 1e-5;
		at[i] = keep + step;
		double up = reference_loss(r, x, score);
		at[i] = keep - step;
		double slope = (up - reference_loss(r, x, score)) / (2 * step);
		at[i] = keep;
		worst = fmax(worst, fabs(slope - (double)got[i]));
		most = fmax(most, fabs(slope));
	}
	assert_true(most > 0);
	return worst / most;
}

static void test_block_against_reference(void **state)
{
	struct world *w = *state;
	struct shape s = kit_shape(0);
	s.heads_kind = HEAD_SCALAR | HEAD_GROUP;
	struct model *m = kit_model(w->backend, &s, 6);
	const struct params *p = &m->params;
	const struct ops *o = m->ops;
	const struct group *groups[2] = {make_group(w, 0, 5), make_group(w, 1, 16)};
	float x[21 * RC], score[21], dscore[21], *host = malloc((size_t)p->floats * 4), *grad = malloc((size_t)p->floats * 4);
	double *weights = malloc((size_t)p->floats * sizeof *weights), dx[21 * RC], expected[21];
	assert_true(host && grad && weights && s.width == RC && s.heads * s.head_dim == RC);
	model_get(m, host);
	for (int64_t i = 0; i < p->floats; i++) weights[i] = (double)host[i];
	for (int i = 0; i < 21 * RC; i++) x[i] = 2 * kit_weight(41, i), dx[i] = (double)x[i];
	for (int i = 0; i < 21; i++) dscore[i] = kit_weight(40, i);
	float *there = o->alloc(m->backend, sizeof x), *grads = o->alloc(m->backend, (size_t)p->floats * 4);
	o->upload(m->backend, there, x, sizeof x);
	struct group_block *b = group_block_open(m);
	group_block_forward(b, tensor_f32(there, 21, RC), groups, 2, score);
	const float *back = group_block_backward(b, dscore, grads);
	struct reference r = {m, weights, RC, RC, PARAMS_GROUP_WIDTH * RC, s.heads, s.head_dim};
	reference_loss(&r, dx, expected);
	for (int i = 0; i < 21; i++)
		if (!(fabs((double)score[i] - expected[i]) < 2e-6 * fmax(1, fabs(expected[i])))) fail_msg("score %d: %.8g, not %.8g", i, (double)score[i], expected[i]);
	o->download(m->backend, grad, grads, (size_t)p->floats * 4);
	const struct layer_params *l = &p->group;
	const int checked[] = {l->norm1, l->q, l->k, l->v, l->o, l->norm2, l->dense_gate, l->dense_up, l->dense_down, p->score, p->score_bias};
	for (size_t i = 0; i < sizeof checked / sizeof *checked; i++) {
		const struct param *q = &p->list[checked[i]];
		double worst = worst_slope(&r, dx, weights + q->offset, q->size, grad + q->offset);
		if (!(worst < 5e-6)) fail_msg("%s: gradient differs by %g of its largest element", q->name, worst);
		grad[q->offset] *= 1.01f; /* the check sees an error of one per cent */
		grad[q->offset] += 1e-3f;
		assert_true(worst_slope(&r, dx, weights + q->offset, 1, grad + q->offset) > 5e-6);
	}
	o->download(m->backend, x, back, sizeof x);
	double worst = worst_slope(&r, dx, dx, 21 * RC, x);
	if (!(worst < 5e-6)) fail_msg("input: gradient differs by %g of its largest element", worst);
	group_block_close(b);
	o->release(m->backend, there), o->release(m->backend, grads);
	free(host), free(grad), free(weights);
	model_close(m);
}

/* ---- what only a comparison can know ---- */

/* One prompt, completions of the one token 7 or 8; those that are as the most of their group are better. */
static void make_majorities(struct world *w)
{
	for (uint32_t i = 0; i < 2 * GROUPS; i++) {
		struct group *g = make_group(w, i, i % 5 == 4 ? 5 : 10);
		float reward[GROUP_MAX];
		int32_t most = i % 2 ? 7 : 8;
		memcpy(w->tokens[i], w->tokens[0], PROMPT * sizeof(int32_t));
		for (uint32_t c = 0; c < g->size; c++) {
			int with = (c + i / 2) % 5 < 3;
			g->length[c] = 1;
			w->tokens[i][PROMPT + c] = with ? most : 15 - most;
			reward[c] = with ? 1.0f : 0.0f;
		}
		g->reward = reward;
		store_comparison_from_reward(&w->g[i].ranking, g);
		g->reward = NULL;
	}
}

static double fitted_accuracy(struct world *w, int group, double *score)
{
	struct reward_model *m = start(w, group, 1);
	struct config c;
	struct rank_eval v;
	struct err e;
	config_defaults(&c);
	c.fit.epochs = 8, c.fit.batch = 8, c.fit.reference = 64, c.fit.optim.lr = 3e-3, c.fit.label_smoothing = 0.02;
	struct reward_fit_options o = {.fit = &c.fit, .seed = 5};
	if (reward_fit(m, w->g, GROUPS, &o, &e) < 0) fail_msg("%s", e.msg);
	reward_fit_evaluate(m, w->g + GROUPS, GROUPS, &v);
	const struct group *first = &w->g[0].group;
	reward_model_scores(m, &first, 1, score, NULL);
	reward_model_close(m);
	return v.accuracy;
}

static void test_learns_what_only_a_comparison_shows(void **state)
{
	struct world *w = *state;
	double a[GROUP_MAX], b[GROUP_MAX];
	make_majorities(w);
	double pointwise = fitted_accuracy(w, 0, a), group = fitted_accuracy(w, 1, a), again = fitted_accuracy(w, 1, b);
	if (!(pointwise < 0.7)) fail_msg("a pointwise model has an accuracy of %.3f on held-out groups: the rule shows without comparing", pointwise);
	if (!(group > 0.95)) fail_msg("a group model has an accuracy of %.3f on held-out groups", group);
	assert_true(group == again);
	assert_memory_equal(a, b, 10 * sizeof *a);
}

static void test_files(void **state)
{
	struct world *w = *state;
	struct err e;
	char path[128], *text;
	size_t bytes;
	for (int group = 0; group < 2; group++) {
		struct reward_model *m = start(w, group, 2), *n;
		double a[GROUP_MAX], b[GROUP_MAX];
		const struct group *g = make_group(w, 0, 10);
		reward_model_scores(m, &g, 1, a, NULL);
		if (reward_model_save(m, w->reward, NULL, &e) < 0) fail_msg("%s", e.msg);
		if (reward_model_open(&n, w->reward, w->backend, &e) < 0) fail_msg("%s", e.msg);
		assert_int_equal(n->group, group);
		assert_string_equal(n->version, m->version);
		reward_model_scores(n, &g, 1, b, NULL);
		assert_memory_equal(a, b, 10 * sizeof *a);
		reward_model_close(m);
		reward_model_close(n);
		/* the file of a pointwise model may come without the kind, a group model's is then not what it says */
		snprintf(path, sizeof path, "%s/reward.json", w->reward);
		assert_int_equal(fs_read(path, 1 << 20, &text, &bytes, &e), 0);
		char *kind = strstr(text, "\"scorer\"");
		assert_non_null(kind);
		memcpy(kind, "\"former\"", 8);
		assert_int_equal(fs_write_atomic(path, text, bytes, &e), 0);
		free(text);
		assert_int_equal(reward_model_open(&n, w->reward, w->backend, &e), group ? ERR_MISMATCH : 0);
		reward_model_close(n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_permuted_candidates_have_permuted_scores, setup, teardown),
					   cmocka_unit_test_setup_teardown(test_sees_its_group_and_no_other, setup, teardown),
					   cmocka_unit_test_setup_teardown(test_block_against_reference, setup, teardown),
					   cmocka_unit_test_setup_teardown(test_learns_what_only_a_comparison_shows, setup, teardown),
					   cmocka_unit_test_setup_teardown(test_files, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
