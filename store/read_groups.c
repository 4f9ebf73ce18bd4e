/* Reading groups back: rows of groups, candidates and scores put together to the
 * packed layout of struct group, one group at a time, in an arena that is
 * emptied between groups. The file may have been edited by hand: a group whose
 * blobs do not have the sizes that its columns promise is ERR_FORMAT, by name. */
#include "store/internal.h"

#include "core/base/arena.h"

#include <sqlite3.h>

enum { OF_GROUP, OF_CANDIDATES, OF_SCORES, STATEMENTS };

struct group_reader {
	struct store *s;
	sqlite3_stmt *q[STATEMENTS];
	struct arena *arena;
	struct err *e;
};

static const char *const reader_sql[STATEMENTS] = {
	"SELECT g.slot, g.prompt, g.policy_version, g.size, g.prompt_tokens, g.moe_layers, g.experts_per_token, g.terms, g.scorer_version, p.text "
	"FROM groups g JOIN prompts p ON p.prompt=g.prompt WHERE g.stage=?1 AND g.step=?2 AND (?3 < 0 OR g.slot=?3) ORDER BY g.slot",
	"SELECT candidate, token_count, finish, tokens, logprobs, experts, text, reward FROM candidates WHERE stage=?1 AND step=?2 AND slot=?3 "
	"ORDER BY candidate",
	"SELECT candidate, term, value FROM scores WHERE stage=?1 AND step=?2 AND slot=?3 ORDER BY candidate, term",
};

static int group_bad(struct group_reader *r, const struct group *g, const char *what)
{
	return err_set(r->e, ERR_FORMAT, "%s: step %llu, slot %u: %s: the rows of this group have been altered", r->s->path,
	               (unsigned long long)g->step, g->slot, what);
}

static char *arena_copy(struct arena *a, const void *p, size_t n)
{
	char *m = arena_alloc(a, n + 1);
	if (m && n) memcpy(m, p, n);
	if (m) m[n] = 0;
	return m;
}

/* The group's own row. */
static int read_head(struct group_reader *r, struct group *g)
{
	sqlite3_stmt *q = r->q[OF_GROUP];
	g->slot = (uint32_t)sqlite3_column_int64(q, 0);
	g->prompt = (uint32_t)sqlite3_column_int64(q, 1);
	g->policy_version = (uint64_t)sqlite3_column_int64(q, 2);
	g->size = (uint32_t)sqlite3_column_int64(q, 3);
	g->prompt_tokens = (uint32_t)sqlite3_column_bytes(q, 4) / 4;
	g->moe_layers = (uint32_t)sqlite3_column_int64(q, 5);
	g->experts_per_token = (uint32_t)sqlite3_column_int64(q, 6);
	g->terms = (uint32_t)sqlite3_column_int64(q, 7);
	struct cell version = store_cell_read(q, 8, CELL_TEXT), text = store_cell_read(q, 9, CELL_TEXT);
	if (g->prompt_tokens < 1 || g->size < 2 || g->size > GROUP_MAX || g->terms > GROUP_TERMS_MAX || version.n >= GROUP_VERSION || g->moe_layers > 65536 ||
	    g->experts_per_token > 65536)
		return group_bad(r, g, "prompt, size, terms, layers or scorer version are out of range");
	if (version.n) memcpy(g->scorer_version, version.p, version.n);
	g->prompt_text = arena_copy(r->arena, text.p, text.n);
	return g->prompt_text ? 0 : err_set(r->e, ERR_MEMORY, "no memory for a group");
}

/* First pass: number and sizes. */
static int read_sizes(struct group_reader *r, struct group *g, int *has_experts, int *has_reward)
{
	sqlite3_stmt *q = r->q[OF_CANDIDATES];
	size_t row = (size_t)g->moe_layers * g->experts_per_token * 2;
	uint32_t i = 0;
	int got;
	for (; (got = sqlite3_step(q)) == SQLITE_ROW; i++) {
		size_t n = (size_t)sqlite3_column_int64(q, 1), ex = (size_t)sqlite3_column_bytes(q, 5);
		int finish = sqlite3_column_int(q, 2), no_experts = sqlite3_column_type(q, 5) == SQLITE_NULL;
		if (i >= g->size || sqlite3_column_int64(q, 0) != i || n > UINT32_MAX) return group_bad(r, g, "candidates are missing or too many");
		if ((size_t)sqlite3_column_bytes(q, 3) != 4 * n || (size_t)sqlite3_column_bytes(q, 4) != 4 * n || (!no_experts && ex != n * row) ||
		    finish < 0 || finish > GROUP_FINISH_LENGTH)
			return group_bad(r, g, "a candidate's blobs have wrong sizes");
		g->length[i] = (uint32_t)n;
		g->finish[i] = (uint8_t)finish;
		*has_experts |= !no_experts;
		*has_reward |= sqlite3_column_type(q, 7) != SQLITE_NULL;
	}
	if (got != SQLITE_DONE) return store_sql_error(r->s, got, r->e, "table candidates");
	sqlite3_reset(q);
	return i == g->size ? 0 : group_bad(r, g, "candidates are missing");
}

/* Second pass: the packed arrays. */
static int read_candidates(struct group_reader *r, struct group *g)
{
	sqlite3_stmt *q = r->q[OF_CANDIDATES];
	int has_experts = 0, has_reward = 0, rc = read_sizes(r, g, &has_experts, &has_reward);
	if (rc < 0) return rc;
	size_t n = group_response_tokens(g), row = (size_t)g->moe_layers * g->experts_per_token, at = 0;
	int32_t *tokens = arena_alloc(r->arena, (g->prompt_tokens + n) * sizeof *tokens);
	float *logprobs = arena_alloc(r->arena, n * sizeof *logprobs + 1), *reward = arena_alloc(r->arena, g->size * sizeof *reward);
	uint16_t *experts = arena_alloc(r->arena, n * row * sizeof *experts + 1);
	if (!tokens || !logprobs || !reward || !experts) return err_set(r->e, ERR_MEMORY, "no memory for a group of %zu tokens", n);
	memcpy(tokens, sqlite3_column_blob(r->q[OF_GROUP], 4), g->prompt_tokens * sizeof *tokens);
	for (uint32_t i = 0; i < g->size; i++) {
		int got = sqlite3_step(q);
		if (got != SQLITE_ROW) return store_sql_error(r->s, got, r->e, "table candidates");
		size_t k = g->length[i];
		if (k) {
			memcpy(tokens + g->prompt_tokens + at, sqlite3_column_blob(q, 3), k * sizeof *tokens);
			memcpy(logprobs + at, sqlite3_column_blob(q, 4), k * sizeof *logprobs);
			if (sqlite3_column_bytes(q, 5)) memcpy(experts + at * row, sqlite3_column_blob(q, 5), k * row * sizeof *experts);
			else memset(experts + at * row, 0, k * row * sizeof *experts);
		}
		g->text[i] = arena_copy(r->arena, sqlite3_column_text(q, 6), (size_t)sqlite3_column_bytes(q, 6));
		if (!g->text[i]) return err_set(r->e, ERR_MEMORY, "no memory for a candidate's text");
		reward[i] = sqlite3_column_type(q, 7) == SQLITE_NULL ? NAN : (float)sqlite3_column_double(q, 7);
		at += k;
	}
	g->tokens = tokens;
	g->logprobs = logprobs;
	g->experts = has_experts ? experts : NULL;
	g->reward = has_reward ? reward : NULL;
	return 0;
}

static int read_scores(struct group_reader *r, struct group *g)
{
	sqlite3_stmt *q = r->q[OF_SCORES];
	float *scores = arena_alloc(r->arena, (size_t)g->terms * g->size * sizeof *scores + 1);
	if (!scores) return err_set(r->e, ERR_MEMORY, "no memory for scores");
	for (uint32_t i = 0; i < g->size; i++)
		for (uint32_t t = 0; t < g->terms; t++) {
			int got = sqlite3_step(q);
			if (got != SQLITE_ROW && got != SQLITE_DONE) return store_sql_error(r->s, got, r->e, "table scores");
			struct cell term = got == SQLITE_ROW ? store_cell_read(q, 1, CELL_TEXT) : cell_none();
			if (term.null || sqlite3_column_int64(q, 0) != i || term.n >= GROUP_TERM_NAME) return group_bad(r, g, "scores are missing");
			if (i == 0) memcpy(g->term_name[t], term.p, term.n + 1);
			else if (strcmp(g->term_name[t], term.p)) return group_bad(r, g, "candidates have different reward terms");
			scores[(size_t)t * g->size + i] = sqlite3_column_type(q, 2) == SQLITE_NULL ? NAN : (float)sqlite3_column_double(q, 2);
		}
	g->scores = g->terms ? scores : NULL;
	return 0;
}

/* Those of a step, or the one of that slot. */
static int read_groups(struct store *s, const char *stage, uint64_t step, int64_t slot, int (*fn)(void *ctx, const struct group *g), void *ctx,
                       struct err *e)
{
	struct group_reader r = { .s = s, .arena = arena_open(0), .e = e };
	int rc = 0, got;
	for (int k = 0; k < STATEMENTS; k++) {
		TRY(store_sql_prepare(s, &r.q[k], reader_sql[k], e));
		sqlite3_bind_text(r.q[k], 1, stage, -1, SQLITE_STATIC);
		sqlite3_bind_int64(r.q[k], 2, (int64_t)step);
	}
	sqlite3_bind_int64(r.q[OF_GROUP], 3, slot);
	while (rc == 0 && (got = sqlite3_step(r.q[OF_GROUP])) != SQLITE_DONE) {
		if (got != SQLITE_ROW) {
			rc = store_sql_error(s, got, e, "table groups");
			break;
		}
		struct group g = { .step = step };
		TRY(read_head(&r, &g));
		for (int k = OF_CANDIDATES; k < STATEMENTS; k++) {
			sqlite3_reset(r.q[k]);
			sqlite3_bind_int64(r.q[k], 3, g.slot);
		}
		TRY(read_candidates(&r, &g));
		TRY(read_scores(&r, &g));
		rc = fn(ctx, &g);
		arena_reset(r.arena);
	}
out:
	for (int k = 0; k < STATEMENTS; k++) sqlite3_finalize(r.q[k]);
	arena_close(r.arena);
	return rc;
}

int store_each_group(struct store *s, const char *stage, uint64_t step, int (*fn)(void *ctx, const struct group *g), void *ctx, struct err *e)
{
	return read_groups(s, stage, step, -1, fn, ctx, e);
}

struct one_group {
	int (*fn)(void *ctx, const struct group *g);
	void *ctx;
	int found;
};

static int take_group(void *ctx, const struct group *g)
{
	struct one_group *o = ctx;
	o->found = 1;
	return o->fn(o->ctx, g);
}

int store_get_group(struct store *s, const char *stage, uint64_t step, uint32_t slot, int (*fn)(void *ctx, const struct group *g), void *ctx,
                    struct err *e)
{
	struct one_group o = { .fn = fn, .ctx = ctx };
	int rc = read_groups(s, stage, step, slot, take_group, &o, e);
	if (rc == 0 && !o.found) return err_set(e, ERR_NOT_FOUND, "%s: stage %s, step %llu has no group %u", s->path, stage, (unsigned long long)step, slot);
	return rc;
}

int store_get_reference(struct store *s, const char *stage, uint64_t step, uint32_t slot, int (*fn)(void *ctx, const struct store_reference *r), void *ctx,
                        struct err *e)
{
	sqlite3_stmt *q;
	if (!s->writer && s->version < 2) return err_set(e, ERR_NOT_FOUND, "%s is of a program that did not record the reference", s->path);
	int rc = store_sql_prepare(s, &q, "SELECT logprobs FROM reference_logprobs WHERE stage=?1 AND step=?2 AND slot=?3", e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)step);
	sqlite3_bind_int64(q, 3, slot);
	int got = sqlite3_step(q);
	if (got == SQLITE_ROW) {
		struct cell c = store_cell_read(q, 0, CELL_F32);
		rc = fn(ctx, &(struct store_reference){ slot, c.p, c.n / sizeof(float) });
	} else if (got == SQLITE_DONE)
		rc = err_set(e, ERR_NOT_FOUND, "%s: stage %s, step %llu, slot %u: what the reference says is not recorded", s->path, stage, (unsigned long long)step, slot);
	else rc = store_sql_error(s, got, e, "table reference_logprobs");
	sqlite3_finalize(q);
	return rc;
}
