/* A task and its reward in C, outside of Tenfold's tree: sums.
 *
 *   sums prompts N            JSONL of {"prompt": …}                    for task.prompts
 *   sums examples N           JSONL of {"prompt": …, "completion": …}   for task.completions
 *   sums serve ENDPOINT       a scoring service with the terms "sum" and "digits"
 *
 * "sum" is 1 for the right answer; "digits" is the share of characters that are
 * digits. A scorer sees whole groups and must give the same scores whenever it is
 * asked again; its version has to change when its scores do. */
#include "core/base/log.h"
#include "reward/service.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	(void)self;
	for (uint32_t i = 0; i < n; i++) {
		const struct group *g = groups[i];
		int a, b;
		if (sscanf(g->prompt_text, "%d+%d=", &a, &b) != 2) return err_set(e, ERR_FORMAT, "'%s' is no sum", g->prompt_text);
		for (uint32_t c = 0; c < g->size; c++) { /* [terms, size] */
			size_t length = strlen(g->text[c]), digits = 0;
			for (size_t k = 0; k < length; k++) digits += isdigit((unsigned char)g->text[c][k]) != 0;
			char *end;
			long answer = strtol(g->text[c], &end, 10);
			out[c] = length > 0 && *end == 0 && answer == a + b ? 1.0f : 0.0f;
			out[g->size + c] = length > 0 ? (float)digits / (float)length : 0.0f;
		}
		out += 2 * (size_t)g->size;
	}
	return 0;
}

static void nothing(struct scorer *s)
{
	(void)s;
}

static atomic_int stop;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&stop, 1);
}

static int serve(const char *endpoint, struct err *e)
{
	struct scorer scorer = {.name = "sums", .version = "sums-1", .terms = 2, .term_name = {"sum", "digits"}, .score = score, .close = nothing};
	struct wire_options w = {.stop = &stop};
	struct reward_service_options o = {.endpoint = endpoint, .run = "", .scorer = &scorer, .limits = {64 << 20, 1 << 20, 0}};
	struct reward_service *service = NULL;
	struct wire *wire = NULL;
	int rc = 0;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	TRY(wire_open(&wire, &w, e));
	TRY(reward_service_open(&service, wire, &o, e));
	printf("%s\n", reward_service_endpoint(service)); /* the port that was chosen */
	fflush(stdout);
	TRY(reward_service_run(service, e));
out:
	reward_service_close(service);
	wire_close(wire);
	return rc;
}

static void lines(int n, int with_answer)
{
	for (int i = 0; i < n; i++) {
		int a = i * 7 % 10, b = i * 3 / 10 % 10;
		printf("{\"prompt\": \"%d+%d=\"", a, b);
		if (with_answer) printf(", \"completion\": \"%d\"", a + b);
		puts("}");
	}
}

int main(int argc, char **argv)
{
	struct err e = {0};
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		if (serve(argv[2], &e) >= 0) return 0;
		fprintf(stderr, "sums: %s\n", e.msg);
		return 1;
	}
	if (argc == 3 && (!strcmp(argv[1], "prompts") || !strcmp(argv[1], "examples"))) {
		lines(atoi(argv[2]), !strcmp(argv[1], "examples"));
		return 0;
	}
	fputs("usage: sums prompts N | sums examples N | sums serve ENDPOINT\n", stderr);
	return 2;
}
