/* The configuration kept with a run; see run_config.h. */
#include "app/run_config.h"

#include "core/base/fs.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int path_of(const char *folder, char out[PATH_MAX], struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/config.yaml", folder) < PATH_MAX) return 0;
	return err_set(e, ERR_RANGE, "path too long: %s/config.yaml", folder);
}

int run_config_arrangement(const char *key)
{
	static const char *const names[] = {"run.name", "run.workers", "run.services", "run.threads", "run.isa", "run.device", "run.keep_checkpoints",
					    "run.recompute", "ppo.micro_batch", "rollout.batch_groups", "rollout.lease_seconds", "rollout.fetch_weights",
					    "reward.timeout_seconds", "reward.retries", "reward.backoff_max_seconds", "reward.batch_groups"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(names[i], key)) return 1;
	return !strncmp(key, "net.", 4) || !strncmp(key, "web.", 4);
}

/* What may change between a run and its resumption: arrangements, further stages, and which labels are looked at, for those that
 * were used are in the record with their digest. */
static int free_key(const char *key)
{
	static const char *const names[] = {"run.stages", "fit.labels", "fit.campaign", "fit.criterion", "fit.labels_event"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(names[i], key)) return 1;
	return run_config_arrangement(key);
}

static int write_to(const struct config *c, const char *path, struct err *e)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);
	CHECK(f, "out of memory for the configuration");
	config_write(c, f);
	fclose(f);
	int rc = fs_write_atomic(path, text, bytes, e);
	free(text);
	return rc;
}

int run_config_each_change(const struct config *now, const char *folder,
			   int (*differs)(void *ctx, const char *name, const char *was, const char *is), void *ctx, struct err *e)
{
	char path[PATH_MAX];
	int rc = path_of(folder, path, e);
	if (rc < 0) return rc;
	struct config *old = malloc(sizeof *old);
	CHECK(old, "out of memory for a configuration");
	config_defaults(old);
	rc = config_read(old, path, e);
	size_t n;
	const struct config_key *k = config_keys(&n);
	for (size_t i = 0; i < n && rc == 0; i++) {
		char was[CONFIG_STRING], is[CONFIG_STRING];
		config_value(old, &k[i], was, sizeof was);
		config_value(now, &k[i], is, sizeof is);
		if (strcmp(was, is)) rc = differs(ctx, k[i].name, was, is);
	}
	free(old);
	return rc;
}

struct refusal {
	const char *folder;
	struct err *e;
};

static int refuse(void *ctx, const char *name, const char *was, const char *is)
{
	const struct refusal *r = ctx;
	if (free_key(name)) return 0;
	return err_set(r->e, ERR_MISMATCH, "%s was started with %s %s, now it is %s: a resumed run keeps it; give another --out for a new run", r->folder, name,
		       was, is);
}

int run_config_keep(const struct config *c, const char *folder, struct err *e)
{
	char path[PATH_MAX];
	int rc = path_of(folder, path, e);
	if (rc < 0) return rc;
	if (!fs_exists(path)) return write_to(c, path, e);
	return run_config_each_change(c, folder, refuse, &(struct refusal){folder, e}, e);
}
