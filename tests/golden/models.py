#!/usr/bin/env python3
"""Makes the fixtures of tests/test_families.c: for each family a tiny random checkpoint by `transformers` with its logits,
gradients of the mean cross entropy, the routers' auxiliary loss and a greedy continuation, in f32 with eager attention.

    python3 tests/golden/models.py [NAME…]     writes tests/golden/models/NAME/{config.json,model*.safetensors,golden.safetensors}

Made with transformers 5.23.0 and torch 2.15.0. `deepseek` is remote code that the library does not carry: its oracle is
Llama's trunk with the published feed-forward (DeepSeekMoE, 2401.06066), written out below. The checkpoints differ in how
they are stored, on purpose: shards, F16, BF16, without the base model's prefix, experts fused, configs of versions 4 and 5.
"""
import json, math, os, shutil, sys
import torch, transformers
from safetensors.torch import save_file, load_file
from torch import nn
from torch.nn import functional as F
from transformers import (DeepseekV2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, LlamaForCausalLM, MixtralConfig, OlmoeConfig,
                          Qwen3MoeConfig, AutoModelForCausalLM, AutoModelForSequenceClassification)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
VOCAB, T, NEW = 96, 20, 32
COMMON = dict(vocab_size=VOCAB, initializer_range=0.02, bos_token_id=None, eos_token_id=None, pad_token_id=None)


class DeepseekMoe(nn.Module):
    """Softmax over all, the k greatest, divided by their sum when asked; plus the shared experts in one."""
    def __init__(self, c):
        super().__init__()
        self.c = c
        mlp = lambda width: nn.ModuleDict({"gate_proj": nn.Linear(c["hidden_size"], width, bias=False),
                                           "up_proj": nn.Linear(c["hidden_size"], width, bias=False),
                                           "down_proj": nn.Linear(width, c["hidden_size"], bias=False)})
        self.gate = nn.Linear(c["hidden_size"], c["n_routed_experts"], bias=False)
        self.experts = nn.ModuleList([mlp(c["moe_intermediate_size"]) for _ in range(c["n_routed_experts"])])
        self.shared_experts = mlp(c["moe_intermediate_size"] * c["n_shared_experts"])

    @staticmethod
    def run(m, x):
        return m["down_proj"](F.silu(m["gate_proj"](x)) * m["up_proj"](x))

    def forward(self, hidden):
        x = hidden.view(-1, hidden.shape[-1])
        self.logits = self.gate(x)
        weight, index = torch.topk(self.logits.softmax(-1), self.c["num_experts_per_tok"], dim=-1)
        if self.c["norm_topk_prob"]:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        out = torch.zeros_like(x)
        for e, m in enumerate(self.experts):
            row, place = torch.where(index == e)
            out = out.index_add(0, row, self.run(m, x[row]) * weight[row, place, None])
        return (out + self.run(self.shared_experts, x)).view(hidden.shape)


DEEPSEEK = dict(model_type="deepseek", architectures=["DeepseekForCausalLM"], vocab_size=VOCAB, hidden_size=32, intermediate_size=40,
                moe_intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, n_shared_experts=2, n_routed_experts=6,
                num_experts_per_tok=2, moe_layer_freq=1, first_k_dense_replace=1, norm_topk_prob=True, scoring_func="softmax", aux_loss_alpha=0.001,
                seq_aux=True, hidden_act="silu", max_position_embeddings=64, initializer_range=0.02, rms_norm_eps=1e-6, use_cache=True,
                tie_word_embeddings=False, rope_theta=10000.0, rope_scaling=None, attention_bias=False, attention_dropout=0.0,
                bos_token_id=0, eos_token_id=1, torch_dtype="float32")


def deepseek_model(c):
    base = LlamaConfig(vocab_size=c["vocab_size"], hidden_size=c["hidden_size"], intermediate_size=c["intermediate_size"],
                       num_hidden_layers=c["num_hidden_layers"], num_attention_heads=c["num_attention_heads"],
                       num_key_value_heads=c["num_key_value_heads"], max_position_embeddings=c["max_position_embeddings"],
                       rms_norm_eps=c["rms_norm_eps"], rope_theta=c["rope_theta"], attn_implementation="eager")
    m = LlamaForCausalLM(base)
    for layer in range(c["first_k_dense_replace"], c["num_hidden_layers"]):
        m.model.layers[layer].mlp = DeepseekMoe(c)
    return m


YARN = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707}
V2 = dict(COMMON, hidden_size=32, intermediate_size=40, moe_intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
          kv_lora_rank=16, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=8, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2,
          first_k_dense_replace=1, max_position_embeddings=128, rope_theta=10000.0, topk_method="greedy")
MOE = dict(COMMON, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
NEOX = dict(COMMON, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)

# name: (config, how it is stored, disk names of tensors whose gradients are kept)
FIXTURES = {
    "olmoe": (lambda: OlmoeConfig(**MOE, num_key_value_heads=2, intermediate_size=24, num_experts=6, num_experts_per_tok=2), "shards",
              ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.q_norm.weight", "model.layers.0.mlp.gate.weight",
               "model.layers.1.mlp.experts.3.down_proj.weight"]),
    "llama": (lambda: LlamaConfig(**COMMON, hidden_size=48, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
                                  head_dim=10, max_position_embeddings=64, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                                  rope_parameters={"rope_type": "llama3", "rope_theta": 1000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                   "original_max_position_embeddings": 32}), "plain",
              ["model.embed_tokens.weight", "model.layers.0.self_attn.v_proj.bias", "model.layers.2.mlp.down_proj.weight", "model.layers.1.mlp.gate_proj.bias"]),
    "gpt2": (lambda: GPT2Config(**COMMON, n_positions=64, n_embd=36, n_layer=2, n_head=3), "no prefix",
             ["transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias",
              "transformer.h.1.ln_2.bias", "transformer.h.1.mlp.c_proj.weight"]),
    "gpt_neox": (lambda: GPTNeoXConfig(**NEOX, rotary_pct=0.5, use_parallel_residual=True), "plain",
                 ["gpt_neox.layers.0.attention.query_key_value.weight", "gpt_neox.layers.0.attention.query_key_value.bias",
                  "gpt_neox.layers.1.post_attention_layernorm.weight", "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "gpt_neox.final_layer_norm.bias"]),
    "gpt_neox_serial": (lambda: GPTNeoXConfig(**NEOX, rotary_pct=0.25, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_fast"), "plain",
                        ["gpt_neox.layers.0.attention.dense.weight", "gpt_neox.layers.0.input_layernorm.weight"]),
    "mixtral": (lambda: MixtralConfig(**MOE, num_key_value_heads=2, intermediate_size=28, num_local_experts=4, num_experts_per_tok=2), "bf16",
                ["model.layers.1.block_sparse_moe.gate.weight", "model.layers.0.block_sparse_moe.experts.2.w1.weight",
                 "model.layers.0.block_sparse_moe.experts.2.w3.weight"]),
    "qwen3_moe": (lambda: Qwen3MoeConfig(**MOE, num_key_value_heads=2, head_dim=12, intermediate_size=40, moe_intermediate_size=16, num_experts=6,
                                         num_experts_per_tok=3, norm_topk_prob=True, mlp_only_layers=[0]), "fused",
                  ["model.layers.0.self_attn.k_norm.weight", "model.layers.1.mlp.gate.weight", "model.layers.1.mlp.experts.0.up_proj.weight",
                   "model.layers.0.mlp.up_proj.weight"]),
    "deepseek": (lambda: DEEPSEEK, "f16",
                 ["model.layers.1.mlp.gate.weight", "model.layers.1.mlp.shared_experts.up_proj.weight", "model.layers.1.mlp.experts.4.gate_proj.weight",
                  "model.layers.0.mlp.down_proj.weight"]),
    "deepseek_v2": (lambda: DeepseekV2Config(**V2, q_lora_rank=None, rope_scaling=YARN, routed_scaling_factor=1.5), "v4",
                    ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
                     "model.layers.1.self_attn.kv_a_layernorm.weight", "model.layers.1.self_attn.kv_b_proj.weight", "model.layers.1.mlp.gate.weight"]),
    "deepseek_v2_q": (lambda: DeepseekV2Config(**V2, q_lora_rank=14, attention_bias=True, tie_word_embeddings=True), "plain",
                      ["model.layers.0.self_attn.q_a_proj.weight", "model.layers.0.self_attn.q_a_proj.bias", "model.layers.1.self_attn.q_b_proj.weight",
                       "model.layers.1.self_attn.q_a_layernorm.weight", "model.layers.0.self_attn.o_proj.bias"]),
}


ONE = dict(num_labels=1, pad_token_id=0)
REWARDS = {
    "gpt2_reward": lambda: GPT2Config(**{**COMMON, **ONE}, n_positions=64, n_embd=24, n_layer=2, n_head=3),
    "qwen3_moe_reward": lambda: Qwen3MoeConfig(**{**MOE, **ONE}, num_key_value_heads=2, head_dim=8, moe_intermediate_size=12, num_experts=4,
                                               num_experts_per_tok=2, norm_topk_prob=True),
}


def scatter(model, seed):
    """Weights large enough that every part shows in the logits."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=g)
        if "norm" in name or ".ln_" in name:
            x = 1 + 0.2 * x if name.endswith("weight") else 0.2 * x
        elif p.dim() == 1:
            x = 0.2 * x
        elif "embed" in name or "wte" in name or "wpe" in name:
            x = 0.7 * x
        elif name.endswith("mlp.gate.weight") or "router" in name:
            x = 0.5 * x
        else:
            fan = p.shape[-2] if "c_attn" in name or "c_proj" in name or "c_fc" in name else p.shape[-1]
            x = 1.3 * x / math.sqrt(fan)
        with torch.no_grad():
            p.copy_(x)


def store(name, model, config, how):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if isinstance(config, dict):
        state = {k: v.half() for k, v in model.state_dict().items()}
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        json.dump(config, open(os.path.join(folder, "config.json"), "w"), indent=2)
        return folder
    model.save_pretrained(folder, **({"max_shard_size": "60KB"} if how == "shards" else {}))
    for f in os.listdir(folder):
        if f == "generation_config.json":
            os.remove(os.path.join(folder, f))
    path = os.path.join(folder, "model.safetensors")
    if how == "bf16":
        save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    if how == "fused":
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata={"format": "pt"})
    if how == "no prefix":
        state = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
        for layer in range(model.config.n_layer):
            state[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64)[:, :, :4, :4].contiguous()
        save_file(state, path, metadata={"format": "pt"})
    if how == "v4":
        c = json.load(open(os.path.join(folder, "config.json")))
        c.pop("rope_parameters")
        c.update(rope_theta=10000.0, rope_scaling=YARN, n_group=1, topk_group=1, scoring_func="softmax", moe_layer_freq=1)
        json.dump(c, open(os.path.join(folder, "config.json"), "w"), indent=2)
    return folder


def gradient(model, name):
    params = dict(model.named_parameters())
    if name in params:
        return params[name].grad
    name = name.replace("block_sparse_moe", "mlp").replace(".w1.", ".gate_proj.").replace(".w3.", ".up_proj.").replace(".w2.", ".down_proj.")
    if name in params:
        return params[name].grad
    head, tail = name.split(".experts.")
    expert, part = int(tail.split(".")[0]), tail.split(".")[1]
    if part == "down_proj":
        return params[head + ".experts.down_proj"].grad[expert]
    both = params[head + ".experts.gate_up_proj"].grad[expert]
    return both.chunk(2)[0 if part == "gate_proj" else 1]


def auxiliary(model, config, inputs):
    """load_balancing_loss_func of transformers over all layers."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    if isinstance(config, dict):
        logits = tuple(l.mlp.logits for l in model.model.layers if hasattr(l.mlp, "experts"))
        return load_balancing_loss_func(logits, config["n_routed_experts"], config["num_experts_per_tok"])
    if not hasattr(config, "num_experts_per_tok"):
        return None
    logits = model(inputs, output_router_logits=True).router_logits
    return load_balancing_loss_func(logits, config.num_experts, config.num_experts_per_tok)


def make(name, seed):
    make_config, how, grads = FIXTURES[name]
    config = make_config()
    if isinstance(config, dict):
        model = deepseek_model(config)
    else:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.eval()
    scatter(model, seed)
    kind = {"bf16": torch.bfloat16, "f16": torch.float16}.get(how)
    if kind:
        for p in model.parameters():  # not model.to: that would round the rotary frequencies too
            p.data = p.data.to(kind).float()
    folder = store(name, model, config, how)
    g = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(0, VOCAB, (2, T), generator=g)
    out = model(tokens)
    loss = F.cross_entropy(out.logits[:, :-1].reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
    loss.backward()
    golden = {"tokens": tokens.to(torch.int32), "logits": out.logits.detach(), "loss": loss.detach().reshape(1)}
    for k in grads:
        golden["grad." + k] = gradient(model, k).detach().contiguous().clone()
        assert golden["grad." + k].abs().max() > 1e-4, k
    with torch.no_grad():
        aux = auxiliary(model, config, tokens)
        if aux is not None:
            golden["aux_loss"] = aux.detach().float().reshape(1)
        line, gap = tokens[0, :5].tolist(), 1e9
        for _ in range(NEW):
            top = model(torch.tensor([line])).logits[0, -1].topk(2)
            gap = min(gap, float(top.values[0] - top.values[1]))
            line.append(int(top.indices[0]))
    golden["continuation"] = torch.tensor(line, dtype=torch.int32)
    varied = len(set(line[5:]))
    if gap < 2e-3 or varied < 6:
        return False
    save_file(golden, os.path.join(folder, "golden.safetensors"))
    for f in os.listdir(folder):
        os.chmod(os.path.join(folder, f), 0o644)
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    assert size < 300_000, size
    print(f"{name}: seed {seed}, loss {loss.item():.4f}, smallest gap {gap:.4f}, {varied} different tokens, {size} bytes")
    return True


def make_reward(name, seed=1):
    """A classifier with one label: scores at the last token."""
    config = REWARDS[name]()
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    scatter(model, seed)
    folder = store(name, model, config, "plain")
    tokens = torch.randint(1, VOCAB, (2, T), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        scores = model(tokens).logits[:, 0]
    save_file({"tokens": tokens.to(torch.int32), "scores": scores}, os.path.join(folder, "golden.safetensors"))
    for f in os.listdir(folder):
        os.chmod(os.path.join(folder, f), 0o644)
    print(f"{name}: scores {scores.tolist()}")


if __name__ == "__main__":
    for fixture in sys.argv[1:] or [*FIXTURES, *REWARDS]:
        if fixture in REWARDS:
            make_reward(fixture)
        elif not any(make(fixture, seed) for seed in range(1, 200)):
            sys.exit(f"{fixture}: no seed gives a continuation far enough from ties")
