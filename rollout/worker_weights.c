/* A lease's weights into the model: from the learner's file when it is here and
 * whole, else in chunks over the wire. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/wire/transfer.h"
#include "policy/model_file.h"
#include "rollout/worker_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAD_LOADS = 3 };

/* 0 when the file at `path` is what the lease asks for. */
static int check_file(const char *path, const struct message_lease *l, struct err *e)
{
	struct fs_map map;
	char hash[HASH_HEX];
	int rc = fs_map_open(&map, path, e);
	if (rc < 0) return rc;
	hash_bytes(map.data, map.bytes, hash);
	if (map.bytes != l->weights_bytes || strcmp(hash, l->weights_hash) != 0)
		rc = err_set(e, ERR_MISMATCH, "%s has hash %s, weights version %llu have %s", path, hash, (unsigned long long)l->policy_version,
			     l->weights_hash);
	fs_map_close(&map);
	return rc;
}

/* Fetches to the worker's folder; the file before it goes. */
static int fetch(struct worker *w, struct err *e)
{
	const struct message_lease *l = &w->lease;
	char path[PATH_MAX];
	int rc = fs_mkdirs(w->options.folder, e);
	if (rc < 0) return rc;
	if (snprintf(path, sizeof path, "%s/%llu-%.8s.safetensors", w->options.folder, (unsigned long long)l->policy_version, l->weights_hash) >=
	    (int)sizeof path)
		return err_set(e, ERR_RANGE, "path too long: %s", w->options.folder);
	rc = transfer_fetch(w->socket, w->run, path, l->policy_version, l->weights_hash, l->weights_bytes, w->options.resend_seconds, e);
	if (rc < 0) return rc;
	if (w->fetched[0] && strcmp(w->fetched, path) != 0) unlink(w->fetched);
	strcpy(w->fetched, path);
	w->counters.fetches++;
	return check_file(path, l, e);
}

/* The smallest fault there is: one element of the final norm moves to its neighbour, in f32 or in what the model is held in. */
static void plant(struct worker *w)
{
	struct model *m = w->options.model;
	float *host = malloc((size_t)m->params.list[m->params.norm].size * sizeof *host);
	CHECK(host, "out of memory to plant a fault");
	model_get_param(m, m->params.norm, host);
	if (backend_weights(m->backend) == DTYPE_F32) *host = nextafterf(*host, INFINITY);
	else *host *= 1 + 1.0f / 128;
	model_put_param(m, m->params.norm, host);
	free(host);
	log_warn("WORKER %s: one weight was moved by one ulp, as asked", w->options.name);
}

/* What a failed fetch means: stop, join again, or the end. */
static int after_failure(struct worker *w, int rc, struct err *e)
{
	if (rc == ERR_STOPPED) return worker_is_stopped(w) ? rc : TURN_STOP;
	if (rc != ERR_TIMEOUT && rc != ERR_STATE && rc != ERR_MISMATCH && rc != ERR_NET) return rc;
	if (rc == ERR_MISMATCH && ++w->bad_loads >= BAD_LOADS) return err_prefix(e, "worker %s gives up", w->options.name);
	log_warn("WORKER %s: %s; joining again", w->options.name, e->msg);
	return TURN_REJOIN;
}

int worker_load(struct worker *w, struct err *e)
{
	const struct message_lease *l = &w->lease;
	const char *path = l->weights_path;
	double start = fs_now();
	if (w->loaded && w->version == l->policy_version && strcmp(w->hash, l->weights_hash) == 0) return TURN_GO_ON;
	int rc = w->options.fetch_weights ? err_set(e, ERR_NOT_FOUND, "rollout.fetch_weights asks for it") : check_file(path, l, e);
	if (rc < 0) {
		log_info("WORKER %s: fetching weights version %llu: %s", w->options.name, (unsigned long long)l->policy_version, e->msg);
		rc = fetch(w, e);
		if (rc < 0) return after_failure(w, rc, e);
		path = w->fetched;
	}
	w->loaded = 0;
	rc = model_load(w->options.model, path, 0, e);
	if (rc < 0) return rc;
	if (w->options.plant_ulp) plant(w);
	FAULT_POINT("worker.after_weights", "a worker has the weights of its lease and has generated nothing");
	w->loaded = 1;
	w->bad_loads = 0;
	w->version = l->policy_version;
	memcpy(w->hash, l->weights_hash, sizeof w->hash);
	w->counters.loads++;
	log_info("WORKER %s: weights version %llu (%s) loaded in %.2f s", w->options.name, (unsigned long long)w->version, w->hash, fs_now() - start);
	return TURN_GO_ON;
}
