/* PEFT folders written; see adapter_file.h. */
#include "policy/adapter_names.h"

#include "core/base/fs.h"
#include "policy/safetensors.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int adapter_is_fused(enum family f)
{
	return f == FAMILY_OLMOE || f == FAMILY_MIXTRAL || f == FAMILY_QWEN3_MOE || f == FAMILY_DEEPSEEK_V2;
}

void adapter_module(enum family f, const char *name, char out[ADAPTER_NAME])
{
	static const char old[] = ".block_sparse_moe.";
	const char *end = strrchr(name, '.'), *at = f == FAMILY_MIXTRAL ? strstr(name, old) : NULL;
	CHECK(end, "the parameter %s has no module", name);
	if (at) snprintf(out, ADAPTER_NAME, "%.*s.mlp.%.*s", (int)(at - name), name, (int)(end - at - (ptrdiff_t)strlen(old)), at + strlen(old));
	else snprintf(out, ADAPTER_NAME, "%.*s", (int)(end - name), name);
}

void adapter_experts(enum family f, const char *name, char out[ADAPTER_NAME])
{
	adapter_module(f, name, out);
	char *at = strstr(out, ".experts.");
	CHECK(at, "%s is no expert's", name);
	at[strlen(".experts")] = 0;
}

/* ---- tensors ---- */

struct writer {
	const struct model *m;
	float *host;            /* [learned->floats] */
	struct safetensors_entry *entry;
	char (*name)[ADAPTER_NAME];
	float **made;           /* of an entry; NULL: its data are in host */
	size_t n, room;
};

/* data NULL: room for rows·cols numbers is made and returned. */
static float *add(struct writer *w, const char *module, const char *suffix, int64_t rows, int64_t cols, float *data)
{
	CHECK(w->n < w->room, "more than %zu tensors of adapters", w->room);
	snprintf(w->name[w->n], ADAPTER_NAME, ADAPTER_PREFIX "%s%s", module, suffix);
	if (!data) {
		data = w->made[w->n] = calloc((size_t)(rows * (cols ? cols : 1)) + 1, sizeof *data);
		CHECK(data, "out of memory for %s", w->name[w->n]);
	}
	w->entry[w->n] = (struct safetensors_entry){.name = w->name[w->n], .dtype = SAFETENSORS_F32, .ndim = cols ? 2 : 1, .shape = {rows, cols}, .data = data};
	w->n++;
	return data;
}

static float *at(const struct writer *w, int i)
{
	return w->host + w->m->learned->list[i].offset;
}

/* The factors of some matrices of the same experts, one under another in their outputs (param -1: none, whose outputs are 0). */
static void add_fused(struct writer *w, const char *module, const char *inner, const int *param, int n)
{
	const struct model *m = w->m;
	char suffix[64];
	int64_t experts = m->shape.experts, rank = 0, rows = 0, cols = 0;
	for (int i = 0; i < n; i++) {
		const struct param *q = &m->params.list[param[i]];
		const struct adapter_slot *s = &m->adapter->slot[param[i]];
		rank += s->a < 0 ? 0 : m->learned->list[s->a].rows;
		rows += q->rows, cols = q->cols;
	}
	snprintf(suffix, sizeof suffix, "%s.lora_A.weight", inner);
	float *a = add(w, module, suffix, experts * rank, cols, NULL);
	snprintf(suffix, sizeof suffix, "%s.lora_B.weight", inner);
	float *b = add(w, module, suffix, rows, rank * experts, NULL);
	int64_t first_rank = 0, first_row = 0;
	for (int i = 0; i < n; i++) {
		const struct adapter_slot *s = &m->adapter->slot[param[i]];
		int64_t r = s->a < 0 ? 0 : m->learned->list[s->a].rows, out = m->params.list[param[i]].rows;
		for (int64_t x = 0; r && x < experts; x++) {
			memcpy(a + (x * rank + first_rank) * cols, at(w, s->a) + x * r * cols, (size_t)(r * cols) * sizeof *a);
			for (int64_t o = 0; o < out; o++)
				for (int64_t k = 0; k < r; k++) b[((first_row + o) * rank + first_rank + k) * experts + x] = at(w, s->b)[(x * out + o) * r + k];
		}
		first_rank += r, first_row += out;
	}
}

static int has(const struct model *m, int param)
{
	return param >= 0 && m->adapter->slot[param].a >= 0;
}

static void add_experts(struct writer *w)
{
	const struct model *m = w->m;
	for (int64_t l = 0; l < m->shape.layers; l++) {
		const struct layer_params *q = &m->params.layer[l];
		char module[ADAPTER_NAME];
		int both = has(m, q->gate) || has(m, q->up);
		if (!both && !has(m, q->down)) continue;
		adapter_experts(m->shape.family, m->params.list[q->down].name, module);
		if (both) add_fused(w, module, has(m, q->down) ? ".base_layer" : "", (const int[]){q->gate, q->up}, 2);
		if (has(m, q->down)) add_fused(w, module, "", &q->down, 1);
	}
}

/* "…experts.%d.up_proj" for expert i. */
static void expert_module(const char *module, int64_t i, char out[ADAPTER_NAME])
{
	const char *mark = strstr(module, "%d");
	if (mark) snprintf(out, ADAPTER_NAME, "%.*s%lld%s", (int)(mark - module), module, (long long)i, mark + 2);
	else snprintf(out, ADAPTER_NAME, "%s", module);
}

static void add_matrices(struct writer *w)
{
	const struct model *m = w->m;
	int fused = adapter_is_fused(m->shape.family);
	for (int i = 0; i < m->params.count; i++) {
		const struct param *q = &m->params.list[i];
		const struct adapter_slot *s = &m->adapter->slot[i];
		char module[ADAPTER_NAME], one[ADAPTER_NAME];
		if (s->a < 0 || (fused && q->stack > 1)) continue;
		int64_t r = m->learned->list[s->a].rows;
		adapter_module(m->shape.family, q->name, module);
		for (int64_t x = 0; x < q->stack; x++) {
			expert_module(module, x, one);
			add(w, one, ".lora_A.weight", r, q->cols, at(w, s->a) + x * r * q->cols);
			add(w, one, ".lora_B.weight", q->rows, r, at(w, s->b) + x * q->rows * r);
		}
	}
}

/* A value head beside a language model's, the block of a group and a score's bias have no place in a classifier. */
static int is_written_whole(const struct model *m, int param)
{
	const char *name = m->params.list[param].name;
	return m->adapter->slot[param].whole >= 0 && (param == m->params.lm_head || (!(m->shape.heads_kind & HEAD_LM) && !strcmp(name, "score.weight")));
}

static void add_whole(struct writer *w)
{
	const struct model *m = w->m;
	for (int i = 0; i < m->params.count; i++) {
		char module[ADAPTER_NAME];
		if (!is_written_whole(m, i)) continue;
		adapter_module(m->shape.family, m->params.list[i].name, module);
		add(w, module, ".weight", m->params.list[i].rows, m->params.list[i].cols, at(w, m->adapter->slot[i].whole));
	}
}

static int write_tensors(const struct model *m, const char *path, struct err *e)
{
	static const struct safetensors_pair format = {"format", "pt"};
	struct writer w = {.m = m, .room = (size_t)m->learned->count * (size_t)(m->shape.experts > 1 ? m->shape.experts : 1)};
	w.host = malloc((size_t)m->learned->floats * sizeof *w.host + 1);
	w.entry = calloc(w.room + 1, sizeof *w.entry), w.name = calloc(w.room + 1, sizeof *w.name), w.made = calloc(w.room + 1, sizeof *w.made);
	CHECK(w.host && w.entry && w.name && w.made, "out of memory for %zu tensors of adapters", w.room);
	model_get_learned(m, w.host);
	add_matrices(&w);
	if (adapter_is_fused(m->shape.family)) add_experts(&w);
	add_whole(&w);
	int rc = safetensors_write(path, w.entry, w.n, &format, 1, 1, NULL, e);
	for (size_t i = 0; i < w.n; i++) free(w.made[i]);
	free(w.host), free(w.entry), free(w.name), free(w.made);
	return rc;
}

/* ---- adapter_config.json ---- */

/* Whether PEFT finds the parameter as one of a module, not as a module: what transformers 5 fuses, and what is called like it. */
static int is_parameter(const struct model *m, int param)
{
	char leaf[64];
	if (!adapter_is_fused(m->shape.family)) return 0;
	adapter_leaf(m->params.list[param].name, leaf);
	return m->params.list[param].stack > 1 || !strcmp(leaf, "gate") || !strcmp(leaf, "gate_proj") || !strcmp(leaf, "up_proj") || !strcmp(leaf, "down_proj");
}

/* What PEFT is to look for: the path of the module (or parameter), or its end from CUT on. */
enum cut { CUT_LEAF, CUT_LAYER, CUT_NOTHING };

static const char *target_name(const struct model *m, int param, enum cut cut, char full[ADAPTER_NAME])
{
	const struct param *q = &m->params.list[param];
	char leaf[64];
	adapter_leaf(q->name, leaf);
	if (is_parameter(m, param) && q->stack > 1) {
		adapter_experts(m->shape.family, q->name, full);
		int down = !strcmp(leaf, "down_proj") || !strcmp(leaf, "w2");
		strncat(full, down ? ".down_proj" : ".gate_up_proj", ADAPTER_NAME - strlen(full) - 1);
	} else {
		adapter_module(m->shape.family, q->name, full);
		if (is_parameter(m, param)) strncat(full, ".weight", ADAPTER_NAME - strlen(full) - 1);
	}
	if (cut == CUT_LEAF) return strrchr(full, '.') ? strrchr(full, '.') + 1 : full;
	const char *end = full;
	for (const char *p = full; *p && cut == CUT_LAYER; p++) /* after the layer's number */
		if (*p == '.' && p[1] >= '0' && p[1] <= '9') end = p + 1 + strspn(p + 1, "0123456789") + 1;
	return end;
}

/* Whether what PEFT finds there has an adapter: gate and up projection of fused experts are one, and either stands for both. */
static int is_covered(const struct model *m, int param)
{
	for (int64_t l = 0; adapter_is_fused(m->shape.family) && l < m->shape.layers; l++) {
		const struct layer_params *q = &m->params.layer[l];
		if (q->gate >= 0 && (q->gate == param || q->up == param)) return has(m, q->gate) || has(m, q->up);
	}
	return has(m, param);
}

/* Whether all that PEFT would find by this name are covered. */
static int is_common(const struct model *m, int param, enum cut cut)
{
	char one[ADAPTER_NAME], other[ADAPTER_NAME];
	const char *name = target_name(m, param, cut, one);
	if (cut == CUT_LEAF && is_parameter(m, param)) return 0;
	for (int k = 0; k < m->params.count; k++)
		if (adapter_is_target(&m->params, k) && !strcmp(name, target_name(m, k, cut, other)) && !is_covered(m, k)) return 0;
	return 1;
}

static void put_once(json_t *list, const char *name)
{
	size_t i;
	json_t *x;
	json_array_foreach(list, i, x)
		if (!strcmp(json_string_value(x), name)) return;
	json_array_append_new(list, json_string(name));
}

/* The targets by the shortest ends of their paths that name them and nothing else. */
static void put_targets(const struct model *m, json_t *modules, json_t *parameters)
{
	for (int i = 0; i < m->params.count; i++) {
		char full[ADAPTER_NAME], one[ADAPTER_NAME];
		enum cut cut = CUT_LEAF;
		if (!has(m, i)) continue;
		while (cut < CUT_NOTHING && !is_common(m, i, cut)) cut++;
		const char *name = target_name(m, i, cut, full);
		for (int64_t x = 0; x < (strstr(name, "%d") ? m->params.list[i].stack : 1); x++) {
			expert_module(name, x, one);
			put_once(is_parameter(m, i) ? parameters : modules, one);
		}
	}
}

/* Ranks of the fused gate and up projection, where both have one. */
static void put_patterns(const struct model *m, const struct config_lora *c, json_t *ranks, json_t *alphas)
{
	for (int64_t l = 0; adapter_is_fused(m->shape.family) && l < m->shape.layers; l++) {
		const struct layer_params *q = &m->params.layer[l];
		char module[ADAPTER_NAME], key[ADAPTER_NAME + 16];
		if (!has(m, q->gate) || !has(m, q->up)) continue;
		int64_t r = m->learned->list[m->adapter->slot[q->gate].a].rows + m->learned->list[m->adapter->slot[q->up].a].rows;
		adapter_experts(m->shape.family, m->params.list[q->gate].name, module);
		snprintf(key, sizeof key, "%s.gate_up_proj", module);
		json_object_set_new(ranks, key, json_integer(r));
		json_object_set_new(alphas, key, json_real(c->alpha * (c->rslora ? sqrt((double)r / (double)c->r) : (double)r / (double)c->r)));
	}
}

static json_t *whole_names(const struct model *m)
{
	json_t *list = json_array();
	for (int i = 0; i < m->params.count; i++) {
		char leaf[64];
		if (!is_written_whole(m, i)) continue;
		adapter_leaf(m->params.list[i].name, leaf);
		json_array_append_new(list, json_string(leaf));
	}
	return list;
}

static json_t *number(double x)
{
	return x == floor(x) && fabs(x) < 1e9 ? json_integer((json_int_t)x) : json_real(x);
}

static json_t *config_of(const struct model *m, const char *base, const struct config_lora *c)
{
	json_t *modules = json_array(), *parameters = json_array(), *ranks = json_object(), *alphas = json_object(), *whole = whole_names(m);
	put_targets(m, modules, parameters);
	put_patterns(m, c, ranks, alphas);
	json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:o}", "peft_type", "LORA", "task_type", m->shape.heads_kind & HEAD_LM ? "CAUSAL_LM" : "SEQ_CLS", "base_model_name_or_path",
			      base, "r", (json_int_t)c->r, "lora_alpha", number(c->alpha));
	/* PEFT refuses dropout in front of parameters, at inference too, where there is none anyway */
	json_object_set_new(j, "lora_dropout", number(json_array_size(parameters) ? 0 : c->dropout));
	json_object_set_new(j, "use_rslora", json_boolean(c->rslora));
	json_object_set_new(j, "target_modules", modules);
	if (json_array_size(parameters)) json_object_set(j, "target_parameters", parameters);
	json_object_set_new(j, "modules_to_save", json_array_size(whole) ? json_incref(whole) : json_null());
	json_object_set_new(j, "rank_pattern", ranks);
	json_object_set_new(j, "alpha_pattern", alphas);
	json_object_set_new(j, "bias", json_string("none"));
	json_object_set_new(j, "fan_in_fan_out", json_boolean(m->shape.family == FAMILY_GPT2));
	json_object_set_new(j, "init_lora_weights", json_true());
	json_object_set_new(j, "inference_mode", json_true());
	json_decref(parameters);
	json_decref(whole);
	return j;
}

int adapter_write(const char *folder, const struct model *m, const char *base, const struct config_lora *c, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	int rc = 0;
	CHECK(m->adapter, "a model without adapters written as one");
	TRY(fs_mkdirs(folder, e));
	if (snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder) >= PATH_MAX) TRY(err_set(e, ERR_RANGE, "path too long: %s", folder));
	TRY(write_tensors(m, path, e));
	json_t *j = config_of(m, base, c);
	text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
	json_decref(j);
	CHECK(text, "out of memory for adapter_config.json");
	snprintf(path, sizeof path, "%.*s/adapter_config.json", PATH_MAX - 32, folder);
	rc = fs_write_atomic(path, text, strlen(text), e);
out:
	free(text);
	return rc;
}
