/* `tenfold model info|convert` and `tenfold logits`: what a checkpoint is, the same
 * in another type, and the numbers that it gives, so that anyone can compare
 * them with the original tools. */
#include "app/commands.h"
#include "app/model_card.h"
#include "app/options.h"

#include "core/base/fs.h"
#include "policy/adapter_file.h"
#include "policy/family.h"
#include "policy/model_file.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_json(json_t *j, struct err *e)
{
	char *text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
	json_decref(j);
	if (!text) return err_set(e, ERR_MEMORY, "no memory for the output");
	puts(text);
	free(text);
	return 0;
}

/* ---- model info ---- */

static const char *const attention_names[] = {"three projections", "one projection in blocks", "one projection by heads", "latent"}; /* enum qkv_kind */

/* Bytes on disk and the most frequent type. */
static void weigh(const struct safetensors *s, int64_t *bytes, const char **type)
{
	int64_t of[SAFETENSORS_DTYPES] = {0};
	int most = SAFETENSORS_F32;
	*bytes = 0;
	for (size_t i = 0; i < safetensors_count(s); i++) {
		const struct safetensors_tensor *t = safetensors_at(s, i);
		of[t->dtype] += (int64_t)t->bytes;
		*bytes += (int64_t)t->bytes;
	}
	for (int d = 0; d < SAFETENSORS_DTYPES; d++)
		if (of[d] > of[most]) most = d;
	*type = safetensors_dtype_name((enum safetensors_dtype)most);
}

static json_t *info_json(const struct shape *s, const struct params *p, const struct safetensors *files, double seconds)
{
	int64_t bytes;
	const char *type;
	weigh(files, &bytes, &type);
	json_t *j = json_pack("{s:s,s:b,s:I,s:I,s:I,s:s,s:I,s:f}", "model_type", family_type(s->family), "score_head", (s->heads_kind & HEAD_SCALAR) != 0,
			      "parameters", (json_int_t)p->parameters, "active_parameters", (json_int_t)p->active, "tensors",
			      (json_int_t)safetensors_count(files), "dtype", type, "bytes", (json_int_t)bytes, "open_seconds", seconds);
	const struct {
		const char *key;
		int64_t value;
	} list[] = {{"vocab", s->vocab}, {"width", s->width}, {"layers", s->layers}, {"heads", s->heads}, {"kv_heads", s->kv_heads}, {"head_dim", s->head_dim},
		    {"value_dim", s->value_dim}, {"experts", s->experts}, {"experts_per_token", s->chosen}, {"expert_width", s->expert_width},
		    {"shared_width", s->shared_width}, {"dense_layers", s->experts > 0 ? s->dense_layers : s->layers}, {"dense_width", s->dense_width},
		    {"max_positions", s->max_positions}};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) json_object_set_new(j, list[i].key, json_integer(list[i].value));
	json_object_set_new(j, "attention", json_string(attention_names[s->qkv]));
	return j;
}

static int info(const char *folder, int json, struct err *e)
{
	double began = fs_now();
	char base[PATH_MAX];
	struct shape s;
	struct params p;
	struct safetensors *files = NULL;
	struct arena *arena = arena_open(0);
	int rc = 0;
	TRY(model_folder_base(folder, base, sizeof base, e));
	TRY(model_folder_shape(base, &s, e));
	params_build(&p, &s, arena);
	TRY(model_check_folder(&p, &s, base, MODEL_FILE_SKIP_HEADS | MODEL_FILE_KEEP_HEADS, e));
	TRY(safetensors_open_folder(&files, base, e));
	json_t *j = info_json(&s, &p, files, fs_now() - began);
	if (json) {
		rc = print_json(j, e);
		goto out;
	}
	const char *key;
	json_t *value;
	json_object_foreach(j, key, value) {
		if (json_is_string(value)) printf("%-18s %s\n", key, json_string_value(value));
		else if (json_is_real(value)) printf("%-18s %.3f\n", key, json_real_value(value));
		else if (json_is_integer(value)) printf("%-18s %lld\n", key, (long long)json_integer_value(value));
		else printf("%-18s %s\n", key, json_is_true(value) ? "yes" : "no");
	}
	json_decref(j);
out:
	safetensors_close(files);
	arena_close(arena);
	return rc;
}

/* ---- model convert ---- */

static int open_backend(struct backend **out, const char *device, const char *precision, struct err *e)
{
	return backend_open(out, &(struct backend_options){.device = device, .isa = "auto", .threads = 0, .precision = precision}, e);
}

static int parse_type(const char *type, enum safetensors_dtype *out, struct err *e)
{
	int dtype = model_folder_dtype(type);
	if (dtype < 0) return err_set(e, ERR_FORMAT, "--dtype %s: f32, f16 and bf16 are possible", type);
	*out = (enum safetensors_dtype)dtype;
	return 0;
}

static int convert(const char *from, const char *to, const char *type, struct err *e)
{
	struct backend *b = NULL;
	struct model *m = NULL;
	struct shape s;
	enum safetensors_dtype dtype = SAFETENSORS_F32;
	char rest[PATH_MAX];
	int rc = 0;
	TRY(parse_type(type, &dtype, e));
	TRY(model_folder_shape(from, &s, e));
	TRY(model_folder_base(from, rest, sizeof rest, e));
	TRY(open_backend(&b, "cpu", "f32", e));
	TRY(model_folder_open_held(&m, from, b, s.heads_kind, e));
	TRY(model_folder_write_as(to, m, NULL, dtype, e));
	TRY(model_folder_copy_rest(from, to, e));
	TRY(model_folder_copy_rest(rest, to, e));
	TRY(model_card_derived(to, from, NULL, type, e));
	printf("%s: %lld parameters as %s in %s\n", family_type(s.family), (long long)m->params.parameters, type, to);
out:
	model_close(m);
	backend_close(b);
	return rc;
}

/* ---- model merge ---- */

static int merge(const char *from, const char *adapter, const char *to, const char *type, struct err *e)
{
	struct backend *b = NULL;
	struct model *m = NULL;
	enum safetensors_dtype dtype = SAFETENSORS_F32;
	int heads, rc = 0;
	TRY(parse_type(type, &dtype, e));
	TRY(adapter_heads(adapter, &heads, e));
	TRY(open_backend(&b, "cpu", "f32", e));
	TRY(model_folder_open(&m, from, b, heads, e));
	TRY(model_folder_merge(m, adapter, e));
	TRY(model_folder_write_as(to, m, NULL, dtype, e));
	TRY(model_folder_copy_rest(adapter, to, e)); /* a tokenizer that was saved with the adapters is theirs */
	TRY(model_folder_copy_rest(from, to, e));
	TRY(model_card_derived(to, from, adapter, type, e));
	printf("%s: %lld parameters with the adapters of %s as %s in %s\n", family_type(m->shape.family), (long long)m->params.parameters, adapter, type, to);
out:
	model_close(m);
	backend_close(b);
	return rc;
}

int command_model(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	const char *type = "f32";
	int json = 0;
	const struct option table[] = {{"dtype", OPTION_TEXT, &type, "TYPE", "Type to write: f32 (default), f16 or bf16."}, OPTION_JSON(&json)};
	const struct options_use use = {
		.line = "model info DIR [--json] | model convert DIR OUT [--dtype TYPE] | model merge BASE ADAPTER OUT [--dtype TYPE]",
		.about = "A checkpoint folder: config.json with model.safetensors or its shards, in the program's own layout or that of a family of\n"
			 "transformers (olmoe, llama, gpt2, gpt_neox, mixtral, qwen3_moe, deepseek, deepseek_v2). info maps the files and checks every\n"
			 "tensor's name, shape and type without reading the weights; convert writes the same model as one file in the family's layout; merge\n"
			 "writes BASE with the adapters of a PEFT folder added. A PEFT folder stands for its base with its adapters wherever a checkpoint does.",
		.table = table, .count = 2, .at_least = 2, .at_most = 4};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!strcmp(rest.item[0], "info") && rest.count == 2) return info(rest.item[1], json, e);
	if (!strcmp(rest.item[0], "convert") && rest.count == 3) return convert(rest.item[1], rest.item[2], type, e);
	if (!strcmp(rest.item[0], "merge") && rest.count == 4) return merge(rest.item[1], rest.item[2], rest.item[3], type, e);
	return err_set(e, ERR_FORMAT, "model knows `info DIR`, `convert DIR OUT` and `merge BASE ADAPTER OUT`");
}

/* ---- logits ---- */

enum { TOKENS_MAX = 65536, BEST = 5 };

/* "1,2,3" */
static int parse_tokens(const char *text, const struct shape *s, int32_t *out, int64_t *n, struct err *e)
{
	for (*n = 0; *text; (*n)++) {
		char *end;
		long long id = strtoll(text, &end, 10);
		if (end == text || (*end && *end != ',')) return err_set(e, ERR_FORMAT, "--tokens: ids separated by commas are wanted, at \"%.20s\"", text);
		if (id < 0 || id >= s->vocab) return err_set(e, ERR_RANGE, "--tokens: %lld is not in the vocabulary of %lld", id, (long long)s->vocab);
		if (*n == TOKENS_MAX || *n >= s->max_positions) return err_set(e, ERR_RANGE, "--tokens: the model has %lld positions", (long long)s->max_positions);
		out[*n] = (int32_t)id;
		text = *end ? end + 1 : end;
	}
	return *n > 0 ? 0 : err_set(e, ERR_FORMAT, "--tokens is empty");
}

static double log_sum_exp(const float *x, int64_t n)
{
	double m = -INFINITY, s = 0;
	for (int64_t i = 0; i < n; i++) m = fmax(m, (double)x[i]);
	for (int64_t i = 0; i < n; i++) s += exp((double)x[i] - m);
	return m + log(s);
}

static int print_logits(const struct model *m, const int32_t *tokens, int64_t n, const float *logits, double loss, struct err *e)
{
	int64_t v = m->shape.vocab;
	json_t *ids = json_array(), *rows = json_array(), *next = json_array();
	for (int64_t i = 0; i < n; i++) {
		json_t *row = json_array();
		json_array_append_new(ids, json_integer(tokens[i]));
		for (int64_t k = 0; k < v; k++) json_array_append_new(row, json_real((double)logits[i * v + k]));
		json_array_append_new(rows, row);
		if (i + 1 < n) json_array_append_new(next, json_real((double)logits[i * v + tokens[i + 1]] - log_sum_exp(logits + i * v, v)));
	}
	json_t *j = json_pack("{s:s,s:o,s:o,s:o}", "model_type", family_type(m->shape.family), "tokens", ids, "logprobs", next, "logits", rows);
	if (m->shape.experts > 0) json_object_set_new(j, "aux_loss", json_real(loss));
	return print_json(j, e);
}

static void print_best(const struct model *m, const int32_t *tokens, int64_t n, const float *logits)
{
	int64_t v = m->shape.vocab;
	for (int64_t i = 0; i < n; i++) {
		const float *x = logits + i * v;
		double lse = log_sum_exp(x, v);
		int64_t best[BEST];
		printf("%6d ", tokens[i]);
		for (int k = 0; k < BEST && k < v; k++) {
			best[k] = -1;
			for (int64_t c = 0; c < v; c++) {
				int used = 0;
				for (int q = 0; q < k; q++) used |= best[q] == c;
				if (!used && (best[k] < 0 || x[c] > x[best[k]])) best[k] = c;
			}
			printf("  %lld:%.4f", (long long)best[k], (double)x[best[k]] - lse);
		}
		putchar('\n');
	}
}

static int logits_of(const char *folder, const char *text, const char *device, const char *precision, int json, struct err *e)
{
	struct backend *b = NULL;
	struct model *m = NULL;
	struct activations *a = NULL;
	struct batch batch;
	int32_t *tokens = malloc(TOKENS_MAX * sizeof *tokens);
	float *logits = NULL;
	int64_t n = 0;
	int rc = 0, opened = 0;
	CHECK(tokens, "out of memory for the tokens");
	TRY(open_backend(&b, device, precision, e));
	TRY(model_folder_open_held(&m, folder, b, HEAD_LM, e));
	TRY(parse_tokens(text, &m->shape, tokens, &n, e));
	a = activations_open(m, 1);
	batch_open(&batch, b);
	opened = 1;
	batch_reset(&batch, n / KV_PAGE + 1);
	batch_add(&batch, tokens, 1, &(uint32_t){(uint32_t)n - 1}, 1, 0, -1, 0, n + 1);
	batch_upload(&batch);
	model_forward(m, a, &batch, NULL);
	logits = malloc((size_t)(n * m->shape.vocab) * sizeof *logits);
	CHECK(logits, "out of memory for the logits of %lld tokens", (long long)n);
	model_logits(m, a, &batch, logits);
	if (json) rc = print_logits(m, tokens, n, logits, model_router_loss(m, a, &batch), e);
	else print_best(m, tokens, n, logits);
out:
	if (opened) batch_close(&batch);
	activations_close(a);
	model_close(m);
	backend_close(b);
	free(logits);
	free(tokens);
	return rc;
}

int command_logits(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	const char *folder = NULL, *tokens = NULL, *device = "auto", *precision = "f32";
	int json = 0;
	const struct option table[] = {{"model", OPTION_TEXT, &folder, "DIR", "Checkpoint folder."},
				       {"tokens", OPTION_TEXT, &tokens, "IDS", "Token ids, separated by commas."},
				       {"device", OPTION_TEXT, &device, "DEVICE", "auto (default), cpu or cuda."},
				       {"precision", OPTION_TEXT, &precision, "TYPE", "What products multiply, as run.precision: f32 (default) or bf16."}, OPTION_JSON(&json)};
	const struct options_use use = {
		.line = "logits --model DIR --tokens IDS [--precision TYPE] [--json]",
		.about = "Logits after each of the tokens: all of them with --json (and the log-probability of each next token, and the routers'\n"
			 "auxiliary loss as transformers computes it), else the five likeliest next tokens with their log-probabilities.",
		.table = table, .count = 5, .at_least = 0, .at_most = 0};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!folder || !tokens) return err_set(e, ERR_FORMAT, "--model DIR and --tokens IDS are needed");
	return logits_of(folder, tokens, device, precision, json, e);
}
