#!/usr/bin/env python3
"""Families against `transformers` itself, both ways: what is written here is loaded there with the same logits, and
`tenfold logits` prints those of the original. Then the whole way: a PPO run from a checkpoint, exported, loaded there, with
the same greedy tokens.

Runs where `transformers` can be imported by this Python or by $TENFOLD_PYTHON; otherwise it is skipped.
"""
import json
import os
import sys
import tempfile
import unittest

try:
    import torch
    from transformers import AutoModelForCausalLM
except ImportError:
    other = os.environ.get("TENFOLD_PYTHON")
    if other and not os.environ.get("TENFOLD_PYTHON_USED"):
        os.environ["TENFOLD_PYTHON_USED"] = "1"
        os.execv(other, [other] + sys.argv)
    print("skipped: the Python module transformers is not here (set TENFOLD_PYTHON to a Python that has it)")
    sys.exit(77)

import family_kit  # noqa: E402
from run_kit import CONFIG, SOURCE, sets, tenfold  # noqa: E402

GOLDEN = os.path.join(SOURCE, "tests", "golden", "models")
sys.path.insert(0, os.path.dirname(GOLDEN))
import models as golden  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

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


def ours(folder, tokens):
    done = tenfold("logits", "--model", folder, "--tokens", ",".join(map(str, tokens)), "--json")
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
