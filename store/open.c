/* Opening: the lock, the connection's settings, creating, checking, migrating.
 *
 * One writing connection per file: SQLite before 3.51.3 can corrupt a WAL
 * database when two connections write or checkpoint at once, so the writer takes
 * a flock beside the file and readers never checkpoint. The lock goes with the
 * process, so nothing stale is left by kill -9. mmap is off (a truncated file
 * would be SIGBUS), durability is WAL+NORMAL: power loss may take the last
 * steps, which are then generated again.
 *
 * Nothing is changed in a file before it has been recognised: another program's
 * database, a newer version and a damaged file stay as they are. */
#include "store/internal.h"

#include "core/base/fault.h"
#include "core/base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern const unsigned char store_schema_sql[]; /* NUL-terminated; made from schema.sql */
extern const unsigned long store_schema_sql_bytes;

enum { CHECK_LIMIT_MIB = 256 };

/* 2: what the reference says of the tokens. Readers take an older file as one that has none. */
static const struct migration store_migrations[] = {
	{ 1, "CREATE TABLE reference_logprobs (stage TEXT NOT NULL, step INTEGER NOT NULL, slot INTEGER NOT NULL, "
	     "logprobs BLOB NOT NULL CHECK (length(logprobs) % 4 = 0), PRIMARY KEY (stage, step, slot), "
	     "FOREIGN KEY (stage, step, slot) REFERENCES groups (stage, step, slot)) STRICT;"
	     "CREATE TRIGGER reference_logprobs_no_delete BEFORE DELETE ON reference_logprobs BEGIN SELECT raise(ABORT, 'reference_logprobs is immutable'); END;"
	     "CREATE TRIGGER reference_logprobs_no_update BEFORE UPDATE ON reference_logprobs BEGIN SELECT raise(ABORT, 'reference_logprobs is immutable'); END" },
	{ 0, NULL },
};

const struct store_kind store_kind_run = { STORE_APPLICATION, STORE_VERSION, 1, "a run", (const char *)store_schema_sql, "NORMAL", store_migrations };

double store_wall_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- small SQL ---- */

static int sql_code(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB: return ERR_FORMAT;
	case SQLITE_NOMEM: return ERR_MEMORY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_CONSTRAINT:
	case SQLITE_ERROR: return ERR_STATE;
	case SQLITE_TOOBIG:
	case SQLITE_RANGE: return ERR_RANGE;
	default: return ERR_IO;
	}
}

int store_sql_error(struct store *s, int rc, struct err *e, const char *what)
{
	const char *advice = "";
	switch (rc & 0xff) {
	case SQLITE_CORRUPT: advice = "; the file is damaged: it can still be opened read-only to export what is left"; break;
	case SQLITE_NOTADB: advice = "; this is not a SQLite database, or its first page is damaged"; break;
	case SQLITE_FULL: advice = "; free some disk space and resume"; break;
	case SQLITE_READONLY: advice = "; check the permissions of the file and its folder"; break;
	default: break;
	}
	return err_set(e, sql_code(rc), "%s: %s: %s (SQLite %d)%s", s->path, what, s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc), rc, advice);
}

int store_sql_run(struct store *s, const char *sql, struct err *e)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : store_sql_error(s, rc, e, sql == s->kind->schema ? "schema" : sql);
}

int store_sql_prepare(struct store *s, struct sqlite3_stmt **q, const char *sql, struct err *e)
{
	int rc = sqlite3_prepare_v2(s->db, sql, -1, q, NULL);
	return rc == SQLITE_OK ? 0 : store_sql_error(s, rc, e, sql);
}

int store_sql_int(struct store *s, const char *sql, int64_t *value, struct err *e)
{
	sqlite3_stmt *q;
	int rc = store_sql_prepare(s, &q, sql, e);
	if (rc < 0) return rc;
	int got = sqlite3_step(q);
	*value = got == SQLITE_ROW && sqlite3_column_type(q, 0) != SQLITE_NULL ? sqlite3_column_int64(q, 0) : -1;
	if (got != SQLITE_ROW && got != SQLITE_DONE) rc = store_sql_error(s, got, e, sql);
	sqlite3_finalize(q);
	return rc;
}

/* ---- lock ---- */

static int lock_take(struct store *s, struct err *e)
{
	char path[PATH_MAX], owner[32] = "";
	if (snprintf(path, sizeof path, "%s.lock", s->path) >= (int)sizeof path) return err_set(e, ERR_RANGE, "path too long: %s", s->path);
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (s->lock_fd < 0) return err_set(e, ERR_IO, "cannot open the lock %s: %s", path, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		int why = errno;
		ssize_t n = pread(s->lock_fd, owner, sizeof owner - 1, 0);
		if (why != EWOULDBLOCK) return err_set(e, ERR_IO, "cannot lock %s: %s", path, strerror(why));
		return err_set(e, ERR_STATE, "%s is being written by process %ld: %s has one writer; stop that process or wait for it", s->path,
		               n > 0 ? atol(owner) : 0, s->kind->what);
	}
	int n = snprintf(owner, sizeof owner, "%ld\n", (long)getpid());
	if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, owner, (size_t)n, 0) != n)
		return err_set(e, ERR_IO, "cannot write the lock %s: %s", path, strerror(errno));
	return 0;
}

/* ---- connection ---- */

/* "file:" URI of a path that nothing will change while it is read. */
static int uri_immutable(const char *path, char *out, size_t size)
{
	size_t at = (size_t)snprintf(out, size, "file:");
	for (const char *p = path; *p; p++) {
		if (at + 24 > size) return -1;
		if (strchr("?#%", *p)) at += (size_t)snprintf(out + at, size - at, "%%%02X", (unsigned char)*p);
		else out[at++] = *p;
	}
	snprintf(out + at, size - at, "?immutable=1");
	return 0;
}

static int connect_file(struct store *s, const char *name, int flags, struct err *e)
{
	int rc = sqlite3_open_v2(name, &s->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK) return store_sql_error(s, rc, e, "cannot open");
	sqlite3_busy_timeout(s->db, 5000);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
	if (!s->writer) {
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
		sqlite3_limit(s->db, SQLITE_LIMIT_ATTACHED, 0);
	}
	return store_sql_run(s, "PRAGMA mmap_size=0; PRAGMA cell_size_check=1; PRAGMA temp_store=MEMORY", e);
}

/* Reading needs the shared-memory file beside a WAL database; where the folder cannot be written and no WAL is left over,
 * the file cannot change either, and is read as it is. */
static int connect_reader(struct store *s, struct err *e)
{
	char name[PATH_MAX * 2], wal[PATH_MAX];
	struct stat st;
	int64_t tables;
	int rc = connect_file(s, s->path, SQLITE_OPEN_READONLY, e);
	if (rc < 0) return rc;
	rc = store_sql_int(s, "SELECT count(*) FROM sqlite_schema", &tables, e);
	int code = sqlite3_errcode(s->db) & 0xff;
	if (rc == 0 || (code != SQLITE_CANTOPEN && code != SQLITE_READONLY)) return rc;
	snprintf(wal, sizeof wal, "%s-wal", s->path);
	if ((stat(wal, &st) == 0 && st.st_size > 0) || uri_immutable(s->path, name, sizeof name) < 0) return rc;
	sqlite3_close(s->db);
	s->db = NULL;
	return connect_file(s, name, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, e);
}

/* ---- version ---- */

int store_check(struct store *s, struct err *e)
{
	sqlite3_stmt *q;
	int rc = store_sql_prepare(s, &q, "PRAGMA quick_check(1)", e);
	if (rc < 0) return rc;
	int got = sqlite3_step(q);
	const char *text = got == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
	if (got != SQLITE_ROW) rc = store_sql_error(s, got, e, "cannot check");
	else if (!text || strcmp(text, "ok"))
		rc = err_set(e, ERR_FORMAT, "%s is damaged (%s): it is left as it is; open it read-only to export what is left, and start a new run folder",
		             s->path, text ? text : "no answer");
	sqlite3_finalize(q);
	return rc;
}

static int schema_create(struct store *s, struct err *e)
{
	char ids[96];
	snprintf(ids, sizeof ids, "PRAGMA application_id=%d; PRAGMA user_version=%d", s->kind->application, s->kind->version);
	int rc;
	TRY(store_sql_run(s, "PRAGMA journal_mode=WAL", e));
	TRY(store_sql_run(s, "BEGIN IMMEDIATE", e));
	TRY(store_sql_run(s, s->kind->schema, e));
	TRY(store_sql_run(s, ids, e));
	FAULT_POINT("store.within_create", "the tables of a new database are made, before COMMIT");
	TRY(store_sql_run(s, "COMMIT", e));
	FAULT_POINT("store.after_create", "a new database has its tables and nothing else");
out:
	if (rc < 0 && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* A complete copy beside the file, on the disk before anything is changed. */
static int backup_make(struct store *s, int version, struct err *e)
{
	char path[PATH_MAX], sql[PATH_MAX * 2 + 32], dir[PATH_MAX];
	if (snprintf(path, sizeof path, "%s.backup-v%d", s->path, version) >= (int)sizeof path)
		return err_set(e, ERR_RANGE, "path too long: %s", s->path);
	unlink(path); /* of a migration that was cut short: the database is still the old one */
	sqlite3_snprintf((int)sizeof sql, sql, "VACUUM INTO %Q", path);
	int rc = store_sql_run(s, sql, e);
	if (rc < 0) return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int bad = fd < 0 || fsync(fd) != 0;
	if (fd >= 0) close(fd);
	if (bad) return err_set(e, ERR_IO, "cannot sync the backup %s: %s", path, strerror(errno));
	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (slash) slash[slash == dir] = 0;
	return fs_sync_dir(slash ? dir : ".", e);
}

int store_migrate(struct store *s, int from, int to, const struct migration *list, struct err *e)
{
	char version[48];
	int rc;
	TRY(backup_make(s, from, e));
	TRY(store_sql_run(s, "PRAGMA foreign_keys=0; BEGIN IMMEDIATE", e));
	for (int v = from; v < to; v++) {
		const struct migration *m = list;
		while (m->sql && m->from != v) m++;
		if (!m->sql) {
			rc = err_set(e, ERR_STATE, "%s has schema version %d, and this program knows no way from it to version %d", s->path, v, v + 1);
			goto out;
		}
		TRY(store_sql_run(s, m->sql, e));
	}
	snprintf(version, sizeof version, "PRAGMA user_version=%d; COMMIT", to);
	TRY(store_sql_run(s, version, e));
	rc = store_sql_run(s, "PRAGMA foreign_keys=1", e);
out:
	if (rc < 0 && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* Recognises the file: *version of a database of its kind, or -1 for an empty one. */
static int schema_identify(struct store *s, int64_t *version, struct err *e)
{
	int64_t application, tables;
	int rc;
	TRY(store_sql_int(s, "PRAGMA application_id", &application, e));
	TRY(store_sql_int(s, "PRAGMA user_version", version, e));
	TRY(store_sql_int(s, "SELECT count(*) FROM sqlite_schema", &tables, e));
	if (application == 0 && *version == 0 && tables == 0) *version = -1;
	else if (application != s->kind->application)
		rc = err_set(e, ERR_FORMAT, "%s is a SQLite database of another program or kind (application id %lld): choose another path", s->path,
		             (long long)application);
	else if (*version > s->kind->version)
		rc = err_set(e, ERR_STATE, "%s has schema version %lld, this program knows up to %d: use a newer tenfold", s->path,
		             (long long)*version, s->kind->version);
out:
	return rc;
}

/* ---- open and close ---- */

static int statements_prepare(struct store *s, struct err *e)
{
	char sql[STORE_SQL];
	for (int t = 0; t < TABLE_COUNT; t++) {
		store_table_insert_sql(&store_tables[t], sql);
		int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->insert[t], NULL);
		store_table_select_sql(&store_tables[t], sql);
		if (rc == SQLITE_OK) rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->select[t], NULL);
		if (rc != SQLITE_OK) return store_sql_error(s, rc, e, store_tables[t].name);
	}
	return 0;
}

int store_file_write(struct store *s, struct err *e)
{
	struct stat st;
	int64_t version;
	char settings[160];
	int rc;
	if (lstat(s->path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(e, ERR_IO, "%s is not a regular file (a link, a folder or a device): nothing is written through it", s->path);
	TRY(lock_take(s, e));
	TRY(connect_file(s, s->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e));
	TRY(schema_identify(s, &version, e));
	if (version < 0) TRY(schema_create(s, e));
	else if (stat(s->path, &st) == 0 && st.st_size <= (off_t)CHECK_LIMIT_MIB << 20) TRY(store_check(s, e));
	snprintf(settings, sizeof settings, "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA foreign_keys=1; PRAGMA recursive_triggers=1",
	         s->kind->synchronous);
	TRY(store_sql_run(s, settings, e));
	if (version >= 0 && version < s->kind->version) TRY(store_migrate(s, (int)version, s->kind->version, s->kind->migrations, e));
out:
	return rc;
}

static int open_writer(struct store *s, const char *stage, struct err *e)
{
	int rc;
	TRY(store_file_write(s, e));
	TRY(statements_prepare(s, e));
	rc = store_set_stage(s, stage ? stage : "ppo", e);
out:
	return rc;
}

int store_file_read(struct store *s, struct err *e)
{
	if (!fs_exists(s->path)) return err_set(e, ERR_NOT_FOUND, "%s: no such file; %s writes it at its first start", s->path, s->kind->what);
	int rc;
	TRY(connect_reader(s, e));
	TRY(schema_identify(s, &s->version, e));
	if (s->version < 0) rc = err_set(e, ERR_NOT_FOUND, "%s is empty: nothing has been written to it yet", s->path);
	else if (s->version < s->kind->readable)
		rc = err_set(e, ERR_STATE, "%s has the older schema version %lld: start %s on it once, which migrates it to version %d", s->path,
		             (long long)s->version, s->kind->what, s->kind->version);
	else rc = store_sql_run(s, "PRAGMA query_only=1", e);
out:
	return rc;
}

int store_open(struct store **out, const char *path, const struct store_options *o, struct err *e)
{
	*out = NULL;
	struct store *s = calloc(1, sizeof *s);
	char *copy = strdup(path);
	if (!s || !copy) {
		free(s);
		free(copy);
		return err_set(e, ERR_MEMORY, "no memory to open %s", path);
	}
	s->path = copy;
	s->kind = &store_kind_run;
	s->lock_fd = -1;
	s->writer = o->writer;
	int rc = s->writer ? open_writer(s, o->stage, e) : store_file_read(s, e);
	if (rc < 0) {
		store_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_file_close(struct store *s)
{
	sqlite3_close(s->db);
	if (s->lock_fd >= 0) close(s->lock_fd); /* after the connection: closing it writes */
	free(s->path);
}

void store_close(struct store *s)
{
	if (!s) return;
	if (s->in_step) store_step_abort(s);
	for (int t = 0; t < TABLE_COUNT; t++) {
		sqlite3_finalize(s->insert[t]);
		sqlite3_finalize(s->select[t]);
	}
	store_file_close(s);
	free(s);
}
