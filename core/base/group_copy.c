/* Copying and comparing groups; see group_copy.h. */
#include "core/base/group_copy.h"

#include <stdio.h>
#include <string.h>

/* *bad is set when memory is out; a NULL or empty source gives NULL. */
static const void *copied(struct arena *a, const void *from, size_t bytes, int *bad)
{
	if (!from || bytes == 0) return NULL;
	void *to = arena_alloc(a, bytes);
	if (to) memcpy(to, from, bytes);
	else *bad = 1;
	return to;
}

static const char *copied_text(struct arena *a, const char *from, int *bad)
{
	return from ? copied(a, from, strlen(from) + 1, bad) : "";
}

int group_copy(struct group *out, const struct group *g, struct arena *a, struct err *e)
{
	int bad = 0;
	size_t response = group_response_tokens(g);
	struct group c = *g;
	c.tokens = copied(a, g->tokens, (g->prompt_tokens + response) * sizeof *g->tokens, &bad);
	c.logprobs = copied(a, g->logprobs, response * sizeof *g->logprobs, &bad);
	c.experts = copied(a, g->experts, response * g->moe_layers * g->experts_per_token * sizeof *g->experts, &bad);
	c.prompt_text = copied_text(a, g->prompt_text, &bad);
	for (uint32_t i = 0; i < g->size; i++) c.text[i] = copied_text(a, g->text[i], &bad);
	c.scores = copied(a, g->scores, (size_t)g->terms * g->size * sizeof *g->scores, &bad);
	c.reward = copied(a, g->reward, g->size * sizeof *g->reward, &bad);
	if (bad) return err_set(e, ERR_MEMORY, "no memory for a copy of group %llu/%u", (unsigned long long)g->step, g->slot);
	*out = c;
	return 0;
}

#define DIFFERS(...) (snprintf(text, bytes, __VA_ARGS__), 1)

static int numbers_differ(const struct group *x, const struct group *y, char *text, size_t bytes)
{
	if (x->prompt != y->prompt) return DIFFERS("prompt %u and %u", x->prompt, y->prompt);
	if (x->policy_version != y->policy_version)
		return DIFFERS("policy_version %llu and %llu", (unsigned long long)x->policy_version, (unsigned long long)y->policy_version);
	if (x->size != y->size) return DIFFERS("size %u and %u", x->size, y->size);
	if (x->prompt_tokens != y->prompt_tokens) return DIFFERS("prompt_tokens %u and %u", x->prompt_tokens, y->prompt_tokens);
	for (uint32_t i = 0; i < x->size; i++) {
		if (x->length[i] != y->length[i]) return DIFFERS("length of completion %u: %u and %u", i, x->length[i], y->length[i]);
		if (x->finish[i] != y->finish[i]) return DIFFERS("finish of completion %u: %u and %u", i, x->finish[i], y->finish[i]);
	}
	if (x->moe_layers != y->moe_layers || x->experts_per_token != y->experts_per_token || !x->experts != !y->experts)
		return DIFFERS("experts of %u layers, %u a token, and of %u, %u", x->moe_layers, x->experts_per_token, y->moe_layers,
			       y->experts_per_token);
	return 0;
}

static int floats_differ(const char *what, const float *x, const float *y, size_t n, char *text, size_t bytes)
{
	if (!x || !y) return x == y || n == 0 ? 0 : DIFFERS("%s are missing in one", what);
	for (size_t i = 0; i < n; i++)
		if (memcmp(&x[i], &y[i], sizeof *x)) return DIFFERS("%s: element %zu is %.9g and %.9g", what, i, (double)x[i], (double)y[i]);
	return 0;
}

static int scores_differ(const struct group *x, const struct group *y, char *text, size_t bytes)
{
	if (x->terms != y->terms) return DIFFERS("%u and %u reward terms", x->terms, y->terms);
	for (uint32_t i = 0; i < x->terms; i++)
		if (strcmp(x->term_name[i], y->term_name[i])) return DIFFERS("reward term %u: \"%s\" and \"%s\"", i, x->term_name[i], y->term_name[i]);
	if (strcmp(x->scorer_version, y->scorer_version)) return DIFFERS("scorer_version \"%s\" and \"%s\"", x->scorer_version, y->scorer_version);
	return floats_differ("scores", x->scores, y->scores, (size_t)x->terms * x->size, text, bytes) ||
	       floats_differ("reward", x->reward, y->reward, x->terms ? x->size : 0, text, bytes);
}

int group_difference(const struct group *x, const struct group *y, char *text, size_t bytes)
{
	if (numbers_differ(x, y, text, bytes)) return 1;
	size_t response = group_response_tokens(x), tokens = x->prompt_tokens + response;
	for (size_t i = 0; i < tokens && x->tokens && y->tokens; i++)
		if (x->tokens[i] != y->tokens[i]) return DIFFERS("tokens: element %zu is %d and %d", i, x->tokens[i], y->tokens[i]);
	if (floats_differ("logprobs", x->logprobs, y->logprobs, response, text, bytes)) return 1;
	size_t experts = response * x->moe_layers * x->experts_per_token;
	for (size_t i = 0; i < experts && x->experts && y->experts; i++)
		if (x->experts[i] != y->experts[i]) return DIFFERS("experts: element %zu is %u and %u", i, x->experts[i], y->experts[i]);
	if (strcmp(x->prompt_text, y->prompt_text)) return DIFFERS("prompt_text");
	for (uint32_t i = 0; i < x->size; i++)
		if (strcmp(x->text[i], y->text[i])) return DIFFERS("text of completion %u", i);
	return scores_differ(x, y, text, bytes);
}
