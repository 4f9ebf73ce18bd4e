/* What the readers of data sets share: a source of lines or JSON values, and the
 * reader that a format gives its records to. A format is one file with one
 * function that turns an item into records; see data.h. */
#ifndef TENFOLD_STORE_DATA_INTERNAL_H
#define TENFOLD_STORE_DATA_INTERNAL_H

#include "core/base/arena.h"
#include "store/data.h"

#include <jansson.h>

enum { DATA_ITEM_MAX = 16 << 20, DATA_FIELDS_MAX = 256 }; /* bytes of one item; fields of one row */

/* ---- source ---- */

struct data_source;
int data_source_open(struct data_source **out, const char *path, struct err *e);
void data_source_close(struct data_source *s);
/* The next byte, -1 at the end. The line counts from 1. */
int data_source_byte(struct data_source *s);
int data_source_peek(struct data_source *s);
uint64_t data_source_line(const struct data_source *s);
/* An error of the file (a damaged .gz), once the end was met. */
int data_source_check(const struct data_source *s, struct err *e);

struct data_item {
	char *text; /* with a NUL beyond its bytes; lives until the next item */
	size_t bytes;
	uint64_t line;
	int too_long; /* only its beginning is there */
};
/* 1: an item, 0: the end. Lines without their end, empty ones left out. */
int data_source_next_line(struct data_source *s, struct data_item *out);
/* The same of JSON: where the file's first character is [, the elements of that array (however broken over lines),
 * else lines. */
int data_source_next_value(struct data_source *s, struct data_item *out);

/* ---- reader ---- */

struct data_reader;

struct data_format {
	struct data_format_info info;
	/* one of the three */
	int (*take_json)(struct data_reader *r, const json_t *j);
	int (*take_line)(struct data_reader *r, const char *text);
	int (*read_file)(struct data_reader *r, struct data_source *s);
};
extern const struct data_format data_format_hh, data_format_trl, data_format_prompts, data_format_tenfold, data_format_alpaca,
	data_format_sharegpt, data_format_gsm8k, data_format_csv, data_format_tsv, data_format_export, data_format_text;

struct data_reader {
	const struct data_options *o;
	const struct data_format *format;
	struct data_report *report;
	struct arena *arena;     /* texts of the item */
	struct data_seen *seen_prompts, *seen_completions, *seen_records;
	const char *const *files; /* all of them, train first */
	uint32_t file;           /* index of the one being read */
	enum data_side side;     /* of that file */
	uint64_t line;           /* of the item */
	struct err *e;
};

/* A record of the item: its side is drawn, it is looked for among the earlier ones and given on. */
int data_emit(struct data_reader *r, struct data_record *record);
/* The item cannot be used. what: one of a few fixed texts, by which the report counts; detail may be NULL. */
int data_bad(struct data_reader *r, const char *what, const char *detail);
/* 1 when it is UTF-8 without NUL; else it is counted as bad, and *rc is what data_bad returned. */
int data_text_ok(struct data_reader *r, const char *text, size_t bytes, int *rc);
/* A text member of a JSON object; NULL when there is none. */
const char *data_member(const json_t *j, const char *name);

/* ---- dialogues ---- */

#define DATA_HUMAN "\n\nHuman:"
#define DATA_ASSISTANT "\n\nAssistant:"
#define DATA_SYSTEM "\n\nSystem:"

/* Messages from..to-1 of a list of {role_key, content_key} as one text in the form of hh-rlhf, in the arena. NULL: a role
 * is unknown or a member is missing (*what says which). With `open` an assistant's turn is opened at the end. */
const char *data_dialogue(struct data_reader *r, const json_t *list, size_t from, size_t to, int open, const char **what);
/* DATA_HUMAN, DATA_ASSISTANT or DATA_SYSTEM; NULL: the role is unknown. */
const char *data_role(const json_t *message);
const char *data_content(const json_t *message);
/* What a dialogue begins with, up to the assistant's first turn: the key of its records. NULL: it is no dialogue. */
const char *data_dialogue_key(struct data_reader *r, const char *prompt);

/* ---- what was seen ---- */

struct data_seen;
struct data_place {
	uint32_t file;
	uint32_t line; /* cut at 2^32-1 */
};
struct data_seen *data_seen_open(void);
void data_seen_close(struct data_seen *s);
/* Notes a text of that side; the number of times it was there before. */
uint32_t data_seen_add(struct data_seen *s, uint64_t hash, enum data_side side, struct data_place place);
/* Different texts; those that were added more than once; those that both sides have. */
void data_seen_count(const struct data_seen *s, uint64_t *all, uint64_t *repeated, uint64_t *both);
/* The first `n` of those that both sides have, in order of their held-out place; how many there are of these. */
struct data_leak {
	struct data_place train, heldout;
};
size_t data_seen_leaks(const struct data_seen *s, struct data_leak *out, size_t n);

#endif
