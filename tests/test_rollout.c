/* Learner's server, workers and a scoring service together: the groups have the
 * same bits whoever makes them, and weights reach the workers in every way. */
#include "rollout_kit.h"
#include "rollout/worker.h"

/* Runs both steps with `n` workers; overlap: the second is open before the first is done. */
static void run_steps(int n, int overlap)
{
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w[KIT_WORKERS];
	struct ppo_worker_info info[KIT_WORKERS];
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, n);
	kit_service_start(&service);
	for (int i = 0; i < n; i++) {
		kit_worker_prepare(&w[i], endpoint, &service, i);
		kit_worker_start(&w[i]);
	}
	while (ppo_server_live(s) < n) usleep(10000);
	kit_open_step(s, 0);
	if (overlap) kit_open_step(s, 1);
	kit_check_step(s, 0);
	ppo_server_close_step(s, 0);
	ppo_server_retire(s, 1);
	if (!overlap) kit_open_step(s, 1);
	kit_check_step(s, 1);
	ppo_server_stop_workers(s);
	for (int i = 0; i < n; i++) kit_worker_expect(&w[i], 0);
	assert_int_equal(ppo_server_workers(s, info, KIT_WORKERS), n);
	uint64_t groups = 0, tokens = 0, made = 0;
	for (int i = 0; i < n; i++) {
		assert_true(info[i].groups > 0);
		assert_int_equal(info[i].expired, 0);
		assert_int_equal(w[i].counters.fetches, 0);
		groups += info[i].groups;
		tokens += info[i].tokens;
		made += w[i].counters.groups;
	}
	assert_int_equal(groups, KIT_STEPS * KIT_PROMPTS);
	assert_int_equal(made, KIT_STEPS * KIT_PROMPTS);
	uint64_t wanted = 0;
	for (int k = 0; k < KIT_STEPS; k++)
		for (int i = 0; i < KIT_PROMPTS; i++) wanted += group_response_tokens(&kit.oracle[k][i]);
	assert_int_equal(tokens, wanted);
	kit_service_stop(&service);
	ppo_server_close(s);
}

static void one_worker(void **state)
{
	(void)state;
	run_steps(1, 0);
}

static void three_workers(void **state)
{
	(void)state;
	run_steps(3, 0);
}

static void three_workers_and_two_open_steps(void **state)
{
	(void)state;
	run_steps(3, 1);
}

/* One worker on both steps; the caller has spoilt the files in its way. */
static struct worker_counters run_alone(const char *run)
{
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	kit_service_start(&service);
	kit_worker_prepare(&w, endpoint, &service, 0);
	w.options.run = run;
	for (uint32_t k = 0; k < KIT_STEPS; k++) {
		char hidden[160], path[160];
		snprintf(path, sizeof path, "%s/published-%u", kit.folder, k);
		snprintf(hidden, sizeof hidden, "cp '%s' '%s'", kit.weights[k], path);
		assert_int_equal(system(hidden), 0);
		assert_ok(ppo_server_publish(s, k + 1, path, kit.hash[k], &kit.err));
		assert_int_equal(unlink(path), 0); /* the server has it mapped */
		if (k == 1) { /* and here another file stands in its place */
			snprintf(hidden, sizeof hidden, "cp '%s' '%s'", kit.weights[0], path);
			assert_int_equal(system(hidden), 0);
		}
		ppo_server_open_step(s, k, k + 1, kit.prompts[k], KIT_PROMPTS);
	}
	kit_worker_start(&w);
	kit_check_step(s, 0);
	kit_check_step(s, 1);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	struct ppo_server_counters c;
	ppo_server_counters(s, &c);
	assert_true(c.chunks >= 4 && c.chunk_bytes >= 1 << 20);
	kit_service_stop(&service);
	ppo_server_close(s);
	return w.counters;
}

static void unreadable_weights_are_fetched(void **state)
{
	(void)state;
	struct worker_counters c = run_alone(""); /* it learns the run's id from the learner */
	assert_int_equal(c.fetches, 2);
	assert_int_equal(c.loads, 2);
}

static void a_wrong_hash_is_never_loaded(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT], hash[HASH_HEX];
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	strcpy(hash, kit.hash[0]);
	hash[0] = hash[0] == '0' ? '1' : '0';
	assert_ok(ppo_server_publish(s, 1, kit.weights[0], hash, &kit.err));
	ppo_server_open_step(s, 0, 1, kit.prompts[0], KIT_PROMPTS);
	kit_worker_prepare(&w, endpoint, NULL, 0);
	kit_worker_start(&w);
	pthread_join(w.thread, NULL);
	assert_int_equal(w.rc, ERR_MISMATCH);
	assert_non_null(strstr(w.err.msg, hash));
	assert_int_equal(w.counters.loads, 0);
	float *host = calloc((size_t)w.model->params.floats, sizeof *host);
	model_get(w.model, host);
	for (int64_t i = 0; i < w.model->params.floats; i++) assert_true(host[i] == 0);
	free(host);
	model_close(w.model);
	backend_close(w.backend);
	ppo_server_close(s);
}

static void one_ulp_shows(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT], text[200];
	struct kit_service service;
	struct kit_worker w;
	struct group got[KIT_PROMPTS];
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	kit_service_start(&service);
	kit_worker_prepare(&w, endpoint, &service, 0);
	w.options.plant_ulp = 1;
	kit_open_step(s, 0);
	kit_worker_start(&w);
	assert_int_equal(ppo_server_wait(s, 0, 60, got, kit.arena, &kit.err), 1);
	int differ = 0;
	for (int i = 0; i < KIT_PROMPTS; i++)
		if (group_difference(&kit.oracle[0][i], &got[i], text, sizeof text)) {
			differ++;
			assert_non_null(strstr(text, "logprobs"));
		}
	assert_true(differ > 0);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	kit_service_stop(&service);
	ppo_server_close(s);
}

static void workers_come_and_go(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker a, b;
	struct ppo_server_event v;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	kit_service_start(&service);
	kit_worker_prepare(&a, endpoint, &service, 1);
	kit_worker_prepare(&b, endpoint, &service, 2);
	kit_open_step(s, 0);
	kit_worker_start(&a);
	kit_check_step(s, 0);
	atomic_store(&a.stop, 1); /* Ctrl-C */
	kit_worker_expect(&a, ERR_STOPPED);
	kit_worker_start(&b);
	kit_open_step(s, 1);
	kit_check_step(s, 1);
	ppo_server_stop_workers(s);
	kit_worker_expect(&b, 0);
	while (ppo_server_live(s) > 0) usleep(10000); /* both said bye */
	static const struct {
		enum ppo_server_event_kind kind;
		const char *worker;
	} wanted[] = {{PPO_EVENT_JOINED, "worker-1"}, {PPO_EVENT_LEFT, "worker-1"}, {PPO_EVENT_JOINED, "worker-2"}, {PPO_EVENT_LEFT, "worker-2"}};
	for (int i = 0; i < 4; i++) {
		assert_int_equal(ppo_server_event(s, &v), 1);
		assert_int_equal(v.kind, wanted[i].kind);
		assert_string_equal(v.worker, wanted[i].worker);
	}
	assert_int_equal(ppo_server_event(s, &v), 0);
	kit_service_stop(&service);
	ppo_server_close(s);
}

/* The learner dies in the middle of a step and another one comes up at the same place. */
static void a_learner_comes_back(void **state)
{
	(void)state;
	char endpoint[WIRE_ENDPOINT];
	struct kit_service service;
	struct kit_worker w;
	kit_endpoint(endpoint);
	struct ppo_server *s = kit_server(endpoint, 30, 1);
	kit_service_start(&service);
	kit_worker_prepare(&w, endpoint, &service, 0);
	w.options.capacity = 1;
	kit_open_step(s, 0);
	kit_worker_start(&w);
	uint32_t done = 0, total;
	for (; done == 0; usleep(1000)) ppo_server_progress(s, 0, &done, &total);
	assert_int_equal(total, KIT_PROMPTS);
	ppo_server_close(s);
	usleep(300000);
	s = kit_server(endpoint, 30, 1);
	kit_open_step(s, 0);
	kit_check_step(s, 0);
	ppo_server_stop_workers(s);
	kit_worker_expect(&w, 0);
	assert_true(w.counters.joins >= 2);
	kit_service_stop(&service);
	ppo_server_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_worker),           cmocka_unit_test(three_workers),
		cmocka_unit_test(three_workers_and_two_open_steps), cmocka_unit_test(unreadable_weights_are_fetched),
		cmocka_unit_test(a_wrong_hash_is_never_loaded),     cmocka_unit_test(one_ulp_shows),
		cmocka_unit_test(workers_come_and_go),  cmocka_unit_test(a_learner_comes_back),
	};
	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
