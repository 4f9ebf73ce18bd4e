/* The curve as a picture: two panels, mean reward and held-out pass rate
 * against the PPO step, one colour a run. Plain SVG with its own light and dark
 * colours, so that it can stand in a README; no script, no fonts, no images. */
#include "app/report.h"
#include "app/report_parts.h"
#include "core/base/fs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 860, HEIGHT = 344, TOP = 44, BOTTOM = 276, PANEL = 350, LEFT = 56, APART = 430, STEPS = 5 };

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b6bd1", "#7f7f7f"};

struct panel {
	double x0;             /* left edge, pixels */
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

static int reward_series(json_t *run, struct series *s, struct err *e)
{
	size_t i;
	json_t *stage, *curve = NULL;
	json_array_foreach(json_object_get(run, "stages"), i, stage)
	{
		if (!strcmp(json_string_value(json_object_get(stage, "stage")), "ppo"))
			curve = json_object_get(json_object_get(stage, "metrics"), REPORT_REWARD);
	}
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
	return BOTTOM - (BOTTOM - TOP) * (v - p->low) / (p->high - p->low);
}

static void draw_line(FILE *f, const struct panel *p, const struct series *s, const char *colour, int smooth, const char *style)
{
	if (!s->n) return;
	fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" %s points=\"", colour, style);
	for (size_t i = 0; i < s->n; i++) fprintf(f, "%.1f,%.1f ", at_x(p, s->x[i]), at_y(p, smooth ? smoothed(s, i) : s->y[i]));
	fputs("\"/>\n", f);
}

static void draw_axes(FILE *f, const struct panel *p, const char *title)
{
	fprintf(f, "<text x=\"%.0f\" y=\"%d\" class=\"title\">%s</text>\n", p->x0, TOP - 18, title);
	for (double v = p->low; v <= p->high + 0.01 * p->tick; v += p->tick) {
		double y = at_y(p, v), shown = fabs(v) < 1e-9 * p->tick ? 0 : v;
		fprintf(f, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", p->x0, p->x0 + PANEL, y, y);
		fprintf(f, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.4g%s</text>\n", p->x0 - 8, y + 4, p->percent ? 100 * shown : shown,
			p->percent ? " %" : "");
	}
	for (int i = 0; i < STEPS; i++) {
		double step = floor(p->last * i / (STEPS - 1) + 0.5);
		fprintf(f, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", at_x(p, step), BOTTOM + 20, step);
	}
	fprintf(f, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">PPO step</text>\n", p->x0 + PANEL / 2.0, BOTTOM + 38);
}

/* Names of the runs in a row below the panels; characters that mean something in XML are replaced. */
static void draw_name(FILE *f, int i, const char *name)
{
	int x = LEFT + 160 * (i % 5), y = BOTTOM + 58;
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

static void write_picture(FILE *f, struct panel *reward, struct panel *pass, const struct series (*s)[2], json_t *const *run, int count)
{
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
		"aria-label=\"Mean reward and held-out pass rate against the PPO step\">\n"
		"<style>text{font:12px system-ui,sans-serif;fill:#5c6670}.title{font-size:15px;font-weight:600;fill:#1d2126}"
		".grid{stroke:#e2e4e6}.ground{fill:#fff}"
		"@media(prefers-color-scheme:dark){text{fill:#9aa4ae}.title{fill:#e6e8ea}.grid{stroke:#2d3339}.ground{fill:#14171a}}</style>\n"
		"<rect class=\"ground\" width=\"100%%\" height=\"100%%\" rx=\"8\"/>\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT);
	draw_axes(f, reward, "Mean reward");
	draw_axes(f, pass, "Held-out pass rate");
	for (int i = 0; i < count; i++) {
		const char *c = colours[i % 8];
		if (s[i][0].n >= 30) draw_line(f, reward, &s[i][0], c, 0, "stroke-width=\"1\" stroke-opacity=\".3\"");
		draw_line(f, reward, &s[i][0], c, 1, "stroke-width=\"2.2\" stroke-linejoin=\"round\"");
		draw_line(f, pass, &s[i][1], c, 0, "stroke-width=\"2.2\" stroke-linejoin=\"round\"");
		for (size_t k = 0; k < s[i][1].n; k++)
			fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", at_x(pass, s[i][1].x[k]), at_y(pass, s[i][1].y[k]), c);
		if (count > 1) draw_name(f, i, json_string_value(json_object_get(run[i], "name")));
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

int report_write_svg(const char *const *runs, int count, const char *out, struct err *e)
{
	CHECK(count >= 1 && count <= REPORT_RUNS_MAX, "%d runs in a picture", count);
	json_t *run[REPORT_RUNS_MAX] = {0};
	struct series s[REPORT_RUNS_MAX][2] = {0};
	struct panel reward = {.x0 = LEFT, .low = INFINITY, .high = -INFINITY}, pass = {.x0 = LEFT + APART, .low = 0, .high = 1, .percent = 1};
	char *text = NULL;
	size_t bytes = 0;
	int rc = 0;
	for (int i = 0; i < count; i++) {
		TRY(report_load(runs[i], &run[i], e));
		TRY(reward_series(run[i], &s[i][0], e));
		TRY(pass_series(run[i], &s[i][1], e));
		fit(&reward, &s[i][0]);
		fit(&pass, &s[i][1]);
	}
	reward.last = pass.last = fmax(reward.last, pass.last);
	if (reward.low >= 0 && reward.high <= 1) reward.low = 0, reward.high = 1;
	close_range(&reward);
	close_range(&pass);
	FILE *f = open_memstream(&text, &bytes);
	if (f) write_picture(f, &reward, &pass, s, run, count);
	if (!f || fclose(f) != 0) rc = report_memory(e);
	if (rc == 0) TRY(fs_write_atomic(out, text, bytes, e));
out:
	for (int i = 0; i < count; i++) {
		series_free(&s[i][0]);
		series_free(&s[i][1]);
		json_decref(run[i]);
	}
	free(text);
	return rc;
}
