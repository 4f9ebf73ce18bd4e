"""Whole stages whose gradient is not finite once, or from some point on: the update is left out and noted as a row, or the
run stops and leaves nothing bad behind. The faults are planted, so this needs a build with fault points.

ctest timeout: 1500
"""
import os
import sqlite3
import unittest

import fault_points
import run_kit
from run_kit import CONFIG, RunTest, tenfold


class Guards(RunTest):
    def events(self, folder):
        db = sqlite3.connect("file:%s?mode=ro" % os.path.join(folder, "run.db"), uri=True)
        try:
            return db.execute("SELECT stage, step, subject, body FROM events WHERE kind = 'skipped_update' ORDER BY stage, step, subject").fetchall()
        finally:
            db.close()

    def with_fault(self, fault, folder, *arguments, **changes):
        return tenfold("run", CONFIG, "--out", folder, *arguments, *run_kit.sets(changes), environment={"TENFOLD_FAULT": fault})

    def ppo_changes(self):
        return {"run.stages": "ppo", "model.init": self.model}

    def test_one_update_of_ppo(self):
        folder, again = self.place("once"), self.place("again")
        for place in (folder, again):
            done = self.with_fault("update.gradient:3:error", place, **self.ppo_changes())
            self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.events(folder), [("ppo", 1, 0, "the norm of the policy's gradient is nan")])
        self.assertEqual([m["training/skipped_updates"] for m in self.metrics(folder)], [0, 1, 0, 0, 0, 0])
        self.assert_same(folder, again)
        self.assertNotEqual(self.digest(folder), self.digest(self.reference()))

    def test_three_updates_of_ppo_in_a_row(self):
        folder = self.place("diverged")
        done = self.with_fault("update.gradient:6+:error", folder, **self.ppo_changes())
        self.assertEqual(done.status, 2, done.err)
        self.assertIn("update number 3 in a row", done.err)
        self.assertIn("the last checkpoint is of step 2", done.err)
        self.assertEqual([e[1:3] for e in self.events(folder)], [(2, 1), (3, 0), (3, 1)])
        self.assertEqual(os.listdir(os.path.join(folder, "checkpoints", "ppo")), ["step-%08d" % 2])
        self.assertFalse(os.path.exists(os.path.join(folder, "models", "ppo")))
        newest = max(os.listdir(os.path.join(folder, "weights")))
        self.assertTrue(newest.startswith("%08d-" % 3), newest)  # of step 2, whose first update was good
        # the state that is left is good: without the fault the run goes on from it, and the record of what was skipped is not repeated
        done = tenfold("run", CONFIG, "--out", folder, "--resume", *run_kit.sets(self.ppo_changes()))
        self.assertEqual(done.status, 4, done.err)
        self.assertIn("the replay differs from the record", done.err)

    def test_supervised_updates(self):
        folder, changes = self.place("sft"), {"run.stages": "sft"}
        done = self.with_fault("sft.gradient:5:error", folder, **changes)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.events(folder), [("sft", 4, 0, "the gradient")])
        self.assertEqual(self.summary(folder)["sft"]["skipped_updates"], 1)
        folder = self.place("sft-diverged")
        done = self.with_fault("sft.gradient:25+:error", folder, **changes)
        self.assertEqual(done.status, 2, done.err)
        self.assertIn("update number 3 in a row", done.err)
        self.assertEqual(os.listdir(os.path.join(folder, "checkpoints", "sft")), ["step-%08d" % 20])
        self.assertFalse(os.path.exists(os.path.join(folder, "models")))

    def test_updates_of_the_reward_model(self):
        folder = self.place("fit")
        changes = {"run.stages": "collect, fit-reward", "model.init": self.model, "collect.prompts": 96, "collect.step_groups": 32, "fit.batch": 8}
        done = self.with_fault("fit.gradient:2:error", folder, **changes)
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(self.events(folder), [("fit-reward", 1, 0, "the gradient")])
        folder = self.place("fit-diverged")
        done = self.with_fault("fit.gradient:2+:error", folder, **changes)
        self.assertEqual(done.status, 2, done.err)
        self.assertIn("update number 3 in a row", done.err)
        self.assertFalse(os.path.exists(os.path.join(folder, "models")))


if __name__ == "__main__":
    fault_points.described()
    run_kit.main()
