"""Tiny random checkpoints in the layouts of transformers, written without it, and the smallest runs that start from them."""
import array
import json
import os
import random
import struct

VOCAB = 304  # some rows more than the tokenizer of 300 that the runs train


def write_safetensors(path, tensors):
    """tensors: {name: (shape, [values])}, F32."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            f.write(array.array("f", values).tobytes())


class Maker:
    def __init__(self, seed):
        self.random, self.tensors = random.Random(seed), {}

    def matrix(self, name, rows, cols, std=0.08):
        self.tensors[name] = ([rows, cols], [self.random.gauss(0, std) for _ in range(rows * cols)])

    def vector(self, name, n, mean=0.0):
        self.tensors[name] = ([n], [self.random.gauss(mean, 0.05) for _ in range(n)])

    def linear(self, name, out, fan, bias=False):
        self.matrix(name + ".weight", out, fan)
        if bias:
            self.vector(name + ".bias", out)


def olmoe(m):
    c, heads, experts, inner = 32, 2, 8, 16
    m.matrix("model.embed_tokens.weight", VOCAB, c)
    for n in range(2):
        p = f"model.layers.{n}."
        for name in ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"):
            m.vector(p + name + ".weight", c, 1)
        for name in "qkvo":
            m.linear(f"{p}self_attn.{name}_proj", c, c)
        m.linear(p + "mlp.gate", experts, c)
        for e in range(experts):
            m.linear(f"{p}mlp.experts.{e}.gate_proj", inner, c)
            m.linear(f"{p}mlp.experts.{e}.up_proj", inner, c)
            m.linear(f"{p}mlp.experts.{e}.down_proj", c, inner)
    m.vector("model.norm.weight", c, 1)
    m.matrix("lm_head.weight", VOCAB, c)
    return dict(model_type="olmoe", architectures=["OlmoeForCausalLM"], vocab_size=VOCAB, hidden_size=c, intermediate_size=inner, num_hidden_layers=2,
                num_attention_heads=heads, num_key_value_heads=heads, num_experts=experts, num_experts_per_tok=2, max_position_embeddings=256,
                rope_theta=10000.0, eos_token_id=None, pad_token_id=None)


def gpt2(m):
    c, width = 32, 128
    m.matrix("transformer.wte.weight", VOCAB, c)
    m.matrix("transformer.wpe.weight", 256, c)
    for n in range(2):
        p = f"transformer.h.{n}."
        for name in ("ln_1", "ln_2"):
            m.vector(p + name + ".weight", c, 1)
            m.vector(p + name + ".bias", c)
        for name, rows, cols in (("attn.c_attn", c, 3 * c), ("attn.c_proj", c, c), ("mlp.c_fc", c, width), ("mlp.c_proj", width, c)):
            m.matrix(p + name + ".weight", rows, cols)
            m.vector(p + name + ".bias", cols)
    m.vector("transformer.ln_f.weight", c, 1)
    m.vector("transformer.ln_f.bias", c)
    return dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=VOCAB, n_embd=c, n_layer=2, n_head=2, n_positions=256, bos_token_id=None,
                eos_token_id=None)


def deepseek_v2(m):
    c, heads, nope, rope, value, rank, experts, inner = 32, 2, 8, 8, 8, 12, 8, 16
    m.matrix("model.embed_tokens.weight", VOCAB, c)
    for n in range(2):
        p = f"model.layers.{n}."
        m.vector(p + "input_layernorm.weight", c, 1)
        m.vector(p + "post_attention_layernorm.weight", c, 1)
        m.linear(p + "self_attn.q_proj", heads * (nope + rope), c)
        m.linear(p + "self_attn.kv_a_proj_with_mqa", rank + rope, c)
        m.vector(p + "self_attn.kv_a_layernorm.weight", rank, 1)
        m.linear(p + "self_attn.kv_b_proj", heads * (nope + value), rank)
        m.linear(p + "self_attn.o_proj", c, heads * value)
        if n == 0:
            for name, out, fan in (("gate_proj", 48, c), ("up_proj", 48, c), ("down_proj", c, 48)):
                m.linear(f"{p}mlp.{name}", out, fan)
            continue
        m.linear(p + "mlp.gate", experts, c)
        for part in [f"experts.{e}" for e in range(experts)] + ["shared_experts"]:
            for name, out, fan in (("gate_proj", inner, c), ("up_proj", inner, c), ("down_proj", c, inner)):
                m.linear(f"{p}mlp.{part}.{name}", out, fan)
    m.vector("model.norm.weight", c, 1)
    m.matrix("lm_head.weight", VOCAB, c)
    return dict(model_type="deepseek_v2", architectures=["DeepseekV2ForCausalLM"], vocab_size=VOCAB, hidden_size=c, intermediate_size=48,
                moe_intermediate_size=inner, num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=heads, n_routed_experts=experts,
                n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=rank, qk_nope_head_dim=nope,
                qk_rope_head_dim=rope, v_head_dim=value, max_position_embeddings=512, rope_theta=10000.0, topk_method="greedy",
                rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707,
                              "mscale_all_dim": 0.707}, bos_token_id=None, eos_token_id=None)


FAMILIES = {"olmoe": olmoe, "gpt2": gpt2, "deepseek_v2": deepseek_v2}


def make(folder, family, seed=1):
    os.makedirs(folder, exist_ok=True)
    m = Maker(seed)
    config = FAMILIES[family](m)
    write_safetensors(os.path.join(folder, "model.safetensors"), m.tensors)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    return m.tensors


RUN = {"run.stages": "sft, ppo", "tokenizer.vocab_size": 300, "task.train": 32, "task.heldout": 16, "task.supervised": 64, "task.levels": 1, "sft.steps": 4, "sft.optim.warmup": 1,
       "sft.batch": 8, "ppo.steps": 2, "ppo.prompts": 4, "ppo.gradient_block": 2, "ppo.micro_batch": 2, "rollout.max_new_tokens": 12,
       "rollout.batch_groups": 4, "run.workers": 1}
