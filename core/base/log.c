/* The log; see log.h. Each line is written by one write(2), so that lines of
 * several processes appended to one file stay whole. */
#include "core/base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *role;
	enum log_level to_stderr;
	int fd; /* of the file, 0 when none */
} log_state = {"tenfold", LOG_INFO, 0};

void log_setup(const char *role, enum log_level to_stderr)
{
	log_state.role = role;
	log_state.to_stderr = to_stderr;
}

int log_open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0) return -1;
	log_close();
	log_state.fd = fd;
	return 0;
}

void log_close(void)
{
	if (log_state.fd > 0) close(log_state.fd);
	log_state.fd = 0;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	int to_file = log_state.fd > 0 && level >= LOG_INFO;
	if ((level < log_state.to_stderr && !to_file) || level >= LOG_SILENT) return;
	char line[2048];
	time_t now = time(NULL);
	struct tm tm;
	localtime_r(&now, &tm);
	size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
	int k = snprintf(line + n, sizeof line - n, " %-5s %s ", names[level], log_state.role);
	n += k > 0 ? (size_t)k : 0;
	va_list ap;
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof line - n, fmt, ap);
	va_end(ap);
	n += k > 0 ? (size_t)k : 0;
	if (n > sizeof line - 2) n = sizeof line - 2;
	line[n++] = '\n';
	ssize_t w;
	if (level >= log_state.to_stderr) w = write(STDERR_FILENO, line, n);
	if (to_file) w = write(log_state.fd, line, n);
	(void)w;
}
