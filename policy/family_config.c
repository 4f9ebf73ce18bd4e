/* config.json to shape and back, driven by the tables of family_keys.c; what does
 * not fit a table (rotary scaling, windows, lists of dense layers) is here. */
#include "policy/family_keys.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* Keys of any config that change no number here: bookkeeping, generation settings, dropout, coefficients of losses. */
static const char *const harmless[] = {
	"architectures", "model_type", "auto_map", "torch_dtype", "dtype", "transformers_version", "use_cache", "_name_or_path", "name_or_path", "id2label",
	"label2id", "num_labels", "problem_type", "output_attentions", "output_hidden_states", "return_dict", "return_dict_in_generate", "output_scores",
	"output_router_logits", "router_aux_loss_coef", "aux_loss_alpha", "seq_aux", "ep_size", "task_specific_params", "summary_type", "summary_use_proj",
	"summary_activation", "summary_proj_to_labels", "summary_first_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout",
	"hidden_dropout", "classifier_dropout", "pretraining_tp", "n_ctx", "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "sep_token_id",
	"cls_token_id", "mask_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "prefix", "finetuning_task",
	"tokenizer_class", "do_sample", "max_length", "min_length", "temperature", "top_k", "top_p", "typical_p", "num_beams", "num_beam_groups",
	"num_return_sequences", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "diversity_penalty",
	"early_stopping", "bad_words_ids", "begin_suppress_tokens", "suppress_tokens", "exponential_decay_length_penalty", "remove_invalid_values",
	"tf_legacy_loss", "use_bfloat16", "torchscript", "pruned_heads", "tie_encoder_decoder", "cross_attention_hidden_size", "unsloth_version",
	"attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "gradient_checkpointing", NULL,
};
static const char *const rope_keys[] = {"rope_theta", "rope_scaling", "rope_parameters", "rotary_emb_base", "rotary_pct", "partial_rotary_factor", NULL};
static const char *const rope_parts[] = {"rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
	"beta_slow", "low_freq_factor", "high_freq_factor", "mscale", "mscale_all_dim", "partial_rotary_factor", "finetuned", NULL};
static const char *const rope_types[] = {"default", "linear", "llama3", "yarn"}; /* enum rope_kind */

static int listed(const char *const *list, const char *name)
{
	for (; list && *list; list++)
		if (!strcmp(*list, name)) return 1;
	return 0;
}

static int wrong(const char *path, const char *key, struct err *e)
{
	return err_set(e, ERR_FORMAT, "%s: %s has the wrong type", path, key);
}

/* ---- activation ---- */

static const struct {
	const char *name;
	enum activation to;
} activations[] = {{"gelu_new", ACTIVATION_GELU_TANH}, {"gelu", ACTIVATION_GELU}, {"gelu_fast", ACTIVATION_GELU_TANH},
		   {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}, {"gelu_python", ACTIVATION_GELU}};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

static int read_activation(const json_t *v, const char *key, const char *path, enum activation *to, struct err *e)
{
	const char *name = json_string_value(v);
	if (!name) return wrong(path, key, e);
	for (int i = 0; i < ACTIVATIONS; i++)
		if (!strcmp(activations[i].name, name)) {
			*to = activations[i].to;
			return 0;
		}
	return err_set(e, ERR_FORMAT, "%s: %s \"%s\" is not supported here: gelu and gelu_new (and their other spellings) are", path, key, name);
}

/* ---- one key ---- */

static int same(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
	return json_equal(a, b);
}

static int refuse_value(const json_t *v, const struct key *k, const char *path, struct err *e)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
	int rc = err_set(e, ERR_FORMAT, "%s: %s is %.80s; only %s is supported here, and another value changes the model's numbers", path, k->name,
			 text ? text : "?", k->standard);
	free(text);
	return rc;
}

static int read_value(const json_t *v, const struct key *k, const json_t *standard, const char *path, struct shape *s, struct err *e)
{
	void *field = (char *)s + k->offset;
	if (k->kind == KEY_ID && json_is_array(v)) v = json_array_get(v, 0);
	switch (k->kind) {
	case KEY_INT:
	case KEY_OPTIONAL:
		if (!json_is_integer(v) && !(k->kind == KEY_OPTIONAL && json_is_null(v))) return wrong(path, k->name, e);
		*(int64_t *)field = json_integer_value(v);
		if (*(int64_t *)field < 0 || *(int64_t *)field > INT32_MAX) return err_set(e, ERR_RANGE, "%s: %s is out of range", path, k->name);
		return 0;
	case KEY_ID:
		if (!json_is_integer(v) && !json_is_null(v)) return wrong(path, k->name, e);
		*(int64_t *)field = json_is_null(v) ? -1 : json_integer_value(v);
		return 0;
	case KEY_FLAG:
		if (json_is_null(v)) v = standard;
		if (!json_is_boolean(v)) return wrong(path, k->name, e);
		*(int *)field = json_is_true(v);
		return 0;
	case KEY_REAL:
		if (!json_is_number(v)) return wrong(path, k->name, e);
		*(double *)field = json_number_value(v);
		return 0;
	case KEY_ACTIVATION:
		return read_activation(v, k->name, path, field, e);
	default:
		return json_is_null(v) || same(v, standard) ? 0 : refuse_value(v, k, path, e);
	}
}

static int read_key(const json_t *config, const struct key *k, const char *path, struct shape *s, struct err *e)
{
	const json_t *v = json_object_get(config, k->name);
	if (!v && k->alias) v = json_object_get(config, k->alias);
	if (!v && !k->standard) return err_set(e, ERR_FORMAT, "%s lacks the key %s", path, k->name);
	json_t *standard = k->standard ? json_loads(k->standard, JSON_DECODE_ANY, NULL) : NULL;
	CHECK(standard || !k->standard, "the class default %s of %s is not JSON", k->standard, k->name);
	int rc = read_value(v ? v : standard, k, standard, path, s, e);
	json_decref(standard);
	return rc;
}

static int check_known(const json_t *config, const struct family_row *f, const char *path, struct err *e)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)config, name, value) {
		int known = listed(harmless, name) || listed(f->ignored, name) || (f->rope_theta > 0 && listed(rope_keys, name)) || !strcmp(name, "sliding_window");
		for (int i = 0; i < f->count && !known; i++) known = !strcmp(f->keys[i].name, name) || (f->keys[i].alias && !strcmp(f->keys[i].alias, name));
		if (!known)
			return err_set(e, ERR_FORMAT, "%s: the key %s is not known for %s and may change the model's numbers; docs/models.md lists the keys that are", path,
				       name, f->type);
	}
	return 0;
}

/* ---- rotation ---- */

static double number(const json_t *rope, const char *key, double standard)
{
	const json_t *v = json_object_get(rope, key);
	return json_is_number(v) ? json_number_value(v) : standard;
}

static int read_scaling(const json_t *rope, const char *path, struct shape *s, struct err *e)
{
	const char *type = json_string_value(json_object_get(rope, "rope_type")), *name;
	json_t *value;
	int kind = 0;
	if (!type) type = json_string_value(json_object_get(rope, "type"));
	json_object_foreach((json_t *)(uintptr_t)rope, name, value) {
		if (!listed(rope_parts, name)) return err_set(e, ERR_FORMAT, "%s: the part %s of the rotary scaling is not supported here", path, name);
	}
	while (type && kind < 4 && strcmp(rope_types[kind], type)) kind++;
	if (kind == 4) return err_set(e, ERR_FORMAT, "%s: rotary scaling of type %s is not supported here: default, linear, llama3 and yarn are", path, type);
	if (kind == ROPE_PLAIN) return 0;
	s->scaling = (struct rope_scaling){.kind = (enum rope_kind)kind, .factor = number(rope, "factor", 0)};
	if (kind != ROPE_LINEAR) s->scaling.original = number(rope, "original_max_position_embeddings", (double)s->max_positions);
	if (kind == ROPE_LLAMA3) s->scaling.low = number(rope, "low_freq_factor", 1), s->scaling.high = number(rope, "high_freq_factor", 4);
	if (kind == ROPE_YARN) {
		s->scaling.beta_fast = number(rope, "beta_fast", 32), s->scaling.beta_slow = number(rope, "beta_slow", 1);
		s->scaling.mscale = number(rope, "mscale", 0), s->scaling.mscale_all = number(rope, "mscale_all_dim", 0);
		s->scaling.attention = number(rope, "attention_factor", 0);
	}
	if (s->scaling.factor < 1) return err_set(e, ERR_FORMAT, "%s: rotary scaling needs a factor of at least 1", path);
	if (kind == ROPE_LLAMA3 && s->scaling.high <= s->scaling.low) return err_set(e, ERR_FORMAT, "%s: high_freq_factor is not above low_freq_factor", path);
	return 0;
}

static int read_rope(const json_t *config, const struct family_row *f, const char *path, struct shape *s, struct err *e)
{
	const json_t *rope = json_object_get(config, "rope_parameters");
	if (!json_is_object(rope)) rope = json_object_get(config, "rope_scaling");
	s->rope_theta = number(rope, "rope_theta", number(config, "rope_theta", number(config, "rotary_emb_base", f->rope_theta)));
	double share = number(rope, "partial_rotary_factor", number(config, "partial_rotary_factor", number(config, "rotary_pct", f->rotary)));
	if (s->qkv == QKV_LATENT) {
		if (share != 1) return err_set(e, ERR_FORMAT, "%s: partial_rotary_factor %g is not supported beside a latent", path, share);
	} else {
		s->rope_dims = (int64_t)((double)s->head_dim * share);
	}
	return rope && !json_is_null(rope) ? read_scaling(rope, path, s, e) : 0;
}

/* ---- what tables cannot say ---- */

/* Dense layers by number: only the first ones are possible. */
static int read_dense_list(const json_t *config, const char *path, struct shape *s, struct err *e)
{
	const json_t *list = json_object_get(config, "mlp_only_layers");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_integer_value(json_array_get(list, i)) != (json_int_t)i)
			return err_set(e, ERR_FORMAT, "%s: mlp_only_layers may name the first layers only", path);
	s->dense_layers = (int64_t)json_array_size(list);
	return 0;
}

static void derive(struct shape *s)
{
	double m = 0.1 * s->scaling.mscale_all * log(s->scaling.factor > 1 ? s->scaling.factor : 1) + 1.0;
	if (s->family == FAMILY_GPT2 && s->dense_width == 0) s->dense_width = 4 * s->width;
	if (s->kv_heads == 0) s->kv_heads = s->heads;
	if (s->family != FAMILY_GPT2) s->output_bias = s->qkv_bias;
	s->shared_width = s->shared_experts * s->expert_width;
	if (s->qkv == QKV_LATENT) {
		s->head_dim = s->nope_dim + s->rope_dims;
		/* DeepSeek-V2's YaRN sharpens the softmax too (transformers #47435) */
		if (s->scaling.kind && s->scaling.mscale_all > 0) s->attention_scale = m * m / sqrt((double)s->head_dim);
	} else {
		s->value_dim = s->head_dim;
	}
}

static int read_heads(const json_t *config, const struct family_row *f, const char *path, struct shape *s, struct err *e)
{
	const json_t *list = json_object_get(config, "architectures");
	const char *name = json_string_value(json_array_get(list, 0));
	const json_t *labels = json_object_get(config, "num_labels"), *names = json_object_get(config, "id2label");
	s->heads_kind = name && !strcmp(name, f->classify) ? HEAD_SCALAR : HEAD_LM;
	if (s->heads_kind == HEAD_SCALAR && ((labels && json_integer_value(labels) != 1) || (names && json_object_size(names) != 1)))
		return err_set(e, ERR_FORMAT, "%s: a classifier of several labels; a reward model has num_labels 1", path);
	return 0;
}

static int read_tenfold(struct shape *s, const json_t *config)
{
	const char *router = json_string_value(json_object_get(config, "scoring_func"));
	s->router = router && !strcmp(router, "sigmoid") ? ROUTER_SIGMOID : ROUTER_SOFTMAX;
	s->heads_kind = HEAD_LM | (json_is_true(json_object_get(config, "score_head")) ? HEAD_SCALAR : 0);
	s->bos = s->eos = s->pad = -1;
	return 0;
}

int family_read(struct shape *s, const json_t *config, const char *path, struct err *e)
{
	const char *type = json_string_value(json_object_get(config, "model_type"));
	int n = 0, rc = 0;
	while (type && n < FAMILIES && strcmp(family_rows[n].type, type)) n++;
	if (!type) return err_set(e, ERR_FORMAT, "%s has no model_type", path);
	if (n == FAMILIES)
		return err_set(e, ERR_FORMAT, "%s: model_type %s is not known here: tenfold, olmoe, llama, gpt2, gpt_neox, mixtral, qwen3_moe, deepseek and "
			       "deepseek_v2 are", path, type);
	const struct family_row *f = &family_rows[n];
	*s = f->fixed;
	for (int i = 0; i < f->count; i++) TRY(read_key(config, &f->keys[i], path, s, e));
	TRY(check_known(config, f, path, e));
	if (n == FAMILY_TENFOLD) return read_tenfold(s, config);
	if (s->heads < 1) TRY(err_set(e, ERR_RANGE, "%s: no attention heads", path));
	if (s->head_dim == 0 && s->qkv != QKV_LATENT) s->head_dim = s->width / s->heads;
	if (n == FAMILY_QWEN3_MOE) TRY(read_dense_list(config, path, s, e));
	if (f->rope_theta > 0) TRY(read_rope(config, f, path, s, e));
	const json_t *window = json_object_get(config, "sliding_window");
	if (json_is_integer(window) && json_integer_value(window) < s->max_positions && n != FAMILY_QWEN3_MOE)
		TRY(err_set(e, ERR_FORMAT, "%s: sliding_window %lld is not supported here", path, (long long)json_integer_value(window)));
	derive(s);
	rc = read_heads(config, f, path, s, e);
out:
	return rc;
}

/* ---- writing ---- */

static json_t *field_json(const struct key *k, const struct shape *s)
{
	const void *field = (const char *)s + k->offset;
	int64_t id;
	switch (k->kind) {
	case KEY_INT: return json_integer(*(const int64_t *)field);
	case KEY_OPTIONAL: return *(const int64_t *)field ? json_integer(*(const int64_t *)field) : json_null();
	case KEY_FLAG: return json_boolean(*(const int *)field);
	case KEY_REAL: return json_real(*(const double *)field);
	case KEY_ID: id = *(const int64_t *)field; return id < 0 ? json_null() : json_integer(id);
	case KEY_ACTIVATION:
		for (int i = 0; i < ACTIVATIONS; i++)
			if (activations[i].to == *(const enum activation *)field) return json_string(activations[i].name);
		return json_null();
	default: return json_loads(k->standard, JSON_DECODE_ANY, NULL);
	}
}

static void write_rope(json_t *j, const struct family_row *f, const struct shape *s)
{
	const struct rope_scaling *r = &s->scaling;
	json_object_set_new(j, f->theta_key, json_real(s->rope_theta));
	if (f->rotary_key) json_object_set_new(j, f->rotary_key, json_real((double)s->rope_dims / (double)s->head_dim));
	json_t *o = r->kind ? json_object() : json_null();
	json_object_set_new(j, "rope_scaling", o);
	if (!r->kind) return;
	json_object_set_new(o, "rope_type", json_string(rope_types[r->kind]));
	json_object_set_new(o, "factor", json_real(r->factor));
	if (r->kind != ROPE_LINEAR) json_object_set_new(o, "original_max_position_embeddings", json_integer((json_int_t)r->original));
	const struct {
		enum rope_kind kind;
		const char *name;
		double value;
	} parts[] = {{ROPE_LLAMA3, "low_freq_factor", r->low}, {ROPE_LLAMA3, "high_freq_factor", r->high}, {ROPE_YARN, "beta_fast", r->beta_fast},
		     {ROPE_YARN, "beta_slow", r->beta_slow}, {ROPE_YARN, "mscale", r->mscale}, {ROPE_YARN, "mscale_all_dim", r->mscale_all},
		     {ROPE_YARN, "attention_factor", r->attention}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i].kind == r->kind && parts[i].value > 0) json_object_set_new(o, parts[i].name, json_real(parts[i].value));
}

json_t *family_write(const struct shape *s, const char *dtype)
{
	const struct family_row *f = &family_rows[s->family];
	json_t *j = json_pack("{s:s}", "model_type", f->type);
	if (s->family == FAMILY_TENFOLD) {
		json_object_set_new(j, "scoring_func", json_string(s->router == ROUTER_SIGMOID ? "sigmoid" : "softmax"));
		json_object_set_new(j, "score_head", json_boolean((s->heads_kind & HEAD_SCALAR) != 0));
	} else {
		json_object_set_new(j, "architectures", json_pack("[s]", s->heads_kind & HEAD_LM ? f->lm : f->classify));
		json_object_set_new(j, "torch_dtype", json_string(dtype));
		if (!(s->heads_kind & HEAD_LM)) json_object_set_new(j, "id2label", json_pack("{s:s}", "0", "LABEL_0"));
	}
	for (int i = 0; i < f->count; i++) json_object_set_new(j, f->keys[i].name, field_json(&f->keys[i], s));
	if (s->family == FAMILY_QWEN3_MOE) {
		json_t *list = json_array();
		for (int64_t l = 0; l < s->dense_layers; l++) json_array_append_new(list, json_integer(l));
		json_object_set_new(j, "mlp_only_layers", list);
	}
	if (f->rope_theta > 0) write_rope(j, f, s);
	return j;
}

const char *family_difference(const struct shape *a, const struct shape *b)
{
	static const size_t bytes[] = {[KEY_INT] = sizeof(int64_t), [KEY_OPTIONAL] = sizeof(int64_t), [KEY_FLAG] = sizeof(int), [KEY_REAL] = sizeof(double), [KEY_ACTIVATION] = sizeof(enum activation),
				       [KEY_ID] = 0, [KEY_MUST] = 0};
	if (a->family != b->family) return "model_type";
	const struct family_row *f = &family_rows[a->family];
	for (int i = 0; i < f->count; i++) {
		const struct key *k = &f->keys[i];
		if (memcmp((const char *)a + k->offset, (const char *)b + k->offset, bytes[k->kind])) return k->name;
	}
	if (a->rope_theta != b->rope_theta || a->rope_dims != b->rope_dims || memcmp(&a->scaling, &b->scaling, sizeof a->scaling)) return "rope_scaling";
	if (a->dense_layers != b->dense_layers) return "mlp_only_layers";
	return a->router == b->router ? NULL : "scoring_func";
}
