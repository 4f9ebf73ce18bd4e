/* What the files of this room share: the handle, the description of the exact
 * tables, and cells (one value of a row).
 *
 * The tables are described once, in tables.c; inserting, comparing on replay,
 * digest and difference are driven by that description, so that a column added
 * there and in schema.sql is written, compared and hashed without further code. */
#ifndef TENFOLD_STORE_INTERNAL_H
#define TENFOLD_STORE_INTERNAL_H

#include "store/store.h"

#include <math.h>
#include <string.h>

struct sqlite3;
struct sqlite3_stmt;

enum { STORE_VERSION = 2, STORE_APPLICATION = 0x546e4664 /* "TnFd" */, STORE_COLUMNS = 12, STORE_SQL = 1024 };

enum cell_kind { CELL_INT, CELL_REAL, CELL_TEXT, CELL_I32, CELL_F32, CELL_U16 }; /* the last three: blobs of elements */

enum { COL_KEY = 1, COL_REPLAY = 2, COL_DIGEST = 4, COL_EXACT = COL_REPLAY | COL_DIGEST };

struct column {
	const char *name;
	uint8_t kind;  /* enum cell_kind */
	uint8_t flags; /* COL_KEY: names the row; COL_REPLAY: compared when put again; COL_DIGEST: in digest and difference */
};

enum table_id {
	TABLE_RUNS, TABLE_PROMPTS, TABLE_STEPS, TABLE_GROUPS, TABLE_CANDIDATES, TABLE_SCORES, TABLE_COMPARISONS, TABLE_REFERENCES,
	TABLE_METRICS, TABLE_EVENTS, TABLE_CHECKPOINTS, TABLE_EVALUATIONS, TABLE_COUNT
};

struct table {
	const char *name;
	int columns, keys; /* the keys are the first columns; where there is a stage, it is the first of them */
	int staged;        /* has a stage and a step */
	const char *exact; /* SQL condition of the rows in digest and difference; NULL: all; see also `hashed` */
	int hashed;        /* in digest and difference at all */
	struct column column[STORE_COLUMNS];
};

extern const struct table store_tables[TABLE_COUNT];

/* One value. p, n: text without its NUL, or a blob; p NULL with null 0 is an empty one. */
struct cell {
	int null;
	int64_t i;
	double d;
	const void *p;
	size_t n;
};

static inline struct cell cell_int(int64_t i) { return (struct cell){ .i = i }; }
static inline struct cell cell_text(const char *s) { return (struct cell){ .null = !s, .p = s, .n = s ? strlen(s) : 0 }; }
static inline struct cell cell_blob(const void *p, size_t n) { return (struct cell){ .p = p, .n = n }; }
static inline struct cell cell_none(void) { return (struct cell){ .null = 1 }; }
/* NaN becomes NULL, -0.0 becomes 0.0: what SQLite makes of them. */
static inline struct cell cell_real(double d) { return (struct cell){ .null = isnan(d), .d = d == 0 ? 0 : d }; }

struct migration;

/* What a file of this room is: open.c opens each kind in the same way. */
struct store_kind {
	int application, version;      /* application_id, user_version */
	int readable;                  /* the oldest version that reading understands as it is */
	const char *what;              /* "a run": who writes it, for messages */
	const char *schema;            /* SQL */
	const char *synchronous;       /* NORMAL, FULL */
	const struct migration *migrations;
};
extern const struct store_kind store_kind_run;

struct store {
	struct sqlite3 *db;
	const struct store_kind *kind;
	char *path;
	int writer, lock_fd;
	int64_t version; /* of the file that is read */
	char stage[STORE_STAGE];
	int stage_known; /* its row in stages is there */
	struct sqlite3_stmt *insert[TABLE_COUNT], *select[TABLE_COUNT]; /* writer only */
	/* the open step */
	int in_step, replay;
	uint64_t step;
	int64_t last_slot;
	int64_t groups; /* put since step_begin */
};

enum put_mode { PUT_INSERT, PUT_COMPARE, PUT_EITHER };

/* tables.c */
/* "INSERT INTO t(…) VALUES(?1,…)", "SELECT every column … WHERE keys", "SELECT digest columns … WHERE stage=?1 ORDER BY keys". */
void store_table_insert_sql(const struct table *t, char sql[STORE_SQL]);
void store_table_select_sql(const struct table *t, char sql[STORE_SQL]);
void store_table_scan_sql(const struct table *t, char sql[STORE_SQL]);
struct cell store_cell_read(struct sqlite3_stmt *q, int column, enum cell_kind kind);
int store_cell_bind(struct sqlite3_stmt *q, int at, enum cell_kind kind, const struct cell *c);
/* Whether two values are equal; if not, *element is the first differing element of a blob (-1 otherwise). */
int store_cell_equal(enum cell_kind kind, const struct cell *a, const struct cell *b, long *element);
/* Value (of the element) as short printable text. */
void store_cell_format(enum cell_kind kind, const struct cell *c, long element, char *out, size_t size);
/* "step 3, slot 2" from the key cells, without the stage. */
void store_row_format(const struct table *t, const struct cell *key, char *out, size_t size);
/* Puts one row, cells in the table's order. PUT_COMPARE: it must be there and equal. */
int store_row_put(struct store *s, enum table_id id, const struct cell *cells, enum put_mode mode, struct err *e);

/* open.c */
/* The file of s->kind at s->path: to write (with the lock; created or migrated), or to read. */
int store_file_write(struct store *s, struct err *e);
int store_file_read(struct store *s, struct err *e);
/* Closes what these opened. */
void store_file_close(struct store *s);
int store_sql_error(struct store *s, int rc, struct err *e, const char *what);
int store_sql_run(struct store *s, const char *sql, struct err *e);
int store_sql_prepare(struct store *s, struct sqlite3_stmt **q, const char *sql, struct err *e);
/* The first column of the first row as an integer; -1 in *value when there is no row or it is NULL. */
int store_sql_int(struct store *s, const char *sql, int64_t *value, struct err *e);
double store_wall_time(void);

/* writer.c */
int store_writer_check(struct store *s, struct err *e);
int store_no_step_check(struct store *s, const char *what, struct err *e);
int store_range_check(uint64_t v, const char *what, struct err *e);
int store_stage_ensure(struct store *s, struct err *e);
enum put_mode store_step_mode(const struct store *s);
void store_transaction_abort(struct store *s);
/* Ends the transaction that the caller began: commits, or rolls back when rc is an error; returns rc or the commit's. */
int store_transaction_end(struct store *s, int rc, struct err *e);
/* One row that stands alone: in the open step's transaction when there is one, else in its own. */
int store_put_alone(struct store *s, enum table_id id, const struct cell *cells, enum put_mode mode, struct err *e);
/* A count over the handle's stage and a step: SQL with ?1 and ?2. */
int store_count_rows(struct store *s, const char *sql, uint64_t step, int64_t *n, struct err *e);

/* A migration leads from version `from` to from+1; the list ends with sql NULL. */
struct migration {
	int from;
	const char *sql;
};
int store_migrate(struct store *s, int from, int to, const struct migration *list, struct err *e);

#endif
