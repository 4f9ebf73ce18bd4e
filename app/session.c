/* Sessions; see session.h. */
#include "app/session.h"

#include "app/data_report.h"
#include "app/model_card.h"
#include "app/options.h"
#include "app/run_config.h"
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef TENFOLD_VERSION
#define TENFOLD_VERSION "unknown"
#endif

static atomic_int stop_flag; /* set by the signal handler, which can reach nothing else */

static void on_signal(int number)
{
	(void)number;
	atomic_store(&stop_flag, 1);
}

static void catch_signals(void)
{
	struct sigaction a = {.sa_handler = on_signal};
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int session_path(const struct session *s, const char *name, char out[PATH_MAX], struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/%s", s->folder, name) < PATH_MAX) return 0;
	return err_set(e, ERR_RANGE, "path too long: %s/%s", s->folder, name);
}

static int take_id(void *ctx, const struct store_run *r)
{
	struct session *s = ctx;
	snprintf(s->run_id, sizeof s->run_id, "%s", r->id);
	return 0;
}

static int put_run(struct session *s, struct err *e)
{
	char *text = NULL, hex[HASH_HEX];
	size_t bytes = 0;
	int rc = store_get_run(s->store, take_id, s, e);
	if (rc == ERR_NOT_FOUND) {
		struct { char folder[PATH_MAX]; struct timespec t; pid_t pid; } unique;
		memset(&unique, 0, sizeof unique);
		memcpy(unique.folder, s->folder, sizeof unique.folder);
		clock_gettime(CLOCK_REALTIME, &unique.t);
		unique.pid = getpid();
		hash_bytes(&unique, sizeof unique, hex);
		snprintf(s->run_id, sizeof s->run_id, "%.16s", hex);
	} else if (rc < 0) {
		return rc;
	}
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for the configuration");
	config_write(&s->config, f);
	fclose(f);
	struct store_run run = {.id = s->run_id, .name = s->config.run.name, .seed = s->config.run.seed, .fingerprint = s->fingerprint,
				.program = TENFOLD_VERSION, .config = text};
	rc = store_put_run(s->store, &run, e);
	free(text);
	return rc;
}

static int open_run(struct session *s, const struct session_options *o, struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	TRY(lock_open(&s->lock, s->folder, o->stage, e));
	FAULT_POINT("session.after_lock", "a stage owns the folder and has done nothing");
	TRY(session_path(s, "log", path, e));
	if (log_open_file(path) != 0) TRY(err_set(e, ERR_IO, "cannot write the log %s", path));
	TRY(session_path(s, "run.db", path, e));
	s->resumed = fs_exists(path);
	if (s->resumed && !o->resume) TRY(err_set(e, ERR_STATE, "%s holds a run already: --resume goes on with it, another --out starts a new one", s->folder));
	TRY(run_config_keep(&s->config, s->folder, e));
	FAULT_POINT("session.before_database", "config.yaml is there, the database not opened");
	TRY(store_open(&s->store, path, &(struct store_options){.writer = 1, .stage = o->stage}, e));
	FAULT_POINT("session.before_run", "the database is open, the run's row not put");
	TRY(put_run(s, e));
out:
	return rc;
}

static int threads_for(const struct config *c, int share)
{
	if (c->run.threads > 0) return (int)c->run.threads;
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	return share > 1 && cpus > share ? cpus / share : share > 1 ? 1 : cpus;
}

/* Training prompts; with ranked groups from files the held-out ones too, whose groups are recorded as well. */
static int store_prompts(struct session *s, struct err *e)
{
	const struct task *t = s->task;
	uint32_t n[2] = {t->prompts[TASK_TRAIN], t->groups[TASK_HELDOUT] ? t->prompts[TASK_HELDOUT] : 0};
	struct store_prompt *p = calloc((size_t)n[0] + n[1] + 1, sizeof *p);
	CHECK(p, "out of memory for %u prompts", n[0] + n[1]);
	for (int split = 0; split < 2; split++)
		for (uint32_t i = 0; i < n[split]; i++) {
			uint32_t number = task_prompt_number(t, (enum task_split)split, i);
			p[number] = (struct store_prompt){number, t->prompt[split][i].text, t->prompt[split][i].extra};
		}
	int rc = store_put_prompts(s->store, p, (size_t)n[0] + n[1], e);
	free(p);
	return rc;
}

/* What the user should know of the data before the stage works with it; the first stage says all of it. */
static void announce(const struct session *s, const char *stage)
{
	const struct task *t = s->task;
	if (s->config.task.content_warning[0]) fprintf(stderr, "%s: content warning: %s\n", stage, s->config.task.content_warning);
	if (!t->data) return;
	if (!s->resumed) data_report_print(stderr, "data: ", t->data);
	if (!s->resumed || t->too_long || t->beyond)
		fprintf(stderr, "data: %u prompts to train on, %u held out; %u and %u ranked groups; %u examples; left out: %u records by task.max_tokens, %u by task.train\n",
			t->prompts[TASK_TRAIN], t->prompts[TASK_HELDOUT], t->groups[TASK_TRAIN], t->groups[TASK_HELDOUT], t->examples, t->too_long, t->beyond);
}

static const char TASK_EVENT[] = "task";

static int same_task(void *ctx, const struct store_event *r)
{
	const struct task *t = ctx;
	return !strcmp(r->kind, TASK_EVENT) && strcmp(r->body, t->digest) ? 1 : 0;
}

/* A task from files is noted with its digest; a run goes on with the files that it began with, in every stage. */
static int note_task(struct session *s, struct err *e)
{
	int rc = store_each_event(s->store, NULL, 0, same_task, s->task, e);
	if (rc > 0) rc = err_set(e, ERR_MISMATCH, "%s: the task's files are not those that the run began with; give another --out for a new run", s->folder);
	return rc < 0 ? rc : store_put_event(s->store, 0, TASK_EVENT, 0, s->task->digest, e);
}

static int begin_task(struct session *s, const char *stage, struct err *e)
{
	int rc = s->task->data ? note_task(s, e) : 0;
	if (rc == 0) rc = store_prompts(s, e);
	if (rc < 0) return rc;
	announce(s, stage);
	if (!s->task->data || s->resumed) return 0;
	struct json_t *j = data_report_json(s->task->data);
	json_object_set_new(j, "train_prompts", json_integer(s->task->prompts[TASK_TRAIN]));
	json_object_set_new(j, "heldout_prompts", json_integer(s->task->prompts[TASK_HELDOUT]));
	json_object_set_new(j, "too_long", json_integer(s->task->too_long));
	json_object_set_new(j, "beyond", json_integer(s->task->beyond));
	return session_summary(s, "data", j, e);
}

/* Configuration and folder: what every session has. */
static int session_begin(struct session *s, const struct session_options *o, struct err *e)
{
	memset(s, 0, sizeof *s);
	s->stop = &stop_flag;
	catch_signals();
	char config[PATH_MAX];
	struct stat st;
	int folder = stat(o->config, &st) == 0 && S_ISDIR(st.st_mode), rc = 0;
	snprintf(config, sizeof config, folder ? "%s/config.yaml" : "%s", o->config);
	TRY(options_config(&s->config, config, o->sets, e));
	if (o->folder && o->folder[0]) {
		TRY(fs_mkdirs(o->folder, e));
		char *real = realpath(o->folder, NULL);
		if (!real) TRY(err_set(e, ERR_IO, "cannot resolve the folder %s", o->folder));
		snprintf(s->folder, sizeof s->folder, "%s", real);
		free(real);
	}
out:
	return rc;
}

static int open_backend(struct session *s, int share, struct err *e)
{
	struct backend_options b = {s->config.run.device, s->config.run.isa, threads_for(&s->config, share), s->config.run.precision};
	int rc = backend_open(&s->backend, &b, e);
	if (rc == 0) backend_fingerprint(s->backend, s->fingerprint);
	return rc;
}

static int session_parts(struct session *s, const struct session_options *o, int share, struct err *e)
{
	int rc = 0;
	if (o->parts & SESSION_BACKEND) TRY(open_backend(s, share, e));
	if (o->parts & SESSION_RUN) TRY(open_run(s, o, e));
	if (o->parts & SESSION_TASK) TRY(task_open(&s->task, &s->config, e));
	if (o->parts & SESSION_RUN && o->parts & SESSION_TASK) TRY(begin_task(s, o->stage, e));
out:
	return rc;
}

int session_open(struct session *s, const struct session_options *o, struct err *e)
{
	int rc = session_begin(s, o, e);
	if (rc == 0) rc = session_parts(s, o, 1, e);
	if (rc < 0) session_close(s);
	return rc;
}

int session_open_role(struct session *s, const struct session_options *o, struct err *e)
{
	char path[PATH_MAX];
	int rc = session_begin(s, o, e);
	if (rc == 0 && s->folder[0] && session_path(s, "log", path, e) == 0) log_open_file(path);
	if (rc == 0) rc = session_parts(s, o, (int)s->config.run.workers, e);
	if (rc < 0) session_close(s);
	return rc;
}

int session_open_backend(struct session *s, struct err *e)
{
	return s->backend ? 0 : open_backend(s, (int)s->config.run.workers, e);
}

int session_shape(const struct session *s, int heads_kind, struct shape *shape, struct err *e)
{
	int32_t tokens = tokenizer_vocab_size(s->task->tokenizer);
	const char *init = s->config.model.init;
	if (!init[0]) {
		shape_from_config(shape, &s->config, tokens, heads_kind);
		return 0;
	}
	int rc = model_folder_shape(init, shape, e);
	if (rc < 0) return rc;
	shape->heads_kind = heads_kind;
	/* ids beyond the tokenizer's are padding rows of the vocabulary */
	if (shape->vocab >= tokens) return 0;
	return err_set(e, ERR_MISMATCH, "the model %s has %lld tokens, the tokenizer %d: set tokenizer.path to the model's own, or leave it empty", init,
		       (long long)shape->vocab, tokens);
}

int session_export(const struct session *s, const char *folder, const struct model *m, struct err *e)
{
	int rc = model_folder_write_as(folder, m, s->task->tokenizer, (enum safetensors_dtype)model_folder_dtype(s->config.model.save_dtype), e);
	/* another tokenizer than the start model's own has other settings too */
	if (rc == 0 && s->config.model.init[0] && !s->config.tokenizer.path[0]) rc = model_folder_copy_rest(s->config.model.init, folder, e);
	return rc;
}

int session_start_folder(const struct session *s, const char *stage, char out[PATH_MAX], struct err *e)
{
	int rc = session_path(s, "models/sft", out, e);
	if (rc < 0) return rc;
	if (!config_has_stage(&s->config, "sft") && s->config.model.init[0]) {
		snprintf(out, PATH_MAX, "%s", s->config.model.init);
		return 0;
	}
	if (fs_exists(out)) return 0;
	return err_set(e, ERR_NOT_FOUND, "%s has no model to start from: run the stage sft first (%s is missing), or set model.init", stage, out);
}

void session_close(struct session *s)
{
	store_close(s->store);
	task_close(s->task);
	backend_close(s->backend);
	lock_close(s->lock);
	s->store = NULL;
	s->task = NULL;
	s->backend = NULL;
	s->lock = NULL;
}

int session_summary(struct session *s, const char *part, struct json_t *value, struct err *e)
{
	char path[PATH_MAX];
	int rc = session_path(s, "summary.json", path, e);
	if (rc < 0) {
		json_decref(value);
		return rc;
	}
	json_t *j = json_load_file(path, 0, NULL);
	if (!json_is_object(j)) {
		json_decref(j);
		j = json_object();
	}
	json_t *old = json_object_get(j, part);
	if (json_is_object(old) && json_is_object(value)) {
		json_object_update(old, value);
		json_decref(value);
	} else {
		json_object_set_new(j, part, value);
	}
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
	CHECK(text, "out of memory for summary.json");
	rc = fs_write_atomic(path, text, strlen(text), e);
	if (rc == 0 && s->backend) rc = model_cards_write(s, j, e); /* a stage; `tenfold run` itself has none */
	free(text);
	json_decref(j);
	return rc;
}

void session_endpoint(const struct session *s, const char *role, char out[256])
{
	char hex[HASH_HEX];
	int learner = !strcmp(role, "learner");
	if (learner && s->config.net.learner[0]) {
		snprintf(out, 256, "%.255s", s->config.net.learner);
		return;
	}
	/* private: an abstract name made from the folder, so two runs on a machine do not meet */
	hash_bytes(s->folder, strlen(s->folder), hex);
	snprintf(out, 256, "ipc://@tenfold-%.16s-%.64s", hex, role);
}

void session_generation(const struct session *s, struct generate_options *o)
{
	const struct config *c = &s->config;
	*o = (struct generate_options){.completions = (int)c->rollout.group_size, .max_new = (int)c->rollout.max_new_tokens,
				       .min_new = (int)c->rollout.min_new_tokens, .max_prompt = (int)s->task->longest_prompt,
				       .batch_groups = (int)c->rollout.batch_groups,
				       .sampling = {(float)c->rollout.temperature, (float)c->rollout.top_p, (int)c->rollout.top_k},
				       .end_token = s->task->end_token, .stop = c->rollout.stop, .seed = (uint64_t)c->run.seed, .purpose = RNG_SAMPLE,
				       .tokenizer = s->task->tokenizer};
}
