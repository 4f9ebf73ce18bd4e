/* What each family calls its tensors; see family.h. Most speak Llama's language
 * and differ in the mixture of experts. */
#include "policy/family.h"

enum names { NAMES_LLAMA, NAMES_MIXTRAL, NAMES_GPT2, NAMES_NEOX, NAMES };

#define LLAMA_LAYER "model.layers.%d."
#define GPT2_LAYER "transformer.h.%d."
#define NEOX_LAYER "gpt_neox.layers.%d."

#define LLAMA_TRUNK \
	[ROLE_EMBED] = "model.embed_tokens", [ROLE_NORM1] = LLAMA_LAYER "input_layernorm", [ROLE_Q] = LLAMA_LAYER "self_attn.q_proj", \
	[ROLE_K] = LLAMA_LAYER "self_attn.k_proj", [ROLE_V] = LLAMA_LAYER "self_attn.v_proj", [ROLE_O] = LLAMA_LAYER "self_attn.o_proj", \
	[ROLE_Q_NORM] = LLAMA_LAYER "self_attn.q_norm", [ROLE_K_NORM] = LLAMA_LAYER "self_attn.k_norm", \
	[ROLE_NORM2] = LLAMA_LAYER "post_attention_layernorm", [ROLE_NORM] = "model.norm", [ROLE_LM_HEAD] = "lm_head"

static const char *const names[NAMES][ROLES] = {
	[NAMES_LLAMA] = {LLAMA_TRUNK,
		[ROLE_QKV] = LLAMA_LAYER "self_attn.kv_a_proj_with_mqa", [ROLE_LATENT_NORM] = LLAMA_LAYER "self_attn.kv_a_layernorm",
		[ROLE_WIDEN] = LLAMA_LAYER "self_attn.kv_b_proj", [ROLE_QUERY_DOWN] = LLAMA_LAYER "self_attn.q_a_proj",
		[ROLE_QUERY_NORM] = LLAMA_LAYER "self_attn.q_a_layernorm", [ROLE_QUERY_UP] = LLAMA_LAYER "self_attn.q_b_proj", [ROLE_ROUTER] = LLAMA_LAYER "mlp.gate",
		[ROLE_GATE] = LLAMA_LAYER "mlp.experts.%d.gate_proj", [ROLE_UP] = LLAMA_LAYER "mlp.experts.%d.up_proj",
		[ROLE_DOWN] = LLAMA_LAYER "mlp.experts.%d.down_proj", [ROLE_SHARED_GATE] = LLAMA_LAYER "mlp.shared_experts.gate_proj",
		[ROLE_SHARED_UP] = LLAMA_LAYER "mlp.shared_experts.up_proj", [ROLE_SHARED_DOWN] = LLAMA_LAYER "mlp.shared_experts.down_proj",
		[ROLE_DENSE_GATE] = LLAMA_LAYER "mlp.gate_proj", [ROLE_DENSE_UP] = LLAMA_LAYER "mlp.up_proj",
		[ROLE_DENSE_DOWN] = LLAMA_LAYER "mlp.down_proj"},
	[NAMES_MIXTRAL] = {LLAMA_TRUNK,
		[ROLE_ROUTER] = LLAMA_LAYER "block_sparse_moe.gate", [ROLE_GATE] = LLAMA_LAYER "block_sparse_moe.experts.%d.w1",
		[ROLE_UP] = LLAMA_LAYER "block_sparse_moe.experts.%d.w3", [ROLE_DOWN] = LLAMA_LAYER "block_sparse_moe.experts.%d.w2"},
	[NAMES_GPT2] = {
		[ROLE_EMBED] = "transformer.wte", [ROLE_POSITIONS] = "transformer.wpe", [ROLE_NORM1] = GPT2_LAYER "ln_1",
		[ROLE_QKV] = GPT2_LAYER "attn.c_attn", [ROLE_O] = GPT2_LAYER "attn.c_proj", [ROLE_NORM2] = GPT2_LAYER "ln_2",
		[ROLE_DENSE_UP] = GPT2_LAYER "mlp.c_fc", [ROLE_DENSE_DOWN] = GPT2_LAYER "mlp.c_proj", [ROLE_NORM] = "transformer.ln_f",
		[ROLE_LM_HEAD] = "lm_head"},
	[NAMES_NEOX] = {
		[ROLE_EMBED] = "gpt_neox.embed_in", [ROLE_NORM1] = NEOX_LAYER "input_layernorm", [ROLE_QKV] = NEOX_LAYER "attention.query_key_value",
		[ROLE_O] = NEOX_LAYER "attention.dense", [ROLE_NORM2] = NEOX_LAYER "post_attention_layernorm",
		[ROLE_DENSE_UP] = NEOX_LAYER "mlp.dense_h_to_4h", [ROLE_DENSE_DOWN] = NEOX_LAYER "mlp.dense_4h_to_h",
		[ROLE_NORM] = "gpt_neox.final_layer_norm", [ROLE_LM_HEAD] = "embed_out"},
};

static enum names names_of(enum family f)
{
	switch (f) {
	case FAMILY_MIXTRAL: return NAMES_MIXTRAL;
	case FAMILY_GPT2: return NAMES_GPT2;
	case FAMILY_GPT_NEOX: return NAMES_NEOX;
	default: return NAMES_LLAMA;
	}
}

const char *family_name(enum family f, enum role role)
{
	const char *name = names[names_of(f)][role];
	CHECK(name, "family %s has no name for role %d", family_type(f), (int)role);
	return name;
}

const char *family_prefix(enum family f)
{
	static const char *const prefixes[NAMES] = {"model.", "model.", "transformer.", "gpt_neox."};
	return prefixes[names_of(f)];
}
