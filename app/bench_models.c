/* How fast a model goes to disk and comes back: of model.init, or one of the
 * configuration's shape. scripts/bench-models puts the safetensors library beside
 * it on the same file. */
#include "app/bench_sections.h"

#include "core/base/fs.h"
#include "policy/model_file.h"
#include "policy/model_folder.h"
#include "reward/task.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

struct work {
	char start[PATH_MAX], out[PATH_MAX]; /* folder that is read; file that is written */
	struct backend *b;
	struct shape shape;
	struct model *trained, *held;
	int what;
	int rc;
	struct err e;
};

enum { OPEN, LOAD, LOAD_HELD, SAVE, SAVE_BF16 };

static void once(void *arg)
{
	struct work *w = arg;
	struct arena *a;
	struct params p;
	if (w->rc < 0) return;
	switch (w->what) {
	case OPEN:
		a = arena_open(0);
		params_build(&p, &w->shape, a);
		w->rc = model_check_folder(&p, &w->shape, w->start, 0, &w->e);
		arena_close(a);
		break;
	case LOAD: w->rc = model_load_folder(w->trained, w->start, 0, &w->e); break;
	case LOAD_HELD: w->rc = model_load_folder(w->held, w->start, 0, &w->e); break;
	case SAVE: w->rc = model_save_as(w->trained, w->out, SAFETENSORS_F32, &w->e); break;
	default: w->rc = model_save_as(w->trained, w->out, SAFETENSORS_BF16, &w->e);
	}
}

static int prepare(struct work *w, const struct bench_context *c, const char *folder, struct err *e)
{
	int rc = 0;
	struct model *m = NULL;
	snprintf(w->out, sizeof w->out, "%.*s/out.safetensors", PATH_MAX - 32, folder);
	if (c->config->model.init[0]) {
		snprintf(w->start, sizeof w->start, "%s", c->config->model.init);
	} else {
		snprintf(w->start, sizeof w->start, "%.*s/start", PATH_MAX - 32, folder);
		shape_from_config(&w->shape, c->config, 4096, HEAD_LM);
		TRY(model_open(&m, c->all, &w->shape, e));
		model_init(m, 1);
		TRY(model_folder_write(w->start, m, NULL, e));
	}
	TRY(model_folder_shape(w->start, &w->shape, e));
	TRY(model_open(&w->trained, c->all, &w->shape, e));
	TRY(model_open_held(&w->held, c->all, &w->shape, e));
out:
	model_close(m);
	return rc;
}

static int run_in(const char *folder, struct bench_context *c, json_t *rows, struct err *e)
{
	static const struct { int what; const char *name; } list[] = {
		{OPEN, "open, check every tensor"}, {LOAD, "load to train, f32 in memory"}, {LOAD_HELD, "load to compute with (mapped where it can be)"},
		{SAVE, "save as f32, synced"}, {SAVE_BF16, "save as bf16, synced"}};
	struct work w = {.b = c->all};
	int rc = prepare(&w, c, folder, e);
	for (int i = 0; i < COUNT(list) && rc == 0; i++) {
		struct bench_time t;
		w.what = list[i].what;
		bench_repeat(c->quick ? 0.01 : 1, once, &w, &t);
		if (w.rc < 0) rc = err_set(e, w.rc, "%s", w.e.msg);
		json_t *row = json_pack("{s:s}", "what", list[i].name);
		bench_put_time(row, "", &t);
		json_object_set_new(row, "parameters", json_real((double)w.trained->params.parameters));
		json_object_set_new(row, "gparams", json_real((double)w.trained->params.parameters / t.median * 1e-9));
		json_array_append_new(rows, row);
	}
	model_close(w.trained);
	model_close(w.held);
	return rc;
}

static const struct bench_column columns[] = {
	{"what", "what", "%s"}, {"parameters", "parameters", "%.0f"}, {"time", "time, ms", "%s"}, {"gparams", "10⁹ parameters/s", "%.2f"},
};

static int run(struct bench_context *c, json_t *rows, struct err *e)
{
	const char *base = getenv("TMPDIR");
	char folder[512];
	snprintf(folder, sizeof folder, "%.400s/tenfold-bench-XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(folder)) return err_set(e, ERR_IO, "cannot make the folder %s for the models' benchmark; set TMPDIR", folder);
	int rc = run_in(folder, c, rows, e);
	fs_remove_tree(folder, NULL);
	return rc;
}

const struct bench_section bench_models = {
	"models", "Models on disk",
	"A model of the configuration's shape (or model.init): opened with every tensor's name, shape and type checked; loaded with the file in the system's\n"
	"cache; written and synced. Beside the safetensors library: scripts/bench-models.", columns, COUNT(columns), run};
