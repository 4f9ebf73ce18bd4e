/* Data sets of others: prompts, worked examples, human comparisons and plain
 * text, read record by record from the layouts in which people keep them.
 *
 * `import` writes what is read in one layout of our own (format tenfold: one JSON
 * object a line), and a configuration can name the original files directly.
 * Reading streams: in memory are one record and, for duplicates and leakage, a
 * hash with two places for each different prompt, completion and record (64 to
 * 128 bytes), never their texts. A file may be gzip
 * compressed, whatever its name.
 *
 * A record that cannot be used is never dropped silently: it is counted with its
 * file, line and reason, given to on_bad, and with a limit it ends the reading.
 * Everything is checked to be UTF-8 without NUL. docs/data.md has the formats. */
#ifndef TENFOLD_STORE_DATA_H
#define TENFOLD_STORE_DATA_H

#include "core/base/err.h"
#include "core/base/group.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum data_kind { DATA_PROMPT, DATA_EXAMPLE, DATA_GROUP, DATA_TEXT, DATA_KINDS };
enum data_side { DATA_TRAIN, DATA_HELDOUT };

struct data_record {
	enum data_kind kind;
	enum data_side side;
	const char *prompt;                /* NUL-terminated UTF-8; "" of a text */
	uint32_t count;                    /* completions: 0 of a prompt, 1 of an example, 2..GROUP_MAX of a group; 1 of a text: it */
	const char *completion[GROUP_MAX];
	uint8_t rank[GROUP_MAX];           /* of a group, by completion: 1 is best, equal ones tie (1, 2, 2, 4); 0: not ranked */
	int has_margins;
	double margin[GROUP_MAX];          /* [ranked-1], in the order of rank: how much better than the next; NaN: unknown */
	const char *answer;                /* number that a right completion ends with; NULL: none */
	const char *key;                   /* records of one key are on one side of a split; NULL: the prompt is the key */
	const char *person, *strength, *criterion; /* of the label that ranked the group, as the file has them; NULL: it does not say */
	const char *file;
	uint64_t line;                     /* where the record begins, from 1 */
};

struct data_format_info {
	const char *name, *about;
};
/* The i-th format; NULL behind the last. */
const struct data_format_info *data_format_info(size_t i);

struct data_files {
	char **path;
	size_t count;
};
/* Files of a comma separated list; a part with * ? or [ stands for all that match, in order of their bytes. ERR_NOT_FOUND
 * names the part that matches nothing. */
int data_files_open(struct data_files *f, const char *list, struct err *e);
void data_files_close(struct data_files *f);

struct data_options {
	const char *format;      /* a format's name */
	const char *columns;     /* csv, tsv: "chosen=better, rejected=worse, prompt=question", see docs/data.md; NULL or "": from the header */
	const char *const *train, *const *heldout;
	size_t train_count, heldout_count;
	double share;            /* of the keys of `train` that are held out, drawn by their hash and the seed; 0: none */
	uint64_t seed;
	int64_t bad_limit;       /* bad records beyond which the reading ends with ERR_FORMAT; -1: none */
	/* called for each record, whose texts live until it returns; a negative result (with *e filled by it) ends the reading */
	int (*on_record)(void *ctx, const struct data_record *r, struct err *e);
	/* called for each bad record; may be NULL */
	int (*on_bad)(void *ctx, const char *file, uint64_t line, const char *reason, struct err *e);
	void *ctx;
};

enum { DATA_REASONS = 24, DATA_SHOWN = 5, DATA_PLACE = 300 };

struct data_count {
	uint64_t records[DATA_KINDS];
	uint64_t completions;
};

struct data_report {
	struct data_count side[2];          /* by enum data_side */
	uint64_t bad;
	struct { const char *what; uint64_t count; } reason[DATA_REASONS]; /* .what NULL: no more */
	char bad_shown[DATA_SHOWN][DATA_PLACE];  /* "FILE:LINE: reason" of the first */
	uint64_t duplicates;                /* records equal to an earlier one */
	uint64_t prompts, prompts_repeated; /* different ones; those of several records */
	uint64_t leaked_prompts, leaked_completions, leaked_records; /* different ones that both sides have */
	char leak_shown[DATA_SHOWN][DATA_PLACE]; /* "FILE:LINE has the prompt of FILE:LINE" of the first */
	uint64_t notes;                     /* groups whose completions hold further turns of the dialogue */
};

/* Reads all files. ERR_NOT_FOUND, ERR_IO (also a damaged .gz), ERR_FORMAT (an unknown format, column or header; more bad
 * records than the limit), or what on_record returned. The report is filled as far as the reading came. */
int data_read(const struct data_options *o, struct data_report *report, struct err *e);

/* One line of the layout tenfold for the record: {"prompt", "completion"}, {"prompt", "completions", "ranks", "margins"},
 * {"prompt"} or {"text"}, with "answer" and "key" where there are some. */
int data_write(FILE *f, const struct data_record *r, struct err *e);

#endif
