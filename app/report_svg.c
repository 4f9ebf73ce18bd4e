/* The curve as a picture: mean reward and held-out pass rate against the PPO
 * step, one colour a run; with a learned reward model four panels: proxy (the
 * model's mean score), gold (the verifier's), divergence from the start, and the
 * pass rate. Level lines of the pass rate are the baselines that need no PPO:
 * dashed the best of several samples from the start, dotted supervised training
 * continued. Plain SVG with its own light and dark
 * colours, so that it can stand in a README; no script, no fonts, no images. */
#include "app/report.h"
#include "app/report_parts.h"
#include "core/base/fs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 860, TOP = 44, PANEL = 350, TALL = 232, LEFT = 56, APART = 430, BELOW = 326, STEPS = 5, PANELS_MAX = 4 };

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b6bd1", "#7f7f7f"};

/* What a panel shows: a metric of the stage ppo, or (NULL) the evaluated pass rate. */
struct plot {
	const char *metric, *title;
};

static const struct plot plain[] = {{REPORT_REWARD, "Mean reward"}, {NULL, "Held-out pass rate"}};
static const struct plot learned[] = {{REPORT_PROXY, "Proxy: learned reward model"}, {REPORT_GOLD, "Gold: verifier"},
				      {"objective/kl", "KL from the start, nats a completion"}, {NULL, "Held-out pass rate"}};

struct panel {
	struct plot plot;
	double x0, y0;         /* left and lower edge, pixels */
	double low, high, tick; /* of y */
	double last;           /* step at the right edge */
	int percent;
};

struct series {
	double *x, *y;
	size_t n;
};

static void series_free(struct series *s)
{
	free(s->x);
	free(s->y);
	*s = (struct series){0};
}

static int series_open(struct series *s, size_t room, struct err *e)
{
	*s = (struct series){.x = calloc(room + 1, sizeof(double)), .y = calloc(room + 1, sizeof(double))};
	return s->x && s->y ? 0 : report_memory(e);
}

static void series_add(struct series *s, json_t *x, json_t *y)
{
	if (!json_is_number(x) || !json_is_number(y)) return;
	s->x[s->n] = json_number_value(x);
	s->y[s->n++] = json_number_value(y);
}

/* The curve of a metric of the stage ppo; NULL: none. */
static json_t *ppo_curve(json_t *run, const char *metric)
{
	size_t i;
	json_t *stage, *curve = NULL;
	json_array_foreach(json_object_get(run, "stages"), i, stage)
	{
		if (!strcmp(json_string_value(json_object_get(stage, "stage")), "ppo")) curve = json_object_get(json_object_get(stage, "metrics"), metric);
	}
	return curve;
}

static int metric_series(json_t *run, const char *metric, struct series *s, struct err *e)
{
	size_t i;
	json_t *curve = ppo_curve(run, metric);
	size_t n = json_array_size(json_array_get(curve, 0));
	int rc = series_open(s, n, e);
	for (i = 0; rc == 0 && i < n; i++) series_add(s, json_array_get(json_array_get(curve, 0), i), json_array_get(json_array_get(curve, 1), i));
	return rc;
}

/* The pass rate after the supervised start stands at step 0. */
static int pass_series(json_t *run, struct series *s, struct err *e)
{
	size_t i;
	json_t *v, *evals = json_object_get(run, "evals"), *start = NULL, *zero = json_integer(0);
	int rc = series_open(s, json_array_size(evals), e);
	for (int ppo = 0; ppo < 2 && rc == 0; ppo++) {
		json_array_foreach(evals, i, v)
		{
			if (strcmp(json_string_value(json_object_get(v, "name")), REPORT_PASS_RATE)) continue;
			if (strcmp(json_string_value(json_object_get(v, "stage")), ppo ? "ppo" : "sft")) continue;
			if (ppo) series_add(s, json_object_get(v, "step"), json_object_get(v, "value"));
			else start = json_object_get(v, "value");
		}
		if (!ppo && start) series_add(s, zero, start);
	}
	json_decref(zero);
	return rc;
}

/* Mean over neighbouring steps, as in the page: a fortieth of the curve to each side. */
static double smoothed(const struct series *s, size_t i)
{
	size_t half = s->n < 30 ? 0 : s->n / 40 > 1 ? s->n / 40 : 1, from = i > half ? i - half : 0, to = i + half < s->n ? i + half : s->n - 1;
	double sum = 0;
	for (size_t k = from; k <= to; k++) sum += s->y[k];
	return sum / (double)(to - from + 1);
}

static double at_x(const struct panel *p, double step)
{
	return p->x0 + PANEL * step / p->last;
}

static double at_y(const struct panel *p, double v)
{
	return p->y0 - TALL * (v - p->low) / (p->high - p->low);
}

static void draw_line(FILE *f, const struct panel *p, const struct series *s, const char *colour, int smooth, const char *style)
{
	if (!s->n) return;
	fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" %s points=\"", colour, style);
	for (size_t i = 0; i < s->n; i++) fprintf(f, "%.1f,%.1f ", at_x(p, s->x[i]), at_y(p, smooth ? smoothed(s, i) : s->y[i]));
	fputs("\"/>\n", f);
}

/* A level line at the last evaluation of that name. */
static void draw_level(FILE *f, const struct panel *p, json_t *run, const char *name, const char *colour, const char *dashes)
{
	size_t i;
	json_t *v, *found = NULL;
	json_array_foreach(json_object_get(run, "evals"), i, v)
	{
		if (!strcmp(json_string_value(json_object_get(v, "name")), name)) found = json_object_get(v, "value");
	}
	if (!json_is_number(found)) return;
	double y = at_y(p, json_number_value(found));
	fprintf(f, "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"1.5\" stroke-dasharray=\"%s\"/>\n", p->x0, p->x0 + PANEL, y, y,
		colour, dashes);
}

static void draw_axes(FILE *f, const struct panel *p)
{
	fprintf(f, "<text x=\"%.0f\" y=\"%.0f\" class=\"title\">%s</text>\n", p->x0, p->y0 - TALL - 18, p->plot.title);
	for (double v = p->low; v <= p->high + 0.01 * p->tick; v += p->tick) {
		double y = at_y(p, v), shown = fabs(v) < 1e-9 * p->tick ? 0 : v;
		fprintf(f, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", p->x0, p->x0 + PANEL, y, y);
		fprintf(f, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.4g%s</text>\n", p->x0 - 8, y + 4, p->percent ? 100 * shown : shown,
			p->percent ? " %" : "");
	}
	for (int i = 0; i < STEPS; i++) {
		double step = floor(p->last * i / (STEPS - 1) + 0.5);
		fprintf(f, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%.0f</text>\n", at_x(p, step), p->y0 + 20, step);
	}
	fprintf(f, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">PPO step</text>\n", p->x0 + PANEL / 2.0, p->y0 + 38);
}

/* Names of the runs in a row below the panels; characters that mean something in XML are replaced. */
static void draw_name(FILE *f, int i, double bottom, const char *name)
{
	int x = LEFT + 160 * (i % 5), y = (int)bottom + 58;
	fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" rx=\"2\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">", x, y - 9, colours[i % 8], x + 15, y);
	for (int k = 0; name[k] && k < 20; k++) {
		unsigned char ch = (unsigned char)name[k];
		fputc(ch > 32 && ch < 127 && !strchr("<>&\"'", ch) ? ch : '_', f);
	}
	fputs("</text>\n", f);
}

/* Widens the panel to hold the series. */
static void fit(struct panel *p, const struct series *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->y[i] < p->low) p->low = s->y[i];
		if (s->y[i] > p->high) p->high = s->y[i];
		if (s->x[i] > p->last) p->last = s->x[i];
	}
}

static void draw_run(FILE *f, const struct panel *p, const struct series *s, json_t *run, const char *colour)
{
	if (p->plot.metric) {
		if (s->n >= 30) draw_line(f, p, s, colour, 0, "stroke-width=\"1\" stroke-opacity=\".3\"");
		draw_line(f, p, s, colour, 1, "stroke-width=\"2.2\" stroke-linejoin=\"round\"");
		return;
	}
	draw_level(f, p, run, REPORT_BEST_OF, colour, "6 5");
	draw_level(f, p, run, REPORT_CONTINUED, colour, "2 4");
	draw_line(f, p, s, colour, 0, "stroke-width=\"2.2\" stroke-linejoin=\"round\"");
	for (size_t k = 0; k < s->n; k++) fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", at_x(p, s->x[k]), at_y(p, s->y[k]), colour);
}

static void write_picture(FILE *f, const struct panel *panel, int panels, const struct series (*s)[PANELS_MAX], json_t *const *run, int count)
{
	double bottom = panel[panels - 1].y0;
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" role=\"img\" "
		"aria-label=\"Mean reward and held-out pass rate against the PPO step\">\n"
		"<style>text{font:12px system-ui,sans-serif;fill:#5c6670}.title{font-size:15px;font-weight:600;fill:#1d2126}"
		".grid{stroke:#e2e4e6}.ground{fill:#fff}"
		"@media(prefers-color-scheme:dark){text{fill:#9aa4ae}.title{fill:#e6e8ea}.grid{stroke:#2d3339}.ground{fill:#14171a}}</style>\n"
		"<rect class=\"ground\" width=\"100%%\" height=\"100%%\" rx=\"8\"/>\n",
		WIDTH, bottom + 68, WIDTH, bottom + 68);
	for (int k = 0; k < panels; k++) draw_axes(f, &panel[k]);
	for (int i = 0; i < count; i++) {
		for (int k = 0; k < panels; k++) draw_run(f, &panel[k], &s[i][k], run[i], colours[i % 8]);
		if (count > 1) draw_name(f, i, bottom, json_string_value(json_object_get(run[i], "name")));
	}
	fputs("</svg>\n", f);
}

/* Bounds on whole ticks of 1, 2 or 5 times a power of ten, about five of them. */
static void close_range(struct panel *p)
{
	if (!(p->last > 0)) p->last = 1;
	if (!(p->high > p->low)) {
		p->low = isfinite(p->low) ? p->low - 0.5 : 0;
		p->high = isfinite(p->high) ? p->high + 0.5 : 1;
	}
	double rough = (p->high - p->low) / 5, power = pow(10, floor(log10(rough))), times = rough / power;
	p->tick = power * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
	p->low = p->tick * floor(p->low / p->tick + 1e-9);
	p->high = p->tick * ceil(p->high / p->tick - 1e-9);
}

/* Panels in two columns; all with the same steps. */
static int lay_out(struct panel *panel, json_t *const *run, int count)
{
	int is_learned = 0;
	for (int i = 0; i < count; i++) is_learned |= ppo_curve(run[i], REPORT_PROXY) && ppo_curve(run[i], REPORT_GOLD);
	const struct plot *plots = is_learned ? learned : plain;
	int panels = is_learned ? 4 : 2;
	for (int k = 0; k < panels; k++) {
		panel[k] = (struct panel){.plot = plots[k], .x0 = LEFT + APART * (k % 2), .y0 = TOP + TALL + BELOW * (k / 2), .low = INFINITY, .high = -INFINITY};
		if (!plots[k].metric) panel[k].low = 0, panel[k].high = 1, panel[k].percent = 1;
	}
	return panels;
}

int report_write_svg(const char *const *runs, int count, const char *out, struct err *e)
{
	CHECK(count >= 1 && count <= REPORT_RUNS_MAX, "%d runs in a picture", count);
	json_t *run[REPORT_RUNS_MAX] = {0};
	struct series s[REPORT_RUNS_MAX][PANELS_MAX] = {0};
	struct panel panel[PANELS_MAX];
	char *text = NULL;
	size_t bytes = 0;
	double last = 0;
	int rc = 0;
	for (int i = 0; i < count; i++) TRY(report_load(runs[i], &run[i], e));
	int panels = lay_out(panel, run, count);
	for (int k = 0; k < panels; k++) {
		for (int i = 0; i < count; i++) {
			TRY(panel[k].plot.metric ? metric_series(run[i], panel[k].plot.metric, &s[i][k], e) : pass_series(run[i], &s[i][k], e));
			fit(&panel[k], &s[i][k]);
		}
		last = fmax(last, panel[k].last);
	}
	for (int k = 0; k < panels; k++) {
		int share = panel[k].low >= 0 && panel[k].high <= 1 && panel[k].plot.metric && strcmp(panel[k].plot.metric, "objective/kl");
		if (share) panel[k].low = 0, panel[k].high = 1;
		panel[k].last = last;
		close_range(&panel[k]);
	}
	FILE *f = open_memstream(&text, &bytes);
	if (f) write_picture(f, panel, panels, s, run, count);
	if (!f || fclose(f) != 0) rc = report_memory(e);
	if (rc == 0) TRY(fs_write_atomic(out, text, bytes, e));
out:
	for (int i = 0; i < count; i++) {
		for (int k = 0; k < PANELS_MAX; k++) series_free(&s[i][k]);
		json_decref(run[i]);
	}
	free(text);
	return rc;
}
