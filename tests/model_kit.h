/* What the tests of the whole model share: tiny shapes that between them have
 * every part, random weights large enough that nothing is almost zero, and
 * groups of random tokens. */
#ifndef TENFOLD_TESTS_MODEL_KIT_H
#define TENFOLD_TESTS_MODEL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/rng.h"
#include "policy/activations.h"
#include "policy/adapter.h"
#include "tests/device_kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIT_UNUSED __attribute__((unused))
enum { KIT_VOCAB = 40, KIT_END = 1, KIT_VARIANTS = 6 };

static const char *const kit_variant_name[KIT_VARIANTS] = {"softmax, normalised, untied", "softmax, qk_norm, dense first layer, tied",
							    "sigmoid with bias, qk_norm, scaled", "sigmoid, no shared expert, narrow values, tied",
							    "LayerNorm, fused by heads, parallel, partly rotated, GELU, dense",
							    "learned positions, fused in blocks, GELU by tanh, dense, tied"};

KIT_UNUSED static struct shape kit_shape(int variant)
{
	struct shape s = {.vocab = KIT_VOCAB, .width = 32, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .value_dim = 8, .experts = 4, .chosen = 2,
			  .expert_width = 16, .shared_width = 16, .dense_width = 24, .router = ROUTER_SOFTMAX, .router_normalize = 1, .router_scale = 1,
			  .rope_theta = 10000, .norm_eps = 1e-5, .init_std = 0.25, .max_positions = 512, .heads_kind = HEAD_LM | HEAD_SCALAR};
	if (variant == 1) s.router_normalize = 0, s.qk_norm = 1, s.dense_layers = 1, s.tied = 1;
	if (variant == 2) s.router = ROUTER_SIGMOID, s.router_bias = 1, s.qk_norm = 1, s.router_scale = 1.5, s.kv_heads = 1;
	if (variant == 3) s.router = ROUTER_SIGMOID, s.shared_width = 0, s.value_dim = 6, s.tied = 1, s.kv_heads = 4;
	if (variant == 4 || variant == 5) {
		s.norm = NORM_LAYER, s.norm_bias = s.qkv_bias = s.output_bias = s.ffn_bias = 1;
		s.experts = s.chosen = s.expert_width = s.shared_width = 0, s.kv_heads = 4;
	}
	if (variant == 4) s.family = FAMILY_GPT_NEOX, s.qkv = QKV_HEADS, s.parallel = 1, s.rope_dims = 4, s.activation = ACTIVATION_GELU;
	if (variant == 5) s.family = FAMILY_GPT2, s.qkv = QKV_BLOCKS, s.learned_positions = 1, s.activation = ACTIVATION_GELU_TANH, s.tied = 1;
	return s;
}

KIT_UNUSED static struct backend *kit_backend(int threads)
{
	struct backend *b;
	struct err e;
	if (device_kit_open(&b, "auto", threads, &e) < 0) fail_msg("%s", e.msg);
	return b;
}

/* Norms and biases are moved away from 1 and 0 too, so that their part in the arithmetic shows. */
KIT_UNUSED static struct model *kit_model(struct backend *b, const struct shape *s, uint64_t seed)
{
	struct model *m;
	struct err e;
	if (model_open(&m, b, s, &e) < 0) fail_msg("%s", e.msg);
	model_init(m, seed);
	float *host = malloc((size_t)m->params.floats * sizeof *host);
	assert_non_null(host);
	model_get(m, host);
	for (int i = 0; i < m->params.count; i++) {
		const struct param *p = &m->params.list[i];
		for (int64_t j = 0; p->cols == 0 && j < p->size; j++)
			host[p->offset + j] += 0.2f * (rng_uniform((struct rng_key){seed, RNG_TEST}, 900 + (uint32_t)i, (uint64_t)j, 0) - 0.5f);
	}
	model_put(m, host);
	free(host);
	return m;
}

/* A model with adapters on a base, as far from their start as training would bring them: B random too. */
KIT_UNUSED static struct model *kit_adapter(const struct model *base, int heads_kind, const struct config_lora *c, uint64_t seed)
{
	struct model *m;
	struct err e;
	if (adapter_open(&m, base, heads_kind, c, seed, 0, &e) < 0) fail_msg("%s", e.msg);
	float *host = malloc((size_t)m->learned->floats * sizeof *host);
	assert_non_null(host);
	model_get_learned(m, host);
	for (int i = 0; i < m->params.count; i++) {
		const struct param *q = m->adapter->slot[i].b < 0 ? NULL : &m->learned->list[m->adapter->slot[i].b];
		for (int64_t j = 0; q && j < q->size; j++) host[q->offset + j] = 0.2f * (rng_uniform((struct rng_key){seed, RNG_TEST}, 700 + (uint32_t)i, (uint64_t)j, 0) - 0.5f);
	}
	model_put_learned(m, host);
	free(host);
	return m;
}

/* Random tokens, the end token only where a completion ends. tokens: [prompt + sum of length]. */
KIT_UNUSED static void kit_tokens(int32_t *tokens, int64_t n, uint32_t stream)
{
	for (int64_t i = 0; i < n; i++) tokens[i] = 2 + (int32_t)rng_below((struct rng_key){5, RNG_TEST}, stream, (uint64_t)i, 0, KIT_VOCAB - 2);
}

KIT_UNUSED static float kit_weight(uint32_t stream, int64_t i)
{
	return 2 * rng_uniform((struct rng_key){6, RNG_TEST}, stream, (uint64_t)i, 0) - 1;
}

#endif
