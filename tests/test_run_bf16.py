"""run.precision bf16 on whole runs of configs/smoke.yaml on the CPU: exact within itself (who computes what changes no bit, and the
learner's log-probabilities are the sampler's), with adapters too, in less memory than f32, and exported in bf16 when asked.
"""
import json
import os
import re
import struct
import tempfile
import unittest

import family_kit
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
    @classmethod
    def setUpClass(cls):
        cls.folder, cls.made = tempfile.mkdtemp(prefix="tenfold-test-"), 0
        cls.base, cls.said = cls.run_ok("base", sets({**BF16, "model.save_dtype": "bf16"}))
        cls.model = os.path.join(cls.base, "models", "sft")

    @classmethod
    def run_ok(cls, name, arguments):
        """(folder, what was said)"""
        folder = cls.place(name)
        done = tenfold("run", CONFIG, "--out", folder, *arguments)
        if done.status:
            raise AssertionError("%s: the run ended with status %d:\n%s" % (name, done.status, done.err))
        cls.check_exact(folder, 1 if "ppo.lag=1" in arguments else 0)
        return folder, done.err

    def test_exact_within_itself(self):
        other, _ = self.run_ok("other", sets({**BF16, "model.save_dtype": "bf16", "run.workers": 1, "run.threads": 1, "run.isa": "avx2", "ppo.micro_batch": 2,
                                              "rollout.fetch_weights": "true"}))
        self.assert_same(self.base, other)
        published = [os.path.join(other, "weights", n) for n in os.listdir(os.path.join(other, "weights"))]
        for path in published + [os.path.join(other, "models", "ppo", "model.safetensors")]:
            self.assertEqual(types(path), {"BF16"}, path)

    def test_lag(self):
        short = {**BF16, "ppo.lag": 1, "ppo.steps": 3}
        self.assert_same(self.run_ok("lag", self.ppo_arguments(**short))[0], self.run_ok("lag", self.ppo_arguments(**short, **{"run.workers": 1, "run.threads": 2}))[0])

    def test_less_memory_and_other_bits_than_f32(self):
        short = {"run.device": "cpu", "ppo.steps": 1}
        full, said = self.run_ok("f32", self.ppo_arguments(**short))
        half, _ = self.run_ok("bf16", self.ppo_arguments(**short, **{"run.precision": "bf16"}))
        self.assertLess(together(self.said), together(said))
        self.assertNotEqual(self.digest(full), self.digest(half))

    def test_adapters(self):
        start = self.place("start")
        family_kit.make(start, "olmoe")
        keys = {**family_kit.RUN, **BF16, "model.init": start, "lora.r": 4, "lora.targets": "q_proj, v_proj, experts", "lora.dropout": 0, "ppo.critic": "separate"}
        one, said = self.run_ok("adapters", sets(keys))
        two, _ = self.run_ok("adapters", sets({**keys, "run.workers": 2, "run.threads": 2, "run.recompute": "true"}))
        self.assert_same(one, two)
        self.assertIn("ppo: trainable params: 10,240 || all params: ", said)
        self.assertEqual(types(os.path.join(one, "models", "ppo", "adapter", "adapter_model.safetensors")), {"F32"})


if __name__ == "__main__":
    run_kit.main()
