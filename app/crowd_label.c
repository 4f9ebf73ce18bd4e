/* Simulated labels in a labels.db; see crowd_label.h. */
#include "app/crowd_label.h"

#include "app/run_folder.h"
#include "app/web/simulate.h"
#include "core/base/rng.h"
#include "store/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PEOPLE_MAX = 64, ANSWERS_MAX = 64 * 64 };

struct crowd_run {
	const struct crowd_label_options *o;
	struct labels *labels;
	int64_t campaign, person[PEOPLE_MAX], given;
	uint32_t seen;      /* groups of the run so far */
	struct judgement *answer; /* [ANSWERS_MAX] to the present group */
	size_t answers;
	struct err *e;
};

static int take_person(void *ctx, const struct labels_person *p)
{
	struct crowd_run *r = ctx;
	unsigned number;
	if (sscanf(p->name, "simulated-%u", &number) == 1 && number < r->o->people) r->person[number] = p->person;
	return 0;
}

static int find_people(struct crowd_run *r)
{
	int rc = labels_each_person(r->labels, take_person, r, r->e);
	for (uint32_t i = 0; rc == 0 && i < r->o->people; i++) {
		char name[32], token[LABELS_TOKEN];
		snprintf(name, sizeof name, "simulated-%u", i);
		if (!r->person[i]) rc = labels_person_put(r->labels, name, token, &r->person[i], r->e);
	}
	return rc;
}

static int put_item(struct crowd_run *r, const struct group *g, int64_t *item)
{
	struct labels_item *it = calloc(1, sizeof *it);
	if (!it) return err_set(r->e, ERR_MEMORY, "no memory for an item");
	it->campaign = r->campaign;
	it->prompt = g->prompt_text;
	it->expected_best = it->expected_worst = -1;
	for (uint32_t i = 0; i < g->size; i++) it->candidate[i].text = g->text[i];
	int rc = labels_item_put(r->labels, it, g->size, r->e);
	*item = it->item;
	free(it);
	return rc;
}

/* Asks a person, and records what they say. */
static int answer(struct crowd_run *r, int64_t assignment, int64_t item, uint32_t who, const struct pick *p, const double *score)
{
	const struct crowd_label_options *o = r->o;
	const struct judgement_scale scale = judgement_scale_default();
	struct labels_ask ask = {.assignment = assignment, .item = item, .person = r->person[who], .place = p->place, .kind = (enum labels_kind)p->kind,
				 .probability = p->probability, .count = p->count};
	struct judgement *j = &r->answer[r->answers++];
	struct labels_answer a = {.person = r->person[who], .outcome = LABELS_RANKED, .guidelines = 1, .page = "simulated", .visible_ms = 1000 * (int64_t)p->count};
	char key[48];
	CHECK(r->answers < ANSWERS_MAX, "a prompt with more than %d answers", ANSWERS_MAX);
	*j = (struct judgement){.item = r->seen, .person = who, .kind = p->kind, .count = p->count};
	memcpy(j->shown, p->shown, sizeof j->shown);
	memcpy(ask.shown, p->shown, sizeof ask.shown);
	snprintf(ask.design, sizeof ask.design, "%s", pick_design_name(p->design));
	snprintf(ask.arm, sizeof ask.arm, "%s", pick_arm_name(p->arm));
	int rc = labels_ask_put(r->labels, &ask, r->e);
	if (rc < 0) return rc;
	simulate_answer(j, o->seed, p->place, who < o->people - o->adversaries ? o->temperature : -o->temperature, score, &scale);
	if (j->rank[0] == 1 && j->rank[1] == 1) a.outcome = LABELS_TIE;
	memcpy(a.rank, j->rank, sizeof a.rank);
	a.strength = j->strength;
	a.ask = ask.ask;
	snprintf(key, sizeof key, "simulated-%lld", (long long)ask.ask);
	a.key = key;
	int64_t event;
	r->given++;
	return labels_answer_put(r->labels, &a, &event, r->e);
}

static int sit(struct crowd_run *r, int64_t item, uint32_t who, const struct group *g, const double *score)
{
	struct pick_options o = pick_options_default();
	int64_t assignment;
	o.seed = r->o->seed;
	o.short_words = 0; /* quads and duels, as for texts of some length */
	int rc = labels_assign(r->labels, item, r->person[who], "task", &assignment, r->e);
	while (rc == 0) {
		struct pick_task t = {.item = r->seen, .person = who, .candidates = g->size, .words = 100, .answers = r->answer, .count = r->answers};
		struct pick p;
		pick_next(&p, &o, &t);
		if (p.done) return labels_assignment_done(r->labels, assignment, 1, r->e);
		rc = answer(r, assignment, item, who, &p, score);
	}
	return rc;
}

static int truth(struct crowd_run *r, const struct group *g, double *score)
{
	uint32_t term = 0, longest = 1;
	for (uint32_t i = 0; i < g->size; i++) longest = g->length[i] > longest ? g->length[i] : longest;
	while (term < g->terms && strcmp(g->term_name[term], "verifier")) term++;
	if (strcmp(r->o->truth, "shorter") && (strcmp(r->o->truth, "verifier") || term == g->terms))
		return err_set(r->e, ERR_NOT_FOUND, "%s: its groups have no truth '%s'; verifier (where it scored them) and shorter are possible", r->o->run, r->o->truth);
	for (uint32_t i = 0; i < g->size; i++)
		score[i] = strcmp(r->o->truth, "shorter") ? (double)g->scores[term * g->size + i] : 1 - (double)g->length[i] / longest;
	return 0;
}

/* A group of the run: labelled by one person, or by all. */
static int take_group(void *ctx, const struct group *g)
{
	struct crowd_run *r = ctx;
	const struct crowd_label_options *o = r->o;
	double score[GROUP_MAX];
	uint32_t number = r->seen++;
	if (number < o->first || number >= o->first + o->prompts) return 0;
	if (truth(r, g, score) < 0) return r->e->code;
	int shared = rng_uniform((struct rng_key){o->seed, RNG_CROWD}, number, UINT64_MAX - 4, 0) < o->overlap;
	int64_t item = 0;
	r->answers = 0;
	int rc = labels_begin(r->labels, r->e);
	if (rc < 0) return rc;
	rc = put_item(r, g, &item);
	for (uint32_t who = 0; rc == 0 && who < o->people; who++)
		if (shared || who == number % o->people) rc = sit(r, item, who, g, score);
	return labels_end(r->labels, rc, r->e);
}

static int each_group(struct crowd_run *r, struct store *s, const char *stage)
{
	int64_t last;
	int rc = store_last_step(s, stage, &last, r->e);
	for (int64_t i = 0; rc == 0 && i <= last && r->seen < r->o->first + r->o->prompts; i++) rc = store_each_group(s, stage, (uint64_t)i, take_group, r, r->e);
	return rc;
}

int crowd_label(const struct crowd_label_options *o, int64_t *labels, struct err *e)
{
	struct crowd_run r = {.o = o, .e = e};
	struct run_folder f = {0};
	int rc = 0;
	*labels = 0;
	if (o->people < 1 || o->people > PEOPLE_MAX || o->adversaries > o->people)
		return err_set(e, ERR_RANGE, "%u people, %u of them adversaries: 1 to %d are possible", o->people, o->adversaries, PEOPLE_MAX);
	r.answer = calloc(ANSWERS_MAX, sizeof *r.answer);
	CHECK(r.answer, "out of memory for answers");
	TRY(run_folder_open(&f, o->run, e));
	TRY(labels_open(&r.labels, o->labels, 1, e));
	TRY(labels_campaign_find(r.labels, o->campaign, &r.campaign, e));
	if (r.campaign < 0) TRY(labels_campaign_put(r.labels, o->campaign, "{}", "Simulated.", &r.campaign, e));
	TRY(find_people(&r));
	TRY(each_group(&r, f.store, "collect"));
	TRY(each_group(&r, f.store, "ppo"));
	if (r.seen < o->first + o->prompts)
		TRY(err_set(e, ERR_NOT_FOUND, "%s has %u groups; %u were to be labelled from group %u on", o->run, r.seen, o->prompts, o->first));
	*labels = r.given;
out:
	labels_close(r.labels);
	run_folder_close(&f);
	free(r.answer);
	return rc;
}
