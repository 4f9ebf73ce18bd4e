/* See flow.h. */
#include "app/web/flow.h"

#include "core/base/fault.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT_BACK = 10 }; /* a repeat comes that many answers after its original, at the earliest */

const char *flow_state_name(enum flow_state s)
{
	static const char *const names[] = {"", "ask", "guidelines", "finished", "failed", "opted_out", "closed"};
	return names[s];
}

struct loading {
	struct flow_campaign *c;
	struct err *e;
	int found;
};

static int load_one(void *ctx, const struct labels_campaign *r)
{
	struct loading *s = ctx;
	if (r->campaign != s->c->campaign) return 0;
	s->found = 1;
	s->c->guidelines = r->guidelines;
	snprintf(s->c->state, sizeof s->c->state, "%s", r->state);
	int rc = campaign_read(&s->c->options, r->options, s->e);
	return rc < 0 ? err_prefix(s->e, "campaign '%s'", r->name) : 1;
}

int flow_campaign_load(struct labels *l, int64_t campaign, struct flow_campaign *c, struct err *e)
{
	struct loading s = {c, e, 0};
	c->campaign = campaign;
	int rc = labels_each_campaign(l, load_one, &s, e);
	if (rc < 0) return rc;
	return s.found ? 0 : err_set(e, ERR_NOT_FOUND, "there is no campaign %lld", (long long)campaign);
}

/* ---- the questions of one prompt ---- */

struct item_facts {
	uint32_t number, size, words;
	int best, worst;
};

static int facts(void *ctx, const struct labels_item *it)
{
	*(struct item_facts *)ctx = (struct item_facts){it->number, it->size, it->words, it->expected_best, it->expected_worst};
	return 0;
}

/* One ask for each criterion, over the same layout. */
static int put_asks(struct labels *l, const struct flow_campaign *c, struct labels_ask *a, struct err *e)
{
	for (uint32_t k = 0; k < c->options.criteria; k++) {
		a->criterion = k;
		int rc = labels_ask_put(l, a, e);
		if (rc < 0) return rc;
	}
	return 0;
}

/* beta and weight of everybody up to the highest number among the answers and `person`; malloc'ed as one. */
static double *weigh(const struct flow_campaign *c, const struct judgement *j, size_t count, uint32_t person, uint32_t *people)
{
	*people = person + 1;
	for (size_t i = 0; i < count; i++)
		if (j[i].person >= *people) *people = j[i].person + 1;
	double *w = calloc(2 * (size_t)*people, sizeof *w);
	for (size_t i = 0; w && i <= count; i++) {
		uint32_t who = i < count ? j[i].person : person;
		struct trust_person p = trust_of(c->trust, who);
		w[who] = p.beta;
		w[*people + who] = p.weight;
	}
	return w;
}

/* 1: the next question of the task is put; 0: there is none. */
static int task_ask(struct labels *l, const struct flow_campaign *c, const struct labels_assignment *s, const struct item_facts *it, struct err *e)
{
	struct judgement *j = NULL;
	size_t count = 0;
	uint32_t people;
	struct pick p;
	int rc = campaign_judgements(l, c->campaign, s->item, &j, &count, e);
	double *w = rc < 0 ? NULL : weigh(c, j, count, (uint32_t)s->person, &people);
	if (rc == 0 && !w) rc = err_set(e, ERR_MEMORY, "no memory to weigh people");
	if (rc < 0) goto out;
	pick_next(&p, &c->options.pick, &(struct pick_task){.item = it->number, .person = (uint32_t)s->person, .candidates = it->size, .words = it->words,
		.answers = j, .count = count, .beta = w, .weight = w + people});
	if (p.done) goto out;
	struct labels_ask a = {.assignment = s->assignment, .item = s->item, .person = s->person, .place = p.place, .kind = (enum labels_kind)p.kind,
		.probability = p.probability, .count = p.count};
	snprintf(a.design, sizeof a.design, "%s", pick_design_name(p.design));
	snprintf(a.arm, sizeof a.arm, "%s", pick_arm_name(p.arm));
	memcpy(a.shown, p.shown, sizeof a.shown);
	TRY(put_asks(l, c, &a, e));
	rc = 1;
out:
	free(w);
	free(j);
	return rc;
}

/* The one question of a gold item: its best and worst with two others, or a duel. */
static int expected_ask(struct labels *l, const struct flow_campaign *c, const struct labels_assignment *s, struct err *e)
{
	struct item_facts it;
	struct rng_key key = {c->options.pick.seed, RNG_CAMPAIGN};
	uint32_t order[GROUP_MAX], layout[4], n = 2;
	int rc = labels_item_get(l, s->item, facts, &it, e);
	if (rc < 0) return rc;
	uint8_t set[4] = {(uint8_t)it.best, (uint8_t)it.worst};
	struct labels_ask a = {.assignment = s->assignment, .item = s->item, .person = s->person, .arm = "uniform", .design = "gold", .probability = 1};
	rng_permutation(key, FLOW_LAYOUT, (uint32_t)s->assignment, it.size, order);
	for (uint32_t i = 0; i < it.size && n < 4 && it.size >= 4; i++)
		if ((int)order[i] != it.best && (int)order[i] != it.worst) set[n++] = (uint8_t)order[i];
	rng_permutation(key, FLOW_LAYOUT, (uint32_t)s->assignment ^ 0x80000000u, n, layout);
	for (uint32_t i = 0; i < n; i++) a.shown[i] = set[layout[i]];
	a.count = n;
	a.kind = n == 4 ? LABELS_BEST_WORST : LABELS_DUEL;
	return put_asks(l, c, &a, e);
}

/* ---- the next prompt ---- */

static int assign(struct labels *l, int64_t item, int64_t person, const char *kind, struct labels_assignment *s, struct err *e)
{
	int64_t id;
	int rc = labels_assign(l, item, person, kind, &id, e);
	return rc < 0 ? rc : labels_assignment_get(l, id, s, e);
}

/* An earlier question laid out the other way round. 1: assigned. */
static int assign_repeat(struct labels *l, const struct flow_campaign *c, int64_t person, uint32_t r, struct labels_assignment *s, struct err *e)
{
	struct labels_ask old;
	int rc = labels_ask_to_repeat(l, c->campaign, person, REPEAT_BACK, r, &old, e);
	if (rc <= 0) return rc;
	rc = assign(l, old.item, person, "repeat", s, e);
	if (rc < 0) return rc;
	struct labels_ask a = old;
	a.assignment = s->assignment;
	a.place = 0;
	a.repeats = old.ask;
	for (uint32_t i = 0; i < old.count; i++) a.shown[i] = old.shown[old.count - 1 - i];
	rc = put_asks(l, c, &a, e);
	return rc < 0 ? rc : 1;
}

static int assign_item(struct labels *l, const struct flow_campaign *c, const struct labels_member *m, const char *role, struct labels_assignment *s,
                       struct err *e)
{
	int64_t item;
	int task = !strcmp(role, "task");
	int rc = task ? labels_next_item(l, c->campaign, m->person, m->languages, c->options.lease_seconds, campaign_needs, (void *)&c->options, &item, e)
		      : labels_next_known(l, c->campaign, m->person, role, m->languages, &item, e);
	if (rc < 0 || !item) return rc < 0 ? rc : 0;
	rc = assign(l, item, m->person, role, s, e);
	if (rc > 0 && !task) rc = expected_ask(l, c, s, e);
	return rc < 0 ? rc : 1;
}

/* 1: *s is the next assignment; 0: none, and f->state says why. */
static int next_assignment(struct labels *l, const struct flow_campaign *c, struct labels_member *m, struct flow *f, struct labels_assignment *s,
                           struct err *e)
{
	struct rng_key key = {c->options.pick.seed, RNG_CAMPAIGN};
	int64_t place, qualified = 0, n;
	double share;
	int rc;
	f->state = FLOW_CLOSED;
	if (f->full) return 0;
	TRY(labels_assignment_count(l, c->campaign, m->person, NULL, &place, e));
	if (c->options.qualification) TRY(labels_assignment_count(l, c->campaign, m->person, "qualification", &qualified, e));
	if (qualified < c->options.qualification) {
		TRY(assign_item(l, c, m, "qualification", s, e));
		if (rc) return 1;
	} else if (qualified && c->options.qualification) {
		TRY(flow_expected_share(l, c->campaign, m->person, "qualification", &n, &share, e));
		if (share < c->options.pass) {
			strcpy(m->state, "failed");
			f->state = FLOW_FAILED;
			TRY(labels_member_put(l, m, e));
			return 0;
		}
	}
	uint64_t at = (uint64_t)m->person << 32 | (uint32_t)place;
	if (rng_uniform(key, FLOW_GOLD, at, 0) < (float)c->options.gold) {
		TRY(assign_item(l, c, m, "gold", s, e));
		if (rc) return 1;
	} else if (rng_uniform(key, FLOW_REPEAT, at, 0) < (float)c->options.repeats) {
		TRY(assign_repeat(l, c, m->person, rng_u32(key, FLOW_REPEAT, at, 1), s, e));
		if (rc) return 1;
	}
	f->state = FLOW_FINISHED;
	rc = assign_item(l, c, m, "task", s, e);
out:
	return rc;
}

struct counting {
	uint32_t asked, answered;
};

static int count_asks(void *ctx, const struct labels_ask *a)
{
	struct counting *n = ctx;
	n->asked++;
	n->answered += a->event != 0;
	return 0;
}

/* 1: f is a question of this assignment; 0: it is done. */
static int assignment_ask(struct labels *l, const struct flow_campaign *c, const struct labels_assignment *s, struct flow *f, struct err *e)
{
	struct counting n = {0};
	struct item_facts it;
	int task = !strcmp(s->kind, "task"), rc;
	TRY(labels_item_get(l, s->item, facts, &it, e));
	if (task) f->most = c->options.criteria * pick_most(&c->options.pick, it.number, it.size, it.words);
	TRY(labels_ask_open(l, s->assignment, &f->ask, e));
	if (rc == 0 && task) {
		TRY(task_ask(l, c, s, &it, e));
		if (rc) TRY(labels_ask_open(l, s->assignment, &f->ask, e));
	}
	if (rc <= 0) {
		rc = labels_assignment_done(l, s->assignment, 1, e);
		return rc < 0 ? rc : 0;
	}
	TRY(labels_each_ask(l, s->assignment, count_asks, &n, e));
	f->state = FLOW_ASK;
	f->answered = n.answered;
	if (f->most < n.asked) f->most = n.asked;
	snprintf(f->assigned, sizeof f->assigned, "%s", s->kind);
	rc = 1;
out:
	return rc;
}

static int find_next(struct labels *l, const struct flow_campaign *c, struct labels_member *m, struct flow *f, struct err *e)
{
	struct labels_assignment s;
	int rc;
	for (;;) {
		f->most = 0;
		rc = labels_assignment_open(l, c->campaign, m->person, &s, e);
		if (rc == 0) rc = next_assignment(l, c, m, f, &s, e);
		if (rc <= 0) return rc;
		rc = assignment_ask(l, c, &s, f, e);
		if (rc) return rc < 0 ? rc : 0;
	}
}

int flow_next(struct labels *l, const struct flow_campaign *c, int64_t person, struct flow *f, struct err *e)
{
	struct labels_member m;
	*f = (struct flow){0};
	int rc = labels_member_get(l, c->campaign, person, &m, e);
	if (rc < 0) return rc;
	if (rc == 0) return err_set(e, ERR_NOT_FOUND, "there is no campaign %lld for you", (long long)c->campaign);
	if (!strcmp(m.state, "opted_out")) f->state = FLOW_OPTED_OUT;
	else if (!strcmp(m.state, "failed")) f->state = FLOW_FAILED;
	else if (strcmp(c->state, "open")) f->state = FLOW_CLOSED;
	else if (m.guidelines < c->guidelines) f->state = FLOW_GUIDELINES;
	if (f->state) return 0;
	if (c->options.max_labels) {
		int64_t given;
		if ((rc = labels_campaign_answers(l, c->campaign, &given, e)) < 0) return rc;
		f->full = given >= c->options.max_labels;
	}
	rc = labels_begin(l, e);
	if (rc < 0) return rc;
	rc = labels_end(l, find_next(l, c, &m, f, e), e);
	FAULT_POINT("labels.after_asking", "a question is on the disk, nobody was sent it");
	return rc;
}

int flow_undo(struct labels *l, const char *key, int64_t person, int64_t event, int64_t *undo, struct err *e)
{
	char sql[160];
	int64_t assignment = 0;
	int rc = labels_begin(l, e);
	if (rc < 0) return rc;
	rc = labels_undo(l, key, person, event, undo, e);
	snprintf(sql, sizeof sql, "SELECT a.assignment FROM events e JOIN asks a ON a.ask = e.ask WHERE e.event = %lld", (long long)event);
	if (rc == 0) rc = labels_count(l, sql, &assignment, e);
	if (rc == 0) rc = labels_assignment_done(l, assignment, 0, e);
	rc = labels_end(l, rc, e);
	FAULT_POINT("labels.after_undo", "a label is taken back on the disk, nobody was told");
	return rc;
}

/* ---- expected answers ---- */

struct scoring {
	int64_t n, right;
};

static int score(void *ctx, const struct labels_label *r)
{
	struct scoring *s = ctx;
	int best = 0, worst = 0;
	if (r->criterion) return 0;
	s->n++;
	for (uint32_t i = 0; i < r->count; i++) {
		if (r->shown[i] == r->expected_best) best = r->rank[i];
		if (r->shown[i] == r->expected_worst) worst = r->rank[i];
	}
	s->right += r->outcome == LABELS_RANKED && best && best < worst;
	return 0;
}

int flow_expected_share(struct labels *l, int64_t campaign, int64_t person, const char *assigned, int64_t *n, double *share, struct err *e)
{
	struct scoring s = {0};
	int rc = labels_each_label(l, &(struct labels_query){.campaign = campaign, .person = person, .assigned = assigned, .excluded_too = 1}, score, &s, NULL, e);
	*n = s.n;
	*share = s.n ? (double)s.right / (double)s.n : (double)NAN;
	return rc;
}

/* The person's adjudication of the item, made or opened again, and how many questions it has. */
static int adjudication(struct labels *l, int64_t item, int64_t person, int64_t *assignment, int64_t *asked, struct err *e)
{
	char sql[160];
	int rc;
	snprintf(sql, sizeof sql, "SELECT assignment FROM assignments WHERE item = %lld AND person = %lld AND kind = 'adjudication'", (long long)item, (long long)person);
	TRY(labels_count(l, sql, assignment, e));
	if (*assignment) TRY(labels_assignment_done(l, *assignment, 0, e));
	else TRY(labels_assign(l, item, person, "adjudication", assignment, e));
	snprintf(sql, sizeof sql, "SELECT count(*) FROM asks WHERE assignment = %lld", (long long)*assignment);
	rc = labels_count(l, sql, asked, e);
out:
	return rc;
}

int flow_adjudicate(struct labels *l, int64_t item, int64_t person, int a, int b, struct err *e)
{
	struct labels_ask ask = {.item = item, .person = person, .kind = LABELS_DUEL, .design = "adjudication", .arm = "chosen", .probability = 1, .count = 2,
		.shown = {(uint8_t)a, (uint8_t)b}};
	int64_t asked = 0;
	if (a < 0 || b < 0 || a >= GROUP_MAX || b >= GROUP_MAX || a == b) return err_set(e, ERR_RANGE, "candidates %d and %d are not two of a prompt", a, b);
	int rc = labels_begin(l, e);
	if (rc < 0) return rc;
	rc = adjudication(l, item, person, &ask.assignment, &asked, e);
	ask.place = (uint32_t)asked;
	if (rc == 0) rc = labels_ask_put(l, &ask, e);
	return labels_end(l, rc, e);
}
