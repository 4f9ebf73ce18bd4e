/* tokenizer_config.json and chat_template.jinja beside a tokenizer.json; see tokenizer.h.
 *
 * Honoured: added_tokens_decoder, bos_token, eos_token, pad_token, add_bos_token,
 * add_eos_token, add_prefix_space, chat_template. Where add_bos_token is true and
 * the post-processor does not put the token there already, it is put there: as
 * the Llama class of transformers 4 does, which DeepSeek's files count on (it
 * never takes away what the post-processor says). A token that is not in the
 * vocabulary is refused: transformers would give it a new id, for which the model
 * has no row. */
#include "policy/tokenizer_internal.h"

#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>

enum { PATH = 4096, TEMPLATE_LIMIT = 1 << 20 };

/* A text, or an object with the text under "content"; NULL: neither. */
static const char *content(const json_t *j)
{
	return json_is_object(j) ? json_string_value(json_object_get(j, "content")) : json_string_value(j);
}

static int find_token(const struct tokenizer *t, const json_t *doc, const char *key, int strict, int32_t *out, struct err *e)
{
	const char *s = content(json_object_get(doc, key));
	if (!s) return 0;
	*out = tokenizer_id(t, s);
	if (*out < 0 && strict)
		return err_set(e, ERR_FORMAT, "%s \"%s\" is not in the vocabulary; add it to tokenizer.json and a row for it to the model", key, s);
	return 0;
}

/* {"50256": {"content": …, "lstrip": …, …}, …}: tokens to add, and settings that take the place of those in tokenizer.json. */
static int read_added_decoder(struct tokenizer *t, json_t *list, struct err *e)
{
	const char *key;
	json_t *j;
	json_object_foreach(list, key, j) {
		const json_t *text = json_object_get(j, "content");
		char *end;
		long id = strtol(key, &end, 10);
		if (!*key || *end || id < 0 || id > 1 << 26 || !json_is_string(text))
			return err_set(e, ERR_FORMAT, "added_tokens_decoder: \"%.40s\" needs to be an id with a content", key);
		struct added_token a = { .content = (char *)(uintptr_t)json_string_value(text), .bytes = (uint32_t)json_string_length(text),
			.id = (int32_t)id, .special = json_flag(j, "special", 0), .normalized = json_flag(j, "normalized", 1),
			.single_word = json_flag(j, "single_word", 0), .lstrip = json_flag(j, "lstrip", 0), .rstrip = json_flag(j, "rstrip", 0) };
		size_t i = 0;
		while (i < t->n_added && (t->added[i].id != a.id || strcmp(t->added[i].content, a.content))) i++;
		if (i < t->n_added) {
			a.content = t->added[i].content;
			t->added[i] = a;
			continue;
		}
		int rc = tokenizer_add(t, &a, e);
		if (rc) return err_prefix(e, "added_tokens_decoder");
	}
	return 0;
}

static int wrap(struct tokenizer *t, const json_t *doc, struct err *e)
{
	if (json_flag(doc, "add_bos_token", 0) && t->bos >= 0 && !(t->prefixes && t->prefix[0] == t->bos)) {
		if (t->prefixes == WRAP_MAX) return err_set(e, ERR_RANGE, "add_bos_token: more than %d special tokens in front", WRAP_MAX);
		memmove(t->prefix + 1, t->prefix, (size_t)t->prefixes++ * sizeof *t->prefix);
		t->prefix[0] = t->bos;
	}
	if (json_flag(doc, "add_eos_token", 0) && t->eos >= 0 && !(t->suffixes && t->suffix[t->suffixes - 1] == t->eos)) {
		if (t->suffixes == WRAP_MAX) return err_set(e, ERR_RANGE, "add_eos_token: more than %d special tokens behind", WRAP_MAX);
		t->suffix[t->suffixes++] = t->eos;
	}
	struct pre_step *last = t->steps ? &t->step[t->steps - 1] : NULL;
	const json_t *prefix = json_object_get(doc, "add_prefix_space");
	if (last && last->kind == PRE_BYTE_LEVEL && json_is_boolean(prefix) && json_is_true(prefix) != (last->prefix == PREFIX_ALWAYS))
		return err_set(e, ERR_FORMAT, "add_prefix_space is %s here, but not in the pre_tokenizer ByteLevel: make them agree",
			       json_is_true(prefix) ? "true" : "false");
	return 0;
}

/* A text, or a list of {"name": …, "template": …} of which "default" is taken. */
static int read_template(struct tokenizer *t, const json_t *j, struct err *e)
{
	const char *s = json_string_value(j);
	for (size_t i = 0; !s && i < json_array_size(j); i++) {
		const json_t *one = json_array_get(j, i);
		if (!strcmp(json_text(one, "name"), "default")) s = json_string_value(json_object_get(one, "template"));
	}
	if (!s || t->chat_template) return 0;
	t->chat_template = strdup(s);
	return t->chat_template ? 0 : err_set(e, ERR_MEMORY, "out of memory for the chat template");
}

static int read_template_file(struct tokenizer *t, const char *path, struct err *e)
{
	size_t bytes;
	if (!fs_exists(path)) return 0;
	int rc = fs_read(path, TEMPLATE_LIMIT, &t->chat_template, &bytes, e);
	if (!rc && strlen(t->chat_template) != bytes) rc = err_set(e, ERR_FORMAT, "%s: U+0000 at byte %zu", path, strlen(t->chat_template));
	return rc;
}

int tokenizer_read_config(struct tokenizer *t, const char *folder, struct err *e)
{
	static const char *const names[] = { "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json" };
	static const char *const tokens[] = { "bos_token", "eos_token", "pad_token" };
	char path[3][PATH];
	int rc = 0;
	json_t *doc = NULL, *map = NULL;
	for (int i = 0; i < 3; i++)
		if (snprintf(path[i], PATH, "%s/%s", folder, names[i]) >= PATH) return err_set(e, ERR_RANGE, "%.80s…: the path is too long", folder);
	TRY(read_template_file(t, path[1], e));
	t->template_in_file = t->chat_template != NULL;
	for (int i = 0; i < 3; i += 2) {
		json_t **j = i ? &map : &doc;
		if (!fs_exists(path[i])) continue;
		*j = tokenizer_read_json(path[i], e);
		TRY(*j ? 0 : e ? e->code : ERR_FORMAT);
	}
	rc = read_added_decoder(t, json_object_get(doc, "added_tokens_decoder"), e);
	if (!rc) rc = tokenizer_index(t, e);
	for (int i = 0; i < 2 && !rc; i++) { /* what tokenizer_config.json says goes before the map */
		const json_t *j = i ? doc : map;
		rc = find_token(t, j, tokens[0], 1, &t->bos, e);
		if (!rc) rc = find_token(t, j, tokens[1], 1, &t->eos, e);
		if (!rc) rc = find_token(t, j, tokens[2], 0, &t->pad, e);
	}
	if (!rc) rc = wrap(t, doc, e);
	if (!rc) rc = read_template(t, json_object_get(doc, "chat_template"), e);
	if (rc) err_prefix(e, "%s", path[0]);
	else t->config = json_incref(doc);
	for (int i = 0; i < 3 && t->config; i++) /* what only the map names */
		if (!json_object_get(doc, tokens[i]) && json_object_get(map, tokens[i])) json_object_set(doc, tokens[i], json_object_get(map, tokens[i]));
out:
	json_decref(doc);
	json_decref(map);
	return rc;
}

/* ---- saving ---- */

static int save_text(const char *folder, const char *name, const char *text, struct err *e)
{
	char path[PATH];
	if (!text) return err_set(e, ERR_MEMORY, "%s/%s: out of memory", folder, name);
	if (snprintf(path, PATH, "%s/%s", folder, name) >= PATH) return err_set(e, ERR_RANGE, "%.80s…: the path is too long", folder);
	return fs_write_atomic(path, text, strlen(text), e);
}

int tokenizer_save_folder(const struct tokenizer *t, const char *folder, struct err *e)
{
	char path[PATH];
	if (snprintf(path, PATH, "%s/tokenizer.json", folder) >= PATH) return err_set(e, ERR_RANGE, "%.80s…: the path is too long", folder);
	json_t *config = t->config ? json_incref(t->config) : json_pack("{s:s}", "tokenizer_class", "PreTrainedTokenizerFast");
	if (!t->config && tokenizer_id(t, "<|endoftext|>") >= 0) json_object_set_new(config, "eos_token", json_string("<|endoftext|>"));
	char *text = json_dumps(config, JSON_INDENT(2));
	int rc = tokenizer_save(t, path, e);
	if (!rc) rc = save_text(folder, "tokenizer_config.json", text, e);
	if (!rc && t->template_in_file) rc = save_text(folder, "chat_template.jinja", t->chat_template, e);
	free(text);
	json_decref(config);
	return rc;
}
