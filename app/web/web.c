/* Opening what the server works on, and its loop; see web.h. */
#include "app/web/web.h"

#include "core/base/fs.h"
#include "core/base/log.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int web_number(const char *text, int64_t *n, struct err *e)
{
	if (!*text || strlen(text) > 18 || strspn(text, "0123456789") != strlen(text)) return err_set(e, ERR_NOT_FOUND, "'%.40s' is not a number", text);
	*n = atoll(text);
	return 0;
}

static int find_owner(void *ctx, const struct labels_person *p)
{
	if (strcmp(p->state, "imported") || strcmp(p->name, "owner")) return 0;
	*(int64_t *)ctx = p->person;
	return 1;
}

/* The owner labels too, when a disagreement is to be settled. */
static int owner_ensure(struct web *w, struct err *e)
{
	int rc = labels_each_person(w->labels, find_owner, &w->owner, e);
	return rc ? (rc < 0 ? rc : 0) : labels_person_put(w->labels, "owner", NULL, &w->owner, e);
}

static int path_in(const char *dir, const char *name, char out[PATH_MAX], struct err *e)
{
	return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX ? 0 : err_set(e, ERR_RANGE, "path too long: %s", dir);
}

static int read_pem(const char *path, char **out, struct err *e)
{
	size_t bytes;
	return path ? fs_read(path, 1 << 20, out, &bytes, e) : 0;
}

int web_serve(const struct web_options *o, struct err *e)
{
	static const struct http_route *const tables[] = {web_page_routes, web_login_routes, web_label_routes, web_owner_routes, NULL};
	struct web *w = calloc(1, sizeof *w);
	char path[PATH_MAX], *certificate = NULL, *private_key = NULL;
	int rc;
	if (!w) return err_set(e, ERR_MEMORY, "no memory for a server");
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->reader_lock, NULL);
	w->dir = o->dir;
	struct http_options h = {.address = o->address, .port = o->port, .public_url = o->public_url, .trusted_proxy = o->trusted_proxy, .tables = tables,
		.ctx = w, .authorize = web_authorize};
	TRY(fs_mkdirs(o->dir, e));
	TRY(path_in(o->dir, "labels.db", path, e));
	TRY(labels_open(&w->labels, path, 1, e));
	TRY(owner_ensure(w, e));
	TRY(labels_open(&w->reader, path, 0, e));
	TRY(path_in(o->dir, "web.key", path, e));
	TRY(http_key_load(path, h.key, e));
	TRY(read_pem(o->certificate, &certificate, e));
	TRY(read_pem(o->private_key, &private_key, e));
	h.certificate = certificate;
	h.private_key = private_key;
	http_random_token(w->login);
	TRY(http_open(&w->http, &h, e));
	if (o->ready) o->ready(o->ctx, w);
	while (!atomic_load(o->stop)) {
		nanosleep(&(struct timespec){0, 100 * 1000000}, NULL);
		http_tick(w->http);
	}
out:
	http_close(w->http);
	labels_close(w->reader);
	labels_close(w->labels);
	free(certificate);
	free(private_key);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->reader_lock);
	free(w);
	return rc;
}
