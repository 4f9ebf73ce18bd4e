/* Opening what the server works on, and its loop; see web.h. */
#include "app/web/web.h"

#include "app/web/campaign.h"
#include "app/web/dash.h"
#include "core/base/fs.h"
#include "core/base/log.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STOP_RULE_TICKS = 20, WATCH_TICKS = 5 }; /* of 0.1 s */

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

struct stopping {
	struct web *w;
	int64_t close; /* a campaign that has reached its accuracy */
	struct err *e;
};

static int find_reached(void *ctx, const struct labels_campaign *c)
{
	struct stopping *s = ctx;
	struct campaign_options o;
	const struct standing *x;
	int before;
	int rc = campaign_read(&o, c->options, s->e);
	if (rc < 0 || !o.stop || strcmp(c->state, "open")) return rc;
	if ((rc = labels_campaign_was_stopped(s->w->reader, c->campaign, &before, s->e)) < 0 || before) return rc;
	rc = standing_get(s->w->standing, s->w->reader, c->campaign, &o, &x, s->e);
	if (rc < 0 || !x->now.stop) return rc;
	s->close = c->campaign;
	return 1;
}

/* The stop rule. A campaign is closed by it once, which the file remembers: who opens it again means it. */
static void apply_stop_rule(struct web *w)
{
	struct err e = {0};
	struct stopping s = {w, 0, &e};
	web_read_lock(w);
	int rc = labels_each_campaign(w->reader, find_reached, &s, &e);
	web_read_unlock(w);
	if (rc > 0) {
		web_lock(w);
		rc = labels_campaign_stop(w->labels, s.close, &e);
		web_unlock(w);
	}
	if (rc < 0) log_error("stop rule: %s", e.msg);
}

int web_serve(const struct web_options *o, struct err *e)
{
	static const struct http_route *const tables[] = {web_page_routes, web_login_routes, web_label_routes, web_owner_routes,
		web_curve_routes, web_group_routes, web_statistics_routes, NULL};
	struct web *w = calloc(1, sizeof *w);
	struct dash_watch *watch = dash_watch_open();
	char path[PATH_MAX], *certificate = NULL, *private_key = NULL;
	int rc, ticks = 0;
	if (!w || !watch) {
		free(w);
		dash_watch_close(watch);
		return err_set(e, ERR_MEMORY, "no memory for a server");
	}
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
	if (!(w->standing = standing_open())) TRY(err_set(e, ERR_MEMORY, "no memory for a server"));
	TRY(trust_open(&w->trust, path, e));
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
		if (++ticks % STOP_RULE_TICKS == 0) apply_stop_rule(w);
		if (ticks % WATCH_TICKS == 0 && http_streams(w->http)) dash_watch_look(watch, w);
	}
out:
	http_close(w->http);
	trust_close(w->trust);
	standing_close(w->standing);
	labels_close(w->reader);
	labels_close(w->labels);
	dash_watch_close(watch);
	free(certificate);
	free(private_key);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->reader_lock);
	free(w);
	return rc;
}
