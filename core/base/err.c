/* Error values and failed checks; see err.h. */
#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (e) {
		va_list ap;
		e->code = code;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof e->msg, fmt, ap);
		va_end(ap);
	}
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	if (!e) return ERR_STATE;
	char old[sizeof e->msg];
	memcpy(old, e->msg, sizeof old);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	size_t at = n < 0 ? 0 : (size_t)n;
	if (at < sizeof e->msg) snprintf(e->msg + at, sizeof e->msg - at, ": %s", old);
	return e->code;
}

int err_exit_status(int code)
{
	switch (code) {
	case ERR_OK: return 0;
	case ERR_STOPPED: return 130;
	case ERR_FORMAT:
	case ERR_RANGE: return 2;
	case ERR_MEMORY: return 3;
	case ERR_MISMATCH: return 4;
	case ERR_STATE: return 5;
	default: return 1;
	}
}

void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "%s:%d: check failed: %s: ", file, line, cond);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}
