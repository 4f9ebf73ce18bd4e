/* Kinds of people by the evidence of what they answered; see crowd.h. */
#include "reward/crowd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Inverse temperatures a person may have: opposite, random, honest. */
enum { OPPOSITE = 3, RANDOM = 1, HONEST = 7, KINDS = OPPOSITE + RANDOM + HONEST };
static const double KIND_BETA[KINDS] = {-2, -1, -0.5, 0, 0.35355339059327376, 0.5, 0.70710678118654752, 1, 1.4142135623730951, 2, 2.8284271247461903};
static const double PRIOR_HONEST = 0.9, PRIOR_RANDOM = 0.05, PRIOR_OPPOSITE = 0.05, PRIOR_BETA_SD = 0.5;

enum { PARAMETERS = 1 + JUDGEMENT_STRENGTHS, ROUNDS_MAX = 40 };
static const double STEP_FIRST = 0.3, STEP_LAST = 0.03, PARAMETER_SD = 0.7;

struct fit {
	const struct crowd_data *d;
	struct crowd *c;
	double *mean;      /* of every candidate, prompt after prompt: where Newton starts */
	size_t *at;        /* [items] of a prompt's first candidate in mean */
	uint32_t *touched; /* prompts of a person, person after person */
	size_t *first;     /* [people + 1] into touched */
	double parameter[PARAMETERS], start[PARAMETERS]; /* log sd, log of the gaps between thresholds */
	double step;
};

static double log_prior(int kind)
{
	double z = 0, x = log(fabs(KIND_BETA[kind]) + (kind == OPPOSITE)) / PRIOR_BETA_SD;
	if (kind < OPPOSITE) return log(PRIOR_OPPOSITE / OPPOSITE);
	if (kind == OPPOSITE) return log(PRIOR_RANDOM);
	for (int k = OPPOSITE + RANDOM; k < KINDS; k++) {
		double y = log(KIND_BETA[k]) / PRIOR_BETA_SD;
		z += exp(-0.5 * y * y);
	}
	return log(PRIOR_HONEST / z) - 0.5 * x * x;
}

struct posterior_model crowd_model(const struct crowd *c)
{
	return (struct posterior_model){.sd = c->sd, .scale = c->scale, .beta = c->beta, .weight = c->weight};
}

/* Evidence of a prompt as the people stand now; keep: its maximum becomes the next start. */
static double evidence(struct fit *f, uint32_t item, int keep)
{
	const struct crowd_item *it = &f->d->item[item];
	struct posterior_model m = crowd_model(f->c);
	struct posterior p;
	p.n = it->candidates;
	memcpy(p.mean, f->mean + f->at[item], it->candidates * sizeof *p.mean);
	posterior_evidence(&p, &m, f->d->judgement + it->begin, it->count, it->candidates);
	if (keep) memcpy(f->mean + f->at[item], p.mean, it->candidates * sizeof *p.mean);
	return p.evidence;
}

/* The posterior of a person's kinds given how the others stand; returns how much it moved. */
static double visit(struct fit *f, uint32_t person)
{
	struct crowd *c = f->c;
	struct crowd_person *who = &c->person[person], before = *who;
	double logp[KINDS], most = -INFINITY, z = 0, beta = 0;
	if (f->d->known && f->d->known[person] > 0) return 0;
	c->weight[person] = 1;
	for (int k = 0; k < KINDS; k++) {
		c->beta[person] = KIND_BETA[k];
		logp[k] = log_prior(k);
		for (size_t i = f->first[person]; i < f->first[person + 1]; i++) logp[k] += evidence(f, f->touched[i], 0);
		if (logp[k] > most) most = logp[k];
	}
	for (int k = 0; k < KINDS; k++) z += logp[k] = exp(logp[k] - most);
	who->honest = who->opposite = 0;
	for (int k = 0; k < KINDS; k++) {
		double p = logp[k] / z;
		if (k < OPPOSITE) who->opposite += p;
		else if (k == OPPOSITE) who->random = p;
		else who->honest += p, beta += p * KIND_BETA[k];
	}
	who->beta = who->honest > 0 ? beta / who->honest : 1;
	c->beta[person] = who->beta;
	c->weight[person] = who->honest;
	for (size_t i = f->first[person]; i < f->first[person + 1]; i++) evidence(f, f->touched[i], 1);
	return fmax(fabs(who->honest - before.honest), 0.1 * fabs(who->beta - before.beta));
}

static void set_parameters(struct fit *f)
{
	double t = 0;
	f->c->sd = exp(f->parameter[0]);
	for (int k = 0; k < JUDGEMENT_STRENGTHS; k++) f->c->scale.threshold[k] = t += exp(f->parameter[1 + k]);
}

static double evidence_of_all(struct fit *f, int keep)
{
	double sum = 0;
	set_parameters(f);
	for (int k = 0; k < PARAMETERS; k++) {
		double x = (f->parameter[k] - f->start[k]) / PARAMETER_SD;
		sum -= 0.5 * x * x;
	}
	for (uint32_t i = 0; i < f->d->items; i++) sum += evidence(f, i, keep);
	return sum;
}

/* One round over the parameters: a step up or down where the evidence rises; without any rise the step is halved. */
static void move_parameters(struct fit *f)
{
	double at = evidence_of_all(f, 1);
	int moved = 0;
	for (int k = 0; k < PARAMETERS; k++)
		for (int sign = 1; sign >= -1; sign -= 2) {
			double before = f->parameter[k];
			f->parameter[k] = before + sign * f->step;
			double there = evidence_of_all(f, 0);
			if (there > at) {
				at = there;
				moved = 1;
				break;
			}
			f->parameter[k] = before;
		}
	if (!moved) f->step /= 2;
	f->c->evidence = evidence_of_all(f, 1);
}

static int prepare(struct fit *f, struct err *e)
{
	const struct crowd_data *d = f->d;
	struct posterior_model start = posterior_model_default();
	size_t candidates = 0, links = 0;
	uint32_t *last = calloc((size_t)d->people + 1, sizeof *last); /* item + 1 that the person was seen at */
	for (uint32_t i = 0; i < d->items; i++) {
		candidates += d->item[i].candidates;
		links += d->item[i].count;
	}
	f->mean = calloc(candidates + 1, sizeof *f->mean);
	f->at = calloc((size_t)d->items + 1, sizeof *f->at);
	f->touched = calloc(links + 1, sizeof *f->touched);
	f->first = calloc((size_t)d->people + 2, sizeof *f->first);
	if (!last || !f->mean || !f->at || !f->touched || !f->first) {
		free(last);
		return err_set(e, ERR_MEMORY, "no memory for the answers of %u people", d->people);
	}
	for (int pass = 0; pass < 2; pass++) { /* count, then place */
		memset(last, 0, d->people * sizeof *last);
		for (uint32_t i = 0; i < d->items; i++)
			for (size_t k = d->item[i].begin; k < d->item[i].begin + d->item[i].count; k++) {
				uint32_t p = d->judgement[k].person;
				if (last[p] == i + 1 || !judgement_ranked(&d->judgement[k])) continue;
				last[p] = i + 1;
				if (pass == 0) f->first[p + 2]++;
				else f->touched[f->first[p + 1]++] = i;
			}
		for (uint32_t p = 0; pass == 0 && p < d->people; p++) f->first[p + 2] += f->first[p + 1];
	}
	free(last);
	for (uint32_t i = 1; i < d->items; i++) f->at[i] = f->at[i - 1] + d->item[i - 1].candidates;
	f->parameter[0] = log(start.sd);
	for (int k = 0; k < JUDGEMENT_STRENGTHS; k++)
		f->parameter[1 + k] = log(start.scale.threshold[k] - (k ? start.scale.threshold[k - 1] : 0));
	memcpy(f->start, f->parameter, sizeof f->start);
	f->step = STEP_FIRST;
	set_parameters(f);
	return 0;
}

static int check(const struct crowd_data *d, struct err *e)
{
	for (uint32_t i = 0; i < d->items; i++)
		for (size_t k = d->item[i].begin; k < d->item[i].begin + d->item[i].count; k++)
			if (!judgement_valid(&d->judgement[k], d->item[i].candidates) || d->judgement[k].person >= d->people)
				return err_set(e, ERR_RANGE, "answer %zu, about prompt %u of %u candidates, does not fit together", k, i, d->item[i].candidates);
	return 0;
}

static int start_people(struct crowd *c, const struct crowd_data *d, struct err *e)
{
	c->people = d->people;
	c->person = calloc((size_t)d->people + 1, sizeof *c->person);
	c->beta = calloc((size_t)d->people + 1, sizeof *c->beta);
	c->weight = calloc((size_t)d->people + 1, sizeof *c->weight);
	if (!c->person || !c->beta || !c->weight) return err_set(e, ERR_MEMORY, "no memory for %u people", d->people);
	for (uint32_t p = 0; p < d->people; p++) {
		int known = d->known && d->known[p] > 0;
		c->person[p] = known ? (struct crowd_person){.honest = 1, .beta = d->known[p]} : (struct crowd_person){PRIOR_HONEST, PRIOR_RANDOM, PRIOR_OPPOSITE, 1, 0, 0};
		c->beta[p] = c->person[p].beta;
		c->weight[p] = c->person[p].honest;
	}
	for (uint32_t i = 0; i < d->items; i++)
		for (size_t k = d->item[i].begin; k < d->item[i].begin + d->item[i].count; k++) c->person[d->judgement[k].person].answers += (uint32_t)judgement_ranked(&d->judgement[k]);
	return 0;
}

int crowd_fit(struct crowd *out, const struct crowd_data *d, struct err *e)
{
	struct fit f = {.d = d, .c = out};
	int rc;
	memset(out, 0, sizeof *out);
	TRY(check(d, e));
	TRY(start_people(out, d, e));
	TRY(prepare(&f, e));
	for (out->rounds = 1;; out->rounds++) {
		double moved = 0;
		for (uint32_t p = 0; p < d->people; p++) moved = fmax(moved, visit(&f, p));
		move_parameters(&f);
		if (out->rounds == ROUNDS_MAX || (moved < 1e-4 && f.step < STEP_LAST)) break;
	}
	for (uint32_t p = 0; p < d->people; p++) out->person[p].flagged = out->person[p].honest < CROWD_FLAG;
out:
	free(f.mean);
	free(f.at);
	free(f.touched);
	free(f.first);
	if (rc < 0) crowd_free(out);
	return rc;
}

void crowd_free(struct crowd *c)
{
	free(c->person);
	free(c->beta);
	free(c->weight);
	memset(c, 0, sizeof *c);
}
