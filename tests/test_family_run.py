#!/usr/bin/env python3
"""Whole runs that start from checkpoints in the layouts of transformers: what they export is the same layout, trained, with a
card, and the digest depends neither on the number of workers nor on whether activations are kept or computed again."""
import json
import os
import subprocess
import tempfile
import unittest

import family_kit
from run_kit import CONFIG, SOURCE, sets, tenfold


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
                keys = dict(family_kit.RUN, **{"model.init": start, "run.workers": workers, "run.recompute": str(workers == 2).lower()}, **changes)
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
                with open(os.path.join(model, "README.md")) as f:
                    card = f.read()
                self.assertTrue(card.startswith("---\nlibrary_name: transformers\n"), card)
                for part in ("base_model: \"start\"", "## Data", "## Method", "| steps |", "## Limits", "## Licence"):
                    self.assertIn(part, card)
                self.assertNotIn(folder, card)
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

    def test_reward_model_is_a_classifier(self):
        with tempfile.TemporaryDirectory() as folder:
            start, out = os.path.join(folder, "start"), os.path.join(folder, "run")
            family_kit.make(start, "gpt2")
            keys = dict(family_kit.RUN, **{"model.init": start, "run.stages": "sft, collect, fit-reward, ppo", "collect.prompts": 16, "collect.step_groups": 8,
                                           "fit.batch": 4, "fit.heldout": 0.4, "fit.reference": 8, "reward.terms": "model:1.0", "ppo.critic": "none",
                                           "ppo.advantage": "group"})
            done = tenfold("run", CONFIG, "--out", out, *sets(keys))
            self.assertEqual(done.status, 0, done.err)
            model = os.path.join(out, "models", "reward")
            with open(os.path.join(model, "config.json")) as f:
                self.assertEqual(json.load(f)["architectures"], ["GPT2ForSequenceClassification"])
            names = layout(model)
            self.assertEqual(names["score.weight"], [1, 32])
            self.assertNotIn("score.bias", names)
            self.assertNotIn("lm_head.weight", names)
            # the classifier alone, as somebody else would hand it on, scores too
            os.remove(os.path.join(model, "reward.json"))
            again = os.path.join(folder, "again")
            done = tenfold("run", CONFIG, "--out", again, *sets(dict(keys, **{"run.stages": "sft, ppo", "reward.model": model})))
            self.assertEqual(done.status, 0, done.err)

    def test_cards_of_what_is_made_of_a_model(self):
        """Converted and merged checkpoints have a card, and the card that their base had."""
        with tempfile.TemporaryDirectory() as folder:
            start, half, again = (os.path.join(folder, name) for name in ("start", "half", "again"))
            family_kit.make(start, "gpt2")
            for source, to, kind in ((start + "/", half, "bf16"), (half, again, "f32")):
                done = tenfold("model", "convert", source, to, "--dtype", kind)
                self.assertEqual(done.status, 0, done.err)
            texts = []
            for name in (half + "/README.md", again + "/README.md", again + "/README-base.md"):
                with open(name) as f:
                    texts.append(f.read())
            for part in ("---\nlibrary_name: transformers\npipeline_tag: text-generation\nbase_model: \"start\"\nlicense: other\n", "# start, as BF16\n", "which had no card",
                         "stored as BF16, rounded to nearest. Nothing was trained", "## Licence"):
                self.assertIn(part, texts[0])
            self.assertIn("base_model: \"half\"", texts[1])
            self.assertIn("`README-base.md`", texts[1])
            self.assertEqual(texts[2], texts[0])
            self.assertFalse(os.path.exists(half + "/README-base.md"))
            self.assertNotIn(folder, "".join(texts))

    def test_memory_is_counted_before_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            start, out = os.path.join(folder, "start"), os.path.join(folder, "run")
            family_kit.make(start, "olmoe")
            keys = dict(family_kit.RUN, **{"model.init": start, "run.stages": "ppo"})
            done = tenfold("run", CONFIG, "--out", out, *sets(dict(keys, **{"rollout.batch_groups": 65536, "rollout.group_size": 64})))
            self.assertEqual(done.status, 3, done.err)
            self.assertIn("lower ppo.micro_batch", done.err)
            self.assertIn("rollout.batch_groups (cache of a worker", done.err)
            done = tenfold("run", CONFIG, "--out", out + "2", *sets(keys))
            self.assertEqual(done.status, 0, done.err)
            self.assertRegex(done.err, r"memory, MiB +weights +optimiser +packed +activations +cache +sum\nlearner ")

    def test_full_size_opens_at_once(self):
        """A 16B checkpoint without weights (holes in files) is mapped and checked; a byte less and it is refused."""
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(SOURCE, "scripts", "sparse-checkpoint")
            subprocess.run([script, folder, "--layers", "2", "--shards", "3"], check=True, stdout=subprocess.DEVNULL)
            info = json.loads(tenfold("model", "info", folder, "--json").out)
            self.assertEqual((info["tensors"], info["dtype"]), (3 + 9 + 7 + 65 * 3, "BF16"))
            self.assertLess(info["open_seconds"], 5)
            shard = os.path.join(folder, "model-00002-of-00003.safetensors")
            os.truncate(shard, os.path.getsize(shard) - 1)
            done = tenfold("model", "info", folder)
            self.assertEqual(done.status, 2)
            self.assertIn("model-00002-of-00003.safetensors", done.err)


if __name__ == "__main__":
    unittest.main()
