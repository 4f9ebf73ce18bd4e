/* Exports as text: pairs of comparisons (CSV, or JSONL in the two usual shapes)
 * and metrics (CSV).
 *
 * Model output is hostile data: in CSV a cell that a spreadsheet would run as a
 * formula gets a leading apostrophe (so does one that begins with an apostrophe:
 * then the format `export` of data.h can take it off again and nothing is lost),
 * and every text is quoted; in JSON all
 * control characters are escaped, and bytes that are not UTF-8 (a byte-level
 * tokenizer can be cut within a character) become U+FFFD, one for each. */
#include "core/base/text.h"
#include "store/internal.h"

#include <errno.h>
#include <sqlite3.h>

/* ---- text ---- */

/* The inside of a JSON string. */
static void json_text(FILE *out, const struct cell *c)
{
	const unsigned char *p = c->p;
	for (size_t i = 0; i < c->n;) {
		size_t k = text_character((const char *)p + i, c->n - i);
		if (k == 0) fputs("\\ufffd", out);
		else if (p[i] == '"' || p[i] == '\\') fprintf(out, "\\%c", p[i]);
		else if (p[i] == '\n') fputs("\\n", out);
		else if (p[i] < 32 || p[i] == 127) fprintf(out, "\\u%04x", p[i]);
		else fwrite(p + i, 1, k, out);
		i += k ? k : 1;
	}
}

static void csv_text(FILE *out, const struct cell *c)
{
	const char *p = c->p;
	fputc('"', out);
	if (c->n && strchr("=+-@\t\r'", p[0]) && p[0]) fputc('\'', out);
	for (size_t i = 0; i < c->n; i++) {
		if (p[i] == '"') fputc('"', out);
		if (p[i]) fputc(p[i], out);
	}
	fputc('"', out);
}

static int out_check(FILE *out, int rc, struct err *e)
{
	if (rc == 0 && (fflush(out) != 0 || ferror(out))) rc = err_set(e, ERR_IO, "cannot write the export: %s", errno ? strerror(errno) : "output error");
	return rc;
}

/* ---- pairs ---- */

enum { PAIR_STAGE, PAIR_STEP, PAIR_SLOT, PAIR_SOURCE, PAIR_VERSION, PAIR_WINNER, PAIR_LOSER, PAIR_TIE, PAIR_MARGIN, PAIR_PROMPT, PAIR_CHOSEN, PAIR_REJECTED };

static const char pairs_sql[] =
	"SELECT p.stage, p.step, p.slot, p.source, p.scorer_version, p.winner, p.loser, p.tie, p.margin, q.text, w.text, l.text FROM stages o "
	"CROSS JOIN pairs p ON p.stage=o.stage "
	"JOIN groups g ON g.stage=p.stage AND g.step=p.step AND g.slot=p.slot "
	"JOIN prompts q ON q.prompt=g.prompt "
	"JOIN candidates w ON w.stage=p.stage AND w.step=p.step AND w.slot=p.slot AND w.candidate=p.winner "
	"JOIN candidates l ON l.stage=p.stage AND l.step=p.step AND l.slot=p.slot AND l.candidate=p.loser "
	"WHERE (?1 IS NULL OR o.stage=?1) AND (?2 IS NULL OR p.source=?2) AND (?3 OR NOT p.tie) "
	"ORDER BY o.ordinal, p.step, p.slot, p.source, p.scorer_version";

static void pair_csv(FILE *out, sqlite3_stmt *q)
{
	struct cell cell;
	for (int c = 0; c <= PAIR_REJECTED; c++) {
		if (c) fputc(',', out);
		if (c == PAIR_STEP || c == PAIR_SLOT || (c >= PAIR_WINNER && c <= PAIR_TIE)) fprintf(out, "%lld", (long long)sqlite3_column_int64(q, c));
		else if (c == PAIR_MARGIN) {
			if (sqlite3_column_type(q, c) != SQLITE_NULL) fprintf(out, "%.17g", sqlite3_column_double(q, c));
		} else cell = store_cell_read(q, c, CELL_TEXT), csv_text(out, &cell);
	}
	fputs("\r\n", out);
}

static void pair_trl(FILE *out, sqlite3_stmt *q)
{
	static const char *const key[] = { "{\"prompt\": \"", "\", \"chosen\": \"", "\", \"rejected\": \"" };
	for (int k = 0; k < 3; k++) {
		struct cell cell = store_cell_read(q, PAIR_PROMPT + k, CELL_TEXT);
		fputs(key[k], out);
		json_text(out, &cell);
	}
	fputs("\"}\n", out);
}

/* A prompt that is a dialogue already goes on with the completion as it is. */
static void pair_hh(FILE *out, sqlite3_stmt *q)
{
	struct cell prompt = store_cell_read(q, PAIR_PROMPT, CELL_TEXT);
	int dialogue = prompt.n >= 8 && !memcmp(prompt.p, "\n\nHuman:", 8);
	for (int k = 0; k < 2; k++) {
		struct cell answer = store_cell_read(q, PAIR_CHOSEN + k, CELL_TEXT);
		int space = answer.n && strchr(" \n", *(const char *)answer.p);
		fputs(k ? "\", \"rejected\": \"" : "{\"chosen\": \"", out);
		if (!dialogue) fputs("\\n\\nHuman: ", out);
		json_text(out, &prompt);
		if (!dialogue) fputs(space ? "\\n\\nAssistant:" : "\\n\\nAssistant: ", out);
		json_text(out, &answer);
	}
	fputs("\"}\n", out);
}

int store_export_pairs(struct store *s, enum store_pairs_format format, const char *stage, const char *source, FILE *out, uint64_t *pairs,
                       struct err *e)
{
	static void (*const write[])(FILE *, sqlite3_stmt *) = { pair_csv, pair_trl, pair_hh };
	sqlite3_stmt *q;
	uint64_t n = 0;
	int got, rc = store_sql_prepare(s, &q, pairs_sql, e);
	if (rc < 0) return rc;
	if (stage) sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	if (source) sqlite3_bind_text(q, 2, source, -1, SQLITE_STATIC);
	sqlite3_bind_int(q, 3, format == STORE_PAIRS_CSV);
	errno = 0;
	if (format == STORE_PAIRS_CSV) fputs("stage,step,slot,source,scorer_version,winner,loser,tie,margin,prompt,chosen,rejected\r\n", out);
	while ((got = sqlite3_step(q)) == SQLITE_ROW && !ferror(out)) {
		write[format](out, q);
		n++;
	}
	if (got != SQLITE_DONE && got != SQLITE_ROW) rc = store_sql_error(s, got, e, "cannot read the pairs");
	sqlite3_finalize(q);
	if (pairs) *pairs = n;
	return out_check(out, rc, e);
}

/* ---- metrics ---- */

static int metric_csv(void *ctx, const struct store_metric *m)
{
	FILE *out = ctx;
	struct cell name = cell_text(m->name);
	fprintf(out, "%s,%llu,", m->stage, (unsigned long long)m->step);
	csv_text(out, &name);
	if (isnan(m->value)) fputs(",nan\r\n", out);
	else fprintf(out, ",%.17g\r\n", m->value);
	return 0;
}

int store_export_metrics(struct store *s, FILE *out, struct err *e)
{
	errno = 0;
	fputs("stage,step,name,value\r\n", out);
	return out_check(out, store_each_step_metric(s, NULL, 0, metric_csv, out, e), e);
}
