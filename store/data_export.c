/* What `tenfold export --format csv` wrote, read back: the rows of one comparison
 * follow each other, one for each pair, and become one group again, with the
 * candidates in their order, the ranks and the margins. An apostrophe that the
 * export put before a text that a spreadsheet would run is taken off again. */
#include "store/data_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STAGE, STEP, SLOT, SOURCE, VERSION, WINNER, LOSER, TIE, MARGIN, PROMPT, CHOSEN, REJECTED, FIELDS };
static const char *const header[FIELDS] = {"stage", "step", "slot", "source", "scorer_version", "winner", "loser", "tie", "margin", "prompt", "chosen", "rejected"};

enum { IDENTITY = SLOT + 3 }; /* stage … scorer_version name the comparison */

struct open_group {
	int open;
	uint64_t line;
	const char *name[IDENTITY], *prompt;
	const char *text[GROUP_MAX];       /* by candidate; NULL: not in it */
	uint8_t wins[GROUP_MAX][GROUP_MAX]; /* 1: the first beats the second */
	double margin[GROUP_MAX][GROUP_MAX];
	int has_margins;
};

static const char *plain(const char *s)
{
	return s[0] == '\'' && s[1] && strchr("=+-@\t\r'", s[1]) ? s + 1 : s;
}

/* Ranks from the pairs: one more than the number of those that beat it. */
static int close_group(struct data_reader *r, struct open_group *g)
{
	uint32_t n = 0, who[GROUP_MAX], order[GROUP_MAX];
	if (!g->open) return 0;
	g->open = 0;
	struct data_record x = {.kind = DATA_GROUP, .prompt = g->prompt, .has_margins = g->has_margins};
	for (uint32_t i = 0; i < GROUP_MAX; i++)
		if (g->text[i]) who[n++] = i;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t rank = 1;
		for (uint32_t k = 0; k < n; k++) rank = (uint8_t)(rank + g->wins[who[k]][who[i]]);
		x.completion[i] = g->text[who[i]];
		x.rank[i] = rank;
		uint32_t at = i;
		for (; at > 0 && x.rank[order[at - 1]] > rank; at--) order[at] = order[at - 1];
		order[at] = i;
	}
	for (uint32_t i = 0; i + 1 < n; i++) x.margin[i] = x.rank[order[i]] == x.rank[order[i + 1]] ? 0 : g->margin[who[order[i]]][who[order[i + 1]]];
	x.count = n;
	r->line = g->line;
	return data_emit(r, &x);
}

static int same_group(const struct open_group *g, const struct data_rows *s)
{
	for (int i = 0; i < IDENTITY; i++)
		if (strcmp(g->name[i], s->field[i])) return 0;
	return 1;
}

static int candidate(const char *text)
{
	char *end;
	long v = strtol(text, &end, 10);
	return end == text || *end || v < 0 || v >= GROUP_MAX ? -1 : (int)v;
}

static int take_row(struct data_reader *r, struct open_group *g, const struct data_rows *s)
{
	int w = candidate(s->field[WINNER]), l = candidate(s->field[LOSER]), tie = !strcmp(s->field[TIE], "1"), rc = 0;
	r->line = s->line;
	if (w < 0 || l < 0 || w == l) return data_bad(r, "winner and loser are not two candidates", NULL);
	if (!g->open || !same_group(g, s)) {
		rc = close_group(r, g);
		if (rc < 0) return rc;
		arena_reset(r->arena);
		memset(g, 0, sizeof *g);
		g->open = 1;
		g->line = s->line;
		for (int i = 0; i < IDENTITY; i++) g->name[i] = arena_strdup(r->arena, s->field[i]);
		g->prompt = arena_strdup(r->arena, plain(s->field[PROMPT]));
	}
	if (!g->text[w]) g->text[w] = arena_strdup(r->arena, plain(s->field[CHOSEN]));
	if (!g->text[l]) g->text[l] = arena_strdup(r->arena, plain(s->field[REJECTED]));
	g->wins[w][l] = !tie;
	g->margin[w][l] = s->field[MARGIN][0] ? strtod(s->field[MARGIN], NULL) : NAN;
	g->has_margins |= s->field[MARGIN][0] != 0;
	return 0;
}

static int read_file(struct data_reader *r, struct data_source *in)
{
	struct data_rows s = {.separator = ','};
	struct open_group *g = calloc(1, sizeof *g);
	int rc = 0;
	CHECK(g, "out of memory for a group");
	if (!data_rows_next(&s, in)) goto out;
	for (int i = 0; i < FIELDS; i++)
		if (s.fields != FIELDS || strcmp(s.field[i], header[i])) TRY(err_set(r->e, ERR_FORMAT, "%s is no export of comparisons as CSV: its header is another", r->files[r->file]));
	while (data_rows_next(&s, in)) {
		int ok = 1;
		r->line = s.line;
		if (s.fault || s.fields != FIELDS) TRY(data_bad(r, s.fault ? s.fault : "it has not as many fields as the header", NULL));
		else {
			for (int i = 0; i < FIELDS && ok; i++) ok = data_text_ok(r, s.field[i], s.length[i], &rc);
			TRY(ok ? take_row(r, g, &s) : rc);
		}
	}
	TRY(close_group(r, g));
out:
	free(g);
	data_rows_free(&s);
	return rc;
}

const struct data_format data_format_export = {{"export", "comparisons as `tenfold export --format csv` writes them"}, .read_file = read_file};
