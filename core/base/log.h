/* The log: one line per event on stderr and, once opened, in the run's `log`
 * file, as "YYYY-MM-DDTHH:MM:SS level role message". The level is the only
 * mutable global of the program (see STYLE: no mutable globals but the log). */
#ifndef TENFOLD_BASE_LOG_H
#define TENFOLD_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_SILENT };

/* role: a short static name of this process, shown in each line. Lines below
 * `to_stderr` stay out of stderr; the file gets everything from LOG_INFO up. */
void log_setup(const char *role, enum log_level to_stderr);
/* Appends to `path` from now on (O_APPEND: several processes may share it).
 * Returns 0, or -1 with the file left unopened (stderr goes on). */
int log_open_file(const char *path);
void log_close(void);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
