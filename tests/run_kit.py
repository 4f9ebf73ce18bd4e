"""What the tests of whole runs share: the program under test, the smoke configuration, folders that go away.

One complete run of configs/smoke.yaml is made for each test program (`base`); the variants run only its stage ppo, from
that run's supervised model, and `reference` is the one that they are compared with.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.environ.get("TENFOLD", "")
SOURCE = os.environ.get("TENFOLD_SOURCE", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = os.path.join(SOURCE, "configs", "smoke.yaml")
PATIENCE = 180  # seconds for anything that should take a few


def sets(changes):
    """--set arguments from {"run.workers": 3} or {"run_workers": 3}: the first _ is the section's dot."""
    out = []
    for key, value in changes.items():
        out += ["--set", "%s=%s" % (key if "." in key else key.replace("_", ".", 1), value)]
    return out


class Finished:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


def tenfold(*arguments, timeout=PATIENCE, environment=None):
    p = subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, text=True, errors="replace",
                       env={**os.environ, **(environment or {})})
    return Finished(p.returncode, p.stdout, p.stderr)


class Background:
    """A process that is watched while it runs; always ended, as `with` leaves."""

    def __init__(self, folder, name, command):
        self.path = os.path.join(folder, name + ".stderr")
        with open(self.path, "w") as f:
            self.p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=f)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            for pid in self.children().values():
                os.kill(pid, signal.SIGCONT)
            self.p.terminate()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()

    def text(self):
        with open(self.path, errors="replace") as f:
            return f.read()

    def wait(self):
        try:
            return self.p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running after %d s:\n%s" % (PATIENCE, self.text()))

    def children(self):
        """{role name: pid} of what `tenfold run` has started: its arguments say which role a process has."""
        out = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open("/proc/%s/stat" % entry) as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    words = f.read().decode(errors="replace").split("\0")
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.p.pid and len(words) > 2:
                out[words[words.index("--name") + 1] if "--name" in words else words[1]] = int(entry)
        return out


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tenfold-test-")
        cls.base = os.path.join(cls.folder, "base")
        done = tenfold("run", CONFIG, "--out", cls.base)
        if done.status != 0:
            raise AssertionError("the smoke run ended with status %d:\n%s" % (done.status, done.err))
        cls.made = 0
        cls.model = os.path.join(cls.base, "models", "sft")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def place(cls, name):
        cls.made += 1
        return os.path.join(cls.folder, "%s-%d" % (name, cls.made))

    @classmethod
    def ppo_arguments(cls, **changes):
        return sets({"run.stages": "ppo", "model.init": cls.model, **changes})

    @classmethod
    def ppo(cls, name, **changes):
        """Runs the stage ppo with these changes; its folder. Every step is checked for invariant 1."""
        folder = cls.place(name)
        done = tenfold("run", CONFIG, "--out", folder, *cls.ppo_arguments(**changes))
        if done.status != 0:
            raise AssertionError("%s: the run ended with status %d:\n%s" % (name, done.status, done.err))
        cls.check_exact(folder, changes.get("ppo.lag", 0))
        return folder

    @classmethod
    def reference(cls):
        """Folder of the run that variants are compared with, made once."""
        if "kept" not in cls.__dict__:
            cls.kept = cls.ppo("reference")
        return cls.kept

    @staticmethod
    def metrics(folder):
        """Lines of metrics.jsonl; half a line at the end is still being written."""
        try:
            with open(os.path.join(folder, "metrics.jsonl")) as f:
                return [json.loads(line) for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []

    @classmethod
    def check_exact(cls, folder, lag=0):
        """Sampler and learner agree bit for bit, in every step; with lag the ratio is to older weights, and not 1."""
        lines = cls.metrics(folder)
        if not lines:
            raise AssertionError("no step in %s" % folder)
        for line in lines:
            for name in ("training/rollout_probs_diff_max", "training/first_minibatch_ratio_max_deviation")[:1 if lag else 2]:
                if line[name] != 0:
                    raise AssertionError("%s, step %d: %s is %r, not 0" % (folder, line["step"], name, line[name]))

    @staticmethod
    def summary(folder):
        with open(os.path.join(folder, "summary.json")) as f:
            return json.load(f)

    @staticmethod
    def digest(folder):
        done = tenfold("digest", folder)
        if done.status != 0:
            raise AssertionError(done.err)
        return done.out.strip()

    def assert_same(self, a, b):
        """Equal digests; where they are not, the first difference is the message."""
        if self.digest(a) != self.digest(b):
            self.fail(tenfold("diff", a, b).out)

    def wait_steps(self, run, folder, n):
        """Until the learner has done n steps."""
        until = time.monotonic() + PATIENCE
        while len(self.metrics(folder)) < n:
            if run.p.poll() is not None or time.monotonic() > until:
                self.fail("step %d was not reached:\n%s" % (n, run.text()))
            time.sleep(0.005)

    def start(self, folder, name, *arguments):
        os.makedirs(folder, exist_ok=True)
        return Background(self.folder, os.path.basename(folder) + "-" + name, [PROGRAM, *arguments, "--out", folder])


def main():
    if not os.access(PROGRAM, os.X_OK):
        sys.exit("TENFOLD must name the program under test")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.main(verbosity=2)
