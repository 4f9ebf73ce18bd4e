/* Pages, scripts and styles: compiled in, the same for everybody, without data. */
#include "app/web/web.h"

#include <string.h>

#define FILE_OF(symbol, name, type)                                                                           \
	extern const unsigned char symbol[];                                                                  \
	extern const unsigned long symbol##_bytes;                                                            \
	static int on_##name(void *ctx, const struct http_request *q, struct http_response *r, struct err *e) \
	{                                                                                                     \
		(void)ctx;                                                                                    \
		(void)q;                                                                                      \
		(void)e;                                                                                      \
		http_reply_static(r, type, symbol, symbol##_bytes);                                           \
		return 0;                                                                                     \
	}
#define PAGE(name, type) FILE_OF(web_##name, name, type)
PAGE(label_html, "text/html; charset=utf-8")
PAGE(owner_html, "text/html; charset=utf-8")
PAGE(page_css, "text/css; charset=utf-8")
PAGE(common_js, "text/javascript; charset=utf-8")
PAGE(text_js, "text/javascript; charset=utf-8")
PAGE(label_js, "text/javascript; charset=utf-8")
PAGE(cards_js, "text/javascript; charset=utf-8")
PAGE(owner_js, "text/javascript; charset=utf-8")
PAGE(dashboard_html, "text/html; charset=utf-8")
PAGE(dashboard_css, "text/css; charset=utf-8")
PAGE(dashkit_js, "text/javascript; charset=utf-8")
PAGE(dashboard_js, "text/javascript; charset=utf-8")
PAGE(curves_js, "text/javascript; charset=utf-8")
PAGE(steps_js, "text/javascript; charset=utf-8")
PAGE(finder_js, "text/javascript; charset=utf-8")
PAGE(statistics_js, "text/javascript; charset=utf-8")
FILE_OF(report_chart_js, chart_js, "text/javascript; charset=utf-8")
FILE_OF(report_charts_js, charts_js, "text/javascript; charset=utf-8")

static int on_icon(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)
{
	static const char svg[] = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='3' fill='#2457a6'/>"
				  "<path d='M4 5h8M8 5v7' stroke='#fff' stroke-width='2' fill='none'/></svg>";
	(void)ctx;
	(void)q;
	(void)e;
	http_reply_static(r, "image/svg+xml", svg, sizeof svg - 1);
	return 0;
}

const struct http_route web_page_routes[] = {
	{"GET", "/", WEB_ANYONE, 0, on_label_html, 0},
	{"GET", "/owner", WEB_ANYONE, 0, on_owner_html, 0},
	{"GET", "/page.css", WEB_ANYONE, 0, on_page_css, 0},
	{"GET", "/common.js", WEB_ANYONE, 0, on_common_js, 0},
	{"GET", "/text.js", WEB_ANYONE, 0, on_text_js, 0},
	{"GET", "/label.js", WEB_ANYONE, 0, on_label_js, 0},
	{"GET", "/cards.js", WEB_ANYONE, 0, on_cards_js, 0},
	{"GET", "/owner.js", WEB_ANYONE, 0, on_owner_js, 0},
	{"GET", "/dashboard", WEB_ANYONE, 0, on_dashboard_html, 0},
	{"GET", "/dashboard.css", WEB_ANYONE, 0, on_dashboard_css, 0},
	{"GET", "/dashkit.js", WEB_ANYONE, 0, on_dashkit_js, 0},
	{"GET", "/dashboard.js", WEB_ANYONE, 0, on_dashboard_js, 0},
	{"GET", "/curves.js", WEB_ANYONE, 0, on_curves_js, 0},
	{"GET", "/steps.js", WEB_ANYONE, 0, on_steps_js, 0},
	{"GET", "/finder.js", WEB_ANYONE, 0, on_finder_js, 0},
	{"GET", "/statistics.js", WEB_ANYONE, 0, on_statistics_js, 0},
	{"GET", "/chart.js", WEB_ANYONE, 0, on_chart_js, 0},
	{"GET", "/charts.js", WEB_ANYONE, 0, on_charts_js, 0},
	{"GET", "/favicon.ico", WEB_ANYONE, 0, on_icon, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
