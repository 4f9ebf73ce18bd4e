#!/usr/bin/env python3
"""Whole runs with adapters: the same digest for any number of workers, with activations computed again, and after kill -9;
what is left beside the merged model; what is said and what is refused."""
import json
import os
import signal
import tempfile
import time
import unittest

import family_kit
from run_kit import CONFIG, PATIENCE, PROGRAM, Background, sets, tenfold


def header(path):
    with open(path, "rb") as f:
        return {k: v["shape"] for k, v in json.loads(f.read(int.from_bytes(f.read(8), "little"))).items() if k != "__metadata__"}


class AdapterRun(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.folder = self.tmp.name
        self.start = os.path.join(self.folder, "start")

    def tearDown(self):
        self.tmp.cleanup()

    def keys(self, family, **changes):
        if not os.path.exists(self.start):
            family_kit.make(self.start, family)
        return sets({**family_kit.RUN, "model.init": self.start, "lora.r": 4, "lora.alpha": 8, **changes})

    def run_ok(self, name, arguments, *more):
        out = os.path.join(self.folder, name)
        done = tenfold("run", CONFIG, "--out", out, *arguments, *more)
        self.assertEqual(done.status, 0, done.err)
        return out, done

    def test_workers_recompute_and_what_is_left(self):
        changes = {"lora.targets": "q_proj, v_proj, experts", "ppo.critic": "separate", "ppo.lag": 1}
        digests = []
        for workers in (1, 2):
            out, done = self.run_ok(f"run{workers}", self.keys("olmoe", **changes), "--set", f"run.workers={workers}", "--set", f"run.recompute={str(workers == 2).lower()}")
            digests.append(tenfold("digest", out).out)
        self.assertEqual(*digests)
        # q, v: 2·(4·32 + 32·4); experts: 8·(2·(4·32 + 16·4) + 4·16 + 32·4); two layers
        count = 2 * (2 * (4 * 32 + 32 * 4) + 8 * (2 * (4 * 32 + 16 * 4) + 4 * 16 + 32 * 4))
        self.assertIn(f"sft: trainable params: {count:,} || all params: ", done.err)
        self.assertIn(f"ppo: trainable params: {count:,} || all params: ", done.err)
        whole = header(os.path.join(self.start, "model.safetensors"))
        for stage in ("sft", "ppo"):
            model = os.path.join(out, "models", stage)
            self.assertEqual(header(os.path.join(model, "model.safetensors")), whole)
            names = header(os.path.join(model, "adapter", "adapter_model.safetensors"))
            self.assertEqual(names["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"], [4, 32])
            self.assertEqual(names["base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"], [8 * 8, 32])
            self.assertEqual(names["base_model.model.model.layers.0.mlp.experts.lora_B.weight"], [32, 4 * 8])
            with open(os.path.join(model, "adapter", "adapter_config.json")) as f:
                config = json.load(f)
            self.assertEqual(config["target_modules"], ["q_proj", "v_proj"])
            self.assertEqual(config["target_parameters"], ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])
            with open(os.path.join(model, "adapter", "README.md")) as f:
                self.assertIn("rank 4, alpha 8", f.read())
        # what is published and saved is what learns
        published = [os.path.join(out, "weights", f) for f in os.listdir(os.path.join(out, "weights"))]
        names = header(published[0])
        self.assertEqual(len(names), 2 * (2 * 2 + 2 * 3 * 8))
        self.assertTrue(all(".lora_" in n for n in names))
        state = header(os.path.join(out, "checkpoints", "ppo", "step-00000002", "policy.safetensors"))
        self.assertEqual(len(state), 3 * len(names))

    def test_killed_and_resumed(self):
        arguments = self.keys("gpt2", **{"lora.targets": "c_attn", "lora.dropout": 0.1, "ppo.critic": "none", "ppo.advantage": "group", "ppo.steps": 8, "ppo.checkpoint_every": 1,
                                         "sft.steps": 30, "sft.eval_every": 2})
        whole, _ = self.run_ok("whole", arguments)
        digest = tenfold("digest", whole).out
        # in supervised training, and in PPO: when there is a checkpoint, everything is killed
        for stage, seen in (("sft", "step-00000004"), ("ppo", "step-00000002")):
            out = os.path.join(self.folder, "killed-" + stage)
            with Background(self.folder, stage, [PROGRAM, "run", CONFIG, "--out", out, *arguments]) as run:
                until = time.monotonic() + PATIENCE
                while run.p.poll() is None and time.monotonic() < until and not os.path.exists(os.path.join(out, "checkpoints", stage, seen)):
                    time.sleep(0.005)
                children = list(run.children().values())
                run.p.kill()
                for pid in children:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                run.p.wait()
            until = time.monotonic() + 30
            while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < until:
                time.sleep(0.05)
            self.run_ok("killed-" + stage, arguments, "--resume")
            self.assertEqual(tenfold("digest", out).out, digest)

    def test_reward_model_and_its_critic(self):
        out, done = self.run_ok("run", self.keys("gpt2", **{"lora.targets": "all-linear", "lora.dropout": 0.1, "run.stages": "sft, collect, fit-reward, ppo", "collect.prompts": 16,
                                                            "collect.step_groups": 8, "fit.batch": 4, "fit.heldout": 0.4, "fit.reference": 8, "fit.ensemble": 2,
                                                            "reward.terms": "model:1.0", "ppo.critic": "separate", "ppo.critic_init": "reward"}))
        self.assertRegex(done.err, r"fit-reward: trainable params: 4,129 \|\| all params: 47,521 \|\| trainable%: 8\.6888\n")
        names = header(os.path.join(out, "models", "reward", "adapter", "adapter_model.safetensors"))
        self.assertEqual(names["base_model.model.score.weight"], [1, 32])
        with open(os.path.join(out, "models", "reward", "adapter", "adapter_config.json")) as f:
            config = json.load(f)
        self.assertEqual((config["task_type"], config["modules_to_save"], config["lora_dropout"]), ("SEQ_CLS", ["score"], 0.1))
        # adapters stand for their base with them: the same numbers as the merged model's
        merged, adapter = os.path.join(out, "models", "ppo"), os.path.join(out, "models", "ppo", "adapter")
        line = ["--tokens", "5,17,260,42", "--json"]
        self.assertEqual(tenfold("logits", "--model", merged, *line).out, tenfold("logits", "--model", adapter, *line).out)

    def test_refused(self):
        for changes, says in (({"lora.targets": "q_proj"}, "this model has no module q_proj; it has c_attn, c_proj, c_fc"),
                              ({"lora.targets": "c_attn", "ppo.router_bias_rate": 0.1}, "router_bias_rate moves a bias of the frozen base"),
                              ({"lora.stages": "eval"}, "'eval' trains no adapters"), ({"model.init": ""}, "starts from random weights")):
            done = tenfold("run", CONFIG, "--out", os.path.join(self.folder, "no"), *self.keys("gpt2", **changes))
            self.assertEqual(done.status, 2, (changes, done.err))
            self.assertIn(says, done.err)


if __name__ == "__main__":
    unittest.main()
