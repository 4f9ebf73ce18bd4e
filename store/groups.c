/* Writing a group: its row, its candidates and scores, and the comparison that
 * follows from the rewards.
 *
 * Nothing is allocated: cells point into the group, a comparison's JSON is built
 * on the stack, and SQLite is told that both stay while the statement runs. A
 * group is checked as a whole before its first row; what a message may have got
 * wrong is refused here, not left to the schema. An error rolls the step back. */
#include "store/internal.h"

#include "core/base/fault.h"

#include <sqlite3.h>
#include <stdio.h>

enum { JSON_BYTES = GROUP_MAX * 28 };

static int group_check(struct store *s, const struct group *g, struct err *e)
{
	const char *bad = NULL;
	if (g->size < 2 || g->size > GROUP_MAX) bad = "the group's size is not between 2 and 64";
	else if (g->prompt_tokens < 1) bad = "the prompt has no tokens";
	else if (g->terms > GROUP_TERMS_MAX) bad = "more than 16 reward terms";
	else if (!g->tokens || !g->logprobs || !g->prompt_text || (g->terms && !g->scores)) bad = "tokens, logprobs, scores or text are missing";
	else if (!memchr(g->scorer_version, 0, GROUP_VERSION)) bad = "the scorer version is not terminated";
	for (uint32_t i = 0; !bad && i < g->size; i++)
		if (!g->text[i] || g->finish[i] > GROUP_FINISH_LENGTH) bad = "a candidate has no text or an unknown finish";
	for (uint32_t t = 0; !bad && t < g->terms; t++)
		if (!memchr(g->term_name[t], 0, GROUP_TERM_NAME)) bad = "the name of a reward term is not terminated";
	if (bad) return err_set(e, ERR_RANGE, "step %llu, slot %u: %s", (unsigned long long)g->step, g->slot, bad);
	if (!s->in_step || g->step != s->step || (int64_t)g->slot <= s->last_slot)
		return err_set(e, ERR_STATE, "%s: group of step %llu, slot %u does not come next (step %llu is %s, last slot %lld): groups are put in "
		               "ascending slots between begin and commit", s->path, (unsigned long long)g->step, g->slot,
		               (unsigned long long)s->step, s->in_step ? "open" : "not open", (long long)s->last_slot);
	return store_range_check(g->policy_version, "policy version", e);
}

/* The prompt's stored text must be the group's. */
static int prompt_check(struct store *s, const struct group *g, struct err *e)
{
	sqlite3_stmt *q = s->select[TABLE_PROMPTS];
	sqlite3_bind_int64(q, 1, g->prompt);
	int rc = 0, got = sqlite3_step(q);
	long element;
	struct cell text = cell_text(g->prompt_text);
	if (got == SQLITE_ROW) {
		struct cell stored = store_cell_read(q, 1, CELL_TEXT);
		if (!store_cell_equal(CELL_TEXT, &stored, &text, &element))
			rc = err_set(e, ERR_MISMATCH, "%s: step %llu, slot %u: the text of prompt %u is not the one in table prompts", s->path,
			             (unsigned long long)g->step, g->slot, g->prompt);
	} else if (got == SQLITE_DONE)
		rc = err_set(e, ERR_STATE, "%s: step %llu, slot %u: prompt %u is not in table prompts: put the run's prompts first", s->path,
		             (unsigned long long)g->step, g->slot, g->prompt);
	else rc = store_sql_error(s, got, e, "table prompts");
	sqlite3_reset(q);
	return rc;
}

static int put_candidate(struct store *s, const struct group *g, uint32_t i, size_t at, struct err *e)
{
	size_t n = g->length[i], row = (size_t)g->moe_layers * g->experts_per_token;
	struct cell experts = g->experts ? cell_blob(g->experts + at * row, n * row * sizeof *g->experts) : cell_none();
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)g->step), cell_int(g->slot), cell_int(i), cell_int((int64_t)n),
		                cell_int(g->finish[i]), cell_blob(g->tokens + g->prompt_tokens + at, n * sizeof *g->tokens),
		                cell_blob(g->logprobs + at, n * sizeof *g->logprobs), experts, cell_text(g->text[i]),
		                g->reward ? cell_real((double)g->reward[i]) : cell_none() };
	int rc = store_row_put(s, TABLE_CANDIDATES, cells, store_step_mode(s), e);
	for (uint32_t t = 0; t < g->terms && rc == 0; t++) {
		struct cell score[] = { cells[0], cells[1], cells[2], cells[3], cell_text(g->term_name[t]),
			                cell_real((double)g->scores[(size_t)t * g->size + i]) };
		rc = store_row_put(s, TABLE_SCORES, score, store_step_mode(s), e);
	}
	return rc;
}

int store_put_group(struct store *s, const struct group *g, struct err *e)
{
	int rc;
	TRY(store_writer_check(s, e));
	TRY(group_check(s, g, e));
	TRY(prompt_check(s, g, e));
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)g->step), cell_int(g->slot), cell_int(g->prompt),
		                cell_int((int64_t)g->policy_version), cell_int(g->size), cell_blob(g->tokens, g->prompt_tokens * sizeof *g->tokens),
		                cell_int(g->moe_layers), cell_int(g->experts_per_token), cell_int(g->terms), cell_text(g->scorer_version) };
	TRY(store_row_put(s, TABLE_GROUPS, cells, store_step_mode(s), e));
	size_t at = 0;
	for (uint32_t i = 0; i < g->size; i++) {
		TRY(put_candidate(s, g, i, at, e));
		at += g->length[i];
	}
	FAULT_POINT("store.within_step", "some groups of a step are put, the transaction is open");
	s->last_slot = g->slot;
	s->groups++;
	if (g->reward) {
		struct store_comparison c;
		store_comparison_from_reward(&c, g);
		TRY(store_put_comparison(s, g->step, g->slot, &c, e));
	}
out:
	if (rc < 0 && s->in_step) store_transaction_abort(s);
	return rc;
}

/* ---- comparisons ---- */

void store_comparison_from_reward(struct store_comparison *c, const struct group *g)
{
	*c = (struct store_comparison){ .source = "reward", .scorer_version = g->scorer_version, .count = g->size, .has_margins = 1 };
	for (uint32_t i = 0; i < g->size; i++) { /* insertion keeps equal ones in candidate order */
		uint32_t k = i;
		for (; k > 0; k--) {
			float before = g->reward[c->order[k - 1]];
			if (!(g->reward[i] > before) && !(isnan(before) && !isnan(g->reward[i]))) break;
			c->order[k] = c->order[k - 1];
		}
		c->order[k] = (uint8_t)i;
	}
	for (uint32_t k = 0; k < c->count; k++) {
		float r = g->reward[c->order[k]], above = k ? g->reward[c->order[k - 1]] : 0;
		int tie = k && (r == above || (isnan(r) && isnan(above)));
		c->rank[k] = tie ? c->rank[k - 1] : (uint8_t)(k + 1);
		if (k) c->margin[k - 1] = tie ? 0 : (double)above - (double)r;
	}
}

static void json_integers(const uint8_t *v, uint32_t n, char out[JSON_BYTES])
{
	size_t at = 0;
	for (uint32_t i = 0; i < n; i++) at += (size_t)snprintf(out + at, JSON_BYTES - at, "%c%u", i ? ',' : '[', v[i]);
	snprintf(out + at, JSON_BYTES - at, "]");
}

/* JSON has neither NaN nor infinity: null, and a number that reads as infinity. */
static void json_numbers(const double *v, uint32_t n, char out[JSON_BYTES])
{
	size_t at = 0;
	out[at++] = '[';
	for (uint32_t i = 0; i < n; i++) {
		const char *glue = i ? "," : "";
		if (isnan(v[i])) at += (size_t)snprintf(out + at, JSON_BYTES - at, "%snull", glue);
		else if (isinf(v[i])) at += (size_t)snprintf(out + at, JSON_BYTES - at, "%s%s9.0e999", glue, v[i] < 0 ? "-" : "");
		else at += (size_t)snprintf(out + at, JSON_BYTES - at, "%s%.17g", glue, v[i]);
	}
	snprintf(out + at, JSON_BYTES - at, "]");
}

static int comparison_check(const struct store_comparison *c, struct err *e)
{
	uint64_t seen = 0;
	if (c->count < 2 || c->count > GROUP_MAX) return err_set(e, ERR_RANGE, "a comparison of %u candidates: 2 to %d are possible", c->count, GROUP_MAX);
	for (uint32_t k = 0; k < c->count; k++) {
		if (c->order[k] >= GROUP_MAX || seen >> c->order[k] & 1)
			return err_set(e, ERR_RANGE, "place %u of a comparison: candidate %u is unknown or ranked twice", k, c->order[k]);
		if (c->rank[k] != k + 1 && !(k && c->rank[k] == c->rank[k - 1]))
			return err_set(e, ERR_RANGE, "place %u of a comparison has rank %u: the place counted from 1, or the rank before it in a tie", k, c->rank[k]);
		seen |= 1ull << c->order[k];
	}
	return 0;
}

int store_put_comparison(struct store *s, uint64_t step, uint32_t slot, const struct store_comparison *c, struct err *e)
{
	int rc;
	char ranking[JSON_BYTES], ranks[JSON_BYTES], margins[JSON_BYTES];
	TRY(store_writer_check(s, e));
	TRY(store_range_check(step, "step", e));
	TRY(comparison_check(c, e));
	if (s->in_step && step != s->step) {
		rc = err_set(e, ERR_STATE, "%s: comparison of step %llu inside step %llu", s->path, (unsigned long long)step, (unsigned long long)s->step);
		goto out;
	}
	json_integers(c->order, c->count, ranking);
	json_integers(c->rank, c->count, ranks);
	if (c->has_margins) json_numbers(c->margin, c->count - 1, margins);
	struct cell cells[] = { cell_text(s->stage), cell_int((int64_t)step), cell_int(slot), cell_text(c->source), cell_text(c->scorer_version),
		                cell_text(ranking), cell_text(ranks), c->has_margins ? cell_text(margins) : cell_none() };
	TRY(store_put_alone(s, TABLE_COMPARISONS, cells, s->in_step ? store_step_mode(s) : PUT_EITHER, e));
out:
	if (rc < 0 && s->in_step) store_transaction_abort(s);
	return rc;
}
