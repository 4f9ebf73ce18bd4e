"""The learned reward model end to end on configs/learned-smoke.yaml: what the summary and the record hold, that the same
run made otherwise (threads, workers, batches) and one that was interrupted have the same digest, and what is refused.

ctest timeout: 1500
"""
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import time
import unittest

import run_kit
from run_kit import SOURCE, sets, tenfold

LEARNED = os.path.join(SOURCE, "configs", "learned-smoke.yaml")
STAGES = ("sft", "collect", "fit-reward", "ppo", "eval")


class Learned(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tenfold-learned-")
        cls.base = os.path.join(cls.folder, "base")
        done = tenfold("run", LEARNED, "--out", cls.base, timeout=300)
        assert done.status == 0, done.err

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def summary(self, folder):
        with open(os.path.join(folder, "summary.json")) as f:
            return json.load(f)

    def rows(self, sql, folder=None):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(folder or self.base, "run.db"), uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def test_baselines(self):
        """Supervised training continued is measured on the same prompts as start and end, and is not the start."""
        rows = dict((name, (n, value)) for name, n, value in self.rows("SELECT name, n, value FROM evaluations WHERE stage = 'eval'"))
        for name in ("start_pass_rate", "end_pass_rate", "best_of_pass_rate", "continued_sft_pass_rate"):
            self.assertEqual(rows[name][0], rows["start_pass_rate"][0], name)
        self.assertIn("sft_continued", self.summary(self.base)["eval"])
        self.assertTrue(os.path.exists(os.path.join(self.base, "models", "sft")))

    def test_summary(self):
        s = self.summary(self.base)
        for stage in STAGES:
            self.assertIn("seconds", s[stage], stage)
        self.assertEqual(s["collect"]["groups"], 120)
        r = s["reward"]
        self.assertLessEqual(0, r["low"])
        self.assertLessEqual(r["low"], r["pair_accuracy"])
        self.assertLessEqual(r["pair_accuracy"], r["high"])
        self.assertGreaterEqual(r["length_baseline"], 0.5)
        self.assertEqual(r["members"], 2)
        self.assertLess(r["group_low"], r["pair_accuracy"])
        self.assertLess(r["over_length_low"], r["over_length_high"])
        self.assertGreaterEqual(r["groups"] - r["tied_groups"], r["prompts"])
        self.assertEqual(len(r["calibration"]), 10)
        self.assertEqual(sum(b["n"] for b in r["calibration"]), r["n"])
        self.assertEqual(sum(b["n"] for b in r["by_margin"]), r["n"])
        self.assertEqual(s["fit-reward"]["groups"] + s["fit-reward"]["heldout_groups"], 120)

    def test_fit_learns_something(self):
        """Forty completions a step for some twenty steps: better than chance on the groups it was fitted to."""
        self.assertGreater(self.summary(self.base)["reward"]["fitted_pair_accuracy"], 0.6)

    def test_collected_groups_have_comparisons_of_the_verifier(self):
        self.assertEqual(self.rows("SELECT count(*) FROM groups WHERE stage = 'collect'"), [(120,)])
        self.assertEqual(self.rows("SELECT source, count(*) FROM comparisons WHERE stage = 'collect' GROUP BY source"), [("verifier", 120)])
        tied = self.rows("SELECT count(*) FROM comparisons WHERE stage = 'collect' AND json_extract(ranks, '$[9]') = 1")
        self.assertEqual(tied, [(self.summary(self.base)["collect"]["tied_groups"],)])

    def test_ppo_groups_have_proxy_and_gold(self):
        got = self.rows("SELECT term, count(*) FROM scores WHERE stage = 'ppo' GROUP BY term ORDER BY term")
        self.assertEqual(got, [("model", 320), ("model_std", 320), ("verifier", 320)])
        # the reward is the model's score alone; the rest has weight 0
        wrong = self.rows("SELECT count(*) FROM scores s JOIN candidates c USING (stage, step, slot, candidate) "
                          "WHERE s.stage = 'ppo' AND s.term = 'model' AND s.value <> c.reward")
        self.assertEqual(wrong, [(0,)])
        self.assertEqual(self.rows("SELECT count(*) FROM scores WHERE stage = 'ppo' AND term = 'model_std' AND value < 0"), [(0,)])

    def test_every_score_says_which_model_gave_it(self):
        """What the service answers, the worker hands in and the learner stores begins with the model's version; the labels have the judge's."""
        version = self.summary(self.base)["reward"]["version"]
        self.assertRegex(version, "^model-[0-9a-f]{32}$")
        stored = self.rows("SELECT scorer_version, count(*) FROM groups WHERE stage = 'ppo' GROUP BY scorer_version")
        self.assertEqual([n for _, n in stored], [32])
        self.assertTrue(stored[0][0].startswith(version[:22] + "+"), (stored, version))
        self.assertEqual(self.rows("SELECT DISTINCT scorer_version FROM comparisons WHERE stage = 'ppo' AND source = 'reward'"), [(stored[0][0],)])
        judge = self.rows("SELECT DISTINCT scorer_version FROM comparisons WHERE stage = 'collect'")
        self.assertEqual(self.rows("SELECT DISTINCT scorer_version FROM groups WHERE stage = 'collect'"), judge)
        self.assertFalse(judge[0][0].startswith("model-"))

    def test_scores_are_normalised_on_the_start(self):
        """The first step of PPO samples from the start: near mean 0, standard deviation 1, as the scores of the reference are."""
        mean, square = self.rows("SELECT avg(value), avg(value * value) FROM scores WHERE stage = 'ppo' AND step = 0 AND term = 'model'")[0]
        self.assertLess(abs(mean), 1)
        self.assertLess(square, 9)

    def test_the_same_otherwise_distributed(self):
        other = os.path.join(self.folder, "other")
        changes = {"run.threads": 1, "run.workers": 1, "run.services": 2, "reward.batch_groups": 3, "rollout.batch_groups": 5}
        done = tenfold("run", LEARNED, "--out", other, *sets(changes), timeout=300)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.summary(other)["digest"], self.summary(self.base)["digest"])
        self.assertEqual(self.summary(other)["reward"]["version"], self.summary(self.base)["reward"]["version"])

    def test_an_interrupted_collection_and_fit_go_on_to_the_same(self):
        """A database with the first two steps of collect, and another with a fit that was not finished."""
        other = os.path.join(self.folder, "resumed")
        done = tenfold("run", LEARNED, "--out", other, *sets({"run.stages": "sft"}), timeout=300)
        self.assertEqual(done.status, 0, done.err)
        with run_kit.Background(self.folder, "collect", [run_kit.PROGRAM, "collect", LEARNED, "--out", other, "--resume"]) as p:
            p.p.send_signal(signal.SIGTERM)
            p.wait()
        done = tenfold("run", LEARNED, "--out", other, "--resume", *sets({"run.stages": "collect, fit-reward"}), timeout=300)
        self.assertEqual(done.status, 0, done.err)
        # the stage made again, as after a kill before its summary: every row is compared with the stored one
        done = tenfold("fit-reward", LEARNED, "--out", other, "--resume", timeout=300)
        self.assertEqual(done.status, 0, done.err)
        done = tenfold("run", LEARNED, "--out", other, "--resume", timeout=300)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.summary(other)["digest"], self.summary(self.base)["digest"])

    def test_losses(self):
        for loss in ("plackett_luce", "best_of"):
            with self.subTest(loss=loss):
                other = os.path.join(self.folder, loss)
                shutil.copytree(os.path.join(self.base, "models", "sft"), os.path.join(other, "models", "sft"))
                done = tenfold("run", LEARNED, "--out", other, *sets({"run.stages": "collect, fit-reward", "fit.loss": loss, "fit.ensemble": 1,
                                                                      "model.init": os.path.join(other, "models", "sft")}), timeout=300)
                self.assertEqual(done.status, 0, done.err)
                self.assertGreater(self.summary(other)["reward"]["fitted_pair_accuracy"], 0.5)
                self.assertEqual(self.summary(other)["reward"]["members"], 1)

    def test_group_scorer(self):
        """A model that compares, its uncertainty priced: PPO against it has one digest for any way of distributing the work."""
        digests = set()
        for name, changes in (("g1", {}), ("g2", {"run.threads": 1, "run.workers": 1, "run.services": 2, "reward.batch_groups": 3, "ppo.micro_batch": 2})):
            other = os.path.join(self.folder, name)
            changes.update({"run.stages": "collect, fit-reward, ppo", "model.init": os.path.join(self.base, "models", "sft"), "reward.scorer": "group",
                            "fit.label_smoothing": 0.05, "fit.selection": 0.1, "fit.select_every": 4, "reward.terms": "model:1.0, model_std:-0.5, verifier:0"})
            done = tenfold("run", LEARNED, "--out", other, *sets(changes), timeout=300)
            self.assertEqual(done.status, 0, done.err)
            digests.add(self.summary(other)["digest"])
            self.assertRegex(done.err, r"\nscoring service%s +\d" % (", each of 2" if "run.services" in changes else ""))
            with open(os.path.join(other, "models", "reward", "reward.json")) as f:
                self.assertEqual(json.load(f)["scorer"], "group")
            s = self.summary(other)
            self.assertEqual(s["fit-reward"]["groups"] + s["fit-reward"]["heldout_groups"] + s["fit-reward"]["selection_groups"], 120)
            losses = dict(self.rows("SELECT step + 1, value FROM metrics WHERE stage = 'fit-reward' AND name = 'reward/selection_loss'", other))
            half = len(self.rows("SELECT step FROM metrics WHERE stage = 'fit-reward' AND name = 'reward/loss'", other)) // 2
            for member, step in enumerate(s["reward"]["steps"]):
                own = {k - member * half: v for k, v in losses.items() if (k - 1) // half == member}
                self.assertEqual(step, min(own, key=lambda k: (own[k], k)))
            right = self.rows("SELECT count(*) FROM candidates c JOIN scores m USING (stage, step, slot, candidate) JOIN scores d USING (stage, step, slot, "
                              "candidate) WHERE m.term = 'model' AND d.term = 'model_std' AND d.value > 0 AND c.stage = 'ppo' AND abs(c.reward - m.value + 0.5 * d.value) < 1e-5", other)
            self.assertEqual(right, [(320,)])
        self.assertEqual(len(digests), 1)

    def critic_run(self, name, **changes):
        """Arguments of PPO with a critic of its own that starts from the reward model."""
        return ("run", LEARNED, "--out", os.path.join(self.folder, name),
                *sets({"run.stages": "ppo", "model.init": os.path.join(self.base, "models", "sft"), "reward.model": os.path.join(self.base, "models", "reward"),
                       "ppo.steps": 6, "ppo.eval_every": 0, "ppo.critic": "separate", "ppo.critic_init": "reward", **changes}))

    def test_critic_from_the_reward_model(self):
        """Values start as the model's scores, not at 0; a learner killed in mid-run and other workers give the same digest."""
        whole, killed = (os.path.join(self.folder, n) for n in ("critic", "critic-killed"))
        done = tenfold(*self.critic_run("critic"), timeout=300)
        self.assertEqual(done.status, 0, done.err)
        values = run_kit.RunTest.metrics(whole)[0]["critic/values/mean"]
        self.assertNotEqual(values, 0)
        self.assertLess(abs(values), 2)  # scores have mean 0 and standard deviation 1
        with run_kit.Background(self.folder, "critic-killed", [run_kit.PROGRAM, *self.critic_run("critic-killed", **{"run.workers": 1, "ppo.micro_batch": 2})]) as p:
            while len(run_kit.RunTest.metrics(killed)) < 3:
                self.assertIsNone(p.p.poll(), p.text())
                time.sleep(0.005)
            os.kill(p.children()["learner"], signal.SIGKILL)
            self.assertEqual(p.wait(), 0, p.text())
            self.assertIn("learner was killed by signal 9", p.text())
        self.assertEqual(self.summary(killed)["digest"], self.summary(whole)["digest"])
        for changes, said in (({"ppo.critic": "none", "ppo.advantage": "group"}, "ppo.critic is none"), ({"ppo.critic": "head"}, "ppo.critic is head"),
                              ({"reward.terms": "verifier:1"}, "no weight"), ({"model.init": "", "run.stages": "sft, ppo", "model.width": 32, "sft.steps": 1, "sft.batch": 1, "sft.optim.warmup": 0}, "hidden_size")):
            with self.subTest(said=said):
                done = tenfold(*self.critic_run("critic-refused-" + said.replace(" ", "-"), **changes), timeout=60)
                self.assertNotEqual(done.status, 0)
                self.assertIn(said, done.err)

    def test_refused(self):
        empty = os.path.join(self.folder, "empty")
        done = tenfold("fit-reward", LEARNED, "--out", empty)
        self.assertNotEqual(done.status, 0)
        self.assertIn("run the stage sft first", done.err)
        done = tenfold("fit-reward", LEARNED, "--out", os.path.join(self.folder, "unranked"), *sets({"run.stages": "collect, fit-reward", "model.init": os.path.join(self.base, "models", "sft")}))
        self.assertNotEqual(done.status, 0)
        self.assertIn("run the stage collect first", done.err)
        done = tenfold("reward", LEARNED, "--out", empty)
        self.assertNotEqual(done.status, 0)
        self.assertIn("no reward model", done.err)
        damaged = os.path.join(self.folder, "damaged")
        shutil.copytree(os.path.join(self.base, "models", "reward"), os.path.join(damaged, "models", "reward"))
        shutil.copy(os.path.join(damaged, "models", "reward", "member-2", "model.safetensors"), os.path.join(damaged, "models", "reward"))
        done = tenfold("reward", LEARNED, "--out", damaged)
        self.assertNotEqual(done.status, 0)
        self.assertIn("not those that were saved together", done.err)
        for key, value, said in (("fit.margin", 1, "fit.margin"), ("fit.label_smoothing", 0.1, "fit.label_smoothing")):
            done = tenfold("config", LEARNED, *sets({"fit.loss": "plackett_luce", key: value}))
            self.assertNotEqual(done.status, 0)
            self.assertIn(said, done.err)


if __name__ == "__main__":
    unittest.main()
