/* Progress on stderr: a bar with rate and time left on a terminal, otherwise a
 * plain line at most every five seconds. Nothing is shown before the first half
 * second, so that short work stays quiet. One thread at a time. */
#ifndef TENFOLD_APP_PROGRESS_H
#define TENFOLD_APP_PROGRESS_H

#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *f;
	const char *label, *unit; /* "ppo", "steps" */
	int64_t total, from;      /* from: done already when it was opened (a resumed run): not part of the rate */
	double started, shown;    /* fs_now() */
	int terminal, width;      /* width of the bar that stands on the terminal, columns; 0: none */
};

/* label and unit must live as long as *p. f: usually stderr. */
void progress_open(struct progress *p, FILE *f, const char *label, const char *unit, int64_t total, int64_t from);
/* done: of total. note (may be NULL): a few words after the time left. Draws only when it is time to. */
void progress_show(struct progress *p, int64_t done, const char *note);
/* A whole line of text that stays, above the bar. The newline is added. */
void progress_line(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes the bar away; where lines are plain and any was shown, says how long it took. */
void progress_close(struct progress *p, int64_t done);
/* "850 ms", "42 s", "3:05", "2:03:05" */
void progress_time(double seconds, char *out, size_t bytes);

#endif
