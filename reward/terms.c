/* Terms of the reward; see terms.h. */
#include "reward/terms.h"

#include "core/base/rng.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One "name:weight" of n bytes. */
static int parse_term(struct reward_terms *t, const char *part, size_t n, struct err *e)
{
	while (n && isspace((unsigned char)part[0])) part++, n--;
	while (n && isspace((unsigned char)part[n - 1])) n--;
	const char *colon = memchr(part, ':', n);
	size_t name = colon ? (size_t)(colon - part) : n;
	while (name && isspace((unsigned char)part[name - 1])) name--;
	if (name == 0 || name >= GROUP_TERM_NAME)
		return err_set(e, ERR_FORMAT, "reward.terms: \"%.*s\" is not \"name:weight\" with a name of 1 to %d bytes", (int)n, part,
		               GROUP_TERM_NAME - 1);
	if (t->count == GROUP_TERMS_MAX) return err_set(e, ERR_RANGE, "reward.terms: more than %d terms", GROUP_TERMS_MAX);
	char weight[64] = "1";
	if (colon) {
		size_t k = n - (size_t)(colon + 1 - part);
		if (k >= sizeof weight) return err_set(e, ERR_FORMAT, "reward.terms: the weight in \"%.*s\" is not a number", (int)n, part);
		memcpy(weight, colon + 1, k);
		weight[k] = 0;
	}
	char *end;
	double w = strtod(weight, &end);
	while (isspace((unsigned char)*end)) end++;
	if (end == weight || *end || !isfinite(w))
		return err_set(e, ERR_FORMAT, "reward.terms: the weight in \"%.*s\" is not a number", (int)n, part);
	for (uint32_t i = 0; i < t->count; i++)
		if (strlen(t->name[i]) == name && memcmp(t->name[i], part, name) == 0)
			return err_set(e, ERR_FORMAT, "reward.terms: \"%s\" comes twice", t->name[i]);
	memcpy(t->name[t->count], part, name);
	t->name[t->count][name] = 0;
	t->weight[t->count++] = w;
	return 0;
}

int reward_terms_parse(struct reward_terms *t, const char *text, struct err *e)
{
	memset(t, 0, sizeof *t);
	for (const char *p = text;;) {
		size_t n = strcspn(p, ",");
		int rc = parse_term(t, p, n, e);
		if (rc < 0) return rc;
		if (!p[n]) return 0;
		p += n + 1;
	}
}

int reward_terms_learned(const struct reward_terms *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (!strcmp(t->name[i], "model") || !strcmp(t->name[i], "model_std")) return 1;
	return 0;
}

static void shuffle(float *reward, const struct group *g, uint64_t seed)
{
	uint32_t order[GROUP_MAX];
	float old[GROUP_MAX];
	rng_permutation((struct rng_key){seed, RNG_CONTROL}, (uint32_t)g->step, g->slot, g->size, order);
	memcpy(old, reward, g->size * sizeof old[0]);
	for (uint32_t i = 0; i < g->size; i++) reward[i] = old[order[i]];
}

int reward_combine(struct group *g, float *reward, const struct reward_rule *rule, struct err *e)
{
	double sum[GROUP_MAX] = {0};
	for (uint32_t t = 0; t < rule->terms.count; t++) {
		uint32_t at = 0;
		while (at < g->terms && strcmp(g->term_name[at], rule->terms.name[t]) != 0) at++;
		if (at == g->terms)
			return err_set(e, ERR_NOT_FOUND, "reward.terms names \"%s\", the scorer (version %s) does not give it", rule->terms.name[t],
			               g->scorer_version);
		for (uint32_t i = 0; i < g->size; i++) {
			float x = g->scores[(size_t)at * g->size + i];
			if (!isfinite(x))
				return err_set(e, ERR_RANGE, "the score \"%s\" of completion %u of group %llu/%u is %f", rule->terms.name[t], i,
				               (unsigned long long)g->step, g->slot, (double)x);
			sum[i] += rule->terms.weight[t] * (double)x;
		}
	}
	for (uint32_t i = 0; i < g->size; i++) {
		double x = sum[i];
		if (rule->clip > 0) x = x > rule->clip ? rule->clip : x < -rule->clip ? -rule->clip : x;
		reward[i] = (float)x;
		if (!isfinite(reward[i]))
			return err_set(e, ERR_RANGE, "the reward of completion %u of group %llu/%u is %g: set reward.clip or smaller weights", i,
			               (unsigned long long)g->step, g->slot, x);
	}
	if (rule->shuffle) shuffle(reward, g, rule->seed);
	g->reward = reward;
	return 0;
}
