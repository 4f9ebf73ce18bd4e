/* CSV and TSV with a header line. Which column is what is said by a list of
 * role=column:
 *
 *   prompt, completion          an example
 *   prompt, chosen, rejected    a comparison
 *   prompt, a, b, label         a comparison; label says which of a and b is better: by the column's name, or a, b, 1, 2, or tie
 *   prompt                      a prompt
 *   text                        plain text
 *   answer, key                 with any of them (see data.h)
 *   person, strength, criterion with a comparison: whose label it is (see data.h)
 *
 * Without a list the roles are the columns of these names. Two columns exist in
 * every file: @file is its name without ending as words ("a-b_c.csv": "a b: c"
 * and a line end), @topic the part before its last underscore. A column name is
 * compared without a leading # (some headers begin so). */
#include "store/data_rows.h"

#include <string.h>

enum role { PROMPT, COMPLETION, CHOSEN, REJECTED, A, B, LABEL, TEXT, ANSWER, KEY, PERSON, STRENGTH, CRITERION, ROLES };
static const char *const role_names[ROLES] = {"prompt", "completion", "chosen", "rejected", "a", "b", "label", "text", "answer", "key",
	"person", "strength", "criterion"};

enum { NONE = -1, OF_FILE = -2, OF_TOPIC = -3, COLUMN_BYTES = 64 };

struct columns {
	int at[ROLES]; /* index of the column; NONE, OF_FILE, OF_TOPIC */
	char name[ROLES][COLUMN_BYTES];
};

static int find_column(const struct data_rows *header, const char *name)
{
	if (!strcmp(name, "@file")) return OF_FILE;
	if (!strcmp(name, "@topic")) return OF_TOPIC;
	for (int i = 0; i < header->fields; i++)
		if (!strcmp(header->field[i] + (header->field[i][0] == '#'), name)) return i;
	return NONE;
}

/* One role=column, without blanks around. */
static int take_part(struct data_reader *r, const struct data_rows *header, struct columns *c, char *part)
{
	char *equals = strchr(part, '=');
	int role = 0;
	if (!equals) return err_set(r->e, ERR_FORMAT, "columns: '%s' is not role=column", part);
	*equals = 0;
	while (role < ROLES && strcmp(role_names[role], part)) role++;
	if (role == ROLES) return err_set(r->e, ERR_FORMAT, "columns: there is no role '%s'; there are prompt, completion, chosen, rejected, a, b, label, text, answer, key, person, strength, criterion", part);
	c->at[role] = find_column(header, equals + 1);
	if (c->at[role] == NONE) return err_set(r->e, ERR_FORMAT, "%s: its header has no column '%s'", r->files[r->file], equals + 1);
	snprintf(c->name[role], COLUMN_BYTES, "%s", equals + 1);
	return 0;
}

static int take_columns(struct data_reader *r, const struct data_rows *header, struct columns *c)
{
	char list[1024], *at = list, *part;
	for (int i = 0; i < ROLES; i++) c->at[i] = NONE;
	if (!r->o->columns || !r->o->columns[0]) {
		for (int i = 0; i < ROLES; i++) {
			c->at[i] = find_column(header, role_names[i]);
			snprintf(c->name[i], COLUMN_BYTES, "%s", role_names[i]);
		}
	} else {
		if (strlen(r->o->columns) >= sizeof list) return err_set(r->e, ERR_RANGE, "columns: the list is longer than %zu bytes", sizeof list - 1);
		strcpy(list, r->o->columns);
		while ((part = strsep(&at, ","))) {
			part += strspn(part, " \t");
			for (size_t n = strlen(part); n && strchr(" \t", part[n - 1]); n--) part[n - 1] = 0;
			int rc = *part ? take_part(r, header, c, part) : 0;
			if (rc < 0) return rc;
		}
	}
	const int *is = c->at;
	int pair = (is[CHOSEN] != NONE && is[REJECTED] != NONE) || (is[A] != NONE && is[B] != NONE && is[LABEL] != NONE);
	if (is[TEXT] != NONE || (is[PROMPT] != NONE && (pair || (is[CHOSEN] == NONE && is[A] == NONE)))) return 0;
	return err_set(r->e, ERR_FORMAT, "%s: which columns are prompt and chosen and rejected (or a, b and label, or completion, or text)? Say it by columns, as in "
		       "\"prompt=question, chosen=better, rejected=worse\"", r->files[r->file]);
}

/* The file's name without folder and endings, cut at its last underscore when only the topic is asked for. */
static const char *file_words(struct data_reader *r, int topic)
{
	const char *path = r->files[r->file], *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *out = arena_must(r->arena, 2 * strlen(name) + 2, 1), *at = out;
	size_t n = strcspn(name, ".");
	const char *cut = topic ? memrchr(name, '_', n) : NULL;
	for (size_t i = 0; i < n && name + i != cut; i++) {
		char c = name[i] == '-' ? ' ' : name[i];
		if (c == '_') {
			while (at > out && at[-1] == ' ') at--;
			*at++ = ':';
			c = ' ';
		}
		*at++ = c;
	}
	while (at > out && at[-1] == ' ') at--;
	strcpy(at, topic ? "" : "\n");
	return out;
}

static const char *value(struct data_reader *r, const struct data_rows *s, const struct columns *c, enum role role)
{
	int at = c->at[role];
	if (at == OF_FILE || at == OF_TOPIC) return file_words(r, at == OF_TOPIC);
	return at < 0 || at >= s->fields ? NULL : s->field[at];
}

/* Which of a and b is better: 1, 2, 0 a tie, -1 it does not say. */
static int label_of(const struct columns *c, const char *v)
{
	if (!strcmp(v, c->name[A]) || !strcasecmp(v, "a") || !strcmp(v, "1")) return 1;
	if (!strcmp(v, c->name[B]) || !strcasecmp(v, "b") || !strcmp(v, "2")) return 2;
	return !strcasecmp(v, "tie") || !strcmp(v, "=") ? 0 : -1;
}

static int take_pair(struct data_reader *r, const struct data_rows *s, const struct columns *c, struct data_record *x)
{
	x->kind = DATA_GROUP;
	x->count = 2;
	x->rank[0] = 1;
	x->rank[1] = 2;
	if (c->at[CHOSEN] != NONE) {
		x->completion[0] = value(r, s, c, CHOSEN);
		x->completion[1] = value(r, s, c, REJECTED);
	} else {
		const char *label = value(r, s, c, LABEL);
		int better = label_of(c, label);
		if (better < 0) return data_bad(r, "the label names neither of the two", label);
		x->completion[0] = value(r, s, c, better == 2 ? B : A);
		x->completion[1] = value(r, s, c, better == 2 ? A : B);
		if (better == 0) x->rank[1] = 1;
	}
	if (!strcmp(x->completion[0], x->completion[1])) return data_bad(r, "chosen and rejected are the same", NULL);
	x->person = value(r, s, c, PERSON);
	x->strength = value(r, s, c, STRENGTH);
	x->criterion = value(r, s, c, CRITERION);
	return data_emit(r, x);
}

static int take_row(struct data_reader *r, const struct data_rows *s, const struct columns *c, int fields)
{
	int rc = 0;
	r->line = s->line;
	if (s->fault) return data_bad(r, s->fault, NULL);
	if (s->fields != fields) return data_bad(r, "it has not as many fields as the header", NULL);
	for (int i = 0; i < s->fields; i++)
		if (!data_text_ok(r, s->field[i], s->length[i], &rc)) return rc;
	struct data_record x = {.prompt = value(r, s, c, PROMPT), .answer = value(r, s, c, ANSWER), .key = value(r, s, c, KEY)};
	if (c->at[TEXT] != NONE) {
		x = (struct data_record){.kind = DATA_TEXT, .prompt = "", .count = 1, .completion = {value(r, s, c, TEXT)}, .key = x.key};
		return data_emit(r, &x);
	}
	if (!x.prompt[0]) return data_bad(r, "the prompt is empty", NULL);
	if (c->at[CHOSEN] != NONE || c->at[A] != NONE) return take_pair(r, s, c, &x);
	x.kind = DATA_PROMPT;
	if (c->at[COMPLETION] != NONE) {
		x.kind = DATA_EXAMPLE;
		x.count = 1;
		x.completion[0] = value(r, s, c, COMPLETION);
	}
	return data_emit(r, &x);
}

static int read_rows(struct data_reader *r, struct data_source *in, char separator)
{
	struct data_rows s = {.separator = separator};
	struct columns c;
	int rc = 0;
	if (!data_rows_next(&s, in)) goto out;
	int fields = s.fields;
	TRY(take_columns(r, &s, &c));
	while (rc == 0 && data_rows_next(&s, in)) {
		arena_reset(r->arena);
		rc = take_row(r, &s, &c, fields);
	}
out:
	data_rows_free(&s);
	return rc;
}

static int read_csv(struct data_reader *r, struct data_source *in)
{
	return read_rows(r, in, ',');
}

static int read_tsv(struct data_reader *r, struct data_source *in)
{
	return read_rows(r, in, '\t');
}

const struct data_format data_format_csv = {{"csv", "CSV with a header; columns say which is what"}, .read_file = read_csv};
const struct data_format data_format_tsv = {{"tsv", "the same with tabs, without quoting"}, .read_file = read_tsv};
