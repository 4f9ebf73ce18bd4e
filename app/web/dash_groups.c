/* The dashboard's step browser and search: the groups of a step, one group with its
 * candidates, the tokens of one candidate.
 *
 * Advantages are not in the record. What is shown for a candidate is what ppo/
 * computes from the recorded rewards: after the end rule, against the group, by the
 * run's own ppo.advantage (with a critic: as `group` would, since values are not
 * recorded), without the KL term. Log-probabilities under the reference are in the
 * record since the learner puts them there: computing them here would take its
 * processors and memory for a second model. */
#include "app/web/dash.h"

#include "app/report_parts.h"
#include "policy/tokenizer.h"
#include "ppo/advantage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 1 << 20, OUTLINE_LIMIT = 400, HITS = 20, SEARCH_LIMIT = 200, HIT_LIMIT = 300, PIECE_LIMIT = 256 };
#define SEARCH_SECONDS 1.0

static const char *const finishes[] = {"end", "stop", "length"};

/* ---- a step ---- */

static int add_outline(void *ctx, const struct store_outline *o)
{
	json_t *j = json_pack("{s:i,s:i,s:i,s:o,s:o,s:o,s:o,s:o,s:o}", "slot", (int)o->slot, "prompt_index", (int)o->prompt, "size", (int)o->size, "prompt",
		report_text_to(o->prompt_text, OUTLINE_LIMIT), "scorer", report_text(o->scorer_version), "reward", report_number(o->reward), "lowest",
		report_number(o->lowest), "highest", report_number(o->highest), "tokens", report_number(o->tokens));
	json_array_append_new(ctx, j);
	return 0;
}

/* ?run, stage, step: {groups: […]}. */
static int on_step(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct run_folder run = {0};
	json_t *groups = json_array();
	int64_t step;
	int rc;
	TRY(dash_number(q, "step", 0, &step, e));
	TRY(dash_open(ctx, q, &run, e));
	TRY(store_each_outline(run.store, dash_stage(q), (uint64_t)step, add_outline, groups, e));
	http_reply_json(r, 200, json_pack("{s:O}", "groups", groups));
out:
	json_decref(groups);
	run_folder_close(&run);
	return rc;
}

/* ---- a group ---- */

struct reading {
	struct config *config;
	struct run_folder *run;
	json_t *out;
	uint32_t slot, candidate;
	float *reference; /* [reference_count] of all tokens of the group; NULL: not recorded */
	size_t reference_count;
	struct err *e;
};

static int on_config(void *ctx, const struct store_run *r)
{
	struct reading *a = ctx;
	struct err e;
	config_defaults(a->config);
	if (config_read_text(a->config, r->config, strlen(r->config), "stored configuration", &e) < 0) config_defaults(a->config);
	return 0;
}

/* Of each candidate, as the head of this file says; NaN: not scored. */
static void advantages(const struct group *g, const struct config_ppo *c, double out[GROUP_MAX])
{
	float score[GROUP_MAX];
	uint8_t ended[GROUP_MAX];
	double total[GROUP_MAX] = {0};
	for (uint32_t i = 0; i < g->size; i++) ended[i] = g->finish[i] != GROUP_FINISH_LENGTH, out[i] = NAN;
	if (!g->reward) return;
	struct ppo_batch b = {.groups = 1, .size = g->size, .group = g, .sequences = g->size, .score = score, .ended = ended};
	ppo_scores(&b, c);
	for (uint32_t i = 0; i < g->size; i++) total[i] = (double)score[i];
	ppo_group_advantage(strcmp(c->advantage, "gae") ? c->advantage : "group", total, g->size, out);
}

static int on_reference(void *ctx, const struct store_reference *r)
{
	struct reading *a = ctx;
	a->reference = malloc(r->count * sizeof *a->reference + 1);
	if (!a->reference) return report_memory(a->e);
	if (r->count) memcpy(a->reference, r->logprobs, r->count * sizeof *a->reference);
	a->reference_count = r->count;
	return 0;
}

/* log π − log π_ref of a response token of the group; NaN: not recorded. */
static double against_reference(const struct reading *a, const struct group *g, size_t token)
{
	return token < a->reference_count ? (double)g->logprobs[token] - (double)a->reference[token] : NAN;
}

static json_t *candidate_json(const struct reading *a, const struct group *g, uint32_t i, double advantage, size_t first)
{
	json_t *scores = json_array();
	double sum = 0, against = 0;
	for (uint32_t t = 0; t < g->terms; t++) json_array_append_new(scores, report_number((double)g->scores[t * g->size + i]));
	for (uint32_t k = 0; k < g->length[i]; k++) sum += (double)g->logprobs[first + k], against += against_reference(a, g, first + k);
	return json_pack("{s:i,s:o,s:o,s:o,s:i,s:s,s:o,s:o,s:o}", "candidate", (int)i, "text", report_text_to(g->text[i], TEXT_LIMIT), "reward",
		report_number(g->reward ? (double)g->reward[i] : NAN), "advantage", report_number(advantage), "tokens", (int)g->length[i], "finish",
		finishes[g->finish[i] % 3], "scores", scores, "logprob", report_number(g->length[i] ? sum : NAN), "against",
		report_number(g->length[i] ? against : NAN));
}

static int on_group_row(void *ctx, const struct group *g)
{
	struct reading *a = ctx;
	double advantage[GROUP_MAX];
	json_t *terms = json_array(), *candidates = json_array();
	size_t first = 0;
	advantages(g, &a->config->ppo, advantage);
	for (uint32_t t = 0; t < g->terms; t++) json_array_append_new(terms, report_text(g->term_name[t]));
	for (uint32_t i = 0; i < g->size; first += g->length[i++]) json_array_append_new(candidates, candidate_json(a, g, i, advantage[i], first));
	a->out = json_pack("{s:I,s:i,s:i,s:o,s:I,s:i,s:o,s:o,s:o,s:s,s:i,s:i,s:[]}", "step", (json_int_t)g->step, "slot", (int)g->slot, "prompt_index", (int)g->prompt,
		"prompt", report_text_to(g->prompt_text, TEXT_LIMIT), "policy_version", (json_int_t)g->policy_version, "prompt_tokens", (int)g->prompt_tokens, "scorer",
		report_text(g->scorer_version), "terms", terms, "candidates", candidates, "advantage", a->config->ppo.advantage, "layers",
		g->experts ? (int)g->moe_layers : 0, "experts_per_token", g->experts ? (int)g->experts_per_token : 0, "rankings");
	return a->out ? 0 : report_memory(a->e);
}

static int on_ranking(void *ctx, uint32_t slot, const struct store_comparison *c)
{
	struct reading *a = ctx;
	if (slot != a->slot) return 0;
	json_t *ranks = json_object();
	char key[8];
	for (uint32_t k = 0; k < c->count; k++) {
		snprintf(key, sizeof key, "%u", c->order[k]);
		json_object_set_new(ranks, key, json_integer(c->rank[k]));
	}
	json_array_append_new(json_object_get(a->out, "rankings"),
		json_pack("{s:o,s:o,s:o}", "source", report_text(c->source), "version", report_text(c->scorer_version), "ranks", ranks));
	return 0;
}

static int where(struct reading *a, const struct http_request *q, int64_t *step, struct err *e)
{
	int64_t slot, candidate;
	int rc;
	TRY(dash_number(q, "step", 0, step, e));
	TRY(dash_number(q, "slot", 0, &slot, e));
	TRY(dash_number(q, "candidate", 0, &candidate, e));
	if (slot > UINT32_MAX || candidate >= GROUP_MAX) rc = err_set(e, ERR_NOT_FOUND, "there is no such group or candidate");
	a->slot = (uint32_t)slot;
	a->candidate = (uint32_t)candidate;
out:
	return rc;
}

/* Answers with what `row` makes of the group that is asked for; rankings: with those of its step. */
static int reply_group(void *ctx, const struct http_request *q, struct http_response *r, int (*row)(void *ctx, const struct group *g), int rankings, struct err *e)
{
	struct run_folder run = {0};
	struct reading a = {.config = malloc(sizeof *a.config), .run = &run, .e = e};
	int64_t step;
	int rc;
	TRY(a.config ? where(&a, q, &step, e) : report_memory(e));
	TRY(dash_open(ctx, q, &run, e));
	TRY(store_get_run(run.store, on_config, &a, e));
	rc = store_get_reference(run.store, dash_stage(q), (uint64_t)step, a.slot, on_reference, &a, e);
	if (rc != ERR_NOT_FOUND) TRY(rc);
	TRY(store_get_group(run.store, dash_stage(q), (uint64_t)step, a.slot, row, &a, e));
	if (rankings) TRY(store_each_comparison(run.store, dash_stage(q), (uint64_t)step, NULL, on_ranking, &a, e));
	http_reply_json(r, 200, json_incref(a.out));
out:
	json_decref(a.out);
	free(a.reference);
	free(a.config);
	run_folder_close(&run);
	return rc;
}

/* ?run, stage, step, slot. rankings: [{source, version, ranks: {candidate: rank}}]. */
static int on_group(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	return reply_group(ctx, q, r, on_group_row, 1, e);
}

/* ---- the tokens of a candidate ---- */

/* The run's tokenizer, from whichever model it has left so far or started from. */
static struct tokenizer *tokenizer_of(const struct run_folder *run, const struct config *c)
{
	char path[PATH_MAX];
	const char *const names[] = {"models/ppo", "models/sft", "models/reward", "models/pretrain"};
	struct tokenizer *t = NULL;
	struct err e;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (run_folder_path(run, names[i], path, &e) == 0 && tokenizer_open(&t, path, &e) == 0) return t;
	if (*c->tokenizer.path && tokenizer_open(&t, c->tokenizer.path, &e) == 0) return t;
	if (*c->model.init && tokenizer_open(&t, c->model.init, &e) == 0) return t;
	return NULL;
}

/* What a token adds to the text: the two together without the one before, since some decoders look at their neighbours. */
static json_t *piece(const struct tokenizer *t, const int32_t *id)
{
	char both[2 * PIECE_LIMIT], one[PIECE_LIMIT];
	struct err e;
	int64_t n = tokenizer_decode(t, id - 1, 1, 0, one, sizeof one, &e), m = tokenizer_decode(t, id - 1, 2, 0, both, sizeof both, &e);
	if (n >= 0 && m >= n && m < (int64_t)sizeof both && n < (int64_t)sizeof one && !strncmp(one, both, (size_t)n)) return report_text(both + n);
	n = tokenizer_decode(t, id, 1, 0, one, sizeof one, &e);
	return n < 0 ? json_null() : report_text(one);
}

static int on_token_row(void *ctx, const struct group *g)
{
	struct reading *a = ctx;
	size_t first = 0, row = (size_t)g->moe_layers * g->experts_per_token;
	if (a->candidate >= g->size) return err_set(a->e, ERR_NOT_FOUND, "the group has %u candidates", g->size);
	struct tokenizer *t = tokenizer_of(a->run, a->config);
	json_t *ids = json_array(), *texts = json_array(), *logprobs = json_array(), *against = json_array(), *experts = json_array();
	for (uint32_t i = 0; i < a->candidate; i++) first += g->length[i];
	for (size_t k = first; k < first + g->length[a->candidate]; k++) {
		const int32_t *id = g->tokens + g->prompt_tokens + k;
		/* the token before the first one of a candidate is the prompt's last */
		int32_t pair[2] = {k == first ? g->tokens[g->prompt_tokens - 1] : id[-1], *id};
		json_array_append_new(ids, json_integer(*id));
		json_array_append_new(texts, t ? piece(t, pair + 1) : json_null());
		json_array_append_new(logprobs, report_number((double)g->logprobs[k]));
		if (a->reference) json_array_append_new(against, report_number(against_reference(a, g, k)));
		for (size_t x = 0; g->experts && x < row; x++) json_array_append_new(experts, json_integer(g->experts[k * row + x]));
	}
	tokenizer_close(t);
	a->out = json_pack("{s:o,s:o,s:o,s:o,s:i,s:i,s:o}", "ids", ids, "texts", texts, "logprobs", logprobs, "against", against, "layers", g->experts ? (int)g->moe_layers : 0,
		"experts_per_token", g->experts ? (int)g->experts_per_token : 0, "experts", experts);
	return a->out ? 0 : report_memory(a->e);
}

/* ?run, stage, step, slot, candidate: {ids, texts (null: no tokenizer), logprobs, against: log π − log π_ref (empty: not recorded), layers, experts_per_token,
 * experts: [tokens · layers · experts_per_token]}. */
static int on_tokens(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	return reply_group(ctx, q, r, on_token_row, 0, e);
}

/* ---- search ---- */

struct finding {
	json_t *list;
	const char *text;
};

/* The part of a text around the first place where the words are. */
static json_t *around(const char *text, const char *words)
{
	const char *at = *words ? strcasestr(text, words) : NULL;
	size_t before = at ? (size_t)(at - text) : 0, skip = before > HIT_LIMIT / 3 ? before - HIT_LIMIT / 3 : 0;
	while (skip && ((unsigned char)text[skip] & 0xC0) == 0x80) skip--;
	json_t *part = report_text_to(text + skip, HIT_LIMIT);
	if (!skip || !part) return part;
	json_t *j = json_sprintf("…%s", json_string_value(part));
	json_decref(part);
	return j;
}

static int add_hit(void *ctx, const struct store_hit *h)
{
	struct finding *f = ctx;
	json_array_append_new(f->list, json_pack("{s:o,s:I,s:i,s:i,s:o,s:o,s:o}", "stage", report_text(h->stage), "step", (json_int_t)h->step, "slot", (int)h->slot,
		"candidate", (int)h->candidate, "reward", report_number(h->reward), "prompt", h->candidate < 0 ? around(h->prompt, f->text) : report_text_to(h->prompt, HIT_LIMIT),
		"text", around(h->text, f->text)));
	return 0;
}

/* ?run, q, in=completions|prompts, stage (all when missing), before: {hits, next: 0 when all was looked at}. */
static int on_search(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	struct run_folder run = {0};
	const char *text = http_request_query(q, "q"), *in = http_request_query(q, "in");
	struct finding f = {json_array(), text ? text : ""};
	struct store_search s = {.text = f.text, .stage = http_request_query(q, "stage"), .prompts = in && !strcmp(in, "prompts"), .limit = HITS, .seconds = SEARCH_SECONDS};
	int64_t next;
	int rc;
	TRY(dash_number(q, "before", 0, &s.before, e));
	if (strlen(f.text) > SEARCH_LIMIT) TRY(err_set(e, ERR_RANGE, "at most %d bytes can be looked for", SEARCH_LIMIT));
	TRY(dash_open(ctx, q, &run, e));
	TRY(store_each_hit(run.store, &s, add_hit, &f, &next, e));
	http_reply_json(r, 200, json_pack("{s:O,s:I}", "hits", f.list, "next", (json_int_t)next));
out:
	json_decref(f.list);
	run_folder_close(&run);
	return rc;
}

const struct http_route web_group_routes[] = {
	{"GET", "/api/runs/step", WEB_OWNER, 0, on_step, 0},
	{"GET", "/api/runs/group", WEB_OWNER, 0, on_group, 0},
	{"GET", "/api/runs/tokens", WEB_OWNER, 0, on_tokens, 0},
	{"GET", "/api/runs/search", WEB_OWNER, 0, on_search, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
