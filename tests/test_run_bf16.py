"""run.precision bf16 on whole runs of configs/smoke.yaml on the CPU: exact within itself (who computes what changes no bit, and the
learner's log-probabilities are the sampler's), in less memory than f32, and exported in bf16 when asked.

ctest timeout: 900
"""
import json
import os
import re
import struct
import unittest

import run_kit
from run_kit import CONFIG, RunTest, sets, tenfold

BF16 = {"run.precision": "bf16", "run.device": "cpu"}


def types(path):
    """The types of a safetensors file's tensors."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return {t["dtype"] for name, t in header.items() if name != "__metadata__"}


def together(text):
    return float(re.search(r"together, at most +([0-9.]+)", text).group(1))


class Bf16(RunTest):
    def test_exact_within_itself(self):
        first = self.place("first")
        done = tenfold("run", CONFIG, "--out", first, *sets(dict(BF16, **{"model.save_dtype": "bf16"})))
        self.assertEqual(done.status, 0, done.err)
        self.check_exact(first)
        self.assertNotEqual(self.digest(first), self.digest(self.base))
        changes = {"run.workers": 1, "run.threads": 1, "run.isa": "avx2", "ppo.micro_batch": 2, "rollout.fetch_weights": "true"}
        other = self.place("other")
        done = tenfold("run", CONFIG, "--out", other, *sets(dict(BF16, **{"model.save_dtype": "bf16"}, **changes)))
        self.assertEqual(done.status, 0, done.err)
        self.assert_same(first, other)
        published = [os.path.join(first, "weights", n) for n in os.listdir(os.path.join(first, "weights"))]
        for path in published + [os.path.join(first, "models", "ppo", "model.safetensors")]:
            self.assertEqual(types(path), {"BF16"}, path)

    def test_ppo_instruction_sets_threads_and_lag(self):
        self.assert_same(self.ppo("avx2", **BF16, **{"run.isa": "avx2", "run.threads": 2}), self.ppo("auto", **BF16, **{"run.threads": 1, "ppo.micro_batch": 2}))
        self.assert_same(self.ppo("lag", **BF16, **{"ppo.lag": 1}), self.ppo("lag", **BF16, **{"ppo.lag": 1, "run.workers": 1}))

    def test_less_memory(self):
        need = {}
        for precision in ("f32", "bf16"):
            run = self.place(precision)
            done = tenfold("run", CONFIG, "--out", run, *self.ppo_arguments(**{"run.precision": precision, "run.device": "cpu", "ppo.steps": 1}))
            self.assertEqual(done.status, 0, done.err)
            need[precision] = together(done.err)
        self.assertLess(need["bf16"], need["f32"])


if __name__ == "__main__":
    run_kit.main()
