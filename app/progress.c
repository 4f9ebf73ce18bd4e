/* Progress bars; see progress.h. The pure part (what a line says) is separate
 * from drawing, and the rate is that of the whole time since opening: steps of
 * a run cost about the same, and a rate over the last moments would jump. */
#include "app/progress.h"
#include "core/base/fs.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 24, LINE = 512 };

static const double QUIET = 0.5, TERMINAL_EVERY = 0.1, PLAIN_EVERY = 5;

void progress_time(double seconds, char *out, size_t bytes)
{
	if (!(seconds >= 0) || seconds > 3.6e8) snprintf(out, bytes, "?");
	else if (seconds < 1) snprintf(out, bytes, "%d ms", (int)(seconds * 1000));
	else if (seconds < 60) snprintf(out, bytes, "%d s", (int)seconds);
	else if (seconds < 3600) snprintf(out, bytes, "%d:%02d", (int)seconds / 60, (int)seconds % 60);
	else snprintf(out, bytes, "%d:%02d:%02d", (int)(seconds / 3600), (int)fmod(seconds / 60, 60), (int)fmod(seconds, 60));
}

void progress_open(struct progress *p, FILE *f, const char *label, const char *unit, int64_t total, int64_t from)
{
	*p = (struct progress){.f = f, .label = label, .unit = unit, .total = total, .from = from, .started = fs_now()};
	p->terminal = isatty(fileno(f));
}

static void format_rate(const struct progress *p, double rate, char *out, size_t bytes)
{
	if (rate >= 0.95 || rate <= 0) snprintf(out, bytes, "%.*f %s/s", rate >= 100 ? 0 : 1, rate, p->unit);
	else snprintf(out, bytes, "%.1f s each", 1 / rate);
}

/* "ppo  12/200 steps  6%  1.4 steps/s  2:14 left  note" */
static void format_line(const struct progress *p, int64_t done, double elapsed, const char *note, char out[LINE])
{
	char rate[64], left[32];
	double speed = elapsed > 0 ? (double)(done - p->from) / elapsed : 0;
	format_rate(p, speed, rate, sizeof rate);
	progress_time(speed > 0 ? (double)(p->total - done) / speed : INFINITY, left, sizeof left);
	double share = p->total > 0 ? (double)done / (double)p->total : 0;
	snprintf(out, LINE, "%lld/%lld %s  %3.0f%%  %s  %s left%s%s", (long long)done, (long long)p->total, p->unit, 100 * share, rate, left,
		note && *note ? "  " : "", note ? note : "");
}

static int columns(const struct progress *p)
{
	struct winsize w;
	return ioctl(fileno(p->f), TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void clear_bar(struct progress *p)
{
	if (p->width) fputs("\r\033[K", p->f);
	p->width = 0;
}

static void draw_bar(struct progress *p, int64_t done, const char *text)
{
	char bar[BAR * 3 + 1] = "", line[LINE + 256];
	int full = p->total > 0 ? (int)(BAR * (double)done / (double)p->total) : 0;
	if (full > BAR) full = BAR;
	for (int i = 0; i < BAR; i++) strcat(bar, i < full ? "\u2588" : "\u2591");
	int room = columns(p) - 1 - BAR - (int)strlen(p->label) - 2;
	snprintf(line, sizeof line, "%s %s %.*s", p->label, bar, room > 0 ? room : 0, text);
	fprintf(p->f, "\r\033[K%s", line);
	p->width = 1;
}

void progress_show(struct progress *p, int64_t done, const char *note)
{
	double now = fs_now(), since = now - (p->shown > 0 ? p->shown : p->started);
	double wait = p->terminal ? (p->shown > 0 ? TERMINAL_EVERY : QUIET) : PLAIN_EVERY;
	if (since < wait) return;
	char text[LINE];
	format_line(p, done, now - p->started, note, text);
	if (p->terminal) draw_bar(p, done, text);
	else fprintf(p->f, "%s: %s\n", p->label, text);
	fflush(p->f);
	p->shown = now;
}

void progress_line(struct progress *p, const char *fmt, ...)
{
	clear_bar(p);
	va_list ap;
	va_start(ap, fmt);
	vfprintf(p->f, fmt, ap);
	va_end(ap);
	fputc('\n', p->f);
	fflush(p->f);
}

void progress_close(struct progress *p, int64_t done)
{
	clear_bar(p);
	if (p->shown > 0 && !p->terminal) {
		char took[32];
		progress_time(fs_now() - p->started, took, sizeof took);
		fprintf(p->f, "%s: %lld/%lld %s in %s\n", p->label, (long long)done, (long long)p->total, p->unit, took);
	}
	fflush(p->f);
}
