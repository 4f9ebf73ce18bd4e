"""A prompt on which workers crash three times is set aside: a row of the record, another prompt in its place, and the same
again when the steps are done again. The crashes are planted, so this needs a build with fault points.

ctest timeout: 1500
"""
import json
import os
import shutil
import sqlite3
import unittest

import fault_points
import run_kit
from run_kit import CONFIG, RunTest, tenfold


class SetAside(RunTest):
    def rows(self, folder, sql):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(folder, "run.db"), uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def crash(self, folder, arguments, times):
        """So many workers, one after the other under one name, die as soon as they have prompts."""
        os.environ["TENFOLD_FAULT"] = "worker.after_lease:1:kill"
        try:
            for _ in range(times):
                with self.start(folder, "crasher", "rollout", CONFIG, "--name", "worker-0", *arguments) as worker:
                    self.assertEqual(worker.wait(), -9, worker.text())
        finally:
            del os.environ["TENFOLD_FAULT"]

    def run_with_crashes(self, folder, **changes):
        arguments = self.ppo_arguments(**{"run.workers": 1, **changes})
        with self.start(folder, "learner", "learner", CONFIG, *arguments) as learner, self.start(folder, "reward", "reward", CONFIG, *arguments):
            self.crash(folder, arguments, 3)
            with self.start(folder, "worker", "rollout", CONFIG, "--name", "worker-0", *arguments):
                self.assertEqual(learner.wait(), 0, learner.text())
        return arguments

    def check(self, **changes):
        folder = self.place("crashes")
        arguments = self.run_with_crashes(folder, **changes)
        planned = self.rows(self.reference(), "SELECT prompt FROM groups WHERE stage = 'ppo' AND step = 0 ORDER BY slot")
        aside = self.rows(folder, "SELECT step, subject, body FROM events WHERE kind = 'set_aside'")
        self.assertEqual(aside, [(0, 0, json.dumps([planned[0][0]]))])
        refilled = self.rows(folder, "SELECT step, subject, body FROM events WHERE kind = 'refilled'")
        self.assertEqual([r[:2] for r in refilled], [(0, 0)])
        groups = self.rows(folder, "SELECT prompt FROM groups WHERE stage = 'ppo' AND step = 0 ORDER BY slot")
        self.assertEqual(json.loads(refilled[0][2]), {"instead_of": planned[0][0], "prompt": groups[0][0]})
        self.assertEqual(groups[1:], planned[1:], "only the slot of the prompt that crashed has another one")
        self.assertEqual(len(self.rows(folder, "SELECT 1 FROM steps WHERE stage = 'ppo'")), 6)
        self.check_exact(folder, changes.get("ppo.lag", 0))

        # everything is done again, without a crash: the record says what was set aside, and every row is compared
        digest = self.digest(folder)
        for name in ("checkpoints", "weights", "models"):
            shutil.rmtree(os.path.join(folder, name))
        os.remove(os.path.join(folder, "summary.json"))
        done = tenfold("run", CONFIG, "--out", folder, "--resume", *arguments)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.digest(folder), digest)

    def test_one_prompt(self):
        self.check()

    def test_with_overlap(self):
        self.check(**{"ppo.lag": 1})

    def test_never(self):
        folder = self.place("never")
        self.run_with_crashes(folder, **{"rollout.set_aside": 0})
        self.assert_same(self.reference(), folder)


if __name__ == "__main__":
    fault_points.described()
    run_kit.main()
