/* Where the items of a campaign come from: a run's groups, or a JSONL file of any
 * system's candidates. NUL and what is not UTF-8 become U+FFFD: texts of models
 * hold such things, and a page cannot show them. */
#include "app/label.h"
#include "app/run_folder.h"
#include "core/base/fs.h"
#include "core/base/text.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT_MIB = 1024 };

/* ---- files ---- */

/* The text without NUL; malloc'ed. */
static char *clean(const json_t *text)
{
	const char *from = json_string_value(text);
	size_t n = json_string_length(text), at = 0;
	char *out = malloc(3 * n + 1);
	for (size_t i = 0; out && i < n; i++) {
		if (from[i]) {
			out[at++] = from[i];
			continue;
		}
		memcpy(out + at, "\xef\xbf\xbd", 3);
		at += 3;
	}
	if (out) out[at] = 0;
	return out;
}

/* What an object has beyond the names in `known`, as JSON; NULL: nothing. */
static char *rest_of(const json_t *j, const char *const *known)
{
	json_t *copy = json_copy((json_t *)j);
	for (; *known; known++) json_object_del(copy, *known);
	char *text = json_object_size(copy) ? json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(copy);
	return text;
}

struct reading {
	struct labels *l;
	int64_t campaign;
	const char *where, *language;
	char *kept[4 * GROUP_MAX + 8];
	int keeps;
};

static char *keep(struct reading *s, char *text) { return text ? s->kept[s->keeps++] = text : NULL; }

static int bad(const struct reading *s, struct err *e, const char *why)
{
	return err_set(e, ERR_FORMAT, "%s: %s", s->where, why);
}

static int read_candidate(struct reading *s, const json_t *c, struct labels_candidate *out, struct err *e)
{
	static const char *const known[] = {"text", "source", "test", NULL};
	const json_t *text = json_is_object(c) ? json_object_get(c, "text") : c;
	if (!json_is_string(text)) return bad(s, e, "a candidate is a text, or an object with \"text\"");
	out->text = keep(s, clean(text));
	if (json_is_object(c)) {
		const json_t *source = json_object_get(c, "source"), *test = json_object_get(c, "test");
		if (json_is_string(source)) out->source = keep(s, clean(source));
		if (json_is_string(test)) out->test = keep(s, clean(test));
		out->extra = keep(s, rest_of(c, known));
	}
	return out->text ? 0 : err_set(e, ERR_MEMORY, "no memory for a candidate");
}

static int read_prompt(struct reading *s, const json_t *prompt, struct labels_item *it, struct err *e)
{
	if (json_is_string(prompt)) {
		it->prompt = keep(s, clean(prompt));
		return it->prompt ? 0 : err_set(e, ERR_MEMORY, "no memory for a prompt");
	}
	if (!json_is_array(prompt) || !json_array_size(prompt)) return bad(s, e, "\"prompt\" must be a text or a list of {\"role\", \"content\"}");
	for (size_t i = 0; i < json_array_size(prompt); i++) {
		const json_t *turn = json_array_get(prompt, i);
		if (!json_is_string(json_object_get(turn, "role")) || !json_is_string(json_object_get(turn, "content")))
			return bad(s, e, "a turn of the prompt lacks \"role\" or \"content\"");
	}
	it->format = "chat";
	it->prompt = keep(s, json_dumps(prompt, JSON_COMPACT));
	return it->prompt ? 0 : err_set(e, ERR_MEMORY, "no memory for a prompt");
}

static int read_item(struct reading *s, const json_t *j, int64_t *item, uint32_t *candidates, struct err *e)
{
	static const char *const known[] = {"prompt", "candidates", "role", "language", "best", "worst", "labels", NULL};
	struct labels_item it = {.campaign = s->campaign, .expected_best = -1, .expected_worst = -1, .language = s->language};
	const json_t *list = json_object_get(j, "candidates"), *best = json_object_get(j, "best"), *worst = json_object_get(j, "worst");
	size_t n = json_array_size(list);
	int rc;
	if (n < 2 || n > GROUP_MAX) return bad(s, e, "\"candidates\" must be a list of 2 to 64");
	TRY(read_prompt(s, json_object_get(j, "prompt"), &it, e));
	for (size_t i = 0; i < n; i++) TRY(read_candidate(s, json_array_get(list, i), &it.candidate[i], e));
	const char *role = json_string_value(json_object_get(j, "role")), *language = json_string_value(json_object_get(j, "language"));
	if (role && strcmp(role, "task") && strcmp(role, "gold") && strcmp(role, "qualification")) return bad(s, e, "\"role\" is task, gold or qualification");
	it.role = role;
	if (language) it.language = language;
	if (json_is_integer(best)) it.expected_best = (int)json_integer_value(best);
	if (json_is_integer(worst)) it.expected_worst = (int)json_integer_value(worst);
	it.extra = keep(s, rest_of(j, known));
	rc = labels_item_put(s->l, &it, (uint32_t)n, e);
	if (rc < 0) err_prefix(e, "%s", s->where);
	*item = it.item;
	*candidates = (uint32_t)n;
out:
	return rc;
}

int label_item_from_json(struct labels *l, int64_t campaign, json_t *json, const char *language, const char *where, int64_t *item, uint32_t *candidates,
                         struct err *e)
{
	struct reading s = {.l = l, .campaign = campaign, .where = where, .language = language};
	int rc = json_is_object(json) ? read_item(&s, json, item, candidates, e) : bad(&s, e, "not a JSON object");
	while (s.keeps) free(s.kept[--s.keeps]);
	return rc;
}

int label_items_from_file(struct labels *l, int64_t campaign, const char *path, const char *language, int64_t *n, struct err *e)
{
	char *data = NULL, where[PATH_MAX + 40];
	size_t bytes = 0;
	int64_t line = 0, item;
	uint32_t candidates;
	int rc = fs_read(path, (size_t)FILE_LIMIT_MIB << 20, &data, &bytes, e);
	for (char *at = data; rc == 0 && at < data + bytes;) {
		char *end = memchr(at, '\n', (size_t)(data + bytes - at));
		size_t k = end ? (size_t)(end - at) : (size_t)(data + bytes - at);
		json_error_t why;
		snprintf(where, sizeof where, "%s line %lld", path, (long long)++line);
		if (k && strspn(at, " \t\r") < k) {
			json_t *j = json_loadb(at, k, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
			rc = j ? label_item_from_json(l, campaign, j, language, where, &item, &candidates, e) : err_set(e, ERR_FORMAT, "%s: %s", where, why.text);
			json_decref(j);
			*n += rc == 0;
		}
		at += k + 1;
	}
	free(data);
	return rc;
}

/* ---- runs ---- */

struct from_run {
	struct labels *l;
	int64_t campaign, limit, *n;
	const char *id, *stage;
	struct err *e;
};

static char *clean_text(const char *text)
{
	size_t n = strlen(text);
	char *out = malloc(3 * n + 1);
	if (out) text_clean(text, n, out, 3 * n + 1);
	return out;
}

static int take_group(void *ctx, const struct group *g)
{
	struct from_run *s = ctx;
	char extra[400], source[64], *kept[GROUP_MAX + 1] = {0};
	struct labels_item it = {.campaign = s->campaign, .expected_best = -1, .expected_worst = -1, .extra = extra};
	int rc = 0, memory = (kept[GROUP_MAX] = clean_text(g->prompt_text)) != NULL;
	if (s->limit && *s->n >= s->limit) {
		free(kept[GROUP_MAX]);
		return 1;
	}
	snprintf(source, sizeof source, "policy %llu", (unsigned long long)g->policy_version);
	snprintf(extra, sizeof extra, "{\"run\":\"%s\",\"stage\":\"%s\",\"step\":%llu,\"slot\":%u}", s->id, s->stage, (unsigned long long)g->step, g->slot);
	it.prompt = kept[GROUP_MAX];
	for (uint32_t i = 0; i < g->size; i++) {
		memory &= (kept[i] = clean_text(g->text[i])) != NULL;
		it.candidate[i] = (struct labels_candidate){.text = kept[i], .source = source};
	}
	rc = memory ? labels_item_put(s->l, &it, g->size, s->e) : err_set(s->e, ERR_MEMORY, "no memory for a group");
	*s->n += rc == 0;
	for (int i = 0; i <= GROUP_MAX; i++) free(kept[i]);
	return rc;
}

static int take_id(void *ctx, const struct store_run *r)
{
	snprintf(ctx, STORE_NAME, "%s", r->id);
	return 0;
}

int label_items_from_run(struct labels *l, int64_t campaign, const char *run, const char *stage, int all, int64_t limit, int64_t *n, struct err *e)
{
	struct run_folder r = {0};
	char id[STORE_NAME] = "";
	int64_t last;
	struct from_run s = {l, campaign, limit, n, id, stage, e};
	int rc = run_folder_open(&r, run, e);
	if (rc < 0) return rc;
	TRY(store_get_run(r.store, take_id, id, e));
	TRY(store_last_step(r.store, stage, &last, e));
	if (last < 0) {
		rc = err_set(e, ERR_NOT_FOUND, "%s has no groups of the stage %s; --stage names another", run, stage);
		goto out;
	}
	for (int64_t step = all ? 0 : last; step <= last && rc == 0; step++) rc = store_each_group(r.store, stage, (uint64_t)step, take_group, &s, e);
	if (rc > 0) rc = 0;
out:
	run_folder_close(&r);
	return rc;
}
