/* Group and score: between struct group and the view the codec works on, and
 * the checks that a group adds up. The same checks run before sending and after
 * receiving, so a worker that made a NaN hears of it first. */
#include "core/wire/message_fields.h"

#include <string.h>

enum { LAYERS_MAX = 4096, CHOSEN_MAX = 1024 };

void view_make_group(struct view_group *v, struct view_scratch *s, const struct group *g, int whole)
{
	CHECK(g->size <= GROUP_MAX && g->terms <= GROUP_TERMS_MAX, "group of %u completions, %u terms", g->size, g->terms);
	uint32_t response = group_response_tokens(g);
	memset(v, 0, sizeof *v);
	v->step = g->step;
	v->slot = g->slot;
	v->prompt = g->prompt;
	v->policy_version = g->policy_version;
	v->size = g->size;
	v->prompt_tokens = g->prompt_tokens;
	v->length = (struct field_bin){g->length, g->size};
	v->finish = (struct field_bin){g->finish, g->size};
	v->tokens = (struct field_bin){g->tokens, g->tokens ? (size_t)g->prompt_tokens + response : 0};
	v->prompt_text = g->prompt_text;
	v->texts = (struct field_texts){g->text, g->size};
	if (!whole) return;
	v->logprobs = (struct field_bin){g->logprobs, g->logprobs ? response : 0};
	v->moe_layers = g->moe_layers;
	v->experts_per_token = g->experts_per_token;
	v->experts = (struct field_bin){g->experts, g->experts ? (size_t)response * g->moe_layers * g->experts_per_token : 0};
	for (uint32_t i = 0; i < g->terms; i++) s->terms[i] = g->term_name[i];
	v->terms = (struct field_texts){s->terms, g->terms};
	v->scores = (struct field_bin){g->scores, g->scores ? (size_t)g->terms * g->size : 0};
	v->reward = (struct field_bin){g->reward, g->reward ? g->size : 0};
	memcpy(v->scorer_version, g->scorer_version, sizeof v->scorer_version);
}

static int check_count(const char *key, const struct field_bin *b, uint64_t want, struct err *e)
{
	if (b->count == want) return 0;
	return err_set(e, ERR_RANGE, "key \"%s\" has %zu elements, %llu are expected", key, b->count, (unsigned long long)want);
}

static int check_tokens(const struct field_bin *b, int32_t vocab, struct err *e)
{
	const int32_t *t = b->data;
	uint32_t limit = vocab > 0 ? (uint32_t)vocab : 0x80000000u, bad = 0;
	for (size_t i = 0; i < b->count; i++) bad |= (uint32_t)t[i] >= limit;
	for (size_t i = 0; bad && i < b->count; i++)
		if ((uint32_t)t[i] >= limit)
			return err_set(e, ERR_RANGE, "key \"tokens\": token %d at %zu is outside the vocabulary of %d", t[i], i, vocab);
	return 0;
}

static int check_experts(const struct view_group *v, uint64_t response, uint32_t experts, struct err *e)
{
	int rc = 0;
	if (v->moe_layers > LAYERS_MAX || v->experts_per_token > CHOSEN_MAX)
		return err_set(e, ERR_RANGE, "%u layers of experts, %u a token: at most %d and %d", v->moe_layers,
		               v->experts_per_token, LAYERS_MAX, CHOSEN_MAX);
	if (v->experts.count == 0) return 0;
	TRY(check_count("experts", &v->experts, response * v->moe_layers * v->experts_per_token, e));
	const uint16_t *x = v->experts.data;
	for (size_t i = 0; experts && i < v->experts.count; i++)
		if (x[i] >= experts) return err_set(e, ERR_RANGE, "key \"experts\": expert %u at %zu, there are %u", x[i], i, experts);
out:
	return rc;
}

static int check_scored(const struct view_group *v, uint64_t response, const struct message_limits *l, struct err *e)
{
	int rc = 0;
	TRY(check_count("logprobs", &v->logprobs, response, e));
	TRY(view_check_finite("logprobs", &v->logprobs, e));
	TRY(check_experts(v, response, l->experts, e));
	TRY(view_check_terms(&v->terms, e));
	TRY(check_count("scores", &v->scores, (uint64_t)v->terms.count * v->size, e));
	TRY(view_check_finite("scores", &v->scores, e));
	TRY(check_count("reward", &v->reward, v->terms.count ? v->size : 0, e));
	TRY(view_check_finite("reward", &v->reward, e));
out:
	return rc;
}

int view_check_group(const struct view_group *v, int whole, const struct message_limits *l, struct err *e)
{
	int rc = 0;
	if (v->size < 2 || v->size > GROUP_MAX)
		return err_set(e, ERR_RANGE, "key \"size\": a group of %u completions, between 2 and %d are possible", v->size, GROUP_MAX);
	TRY(check_count("length", &v->length, v->size, e));
	TRY(check_count("finish", &v->finish, v->size, e));
	if (v->texts.count != v->size)
		return err_set(e, ERR_RANGE, "key \"texts\" has %zu elements, %u are expected", v->texts.count, v->size);
	const uint32_t *length = v->length.data;
	const uint8_t *finish = v->finish.data;
	uint64_t response = 0;
	for (uint32_t i = 0; i < v->size; i++) {
		response += length[i];
		if (finish[i] > GROUP_FINISH_LENGTH)
			return err_set(e, ERR_RANGE, "key \"finish\": %u at %u is none of 0, 1, 2", finish[i], i);
	}
	if (whole || v->tokens.count > 0) {
		if (v->prompt_tokens < 1) return err_set(e, ERR_RANGE, "key \"prompt_tokens\" is 0, a prompt has at least one");
		TRY(check_count("tokens", &v->tokens, v->prompt_tokens + response, e));
		TRY(check_tokens(&v->tokens, l->vocab, e));
	}
	if (whole) TRY(check_scored(v, response, l, e));
out:
	return rc;
}

void view_take_group(struct group *g, const struct view_group *v)
{
	memset(g, 0, sizeof *g);
	g->step = v->step;
	g->slot = v->slot;
	g->prompt = v->prompt;
	g->policy_version = v->policy_version;
	g->size = v->size;
	g->prompt_tokens = v->prompt_tokens;
	memcpy(g->length, v->length.data, v->size * sizeof g->length[0]);
	memcpy(g->finish, v->finish.data, v->size * sizeof g->finish[0]);
	g->tokens = v->tokens.count ? v->tokens.data : NULL;
	g->logprobs = v->logprobs.count ? v->logprobs.data : NULL;
	g->moe_layers = v->moe_layers;
	g->experts_per_token = v->experts_per_token;
	g->experts = v->experts.count ? v->experts.data : NULL;
	g->prompt_text = v->prompt_text;
	for (uint32_t i = 0; i < v->size; i++) g->text[i] = v->texts.text[i];
	g->terms = (uint32_t)v->terms.count;
	for (uint32_t i = 0; i < g->terms; i++) strcpy(g->term_name[i], v->terms.text[i]);
	g->scores = v->scores.count ? v->scores.data : NULL;
	g->reward = v->reward.count ? v->reward.data : NULL;
	memcpy(g->scorer_version, v->scorer_version, sizeof g->scorer_version);
}
