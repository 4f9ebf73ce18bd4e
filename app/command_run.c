/* `tenfold run`: the stages of a configuration one after the other, each as
 * processes of its own, watched and started again when something kills them. */
#include "app/commands.h"
#include "app/options.h"
#include "app/processes.h"
#include "app/report.h"
#include "app/run_config.h"
#include "app/run_folder.h"
#include "app/session.h"

#include "core/base/fault.h"
#include "core/base/fs.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { MAX_PROCESSES = 1 + 256 + 64, MAX_RESTARTS = 50 };

struct run {
	char config[PATH_MAX]; /* of the folder */
	char *set[OPTION_LIST_MAX]; /* what this start changes in it: "key=value" */
	int sets;
	const char *out;
	int resume;
	struct config now;
	char folder[PATH_MAX];
	struct process process[MAX_PROCESSES];
	int count;
};

static volatile sig_atomic_t stop_asked;

static void on_stop(int number)
{
	(void)number;
	stop_asked = 1;
}

static struct process *add(struct run *r, const char *name, const char *command)
{
	struct process *p = &r->process[r->count++];
	memset(p, 0, sizeof *p);
	snprintf(p->name, sizeof p->name, "%s", name);
	process_argument(p, "tenfold");
	process_argument(p, command);
	process_argument(p, r->config);
	process_argument(p, "--out");
	process_argument(p, r->folder);
	for (int i = 0; i < r->sets; i++) {
		process_argument(p, "--set");
		process_argument(p, r->set[i]);
	}
	return p;
}

static void clear(struct run *r)
{
	for (int i = 0; i < r->count; i++) process_free(&r->process[i]);
	r->count = 0;
}

static void add_roles(struct run *r)
{
	char name[PROCESS_NAME];
	process_argument(add(r, "learner", "learner"), "--resume");
	/* services that net.rewards names are someone else's */
	for (int64_t i = 0; i < (r->now.net.rewards[0] ? 0 : r->now.run.services); i++) {
		snprintf(name, sizeof name, "reward-%lld", (long long)i);
		struct process *p = add(r, name, "reward");
		process_argument(p, "--name");
		process_argument(p, name);
	}
	for (int64_t i = 0; i < r->now.run.workers; i++) {
		snprintf(name, sizeof name, "worker-%lld", (long long)i);
		struct process *p = add(r, name, "rollout");
		process_argument(p, "--name");
		process_argument(p, name);
	}
}

/* What is to be done about a process that ended: 0 go on, 1 the stage is over with *exit_status. */
static int ended(struct run *r, struct process *p, int status, int *exit_status)
{
	char how[64];
	int main_process = p == &r->process[0], code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	process_ending(status, how, sizeof how);
	if (main_process && (code == 0 || !WIFSIGNALED(status) || stop_asked)) {
		*exit_status = code;
		return 1;
	}
	if (code == 0 || stop_asked) return 0; /* it was told to stop */
	if (p->restarts >= MAX_RESTARTS) {
		fprintf(stderr, "run: %s %s for the %dth time; giving up (the run can be resumed)\n", p->name, how, p->restarts + 1);
		*exit_status = code;
		return 1;
	}
	p->restarts++;
	/* what is refused is refused again soon: pauses grow to 32 s */
	double pause = WIFSIGNALED(status) ? 0.0 : p->restarts < 6 ? (double)(1 << (p->restarts - 1)) : 32.0;
	p->retry_at = fs_now() + pause;
	fprintf(stderr, "run: %s %s; it is started again%s\n", p->name, how, pause > 0 ? " after a pause" : "");
	return 0;
}

/* Starts all, watches until the first one is done; its exit status. */
static int watch(struct run *r, struct err *e)
{
	int rc = 0, exit_status = 0;
	for (int i = 0; i < r->count; i++) TRY(process_start(&r->process[i], e));
	for (;;) {
		int status, i = processes_wait(r->process, r->count, 0.2, &status);
		if (i >= 0 && ended(r, &r->process[i], status, &exit_status)) break;
		if (stop_asked && r->process[0].pid) kill(r->process[0].pid, SIGTERM);
		for (int k = 0; k < r->count; k++)
			if (!r->process[k].pid && r->process[k].retry_at > 0 && fs_now() >= r->process[k].retry_at) {
				r->process[k].retry_at = 0;
				TRY(process_start(&r->process[k], e));
			}
	}
	rc = exit_status;
out:
	processes_stop(r->process, r->count, 5.0);
	return rc;
}

static int stage_done(const struct run *r, const char *stage)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%.*s/summary.json", PATH_MAX - 32, r->folder);
	json_t *j = json_load_file(path, 0, NULL);
	int done = json_is_object(json_object_get(j, stage));
	json_decref(j);
	return done;
}

static int run_stage(struct run *r, const char *stage, struct err *e)
{
	int rc;
	if (stage_done(r, stage)) {
		fprintf(stderr, "run: stage %s is done already\n", stage);
		return 0;
	}
	if (!strcmp(stage, "ppo")) add_roles(r);
	else process_argument(add(r, stage, stage), "--resume");
	rc = watch(r, e);
	FAULT_POINT("run.after_stage", "a stage has ended, the next has not begun");
	clear(r);
	return rc;
}

/* runs/NAME, or NAME-2, … when that is taken. */
static void choose_folder(struct run *r, const char *config)
{
	const char *slash = strrchr(config, '/'), *name = slash ? slash + 1 : config;
	int n = (int)strcspn(name, ".");
	snprintf(r->folder, sizeof r->folder, "runs/%.*s", n, name);
	for (int i = 2; fs_exists(r->folder); i++) snprintf(r->folder, sizeof r->folder, "runs/%.*s-%d", n, name, i);
}

/* The digest of everything recorded, all stages included. */
static int put_digest(const struct run *r, struct session *s, struct err *e)
{
	struct run_folder f;
	char hex[HASH_HEX];
	int rc = run_folder_open(&f, r->folder, e);
	if (rc == 0) rc = store_digest(f.store, hex, e);
	run_folder_close(&f);
	return rc < 0 ? rc : session_summary(s, "digest", json_string(hex), e);
}

static int finish(struct run *r, double seconds, struct err *e)
{
	char path[PATH_MAX], html[PATH_MAX];
	const char *runs[] = {r->folder};
	int rc = 0;
	struct session s = {0};
	snprintf(s.folder, sizeof s.folder, "%s", r->folder);
	json_t *j, *per;
	snprintf(path, sizeof path, "%.*s/summary.json", PATH_MAX - 32, r->folder);
	j = json_load_file(path, 0, NULL);
	per = json_object();
	const char *name;
	json_t *value;
	json_object_foreach(j, name, value)
	{
		json_t *sec = json_object_get(value, "seconds");
		if (sec) json_object_set(per, name, sec);
	}
	json_decref(j);
	json_object_set_new(per, "total", json_real(seconds));
	TRY(session_summary(&s, "seconds", per, e));
	FAULT_POINT("run.before_digest", "all stages are done, the digest is not in the summary");
	TRY(put_digest(r, &s, e));
	FAULT_POINT("run.before_page", "the summary is complete, the page not written");
	snprintf(html, sizeof html, "%.*s/report.html", PATH_MAX - 32, r->folder);
	TRY(report_write(runs, 1, html, e));
	fprintf(stderr, "run: done in %.0f s; report: %s\n", seconds, html);
out:
	return rc;
}

static int add_set(void *ctx, const char *name, const char *was, const char *is)
{
	struct run *r = ctx;
	(void)was;
	CHECK(r->sets < OPTION_LIST_MAX, "%d changed keys", r->sets);
	if (asprintf(&r->set[r->sets++], "%s=%s", name, is) < 0) CHECK(0, "out of memory for a changed key");
	return 0;
}

/* The folder's earlier run, if any, must be wanted. What is started from here on reads the configuration in the folder, so that the
 * file of the user may change meanwhile. */
static int prepare_folder(struct run *r, struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	snprintf(r->config, sizeof r->config, "%.*s/config.yaml", PATH_MAX - 32, r->folder);
	snprintf(path, sizeof path, "%.*s/run.db", PATH_MAX - 32, r->folder);
	if (fs_exists(path) && !r->resume)
		TRY(err_set(e, ERR_STATE, "%s holds a run already: --resume goes on with it, another --out starts a new one", r->folder));
	TRY(fs_mkdirs(r->folder, e));
	TRY(run_config_keep(&r->now, r->folder, e));
	TRY(run_config_each_change(&r->now, r->folder, add_set, r, e));
out:
	return rc;
}

int command_run(int argc, char **argv, struct err *e)
{
	struct run *r = calloc(1, sizeof *r);
	CHECK(r, "out of memory for a run");
	struct option_list rest, sets = {.count = 0};
	const struct option table[] = {{"out", OPTION_TEXT, &r->out, "DIR", "Folder of the run; default runs/NAME of the configuration."},
				       {"resume", OPTION_FLAG, &r->resume, NULL, "Go on with the run that is in the folder."}, OPTION_SET(&sets)};
	const struct options_use use = {
		.line = "run CONFIG [--out DIR] [--resume] [--set KEY=VALUE]…",
		.about = "Runs the stages of a configuration (run.stages) on this machine: starts all roles, watches them, starts again what is\n"
			 "killed, and writes the report. Ctrl-C stops cleanly; --resume continues to the same bits.",
		.table = table, .count = 3, .at_least = 1, .at_most = 1};
	double began = fs_now();
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) {
		free(r);
		return rc < 0 ? rc : 0;
	}
	TRY(options_config(&r->now, rest.item[0], &sets, e));
	if (r->out) snprintf(r->folder, sizeof r->folder, "%s", r->out);
	else choose_folder(r, rest.item[0]);
	TRY(prepare_folder(r, e));
	struct sigaction stop = {.sa_handler = on_stop};
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	char stages[CONFIG_STRING];
	snprintf(stages, sizeof stages, "%s", r->now.run.stages);
	for (char *at = stages, *stage; (stage = strsep(&at, ", "));) {
		if (!*stage) continue;
		rc = run_stage(r, stage, e);
		if (rc == 0 && stop_asked) rc = err_set(e, ERR_STOPPED, "stopped after stage %s; --resume goes on", stage);
		if (rc) goto out;
	}
	TRY(finish(r, fs_now() - began, e));
out:
	for (int i = 0; i < r->sets; i++) free(r->set[i]);
	free(r);
	return rc;
}
