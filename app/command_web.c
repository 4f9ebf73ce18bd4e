/* `tenfold web`. */
#include "app/commands.h"
#include "app/options.h"
#include "app/web/web.h"
#include "core/base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_int stop; /* set by the signal handler, which can reach nothing else */

static void on_signal(int number)
{
	(void)number;
	atomic_store(&stop, 1);
}

static void say_where(void *ctx, const struct web *w)
{
	(void)ctx;
	printf("%s/owner#login=%s\nOpen this link; it works once. Ctrl-C stops the server.\n", http_url(w->http), w->login);
	fflush(stdout);
}

int command_web(int argc, char **argv, struct err *e)
{
	struct option_list rest, sets = {.count = 0};
	struct config *c = calloc(1, sizeof *c);
	const char *file = NULL;
	int64_t port = -1;
	const struct option table[] = {
		{"port", OPTION_INT, &port, "N", "Port to listen on; 0: any free one. Default: web.port (8300)."},
		{"config", OPTION_TEXT, &file, "FILE", "A configuration whose section web is used."},
		OPTION_SET(&sets),
	};
	const struct options_use use = {
		.line = "web DIR [--port N] [--config FILE] [--set web.KEY=VALUE]…",
		.about = "Serves the labelling page and the dashboard over a folder: DIR/labels.db holds campaigns, people and labels, and is\n"
			 "made when it is missing; runs in DIR and below are shown while they go on. Listens on 127.0.0.1 and prints a link\n"
			 "that signs the owner in, once. docs/labelling.md and docs/dashboard.md say more.",
		.table = table, .count = sizeof table / sizeof table[0], .at_least = 1, .at_most = 1};
	int rc = c ? options_parse(&use, argc, argv, &rest, e) : err_set(e, ERR_MEMORY, "no memory for a configuration");
	if (rc) {
		free(c);
		return rc < 0 ? rc : 0;
	}
	config_defaults(c);
	if (file) TRY(config_read(c, file, e));
	for (int i = 0; i < sets.count; i++) TRY(config_set(c, sets.item[i], e));
	if (port >= 0) c->web.port = port;
	if (c->web.port > 65535) {
		rc = err_set(e, ERR_RANGE, "there is no port %lld", (long long)c->web.port);
		goto out;
	}
	struct sigaction a = {.sa_handler = on_signal};
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	signal(SIGPIPE, SIG_IGN);
	log_setup("web", LOG_WARN);
	const struct config_web *w = &c->web;
	struct web_options o = {.dir = rest.item[0], .address = w->address, .public_url = w->public_url, .trusted_proxy = w->trusted_proxy,
		.certificate = *w->certificate ? w->certificate : NULL, .private_key = *w->private_key ? w->private_key : NULL, .port = (uint16_t)w->port,
		.stop = &stop, .ready = say_where};
	rc = web_serve(&o, e);
out:
	free(c);
	return rc;
}
