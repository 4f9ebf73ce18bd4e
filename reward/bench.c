/* The benchmark of the scoring path; see bench.h. */
#include "reward/bench.h"

#include "core/base/fs.h"
#include "reward/client.h"
#include "reward/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COMPLETIONS = 10, TOKENS = 256, PROMPT = 32, TEXT = 1024, WARM = 100, DEPTH = 64 };

static int no_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	(void)self;
	(void)e;
	for (uint32_t g = 0; g < n; g++)
		for (uint32_t i = 0; i < groups[g]->size; i++) *out++ = (float)i;
	return 0;
}

static void no_close(struct scorer *s)
{
	(void)s;
}

struct bench {
	struct arena *arena, *step;
	struct scorer scorer;
	struct group group;
	atomic_int stop;
	double *times;
	struct group many[DEPTH];
};

static void make_group(struct bench *b)
{
	uint32_t n = PROMPT + COMPLETIONS * TOKENS;
	int32_t *tokens = arena_must(b->arena, n, sizeof *tokens);
	float *logprobs = arena_must(b->arena, COMPLETIONS * TOKENS, sizeof *logprobs);
	char *text = arena_must(b->arena, TEXT + 1, 1);
	for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)(i * 7 % 4096);
	for (uint32_t i = 0; i < COMPLETIONS * TOKENS; i++) logprobs[i] = -0.01f * (float)(i % 300);
	for (uint32_t i = 0; i < TEXT; i++) text[i] = (char)('a' + i % 26);
	b->group = (struct group){.size = COMPLETIONS, .prompt_tokens = PROMPT, .tokens = tokens, .logprobs = logprobs, .prompt_text = text};
	for (uint32_t i = 0; i < COMPLETIONS; i++) {
		b->group.length[i] = TOKENS;
		b->group.text[i] = text;
	}
	b->scorer = (struct scorer){.name = "none", .version = "none-1", .terms = 1, .term_name = {"none"}, .score = no_score, .close = no_close};
}

static int by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(double *times, uint32_t n, double q)
{
	qsort(times, n, sizeof *times, by_time);
	uint32_t i = (uint32_t)(q * (double)n);
	return times[i < n ? i : n - 1] * 1e6;
}

static void *serve(void *arg)
{
	struct err e;
	reward_service_run(arg, &e); /* ends by the stop flag; a failure shows as silence to the client */
	return NULL;
}

static int one_at_a_time(struct bench *b, struct reward_client *c, uint32_t groups, struct err *e)
{
	struct group *got;
	for (uint32_t i = 0; i < groups + WARM; i++) {
		struct group g = b->group;
		g.slot = i;
		arena_reset(b->step);
		double start = fs_now();
		int rc = reward_client_submit(c, &g, b->step, e);
		if (rc == 0) rc = reward_client_poll(c, 10, &got, e);
		if (rc != 1) return rc < 0 ? rc : err_set(e, ERR_TIMEOUT, "the benchmark's service did not answer in 10 s");
		if (i >= WARM) b->times[i - WARM] = fs_now() - start;
	}
	return 0;
}

static int many_at_a_time(struct bench *b, struct reward_client *c, uint32_t groups, double *rate, struct err *e)
{
	double start = fs_now();
	uint32_t given = 0, got = 0;
	arena_reset(b->step);
	while (got < groups) {
		while (given < groups && given - got < DEPTH) {
			struct group *g = NULL;
			for (uint32_t i = 0; i < DEPTH && !g; i++)
				if (b->many[i].size == 0) g = &b->many[i];
			*g = b->group;
			g->step = 1;
			g->slot = given++;
			int rc = reward_client_submit(c, g, b->step, e);
			if (rc < 0) return rc;
		}
		struct group *g;
		int rc = reward_client_poll(c, 10, &g, e);
		if (rc != 1) return rc < 0 ? rc : err_set(e, ERR_TIMEOUT, "the benchmark's service did not answer in 10 s");
		g->size = 0;
		got++;
	}
	*rate = groups / (fs_now() - start);
	return 0;
}

static int bench_transport(struct bench *b, struct reward_bench *out, int t, const char *endpoint, struct err *e)
{
	struct wire *wire = NULL;
	struct reward_service *service = NULL;
	struct reward_client *client = NULL;
	pthread_t thread;
	int rc = 0, running = 0;
	atomic_store(&b->stop, 0);
	TRY(wire_open(&wire, &(struct wire_options){.stop = &b->stop}, e));
	TRY(reward_service_open(&service, wire, &(struct reward_service_options){.endpoint = endpoint, .run = "bench", .scorer = &b->scorer}, e));
	if (pthread_create(&thread, NULL, serve, service) != 0) {
		rc = err_set(e, ERR_MEMORY, "no thread for the benchmark's service");
		goto out;
	}
	running = 1;
	TRY(reward_client_open(&client, wire, &(struct reward_client_options){.endpoints = reward_service_endpoint(service), .run = "bench"}, e));
	TRY(one_at_a_time(b, client, out->groups, e));
	out->transport[t].p50_us = quantile(b->times, out->groups, 0.5);
	out->transport[t].p99_us = quantile(b->times, out->groups, 0.99);
	TRY(many_at_a_time(b, client, out->groups, &out->transport[t].groups_per_second, e));
out:
	atomic_store(&b->stop, 1);
	if (running) pthread_join(thread, NULL);
	reward_client_close(client);
	reward_service_close(service);
	wire_close(wire);
	return rc;
}

static int bench_codec(struct bench *b, struct reward_bench *out, struct err *e)
{
	struct message_buffer buffer = {0};
	struct message m, back;
	int rc = 0;
	message_init(&m, MESSAGE_SCORE, "bench");
	m.score.group = b->group;
	TRY(message_encode(&buffer, &m, e));
	out->request_bytes = buffer.bytes;
	message_init(&m, MESSAGE_GROUP, "bench");
	m.group = b->group;
	for (uint32_t i = 0; i < out->groups; i++) {
		double start = fs_now();
		TRY(message_encode(&buffer, &m, e));
		b->times[i] = fs_now() - start;
	}
	out->group_bytes = buffer.bytes;
	out->encode_us = quantile(b->times, out->groups, 0.5);
	for (uint32_t i = 0; i < out->groups; i++) {
		arena_reset(b->step);
		double start = fs_now();
		TRY(message_decode(&back, buffer.data, buffer.bytes, b->step, NULL, e));
		b->times[i] = fs_now() - start;
	}
	out->decode_us = quantile(b->times, out->groups, 0.5);
out:
	message_buffer_free(&buffer);
	return rc;
}

int reward_bench_run(struct reward_bench *out, uint32_t groups, struct err *e)
{
	static const char *const names[REWARD_BENCH_TRANSPORTS] = {"inproc", "ipc", "tcp"};
	static const double goals[REWARD_BENCH_TRANSPORTS] = {100, 150, 200};
	struct bench *b = calloc(1, sizeof *b);
	char ipc[64];
	int rc = 0;
	if (!b) return err_set(e, ERR_MEMORY, "no memory for the benchmark");
	memset(out, 0, sizeof *out);
	out->completions = COMPLETIONS;
	out->tokens = TOKENS;
	out->groups = groups ? groups : 2000;
	b->arena = arena_open(0);
	b->step = arena_open(0);
	b->times = arena_must(b->arena, out->groups, sizeof *b->times);
	make_group(b);
	snprintf(ipc, sizeof ipc, "ipc://@tenfold-bench-%d", (int)getpid());
	const char *const endpoints[REWARD_BENCH_TRANSPORTS] = {"inproc://bench", ipc, "tcp://127.0.0.1:*"};
	TRY(bench_codec(b, out, e));
	for (int t = 0; t < REWARD_BENCH_TRANSPORTS; t++) {
		out->transport[t].name = names[t];
		out->transport[t].goal_us = goals[t];
		TRY(bench_transport(b, out, t, endpoints[t], e));
	}
out:
	arena_close(b->arena);
	arena_close(b->step);
	free(b);
	return rc;
}
