/* Model folders; see model_folder.h. One table ties the keys of config.json to
 * the fields of the shape, for both directions. */
#include "policy/model_folder.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/model_file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { INTEGER, FLAG, REAL };

static const struct key {
	const char *name;
	enum kind kind;
	size_t offset;
} keys[] = {
	{"vocab_size", INTEGER, offsetof(struct shape, vocab)},
	{"hidden_size", INTEGER, offsetof(struct shape, width)},
	{"num_hidden_layers", INTEGER, offsetof(struct shape, layers)},
	{"num_attention_heads", INTEGER, offsetof(struct shape, heads)},
	{"num_key_value_heads", INTEGER, offsetof(struct shape, kv_heads)},
	{"head_dim", INTEGER, offsetof(struct shape, head_dim)},
	{"v_head_dim", INTEGER, offsetof(struct shape, value_dim)},
	{"n_routed_experts", INTEGER, offsetof(struct shape, experts)},
	{"num_experts_per_tok", INTEGER, offsetof(struct shape, chosen)},
	{"moe_intermediate_size", INTEGER, offsetof(struct shape, expert_width)},
	{"shared_intermediate_size", INTEGER, offsetof(struct shape, shared_width)},
	{"first_k_dense_replace", INTEGER, offsetof(struct shape, dense_layers)},
	{"intermediate_size", INTEGER, offsetof(struct shape, dense_width)},
	{"max_position_embeddings", INTEGER, offsetof(struct shape, max_positions)},
	{"norm_topk_prob", FLAG, offsetof(struct shape, router_normalize)},
	{"router_bias", FLAG, offsetof(struct shape, router_bias)},
	{"qk_norm", FLAG, offsetof(struct shape, qk_norm)},
	{"tie_word_embeddings", FLAG, offsetof(struct shape, tied)},
	{"routed_scaling_factor", REAL, offsetof(struct shape, router_scale)},
	{"rope_theta", REAL, offsetof(struct shape, rope_theta)},
	{"rms_norm_eps", REAL, offsetof(struct shape, norm_eps)},
	{"initializer_range", REAL, offsetof(struct shape, init_std)},
};

enum { KEYS = sizeof keys / sizeof keys[0] };

static json_t *shape_json(const struct shape *s)
{
	json_t *j = json_pack("{s:s,s:s,s:b}", "model_type", "tenfold", "scoring_func", s->router == ROUTER_SIGMOID ? "sigmoid" : "softmax", "score_head",
			      (s->heads_kind & HEAD_SCALAR) != 0);
	for (int i = 0; i < KEYS; i++) {
		const char *field = (const char *)s + keys[i].offset;
		json_t *v = keys[i].kind == INTEGER ? json_integer(*(const int64_t *)field)
			  : keys[i].kind == FLAG    ? json_boolean(*(const int *)field)
						    : json_real(*(const double *)field);
		json_object_set_new(j, keys[i].name, v);
	}
	return j;
}

static int join(char out[PATH_MAX], const char *folder, const char *file, struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/%s", folder, file) < PATH_MAX) return 0;
	return err_set(e, ERR_RANGE, "path too long: %s/%s", folder, file);
}

int model_folder_write(const char *folder, const struct model *m, const struct tokenizer *t, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	json_t *j = shape_json(&m->shape);
	int rc = 0;
	TRY(fs_mkdirs(folder, e));
	TRY(join(path, folder, "model.safetensors", e));
	TRY(model_save(m, path, 1, NULL, e));
	FAULT_POINT("model_folder.after_weights", "a model's folder has its weights only");
	TRY(join(path, folder, "tokenizer.json", e));
	if (t) TRY(tokenizer_save(t, path, e));
	text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	CHECK(text, "out of memory for config.json");
	FAULT_POINT("model_folder.before_config", "a model's folder has all but config.json");
	TRY(join(path, folder, "config.json", e));
	TRY(fs_write_atomic(path, text, strlen(text), e));
out:
	free(text);
	json_decref(j);
	return rc;
}

static int read_key(const json_t *j, const struct key *k, const char *path, struct shape *s, struct err *e)
{
	char *field = (char *)s + k->offset;
	const json_t *v = json_object_get(j, k->name);
	if (!v) return err_set(e, ERR_FORMAT, "%s lacks the key %s", path, k->name);
	if (k->kind == INTEGER && json_is_integer(v)) *(int64_t *)field = json_integer_value(v);
	else if (k->kind == FLAG && json_is_boolean(v)) *(int *)field = json_is_true(v);
	else if (k->kind == REAL && json_is_number(v)) *(double *)field = json_number_value(v);
	else return err_set(e, ERR_FORMAT, "%s: %s has the wrong type", path, k->name);
	return 0;
}

int model_folder_shape(const char *folder, struct shape *s, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	size_t bytes;
	json_t *j = NULL;
	json_error_t je;
	int rc = 0;
	memset(s, 0, sizeof *s);
	TRY(join(path, folder, "config.json", e));
	TRY(fs_read(path, 1 << 20, &text, &bytes, e));
	j = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	if (!j) TRY(err_set(e, ERR_FORMAT, "%s:%d: %s", path, je.line, je.text));
	const char *type = json_string_value(json_object_get(j, "model_type")), *router = json_string_value(json_object_get(j, "scoring_func"));
	if (!type || strcmp(type, "tenfold")) TRY(err_set(e, ERR_FORMAT, "%s: model_type is %s; this program reads tenfold", path, type ? type : "missing"));
	for (int i = 0; i < KEYS; i++) TRY(read_key(j, &keys[i], path, s, e));
	s->router = router && !strcmp(router, "sigmoid") ? ROUTER_SIGMOID : ROUTER_SOFTMAX;
	s->heads_kind = HEAD_LM | (json_is_true(json_object_get(j, "score_head")) ? HEAD_SCALAR : 0);
	TRY(shape_check(s, e));
out:
	json_decref(j);
	free(text);
	return rc;
}

const char *model_folder_shape_difference(const struct shape *a, const struct shape *b)
{
	for (int i = 0; i < KEYS; i++) {
		size_t bytes = keys[i].kind == INTEGER ? sizeof(int64_t) : keys[i].kind == FLAG ? sizeof(int) : sizeof(double);
		if (memcmp((const char *)a + keys[i].offset, (const char *)b + keys[i].offset, bytes)) return keys[i].name;
	}
	return a->router == b->router ? NULL : "scoring_func";
}

int model_folder_open(struct model **out, const char *folder, struct backend *backend, int heads_kind, struct err *e)
{
	struct shape s;
	char path[PATH_MAX];
	int rc = 0;
	*out = NULL;
	TRY(model_folder_shape(folder, &s, e));
	s.heads_kind = heads_kind;
	TRY(model_open(out, backend, &s, e));
	TRY(join(path, folder, "model.safetensors", e));
	TRY(model_load(*out, path, MODEL_FILE_SKIP_HEADS | (heads_kind & HEAD_SCALAR ? MODEL_FILE_KEEP_HEADS : 0), e));
	return 0;
out:
	model_close(*out);
	*out = NULL;
	return rc;
}
