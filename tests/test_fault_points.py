"""A few of the named fault points, of each process one: killed there, a run ends with the digest of the undisturbed one.
tests/long/faults.sh has all of them. Skipped where the build has no fault points.

ctest timeout: 1500
"""
import unittest

import fault_points
import run_kit

FEW = ["store.after_step_commit", "generate.after_token", "service.before_answer"]


class FaultPoints(unittest.TestCase):
    def test_a_few(self):
        make = lambda work: [fault_points.start_scenario(work), fault_points.command_scenario(work)]
        self.assertEqual(fault_points.kill_everywhere(FEW, make=make), len(FEW))

    def test_names_are_unique_and_explained(self):
        points = fault_points.described()
        self.assertEqual(len({p["name"] for p in points}), len(points))
        for p in points:
            self.assertRegex(p["name"], r"^[a-z_]+\.[a-z_]+$")
            self.assertGreater(len(p["meaning"]), 10, p["name"])

    def test_a_point_that_is_not_there(self):
        done = run_kit.tenfold("faults", environment={"TENFOLD_FAULT": "store.nowhere"})
        self.assertEqual(done.status, 1, done.err)
        self.assertIn("no such fault point", done.err)


if __name__ == "__main__":
    fault_points.listed()
    run_kit.main()
