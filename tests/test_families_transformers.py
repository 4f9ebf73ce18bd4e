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
