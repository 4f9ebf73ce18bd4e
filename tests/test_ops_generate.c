/* What generation asks of a backend: random numbers on the device, rows put in
 * their places, recorded steps; and groups from it that are the CPU's, bit for
 * bit, with completions that end, prompts that enter and buckets that are filled up. */
#include "model_kit.h"

#include "core/base/group_copy.h"
#include "policy/generate.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { G = 3, REQUESTS = 5, MAX_NEW = 7, LONGEST = 65 };
static const uint32_t prompt_length[REQUESTS] = {3, 64, 1, 65, 9};

static void *put(struct backend *b, const void *host, size_t bytes)
{
	void *p = backend_ops(b)->alloc(b, bytes);
	assert_non_null(p);
	backend_ops(b)->upload(b, p, host, bytes);
	return p;
}

static void test_uniforms(void **state)
{
	(void)state;
	struct backend *b = kit_backend(2);
	const struct ops *o = backend_ops(b);
	uint32_t counter[300][4];
	float got[300];
	for (uint32_t i = 0; i < 300; i++) {
		counter[i][0] = i * 77, counter[i][1] = i * 0x9E3779B9u, counter[i][2] = i % 3, counter[i][3] = i % 50;
	}
	uint32_t *c = put(b, counter, sizeof counter);
	float *u = o->alloc(b, sizeof got);
	struct uniforms_args a = {.seed = 0x123456789abcdefull, .purpose = RNG_EVAL, .n = 300, .counter = c, .out = u};
	o->uniforms(b, &a);
	o->download(b, got, u, sizeof got);
	for (int i = 0; i < 300; i++)
		assert_true(got[i] == rng_uniform((struct rng_key){a.seed, RNG_EVAL}, counter[i][0], (uint64_t)counter[i][2] << 32 | counter[i][1], counter[i][3]));
	o->release(b, c), o->release(b, u);
	backend_close(b);
}

static void test_place_rows(void **state)
{
	(void)state;
	struct backend *b = kit_backend(2);
	const struct ops *o = backend_ops(b);
	int32_t x[12], y[30], want[30], from[3] = {3, 0, 3}, to[3] = {7, 2, 9};
	for (int i = 0; i < 30; i++) y[i] = want[i] = -1 - i;
	for (int i = 0; i < 12; i++) x[i] = 0x7f800001 + i; /* as floats: NaN, whose bits stay */
	int32_t *dx = put(b, x, sizeof x), *dy = put(b, y, sizeof y), *df = put(b, from, sizeof from), *dt = put(b, to, sizeof to);
	struct tensor tx = {dx, DTYPE_F32, 4, 3}, ty = {dy, DTYPE_F32, 10, 3};
	o->place_rows(b, ty, tx, df, dt, 3);
	for (int i = 0; i < 9; i++) want[to[i / 3] * 3 + i % 3] = x[from[i / 3] * 3 + i % 3];
	o->download(b, y, dy, sizeof y);
	assert_memory_equal(y, want, sizeof y);
	o->place_rows(b, ty, tx, NULL, dt, 2);
	for (int i = 0; i < 6; i++) want[to[i / 3] * 3 + i % 3] = x[i];
	o->download(b, y, dy, sizeof y);
	assert_memory_equal(y, want, sizeof y);
	o->release(b, dx), o->release(b, dy), o->release(b, df), o->release(b, dt);
	backend_close(b);
}

/* What is recorded is run again on what then lies in memory. */
static void test_recorded_operations(void **state)
{
	(void)state;
	struct backend *b = kit_backend(1);
	const struct ops *o = backend_ops(b);
	if (!backend_has_graphs(b)) {
		backend_close(b);
		skip();
	}
	float x[40], y[40];
	for (int i = 0; i < 40; i++) x[i] = (float)i, y[i] = 1;
	float *dx = put(b, x, sizeof x), *dy = put(b, y, sizeof y), *dz = put(b, y, sizeof y);
	backend_graph_begin(b);
	o->add(b, dy, dx, 40);
	o->copy(b, dz, dy, sizeof y);
	o->zero(b, dx, 4 * sizeof *x);
	struct backend_graph *g = backend_graph_end(b);
	o->download(b, y, dy, sizeof y);
	for (int i = 0; i < 40; i++) assert_true(y[i] == 1); /* noted, not run */
	for (int n = 1; n <= 3; n++) {
		for (int i = 0; i < 40; i++) x[i] = (float)(n * 100 + i);
		o->upload(b, dx, x, sizeof x);
		assert_true(backend_graph_run(b, g));
		for (int i = 0; i < 40; i++) y[i] += x[i];
		float got[40];
		o->download(b, got, dz, sizeof got);
		assert_memory_equal(got, y, sizeof y);
		o->download(b, got, dx, sizeof got);
		for (int i = 0; i < 40; i++) assert_true(got[i] == (i < 4 ? 0 : x[i]));
	}
	/* the working memory grows: what was recorded with it is not run */
	struct ops_sizes more = {.parameters = (int64_t)1 << 40};
	assert_true(backend_scratch(b, &more) > 1 << 20);
	assert_int_equal(o->reserve(b, &(struct ops_sizes){.parameters = (int64_t)1 << 34}), 0);
	assert_false(backend_graph_run(b, g));
	backend_graph_close(b, g);
	o->release(b, dx), o->release(b, dy), o->release(b, dz);
	backend_close(b);
}

enum fault { ALLOC, RELEASE, UPLOAD, DOWNLOAD, WAIT, RESERVE, NONE };

/* 1 when the process that does this between begin and end is stopped for it. */
static int is_refused(struct backend *b, enum fault what)
{
	const struct ops *o = backend_ops(b);
	float x = 0, *p = o->alloc(b, 4);
	pid_t child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 2);
		signal(SIGABRT, SIG_DFL);
		backend_graph_begin(b);
		if (what == ALLOC) o->alloc(b, 4);
		if (what == RELEASE) o->release(b, p);
		if (what == UPLOAD) o->upload(b, p, &x, 4);
		if (what == DOWNLOAD) o->download(b, &x, p, 4);
		if (what == WAIT) o->wait(b);
		if (what == RESERVE) o->reserve(b, &(struct ops_sizes){.parameters = (int64_t)1 << 30});
		_exit(0);
	}
	int status = 0;
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	o->release(b, p);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_what_cannot_be_recorded(void **state)
{
	(void)state;
#ifdef KIT_CUDA_HOST
	struct backend *b = kit_backend(1);
	for (int what = ALLOC; what < NONE; what++)
		if (!is_refused(b, (enum fault)what)) fail_msg("%d is not refused", what);
	assert_false(is_refused(b, NONE));
	backend_close(b);
#else
	(void)is_refused; /* a device does not survive a fork */
	skip();
#endif
}

struct taken {
	struct arena *arena;
	struct group group[REQUESTS];
};

static int take(void *arg, const struct group *g, struct err *e)
{
	struct taken *t = arg;
	return group_copy(&t->group[g->slot], g, t->arena, e);
}

/* A generator used twice: recorded steps serve the second run too. */
static void generate(struct backend *b, int variant, int batch_groups, struct taken *t)
{
	struct shape s = kit_shape(variant);
	struct model *m = kit_model(b, &s, 11);
	int32_t tokens[REQUESTS][LONGEST];
	struct generate_request r[REQUESTS];
	struct generator *g;
	struct err e;
	for (uint32_t i = 0; i < REQUESTS; i++) {
		kit_tokens(tokens[i], prompt_length[i], 60 + i);
		r[i] = (struct generate_request){.step = 3, .slot = i, .prompt = i, .tokens = tokens[i], .prompt_tokens = prompt_length[i]};
	}
	struct generate_options o = {.completions = G, .max_new = MAX_NEW, .min_new = variant == 0 ? 2 : 0, .max_prompt = LONGEST, .batch_groups = batch_groups,
				     .sampling = {0.9f, 1, variant == 0 ? 9 : 0}, .end_token = KIT_END, .seed = 8, .purpose = RNG_SAMPLE};
	if (generator_open(&g, m, &o, &e) < 0) fail_msg("%s", e.msg);
	for (int i = 0; i < 2; i++) {
		arena_reset(t->arena);
		if (generator_run(g, r, i ? REQUESTS : 2, 42, take, t, NULL, &e) < 0) fail_msg("%s", e.msg);
	}
	generator_close(g);
	model_close(m);
}

static void test_groups_are_the_cpus(void **state)
{
	(void)state;
	static const int variants[] = {0, 2, 5};
	for (int v = 0; v < 3; v++) {
		struct backend *cpu, *b = kit_backend(2);
		struct taken want = {.arena = arena_open(0)}, got = {.arena = arena_open(0)};
		struct err e;
		char text[200];
		int ends = 0;
		if (backend_open(&cpu, &(struct backend_options){"cpu", "auto", 1, NULL}, &e) < 0) fail_msg("%s", e.msg);
		generate(cpu, variants[v], 1, &want);
		generate(b, variants[v], 2, &got);
		for (int i = 0; i < REQUESTS; i++) {
			if (group_difference(&want.group[i], &got.group[i], text, sizeof text)) fail_msg("variant %d, slot %d: %s", variants[v], i, text);
			for (int c = 0; c < G; c++) ends += want.group[i].finish[c] == GROUP_FINISH_END;
		}
		if (v == 0) assert_true(ends > 0);
		arena_close(want.arena), arena_close(got.arena);
		backend_close(cpu), backend_close(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_uniforms), cmocka_unit_test(test_place_rows), cmocka_unit_test(test_recorded_operations),
					   cmocka_unit_test(test_what_cannot_be_recorded), cmocka_unit_test(test_groups_are_the_cpus)};
	return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
