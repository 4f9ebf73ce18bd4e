/* What the files about labels share; see labels.h. Statements stand
 * where they are used. */
#ifndef TENFOLD_STORE_LABELS_INTERNAL_H
#define TENFOLD_STORE_LABELS_INTERNAL_H

#include "store/internal.h"
#include "store/labels.h"

#include <sqlite3.h>

enum { LABELS_STATEMENTS = 96 }; /* more than there are; what has no room is prepared each time */

struct labels {
	struct store base; /* connection, path, lock */
	struct labels_turns *turns;   /* labels_turns.c: what the handle remembers */
	struct labels_counts *counts;
	struct labels_statement {
		const char *sql;
		sqlite3_stmt *q;
		int busy;
	} statement[LABELS_STATEMENTS];
};

/* SQL: assignments of a person in a campaign so far, off the place of the last one. */
#define LABELS_PLACES(campaign, person)                                                                                                    \
	"coalesce((SELECT s.place + 1 FROM assignments s CROSS JOIN items i ON i.item = s.item WHERE s.person = " person                   \
	" AND i.campaign = " campaign " ORDER BY s.assignment DESC LIMIT 1), 0)"

/* An item was taken, or is wanted again. */
void labels_turns_touch(struct labels *l, int64_t item);
/* Any item may be wanted again. */
void labels_turns_unsettle(struct labels *l);
/* There are other items. */
void labels_turns_forget(struct labels *l);
void labels_state_free(struct labels *l);

/* Prepares and binds, one letter of `types` an argument: i int64_t, r double, t const char * (NULL: NULL), b const void * and
 * size_t. sql lives as long as the program: statements are kept by its address, and prepared once. */
int labels_sql(struct labels *l, sqlite3_stmt **q, struct err *e, const char *sql, const char *types, ...);
/* The end of what labels_sql began; q NULL is legal. */
void labels_finish(struct labels *l, sqlite3_stmt *q);
/* 1: a row; 0: the end; negative: an error. */
int labels_step(struct labels *l, sqlite3_stmt *q, struct err *e);
/* A whole statement without rows; it is finished. *changed (may be NULL): rows changed. */
int labels_done(struct labels *l, sqlite3_stmt *q, int *changed, struct err *e);
static inline const char *labels_text(sqlite3_stmt *q, int column)
{
	const char *s = (const char *)sqlite3_column_text(q, column);
	return s ? s : "";
}
static inline const char *labels_text_or_null(sqlite3_stmt *q, int column) { return (const char *)sqlite3_column_text(q, column); }
void labels_copy(char *out, size_t bytes, const char *text);
/* "[3,0,7]" to bytes and back. Reading returns how many, or -1. */
void labels_list_write(const uint8_t *v, uint32_t n, char *out, size_t bytes);
int labels_list_read(const char *text, uint8_t v[GROUP_MAX]);
int labels_text_check(const char *text, const char *what, struct err *e);
int labels_journal(struct labels *l, const char *what, int64_t subject, const char *detail, struct err *e);

/* Hashes of an item's texts as they are now: of the prompt, then of the candidates. */
struct labels_hashed {
	int64_t item; /* 0: not filled */
	uint32_t size;
	char hash[1 + GROUP_MAX][HASH_HEX];
};
enum { LABELS_LIST = GROUP_MAX * 4 + 4, LABELS_HASHES = (GROUP_MAX + 1) * (HASH_HEX + 3) + 4 };
int labels_hash_item(struct labels *l, int64_t item, struct labels_hashed *h, struct err *e);
/* ["hash of the prompt", "hash of shown[0]", …]: how an ask keeps what was seen. */
int labels_hashes_write(const struct labels_hashed *h, const uint8_t *shown, uint32_t count, char out[LABELS_HASHES], struct err *e);

#endif
