/* Exports and documents: CSV, JSONL and event files are parsed back by readers
 * written here; every query of docs/schema.md runs on a filled database and
 * answers; every table, view and column has its place in that document. */
#include "tests/store_kit.h"

#include "store/internal.h"

#include <dirent.h>

/* ---- documents ---- */

static int row_count(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)names;
	(void)values;
	*(int *)ctx += columns > 0;
	return 0;
}

/* Rows of a query; -1 when it is refused. */
static int query_rows(struct store *s, const char *sql)
{
	struct err e;
	int n = 0;
	int rc = store_query(s, sql, row_count, &n, &e);
	if (rc < 0) print_error("%s\n", e.msg);
	return rc < 0 ? -1 : n;
}

static char *document_read(void)
{
	char *text;
	size_t bytes;
	struct err e;
	kit_ok(fs_read(TENFOLD_SOURCE "/docs/schema.md", 1 << 20, &text, &bytes, &e), &e);
	return text;
}

static void test_document_queries(void **state)
{
	struct kit *k = *state;
	int queries = 0;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	assert_int_equal(query_rows(s, "SELECT nonsense"), -1); /* the checks below can fail */
	assert_int_equal(query_rows(s, "SELECT * FROM steps WHERE step=99"), 0);
	char *text = document_read();
	for (char *at = text; (at = strstr(at, "```sql\n")); queries++) {
		char *end = strstr(at += 7, "\n```");
		assert_non_null(end);
		*end = 0;
		if (query_rows(s, at) < 1) fail_msg("this query of docs/schema.md gives no answer:\n%s", at);
		at = end + 1;
	}
	assert_true(queries >= 10);
	free(text);
	store_close(s);
}

static int column_described(void *ctx, int columns, const char *const *names, const char *const *values)
{
	(void)columns;
	(void)names;
	char heading[80];
	int view = !strcmp(values[2], "view");
	snprintf(heading, sizeof heading, view ? "| %s |" : "### %s\n", values[0]);
	char *from = strstr(ctx, heading);
	if (!from) fail_msg("docs/schema.md does not describe %s", values[0]);
	const char *end = strstr(from + 1, view ? "\n" : "\n##");
	const char *at = strstr(from, values[1]);
	if (!at || (end && at > end)) fail_msg("docs/schema.md does not describe %s.%s", values[0], values[1]);
	return 0;
}

static void test_document_columns(void **state)
{
	struct kit *k = *state;
	struct err e;
	kit_make(k->path, 1, 0);
	struct store *s = kit_open(k->path, 0);
	char *text = document_read();
	kit_ok(store_query(s, "SELECT t.name, c.name, t.type FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type IN ('table', 'view')",
	                   column_described, text, &e), &e);
	free(text);
	store_close(s);
}

/* ---- text ---- */

/* Runs an export into memory. */
static char *exported(struct store *s, int format, const char *source, uint64_t *pairs)
{
	char *text;
	size_t bytes;
	struct err e;
	FILE *f = open_memstream(&text, &bytes);
	assert_non_null(f);
	if (format < 0) kit_ok(store_export_metrics(s, f, &e), &e);
	else kit_ok(store_export_pairs(s, (enum store_pairs_format)format, "ppo", source, f, pairs, &e), &e);
	fclose(f);
	return text;
}

static int lines(const char *text)
{
	int n = 0;
	for (; *text; text++) n += *text == '\n';
	return n;
}

/* CSV by RFC 4180: records, each of `fields` fields; the wanted field of the wanted record goes to out. */
static int csv_parse(const char *p, int fields, int record, int field, char *out)
{
	int n = 0;
	while (*p) {
		for (int f = 0; f < fields; f++) {
			int quoted = *p == '"';
			size_t at = 0;
			for (p += quoted; *p && (quoted ? *p != '"' || p[1] == '"' : !strchr(",\r", *p)); p++) {
				if (quoted && *p == '"') p++;
				if (n == record && f == field) out[at++] = *p;
			}
			if (n == record && f == field) out[at] = 0;
			p += quoted;
			if (f + 1 < fields) assert_int_equal(*p++, ',');
		}
		assert_memory_equal(p, "\r\n", 2);
		p += 2;
		n++;
	}
	return n;
}

static void test_csv(void **state)
{
	struct kit *k = *state;
	char v[4096];
	uint64_t pairs;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	char *text = exported(s, STORE_PAIRS_CSV, NULL, &pairs);
	assert_int_equal(pairs, KIT_STEPS * (KIT_GROUPS * 45 + 3));
	assert_int_equal(csv_parse(text, 12, 1, 9, v), (int)pairs + 1);
	assert_string_equal(v, kit_prompts[0]);
	csv_parse(text, 12, 1 + 45 + 3, 9, v); /* step 0, slot 1 */
	assert_string_equal(v, kit_prompts[1]);
	csv_parse(text, 12, 1 + 3 + 45 + 45, 9, v);
	assert_int_equal(v[0], '\''); /* no formula */
	assert_string_equal(v + 1, kit_prompts[2]);
	free(text);
	text = exported(s, -1, NULL, NULL);
	assert_int_equal(csv_parse(text, 4, 4, 2, v), 1 + 3 * 2 + KIT_STEPS * 6);
	free(text);
	store_close(s);
}

/* A member of a JSON object, by SQLite's parser. */
static void json_member(struct store *s, const char *line, const char *key, char out[4096])
{
	char sql[8192];
	size_t at = (size_t)snprintf(sql, sizeof sql, "SELECT json_extract('");
	for (; *line && *line != '\n'; line++) {
		if (*line == '\'') sql[at++] = '\'';
		sql[at++] = *line;
	}
	snprintf(sql + at, sizeof sql - at, "', '$.%s')", key);
	kit_value(s, sql, out);
}

static void test_jsonl(void **state)
{
	struct kit *k = *state;
	char v[4096], sql[4096], want[4096];
	uint64_t pairs;
	int replaced = 0;
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	char *text = exported(s, STORE_PAIRS_TRL, "reward", &pairs), *hh = exported(s, STORE_PAIRS_HH, "reward", NULL), *p = text, *q = hh;
	kit_value(s, "SELECT count(*) FROM pairs WHERE source='reward' AND NOT tie", want);
	snprintf(v, sizeof v, "%llu", (unsigned long long)pairs);
	assert_string_equal(v, want);
	assert_int_equal(lines(text), pairs);
	assert_int_equal(lines(hh), pairs);
	for (uint64_t i = 0; i < pairs; i++, p = strchr(p, '\n') + 1, q = strchr(q, '\n') + 1) {
		char prompt[4096], chosen[4096], rejected[4096];
		json_member(s, p, "prompt", prompt);
		json_member(s, p, "chosen", chosen);
		json_member(s, p, "rejected", rejected);
		replaced += strstr(chosen, "\xef\xbf\xbd<b>") != NULL; /* the byte that is not UTF-8 */
		json_member(s, q, "chosen", v);
		snprintf(want, sizeof want, "\n\nHuman: %.1000s\n\nAssistant: %.1000s", prompt, chosen);
		assert_string_equal(v, want);
		if (i % 37) continue; /* the chosen one has the higher reward */
		snprintf(sql, sizeof sql, "SELECT max(a.reward) > min(b.reward) FROM candidates a, candidates b WHERE a.text='%.500s' AND b.text='%.500s'",
		         chosen, rejected);
		kit_value(s, sql, v);
		if (!strstr(chosen, "\xef\xbf\xbd") && !strstr(rejected, "\xef\xbf\xbd")) assert_string_equal(v, "1");
	}
	assert_true(replaced > 0);
	free(text);
	free(hh);
	store_close(s);
}

/* ---- event files ---- */

static uint32_t masked(const void *p, size_t n)
{
	uint32_t c = store_crc32c(p, n);
	return (c >> 15 | c << 17) + 0xa282ead8u;
}

static uint64_t varint(const unsigned char **p)
{
	uint64_t v = 0;
	for (int shift = 0;; shift += 7) {
		v |= (uint64_t)(**p & 127) << shift;
		if (!(*(*p)++ & 128)) return v;
	}
}

struct scalar {
	double wall;
	uint64_t step;
	char version[32], tag[64];
	float value;
};

/* Message of level 0 (Event), 1 (Summary), 2 (Value). */
static void message_parse(const unsigned char *p, const unsigned char *end, int level, struct scalar *out)
{
	while (p < end) {
		uint64_t tag = varint(&p), field = tag >> 3, wire = tag & 7;
		if (wire == 0) out->step = varint(&p);
		else if (wire == 1) memcpy(&out->wall, p, 8), p += 8;
		else if (wire == 5) memcpy(&out->value, p, 4), p += 4;
		else {
			uint64_t n = varint(&p);
			assert_true(wire == 2 && p + n <= end);
			if (level == 0 && field == 3) snprintf(out->version, sizeof out->version, "%.*s", (int)n, (const char *)p);
			else if (level == 2) snprintf(out->tag, sizeof out->tag, "%.*s", (int)n, (const char *)p);
			else message_parse(p, p + n, level + 1, out);
			p += n;
		}
	}
	assert_ptr_equal(p, end);
}

/* Next record of an event file; 0 at the end, -1 when a checksum is wrong. */
static int record_next(const char **p, const char *end, struct scalar *out)
{
	uint64_t n;
	uint32_t crc;
	if (*p == end) return 0;
	memcpy(&n, *p, 8);
	memcpy(&crc, *p + 8, 4);
	if (crc != masked(*p, 8) || n > (uint64_t)(end - *p) - 16) return -1;
	memcpy(&crc, *p + 12 + n, 4);
	if (crc != masked(*p + 12, n)) return -1;
	*out = (struct scalar){ 0 };
	message_parse((const unsigned char *)*p + 12, (const unsigned char *)*p + 12 + n, 0, out);
	*p += n + 16;
	return 1;
}

static char *event_file_read(const char *folder, size_t *bytes)
{
	char path[512] = "", *data;
	struct err e;
	int files = 0;
	DIR *d = opendir(folder);
	assert_non_null(d);
	for (struct dirent *f; (f = readdir(d));)
		if (f->d_name[0] != '.') snprintf(path, sizeof path, "%s/%s", folder, f->d_name), files++;
	closedir(d);
	assert_int_equal(files, 1);
	assert_non_null(strstr(path, "events.out.tfevents."));
	kit_ok(fs_read(path, 1 << 20, &data, bytes, &e), &e);
	return data;
}

static void test_tensorboard(void **state)
{
	struct kit *k = *state;
	struct err e;
	struct scalar r;
	char folder[128];
	size_t bytes;
	int scalars = 0, kl = 0, nan = 0, evals = 0;
	assert_int_equal(store_crc32c("123456789", 9), 0xe3069283u); /* the check value of CRC-32C */
	kit_make(k->path, KIT_STEPS, 0);
	struct store *s = kit_open(k->path, 0);
	snprintf(folder, sizeof folder, "%s/board", k->dir);
	for (int i = 0; i < 2; i++) kit_ok(store_export_tensorboard(s, folder, &e), &e); /* the second replaces the first */
	store_close(s);
	snprintf(folder, sizeof folder, "%s/board/ppo", k->dir);
	char *data = event_file_read(folder, &bytes);
	const char *p = data, *end = data + bytes;
	assert_int_equal(record_next(&p, end, &r), 1);
	assert_string_equal(r.version, "brain.Event:2");
	assert_true(r.wall > 1.6e9);
	while (record_next(&p, end, &r) == 1) {
		assert_true(r.wall > 1.6e9);
		if (!strcmp(r.tag, "objective/kl")) assert_true(r.value == (float)(0.1 * (double)r.step)), kl |= 1 << r.step;
		if (!strcmp(r.tag, "eval/pass_rate")) assert_true(r.value == (float)(0.5 + 0.1 * (double)r.step)), evals++;
		nan += isnan(r.value) != 0;
		scalars++;
	}
	assert_ptr_equal(p, end);
	assert_int_equal(scalars, KIT_STEPS * 6);
	assert_int_equal(kl, 15);
	assert_int_equal(nan, KIT_STEPS);
	assert_int_equal(evals, KIT_STEPS);
	data[20] ^= 1; /* the checksums can fail */
	p = data;
	assert_int_equal(record_next(&p, end, &r), -1);
	free(data);
	snprintf(folder, sizeof folder, "%s/board/sft", k->dir);
	free(event_file_read(folder, &bytes));
}

static void test_bench(void **state)
{
	struct kit *k = *state;
	struct store_bench b;
	struct err e;
	kit_ok(store_bench(k->dir, &b, &e), &e);
	print_message("store: %.2f ms a step of %.0f rows (worst %.2f), replay %.2f ms, %.0f rows/s, %.0f bytes a step\n", b.ms_per_step,
	              b.rows_per_step, b.ms_worst, b.ms_replay, b.rows_per_second, b.bytes_per_step);
	assert_true(b.ms_per_step > 0 && b.ms_per_step < 1000 && b.bytes_per_step > 1000);
	DIR *d = opendir(k->dir);
	for (struct dirent *f; (f = readdir(d));) assert_int_equal(f->d_name[0], '.'); /* nothing left behind */
	closedir(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_document_queries, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_document_columns, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_csv, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_jsonl, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_tensorboard, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_bench, kit_setup, kit_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
