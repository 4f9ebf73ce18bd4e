/* Model folders; see model_folder.h. */
#include "policy/model_folder.h"

#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/adapter_file.h"
#include "policy/family.h"
#include "policy/model_file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int join(char out[PATH_MAX], const char *folder, const char *file, struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/%s", folder, file) < PATH_MAX) return 0;
	return err_set(e, ERR_RANGE, "path too long: %s/%s", folder, file);
}

int model_folder_dtype(const char *name)
{
	static const struct {
		const char *name;
		enum safetensors_dtype dtype;
	} types[] = {{"f32", SAFETENSORS_F32}, {"f16", SAFETENSORS_F16}, {"bf16", SAFETENSORS_BF16}};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(types[i].name, name)) return (int)types[i].dtype;
	return -1;
}

int model_folder_write_as(const char *folder, const struct model *m, const struct tokenizer *t, enum safetensors_dtype dtype, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	json_t *j = family_write(&m->shape, dtype == SAFETENSORS_F32 ? "float32" : dtype == SAFETENSORS_F16 ? "float16" : "bfloat16");
	int rc = 0;
	TRY(fs_mkdirs(folder, e));
	TRY(join(path, folder, "model.safetensors", e));
	TRY(model_save_as(m, path, dtype, e));
	FAULT_POINT("model_folder.after_weights", "a model's folder has its weights only");
	if (t) TRY(tokenizer_save_folder(t, folder, e));
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

int model_folder_write(const char *folder, const struct model *m, const struct tokenizer *t, struct err *e)
{
	return model_folder_write_as(folder, m, t, SAFETENSORS_F32, e);
}

int model_folder_base(const char *folder, char *out, size_t bytes, struct err *e)
{
	if (!adapter_is_folder(folder)) return snprintf(out, bytes, "%s", folder) < (int)bytes ? 0 : err_set(e, ERR_RANGE, "path too long: %s", folder);
	int rc = adapter_base(folder, out, bytes, e);
	if (rc == 0 && adapter_is_folder(out)) rc = err_set(e, ERR_FORMAT, "the base of the adapters in %s is %s, which has adapters too: merge those first", folder, out);
	return rc;
}

int model_folder_shape(const char *folder, struct shape *s, struct err *e)
{
	char path[PATH_MAX], base[PATH_MAX], *text = NULL;
	size_t bytes;
	json_t *j = NULL;
	json_error_t je;
	int rc = 0;
	memset(s, 0, sizeof *s);
	TRY(model_folder_base(folder, base, sizeof base, e));
	TRY(join(path, base, "config.json", e));
	TRY(fs_read(path, 1 << 20, &text, &bytes, e));
	j = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	if (!j) TRY(err_set(e, ERR_FORMAT, "%s:%d: %s", path, je.line, je.text));
	TRY(family_read(s, j, path, e));
	TRY(shape_check(s, e));
	if (adapter_is_folder(folder)) TRY(adapter_heads(folder, &s->heads_kind, e));
out:
	json_decref(j);
	free(text);
	return rc;
}

static int open_folder(struct model **out, const char *folder, struct backend *backend, int heads_kind, int held, struct err *e)
{
	struct shape s;
	char base[PATH_MAX];
	int rc = 0;
	*out = NULL;
	TRY(model_folder_base(folder, base, sizeof base, e));
	TRY(model_folder_shape(base, &s, e));
	s.heads_kind = heads_kind;
	TRY(held ? model_open_held(out, backend, &s, e) : model_open(out, backend, &s, e));
	TRY(model_load_folder(*out, base, MODEL_FILE_SKIP_HEADS | (heads_kind & HEAD_SCALAR ? MODEL_FILE_KEEP_HEADS : 0), e));
	if (adapter_is_folder(folder)) TRY(model_folder_merge(*out, folder, e));
	return 0;
out:
	model_close(*out);
	*out = NULL;
	return rc;
}

int model_folder_open(struct model **out, const char *folder, struct backend *backend, int heads_kind, struct err *e)
{
	return open_folder(out, folder, backend, heads_kind, 0, e);
}

int model_folder_open_held(struct model **out, const char *folder, struct backend *backend, int heads_kind, struct err *e)
{
	return open_folder(out, folder, backend, heads_kind, 1, e);
}

int model_folder_merge(struct model *m, const char *adapter, struct err *e)
{
	struct model *sum;
	int rc = adapter_read(&sum, m, adapter, m->shape.heads_kind, e);
	if (rc < 0) return rc;
	float *host = calloc((size_t)m->params.floats, sizeof *host);
	if (host) model_get(sum, host);
	else rc = err_set(e, ERR_MEMORY, "no memory to merge adapters into %lld parameters", (long long)m->params.parameters);
	model_close(sum);
	if (host) model_put(m, host);
	free(host);
	return rc;
}

int model_folder_copy_rest(const char *from, const char *to, struct err *e)
{
	static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "vocab.json",
					    "merges.txt", "chat_template.jinja", "added_tokens.json"};
	int rc = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names && rc == 0; i++) {
		char a[PATH_MAX], b[PATH_MAX], *data;
		size_t bytes;
		TRY(join(a, from, names[i], e));
		TRY(join(b, to, names[i], e));
		if (!fs_exists(a) || fs_exists(b)) continue;
		TRY(fs_read(a, (size_t)1 << 30, &data, &bytes, e));
		rc = fs_write_atomic(b, data, bytes, e);
		free(data);
	}
out:
	return rc;
}
