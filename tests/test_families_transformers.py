#!/usr/bin/env python3
"""Families against `transformers` itself, both ways: what is written here is loaded there with the same logits, and
`tenfold logits` prints those of the original. Then the whole way: a PPO run from a checkpoint, exported, loaded there, with
the same greedy tokens.

Runs where `transformers` can be imported by this Python or by $TENFOLD_PYTHON; otherwise it is skipped.
"""
import json
import os
import tempfile
import unittest

import python_kit

python_kit.need("torch", "transformers")
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

import family_kit  # noqa: E402
import models as golden  # noqa: E402
from run_kit import CONFIG, SOURCE, sets, tenfold  # noqa: E402

GOLDEN = os.path.join(SOURCE, "tests", "golden", "models")

torch.set_num_threads(1)


def load(folder):
    """The model of a folder in f32; `deepseek` by the oracle of the fixtures."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    if config["model_type"] != "deepseek":
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model = golden.deepseek_model(config)
    model.load_state_dict({k: v.float() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()})
    return model.eval()


def ours(folder, tokens, *options):
    done = tenfold("logits", "--model", folder, "--tokens", ",".join(map(str, tokens)), "--json", *options)
    assert done.status == 0, done.err
    return torch.tensor(json.loads(done.out)["logits"])


class Families(unittest.TestCase):
    def near(self, a, b, what):
        d = float((a - b).abs().max() / b.abs().max())
        self.assertLessEqual(d, 1e-5, what)

    def test_written_here_read_there(self):
        for name in golden.FIXTURES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder, torch.no_grad():
                start = os.path.join(GOLDEN, name)
                fixture = load_file(os.path.join(start, "golden.safetensors"))
                done = tenfold("model", "convert", start, folder)
                self.assertEqual(done.status, 0, done.err)
                self.near(load(folder)(fixture["tokens"].long()).logits, fixture["logits"], name)
                self.near(ours(folder, fixture["tokens"][0].tolist()), fixture["logits"][0], name)

    def test_half_precision_is_rounded_alike(self):
        for kind, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
            with tempfile.TemporaryDirectory() as folder:
                start = os.path.join(GOLDEN, "llama")
                self.assertEqual(tenfold("model", "convert", start, folder, "--dtype", kind).status, 0)
                want = load_file(os.path.join(start, "model.safetensors"))
                for name, tensor in load_file(os.path.join(folder, "model.safetensors")).items():
                    self.assertTrue(torch.equal(tensor, want[name].to(dtype)), name)

    def test_logits_in_bf16(self):
        """A checkpoint in bf16 computed in bf16: `transformers` rounds every result, here only what products multiply is, so the two
        differ by some roundings of 2^-9 each; both must be about as near to f32."""
        for name in golden.FIXTURES:
            if name == "deepseek":
                continue
            with self.subTest(name), tempfile.TemporaryDirectory() as folder, torch.no_grad():
                start = os.path.join(GOLDEN, name)
                tokens = load_file(os.path.join(start, "golden.safetensors"))["tokens"][:1].long()
                self.assertEqual(tenfold("model", "convert", start, folder, "--dtype", "bf16").status, 0)
                exact = load(folder)(tokens).logits[0]
                there = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager", experts_implementation="eager").eval()(tokens).logits[0].float()
                self.near(ours(folder, tokens[0].tolist()), exact, name)  # f32 from a mapped bf16 file is exact
                got = ours(folder, tokens[0].tolist(), "--precision", "bf16")
                rms = lambda a, b: float((a - b).square().mean().sqrt() / b.square().mean().sqrt())  # noqa: E731
                print(f"{name}: ours {rms(got, exact):.2e}, transformers {rms(there, exact):.2e}, apart {rms(got, there):.2e}")
                self.assertLessEqual(rms(got, there), 2e-2, name)
                self.assertLessEqual(rms(got, exact), 1e-2, name)
                self.assertGreater(rms(got, exact), 1e-5, name)

    def test_classifiers_both_ways(self):
        """A classifier saved there, written again here, and loaded there: the same score, and the same names in the file."""
        common = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
                      intermediate_size=48, num_labels=1, initializer_range=0.2, bos_token_id=None, eos_token_id=None, pad_token_id=0)
        latent = dict(q_lora_rank=None, kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=4, n_shared_experts=1,
                      num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1, topk_method="greedy")
        configs = [transformers.GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=2, n_positions=64, num_labels=1, initializer_range=0.2, bos_token_id=None,
                                           eos_token_id=None, pad_token_id=0),
                   transformers.LlamaConfig(**common), transformers.GPTNeoXConfig(**{k: v for k, v in common.items() if k != "num_key_value_heads"}),
                   transformers.MixtralConfig(num_local_experts=4, **common),
                   transformers.Qwen3MoeConfig(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=16, **common),
                   transformers.DeepseekV2Config(**latent, **common)]
        line = torch.tensor([[5, 17, 60, 42, 9]])
        for config in configs:
            with self.subTest(config.model_type), tempfile.TemporaryDirectory() as folder, torch.no_grad():
                kind, start, out = transformers.AutoModelForSequenceClassification, os.path.join(folder, "start"), os.path.join(folder, "out")
                torch.manual_seed(4)
                try:
                    model = kind.from_config(config).eval()
                except ValueError:
                    print(f"{config.model_type}: this transformers has no classifier")
                    continue
                model.save_pretrained(start)
                done = tenfold("model", "convert", start, out)
                self.assertEqual(done.status, 0, done.err)
                self.assertTrue(json.loads(tenfold("model", "info", out, "--json").out)["score_head"])
                again, told = kind.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
                self.assertFalse(told["missing_keys"] or told["unexpected_keys"], told)
                self.near(again.eval()(line).logits, model(line).logits, config.model_type)

    def run_family(self, family):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            start, out = os.path.join(folder, "start"), os.path.join(folder, "run")
            family_kit.make(start, family)
            done = tenfold("run", CONFIG, "--out", out, *sets(dict(family_kit.RUN, **{"model.init": start})))
            self.assertEqual(done.status, 0, done.err)
            exported = os.path.join(out, "models", "ppo")
            model, line = load(exported), [5, 17, 260, 42]
            self.near(ours(exported, line), model(torch.tensor([line])).logits[0], family)
            self.assertGreater(float((load(start)(torch.tensor([line])).logits - model(torch.tensor([line])).logits).abs().max()), 1e-4)
            there = model.generate(torch.tensor([line]), max_new_tokens=12, min_new_tokens=12, do_sample=False)[0].tolist()
            for _ in range(12):
                line.append(int(ours(exported, line)[-1].argmax()))
            self.assertEqual(line, there)

    def test_ppo_from_olmoe(self):
        self.run_family("olmoe")

    def test_ppo_from_gpt2(self):
        self.run_family("gpt2")

    def test_ppo_from_deepseek_v2(self):
        self.run_family("deepseek_v2")


if __name__ == "__main__":
    unittest.main()
