/* Reward models on tiny shapes: where the head is read, that a score depends on
 * prompt and completion alone, normalisation, fitting a rule that can be
 * learned, the files, the scorer. */
#include "model_kit.h"

#include "core/base/fs.h"
#include "policy/model_folder.h"
#include "reward/reward_fit.h"

#include <unistd.h>

enum { GROUPS = 24, SIZE = 10, PROMPT = 70, TOKENS = PROMPT + SIZE * 8 };

struct world {
	struct backend *backend;
	char folder[64], policy[96], reward[96];
	int32_t tokens[GROUPS][TOKENS];
	struct ranked_group g[GROUPS];
	const struct group *groups[GROUPS];
};

/* Groups of random tokens; completions with token 7 at the end are better, and tie among themselves. */
static void make_groups(struct world *w)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		struct group *g = &w->g[i].group;
		float reward[SIZE];
		*g = (struct group){.slot = i, .size = SIZE, .prompt_tokens = i % 2 ? PROMPT : 5, .tokens = w->tokens[i], .prompt_text = ""};
		kit_tokens(w->tokens[i], TOKENS, i);
		uint32_t at = g->prompt_tokens;
		for (uint32_t c = 0; c < SIZE; c++) {
			g->length[c] = i == 0 && c == 3 ? 0 : 1 + (i + c) % 7;
			at += g->length[c];
			if (g->length[c] && c % 3 == 0) w->tokens[i][at - 1] = 7;
			reward[c] = g->length[c] && w->tokens[i][at - 1] == 7;
		}
		g->reward = reward;
		store_comparison_from_reward(&w->g[i].ranking, g);
		g->reward = NULL;
		w->groups[i] = g;
	}
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct err e;
	assert_non_null(w);
	strcpy(w->folder, "/tmp/tenfold-reward-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	snprintf(w->policy, sizeof w->policy, "%s/policy", w->folder);
	snprintf(w->reward, sizeof w->reward, "%s/reward", w->folder);
	w->backend = kit_backend(1);
	struct shape s = kit_shape(1);
	s.heads_kind = HEAD_LM;
	struct model *m = kit_model(w->backend, &s, 3);
	if (model_folder_write(w->policy, m, NULL, &e) < 0) fail_msg("%s", e.msg);
	model_close(m);
	make_groups(w);
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

static struct reward_model *start_kind(struct world *w, int group, uint32_t members, uint64_t seed)
{
	struct reward_model *m;
	struct err e;
	if (reward_model_start(&m, w->policy, w->backend, group, members, seed, NULL, &e) < 0) fail_msg("%s", e.msg);
	return m;
}

static struct reward_model *start(struct world *w, uint32_t members, uint64_t seed)
{
	return start_kind(w, 0, members, seed);
}

static void test_head_is_read_at_the_last_token(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 1, 1);
	struct model *model = m->member[0].model;
	float head[SIZE], whole[TOKENS];
	const struct group *g = &w->g[0].group; /* has an empty completion */
	reward_model_heads(m, 0, &g, 1, head);
	struct batch b;
	struct activations *a = activations_open(model, 0);
	batch_open(&b, w->backend);
	const int32_t *t = g->tokens + g->prompt_tokens;
	for (uint32_t c = 0; c < SIZE; c++) {
		/* prompt and completion as one long prompt, with one more token that predicts: its row is the last one */
		int32_t line[TOKENS];
		uint32_t n = g->prompt_tokens + g->length[c];
		memcpy(line, g->tokens, g->prompt_tokens * sizeof *line);
		memcpy(line + g->prompt_tokens, t, g->length[c] * sizeof *line);
		line[n] = 2;
		t += g->length[c];
		batch_reset(&b, 4);
		batch_add(&b, line, n, &(uint32_t){1}, 1, 0, -1, 0, 0);
		batch_upload(&b);
		model_forward(model, a, &b, NULL);
		model_scalars(model, a, &b, whole);
		if (memcmp(&whole[0], &head[c], sizeof head[c])) fail_msg("completion %u: %.9g, alone %.9g", c, (double)head[c], (double)whole[0]);
	}
	batch_close(&b);
	activations_close(a);
	reward_model_close(m);
}

static void test_equal_completions_are_computed_once(void **state)
{
	struct world *w = *state;
	/* completions: a, b, a, (empty), ab, (empty), a — four different ones */
	int32_t tokens[] = {5, 6, /* prompt */ 7, 8, 7, /* ab: */ 7, 8, 7};
	struct group g = {.size = 7, .prompt_tokens = 2, .length = {1, 1, 1, 0, 2, 0, 1}, .tokens = tokens}, other = w->g[1].group;
	const struct group *groups[] = {&other, &g};
	struct distinct d = {0};
	struct batch b;
	batch_open(&b, w->backend);
	batch_reset(&b, 4);
	distinct_add(&d, &b, groups, 2, 1);
	assert_int_equal(d.count[1], 4);
	assert_int_equal(b.outs, d.count[0] + 4);
	const uint8_t of[] = {0, 1, 0, 2, 3, 2, 0};
	assert_memory_equal(d.of[1], of, sizeof of);
	float v[GROUP_MAX] = {0};
	const float want[] = {10, 20, 10, 30, 40, 30, 10}, fold[] = {1 + 4 + 64, 2, 8 + 32, 16};
	for (uint32_t i = 0; i < 4; i++) v[d.count[0] + i] = (float)(10 * (i + 1));
	distinct_expand(&d, v);
	assert_memory_equal(v + other.size, want, sizeof want);
	for (uint32_t i = 0; i < 7; i++) v[other.size + i] = (float)(1 << i);
	distinct_fold(&d, v);
	assert_memory_equal(v + d.count[0], fold, sizeof fold);
	batch_reset(&b, 4);
	distinct_add(&d, &b, groups, 2, 0);
	assert_int_equal(b.outs, other.size + 7);
	distinct_close(&d);
	batch_close(&b);
}

static void test_a_score_depends_on_its_completion_alone(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 2, 1);
	double all[GROUPS * SIZE], spread[GROUPS * SIZE], one[SIZE], other[SIZE];
	reward_model_scores(m, w->groups, GROUPS, all, spread);
	for (uint32_t i = 0; i < GROUPS; i++) {
		reward_model_scores(m, &w->groups[i], 1, one, other);
		assert_memory_equal(one, all + i * SIZE, sizeof one);
		assert_memory_equal(other, spread + i * SIZE, sizeof other);
		/* the completions in the opposite order */
		struct group turned = w->g[i].group;
		int32_t tokens[TOKENS];
		const int32_t *from = turned.tokens + turned.prompt_tokens + group_response_tokens(&turned);
		int32_t *to = tokens + turned.prompt_tokens;
		memcpy(tokens, turned.tokens, turned.prompt_tokens * sizeof *tokens);
		for (uint32_t c = 0; c < SIZE; c++) {
			uint32_t n = w->g[i].group.length[SIZE - 1 - c];
			turned.length[c] = n;
			from -= n;
			memcpy(to, from, n * sizeof *to);
			to += n;
		}
		turned.tokens = tokens;
		const struct group *g = &turned;
		reward_model_scores(m, &g, 1, one, NULL);
		for (uint32_t c = 0; c < SIZE; c++) assert_memory_equal(&one[c], &all[i * SIZE + SIZE - 1 - c], sizeof one[c]);
	}
	assert_true(spread[0] > 0); /* two heads, drawn apart */
	reward_model_close(m);
}

static void test_normalised(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 1, 1);
	double score[GROUPS * SIZE];
	for (int64_t count = 20; count <= 120; count += 100) {
		double mean = 0, square = 0;
		reward_model_normalise(m, 0, w->groups, GROUPS, count);
		reward_model_scores(m, w->groups, GROUPS, score, NULL);
		for (int64_t i = 0; i < count; i++) {
			double x = score[i % GROUPS * SIZE + i / GROUPS]; /* the first completions, then the second ones */
			mean += x / (double)count, square += x * x / (double)count;
		}
		assert_true(fabs(mean) < 1e-9 && fabs(square - 1) < 1e-9);
	}
	reward_model_close(m);
}

static struct config_fit fit_config(const char *loss)
{
	struct config c;
	config_defaults(&c);
	c.fit.epochs = 12;
	c.fit.batch = 6;
	c.fit.reference = 64;
	c.fit.optim.lr = 3e-3;
	snprintf(c.fit.loss, sizeof c.fit.loss, "%s", loss);
	return c.fit;
}

static double first_loss, last_loss;

static int report(void *arg, const struct reward_fit_report *r, struct err *e)
{
	(void)arg, (void)e;
	if (r->step == 1) first_loss = r->loss;
	last_loss = r->loss;
	return 0;
}

static void test_fit_learns_and_repeats(void **state)
{
	struct world *w = *state;
	static const char *const losses[] = {"pairs", "plackett_luce", "best_of"};
	struct err e;
	for (int k = 0; k < 3; k++) {
		struct config_fit c = fit_config(losses[k]);
		struct reward_fit_options o = {.fit = &c, .seed = 5, .report = report};
		double score[2][GROUPS * SIZE];
		struct rank_eval v;
		for (int again = 0; again < 2; again++) {
			struct reward_model *m = start(w, 1, 1);
			if (reward_fit(m, w->g, GROUPS, &o, &e) < 0) fail_msg("%s", e.msg);
			assert_true(last_loss < first_loss);
			reward_fit_evaluate(m, w->g, GROUPS, &v);
			if (!(v.accuracy > 0.95)) fail_msg("%s: accuracy %.3f", losses[k], v.accuracy);
			reward_model_scores(m, w->groups, GROUPS, score[again], NULL);
			reward_model_close(m);
		}
		assert_memory_equal(score[0], score[1], sizeof score[0]);
	}
}

struct norms {
	double norm[4];
	int64_t n;
};

static int keep_norms(void *arg, const struct reward_fit_report *r, struct err *e)
{
	struct norms *s = arg;
	if (s->n == 4) return err_set(e, ERR_STOPPED, "enough");
	s->norm[s->n++] = r->grad_norm;
	return 0;
}

/* Blocks add up to the same gradient, but for rounding; one larger than the batch is the batch. */
static void test_gradient_blocks(void **state)
{
	struct world *w = *state;
	static const int64_t sizes[] = {1, 4, 6, 100};
	struct norms of[4] = {0};
	struct err e;
	for (int k = 0; k < 4; k++) {
		struct config_fit c = fit_config("pairs");
		c.gradient_block = sizes[k];
		struct reward_fit_options o = {.fit = &c, .seed = 5, .report = keep_norms, .arg = &of[k]};
		struct reward_model *m = start(w, 1, 1);
		assert_int_equal(reward_fit(m, w->g, GROUPS, &o, &e), ERR_STOPPED);
		reward_model_close(m);
		for (int i = 0; i < 4; i++) assert_true(fabs(of[k].norm[i] - of[0].norm[i]) <= 1e-3 * of[0].norm[i]);
	}
	assert_memory_equal(of[2].norm, of[3].norm, sizeof of[2].norm);
	assert_true(memcmp(of[0].norm, of[2].norm, sizeof of[0].norm) != 0);
}

static int stop_after(void *arg, const struct reward_fit_report *r, struct err *e)
{
	return r->step == *(const int64_t *)arg ? err_set(e, ERR_STOPPED, "enough") : 0;
}

struct selected {
	int64_t step, measured; /* of the lowest loss; measurements */
	double least;
};

static int watch_selection(void *arg, const struct reward_fit_report *r, struct err *e)
{
	struct selected *s = arg;
	(void)e;
	if (isnan(r->selection_loss)) return 0;
	if (s->measured++ == 0 || r->selection_loss < s->least) s->least = r->selection_loss, s->step = r->step;
	return 0;
}

/* Fitted with a rate that overfits; the other half of the groups chooses the step, and the weights are those of that step. */
static void test_the_best_step_is_kept(void **state)
{
	struct world *w = *state;
	struct config_fit c = fit_config("pairs");
	struct err e;
	double chosen[GROUPS * SIZE], stopped[GROUPS * SIZE];
	const uint32_t half = GROUPS / 2;
	c.epochs = 10, c.select_every = 3;
	for (uint32_t i = half; i < GROUPS; i++) /* other labels than in the half that is fitted: they get worse sooner or later */
		for (uint32_t k = 0; k < SIZE; k++) w->g[i].ranking.order[k] = (uint8_t)((w->g[i].ranking.order[k] + (i % 3 == 0)) % SIZE);
	struct selected s = {0};
	struct reward_fit_options o = {.fit = &c, .seed = 5, .report = watch_selection, .arg = &s, .selection = w->g + half, .selections = half};
	struct reward_model *m = start(w, 1, 1);
	if (reward_fit(m, w->g, half, &o, &e) < 0) fail_msg("%s", e.msg);
	assert_int_equal(s.measured, 7); /* of 20 steps every third, and the last */
	assert_int_equal(m->member[0].step, s.step);
	assert_true(s.step > 1 && s.step < 20);
	reward_model_scores(m, w->groups, GROUPS, chosen, NULL);
	reward_model_close(m);
	/* the same fit, ended by its report after that step */
	int64_t end = s.step;
	o = (struct reward_fit_options){.fit = &c, .seed = 5, .report = stop_after, .arg = &end};
	m = start(w, 1, 1);
	assert_int_equal(reward_fit(m, w->g, half, &o, &e), ERR_STOPPED);
	reward_model_normalise(m, 0, w->groups, half, c.reference);
	reward_model_scores(m, w->groups, GROUPS, stopped, NULL);
	assert_memory_equal(chosen, stopped, sizeof chosen);
	reward_model_close(m);
}

static void test_all_ties_fit_without_harm(void **state)
{
	struct world *w = *state;
	struct config_fit c = fit_config("pairs");
	struct reward_fit_options o = {.fit = &c, .seed = 5};
	struct ranked_group tied[4];
	struct err e;
	struct reward_model *m = start(w, 1, 1);
	double score[4 * SIZE];
	const struct group *groups[4];
	for (int i = 0; i < 4; i++) {
		tied[i] = w->g[i];
		groups[i] = &tied[i].group;
		for (int k = 0; k < SIZE; k++) tied[i].ranking.rank[k] = 1, tied[i].ranking.margin[k] = 0;
	}
	if (reward_fit(m, tied, 4, &o, &e) < 0) fail_msg("%s", e.msg);
	reward_model_scores(m, groups, 4, score, NULL);
	for (int i = 0; i < 4 * SIZE; i++) assert_true(isfinite(score[i]));
	reward_model_close(m);
}

static void test_files(void **state)
{
	struct world *w = *state;
	struct reward_model *m = start(w, 2, 9), *n = NULL;
	struct err e;
	double a[GROUPS * SIZE], b[GROUPS * SIZE];
	char version[GROUP_VERSION];
	reward_model_normalise(m, 0, w->groups, GROUPS, 50);
	reward_model_scores(m, w->groups, GROUPS, a, NULL);
	if (reward_model_save(m, w->reward, NULL, &e) < 0) fail_msg("%s", e.msg);
	strcpy(version, m->version);
	reward_model_close(m);
	if (reward_model_open(&n, w->reward, w->backend, &e) < 0) fail_msg("%s", e.msg);
	assert_int_equal(n->members, 2);
	assert_string_equal(n->version, version);
	reward_model_scores(n, w->groups, GROUPS, b, NULL);
	assert_memory_equal(a, b, sizeof a);
	n->member[1].bias += 1e-12; /* another scorer, another version */
	if (reward_model_save(n, w->reward, NULL, &e) < 0) fail_msg("%s", e.msg);
	assert_string_not_equal(n->version, version);
	reward_model_close(n);
	assert_int_equal(reward_model_open(&n, w->policy, w->backend, &e), ERR_NOT_FOUND);
	assert_null(n);
}

static void test_scorer(void **state)
{
	struct world *w = *state;
	for (uint32_t kind = 0; kind < 4; kind++) {
		uint32_t members = 1 + kind % 2;
		struct reward_model *m = start_kind(w, kind >= 2, members, 1);
		struct scorer *s;
		struct err e;
		float out[2 * 2 * SIZE];
		double score[2 * SIZE], spread[2 * SIZE];
		assert_int_equal(reward_model_scorer_open(&s, m, &e), 0);
		assert_int_equal(s->terms, members);
		assert_string_equal(s->term_name[members - 1], members == 1 ? "model" : "model_std");
		assert_int_equal(s->score(s->self, w->groups, 2, out, &e), 0);
		reward_model_scores(m, w->groups, 2, score, spread);
		for (uint32_t g = 0; g < 2; g++)
			for (uint32_t c = 0; c < SIZE; c++) {
				assert_true(out[g * members * SIZE + c] == (float)score[g * SIZE + c]);
				if (members == 2) assert_true(out[g * members * SIZE + SIZE + c] == (float)spread[g * SIZE + c]);
			}
		struct group bad = w->g[0].group;
		const struct group *list = &bad;
		bad.tokens = NULL;
		assert_int_equal(s->score(s->self, &list, 1, out, &e), ERR_FORMAT);
		bad = w->g[0].group;
		w->tokens[0][2] += KIT_VOCAB;
		assert_int_equal(s->score(s->self, &list, 1, out, &e), ERR_RANGE);
		w->tokens[0][2] -= KIT_VOCAB;
		static int32_t zeros[1024];
		bad.tokens = zeros;
		bad.length[0] = 600; /* of 512 positions */
		assert_int_equal(s->score(s->self, &list, 1, out, &e), ERR_RANGE);
		scorer_close(s);
		reward_model_close(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_head_is_read_at_the_last_token, setup, teardown),
		cmocka_unit_test_setup_teardown(test_equal_completions_are_computed_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_score_depends_on_its_completion_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_normalised, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fit_learns_and_repeats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gradient_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_best_step_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_ties_fit_without_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scorer, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
