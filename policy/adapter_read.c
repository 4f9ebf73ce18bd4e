/* PEFT folders read; see adapter_file.h. What is adapted is taken from the names of
 * the tensors: rank and place of each adapter are there, so that patterns of
 * target_modules need not be understood. */
#include "policy/adapter_names.h"

#include "core/base/fs.h"
#include "policy/safetensors_internal.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- adapter_config.json ---- */

static int read_config(const char *folder, json_t **out, char path[PATH_MAX], struct err *e)
{
	char *text = NULL;
	size_t bytes;
	json_error_t je;
	*out = NULL;
	if (snprintf(path, PATH_MAX, "%s/adapter_config.json", folder) >= PATH_MAX) return err_set(e, ERR_RANGE, "path too long: %s", folder);
	int rc = fs_read(path, 1 << 20, &text, &bytes, e);
	if (rc < 0) return rc;
	*out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	free(text);
	if (json_is_object(*out)) return 0;
	json_decref(*out);
	*out = NULL;
	return err_set(e, ERR_FORMAT, "%s:%d: %s", path, je.line, je.text);
}

static int is_set(const json_t *j, const char *key)
{
	const json_t *x = json_object_get(j, key);
	return x && !json_is_null(x) && !json_is_false(x) && !(json_is_array(x) && json_array_size(x) == 0) && !(json_is_object(x) && json_object_size(x) == 0);
}

/* Refuses what would change numbers in a way that is not computed here. */
static int check_config(const json_t *j, const char *path, struct err *e)
{
	static const char *const refused[] = {"use_dora", "lora_bias", "use_qalora", "trainable_token_indices", "megatron_config", "alora_invocation_tokens", "eva_config",
					      "corda_config", "arrow_config", "kasa_config", "velora_config"};
	const char *type = json_string_value(json_object_get(j, "peft_type")), *bias = json_string_value(json_object_get(j, "bias"));
	const json_t *init = json_object_get(j, "init_lora_weights");
	if (!type || strcmp(type, "LORA")) return err_set(e, ERR_FORMAT, "%s: peft_type is %s; LORA is read", path, type ? type : "missing");
	if (bias && strcmp(bias, "none")) return err_set(e, ERR_FORMAT, "%s: bias is \"%s\"; adapters with trained biases are not read", path, bias);
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		if (is_set(j, refused[i])) return err_set(e, ERR_FORMAT, "%s: %s is set, which is not computed here", path, refused[i]);
	if (json_is_string(init) && strcmp(json_string_value(init), "gaussian"))
		return err_set(e, ERR_FORMAT, "%s: init_lora_weights is \"%s\", a start that may change the base's weights: convert the adapter in PEFT first "
			       "(path_initial_model_for_weight_conversion)", path, json_string_value(init));
	return 0;
}

/* alpha of a module: alpha_pattern's, whose keys are ends of paths (or, as PEFT makes them for fused experts, ".*\.NAME"). */
static int alpha_of(const json_t *j, const char *module, const char *path, double *alpha, struct err *e)
{
	const char *key;
	json_t *value;
	const json_t *standard = json_object_get(j, "lora_alpha");
	*alpha = standard ? json_number_value(standard) : 8;
	json_object_foreach(json_object_get(j, "alpha_pattern"), key, value) {
		const char *name = !strncmp(key, ".*\\.", 4) ? key + 4 : key;
		if (strpbrk(name, "*+?[]()|\\^$")) return err_set(e, ERR_FORMAT, "%s: alpha_pattern has the expression %s; ends of paths are read", path, key);
		size_t n = strlen(module), k = strlen(name);
		if (n >= k && !strcmp(module + n - k, name) && (n == k || module[n - k - 1] == '.')) *alpha = json_number_value(value);
	}
	return 0;
}

int adapter_heads(const char *folder, int *heads_kind, struct err *e)
{
	char path[PATH_MAX];
	json_t *j;
	int rc = read_config(folder, &j, path, e);
	if (rc < 0) return rc;
	const char *task = json_string_value(json_object_get(j, "task_type"));
	if (!task || !strcmp(task, "CAUSAL_LM")) *heads_kind = HEAD_LM; /* missing where a plain module was adapted */
	else if (!strcmp(task, "SEQ_CLS")) *heads_kind = HEAD_SCALAR;
	else rc = err_set(e, ERR_FORMAT, "%s: task_type is %s; CAUSAL_LM and SEQ_CLS are read", path, task);
	json_decref(j);
	return rc;
}

int adapter_is_folder(const char *folder)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s/config.json", folder) >= PATH_MAX || fs_exists(path)) return 0;
	return snprintf(path, sizeof path, "%s/adapter_config.json", folder) < PATH_MAX && fs_exists(path);
}

int adapter_base(const char *folder, char *out, size_t bytes, struct err *e)
{
	char path[PATH_MAX];
	json_t *j;
	int rc = read_config(folder, &j, path, e);
	if (rc < 0) return rc;
	const char *base = json_string_value(json_object_get(j, "base_model_name_or_path"));
	int n = snprintf(out, bytes, "%s", base ? base : "");
	if (n > 0 && !fs_exists(out) && base[0] != '/') n = snprintf(out, bytes, "%s/%s", folder, base);
	if (n <= 0 || (size_t)n >= bytes || !fs_exists(out))
		rc = err_set(e, ERR_NOT_FOUND, "%s: the base model \"%s\" is no folder here: name it (`tenfold model merge BASE ADAPTER OUT`), or write its path into base_model_name_or_path",
			     path, base ? base : "");
	json_decref(j);
	return rc;
}

/* ---- tensors ---- */

enum form { FORM_NONE, FORM_APART, FORM_FUSED };

struct found { /* of a parameter of the model */
	enum form form;
	char a[ADAPTER_NAME], b[ADAPTER_NAME]; /* names; "%d" stays for the expert */
	int64_t rank, first;                   /* fused: row of B's outputs that this matrix starts at */
	int64_t outputs;                       /* of B */
};

struct reader {
	const struct safetensors *s;
	const json_t *config;
	const char *path, *config_path;
	const struct params *p;
	const struct shape *shape;
	struct found *found; /* [p->count] */
	struct adapter_wish *wish;
	unsigned char *used; /* [tensors] */
};

static const struct safetensors_tensor *take(struct reader *r, const char *name)
{
	for (size_t i = 0; i < safetensors_count(r->s); i++)
		if (!strcmp(safetensors_at(r->s, i)->name, name)) {
			r->used[i] = 1;
			return safetensors_at(r->s, i);
		}
	return NULL;
}

static void expert_name(const char *name, int64_t i, char out[ADAPTER_NAME])
{
	const char *mark = strstr(name, "%d");
	if (mark) snprintf(out, ADAPTER_NAME, "%.*s%lld%s", (int)(mark - name), name, (long long)i, mark + 2);
	else snprintf(out, ADAPTER_NAME, "%s", name);
}

static int wish(struct reader *r, int param, const char *module, int64_t rank, struct err *e)
{
	struct adapter_wish *w = &r->wish[param];
	w->rank = rank;
	w->rslora = json_is_true(json_object_get(r->config, "use_rslora"));
	return alpha_of(r->config, module, r->config_path, &w->alpha, e);
}

/* An adapter of the module itself; experts have one each, all or none. names: how the module may be called. */
static int find_apart(struct reader *r, int param, const char *module, struct err *e)
{
	const struct param *q = &r->p->list[param];
	struct found *f = &r->found[param];
	char name[ADAPTER_NAME];
	snprintf(f->a, sizeof f->a, ADAPTER_PREFIX "%.180s.lora_A.weight", module);
	snprintf(f->b, sizeof f->b, ADAPTER_PREFIX "%.180s.lora_B.weight", module);
	expert_name(f->a, 0, name);
	const struct safetensors_tensor *first = safetensors_find(r->s, name);
	if (!first) return 0;
	if (first->ndim != 2) return err_set(e, ERR_MISMATCH, "%s: %s is no matrix", r->path, name);
	f->form = FORM_APART, f->rank = first->shape[0];
	for (int64_t x = 0; x < q->stack; x++) {
		const struct safetensors_tensor *t;
		expert_name(f->a, x, name);
		int rc = safetensors_expect(r->s, name, 2, (const int64_t[]){f->rank, q->cols}, &t, e);
		if (rc < 0) return rc;
		take(r, name);
		expert_name(f->b, x, name);
		rc = safetensors_expect(r->s, name, 2, (const int64_t[]){q->rows, f->rank}, &t, e);
		if (rc < 0) return rc;
		take(r, name);
	}
	return wish(r, param, module, f->rank, e);
}

/* One adapter of fused experts: which parameter it is of follows from its shape. */
static int find_fused(struct reader *r, const struct layer_params *l, const char *module, const char *inner, struct err *e)
{
	const struct param *gate = &r->p->list[l->gate], *down = &r->p->list[l->down];
	char a[ADAPTER_NAME], b[ADAPTER_NAME], parameter[ADAPTER_NAME + 16];
	snprintf(a, sizeof a, ADAPTER_PREFIX "%.160s%s.lora_A.weight", module, inner);
	snprintf(b, sizeof b, ADAPTER_PREFIX "%.160s%s.lora_B.weight", module, inner);
	const struct safetensors_tensor *ta = safetensors_find(r->s, a), *tb = safetensors_find(r->s, b);
	int64_t x = r->shape->experts;
	if (!ta && !tb) return 0;
	if (!ta || !tb) return err_set(e, ERR_NOT_FOUND, "%s: %s has no partner %s", r->path, ta ? a : b, ta ? b : a);
	int is_down = ta->ndim == 2 && tb->ndim == 2 && ta->shape[1] == down->cols && tb->shape[0] == down->rows;
	int is_up = ta->ndim == 2 && tb->ndim == 2 && ta->shape[1] == gate->cols && tb->shape[0] == 2 * gate->rows;
	if ((!is_down && !is_up) || ta->shape[0] % x || ta->shape[0] != tb->shape[1])
		return err_set(e, ERR_MISMATCH, "%s: %s [%lld, %lld] and its partner [%lld, %lld] fit neither the gate and up projections nor the down projection of %lld experts", r->path, a,
			       (long long)ta->shape[0], (long long)ta->shape[1], (long long)tb->shape[0], (long long)tb->shape[1], (long long)x);
	const int of[] = {is_down ? l->down : l->gate, l->up};
	snprintf(parameter, sizeof parameter, "%s.%s", module, is_down ? "down_proj" : "gate_up_proj");
	for (int i = 0; i < (is_down ? 1 : 2); i++) {
		struct found *f = &r->found[of[i]];
		if (f->form) return err_set(e, ERR_MISMATCH, "%s: %s is adapted twice", r->path, parameter);
		*f = (struct found){.form = FORM_FUSED, .rank = ta->shape[0] / x, .first = i * gate->rows, .outputs = tb->shape[0]};
		snprintf(f->a, sizeof f->a, "%s", a), snprintf(f->b, sizeof f->b, "%s", b);
		int rc = wish(r, of[i], parameter, f->rank, e);
		if (rc < 0) return rc;
	}
	take(r, a), take(r, b);
	return 0;
}

/* What learned whole: its tensor has the module's own name. */
static int find_whole(struct reader *r, int param, struct err *e)
{
	const struct param *q = &r->p->list[param];
	const struct safetensors_tensor *t;
	char name[ADAPTER_NAME];
	snprintf(name, sizeof name, ADAPTER_PREFIX "%s", q->name);
	if (!safetensors_find(r->s, name)) return 0;
	int rc = safetensors_expect(r->s, name, q->cols ? 2 : 1, (const int64_t[]){q->rows, q->cols}, &t, e);
	if (rc < 0) return rc;
	take(r, name);
	r->wish[param].whole = 1;
	return 0;
}

static int check_left(const struct reader *r, struct err *e)
{
	char shown[SAFETENSORS_SHOWN];
	for (size_t i = 0; i < safetensors_count(r->s); i++) {
		const char *name = safetensors_at(r->s, i)->name;
		if (r->used[i]) continue;
		if (strstr(name, "lora_magnitude_vector") || strstr(name, "lora_embedding_") || strstr(name, "lora_B.bias"))
			return err_set(e, ERR_FORMAT, "%s: %s is of a kind of adapter that is not computed here (DoRA, embeddings, biases)", r->path, safetensors_show(shown, name));
		return err_set(e, ERR_MISMATCH, "%s: %s belongs to no module of this model; the adapter is another model's", r->path, safetensors_show(shown, name));
	}
	return 0;
}

static int find_all(struct reader *r, struct err *e)
{
	const struct params *p = r->p;
	char module[ADAPTER_NAME], old[ADAPTER_NAME];
	int rc = 0;
	for (int i = 0; i < p->count; i++) {
		if (!adapter_is_target(p, i)) {
			TRY(find_whole(r, i, e));
			continue;
		}
		adapter_module(r->shape->family, p->list[i].name, module);
		TRY(find_apart(r, i, module, e));
		adapter_module(FAMILY_TENFOLD, p->list[i].name, old); /* as it is in the table */
		if (r->found[i].form == FORM_NONE && strcmp(old, module)) TRY(find_apart(r, i, old, e));
	}
	for (int64_t l = 0; l < r->shape->layers; l++) {
		if (p->layer[l].gate < 0) continue;
		adapter_experts(r->shape->family, p->list[p->layer[l].gate].name, module);
		TRY(find_fused(r, &p->layer[l], module, ".base_layer", e));
		TRY(find_fused(r, &p->layer[l], module, "", e));
	}
	rc = check_left(r, e);
out:
	return rc;
}

static int read_matrix(const struct reader *r, const char *name, float *out, struct err *e)
{
	return safetensors_read_f32(safetensors_find(r->s, name), out, e);
}

/* The factors of parameter i into the adapter's arena. */
static int read_factors(const struct reader *r, const struct model *m, int i, float *host, struct err *e)
{
	const struct found *f = &r->found[i];
	const struct param *q = &m->params.list[i];
	float *a = host + m->learned->list[m->adapter->slot[i].a].offset, *b = host + m->learned->list[m->adapter->slot[i].b].offset;
	char name[ADAPTER_NAME];
	int rc = 0;
	for (int64_t x = 0; f->form == FORM_APART && x < q->stack; x++) {
		expert_name(f->a, x, name);
		TRY(read_matrix(r, name, a + x * f->rank * q->cols, e));
		expert_name(f->b, x, name);
		TRY(read_matrix(r, name, b + x * q->rows * f->rank, e));
	}
	if (f->form != FORM_FUSED) return 0;
	float *all = malloc((size_t)(f->outputs * f->rank * q->stack) * sizeof *all + 1);
	CHECK(all, "out of memory for %s", f->b);
	rc = read_matrix(r, f->a, a, e);
	if (rc == 0) rc = read_matrix(r, f->b, all, e);
	for (int64_t x = 0; x < q->stack && rc == 0; x++)
		for (int64_t o = 0; o < q->rows; o++)
			for (int64_t k = 0; k < f->rank; k++) b[(x * q->rows + o) * f->rank + k] = all[((f->first + o) * f->rank + k) * q->stack + x];
	free(all);
out:
	return rc;
}

static int fill(const struct reader *r, struct model *m, struct err *e)
{
	float *host = malloc((size_t)m->learned->floats * sizeof *host + 1);
	char name[ADAPTER_NAME];
	int rc = 0;
	CHECK(host, "out of memory for %lld parameters of adapters", (long long)m->learned->parameters);
	model_get_learned(m, host);
	for (int i = 0; i < m->params.count && rc == 0; i++) {
		snprintf(name, sizeof name, ADAPTER_PREFIX "%s", m->params.list[i].name);
		if (r->found[i].form) rc = read_factors(r, m, i, host, e);
		else if (r->wish[i].whole) rc = read_matrix(r, name, host + m->learned->list[m->adapter->slot[i].whole].offset, e);
	}
	if (rc == 0) model_put_learned(m, host);
	free(host);
	return rc;
}

int adapter_read(struct model **out, const struct model *base, const char *folder, int heads_kind, struct err *e)
{
	char config[PATH_MAX], path[PATH_MAX];
	struct safetensors *s = NULL;
	struct shape shape = base->shape;
	struct params p;
	struct arena *arena = arena_open(0);
	json_t *j = NULL;
	int rc = 0;
	*out = NULL;
	shape.heads_kind = heads_kind;
	params_build(&p, &shape, arena);
	TRY(read_config(folder, &j, config, e));
	TRY(check_config(j, config, e));
	if (snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder) >= PATH_MAX) TRY(err_set(e, ERR_RANGE, "path too long: %s", folder));
	TRY(safetensors_open(&s, path, e));
	struct reader r = {.s = s, .config = j, .path = path, .config_path = config, .p = &p, .shape = &shape};
	r.found = arena_must(arena, (size_t)p.count, sizeof *r.found);
	r.wish = arena_must(arena, (size_t)p.count, sizeof *r.wish);
	r.used = arena_must(arena, safetensors_count(s) + 1, 1);
	TRY(find_all(&r, e));
	TRY(adapter_open_wished(out, base, heads_kind, r.wish, e));
	TRY(fill(&r, *out, e));
out:
	if (rc < 0) model_close(*out), *out = NULL;
	safetensors_close(s);
	json_decref(j);
	arena_close(arena);
	return rc;
}
