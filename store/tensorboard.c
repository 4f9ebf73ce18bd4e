/* Export as TensorBoard event files, written by hand: no protobuf library.
 *
 * A file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h):
 *   uint64 length, uint32 masked_crc(length), bytes, uint32 masked_crc(bytes)
 * little-endian, with CRC-32C (Castagnoli) masked as ((c >> 15 | c << 17) +
 * 0xa282ead8). Each record is an Event (tensorflow/core/util/event.proto):
 *   1 wall_time double, 2 step int64, 3 file_version string, 5 summary message
 * the first with file_version "brain.Event:2", the others with a Summary of one
 * Value { 1 tag string, 2 simple_value float }. One folder per stage, as
 * TensorBoard takes a folder for a run. The wall time is that of the step's
 * metrics (timing/wall). The file appears whole: temporary name, then rename. */
#include "store/internal.h"

#include "core/base/fs.h"

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <unistd.h>

uint32_t store_crc32c(const void *data, size_t bytes)
{
	const unsigned char *p = data;
	uint32_t c = 0xffffffffu;
	for (size_t i = 0; i < bytes; i++) {
		c ^= p[i];
		for (int k = 0; k < 8; k++) c = c >> 1 ^ (0x82f63b78u & -(c & 1u)); /* a record is some 50 bytes: no table needed */
	}
	return ~c;
}

static uint32_t crc_masked(const void *data, size_t bytes)
{
	uint32_t c = store_crc32c(data, bytes);
	return (c >> 15 | c << 17) + 0xa282ead8u;
}

/* ---- protobuf ---- */

struct message {
	unsigned char data[512];
	size_t n;
};

static void put_bytes(struct message *m, const void *p, size_t n)
{
	CHECK(m->n + n <= sizeof m->data, "event of more than %zu bytes", sizeof m->data); /* tags are cut to 255 */
	memcpy(m->data + m->n, p, n);
	m->n += n;
}

static void put_varint(struct message *m, uint64_t v)
{
	unsigned char b[10];
	size_t n = 0;
	for (; v >= 128; v >>= 7) b[n++] = (unsigned char)(v | 128);
	b[n++] = (unsigned char)v;
	put_bytes(m, b, n);
}

/* wire: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes */
static void put_tag(struct message *m, unsigned field, unsigned wire)
{
	put_varint(m, field << 3 | wire);
}

static void put_field_bytes(struct message *m, unsigned field, const void *p, size_t n)
{
	put_tag(m, field, 2);
	put_varint(m, n);
	put_bytes(m, p, n);
}

static void put_wall_time(struct message *m, double t)
{
	put_tag(m, 1, 1);
	put_bytes(m, &t, sizeof t);
}

static void record_write(FILE *f, const struct message *m)
{
	uint64_t n = m->n;
	uint32_t head = crc_masked(&n, sizeof n), body = crc_masked(m->data, m->n);
	fwrite(&n, sizeof n, 1, f);
	fwrite(&head, sizeof head, 1, f);
	fwrite(m->data, 1, m->n, f);
	fwrite(&body, sizeof body, 1, f);
}

static void version_write(FILE *f, double wall)
{
	struct message event = { .n = 0 };
	put_wall_time(&event, wall);
	put_field_bytes(&event, 3, "brain.Event:2", 13);
	record_write(f, &event);
}

static void scalar_write(FILE *f, double wall, uint64_t step, const char *prefix, const char *name, float value)
{
	struct message event = { .n = 0 }, summary = { .n = 0 }, entry = { .n = 0 };
	char tag[256];
	int n = snprintf(tag, sizeof tag, "%s%s", prefix, name);
	put_field_bytes(&entry, 1, tag, n < (int)sizeof tag ? (size_t)n : sizeof tag - 1);
	put_tag(&entry, 2, 5);
	put_bytes(&entry, &value, sizeof value);
	put_field_bytes(&summary, 1, entry.data, entry.n);
	put_wall_time(&event, wall);
	put_tag(&event, 2, 0);
	put_varint(&event, step);
	put_field_bytes(&event, 5, summary.data, summary.n);
	record_write(f, &event);
}

/* ---- files ---- */

enum { SCALARS_START, SCALARS_METRICS, SCALARS_EVALS, SCALARS };

/* The first time of a stage; then (wall time, step, prefix, name, value) of its metrics and of its evaluations. */
static const char *const scalars_sql[SCALARS] = {
	"SELECT min(t) FROM (SELECT min(value) AS t FROM metrics WHERE stage=?1 AND name='timing/wall' UNION ALL "
	"SELECT min(time) FROM evaluations WHERE stage=?1)",
	"SELECT w.value, m.step, '', m.name, m.value FROM metrics m JOIN metrics w ON w.stage=m.stage AND w.step=m.step AND w.name='timing/wall' "
	"WHERE m.stage=?1 AND m.name<>'timing/wall' ORDER BY m.step, m.name",
	"SELECT time, step, 'eval/', name, value FROM evaluations WHERE stage=?1 ORDER BY step, name, n",
};

static int scalars_write(struct store *s, const char *sql, const char *stage, FILE *f, struct err *e)
{
	sqlite3_stmt *q;
	int got, rc = store_sql_prepare(s, &q, sql, e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	while ((got = sqlite3_step(q)) == SQLITE_ROW) {
		double value = sqlite3_column_type(q, 4) == SQLITE_NULL ? NAN : sqlite3_column_double(q, 4);
		scalar_write(f, sqlite3_column_double(q, 0), (uint64_t)sqlite3_column_int64(q, 1), (const char *)sqlite3_column_text(q, 2),
		             (const char *)sqlite3_column_text(q, 3), (float)value);
	}
	if (got != SQLITE_DONE) rc = store_sql_error(s, got, e, "cannot read the metrics");
	sqlite3_finalize(q);
	return rc;
}

/* *start: seconds since 1970, 0 when the stage has nothing to show. */
static int stage_start(struct store *s, const char *stage, double *start, struct err *e)
{
	sqlite3_stmt *q;
	int rc = store_sql_prepare(s, &q, scalars_sql[SCALARS_START], e);
	if (rc < 0) return rc;
	sqlite3_bind_text(q, 1, stage, -1, SQLITE_STATIC);
	int got = sqlite3_step(q);
	*start = got == SQLITE_ROW ? sqlite3_column_double(q, 0) : 0;
	if (got != SQLITE_ROW) rc = store_sql_error(s, got, e, "cannot read the metrics");
	sqlite3_finalize(q);
	return rc;
}

struct board {
	struct store *s;
	const char *dir;
	struct err *e;
};

static int stage_write(void *ctx, const struct store_stage *r)
{
	struct board *b = ctx;
	char folder[PATH_MAX], path[PATH_MAX + 80], temporary[PATH_MAX + 80];
	double start;
	FILE *f = NULL;
	int rc;
	TRY(stage_start(b->s, r->stage, &start, b->e));
	if (start == 0) goto out;
	if (snprintf(folder, sizeof folder, "%s/%s", b->dir, r->stage) >= (int)sizeof folder) {
		rc = err_set(b->e, ERR_RANGE, "path too long: %s", b->dir);
		goto out;
	}
	TRY(fs_mkdirs(folder, b->e));
	snprintf(path, sizeof path, "%s/events.out.tfevents.%lld.tenfold", folder, (long long)start);
	snprintf(temporary, sizeof temporary, "%s/temporary.%ld", folder, (long)getpid()); /* a name that TensorBoard does not read */
	f = fopen(temporary, "wbe");
	if (!f) {
		rc = err_set(b->e, ERR_IO, "cannot create %s: %s", temporary, strerror(errno));
		goto out;
	}
	version_write(f, start);
	for (int k = SCALARS_METRICS; k < SCALARS && rc == 0; k++) rc = scalars_write(b->s, scalars_sql[k], r->stage, f, b->e);
	int bad = ferror(f), closed = fclose(f);
	if (rc == 0 && (bad || closed != 0 || rename(temporary, path) != 0)) rc = err_set(b->e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
	if (rc < 0) unlink(temporary);
out:
	return rc;
}

int store_export_tensorboard(struct store *s, const char *dir, struct err *e)
{
	struct board b = { s, dir, e };
	return store_each_stage(s, stage_write, &b, e);
}
