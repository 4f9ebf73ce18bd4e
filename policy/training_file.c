/* Training state on disk; see training_file.h. */
#include "policy/training_file.h"

#include "policy/model_file.h"

#include <stdlib.h>

/* Three host arenas in one allocation. */
static int arenas_open(const struct model *m, struct params_arena a[3], struct err *e)
{
	size_t n = (size_t)m->learned->floats;
	float *host = calloc(3 * n, sizeof *host);
	if (!host) return err_set(e, ERR_MEMORY, "no memory to stage %lld parameters and their moments", (long long)m->learned->parameters);
	a[0] = (struct params_arena){"", host};
	a[1] = (struct params_arena){"exp_avg.", host + n};
	a[2] = (struct params_arena){"exp_avg_sq.", host + 2 * n};
	return 0;
}

int training_save(const struct optimizer *o, const char *path, struct err *e)
{
	const struct model *m = o->model;
	struct params_arena a[3];
	size_t bytes = (size_t)m->learned->floats * sizeof(float);
	int rc = arenas_open(m, a, e);
	if (rc < 0) return rc;
	m->ops->download(m->backend, a[0].host, m->learned_weights, bytes);
	m->ops->download(m->backend, a[1].host, o->m, bytes);
	m->ops->download(m->backend, a[2].host, o->v, bytes);
	rc = params_save(m->learned, a, 3, path, 0, NULL, e);
	free(a[0].host);
	return rc;
}

int training_load(struct optimizer *o, const char *path, struct err *e)
{
	struct model *m = o->model;
	struct params_arena a[3];
	size_t bytes = (size_t)m->learned->floats * sizeof(float);
	int rc = arenas_open(m, a, e);
	if (rc < 0) return rc;
	rc = params_load(m->learned, a, 3, path, 0, e);
	if (rc == 0) {
		model_put_learned(m, a[0].host);
		m->ops->upload(m->backend, o->m, a[1].host, bytes);
		m->ops->upload(m->backend, o->v, a[2].host, bytes);
	}
	free(a[0].host);
	return rc;
}
