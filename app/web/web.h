/* `tenfold web`: one server over a folder of runs and campaigns. This file is what
 * its parts share; each part is a table of routes.
 *
 *   DIR/labels.db    made when it is missing; the server is its one writer
 *   DIR/web.key      signs cookies; mode 0600
 *   run.db of runs in DIR and below: only read (dash.h)
 *
 * Who may do what is the route's `access`: WEB_ANYONE, WEB_PERSON (whoever signed
 * in, the owner too), WEB_OWNER. The owner signs in with the link that is printed
 * at the start and works once; others with the token of their invitation. A
 * session is looked up in labels.db at each request, so pausing and revoking work
 * at once. */
#ifndef TENFOLD_APP_WEB_WEB_H
#define TENFOLD_APP_WEB_WEB_H

#include "app/web/standing.h"
#include "app/web/trust.h"
#include "core/wire/http.h"
#include "store/labels.h"

#include <pthread.h>
#include <stdatomic.h>

enum web_access { WEB_ANYONE = 0, WEB_PERSON = 1, WEB_OWNER = 2 };

#define WEB_PAGE_VERSION "1" /* kept with every label: changed when what people see changes */

enum { WEB_LIMIT_SLOTS = 256, WEB_LIMIT_TRIES = 10 }; /* failed sign-ins a minute and address, before 429 */

struct web {
	const char *dir;
	struct http *http;
	/* labels.db: one connection, used under the lock by whichever thread answers */
	struct labels *labels;
	pthread_mutex_t lock;
	/* a second connection that only reads: for what takes long, so that nobody who labels waits for it */
	struct labels *reader;
	pthread_mutex_t reader_lock;
	struct standing_list *standing; /* of campaigns; under the reader's lock */
	struct trust *trust;
	int64_t owner;                 /* the owner as a person of labels.db, for adjudication */
	char login[LABELS_TOKEN];      /* the owner's one-time token; "" once it was used */
	struct web_tries {
		char client[64];
		int64_t minute;
		int count;
	} tries[WEB_LIMIT_SLOTS];      /* also under the lock */
};

struct web_options {
	const char *dir, *address, *public_url, *trusted_proxy, *certificate, *private_key;
	uint16_t port;
	const atomic_int *stop;        /* serve until it is not 0 */
	void (*ready)(void *ctx, const struct web *w); /* called once it listens: to print the link */
	void *ctx;
};
int web_serve(const struct web_options *o, struct err *e);

/* The person who asks, as a row of labels.db (the owner's own for the owner). ERR_NOT_FOUND. */
int web_person(struct web *w, const struct http_request *q, int64_t *person, struct err *e);
/* A number of the path; ERR_NOT_FOUND when it is none. */
int web_number(const char *text, int64_t *n, struct err *e);
static inline void web_lock(struct web *w) { pthread_mutex_lock(&w->lock); }
static inline void web_unlock(struct web *w) { pthread_mutex_unlock(&w->lock); }
static inline void web_read_lock(struct web *w) { pthread_mutex_lock(&w->reader_lock); }
static inline void web_read_unlock(struct web *w) { pthread_mutex_unlock(&w->reader_lock); }

/* The parts. Each table ends with an empty row; handlers get the struct web as ctx. */
extern const struct http_route web_page_routes[];  /* pages, scripts, styles */
extern const struct http_route web_login_routes[]; /* signing in and out, who am I */
extern const struct http_route web_label_routes[]; /* the labelling page */
extern const struct http_route web_owner_routes[]; /* campaigns, people, adjudication */
extern const struct http_route web_curve_routes[]; /* the dashboard: runs and their curves */
extern const struct http_route web_group_routes[]; /* the dashboard: groups, tokens, search */
extern const struct http_route web_statistics_routes[]; /* the dashboard: labels of a campaign */

/* web_login.c */
enum http_authority web_authorize(void *ctx, const struct http_route *route, const struct http_request *q);

#endif
