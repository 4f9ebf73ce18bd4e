"""Invariants 1 and 2 on whole runs of configs/smoke.yaml: who computes what, and how many do, changes no bit.

ctest timeout: 1500
"""
import json
import unittest

import run_kit
from run_kit import CONFIG, RunTest, sets, tenfold


def processor_has(flag):
    try:
        with open("/proc/cpuinfo") as f:
            return any(flag in line.split() for line in f if line.startswith("flags"))
    except OSError:
        return False


class Same(RunTest):
    def contributed(self, folder, workers):
        last = self.metrics(folder)[-1]
        groups = {n.rpartition("/")[2]: v for n, v in last.items() if n.startswith("perf/worker_groups/")}
        self.assertEqual(len(groups), workers, groups)
        for name, count in groups.items():
            self.assertGreater(count, 0, "%s made no group: %s" % (name, groups))
        self.assertGreaterEqual(sum(groups.values()), 6 * 8, groups)

    def test_a_complete_run_is_the_same_when_all_is_distributed_differently(self):
        other = self.place("other")
        changes = {"run.workers": 3, "run.services": 2, "run.threads": 1, "ppo.micro_batch": 2, "rollout.batch_groups": 3}
        if processor_has("avx512f"):
            changes["run.isa"] = "avx2"
        done = tenfold("run", CONFIG, "--out", other, *sets(changes))
        self.assertEqual(done.status, 0, done.err)
        self.contributed(other, 3)
        self.assert_same(self.base, other)
        for run in (self.base, other):
            self.check_exact(run)
            self.assertEqual(self.summary(run)["digest"], self.summary(self.base)["digest"])

    def test_workers(self):
        self.contributed(self.reference(), 2)
        for n in (1, 3):
            with self.subTest(workers=n):
                run = self.ppo("workers", **{"run.workers": n})
                self.contributed(run, n)
                self.assert_same(self.reference(), run)

    def test_threads(self):
        for n in (1, 2):
            with self.subTest(threads=n):
                self.assert_same(self.reference(), self.ppo("threads", **{"run.threads": n}))

    def test_services(self):
        self.assert_same(self.reference(), self.ppo("services", **{"run.services": 2}))

    def test_instruction_sets(self):
        for isa, flag in (("avx2", "avx2"), ("avx512", "avx512f")):
            with self.subTest(isa=isa):
                if not processor_has(flag):
                    self.skipTest("this processor has no %s" % isa)
                self.assert_same(self.reference(), self.ppo(isa, **{"run.isa": isa}))

    def test_micro_batch(self):
        for n in (1, 2):
            with self.subTest(micro_batch=n):
                self.assert_same(self.reference(), self.ppo("micro", **{"ppo.micro_batch": n}))

    def test_lag(self):
        lagging = [self.ppo("lag", **{"run.workers": n, "ppo.lag": 1}) for n in (1, 3)]
        self.contributed(lagging[1], 3)
        self.assert_same(*lagging)
        self.assertNotEqual(self.digest(lagging[0]), self.digest(self.reference()))

    def test_diff_names_the_first_difference(self):
        same = tenfold("diff", self.reference(), self.ppo("again"))
        self.assertEqual((same.status, same.out.split(":")[0]), (0, "identical"))
        rate = tenfold("diff", self.reference(), self.ppo("rate", **{"ppo.optim.lr": 0.0002}))
        # the first step samples from the same weights; what differs is the rate that it records
        self.assertEqual(rate.status, 4, rate.out)
        self.assertIn("first difference: metrics", rate.out)
        seed = self.ppo("seed", **{"run.seed": 2})
        self.assertNotEqual(self.digest(seed), self.digest(self.reference()))
        found = json.loads(tenfold("diff", self.reference(), seed, "--json").out)
        self.assertEqual((found["identical"], found["stage"], found["table"]), (False, "ppo", "groups"), found)

    def test_summary(self):
        s = self.summary(self.base)
        for part, names in (("sft", ["pass_rate"]), ("ppo", ["pass_rate", "steps", "kl", "probs_diff_max", "first_minibatch_ratio_max_deviation"]),
                            ("seconds", ["sft", "ppo", "eval", "total"])):
            for name in names:
                self.assertIsInstance(s[part][name], (int, float), "%s.%s" % (part, name))
        self.assertEqual((s["ppo"]["steps"], s["ppo"]["probs_diff_max"], s["ppo"]["first_minibatch_ratio_max_deviation"]), (6, 0, 0))
        self.assertEqual(s["digest"], self.digest(self.base))
        self.assertEqual([m["step"] for m in self.metrics(self.base)], [1, 2, 3, 4, 5, 6])


if __name__ == "__main__":
    run_kit.main()
