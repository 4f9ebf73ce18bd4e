/* Puts the page together: data, script, style; see report.h. The nonce of the
 * content security policy is the hash of the data: nobody who could not choose
 * all of the page can know it before the page exists, and the same run gives
 * the same page. */
#include "app/report.h"
#include "app/report_parts.h"
#include "core/base/fs.h"
#include "core/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char report_chart_js[], report_charts_js[], report_page_js[], report_page_css[];
extern const unsigned long report_chart_js_bytes, report_charts_js_bytes, report_page_js_bytes, report_page_css_bytes;

/* JSON inside a <script> element: no <, > or & may stand in it. They occur in strings only, where \u escapes are legal. */
static void write_escaped(FILE *f, const char *json)
{
	for (; *json; json++) {
		if (*json == '<' || *json == '>' || *json == '&') fprintf(f, "\\u%04x", (unsigned)*json);
		else fputc(*json, f);
	}
}

static void write_page(FILE *f, const char *data, const char *nonce)
{
	fprintf(f,
		"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; "
		"base-uri 'none'; form-action 'none'\">\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
		"<title>Tenfold report</title>\n<style nonce=\"%s\">\n",
		nonce, nonce, nonce);
	fwrite(report_page_css, 1, report_page_css_bytes, f);
	fputs("</style>\n</head>\n<body>\n<main id=\"report\"><p>The report is drawn by the script in this file; it needs JavaScript, but no network.</p></main>\n"
	      "<script type=\"application/json\" id=\"data\">",
		f);
	write_escaped(f, data);
	fprintf(f, "</script>\n<script nonce=\"%s\">\n", nonce);
	fwrite(report_chart_js, 1, report_chart_js_bytes, f);
	fprintf(f, "\n</script>\n<script nonce=\"%s\">\n", nonce);
	fwrite(report_charts_js, 1, report_charts_js_bytes, f);
	fwrite(report_page_js, 1, report_page_js_bytes, f);
	fputs("</script>\n</body>\n</html>\n", f);
}

static int load_all(const char *const *runs, int count, json_t **out, struct err *e)
{
	json_t *list = json_array();
	int rc = list ? 0 : report_memory(e);
	for (int i = 0; i < count && rc == 0; i++) {
		json_t *run = NULL;
		rc = report_load(runs[i], &run, e);
		if (rc == 0 && json_array_append_new(list, run)) rc = report_memory(e);
	}
	if (rc < 0) {
		json_decref(list);
		return rc;
	}
	*out = json_pack("{s:{s:s,s:s,s:s,s:s,s:s,s:s},s:o}", "names", "reward", REPORT_REWARD, "proxy", REPORT_PROXY, "gold", REPORT_GOLD, "pass_rate", REPORT_PASS_RATE, "best_of", REPORT_BEST_OF,
		"continued", REPORT_CONTINUED, "runs", list);
	return *out ? 0 : report_memory(e);
}

int report_write(const char *const *runs, int count, const char *out, struct err *e)
{
	CHECK(count >= 1 && count <= REPORT_RUNS_MAX, "%d runs in a report", count);
	json_t *data = NULL;
	char *json = NULL, *page = NULL, nonce[HASH_HEX];
	size_t bytes = 0;
	int rc = 0;
	TRY(load_all(runs, count, &data, e));
	json = json_dumps(data, JSON_COMPACT);
	FILE *f = json ? open_memstream(&page, &bytes) : NULL;
	if (!f) {
		rc = report_memory(e);
		goto out;
	}
	hash_bytes(json, strlen(json), nonce);
	write_page(f, json, nonce);
	if (fclose(f) != 0) {
		rc = report_memory(e);
		goto out;
	}
	TRY(fs_write_atomic(out, page, bytes, e));
out:
	free(page);
	free(json);
	json_decref(data);
	return rc;
}
