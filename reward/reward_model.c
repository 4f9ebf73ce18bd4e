/* Reward models: opening, saving, scoring; see reward_model.h. */
#include "reward/reward_model.h"

#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "policy/adapter.h"
#include "policy/model_file.h"
#include "policy/model_folder.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	BATCH_TOKENS = 16384, /* rows computed at once, about */
	MEMBER_FLAGS = MODEL_FILE_SKIP_HEADS | MODEL_FILE_KEEP_HEADS,
};

static struct reward_model *model_new(struct backend *backend, int group, uint32_t members)
{
	struct reward_model *m = calloc(1, sizeof *m);
	CHECK(m, "out of memory for a reward model");
	CHECK(members >= 1 && members <= REWARD_MEMBERS_MAX, "a reward model of %u members", members);
	m->backend = backend;
	m->group = group;
	m->members = members;
	for (uint32_t i = 0; i < members; i++) m->member[i] = (struct reward_member){.gain = 1, .logit = 1};
	batch_open(&m->batch, backend);
	return m;
}

void reward_model_close(struct reward_model *m)
{
	if (!m) return;
	for (uint32_t i = 0; i < m->members; i++) {
		group_block_close(m->member[i].block);
		activations_close(m->member[i].acts);
		model_close(m->member[i].model);
	}
	model_close(m->base);
	batch_close(&m->batch);
	distinct_close(&m->distinct);
	free(m->head);
	free(m);
}

/* Element i of a parameter is drawn by (seed, RNG_HEAD; member, i, stream). */
static void draw(struct model *model, int param, uint64_t seed, uint32_t member, uint32_t stream)
{
	const struct param *p = &model->params.list[param];
	double std = model->shape.init_std;
	float *host = malloc((size_t)p->size * sizeof *host);
	CHECK(host, "out of memory for %lld weights", (long long)p->size);
	if (p->init == INIT_HEAD) std = 1 / sqrt((double)model->shape.width + 1);
	if (p->init == INIT_NORMAL_OUT) std /= sqrt(2.0); /* the residual stream of one layer, see params_init */
	for (int64_t i = 0; i < p->size; i++)
		host[i] = p->init == INIT_ONE ? 1 : (float)(std * rng_normal((struct rng_key){seed, RNG_HEAD}, member, (uint64_t)i, stream));
	model_put_param(model, param, host);
	free(host);
}

static void draw_heads(struct model *model, uint64_t seed, uint32_t member)
{
	const struct params *p = &model->params;
	const struct layer_params *g = &p->group;
	const int block[] = {g->norm1, g->q, g->k, g->v, g->o, g->norm2, g->dense_gate, g->dense_up, g->dense_down};
	draw(model, p->score, seed, member, 0);
	for (uint32_t i = 0; g->q >= 0 && i < sizeof block / sizeof *block; i++) draw(model, block[i], seed, member, i + 1);
}

static int member_heads(int group)
{
	return HEAD_SCALAR | (group ? HEAD_GROUP : 0);
}

static void member_ready(struct reward_model *m, uint32_t member)
{
	struct reward_member *b = &m->member[member];
	b->acts = activations_open(b->model, 0);
	if (m->group) b->block = group_block_open(b->model);
}

/* held: it will not be trained. */
static int member_open(struct reward_model *m, uint32_t member, const char *folder, int held, struct err *e)
{
	struct model **model = &m->member[member].model;
	int rc = held ? model_folder_open_held(model, folder, m->backend, member_heads(m->group), e) : model_folder_open(model, folder, m->backend, member_heads(m->group), e);
	if (rc == 0) member_ready(m, member);
	return rc;
}

int reward_model_start(struct reward_model **out, const char *folder, struct backend *backend, int group, uint32_t members, uint64_t seed,
		       const struct config_lora *lora, struct err *e)
{
	struct reward_model *m = model_new(backend, group, members);
	int rc = 0;
	*out = NULL;
	if (lora) TRY(model_folder_open(&m->base, folder, backend, 0, e));
	for (uint32_t i = 0; i < members; i++) {
		struct config_lora c = lora ? *lora : (struct config_lora){0};
		c.modules_to_save[0] = 0; /* there is no output layer */
		if (!lora) TRY(member_open(m, i, folder, 0, e));
		else TRY(adapter_open(&m->member[i].model, m->base, member_heads(m->group), &c, seed, STREAM_MEMBER + i, e));
		if (lora) member_ready(m, i);
		draw_heads(m->member[i].model, seed, i);
	}
	*out = m;
	return 0;
out:
	reward_model_close(m);
	return rc;
}

/* ---- on disk ---- */

static int member_path(char out[PATH_MAX], const char *folder, uint32_t member, struct err *e)
{
	int n = member == 0 ? snprintf(out, PATH_MAX, "%s", folder) : snprintf(out, PATH_MAX, "%s/member-%u", folder, member + 1);
	return n < PATH_MAX ? 0 : err_set(e, ERR_RANGE, "path too long: %s", folder);
}

struct version_hash {
	struct hash_stream *stream;
	const struct params *params;
	int64_t at; /* floats of the arena so far */
};

/* What lies between parameters in the arena, and a head that the file lacks, is 0. */
static void hash_zeros(struct version_hash *v, int64_t end)
{
	static const float zero;
	for (; v->at < end; v->at++) hash_stream_add(v->stream, &zero, sizeof zero);
}

static int hash_param(void *ctx, int param, const float *host)
{
	struct version_hash *v = ctx;
	const struct param *q = &v->params->list[param];
	hash_zeros(v, q->offset);
	hash_stream_add(v->stream, host, (size_t)q->size * sizeof *host);
	v->at += q->size;
	return 0;
}

/* The version is a hash of the weights as they are in the folder, which are not those in memory where they are held in bf16. */
static int name_version(struct reward_model *m, const char *folder, struct err *e)
{
	char hex[HASH_HEX], path[PATH_MAX];
	struct version_hash v = {.stream = hash_stream_open()};
	int rc = 0;
	for (uint32_t i = 0; i < m->members && rc == 0; i++) {
		const struct reward_member *b = &m->member[i];
		v.params = &b->model->params;
		v.at = 0;
		rc = member_path(path, folder, i, e);
		if (rc == 0) rc = model_each_param(v.params, &b->model->shape, path, MEMBER_FLAGS, hash_param, &v, e);
		if (rc == 0) hash_zeros(&v, v.params->floats);
		double line[] = {b->gain, b->bias};
		hash_stream_add(v.stream, line, sizeof line);
	}
	hash_stream_finish(v.stream, hex);
	snprintf(m->version, sizeof m->version, "model-%s", hex);
	return rc;
}

/* In a family's layout a classifier's score is w·h alone: gain and bias of a pointwise member go into w and into reward.json's
 * bias, so that the folder read by `transformers` gives this model's score but for that constant. */
static void fold_head(struct reward_member *b)
{
	const struct params *p = &b->model->params;
	if (b->model->shape.family == FAMILY_TENFOLD || b->block) return;
	size_t n = (size_t)p->list[p->score].size;
	float bias, *w = malloc(n * sizeof *w);
	CHECK(w, "out of memory for a head of %zu weights", n);
	model_get_param(b->model, p->score, w);
	model_get_param(b->model, p->score_bias, &bias);
	for (size_t i = 0; i < n; i++) w[i] = (float)(b->gain * (double)w[i]);
	b->bias += b->gain * (double)bias;
	b->gain = 1;
	bias = 0;
	model_put_param(b->model, p->score, w);
	model_put_param(b->model, p->score_bias, &bias);
	free(w);
}

int reward_model_save(struct reward_model *m, const char *folder, const struct tokenizer *t, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	int rc = 0;
	json_t *list = json_array(), *j = NULL;
	for (uint32_t i = 0; i < m->members; i++) {
		struct reward_member *b = &m->member[i];
		fold_head(b);
		TRY(member_path(path, folder, i, e));
		TRY(model_folder_write(path, b->model, t, e));
		json_array_append_new(list, json_pack("{s:s,s:I,s:f,s:f,s:f}", "folder", i ? path + strlen(folder) + 1 : ".", "step", (json_int_t)b->step, "gain", b->gain, "bias",
							   b->bias, "logit", b->logit));
	}
	TRY(name_version(m, folder, e));
	j = json_pack("{s:s,s:s,s:O}", "version", m->version, "scorer", m->group ? "group" : "pointwise", "members", list);
	text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
	CHECK(text, "out of memory for reward.json");
	if (snprintf(path, sizeof path, "%s/reward.json", folder) >= PATH_MAX) TRY(err_set(e, ERR_RANGE, "path too long: %s", folder));
	TRY(fs_write_atomic(path, text, strlen(text), e));
out:
	free(text);
	json_decref(j);
	json_decref(list);
	return rc;
}

static int read_members(struct reward_model *m, const json_t *list, const char *folder, struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	for (uint32_t i = 0; i < m->members; i++) {
		struct reward_member *b = &m->member[i];
		const json_t *j = json_array_get(list, i), *gain = json_object_get(j, "gain"), *bias = json_object_get(j, "bias"),
			     *logit = json_object_get(j, "logit");
		if (!json_is_number(gain) || !json_is_number(bias) || !json_is_number(logit))
			TRY(err_set(e, ERR_FORMAT, "%s/reward.json: member %u lacks gain, bias or logit", folder, i + 1));
		b->gain = json_number_value(gain), b->bias = json_number_value(bias), b->logit = json_number_value(logit);
		b->step = json_integer_value(json_object_get(j, "step")); /* 0 in files of before it was kept */
		TRY(member_path(path, folder, i, e));
		TRY(member_open(m, i, path, 1, e));
	}
out:
	return rc;
}

/* A classifier of `transformers` (…ForSequenceClassification, one label): one member, its score as it is. */
static int open_classifier(struct reward_model **out, const char *folder, struct backend *backend, struct err *e)
{
	struct shape s;
	int rc = model_folder_shape(folder, &s, e);
	if (rc < 0) return rc;
	if (s.family == FAMILY_TENFOLD || s.heads_kind != HEAD_SCALAR)
		return err_set(e, ERR_NOT_FOUND, "there is no reward model in %s: neither reward.json nor a classifier's config.json", folder);
	struct reward_model *m = model_new(backend, 0, 1);
	rc = member_open(m, 0, folder, 1, e);
	if (rc == 0) rc = name_version(m, folder, e);
	if (rc < 0) reward_model_close(m);
	else *out = m;
	return rc;
}

/* reward.json; *out NULL where the folder is a classifier's instead. */
static int read_card(const char *folder, json_t **out, uint32_t *members, int *group, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	size_t bytes;
	json_error_t je;
	int rc = 0;
	*out = NULL;
	*members = 1;
	*group = 0;
	if (snprintf(path, sizeof path, "%s/reward.json", folder) >= PATH_MAX) TRY(err_set(e, ERR_RANGE, "path too long: %s", folder));
	if (!fs_exists(path)) {
		if (snprintf(path, sizeof path, "%s/config.json", folder) < PATH_MAX && fs_exists(path)) return 0;
		TRY(err_set(e, ERR_NOT_FOUND, "there is no reward model in %s (no reward.json): run the stages collect and fit-reward, or set reward.model", folder));
	}
	TRY(fs_read(path, 1 << 20, &text, &bytes, e));
	*out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	if (!*out) TRY(err_set(e, ERR_FORMAT, "%s:%d: %s", path, je.line, je.text));
	size_t n = json_array_size(json_object_get(*out, "members"));
	if (n < 1 || n > REWARD_MEMBERS_MAX) TRY(err_set(e, ERR_FORMAT, "%s: %zu members; there are 1 to %d", path, n, REWARD_MEMBERS_MAX));
	const char *kind = json_string_value(json_object_get(*out, "scorer")); /* files of before there were two kinds lack it */
	if (kind && strcmp(kind, "pointwise") && strcmp(kind, "group")) TRY(err_set(e, ERR_FORMAT, "%s: scorer is %s; there are pointwise and group", path, kind));
	*members = (uint32_t)n;
	*group = kind && !strcmp(kind, "group");
out:
	free(text);
	if (rc < 0) {
		json_decref(*out);
		*out = NULL;
	}
	return rc;
}

int reward_model_describe(const char *folder, struct shape *s, uint32_t *members, int *group, struct err *e)
{
	json_t *j;
	int rc = read_card(folder, &j, members, group, e);
	json_decref(j);
	if (rc == 0) rc = model_folder_shape(folder, s, e);
	if (rc == 0) s->heads_kind = member_heads(*group);
	return rc;
}

int reward_model_open(struct reward_model **out, const char *folder, struct backend *backend, struct err *e)
{
	json_t *j = NULL;
	struct reward_model *m = NULL;
	uint32_t members;
	int group, rc = 0;
	*out = NULL;
	TRY(read_card(folder, &j, &members, &group, e));
	if (!j) return open_classifier(out, folder, backend, e);
	m = model_new(backend, group, members);
	TRY(read_members(m, json_object_get(j, "members"), folder, e));
	TRY(name_version(m, folder, e));
	const char *version = json_string_value(json_object_get(j, "version"));
	if (!version || strcmp(version, m->version))
		TRY(err_set(e, ERR_MISMATCH, "%s/reward.json is of version %s, but its files hash to %s: they are not those that were saved together", folder,
			    version ? version : "(none)", m->version));
	*out = m;
	m = NULL;
out:
	reward_model_close(m);
	json_decref(j);
	return rc;
}

/* ---- scores ---- */

static int64_t longest(const struct group *g)
{
	uint32_t most = 0;
	for (uint32_t i = 0; i < g->size; i++) most = g->length[i] > most ? g->length[i] : most;
	return (int64_t)g->prompt_tokens + most;
}

struct batch_sizes reward_model_largest_batch(int64_t groups, int64_t prompt, int64_t completions, int64_t response)
{
	struct batch_sizes b = batch_most(1, prompt, completions, response);
	/* groups enter while there are fewer than BATCH_TOKENS rows, each with one row at least; short completions have two pages each */
	int64_t most = BATCH_TOKENS - 1 + b.rows, rows = groups * b.rows < most ? groups * b.rows : most, n = groups < rows ? groups : rows;
	int64_t pages = rows / KV_PAGE + n * (2 * completions + 1);
	b.pages = n * b.pages < pages ? n * b.pages : pages;
	b.rows = rows;
	b.seqs = n * (completions + 1);
	b.writes = rows + n * completions * (KV_PAGE - 1);
	b.outs = n * completions;
	b.sets = n;
	return b;
}

int reward_model_prepare(struct reward_model *m, const struct batch_sizes *most, struct err *e)
{
	int rc = 0;
	for (uint32_t i = 0; i < m->members; i++) {
		struct reward_member *b = &m->member[i];
		TRY(activations_prepare(b->acts, most, 0, 0, e));
		if (b->block) TRY(group_block_prepare(b->block, most->outs, most->sets, e));
	}
	m->most = *most;
	struct batch_sizes room = *most;
	room.outs += room.rows; /* batch_add makes room for whatever flags */
	TRY(batch_plan(&m->batch, &room, e));
out:
	return rc;
}

void reward_member_heads(struct reward_member *b, struct activations *acts, const struct batch *batch, const struct group *const *groups, uint32_t n, float *head)
{
	if (b->block) group_block_forward(b->block, model_outs(b->model, acts, batch), groups, n, head);
	else model_scalars(b->model, acts, batch, head);
}

void reward_member_backward(struct reward_member *b, struct activations *acts, const struct batch *batch, const float *dhead, float *grads)
{
	static const struct sampling plain = {1.0f, 1.0f, 0};
	struct model_loss l = {0};
	if (b->block) l.douts = group_block_backward(b->block, dhead, grads);
	else l.dvalue = dhead;
	model_backward(b->model, acts, batch, &plain, &l, grads);
}

void reward_model_heads(struct reward_model *m, uint32_t member, const struct group *const *groups, uint32_t n, float *head)
{
	struct reward_member *b = &m->member[member];
	for (uint32_t i = 0, end; i < n; i = end) {
		int64_t rows = 0, most = 0;
		for (end = i; end < n && (end == i || rows < BATCH_TOKENS); end++) {
			rows += groups[end]->prompt_tokens + group_response_tokens(groups[end]);
			if (longest(groups[end]) > most) most = longest(groups[end]);
		}
		batch_reset(&m->batch, most / KV_PAGE + 1);
		distinct_add(&m->distinct, &m->batch, groups + i, end - i, !m->group);
		batch_upload(&m->batch);
		model_forward(b->model, b->acts, &m->batch, NULL);
		reward_member_heads(b, b->acts, &m->batch, groups + i, end - i, head);
		distinct_expand(&m->distinct, head);
		for (uint32_t k = i; k < end; k++) head += groups[k]->size;
	}
}

static float *head_room(struct reward_model *m, size_t n)
{
	if (n > m->room) {
		m->head = realloc(m->head, n * sizeof *m->head);
		CHECK(m->head, "out of memory for %zu scores", n);
		m->room = n;
	}
	return m->head;
}

static size_t candidates(const struct group *const *groups, uint32_t n)
{
	size_t total = 0;
	for (uint32_t i = 0; i < n; i++) total += groups[i]->size;
	return total;
}

void reward_model_scores(struct reward_model *m, const struct group *const *groups, uint32_t n, double *score, double *spread)
{
	size_t total = candidates(groups, n);
	float *head = head_room(m, total * m->members);
	for (uint32_t k = 0; k < m->members; k++) reward_model_heads(m, k, groups, n, head + k * total);
	for (size_t i = 0; i < total; i++) {
		double one[REWARD_MEMBERS_MAX], mean = 0, square = 0;
		for (uint32_t k = 0; k < m->members; k++) {
			one[k] = m->member[k].gain * (double)head[k * total + i] + m->member[k].bias;
			mean += one[k];
		}
		mean /= m->members;
		for (uint32_t k = 0; k < m->members; k++) square += (one[k] - mean) * (one[k] - mean);
		score[i] = mean;
		if (spread) spread[i] = sqrt(square / m->members);
	}
}

void reward_model_normalise(struct reward_model *m, uint32_t member, const struct group *const *groups, uint32_t n, int64_t count)
{
	if ((int64_t)n > count) n = (uint32_t)count; /* their first completions are enough */
	size_t total = candidates(groups, n);
	float *head = head_room(m, total);
	reward_model_heads(m, member, groups, n, head);
	double mean = 0, square = 0, taken = 0;
	for (int pass = 0; pass < 2; pass++) {
		int64_t left = count;
		for (uint32_t c = 0; c < GROUP_MAX && left > 0; c++) {
			const float *h = head;
			for (uint32_t i = 0; i < n && left > 0; h += groups[i++]->size) {
				if (c >= groups[i]->size) continue;
				left--;
				double x = (double)h[c];
				if (pass == 0) mean += x, taken++;
				else square += (x - mean) * (x - mean);
			}
		}
		if (pass == 0) mean /= taken;
	}
	double std = sqrt(square / taken);
	m->member[member].gain = std > 0 && isfinite(std) ? 1 / std : 1;
	m->member[member].bias = -mean * m->member[member].gain;
}

double reward_model_logit(const struct reward_model *m)
{
	double sum = 0;
	for (uint32_t i = 0; i < m->members; i++) sum += m->member[i].logit;
	return sum / m->members;
}
