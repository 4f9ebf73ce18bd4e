#!/usr/bin/env python3
"""Whole runs that start from checkpoints in the layouts of transformers: what they export is the same layout, trained, and
the digest does not depend on the number of workers."""
import json
import os
import tempfile
import unittest

import family_kit
from run_kit import CONFIG, sets, tenfold


def layout(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


class FamilyRun(unittest.TestCase):
    def run_family(self, family, **changes):
        with tempfile.TemporaryDirectory() as folder:
            start = os.path.join(folder, "start")
            tensors = family_kit.make(start, family)
            digests = []
            for workers in (1, 2):
                out = os.path.join(folder, f"run{workers}")
                keys = dict(family_kit.RUN, **{"model.init": start, "run.workers": workers}, **changes)
                done = tenfold("run", CONFIG, "--out", out, *sets(keys))
                self.assertEqual(done.status, 0, done.err)
                digests.append(tenfold("digest", out).out)
            self.assertEqual(digests[0], digests[1])
            for stage in ("sft", "ppo"):
                model = os.path.join(out, "models", stage)
                with open(os.path.join(model, "config.json")) as f:
                    self.assertEqual(json.load(f)["model_type"], family)
                heads = {k: v for k, v in layout(model).items() if k.startswith("v_head.")}
                self.assertEqual({k: v for k, v in layout(model).items() if k not in heads}, {k: v[0] for k, v in tensors.items()})
                self.assertTrue(os.path.exists(os.path.join(model, "tokenizer.json")))
                info = json.loads(tenfold("model", "info", model, "--json").out)
                self.assertEqual(info["model_type"], family)
            weights = []
            for stage in ("sft", "ppo"):
                with open(os.path.join(out, "models", stage, "model.safetensors"), "rb") as f:
                    weights.append(f.read())
            self.assertNotEqual(*weights)
            return heads

    def test_olmoe(self):
        self.assertEqual(self.run_family("olmoe", **{"ppo.critic": "separate"}), {})

    def test_gpt2(self):
        """A dense model, and a critic as a head: the value head is called as TRL calls it."""
        heads = self.run_family("gpt2", **{"ppo.critic": "head"})
        self.assertEqual(heads, {"v_head.summary.weight": [1, 32], "v_head.summary.bias": [1]})

    def test_deepseek_v2(self):
        self.assertEqual(self.run_family("deepseek_v2", **{"ppo.critic": "none", "ppo.advantage": "group"}), {})


if __name__ == "__main__":
    unittest.main()
