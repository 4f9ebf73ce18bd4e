"""Whole runs on files: human comparisons as they are stored (a made-up set, and a slice of the real one where it is),
groups ranked by an external command, problems with a number for an answer.

ctest timeout: 1500
"""
import gzip
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import unittest

import run_kit
from run_kit import SOURCE, sets, tenfold

SHARED = os.environ.get("TENFOLD_DATA", os.path.join(SOURCE, "..", "shared", "data"))
SMALL = {"model.width": 32, "model.layers": 1, "model.heads": 1, "model.kv_heads": 1, "model.head_dim": 32, "model.experts": 8, "model.experts_per_token": 2,
         "model.expert_width": 16, "model.max_positions": 1024, "tokenizer.vocab_size": 320, "task.name": "prompts", "sft.steps": 6, "sft.batch": 8,
         "sft.optim.warmup": 1, "collect.step_groups": 16, "fit.batch": 8, "fit.reference": 16, "ppo.steps": 2, "ppo.prompts": 4, "ppo.gradient_block": 2,
         "ppo.micro_batch": 2, "ppo.advantage": "group", "ppo.critic": "none", "ppo.whiten_advantages": "none", "ppo.eval_every": 0, "rollout.max_new_tokens": 8,
         "rollout.group_size": 4, "eval.best_of": 2, "eval.tasks": 6}
STAGES = "sft, collect, fit-reward, ppo, eval"


class DataTask(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="tenfold-data-")
        self.config = os.path.join(self.folder, "config.yaml")
        with open(self.config, "w") as f:
            f.write("run: {workers: 1, services: 1}\n")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def write(self, name, rows):
        path = os.path.join(self.folder, name)
        with (gzip.open(path, "wt") if name.endswith(".gz") else open(path, "w")) as f:
            for row in rows:
                f.write(json.dumps(row) + "\n")
        return path

    def run_it(self, name, changes):
        out = os.path.join(self.folder, name)
        done = tenfold("run", self.config, "--out", out, *sets({**SMALL, **changes}), timeout=300)
        self.assertEqual(done.status, 0, done.err)
        return out, done.err

    def summary(self, out):
        with open(os.path.join(out, "summary.json")) as f:
            return json.load(f)

    def rows(self, out, sql):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(out, "run.db"), uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def preferences(self, path, pairs, changes=None):
        """A run on comparisons in hh-rlhf's layout; what holds for every such run."""
        out, err = self.run_it("hh", {"run.stages": STAGES, "task.prompts": path, "task.format": "hh", "task.heldout_share": 0.3,
                                      "task.content_warning": "may upset <people>", "collect.judge": "stored", "reward.terms": "model:1.0, length:0",
                                      **(changes or {})})
        s = self.summary(out)
        self.assertIn("content warning: may upset <people>", err)
        self.assertEqual(s["collect"]["groups"], pairs)
        self.assertEqual(s["fit-reward"]["groups"] + s["fit-reward"]["heldout_groups"], pairs)
        self.assertEqual(s["fit-reward"]["heldout_groups"], s["data"]["heldout"]["groups"])
        self.assertEqual(s["reward"]["n"], s["data"]["heldout"]["groups"])
        self.assertIn(s["reward"]["verdict"] + "\n", err)
        self.assertIn("by_model", s["eval"])
        self.assertEqual(s["eval"]["by_model"]["prompts"], 6)
        self.assertIn("no judgement by people", err)
        # nothing was sampled for the reward model, and PPO met no held-out prompt
        self.assertEqual(self.rows(out, "SELECT DISTINCT source FROM comparisons WHERE stage = 'collect'"), [("stored",)])
        held = {p for (p,) in self.rows(out, "SELECT DISTINCT text FROM prompts p WHERE prompt >= %d" % s["data"]["train_prompts"])}
        used = {p for (p,) in self.rows(out, "SELECT DISTINCT text FROM prompts JOIN groups USING (prompt) WHERE stage = 'ppo'")}
        self.assertTrue(held and used)
        self.assertFalse(held & used)
        # the place of a candidate does not tell its rank
        first = self.rows(out, "SELECT json_extract(ranking, '$[0]'), count(*) FROM comparisons WHERE stage = 'collect' GROUP BY 1 ORDER BY 1")
        self.assertEqual([who for who, _ in first], [0, 1])
        self.assertGreater(min(n for _, n in first), pairs // 5)
        with open(os.path.join(out, "report.html")) as f:
            self.assertIn("may upset \\u003cpeople\\u003e", f.read())
        return out

    def test_stored_comparisons(self):
        r = random.Random(3)
        words = "red green blue round square small large old new cold warm".split()
        rows = []
        for i in range(80):
            q = "\n\nHuman: describe %d\n\nAssistant:" % i
            a, b = (" " + " ".join(r.sample(words, r.randint(2, 5))) for _ in range(2))
            rows.append({"chosen": q + a + " good", "rejected": q + b + " bad"})
        path = self.write("x.jsonl.gz", rows)
        out = self.preferences(path, 80)
        # exported and read again, the comparisons are those of the file
        export = os.path.join(self.folder, "pairs.jsonl")
        done = tenfold("export", out, "--format", "hh", "--stage", "collect", "--out", export)
        self.assertEqual(done.status, 0, done.err)
        with open(export) as f:
            got = sorted((json.loads(line) for line in f), key=lambda x: x["chosen"])
        self.assertEqual(got, sorted(rows, key=lambda x: x["chosen"]))
        again, _ = self.run_it("again", {"run.stages": STAGES, "task.prompts": path, "task.format": "hh", "task.heldout_share": 0.3,
                                         "task.content_warning": "may upset <people>", "collect.judge": "stored", "reward.terms": "model:1.0, length:0",
                                         "run.workers": 2, "run.threads": 1})
        self.assertEqual(self.summary(again)["digest"], self.summary(out)["digest"])

    def test_real_comparisons(self):
        """configs/preferences.yaml on a slice of its data, with a tiny model."""
        path = os.path.join(SHARED, "hh_rlhf_harmless_test", "test.jsonl.gz")
        if not os.path.exists(path):
            self.skipTest("hh_rlhf_harmless_test is not in " + SHARED)
        with gzip.open(path, "rt") as f:
            rows = [json.loads(line) for line, _ in zip(f, range(400))]
        rows = [x for x in rows if len(x["chosen"]) < 500 and len(x["rejected"]) < 500][:60]
        self.config = os.path.join(SOURCE, "configs", "preferences.yaml")
        self.preferences(self.write("slice.jsonl", rows), 60, {"run.workers": 1})

    def test_real_arguments(self):
        """configs/preferences-ukp.yaml on some lines of each of its files: whole topics are held out."""
        source = os.path.join(SHARED, "ukp_convarg1", "UKPConvArg1Strict-CSV")
        if not os.path.isdir(source):
            self.skipTest("ukp_convarg1 is not in " + SHARED)
        for name in os.listdir(source):
            with open(os.path.join(source, name)) as f, open(os.path.join(self.folder, name), "w") as out:
                out.writelines(line for line, _ in zip(f, range(13)) if len(line) < 900)
        self.config = os.path.join(SOURCE, "configs", "preferences-ukp.yaml")
        out, err = self.run_it("ukp", {"task.prompts": os.path.join(self.folder, "*.csv"), "run.workers": 1})
        s = self.summary(out)
        self.assertGreater(s["collect"]["groups"], 200)
        self.assertEqual(s["data"]["leaked_prompts"], 0)
        self.assertIn("pairs of %d prompts" % s["reward"]["prompts"], err)
        # both sides of a topic are on one side of the split
        topics = {}
        for text, prompt in self.rows(out, "SELECT text, prompt FROM prompts"):
            topics.setdefault(text.split(":")[0], set()).add(prompt >= s["data"]["train_prompts"])
        self.assertEqual(len(topics), 16)
        self.assertEqual({len(sides) for sides in topics.values()}, {1})

    def test_judge_command(self):
        path = self.write("p.jsonl", [{"prompt": "say %d: " % i, "completion": "word %d" % (i % 7)} for i in range(40)])
        judge = os.path.join(self.folder, "judge.py")
        with open(judge, "w") as f:
            f.write("import json, sys\nfor line in sys.stdin:\n    g = json.loads(line)\n"
                    "    print(json.dumps({'id': g['id'], 'scores': [len(set(c)) for c in g['completions']]}), flush=True)\n")
        out, err = self.run_it("command", {"run.stages": "sft, collect, fit-reward", "task.prompts": path, "task.heldout": 4, "collect.judge": "command",
                                           "collect.command": "%s %s" % (sys.executable, judge), "collect.prompts": 30, "fit.heldout": 0.3})
        self.assertIn("ranked by the command", err)
        # an example is another one: the run does not go on with it
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text.replace("word 3", "word 4", 1))
        done = tenfold("fit-reward", out, "--out", out, "--resume")
        self.assertNotEqual(done.status, 0)
        self.assertIn("not those that the run began with", done.err)
        self.assertEqual(self.rows(out, "SELECT source, count(*) FROM comparisons GROUP BY source"), [("command", 30)])

    def test_numbers(self):
        rows = [{"question": "%d and %d?" % (i % 9, i % 5), "answer": "#### %d" % (i % 9 + i % 5)} for i in range(60)]
        path, held = self.write("train.jsonl", rows[:45]), self.write("test.jsonl", [{"question": "held %d?" % i, "answer": "#### %d" % i} for i in range(9)])
        out, err = self.run_it("numbers", {"run.stages": "sft, collect, ppo, eval", "task.prompts": path, "task.heldout_files": held, "task.format": "gsm8k",
                                           "collect.prompts": 16, "eval.tasks": 0})
        s = self.summary(out)
        self.assertEqual(s["eval"]["ppo"]["n"], 9)
        self.assertEqual(s["data"]["leaked_prompts"], 0)
        self.assertEqual(self.rows(out, "SELECT DISTINCT term FROM scores WHERE stage = 'ppo'"), [("verifier",)])

    def test_refused(self):
        bad = os.path.join(self.folder, "bad.jsonl")
        with open(bad, "w") as f:
            f.write('{"prompt": "a"}\n{"promt": "b"}\n')
        for changes, said in (({"task.prompts": bad}, "bad.jsonl:2: it has no text"),
                              ({"task.prompts": bad, "collect.judge": "stored", "run.stages": "collect", "task.format": "gsm8k"}, "stored"),
                              ({"task.prompts": bad, "task.format": "hh", "run.stages": "sft, collect"}, "collect.judge verifier"),
                              ({"task.prompts": bad, "collect.judge": "command"}, "collect.command must name"),
                              ({"task.prompts": bad, "task.heldout_files": bad, "task.heldout_share": 0.5}, "exclude each other"),
                              ({"task.prompts": os.path.join(self.folder, "*.csv")}, "no file matches")):
            out = os.path.join(self.folder, "refused")
            done = tenfold("sft", self.config, "--out", out, *sets({**SMALL, **changes}))
            self.assertNotEqual(done.status, 0)
            self.assertIn(said, done.err)
            shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
