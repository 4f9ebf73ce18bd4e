/* Errors.
 *
 * Two kinds, never mixed. A programmer's mistake (wrong shape, NULL where none
 * is allowed) is a CHECK: always on, prints the place and aborts. What can fail
 * in a correct program (a file, a socket, SQL, a parse, memory for data) returns
 * a negative code and fills a `struct err`, whose message names the thing, the
 * place (file, line, key) and the way out. Only app/ prints and exits. */
#ifndef TENFOLD_BASE_ERR_H
#define TENFOLD_BASE_ERR_H

#include <stddef.h>

enum err_code {
	ERR_OK = 0,
	ERR_IO = -1,       /* file or device: open, read, write, rename, disk full */
	ERR_FORMAT = -2,   /* malformed content: file, message, configuration */
	ERR_RANGE = -3,    /* a well-formed value outside what is allowed */
	ERR_MEMORY = -4,   /* allocation for data failed */
	ERR_STATE = -5,    /* not possible now: locked, wrong version, finished */
	ERR_NET = -6,      /* socket, peer gone */
	ERR_TIMEOUT = -7,  /* nothing arrived in time */
	ERR_MISMATCH = -8, /* two things that must be equal differ: hash, fingerprint, replayed row */
	ERR_STOPPED = -9,  /* the user asked to stop */
	ERR_NOT_FOUND = -10,
};

struct err {
	int code;
	char msg[1024];
};

/* Fills *e (which may be NULL) with a formatted message; returns `code`. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the message already there; returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Exit status of the program for an error code (documented in docs/guide.md). */
int err_exit_status(int code);

void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 4, 5)));
#define CHECK(cond, ...)                                                                                               \
	do {                                                                                                           \
		if (__builtin_expect(!(cond), 0)) check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                \
	} while (0)

/* Propagation: `TRY(x_open(...))` jumps to `out:` with `rc` set when the call is negative. */
#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		rc = (call);                                                                                           \
		if (rc < 0) goto out;                                                                                  \
	} while (0)

#endif
