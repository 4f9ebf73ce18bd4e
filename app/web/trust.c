/* The thread that fits the crowd; see trust.h. */
#include "app/web/trust.h"

#include "core/base/fs.h"
#include "core/base/log.h"
#include "reward/label_set.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { PROMPTS = 300, REST = 20, LEAST_SECONDS = 2 }; /* REST: seconds of rest for one of work */

struct trust {
	struct labels *labels; /* the thread's */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int stop;
	/* under the lock */
	int64_t *id; /* [people] rising */
	struct trust_person *person;
	uint32_t people;
};

struct trust_person trust_of(struct trust *t, int64_t person)
{
	struct trust_person p = {1, 1, 0, 0};
	if (!t) return p;
	pthread_mutex_lock(&t->lock);
	for (uint32_t i = 0; i < t->people; i++)
		if (t->id[i] == person) p = t->person[i];
	pthread_mutex_unlock(&t->lock);
	return p;
}

static void take(struct trust *t, struct label_set *s)
{
	struct trust_person *p = calloc((size_t)s->people + 1, sizeof *p);
	if (!p) return;
	for (uint32_t i = 0; i < s->people; i++) {
		const struct crowd_person *c = &s->crowd.person[i];
		p[i] = (struct trust_person){c->beta, c->honest, c->flagged, c->answers > 0};
	}
	pthread_mutex_lock(&t->lock);
	free(t->person);
	free(t->id);
	t->person = p;
	t->id = s->person_id;
	t->people = s->people;
	s->person_id = NULL;
	pthread_mutex_unlock(&t->lock);
}

/* event: the newest that was looked at. */
static int fit(struct trust *t, int64_t *event, struct err *e)
{
	struct label_set set;
	int64_t newest;
	int rc = labels_last_event(t->labels, &newest, e);
	if (rc < 0 || newest == *event) return rc;
	*event = newest;
	rc = label_set_people(&set, t->labels, &(struct label_set_options){.campaign = "", .through = newest}, PROMPTS, e);
	if (rc == ERR_NOT_FOUND) return 0; /* nothing to judge by yet */
	if (rc < 0) return rc;
	take(t, &set);
	label_set_free(&set);
	return 0;
}

static void *run(void *arg)
{
	struct trust *t = arg;
	int64_t event = 0;
	double rest = LEAST_SECONDS;
	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += (time_t)rest + 1;
		if (pthread_cond_timedwait(&t->wake, &t->lock, &until) == 0 || t->stop) continue;
		pthread_mutex_unlock(&t->lock);
		struct err e = {0};
		double began = fs_now();
		if (fit(t, &event, &e) < 0) log_error("weighing people: %s", e.msg);
		rest = REST * (fs_now() - began);
		if (rest < LEAST_SECONDS) rest = LEAST_SECONDS;
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int trust_open(struct trust **out, const char *path, struct err *e)
{
	struct trust *t = calloc(1, sizeof *t);
	*out = NULL;
	if (!t) return err_set(e, ERR_MEMORY, "no memory to weigh people");
	int rc = labels_open(&t->labels, path, 0, e);
	if (rc < 0) {
		free(t);
		return rc;
	}
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	if (pthread_create(&t->thread, NULL, run, t) == 0) {
		*out = t;
		return 0;
	}
	labels_close(t->labels);
	free(t);
	return err_set(e, ERR_MEMORY, "cannot start the thread that weighs people");
}

void trust_close(struct trust *t)
{
	if (!t) return;
	pthread_mutex_lock(&t->lock);
	t->stop = 1;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	labels_close(t->labels);
	free(t->id);
	free(t->person);
	free(t);
}
