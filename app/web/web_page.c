/* Pages, scripts and styles: compiled in, the same for everybody, without data. */
#include "app/web/web.h"

#include <string.h>

extern const unsigned char web_label_html[], web_owner_html[], web_page_css[], web_common_js[], web_text_js[], web_label_js[], web_cards_js[], web_owner_js[];
extern const unsigned long web_label_html_bytes, web_owner_html_bytes, web_page_css_bytes, web_common_js_bytes, web_text_js_bytes, web_label_js_bytes,
	web_cards_js_bytes, web_owner_js_bytes;

#define PAGE(name, type)                                                                                                                                        \
	static int on_##name(void *ctx, const struct http_request *q, struct http_response *r, struct err *e)                                                   \
	{                                                                                                                                                       \
		(void)ctx;                                                                                                                                      \
		(void)q;                                                                                                                                        \
		(void)e;                                                                                                                                        \
		http_reply_static(r, type, web_##name, web_##name##_bytes);                                                                                     \
		return 0;                                                                                                                                       \
	}
PAGE(label_html, "text/html; charset=utf-8")
PAGE(owner_html, "text/html; charset=utf-8")
PAGE(page_css, "text/css; charset=utf-8")
PAGE(common_js, "text/javascript; charset=utf-8")
PAGE(text_js, "text/javascript; charset=utf-8")
PAGE(label_js, "text/javascript; charset=utf-8")
PAGE(cards_js, "text/javascript; charset=utf-8")
PAGE(owner_js, "text/javascript; charset=utf-8")

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
	{"GET", "/favicon.ico", WEB_ANYONE, 0, on_icon, 0},
	{NULL, NULL, 0, 0, NULL, 0},
};
