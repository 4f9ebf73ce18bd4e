/* Labels as ranked groups; see label_set.h. */
#include "reward/label_set.h"

#include "reward/task_internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double KNOWN_BETA = 4; /* of the owner's word on gold items */
static const double TRUSTED = 0.5;  /* summed weight that a prompt's answers must have */
static const double Z95 = 1.959963984540054;

/* A label as it is read, before the prompts are numbered. */
struct row {
	int64_t item, person, event;
	int task, best, worst; /* task: of an item that is fitted */
	uint32_t size;
	uint8_t arm;
	struct judgement judgement;
};

struct reading {
	struct label_set *set;
	const struct label_set_options *o;
	struct row *row;
	size_t count, room;
	struct arena *arena;
	struct chat *chat;
	struct ranked_group *group; /* being made */
	struct err *e;
};

static int take_label(void *ctx, const struct labels_label *r)
{
	struct reading *t = ctx;
	if (r->criterion != t->o->criterion || !strcmp(r->assigned, "repeat")) return 0;
	if (r->outcome != LABELS_RANKED && r->outcome != LABELS_TIE) {
		t->set->unranked++;
		return 0;
	}
	if (t->count == t->room) {
		t->room = t->room ? 2 * t->room : 1024;
		struct row *more = realloc(t->row, t->room * sizeof *more);
		if (!more) return err_set(t->e, ERR_MEMORY, "no memory for %zu labels", t->room);
		t->row = more;
	}
	struct row *w = &t->row[t->count++];
	*w = (struct row){.item = r->item, .person = r->person, .event = r->event, .task = !strcmp(r->role, "task"), .best = r->expected_best,
			  .worst = r->expected_worst, .size = r->size,
			  .arm = !strcmp(r->arm, "uniform") ? LABEL_UNIFORM : !strcmp(r->arm, "gain") ? LABEL_GAIN : 0};
	struct judgement *j = &w->judgement;
	j->kind = r->kind == LABELS_DUEL ? JUDGEMENT_DUEL : r->kind == LABELS_ORDER ? JUDGEMENT_ORDER : JUDGEMENT_BEST_WORST;
	j->count = r->count;
	j->strength = (uint8_t)r->strength;
	memcpy(j->shown, r->shown, sizeof j->shown);
	memcpy(j->rank, r->rank, sizeof j->rank);
	if (judgement_valid(j, r->size)) return 0;
	return err_set(t->e, ERR_FORMAT, "event %lld: its ranks do not fit what was asked", (long long)r->event);
}

static int by_item(const void *x, const void *y)
{
	const struct row *a = x, *b = y;
	if (a->item != b->item) return a->item < b->item ? -1 : 1;
	return (a->event > b->event) - (a->event < b->event);
}

static int by_number(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
	return (a > b) - (a < b);
}

static uint32_t person_index(const struct label_set *s, int64_t person)
{
	const int64_t *at = bsearch(&person, s->person_id, s->people, sizeof *s->person_id, by_number);
	return (uint32_t)(at - s->person_id);
}

static int number_people(struct reading *t)
{
	struct label_set *s = t->set;
	s->person_id = calloc(t->count + 1, sizeof *s->person_id);
	if (!s->person_id) return err_set(t->e, ERR_MEMORY, "no memory for %zu labels", t->count);
	for (size_t i = 0; i < t->count; i++) s->person_id[i] = t->row[i].person;
	qsort(s->person_id, t->count, sizeof *s->person_id, by_number);
	for (size_t i = 0; i < t->count; i++)
		if (i == 0 || s->person_id[i] != s->person_id[s->people - 1]) s->person_id[s->people++] = s->person_id[i];
	return 0;
}

/* What the owner knows of a gold item, as an answer over all of its candidates. */
static struct judgement known_answer(const struct row *w, uint32_t owner)
{
	struct judgement j = {.person = owner, .kind = w->size == 2 ? JUDGEMENT_DUEL : w->worst >= 0 ? JUDGEMENT_BEST_WORST : JUDGEMENT_ORDER, .count = w->size};
	for (uint32_t k = 0; k < w->size; k++) {
		j.shown[k] = (uint8_t)k;
		j.rank[k] = (uint8_t)((int)k == w->best ? 1 : (int)k == w->worst && w->size > 2 ? 3 : 2);
	}
	return j;
}

/* Rows in the order of prompts become judgements; the owner's word on a gold item stands behind its answers. */
static int make_judgements(struct reading *t)
{
	struct label_set *s = t->set;
	s->judgement = calloc(2 * t->count + 1, sizeof *s->judgement);
	s->arm = calloc(2 * t->count + 1, 1);
	s->item = calloc(t->count + 1, sizeof *s->item);
	s->item_id = calloc(t->count + 1, sizeof *s->item_id);
	if (!s->judgement || !s->arm || !s->item || !s->item_id) return err_set(t->e, ERR_MEMORY, "no memory for %zu labels", t->count);
	for (size_t i = 0; i < t->count; i++) {
		const struct row *w = &t->row[i];
		if (i == 0 || w->item != w[-1].item) {
			s->item_id[s->items] = w->item;
			s->item[s->items++] = (struct crowd_item){.candidates = w->size, .begin = s->answers};
		}
		s->judgement[s->answers] = w->judgement;
		s->judgement[s->answers].item = s->items - 1;
		s->judgement[s->answers].person = person_index(s, w->person);
		s->arm[s->answers++] = w->arm;
		if ((i + 1 == t->count || w[1].item != w->item) && !w->task && w->best >= 0) {
			s->judgement[s->answers] = known_answer(w, s->people);
			s->judgement[s->answers++].item = s->items - 1;
		}
		s->item[s->items - 1].count = s->answers - s->item[s->items - 1].begin;
	}
	s->labels = (int64_t)t->count;
	return 0;
}

static int fit_people(struct reading *t)
{
	struct label_set *s = t->set;
	double *known = calloc((size_t)s->people + 1, sizeof *known);
	if (!known) return err_set(t->e, ERR_MEMORY, "no memory for %u people", s->people);
	known[s->people] = KNOWN_BETA;
	struct crowd_data d = {.judgement = s->judgement, .item = s->item, .items = s->items, .people = s->people + 1, .known = known};
	int rc = crowd_fit(&s->crowd, &d, t->e);
	free(known);
	s->model = crowd_model(&s->crowd);
	return rc;
}

/* ---- groups ---- */

/* A dialogue as one text, by task.chat or the tokenizer's own template; malloc'ed. */
static int dialogue_text(struct reading *t, const struct labels_item *it, char **out)
{
	json_error_t bad;
	size_t bytes;
	const struct task *task = t->o->task;
	int rc = t->chat || task->chat ? 0 : chat_open(&t->chat, task->tokenizer, NULL, t->e);
	json_t *messages = rc < 0 ? NULL : json_loads(it->prompt, 0, &bad);
	if (rc == 0 && !messages) rc = err_set(t->e, ERR_FORMAT, "the prompt is not a list of messages: %s", bad.text);
	if (rc == 0) rc = chat_render(task->chat ? task->chat : t->chat, messages, NULL, 1, out, &bytes, t->e);
	json_decref(messages);
	return rc;
}

/* The prompt's tokens, as the task reads a prompt. */
static int prompt_tokens(struct reading *t, const struct labels_item *it, int32_t **tokens, uint32_t *count)
{
	char *text = NULL;
	int rc;
	if (strcmp(it->format, "chat")) rc = task_encode_prompt(t->o->task, t->arena, it->prompt, tokens, count, t->e);
	else {
		rc = dialogue_text(t, it, &text);
		if (rc == 0) rc = task_encode(t->o->task, t->arena, text, tokens, count, t->e);
	}
	free(text);
	if (rc == 0 && *count == 0) rc = err_set(t->e, ERR_RANGE, "the prompt is empty");
	return rc < 0 ? err_prefix(t->e, "item %lld of the labels", (long long)it->item) : 0;
}

static const char *keep_text(struct arena *a, const char *text)
{
	size_t bytes = strlen(text) + 1;
	return memcpy(arena_must(a, bytes, 1), text, bytes);
}

/* Fills t->group->group; size 0 when a candidate is too long. */
static int take_item(void *ctx, const struct labels_item *it)
{
	struct reading *t = ctx;
	struct group *g = &t->group->group;
	int32_t *prompt = NULL, *part[GROUP_MAX], *all, *at;
	size_t total;
	int fits = 1;
	*g = (struct group){.slot = (uint32_t)it->item, .prompt = (uint32_t)it->item, .size = it->size};
	int rc = prompt_tokens(t, it, &prompt, &g->prompt_tokens);
	if (rc < 0) return rc;
	total = g->prompt_tokens;
	for (uint32_t c = 0; c < it->size; c++) {
		rc = task_encode(t->o->task, t->arena, it->candidate[c].text, &part[c], &g->length[c], t->e);
		if (rc < 0) return err_prefix(t->e, "item %lld of the labels", (long long)it->item);
		part[c][g->length[c]++] = t->o->task->end_token; /* task_encode leaves a place */
		total += g->length[c];
		fits &= (int64_t)g->prompt_tokens + g->length[c] <= t->o->max_tokens;
		g->text[c] = keep_text(t->arena, it->candidate[c].text);
	}
	g->prompt_text = keep_text(t->arena, it->prompt);
	all = at = arena_must(t->arena, total, sizeof *all);
	memcpy(at, prompt, g->prompt_tokens * sizeof *at);
	at += g->prompt_tokens;
	for (uint32_t c = 0; c < it->size; at += g->length[c++]) memcpy(at, part[c], g->length[c] * sizeof *at);
	g->tokens = all;
	if (!fits) g->size = 0;
	return 0;
}

static void rank(struct ranked_group *r, const struct posterior *p)
{
	struct store_comparison *c = &r->ranking;
	*c = (struct store_comparison){.count = p->n, .has_margins = 1};
	posterior_order(p, c->order);
	for (uint32_t k = 0; k < p->n; k++) c->rank[k] = (uint8_t)(k && p->mean[c->order[k]] == p->mean[c->order[k - 1]] ? c->rank[k - 1] : k + 1);
	for (uint32_t k = 0; k + 1 < p->n; k++) c->margin[k] = p->mean[c->order[k]] - p->mean[c->order[k + 1]];
}

static double trust(const struct label_set *s, const struct crowd_item *it)
{
	double sum = 0;
	for (size_t i = it->begin; i < it->begin + it->count; i++) sum += s->crowd.weight[s->judgement[i].person];
	return sum;
}

static int make_groups(struct reading *t, struct labels *l)
{
	struct label_set *s = t->set;
	struct posterior post;
	size_t row = 0;
	s->group = calloc((size_t)s->items + 1, sizeof *s->group);
	if (!s->group) return err_set(t->e, ERR_MEMORY, "no memory for %u prompts", s->items);
	for (uint32_t i = 0; i < s->items; i++) {
		const struct crowd_item *it = &s->item[i];
		const struct row *w = &t->row[row];
		while (row < t->count && t->row[row].item == w->item) row++;
		if (!w->task) continue;
		if (trust(s, it) < TRUSTED) {
			s->untrusted++;
			continue;
		}
		t->group = &s->group[s->groups];
		int rc = labels_item_get(l, w->item, take_item, t, t->e);
		if (rc < 0) return rc;
		if (t->group->group.size == 0) {
			s->too_long++;
			continue;
		}
		posterior_fit(&post, &s->model, s->judgement + it->begin, it->count, it->candidates);
		t->group->answer = s->judgement + it->begin;
		t->group->answers = it->count;
		t->group->people = &s->model;
		rank(t->group, &post);
		s->groups++;
	}
	return 0;
}

static int find_campaign(struct labels *l, const char *name, int64_t *campaign, struct err *e)
{
	*campaign = 0;
	if (!name[0]) return 0;
	int rc = labels_campaign_find(l, name, campaign, e);
	return rc == 0 && *campaign < 0 ? err_set(e, ERR_NOT_FOUND, "the labels have no campaign \"%s\"", name) : rc;
}

/* Keeps the rows of the last so many prompts that tell people apart; rows stand in the order of prompts. */
static void keep_telling(struct reading *t, uint32_t prompts)
{
	size_t to = t->count, end = t->count;
	while (end > 0 && prompts > 0) {
		size_t begin = end - 1;
		int several = 0;
		for (; begin > 0 && t->row[begin - 1].item == t->row[end - 1].item; begin--) several |= t->row[begin - 1].person != t->row[end - 1].person;
		if (several || (!t->row[begin].task && t->row[begin].best >= 0)) {
			to -= end - begin;
			memmove(&t->row[to], &t->row[begin], (end - begin) * sizeof *t->row);
			prompts--;
		}
		end = begin;
	}
	t->count -= to;
	memmove(t->row, t->row + to, t->count * sizeof *t->row);
}

/* Everything up to the groups. */
static int read_answers(struct reading *t, struct labels *l, uint32_t telling)
{
	struct label_set *s = t->set;
	struct labels_query q = {.through = s->event};
	int rc = 0;
	TRY(find_campaign(l, t->o->campaign, &q.campaign, t->e));
	TRY(labels_each_label(l, &q, take_label, t, &s->changed, t->e));
	if (t->count) qsort(t->row, t->count, sizeof *t->row, by_item);
	if (telling) keep_telling(t, telling);
	if (t->count == 0) TRY(err_set(t->e, ERR_NOT_FOUND, "up to event %lld there is no label with a ranking%s", (long long)s->event, telling ? " that tells about people" : ""));
	TRY(number_people(t));
	TRY(make_judgements(t));
	rc = fit_people(t);
out:
	return rc;
}

static int begin(struct reading *t, struct labels *l)
{
	struct label_set *s = t->set;
	memset(s, 0, sizeof *s);
	s->event = t->o->through;
	int rc = s->event ? 0 : labels_last_event(l, &s->event, t->e);
	return rc == 0 && s->event == 0 ? err_set(t->e, ERR_NOT_FOUND, "nobody has labelled anything yet") : rc;
}

int label_set_read(struct label_set *out, struct labels *l, const struct label_set_options *o, struct arena *arena, struct err *e)
{
	struct reading t = {.set = out, .o = o, .arena = arena, .e = e};
	int rc = 0;
	TRY(begin(&t, l));
	TRY(labels_digest(l, out->event, out->digest, e));
	TRY(read_answers(&t, l, 0));
	rc = make_groups(&t, l);
out:
	chat_close(t.chat);
	free(t.row);
	if (rc < 0) label_set_free(out);
	return rc;
}

int label_set_people(struct label_set *out, struct labels *l, const struct label_set_options *o, uint32_t telling, struct err *e)
{
	struct reading t = {.set = out, .o = o, .e = e};
	int rc = begin(&t, l);
	if (rc == 0) rc = read_answers(&t, l, telling);
	free(t.row);
	if (rc < 0) label_set_free(out);
	return rc;
}

void label_set_free(struct label_set *s)
{
	crowd_free(&s->crowd);
	free(s->group);
	free(s->person_id);
	free(s->judgement);
	free(s->arm);
	free(s->item);
	free(s->item_id);
	memset(s, 0, sizeof *s);
}

/* ---- accuracy ---- */

/* Pairs of one answer that it decides, and those on which the scores agree. */
static void count_pairs(const struct judgement *j, const double *score, double *right, double *pairs)
{
	for (uint32_t k = 0; k < j->count; k++)
		for (uint32_t l = 0; l < j->count; l++) {
			if (j->rank[k] == 0 || j->rank[k] >= j->rank[l]) continue; /* k above l */
			double a = score[j->shown[k]], b = score[j->shown[l]];
			*right += a > b ? 1 : a == b ? 0.5 : 0;
			++*pairs;
		}
}

struct label_accuracy label_set_accuracy(const struct label_set *s, const struct ranked_group *groups, uint32_t n, const double *score, enum label_arm arm)
{
	double right = 0, pairs = 0, rr = 0, rp = 0, pp = 0;
	struct label_accuracy a = {NAN, NAN, NAN, 0, 0};
	for (uint32_t g = 0; g < n; score += groups[g++].group.size) {
		double r = 0, p = 0;
		for (size_t i = 0; i < groups[g].answers; i++) {
			const struct judgement *j = &groups[g].answer[i];
			int counts = arm == LABEL_QUADS ? j->kind == JUDGEMENT_BEST_WORST : j->kind == JUDGEMENT_DUEL && s->arm[j - s->judgement] == arm;
			if (counts && s->crowd.weight[j->person] >= TRUSTED) count_pairs(j, score, &r, &p);
		}
		a.prompts += p > 0;
		right += r, pairs += p;
		rr += r * r, rp += r * p, pp += p * p;
	}
	a.pairs = (int64_t)pairs;
	if (a.pairs == 0) return a;
	a.value = right / pairs;
	double k = (double)a.prompts, square = fmax(0, rr - 2 * a.value * rp + a.value * a.value * pp);
	double half = a.prompts > 1 ? Z95 * sqrt(k / (k - 1) * square) / pairs : 1;
	a.low = fmax(0, a.value - half);
	a.high = fmin(1, a.value + half);
	return a;
}
