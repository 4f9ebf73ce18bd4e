"""Invariant 3 on whole runs: what is stopped, killed or wrong. A run goes on to the same bits, or says why it does not.

ctest timeout: 1500
"""
import os
import shutil
import signal
import sqlite3
import unittest

import run_kit
from run_kit import CONFIG, RunTest, tenfold


class Faults(RunTest):
    def run_ppo(self, folder, *more, **changes):
        return self.start(folder, "run", "run", CONFIG, *self.ppo_arguments(**changes), *more)

    def hold(self, run, role):
        """Stops a process of the run where it is, so that the run cannot end meanwhile; its pid, or None when it is gone."""
        pid = run.children().get(role)
        try:
            if pid:
                os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            pid = None
        return pid

    def held_in_the_middle(self, run, folder, after):
        """The learner's pid, held after `after` steps and before the last one; None: too late, this machine is busy."""
        self.wait_steps(run, folder, after)
        pid = self.hold(run, "learner")
        return pid if pid and len(self.metrics(folder)) < 6 else None

    def tries(self, name):
        """Folders to try in until a process could be held in time."""
        for _ in range(8):
            yield self.place(name)
        self.fail("no process could be held in the middle of a run")

    def killed(self, role, after):
        """kill -9 of one process after so many steps; the run has to end by itself, with the reference's digest."""
        for folder in self.tries("kill-" + role):
            with self.run_ppo(folder) as run:
                learner = self.held_in_the_middle(run, folder, after)
                if not learner:
                    continue
                os.kill(run.children()[role], signal.SIGKILL)
                self.wait_text(run, "%s was killed by signal 9; it is started again" % role)
                if role != "learner":
                    os.kill(learner, signal.SIGCONT)
                self.assertEqual(run.wait(), 0, run.text())
                break
        self.check_exact(folder)
        self.assert_same(self.reference(), folder)

    def test_a_killed_worker(self):
        self.killed("worker-0", 2)

    def test_a_killed_service(self):
        self.killed("reward-0", 2)

    def test_a_killed_learner(self):
        for after in (1, 3):  # before the first checkpoint, and between two
            with self.subTest(after=after):
                self.killed("learner", after)

    def test_a_worker_stopped_beyond_its_lease(self):
        """What it had goes to the other one; what it hands in when it goes on comes too late, and is counted once."""
        folder, c = self.place("stopped"), self.ppo_arguments(**{"run.workers": 2, "rollout.lease_seconds": 1, "ppo.steps": 12, "rollout.set_aside": 0})
        calm = self.ppo("calm", **{"ppo.steps": 12})
        with self.start(folder, "learner", "learner", CONFIG, *c) as learner, self.start(folder, "reward", "reward", CONFIG, *c):
            with self.start(folder, "a", "rollout", CONFIG, "--name", "a", *c) as a, self.start(folder, "b", "rollout", CONFIG, "--name", "b", *c):
                self.wait_steps(learner, folder, 1)
                a.p.send_signal(signal.SIGSTOP)  # most likely with prompts: it has some nearly all the time
                self.wait_steps(learner, folder, len(self.metrics(folder)) + 2)
                a.p.send_signal(signal.SIGCONT)
                self.assertEqual(learner.wait(), 0, learner.text())
                self.assertEqual(a.wait(), 0, a.text())
        self.check_exact(folder)
        self.assert_same(calm, folder)

    def test_workers_join_and_leave(self):
        folder, c = self.place("join"), self.ppo_arguments(**{"run.workers": 1, "ppo.steps": 12})
        calm = self.ppo("calm", **{"ppo.steps": 12})
        with self.start(folder, "learner", "learner", CONFIG, *c) as learner, self.start(folder, "reward", "reward", CONFIG, *c):
            with self.start(folder, "a", "rollout", CONFIG, "--name", "a", *c) as a:
                self.wait_steps(learner, folder, 2)
                with self.start(folder, "b", "rollout", CONFIG, "--name", "b", *c), self.start(folder, "c", "rollout", CONFIG, "--name", "c", *c) as late:
                    self.wait_steps(learner, folder, 4)
                    a.p.terminate()  # it says goodbye in the middle of a lease
                    self.assertEqual(a.wait(), 0, a.text())
                    self.wait_steps(learner, folder, 6)
                    late.p.terminate()
                    self.assertEqual(learner.wait(), 0, learner.text())
        self.assert_same(calm, folder)

    def test_interrupt_and_resume(self):
        for folder in self.tries("interrupt"):
            with self.run_ppo(folder) as run:
                learner = self.held_in_the_middle(run, folder, 3)
                if not learner:
                    continue
                self.interrupt(run, learner)
                self.assertIn("--resume goes on", run.text())
                break
        self.assertLess(len(self.metrics(folder)), 6)
        refused = tenfold("run", CONFIG, "--out", folder, *self.ppo_arguments())
        self.assertEqual(refused.status, 5)
        self.assertIn("--resume", refused.err)
        other = tenfold("run", CONFIG, "--out", folder, "--resume", *self.ppo_arguments(**{"ppo.clip": 0.3}))
        self.assertEqual(other.status, 4, other.err)
        self.assertIn("ppo.clip", other.err)
        done = tenfold("run", CONFIG, "--out", folder, "--resume", *self.ppo_arguments())
        self.assertEqual(done.status, 0, done.err)
        self.check_exact(folder)
        self.assert_same(self.reference(), folder)

    def test_a_configuration_that_is_in_the_folder_already(self):
        """It is what a run there would be started with; another one is refused, and the file stays."""
        folder, text = self.place("mine"), "# mine\n" + tenfold("config", CONFIG, "--set", "ppo.clip=0.3").out
        os.makedirs(folder)
        with open(os.path.join(folder, "config.yaml"), "w") as f:
            f.write(text)
        for command in (("run", CONFIG), ("sft", CONFIG)):
            refused = tenfold(*command, "--out", folder)
            self.assertEqual(refused.status, 4, refused.err)
            self.assertIn("ppo.clip", refused.err)
        with open(os.path.join(folder, "config.yaml")) as f:
            self.assertEqual(f.read(), text)

    def test_interrupt_before_the_first_step(self):
        """What is saved then is no part of the record."""
        for folder in self.tries("interrupt-first"):
            with self.run_ppo(folder, **{"run.workers": 1}) as run:
                self.wait_text(run, "workers at")
                worker = self.hold(run, "worker-0")  # so that there is no first step
                if not worker or self.metrics(folder):
                    continue
                self.wait_measured(run, folder)
                self.interrupt(run, worker)
                break
        self.assertTrue(os.path.exists(os.path.join(folder, "checkpoints", "ppo", "step-00000000")))
        self.assertEqual(self.metrics(folder), [])
        done = tenfold("run", CONFIG, "--out", folder, "--resume", *self.ppo_arguments())
        self.assertEqual(done.status, 0, done.err)
        self.assert_same(self.reference(), folder)

    def test_interrupt_in_supervised_training(self):
        for folder in self.tries("interrupt-sft"):
            with self.start(folder, "run", "run", CONFIG) as run:
                self.wait_text(run, "sft step 20")
                pid = self.hold(run, "sft")
                if not pid or "sft step 40" in run.text():
                    continue
                self.interrupt(run, pid)
                break
        self.assertFalse(os.path.exists(os.path.join(folder, "models", "ppo")))
        # once it has begun, the user's file may change: later stages read the folder's own
        mine = self.place("mine.yaml")
        shutil.copy(CONFIG, mine)
        with self.start(folder, "resumed", "run", mine, "--resume") as run:
            self.wait_text(run, "sft: ")
            with open(mine, "w") as f:
                f.write("ppo:\n  steps: no number\n")
            self.assertEqual(run.wait(), 0, run.text())
        self.assert_same(self.base, folder)

    def wait_measured(self, run, folder):
        """Until the learner has measured its start: what comes next is the first step."""
        until = run_kit.time.monotonic() + run_kit.PATIENCE
        while True:
            db = sqlite3.connect("file:%s?mode=ro" % os.path.join(folder, "run.db"), uri=True)
            try:
                if db.execute("SELECT count(*) FROM evaluations WHERE stage = 'ppo'").fetchone()[0]:
                    return
            finally:
                db.close()
            self.assertLess(run_kit.time.monotonic(), until, run.text())
            run_kit.time.sleep(0.05)

    def interrupt(self, run, held):
        """Ctrl-C on the run. The process that is held finds the signal that the run sends on when it goes on."""
        run.p.send_signal(signal.SIGINT)
        run_kit.time.sleep(1)
        os.kill(held, signal.SIGCONT)
        self.assertEqual(run.wait(), 130, run.text())

    def wait_text(self, run, text):
        until = run_kit.time.monotonic() + run_kit.PATIENCE
        while text not in run.text():
            if run.p.poll() is not None or run_kit.time.monotonic() > until:
                self.fail("'%s' did not come:\n%s" % (text, run.text()))
            run_kit.time.sleep(0.005)

    def roles(self, *planted):
        """Learner, service and one worker started by hand on one folder; the learner's status and words."""
        folder, c = self.place("roles"), self.ppo_arguments(**{"run.workers": 1})
        with self.start(folder, "learner", "learner", CONFIG, *c) as learner:
            with self.start(folder, "reward", "reward", CONFIG, *c), self.start(folder, "rollout", "rollout", CONFIG, *c, *planted):
                return folder, learner.wait(), learner.text()

    def test_roles_by_hand(self):
        folder, status, text = self.roles()
        self.assertEqual(status, 0, text)
        self.assert_same(self.reference(), folder)

    def test_a_weight_wrong_by_one_unit_in_the_last_place(self):
        folder, status, text = self.roles("--plant-ulp")
        self.assertEqual(status, 4, text)
        self.assertIn("log-probability differs from the sampler's", text)
        self.assertEqual(self.metrics(folder), [], "something was learned from it")

    def test_a_second_learner(self):
        folder, c = self.place("owned"), self.ppo_arguments()
        with self.start(folder, "learner", "learner", CONFIG, *c) as learner:
            self.wait_text(learner, "workers at")
            second = tenfold("learner", CONFIG, "--out", folder, "--resume", *c)
            self.assertEqual(second.status, 5, second.err)
            self.assertIn("is in use by `ppo`, process %d " % learner.p.pid, second.err)
            self.assertIsNone(learner.p.poll(), "the first one must not notice")


if __name__ == "__main__":
    run_kit.main()
