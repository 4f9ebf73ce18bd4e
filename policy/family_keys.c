/* Which key of each family's config.json is which field of the shape, with the
 * class defaults of transformers 5 (of the remote code for `deepseek`). A new
 * family is a table here and, when it speaks another language, a row in
 * family_names.c. docs/models.md says the same for people. */
#include "policy/family_keys.h"

#include <stddef.h>

#define TO(field) offsetof(struct shape, field)
#define INT(name, field, standard) {name, NULL, KEY_INT, TO(field), standard}
#define INT2(name, alias, field, standard) {name, alias, KEY_INT, TO(field), standard}
#define OPTIONAL(name, field, standard) {name, NULL, KEY_OPTIONAL, TO(field), standard}
#define FLAG(name, field, standard) {name, NULL, KEY_FLAG, TO(field), standard}
#define REAL(name, field, standard) {name, NULL, KEY_REAL, TO(field), standard}
#define MUST(name, standard) {name, NULL, KEY_MUST, 0, standard}
#define IDS(b, e, p) {"bos_token_id", NULL, KEY_ID, TO(bos), b}, {"eos_token_id", NULL, KEY_ID, TO(eos), e}, {"pad_token_id", NULL, KEY_ID, TO(pad), p}
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])

static const struct key tenfold[] = {
	INT("vocab_size", vocab, NULL), INT("hidden_size", width, NULL), INT("num_hidden_layers", layers, NULL), INT("num_attention_heads", heads, NULL),
	INT("num_key_value_heads", kv_heads, NULL), INT("head_dim", head_dim, NULL), INT("v_head_dim", value_dim, NULL),
	INT("n_routed_experts", experts, NULL), INT("num_experts_per_tok", chosen, NULL), INT("moe_intermediate_size", expert_width, NULL),
	INT("shared_intermediate_size", shared_width, NULL), INT("first_k_dense_replace", dense_layers, NULL), INT("intermediate_size", dense_width, NULL),
	INT("max_position_embeddings", max_positions, NULL), FLAG("norm_topk_prob", router_normalize, NULL), FLAG("router_bias", router_bias, NULL),
	FLAG("qk_norm", qk_norm, NULL), FLAG("tie_word_embeddings", tied, NULL), REAL("routed_scaling_factor", router_scale, NULL),
	REAL("rope_theta", rope_theta, NULL), REAL("rms_norm_eps", norm_eps, NULL), REAL("initializer_range", init_std, NULL),
};
static const char *const tenfold_ignored[] = {"scoring_func", "score_head", NULL}; /* read apart */

static const struct key olmoe[] = {
	INT("vocab_size", vocab, "50304"), INT("hidden_size", width, "2048"), INT("intermediate_size", expert_width, "2048"),
	INT("num_hidden_layers", layers, "16"), INT("num_attention_heads", heads, "16"), OPTIONAL("num_key_value_heads", kv_heads, "null"),
	MUST("hidden_act", "\"silu\""), INT("max_position_embeddings", max_positions, "4096"), REAL("initializer_range", init_std, "0.02"),
	REAL("rms_norm_eps", norm_eps, "1e-5"), FLAG("tie_word_embeddings", tied, "false"), FLAG("attention_bias", qkv_bias, "false"),
	MUST("clip_qkv", "null"), INT("num_experts_per_tok", chosen, "8"), INT2("num_experts", "num_local_experts", experts, "64"),
	FLAG("norm_topk_prob", router_normalize, "false"), IDS("null", "50279", "1"),
};

static const struct key llama[] = {
	INT("vocab_size", vocab, "32000"), INT("hidden_size", width, "4096"), INT("intermediate_size", dense_width, "11008"),
	INT("num_hidden_layers", layers, "32"), INT("num_attention_heads", heads, "32"), OPTIONAL("num_key_value_heads", kv_heads, "null"),
	OPTIONAL("head_dim", head_dim, "null"), MUST("hidden_act", "\"silu\""), INT("max_position_embeddings", max_positions, "2048"),
	REAL("initializer_range", init_std, "0.02"), REAL("rms_norm_eps", norm_eps, "1e-6"), FLAG("tie_word_embeddings", tied, "false"),
	FLAG("attention_bias", qkv_bias, "false"), FLAG("mlp_bias", ffn_bias, "false"), IDS("1", "2", "null"),
};

static const struct key gpt2[] = {
	INT("vocab_size", vocab, "50257"), INT2("n_positions", "max_position_embeddings", max_positions, "1024"), INT2("n_embd", "hidden_size", width, "768"),
	INT2("n_layer", "num_hidden_layers", layers, "12"), INT2("n_head", "num_attention_heads", heads, "12"), OPTIONAL("n_inner", dense_width, "null"),
	{"activation_function", NULL, KEY_ACTIVATION, TO(activation), "\"gelu_new\""}, REAL("layer_norm_epsilon", norm_eps, "1e-5"),
	REAL("initializer_range", init_std, "0.02"), MUST("scale_attn_weights", "true"), MUST("scale_attn_by_inverse_layer_idx", "false"),
	MUST("reorder_and_upcast_attn", "false"), MUST("add_cross_attention", "false"), FLAG("tie_word_embeddings", tied, "true"),
	IDS("50256", "50256", "null"),
};

static const struct key gpt_neox[] = {
	INT("vocab_size", vocab, "50432"), INT("hidden_size", width, "6144"), INT("num_hidden_layers", layers, "44"), INT("num_attention_heads", heads, "64"),
	INT("intermediate_size", dense_width, "24576"), {"hidden_act", NULL, KEY_ACTIVATION, TO(activation), "\"gelu\""},
	INT("max_position_embeddings", max_positions, "2048"), REAL("initializer_range", init_std, "0.02"), REAL("layer_norm_eps", norm_eps, "1e-5"),
	FLAG("tie_word_embeddings", tied, "false"), FLAG("use_parallel_residual", parallel, "true"), FLAG("attention_bias", qkv_bias, "true"),
	IDS("0", "2", "null"),
};

static const struct key mixtral[] = {
	INT("vocab_size", vocab, "32000"), INT("hidden_size", width, "4096"), INT("intermediate_size", expert_width, "14336"),
	INT("num_hidden_layers", layers, "32"), INT("num_attention_heads", heads, "32"), OPTIONAL("num_key_value_heads", kv_heads, "8"),
	OPTIONAL("head_dim", head_dim, "null"), MUST("hidden_act", "\"silu\""), INT("max_position_embeddings", max_positions, "131072"),
	REAL("initializer_range", init_std, "0.02"), REAL("rms_norm_eps", norm_eps, "1e-5"), FLAG("tie_word_embeddings", tied, "false"),
	INT("num_experts_per_tok", chosen, "2"), INT2("num_local_experts", "num_experts", experts, "8"), MUST("router_jitter_noise", "0.0"),
	IDS("1", "2", "null"),
};

static const struct key qwen3_moe[] = {
	INT("vocab_size", vocab, "151936"), INT("hidden_size", width, "2048"), INT("intermediate_size", dense_width, "6144"),
	INT("num_hidden_layers", layers, "24"), INT("num_attention_heads", heads, "32"), INT("num_key_value_heads", kv_heads, "4"),
	OPTIONAL("head_dim", head_dim, "null"), MUST("hidden_act", "\"silu\""), INT("max_position_embeddings", max_positions, "32768"),
	REAL("initializer_range", init_std, "0.02"), REAL("rms_norm_eps", norm_eps, "1e-6"), FLAG("tie_word_embeddings", tied, "false"),
	FLAG("attention_bias", qkv_bias, "false"), MUST("use_sliding_window", "false"), MUST("decoder_sparse_step", "1"),
	INT("moe_intermediate_size", expert_width, "768"), INT("num_experts_per_tok", chosen, "8"), INT2("num_experts", "num_local_experts", experts, "128"),
	FLAG("norm_topk_prob", router_normalize, "false"), IDS("null", "null", "null"),
};
static const char *const qwen3_moe_ignored[] = {"max_window_layers", "mlp_only_layers", NULL}; /* the latter is read apart */

static const struct key deepseek[] = {
	INT("vocab_size", vocab, "102400"), INT("hidden_size", width, "4096"), INT("intermediate_size", dense_width, "11008"),
	INT("moe_intermediate_size", expert_width, "1407"), INT("num_hidden_layers", layers, "30"), INT("num_attention_heads", heads, "32"),
	OPTIONAL("num_key_value_heads", kv_heads, "32"), OPTIONAL("n_shared_experts", shared_experts, "null"), OPTIONAL("n_routed_experts", experts, "null"),
	OPTIONAL("num_experts_per_tok", chosen, "null"), MUST("moe_layer_freq", "1"), INT("first_k_dense_replace", dense_layers, "0"),
	FLAG("norm_topk_prob", router_normalize, "false"), MUST("scoring_func", "\"softmax\""), MUST("hidden_act", "\"silu\""),
	INT("max_position_embeddings", max_positions, "2048"), REAL("initializer_range", init_std, "0.02"), REAL("rms_norm_eps", norm_eps, "1e-6"),
	FLAG("tie_word_embeddings", tied, "false"), FLAG("attention_bias", qkv_bias, "false"), IDS("100000", "100001", "null"),
};

static const struct key deepseek_v2[] = {
	INT("vocab_size", vocab, "102400"), INT("hidden_size", width, "4096"), INT("intermediate_size", dense_width, "11008"),
	INT("moe_intermediate_size", expert_width, "1407"), INT("num_hidden_layers", layers, "32"), INT("num_attention_heads", heads, "32"),
	OPTIONAL("num_key_value_heads", kv_heads, "null"), INT("n_shared_experts", shared_experts, "2"), INT("n_routed_experts", experts, "64"),
	OPTIONAL("num_experts_per_tok", chosen, "null"), MUST("moe_layer_freq", "1"), INT("first_k_dense_replace", dense_layers, "0"),
	OPTIONAL("q_lora_rank", query_rank, "1536"), INT("kv_lora_rank", latent_rank, "512"), INT("qk_nope_head_dim", nope_dim, "128"),
	INT("qk_rope_head_dim", rope_dims, "64"), INT("v_head_dim", value_dim, "128"), REAL("routed_scaling_factor", router_scale, "1.0"),
	MUST("topk_method", "\"greedy\""), MUST("norm_topk_prob", "false"), MUST("scoring_func", "\"softmax\""), MUST("hidden_act", "\"silu\""),
	INT("max_position_embeddings", max_positions, "2048"), REAL("initializer_range", init_std, "0.02"), REAL("rms_norm_eps", norm_eps, "1e-6"),
	FLAG("tie_word_embeddings", tied, "false"), FLAG("attention_bias", qkv_bias, "false"), FLAG("mlp_bias", ffn_bias, "false"),
	IDS("1", "2", "null"),
};
/* groups of experts serve only the other top-k methods; head_dim is the rotated part again */
static const char *const deepseek_v2_ignored[] = {"n_group", "topk_group", "head_dim", "qk_head_dim", NULL};

const struct family_row family_rows[FAMILIES] = {
	[FAMILY_TENFOLD] = {"tenfold", NULL, NULL, tenfold, COUNT(tenfold), tenfold_ignored, 0, 1, {.family = FAMILY_TENFOLD}, NULL, NULL},
	[FAMILY_OLMOE] = {"olmoe", "OlmoeForCausalLM", "OlmoeForSequenceClassification", olmoe, COUNT(olmoe), NULL, 10000, 1,
		{.family = FAMILY_OLMOE, .qk_norm = QK_NORM_WHOLE, .router_scale = 1}, "rope_theta", NULL},
	[FAMILY_LLAMA] = {"llama", "LlamaForCausalLM", "LlamaForSequenceClassification", llama, COUNT(llama), NULL, 10000, 1,
		{.family = FAMILY_LLAMA}, "rope_theta", NULL},
	[FAMILY_GPT2] = {"gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification", gpt2, COUNT(gpt2), NULL, 0, 1,
		{.family = FAMILY_GPT2, .norm = NORM_LAYER, .qkv = QKV_BLOCKS, .qkv_bias = 1, .output_bias = 1, .ffn_bias = 1, .norm_bias = 1,
		 .learned_positions = 1}, NULL, NULL},
	[FAMILY_GPT_NEOX] = {"gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification", gpt_neox, COUNT(gpt_neox), NULL, 10000, 0.25,
		{.family = FAMILY_GPT_NEOX, .norm = NORM_LAYER, .qkv = QKV_HEADS, .ffn_bias = 1, .norm_bias = 1}, "rotary_emb_base", "rotary_pct"},
	[FAMILY_MIXTRAL] = {"mixtral", "MixtralForCausalLM", "MixtralForSequenceClassification", mixtral, COUNT(mixtral), NULL, 1e6, 1,
		{.family = FAMILY_MIXTRAL, .router_normalize = 1, .router_scale = 1}, "rope_theta", NULL},
	[FAMILY_QWEN3_MOE] = {"qwen3_moe", "Qwen3MoeForCausalLM", "Qwen3MoeForSequenceClassification", qwen3_moe, COUNT(qwen3_moe), qwen3_moe_ignored,
		10000, 1, {.family = FAMILY_QWEN3_MOE, .qk_norm = QK_NORM_HEAD, .router_scale = 1}, "rope_theta", NULL},
	[FAMILY_DEEPSEEK] = {"deepseek", "DeepseekForCausalLM", "DeepseekForSequenceClassification", deepseek, COUNT(deepseek), NULL, 10000, 1,
		{.family = FAMILY_DEEPSEEK, .router_scale = 1}, "rope_theta", NULL},
	[FAMILY_DEEPSEEK_V2] = {"deepseek_v2", "DeepseekV2ForCausalLM", "DeepseekV2ForSequenceClassification", deepseek_v2, COUNT(deepseek_v2),
		deepseek_v2_ignored, 10000, 1, {.family = FAMILY_DEEPSEEK_V2, .qkv = QKV_LATENT, .rope_interleaved = 1}, "rope_theta", NULL},
};

const char *family_type(enum family f)
{
	return family_rows[f].type;
}
