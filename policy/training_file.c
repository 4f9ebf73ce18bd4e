/* Training state on disk; see training_file.h. */
#include "policy/training_file.h"

#include "policy/model_file.h"

#include <stdlib.h>

/* The three arenas: themselves where they are in the host's memory, else copies of them in one allocation, *copy. */
static int arenas_open(const struct optimizer *o, struct params_arena a[3], float **copy, struct err *e)
{
	const struct model *m = o->model;
	size_t n = (size_t)m->learned->floats;
	*copy = NULL;
	a[0] = (struct params_arena){"", m->learned_weights};
	a[1] = (struct params_arena){"exp_avg.", o->m};
	a[2] = (struct params_arena){"exp_avg_sq.", o->v};
	if (backend_on_host(m->backend)) return 0;
	*copy = calloc(3 * n, sizeof **copy);
	if (!*copy) return err_set(e, ERR_MEMORY, "no memory to stage %lld parameters and their moments", (long long)m->learned->parameters);
	for (size_t i = 0; i < 3; i++) a[i].host = *copy + i * n;
	return 0;
}

int training_save(const struct optimizer *o, const char *path, struct err *e)
{
	const struct model *m = o->model;
	struct params_arena a[3];
	float *copy, *from[] = {m->learned_weights, o->m, o->v};
	int rc = arenas_open(o, a, &copy, e);
	if (rc < 0) return rc;
	for (int i = 0; copy && i < 3; i++) m->ops->download(m->backend, a[i].host, from[i], (size_t)m->learned->floats * sizeof(float));
	rc = params_save(m->learned, a, 3, path, 0, NULL, e);
	free(copy);
	return rc;
}

int training_load(struct optimizer *o, const char *path, struct err *e)
{
	struct model *m = o->model;
	struct params_arena a[3];
	float *copy, *to[] = {m->learned_weights, o->m, o->v};
	int rc = arenas_open(o, a, &copy, e);
	if (rc < 0) return rc;
	rc = params_load(m->learned, a, 3, path, 0, e);
	for (int i = 0; rc == 0 && copy && i < 3; i++) m->ops->upload(m->backend, to[i], a[i].host, (size_t)m->learned->floats * sizeof(float));
	if (rc == 0) model_changed(m);
	free(copy);
	return rc;
}
