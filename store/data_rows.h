/* Rows of a CSV or TSV file; see data_rows.c. */
#ifndef TENFOLD_STORE_DATA_ROWS_H
#define TENFOLD_STORE_DATA_ROWS_H

#include "store/data_internal.h"

struct data_rows {
	char separator;           /* ',' or '\t'; set by the caller, the rest zero */
	int fields;
	char *field[DATA_FIELDS_MAX];  /* each with a NUL beyond its length; they live until the next row */
	size_t length[DATA_FIELDS_MAX];
	uint64_t line;
	const char *fault;        /* what is wrong with the row; NULL: nothing */
	char *text;
	size_t bytes, room;
};

/* 1: a row, 0: the end. Empty lines are left out. */
int data_rows_next(struct data_rows *s, struct data_source *in);
void data_rows_free(struct data_rows *s);

#endif
