#!/usr/bin/env python3
"""`tenfold pretrain`: it learns; kill -9 and --resume lead to the same bits, as does another number of threads; the
model that it leaves is one that a later run starts from; bad sources are refused by name."""
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from run_kit import Background, PROGRAM, sets, tenfold  # noqa: E402

SMALL = {"model.width": 32, "model.layers": 2, "model.heads": 2, "model.kv_heads": 2, "model.head_dim": 16, "model.experts": 8,
         "model.experts_per_token": 2, "model.expert_width": 16, "model.max_positions": 64, "tokenizer.vocab_size": 300,
         "pretrain.sequence": 32, "pretrain.batch": 8, "pretrain.steps": 24, "pretrain.eval_every": 4, "pretrain.eval_sequences": 8,
         "pretrain.optim.warmup": 2, "pretrain.optim.lr": 0.01, "pretrain.heldout": 0.2, "run.threads": 1}


class Pretrain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tenfold-test-")
        words = "the cat sat on a mat and saw one dog run to the old red barn by noon".split()
        with open(os.path.join(cls.folder, "a.txt"), "w") as f:
            f.write("\n\n".join(" ".join(words[(i * 7 + k * (i % 5 + 1)) % len(words)] for k in range(12)) + "." for i in range(90)))
        with open(os.path.join(cls.folder, "b.jsonl"), "w") as f:
            f.writelines(json.dumps({"text": "%d plus %d is %d" % (i % 9, i // 9, i % 9 + i // 9)}) + "\n" for i in range(80))
        cls.config = os.path.join(cls.folder, "c.yaml")
        with open(cls.config, "w") as f:
            f.write("pretrain:\n  sources: [%s:3, %s]\n" % (os.path.join(cls.folder, "a.txt"), os.path.join(cls.folder, "b.jsonl")))
        cls.whole = cls.train("whole")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def train(cls, name, *options, **changes):
        folder = os.path.join(cls.folder, name)
        done = tenfold("pretrain", cls.config, "--out", folder, *options, *sets({**SMALL, **changes}))
        if done.status != 0:
            raise AssertionError(done.err)
        return folder

    def result(self, folder):
        """Hash of the model's files, and the losses."""
        model = os.path.join(folder, "models", "pretrain")
        digest = hashlib.sha256()
        for name in sorted(os.listdir(model)):
            with open(os.path.join(model, name), "rb") as f:
                digest.update(name.encode() + f.read())
        with open(os.path.join(folder, "summary.json")) as f:
            summary = json.load(f)["pretrain"]
        return digest.hexdigest(), summary["heldout_loss"], summary["sources"]

    def test_it_learns(self):
        _, loss, sources = self.result(self.whole)
        start = self.result(self.train("start", **{"pretrain.steps": 1, "pretrain.optim.warmup": 0, "pretrain.optim.lr": 0}))[1]
        self.assertLess(loss, start - 1)
        self.assertEqual([s["sequences"] for s in sources][0] + sources[1]["sequences"], 24 * 8)
        self.assertGreater(sources[0]["sequences"], sources[1]["sequences"])
        self.assertTrue(all(s["heldout_loss"] > 0 and s["epochs"] > 0 for s in sources))
        with open(os.path.join(self.whole, "models", "pretrain", "README.md")) as f:
            card = f.read()
        for part in ("---\npipeline_tag: text-generation\nlicense: mit\n", "| `a.txt` | 3 |", "| `b.jsonl` | 1 |", "| heldout_loss | ", "## Limits", "## Licence"):
            self.assertIn(part, card)

    def test_threads(self):
        self.assertEqual(self.result(self.whole), self.result(self.train("threads", **{"run.threads": 2})))

    def test_kill_and_resume(self):
        folder = os.path.join(self.folder, "killed")
        place = os.path.join(folder, "checkpoints", "pretrain")
        command = [PROGRAM, "pretrain", self.config, "--out", folder, *sets({**SMALL})]
        with Background(self.folder, "killed", command) as run:
            end = time.time() + 60
            while not (os.path.isdir(place) and any(n.startswith("step-") for n in os.listdir(place))):
                self.assertLess(time.time(), end, run.text())
                if run.p.poll() is not None:
                    break
                time.sleep(0.002)
            run.p.send_signal(signal.SIGKILL)
            run.p.wait()
        self.assertFalse(os.path.exists(os.path.join(folder, "summary.json")), "the run was over before it could be killed")
        self.train("killed", "--resume")
        self.assertEqual(self.result(self.whole), self.result(folder))

    def test_model_goes_on(self):
        model = os.path.join(self.whole, "models", "pretrain")
        folder = self.train("more", **{"model.init": model, "tokenizer.path": model, "pretrain.steps": 2, "pretrain.optim.warmup": 0})
        self.assertLess(self.result(folder)[1], self.result(self.whole)[1] + 0.5)

    def test_refusals(self):
        for changes, reason in (({"pretrain.sources": ""}, "pretrain.sources is empty"), ({"pretrain.sources": self.config + "x:2"}, "c.yamlx"),
                                ({"pretrain.sources": os.path.join(self.folder, "a.txt") + ":0"}, "weight 0"), ({"pretrain.sequence": 100}, "max_positions")):
            done = tenfold("pretrain", self.config, "--out", os.path.join(self.folder, "bad"), *sets({**SMALL, **changes}))
            self.assertNotEqual(done.status, 0)
            self.assertIn(reason, done.err)
            shutil.rmtree(os.path.join(self.folder, "bad"), ignore_errors=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
