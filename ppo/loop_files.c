/* What the loop keeps on disk: published weights and checkpoints. */
#include "ppo/loop_internal.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "policy/checkpoint.h"
#include "policy/model_file.h"
#include "policy/training_file.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char PLACE[] = "checkpoints/ppo";

/* Path of a published version: weights/00000012-<hash>.safetensors. ERR_NOT_FOUND when there is none. */
static int version_path(const struct loop *l, int64_t version, char out[PATH_MAX], char hash[HASH_HEX], struct err *e)
{
	char folder[PATH_MAX], prefix[32];
	snprintf(folder, sizeof folder, "%s/weights", l->o->folder);
	int n = snprintf(prefix, sizeof prefix, "%08lld-", (long long)version), found = 0;
	DIR *d = opendir(folder);
	for (struct dirent *f; d && (f = readdir(d));) {
		size_t len = strlen(f->d_name);
		if (strncmp(f->d_name, prefix, (size_t)n) || len != (size_t)n + HASH_HEX - 1 + strlen(".safetensors")) continue;
		if (snprintf(out, PATH_MAX, "%s/%s", folder, f->d_name) >= PATH_MAX) continue;
		memcpy(hash, f->d_name + n, HASH_HEX - 1);
		hash[HASH_HEX - 1] = 0;
		found = 1;
	}
	if (d) closedir(d);
	return found ? 0 : err_set(e, ERR_NOT_FOUND, "weights of version %lld are not in %s", (long long)version, folder);
}

static void remove_version(const struct loop *l, int64_t version)
{
	char path[PATH_MAX], hash[HASH_HEX];
	struct err ignored;
	while (version_path(l, version, path, hash, &ignored) == 0 && unlink(path) == 0) {}
}

int loop_publish(struct loop *l, int64_t version, struct err *e)
{
	const struct loop_options *o = l->o;
	char folder[PATH_MAX], temp[PATH_MAX], path[PATH_MAX], hash[HASH_HEX];
	int rc = 0;
	if (snprintf(folder, sizeof folder, "%s/weights", o->folder) >= (int)sizeof folder - 80) return err_set(e, ERR_RANGE, "path too long: %s", o->folder);
	TRY(fs_mkdirs(folder, e));
	remove_version(l, version);
	FAULT_POINT("publish.before_write", "new weights are about to be written");
	snprintf(temp, sizeof temp, "%.*s/.new", PATH_MAX - 8, folder);
	TRY(model_save(o->learner->policy, temp, 0, hash, e));
	snprintf(path, sizeof path, "%.*s/%08lld-%s.safetensors", PATH_MAX - 64, folder, (long long)version, hash);
	FAULT_POINT("publish.before_rename", "new weights are written, not under their name");
	if (rename(temp, path) != 0) TRY(err_set(e, ERR_IO, "cannot rename %s to %s: %s", temp, path, strerror(errno)));
	FAULT_POINT("publish.before_announce", "new weights have their name, nobody knows of them");
	TRY(ppo_server_publish(o->server, (uint64_t)version, path, hash, e));
	FAULT_POINT("publish.after_announce", "new weights may be sampled from");
	l->published = version;
	/* steps from version on sample from version - lag at the oldest */
	for (; l->oldest < version - o->config->ppo.lag; l->oldest++) {
		ppo_server_retire(o->server, (uint64_t)l->oldest);
		FAULT_POINT("publish.before_remove", "old weights are retired, their file is still there");
		remove_version(l, l->oldest);
	}
out:
	return rc;
}

int loop_load_version(struct loop *l, struct model *m, int64_t version, struct err *e)
{
	char path[PATH_MAX], hash[HASH_HEX];
	int rc = version_path(l, version, path, hash, e);
	return rc < 0 ? rc : model_load(m, path, 0, e);
}

static json_t *state_json(const struct learner *l)
{
	return json_pack("{s:I,s:f,s:I,s:I,s:I,s:I}", "step", (json_int_t)l->step, "kl_coef", l->kl_coef, "episodes", (json_int_t)l->episodes, "skipped",
			 (json_int_t)l->skipped, "policy_updates", (json_int_t)l->policy_opt->updates, "critic_updates",
			 (json_int_t)(l->critic_opt ? l->critic_opt->updates : 0));
}

static int copy_file(const char *from, const char *to, struct err *e)
{
	struct fs_map m;
	int rc = fs_map_open(&m, from, e);
	if (rc < 0) return rc;
	rc = fs_write_atomic(to, m.data, m.bytes, e);
	fs_map_close(&m);
	return rc;
}

/* The weights that open steps still sample from, beside the policy itself. */
static int save_lagging(struct loop *l, const char *folder, struct err *e)
{
	int64_t newest = l->o->learner->step;
	for (int64_t v = newest - l->o->config->ppo.lag < 0 ? 0 : newest - l->o->config->ppo.lag; v < newest; v++) {
		char from[PATH_MAX], to[PATH_MAX], hash[HASH_HEX];
		int rc = version_path(l, v, from, hash, e);
		if (rc < 0) return rc;
		snprintf(to, sizeof to, "%.*s/weights-%08lld.safetensors", PATH_MAX - 64, folder, (long long)v);
		rc = copy_file(from, to, e);
		if (rc < 0) return rc;
	}
	return 0;
}

/* The checkpoint's row. One between the configured ones, or before the first step, is made by a stop: nothing the record should depend on. */
static int record_checkpoint(struct loop *l, const char *hash, struct err *e)
{
	int64_t step = l->o->learner->step;
	char relative[64];
	if (step != l->o->config->ppo.steps && (step == 0 || step % l->o->config->ppo.checkpoint_every)) return 0;
	snprintf(relative, sizeof relative, "%s/step-%08lld", PLACE, (long long)step);
	return store_put_checkpoint(l->o->store, (uint64_t)step, (uint64_t)step, relative, hash, e);
}

int loop_save(struct loop *l, struct err *e)
{
	struct learner *a = l->o->learner;
	struct checkpoint *c = NULL;
	char path[PATH_MAX], hash[HASH_HEX];
	json_t *j = state_json(a);
	int rc = 0;
	TRY(checkpoint_begin(&c, l->o->folder, PLACE, (uint64_t)a->step, e));
	snprintf(path, sizeof path, "%s/policy.safetensors", checkpoint_folder(c));
	TRY(training_save(a->policy_opt, path, e));
	if (a->critic_opt) {
		snprintf(path, sizeof path, "%s/critic.safetensors", checkpoint_folder(c));
		TRY(training_save(a->critic_opt, path, e));
	}
	TRY(save_lagging(l, checkpoint_folder(c), e));
	FAULT_POINT("loop.before_state", "a checkpoint has its weights, not its counters");
	snprintf(path, sizeof path, "%s/state.json", checkpoint_folder(c));
	if (json_dump_file(j, path, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0) TRY(err_set(e, ERR_IO, "cannot write %s", path));
	struct checkpoint *done = c;
	c = NULL;
	TRY(checkpoint_commit(done, l->o->config->run.keep_checkpoints, hash, e));
	l->saved = a->step;
	TRY(record_checkpoint(l, hash, e));
out:
	checkpoint_abort(c);
	json_decref(j);
	return rc;
}

static void warn(void *arg, const char *text)
{
	(void)arg;
	log_warn("%s", text);
}

static int restore_state(struct learner *a, const char *path, struct err *e)
{
	json_t *j = json_load_file(path, 0, NULL);
	if (!j) return err_set(e, ERR_FORMAT, "%s is not JSON", path);
	a->step = json_integer_value(json_object_get(j, "step"));
	a->kl_coef = json_number_value(json_object_get(j, "kl_coef"));
	a->episodes = json_integer_value(json_object_get(j, "episodes"));
	a->skipped = json_integer_value(json_object_get(j, "skipped"));
	a->policy_opt->updates = json_integer_value(json_object_get(j, "policy_updates"));
	if (a->critic_opt) a->critic_opt->updates = json_integer_value(json_object_get(j, "critic_updates"));
	json_decref(j);
	return 0;
}

/* Publishes again the older versions that open steps sample from. */
static int restore_lagging(struct loop *l, const char *folder, struct err *e)
{
	const struct loop_options *o = l->o;
	int64_t step = o->learner->step, first = step > o->config->ppo.lag ? step - o->config->ppo.lag : 0;
	l->oldest = first;
	for (int64_t v = first; v < step; v++) {
		char from[PATH_MAX], to[PATH_MAX], hash[HASH_HEX];
		struct fs_map m;
		int rc = 0;
		snprintf(from, sizeof from, "%.*s/weights-%08lld.safetensors", PATH_MAX - 64, folder, (long long)v);
		TRY(fs_map_open(&m, from, e));
		hash_bytes(m.data, m.bytes, hash);
		remove_version(l, v);
		snprintf(to, sizeof to, "%.*s/weights/%08lld-%s.safetensors", PATH_MAX - 80, o->folder, (long long)v, hash);
		rc = fs_write_atomic(to, m.data, m.bytes, e);
		fs_map_close(&m);
		if (rc == 0) rc = ppo_server_publish(o->server, (uint64_t)v, to, hash, e);
	out:
		if (rc < 0) return rc;
	}
	return 0;
}

int loop_restore(struct loop *l, struct err *e)
{
	struct learner *a = l->o->learner;
	struct checkpoint_entry at;
	char path[PATH_MAX];
	int rc = checkpoint_recover(l->o->folder, PLACE, &at, warn, NULL, e);
	if (rc == ERR_NOT_FOUND) return 0;
	if (rc < 0) return rc;
	snprintf(path, sizeof path, "%s/policy.safetensors", at.path);
	TRY(training_load(a->policy_opt, path, e));
	FAULT_POINT("loop.within_restore", "a checkpoint is partly read back");
	snprintf(path, sizeof path, "%s/critic.safetensors", at.path);
	if (a->critic_opt) TRY(training_load(a->critic_opt, path, e));
	snprintf(path, sizeof path, "%s/state.json", at.path);
	TRY(restore_state(a, path, e));
	l->saved = a->step;
	/* a kill may have come between the checkpoint and its row */
	TRY(record_checkpoint(l, at.hash, e));
	snprintf(path, sizeof path, "%s/weights", l->o->folder);
	TRY(fs_mkdirs(path, e));
	TRY(restore_lagging(l, at.path, e));
	log_info("ppo goes on after step %lld of %lld", (long long)a->step, (long long)l->o->config->ppo.steps);
out:
	return rc;
}
