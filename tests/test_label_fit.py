"""Human labels to a reward model to a live run, with a simulated crowd as the people: what fit-reward takes from labels.db
and records, that it takes the same again whatever was labelled since, and that a live run, killed on the way, replays to
the same bits.

ctest timeout: 1500
"""
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
import unittest

import run_kit
from run_kit import SOURCE, sets, tenfold

LEARNED = os.path.join(SOURCE, "configs", "learned-smoke.yaml")


class LabelFit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tenfold-labels-")
        cls.base = os.path.join(cls.folder, "base")
        cls.labels = os.path.join(cls.folder, "labels.db")
        cls.changes = {"fit.labels": cls.labels, "fit.loss": "answers", "fit.ensemble": 1, "reward.terms": "model:1.0, verifier:0", "reward.live": "true",
                       "reward.live_every": 3, "ppo.steps": 9, "ppo.lag": 1, "fit.epochs": 1}
        done = tenfold("run", LEARNED, "--out", cls.base, *sets({**cls.changes, "run.stages": "sft, collect"}), timeout=300)
        assert done.status == 0, done.err
        cls.label(0, 50)
        cls.first = cls.newest()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def label(cls, skip, prompts):
        done = tenfold("crowd", "label", "--file", cls.labels, "--from", cls.base, "--skip", str(skip), "--prompts", str(prompts), "--people", "5",
                       "--adversaries", "1", "--overlap", "0.4", "--temperature", "8", "--truth", "shorter")
        assert done.status == 0, done.err

    @classmethod
    def newest(cls):
        return cls.rows(cls.labels, "SELECT max(event) FROM events")[0][0]

    @staticmethod
    def rows(path, sql):
        db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def copy(self, name):
        folder = os.path.join(self.folder, name)
        shutil.copytree(self.base, folder, symlinks=True)
        return folder

    def summary(self, folder):
        with open(os.path.join(folder, "summary.json")) as f:
            return json.load(f)

    def version(self, *place):
        with open(os.path.join(*place, "reward.json")) as f:
            return json.load(f)["version"]

    def fit(self, folder, *more, **changes):
        return tenfold("fit-reward", LEARNED, "--out", folder, "--resume", *sets({**self.changes, **changes}), *more)

    def fit_otherwise(self, folder, **changes):
        """As if the folder's run had been begun with these changes."""
        kept = os.path.join(folder, "config.yaml")
        whole = tenfold("config", kept, *sets({**self.changes, **changes})).out
        with open(kept, "w") as f:
            f.write(whole)
        return self.fit(folder, **changes)

    def test_1_fit(self):
        """Everything that was labelled is read, the adversary found, both arms measured, file and event recorded."""
        folder = self.copy("fit")
        done = self.fit(folder, "--labels", self.labels)
        self.assertEqual(done.status, 0, done.err)
        s = self.summary(folder)["labels"]
        self.assertEqual(s["event"], self.first)
        self.assertEqual(s["labels"], self.first)  # the crowd neither skips nor undoes
        self.assertEqual(len(s["people"]), 5)
        self.assertEqual([p["flagged"] for p in s["people"]], [False] * 4 + [True])
        self.assertLess(s["people"][4]["weight"], 0.02)
        self.assertGreater(s["people"][0]["weight"], 0.9)
        self.assertEqual(s["prompts"] + s["untrusted_prompts"] + s["too_long_prompts"], 50)
        self.assertGreater(s["untrusted_prompts"], 0)  # those that the adversary alone answered
        for arm in ("uniform", "gain", "quads"):
            self.assertGreater(s[arm]["pairs"], 0, arm)
        db = os.path.join(folder, "run.db")
        (body,), = self.rows(db, "SELECT body FROM events WHERE stage = 'fit-reward' AND kind = 'labels'")
        self.assertEqual(json.loads(body), {"event": self.first, "digest": s["digest"]})
        names = [n for n, in self.rows(db, "SELECT name FROM evaluations WHERE stage = 'fit-reward' ORDER BY name")]
        self.assertIn("reward_label_accuracy_uniform", names)

    def test_2_same_labels_again(self):
        """Done again after more labels it is the same model; a new fit sees more; a file of other labels is refused."""
        folder = self.copy("again")
        self.assertEqual(self.fit(folder).status, 0)
        version = self.version(folder, "models", "reward")
        self.label(50, 5)
        shutil.rmtree(os.path.join(folder, "models", "reward"))
        done = self.fit(folder)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.version(folder, "models", "reward"), version)
        fresh = self.copy("fresh")
        self.assertEqual(self.fit(fresh).status, 0)
        self.assertGreater(self.summary(fresh)["labels"]["event"], self.first)
        self.assertNotEqual(self.version(fresh, "models", "reward"), version)
        kept = self.labels + ".kept"
        os.rename(self.labels, kept)
        try:
            done = tenfold("crowd", "label", "--file", self.labels, "--from", self.base, "--prompts", "80", "--seed", "9", "--overlap", "1", "--truth", "shorter")
            self.assertEqual(done.status, 0, done.err)
            done = self.fit(folder)
            self.assertNotEqual(done.status, 0)
            self.assertIn("are not those that this run used", done.err)
        finally:
            for end in ("", "-wal", "-shm", ".lock"):
                if os.path.exists(self.labels + end):
                    os.remove(self.labels + end)
            os.rename(kept, self.labels)

    def test_3_losses(self):
        """The rankings that the labels imply serve the other losses as well."""
        folder = os.path.join(self.folder, "pairs")
        shutil.copytree(self.base, folder)
        done = self.fit_otherwise(folder, **{"fit.loss": "pairs", "fit.margin": 0.5})
        self.assertEqual(done.status, 0, done.err)
        self.assertGreater(self.summary(folder)["reward"]["n"], 100)

    def test_4_refused(self):
        folder = self.copy("refused")
        for changes, word in (({"fit.labels": os.path.join(self.folder, "none.db")}, "none.db"), ({"fit.campaign": "other"}, "campaign")):
            done = self.fit_otherwise(folder, **changes)
            self.assertNotEqual(done.status, 0)
            self.assertIn(word, done.err)
        done = tenfold("config", LEARNED, "--set", "fit.loss=answers")
        self.assertIn("fit.labels", done.err)
        done = tenfold("config", LEARNED, "--set", "reward.live=true")
        self.assertIn("fit.labels", done.err)

    def live_events(self, folder):
        return self.rows(os.path.join(folder, "run.db"), "SELECT step, subject, body FROM events WHERE kind = 'reward_live' ORDER BY step")

    def run_live(self, folder):
        """Labels arrive and the learner is killed while it runs."""
        command = [run_kit.PROGRAM, "run", LEARNED, "--out", folder, "--resume", *sets({**self.changes, "run.stages": "fit-reward, ppo"})]
        with run_kit.Background(self.folder, "live", command) as run:
            grown = killed = False
            end = time.monotonic() + 4 * run_kit.PATIENCE
            while run.p.poll() is None and time.monotonic() < end:
                n = len(self.live_events(folder))
                if n >= 1 and not grown:
                    grown = threading.Thread(target=self.label, args=(60, 20))
                    grown.start()
                if n >= 2 and not killed and "learner" in run.children():
                    os.kill(run.children()["learner"], signal.SIGKILL)
                    killed = True
                time.sleep(0.005)
            self.assertEqual(run.wait(), 0, run.text())
            grown.join()
            self.assertTrue(killed, run.text())

    def test_5_live(self):
        """A live run has a version every three steps, each group says which scored it, and a replay from nothing but the record
        gives the same versions and the same digest, though labels have come since."""
        folder = self.copy("live")
        self.run_live(folder)
        events = self.live_events(folder)
        self.assertEqual([(step, subject) for step, subject, _ in events], [(3, 1), (6, 2)])
        bodies = [json.loads(b) for _, _, b in events]
        self.assertLessEqual(bodies[0]["event"], bodies[1]["event"])
        self.assertGreater(self.newest(), bodies[0]["event"])
        db = os.path.join(folder, "run.db")
        used = self.rows(db, "SELECT step / 3, count(DISTINCT scorer_version), min(scorer_version) FROM groups WHERE stage = 'ppo' GROUP BY step / 3 ORDER BY 1")
        self.assertEqual([n for _, n, _ in used], [1, 1, 1])
        versions = [self.version(folder, "models", "reward"), bodies[0]["model"], bodies[1]["model"]]  # the same labels make the same model
        self.assertEqual(len({v for _, _, v in used}), len(set(versions)))
        for k in (1, 2):
            self.assertEqual(self.version(folder, "models", "reward-live", "%08d" % k), bodies[k - 1]["model"])
        digest = self.summary(folder)["digest"]

        replay = os.path.join(self.folder, "replay")
        shutil.copytree(folder, replay)
        for gone in ("checkpoints", "weights", "models/ppo", "models/reward-live"):
            shutil.rmtree(os.path.join(replay, gone))
        s = self.summary(replay)
        del s["ppo"], s["digest"]
        with open(os.path.join(replay, "summary.json"), "w") as f:
            json.dump(s, f)
        done = tenfold("run", LEARNED, "--out", replay, "--resume", *sets({**self.changes, "run.stages": "fit-reward, ppo", "run.workers": 1, "run.services": 2}),
                       timeout=4 * run_kit.PATIENCE)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.live_events(replay), events)
        self.assertEqual(self.summary(replay)["digest"], digest)


if __name__ == "__main__":
    unittest.main()
