"""What people do with a run: generate, export, report; presets and kinds of critic; a reward of their own.

ctest timeout: 1500
"""
import csv
import io
import json
import math
import os
import re
import socket
import sqlite3
import sys
import unittest

import run_kit
from run_kit import Background, RunTest, SOURCE, tenfold


def python_with_zmq():
    """A python3 that can run the example service, or None."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            if run_kit.subprocess.run([python, "-c", "import zmq, msgpack"], stderr=run_kit.subprocess.DEVNULL).returncode == 0:
                return python
        except OSError:
            pass
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Tools(RunTest):
    def prompt(self):
        db = sqlite3.connect("file:%s/run.db?mode=ro" % self.base, uri=True)
        try:
            return db.execute("SELECT text FROM prompts WHERE prompt = 0").fetchone()[0]
        finally:
            db.close()

    def test_generate(self):
        prompt = self.prompt()
        done = tenfold("generate", self.base, prompt, "--json")
        self.assertEqual(done.status, 0, done.err)
        completions = json.loads(done.out)["completions"]
        self.assertEqual((json.loads(done.out)["prompt"], len(completions)), (prompt, 10))
        for c in completions:
            self.assertEqual(len(c["tokens"]), len(c["logprobs"]))
            self.assertTrue(1 <= len(c["tokens"]) <= 32 and all(x <= 0 for x in c["logprobs"]), c)
            self.assertTrue(0 <= c["score"] <= 1 and c["finish"] in ("end", "stop", "length"), c)
        plain = tenfold("generate", self.base, prompt)
        # score, summed log-probability, text; a text may go over several lines
        rows = re.findall(r"^ *(-?\d+\.\d+) +(-?\d+\.\d+)  ", plain.out, re.M)
        self.assertEqual(len(rows), 10, plain.out)
        for row, c in zip(rows, completions):
            self.assertAlmostEqual(float(row[1]), sum(c["logprobs"]), delta=1e-3)
            self.assertAlmostEqual(float(row[0]), c["score"], delta=1e-3)
        other = tenfold("generate", self.base, prompt, "--json", "--stage", "sft", "--set", "run.seed=2", "--set", "rollout.group_size=3")
        self.assertEqual(len(json.loads(other.out)["completions"]), 3)
        self.assertNotEqual(other.out, done.out)

    def test_export(self):
        pairs = list(csv.DictReader(io.StringIO(tenfold("export", self.base).out)))
        self.assertEqual(len(pairs), 6 * 8 * 45)
        self.assertEqual({p["source"] for p in pairs}, {"reward"})
        for form, names in (("trl", {"prompt", "chosen", "rejected"}), ("hh", {"chosen", "rejected"})):
            done = tenfold("export", self.base, "--format", form)
            lines = [json.loads(line) for line in done.out.splitlines()]
            self.assertEqual(len(lines), sum(p["tie"] == "0" for p in pairs), done.err)
            self.assertTrue(all(set(line) == names for line in lines))
        metrics = list(csv.DictReader(io.StringIO(tenfold("export", self.base, "--format", "metrics").out)))
        self.assertEqual(sum(m["stage"] == "ppo" and m["name"] == "objective/kl" for m in metrics), 6)
        board = self.place("board")
        self.assertEqual(tenfold("export", self.base, "--format", "tensorboard", "--out", board).status, 0)
        self.assertTrue(any("tfevents" in name for _, _, names in os.walk(board) for name in names))

    def test_report(self):
        for name, arguments, word in (("page", ["--out"], "</html>"), ("picture", ["--svg"], "</svg>")):
            path = self.place(name)
            done = tenfold("report", self.base, *arguments, path)
            self.assertEqual(done.status, 0, done.err)
            with open(path, encoding="utf-8") as f:
                self.assertIn(word, f.read())
        self.assertTrue(os.path.exists(os.path.join(self.base, "report.html")), "the run writes its own")

    def short(self, name, **changes):
        """Two steps; the lines of their metrics. That sampler and learner agree is checked by ppo()."""
        run = self.ppo(name, **{"ppo.steps": 2, "ppo.prompts": 4, "ppo.eval_every": 0, "task.heldout": 16, **changes})
        lines = self.metrics(run)
        self.assertEqual([line["step"] for line in lines], [1, 2])
        self.assertEqual([line["training/skipped_updates"] for line in lines], [0, 0])
        return lines

    def test_presets(self):
        for preset in ("oai2019", "nplus2024", "trl"):
            with self.subTest(preset=preset):
                self.short(preset, **{"ppo.preset": preset})

    def test_critics_and_advantages(self):
        self.assertIn("critic/grad_norm", self.short("separate", **{"ppo.critic": "separate"})[0])
        self.assertNotIn("critic/grad_norm", self.short("head", **{"ppo.critic": "head"})[0])
        for kind in ("group", "group_mean", "leave_one_out"):
            with self.subTest(advantage=kind):
                lines = self.short(kind, **{"ppo.critic": "none", "ppo.advantage": kind, "ppo.kl_in": "loss", "ppo.kl_estimator": "k3"})
                for name in ("critic/values/mean", "critic/vf_explained_var", "loss/value_avg", "val/clipfrac_avg"):
                    self.assertNotIn(name, lines[0])  # there is no critic to speak of

    def test_sampling_that_is_not_plain(self):
        self.short("sampling", **{"rollout.temperature": 0.7, "rollout.top_k": 20, "rollout.top_p": 0.9, "rollout.min_new_tokens": 3, "rollout.stop": "end"})

    def test_a_command_of_ones_own(self):
        score = os.path.join(SOURCE, "examples", "score.py")
        lines = self.short("command", **{"reward.terms": "command:1.0", "reward.command": "python3 " + score})
        self.assertTrue(any(line["reward/command"] > 0 for line in lines), [line["reward/command"] for line in lines])
        self.assertEqual(lines[0]["objective/scores"] > 0, lines[0]["reward/command"] > 0)

    def test_rewards_and_completions_at_the_edge(self):
        """Scores of +-1e30, the same score for all, completions of one token: nothing that is not finite comes of it."""
        score = self.place("score.py")
        with open(score, "w") as f:
            f.write("import json, sys\nfor line in sys.stdin:\n    g = json.loads(line)\n"
                    "    print(json.dumps({'id': g['id'], 'scores': [eval(sys.argv[1])(len(t)) for t in g['completions']]}), flush=True)\n")
        for critic, advantage in (("head", "gae"), ("none", "group"), ("none", "group_mean")):
            for rule in ("lambda n: 1e30 if n % 2 else -1e30", "lambda n: 1"):
                with self.subTest(advantage=advantage, rule=rule):
                    lines = self.short("edge", **{"reward.terms": "command:1.0", "reward.command": "python3 %s '%s'" % (score, rule),
                                                  "ppo.critic": critic, "ppo.advantage": advantage, "ppo.eos_rule": "none"})
                    self.assertEqual(abs(lines[0]["objective/scores"]) > 1e20, "1e30" in rule, lines[0]["objective/scores"])
                    self.check_finite(lines)
        self.check_finite(self.short("one", **{"rollout.max_new_tokens": 1}))

    def check_finite(self, lines):
        for line in lines:
            self.assertEqual(line["training/skipped_updates"], 0)
            for name, value in line.items():
                self.assertTrue(isinstance(value, (int, float)) and math.isfinite(value), "%s is %s" % (name, value))

    def test_a_service_of_ones_own(self):
        python = python_with_zmq()
        if not python:
            self.skipTest("no python3 here has zmq and msgpack")
        address = "tcp://127.0.0.1:%d" % free_port()
        with Background(self.folder, "service", [python, os.path.join(SOURCE, "examples", "reward_service.py"), address]):
            lines = self.short("service", **{"net.rewards": address, "reward.terms": "short:1.0", "ppo.eos_rule": "none"})
        for line in lines:
            self.assertLess(line["reward/short"], 0)
            self.assertAlmostEqual(line["objective/scores"], line["reward/short"], places=6)


if __name__ == "__main__":
    run_kit.main()
