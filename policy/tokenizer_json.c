/* Files of the tokenizer: tokenizer.json (Hugging Face) and GPT-2's vocab.json
 * with merges.txt; see tokenizer.h.
 *
 * The parts normalizer, pre_tokenizer, post_processor, decoder, truncation and
 * padding are kept as read and written back unchanged; only those that this
 * program carries out are let in. */
#include "policy/tokenizer_internal.h"

#include "core/base/fs.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 28 };

static const char *const PARTS[] = { "truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder" };

json_t *tokenizer_read_json(const char *path, struct err *e)
{
	char *data;
	size_t bytes;
	json_error_t je;
	if (fs_read(path, FILE_LIMIT, &data, &bytes, e)) return NULL;
	json_t *j = json_loadb(data, bytes, JSON_ALLOW_NUL, &je);
	free(data);
	if (!j) err_set(e, ERR_FORMAT, "%s:%d: %s", path, je.line, je.text);
	else if (!json_is_object(j)) err_set(e, ERR_FORMAT, "%s: not a JSON object", path);
	if (j && !json_is_object(j)) json_decref(j), j = NULL;
	return j;
}

static int is_missing(const json_t *j)
{
	return !j || json_is_null(j);
}

/* ---- reading the parts ---- */

static int read_added(struct tokenizer *t, const json_t *list, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *j = json_array_get(list, i), *id = json_object_get(j, "id"), *content = json_object_get(j, "content");
		if (!json_is_integer(id) || !json_is_string(content))
			return err_set(e, ERR_FORMAT, "added_tokens[%zu]: needs an integer id and a string content", i);
		json_int_t n = json_integer_value(id);
		int special = json_flag(j, "special", 0);
		struct added_token a = { .bytes = (uint32_t)json_string_length(content), .id = n < 0 || n > 1 << 26 ? -1 : (int32_t)n,
			.special = special, .normalized = json_flag(j, "normalized", !special), .single_word = json_flag(j, "single_word", 0),
			.lstrip = json_flag(j, "lstrip", 0), .rstrip = json_flag(j, "rstrip", 0) };
		a.content = (char *)(uintptr_t)json_string_value(content); /* copied there */
		int rc = tokenizer_add(t, &a, e);
		if (rc) return rc;
	}
	return 0;
}

static int read_vocab(struct bpe *b, json_t *vocab, struct err *e)
{
	const char *key;
	json_t *v;
	size_t len;
	if (!json_is_object(vocab)) return err_set(e, ERR_FORMAT, "the vocabulary is not an object of token: id");
	json_object_keylen_foreach(vocab, key, len, v) {
		json_int_t id = json_integer_value(v);
		if (!json_is_integer(v) || id < 0 || id > 1 << 26) return err_set(e, ERR_FORMAT, "token \"%s\": the id is not a number from 0 on", key);
		int rc = bpe_add_token(b, key, len, (int32_t)id, e);
		if (rc) return rc;
	}
	return 0;
}

/* "a b" or ["a", "b"]. */
static int read_merges(struct bpe *b, const json_t *list, struct err *e)
{
	if (!json_is_array(list)) return err_set(e, ERR_FORMAT, "model.merges is not a list");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *m = json_array_get(list, i), *x = json_array_get(m, 0), *y = json_array_get(m, 1);
		const char *s = json_string_value(m), *space = s ? strchr(s, ' ') : NULL;
		int rc;
		if (space && strchr(space + 1, ' ')) rc = err_set(e, ERR_FORMAT, "model.merges[%zu] (\"%.100s\") has more than two parts", i, s);
		else if (space) rc = bpe_add_merge(b, s, (size_t)(space - s), space + 1, json_string_length(m) - (size_t)(space + 1 - s), e);
		else if (json_array_size(m) == 2 && json_is_string(x) && json_is_string(y))
			rc = bpe_add_merge(b, json_string_value(x), json_string_length(x), json_string_value(y), json_string_length(y), e);
		else rc = err_set(e, ERR_FORMAT, "model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]", i);
		if (rc) return rc;
	}
	return 0;
}

static int read_model(struct tokenizer *t, const json_t *model, struct err *e)
{
	const char *type = json_text(model, "type");
	const json_t *dropout = json_object_get(model, "dropout"), *unk = json_object_get(model, "unk_token");
	struct bpe *b = &t->bpe;
	if (strcmp(type, "BPE") && !(type[0] == 0 && json_object_get(model, "merges")))
		return err_set(e, ERR_FORMAT, "model.type \"%s\" is not supported (BPE)", type);
	if (!is_missing(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
		return err_set(e, ERR_FORMAT, "model.dropout is not supported: ids would change from call to call; set it to null");
	if (*json_text(model, "continuing_subword_prefix") || *json_text(model, "end_of_word_suffix"))
		return err_set(e, ERR_FORMAT, "model.continuing_subword_prefix and end_of_word_suffix are not supported");
	b->ignore_merges = json_flag(model, "ignore_merges", 0);
	b->byte_fallback = json_flag(model, "byte_fallback", 0);
	b->fuse_unk = json_flag(model, "fuse_unk", 0);
	int rc = read_vocab(b, json_object_get(model, "vocab"), e);
	if (!rc) rc = read_merges(b, json_object_get(model, "merges"), e);
	if (rc || is_missing(unk)) return rc;
	if (!json_is_string(unk)) return err_set(e, ERR_FORMAT, "model.unk_token is not a text");
	b->unk = bpe_id(b, json_string_value(unk), json_string_length(unk));
	if (b->unk < 0) return err_set(e, ERR_FORMAT, "model.unk_token \"%s\" is not in the vocabulary", json_string_value(unk));
	return 0;
}

/* ---- opening ---- */

/* truncation and padding are settings of the reference's calls, which transformers sets anew with every call: they are
 * kept and not followed. */
static void keep_parts(struct tokenizer *t, const json_t *doc)
{
	for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
		json_t *v = json_object_get(doc, PARTS[i]);
		json_object_set_new(t->pipeline, PARTS[i], v ? json_deep_copy(v) : json_null());
	}
}

/* folder: where tokenizer_config.json may lie; NULL: it is not asked for. */
static int open_json(struct tokenizer **out, const char *path, const char *folder, struct err *e)
{
	int rc = ERR_FORMAT, in_config = 0;
	struct tokenizer *t = NULL;
	json_t *doc = tokenizer_read_json(path, e);
	if (!doc) return e ? e->code : rc;
	TRY(tokenizer_new(&t, e));
	TRY(read_model(t, json_object_get(doc, "model"), e));
	TRY(read_added(t, json_object_get(doc, "added_tokens"), e));
	TRY(tokenizer_index(t, e));
	TRY(tokenizer_read_pipeline(t, doc, e));
	keep_parts(t, doc);
	in_config = 1;
	if (folder) TRY(tokenizer_read_config(t, folder, e));
	in_config = 0;
	TRY(tokenizer_finish(t, e));
	*out = t;
	t = NULL;
out:
	tokenizer_close(t);
	json_decref(doc);
	if (rc < 0 && !in_config) err_prefix(e, "%s", path);
	return rc;
}

static int read_merges_text(struct bpe *b, char *data, struct err *e)
{
	unsigned line = 0;
	for (char *s = data, *next; *s; s = next) {
		char *end = strchr(s, '\n');
		next = end ? end + 1 : s + strlen(s);
		if (!end) end = next;
		if (end > s && end[-1] == '\r') end--;
		*end = 0;
		if ((!line++ && !strncmp(s, "#version", 8)) || !*s) continue;
		char *space = strchr(s, ' ');
		if (!space) return err_set(e, ERR_FORMAT, "line %u: not two parts", line);
		int rc = bpe_add_merge(b, s, (size_t)(space - s), space + 1, strlen(space + 1), e);
		if (rc) return err_prefix(e, "line %u", line);
	}
	return 0;
}

static int open_gpt2(struct tokenizer **out, const char *vocab_path, const char *merges_path, const char *folder, struct err *e)
{
	static const char end[] = "<|endoftext|>";
	int rc = ERR_FORMAT;
	struct tokenizer *t = NULL;
	char *data = NULL;
	size_t bytes;
	*out = NULL;
	json_t *vocab = tokenizer_read_json(vocab_path, e);
	if (!vocab) return e ? e->code : rc;
	TRY(tokenizer_new(&t, e));
	rc = read_vocab(&t->bpe, vocab, e);
	if (rc) err_prefix(e, "%s", vocab_path);
	TRY(rc);
	TRY(fs_read(merges_path, FILE_LIMIT, &data, &bytes, e));
	rc = read_merges_text(&t->bpe, data, e);
	if (rc) err_prefix(e, "%s", merges_path);
	TRY(rc);
	int32_t id = bpe_id(&t->bpe, end, sizeof end - 1);
	const struct added_token special = { .content = (char *)(uintptr_t)end, .bytes = sizeof end - 1, .id = id, .special = 1 };
	if (id >= 0) TRY(tokenizer_add(t, &special, e));
	TRY(tokenizer_set_gpt2(t, e));
	if (folder) TRY(tokenizer_read_config(t, folder, e));
	TRY(tokenizer_finish(t, e));
	*out = t;
	t = NULL;
out:
	free(data);
	json_decref(vocab);
	tokenizer_close(t);
	return rc;
}

int tokenizer_open_gpt2(struct tokenizer **out, const char *vocab_path, const char *merges_path, struct err *e)
{
	return open_gpt2(out, vocab_path, merges_path, NULL, e);
}

int tokenizer_open(struct tokenizer **out, const char *path, struct err *e)
{
	enum { PATH = 4096 };
	static const char *const names[] = { "tokenizer.json", "vocab.json", "merges.txt" };
	char in[3][PATH];
	*out = NULL;
	for (int i = 0; i < 3; i++)
		if (snprintf(in[i], PATH, "%s/%s", path, names[i]) >= PATH) return err_set(e, ERR_RANGE, "tokenizer path \"%.80s…\" is too long", path);
	if (fs_exists(in[0])) return open_json(out, in[0], path, e);
	if (fs_exists(in[1]) && fs_exists(in[2])) return open_gpt2(out, in[1], in[2], path, e);
	if (!fs_exists(path)) return err_set(e, ERR_NOT_FOUND, "%s: no such tokenizer (expected a tokenizer.json or a folder that holds one)", path);
	return open_json(out, path, NULL, e);
}

/* ---- saving ---- */

static json_t *byte_level(int trim_offsets)
{
	return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", trim_offsets, "use_regex", 1);
}

int tokenizer_set_gpt2(struct tokenizer *t, struct err *e)
{
	json_object_set_new(t->pipeline, "pre_tokenizer", byte_level(1));
	json_object_set_new(t->pipeline, "decoder", byte_level(1));
	return tokenizer_read_pipeline(t, t->pipeline, e);
}

static json_t *string(const char *s, size_t n)
{
	return json_stringn(s, n);
}

static json_t *write_added(const struct tokenizer *t)
{
	json_t *list = json_array();
	for (size_t i = 0; i < t->n_added; i++) {
		const struct added_token *a = &t->added[i];
		json_array_append_new(list, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", a->id, "content", string(a->content, a->bytes),
						      "single_word", a->single_word, "lstrip", a->lstrip, "rstrip", a->rstrip,
						      "normalized", a->normalized, "special", a->special));
	}
	return list;
}

static json_t *write_model(const struct bpe *b)
{
	json_t *vocab = json_object(), *merges = json_array();
	for (int32_t id = 0; id < b->size; id++)
		if (b->token[id]) json_object_setn_new(vocab, b->token[id], b->bytes[id], json_integer(id));
	for (uint32_t i = 0; i < b->merges; i++) {
		const struct bpe_merge *m = &b->merge[i];
		json_array_append_new(merges, json_pack("[o, o]", string(b->token[m->left], b->bytes[m->left]),
							string(b->token[m->right], b->bytes[m->right])));
	}
	json_t *unk = b->unk < 0 ? json_null() : string(b->token[b->unk], b->bytes[b->unk]);
	return json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", unk,
			 "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", b->fuse_unk, "byte_fallback", b->byte_fallback,
			 "ignore_merges", b->ignore_merges, "vocab", vocab, "merges", merges);
}

/* The whole file as text, malloc'ed; NULL when memory is out. */
static char *dump(const struct tokenizer *t)
{
	json_t *doc = json_object();
	json_object_set_new(doc, "version", json_string("1.0"));
	for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
		json_t *v = json_object_get(t->pipeline, PARTS[i]);
		if (i == 2) json_object_set_new(doc, "added_tokens", write_added(t));
		json_object_set_new(doc, PARTS[i], v ? json_incref(v) : json_null());
	}
	json_object_set_new(doc, "model", write_model(&t->bpe));
	char *s = json_dumps(doc, JSON_INDENT(1));
	json_decref(doc);
	return s;
}

int tokenizer_save(const struct tokenizer *t, const char *path, struct err *e)
{
	char *s = dump(t);
	if (!s) return err_set(e, ERR_MEMORY, "%s: out of memory for the tokenizer's file", path);
	int rc = fs_write_atomic(path, s, strlen(s), e);
	free(s);
	return rc;
}

void tokenizer_digest(const struct tokenizer *t, char hex[HASH_HEX])
{
	char *s = dump(t);
	CHECK(s, "out of memory for the tokenizer's digest");
	hash_bytes(s, strlen(s), hex);
	free(s);
}
